//! Rows 3 to 14: headers that lie.

use proptest::prelude::*;

use super::templates::{cluster, tcp6};
use super::*;

fn good() -> Vec<u8> {
    tcp((CLIENT, 5000), (VIP, 80), "S")
}

#[test]
fn row_3_ipv4_lengths_that_cannot_be_are_dropped() {
    let mut machine = Machine::new(desired(1));
    let good = good();
    let refuse = |machine: &mut Machine, packet, reason| all_refused(machine, 0, &[packet], reason);
    for ihl in 0..5 {
        refuse(&mut machine, edited_raw(&good, 14, &[0x40 | ihl]), DropReason::Ip4Header);
    }
    // 47 octets of IP packet: a header of 48 and more is longer.
    for ihl in 12..16 {
        refuse(&mut machine, edited_raw(&good, 14, &[0x40 | ihl]), DropReason::Ip4Header);
    }
    for version in [0, 5, 6, 15] {
        refuse(&mut machine, edited_raw(&good, 14, &[version << 4 | 5]), DropReason::Ip4Header);
    }
    for length in 0..20u16 {
        refuse(&mut machine, edited(&good, 16, &length.to_be_bytes()), DropReason::Ip4Header);
    }
    for length in 20..40u16 {
        refuse(&mut machine, edited(&good, 16, &length.to_be_bytes()), DropReason::L4Header);
    }
    for length in [48u16, 49, 1500, u16::MAX] {
        refuse(&mut machine, edited(&good, 16, &length.to_be_bytes()), DropReason::Truncated);
    }
    refuse(&mut machine, edited_raw(&good, 25, &[good[25] ^ 1]), DropReason::Ip4Checksum);
    // What is shorter than its frame is padded: the padding stays behind.
    let padded = [good.clone(), vec![0xee; 13]].concat();
    assert_eq!(machine.pass(0, padded).len(), good.len());
}

/// As [`edited`], sums as they were.
fn edited_raw(packet: &[u8], at: usize, octets: &[u8]) -> Vec<u8> {
    let mut packet = packet.to_vec();
    packet[at..at + octets.len()].copy_from_slice(octets);
    packet
}

/// A SYN with these IPv4 options, padded.
fn with_options(options: &[u8]) -> Vec<u8> {
    let plain = good();
    let mut padded = options.to_vec();
    padded.resize(options.len().next_multiple_of(4), 0);
    let mut packet = [&plain[..34], &padded[..], &plain[34..]].concat();
    packet[14] = 0x45 + (padded.len() / 4) as u8;
    let length = packet.len() as u16 - 14;
    packet[16..18].copy_from_slice(&length.to_be_bytes());
    summed(packet)
}

#[test]
fn row_4_source_routes_are_dropped_and_harmless_options_go_through() {
    let mut machine = Machine::new(desired(1));
    for route in [
        &[131, 7, 4, 10, 0, 0, 55][..],
        &[137, 7, 4, 10, 0, 0, 55],
        &[1, 1, 131, 7, 4, 10, 0, 0, 55],
        &[7, 7, 4, 0, 0, 0, 0, 137, 3, 4],
        // Lists whose lengths cannot be might hide one.
        &[7, 0, 131, 3],
        &[7, 1, 131, 3],
        &[68, 200, 5, 0],
    ] {
        all_refused(&mut machine, 0, &[with_options(route)], DropReason::Ip4SourceRoute);
    }
    for harmless in [&[7, 7, 4, 0, 0, 0, 0][..], &[148, 4, 0, 0], &[68, 8, 5, 0, 0, 0, 0, 0], &[1, 1, 1, 0, 131, 7]] {
        let packet = with_options(harmless);
        let there = machine.pass(0, packet.clone());
        check_sums(&there);
        assert_eq!(there[34..34 + harmless.len()], packet[34..34 + harmless.len()]);
    }
}

