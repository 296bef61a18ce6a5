//! `show networks`, `show vteps` and `show leases` as tables.

use serde_json::Value;

use super::show::{all, text};
use super::table::Table;
use crate::rejected::shown;

pub(super) fn networks(document: &Value) -> String {
    let headings = ["NETWORK", "SUBNET", "PREFIX", "OWN", "MODE", "ISOLATION", "TAKEN", "PARTS", "RX", "TX"];
    let mut table = Table::new(&headings);
    for row in all(document) {
        let keys = ["name", "subnet", "prefix", "own", "mode", "isolation", "taken", "parts", "rx", "tx"];
        table.row(keys.map(|key| text(row, key)));
    }
    table.finish("no overlay networks: the configuration has no [overlay]")
}

pub(super) fn vteps(document: &Value) -> String {
    let mut table = Table::new(&["NODE", "VTEP", "MAC", "SUBNETS", "FROM"]);
    for row in all(document) {
        let [ip, vtep, mac, source] = ["ip", "vtep_ip", "vtep_mac", "source"].map(|key| text(row, key));
        table.row([ip, vtep, mac, subnets(row), source]);
    }
    table.finish("no VTEPs: this node has no place in an overlay")
}

pub(super) fn leases(document: &Value) -> String {
    let mut table = Table::new(&["AGENT", "VTEP", "MAC", "SUBNETS", "STATE", "HEARD"]);
    let mut notes = String::new();
    for row in all(document) {
        let [agent, vtep, mac, state] = ["agent", "vtep_ip", "vtep_mac", "state"].map(|key| text(row, key));
        let heard = row.get("heard_ago").and_then(Value::as_u64);
        let heard = heard.map_or_else(|| "not since start".to_owned(), |seconds| format!("{seconds} s ago"));
        if let Some(why) = row.get("why").and_then(Value::as_str) {
            notes.push_str(&format!("{agent}: {}\n", shown(why)));
        }
        table.row([agent, vtep, mac, subnets(row), state, heard]);
    }
    table.finish("no leases: no `sluice agent` has asked for one") + &notes
}

/// `dcos=9.0.1.0/24,lab=172.20.1.0/24`, of both families.
fn subnets(row: &Value) -> String {
    let of = |key: &str| row.get(key).and_then(Value::as_object).into_iter().flatten();
    let each = |(name, net): (&String, &Value)| format!("{}={}", shown(name), net.as_str().unwrap_or_default());
    let all: Vec<String> = of("subnets").chain(of("subnets6")).map(each).collect();
    if all.is_empty() { "-".to_owned() } else { all.join(",") }
}
