use etherparse::PacketBuilder;
use proptest::prelude::*;
use proptest::sample::select;

use super::*;
use crate::wire::ip4::{TCP, UDP};
use crate::wire::{ETHERNET, golden};

/// A whole TCP or UDP packet behind `extensions` (type, octets) whose next-header octets are filled in here.
fn packet(ends: [End<u128>; 2], tcp: bool, extensions: &[(u8, [u8; 8])], payload: &[u8]) -> Vec<u8> {
    let [s, d] = ends;
    let builder = PacketBuilder::ipv6(s.ip.to_be_bytes(), d.ip.to_be_bytes(), 9);
    let mut bytes = Vec::new();
    match tcp {
        true => builder.tcp(s.port, d.port, 77, 4096).write(&mut bytes, payload).unwrap(),
        false => builder.udp(s.port, d.port).write(&mut bytes, payload).unwrap(),
    }
    for (kind, octets) in extensions.iter().rev() {
        let mut octets = *octets;
        octets[0] = std::mem::replace(&mut bytes[field::NEXT], *kind);
        bytes.splice(IP6..IP6, octets);
    }
    let length = (bytes.len() - IP6) as u16;
    put(&mut bytes, field::LENGTH, length.to_be_bytes());
    bytes
}

/// An error from one address to another about `inner`.
fn error(outer: [u128; 2], hop_limit: u8, kind: u8, inner: &[u8]) -> Vec<u8> {
    let mut bytes = vec![0; FRONT];
    bytes.extend(inner);
    write(&mut bytes, Message { kind, code: 0, rest: 0 }, outer[0]);
    put(&mut bytes, field::DESTINATION, outer[1].to_be_bytes());
    bytes[field::HOP_LIMIT] = hop_limit;
    put(&mut bytes, IP6 + CHECKSUM, [0, 0]);
    let checksum = checksum(&bytes, IP6);
    put(&mut bytes, IP6 + CHECKSUM, checksum.to_be_bytes());
    bytes
}

fn echo_message([s, d]: [End<u128>; 2], reply: bool, payload: &[u8]) -> Vec<u8> {
    let builder = PacketBuilder::ipv6(s.ip.to_be_bytes(), d.ip.to_be_bytes(), 9);
    let mut bytes = Vec::new();
    match reply {
        true => builder.icmpv6_echo_reply(d.port, 3).write(&mut bytes, payload).unwrap(),
        false => builder.icmpv6_echo_request(s.port, 3).write(&mut bytes, payload).unwrap(),
    }
    bytes
}

fn ends() -> impl Strategy<Value = [End<u128>; 2]> {
    any::<[(u128, u16); 2]>().prop_map(|ends| ends.map(|(ip, port)| End { ip, port }))
}

const DESTINATION_OPTIONS: (u8, [u8; 8]) = (60, [0, 0, 1, 4, 0, 0, 0, 0]);
const FIRST_FRAGMENT: (u8, [u8; 8]) = (44, [0, 0, 0, 1, 0, 0, 0, 7]);
const LATER_FRAGMENT: (u8, [u8; 8]) = (44, [0, 0, 0, 8, 0, 0, 0, 7]);
const ROUTED: (u8, [u8; 8]) = (43, [0, 0, 2, 0, 0, 0, 0, 0]);
const TO_BE_ROUTED: (u8, [u8; 8]) = (43, [0, 0, 2, 1, 0, 0, 0, 0]);
const HOP_BY_HOP: (u8, [u8; 8]) = (0, [0, 0, 1, 4, 0, 0, 0, 0]);

