//! The usual answer, put together in one go, is octet for octet what the careful way makes of the same question.

use std::net::{Ipv4Addr, Ipv6Addr};
use std::sync::Arc;

use etherparse::PacketBuilder;
use proptest::prelude::*;
use sluice_config::model::{Desired, Local, LocalDns, LocalPort, Mac, RecordData, Role, Shared, Zone};

use super::super::guard::Guard;
use super::super::run;
use super::{additional, opt_record};
use crate::burst::{Action, Burst, Out, Packet, Tuple};
use crate::counters::Counters;
use crate::frame::Pool;
use crate::tables::Tables;
use crate::tables::hash::HashKey;
use crate::tables::ids::Ids;
use crate::tables::zone::tests::{KEY, test_zones, zone};
use crate::time::Nanos;
use crate::verdict::Verdict;
use crate::wire::name::from_text;

const NAMES: [&str; 16] = [
    "app.marathon.mesos",
    "both.marathon.mesos",
    "three.marathon.mesos",
    "many.marathon.mesos",
    "nx.marathon.mesos",
    "deep.mesos",
    "mesos",
    "one.srv",
    "odd.srv",
    "several.srv",
    "text.srv",
    "alias.srv",
    "x.wild.srv",
    "nothing.at.all.srv",
    "web.marathon.l4lb.thisdcos.directory",
    "example.org",
];

/// None, NSID, a cookie, and a client's subnet.
const OPTIONS: [&[u8]; 4] = [b"", b"\0\x03\0\0", b"\0\x0a\0\x08abcdefgh", b"\0\x08\0\x04\0\x01\0\0"];

fn zones() -> Vec<Zone> {
    let srv = |target: &str| RecordData::Srv { priority: 0, weight: 1, port: 31_000, target: target.to_owned() };
    let aaaa = |last: u16| RecordData::Aaaa(Ipv6Addr::new(0xfd00, 0, 0, 0, 0, 0, 0, last));
    let mut records = vec![
        ("one.srv", srv("both.srv")),
        ("odd.srv", srv("od.both.srv")),
        ("several.srv", srv("both.srv")),
        ("several.srv", srv("many.srv")),
        ("text.srv", RecordData::Txt(vec![b"odd".to_vec()])),
        ("alias.srv", RecordData::Cname("both.srv".to_owned())),
        ("*.wild.srv", srv("many.srv")),
        ("both.srv", RecordData::A(Ipv4Addr::new(10, 1, 0, 1))),
        ("both.srv", aaaa(1)),
        ("od.both.srv", aaaa(2)),
        ("od.both.srv", aaaa(3)),
    ];
    records.extend((0..20).map(|n| ("many.srv", RecordData::A(Ipv4Addr::new(10, 2, 0, n)))));
    let mut zones = test_zones();
    zones.push(zone("srv", &records));
    zones
}

fn tables(mtu: u16, edns_max: u16, recursion_available: bool) -> Tables {
    let mac = Mac([2, 0, 0, 0, 0, 1]);
    let port =
        LocalPort { name: "a".into(), mac, addresses: vec![], addresses6: vec![], mtu, role: Role::Both, arp: true };
    let trusted = vec!["198.51.100.0/24".parse().unwrap(), "fd00::/8".parse().unwrap()];
    let dns = LocalDns { trusted, edns_max, recursion_available, nsid: "here".to_owned(), ..LocalDns::default() };
    let local = Local { ports: vec![port], soa_serial: 2024, dns, ..Local::default() };
    let shared = Shared { hash_key: KEY, zones: Arc::new(zones()), ..Shared::default() };
    Tables::compile(&Arc::new(Desired { shared, local }), &mut Ids::new(8, 8, 60), Nanos(0), None).unwrap()
}

fn packet(pool: &mut Pool, message: &[u8], v6: bool) -> Packet {
    let mut bytes = Vec::new();
    let ethernet = PacketBuilder::ethernet2([4; 6], [2, 0, 0, 0, 0, 1]);
    let (client, server) = ([0xfd; 16], [0xfc; 16]);
    if v6 {
        ethernet.ipv6(client, server, 9).udp(4000, 53).write(&mut bytes, message).unwrap();
    } else {
        ethernet.ipv4([198, 51, 100, 2], [198, 51, 100, 1], 9).udp(4000, 53).write(&mut bytes, message).unwrap();
    }
    let mut packet = Packet::received(pool.take_copy(&bytes).unwrap(), 0);
    packet.l3 = 14;
    packet.l4 = if v6 { 54 } else { 34 };
    packet.ip_len = (bytes.len() - 14) as u16;
    packet.v6 = v6;
    packet.tuple = Tuple { sport: 4000, dport: 53, protocol: 17, ..Tuple::default() };
    if v6 {
        packet.ends6 = (u128::from_be_bytes(client), u128::from_be_bytes(server));
    } else {
        (packet.tuple.src, packet.tuple.dst) =
            (u32::from_be_bytes([198, 51, 100, 2]), u32::from_be_bytes([198, 51, 100, 1]));
    }
    packet.action = Action::Dns;
    packet
}

