//! `sluice show`: the API's documents, as tables for people or as they are.

use clap::ValueEnum;
use serde_json::Value;

use super::ask::Running;
use super::judged;
use super::members;
use super::table::Table;
use super::{answer, answer_json};
use crate::rejected::shown;

#[derive(Debug, clap::Args)]
pub(super) struct Show {
    /// What to show.
    #[arg(value_enum)]
    what: Subject,
    /// Of `zone`: this name and what is below it.
    name: Option<String>,
    /// Print JSON; the schema is stable.
    #[arg(long)]
    json: bool,
    #[command(flatten)]
    running: Running,
}

#[derive(Clone, Copy, PartialEq, Eq, Debug, ValueEnum)]
enum Subject {
    /// VIPs with their backends and packets.
    Vips,
    /// Backends of every VIP, with flows, weights, and who judged them how and since when.
    Backends,
    /// What an operator drains, and until when.
    Drains,
    /// Sessions: how many each worker has, and the first thousand.
    Sessions,
    /// The books, and every drop reason with what it means.
    Drops,
    /// Workers: turns, packets, ports.
    Workers,
    /// The names that are answered.
    Zone,
    /// DNS queries: how many a second, and answers by type, response code and source.
    Names,
    /// VIP labels and the VIPs that they give, or why not; and all else that is not honoured.
    Labels,
    /// Marathons and Mesos: whether each is heard, when it was last, and what went wrong.
    Sources,
    /// Whom foreign names are asked of, and what became of the questions.
    Resolvers,
    /// Where isolation groups are enforced, and whose packets to whom they dropped.
    Policy,
    /// Who has which isolation groups, whom and which VIPs they reach by them, and what was dropped.
    Groups,
    /// Overlay networks, and how much of each is taken.
    Networks,
    /// Members of the overlay, and who says so.
    Vteps,
    /// Places in the overlay that were given to agents here, and when each asked last.
    Leases,
}

impl Show {
    pub(super) fn run(&self) -> anyhow::Result<()> {
        let (path, table): (&str, fn(&Value) -> String) = match self.what {
            Subject::Vips => ("vips", vips),
            Subject::Backends => ("backends", judged::backends),
            Subject::Drains => ("drains", judged::drains),
            Subject::Sessions => ("sessions", sessions),
            Subject::Drops => ("drops", drops),
            Subject::Workers => ("workers", workers),
            Subject::Zone => ("zone", zone),
            Subject::Names => ("names", names),
            Subject::Labels => ("labels", labels),
            Subject::Sources => ("sources", sources),
            Subject::Resolvers => ("resolvers", resolvers),
            Subject::Policy => ("policy", policy),
            Subject::Groups => ("groups", groups),
            Subject::Networks => ("networks", members::networks),
            Subject::Vteps => ("vteps", members::vteps),
            Subject::Leases => ("leases", members::leases),
        };
        let document = self.running.ask(&format!("/v1/show/{path}"))?;
        let mut document: Value = serde_json::from_slice(&document)?;
        if let Some(name) = &self.name {
            anyhow::ensure!(self.what == Subject::Zone, "a name is for `show zone` alone");
            below(&mut document, name);
        }
        if self.json { answer_json(&document) } else { answer(&table(&document)) }
    }
}

/// Leaves the rows of this name and of those below it.
fn below(document: &mut Value, name: &str) {
    let name = format!("{}.", name.trim_end_matches('.').to_ascii_lowercase());
    if let Value::Array(rows) = document {
        let of = |row: &Value| row.get("name").and_then(Value::as_str).unwrap_or_default().to_owned();
        rows.retain(|row| of(row) == name || of(row).ends_with(&format!(".{name}")));
    }
}

/// A member as text, escaped: task ids and names come from outside.
pub(super) fn text(value: &Value, key: &str) -> String {
    match value.get(key) {
        None | Some(Value::Null) => "-".into(),
        Some(Value::String(text)) => shown(text),
        Some(other) => other.to_string(),
    }
}

pub(super) fn list<'a>(value: &'a Value, key: &str) -> &'a [Value] {
    value.get(key).and_then(Value::as_array).map_or(&[], Vec::as_slice)
}

pub(super) fn all(value: &Value) -> &[Value] {
    value.as_array().map_or(&[], Vec::as_slice)
}

