//! Zones that other tests use too, and what compiling makes of them.

use std::net::Ipv4Addr;

use proptest::prelude::*;
use sluice_config::model::{Record, RecordData, Zone};

use crate::tables::hash::HashKey;

use super::*;

pub(crate) const KEY: [u8; 16] = *b"an even-tempered";

pub(crate) fn zone(apex: &str, names: &[(&str, RecordData)]) -> Zone {
    let record = |(name, data): &(&str, RecordData)| Record { name: (*name).to_owned(), ttl: 60, data: data.clone() };
    Zone {
        rname: "root.ns1.mesos".to_owned(),
        timers: [60, 600, 86400, 5],
        soa_ttl: 60,
        records: names.iter().map(record).collect(),
        ..Zone::new(apex, "ns1.mesos")
    }
}

pub(crate) fn a(last: u8) -> RecordData {
    RecordData::A(Ipv4Addr::new(10, 0, 0, last))
}

fn aaaa(last: u8) -> RecordData {
    RecordData::Aaaa([0xfd00, 0, 0, 0, 0, 0, 0, u16::from(last)].into())
}

/// `mesos` with a nested zone and an alias tree.
pub(crate) fn test_zones() -> Vec<Zone> {
    let many: Vec<_> = (1..=60).map(|last| ("many.marathon.mesos", a(last))).collect();
    let names = [
        ("app.marathon.mesos", a(1)),
        ("both.marathon.mesos", aaaa(2)),
        ("both.marathon.mesos", a(2)),
        ("three.marathon.mesos", a(1)),
        ("three.marathon.mesos", a(2)),
        ("three.marathon.mesos", a(3)),
        ("six.marathon.mesos", aaaa(6)),
        ("a.deep.down.mesos", a(4)),
        ("ns1.mesos", a(53)),
        ("hidden.inner.mesos", a(9)),
    ];
    let all: Vec<_> = many.into_iter().chain(names).collect();
    vec![
        zone("mesos", &all),
        zone("inner.mesos", &[("inner.mesos", a(7)), ("x.inner.mesos", a(8))]),
        zone("thisdcos.directory", &[("web.marathon.l4lb.thisdcos.directory", a(11))]),
        zone("thisdcos.global", &[("web.marathon.l4lb.thisdcos.global", a(11))]),
    ]
}

pub(crate) fn compiled() -> Zones {
    Zones::compile(&test_zones(), 2024, HashKey::new(KEY))
}

/// `name type ttl values @apex`.
fn rows(zones: &Zones) -> Vec<String> {
    let text = |r: Row| format!("{} {} {} {} @{}", r.name, r.rtype, r.ttl, r.values.join(" "), r.apex);
    zones.rows().map(text).collect()
}

#[test]
fn rows_are_what_is_served() {
    let inner = "ns1.mesos. root.ns1.mesos. 2024 60 600 86400 5";
    let zones = Zones::compile(&test_zones()[1..3], 2024, HashKey::new(KEY));
    assert_eq!(
        rows(&zones),
        [
            "inner.mesos. A 60 10.0.0.7 @inner.mesos.".to_owned(),
            "inner.mesos. NS 3600 ns1.mesos. @inner.mesos.".to_owned(),
            format!("inner.mesos. SOA 60 {inner} @inner.mesos."),
            "thisdcos.directory. NS 3600 ns1.mesos. @thisdcos.directory.".to_owned(),
            format!("thisdcos.directory. SOA 60 {inner} @thisdcos.directory."),
            "web.marathon.l4lb.thisdcos.directory. A 60 10.0.0.11 @thisdcos.directory.".to_owned(),
            "x.inner.mesos. A 60 10.0.0.8 @inner.mesos.".to_owned(),
        ]
    );
    assert!(rows(&compiled()).contains(&"both.marathon.mesos. AAAA 60 fd00::2 @mesos.".to_owned()));
}

