//! Fragments through the whole turn: they follow their first one, whenever it comes and wherever it goes; books and
//! frames are checked after every step, those that wait included.
#![allow(clippy::unwrap_used, clippy::panic, reason = "clippy knows only #[test] functions as tests")]

mod common;

use common::parts::*;
use common::six::*;
use common::*;
use etherparse::{Ipv4Header, PacketBuilder};
use proptest::prelude::*;
use sluice_config::model::*;
use sluice_dataplane::time::Nanos;
use sluice_dataplane::verdict::DropReason as R;

fn payload(octets: usize) -> Vec<u8> {
    (0..octets).map(|n| n as u8).collect()
}

fn question(port: u16) -> Vec<u8> {
    udp((CLIENT, port), (VIP, 53), &payload(400))
}

fn frames(left: Vec<(usize, Vec<u8>)>) -> Vec<Vec<u8>> {
    left.into_iter().inspect(|(port, _)| assert_eq!(*port, 0)).map(|(_, packet)| packet).collect()
}

fn held(machine: &Machine) -> u64 {
    machine.total(|c| c.held.get())
}

#[test]
fn a_datagram_in_fragments_is_the_same_datagram_on_both_ways() {
    let mut machine = Machine::new(desired(1));
    let there = frames(machine.feed(0, 0, &split(&question(5000), 7, &[8, 104, 200])));
    assert_eq!(there.len(), 4);
    let joined = join(&there);
    check_sums(&joined);
    let ((snat, port), (backend, 5353)) = ends(&joined) else { panic!() };
    assert_eq!((snat.as_str(), joined[22], &joined[42..]), ("10.0.0.100", 63, &payload(400)[..]));
    assert!(there.iter().all(|f| f[..6] == AGENT[0].0));
    let answer = udp((&backend, 5353), (&snat, port), &payload(3000));
    let back = join(&frames(machine.feed(0, 0, &split(&answer, 9, &[1480, 2960]))));
    check_sums(&back);
    assert_eq!(ends(&back), ((VIP.into(), 53), (CLIENT.into(), 5000)));
    assert_eq!(machine.total(|c| c.fragments_followed.get()), 5);
    assert_eq!(machine.total(|c| c.fragments_waited.get()), 0);
    assert_eq!(machine.total(|c| c.sessions_made.get()), 1);
}

#[test]
fn clients_that_number_alike_are_told_apart_behind_one_address() {
    let mut machine = Machine::new(desired(1));
    let from = |client: &str, id| split(&udp((client, 5000), (VIP, 53), &payload(400)), id, &[104]);
    let mut ids = |client: &str, id| {
        let left = frames(machine.feed(0, 0, &from(client, id)));
        check_sums(&join(&left));
        u16::from_be_bytes([left[0][18], left[0][19]])
    };
    let (first, second) = (ids("192.0.2.10", 1), ids("192.0.2.10", 2));
    assert_eq!(second, first.wrapping_add(1), "a client's own numbers stay apart");
    assert_ne!(ids("192.0.2.11", 1), first);
}

#[test]
fn fragments_that_come_before_the_first_wait_for_it() {
    let mut machine = Machine::new(desired(1));
    let mut parts = split(&question(5000), 7, &[8, 104, 200]);
    parts.reverse();
    assert_eq!(machine.feed(0, 0, &parts[..2]), []);
    assert_eq!(held(&machine), 2);
    assert_eq!(machine.feed(0, 0, &parts[2..3]), []);
    assert_eq!(held(&machine), 3);
    let left = frames(machine.feed(0, 0, &parts[3..]));
    assert_eq!((left.len(), held(&machine)), (4, 0));
    assert_eq!(left[0].len(), 14 + 20 + 8, "the first goes first");
    check_sums(&join(&left));
    assert_eq!(machine.total(|c| c.fragments_waited.get()), 3);
}

