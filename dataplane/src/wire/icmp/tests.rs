use etherparse::{IpNumber, Ipv4Header, Ipv4Options, TcpHeader, UdpHeader};
use proptest::prelude::*;
use proptest::sample::select;

use super::*;
use crate::wire::{ETHERNET, golden};

/// A whole TCP or UDP packet.
fn packet(ends: [End<u32>; 2], tcp: bool, options: usize, payload: &[u8]) -> Vec<u8> {
    let [s, d] = ends;
    let number = if tcp { IpNumber::TCP } else { IpNumber::UDP };
    let l4 = if tcp { 20 } else { 8 };
    let (source, destination) = (s.ip.to_be_bytes(), d.ip.to_be_bytes());
    let mut header = Ipv4Header::new((l4 + payload.len()) as u16, 9, number, source, destination).unwrap();
    header.options = Ipv4Options::try_from(&[1u8; 40][..options * 4]).unwrap();
    header.set_payload_len(l4 + payload.len()).unwrap();
    header.header_checksum = header.calc_header_checksum();
    let mut bytes = header.to_bytes().to_vec();
    if tcp {
        let mut tcp = TcpHeader::new(s.port, d.port, 77, 4096);
        tcp.checksum = tcp.calc_checksum_ipv4(&header, payload).unwrap();
        bytes.extend(tcp.to_bytes());
    } else {
        let mut udp = UdpHeader::without_ipv4_checksum(s.port, d.port, payload.len()).unwrap();
        udp.checksum = udp.calc_checksum_ipv4(&header, payload).unwrap();
        bytes.extend(udp.to_bytes());
    }
    bytes.extend(payload);
    bytes
}

/// An error from one address to another about `inner`.
fn error(source: u32, destination: u32, ttl: u8, kind: u16, inner: &[u8]) -> Vec<u8> {
    let mut bytes = vec![0; FRONT];
    bytes.extend(inner);
    let length = bytes.len() as u16;
    ip4::write_header(&mut bytes, length, 0, ip4::ICMP, 0, source, destination);
    let before = word(&bytes, ip4::field::TTL);
    let after = u16::from(ttl) << 8 | u16::from(ip4::ICMP);
    put(&mut bytes, ip4::field::TTL, after.to_be_bytes());
    Delta::default().word(before, after).update(&mut bytes, ip4::field::CHECKSUM);
    put(&mut bytes, 20, kind.to_be_bytes());
    let checksum = !fold(sum(&bytes[20..], 0));
    put(&mut bytes, 22, checksum.to_be_bytes());
    bytes
}

fn ends() -> impl Strategy<Value = [End<u32>; 2]> {
    any::<[(u32, u16); 2]>().prop_map(|ends| ends.map(|(ip, port)| End { ip, port }))
}

fn sound(icmp: &[u8]) -> bool {
    fold(sum(icmp, 0)) == 0xffff
}

