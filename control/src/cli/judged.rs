//! `sluice show backends` and `sluice show drains` for people.

use std::time::{SystemTime, UNIX_EPOCH};

use serde_json::Value;

use super::show::{all, endpoint, joined, list, text};
use super::table::Table;

pub(super) fn backends(document: &Value) -> String {
    backends_at(document, now())
}

pub(super) fn drains(document: &Value) -> String {
    drains_at(document, now())
}

fn now() -> u64 {
    SystemTime::now().duration_since(UNIX_EPOCH).map_or(0, |d| d.as_secs())
}

fn backends_at(document: &Value, now: u64) -> String {
    let header = ["VIP", "BACKEND", "STATE", "FOR", "WEIGHT", "FLOWS", "AGENT", "NETWORK", "GROUPS", "TASK"];
    let mut table = Table::new(&header);
    let mut judges = Table::new(&["VIP", "BACKEND", "JUDGE", "SAYS", "FOR", "BECAUSE"]);
    for backend in all(document) {
        let (vip, address) = (text(backend, "vip"), endpoint(backend));
        table.row([
            vip.clone(),
            address.clone(),
            text(backend, "state"),
            ago(backend, now),
            text(backend, "weight"),
            text(backend, "flows"),
            text(backend, "agent_ip"),
            text(backend, "network"),
            joined(backend, "groups"),
            text(backend, "task"),
        ]);
        for said in list(backend, "judges") {
            let [judge, verdict, reason] = ["judge", "verdict", "reason"].map(|key| text(said, key));
            judges.row([vip.clone(), address.clone(), judge, verdict, ago(said, now), reason]);
        }
    }
    format!("{}\n{}", table.finish("no backends"), judges.finish("nobody judges any backend"))
}

fn drains_at(document: &Value, now: u64) -> String {
    let mut table = Table::new(&["DRAINED", "STATE", "FOR", "LEFT", "CONCERNS"]);
    for drain in all(document) {
        let until = drain.get("until").and_then(Value::as_u64).unwrap_or(0);
        let backends = list(drain, "backends").len();
        table.row([
            text(drain, "what"),
            text(drain, "state"),
            ago(drain, now),
            duration(until.saturating_sub(now)),
            format!("{backends} backend{}", if backends == 1 { "" } else { "s" }),
        ]);
    }
    table.finish("nothing is drained")
}

/// How long ago `since` was.
fn ago(value: &Value, now: u64) -> String {
    value.get("since").and_then(Value::as_u64).map_or_else(|| "-".into(), |since| duration(now.saturating_sub(since)))
}

/// `45s`, `3m20s`, `2h5m`, `3d4h`.
fn duration(seconds: u64) -> String {
    match seconds {
        0..60 => format!("{seconds}s"),
        60..3600 => format!("{}m{}s", seconds / 60, seconds % 60),
        3600..86_400 => format!("{}h{}m", seconds / 3600, seconds / 60 % 60),
        _ => format!("{}d{}h", seconds / 86_400, seconds / 3600 % 24),
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use serde_json::json;

    #[test]
    fn who_said_what_and_for_how_long_stands_below_the_backends() {
        let document = json!([{ "vip": "172.16.0.1:80/tcp", "ip": "10.0.0.1", "port": 80, "state": "unfit", "since": 100,
            "weight": 0, "flows": 7, "agent_ip": null, "network": null, "groups": [], "task": "web.1",
            "judges": [{ "judge": "probe", "verdict": "unfit", "reason": "tcp: refused", "since": 40 }] }]);
        assert_eq!(
            backends_at(&document, 100 + 200),
            "VIP                BACKEND      STATE  FOR    WEIGHT  FLOWS  AGENT  NETWORK  GROUPS  TASK\n\
             172.16.0.1:80/tcp  10.0.0.1:80  unfit  3m20s       0      7  -      -        -       web.1\n\n\
             VIP                BACKEND      JUDGE  SAYS   FOR    BECAUSE\n\
             172.16.0.1:80/tcp  10.0.0.1:80  probe  unfit  4m20s  tcp: refused\n"
        );
        let six = json!([{ "vip": "[2001:db8::1]:80/tcp", "ip": "2001:db8::11", "port": 80 }]);
        assert!(backends_at(&six, 0).contains("\n[2001:db8::1]:80/tcp  [2001:db8::11]:80  "));
        assert_eq!(backends_at(&json!([]), 0), "no backends\n\nnobody judges any backend\n");
    }

    #[test]
    fn a_drain_shows_what_is_left_of_it() {
        let document = json!([{ "what": "agent 10.0.1.1", "state": "draining", "since": 1000, "until": 1300,
            "backends": ["172.16.0.1:80/tcp 10.0.0.1:80"] }]);
        assert_eq!(
            drains_at(&document, 1100),
            "DRAINED         STATE     FOR    LEFT   CONCERNS\nagent 10.0.1.1  draining  1m40s  3m20s  1 backend\n"
        );
        assert_eq!(drains_at(&json!([]), 0), "nothing is drained\n");
    }

    #[test]
    fn durations_have_two_units() {
        assert_eq!([59, 60, 7500, 273_600].map(duration), ["59s", "1m0s", "2h5m", "3d4h"]);
    }
}
