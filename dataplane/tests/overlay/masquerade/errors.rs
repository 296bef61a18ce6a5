//! ICMP errors about what was masqueraded, both ways.

use super::*;
use crate::common::icmp::{PORT_UNREACHABLE, TOO_BIG, TTL_EXCEEDED, error, quote};

const HOP: &str = "198.18.0.7";

fn quoted_sums(packet: &[u8]) {
    let header = etherparse::Ipv4Header::from_slice(&packet[42..]).unwrap().0;
    assert_eq!(header.header_checksum, header.calc_header_checksum(), "the quoted header's");
}

#[test]
fn a_container_is_told_about_its_own_packets() {
    let mut machine = machine(2);
    for (packet, octets) in [
        (tcp((CONTAINER, 5000), (CLIENT, 80), "S"), 8),
        (tcp((CONTAINER, 5001), (CLIENT, 80), "S"), 27),
        (udp((GROUPED, 5000), (CLIENT, 53), b"q"), 9),
        (echo(CONTAINER, CLIENT, 7, false), 12),
    ] {
        let out = machine.pass(0, sent(&packet));
        for (worker, kind, teller) in [(0, TTL_EXCEEDED, HOP), (1, TOO_BIG, HOP), (1, PORT_UNREACHABLE, CLIENT)] {
            let told = arrived(&machine.pass(worker, error(teller, SNAT, kind, &quote(&out, octets))));
            assert_eq!((ends(&told).0.0.as_str(), told[34], told[35], told[22]), (teller, kind.0, kind.1, 59));
            quoted_sums(&told);
            // The very packet that the container sent, but for its hops and the header's sum.
            let (mine, theirs) = (&packet[14..], &told[42..]);
            assert_eq!((&theirs[..8], &theirs[12..]), (&mine[..8], &mine[12..20 + octets]));
        }
    }
    assert_eq!(machine.total(|c| c.icmp_errors.get()), 12);
}

#[test]
fn errors_about_nothing_and_forged_ones_reach_nobody() {
    let mut machine = machine(2);
    let out = machine.pass(0, sent(&udp((CONTAINER, 5000), (CLIENT, 53), b"q")));
    let forged = |far: (&str, u16)| {
        let (snat, port) = ends(&out).0;
        error(HOP, SNAT, TTL_EXCEEDED, &quote(&udp((&snat, port), far, b"q"), 9))
    };
    machine.refuse(0, 0, forged((CLIENT, 54)), R::IcmpNoSession);
    machine.refuse(1, 0, forged(("192.0.2.11", 53)), R::IcmpNoSession);
    machine.refuse(0, 0, vxlan(1, 1024, &error(OTHER, SNAT, TTL_EXCEEDED, &quote(&out, 8))), R::OverlaySpoof);
    machine.refuse(0, 0, error(HOP, SNAT, TTL_EXCEEDED, &quote(&out, 7)), R::IcmpQuote);
    let never = quote(&udp((CLIENT, 53), (CONTAINER, 6000), b"a"), 8);
    machine.refuse(0, 0, sent(&error(CONTAINER, CLIENT, PORT_UNREACHABLE, &never)), R::IcmpNoSession);
}

#[test]
fn somebody_outside_is_told_about_his_answers() {
    let mut machine = machine(2);
    let out = machine.pass(0, sent(&udp((GROUPED, 5000), (CLIENT, 53), b"q")));
    let answer = udp((CLIENT, 53), at(&ends(&out).0), b"a");
    let got = arrived(&machine.pass(1, answer.clone()));
    // The container itself, and its agent, whose VTEP is no address of the overlay's networks.
    for (worker, teller) in [(0, GROUPED), (1, GROUPED), (0, "44.128.0.3"), (1, "44.128.0.3")] {
        let told =
            seen(machine.pass(worker, vxlan(2, 1024, &error(teller, CLIENT, PORT_UNREACHABLE, &quote(&got, 9)))));
        assert_eq!((ends(&told).0.0.as_str(), ends(&told).1.0.as_str(), told[34]), (SNAT, CLIENT, 3));
        quoted_sums(&told);
        assert_eq!((&told[42..50], &told[54..]), (&answer[14..22], &answer[26..43]));
    }
    // Another container says nothing about it.
    let stranger = error("9.0.2.8", CLIENT, PORT_UNREACHABLE, &quote(&got, 9));
    machine.refuse(0, 0, vxlan(1, 1024, &stranger), R::OverlaySpoof);
    let elsewhere = error(OTHER, CLIENT, PORT_UNREACHABLE, &quote(&got, 9));
    machine.refuse(0, 0, vxlan(1, 1024, &elsewhere), R::OverlaySpoof);
    let reply = arrived(&{
        let out = machine.pass(0, sent(&echo(CONTAINER, CLIENT, 7, false)));
        machine.pass(0, echo(CLIENT, SNAT, id(&out), true))
    });
    let told = seen(machine.pass(1, sent(&error(CONTAINER, CLIENT, PORT_UNREACHABLE, &quote(&reply, 12)))));
    assert_eq!(ends(&told).0.0, SNAT);
    quoted_sums(&told);
    assert_ne!(&told[42 + 24..42 + 26], &[0, 7], "our identifier, not the container's");
}

#[test]
fn about_what_began_outside_errors_pass_as_they_are() {
    let mut machine = machine(2);
    let came = arrived(&machine.pass(0, udp((CLIENT, 5000), (CONTAINER, 53), b"q")));
    let told = error(CONTAINER, CLIENT, PORT_UNREACHABLE, &quote(&came, 9));
    for worker in [0, 1] {
        let left = seen(machine.pass(worker, sent(&told)));
        assert_eq!((&left[26..], left[22]), (&told[26..], 59));
    }
    let back = machine.pass(1, sent(&udp((CONTAINER, 53), (CLIENT, 5000), b"a")));
    let told = error(HOP, CONTAINER, TTL_EXCEEDED, &quote(&back, 9));
    let got = arrived(&machine.pass(1, told.clone()));
    assert_eq!(&got[26..], &told[26..]);
}