#[test]
fn what_waits_is_given_up_in_time() {
    let mut machine = Machine::new(desired(1));
    let parts = split(&question(5000), 7, &[8, 104, 200]);
    machine.feed(0, 0, &parts[1..]);
    assert_eq!(held(&machine), 3);
    for seconds in [2, 3, 4] {
        machine.now = Nanos::from_seconds(seconds);
        // Sweeping goes on in turns that receive nothing.
        for _ in 0..1000 {
            machine.settle();
        }
    }
    machine.check_books();
    machine.check_frames();
    assert_eq!((machine.drops(R::FragmentNoFirst), held(&machine)), (3, 0));
    // The rest of the datagram comes too late, and is sent all the same: who gives up is the receiver.
    assert_eq!(machine.feed(0, 0, &parts[..1]).len(), 1);
}

#[test]
fn a_flood_of_later_fragments_takes_an_eighth_of_the_frames_at_most() {
    let mut machine = Machine::new(desired(1));
    for id in 0..1000 {
        let parts = split(&question(5000), id, &[8, 104]);
        assert_eq!(machine.feed(0, 0, &parts[1..2]), []);
    }
    assert_eq!(held(&machine), 512 / 16);
    assert_eq!(machine.drops(R::FragmentsFull), 1000 - 32);
    let parts = split(&question(5001), 7777, &[8, 104]);
    assert_eq!(machine.feed(0, 0, &parts).len(), 3, "in order they need no room");
    machine.pass(0, tcp((CLIENT, 5000), (VIP, 80), "S"));
}

#[test]
fn what_is_not_for_us_does_not_wait() {
    let mut machine = Machine::new(desired(1));
    let parts = split(&udp((CLIENT, 5000), ("10.0.0.77", 53), &payload(400)), 7, &[104]);
    machine.refuse(0, 0, parts[1].clone(), R::NotForUs);
    machine.refuse(0, 0, parts[0].clone(), R::NotForUs);
    let spoofed = split(&udp(("9.0.1.7", 5000), (VIP, 53), &payload(400)), 7, &[104]);
    for part in spoofed {
        machine.refuse(0, 0, part, R::OverlaySpoof);
    }
    let ours = split(&udp((VIP, 5000), (VIP, 53), &payload(400)), 7, &[104]);
    machine.refuse(0, 0, ours[1].clone(), R::Martian);
}

#[test]
fn fragments_find_the_worker_that_has_the_flow_or_the_port() {
    for there in [0, 1, 2] {
        let mut machine = Machine::new(desired(3));
        let whole = machine.pass(there, question(5000));
        let (snat, backend) = ends(&whole);
        for (id, at) in [0, 1, 2].into_iter().enumerate() {
            let parts = split(&question(5000), id as u16, &[8, 104, 200]);
            let joined = join(&frames(machine.feed(at, 0, &parts)));
            assert_eq!(ends(&joined), (snat.clone(), backend.clone()), "flow on {there}, fragments at {at}");
            check_sums(&joined);
            let answer = udp((&backend.0, backend.1), (&snat.0, snat.1), &payload(400));
            // In the reverse order, the later ones wait where they arrived.
            let mut parts = split(&answer, id as u16, &[8, 104, 200]);
            parts.reverse();
            let joined = join(&frames(machine.feed(at, 0, &parts)));
            assert_eq!(ends(&joined), ((VIP.into(), 53), (CLIENT.into(), 5000)));
            check_sums(&joined);
        }
        assert_eq!(machine.total(|c| c.sessions.get()), 1);
        // Four of a request with one step, four with two; four replies each from two workers.
        assert_eq!(machine.total(|c| c.given.get()), 4 + 8 + 8);
    }
}

