//! Parse: Ethernet, IPv4, IPv6, TCP, UDP, SCTP, ICMP, ARP to offsets and a tuple, or a reason to drop.
//!
//! 802.1Q tags, at most two, come off here, so that every later stage sees a plain Ethernet header; what leaves by the
//! port on which it came gets them back.

use etherparse::{EtherType, Ethernet2HeaderSlice, Ipv4HeaderSlice, TcpHeaderSlice, UdpHeaderSlice, ether_type};
use sluice_config::model::Mac;

use crate::burst::{Action, Burst, Packet, Tuple};
use crate::fragments::{self, Part};
use crate::frame::Pool;
use crate::tables::Tables;
use crate::verdict::DropReason;
use crate::wire::{ETHERNET, ip4, ip6, long, nd, vlan, word};

/// Parses every packet that [`super::express`] has not.
pub fn run(burst: &mut Burst, pool: &mut Pool, tables: &Tables) {
    for packet in burst.iter_mut().filter(|packet| !packet.is_parsed()) {
        let mac = tables.local.ports.get(usize::from(packet.ingress)).map(|p| p.mac).unwrap_or_default();
        if let Err(reason) = outer(packet, pool, mac) {
            packet.drop(reason);
        }
    }
}

/// The frame as received.
#[inline]
fn outer(packet: &mut Packet, pool: &mut Pool, ours: Mac) -> Result<(), DropReason> {
    let bytes = pool.bytes(&packet.frame);
    let ethernet = Ethernet2HeaderSlice::from_slice(bytes).map_err(|_| DropReason::Truncated)?;
    let (destination, source) = (Mac(ethernet.destination()), Mac(ethernet.source()));
    // What is answered in place goes back to the source.
    if source.is_group() || source == ours || source == Mac::default() {
        return Err(DropReason::SourceMac);
    }
    match ethernet.ether_type() {
        EtherType(tag) if vlan::is_tag(tag) => return tagged(packet, pool, ours),
        ether_type::ARP if destination == ours || destination.is_group() => packet.action = Action::Arp,
        ether_type::IPV6 if destination != ours => return solicited(packet, bytes, destination),
        _ if destination != ours => return Err(DropReason::NotOurMac),
        ether_type::IPV4 => ip4(packet, bytes)?,
        ether_type::IPV6 => ip6(packet, bytes)?,
        _ => return Err(DropReason::EtherType),
    }
    Ok(())
}

/// Takes the tags off: the addresses move up against the type of what is tagged, which is no tag any more.
#[cold]
#[inline(never)]
fn tagged(packet: &mut Packet, pool: &mut Pool, ours: Mac) -> Result<(), DropReason> {
    packet.tagged = vlan::untag(pool.bytes_mut(&mut packet.frame), &mut packet.tags)?;
    if !packet.frame.trim_front(u16::from(packet.tagged)) {
        return Err(DropReason::Truncated);
    }
    packet.received = packet.frame.extent();
    outer(packet, pool, ours)
}

/// Of IPv6 to a group only neighbour discovery concerns us (RFC 2464 section 7: 33:33 and the last four octets).
#[cold]
fn solicited(packet: &mut Packet, bytes: &[u8], destination: Mac) -> Result<(), DropReason> {
    if destination.0[..2] != [0x33, 0x33] {
        return Err(DropReason::NotOurMac);
    }
    ip6(packet, bytes)?;
    if packet.tuple.protocol == ip6::ICMP { Ok(()) } else { Err(DropReason::NotOurMac) }
}