proptest! {
    #[test]
    fn a_translated_error_is_the_error_about_the_other_packet(
        before in ends(), after in ends(), outer: [u128; 4], hops in 2u8.., tcp: bool, extensions in 0usize..=8,
        payload in prop::collection::vec(any::<u8>(), 0..60), cut in 8usize..80, kind in 1u8..=4, wrong: bool,
    ) {
        let [a, b, c, d] = outer;
        let chain = [DESTINATION_OPTIONS; 8];
        let quote = |ends| {
            let mut whole = packet(ends, tcp, &chain[..extensions], &payload);
            whole.truncate(IP6 + extensions * 8 + cut);
            if tcp && cut < 18 {
                // The sum was not quoted whole, so what is there of it stays.
                whole.get_mut(IP6 + extensions * 8 + 16..).unwrap_or_default().fill(0);
            }
            whole
        };
        // A TCP sum that happens to be 0 is taken for none.
        prop_assume!(!tcp || [before, after].iter().all(|ends| word(&packet(*ends, tcp, &[], &payload), 56) != 0));
        let mut got = error([a, b], hops, kind, &quote(before));
        let expected = error([c, d], hops - 1, kind, &quote(after));
        if wrong {
            got[IP6 + CHECKSUM] ^= 0x5a;
        }
        let quoted = quoted(&got[IP6..]).unwrap();
        prop_assert_eq!((quoted.source, quoted.destination), (before[0], before[1]));
        prop_assert_eq!(quoted.protocol, if tcp { TCP } else { UDP });
        prop_assert_eq!(usize::from(quoted.whole.unwrap()), payload.len() + if tcp { 20 } else { 8 });
        let to = Translation { outer_source: c, outer_destination: d, source: after[0], destination: after[1] };
        translate_error(&mut got, IP6, &quoted, &to);
        prop_assert_eq!(sound(&got, IP6), !wrong);
        if wrong {
            put(&mut got, IP6 + CHECKSUM, [expected[IP6 + 2], expected[IP6 + 3]]);
        }
        prop_assert_eq!(got, expected);
    }

    #[test]
    fn an_error_about_an_echo_message_is_translated_by_its_identifier(
        before in ends(), after in ends(), outer: [u128; 4], reply: bool, payload in prop::collection::vec(any::<u8>(), 0..60),
    ) {
        let [a, b, c, d] = outer;
        // Who is asked has no port.
        let only = |[s, d]: [End<u128>; 2]| [End { port: if reply { 0 } else { s.port }, ..s }, End { port: if reply { d.port } else { 0 }, ..d }];
        let (before, after) = (only(before), only(after));
        let mut got = error([a, b], 9, 3, &echo_message(before, reply, &payload));
        let quoted = quoted(&got[IP6..]).unwrap();
        prop_assert_eq!((quoted.source, quoted.destination, quoted.protocol), (before[0], before[1], PROTOCOL));
        let to = Translation { outer_source: c, outer_destination: d, source: after[0], destination: after[1] };
        translate_error(&mut got, IP6, &quoted, &to);
        let expected = error([c, d], 8, 3, &echo_message(after, reply, &payload));
        // A sum of 0 and one of all ones are the same.
        let same = |at: usize| [[0, 0], [0xff, 0xff]].contains(&[expected[at], expected[at + 1]]);
        prop_assume!(!same(IP6 + CHECKSUM) && !same(FRONT + IP6 + CHECKSUM));
        prop_assert_eq!(got, expected);
    }

    #[test]
    fn an_echo_message_gets_other_ends(before in ends(), after in ends(), reply: bool, payload: Vec<u8>) {
        let mut got = echo_message(before, reply, &payload);
        let id = |[s, d]: [End<u128>; 2]| if reply { d.port } else { s.port };
        translate_echo(&mut got, IP6, after[0].ip, after[1].ip, id(after));
        prop_assert!(sound(&got, IP6));
        let expected = echo_message(after, reply, &payload);
        prop_assert_eq!((&got[..IP6 + 2], &got[IP6 + 4..]), (&expected[..IP6 + 2], &expected[IP6 + 4..]));
    }

    #[test]
    fn no_octets_make_it_panic(mut icmp: Vec<u8>, kind in 1u8..=4, next in select(vec![0u8, 6, 17, 43, 44, 51, 60])) {
        for (at, octet) in [(0, kind), (8, 0x60), (14, next)] {
            if let Some(place) = icmp.get_mut(at) {
                *place = octet;
            }
        }
        let end = End { ip: 1, port: 1 };
        let to = Translation { outer_source: 1, outer_destination: 2, source: end, destination: end };
        if let Some(quoted) = quoted(&icmp) {
            prop_assert!(quoted.l4 + 8 <= quoted.end && quoted.end <= icmp.len());
            translate_error(&mut icmp, 0, &quoted, &to);
        }
        let _ = (may_answer(&icmp, true), sound(&icmp, 40), raise_mtu(&mut icmp));
        echo(&mut icmp, 40);
        let _ = write(&mut icmp, TIME_EXCEEDED, 1);
    }

    #[test]
    fn an_error_made_here_is_sound_and_quotes_what_came(
        ends in ends(), payload in prop::collection::vec(any::<u8>(), 0..1500), source: u128, mtu: u32,
    ) {
        let offender = packet(ends, true, &[], &payload);
        let mut made = vec![0xee; FRONT];
        made.extend(&offender[..quotable(offender.len())]);
        prop_assert!(made.len() <= ERROR_MAX);
        prop_assert_eq!(write(&mut made, too_big(mtu), source), Some(ends[0].ip));
        prop_assert!(sound(&made, IP6));
        let headers = etherparse::PacketHeaders::from_ip_slice(&made).unwrap();
        prop_assert_eq!(headers.net.and_then(|n| n.ipv6_ref().map(|h| u128::from_be_bytes(h.0.source))), Some(source));
        prop_assert_eq!(&made[FRONT..], &offender[..offender.len().min(1232)]);
        prop_assert_eq!(quoted(&made[IP6..]).map(|q| (q.source, q.destination)), Some((ends[0], ends[1])));
    }

    #[test]
    fn an_echo_is_answered_and_a_wrong_sum_stays_wrong(ends: [u128; 2], payload: Vec<u8>, wrong: bool) {
        let mut bytes = Vec::new();
        let builder = PacketBuilder::ipv6(ends[0].to_be_bytes(), ends[1].to_be_bytes(), 3);
        builder.icmpv6_echo_request(7, 8).write(&mut bytes, &payload).unwrap();
        bytes[IP6 + CHECKSUM] ^= if wrong { 0x40 } else { 0 };
        echo(&mut bytes, IP6);
        prop_assert_eq!(sound(&bytes, IP6), !wrong);
        let mut expected = Vec::new();
        let builder = PacketBuilder::ipv6(ends[1].to_be_bytes(), ends[0].to_be_bytes(), FRESH_HOP_LIMIT);
        builder.icmpv6_echo_reply(7, 8).write(&mut expected, &payload).unwrap();
        put(&mut expected, IP6 + CHECKSUM, [bytes[IP6 + 2], bytes[IP6 + 3]]);
        prop_assert_eq!(bytes, expected);
    }
}