pub(super) fn joined(value: &Value, key: &str) -> String {
    let texts: Vec<String> = list(value, key).iter().filter_map(Value::as_str).map(shown).collect();
    if texts.is_empty() { "-".into() } else { texts.join(",") }
}

/// Address and port; an IPv6 address stands in brackets (RFC 5952 section 6).
pub(super) fn endpoint(value: &Value) -> String {
    let (ip, port) = (text(value, "ip"), text(value, "port"));
    if ip.contains(':') { format!("[{ip}]:{port}") } else { format!("{ip}:{port}") }
}

fn vips(document: &Value) -> String {
    let mut table = Table::new(&["VIP", "PROTOCOL", "NAME", "FRAMEWORK", "BACKENDS", "PACKETS"]);
    for vip in all(document) {
        table.row([
            endpoint(vip),
            text(vip, "protocol"),
            text(vip, "name"),
            text(vip, "framework"),
            list(vip, "backends").len().to_string(),
            text(vip, "packets"),
        ]);
    }
    table.finish("no VIPs")
}

/// VIPs as `compile` has them: no packets yet, but every backend.
pub(super) fn compiled(document: &Value) -> String {
    let mut table = Table::new(&["VIP", "PROTOCOL", "NAME", "FRAMEWORK", "BACKEND", "WEIGHT", "NETWORK"]);
    for vip in all(document) {
        let address = endpoint(vip);
        let [protocol, name, framework] = ["protocol", "name", "framework"].map(|key| text(vip, key));
        let none = [Value::Null];
        let backends = list(vip, "backends");
        for backend in if backends.is_empty() { &none } else { backends } {
            table.row([
                address.clone(),
                protocol.clone(),
                name.clone(),
                framework.clone(),
                endpoint(backend),
                text(backend, "weight"),
                text(backend, "network"),
            ]);
        }
    }
    table.finish("no VIPs")
}

fn sessions(document: &Value) -> String {
    let headings = ["WORKER", "SESSIONS", "CAPACITY", "MADE", "EXPIRED", "EVICTED", "MASQUERADED", "ENTERED"];
    let mut counts = Table::new(&headings);
    for worker in list(document, "workers") {
        let keys = ["worker", "sessions", "capacity", "made", "expired", "evicted", "masqueraded", "entered"];
        counts.row(keys.map(|key| text(worker, key)));
    }
    let mut table = Table::new(&["WORKER", "PROTOCOL", "CLIENT", "VIP", "BACKEND", "SNAT", "STATE", "IDLE"]);
    for session in list(document, "sessions") {
        let keys = ["worker", "protocol", "client", "vip", "backend", "snat", "state"];
        let [worker, protocol, client, vip, backend, snat, state] = keys.map(|key| text(session, key));
        let idle = format!("{} s", text(session, "idle_seconds"));
        table.row([worker, protocol, client, vip, backend, snat, state, idle]);
    }
    format!("{}\n{}", counts.finish("no workers"), table.finish("no sessions"))
}

fn drops(document: &Value) -> String {
    let mut out = String::new();
    if let Some(books) = document.get("books") {
        let [rx, taken, made, tx, host, drops, given, held] =
            ["rx", "taken", "made", "tx", "host", "drops", "given", "held"].map(|key| text(books, key));
        let balanced = books.get("balanced").and_then(Value::as_bool).unwrap_or(false);
        let verdict = if balanced { "the books balance" } else { "packets are on their way: ask again" };
        out = format!(
            "rx {rx} + taken {taken} + made {made} = tx {tx} + host {host} + drops {drops} + given {given} + held {held}: {verdict}\n\n"
        );
    }
    let mut table = Table::new(&["REASON", "PACKETS", "MEANING"]);
    for reason in list(document, "reasons").iter().filter(|r| r.get("count").and_then(Value::as_u64) > Some(0)) {
        table.row(["name", "count", "sentence"].map(|key| text(reason, key)));
    }
    out + &table.finish("no packet was dropped")
}

