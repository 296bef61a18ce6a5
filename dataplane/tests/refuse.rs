//! What is answered instead of dropped: by whom, with what, how often, and what is never answered. Books and frames are
//! checked after every step.
#![allow(clippy::unwrap_used, clippy::panic, reason = "clippy knows only #[test] functions as tests")]

mod common;

use std::net::{IpAddr, Ipv6Addr};

use common::*;
use etherparse::{
    Icmpv4Type, Icmpv6Type, Ipv4Header, NetHeaders, PacketBuilder, PacketHeaders, TransportHeader, icmpv4,
    icmpv6::{self, DestUnreachableCode as Unreachable6},
};
use sluice_config::model::*;
use sluice_dataplane::time::Nanos;
use sluice_dataplane::verdict::{DropReason, Reply};

const VIP6: &str = "fd01:c::80";
const CLIENT6: &str = "2001:db8:ffff::7";
const BACKEND6: &str = "2001:db8::11";
const OURS6: &str = "2001:db8::9";

fn ip6(text: &str) -> Ipv6Addr {
    text.parse().unwrap()
}

fn desired6(workers: usize) -> Desired {
    let mut desired = desired(workers);
    let service = |protocol, port, backends| Service::plain(VipKey { protocol, ip: ip6(VIP6).into(), port }, backends);
    let some = || vec![backend(&format!("[{BACKEND6}]:31000"), None)];
    desired.shared.services.extend([
        service(Protocol::Tcp, 80, some()),
        service(Protocol::Udp, 53, some()),
        service(Protocol::Tcp, 81, vec![]),
        service(Protocol::Udp, 81, vec![]),
        service(Protocol::Sctp, 81, vec![]),
    ]);
    let empty = |protocol| service4(protocol, VIP, 82, vec![]);
    desired.shared.services.extend([empty(Protocol::Tcp), empty(Protocol::Udp), empty(Protocol::Sctp)]);
    let local = &mut desired.local;
    local.snat_underlay6 = vec![ip6("2001:db8::100")];
    local.ports[0].addresses6 = vec![format!("{OURS6}/64").parse().unwrap()];
    local.neighbours.push(Neighbour { ip: ip6("2001:db8::1").into(), mac: ROUTER, port: 0 });
    local.neighbours.push(Neighbour { ip: ip6(BACKEND6).into(), mac: AGENT[0], port: 0 });
    local.routes.push(Route { prefix: "2001:db8::/64".parse().unwrap(), via: None, port: 0 });
    local.routes.push(Route { prefix: "::/0".parse().unwrap(), via: Some(ip6("2001:db8::1").into()), port: 0 });
    desired
}

use common::service as service4;

/// A packet from the router, of either family, with `write` for what follows the IP header.
fn from_router(
    source: &str,
    destination: &str,
    limit: u8,
    write: impl FnOnce(etherparse::PacketBuilderStep<etherparse::IpHeaders>, &mut Vec<u8>),
) -> Vec<u8> {
    let ethernet = PacketBuilder::ethernet2(ROUTER.0, OURS.0);
    let mut packet = vec![];
    let step = match (source.parse().unwrap(), destination.parse().unwrap()) {
        (IpAddr::V4(s), IpAddr::V4(d)) => ethernet.ipv4(s.octets(), d.octets(), limit),
        (IpAddr::V6(s), IpAddr::V6(d)) => ethernet.ipv6(s.octets(), d.octets(), limit),
        _ => panic!("two families"),
    };
    write(step, &mut packet);
    packet
}

fn datagram(ends: (&str, &str), port: u16, limit: u8, payload: &[u8]) -> Vec<u8> {
    from_router(ends.0, ends.1, limit, |step, into| step.udp(5000, port).write(into, payload).unwrap())
}

fn segment(ends: (&str, &str), port: u16, limit: u8) -> Vec<u8> {
    from_router(ends.0, ends.1, limit, |step, into| step.tcp(5000, port, 77, 1000).syn().write(into, b"data").unwrap())
}

/// Sets or clears DF of an IPv4 packet.
fn fragmentable(mut packet: Vec<u8>, allowed: bool) -> Vec<u8> {
    packet[20] = if allowed { 0 } else { 0x40 };
    let sum = Ipv4Header::from_slice(&packet[14..]).unwrap().0.calc_header_checksum();
    packet[24..26].copy_from_slice(&sum.to_be_bytes());
    packet
}

