//! What must hold of any DNS message, and of any master file. Run by the fuzz targets, and over samples and their mutations
//! by `control/tests/dns_bytes.rs`.

use std::net::{IpAddr, Ipv4Addr};
use std::sync::LazyLock;

use hickory_proto::op::{Message, MessageType};
use hickory_proto::serialize::binary::{BinDecodable, BinDecoder};
use sluice_config::model::{Config, Local, LocalDns, Record, RecordData, Zone};
use sluice_control::static_zones;
use sluice_dataplane::stage::dns::{Asker, Limit, Reply, answer};
use sluice_dataplane::tables::dns::Terms;
use sluice_dataplane::tables::hash::HashKey;
use sluice_dataplane::tables::zone::Zones;
use sluice_dataplane::wire::name;

/// One of everything that is served.
pub const ZONE: &str = include_str!("../../control/tests/data/dns-corp.zone");
/// Longest query that is tried, octets.
const QUERY: usize = 2048;
/// Most records of a zone that are asked for.
const ASKED: usize = 64;
/// What an OPT with a cookie and NSID comes to, octets.
const OPT: usize = 64;

const ASKER: Asker = Asker { ip: IpAddr::V4(Ipv4Addr::new(192, 0, 2, 1)), unix_seconds: 1_700_000_000 };
const LIMITS: [Limit; 4] = [Limit::Udp, Limit::Doubtful, Limit::Slip, Limit::Tcp];

static CONFIG: LazyLock<Config> = LazyLock::new(|| {
    let text = "[[port]]\ninterface = \"eth0\"\nmac = \"02:00:00:00:00:01\"\nqueues = [0]\n";
    sluice_config::parse(text, "fuzz").unwrap_or_else(|error| panic!("{error}"))
});

static TERMS: LazyLock<Terms> = LazyLock::new(|| {
    let dns = LocalDns {
        recursion_available: false,
        cookie_secrets: vec![[3; 16]],
        nsid: "fuzz".to_owned(),
        edns_max: 1232,
        truncate_bit: true,
        ..LocalDns::default()
    };
    Terms::new(&Local { dns, ..Local::default() }, &[], &[])
});

/// The same names twice: as they are, and with Mesos-DNS's quirks.
static ZONES: LazyLock<Zones> = LazyLock::new(|| {
    let quirky = Zone { compat: true, ..zone("mesos", ZONE).0 };
    compiled(&[zone("corp", ZONE).0, quirky])
});

/// The zone in a text, and how much of it was refused.
pub fn zone(apex: &str, text: &str) -> (Zone, usize) {
    let mut rejected = Vec::new();
    let zone = static_zones::of_texts(apex, &CONFIG, [("fuzz".to_owned(), text.to_owned())], &mut rejected);
    (zone, rejected.len())
}

fn compiled(zones: &[Zone]) -> Zones {
    Zones::compile(zones, 1, HashKey::default())
}

/// What comes of a message with this much room, filled with whatever was there.
fn reply(message: &[u8], zones: &Zones, limit: Limit, filling: u8) -> Option<Vec<u8>> {
    let mut buffer = message.to_vec();
    buffer.resize(usize::from(u16::MAX), filling);
    match answer(&mut buffer, message.len(), zones, &TERMS, &ASKER, limit) {
        Reply::Answer { len, .. } => Some(buffer[..len].to_vec()),
        Reply::Drop(_) => {
            assert_eq!(buffer[..message.len()], *message, "a dropped query was changed");
            None
        }
    }
}

/// A message is answered or dropped, alike whatever lies behind it; an answer is whole, well formed, about the question and
/// no longer than it may be.
pub fn query(bytes: &[u8]) {
    let Some((first, message)) = bytes.split_first() else { return };
    let message = &message[..message.len().min(QUERY)];
    let limit = LIMITS[usize::from(first & 3)];
    let said = reply(message, &ZONES, limit, 0);
    assert_eq!(said, reply(message, &ZONES, limit, 0xa5), "octets behind the message make it different");
    let Some(said) = said else {
        assert!(message.len() < 12 || message[2] & 0x80 != 0, "a query was dropped");
        return;
    };
    let mut decoder = BinDecoder::new(&said);
    let read = Message::read(&mut decoder).unwrap_or_else(|error| panic!("{error}: {said:02x?} to {message:02x?}"));
    assert!(decoder.is_empty(), "octets behind the last record");
    assert_eq!((&said[..2], read.metadata.message_type), (&message[..2], MessageType::Response));
    assert_eq!(
        (said[2] & 0x79, said[3] & 0x70),
        (message[2] & 0x79, 0),
        "opcode and RD are kept, Z, AD and CD are not"
    );
    let most = match limit {
        Limit::Udp => 1232,
        Limit::Doubtful => (3 * message.len()).clamp(512, 1232),
        Limit::Slip => message.len().max(12) + OPT,
        Limit::Tcp => usize::from(u16::MAX),
    };
    assert!(said.len() <= most, "{} octets to {}", said.len(), message.len());
}

/// A master file is read or refused, and of what is read everything is served or listed.
pub fn master_file(bytes: &[u8]) {
    let Ok(text) = std::str::from_utf8(bytes) else { return };
    let (zone, rejected) = zone("corp", text);
    assert!(rejected <= text.len() + 1);
    let zones = compiled(std::slice::from_ref(&zone));
    for record in zone.records.iter().take(ASKED) {
        if zones.rejected().iter().all(|left_out| left_out.name != record.name) {
            served(record, &zones);
        }
    }
}

fn served(record: &Record, zones: &Zones) {
    let wire = name::from_text(&record.name).unwrap_or_else(|error| panic!("{}: {error}", record.name));
    let header = [0, 1, 0, 0, 0, 1, 0, 0, 0, 0, 0, 0];
    let message = [&header[..], &wire, &rtype(&record.data).to_be_bytes(), &[0, 1]].concat();
    let said = reply(&message, zones, Limit::Tcp, 0).unwrap_or_else(|| panic!("{record:?} is dropped"));
    let (flags, answers) = (said[2], u16::from_be_bytes([said[6], said[7]]));
    let is_cut = flags & 2 != 0;
    assert!(said[3] & 15 == 0 && (answers > 0 || is_cut), "{record:?}: {said:02x?}");
}

fn rtype(data: &RecordData) -> u16 {
    match data {
        RecordData::A(_) => 1,
        RecordData::Cname(_) => 5,
        RecordData::Ptr(_) => 12,
        RecordData::Mx { .. } => 15,
        RecordData::Txt(_) => 16,
        RecordData::Aaaa(_) => 28,
        RecordData::Srv { .. } => 33,
    }
}
