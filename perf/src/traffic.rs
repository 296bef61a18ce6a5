//! The packets that are measured: each function replaces `out` by one frame as a card delivers it, without its check
//! sequence and padded to 60 octets (IEEE 802.3).

use std::net::{Ipv4Addr, Ipv6Addr};

use etherparse::{Icmpv4Type, IpFragOffset, Ipv4Header, PacketBuilder, PacketBuilderStep, TcpHeader};
use sluice_config::model::Mac;
use sluice_dataplane::sessions::{ACK, FIN, RST, SYN};

use crate::world::{AGENT, DNS, OUR_MAC, OURS, ROUTER, ROUTER_MAC, VTEP_MAC, VXLAN_PORT};

/// Shortest Ethernet frame without its check sequence.
pub const SHORTEST: usize = 60;

/// An address and port.
pub type End = (Ipv4Addr, u16);

/// An IPv6 address and port.
pub type End6 = (Ipv6Addr, u16);

/// As [`client`], of the range for documentation.
#[must_use]
pub fn client6(n: u32) -> End6 {
    let (ip, port) = client(n);
    (Ipv6Addr::new(0x2001, 0xdb8, 0xffff, 0, 0, 0, (ip.to_bits() >> 16) as u16, ip.to_bits() as u16), port)
}

/// The `n`th client, of the range that RFC 2544 gives to benchmarks: 131,072 addresses, then the next port of each.
#[must_use]
pub fn client(n: u32) -> End {
    const ADDRESSES: u32 = 1 << 17;
    (Ipv4Addr::from_bits(Ipv4Addr::new(198, 18, 0, 0).to_bits() + n % ADDRESSES), 1024 + (n / ADDRESSES) as u16)
}

/// A TCP segment without payload from the router's side.
pub fn tcp(out: &mut Vec<u8>, from: End, to: End, flags: u8) {
    tcp_between(out, (ROUTER_MAC, OUR_MAC), from, to, flags);
    pad(out);
}

/// As [`tcp`], over IPv6.
pub fn tcp6(out: &mut Vec<u8>, from: End6, to: End6, flags: u8) {
    out.clear();
    let segment = PacketBuilder::ethernet2(ROUTER_MAC.0, OUR_MAC.0)
        .ipv6(from.0.octets(), to.0.octets(), 64)
        .tcp(from.1, to.1, 1, 1024);
    written(flagged(segment, flags).write(out, &[]));
}

fn tcp_between(out: &mut Vec<u8>, (source, destination): (Mac, Mac), from: End, to: End, flags: u8) {
    out.clear();
    let segment = PacketBuilder::ethernet2(source.0, destination.0)
        .ipv4(from.0.octets(), to.0.octets(), 64)
        .tcp(from.1, to.1, 1, 1024);
    written(flagged(segment, flags).write(out, &[]));
}

fn flagged(mut segment: PacketBuilderStep<TcpHeader>, flags: u8) -> PacketBuilderStep<TcpHeader> {
    if flags & SYN != 0 {
        segment = segment.syn();
    }
    if flags & FIN != 0 {
        segment = segment.fin();
    }
    if flags & RST != 0 {
        segment = segment.rst();
    }
    if flags & ACK != 0 {
        segment = segment.ack(1);
    }
    segment
}

/// A UDP datagram from the router's side.
pub fn udp(out: &mut Vec<u8>, from: End, to: End, payload: &[u8]) {
    out.clear();
    let datagram =
        PacketBuilder::ethernet2(ROUTER_MAC.0, OUR_MAC.0).ipv4(from.0.octets(), to.0.octets(), 64).udp(from.1, to.1);
    written(datagram.write(out, payload));
    pad(out);
}

/// A container and its agent.
#[derive(Clone, Copy, Debug)]
pub struct Station {
    /// The agent's underlay address.
    pub agent: Ipv4Addr,
    /// Its VTEP's MAC.
    pub mac: Mac,
    /// The container's address and port.
    pub container: End,
}

/// A TCP segment from a container of the first agent, in VXLAN to our VTEP.
pub fn tunnelled(out: &mut Vec<u8>, from: End, to: End, flags: u8) {
    between_agents(out, &Station { agent: AGENT.0, mac: AGENT.1, container: from }, to, flags);
}

/// A TCP segment from a container, in VXLAN of its agent to our VTEP; the inner frame is of the shortest length.
pub fn between_agents(out: &mut Vec<u8>, from: &Station, to: End, flags: u8) {
    let mut inner = Vec::new();
    tcp_between(&mut inner, (from.mac, VTEP_MAC), from.container, to, flags);
    pad(&mut inner);
    // RFC 7348 section 5: flags with I, reserved, VNI, reserved.
    let header = [8, 0, 0, 0, 0, 4, 0, 0];
    udp(out, (from.agent, 50000), (OURS, VXLAN_PORT), &[&header[..], &inner].concat());
}