#[test]
fn a_flow_that_begins_in_fragments_begins_where_its_round_ends() {
    let mut machine = Machine::new(desired(3));
    for id in 0..2 {
        let left = frames(machine.feed(1, 0, &split(&question(5000), id, &[8, 104, 200])));
        check_sums(&join(&left));
    }
    let made: Vec<_> = machine.workers.iter().map(|w| w.counters().sessions_made.get()).collect();
    assert_eq!(made, [1, 0, 0]);
    assert_eq!(machine.total(|c| c.given.get()), 16);
}

#[test]
fn later_fragments_are_dropped_for_the_reason_of_the_first() {
    let mut with_sctp = desired(2);
    with_sctp.shared.services.push(service(Protocol::Sctp, VIP, 53, vec![backend("10.0.0.11:5353", None)]));
    let mut machine = Machine::new(with_sctp);
    let dns = || udp((CLIENT, 5000), ("198.51.100.1", 53), &payload(400));
    let outer = || vxlan(1, 1024, &udp(("9.0.1.7", 5000), (VIP, 53), &payload(400)));
    for (sentence, datagram, reason) in [
        ("no such service", udp((CLIENT, 5000), (VIP, 54), &payload(400)), R::NoService),
        ("to DNS", dns(), R::Fragment),
        ("VXLAN itself", outer(), R::VxlanFragment),
        ("from no backend", udp(("10.0.0.11", 5000), ("10.0.0.100", 2000), &payload(400)), R::SnatUnknown),
        ("SCTP", sctp(), R::FragmentSctp),
    ] {
        println!("{sentence}");
        let parts = split(&datagram, 7, &[104, 200]);
        let before = machine.drops(reason);
        assert_eq!(machine.feed(0, 0, &parts), []);
        assert_eq!((machine.drops(reason) - before, held(&machine)), (3, 0));
        let mut parts = split(&datagram, 8, &[104, 200]);
        parts.reverse();
        assert_eq!(machine.feed(0, 0, &parts), []);
        assert_eq!((machine.drops(reason) - before, held(&machine)), (6, 0));
    }
}

/// UDP's fields where SCTP has its own, which is enough to be refused.
fn sctp() -> Vec<u8> {
    let mut packet = question(5000);
    packet[23] = 132;
    packet
}

#[test]
fn fragments_that_nobody_sends_have_their_own_reasons() {
    let mut machine = Machine::new(quiet(desired(1)));
    let parts = split(&tcp((CLIENT, 5000), (VIP, 80), "S"), 7, &[24]);
    let edit = |part: &[u8], edits: &[(usize, u8)]| {
        let mut packet = part.to_vec();
        edits.iter().for_each(|(at, octet)| packet[*at] = *octet);
        let sum = Ipv4Header::from_slice(&packet[14..]).unwrap().0.calc_header_checksum();
        packet[24..26].copy_from_slice(&sum.to_be_bytes());
        packet
    };
    for (sentence, packet, reason) in [
        ("over the TCP flags", edit(&parts[1], &[(21, 1)]), R::FragmentTiny),
        ("a first one of 16 octets", split(&tcp((CLIENT, 5000), (VIP, 80), "S"), 7, &[16])[0].clone(), R::FragmentTiny),
        ("no multiple of 8", edit(&parts[1], &[(20, 0x20)]), R::FragmentLength),
        ("the ping of death", edit(&parts[1], &[(20, 0x1f), (21, 0xff)]), R::FragmentLength),
    ] {
        println!("{sentence}");
        machine.refuse(0, 0, packet, reason);
    }
    machine.refuse(0, 0, edit(&parts[0], &[(22, 1)]), R::TtlExpired);
    machine.feed(0, 0, &split(&question(5000), 9, &[104])[..1]);
    machine.refuse(0, 0, edit(&split(&question(5000), 9, &[104])[1], &[(22, 1)]), R::TtlExpired);
}

