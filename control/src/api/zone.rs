//! Zones as rows for people and machines: `{name, type, ttl, values[]}` with the final dot, values sorted; SOA in seven
//! fields (design.md section 9).

use std::collections::{BTreeMap, BTreeSet};

use serde::Serialize;
use sluice_config::model::{Reach, Zone};
use sluice_dataplane::tables::zone::Zones;
use sluice_dataplane::wire::name;

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

/// The rows of these zones, sorted by name and type, as far as the table that was made of them serves them; those of names
/// that are others' (facts/dcos.md B.2) with `aliases`.
#[must_use]
pub fn rows(zones: &[Zone], served: &Zones, serial: u32, aliases: bool) -> Vec<Row> {
    let served: BTreeSet<(String, String)> = served.rows().map(|row| (row.name, row.rtype)).collect();
    let mut sets: BTreeMap<(String, &'static str), (u32, Vec<String>)> = BTreeMap::new();
    for zone in zones {
        let mut put = |name: &str, kind: &'static str, ttl, value: &str| {
            let known =
                name::from_text(name).is_ok_and(|wire| served.contains(&(name::to_text(&wire), kind.to_owned())));
            for name in spellings(zone, name, aliases).into_iter().filter(|_| known) {
                let (least, values) = sets.entry((format!("{name}."), kind)).or_insert((ttl, Vec::new()));
                *least = (*least).min(ttl);
                values.push(value.to_owned());
            }
        };
        if zone.reach == Reach::Whole {
            let [refresh, retry, expire, minimum] = zone.timers;
            let serial = zone.serial.unwrap_or(serial);
            let soa = format!("{}. {}. {serial} {refresh} {retry} {expire} {minimum}", zone.mname, zone.rname);
            put(&zone.apex, "SOA", zone.soa_ttl, &soa);
            for ns in &zone.ns {
                put(&zone.apex, "NS", zone.ns_ttl, &format!("{ns}."));
            }
        }
        for record in zone.records.iter() {
            put(&record.name, record.data.mnemonic(), record.ttl, &record.data.to_string());
        }
    }
    let row = |((name, r#type), (ttl, mut values)): ((String, &'static str), (u32, Vec<String>))| {
        values.sort();
        values.dedup();
        Row { name, r#type, ttl, values }
    };
    sets.into_iter().map(row).collect()
}

/// All names that a name is answered under.
fn spellings(zone: &Zone, name: &str, aliases: bool) -> Vec<String> {
    let mut names = vec![name.to_owned()];
    if !aliases {
        return names;
    }
    for (from, to) in &zone.renames {
        names.extend(moved(name, to, from));
    }
    for alias in &zone.aliases {
        let more: Vec<String> = names.iter().filter_map(|name| moved(name, &zone.apex, alias)).collect();
        names.extend(more.into_iter().filter(|name| !names.contains(name)).collect::<Vec<_>>());
    }
    names
}

/// The name with another suffix, where it has this one.
fn moved(name: &str, from: &str, to: &str) -> Option<String> {
    let below = name.strip_suffix(from)?;
    (below.is_empty() || below.ends_with('.')).then(|| format!("{below}{to}"))
}
