//! Where an answer comes from: what the packet path would say to a question, who each record leads to, and why something
//! is missing.

use std::net::IpAddr;

use serde::Serialize;
use sluice_config::model::{Config, DnsHealth, RecordData};
use sluice_dataplane::stage::dns::{Asker, Limit, Reply, answer};
use sluice_dataplane::tables::zone::{mnemonic, value};
use sluice_dataplane::wire::{dns, name};

use super::observed::Published;
use crate::desire::naming;
use crate::dns::forward;
use crate::view::{ClusterView, Health};

/// What is said to a question.
#[derive(Clone, PartialEq, Debug, Serialize)]
pub struct Explained {
    /// The name as asked, absolute.
    pub name: String,
    /// The type as asked.
    pub r#type: String,
    /// The response code's name (`noerror`, `nxdomain`, `refused`); `forwarded` where others are asked.
    pub rcode: String,
    /// Whether the answer was cut to fit UDP.
    pub truncated: bool,
    /// The records of the answer as in a master file.
    pub answers: Vec<String>,
    /// Those beside it: SOA of what does not exist, addresses of targets.
    pub beside: Vec<String>,
    /// Tasks that give the name, whether they are answered, and what is known of their health.
    pub tasks: Vec<NamedBy>,
    /// What else there is to say.
    pub remarks: Vec<String>,
}

/// A task that gives a name.
#[derive(Clone, PartialEq, Debug, Serialize)]
pub struct NamedBy {
    /// Mesos task id.
    pub task: String,
    /// Framework.
    pub framework: String,
    /// Who tells of it: `mesos` or `marathon`.
    pub source: &'static str,
    /// What its checks say.
    pub health: String,
    /// What it gives.
    pub gives: Vec<String>,
    /// Whether that is answered now.
    pub answered: bool,
}

/// Types by name.
const TYPES: [(&str, u16); 11] = [
    ("A", 1),
    ("AAAA", 28),
    ("SRV", 33),
    ("TXT", 16),
    ("PTR", 12),
    ("CNAME", 5),
    ("MX", 15),
    ("NS", 2),
    ("SOA", 6),
    ("ANY", 255),
    ("HINFO", 13),
];

/// Explains the answer to a question; `None` where that is none, with the sentence why.
///
/// # Errors
/// A name or a type that nobody can ask for.
pub fn explain(config: &Config, published: &Published, asked: &str, kind: &str) -> Result<Explained, String> {
    let upper = kind.to_ascii_uppercase();
    let number = TYPES.iter().find(|(known, _)| *known == upper).map(|(_, number)| *number);
    let number = number.or_else(|| upper.strip_prefix("TYPE").and_then(|n| n.parse().ok()));
    let qtype = number.ok_or_else(|| format!("{kind}: no type that is known; write TYPE and its number"))?;
    let text = asked.strip_suffix('.').unwrap_or(asked);
    let wire = name::from_text(text).map_err(|bad| format!("{asked}: {bad}"))?;
    let mut explained = said(published, &wire, qtype);
    explained.r#type = upper;
    explained.tasks = tasks(config, published, &text.to_ascii_lowercase());
    if published.tables.zones.resolve(&wire).is_none() && forward::explain(&config.dns, &wire).is_some() {
        explained.rcode = "forwarded".to_owned();
    }
    explained.remarks = remarks(config, published, &explained, &wire);
    Ok(explained)
}

/// What the packet path says, to a client on this node.
fn said(published: &Published, wire: &[u8], qtype: u16) -> Explained {
    let tables = &published.tables;
    let mut buffer = [&[0, 1, 1, 0, 0, 1, 0, 0, 0, 0, 0, 0][..], wire, &qtype.to_be_bytes(), &[0, 1]].concat();
    let len = buffer.len();
    buffer.resize(usize::from(u16::MAX), 0);
    let asker = Asker { ip: IpAddr::from([127, 0, 0, 1]), unix_seconds: 0 };
    let reply = answer(&mut buffer, len, &tables.zones, &tables.local.dns, &asker, Limit::Udp);
    let mut explained = Explained {
        name: name::to_text(wire),
        r#type: mnemonic(qtype),
        rcode: "none".to_owned(),
        truncated: false,
        answers: Vec::new(),
        beside: Vec::new(),
        tasks: Vec::new(),
        remarks: Vec::new(),
    };
    if let Reply::Answer { len, rcode, .. } = reply {
        let code = usize::from(rcode.header_bits());
        explained.rcode = super::show::RCODES.get(code).map_or_else(|| code.to_string(), |name| (*name).to_owned());
        explained.truncated = buffer[2] & dns::flag::TC != 0;
        let count = usize::from(u16::from_be_bytes([buffer[6], buffer[7]]));
        let mut rows = rows(&buffer[..len], dns::HEADER_LEN + wire.len() + 4);
        explained.beside = rows.split_off(count.min(rows.len()));
        explained.answers = rows;
    }
    explained
}