#[test]
fn what_cannot_be_served_is_listed_with_its_reason_and_spoils_nothing() {
    let long_label = format!("{}.mesos", "x".repeat(64));
    let long_name = format!("{}.mesos", ["y"; 125].join("."));
    let bad = [
        (long_label.as_str(), a(1)),
        (&long_name, a(1)),
        ("a..mesos", a(1)),
        ("", a(1)),
        ("xmesos", a(1)),
        ("directory", a(1)),
        ("hidden.inner.mesos", a(1)),
        ("good.mesos", a(1)),
    ];
    let mut broken = zone("broken", &[]);
    broken.ns = vec!["ns..broken".to_owned()];
    let zones = [zone("mesos", &bad), zone("inner.mesos", &[]), zone("mesos", &[]), broken];
    let zones = Zones::compile(&zones, 1, HashKey::new(KEY));
    let listed: Vec<String> = zones.rejected().iter().map(ToString::to_string).collect();
    assert_eq!(
        listed,
        [
            "\"ns..broken\" in zone \"broken\" is not served: it has an empty label; write one dot between labels and none at the ends".to_owned(),
            "\"\" in zone \"mesos\" is not served: it is empty".to_owned(),
            "\"a..mesos\" in zone \"mesos\" is not served: it has an empty label; write one dot between labels and none at the ends".to_owned(),
            "\"directory\" in zone \"mesos\" is not served: it does not end in the zone's apex".to_owned(),
            "\"hidden.inner.mesos\" in zone \"mesos\" is not served: the zone \"inner.mesos\" is authoritative for it".to_owned(),
            "\"mesos\" in zone \"mesos\" is not served: another zone has the same apex; give each zone once".to_owned(),
            "\"xmesos\" in zone \"mesos\" is not served: it does not end in the zone's apex".to_owned(),
            format!("{long_label:?} in zone \"mesos\" is not served: a label has 64 octets; 63 are the most (RFC 1035 section 2.3.4)"),
            format!("{long_name:?} in zone \"mesos\" is not served: it has 257 octets on the wire; 255 are the most (RFC 1035 section 2.3.4)"),
        ]
    );
    assert!(rows(&zones).contains(&"good.mesos. A 60 10.0.0.1 @mesos.".to_owned()));
}

#[test]
fn an_rrset_larger_than_a_message_is_cut_and_listed() {
    let record = |n: u32| Record { name: "big.mesos".to_owned(), ttl: 60, data: RecordData::A(Ipv4Addr::from_bits(n)) };
    let mut big = zone("mesos", &[]);
    big.records = (0..5000).map(record).collect();
    let zones = Zones::compile(&[big], 1, HashKey::new(KEY));
    assert!(matches!(zones.rejected(), [Rejected { reason: Reason::TooMany { given: 5000, served: 4063 }, .. }]));
}

#[test]
fn one_rrset_has_one_ttl_and_no_value_twice() {
    let mut mesos = zone("mesos", &[("t.mesos", a(1)), ("t.mesos", a(1))]);
    let shorter = Record { name: "t.mesos".to_owned(), ttl: 7, data: a(2) };
    mesos.records.replace(vec![("t.mesos".to_owned(), [mesos.records.of("t.mesos"), &[shorter]].concat())]);
    let zones = Zones::compile(&[mesos], 1, HashKey::new(KEY));
    assert!(rows(&zones).contains(&"t.mesos. A 7 10.0.0.1 10.0.0.2 @mesos.".to_owned()));
}

#[test]
fn equal_zones_in_any_order_give_equal_tables() {
    let mut reversed = test_zones();
    reversed.reverse();
    for zone in &mut reversed {
        let records: Vec<Record> = zone.records.iter().cloned().collect();
        zone.records = records.into_iter().rev().collect();
    }
    assert!(Zones::compile(&reversed, 2024, HashKey::new(KEY)) == compiled());
}

