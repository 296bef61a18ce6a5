//! What is limited: ports, flows, time, size, hops.

use etherparse::PacketBuilder;

use super::*;
use crate::common::parts::{join, split};

fn later(machine: &mut Machine, seconds: u64) {
    machine.now = Nanos(machine.now.0 + Nanos::from_seconds(seconds).0);
}

/// 64 ports of ours for masqueraded flows to each far end.
fn few_ports() -> Desired {
    let mut desired = cluster(1);
    (desired.local.snat_ports, desired.local.snat_quota) = ((1024, 1151), Some(10_000));
    desired
}

#[test]
fn the_ports_towards_one_far_end_may_be_used_up_and_come_back() {
    let mut machine = Machine::new(few_ports());
    let ask = |n: u16, far: &str| sent(&udp((CONTAINER, 5000 + n), (far, 53), b"q"));
    let mut ports: Vec<u16> = (0..64).map(|n| ends(&machine.pass(0, ask(n, CLIENT))).0.1).collect();
    ports.sort_unstable();
    ports.dedup();
    assert_eq!(ports.len(), 64);
    machine.refuse(0, 0, ask(64, CLIENT), R::MasqueradeExhausted);
    for n in 0..64 {
        machine.pass(0, ask(n, "192.0.2.11"));
        assert_eq!(ends(&machine.pass(0, ask(n, CLIENT))).0.0, SNAT);
    }
    later(&mut machine, 70);
    machine.pass(0, ask(64, CLIENT));
}

#[test]
fn a_container_with_its_share_leaves_the_last_ports_to_others() {
    let mut desired = few_ports();
    desired.local.snat_quota = Some(16);
    let mut machine = Machine::new(desired);
    let ask = |from: &str, n: u16| sent(&udp((from, 5000 + n), (CLIENT, 53), b"q"));
    let greedy = (0..64).filter(|n| machine.feed(0, 0, &[ask(CONTAINER, *n)]).len() == 1).count();
    assert!((56..64).contains(&greedy), "{greedy}");
    assert_eq!(machine.drops(R::SnatQuota), 64 - greedy as u64);
    machine.pass(0, ask(OTHER, 0));
}

#[test]
fn a_port_is_taken_from_who_has_proved_nothing_and_from_nobody_else() {
    let mut machine = Machine::new(few_ports());
    let send = |n: u16, flags| sent(&tcp((CONTAINER, 5000 + n), (CLIENT, 80), flags));
    let first = ends(&machine.pass(0, send(0, "S"))).0;
    machine.pass(0, tcp((CLIENT, 80), at(&first), "SA"));
    machine.pass(0, send(0, "A"));
    (1..64).for_each(|n| drop(machine.pass(0, send(n, "S"))));
    later(&mut machine, 4);
    (64..90).for_each(|n| drop(machine.pass(0, send(n, "S"))));
    assert_eq!(machine.total(|c| c.masquerade_evicted.get()), 26);
    assert_eq!(ends(&machine.pass(0, send(0, "A"))).0, first);
    assert_eq!(ends(&machine.pass(0, tcp((CLIENT, 80), at(&first), "A"))[50..]).1, (CONTAINER.into(), 5000));
}

#[test]
fn a_full_table_refuses_newcomers_and_keeps_what_it_has() {
    let mut machine = Machine::with_room(cluster(1), 64);
    let ask = |n: u16| sent(&udp((CONTAINER, 5000 + n), (CLIENT, 53), b"q"));
    (0..64).for_each(|n| drop(machine.pass(0, ask(n))));
    machine.refuse(0, 0, ask(64), R::MasqueradeFull);
    // Those that begin outside have a table of their own.
    let enter = |n: u16| udp((CLIENT, 5000 + n), (CONTAINER, 53), b"q");
    (0..64).for_each(|n| drop(machine.pass(0, enter(n))));
    machine.refuse(0, 0, enter(64), R::MasqueradeFull);
    (0..64).for_each(|n| drop(machine.pass(0, ask(n))));
    assert_eq!(machine.total(|c| c.masquerade_made.get()), 64);
}