#[test]
fn recorded_errors_are_translated_to_the_octet() {
    for name in ["icmp6_ptb_revnat_tcp", "icmp6_ptb_revnat_udp"] {
        let Some((mut frame, expected)) = golden::vector(name) else { return };
        let ip = &mut frame[ETHERNET..];
        let quoted = quoted(&ip[IP6..]).unwrap();
        let new = wide(&expected[ETHERNET..], field::DESTINATION);
        let to = Translation {
            outer_source: wide(ip, field::SOURCE),
            outer_destination: new,
            source: End { ip: new, port: quoted.source.port },
            destination: quoted.destination,
        };
        translate_error(ip, IP6, &quoted, &to);
        // The recorded program translates without forwarding.
        ip[field::HOP_LIMIT] += 1;
        assert_eq!(frame, expected, "{name}");
    }
}

#[test]
fn recorded_too_big_answer_comes_from_the_vip_to_the_octet() {
    let Some((frame, expected)) = golden::vector("encap_too_big_ip6ip6") else { return };
    let offender = &frame[ETHERNET..];
    assert!(may_answer(offender, true));
    let mut made = vec![0; FRONT];
    made.extend(&offender[..quotable(offender.len())]);
    write(&mut made, too_big(200 - 40), wide(offender, field::DESTINATION)).unwrap();
    assert_eq!(made, expected[ETHERNET..]);
}