/// What an ICMP error says: its type, who it comes from and goes to, and what it quotes. Its checksums are right.
enum Said {
    V4(Icmpv4Type),
    V6(Icmpv6Type),
}

fn read(packet: &[u8]) -> (Said, (IpAddr, IpAddr), Vec<u8>) {
    let headers = PacketHeaders::from_ethernet_slice(packet).unwrap();
    let quoted = headers.payload.slice().to_vec();
    match (headers.net, headers.transport) {
        (Some(NetHeaders::Ipv4(ip, _)), Some(TransportHeader::Icmpv4(icmp))) => {
            assert_eq!(ip.header_checksum, ip.calc_header_checksum());
            assert_eq!(icmp.checksum, icmp.icmp_type.calc_checksum(&quoted));
            assert_eq!(usize::from(ip.total_len), packet.len() - 14);
            (Said::V4(icmp.icmp_type), (ip.source.into(), ip.destination.into()), quoted)
        }
        (Some(NetHeaders::Ipv6(ip, _)), Some(TransportHeader::Icmpv6(icmp))) => {
            assert_eq!(Ok(icmp.checksum), icmp.icmp_type.calc_checksum(ip.source, ip.destination, &quoted));
            (Said::V6(icmp.icmp_type), (ip.source.into(), ip.destination.into()), quoted)
        }
        other => panic!("{other:?}"),
    }
}

fn ends_of(source: &str, destination: &str) -> (IpAddr, IpAddr) {
    (source.parse().unwrap(), destination.parse().unwrap())
}

#[test]
fn a_ttl_that_runs_out_is_told_by_the_nodes_own_address() {
    let mut machine = Machine::new(desired6(1));
    for limit in [0, 1] {
        let packet = datagram((CLIENT, VIP), 53, limit, &[7; 900]);
        let answer = machine.pass(0, packet.clone());
        let (said, ends, quoted) = read(&answer);
        assert!(matches!(said, Said::V4(Icmpv4Type::TimeExceeded(icmpv4::TimeExceededCode::TtlExceededInTransit))));
        assert_eq!(ends, ends_of("10.0.0.9", CLIENT));
        assert_eq!(quoted, packet[14..14 + 548], "as received, and 576 octets in all");
        assert_eq!((&answer[..6], &answer[6..12]), (&ROUTER.0[..], &OURS.0[..]));
        assert_eq!((answer[15], answer[22]), (0xc0, 64), "precedence and TTL");
    }
    let packet = segment((CLIENT6, VIP6), 80, 1);
    let (said, ends, quoted) = read(&machine.pass(0, packet.clone()));
    assert!(matches!(said, Said::V6(Icmpv6Type::TimeExceeded(icmpv6::TimeExceededCode::HopLimitExceeded))));
    assert_eq!((ends, &quoted[..]), (ends_of(OURS6, CLIENT6), &packet[14..]));
    // A backend's reply too, and that of a container through its agent.
    let reply = tcp_from(AGENT[0], ("10.0.0.11", 31000), ("10.0.0.100", 2000), "A");
    let (_, ends, _) = read(&machine.pass(0, hop(reply, 1)));
    assert_eq!(ends, ends_of("10.0.0.9", "10.0.0.11"));
    let inner = tcp(("9.0.1.7", 7000), ("9.0.2.3", 80), "S");
    let answer = machine.pass(0, vxlan(1, 1024, &hop(inner, 1)));
    assert_eq!(common::ends(&answer).1, ("10.0.0.11".into(), 64000), "in a tunnel to its agent");
    assert_eq!(read(&answer[50..]).1, ends_of("9.0.9.1", "9.0.1.7"));
    assert_eq!(machine.total(|c| c.answers(Reply::TimeExceeded).get()), 5);
    assert_eq!(machine.total(|c| c.dropped()), 0);
}

/// The same with this TTL.
fn hop(mut packet: Vec<u8>, ttl: u8) -> Vec<u8> {
    packet[22] = ttl;
    let sum = Ipv4Header::from_slice(&packet[14..]).unwrap().0.calc_header_checksum();
    packet[24..26].copy_from_slice(&sum.to_be_bytes());
    packet
}

