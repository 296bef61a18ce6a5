//! The operator's own zones: master files (RFC 1035 section 5) read by hickory-proto, as records of the model.
//!
//! A file is read whole, up to a bound. `$INCLUDE` is refused, because a zone's file is to be all of it. What is not served
//! (DNSSEC, delegations, other types, names that need escapes) is listed, and the rest is served.

use std::path::Path;

use hickory_proto::rr::{DNSClass, Name, RData, RecordType};
use hickory_proto::serialize::txt::Parser;
use sluice_config::model::{Config, Record, RecordData, StaticZone, Zone};
use sluice_dataplane::tables::hash::HashKey;
use sluice_dataplane::tables::zone::Zones;

use crate::rejected::Rejected;

mod at;

/// Largest master file, octets: a million records.
const FILE_OCTETS: u64 = 64 << 20;
/// The key that errors name.
const KEY: &str = "[[dns.zone]]";
/// TTL of a zone's records that name none, seconds.
const TTL: u32 = 3600;

/// Why text is no zone.
#[derive(Debug, thiserror::Error)]
pub enum ZoneError {
    /// The file cannot be read.
    #[error("{path}: {source}")]
    Io {
        /// Which file.
        path: String,
        /// Why not.
        source: std::io::Error,
    },
    /// The file is longer than is read.
    #[error("{0} has more than 64 MB: split the zone")]
    TooLong(String),
    /// `$INCLUDE`.
    #[error("line {0}: $INCLUDE is not read; put the records into this file")]
    Include(usize),
    /// The parser's word, with the line where it stopped.
    #[error("{what}: {source}")]
    Text {
        /// Which text.
        what: String,
        /// Why not.
        source: Box<hickory_proto::serialize::txt::ParseError>,
    },
}

/// A zone as far as it could be read.
#[must_use]
pub fn read(zone: &StaticZone, config: &Config, rejected: &mut Vec<Rejected>) -> Zone {
    let mut texts = Vec::new();
    if let Some(path) = &zone.file {
        match file(path) {
            Ok(text) => texts.push((path.display().to_string(), text)),
            Err(error) => rejected.push(complaint(&zone.name, &path.display().to_string(), &error.to_string())),
        }
    }
    // Line by line, so that a mistake in one leaves the others.
    let lines = zone.records.iter().map(|line| (line.clone(), format!("$TTL {TTL}\n{line}\n")));
    of_texts(&zone.name, config, texts.into_iter().chain(lines), rejected)
}

/// The zone of this apex that is in these texts, each with what it is called.
#[must_use]
pub fn of_texts(
    apex: &str,
    config: &Config,
    texts: impl IntoIterator<Item = (String, String)>,
    rejected: &mut Vec<Rejected>,
) -> Zone {
    let mut made = Zone {
        timers: [60, 180, 86_400, config.dns.negative_ttl_of_dcos()],
        soa_ttl: config.dns.dcos_ttl,
        rname: format!("hostmaster.{apex}"),
        ..Zone::new(apex, "ns.spartan")
    };
    let mut records = Vec::new();
    for (what, text) in texts {
        match parse(apex, &what, &text) {
            Ok(parsed) => parsed.into_iter().for_each(|one| take(one, &mut made, &mut records, rejected)),
            Err(error) => rejected.push(complaint(apex, &what, &error.to_string())),
        }
    }
    made.records = records.into();
    made
}

/// What of all zones of the configuration is not served, as sentences for people: what could not be read, and what could be
/// but has no place in the table.
#[must_use]
pub fn left_out(config: &Config) -> Vec<String> {
    let mut rejected = Vec::new();
    let zones: Vec<Zone> = config.dns.zones.iter().map(|zone| read(zone, config, &mut rejected)).collect();
    let table = Zones::compile(&zones, 1, HashKey::new([0; 16]));
    let unread = rejected.iter().map(|r| format!("{KEY} {}: {}", r.value, r.reason));
    unread.chain(table.rejected().iter().map(|r| format!("{KEY} {r}"))).collect()
}

fn complaint(zone: &str, what: &str, reason: &str) -> Rejected {
    Rejected::new("", KEY, &format!("{zone}: {what}"), reason)
}

fn file(path: &Path) -> Result<String, ZoneError> {
    let io = |source| ZoneError::Io { path: path.display().to_string(), source };
    if std::fs::metadata(path).map_err(io)?.len() > FILE_OCTETS {
        return Err(ZoneError::TooLong(path.display().to_string()));
    }
    std::fs::read_to_string(path).map_err(io)
}

/// A record as the parser has it.
#[derive(Debug)]
pub struct Parsed {
    name: Name,
    ttl: u32,
    class: DNSClass,
    data: RData,
}