/// The records of a message of ours, from this offset on.
fn rows(message: &[u8], mut at: usize) -> Vec<String> {
    let mut rows = Vec::new();
    while let Some((owner, next)) = owner(message, at) {
        let Some(fixed) = message.get(next..).and_then(<[u8]>::first_chunk::<10>) else { break };
        let [t0, t1, _, _, a, b, c, d, l0, l1] = *fixed;
        let (rtype, ttl) = (u16::from_be_bytes([t0, t1]), u32::from_be_bytes([a, b, c, d]));
        let len = usize::from(u16::from_be_bytes([l0, l1]));
        let Some(data) = message.get(next + 10..next + 10 + len) else { break };
        rows.push(format!("{owner} {ttl} {} {}", mnemonic(rtype), value(rtype, data)));
        at = next + 10 + len;
    }
    rows
}

/// An owner, by pointer or written out, and where it ends.
fn owner(message: &[u8], at: usize) -> Option<(String, usize)> {
    let first = *message.get(at)?;
    if first >= 0xc0 {
        let to = usize::from(u16::from_be_bytes([first & 0x3f, *message.get(at + 1)?]));
        let bytes = message.get(to..)?;
        return Some((name::to_text(&bytes[..name::walk(bytes)?]), at + 2));
    }
    let bytes = message.get(at..)?;
    let len = name::walk(bytes)?;
    Some((name::to_text(&bytes[..len]), at + len))
}

/// Tasks that give this name.
fn tasks(config: &Config, published: &Published, asked: &str) -> Vec<NamedBy> {
    let report = &published.report;
    let view = ClusterView {
        mesos: report.mesos.clone(),
        hosts: report.hosts.clone(),
        marathons: report.listings.iter().map(|(_, listing)| std::sync::Arc::clone(listing)).enumerate().collect(),
        ..ClusterView::default()
    };
    let zones = &published.tables.desired.shared.zones;
    let zone = zones.iter().find(|zone| zone.apex == config.dns.domain);
    let served = |data: &RecordData| zone.is_some_and(|zone| zone.records.of(asked).iter().any(|r| r.data == *data));
    let source = if view.mesos.is_some() { "mesos" } else { "marathon" };
    let health = |id: &str| {
        let listed = view.marathons.values().flat_map(|l| &l.tasks).find(|task| task.id == id);
        listed.map_or("unknown", |task| match task.health {
            Health::Unchecked => "no check",
            Health::Unknown => "not checked yet",
            Health::Healthy => "healthy",
            Health::Unhealthy => "unhealthy",
        })
    };
    let mut found = Vec::new();
    for framework in naming::enumerate(config, &view) {
        for task in framework.tasks {
            let gives: Vec<&RecordData> =
                task.records.iter().filter(|(name, _)| name == asked).map(|(_, data)| data).collect();
            if gives.is_empty() {
                continue;
            }
            found.push(NamedBy {
                answered: gives.iter().any(|data| served(data)),
                gives: gives.iter().map(|data| format!("{} {data}", data.mnemonic())).collect(),
                health: health(&task.id).to_owned(),
                task: task.id,
                framework: framework.name.clone(),
                source,
            });
        }
    }
    found
}

fn remarks(config: &Config, published: &Published, explained: &Explained, wire: &[u8]) -> Vec<String> {
    let mut remarks = Vec::new();
    let zones = &published.tables.zones;
    match zones.resolve(wire) {
        None => {
            remarks.push("no zone here answers for this name".to_owned());
            remarks.push(forward::explain(&config.dns, wire).map_or_else(
                || "refused: dns.external is false, and no dns.zone_resolvers has it".to_owned(),
                |whom| format!("{whom}; sources that dns.trusted has not are refused"),
            ));
        }
        Some(found) => {
            let apex = &wire[wire.len().saturating_sub(found.soa().apex_len)..];
            remarks.push(format!("zone {}", name::to_text(apex)));
            let nearest = name::to_text(found.entry.name());
            if !found.exact {
                remarks.push(format!("the nearest name that exists is {nearest}"));
            } else if nearest != name::to_text(wire).to_ascii_lowercase() {
                remarks.push(format!("answered by {nearest}"));
            }
        }
    }
    if explained.tasks.iter().any(|task| !task.answered) {
        let why = match config.dns.health {
            DnsHealth::Prefer => "unhealthy tasks are left out while healthy ones exist (dns.health = \"prefer\")",
            DnsHealth::Require => "tasks that are not healthy are left out (dns.health = \"require\")",
            DnsHealth::Ignore => "a record of [[dns.zone]] stands before a task's",
        };
        remarks.push(why.to_owned());
    }
    let asked = explained.name.trim_end_matches('.').to_ascii_lowercase();
    for rejected in published.report.rejected.iter().filter(|r| r.value.contains(&asked)) {
        remarks.push(format!("not served: {}: {}", rejected.value, rejected.reason));
    }
    remarks.extend(zones.rejected().iter().filter(|r| r.name.trim_end_matches('.') == asked).map(ToString::to_string));
    remarks
}