/// A question for the address of `name`.
pub fn question(out: &mut Vec<u8>, from: End, id: u16, name: &str) {
    let mut message = Vec::with_capacity(64);
    message.extend(id.to_be_bytes());
    // RFC 1035 section 4.1.1: RD; one question.
    message.extend([1, 0, 0, 1, 0, 0, 0, 0, 0, 0]);
    for label in name.split('.') {
        message.push(label.len() as u8);
        message.extend(label.as_bytes());
    }
    message.extend([0, 0, 1, 0, 1]);
    udp(out, from, (DNS, 53), &message);
}

/// An ARP request of the router for `target` (RFC 826).
pub fn arp(out: &mut Vec<u8>, asker: Ipv4Addr, target: Ipv4Addr) {
    out.clear();
    out.extend([0xff; 6]);
    out.extend(ROUTER_MAC.0);
    out.extend([8, 6, 0, 1, 8, 0, 6, 4, 0, 1]);
    out.extend(ROUTER_MAC.0);
    out.extend(asker.octets());
    out.extend([0; 6]);
    out.extend(target.octets());
    pad(out);
}

/// An echo request.
pub fn echo(out: &mut Vec<u8>, from: Ipv4Addr, to: Ipv4Addr) {
    out.clear();
    let request = PacketBuilder::ethernet2(ROUTER_MAC.0, OUR_MAC.0)
        .ipv4(from.octets(), to.octets(), 64)
        .icmpv4_echo_request(7, 1);
    written(request.write(out, b"sluice"));
    pad(out);
}

/// An ICMP error of the router's about `quoted`, an IP packet (RFC 792): its header and 8 octets are quoted.
pub fn icmp_error(out: &mut Vec<u8>, to: Ipv4Addr, quoted: &[u8]) {
    out.clear();
    let kind = Icmpv4Type::Unknown { type_u8: 3, code_u8: 4, bytes5to8: [0, 0, 5, 0x78] };
    let error = PacketBuilder::ethernet2(ROUTER_MAC.0, OUR_MAC.0).ipv4(ROUTER.octets(), to.octets(), 64).icmpv4(kind);
    written(error.write(out, quoted.get(..28).unwrap_or_default()));
    pad(out);
}

/// The `part`th of `parts` fragments of 64 octets that a TCP segment comes in, with this identification.
pub fn fragment(out: &mut Vec<u8>, from: End, to: End, id: u16, (part, parts): (u16, u16)) {
    out.clear();
    let segment = PacketBuilder::ethernet2(ROUTER_MAC.0, OUR_MAC.0)
        .ipv4(from.0.octets(), to.0.octets(), 64)
        .tcp(from.1, to.1, 1, 1024)
        .ack(1);
    written(segment.write(out, &vec![0; usize::from(parts) * 64 - 20]));
    let Ok((mut header, payload)) = Ipv4Header::from_slice(out.get(14..).unwrap_or_default()) else { return };
    let start = usize::from(part) * 64;
    let payload = payload.get(start..start + 64).unwrap_or_default().to_vec();
    (header.identification, header.dont_fragment) = (id, false);
    header.fragment_offset = IpFragOffset::try_new(part * 8).unwrap_or_default();
    header.more_fragments = part + 1 < parts;
    written(header.set_payload_len(payload.len()));
    header.header_checksum = header.calc_header_checksum();
    out.truncate(14);
    out.extend(header.to_bytes());
    out.extend(payload);
}

/// Both ends of a TCP or UDP packet over IPv4 without options, as an Ethernet frame carries it.
#[must_use]
pub fn ends(frame: &[u8]) -> Option<(End, End)> {
    let ip = frame.get(14..)?;
    let address = |at: usize| ip.get(at..at + 4).map(|b| Ipv4Addr::new(b[0], b[1], b[2], b[3]));
    let port = |at: usize| ip.get(at..at + 2).map(|b| u16::from_be_bytes([b[0], b[1]]));
    Some(((address(12)?, port(20)?), (address(16)?, port(22)?)))
}

/// As [`ends`], over IPv6.
#[must_use]
pub fn ends6(frame: &[u8]) -> Option<(End6, End6)> {
    let ip = frame.get(14..)?;
    let address = |at: usize| ip.get(at..)?.first_chunk::<16>().copied().map(Ipv6Addr::from);
    let port = |at: usize| ip.get(at..at + 2).map(|b| u16::from_be_bytes([b[0], b[1]]));
    Some(((address(8)?, port(40)?), (address(24)?, port(42)?)))
}

fn pad(out: &mut Vec<u8>) {
    out.resize(out.len().max(SHORTEST), 0);
}

/// Writing to a vector fails only where a length does not fit its field; then the frame is cut and nothing passes it.
fn written<E>(result: Result<(), E>) {
    debug_assert!(result.is_ok());
}
