//! Zones as rows for people and machines: `{name, type, ttl, values[]}` with the final dot, values sorted; SOA in seven
//! fields (design.md section 9).

use std::collections::BTreeMap;

use serde::Serialize;
use sluice_config::model::Zone;

/// One set of records.
#[derive(Clone, PartialEq, Eq, Debug, Serialize)]
pub struct Row {
    /// Lower case, absolute, with the final dot.
    pub name: String,
    /// Mnemonic of the type.
    pub r#type: &'static str,
    /// Seconds.
    pub ttl: u32,
    /// Sorted.
    pub values: Vec<String>,
}

/// Names that answer with what another name has: the DC/OS zone's second apex, and its older word for `l4lb`.
const ALIASES: [&str; 2] = ["thisdcos.global.", "dclb.thisdcos.directory."];

/// Whether the row stands in a zone that is an alias of another (facts/dcos.md B.2).
#[must_use]
pub fn is_alias(row: &Row) -> bool {
    ALIASES.iter().any(|apex| row.name.strip_suffix(apex).is_some_and(|below| below.is_empty() || below.ends_with('.')))
}

/// The rows of these zones, sorted by name and type.
#[must_use]
pub fn rows(zones: &[Zone], serial: u32) -> Vec<Row> {
    let mut sets: BTreeMap<(String, &'static str), (u32, Vec<String>)> = BTreeMap::new();
    let mut put = |name: &str, kind, ttl, value: String| {
        let (least, values) = sets.entry((format!("{name}."), kind)).or_insert((ttl, Vec::new()));
        *least = (*least).min(ttl);
        values.push(value);
    };
    for zone in zones {
        let [refresh, retry, expire, minimum] = zone.timers;
        let soa = format!("{}. {}. {serial} {refresh} {retry} {expire} {minimum}", zone.mname, zone.rname);
        put(&zone.apex, "SOA", zone.soa_ttl, soa);
        for ns in &zone.ns {
            put(&zone.apex, "NS", zone.ns_ttl, format!("{ns}."));
        }
        for record in zone.records.iter() {
            put(&record.name, record.data.mnemonic(), record.ttl, record.data.to_string());
        }
    }
    let row = |((name, r#type), (ttl, mut values)): ((String, &'static str), (u32, Vec<String>))| {
        values.sort();
        values.dedup();
        Row { name, r#type, ttl, values }
    };
    sets.into_iter().map(row).collect()
}
