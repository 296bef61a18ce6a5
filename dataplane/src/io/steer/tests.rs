//! The kernel program through BPF_PROG_TEST_RUN: a real frame in, its verdict and counters out. A test frame arrives on
//! queue 0 of `lo` in a network namespace of the test's own, so a socket on that queue makes a redirect possible.
#![allow(unsafe_code, reason = "unshare has no safe binding here")]

use std::net::Ipv4Addr;
use std::num::NonZeroU32;
use std::process::Command;

use aya::programs::{TestRun, TestRunOptions};
use etherparse::{ArpEthIpv4Packet, ArpOperation, Icmpv6Type, IpFragOffset, IpNumber, Ipv4Header, PacketBuilder};
use proptest::prelude::*;

use super::*;
use crate::frame::Pool;
use crate::io::xsk::{Bind, WorkerUmem, XskPort};

const DROP: u32 = 1;
const PASS: u32 = 2;
const REDIRECT: u32 = 4;

const VIP: [u8; 4] = [172, 16, 0, 1];
const SNAT: [u8; 4] = [192, 0, 2, 50];
const DNS: [u8; 4] = [192, 0, 2, 53];
const VTEP: [u8; 4] = [192, 0, 2, 10];
const OTHER: [u8; 4] = [192, 0, 2, 99];
const CLIENT: [u8; 4] = [198, 51, 100, 7];
const BACKEND: [u8; 4] = [192, 0, 2, 77];
const BACKEND6: [u8; 16] = [0xfd, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0x77];
const VIP6: [u8; 16] = [0xfd, 1, 0, 0xc, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0x80];
const VIP_MAPPED: [u8; 16] = [0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0xff, 0xff, 172, 16, 0, 1];
const MACS: ([u8; 6], [u8; 6]) = ([2, 0, 0, 0, 0, 2], [2, 0, 0, 0, 0, 1]);

fn steering() -> Steering {
    Steering {
        addresses: vec![VIP.into(), SNAT.into(), VIP6.into()],
        dns: vec![DNS.into()],
        preserved: [(BACKEND.into(), 31000), (BACKEND6.into(), 31000)]
            .map(|(ip, port): (IpAddr, u16)| (SocketAddr::new(ip, port), 6))
            .into(),
        vtep: Some((VTEP.into(), vec![64000])),
        networks: BTreeSet::new(),
    }
}

/// A loaded program, with a socket on queue 0 unless `bare`. Dropping it gives everything back.
struct Bench {
    steer: Steer,
    _socket: Option<(XskPort, WorkerUmem, Pool)>,
}

impl Bench {
    /// `None` without root.
    fn new(side: Side, bare: bool) -> Option<Self> {
        // SAFETY: no precondition; only this thread leaves its network namespace.
        if unsafe { libc::geteuid() != 0 || libc::unshare(libc::CLONE_NEWNET) != 0 } {
            println!("skipped: needs root");
            return None;
        }
        // A namespace that never had an address has no local table, and then any address may be bound (`is_local`).
        assert!(Command::new("ip").args(["link", "set", "lo", "up"]).status().unwrap().success());
        let mut steer = Steer::load("lo", side).unwrap();
        for name in ["steer", "steer_frags"] {
            let program: &mut Xdp = steer.ebpf.program_mut(name).unwrap().try_into().unwrap();
            program.load().unwrap();
        }
        steer.set(&steering()).unwrap();
        let mut bench = Self { steer, _socket: None };
        if !bare {
            let (umem, pool) = WorkerUmem::new(NonZeroU32::new(64).unwrap(), 2048, 64).unwrap();
            let port = XskPort::open(&umem, "lo", 0, 16, Bind::Copy).unwrap();
            bench.steer.register(0, &port).unwrap();
            bench._socket = Some((port, umem, pool));
        }
        Some(bench)
    }

    fn verdict_of(&self, name: &str, frame: &[u8]) -> u32 {
        let program: &Xdp = self.steer.ebpf.program(name).unwrap().try_into().unwrap();
        program.test_run(TestRunOptions { data_in: Some(frame), ..TestRunOptions::new() }).unwrap().return_value
    }