#[test]
fn no_zones_hold_nothing() {
    let zones = Zones::compile(&[], 1, HashKey::new(KEY));
    assert!(zones.resolve(b"\x05mesos\0").is_none() && zones == Zones { key: zones.key, ..Zones::default() });
    assert_eq!(zones.rows().count(), 0);
}

proptest! {
    /// A slow model: names are texts, existence is a suffix test.
    #[test]
    fn closest_finds_what_a_list_of_texts_finds(
        owners in prop::collection::vec("[ab](\\.[ab]){0,3}", 0..12), question in "[ab](\\.[ab]){0,5}", alien: bool,
    ) {
        let owners: Vec<String> = owners.iter().map(|o| format!("{o}.z")).collect();
        let records: Vec<_> = owners.iter().map(|o| (o.as_str(), a(1))).collect();
        let zones = Zones::compile(&[zone("z", &records)], 1, HashKey::new(KEY));
        let question = if alien { question } else { format!("{question}.z") };
        let exists = |name: &str| name == "z" || owners.iter().any(|o| o == name || o.ends_with(&format!(".{name}")));
        let mut suffix = Some(question.as_str());
        while let Some(name) = suffix.filter(|name| !exists(name)) {
            suffix = name.split_once('.').map(|(_, parent)| parent);
        }
        let wire = name::from_text(&question).unwrap();
        let found = zones.resolve(&wire).map(|c| (name::to_text(c.entry.name()), c.exact));
        prop_assert_eq!(found, suffix.map(|s| (format!("{s}."), s == question)));
    }
}

/// Any zones, of few names so that they meet: wildcards, pointers, aliases, zones in zones and names on their own.
fn any_record() -> impl Strategy<Value = (String, RecordData)> {
    let name = prop_oneof!["[ab](\\.[ab]){0,2}", "\\*\\.[ab]", Just("i".to_owned()), "[ab]\\.i"];
    let data = prop_oneof![
        (1u8..5).prop_map(a),
        (1u8..3).prop_map(aaaa),
        "[ab]\\.z".prop_map(|target| RecordData::Srv { priority: 0, weight: 1, port: 80, target }),
        "[ab]\\.z".prop_map(RecordData::Cname),
        "[a-c]{0,6}".prop_map(|text| RecordData::Txt(vec![text.into_bytes()])),
    ];
    (name, data)
}

fn whole(records: &[(String, RecordData)], other: &[(String, RecordData)]) -> Vec<Zone> {
    let under = |apex: &str, records: &[(String, RecordData)]| {
        let names: Vec<_> = records.iter().map(|(name, data)| (format!("{name}.{apex}"), data.clone())).collect();
        zone(apex, &names.iter().map(|(name, data)| (name.as_str(), data.clone())).collect::<Vec<_>>())
    };
    let alone = Zone { reach: Reach::Exact, ..under("x", other) };
    let aliases = vec!["y".to_owned()];
    let renames = vec![("q.z".to_owned(), "a.z".to_owned())];
    vec![Zone { aliases, renames, ..under("z", records) }, under("i.z", other), alone]
}

proptest! {
    /// Whatever changed, the table made of the one before is the table made anew.
    #[test]
    fn a_table_made_of_the_one_before_is_the_table_made_anew(
        steps in prop::collection::vec((prop::collection::vec(any_record(), 0..20), prop::collection::vec(any_record(), 0..6)), 1..6),
    ) {
        let key = HashKey::new(KEY);
        let mut before = whole(&[], &[]);
        let mut table = Zones::compile(&before, 1, key);
        for (serial, (records, other)) in (2..).zip(steps) {
            let mut zones = before.clone();
            for (zone, new) in zones.iter_mut().zip(whole(&records, &other)) {
                let names: std::collections::BTreeSet<String> =
                    zone.records.iter().chain(new.records.iter()).map(|r| r.name.clone()).collect();
                zone.records.replace(names.into_iter().map(|n| (n.clone(), new.records.of(&n).to_vec())).collect());
            }
            table = table.next(&before, &zones, serial);
            let anew = Zones::compile(&zones, serial, key);
            prop_assert_eq!(table.rows().collect::<Vec<_>>(), anew.rows().collect::<Vec<_>>());
            prop_assert_eq!(table.rejected(), anew.rejected());
            prop_assert!(table == anew, "{} and {} names", table.len(), anew.len());
            before = zones;
        }
    }
}