fn workers(document: &Value) -> String {
    let mut table =
        Table::new(&["WORKER", "TURNS", "IDLE", "SLEEPS", "RX", "TAKEN", "TX", "HOST", "DROPS", "GIVEN", "SESSIONS"]);
    let mut ports = Table::new(&["WORKER", "PORT", "RX", "RX BYTES", "TX", "TX BYTES"]);
    for worker in all(document) {
        let books = worker.get("books").unwrap_or(&Value::Null);
        let [number, turns, idle, sleeps, sessions] =
            ["worker", "turns", "idle_turns", "sleeps", "sessions"].map(|key| text(worker, key));
        let [rx, taken, tx, host, drops, given] =
            ["rx", "taken", "tx", "host", "drops", "given"].map(|key| text(books, key));
        table.row([number.clone(), turns, idle, sleeps, rx, taken, tx, host, drops, given, sessions]);
        for port in list(worker, "ports") {
            let [name, rx, rx_bytes, tx, tx_bytes] =
                ["port", "rx", "rx_bytes", "tx", "tx_bytes"].map(|key| text(port, key));
            ports.row([number.clone(), name, rx, rx_bytes, tx, tx_bytes]);
        }
    }
    format!("{}\n{}", table.finish("no workers"), ports.finish("no ports"))
}

pub(super) fn zone(document: &Value) -> String {
    let mut table = Table::new(&["NAME", "TTL", "TYPE", "VALUES"]);
    for row in all(document) {
        table.row([text(row, "name"), text(row, "ttl"), text(row, "type"), joined(row, "values")]);
    }
    table.finish("no names")
}

fn names(document: &Value) -> String {
    let mut table = Table::new(&["ANSWERS BY", "WHICH", "COUNT"]);
    let kinds = [
        ("type", "types"),
        ("response code", "rcodes"),
        ("source", "sources"),
        ("dropped", "dropped"),
        ("kernel's sockets", "kernel"),
    ];
    for (kind, key) in kinds {
        let counts = document.get(key).and_then(Value::as_object).into_iter().flatten();
        for (which, count) in counts.filter(|(_, count)| count.as_u64() > Some(0)) {
            table.row([kind.to_owned(), shown(which), count.to_string()]);
        }
    }
    let rate = document.get("queries_per_second").and_then(Value::as_f64).unwrap_or(0.0);
    let head = format!("{} queries, {rate:.1} a second at the moment\n\n", text(document, "queries"));
    head + &table.finish("nothing was asked for")
}

fn sources(document: &Value) -> String {
    let mut table =
        Table::new(&["KIND", "SOURCE", "STREAM", "LEADER", "HEARD", "EVENTS", "STREAM ERRORS", "LIST ERRORS"]);
    let mut notes = String::new();
    for source in all(document) {
        let [kind, name, leader, events, stream_errors, list_errors] =
            ["kind", "name", "leader", "events", "stream_errors", "list_errors"].map(|key| text(source, key));
        let is = |key: &str| source.get(key).and_then(Value::as_bool).unwrap_or(false);
        let heard = source.get("heard_seconds_ago").and_then(Value::as_f64);
        let heard = heard.map_or_else(|| "never".to_owned(), |seconds| format!("{seconds:.0} s ago"));
        let stream = match (kind.as_str(), is("connected"), source.get("error").is_some_and(Value::is_string)) {
            ("overlay", true, _) => "polled",
            ("overlay", false, false) => "none",
            (_, true, _) => "open",
            (_, false, _) => "down",
        };
        let waited = source.get("agents_waited_for").and_then(Value::as_u64).unwrap_or(0);
        if waited > 0 {
            notes.push_str(&format!(
                "{name}: a new master leads; tasks of {waited} agents that it has not heard from are kept\n"
            ));
        }
        if let Some(error) = source.get("error").and_then(Value::as_str) {
            notes.push_str(&format!("{name}: {}\n", shown(error)));
        }
        table.row([kind, name, stream.to_owned(), leader, heard, events, stream_errors, list_errors]);
    }
    table.finish("no sources: the configuration has no [[marathon]] and no [mesos]") + &notes
}

fn resolvers(document: &Value) -> String {
    let mut table = Table::new(&["RESOLVER", "STATE"]);
    for resolver in list(document, "resolvers") {
        let is_down = resolver.get("down").and_then(Value::as_bool).unwrap_or(false);
        table.row([text(resolver, "address"), if is_down { "down" } else { "up" }.to_owned()]);
    }
    let mut counters = Table::new(&["EVENT", "COUNT"]);
    for (event, count) in document.get("counters").and_then(Value::as_object).into_iter().flatten() {
        counters.row([event.clone(), count.to_string()]);
    }
    format!("{}\n{}", table.finish("no resolvers: names of others are refused"), counters.finish("no questions"))
}