/// The IPv4 packet behind the Ethernet header at the start of `bytes`; also called for the inner packet of a tunnel.
///
/// # Errors
/// The reason to drop.
#[inline]
pub fn ip4(packet: &mut Packet, bytes: &[u8]) -> Result<(), DropReason> {
    let ip = bytes.get(ETHERNET..).unwrap_or_default();
    if ip.len() < ip4::HEADER {
        return Err(DropReason::Truncated);
    }
    let header = Ipv4HeaderSlice::from_slice(ip).map_err(|_| DropReason::Ip4Header)?;
    let (length, l4) = (usize::from(header.total_len()), header.slice().len());
    if length < l4 {
        return Err(DropReason::Ip4Header);
    }
    let ip = ip.get(..length).ok_or(DropReason::Truncated)?;
    if !ip4::sound(header.slice()) {
        return Err(DropReason::Ip4Checksum);
    }
    if l4 > ip4::HEADER && source_routed(header.options()) {
        return Err(DropReason::Ip4SourceRoute);
    }
    let mut tuple = Tuple {
        src: u32::from_be_bytes(header.source()),
        dst: u32::from_be_bytes(header.destination()),
        protocol: header.protocol().0,
        ..Tuple::default()
    };
    if martian(tuple.src) || tuple.src == tuple.dst {
        return Err(DropReason::Martian);
    }
    packet.l3 = ETHERNET as u8;
    packet.l4 = (ETHERNET + l4) as u8;
    packet.ip_len = length as u16;
    // Ethernet pads short packets; what leaves is the IP packet alone.
    packet.frame.set_len((ETHERNET + length) as u16);
    packet.v6 = false;
    packet.tcp_flags = 0;
    packet.hops_left = header.ttl();
    if header.is_fragmenting_payload() && fragment4(packet, &tuple, ip)? == Part::Later {
        return Ok(());
    }
    transport(packet, &mut tuple, &ip[l4..])?;
    packet.tuple = tuple;
    Ok(())
}

/// As [`ip4`], IPv6.
///
/// # Errors
/// The reason to drop.
#[inline(never)]
pub fn ip6(packet: &mut Packet, bytes: &[u8]) -> Result<(), DropReason> {
    let ip = bytes.get(ETHERNET..).unwrap_or_default();
    if ip.len() < ip6::HEADER {
        return Err(DropReason::Truncated);
    }
    let payload = usize::from(word(ip, ip6::field::LENGTH));
    if ip[0] >> 4 != 6 || payload == 0 {
        return Err(DropReason::Ip6Header);
    }
    let ip = ip.get(..ip6::HEADER + payload).ok_or(DropReason::Truncated)?;
    let ends = (ip6::address(ip, ip6::field::SOURCE), ip6::address(ip, ip6::field::DESTINATION));
    let walked = ip6::walk(ip)?;
    let mut tuple = Tuple { protocol: walked.protocol, ..Tuple::default() };
    let icmp = (tuple.protocol == ip6::ICMP).then(|| ip.get(walked.l4).copied().unwrap_or_default());
    // `::` asks for itself while it probes for duplicates (RFC 4862 section 5.4.2). What comes from a link-local address is
    // answered on the link and never forwarded (RFC 4291 section 2.5.6).
    let probes = ends.0 == 0 && icmp == Some(nd::SOLICITATION);
    if martian6(ends.0) && !probes || ends.0 == ends.1 || is_link_local(ends.0) && icmp.is_none() {
        return Err(DropReason::Martian);
    }
    packet.l3 = ETHERNET as u8;
    packet.l4 = u8::try_from(ETHERNET + walked.l4).map_err(|_| DropReason::Ip6Extension)?;
    packet.ip_len = ip.len() as u16;
    packet.frame.set_len((ETHERNET + ip.len()) as u16);
    packet.v6 = true;
    packet.ends6 = ends;
    packet.tcp_flags = 0;
    packet.hops_left = ip[ip6::field::HOP_LIMIT];
    if let Some(at) = walked.fragment
        && fragment6(packet, &tuple, ip, at)? == Part::Later
    {
        return Ok(());
    }
    transport(packet, &mut tuple, &ip[walked.l4..])?;
    packet.tuple = tuple;
    Ok(())
}

#[cold]
#[inline(never)]
fn fragment4(packet: &mut Packet, tuple: &Tuple, ip: &[u8]) -> Result<Part, DropReason> {
    let (fields, header) = (word(ip, ip4::field::FRAGMENT), usize::from(ip[0] & 15) * 4);
    packet.id = word(ip, ip4::field::ID).into();
    let part = fragments::part(tuple.protocol, fields & 0x1fff, fields & 0x2000 != 0, ip.len() - header, header)?;
    Ok(fragment(packet, tuple, part))
}