#[cfg(test)]
mod tests {
    use std::sync::Arc;

    use sluice_config::model::Desired;
    use sluice_dataplane::tables::Tables;
    use sluice_dataplane::tables::ids::Ids;
    use sluice_dataplane::time::Nanos;

    use super::*;
    use crate::desire::{Report, names};
    use crate::fixture::{config, task};
    use crate::view::{Event, Listing};

    #[test]
    fn an_answer_says_whose_it_is_and_who_is_left_out() {
        let config = config();
        let mut view = ClusterView::default();
        let one = |host: &str, health| {
            let mut task = task(&format!("web.{host}"));
            (task.name, task.host, task.health) = ("web".to_owned(), host.to_owned(), health);
            task
        };
        let tasks = vec![one("10.0.0.1", Health::Healthy), one("10.0.0.2", Health::Unhealthy)];
        view.apply(Event::Marathon {
            source: 0,
            listing: Listing { tasks: tasks.into_iter().map(Into::into).collect(), ..Listing::default() },
        });
        let mut desired = Desired { local: crate::offline::local_from_config(&config), ..Desired::default() };
        desired.shared.zones = names(&config, &view, &[]).zones;
        let tables = Tables::compile(&Arc::new(desired), &mut Ids::new(8, 8, 60), Nanos(0), None).unwrap();
        let listings = view.marathons.values().map(|l| ("marathon".to_owned(), Arc::clone(l))).collect();
        let published =
            Published { tables: Arc::new(tables), report: Arc::new(Report { listings, ..Report::default() }) };
        let said = explain(&config, &published, "Web.marathon.mesos.", "a").unwrap();
        assert_eq!((said.rcode.as_str(), said.answers.len()), ("noerror", 1));
        assert_eq!(said.answers, ["web.marathon.mesos. 60 A 10.0.0.1"]);
        let tasks: Vec<_> = said.tasks.iter().map(|t| (t.task.as_str(), t.health.as_str(), t.answered)).collect();
        assert_eq!(tasks, [("web.10.0.0.1", "healthy", true), ("web.10.0.0.2", "unhealthy", false)]);
        assert!(said.remarks.iter().any(|r| r.contains("dns.health = \"prefer\"")), "{:?}", said.remarks);
        let missing = explain(&config, &published, "nosuch.marathon.mesos", "SRV").unwrap();
        assert_eq!((missing.rcode.as_str(), missing.beside.len()), ("nxdomain", 1));
        assert!(missing.remarks.iter().any(|r| r.contains("nearest name that exists is marathon.mesos.")));
        assert!(
            explain(&config, &published, "a..b", "A").is_err() && explain(&config, &published, "a", "NOPE").is_err()
        );
        let foreign = |config: &Config, name: &str| {
            let said = explain(config, &published, name, "A").unwrap();
            (said.rcode, said.remarks.last().cloned().unwrap_or_default())
        };
        let (rcode, why) = foreign(&config, "example.org");
        assert_eq!(
            (rcode.as_str(), why.as_str()),
            ("refused", "refused: dns.external is false, and no dns.zone_resolvers has it")
        );
        let mut config = config;
        config.dns.zone_resolvers.insert("corp.example".to_owned(), vec!["192.0.2.1:5353".parse().unwrap()]);
        let (rcode, why) = foreign(&config, "Web.corp.Example");
        assert_eq!(rcode, "forwarded");
        assert!(why.starts_with("forwarded to 192.0.2.1:5353 (dns.zone_resolvers of corp.example);"), "{why}");
        assert_eq!(foreign(&config, "example.org").0, "refused");
        (config.dns.external, config.dns.resolvers) = (true, vec!["[fd00::1]:53".parse().unwrap()]);
        assert!(foreign(&config, "example.org").1.starts_with("forwarded to [fd00::1]:53 (dns.resolvers);"));
        assert_eq!(explain(&config, &published, "web.marathon.mesos", "A").unwrap().rcode, "noerror");
    }
}