/// A backend-less service refuses, a TTL runs out, the way is too narrow: the first fragment is answered, the others end.
#[test]
fn of_a_datagram_that_is_refused_the_first_fragment_alone_is_answered() {
    let mut closed = desired(1);
    closed.shared.services.push(service(Protocol::Udp, VIP, 82, vec![]));
    closed.local.ports[0].mtu = 1400;
    let answer = |machine: &mut Machine, parts: &[Vec<u8>], kind: [u8; 2], reason: R| {
        let in_order = frames(machine.feed(0, 0, parts));
        let late: Vec<_> = parts.iter().map(|part| with_id(part, 99)).rev().collect();
        let left = [in_order, frames(machine.feed(0, 0, &late))].concat();
        assert_eq!(left.len(), 2, "{reason:?}");
        assert!(left.iter().all(|error| error[23] == 1 && error[34..36] == kind));
        assert_eq!((machine.drops(reason), held(machine)), (4, 0));
    };
    let to_closed = split(&udp((CLIENT, 5000), (VIP, 82), &payload(400)), 7, &[104, 200]);
    answer(&mut Machine::new(closed.clone()), &to_closed, [3, 3], R::NoBackend);
    let mut old = question(5000);
    old[22] = 1;
    answer(&mut Machine::new(closed.clone()), &split(&old, 7, &[104, 200]), [11, 0], R::TtlExpired);
    // Whoever fragments has not set DF, so what is too big is not told.
    let big = split(&udp((CLIENT, 5000), (VIP, 53), &payload(1800)), 7, &[1480, 1600]);
    let mut machine = Machine::new(closed);
    assert_eq!(machine.feed(0, 0, &big), []);
    assert_eq!(machine.drops(R::TooBig), 3);
}

/// The same fragment of another datagram.
fn with_id(part: &[u8], id: u16) -> Vec<u8> {
    let (mut header, payload) = Ipv4Header::from_slice(&part[14..]).unwrap();
    header.identification = id;
    header.header_checksum = header.calc_header_checksum();
    [&part[..14], &header.to_bytes()[..], payload].concat()
}

#[test]
fn sources_are_asked_about_every_fragment() {
    let mut machine = Machine::new(desired(1));
    let parts = split(&question(5000), 7, &[104, 200]);
    assert_eq!(machine.feed(0, 0, &parts[..2]).len(), 2);
    let mut denied = desired(1);
    for service in denied.shared.services.iter_mut() {
        service.admission.deny = vec![format!("{CLIENT}/32").parse().unwrap()];
    }
    machine.publish(denied);
    machine.refuse(0, 0, parts[2].clone(), R::AdmissionSource);
}

#[test]
fn policy_is_asked_about_every_fragment() {
    let club = vec!["club".to_string()];
    let mut grouped = desired(1);
    let member = |address: &str| Container { ip: v4(address), network: "dcos".into(), groups: club.clone() };
    grouped.shared.containers = vec![member("9.0.2.2"), member("9.0.2.3")];
    let wrap = |parts: &[Vec<u8>]| parts.iter().map(|p| vxlan(1, 1024, p)).collect::<Vec<_>>();
    let parts = |id| wrap(&split(&udp(("9.0.1.7", 7000), ("9.0.2.3", 80), &payload(400)), id, &[104, 200]));
    let mut machine = Machine::new(desired(1));
    assert_eq!(machine.feed(0, 0, &parts(1)).len(), 3, "between containers of two agents");
    assert_eq!(machine.feed(0, 0, &parts(2)[..2]).len(), 2);
    machine.publish(grouped);
    machine.refuse(0, 0, parts(2)[2].clone(), R::GroupDenied);
    assert_eq!(machine.feed(0, 0, &parts(3)), []);
    assert_eq!(machine.drops(R::GroupDenied), 4);
    // Waiting is no way round it.
    let mut late = parts(4);
    late.reverse();
    assert_eq!(machine.feed(0, 0, &late), []);
    assert_eq!((machine.drops(R::GroupDenied), held(&machine)), (7, 0));
}

