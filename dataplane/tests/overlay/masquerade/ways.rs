//! Out and back, in and back, and who does not get in.

use super::*;

#[test]
fn what_a_container_begins_leaves_with_our_address_and_the_answer_comes_back() {
    let mut machine = machine(1);
    let out = seen(machine.pass(0, sent(&tcp((CONTAINER, 5000), (CLIENT, 80), "S"))));
    let (ours, to) = ends(&out);
    assert_eq!((ours.0.as_str(), to), (SNAT, (CLIENT.into(), 80)));
    assert!(ours.1 % 64 >= 32, "a port of services: {}", ours.1);
    assert_eq!((&out[..6], &out[6..12], out[22]), (&ROUTER.0[..], &OURS.0[..], 63));
    let back = arrived(&machine.pass(0, tcp((CLIENT, 80), at(&ours), "SA")));
    assert_eq!((ends(&back), back[22]), (((CLIENT.into(), 80), (CONTAINER.into(), 5000)), 63));
    let more = seen(machine.pass(0, sent(&tcp((CONTAINER, 5000), (CLIENT, 80), "A"))));
    assert_eq!(ends(&more).0, ours);

    let out = seen(machine.pass(0, sent(&udp((CONTAINER, 5000), (CLIENT, 53), b"question"))));
    let ours = ends(&out).0;
    let back = arrived(&machine.pass(0, udp((CLIENT, 53), at(&ours), b"answer")));
    assert_eq!((ends(&back).1, &back[42..]), ((CONTAINER.into(), 5000), &b"answer"[..]));

    let counted =
        |machine: &Machine| [machine.total(|c| c.masqueraded.get()), machine.total(|c| c.unmasqueraded.get())];
    assert_eq!(counted(&machine), [3, 2]);
    assert_eq!(machine.total(|c| c.masquerade_flows.get()), 2);
    assert_eq!((machine.total(|c| c.masquerade_made.get()), machine.total(|c| c.sessions_made.get())), (2, 0));
}

#[test]
fn a_ping_is_told_apart_by_its_identifier() {
    let mut machine = machine(1);
    let mut ids = vec![];
    for (container, own) in [(CONTAINER, 7), (OTHER, 7), (OTHER, 0)] {
        let out = seen(machine.pass(0, sent(&echo(container, CLIENT, own, false))));
        assert_eq!((ends(&out).0.0.as_str(), out[22]), (SNAT, 63));
        ids.push(id(&out));
        let back = arrived(&machine.pass(0, echo(CLIENT, SNAT, id(&out), true)));
        assert_eq!((ends(&back).1.0.as_str(), id(&back), &back[42..]), (container, own, &b"echo"[..]));
    }
    assert_ne!(ids[0], ids[1]);
    // Neither an answer that nobody asked for, nor anything but echo.
    machine.refuse(0, 0, echo(CLIENT, SNAT, ids[0] ^ 1, true), R::SnatNoSession);
    machine.refuse(0, 0, sent(&echo(CONTAINER, CLIENT, 9, true)), R::IcmpUnhandled);
    machine.refuse(0, 0, echo(CLIENT, SNAT, ids[0], false), R::IcmpUnhandled);
    let mut stamp = echo(CONTAINER, CLIENT, 7, false);
    stamp[34] = 13;
    machine.refuse(0, 0, sent(&stamp), R::MasqueradeProtocol);
    let mut esp = udp((CONTAINER, 5000), (CLIENT, 53), b"esp");
    esp[23] = 50;
    esp[24..26].fill(0);
    let sum = etherparse::Ipv4Header::from_slice(&esp[14..]).unwrap().0.calc_header_checksum();
    esp[24..26].copy_from_slice(&sum.to_be_bytes());
    machine.refuse(0, 0, sent(&esp), R::MasqueradeProtocol);
}