    fn verdict(&self, frame: &[u8]) -> u32 {
        self.verdict_of("steer", frame)
    }

    /// The verdict of both programs, and what one run of the first counted.
    fn ask(&self, frame: &[u8]) -> (u32, SteerStatistics) {
        let before = self.steer.statistics().unwrap();
        let verdict = self.verdict(frame);
        let after = self.steer.statistics().unwrap();
        assert_eq!(self.verdict_of("steer_frags", frame), verdict);
        let counted = SteerStatistics {
            taken: after.taken - before.taken,
            passed: after.passed - before.passed,
            no_socket: after.no_socket - before.no_socket,
            fragment_passed: after.fragment_passed - before.fragment_passed,
            arp_taken: after.arp_taken - before.arp_taken,
        };
        (verdict, counted)
    }
}

fn udp(to: [u8; 4], port: u16) -> Vec<u8> {
    let mut frame = Vec::new();
    let build = PacketBuilder::ethernet2(MACS.0, MACS.1).ipv4(CLIENT, to, 64).udp(40000, port);
    build.write(&mut frame, &[0; 20]).unwrap();
    frame
}

fn tcp(to: [u8; 4], port: u16) -> Vec<u8> {
    let mut frame = Vec::new();
    let build = PacketBuilder::ethernet2(MACS.0, MACS.1).ipv4(CLIENT, to, 64).tcp(40000, port, 1, 1024).syn();
    build.write(&mut frame, &[]).unwrap();
    frame
}

/// A reply to a client behind us, with `options` words of no-operation, at `offset` 8-octet units of its datagram.
fn reply(from: [u8; 4], port: u16, protocol: IpNumber, options: usize, offset: u16) -> Vec<u8> {
    let mut frame = ipv4(CLIENT, protocol, options, offset, offset > 0, 40000);
    let l4 = 34 + options * 4;
    frame[26..30].copy_from_slice(&from);
    frame[l4..l4 + 2].copy_from_slice(&port.to_be_bytes());
    frame
}

fn reply6(from: [u8; 16], port: u16) -> Vec<u8> {
    let mut frame = Vec::new();
    let build = PacketBuilder::ethernet2(MACS.0, MACS.1).ipv6(from, [1; 16], 64).tcp(port, 40000, 1, 1024);
    build.write(&mut frame, &[]).unwrap();
    frame
}

fn echo(to: [u8; 4]) -> Vec<u8> {
    let mut frame = Vec::new();
    let build = PacketBuilder::ethernet2(MACS.0, MACS.1).ipv4(CLIENT, to, 64).icmpv4_echo_request(1, 2);
    build.write(&mut frame, &[0; 20]).unwrap();
    frame
}

/// An IPv4 packet with `options` words of no-operation, at `offset` 8-octet units of its datagram.
fn ipv4(to: [u8; 4], protocol: IpNumber, options: usize, offset: u16, more: bool, port: u16) -> Vec<u8> {
    let mut payload = vec![0; 32];
    payload[2..4].copy_from_slice(&port.to_be_bytes());
    let mut header = Ipv4Header::new(32, 64, protocol, CLIENT, to).unwrap();
    header.options = vec![1; options * 4].as_slice().try_into().unwrap();
    header.fragment_offset = IpFragOffset::try_new(offset).unwrap();
    header.more_fragments = more;
    header.dont_fragment = false;
    header.set_payload_len(32).unwrap();
    let mut frame = [&MACS.1[..], &MACS.0, &[8, 0]].concat();
    header.write(&mut frame).unwrap();
    frame.extend(payload);
    frame
}

fn arp(operation: ArpOperation, target: [u8; 4]) -> Vec<u8> {
    let packet = ArpEthIpv4Packet {
        operation,
        sender_mac: MACS.0,
        sender_ipv4: CLIENT,
        target_mac: [0; 6],
        target_ipv4: target,
    };
    let mut frame = Vec::new();
    PacketBuilder::ethernet2(MACS.0, [255; 6]).arp(packet.into()).write(&mut frame).unwrap();
    frame
}

fn tagged(frame: &[u8], tags: usize) -> Vec<u8> {
    [&frame[..12], &[0x81, 0, 0, 7].repeat(tags), &frame[12..]].concat()
}