#[test]
fn one_name_of_many_makes_few_shards_anew() {
    let names = |changed: u8| {
        let record = |n: u32| Record {
            name: format!("app-{n}.marathon.mesos"),
            ttl: 60,
            data: a(if n == 77 { changed } else { 1 }),
        };
        vec![Zone { records: (0..20_000).map(record).collect(), ..zone("mesos", &[]) }]
    };
    let before = names(1);
    let mut after = before.clone();
    let mut record = before[0].records.of("app-77.marathon.mesos")[0].clone();
    record.data = a(9);
    after[0].records.replace(vec![(record.name.clone(), vec![record])]);
    let first = Zones::compile(&before, 1, HashKey::new(KEY));
    let second = first.next(&before, &after, 1);
    let same = first.shards.iter().zip(&second.shards).filter(|(a, b)| Arc::ptr_eq(&a.slab, &b.slab)).count();
    assert!(first.shards.len() > 100 && same + 2 >= first.shards.len(), "{same} of {}", first.shards.len());
    assert!(rows(&second) == rows(&Zones::compile(&names(9), 1, HashKey::new(KEY))));
}

#[test]
fn aliases_wildcards_and_names_on_their_own_are_found() {
    let txt = |text: &str| RecordData::Txt(vec![text.as_bytes().to_vec()]);
    let main = zone("z", &[("web.l4lb.z", a(1)), ("*.wild.z", txt("w")), ("there.wild.z", a(2))]);
    let main = Zone {
        aliases: vec!["y".into(), "long.alias".into()],
        renames: vec![("dclb.z".into(), "l4lb.z".into())],
        ..main
    };
    let alone = Zone {
        reach: Reach::Exact,
        ..zone("in-addr.arpa", &[("1.0.0.10.in-addr.arpa", RecordData::Ptr("a.z".into()))])
    };
    let zones = Zones::compile(&[main, alone], 1, HashKey::new(KEY));
    let find = |text: &str| {
        let wire = name::from_text(text).unwrap();
        zones.resolve(&wire).map(|f| {
            let types: Vec<String> = f.entry.sets().map(|set| mnemonic(set.rtype)).collect();
            let apex = name::to_text(&wire[wire.len() - f.soa().apex_len..]);
            format!("{} {} {apex}", f.exact, types.join(","))
        })
    };
    let found = [
        ("web.dclb.long.alias", Some("true A long.alias.")),
        ("web.dclb.z", Some("true A z.")),
        ("dclb.z", Some("true  z.")),
        ("web.l4lb.y", Some("true A y.")),
        ("nx.dclb.y", Some("false  y.")),
        ("y", Some("true NS,SOA y.")),
        ("alias", None),
        ("x.alias", None),
        ("any.wild.z", Some("true TXT z.")),
        ("a.b.wild.z", Some("true TXT z.")),
        ("there.wild.z", Some("true A z.")),
        ("below.there.wild.z", Some("false A z.")),
        ("wild.z", Some("true  z.")),
        ("1.0.0.10.in-addr.arpa", Some("true PTR 1.0.0.10.in-addr.arpa.")),
        ("2.0.0.10.in-addr.arpa", None),
        ("0.0.10.in-addr.arpa", None),
        ("x.1.0.0.10.in-addr.arpa", None),
    ];
    for (name, expected) in found {
        assert_eq!(find(name).as_deref(), expected, "{name}");
    }
}