proptest! {
    #[test]
    fn a_translated_error_is_the_error_about_the_other_packet(
        before in ends(), after in ends(), outer: [u32; 4], ttl in 2u8.., tcp: bool, options in 0usize..=10,
        payload in prop::collection::vec(any::<u8>(), 0..60), cut in 8usize..80,
        kind in select(vec![0x0300u16, 0x0304, 0x0b00, 0x0c00]), wrong: bool,
    ) {
        let [a, b, c, d] = outer;
        let quote = |ends| {
            let mut whole = packet(ends, tcp, options, &payload);
            whole.truncate(20 + options * 4 + cut);
            whole
        };
        // A TCP sum that happens to be 0 is taken for none.
        prop_assume!(!tcp || [before, after].iter().all(|ends| word(&packet(*ends, tcp, options, &payload), 36 + options * 4) != 0));
        let mut got = error(a, b, ttl, kind, &quote(before));
        let mut expected = error(c, d, ttl - 1, kind, &quote(after));
        if tcp && cut < 18 {
            // The sum was not quoted whole, so what is there of it stays.
            let at = FRONT + 20 + options * 4 + 16;
            let (got, expected) = (got.get_mut(at..).unwrap_or_default(), expected.get_mut(at..).unwrap_or_default());
            got.fill(0);
            expected.fill(0);
        }
        for bytes in [&mut got, &mut expected] {
            put(bytes, 22, [0, 0]);
            let checksum = !fold(sum(&bytes[20..], 0));
            put(bytes, 22, checksum.to_be_bytes());
        }
        if wrong {
            got[22] ^= 0x5a;
        }
        let quoted = quoted(&got[20..]).unwrap();
        prop_assert_eq!((quoted.source, quoted.destination), (before[0], before[1]));
        prop_assert_eq!(quoted.protocol, if tcp { ip4::TCP } else { ip4::UDP });
        prop_assert_eq!(usize::from(quoted.whole.unwrap()), payload.len() + if tcp { 20 } else { 8 });
        let to = Translation { outer_source: c, outer_destination: d, source: after[0], destination: after[1] };
        translate_error(&mut got, 20, &quoted, &to);
        if wrong {
            prop_assert!(!sound(&got[20..]));
            put(&mut got, 22, [expected[22], expected[23]]);
        }
        prop_assert_eq!(got, expected);
    }

    #[test]
    fn an_error_about_an_echo_message_is_translated_by_its_identifier(
        before in ends(), after in ends(), outer: [u32; 4], reply: bool, payload in prop::collection::vec(any::<u8>(), 0..60),
    ) {
        let [a, b, c, d] = outer;
        // Who is asked has no port.
        let only = |[s, d]: [End<u32>; 2]| [End { port: if reply { 0 } else { s.port }, ..s }, End { port: if reply { d.port } else { 0 }, ..d }];
        let (before, after) = (only(before), only(after));
        let echo = |[s, d]: [End<u32>; 2]| {
            let builder = etherparse::PacketBuilder::ipv4(s.ip.to_be_bytes(), d.ip.to_be_bytes(), 9);
            let mut bytes = Vec::new();
            match reply {
                true => builder.icmpv4_echo_reply(d.port, 3).write(&mut bytes, &payload).unwrap(),
                false => builder.icmpv4_echo_request(s.port, 3).write(&mut bytes, &payload).unwrap(),
            }
            bytes
        };
        let mut got = error(a, b, 9, 0x0b00, &echo(before));
        let quoted = quoted(&got[20..]).unwrap();
        prop_assert_eq!((quoted.source, quoted.destination, quoted.protocol), (before[0], before[1], ip4::ICMP));
        let to = Translation { outer_source: c, outer_destination: d, source: after[0], destination: after[1] };
        translate_error(&mut got, 20, &quoted, &to);
        // A sum of 0 and one of all ones are the same.
        let same = |x: &[u8], at: usize| x[at..at + 2] == [0, 0] || x[at..at + 2] == [0xff, 0xff];
        let expected = error(c, d, 8, 0x0b00, &echo(after));
        prop_assume!(![22, FRONT + 10, FRONT + 22].iter().any(|at| same(&expected, *at)));
        prop_assert_eq!(got, expected);
    }

    #[test]
    fn no_octets_make_it_panic(mut icmp: Vec<u8>, kind in select(vec![3u8, 11, 12]), to: [u32; 4]) {
        if let Some(first) = icmp.first_mut() {
            *first = kind;
        }
        if let Some(nine) = icmp.get_mut(8) {
            *nine = 0x40 | *nine & 0x0f;
        }
        let [outer_source, outer_destination, a, b] = to;
        let end = |ip| End { ip, port: 1 };
        let to = Translation { outer_source, outer_destination, source: end(a), destination: end(b) };
        if let Some(quoted) = quoted(&icmp) {
            prop_assert!(quoted.l4 + 8 <= quoted.end && quoted.end <= icmp.len());
            translate_error(&mut icmp, 0, &quoted, &to);
        }
        let _ = (may_answer(&icmp), raise_mtu(&mut icmp));
        let _ = write(&mut icmp, Message::TIME_EXCEEDED, 1);
    }

    #[test]
    fn an_error_made_here_is_sound_and_quotes_what_came(
        ends in ends(), payload in prop::collection::vec(any::<u8>(), 0..900), options in 0usize..=10, source: u32, mtu: u16,
    ) {
        let offender = packet(ends, true, options, &payload);
        let mut made = vec![0xee; FRONT];
        made.extend(&offender[..quotable(offender.len())]);
        prop_assert!(made.len() <= ERROR_MAX);
        prop_assert_eq!(write(&mut made, Message::too_big(mtu), source), Some(ends[0].ip));
        prop_assert!(ip4::sound(&made[..20]) && sound(&made[20..]));
        prop_assert_eq!(&made[FRONT..], &offender[..offender.len().min(548)]);
        prop_assert_eq!((long(&made, ip4::field::SOURCE), word(&made, 20), word(&made, 26)), (source, 0x0304, mtu));
        prop_assert_eq!(quoted(&made[20..]).map(|q| (q.source, q.destination)), Some((ends[0], ends[1])));
    }
}

