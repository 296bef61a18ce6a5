//! Against what Mesos-DNS said (golden/mesos-dns), and names made step by step against names made at once.

use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;

use proptest::prelude::*;
use serde_json::Value;
use sluice_config::model::{Config, DnsHealth, IpSource, Origin, Zone};
use sluice_dataplane::tables::hash::HashKey;
use sluice_dataplane::tables::zone::Zones;

use super::super::{Cluster, names};
use super::Naming;
use crate::api::zone::{self, Row};
use crate::fixture::{golden, golden_bytes, task};
use crate::mesos::state;
use crate::view::{ClusterView, Event, Health, Listing, TaskState};

/// The rows of zones, all of which are served.
fn rows(zones: &[Zone], serial: u32, aliases: bool) -> Vec<Row> {
    zone::rows(zones, &Zones::compile(zones, serial, HashKey::default()), serial, aliases)
}

const BASE: &str = r#"
    [[port]]
    interface = "eth0"
    mac = "02:00:00:00:00:01"
    addresses = ["192.0.2.1/24"]
    queues = [0]
    [dns]
    addresses = ["192.0.2.53"]
"#;

fn config(more: &str) -> Config {
    sluice_config::parse(&format!("{BASE}{more}"), "test").unwrap_or_else(|e| panic!("{e}"))
}

/// The configuration of a recording, and what the recording host had.
pub(crate) fn recorded(input: &Value) -> Config {
    let of = &input["config"];
    let master = of["masters"][0].as_str().unwrap();
    let mut config = config(&format!("[mesos]\nmasters = [\"http://{master}\"]\n"));
    config.dns.addresses = vec![std::net::Ipv4Addr::LOCALHOST];
    config.dns.health = DnsHealth::Ignore;
    config.dns.enforce_rfc952 = of["EnforceRFC952"].as_bool().unwrap_or(false);
    if let Some(mname) = of["SOAMname"].as_str() {
        config.dns.soa_mname = mname.to_owned();
    }
    let source = |text: &Value| match text.as_str().unwrap() {
        "netinfo" => IpSource::NetInfo,
        "mesos" => IpSource::Mesos,
        "docker" => IpSource::Docker,
        "host" => IpSource::Host,
        other => panic!("{other}"),
    };
    config.dns.ip_sources = match of["IPSources"].as_array() {
        Some(sources) => sources.iter().map(source).collect(),
        None => vec![IpSource::NetInfo, IpSource::Mesos, IpSource::Host],
    };
    config
}

pub(crate) fn view(config: &Config, state_file: &str) -> Option<ClusterView> {
    let facts = state::read(&golden_bytes(&format!("mesos-dns/{state_file}"))?).unwrap();
    let facts = Arc::new(facts.with_masters_of(config.mesos.as_ref()));
    let mut view = ClusterView::default();
    view.apply(Event::Hosts(BTreeMap::from([("localhost".to_owned(), std::net::Ipv4Addr::LOCALHOST)])));
    view.apply(Event::Mesos { facts, streaming: true });
    Some(view)
}

