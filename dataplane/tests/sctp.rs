//! SCTP through the whole turn, both ways and both families: ports, and a CRC32c that stays as right or as wrong as it
//! was. What is expected is summed bit by bit (`common::sctp_packet`).
#![allow(clippy::unwrap_used, clippy::panic, reason = "clippy knows only #[test] functions as tests")]

mod common;

use common::icmp::*;
use common::*;
use proptest::prelude::*;
use sluice_config::model::*;
use sluice_dataplane::time::Nanos;
use sluice_dataplane::verdict::DropReason;

const ENDS6: (&str, &str) = ("2001:db8::7", "fd01:c::80");

/// The usual cluster with an SCTP service on port 2905 of either family.
fn associations(workers: usize) -> Desired {
    let mut desired = desired(workers);
    let six = |text: &str| text.parse::<std::net::Ipv6Addr>().unwrap();
    desired.shared.services.push(service(Protocol::Sctp, VIP, 2905, vec![backend("10.0.0.11:29050", None)]));
    let key = VipKey { protocol: Protocol::Sctp, ip: six(ENDS6.1).into(), port: 2905 };
    desired.shared.services.push(Service::plain(key, vec![backend("[2001:db8::11]:29050", None)]));
    let local = &mut desired.local;
    local.snat_underlay6 = vec![six("2001:db8::100")];
    local.ports[0].addresses6 = vec!["2001:db8::9/64".parse().unwrap()];
    local.neighbours.push(Neighbour { ip: six("2001:db8::11").into(), mac: AGENT[0], port: 0 });
    local.neighbours.push(Neighbour { ip: six("2001:db8::7").into(), mac: ROUTER, port: 0 });
    local.routes.push(Route { prefix: "2001:db8::/64".parse().unwrap(), via: None, port: 0 });
    desired
}

const INIT: [u8; 20] = [1, 0, 0, 20, 0, 0, 0, 9, 0, 1, 0, 0, 0, 1, 0, 1, 0, 0, 0, 5];
const INIT_ACK: [u8; 20] = [2, 0, 0, 20, 0, 0, 0, 8, 0, 1, 0, 0, 0, 1, 0, 1, 0, 0, 0, 6];

/// The SCTP packet behind the IP header of either family, and its ports.
fn inside(packet: &[u8], v6: bool) -> (&[u8], u16, u16) {
    let sctp = &packet[if v6 { 54 } else { 34 }..];
    let port = |at| u16::from_be_bytes([sctp[at], sctp[at + 1]]);
    (sctp, port(0), port(2))
}

#[test]
fn an_association_is_balanced_by_its_ports_and_comes_back_as_the_vip() {
    let mut machine = Machine::new(associations(2));
    for (v6, (client, vip), snat_ip, backend_ip) in
        [(false, (CLIENT, VIP), "10.0.0.100", "10.0.0.11"), (true, ENDS6, "2001:db8::100", "2001:db8::11")]
    {
        let there = machine.pass(0, ip_packet((client, vip), &sctp_packet(5000, 2905, 0, &INIT)));
        let (sctp, snat, backend) = inside(&there, v6);
        assert_eq!((backend, there[..6].to_vec()), (29050, AGENT[0].0.to_vec()));
        assert_eq!(sctp, sctp_packet(snat, 29050, 0, &INIT), "right ports, right CRC32c, nothing else changed");
        // The backend's answer lands on the other worker.
        let reply = ip_packet((backend_ip, snat_ip), &sctp_packet(29050, snat, 9, &INIT_ACK));
        let back = machine.pass(1, reply);
        assert_eq!(inside(&back, v6).0, sctp_packet(2905, 5000, 9, &INIT_ACK));
        // Data of the same association keeps port and backend.
        let data = [&[0, 3, 3, 232, 0, 0, 0, 1, 0, 0, 0, 0, 0, 0, 0, 0], &[0x5a; 984][..]].concat();
        let there = machine.pass(0, ip_packet((client, vip), &sctp_packet(5000, 2905, 8, &data)));
        assert_eq!(inside(&there, v6).0, sctp_packet(snat, 29050, 8, &data));
    }
    assert_eq!(machine.total(|c| c.given.get()), 2);
    assert_eq!(machine.total(|c| c.sessions_made.get()), 2);
}