#[test]
fn a_packet_that_is_handed_over_is_counted_once_for_its_network() {
    let mut machine = machine(2);
    (0..32).for_each(|n| drop(machine.pass(0, sent(&udp((CONTAINER, 5000 + n), (CLIENT, 53), b"q")))));
    assert!((1..32).contains(&machine.total(|c| c.given.get())));
    assert_eq!(machine.total(|c| c.networks.iter().map(|network| network.rx.get()).sum()), 32);
}

#[test]
fn nobody_but_the_far_end_gets_in_by_a_port_of_ours() {
    let mut machine = machine(1);
    let out = seen(machine.pass(0, sent(&udp((CONTAINER, 5000), (CLIENT, 53), b"question"))));
    let (snat, port) = ends(&out).0;
    for (source, sport) in [("192.0.2.11", 53), (CLIENT, 54), ("10.0.0.11", 53), ("10.0.0.11", 5353)] {
        machine.refuse(0, 0, udp((source, sport), (&snat, port), b"in"), R::SnatNoSession);
    }
    machine.refuse(0, 0, tcp((CLIENT, 53), (&snat, port), "S"), R::SnatNoSession);
    machine.refuse(0, 0, udp((CLIENT, 53), (&snat, port ^ 1), b"in"), R::SnatNoSession);
    machine.refuse(0, 0, udp((CLIENT, 53), (&snat, port ^ 32), b"in"), R::SnatNoSession);
    // Nor through a tunnel, nor with an address of ours.
    machine.refuse(0, 0, sent(&udp((OTHER, 53), (&snat, port), b"in")), R::Martian);
    machine.refuse(0, 0, udp((SNAT, 53), ("9.0.2.8", port), b"in"), R::Martian);
    machine.refuse(0, 0, vxlan(1, 1024, &udp((CONTAINER, 5000), (CLIENT, 53), b"spoof")), R::OverlaySpoof);
    machine.pass(0, udp((CLIENT, 53), (&snat, port), b"answer"));
}

#[test]
fn a_flow_has_one_worker_whichever_way_its_packets_come() {
    let mut machine = machine(3);
    let mut workers = std::collections::BTreeSet::new();
    for n in 0..30u16 {
        let out = seen(machine.pass(usize::from(n) % 3, sent(&tcp((CONTAINER, 5000 + n), (CLIENT, 80), "S"))));
        let ours = ends(&out).0;
        workers.insert(machine.tables.snat.owner(ours.1));
        for worker in 0..3 {
            let back = arrived(&machine.pass(worker, tcp((CLIENT, 80), at(&ours), "SA")));
            assert_eq!(ends(&back).1, (CONTAINER.into(), 5000 + n));
            let more = seen(machine.pass(worker, sent(&tcp((CONTAINER, 5000 + n), (CLIENT, 80), "A"))));
            assert_eq!(ends(&more).0, ours, "worker {worker}");
        }
    }
    assert_eq!(workers, [0, 1, 2].into());
    assert!(machine.total(|c| c.given.get()) > 60);
    assert_eq!(machine.total(|c| c.masquerade_flows.get()), 30);
}

#[test]
fn what_begins_outside_passes_as_it_is_and_so_do_the_answers() {
    let mut machine = machine(2);
    for n in 0..8u16 {
        let (here, there) = (usize::from(n) % 2, 1 - usize::from(n) % 2);
        for (asks, answers) in [
            (tcp((CLIENT, 5000 + n), (CONTAINER, 80), "S"), tcp((CONTAINER, 80), (CLIENT, 5000 + n), "SA")),
            (udp((CLIENT, 5000 + n), (CONTAINER, 53), b"q"), udp((CONTAINER, 53), (CLIENT, 5000 + n), b"a")),
            (echo(CLIENT, CONTAINER, n, false), echo(CONTAINER, CLIENT, n, true)),
        ] {
            let came = arrived(&machine.pass(here, asks.clone()));
            assert_eq!((ends(&came), &came[34..]), (ends(&asks), &asks[34..]));
            let back = seen(machine.pass(there, sent(&answers)));
            assert_eq!((ends(&back), &back[34..]), (ends(&answers), &answers[34..]));
        }
    }
    let entered = machine.total(|c| c.masquerade_entered.get());
    assert_eq!((machine.total(|c| c.masquerade_flows.get()), entered), (0, 24));
    assert_eq!(machine.total(|c| c.masqueraded.get()), 0);
    // The same two ports, but the container begins.
    let out = machine.pass(0, sent(&tcp((CONTAINER, 80), (CLIENT, 5000), "S")));
    assert_eq!(ends(&out).0.0, SNAT);
    let more = machine.pass(0, sent(&tcp((CONTAINER, 80), (CLIENT, 5000), "A")));
    assert_eq!(ends(&more).0, ends(&out).0);
}