/// The records of a text under this origin.
///
/// # Errors
/// When it breaks the format.
pub fn parse(origin: &str, what: &str, text: &str) -> Result<Vec<Parsed>, ZoneError> {
    let include = |line: &str| line.get(..8).is_some_and(|start| start.eq_ignore_ascii_case("$INCLUDE"));
    if let Some(line) = text.lines().position(|line| include(line.trim_start())) {
        return Err(ZoneError::Include(line + 1));
    }
    let wrong = |source| ZoneError::Text { what: what.to_owned(), source: Box::new(source) };
    let text = at::written_out(origin, text);
    let origin = Name::from_ascii(format!("{origin}.")).map_err(|error| wrong(error.into()))?;
    let (_, sets) = Parser::new(text, None, Some(origin)).parse().map_err(wrong)?;
    let records = sets.values().flat_map(|set| set.records_without_rrsigs());
    let parsed = |r: &hickory_proto::rr::Record| Parsed {
        name: r.name.clone(),
        ttl: r.ttl,
        class: r.dns_class,
        data: r.data.clone(),
    };
    Ok(records.map(parsed).collect())
}

/// Puts a record where it belongs.
fn take(one: Parsed, made: &mut Zone, records: &mut Vec<Record>, rejected: &mut Vec<Rejected>) {
    let shown = format!("{} {}", one.name, one.data.record_type());
    let apex = made.apex.clone();
    let mut refuse = |reason: &str| rejected.push(complaint(&apex, &shown, reason));
    let Some(name) = plain(&one.name) else { return refuse("the name needs escapes, which are not served") };
    if one.class != DNSClass::IN {
        return refuse("only class IN is served");
    }
    if one.ttl > i32::MAX as u32 {
        return refuse("its TTL is above 2147483647 seconds (RFC 2181 section 8)");
    }
    let at_apex = name == apex;
    let target = |name: &Name| plain(name).filter(|name| !name.is_empty());
    #[expect(clippy::wildcard_enum_match_arm, reason = "types that are not served are many, and grow with the library")]
    let data = match &one.data {
        RData::A(ip) => RecordData::A(ip.0),
        RData::AAAA(ip) => RecordData::Aaaa(ip.0),
        RData::TXT(text) => RecordData::Txt(text.txt_data.iter().map(|part| part.to_vec()).collect()),
        RData::CNAME(to) => match target(&to.0) {
            Some(to) => RecordData::Cname(to),
            None => return refuse("the name that it points to is not served"),
        },
        RData::PTR(to) => match target(&to.0) {
            Some(to) => RecordData::Ptr(to),
            None => return refuse("the name that it points to is not served"),
        },
        RData::MX(mx) => match target(&mx.exchange) {
            Some(exchange) => RecordData::Mx { preference: mx.preference, exchange },
            None => return refuse("the name that it points to is not served"),
        },
        RData::SRV(srv) => match target(&srv.target) {
            Some(target) => RecordData::Srv { priority: srv.priority, weight: srv.weight, port: srv.port, target },
            None => return refuse("the name that it points to is not served"),
        },
        RData::NS(ns) if at_apex => {
            if made.ns == ["ns.spartan"] {
                made.ns.clear();
            }
            made.ns.extend(target(&ns.0));
            made.ns_ttl = one.ttl;
            return;
        }
        RData::NS(_) => return refuse("delegations are not served: write the zone below as a [[dns.zone]] of its own"),
        RData::SOA(soa) if at_apex => {
            let (Some(mname), Some(rname)) = (target(&soa.mname), target(&soa.rname)) else {
                return refuse("a name in it is not served");
            };
            (made.mname, made.rname, made.soa_ttl, made.serial) = (mname, rname, one.ttl, Some(soa.serial));
            let seconds = |n: i32| u32::try_from(n).unwrap_or_default();
            made.timers = [seconds(soa.refresh), seconds(soa.retry), seconds(soa.expire), soa.minimum];
            return;
        }
        _ => return refuse(&format!("type {} is not served", RecordType::from(&one))),
    };
    records.push(Record { name, ttl: one.ttl, data });
}

impl From<&Parsed> for RecordType {
    fn from(parsed: &Parsed) -> Self {
        parsed.data.record_type()
    }
}

