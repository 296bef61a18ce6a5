//! What is looked at in one loop and sent off at once (`stage/express.rs`, `stage/balance/depart.rs`) ends as it does in
//! the stages one by one: those see the same packets behind an 802.1Q tag, which nothing of the short way takes.

use proptest::prelude::*;
use sluice_config::model::*;
use sluice_dataplane::verdict::DropReason;

use crate::common::*;
use crate::world::*;

/// Every mode with a VIP of its own; the last one refuses some clients, and one is for a group.
fn services() -> Vec<Service> {
    let vip = |n: usize, like: &str| if like == VIP { format!("172.16.1.{n}") } else { format!("fd01:c::1:{n}") };
    let mut services: Vec<_> =
        modes().iter().enumerate().map(|(n, (mode, like, to))| service_in(*mode, &vip(n, like), to)).collect();
    let datagrams = services.clone().into_iter().map(|mut service| {
        service.key.protocol = Protocol::Udp;
        service
    });
    services.extend(datagrams.collect::<Vec<_>>());
    let mut bounded = service_in(Mode::DsrGue, "172.16.1.99", &BACKENDS4);
    bounded.admission.deny = vec!["198.51.100.0/25".parse().unwrap()];
    let mut grouped = service_in(Mode::Nat, "172.16.1.98", &OVERLAY);
    grouped.backends[0].groups = vec!["blue".to_owned()];
    services.extend([bounded, grouped]);
    services.sort_by_key(|service| service.key);
    services
}

#[derive(Clone, Debug)]
struct Step {
    service: usize,
    client: u8,
    flags: &'static str,
    payload: usize,
    /// The backend's answer to the packet that leaves is sent as well.
    answered: bool,
    /// One octet behind the Ethernet header is spoiled, its header checksum made right again where that is asked.
    spoiled: Option<(prop::sample::Index, u8, bool)>,
    from: From,
}

/// Where a packet comes from.
#[derive(Clone, Copy, Debug)]
enum From {
    /// A client outside.
    Outside,
    /// A container, to the service.
    Container,
    /// A container, to another one: nothing is balanced.
    ToContainer,
    /// A client with a question.
    Question,
}

fn steps() -> impl Strategy<Value = Vec<Vec<Step>>> {
    let flags = prop::sample::select(vec!["S", "A", "A", "A", "FA", "SA", "F", "R", ""]);
    let from = prop::sample::select(vec![
        From::Outside,
        From::Outside,
        From::Outside,
        From::Outside,
        From::Container,
        From::ToContainer,
        From::Question,
    ]);
    let spoiled = prop::option::weighted(0.3, (any::<prop::sample::Index>(), 1u8.., any::<bool>()));
    let payload = prop::sample::select(vec![0, 7, 1000, 1410, 1440]);
    let step = (0usize..64, 0u8..6, flags, payload, any::<bool>(), spoiled, from);
    let step = step.prop_map(|(service, client, flags, payload, answered, spoiled, from)| Step {
        service,
        client,
        flags,
        payload,
        answered,
        spoiled,
        from,
    });
    prop::collection::vec(prop::collection::vec(step, 1..12), 1..8)
}

fn packet(step: &Step, services: &[Service]) -> Vec<u8> {
    let key = services[step.service % services.len()].key;
    let from = match key.ip.is_ipv4() {
        true => format!("198.51.100.{}", 100 + 20 * step.client),
        false => format!("2001:db8:ffff::{}", step.client),
    };
    let port = 5000 + u16::from(step.client);
    let (inside, to) = (("9.0.1.2", port), (&*key.ip.to_string(), key.port));
    let mut packet = match step.from {
        From::Container if key.ip.is_ipv4() => return vxlan(1, 1024, &tcp(inside, to, step.flags)),
        From::ToContainer => return vxlan(1, 1024, &tcp(inside, ("9.0.2.2", 80), step.flags)),
        From::Question => udp(("198.51.100.200", port), ("198.51.100.1", 53), &QUESTION),
        From::Outside | From::Container if key.protocol == Protocol::Udp && key.ip.is_ipv4() => {
            udp((&from, port), to, &vec![7; step.payload])
        }
        From::Outside | From::Container => segment((&from, port), to, step.flags, &[], step.payload),
    };
    if let Some((at, by, mended)) = step.spoiled {
        let at = 14 + at.index((packet.len() - 14).min(60));
        packet[at] ^= by;
        if mended && key.ip.is_ipv4() && packet[14] == 0x45 {
            let sum =
                etherparse::Ipv4Header::from_slice(&packet[14..]).map(|(header, _)| header.calc_header_checksum());
            packet[24..26].copy_from_slice(&sum.unwrap_or_default().to_be_bytes());
        }
    }
    packet
}

