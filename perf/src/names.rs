//! The mix of questions that names are measured by: a quarter A, a quarter AAAA (half of them NODATA), a quarter SRV, an
//! eighth VIP names, an eighth names that do not exist, among 10,000 names or a million.

use std::net::{Ipv4Addr, Ipv6Addr};

use anyhow::Result;
use etherparse::PacketBuilder;
use sluice_config::model::{Record, RecordData, Zone};

use crate::traffic::{SHORTEST, client, client6};
use crate::world::{DNS, DNS6, OUR_MAC, ROUTER_MAC};

/// Names of a small cluster and of a large one.
pub const SMALL: u32 = 10_000;
/// See [`SMALL`].
pub const LARGE: u32 = 1_000_000;

/// Of eight names one is a VIP's; each of the others is a task's with A, every second of them with AAAA, and with SRV
/// at another name.
#[must_use]
pub fn zones(names: u32) -> Vec<Zone> {
    let tasks = tasks(names);
    let mut records = Vec::new();
    for n in 0..tasks {
        let name = task(n);
        let put = |name: String, data| Record { name, ttl: 60, data };
        records.push(put(name.clone(), RecordData::A(Ipv4Addr::from_bits(0x0a40_0000 + n))));
        if n % 2 == 0 {
            records.push(put(name.clone(), RecordData::Aaaa(Ipv6Addr::from_bits(0xfd01 << 112 | u128::from(n)))));
        }
        let target = RecordData::Srv { priority: 0, weight: 1, port: 31_000, target: name };
        records.push(put(service(n), target));
    }
    let vips = (0..names - 2 * tasks).map(|n| Record {
        name: vip(n),
        ttl: 5,
        data: RecordData::A(Ipv4Addr::from_bits(0x0b00_0000 + n)),
    });
    vec![
        Zone { records: records.into(), ..Zone::new("mesos", "ns1.mesos") },
        Zone { records: vips.collect(), ..Zone::new("thisdcos.directory", "ns.spartan") },
    ]
}

fn tasks(names: u32) -> u32 {
    names / 16 * 7
}

fn task(n: u32) -> String {
    format!("app-{n}.marathon.mesos")
}

fn service(n: u32) -> String {
    format!("_app-{n}._tcp.marathon.mesos")
}

fn vip(n: u32) -> String {
    format!("app-{n}.marathon.l4lb.thisdcos.directory")
}

/// Replaces `out` by question `n` of the mix, over IPv6 if `v6`.
///
/// # Errors
/// When a frame cannot be written, which is a defect of this file.
pub fn question(out: &mut Vec<u8>, n: u32, names: u32, v6: bool) -> Result<()> {
    // An odd multiplier permutes: names come in an order that no prefetcher guesses.
    let which = n.wrapping_mul(0x9e37_79b1);
    let any = which % tasks(names);
    let (name, qtype) = match n % 8 {
        0 | 4 => (task(any), 1),
        1 => (task(any & !1), 28),
        5 => (task(any | 1), 28),
        2 | 6 => (service(any), 33),
        3 => (vip(which % (names - 2 * tasks(names))), 1),
        _ => (format!("nosuch-{any}.marathon.mesos"), 1),
    };
    let mut message = Vec::with_capacity(80);
    message.extend((n as u16).to_be_bytes());
    // RFC 1035 section 4.1.1: RD; one question, and an OPT record as every resolver sends it.
    message.extend([1, 0, 0, 1, 0, 0, 0, 0, 0, 1]);
    for label in name.split('.') {
        message.push(label.len() as u8);
        message.extend(label.as_bytes());
    }
    message.push(0);
    message.extend([0, qtype, 0, 1, 0, 0, 41, 4, 208, 0, 0, 0, 0, 0, 0]);
    out.clear();
    let ethernet = PacketBuilder::ethernet2(ROUTER_MAC.0, OUR_MAC.0);
    let port = 40_000 + (n % 16_384) as u16;
    if v6 {
        let from = client6(n % 1024).0;
        ethernet.ipv6(from.octets(), DNS6.octets(), 64).udp(port, 53).write(out, &message)?;
    } else {
        let from = client(n % 1024).0;
        ethernet.ipv4(from.octets(), DNS.octets(), 64).udp(port, 53).write(out, &message)?;
    }
    out.resize(out.len().max(SHORTEST), 0);
    Ok(())
}