/// A name in lower case without its final dot, if it is of characters that stand for themselves.
fn plain(name: &Name) -> Option<String> {
    let labels: Option<Vec<String>> = name
        .iter()
        .map(|label| {
            let is_plain = |b: &u8| matches!(b, b'!'..=b'~') && !matches!(b, b'.' | b'\\' | b'"');
            label.iter().all(is_plain).then(|| String::from_utf8_lossy(label).to_ascii_lowercase())
        })
        .collect();
    labels.map(|labels| labels.join("."))
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    fn config() -> Config {
        sluice_config::parse("[[port]]\ninterface = \"eth0\"\nmac = \"02:00:00:00:00:01\"\nqueues = [0]\n", "test")
            .unwrap()
    }

    #[test]
    fn what_is_not_served_is_said_before_it_is_missed() {
        let records = [
            "www A 1.2.3",
            "old 4294967295 A 1.2.3.4",
            "www.other.org. A 1.2.3.4",
            "good A 1.2.3.4",
            "both A 1.2.3.4",
            "both CNAME good",
        ];
        let zone = StaticZone { name: "corp".to_owned(), file: None, records: records.map(str::to_owned).to_vec() };
        let missing = StaticZone { name: "gone".to_owned(), file: Some("/nowhere/gone.zone".into()), records: vec![] };
        let mut config = config();
        config.dns.zones = vec![zone, missing];
        let said = left_out(&config);
        for (said, part) in
            said.iter().zip(["www A 1.2.3: ", "old.corp. A: its TTL", "/nowhere/gone.zone", "both", "www.other.org"])
        {
            assert!(said.starts_with("[[dns.zone]] ") && said.contains(part), "{said}");
        }
        assert_eq!(said.len(), 5, "{said:?}");
    }

    fn zone(records: &[&str]) -> (Zone, Vec<String>) {
        let zone = StaticZone {
            name: "corp".to_owned(),
            file: None,
            records: records.iter().map(|r| (*r).to_owned()).collect(),
        };
        let mut rejected = Vec::new();
        let read = read(&zone, &config(), &mut rejected);
        (read, rejected.into_iter().map(|r| format!("{}: {}", r.value, r.reason)).collect())
    }

    fn shown(zone: &Zone) -> Vec<String> {
        let mut rows: Vec<String> =
            zone.records.iter().map(|r| format!("{} {} {} {}", r.name, r.ttl, r.data.mnemonic(), r.data)).collect();
        rows.sort();
        rows
    }

    #[test]
    fn every_kind_of_record_is_read() {
        let (zone, rejected) = zone(&[
            "@ A 10.0.0.1",
            "www 60 IN CNAME @",
            "*.Wild AAAA fd00::1",
            "_sip._tcp SRV 1 2 5060 www.corp.",
            "@ MX 10 mail.example.org.",
            "t TXT \"a b\" c",
            "p PTR host.corp.",
            "@ 7200 NS ns1",
            "@ 300 SOA ns1 admin 77 1 2 3 4",
        ]);
        assert_eq!(rejected, [""; 0]);
        assert_eq!(
            shown(&zone),
            [
                "*.wild.corp 3600 AAAA fd00::1",
                "_sip._tcp.corp 3600 SRV 1 2 5060 www.corp.",
                "corp 3600 A 10.0.0.1",
                "corp 3600 MX 10 mail.example.org.",
                "p.corp 3600 PTR host.corp.",
                "t.corp 3600 TXT \"a b\" \"c\"",
                "www.corp 60 CNAME corp.",
            ]
        );
        assert_eq!((zone.mname.as_str(), zone.serial, zone.timers), ("ns1.corp", Some(77), [1, 2, 3, 4]));
        assert_eq!((zone.ns, zone.ns_ttl, zone.soa_ttl), (vec!["ns1.corp".to_owned()], 7200, 300));
    }

    #[test]
    fn one_bad_record_leaves_the_others_and_says_why() {
        let (zone, rejected) = zone(&[
            "a A 10.0.0.1",
            "b A 10.0.0.256",
            "c NS ns.elsewhere.",
            "$INCLUDE /etc/passwd",
            "d CAA 0 issue \"x\"",
        ]);
        assert_eq!(shown(&zone), ["a.corp 3600 A 10.0.0.1"]);
        assert_eq!(rejected.len(), 4, "{rejected:?}");
        assert!(rejected.iter().any(|r| r.contains("$INCLUDE is not read")));
        assert!(rejected.iter().any(|r| r.contains("delegations are not served")));
    }

    #[test]
    fn a_file_that_is_not_there_is_reported() {
        let zone = StaticZone { name: "corp".into(), file: Some("/no/such/file".into()), records: vec![] };
        let mut rejected = Vec::new();
        assert!(read(&zone, &config(), &mut rejected).records.is_empty());
        assert!(rejected[0].reason.contains("/no/such/file"));
    }

    proptest! {
        #[test]
        fn whatever_a_file_holds_nothing_panics(text in "[ a-z0-9@$*.;()\\\\\"\\n\\t]{0,200}") {
            let _whatever = parse("corp", "test", &text);
        }

        #[test]
        fn nor_lines_that_look_like_records(text in "([a-z@*.]{1,5} ?(IN )?(A|AAAA|SRV|MX|TXT|SOA|NS|CNAME|PTR|CAA|NAPTR) [a-z0-9 .\":()]{0,30}\\n){0,5}") {
            let _whatever = parse("corp", "test", &text);
        }
    }
}