/// `at` is where the fragment header is (RFC 8200 section 4.5), the last one that was walked.
#[cold]
#[inline(never)]
fn fragment6(packet: &mut Packet, tuple: &Tuple, ip: &[u8], at: usize) -> Result<Part, DropReason> {
    let fields = word(ip, at + 2);
    packet.id = long(ip, at + 4);
    let part = fragments::part(tuple.protocol, fields >> 3, fields & 1 != 0, ip.len() - at - 8, 0)?;
    Ok(fragment(packet, tuple, part))
}

fn fragment(packet: &mut Packet, tuple: &Tuple, part: Part) -> Part {
    packet.part = part;
    packet.tuple = *tuple;
    if part == Part::Later {
        packet.action = Action::Later;
    }
    part
}

/// The common header (RFC 9260 section 3.1).
const SCTP_HEADER: usize = 12;

// Two families call it. With this and IPv6 out of line `parse-drop` went from 35 to 28 ns (perf/README.md).
#[inline(always)]
fn transport(packet: &mut Packet, tuple: &mut Tuple, payload: &[u8]) -> Result<(), DropReason> {
    match tuple.protocol {
        ip4::TCP => {
            if payload.len() < 20 {
                return Err(DropReason::L4Header);
            }
            let tcp = TcpHeaderSlice::from_slice(payload).map_err(|_| DropReason::L4Header)?;
            (tuple.sport, tuple.dport) = (tcp.source_port(), tcp.destination_port());
            packet.tcp_flags = payload[13];
        }
        ip4::UDP => {
            let udp = UdpHeaderSlice::from_slice(payload).map_err(|_| DropReason::L4Header)?;
            let length = usize::from(udp.length());
            // Over IPv6 there is no UDP without a checksum (RFC 8200 section 8.1).
            let cut = length > payload.len() && packet.part == Part::Whole;
            if length < 8 || cut || packet.v6 && udp.checksum() == 0 {
                return Err(DropReason::L4Header);
            }
            (tuple.sport, tuple.dport) = (udp.source_port(), udp.destination_port());
        }
        ip4::SCTP => {
            if payload.len() < SCTP_HEADER {
                return Err(DropReason::L4Header);
            }
            (tuple.sport, tuple.dport) = (word(payload, 0), word(payload, 2));
        }
        ip4::ICMP | ip6::ICMP if payload.len() < 8 => return Err(DropReason::L4Header),
        _ => return Ok(()),
    }
    if tuple.sport == 0 && !matches!(tuple.protocol, ip4::ICMP | ip6::ICMP) {
        return Err(DropReason::PortZero);
    }
    Ok(())
}

/// Sources that no sender can have (RFC 1122 section 3.2.1.3): 0/8, 127/8, multicast, reserved and broadcast.
#[inline]
pub(super) fn martian(source: u32) -> bool {
    matches!((source >> 24) as u8, 0 | 127 | 224..)
}

/// Sources that no sender can have (RFC 4291): unspecified, loopback, multicast, IPv4-mapped.
#[inline]
pub(super) fn martian6(source: u128) -> bool {
    source <= 1 || source >> 120 == 0xff || source >> 32 == 0xffff
}

/// Whether an address is one of a link's own (fe80::/10, RFC 4291 section 2.5.6).
#[inline]
pub(super) fn is_link_local(source: u128) -> bool {
    source >> 118 == 0x3fa
}

/// Whether the options hold a loose or strict source route (131, 137); a broken list counts as one.
fn source_routed(mut options: &[u8]) -> bool {
    loop {
        match options {
            [] | [0, ..] => return false,
            [1, rest @ ..] => options = rest,
            [131 | 137, ..] => return true,
            [_, length, ..] if *length >= 2 && usize::from(*length) <= options.len() => {
                options = &options[usize::from(*length)..];
            }
            _ => return true,
        }
    }
}