#[test]
fn fragments_pass_tunnels_and_new_tables() {
    let mut machine = Machine::new(desired(1));
    let mut with_udp = desired(1);
    with_udp.shared.services.push(service(Protocol::Udp, NAMED, 53, vec![backend("9.0.1.2:53", Some("dcos"))]));
    machine.publish(with_udp.clone());
    let request = udp(("9.0.2.7", 7000), (NAMED, 53), &payload(400));
    let parts: Vec<_> = split(&request, 7, &[104, 200]).iter().map(|p| vxlan(2, 1024, p)).collect();
    let mut left = machine.feed(0, 0, &parts[..2]);
    // Hops and agents are numbered anew.
    with_udp.shared.agents.remove(1);
    with_udp.shared.agents.insert(0, OverlayAgent { ip: ip("10.0.0.12"), ..desired(1).shared.agents[1].clone() });
    with_udp.local.neighbours.reverse();
    machine.publish(with_udp);
    left.extend(machine.feed(0, 0, &parts[2..]));
    let there = frames(left);
    assert!(there.iter().all(|f| ends(f).1 == ("10.0.0.11".into(), 64000) && f[..6] == AGENT[0].0));
    let ports: Vec<_> = there.iter().map(|f| ends(f).0.1).collect();
    assert!(ports.iter().all(|port| *port == ports[0]), "one path for one datagram");
    let inner = join(&there.iter().map(|f| f[50..].to_vec()).collect::<Vec<_>>());
    check_sums(&inner);
    let (snat, backend) = ends(&inner);
    let answer = udp((&backend.0, 53), (&snat.0, snat.1), &payload(800));
    let parts: Vec<_> = split(&answer, 7, &[104, 600]).iter().map(|p| vxlan(1, 1024, p)).collect();
    let back = frames(machine.feed(0, 0, &parts));
    let inner = join(&back.iter().map(|f| f[50..].to_vec()).collect::<Vec<_>>());
    check_sums(&inner);
    assert_eq!(ends(&inner), ((NAMED.into(), 53), ("9.0.2.7".into(), 7000)));
}

#[test]
fn a_long_ping_is_answered_and_what_is_the_kernels_goes_there() {
    let mut machine = Machine::new(desired(1));
    let mut echo = vec![];
    PacketBuilder::ethernet2(ROUTER.0, OURS.0)
        .ipv4(ip(CLIENT).octets(), ip(VIP).octets(), 64)
        .icmpv4_echo_request(1, 2)
        .write(&mut echo, &payload(2000))
        .unwrap();
    let mut parts = split(&echo, 7, &[1480]);
    parts.reverse();
    let answer = join(&frames(machine.feed(0, 0, &parts)));
    check_sums(&answer);
    assert_eq!((&answer[26..30], &answer[30..34], answer[34]), (&ip(VIP).octets()[..], &ip(CLIENT).octets()[..], 0));
    let to_us = udp((CLIENT, 5000), ("10.0.0.9", 53), &payload(400));
    let left = machine.feed(0, 0, &split(&to_us, 7, &[104]));
    assert!(left.len() == 2 && left.iter().all(|(port, packet)| *port == 1 && packet[22] == 64));
}

/// As [`split`], IPv6.
fn split6(frame: &[u8], id: u32, cuts: &[usize]) -> Vec<Vec<u8>> {
    let payload = &frame[54..];
    let bounds: Vec<usize> = [0].iter().chain(cuts).copied().chain([payload.len()]).collect();
    let part = |window: &[usize]| {
        let (from, to) = (window[0], window[1]);
        let mut part = frame[..54].to_vec();
        part[18..20].copy_from_slice(&((to - from + 8) as u16).to_be_bytes());
        let offset = from as u16 | u16::from(to < payload.len());
        part.extend([part[20], 0]);
        part[20] = 44;
        part.extend(offset.to_be_bytes());
        part.extend(id.to_be_bytes());
        part.extend(&payload[from..to]);
        part
    };
    bounds.windows(2).map(part).collect()
}