/// One port towards clients and backends, a narrow one towards a second backend.
fn narrow(workers: usize) -> Desired {
    let mut desired = desired6(workers);
    desired.local.ports[0].mtu = 1400;
    desired.local.vtep.as_mut().unwrap().mtu = 1350;
    desired
}

#[test]
fn what_is_too_big_for_the_way_to_a_backend_is_told_the_mtu_by_the_vip() {
    let mut machine = Machine::new(narrow(1));
    let big = fragmentable(datagram((CLIENT, VIP), 53, 64, &[1; 1400]), false);
    let (said, ends, quoted) = read(&machine.pass(0, big.clone()));
    let expected = icmpv4::DestUnreachableHeader::FragmentationNeeded { next_hop_mtu: 1400 };
    assert!(matches!(said, Said::V4(Icmpv4Type::DestinationUnreachable(header)) if header == expected));
    assert_eq!((ends, &quoted[..]), (ends_of(VIP, CLIENT), &big[14..14 + 548]), "not rewritten, TTL 64 still");

    // Through a tunnel less fits. A container is told so in a tunnel.
    let mut named = tcp((CLIENT, 5000), (NAMED, 80), "A");
    grow(&mut named, 1360);
    let (said, ends, _) = read(&machine.pass(0, fragmentable(named, false)));
    let expected = icmpv4::DestUnreachableHeader::FragmentationNeeded { next_hop_mtu: 1350 };
    assert!(matches!(said, Said::V4(Icmpv4Type::DestinationUnreachable(header)) if header == expected));
    assert_eq!(ends, ends_of(NAMED, CLIENT));

    // Without DF the sender leaves it to routers to fragment, and we do not: a drop.
    let fragmentable = fragmentable(datagram((CLIENT, VIP), 53, 64, &[1; 1400]), true);
    machine.refuse(0, 0, fragmentable, DropReason::TooBig);

    let big = datagram((CLIENT6, VIP6), 53, 64, &[1; 1400]);
    let (said, ends, quoted) = read(&machine.pass(0, big.clone()));
    assert!(matches!(said, Said::V6(Icmpv6Type::PacketTooBig { mtu: 1400 })));
    assert_eq!((ends, &quoted[..]), (ends_of(VIP6, CLIENT6), &big[14..14 + 1232]));
    assert_eq!(machine.total(|c| c.answers(Reply::TooBig).get()), 3);
}

/// Makes an IPv4 packet that long, checksum of the transport aside.
fn grow(packet: &mut Vec<u8>, length: u16) {
    packet.resize(14 + usize::from(length), 0);
    packet[16..18].copy_from_slice(&length.to_be_bytes());
}

#[test]
fn a_backends_reply_that_does_not_fit_the_clients_way_is_told_to_the_backend() {
    let mut machine = Machine::new(narrow(2));
    let there = machine.pass(0, vxlan(1, 1024, &tcp(("9.0.1.7", 7000), (VIP, 80), "S")));
    let ((snat, port), (address, backend_port)) = ends(&there);
    let mut reply = tcp((&address, backend_port), (&snat, port), "SA");
    grow(&mut reply, 1390);
    // On either worker: the owner of the session answers.
    for worker in [0, 1] {
        let (said, ends, quoted) = read(&machine.pass(worker, fragmentable(reply.clone(), false)));
        let expected = icmpv4::DestUnreachableHeader::FragmentationNeeded { next_hop_mtu: 1350 };
        assert!(matches!(said, Said::V4(Icmpv4Type::DestinationUnreachable(header)) if header == expected));
        assert_eq!(ends, ends_of(&snat, &address));
        assert_eq!(quoted[12..24], reply[26..38], "the addresses and ports that the backend knows");
    }
    // Between containers, and to the node's own kernel.
    let mut inner = tcp(("9.0.1.7", 7000), ("9.0.2.3", 80), "A");
    grow(&mut inner, 1360);
    let answer = machine.pass(0, vxlan(1, 1024, &fragmentable(inner, false)));
    assert_eq!(read(&answer[50..]).1, ends_of("9.0.9.1", "9.0.1.7"));
    let mut kernels = narrow(1);
    kernels.local.ports[1].mtu = 1000;
    let mut machine = Machine::new(kernels);
    let mut inner = tcp(("9.0.1.7", 7000), ("9.0.9.1", 80), "A");
    grow(&mut inner, 1100);
    let answer = machine.pass(0, vxlan(1, 1024, &fragmentable(inner, false)));
    assert_eq!(read(&answer[50..]).1, ends_of("9.0.9.1", "9.0.1.7"));
}