#[test]
fn row_6_chains_of_ipv6_headers_are_walked_within_bounds() {
    const OPTIONS: (u8, &[u8]) = (60, &[0, 0, 1, 4, 0, 0, 0, 0]);
    let mut machine = Machine::new(cluster(1));
    // Atomic fragments are whole packets (RFC 6946); routing that has arrived is only walked over.
    for harmless in
        [OPTIONS, (0, &[0, 0, 5, 2, 0, 0, 1, 0]), (44, &[0; 8]), (43, &[0, 0, 4, 0, 0, 0, 0, 0]), (43, &[0; 8])]
    {
        let there = machine.pass(0, tcp6(&[harmless]));
        assert_eq!(there[54 + 1..54 + 8], harmless.1[1..8], "carried along");
    }
    machine.pass(0, tcp6(&[OPTIONS; 8]));
    all_refused(&mut machine, 0, &[tcp6(&[OPTIONS; 9]), tcp6(&[OPTIONS; 20])], DropReason::Ip6Extension);
    let late = tcp6(&[(0, &[0, 0, 1, 4, 0, 0, 0, 0]), OPTIONS]);
    let beyond = tcp6(&[(60, &[0, 200, 1, 4, 0, 0, 0, 0])]);
    all_refused(&mut machine, 0, &[late, beyond], DropReason::Ip6Extension);
    let type_0 = tcp6(&[(43, &[0, 0, 0, 1, 0, 0, 0, 0])]);
    let elsewhere = tcp6(&[(43, &[0, 0, 4, 1, 0, 0, 0, 0])]);
    all_refused(&mut machine, 0, &[type_0, elsewhere], DropReason::Ip4SourceRoute);
    let jumbogram = edited_raw(&tcp6(&[]), 18, &[0, 0]);
    let four = edited_raw(&tcp6(&[]), 14, &[0x40]);
    all_refused(&mut machine, 0, &[jumbogram, four], DropReason::Ip6Header);
}

#[test]
fn row_7_one_and_two_tags_are_looked_behind_and_more_are_dropped() {
    let mut machine = Machine::new(desired(1));
    for kind in [[0x81, 0], [0x88, 0xa8], [0x91, 0]] {
        for depth in 1..=10 {
            let plain = good();
            let tags = [kind[0], kind[1], 0, 5].repeat(depth);
            let packet = [&plain[..12], &tags, &plain[12..]].concat();
            match depth {
                1 | 2 => assert_eq!(machine.pass(0, packet)[12..12 + 4 * depth], tags),
                _ => all_refused(&mut machine, 0, &[packet], DropReason::TagDepth),
            }
        }
    }
}

#[test]
fn row_8_tcp_flags_that_nobody_sends_are_dropped_and_others_go_through_unchanged() {
    let [fin, syn, rst, ack] = [1, 2, 4, 16];
    let mut machine = Machine::new(desired(1));
    for flags in 0..=u8::MAX {
        let has = |flag: u8| flags & flag != 0;
        let opens = has(syn) && !has(fin) && !has(rst) && (!has(ack) || flags & 0x20 == 0);
        let resets = has(rst) && !has(syn) && !has(fin) && flags & 0x20 == 0;
        let goes_on = has(ack) && !has(syn) && !has(rst);
        let packet = tcp_sum(edited(&tcp((CLIENT, 6000 + u16::from(flags)), (VIP, 80), "S"), 47, &[flags]));
        if opens || resets || goes_on {
            let there = machine.pass(0, packet);
            assert_eq!(there[47], flags, "flags {flags:#x}");
            check_sums(&there);
        } else {
            all_refused(&mut machine, 0, &[packet], DropReason::TcpFlags);
        }
    }
    // Those of a session go on unchanged.
    let xmas = tcp_sum(edited(&tcp((CLIENT, 6002), (VIP, 80), "S"), 47, &[0x29]));
    assert_eq!(machine.pass(0, xmas)[47], 0x29);
    // Data offsets below the header and beyond the packet, whose TCP part has 27 octets.
    for offset in (0..5).chain(7..16) {
        all_refused(&mut machine, 0, &[edited(&good(), 46, &[offset << 4])], DropReason::L4Header);
    }
}

/// TCP's checksum made right.
fn tcp_sum(mut packet: Vec<u8>) -> Vec<u8> {
    let header = etherparse::PacketHeaders::from_ethernet_slice(&packet).unwrap();
    let (Some(etherparse::NetHeaders::Ipv4(ip, _)), Some(etherparse::TransportHeader::Tcp(tcp))) =
        (header.net, header.transport)
    else {
        panic!("not TCP")
    };
    let sum = tcp.calc_checksum_ipv4(&ip, header.payload.slice()).unwrap();
    packet[50..52].copy_from_slice(&sum.to_be_bytes());
    packet
}

#[test]
fn row_9_udp_lengths_that_do_not_fit_are_dropped() {
    let mut machine = Machine::new(desired(1));
    let good = udp((CLIENT, 5000), (VIP, 53), b"hello");
    for length in (0..8u16).chain([14, 100, u16::MAX]) {
        all_refused(&mut machine, 0, &[edited(&good, 38, &length.to_be_bytes())], DropReason::L4Header);
    }
    all_refused(&mut machine, 0, &[edited(&good, 34, &[0, 0])], DropReason::PortZero);
}