#[test]
fn chains_are_followed_to_their_end_or_given_up() {
    let ends = [End { ip: 0x2001 << 112 | 1, port: 1 }, End { ip: 0x2001 << 112 | 2, port: 2 }];
    let read = |chain: &[(u8, [u8; 8])]| quoted(&error([3, 4], 9, 1, &packet(ends, false, chain, &[0; 8]))[IP6..]);
    let l4 = |chain: &[(u8, [u8; 8])]| read(chain).map(|q| q.l4);
    assert_eq!(l4(&[]), Some(48));
    assert_eq!(l4(&[HOP_BY_HOP, DESTINATION_OPTIONS, ROUTED, FIRST_FRAGMENT]), Some(80));
    assert_eq!(read(&[FIRST_FRAGMENT]).map(|q| q.whole), Some(None), "a fragment has no length");
    assert_eq!(read(&[(44, [0; 8])]).map(|q| q.whole), Some(Some(16)), "an atomic fragment has (RFC 6946)");
    assert_eq!(l4(&[LATER_FRAGMENT]), None);
    assert_eq!(l4(&[TO_BE_ROUTED]), None);
    assert_eq!(l4(&[DESTINATION_OPTIONS, HOP_BY_HOP]), None);
    assert_eq!(l4(&[DESTINATION_OPTIONS; 9]), None);
    assert_eq!(l4(&[(51, [0; 8])]), Some(56), "authentication counts in fours");
    assert_eq!(l4(&[(60, [0, 200, 0, 0, 0, 0, 0, 0])]), None, "options beyond the end");
}

#[test]
fn nothing_is_answered_that_might_be_an_error_a_later_fragment_or_a_group() {
    let (one, two) = (0x2001u128 << 112 | 1, 0x2001u128 << 112 | 2);
    let made =
        |s, d, chain: &[(u8, [u8; 8])]| packet([End { ip: s, port: 1 }, End { ip: d, port: 2 }], false, chain, &[0; 8]);
    let group = 0xff02 << 112 | 1;
    assert!(may_answer(&made(one, two, &[FIRST_FRAGMENT]), false));
    assert!(!may_answer(&made(one, two, &[LATER_FRAGMENT]), false));
    assert!(!may_answer(&made(group, two, &[]), false));
    assert!(!may_answer(&made(0, two, &[]), false));
    assert!(!may_answer(&made(one, group, &[]), false));
    assert!(may_answer(&made(one, group, &[]), true));
    let mut icmp = made(one, two, &[]);
    icmp[field::NEXT] = PROTOCOL;
    for kind in 0..=255 {
        icmp[IP6] = kind;
        assert_eq!(may_answer(&icmp, false), kind >= 128 && kind != 137, "type {kind}");
    }
    assert!(!may_answer(&icmp[..IP6], false));
}

#[test]
fn a_forged_mtu_is_raised_and_the_checksum_follows() {
    let ends = [End { ip: 1, port: 1 }, End { ip: 2, port: 2 }];
    for (mtu, expected) in [(0, 1280), (68, 1280), (1280, 1280), (1400, 1400), (u32::MAX, u32::MAX)] {
        let mut bytes = vec![0; FRONT];
        bytes.extend(packet(ends, false, &[], &[0; 8]));
        write(&mut bytes, too_big(mtu), 9).unwrap();
        assert_eq!(raise_mtu(&mut bytes[IP6..]), mtu != expected);
        assert_eq!(crate::wire::long(&bytes, IP6 + 4), expected);
        assert!(sound(&bytes, IP6));
    }
}