/// The frame with its error translated to `source` (and its port) behind the outer destination.
fn translated(name: &str, source: [u8; 4], port: Option<u16>) -> Option<(Vec<u8>, Vec<u8>)> {
    let (mut frame, expected) = golden::vector(name)?;
    let ip = &mut frame[ETHERNET..];
    let quoted = quoted(&ip[20..]).unwrap();
    let new = u32::from_be_bytes(source);
    let to = Translation {
        outer_source: long(ip, ip4::field::SOURCE),
        outer_destination: new,
        source: End { ip: new, port: port.unwrap_or(quoted.source.port) },
        destination: quoted.destination,
    };
    // The recorded programs translate without forwarding, so the TTL stays: one more before makes up for it.
    let before = word(ip, ip4::field::TTL);
    put(ip, ip4::field::TTL, (before + 0x100).to_be_bytes());
    Delta::default().word(before, before + 0x100).update(ip, ip4::field::CHECKSUM);
    translate_error(ip, 20, &quoted, &to);
    Some((frame, expected))
}

#[test]
fn recorded_errors_are_translated_to_the_octet() {
    for (name, source, port) in [
        ("icmp4_err_revnat_full_tcp", [192, 168, 0, 1], None),
        ("icmp4_err_revnat_min_tcp_8_bytes", [192, 168, 0, 1], None),
        ("icmp4_err_frag_needed_port_restored", [10, 0, 10, 1], Some(3030)),
    ] {
        let Some((got, expected)) = translated(name, source, port) else { return };
        assert_eq!(got, expected, "{name}");
    }
}

#[test]
fn recorded_too_big_answers_come_from_the_vip_with_the_same_mtu_and_quote() {
    for (name, mtu) in [("encap_too_big_geneve", 200 - 62), ("encap_too_big_ipip", 200 - 20)] {
        let Some((frame, expected)) = golden::vector(name) else { return };
        let (offender, expected) = (&frame[ETHERNET..], &expected[ETHERNET..]);
        assert!(may_answer(offender));
        let mut made = vec![0; FRONT];
        made.extend(&offender[..quotable(offender.len())]);
        write(&mut made, Message::too_big(mtu), long(offender, ip4::field::DESTINATION)).unwrap();
        assert_eq!(made[12..22], expected[12..22], "{name}: addresses, type, code");
        assert_eq!(made[24..FRONT], expected[24..FRONT], "{name}: MTU");
        assert!(made.len() >= expected.len() && made[FRONT..].starts_with(&expected[FRONT..]), "{name}: quote");
    }
}

#[test]
fn nothing_is_answered_that_might_be_an_error_a_later_fragment_or_a_group() {
    let one = [End { ip: 0x0a00_0001, port: 1 }, End { ip: 0x0a00_0002, port: 2 }];
    let plain = packet(one, false, 0, &[0; 8]);
    assert!(may_answer(&plain));
    let cases: &[(&str, usize, &[u8])] = &[
        ("a later fragment", ip4::field::FRAGMENT, &[0, 1]),
        ("to a group", ip4::field::DESTINATION, &[224]),
        ("to everybody", ip4::field::DESTINATION, &[255, 255, 255, 255]),
        ("from a group", ip4::field::SOURCE, &[239]),
        ("from nobody", ip4::field::SOURCE, &[0, 0, 0, 0]),
        ("from loopback", ip4::field::SOURCE, &[127]),
    ];
    for (name, at, octets) in cases {
        let mut packet = plain.clone();
        packet[*at..*at + octets.len()].copy_from_slice(octets);
        assert!(!may_answer(&packet), "{name}");
    }
    let mut icmp = plain;
    icmp[ip4::field::PROTOCOL] = ip4::ICMP;
    for kind in 0..=255 {
        icmp[20] = kind;
        assert_eq!(may_answer(&icmp), matches!(kind, 0 | 8 | 13..=18), "type {kind}");
    }
    assert!(!may_answer(&icmp[..20]));
}