#[test]
fn the_zone_is_mesos_dnss_in_all_seven_recorded_configurations() {
    let Some(table) = golden("mesos-dns/zone-table.json") else { return };
    let mut wrong = Vec::new();
    for (label, input) in table["inputs"].as_object().unwrap() {
        let config = recorded(input);
        let Some(view) = view(&config, input["state_file"].as_str().unwrap()) else { return };
        let made: BTreeMap<(String, String), BTreeSet<String>> = rows(&names(&config, &view, &[]).zones, 1, false)
            .into_iter()
            .filter(|row| row.name.ends_with(".mesos.") && row.r#type != "SOA" && row.r#type != "NS")
            .map(|Row { name, r#type, values, .. }| ((name, r#type.to_owned()), values.into_iter().collect()))
            .collect();
        let expected = table["zones"][label].as_array().unwrap().iter().map(|row| {
            let text = |value: &Value| value.as_str().unwrap().to_owned();
            let kind = text(&row["type"]);
            let value = |value: &Value| match (kind.as_str(), value.as_str().unwrap().rsplit_once(':')) {
                ("SRV", Some((host, port))) => format!("0 1 {port} {host}"),
                _ => text(value),
            };
            ((text(&row["name"]), kind.clone()), row["expected"].as_array().unwrap().iter().map(value).collect())
        });
        let expected: BTreeMap<(String, String), BTreeSet<String>> = expected.collect();
        for key in made.keys().chain(expected.keys()).collect::<BTreeSet<_>>() {
            if made.get(key) != expected.get(key) {
                wrong.push(format!("{label}: {key:?} is {:?}, was {:?}", made.get(key), expected.get(key)));
            }
        }
    }
    assert!(wrong.is_empty(), "{} differ:\n{}", wrong.len(), wrong.join("\n"));
}

/// Listings of a few tasks in a few states of health.
fn listing() -> impl Strategy<Value = Listing> {
    let one = (0u8..6, 0u8..4, 0u8..3, 1u8..5);
    prop::collection::btree_map(one.prop_map(|(id, ..)| id), (0u8..4, 0u8..3, 1u8..5), 0..6).prop_map(|tasks| Listing {
        tasks: tasks
            .into_iter()
            .map(|(id, (app, health, host))| {
                let mut task = task(&format!("app{app}.{id}"));
                task.name = format!("app{app}");
                task.slave = Some(format!("f-S{host}"));
                task.host = format!("10.0.0.{host}");
                task.health = [Health::Healthy, Health::Unhealthy, Health::Unchecked][usize::from(health)];
                task.state = if id == 5 { TaskState::Killing } else { TaskState::Running };
                task.into()
            })
            .collect(),
        ..Listing::default()
    })
}

proptest! {
    #[test]
    fn names_made_step_by_step_are_those_made_at_once(steps in prop::collection::vec((0usize..2, listing()), 1..6)) {
        let config = config("");
        let mut view = ClusterView::default();
        let mut naming = Naming::default();
        for (source, listing) in steps {
            view.apply(Event::Marathon { source, listing });
            let step = naming.make(&Cluster::new(&config, &view), &[]).clone();
            let once = names(&config, &view, &[]);
            prop_assert_eq!(rows(&step.zones, 1, false), rows(&once.zones, 1, false));
            prop_assert_eq!(step.rejected, once.rejected);
        }
    }
}

#[test]
fn health_leaves_out_who_is_unwell_as_it_is_asked_to() {
    let (well, unwell) = (("10.0.0.1", Health::Healthy), ("10.0.0.2", Health::Unhealthy));
    let answers = |health: DnsHealth, tasks: &[(&str, Health)]| {
        let mut config = config("");
        config.dns.health = health;
        let mut view = ClusterView::default();
        let tasks = tasks.iter().map(|(host, health)| {
            let mut task = task(&format!("web.{host}"));
            (task.name, task.host, task.health) = ("web".to_owned(), (*host).to_owned(), *health);
            task.slave = Some("f-S1".to_owned());
            task.into()
        });
        view.apply(Event::Marathon { source: 0, listing: Listing { tasks: tasks.collect(), ..Listing::default() } });
        let zones = names(&config, &view, &[]).zones;
        let found = zones[0].records.of("web.marathon.mesos").iter().map(|r| r.data.to_string()).collect::<Vec<_>>();
        found.join(" ")
    };
    assert_eq!(answers(DnsHealth::Prefer, &[well, unwell]), "10.0.0.1");
    assert_eq!(answers(DnsHealth::Prefer, &[unwell]), "10.0.0.2");
    assert_eq!(answers(DnsHealth::Require, &[unwell]), "");
    assert_eq!(answers(DnsHealth::Ignore, &[well, unwell]), "10.0.0.1 10.0.0.2");
}

#[test]
fn the_operators_records_go_first_and_that_is_said() {
    let more = "[[dns.zone]]\nname = \"mesos\"\nrecords = [\"web.marathon A 192.0.2.99\", \"docs TXT hello\"]\n[[dns.zone]]\nname = \"corp\"\nrecords = [\"* A 192.0.2.7\"]\n";
    let config = config(more);
    let mut view = ClusterView::default();
    let mut web = task("web.1");
    (web.name, web.slave) = ("web".to_owned(), Some("f-S1".to_owned()));
    view.apply(Event::Marathon { source: 0, listing: Listing { tasks: vec![web.into()], ..Listing::default() } });
    let made = names(&config, &view, &[]);
    let rows = rows(&made.zones, 1, false);
    let values =
        |name: &str, kind: &str| rows.iter().find(|r| r.name == name && r.r#type == kind).map(|r| r.values.join(" "));
    assert_eq!(values("web.marathon.mesos.", "A").as_deref(), Some("192.0.2.99"));
    assert_eq!(values("docs.mesos.", "TXT").as_deref(), Some("\"hello\""));
    assert_eq!(values("*.corp.", "A").as_deref(), Some("192.0.2.7"));
    assert!(values("corp.", "SOA").is_some());
    let said: Vec<&str> = made.rejected.iter().map(|r| r.reason.as_str()).collect();
    assert_eq!(said, ["a record of [[dns.zone]] of the same name is answered instead"]);
}

/// Records as the recording has them: name, TTL, type and data, as a set.
#[test]
fn each_zone_says_where_its_names_come_from() {
    let config = config("[[dns.zone]]\nname = \"corp\"\nrecords = [\"www A 192.0.2.7\"]\n");
    let zones = names(&config, &ClusterView::default(), &[]).zones;
    let of = |apex: &str| zones.iter().find(|zone| zone.apex == apex).map(|zone| zone.origin);
    let found = ["mesos", "thisdcos.directory", "spartan", "11.in-addr.arpa", "in-addr.arpa", "corp"].map(of);
    let [mesos, dcos, reverse, own] = Origin::ALL.map(|(origin, _)| Some(origin));
    assert_eq!(found, [mesos, dcos, dcos, reverse, reverse, own]);
}

fn shown(records: &[hickory_proto::rr::Record]) -> BTreeSet<String> {
    let one = |r: &hickory_proto::rr::Record| {
        let mut data: Vec<String> = r.data.to_string().split(' ').map(str::to_owned).collect();
        if let (hickory_proto::rr::RData::SOA(_), Some(serial)) = (&r.data, data.get_mut(2)) {
            *serial = "<SERIAL>".to_owned();
        }
        format!("{} {} {} {}", r.name.to_ascii().to_lowercase(), r.ttl, r.record_type(), data.join(" "))
    };
    records.iter().map(one).collect()
}

fn was(records: &Value) -> BTreeSet<String> {
    let text = |value: &Value| value.as_str().unwrap().to_owned();
    let one = |r: &Value| {
        format!("{} {} {} {}", text(&r["name"]).to_lowercase(), r["ttl"], text(&r["type"]), text(&r["data"]))
    };
    records.as_array().unwrap().iter().map(one).collect()
}

/// A query with these flags' RD.
fn query(recorded: &Value) -> Vec<u8> {
    let name = hickory_proto::rr::Name::from_ascii(recorded["name"].as_str().unwrap()).unwrap();
    let kind: hickory_proto::rr::RecordType = recorded["type"].as_str().unwrap().parse().unwrap();
    let rd = recorded["flags"].as_array().unwrap().iter().any(|flag| flag == "RD");
    let mut query = vec![0x12, 0x34, u8::from(rd), 0, 0, 1, 0, 0, 0, 0, 0, 0];
    for label in name.iter() {
        query.push(label.len() as u8);
        query.extend(label);
    }
    query.push(0);
    query.extend(u16::from(kind).to_be_bytes());
    query.extend([0, 1]);
    query
}

#[test]
fn in_compat_every_recorded_answer_is_given() {
    use hickory_proto::op::Message;
    use hickory_proto::serialize::binary::BinDecodable as _;
    use sluice_dataplane::stage::dns::{Asker, Limit, Reply, answer};
    use sluice_dataplane::tables::dns::Terms;
    let Some(recording) = golden("mesos-dns/answers.json") else { return };
    let mut wrong = Vec::new();
    let mut count = 0;
    for case in recording["cases"].as_array().unwrap() {
        let mut config = recorded(case);
        (config.dns.compat, config.dns.negative_ttl) = (true, config.dns.ttl);
        let Some(view) = view(&config, case["state_file"].as_str().unwrap()) else { return };
        let zones = names(&config, &view, &[]).zones;
        let table = Zones::compile(&zones, 7, HashKey::new([1; 16]));
        let terms = Terms::new(&crate::offline::local_from_config(&config), &[], &[]);
        let asker = Asker { ip: "192.0.2.9".parse().unwrap(), unix_seconds: 0 };
        for recorded in case["queries"].as_array().unwrap() {
            let query = query(recorded);
            let mut buffer = query.clone();
            buffer.resize(65_535, 0);
            let limit = if recorded["transport"] == "tcp" { Limit::Tcp } else { Limit::Udp };
            let Reply::Answer { len, .. } = answer(&mut buffer, query.len(), &table, &terms, &asker, limit) else {
                panic!("dropped");
            };
            let message = Message::from_bytes(&buffer[..len]).unwrap();
            let head = &message.metadata;
            let flags = [
                (true, "QR"),
                (head.authoritative, "AA"),
                (head.truncation, "TC"),
                (head.recursion_desired, "RD"),
                (head.recursion_available, "RA"),
            ];
            let flags: Vec<&str> = flags.into_iter().filter(|(set, _)| *set).map(|(_, name)| name).collect();
            let rcode = match u16::from(head.response_code) {
                0 => "NOERROR",
                3 => "NXDOMAIN",
                5 => "REFUSED",
                _ => "?",
            };
            let said_flags: Vec<&str> =
                recorded["flags"].as_array().unwrap().iter().map(|f| f.as_str().unwrap()).collect();
            let same_flags = said_flags.iter().collect::<BTreeSet<_>>() == flags.iter().collect::<BTreeSet<_>>();
            let sections = [
                (&message.answers, "answers"),
                (&message.authorities, "authority"),
                (&message.additionals, "additional"),
            ];
            let is_cut = said_flags.contains(&"TC");
            let fits = sections.iter().all(|(ours, name)| {
                let (ours, theirs) = (shown(ours), was(&recorded[*name]));
                // What was cut there need not be cut at the same place here; of several addresses of a target it tells any.
                let count = |rows: &BTreeSet<String>| {
                    rows.iter().filter_map(|r| r.split_once(' ')).map(|(name, _)| name.to_owned()).collect::<Vec<_>>()
                };
                let any = *name == "additional" && count(&ours) == count(&theirs);
                if is_cut { ours.len() <= 512 } else { ours == theirs || any }
            });
            count += 1;
            if !same_flags || rcode != recorded["rcode"] || !fits {
                let ours: Vec<_> = sections.iter().map(|(records, _)| shown(records)).collect();
                wrong.push(format!("{recorded}\n  is {rcode} {flags:?} {ours:?}"));
            }
        }
    }
    assert!(wrong.is_empty(), "{} of {count} differ:\n{}", wrong.len(), wrong[..wrong.len().min(12)].join("\n"));
    assert!(count > 2000);
}