fn ipv6(to: [u8; 16]) -> Vec<u8> {
    let mut frame = Vec::new();
    let build = PacketBuilder::ethernet2(MACS.0, MACS.1).ipv6([1; 16], to, 64).udp(40000, 53);
    build.write(&mut frame, &[]).unwrap();
    frame
}

/// To the target's solicited-node group (RFC 4291 section 2.7.1).
fn solicitation(target: [u8; 16], kind: u8) -> Vec<u8> {
    let [.., a, b, c] = target;
    let group = [0xff, 2, 0, 0, 0, 0, 0, 0, 0, 0, 0, 1, 0xff, a, b, c];
    let mut frame = Vec::new();
    let message = Icmpv6Type::Unknown { type_u8: kind, code_u8: 0, bytes5to8: [0; 4] };
    let build = PacketBuilder::ethernet2(MACS.0, [0x33, 0x33, 0xff, a, b, c]).ipv6([1; 16], group, 255).icmpv6(message);
    build.write(&mut frame, &target).unwrap();
    frame
}

const TAKEN: SteerStatistics = SteerStatistics { taken: 1, passed: 0, no_socket: 0, fragment_passed: 0, arp_taken: 0 };
const PASSED: SteerStatistics = SteerStatistics { taken: 0, passed: 1, no_socket: 0, fragment_passed: 0, arp_taken: 0 };
const ARP_TAKEN: SteerStatistics =
    SteerStatistics { taken: 0, passed: 0, no_socket: 0, fragment_passed: 0, arp_taken: 1 };
const FRAGMENT: SteerStatistics =
    SteerStatistics { taken: 0, passed: 1, no_socket: 0, fragment_passed: 1, arp_taken: 0 };

