use etherparse::{NetHeaders, PacketBuilder, PacketHeaders, TcpHeader, TcpOptionElement};
use proptest::prelude::*;

use super::*;

const S4: ([u8; 4], [u8; 4]) = ([10, 0, 0, 1], [10, 0, 0, 2]);
const S6: ([u8; 16], [u8; 16]) = ([0x20; 16], [0x21; 16]);

fn header(flags: u8, options: &[TcpOptionElement]) -> TcpHeader {
    let mut tcp = TcpHeader::new(5000, 80, 1000, 4096);
    tcp.acknowledgment_number = 2000;
    (tcp.fin, tcp.syn) = (flags & flag::FIN != 0, flags & flag::SYN != 0);
    (tcp.rst, tcp.ack) = (flags & flag::RST != 0, flags & flag::ACK != 0);
    tcp.set_options(options).unwrap();
    tcp
}

fn packet(v6: bool, tcp: TcpHeader, payload: &[u8]) -> Vec<u8> {
    let mut bytes = Vec::new();
    match v6 {
        false => PacketBuilder::ipv4(S4.0, S4.1, 3).tcp_header(tcp).write(&mut bytes, payload).unwrap(),
        true => PacketBuilder::ipv6(S6.0, S6.1, 3).tcp_header(tcp).write(&mut bytes, payload).unwrap(),
    }
    bytes
}

fn reset_of(v6: bool, bytes: &mut Vec<u8>) -> Option<TcpHeader> {
    let length = if v6 { reset6(bytes, 40) } else { reset4(bytes, 20) }?;
    bytes.truncate(length);
    let headers = PacketHeaders::from_ip_slice(bytes).unwrap();
    let tcp = headers.transport.unwrap().tcp().unwrap();
    match headers.net.unwrap() {
        NetHeaders::Ipv4(ip, _) => {
            assert_eq!((ip.source, ip.destination, ip.time_to_live), (S4.1, S4.0, 64));
            assert_eq!(ip.calc_header_checksum(), ip.header_checksum);
            assert_eq!(tcp.calc_checksum_ipv4(&ip, &[]).unwrap(), tcp.checksum);
        }
        NetHeaders::Ipv6(ip, _) => {
            assert_eq!((ip.source, ip.destination, ip.hop_limit), (S6.1, S6.0, 64));
            assert_eq!(tcp.calc_checksum_ipv6(&ip, &[]).unwrap(), tcp.checksum);
        }
        NetHeaders::Arp(_) => panic!("not IP"),
    }
    Some(tcp)
}

#[test]
fn a_segment_is_refused_as_rfc_9293_has_it() {
    let cases: [(u8, &[u8], u32, u32); 5] = [
        (flag::SYN, &[], 0, 1001),
        (flag::SYN | flag::ACK, &[], 2000, 0),
        (flag::ACK, b"hello", 2000, 0),
        (flag::FIN, b"hello", 0, 1006),
        (0, b"", 0, 1000),
    ];
    for (flags, payload, sequence, acknowledged) in cases {
        for v6 in [false, true] {
            let mut bytes = packet(v6, header(flags, &[TcpOptionElement::MaximumSegmentSize(1460)]), payload);
            let tcp = reset_of(v6, &mut bytes).unwrap();
            assert!(tcp.rst && !tcp.syn && !tcp.fin);
            assert_eq!(tcp.ack, flags & flag::ACK == 0, "flags {flags:#x}");
            assert_eq!((tcp.sequence_number, tcp.acknowledgment_number), (sequence, acknowledged), "flags {flags:#x}");
            assert_eq!((tcp.source_port, tcp.destination_port, tcp.window_size), (80, 5000, 0));
            assert_eq!(reset_of(v6, &mut bytes.clone()), None, "nothing answers a reset");
        }
    }
}

#[test]
fn ip_options_are_not_returned() {
    let mut bytes = packet(false, header(flag::SYN, &[]), &[]);
    bytes.splice(20..20, [1, 1, 1, 1]);
    bytes[0] = 0x46;
    let length = reset4(&mut bytes, 24).unwrap();
    bytes.truncate(length);
    let headers = PacketHeaders::from_ip_slice(&bytes).unwrap();
    let tcp = headers.transport.unwrap().tcp().unwrap();
    assert_eq!((tcp.source_port, tcp.destination_port, tcp.acknowledgment_number), (80, 5000, 1001));
    assert_eq!(checksum(&bytes[20..], sum(&bytes[12..20], 0)), 0);
}

#[test]
fn a_wrong_segment_gets_no_answer() {
    for v6 in [false, true] {
        let mut bytes = packet(v6, header(flag::SYN, &[]), b"data");
        *bytes.last_mut().unwrap() ^= 1;
        let before = bytes.clone();
        assert_eq!(reset_of(v6, &mut bytes), None);
        assert_eq!(bytes, before);
    }
}

proptest! {
    #[test]
    fn a_clamped_segment_is_as_right_or_wrong_as_before(
        nops in 0usize..=3, mss: u16, limit: u16, syn: bool, payload: Vec<u8>, error: u16,
    ) {
        let options = |mss| {
            let mut options = vec![TcpOptionElement::Noop; nops];
            options.extend([TcpOptionElement::MaximumSegmentSize(mss), TcpOptionElement::WindowScale(7)]);
            options
        };
        let flags = if syn { flag::SYN } else { flag::ACK };
        let mut got = packet(false, header(flags, &options(mss)), &payload);
        let lowered = if syn { mss.min(limit) } else { mss };
        let expected = packet(false, header(flags, &options(lowered)), &payload);
        let add = |sum: u16| !fold(u64::from(!sum) + u64::from(error));
        let wrong = add(word(&got, 36));
        put(&mut got, 36, wrong.to_be_bytes());
        prop_assert_eq!(clamp_mss(&mut got[20..], limit), lowered != mss);
        // Zero has two forms; both sums are folded from more than nothing, so both are the same one.
        prop_assert_eq!(fold(u64::from(word(&got, 36))), fold(u64::from(if lowered == mss { wrong } else { add(word(&expected, 36)) })));
        put(&mut got, 36, [expected[36], expected[37]]);
        prop_assert_eq!(got, expected);
    }

    #[test]
    fn no_octets_make_it_panic(mut tcp: Vec<u8>, limit: u16, l4 in 0usize..70) {
        clamp_mss(&mut tcp, limit);
        let _ = (reset4(&mut tcp, l4), reset6(&mut tcp, l4));
    }
}

#[test]
fn options_that_are_absent_or_broken_are_left_alone() {
    let cases: [&[u8]; 6] = [&[], &[1, 1, 1, 1], &[0, 2, 4, 9], &[3, 0, 2, 4], &[3, 1, 2, 4], &[3, 200, 2, 4]];
    for options in cases {
        let mut tcp = vec![0; HEADER];
        tcp[field::OFFSET] = ((HEADER + options.len()) / 4 * 16) as u8;
        tcp[field::FLAGS] = flag::SYN;
        tcp.extend(options);
        let before = tcp.clone();
        assert!(!clamp_mss(&mut tcp, 1));
        assert_eq!(tcp, before);
    }
}