#[test]
fn fragments_of_ipv6_follow_their_first_one() {
    let mut machine = Machine::new(desired6(2));
    let mut request = vec![];
    PacketBuilder::ethernet2(ROUTER.0, OURS.0)
        .ipv6(ip6(CLIENT6).octets(), ip6(VIP6).octets(), 64)
        .udp(5000, 53)
        .write(&mut request, &payload(400))
        .unwrap();
    let whole = machine.pass(0, request.clone());
    for (id, reversed) in [(1, false), (2, true)] {
        let mut parts = split6(&request, id, &[8, 104, 200]);
        // Worker 1 does not have the session.
        if reversed {
            parts.reverse();
        }
        let left = frames(machine.feed(1, 0, &parts));
        let renumbered = u32::from_be_bytes(left[0][58..62].try_into().unwrap());
        let mut expected = split6(&whole, renumbered, &[8, 104, 200]);
        if reversed {
            expected[1..].reverse();
        }
        assert_eq!(left, expected, "reversed: {reversed}");
    }
    assert_eq!((machine.total(|c| c.given.get()), held(&machine)), (8, 0));
    let mut unknown = split6(&request, 3, &[8, 104, 200]);
    machine.feed(0, 0, &unknown.split_off(1));
    assert_eq!(held(&machine), 3);
}

/// A few clients' datagrams in fragments, each client known to worker 0.
fn several() -> (Machine, Vec<Vec<u8>>) {
    let mut machine = Machine::new(desired(2));
    let mut parts = vec![];
    for n in 0..3u16 {
        let there = machine.pass(0, question(5000 + n));
        let ((snat, port), (backend, backend_port)) = ends(&there);
        parts.extend(split(&question(5000 + n), n, &[8, 104, 200]));
        parts.extend(split(&udp((&backend, backend_port), (&snat, port), &payload(200)), n, &[16, 104]));
    }
    (machine, parts)
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(64))]

    #[test]
    fn in_any_order_the_same_packets_leave(
        order in Just((0..21usize).collect::<Vec<_>>()).prop_shuffle(), bursts in prop::collection::vec(1usize..8, 21), worker in 0usize..2,
    ) {
        let (mut machine, parts) = several();
        let mut expected = frames(machine.feed(worker, 0, &parts));
        prop_assert_eq!(expected.len(), 21);
        let (mut machine, parts) = several();
        let mut shuffled = order.iter().map(|n| parts[*n].clone());
        let mut left = vec![];
        for burst in bursts {
            left.extend(frames(machine.feed(worker, 0, &shuffled.by_ref().take(burst).collect::<Vec<_>>())));
        }
        left.extend(frames(machine.feed(worker, 0, &shuffled.collect::<Vec<_>>())));
        expected.sort();
        left.sort();
        prop_assert_eq!(left, expected);
        prop_assert_eq!(held(&machine), 0);
    }

    #[test]
    fn whatever_comes_the_books_balance_and_nothing_waits_for_ever(
        packets in prop::collection::vec((0usize..21, any::<(u8, u8)>(), any::<bool>(), 0usize..2, 0u64..1500), 1..100),
    ) {
        let (mut machine, parts) = several();
        for (number, (flags, offset), edited, worker, millis) in packets {
            let mut packet = parts[number].clone();
            if edited {
                packet[20] = flags & 0x3f;
                packet[21] = offset;
                let sum = Ipv4Header::from_slice(&packet[14..]).unwrap().0.calc_header_checksum();
                packet[24..26].copy_from_slice(&sum.to_be_bytes());
            }
            machine.now = Nanos(machine.now.0 + millis * 1_000_000);
            machine.feed(worker, 0, &[packet]);
        }
        machine.now = Nanos(machine.now.0 + 2_000_000_000);
        for _ in 0..200 {
            machine.settle();
        }
        machine.check_books();
        machine.check_frames();
        prop_assert_eq!(held(&machine), 0);
    }
}