/// Every VIP label, then what is not honoured of all else.
pub(super) fn labels(document: &Value) -> String {
    format!("{}\n{}", given(document), rejected(document))
}

fn given(document: &Value) -> String {
    let mut table = Table::new(&["APP", "TASK", "PORT", "LABEL", "VALUE", "VIP", "REASON"]);
    for label in list(document, "labels") {
        let [app, task, port, key, value, reason] =
            ["app", "task", "port", "label", "value", "reason"].map(|key| text(label, key));
        table.row([app, task, port, key, value, joined(label, "vips"), reason]);
    }
    let more = document.get("more_labels").and_then(Value::as_bool).unwrap_or(false);
    table.finish("no VIP labels") + if more { "and more than are listed here\n" } else { "" }
}

fn policy(document: &Value) -> String {
    let mut networks = Table::new(&["NETWORK", "ISOLATION", "GROUPED", "UNDERLAY ALLOW"]);
    for network in list(document, "networks") {
        let [name, isolation, grouped] = ["name", "isolation", "grouped"].map(|key| text(network, key));
        networks.row([name, isolation, grouped, joined(network, "underlay_allow")]);
    }
    let mut agents = Table::new(&["AGENT", "NETWORKS", "GROUPED", "GROUPS HOLD"]);
    for agent in list(document, "agents") {
        let holds = match joined(agent, "direct") {
            _ if list(agent, "direct").is_empty() => "everywhere".to_owned(),
            direct => format!("in {direct} for what passes here, not between containers of agents"),
        };
        agents.row([text(agent, "ip"), joined(agent, "networks"), text(agent, "grouped"), holds]);
    }
    let mut denied = Table::new(&["FROM", "TO", "DROPPED"]);
    for pair in list(document, "denied") {
        denied.row(["from", "to", "packets"].map(|key| text(pair, key)));
    }
    let parts =
        [networks.finish("no networks"), agents.finish("no agents"), denied.finish("nobody was kept from anybody")];
    parts.join("\n")
}

fn groups(document: &Value) -> String {
    let mut table = Table::new(&["NETWORK", "GROUPS", "CONTAINERS", "REACH", "VIPS", "UNDERLAY", "DENIED FROM", "TO"]);
    let mut members = Table::new(&["CONTAINER", "NETWORK", "GROUPS", "TASK", "AGENT"]);
    for row in list(document, "groups") {
        let (network, names) = (text(row, "network"), joined(row, "groups"));
        let [count, from, to] = ["count", "denied_from", "denied_to"].map(|key| text(row, key));
        let vips = joined(row, "vips");
        // Of one network all of them: the groups say which.
        let prefix = format!("{network}: ");
        let reach = list(row, "reach").iter().filter_map(Value::as_str).map(|name| name.trim_start_matches(&prefix));
        let reach: Vec<String> = reach.map(shown).collect();
        let underlay = joined(row, "underlay_allow");
        table.row([network.clone(), names.clone(), count, reach.join("; "), vips, underlay, from, to]);
        for member in list(row, "containers") {
            let [ip, task, agent] = ["ip", "task", "agent"].map(|key| text(member, key));
            members.row([ip, network.clone(), names.clone(), task, agent]);
        }
    }
    let more = document.get("more").and_then(Value::as_u64).filter(|more| *more > 0);
    let more = more.map(|more| format!("and {more} more sets of groups\n")).unwrap_or_default();
    format!("{}{more}\n{}", table.finish("no container has a group"), members.finish("no containers with groups"))
}

/// What is not honoured, and why.
pub(super) fn rejected(document: &Value) -> String {
    let mut table = Table::new(&["TASK", "LABEL", "VALUE", "REASON"]);
    for rejected in list(document, "rejected") {
        table.row(["task", "label", "value", "reason"].map(|key| text(rejected, key)));
    }
    let mut out = table.finish("every label is honoured");
    // `compile` has them with the policy.
    for part in [Some(document), document.get("policy")].into_iter().flatten() {
        for vip in list(part, "fail_open").iter().filter_map(Value::as_str) {
            out.push_str(&format!("{}: all backends are unhealthy, so all are used\n", shown(vip)));
        }
    }
    out
}