#[test]
fn a_container_with_groups_gets_the_answers_that_it_asked_for_and_nothing_else() {
    let mut machine = machine(1);
    let out = seen(machine.pass(0, sent(&tcp((GROUPED, 5000), (CLIENT, 80), "S"))));
    let ours = ends(&out).0;
    let back = arrived(&machine.pass(0, tcp((CLIENT, 80), at(&ours), "SA")));
    assert_eq!(ends(&back).1, (GROUPED.into(), 5000));
    machine.refuse(0, 0, tcp((CLIENT, 80), (GROUPED, 5000), "SA"), R::GroupUnderlay);
    machine.refuse(0, 0, tcp((CLIENT, 81), at(&ours), "SA"), R::SnatNoSession);
    machine.refuse(0, 0, tcp(("10.0.0.11", 80), (GROUPED, 5000), "S"), R::GroupMasqueraded);
}

/// The service's backend is somebody outside as well: the same far end, address and port, by both ways.
#[test]
fn a_services_reply_and_a_masqueraded_one_are_never_confused() {
    let mut desired = cluster(2);
    (desired.local.snat_ports, desired.local.snat_quota) = ((1024, 1279), Some(10_000));
    let mut machine = Machine::new(desired);
    let (mut services, mut masqueraded) = (vec![], vec![]);
    for n in 0..250 {
        let worker = usize::from(n) % 2;
        if let [(0, out)] = &machine.feed(worker, 0, &[udp((CLIENT, 5000 + n), (VIP, 53), b"q")])[..] {
            services.push((n, ends(out).0));
        }
        if let [(0, out)] =
            &machine.feed(worker, 0, &[sent(&udp((CONTAINER, 5000 + n), ("10.0.0.11", 5353), b"q"))])[..]
        {
            masqueraded.push((n, ends(out).0));
        }
    }
    // All the ports there are, each once.
    assert_eq!((services.len(), masqueraded.len()), (128, 128));
    let mut ports: Vec<_> = services.iter().chain(&masqueraded).map(|(_, ours)| ours.clone()).collect();
    ports.sort();
    ports.dedup();
    assert_eq!(ports.len(), 256);
    for (n, ours) in services {
        let back = seen(machine.pass(0, udp(("10.0.0.11", 5353), at(&ours), b"a")));
        assert_eq!(ends(&back), ((VIP.into(), 53), (CLIENT.into(), 5000 + n)));
    }
    for (n, ours) in masqueraded {
        let back = arrived(&machine.pass(1, udp(("10.0.0.11", 5353), at(&ours), b"a")));
        assert_eq!(ends(&back), (("10.0.0.11".into(), 5353), (CONTAINER.into(), 5000 + n)));
    }
}