#[test]
fn what_quotes_no_ports_is_not_read() {
    // As ICMP this port begins with the type of a timestamp.
    let ends = [End { ip: 1, port: 0x0d01 }, End { ip: 2, port: 2 }];
    let good = error(3, 4, 9, 0x0301, &packet(ends, true, 0, &[]));
    assert!(quoted(&good[20..]).is_some());
    let changed = |at: usize, octet: u8| {
        let mut bytes = good.clone();
        bytes[at] = octet;
        quoted(&bytes[20..])
    };
    assert_eq!(changed(20, 5), None, "a redirect");
    assert_eq!(changed(FRONT, 0x44), None, "a header of 16 octets");
    assert_eq!(changed(FRONT, 0x65), None, "version 6");
    assert_eq!(changed(FRONT + 7, 1), None, "a later fragment");
    assert_eq!(changed(FRONT + 9, 1), None, "ICMP that is no echo");
    assert_eq!(changed(FRONT + 3, 27), None, "a length that holds no ports");
    assert_eq!(changed(FRONT + 6, 0x20).map(|q| q.whole), Some(None), "a first fragment has no length");
    assert_eq!(quoted(&good[20..FRONT + 27]), None, "seven octets of transport");
}

#[test]
fn an_extended_error_ends_the_quote_where_it_says() {
    let ends = [End { ip: 1, port: 1 }, End { ip: 2, port: 2 }];
    let mut bytes = error(3, 4, 9, 0x0b00, &packet(ends, false, 0, &[0; 300]));
    assert_eq!(quoted(&bytes[20..]).map(|q| q.end), Some(8 + 328));
    bytes[25] = 32;
    assert_eq!(quoted(&bytes[20..]).map(|q| q.end), Some(8 + 128));
    bytes[25] = 31;
    assert_eq!(quoted(&bytes[20..]).map(|q| q.end), Some(8 + 328));
}

#[test]
fn a_forged_mtu_is_raised_and_the_checksum_follows() {
    let ends = [End { ip: 1, port: 1 }, End { ip: 2, port: 2 }];
    for (mtu, expected) in [(0, 0), (68, 576), (575, 576), (576, 576), (1400, 1400)] {
        let mut bytes = vec![0; FRONT];
        bytes.extend(packet(ends, false, 0, &[0; 8]));
        write(&mut bytes, Message::too_big(mtu), 9).unwrap();
        assert_eq!(raise_mtu(&mut bytes[20..]), mtu != expected);
        assert_eq!(word(&bytes, 26), expected);
        assert!(sound(&bytes[20..]));
    }
}

#[test]
fn a_quoted_sctp_packet_changes_its_ports_and_the_sum_that_covers_them() {
    use crate::wire::sctp;
    let (a, b) = (End { ip: 0x0a00_0001, port: 7 }, End { ip: 0x0a00_0002, port: 8 });
    for (cut, fragment) in [(8, 0u8), (12, 0), (40, 0), (40, 0x20)] {
        let mut whole = packet([a, b], true, 0, &[9; 100]);
        put(&mut whole, ip4::field::FRAGMENT, [fragment, 0]);
        whole[ip4::field::PROTOCOL] = sctp::PROTOCOL;
        let mut got = error(1, 2, 9, 0x0301, &whole[..20 + cut]);
        sctp::translate(&mut whole[20..], 120, 70, 80);
        let quoted = quoted(&got[20..]).unwrap();
        let to = Translation {
            outer_source: 3,
            outer_destination: 4,
            source: End { port: 70, ..a },
            destination: End { port: 80, ..b },
        };
        translate_error(&mut got, 20, &quoted, &to);
        assert!(sound(&got[20..]));
        let covered = if fragment == 0 { cut } else { 8 };
        assert_eq!(got[FRONT + 20..][..covered], whole[20..][..covered], "{cut} octets");
    }
}