#[test]
fn each_class_of_packet_goes_where_the_design_says() {
    let Some(bench) = Bench::new(Side::Wire { arp: true }, false) else { return };
    let (u, t) = (IpNumber::UDP, IpNumber::TCP);
    for (sentence, frame, verdict, counted) in [
        ("TCP to a VIP", tcp(VIP, 80), REDIRECT, TAKEN),
        ("UDP to a VIP", udp(VIP, 9), REDIRECT, TAKEN),
        ("an echo request to a VIP", echo(VIP), REDIRECT, TAKEN),
        ("options before TCP to a VIP", ipv4(VIP, t, 10, 0, false, 80), REDIRECT, TAKEN),
        ("a first fragment to a VIP", ipv4(VIP, t, 0, 0, true, 80), REDIRECT, TAKEN),
        ("a later fragment to a VIP", ipv4(VIP, t, 0, 185, false, 80), REDIRECT, TAKEN),
        ("TCP to a SNAT address", tcp(SNAT, 2000), REDIRECT, TAKEN),
        ("a reply that keeps the client's address", reply(BACKEND, 31000, t, 0, 0), REDIRECT, TAKEN),
        ("the same behind options", reply(BACKEND, 31000, t, 10, 0), REDIRECT, TAKEN),
        ("a tagged one", tagged(&reply(BACKEND, 31000, t, 1, 0), 2), REDIRECT, TAKEN),
        ("the backend's other port", reply(BACKEND, 31001, t, 0, 0), PASS, PASSED),
        ("its other protocol", reply(BACKEND, 31000, u, 0, 0), PASS, PASSED),
        ("a later fragment of its", reply(BACKEND, 31000, t, 0, 185), PASS, PASSED),
        ("the same port of another", reply(OTHER, 31000, t, 0, 0), PASS, PASSED),
        ("a reply over IPv6 that keeps the client's address", reply6(BACKEND6, 31000), REDIRECT, TAKEN),
        ("the backend's other port over IPv6", reply6(BACKEND6, 31001), PASS, PASSED),
        ("a later fragment to a SNAT address", ipv4(SNAT, u, 0, 1, true, 9), REDIRECT, TAKEN),
        ("a question", udp(DNS, 53), REDIRECT, TAKEN),
        ("a question behind options", ipv4(DNS, u, 1, 0, false, 53), REDIRECT, TAKEN),
        ("a question behind the most options", ipv4(DNS, u, 10, 0, false, 53), REDIRECT, TAKEN),
        ("the first fragment of a question", ipv4(DNS, u, 0, 0, true, 53), REDIRECT, TAKEN),
        ("VXLAN", udp(VTEP, 64000), REDIRECT, TAKEN),
        ("a question by TCP", tcp(DNS, 53), PASS, PASSED),
        ("UDP to another port of DNS", udp(DNS, 54), PASS, PASSED),
        ("UDP to port 0 of DNS", udp(DNS, 0), PASS, PASSED),
        ("UDP to VXLAN's port on DNS", udp(DNS, 64000), PASS, PASSED),
        ("another UDP port of the VTEP", udp(VTEP, 4789), PASS, PASSED),
        ("a question to the VTEP", udp(VTEP, 53), PASS, PASSED),
        ("ssh to the VTEP's address", tcp(VTEP, 22), PASS, PASSED),
        ("a ping of the VTEP's address", echo(VTEP), PASS, PASSED),
        ("VXLAN to another node", udp(OTHER, 64000), PASS, PASSED),
        ("a later fragment of VXLAN", ipv4(VTEP, u, 0, 185, false, 0), PASS, FRAGMENT),
        ("a later fragment of a question", ipv4(DNS, u, 0, 185, true, 53), PASS, FRAGMENT),
        ("a later fragment of TCP to the node", ipv4(VTEP, t, 0, 185, false, 0), PASS, PASSED),
        ("TCP elsewhere", tcp(OTHER, 80), PASS, PASSED),
        ("who has a VIP", arp(ArpOperation::REQUEST, VIP), REDIRECT, ARP_TAKEN),
        ("who has a SNAT address", arp(ArpOperation::REQUEST, SNAT), REDIRECT, ARP_TAKEN),
        ("who has the DNS address", arp(ArpOperation::REQUEST, DNS), REDIRECT, ARP_TAKEN),
        ("who has the VTEP's address", arp(ArpOperation::REQUEST, VTEP), PASS, PASSED),
        ("who has another address", arp(ArpOperation::REQUEST, OTHER), PASS, PASSED),
        ("a reply", arp(ArpOperation::REPLY, VIP), PASS, PASSED),
        ("a tagged packet to a VIP", tagged(&tcp(VIP, 80), 1), REDIRECT, TAKEN),
        ("two tags and a question", tagged(&udp(DNS, 53), 2), REDIRECT, TAKEN),
        ("two tags and a question behind options", tagged(&ipv4(DNS, u, 3, 0, false, 53), 2), REDIRECT, TAKEN),
        ("a tagged request for a VIP", tagged(&arp(ArpOperation::REQUEST, VIP), 1), REDIRECT, ARP_TAKEN),
        ("three tags", tagged(&tcp(VIP, 80), 3), PASS, PASSED),
        ("a tagged packet elsewhere", tagged(&tcp(OTHER, 80), 1), PASS, PASSED),
        ("IPv6 to a VIP", ipv6(VIP6), REDIRECT, TAKEN),
        ("tagged IPv6 to a VIP", tagged(&ipv6(VIP6), 1), REDIRECT, TAKEN),
        ("IPv6 elsewhere", ipv6([2; 16]), PASS, PASSED),
        ("IPv6 to an IPv4 VIP's mapped form", ipv6(VIP_MAPPED), REDIRECT, TAKEN),
        ("a solicitation for a VIP", solicitation(VIP6, 135), REDIRECT, ARP_TAKEN),
        ("a solicitation for another", solicitation([2; 16], 135), PASS, PASSED),
        ("an advertisement of a VIP", solicitation(VIP6, 136), PASS, PASSED),
    ] {
        assert_eq!(bench.ask(&frame), (verdict, counted), "{sentence}");
    }
}