/// Its answers come from the very port on which it serves, to clients and to everybody else.
#[test]
fn a_container_that_serves_in_nat_preserve_is_masqueraded_like_any_other() {
    let mut desired = cluster(3);
    let mut service = service(Protocol::Tcp, VIP, 8080, vec![backend("9.0.2.7:80", Some("dcos"))]);
    service.mode = Mode::NatPreserve;
    desired.shared.services.push(service);
    let mut machine = Machine::new(desired);
    for n in 0..9u16 {
        let (here, there) = (usize::from(n) % 3, usize::from(n + 1) % 3);
        let came = arrived(&machine.pass(here, tcp((CLIENT, 5000 + n), (CONTAINER, 80), "S")));
        assert_eq!(ends(&came).0, (CLIENT.into(), 5000 + n));
        let back = seen(machine.pass(there, sent(&tcp((CONTAINER, 80), (CLIENT, 5000 + n), "SA"))));
        assert_eq!(ends(&back).0, (CONTAINER.into(), 80));
        let out = seen(machine.pass(there, sent(&tcp((CONTAINER, 80), (CLIENT, 6000 + n), "S"))));
        let ours = ends(&out).0;
        assert_eq!(ours.0, SNAT);
        let back = arrived(&machine.pass(here, tcp((CLIENT, 6000 + n), at(&ours), "SA")));
        assert_eq!(ends(&back).1, (CONTAINER.into(), 80));
        let served = arrived(&machine.pass(here, tcp((CLIENT, 7000 + n), (VIP, 8080), "S")));
        assert_eq!(ends(&served), ((CLIENT.into(), 7000 + n), (CONTAINER.into(), 80)));
        let answer = seen(machine.pass(there, sent(&tcp((CONTAINER, 80), (CLIENT, 7000 + n), "SA"))));
        assert_eq!(ends(&answer).0, (VIP.into(), 8080));
        let node = machine.feed(there, 0, &[sent(&tcp((CONTAINER, 80), ("10.0.0.9", 8000 + n), "A"))]);
        assert_eq!((node[0].0, ends(&node[0].1).0), (1, (CONTAINER.into(), 80)));
    }
    machine.refuse(0, 0, sent(&udp((CONTAINER, 5000), ("224.0.0.251", 5353), b"q")), R::NotForUs);
}

#[test]
fn what_is_ours_or_the_overlays_is_not_masqueraded() {
    let mut machine = machine(1);
    let there = machine.pass(0, sent(&tcp((CONTAINER, 5000), (OTHER, 80), "S")));
    assert_eq!(ends(&there[50..]).0, (CONTAINER.into(), 5000));
    let there = machine.pass(0, sent(&tcp((CONTAINER, 5000), (VIP, 80), "S")));
    assert!(ends(&there).0.0 == SNAT && ends(&there).0.1 % 64 < 32, "a service's port");
    let kernel = machine.feed(0, 0, &[sent(&tcp((CONTAINER, 5000), ("10.0.0.9", 22), "S"))]);
    assert_eq!((kernel[0].0, ends(&kernel[0].1).0), (1, (CONTAINER.into(), 5000)));
    let mut probe = tcp(("9.0.9.1", 5000), (CONTAINER, 80), "S");
    probe[..6].copy_from_slice(&HOST_PEER.0);
    assert_eq!(ends(&machine.feed(0, 1, &[probe])[0].1[50..]).0, ("9.0.9.1".into(), 5000));
    let back = machine.feed(0, 0, &[sent(&tcp((CONTAINER, 80), ("9.0.9.1", 5000), "SA"))]);
    assert_eq!((back[0].0, ends(&back[0].1).0), (1, (CONTAINER.into(), 80)));
    // What the kernel passes on for somebody outside is somebody's outside.
    let mut forwarded = tcp((CLIENT, 5000), (CONTAINER, 80), "S");
    forwarded[..6].copy_from_slice(&HOST_PEER.0);
    assert_eq!(machine.feed(0, 1, &[forwarded]).len(), 1);
    let back = machine.pass(0, sent(&tcp((CONTAINER, 80), (CLIENT, 5000), "SA")));
    assert_eq!(ends(&back).0, (CONTAINER.into(), 80));
    assert_eq!(machine.total(|c| c.masqueraded.get()), 0);
    assert_eq!(machine.tables.steering().networks, ["9.0.0.0/8".parse().unwrap()].into());
}