#[test]
fn a_container_with_its_share_leaves_the_last_of_the_table_to_others() {
    let mut desired = cluster(1);
    desired.local.snat_quota = Some(16);
    let mut machine = Machine::with_room(desired, 64);
    let ask = |from: &str, n: u16| sent(&udp((from, 5000), (&format!("198.18.0.{n}"), 53), b"q"));
    (0..56).for_each(|n| drop(machine.pass(0, ask(CONTAINER, n))));
    machine.refuse(0, 0, ask(CONTAINER, 56), R::SnatQuota);
    (0..8).for_each(|n| drop(machine.pass(0, ask(OTHER, n))));
    machine.refuse(0, 0, ask(OTHER, 8), R::MasqueradeFull);
    machine.pass(0, ask(CONTAINER, 55));
}

#[test]
fn answers_that_nobody_is_known_to_have_asked_for_begin_nothing() {
    let mut machine = machine(1);
    let answer = sent(&tcp((CONTAINER, 80), (CLIENT, 5000), "SA"));
    machine.refuse(0, 0, answer.clone(), R::SnatNoSession);
    machine.pass(0, tcp((CLIENT, 5000), (CONTAINER, 80), "S"));
    assert_eq!(ends(&machine.pass(0, answer)).0, (CONTAINER.into(), 80), "it was asked for");
    assert_eq!(machine.total(|c| c.masquerade_made.get()), 0);
}

#[test]
fn a_flow_ends_by_time_and_by_its_own_end() {
    let mut machine = machine(1);
    let question = sent(&udp((CONTAINER, 5000), (CLIENT, 53), b"q"));
    let ours = ends(&machine.pass(0, question)).0;
    let answer = || udp((CLIENT, 53), at(&ours), b"a");
    for _ in 0..3 {
        later(&mut machine, 50);
        machine.pass(0, answer());
    }
    later(&mut machine, 70);
    machine.refuse(0, 0, answer(), R::SnatNoSession);
    let send = |flags| sent(&tcp((CONTAINER, 5000), (CLIENT, 80), flags));
    let first = ends(&machine.pass(0, send("S"))).0;
    machine.pass(0, send("A"));
    later(&mut machine, 800);
    machine.pass(0, tcp((CLIENT, 80), at(&first), "A"));
    later(&mut machine, 800);
    machine.pass(0, send("A"));
    machine.pass(0, send("FA"));
    // A new connection from the same port has another port of ours while the far end may remember the old one.
    assert_ne!(ends(&machine.pass(0, send("S"))).0, first);
    machine.refuse(0, 0, tcp((CLIENT, 80), at(&first), "A"), R::SnatNoSession);
    later(&mut machine, 2000);
    machine.settle();
    machine.workers.iter_mut().for_each(|worker| worker.expire_all(machine.now));
    assert!(machine.total(|c| c.masquerade_expired.get()) >= 1);
    assert_eq!(machine.workers[0].flows().masquerade4.begun.len(), 0);
}