#[test]
fn everything_from_the_host_port_is_taken_but_replies_and_groups() {
    let Some(bench) = Bench::new(Side::Host, false) else { return };
    for (sentence, frame, verdict, counted) in [
        ("TCP anywhere", tcp(OTHER, 80), REDIRECT, TAKEN),
        ("a later fragment", ipv4(OTHER, IpNumber::UDP, 0, 185, false, 0), REDIRECT, TAKEN),
        ("who has any address", arp(ArpOperation::REQUEST, OTHER), REDIRECT, ARP_TAKEN),
        ("a reply", arp(ArpOperation::REPLY, OTHER), PASS, PASSED),
        ("IPv6", ipv6([2; 16]), REDIRECT, TAKEN),
        ("IPv6 to a group", ipv6([0xff; 16]), PASS, PASSED),
    ] {
        assert_eq!(bench.ask(&frame), (verdict, counted), "{sentence}");
    }
}

#[test]
fn what_is_ours_without_a_socket_is_dropped_and_counted_and_the_rest_passes() {
    let Some(bench) = Bench::new(Side::Wire { arp: true }, true) else { return };
    let no_socket = SteerStatistics { no_socket: 1, ..SteerStatistics::default() };
    for frame in [tcp(VIP, 80), udp(DNS, 53), udp(VTEP, 64000), arp(ArpOperation::REQUEST, VIP)] {
        assert_eq!(bench.ask(&frame), (DROP, no_socket));
    }
    assert_eq!(bench.ask(&tcp(VTEP, 22)), (PASS, PASSED));
}

#[test]
fn with_arp_off_requests_for_our_addresses_pass() {
    let Some(bench) = Bench::new(Side::Wire { arp: false }, false) else { return };
    assert_eq!(bench.ask(&arp(ArpOperation::REQUEST, VIP)), (PASS, PASSED));
    assert_eq!(bench.ask(&tcp(VIP, 80)), (REDIRECT, TAKEN));
}

#[test]
fn a_packet_cut_anywhere_passes_until_it_says_enough() {
    let Some(bench) = Bench::new(Side::Wire { arp: true }, false) else { return };
    for (frame, enough) in [
        (tcp(VIP, 80), 34),
        (udp(DNS, 53), 42),
        (ipv4(DNS, IpNumber::UDP, 10, 0, false, 53), 82),
        (udp(VTEP, 64000), 42),
        (arp(ArpOperation::REQUEST, VIP), 42),
        (tcp(OTHER, 80), usize::MAX),
    ] {
        // BPF_PROG_TEST_RUN refuses less than an Ethernet header.
        for len in 14..=frame.len() {
            let verdict = if len >= enough { REDIRECT } else { PASS };
            assert_eq!(bench.verdict(&frame[..len]), verdict, "{len} octets of {frame:02x?}");
        }
    }
}

#[test]
fn damaged_packets_are_taken_or_passed() {
    let Some(bench) = Bench::new(Side::Wire { arp: true }, false) else { return };
    let templates = [tcp(VIP, 80), udp(DNS, 53), udp(VTEP, 64000), arp(ArpOperation::REQUEST, VIP)];
    let damage = (0..templates.len(), 12..42usize, any::<u8>(), 14..60usize);
    let config = ProptestConfig { failure_persistence: None, ..ProptestConfig::with_cases(2000) };
    proptest!(config, |((template, at, octet, len) in damage)| {
        let mut frame = templates[template].clone();
        frame[at] = octet;
        frame.truncate(len);
        let verdict = bench.verdict(&frame);
        prop_assert!(verdict == PASS || verdict == REDIRECT);
    });
}

#[test]
fn a_change_adds_what_is_new_and_leaves_what_has_gone() {
    let Some(mut bench) = Bench::new(Side::Wire { arp: true }, false) else { return };
    let next = Steering { addresses: vec![SNAT.into(), OTHER.into()], dns: vec![VIP.into()], ..Steering::default() };
    bench.steer.withdraw(&next).unwrap();
    assert_eq!([udp(DNS, 53), tcp(VIP, 80), tcp(OTHER, 80)].map(|f| bench.verdict(&f)), [PASS, REDIRECT, PASS]);
    bench.steer.admit(&next).unwrap();
    let frames = [tcp(SNAT, 1), tcp(OTHER, 80), udp(VIP, 53), tcp(VIP, 80), udp(VTEP, 64000)];
    assert_eq!(frames.map(|f| bench.verdict(&f)), [REDIRECT, REDIRECT, REDIRECT, PASS, PASS]);
    bench.steer.set(&Steering::default()).unwrap();
    assert_eq!([tcp(SNAT, 1), tcp(OTHER, 80), udp(VIP, 53)].map(|f| bench.verdict(&f)), [PASS; 3]);
}