#[test]
fn in_nat_preserve_the_port_of_the_backend_alone_is_written() {
    let mut preserved = associations(2);
    preserved.shared.services.iter_mut().for_each(|service| service.mode = Mode::NatPreserve);
    let mut machine = Machine::new(preserved);
    for (v6, (client, vip), backend_ip) in [(false, (CLIENT, VIP), "10.0.0.11"), (true, ENDS6, "2001:db8::11")] {
        let there = machine.pass(0, ip_packet((client, vip), &sctp_packet(5000, 2905, 0, &INIT)));
        assert_eq!(inside(&there, v6).0, sctp_packet(5000, 29050, 0, &INIT));
        let back = machine.pass(1, ip_packet((backend_ip, client), &sctp_packet(29050, 5000, 9, &INIT_ACK)));
        assert_eq!(inside(&back, v6).0, sctp_packet(2905, 5000, 9, &INIT_ACK));
    }
    assert_eq!(machine.total(|c| c.sessions_made.get()), 2);
}

#[test]
fn a_dsr_mode_leaves_sctp_as_it_is() {
    let mut direct = associations(1);
    let service = direct.shared.services.iter_mut().find(|s| s.key.port == 2905).unwrap();
    (service.mode, service.backends) = (Mode::DsrMac, vec![backend("10.0.0.11:2905", None)]);
    let there = Machine::new(direct).pass(0, ip_packet((CLIENT, VIP), &sctp_packet(5000, 2905, 0, &INIT)));
    assert_eq!(there[..6], AGENT[0].0);
    assert_eq!(inside(&there, false).0, sctp_packet(5000, 2905, 0, &INIT));
}

#[test]
fn an_icmp_error_about_an_association_reaches_its_client() {
    for mode in [Mode::Nat, Mode::NatPreserve] {
        let mut desired = associations(1);
        desired.shared.services.iter_mut().for_each(|service| service.mode = mode);
        let mut machine = Machine::new(desired);
        let request = ip_packet((CLIENT, VIP), &sctp_packet(5000, 2905, 0, &INIT));
        let there = machine.pass(0, request.clone());
        let source = std::net::Ipv4Addr::from(*there[26..].first_chunk::<4>().unwrap()).to_string();
        for octets in [8, INIT.len() + 12] {
            let told = machine.pass(0, error("10.0.0.1", &source, TTL_EXCEEDED, &quote(&there, octets)));
            assert_eq!(
                told,
                sent(ROUTER, error("10.0.0.1", CLIENT, TTL_EXCEEDED, &quote(&request, octets))),
                "{mode:?}"
            );
        }
    }
}

#[test]
fn what_is_wrong_with_sctp_has_its_own_reason() {
    use DropReason as R;
    let mut machine = Machine::new(associations(1));
    let cut = sctp_packet(5000, 2905, 0, &INIT)[..11].to_vec();
    for (sentence, sctp, reason) in [
        ("cut in the common header", cut, R::L4Header),
        ("a source port of 0", sctp_packet(0, 2905, 0, &INIT), R::PortZero),
        ("a port without service", sctp_packet(5000, 2906, 0, &INIT), R::NoService),
    ] {
        println!("{sentence}");
        machine.refuse(0, 0, ip_packet((CLIENT, VIP), &sctp), reason);
    }
    let there = machine.pass(0, ip_packet((CLIENT, VIP), &sctp_packet(5000, 2905, 0, &INIT)));
    let (_, snat, _) = inside(&there, false);
    machine.now = Nanos::from_seconds(600);
    let late = ip_packet(("10.0.0.11", "10.0.0.100"), &sctp_packet(29050, snat, 9, &INIT_ACK));
    machine.refuse(0, 0, late, R::SnatNoSession);
}

proptest! {
    #[test]
    fn a_wrong_crc_stays_exactly_as_wrong(
        chunks in prop::collection::vec(any::<u8>(), 4..1400), error in any::<u32>(), tag: u32, v6: bool,
    ) {
        let mut machine = Machine::new(associations(1));
        let ends = if v6 { ENDS6 } else { (CLIENT, VIP) };
        let wrong = |mut sctp: Vec<u8>| {
            sctp[8..12].iter_mut().zip(error.to_be_bytes()).for_each(|(octet, error)| *octet ^= error);
            sctp
        };
        let there = machine.pass(0, ip_packet(ends, &wrong(sctp_packet(5000, 2905, tag, &chunks))));
        let (sctp, snat, _) = inside(&there, v6);
        prop_assert_eq!(sctp, &wrong(sctp_packet(snat, 29050, tag, &chunks))[..]);
    }
}
