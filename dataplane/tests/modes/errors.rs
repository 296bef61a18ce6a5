//! ICMP errors and fragments in the modes in which backends see the client's address.

use sluice_config::model::*;
use sluice_dataplane::verdict::DropReason;

use crate::common::icmp::*;
use crate::common::parts::*;
use crate::common::*;
use crate::world::*;

/// Each DSR mode with backends that it reaches, and the octets that it puts before the IP packet.
const DIRECT: [(Mode, [&str; 2], usize); 4] = [
    (Mode::DsrIpip, BACKENDS4, 20),
    (Mode::DsrGue, BACKENDS4, 32),
    (Mode::DsrVxlan, OVERLAY, 50),
    (Mode::DsrMac, BACKENDS4, 0),
];

/// The router of the client's, about what a backend sent to it as the VIP.
fn too_big(port: u16) -> Vec<u8> {
    error("192.0.2.1", VIP, TOO_BIG, &quote(&tcp((VIP, 80), (CLIENT, port), "A"), 8))
}

/// What an inner packet became, from its IP header on, and which backend it went to.
fn inner(front: usize, packet: &[u8]) -> (&[u8], Vec<u8>) {
    // Without outer header the MAC alone tells the backend.
    let backend = if front == 0 { packet[..6].to_vec() } else { packet[30..34].to_vec() };
    (&packet[14 + front..], backend)
}

#[test]
fn a_direct_backend_gets_the_error_about_its_own_reply_as_it_came() {
    for (mode, backends, front) in DIRECT {
        let mut machine = Machine::new(cluster(2, vec![service_in(mode, VIP, &backends)]));
        for port in 5000..5020 {
            let there = machine.pass(0, tcp((CLIENT, port), (VIP, 80), "S"));
            let (_, backend) = inner(front, &there);
            for worker in [0, 1] {
                let told = machine.pass(worker, too_big(port));
                let expected = hop_later(&too_big(port));
                assert_eq!(inner(front, &told), (&expected[14..], backend.clone()), "{mode:?} at {worker}");
            }
        }
        assert_eq!(machine.total(|c| c.given.get()), 20, "a worker without the session asks the other one");
    }
}

#[test]
fn without_a_session_maglev_knows_the_direct_backend_once_all_workers_have_looked() {
    for (mode, backends, front) in DIRECT {
        let mut machine = Machine::new(cluster(3, vec![service_in(mode, VIP, &backends)]));
        for port in 5000..5020 {
            let told = machine.pass(1, too_big(port));
            let (_, backend) = inner(front, &told);
            let there = machine.pass(2, tcp((CLIENT, port), (VIP, 80), "S"));
            assert_eq!(inner(front, &there).1, backend, "{mode:?}");
        }
        assert_eq!(machine.total(|c| c.given.get()), 40);
    }
}

#[test]
fn in_nat_preserve_client_and_backend_are_told_by_the_flows_owner() {
    for port in 5000..5010 {
        let mut machine = Machine::new(cluster(2, vec![service_in(Mode::NatPreserve, VIP, &BACKENDS4)]));
        let request = tcp((CLIENT, port), (VIP, 80), "S");
        let there = machine.pass(0, request.clone());
        let (_, (backend, 80)) = ends(&there) else { panic!() };
        let reply = tcp((&backend, 80), (CLIENT, port), "SA");
        let back = machine.pass(0, reply.clone());
        let mac = AGENT[usize::from(backend == "10.0.0.12")];
        for worker in [0, 1] {
            let told = machine.pass(worker, error("192.0.2.1", VIP, TOO_BIG, &quote(&back, 20)));
            assert_eq!(told, sent(mac, error("192.0.2.1", &backend, TOO_BIG, &quote(&reply, 20))));
            let told = machine.pass(worker, error("10.0.0.1", CLIENT, TTL_EXCEEDED, &quote(&there, 8)));
            assert_eq!(told, sent(ROUTER, error("10.0.0.1", CLIENT, TTL_EXCEEDED, &quote(&request, 8))));
            let told = machine.pass(worker, error(&backend, CLIENT, PORT_UNREACHABLE, &quote(&there, 8)));
            assert_eq!(told, sent(ROUTER, error(VIP, CLIENT, PORT_UNREACHABLE, &quote(&request, 8))));
        }
        let unknown = quote(&tcp((VIP, 80), (CLIENT, 4999), "A"), 8);
        machine.refuse(0, 0, error("192.0.2.1", VIP, TOO_BIG, &unknown), DropReason::IcmpNoSession);
        let unknown = quote(&tcp((CLIENT, 4999), (&backend, 80), "A"), 8);
        machine.refuse(0, 0, error("10.0.0.1", CLIENT, TOO_BIG, &unknown), DropReason::IcmpNoSession);
    }
}