#[test]
fn a_service_without_backends_resets_tcp_aborts_sctp_and_names_the_udp_port_unreachable() {
    let mut machine = Machine::new(desired6(1));
    let answer = machine.pass(0, segment((CLIENT, VIP), 82, 64));
    check_sums(&answer);
    assert_eq!(ends(&answer), ((VIP.into(), 82), (CLIENT.into(), 5000)));
    assert_eq!((answer[47], answer.len()), (0x14, 54), "RST and ACK, and no more than headers");
    assert_eq!(answer[42..46], (77u32 + 1 + 4).to_be_bytes(), "SYN and four octets are acknowledged");
    let answer = machine.pass(0, segment((CLIENT6, VIP6), 81, 64));
    let headers = PacketHeaders::from_ethernet_slice(&answer).unwrap();
    let (Some(NetHeaders::Ipv6(ip, _)), Some(TransportHeader::Tcp(reset))) = (headers.net, headers.transport) else {
        panic!("not TCP over IPv6")
    };
    assert!(reset.rst && reset.checksum == reset.calc_checksum_ipv6(&ip, &[]).unwrap());
    assert_eq!((ip.source, ip.destination), (ip6(VIP6).octets(), ip6(CLIENT6).octets()));

    let (said, ends, _) = read(&machine.pass(0, datagram((CLIENT, VIP), 82, 64, b"hello")));
    assert!(matches!(said, Said::V4(Icmpv4Type::DestinationUnreachable(icmpv4::DestUnreachableHeader::Port))));
    assert_eq!(ends, ends_of(VIP, CLIENT));
    let (said, ends, _) = read(&machine.pass(0, datagram((CLIENT6, VIP6), 81, 64, b"hello")));
    assert!(matches!(said, Said::V6(Icmpv6Type::DestinationUnreachable(Unreachable6::Port))));
    assert_eq!(ends, ends_of(VIP6, CLIENT6));

    let init = sctp_packet(5000, 82, 0, &[1, 0, 0, 20, 0, 0, 0, 9, 0, 0, 0, 0, 0, 1, 0, 1, 0, 0, 0, 0]);
    let answer = machine.pass(0, ip_packet((CLIENT, VIP), &init));
    assert_eq!(answer[34..], sctp_packet(82, 5000, 9, &[6, 0, 0, 4]), "under the tag that the INIT named");
    check_sums(&answer);
    let mut init = sctp_packet(5000, 81, 0, &[1, 0, 0, 20, 0, 0, 0, 9, 0, 0, 0, 0, 0, 1, 0, 1, 0, 0, 0, 0]);
    let answer = machine.pass(0, ip_packet((CLIENT6, VIP6), &init));
    assert_eq!(answer[54..], sctp_packet(81, 5000, 9, &[6, 0, 0, 4]));
    assert_eq!(answer[18..22], [0, 16, 132, 64], "length, protocol, hop limit");

    let counts = [Reply::Reset, Reply::Unreachable, Reply::Abort].map(|r| machine.total(|c| c.answers(r).get()));
    assert_eq!((counts, machine.total(|c| c.sessions_made.get())), ([2, 2, 2], 0));

    // What must not be answered: resets, aborts, and what arrived broken.
    machine.refuse(0, 0, tcp((CLIENT, 5000), (VIP, 82), "R"), DropReason::NoBackend);
    let mut broken = segment((CLIENT, VIP), 82, 64);
    broken[50] ^= 1;
    machine.refuse(0, 0, broken, DropReason::NoBackend);
    init[9] ^= 1;
    machine.refuse(0, 0, ip_packet((CLIENT6, VIP6), &init), DropReason::NoBackend);
    let abort = sctp_packet(5000, 82, 9, &[6, 0, 0, 4]);
    machine.refuse(0, 0, ip_packet((CLIENT, VIP), &abort), DropReason::NoBackend);
}