/// For the addresses of `nosuch.mesos` (RFC 1035 section 4.1).
const QUESTION: [u8; 30] = *b"\0\x07\x01\0\0\x01\0\0\0\0\0\0\x06nosuch\x05mesos\0\0\x01\0\x01";

/// What the receiver sends back: both ends of every header change places, and all sums stay right.
fn answer(packet: &[u8]) -> Vec<u8> {
    let mut back = packet.to_vec();
    let (l3, address) = if packet[12..14] == [8, 0] { (26, 4) } else { (22, 16) };
    let swap = |back: &mut Vec<u8>, at: usize, n: usize| {
        (0..n).for_each(|i| back.swap(at + i, at + n + i));
    };
    swap(&mut back, 0, 6);
    swap(&mut back, l3, address);
    swap(&mut back, l3 + 2 * address, 2);
    back
}

const TAG: [u8; 4] = [0x81, 0, 0, 7];

fn tagged(packet: &[u8]) -> Vec<u8> {
    [&packet[..12], &TAG, &packet[12..]].concat()
}

/// The tag is kept towards the port that it came by.
fn untagged(port: usize, packet: &[u8]) -> Vec<u8> {
    assert_eq!(packet[12..16] == TAG, port == 0, "by port {port}");
    if port == 0 { [&packet[..12], &packet[16..]].concat() } else { packet.to_vec() }
}

/// What leaves by the card, in order, and everything that was counted of drops, sessions and services.
fn outcome(machine: &Machine) -> Vec<u64> {
    let count = |reason: &DropReason| machine.drops(*reason);
    let mut counts: Vec<_> = DropReason::ALL.iter().map(count).collect();
    counts.push(machine.total(|c| c.sessions.get()));
    counts.push(machine.total(|c| c.unremembered.get()));
    counts.push(machine.total(|c| c.mss_clamped.get()));
    counts.extend((0..32).map(|n| machine.total(|c| c.services[n].get())));
    counts
}

fn compare(workers: usize, room: usize, bursts: &[Vec<Step>]) {
    let services = services();
    let desired = || {
        let mut desired = cluster(workers, services.clone());
        desired.local.snat_overlay = vec![ip("9.0.9.2")];
        desired
    };
    let mut short = Machine::with_room(desired(), room);
    let mut long = Machine::with_room(desired(), room);
    for burst in bursts {
        let mut packets: Vec<_> = burst.iter().map(|step| packet(step, &services)).collect();
        // Twice: their answers go with the next burst.
        for _ in 0..2 {
            let direct = short.feed(0, 0, &packets);
            let through: Vec<_> = packets.iter().map(|packet| tagged(packet)).collect();
            let through: Vec<_> =
                long.feed(0, 0, &through).into_iter().map(|(port, p)| (port, untagged(port, &p))).collect();
            assert_eq!(direct, through);
            assert_eq!(outcome(&short), outcome(&long));
            let answered = burst.iter().zip(&direct).filter(|(step, _)| step.answered);
            packets = answered.map(|(_, (_, sent))| answer(sent)).collect();
        }
        for machine in [&mut short, &mut long] {
            machine.now.0 += 3_000_000_000;
        }
    }
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(96))]

    #[test]
    fn the_short_way_ends_as_the_long_one(bursts in steps()) {
        compare(1, 1000, &bursts);
    }

    #[test]
    fn the_short_way_ends_as_the_long_one_between_workers(bursts in steps()) {
        compare(3, 1000, &bursts);
    }

    #[test]
    fn the_short_way_ends_as_the_long_one_without_sessions(bursts in steps()) {
        compare(1, 0, &bursts);
    }
}

#[test]
fn flows_between_containers_leave_by_outer_ports_of_their_own() {
    let mut machine = Machine::new(desired(1));
    let mut outer = |port| {
        let out = machine.pass(0, vxlan(1, 1024, &tcp(("9.0.1.2", port), ("9.0.2.2", 80), "A")));
        [out[34], out[35]]
    };
    let ports: std::collections::BTreeSet<_> = (5000..5032).map(&mut outer).collect();
    assert!(ports.len() > 20, "{ports:?}");
    assert_eq!(outer(5000), outer(5000));
}