#[test]
fn a_container_that_is_a_backend_tells_its_other_peers_what_it_has_to() {
    let mut machine = Machine::new(cluster(2, vec![service_in(Mode::NatPreserve, VIP, &OVERLAY)]));
    let about = quote(&tcp(("9.0.2.9", 7), ("9.0.1.2", 80), "A"), 8);
    let said = error("9.0.1.2", "9.0.2.9", PORT_UNREACHABLE, &about);
    let told = machine.pass(0, vxlan(1, 1024, &said));
    assert_eq!(told[50 + 14..], hop_later(&said)[14..]);
}

#[test]
fn an_error_about_a_direct_modes_tunnel_is_counted() {
    for (mode, backends, _) in [DIRECT[0], DIRECT[1], DIRECT[2]] {
        let mut machine = Machine::new(cluster(1, vec![service_in(mode, VIP, &backends)]));
        let there = machine.pass(0, tcp((CLIENT, 5000), (VIP, 80), "S"));
        let said = error("10.0.0.1", "10.0.0.9", TOO_BIG, &quote(&there, 8));
        machine.refuse(0, 0, said, DropReason::IcmpTunnel);
    }
}

/// A TCP segment of 400 octets to the VIP in fragments.
fn parts(port: u16, id: u16) -> Vec<Vec<u8>> {
    split(&segment((CLIENT, port), (VIP, 80), "A", &[], 400), id, &[104, 200])
}

#[test]
fn fragments_reach_a_direct_backend_in_its_mode() {
    for (mode, backends, front) in DIRECT {
        let mut machine = Machine::new(cluster(2, vec![service_in(mode, VIP, &backends)]));
        let there = machine.pass(0, tcp((CLIENT, 5000), (VIP, 80), "S"));
        let (_, backend) = inner(front, &there);
        for worker in [0, 1] {
            let mut parts = parts(5000, worker as u16);
            parts.reverse();
            let left = machine.feed(worker, 0, &parts);
            // The first goes first, those that waited behind it.
            parts.rotate_right(1);
            assert_eq!(left.len(), 3);
            for ((_, packet), part) in left.iter().zip(&parts) {
                assert_eq!(inner(front, packet), (&hop_later(part)[14..], backend.clone()), "{mode:?} at {worker}");
            }
        }
        assert_eq!(machine.total(|c| c.sessions_made.get()), 1);
        // A tunnel's number means nothing in other tables.
        assert_eq!(machine.feed(0, 0, &parts(5000, 9)[..2]).len(), 2);
        machine.publish(cluster(2, vec![service_in(mode, VIP, &backends)]));
        machine.refuse(0, 0, parts(5000, 9)[2].clone(), DropReason::FragmentStale);
    }
}

#[test]
fn fragments_of_nat_preserve_go_to_the_flows_owner() {
    let mut machine = Machine::new(cluster(2, vec![service_in(Mode::NatPreserve, VIP, &BACKENDS4)]));
    for port in 5000..5010 {
        for worker in [0, 1] {
            let left = machine.feed(worker, 0, &parts(port, port * 2 + worker as u16));
            let joined = join(&left.into_iter().map(|(_, packet)| packet).collect::<Vec<_>>());
            let ((from, from_port), (backend, 80)) = ends(&joined) else { panic!() };
            check_sums(&joined);
            assert_eq!((from.as_str(), from_port), (CLIENT, port));
            let answer = segment((&backend, 80), (CLIENT, port), "A", &[], 400);
            let back = machine.feed(worker, 0, &split(&answer, port * 2 + worker as u16, &[104, 200]));
            let joined = join(&back.into_iter().map(|(_, packet)| packet).collect::<Vec<_>>());
            check_sums(&joined);
            assert_eq!(ends(&joined), ((VIP.into(), 80), (CLIENT.into(), port)));
        }
    }
    assert_eq!(machine.total(|c| c.sessions_made.get()), 10);
}