proptest! {
    #[test]
    fn row_10_a_wrong_transport_checksum_leaves_as_wrong_as_it_came(error in 1u16..0xffff, tcp_or_udp: bool, port in 1024u16..) {
        let mut machine = Machine::new(desired(1));
        let (packet, at) = match tcp_or_udp {
            true => (tcp((CLIENT, port), (VIP, 80), "S"), 50),
            false => (udp((CLIENT, port), (VIP, 53), b"question"), 40),
        };
        let sum = |packet: &[u8]| u16::from_be_bytes([packet[at], packet[at + 1]]);
        let right = machine.pass(0, packet.clone());
        check_sums(&right);
        // Ones' complement addition: what is added comes out as it went in, and 0 and ones are one number.
        let add = |a: u16| { let s = u32::from(a) + u32::from(error); (s & 0xffff) as u16 + (s >> 16) as u16 };
        let wrong = edited(&packet, at, &add(sum(&packet)).to_be_bytes());
        prop_assume!(sum(&wrong) != 0);
        let there = machine.pass(0, wrong);
        prop_assert_eq!(sum(&there) % 0xffff, add(sum(&right)) % 0xffff);
    }
}

#[test]
fn row_11_a_routing_loop_ends_with_one_time_exceeded_and_no_more() {
    let mut machine = Machine::new(desired(1));
    // An agent that sends everything back: what it is sent for 9.0.2.3 returns to us.
    let mut inner = tcp(("9.0.1.7", 7000), ("9.0.2.3", 80), "S");
    let mut hops = 0;
    let answer = loop {
        let left = machine.pass(0, vxlan(1, 1024, &inner));
        inner = left[50..].to_vec();
        hops += 1;
        if inner[23] == 1 {
            break inner;
        }
    };
    assert_eq!((hops, &answer[34..36]), (64, &[11, 0][..]));
    assert_eq!(answer[30..34], ip("9.0.1.7").octets());
    // An error about whose own TTL nothing is said.
    let looped = edited(&answer, 22, &[1]);
    let looped = edited(&looped, 26, &ip("9.0.1.8").octets());
    all_refused(
        &mut machine,
        0,
        &[vxlan(1, 1024, &edited(&looped, 30, &ip("9.0.2.3").octets()))],
        DropReason::TtlExpired,
    );
}

#[test]
fn row_12_a_service_that_leads_back_to_us_does_not_loop() {
    let mut circular = desired(1);
    // Another VIP as a backend: check and Marathon's labels are refused that, and this is what would happen.
    circular.shared.services[1].backends = vec![backend(&format!("{VIP}:53"), None)];
    let mut machine = Machine::new(circular);
    let mut there = machine.pass(0, good());
    there[..12].copy_from_slice(&[OURS.0, ROUTER.0].concat());
    all_refused(&mut machine, 0, &[there], DropReason::Martian);
}

#[test]
fn row_13_land_packets_and_impossible_sources_are_martians() {
    let mut machine = Machine::new(desired(1));
    let mut sources = vec![VIP, NAMED, "10.0.0.9", "10.0.0.100", "198.51.100.1", "10.0.0.255", "10.0.0.0"];
    sources.extend(["0.0.0.0", "0.1.2.3", "127.0.0.1", "127.255.255.254", "224.0.0.1", "239.1.1.1", "240.0.0.1"]);
    sources.push("255.255.255.255");
    for source in sources {
        all_refused(&mut machine, 0, &[tcp((source, 80), (VIP, 80), "S")], DropReason::Martian);
        all_refused(&mut machine, 0, &[udp((source, 53), (VIP, 53), b"x")], DropReason::Martian);
        all_refused(&mut machine, 0, &[ping(source, VIP)], DropReason::Martian);
    }
    for source in ["9.0.1.2", "44.128.0.2"] {
        all_refused(&mut machine, 0, &[tcp((source, 80), (VIP, 80), "S")], DropReason::OverlaySpoof);
    }
    // A backend is a client like any other, its own backend's too.
    machine.pass(0, tcp(("10.0.0.11", 31000), (VIP, 80), "S"));
}

#[test]
fn row_14_frames_that_are_not_for_us_or_cannot_have_been_sent_answer_nothing() {
    let mut machine = Machine::new(desired(1));
    let to = |mac: [u8; 6]| [&mac[..], &ping(CLIENT, VIP)[6..]].concat();
    for mac in [[0xff; 6], [2, 9, 9, 9, 9, 9], [1, 0, 0x5e, 0, 0, 1], [0x33, 0x33, 0, 0, 0, 1]] {
        all_refused(&mut machine, 0, &vec![to(mac); 100], DropReason::NotOurMac);
    }
    for mac in [OURS.0, [0xff; 6], [1, 0, 0x5e, 0, 0, 1]] {
        let packet = edited_raw(&ping(CLIENT, VIP), 6, &mac);
        all_refused(&mut machine, 0, &vec![packet; 100], DropReason::SourceMac);
    }
}