#[test]
fn a_service_that_drops_when_it_is_empty_says_nothing() {
    let mut silent = desired6(1);
    for service in silent.shared.services.iter_mut() {
        service.empty = Empty::Drop;
    }
    let mut machine = Machine::new(silent);
    machine.refuse(0, 0, segment((CLIENT, VIP), 82, 64), DropReason::NoBackend);
    machine.refuse(0, 0, datagram((CLIENT, VIP), 82, 64, b""), DropReason::NoBackend);
    machine.refuse(0, 0, segment((CLIENT6, VIP6), 81, 64), DropReason::NoBackend);
}

#[test]
fn a_container_is_refused_through_its_agent_and_a_tagged_client_by_its_tag() {
    let mut machine = Machine::new(desired6(1));
    let answer = machine.pass(0, vxlan(2, 1024, &tcp(("9.0.2.7", 7000), (VIP, 82), "S")));
    assert_eq!(ends(&answer).1, ("10.0.0.12".into(), 64000));
    check_sums(&answer[50..]);
    assert_eq!(ends(&answer[50..]), ((VIP.into(), 82), ("9.0.2.7".into(), 7000)));
    let plain = datagram((CLIENT, VIP), 82, 64, b"hello");
    let tagged = [&plain[..12], &[0x81, 0, 0x20, 7], &plain[12..]].concat();
    let answer = machine.pass(0, tagged);
    assert_eq!(answer[12..18], [0x81, 0, 0x20, 7, 8, 0]);
    read(&[&answer[..12], &answer[16..]].concat());
}

#[test]
fn the_nodes_own_kernel_is_refused_by_the_host_port() {
    let mut machine = Machine::new(desired6(1));
    let mut packet = tcp(("9.0.9.1", 4000), (VIP, 82), "S");
    packet[..12].copy_from_slice(&[HOST_PEER.0, HOST.0].concat());
    let left = machine.feed(0, 1, &[packet]);
    let [(1, answer)] = &left[..] else { panic!("{left:?}") };
    assert_eq!((&answer[..6], &answer[6..12]), (&HOST.0[..], &HOST_PEER.0[..]));
    assert_eq!(ends(answer), ((VIP.into(), 82), ("9.0.9.1".into(), 4000)));
    assert_eq!(machine.total(|c| c.host.get()), 1);
}

#[test]
fn nothing_is_said_about_errors_groups_and_broadcasts() {
    let mut machine = Machine::new(desired6(1));
    // An error between containers whose TTL runs out (RFC 1122 section 3.2.2).
    let unreachable = Icmpv4Type::DestinationUnreachable(icmpv4::DestUnreachableHeader::Port);
    for kind in [
        Icmpv4Type::TimeExceeded(icmpv4::TimeExceededCode::TtlExceededInTransit),
        unreachable,
        Icmpv4Type::Unknown { type_u8: 5, code_u8: 0, bytes5to8: [0; 4] },
    ] {
        let inner = from_router("9.0.1.7", "9.0.2.3", 1, |step, into| step.icmpv4(kind).write(into, &[0; 28]).unwrap());
        machine.refuse(0, 0, vxlan(1, 1024, &inner), DropReason::TtlExpired);
    }
    // An echo request may be asked about.
    let ping = from_router("9.0.1.7", "9.0.2.3", 1, |step, into| {
        step.icmpv4_echo_request(1, 2).write(into, b"ping").unwrap();
    });
    machine.pass(0, vxlan(1, 1024, &ping));
    // To our subnet's broadcast address, which looks like a host and would be the kernel's.
    let mut narrow = desired6(1);
    narrow.local.ports[1].mtu = 1000;
    let mut machine = Machine::new(narrow);
    let broadcast = fragmentable(datagram((CLIENT, "10.0.0.255"), 9, 64, &[0; 1200]), false);
    machine.refuse(0, 0, broadcast, DropReason::TooBig);
    // A frame to everybody, or to another station.
    for mac in [[0xff; 6], [1, 0, 0x5e, 0, 0, 1], [2, 9, 9, 9, 9, 9]] {
        let mut packet = segment((CLIENT, VIP), 82, 1);
        packet[..6].copy_from_slice(&mac);
        machine.refuse(0, 0, packet, DropReason::NotOurMac);
    }
    // From nobody, a group or everybody.
    for source in ["0.0.0.0", "224.0.0.1", "255.255.255.255", "127.0.0.1"] {
        machine.refuse(0, 0, segment((source, VIP), 82, 1), DropReason::Martian);
    }
}