#[test]
fn fragments_follow_their_first_one_both_ways() {
    let mut machine = machine(2);
    let payload: Vec<u8> = (0..3000).map(|n| n as u8).collect();
    for n in 0..6u16 {
        let inner = split(&udp((CONTAINER, 5000 + n), (CLIENT, 53), &payload), 9, &[1400, 2800]);
        let parts: Vec<_> = [2, 0, 1].into_iter().map(|i| sent(&inner[i])).collect();
        let left: Vec<_> = machine.feed(usize::from(n) % 2, 0, &parts).into_iter().map(|(_, p)| p).collect();
        assert_eq!(left.len(), 3);
        let out = join(&left);
        check_sums(&out);
        assert_eq!((ends(&out).0.0.as_str(), &out[42..]), (SNAT, &payload[..]));
        let back = split(&udp((CLIENT, 53), at(&ends(&out).0), &payload), 10, &[1400, 2800]);
        let back: Vec<_> = [1, 0, 2].into_iter().map(|i| back[i].clone()).collect();
        let left = machine.feed(1 - usize::from(n) % 2, 0, &back);
        let left: Vec<_> = left.into_iter().map(|(_, p)| p[50..].to_vec()).collect();
        let back = join(&left);
        check_sums(&back);
        assert_eq!((ends(&back).1, &back[42..]), ((CONTAINER.into(), 5000 + n), &payload[..]));
    }
    let pings = split(&ping(CONTAINER, CLIENT), 11, &[8]);
    let left: Vec<_> = machine.feed(0, 0, &pings.iter().map(|p| sent(p)).collect::<Vec<_>>());
    check_sums(&join(&left.into_iter().map(|(_, p)| p).collect::<Vec<_>>()));
    // Without a first fragment there is nothing to follow.
    let lost = split(&udp((CONTAINER, 5000), (CLIENT, 53), &payload), 12, &[1400, 2800]);
    assert_eq!(machine.feed(0, 0, &[sent(&lost[1])]).len(), 0);
    later(&mut machine, 10);
    machine.workers.iter_mut().for_each(|worker| worker.give_up_fragments(machine.now));
    machine.settle();
    assert_eq!(machine.drops(R::FragmentNoFirst), 1);
}

#[test]
fn ways_have_room_and_hops_and_handshakes_are_told() {
    let mut desired = cluster(1);
    desired.local.answers = AnswerRates::default();
    let mut machine = Machine::new(desired);
    let syn = |source: (&str, u16), destination: (&str, u16), ack: bool| {
        let builder = PacketBuilder::ethernet2(ROUTER.0, OURS.0)
            .ipv4(ip(source.0).octets(), ip(destination.0).octets(), 64)
            .tcp(source.1, destination.1, 1, 1000)
            .syn();
        let builder = if ack { builder.ack(2) } else { builder };
        let builder = builder.options(&[etherparse::TcpOptionElement::MaximumSegmentSize(1460)]).unwrap();
        let mut packet = vec![];
        builder.write(&mut packet, &[]).unwrap();
        packet
    };
    let mss = |packet: &[u8]| u16::from_be_bytes([packet[56], packet[57]]);
    let out = seen(machine.pass(0, sent(&syn((CONTAINER, 5000), (CLIENT, 80), false))));
    assert_eq!(mss(&out), 1410);
    let ours = ends(&out).0;
    let back = arrived(&machine.pass(0, syn((CLIENT, 80), at(&ours), true)));
    assert_eq!(mss(&back), 1410);
    // An answer that does not fit the tunnel: its sender is told, by the address that it knows.
    let mut large = tcp((CLIENT, 80), at(&ours), "A");
    large.extend(vec![7; 1500 + 14 - large.len()]);
    let mut header = etherparse::Ipv4Header::from_slice(&large[14..]).unwrap().0;
    (header.total_len, header.dont_fragment) = (1500, true);
    header.header_checksum = header.calc_header_checksum();
    large[14..34].copy_from_slice(&header.to_bytes());
    let told = machine.pass(0, large.clone());
    assert_eq!((ends(&told).0.0.as_str(), ends(&told).1.0.as_str()), (SNAT, CLIENT));
    assert_eq!((told[34], told[35], u16::from_be_bytes([told[40], told[41]])), (3, 4, 1450));
    assert_eq!(&told[42..62], &large[14..34]);
    // A container whose hops run out is told in its tunnel, about the packet as it sent it.
    let mut last = tcp((CONTAINER, 5000), (CLIENT, 80), "A");
    last[22] = 1;
    last[24..26].fill(0);
    let sum = etherparse::Ipv4Header::from_slice(&last[14..]).unwrap().0.calc_header_checksum();
    last[24..26].copy_from_slice(&sum.to_be_bytes());
    let told = arrived(&machine.pass(0, sent(&last)));
    assert_eq!((told[34], ends(&told).1.0.as_str(), &told[42 + 12..42 + 20]), (11, CONTAINER, &last[26..34]));
}