/// What becomes of a question: its frame behind the Ethernet addresses, and whether it went the short way. What came with
/// tags goes the long one.
fn through(message: &[u8], v6: bool, tables: &Tables, tagged: u8) -> (Vec<u8>, bool, Verdict) {
    let mut pool = Pool::heap(1, 2048);
    let mut burst = Burst::new();
    burst.push(packet(&mut pool, message, v6));
    burst[0].tagged = tagged;
    let counters = Counters::new(1, 1, 1);
    run(&mut burst, &mut pool, tables, &counters, &mut Guard::new(HashKey::new(KEY)), Nanos(0));
    let packet = &burst[0];
    let answered: u64 = counters.dns.iter().map(crate::counters::Counter::get).sum();
    assert_eq!(answered == 1, !matches!(packet.verdict, Verdict::Drop(_)));
    let short = packet.verdict == Verdict::Transmit(0);
    let verdict = if short || packet.out == Out::Back { Verdict::Pending } else { packet.verdict };
    (pool.bytes(&packet.frame)[12..].to_vec(), short, verdict)
}

fn question(name: &str, qtype: u16, id: u16, upper: u64, flags: u8) -> Vec<u8> {
    let mut wire = from_text(name).unwrap();
    for (at, octet) in wire.iter_mut().enumerate().filter(|(at, _)| upper >> (at % 64) & 1 == 1) {
        if octet.is_ascii_lowercase() && at > 0 {
            octet.make_ascii_uppercase();
        }
    }
    let [i, j] = id.to_be_bytes();
    let header = [i, j, flags, 0, 0, 1, 0, 0, 0, 0, 0, 0];
    [&header, &wire[..], &qtype.to_be_bytes(), &[0, 1]].concat()
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(2_000))]

    #[test]
    fn the_usual_answer_is_the_careful_one(
        name in prop::sample::select(&NAMES[..]),
        qtype in prop::sample::select(&[1u16, 28, 33, 16, 5, 6, 2, 255, 252, 0, 666][..]),
        (id, upper, rd, v6, ra) in any::<(u16, u64, bool, bool, bool)>(),
        opt in prop::option::of((
            prop::sample::select(&[0u16, 512, 600, 1232, 4096][..]), any::<bool>(), 0u8..2,
            prop::sample::select(&OPTIONS[..]),
        )),
        mtu in prop::sample::select(&[1500u16, 576, 200][..]),
        edns_max in prop::sample::select(&[1232u16, 4096, 512][..]),
        change in prop::option::of((any::<prop::sample::Index>(), any::<u8>())),
    ) {
        let mut message = question(name, qtype, id, upper, u8::from(rd));
        if let Some((size, dnssec_ok, version, options)) = opt {
            let flags = if dnssec_ok { 0x80 } else { 0 };
            message = additional(message, &opt_record(size, [0, version / 2, flags, 0], options));
        }
        if let Some((at, octet)) = change {
            let at = at.index(message.len());
            message[at] = octet;
        }
        let tables = tables(mtu, edns_max, ra);
        let (short, _, verdict) = through(&message, v6, &tables, 0);
        let (long, was_short, expected) = through(&message, v6, &tables, 4);
        prop_assert!(!was_short);
        prop_assert_eq!((short, verdict), (long, expected));
    }
}

#[test]
fn most_answers_go_the_short_way() {
    let tables = tables(1500, 1232, true);
    let short = |name: &str, qtype: u16| through(&question(name, qtype, 7, 0, 1), false, &tables, 0).1;
    let usual = [("app.marathon.mesos", 1), ("three.marathon.mesos", 1), ("app.marathon.mesos", 28), ("odd.srv", 33)];
    assert!(usual.iter().all(|(name, qtype)| short(name, *qtype)) && short("nx.marathon.mesos", 1));
    let special = [("several.srv", 33), ("alias.srv", 1), ("many.marathon.mesos", 1), ("example.org", 1)];
    assert!(special.iter().all(|(name, qtype)| !short(name, *qtype)));
}
