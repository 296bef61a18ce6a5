//! Zones that other tests use too, and what compiling makes of them.

use std::net::Ipv4Addr;

use proptest::prelude::*;
use sluice_config::model::{Record, RecordData, Zone};

use super::*;

pub(crate) const KEY: [u8; 16] = *b"an even-tempered";

pub(crate) fn zone(apex: &str, names: &[(&str, RecordData)]) -> Zone {
    let record = |(name, data): &(&str, RecordData)| Record { name: (*name).to_owned(), ttl: 60, data: data.clone() };
    Zone {
        apex: apex.to_owned(),
        mname: "ns1.mesos".to_owned(),
        rname: "root.ns1.mesos".to_owned(),
        timers: [60, 600, 86400, 5],
        soa_ttl: 60,
        ns: "ns1.mesos".to_owned(),
        ns_ttl: 3600,
        records: names.iter().map(record).collect(),
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
    let mut mesos = zone("mesos", &many);
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
    mesos.records.extend(zone("mesos", &names).records);
    vec![
        mesos,
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
    broken.ns = "ns..broken".to_owned();
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
    let mut mesos = zone("mesos", &[("t.mesos", a(1)), ("t.mesos", a(2)), ("t.mesos", a(1))]);
    mesos.records[1].ttl = 7;
    let zones = Zones::compile(&[mesos], 1, HashKey::new(KEY));
    assert!(rows(&zones).contains(&"t.mesos. A 7 10.0.0.1 10.0.0.2 @mesos.".to_owned()));
}

#[test]
fn equal_zones_in_any_order_give_equal_tables() {
    let mut reversed = test_zones();
    reversed.reverse();
    reversed.iter_mut().for_each(|z| z.records.reverse());
    assert!(Zones::compile(&reversed, 2024, HashKey::new(KEY)) == compiled());
}

#[test]
fn no_zones_hold_nothing() {
    let zones = Zones::compile(&[], 1, HashKey::new(KEY));
    assert!(zones.closest(b"\x05mesos\0").is_none() && zones == Zones { key: zones.key, ..Zones::default() });
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
        let found = zones.closest(&wire).map(|c| (name::to_text(c.entry.name()), c.exact));
        prop_assert_eq!(found, suffix.map(|s| (format!("{s}."), s == question)));
    }
}