#[test]
fn answers_beyond_their_rates_are_the_drops_that_they_would_have_been() {
    let mut rare = desired6(1);
    // A tenth of a second's at once.
    rare.local.answers = AnswerRates { echo: 50, errors: 30, resets: 20 };
    let mut machine = Machine::new(rare.clone());
    for _ in 0..10 {
        machine.feed(0, 0, &[ping(CLIENT, VIP), segment((CLIENT, VIP), 80, 1), segment((CLIENT, VIP), 82, 64)]);
    }
    let answered = |machine: &Machine| {
        [Reply::Echo, Reply::TimeExceeded, Reply::Reset].map(|reply| machine.total(|c| c.answers(reply).get()))
    };
    let dropped = |machine: &Machine| {
        [DropReason::EchoLimited, DropReason::TtlExpired, DropReason::NoBackend].map(|reason| machine.drops(reason))
    };
    assert_eq!((answered(&machine), dropped(&machine)), ([5, 3, 2], [5, 7, 8]));
    // After a second there are as many again; the others are not charged for what one kind used up.
    machine.now = Nanos::from_seconds(2);
    for _ in 0..10 {
        machine.feed(0, 0, &[ping(CLIENT, VIP)]);
    }
    assert_eq!((answered(&machine), dropped(&machine)), ([10, 3, 2], [10, 7, 8]));
    // 0 is never, at once.
    rare.local.answers = AnswerRates { echo: 0, errors: 0, resets: 0 };
    machine.publish(rare);
    machine.now = Nanos::from_seconds(60);
    machine.refuse(0, 0, ping(CLIENT, VIP), DropReason::EchoLimited);
    machine.refuse(0, 0, segment((CLIENT, VIP), 80, 1), DropReason::TtlExpired);
    machine.refuse(0, 0, segment((CLIENT, VIP), 82, 64), DropReason::NoBackend);
}

#[test]
fn echo_over_ipv6_is_limited_by_the_same_rate() {
    let mut rare = desired6(1);
    rare.local.answers.echo = 20;
    let mut machine = Machine::new(rare);
    let echo =
        || from_router(CLIENT6, VIP6, 64, |step, into| step.icmpv6_echo_request(1, 2).write(into, b"payload").unwrap());
    machine.pass(0, echo());
    machine.pass(0, ping(CLIENT, VIP));
    machine.refuse(0, 0, echo(), DropReason::EchoLimited);
    machine.refuse(0, 0, ping(CLIENT, VIP), DropReason::EchoLimited);
}

#[test]
fn a_newcomer_without_a_snat_port_is_refused_and_nobody_else() {
    let mut few = desired6(1);
    few.local.snat_ports = (1024, 1024 + 63);
    let mut machine = Machine::new(few.clone());
    let (mut served, mut refused) = (vec![], 0);
    for n in 0..200u16 {
        let source = format!("198.51.{}.{}", n / 100, n % 100 + 1);
        let left = machine.feed(0, 0, &[tcp((&source, 5000), (VIP, 80), "S")]);
        let [(0, packet)] = &left[..] else { panic!("{n}: {left:?}") };
        match ends(packet).0.0.as_str() {
            "10.0.0.100" => {
                served.push((source.clone(), ends(packet)));
                // Half-open ones would give way to the next.
                machine.pass(0, tcp((&source, 5000), (VIP, 80), "A"));
            }
            VIP => refused += 1,
            other => panic!("{other}"),
        }
    }
    assert_eq!((served.len(), refused), (128, 72), "64 ports towards each of two backends");
    assert_eq!(machine.total(|c| c.answers(Reply::Reset).get()), 72);
    // A packet of a flow that has no session is not torn down, and whoever has a port keeps it.
    machine.refuse(0, 0, tcp(("198.51.7.7", 5000), (VIP, 80), "A"), DropReason::SnatExhausted);
    for (source, expected) in served {
        assert_eq!(ends(&machine.pass(0, tcp((&source, 5000), (VIP, 80), "A"))), expected);
    }
}