#[test]
fn replies_of_preserving_backends_are_taken_while_there_are_such() {
    let Some(mut bench) = Bench::new(Side::Wire { arp: true }, false) else { return };
    let frames = [reply(BACKEND, 31000, IpNumber::TCP, 0, 0), reply6(BACKEND6, 31000)];
    assert_eq!(frames.each_ref().map(|f| bench.verdict(f)), [REDIRECT; 2]);
    let mut less = steering();
    less.preserved.pop_last();
    bench.steer.set(&less).unwrap();
    assert_eq!(frames.each_ref().map(|f| bench.verdict(f)), [REDIRECT, PASS]);
    bench.steer.set(&Steering::default()).unwrap();
    assert_eq!(frames.each_ref().map(|f| bench.verdict(f)), [PASS; 2]);
}

#[test]
fn tunnels_have_several_ports_and_networks_are_entered_where_there_is_a_gateway() {
    let Some(mut bench) = Bench::new(Side::Wire { arp: true }, false) else { return };
    let inside = [[9, 0, 1, 7], [9, 255, 0, 1]];
    let inside6 = ipv6([0xfd, 1, 0, 0xb, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 9]);
    let mut frames: Vec<_> = inside.iter().map(|ip| tcp(*ip, 80)).collect();
    frames.extend([echo(inside[0]), inside6, udp(VTEP, 4789), udp(VTEP, 64000), tcp(OTHER, 80)]);
    let ask = |bench: &Bench| frames.iter().map(|f| bench.verdict(f)).collect::<Vec<_>>();
    bench.steer.set(&steering()).unwrap();
    assert_eq!(ask(&bench), [PASS, PASS, PASS, PASS, PASS, REDIRECT, PASS]);
    let networks = ["9.0.0.0/8", "fd01:b::/64"].map(|net| net.parse().unwrap()).into();
    let vtep = Some((VTEP.into(), vec![4789, 64000]));
    bench.steer.set(&Steering { networks, vtep, ..steering() }).unwrap();
    assert_eq!(ask(&bench), [REDIRECT, REDIRECT, REDIRECT, REDIRECT, REDIRECT, REDIRECT, PASS]);
    bench.steer.set(&steering()).unwrap();
    assert_eq!(ask(&bench), [PASS, PASS, PASS, PASS, PASS, REDIRECT, PASS]);
}

#[test]
fn more_addresses_than_the_program_holds_are_refused_and_the_first_are_taken() {
    let Some(mut bench) = Bench::new(Side::Wire { arp: true }, false) else { return };
    let addresses = (0..65_540).map(|n| Ipv4Addr::from_bits(0x0a00_0000 + n).into()).collect();
    let many = Steering { addresses, ..Steering::default() };
    assert!(matches!(bench.steer.set(&many), Err(SteerError::Full)));
    assert_eq!(bench.verdict(&tcp([10, 0, 0, 1], 80)), REDIRECT);
    bench.steer.set(&steering()).unwrap();
    assert_eq!([tcp([10, 0, 0, 1], 80), tcp(VIP, 80)].map(|f| bench.verdict(&f)), [PASS, REDIRECT]);
}

#[test]
fn arp_is_answered_for_a_dns_address_only_where_the_kernel_does_not_own_it() {
    let dns = Ipv4Addr::from(DNS);
    let wire = |local| entries(&steering(), Side::Wire { arp: true }, |_| local)[&IpAddr::V4(dns)];
    assert_eq!((wire(true), wire(false)), (TAKE_DNS, TAKE_DNS | TAKE_ARP));
    assert!(is_local(Ipv4Addr::LOCALHOST.into()) && !is_local(Ipv4Addr::new(203, 0, 113, 77).into()));
    let both = Steering { dns: vec![dns.into()], vtep: Some((dns, vec![4789])), ..Steering::default() };
    assert_eq!(entries(&both, Side::Wire { arp: false }, |_| false)[&IpAddr::V4(dns)], TAKE_DNS | TAKE_TUNNELS);
}
