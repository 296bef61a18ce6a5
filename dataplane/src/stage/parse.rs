//! Parse: Ethernet, IPv4, TCP, UDP, ICMP, ARP to offsets and a tuple, or a reason to drop. ~12 ns a packet.

use etherparse::{Ethernet2HeaderSlice, Ipv4HeaderSlice, TcpHeaderSlice, UdpHeaderSlice, ether_type};
use sluice_config::model::Mac;

use crate::burst::{Action, Burst, Packet, Tuple};
use crate::frame::Pool;
use crate::tables::Tables;
use crate::verdict::DropReason;
use crate::wire::{ETHERNET, ip4};

/// Parses every packet.
pub fn run(burst: &mut Burst, pool: &Pool, tables: &Tables) {
    for packet in burst.iter() {
        pool.prefetch(&packet.frame);
    }
    for packet in burst {
        let mac = tables.local.ports.get(usize::from(packet.ingress)).map(|p| p.mac);
        if let Err(reason) = outer(packet, pool.bytes(&packet.frame), mac.unwrap_or_default()) {
            packet.drop(reason);
        }
    }
}

/// The frame as received.
#[inline]
fn outer(packet: &mut Packet, bytes: &[u8], ours: Mac) -> Result<(), DropReason> {
    let ethernet = Ethernet2HeaderSlice::from_slice(bytes).map_err(|_| DropReason::Truncated)?;
    let (destination, source) = (Mac(ethernet.destination()), Mac(ethernet.source()));
    // What is answered in place goes back to the source.
    if source.is_group() || source == ours {
        return Err(DropReason::SourceMac);
    }
    match ethernet.ether_type() {
        ether_type::ARP if destination == ours || destination.is_group() => packet.action = Action::Arp,
        _ if destination != ours => return Err(DropReason::NotOurMac),
        ether_type::IPV4 => ip4(packet, bytes)?,
        _ => return Err(DropReason::EtherType),
    }
    Ok(())
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
    if header.is_fragmenting_payload() {
        return Err(DropReason::Fragment);
    }
    packet.l3 = ETHERNET as u8;
    packet.l4 = (ETHERNET + l4) as u8;
    packet.ip_len = length as u16;
    // Ethernet pads short packets; what leaves is the IP packet alone.
    packet.frame.set_len((ETHERNET + length) as u16);
    packet.tcp_flags = 0;
    transport(packet, &mut tuple, &ip[l4..])?;
    packet.tuple = tuple;
    Ok(())
}

#[inline]
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
            if length < 8 || length > payload.len() {
                return Err(DropReason::L4Header);
            }
            (tuple.sport, tuple.dport) = (udp.source_port(), udp.destination_port());
        }
        ip4::ICMP if payload.len() < 8 => return Err(DropReason::L4Header),
        _ => return Ok(()),
    }
    if tuple.sport == 0 && tuple.protocol != ip4::ICMP {
        return Err(DropReason::PortZero);
    }
    Ok(())
}

/// Sources that no sender can have (RFC 1122 section 3.2.1.3): 0/8, 127/8, multicast, reserved and broadcast.
#[inline]
fn martian(source: u32) -> bool {
    matches!((source >> 24) as u8, 0 | 127 | 224..)
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
