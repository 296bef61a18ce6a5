//! The two families as stages see them: where a packet, the tables and a worker have the parts of each.

use crate::burst::Packet;
use crate::limiter::NewFlows;
use crate::sessions::Sessions;
use crate::tables::admission::Bounded;
use crate::tables::overlay::Inner;
use crate::tables::policy::Grouped;
use crate::tables::{AddressTables, Tables};
use crate::wire::{End, ip4, ip6, long, put};

/// A family that packets are carried in.
pub trait Family: Bounded + Grouped + Inner {
    /// ICMP's protocol number.
    const ICMP: u8;

    /// Its Ethernet type.
    const ETHER_TYPE: [u8; 2];

    /// Octets of an IP header without options or extension headers.
    const HEADER: u16;

    /// Innermost source and destination of a packet.
    fn ends(packet: &Packet) -> (Self, Self);

    /// Notes new ones.
    fn set_ends(packet: &mut Packet, source: Self, destination: Self);

    /// What is looked up by its addresses.
    fn tables(tables: &Tables) -> &AddressTables<Self>;

    /// A worker's sessions of it.
    fn sessions(flows: &Flows) -> &Sessions<Self>;

    /// Rewrites both ends of a packet whose IP header `ip` begins with, and takes one from its TTL.
    fn translate(ip: &mut [u8], l4: usize, protocol: u8, source: End<Self>, destination: End<Self>);

    /// Writes both addresses into the IP header that `ip` begins with, and changes nothing else.
    fn readdress(ip: &mut [u8], source: Self, destination: Self);

    /// Writes another identification into a fragment; `l4` is the offset of what follows its headers.
    fn identify(ip: &mut [u8], l4: usize, id: u32);

    /// Takes one from the TTL or hop limit.
    fn decrement(ip: &mut [u8]);

    /// Source and destination as the header at the start of `ip` has them.
    fn read(ip: &[u8]) -> (Self, Self);
}

/// Sessions of one worker, by family.
#[derive(Debug)]
pub struct Flows {
    /// IPv4.
    pub v4: Sessions<u32>,
    /// IPv6.
    pub v6: Sessions<u128>,
    /// Rates of new sessions of services that are bound, of both families.
    pub newcomers: NewFlows,
}

impl Flows {
    /// Room for `capacity` sessions of each family; hashes are keyed with `key`. Memory is touched as it is used. Bounds
    /// are kept of services numbered below 4096.
    #[must_use]
    pub fn new(capacity: usize, key: [u8; 16]) -> Self {
        Self::with_services(capacity, key, 4096)
    }

    /// The same with bounds for services numbered below `services`.
    #[must_use]
    pub fn with_services(capacity: usize, key: [u8; 16], services: usize) -> Self {
        Self {
            v4: Sessions::with_services(capacity, key, services),
            v6: Sessions::with_services(capacity, key, services),
            newcomers: NewFlows::new(services),
        }
    }

    /// Sessions at this moment, of both families.
    #[must_use]
    pub fn len(&self) -> usize {
        self.v4.len() + self.v6.len()
    }

    /// Whether there are none.
    #[must_use]
    pub fn is_empty(&self) -> bool {
        self.len() == 0
    }
}

impl Family for u32 {
    const ICMP: u8 = ip4::ICMP;
    const ETHER_TYPE: [u8; 2] = [0x08, 0x00];
    const HEADER: u16 = ip4::HEADER as u16;

    #[inline]
    fn ends(packet: &Packet) -> (Self, Self) {
        (packet.tuple.src, packet.tuple.dst)
    }

    #[inline]
    fn set_ends(packet: &mut Packet, source: Self, destination: Self) {
        (packet.tuple.src, packet.tuple.dst) = (source, destination);
    }

    #[inline]
    fn tables(tables: &Tables) -> &AddressTables<Self> {
        &tables.v4
    }

    #[inline]
    fn sessions(flows: &Flows) -> &Sessions<Self> {
        &flows.v4
    }

    #[inline(always)]
    fn translate(ip: &mut [u8], l4: usize, protocol: u8, source: End<Self>, destination: End<Self>) {
        ip4::translate(ip, l4, protocol, source, destination);
    }

    fn readdress(ip: &mut [u8], source: Self, destination: Self) {
        ip4::readdress(ip, source, destination);
    }

    fn identify(ip: &mut [u8], _l4: usize, id: u32) {
        ip4::identify(ip, id as u16);
    }

    #[inline(always)]
    fn decrement(ip: &mut [u8]) {
        ip4::decrement_ttl(ip);
    }

    #[inline]
    fn read(ip: &[u8]) -> (Self, Self) {
        (long(ip, ip4::field::SOURCE), long(ip, ip4::field::DESTINATION))
    }
}

impl Family for u128 {
    const ICMP: u8 = ip6::ICMP;
    const ETHER_TYPE: [u8; 2] = [0x86, 0xdd];
    const HEADER: u16 = ip6::HEADER as u16;

    #[inline]
    fn ends(packet: &Packet) -> (Self, Self) {
        packet.ends6
    }

    #[inline]
    fn set_ends(packet: &mut Packet, source: Self, destination: Self) {
        packet.ends6 = (source, destination);
    }

    #[inline]
    fn tables(tables: &Tables) -> &AddressTables<Self> {
        &tables.v6
    }

    #[inline]
    fn sessions(flows: &Flows) -> &Sessions<Self> {
        &flows.v6
    }

    #[inline(always)]
    fn translate(ip: &mut [u8], l4: usize, protocol: u8, source: End<Self>, destination: End<Self>) {
        ip6::translate(ip, l4, protocol, source, destination);
    }

    fn readdress(ip: &mut [u8], source: Self, destination: Self) {
        ip6::readdress(ip, source, destination);
    }

    fn identify(ip: &mut [u8], l4: usize, id: u32) {
        // The fragment header is the last that parse has walked; its identification is the last of it.
        put(ip, l4.saturating_sub(4), id.to_be_bytes());
    }

    #[inline]
    fn decrement(ip: &mut [u8]) {
        ip6::decrement_hop_limit(ip);
    }

    #[inline]
    fn read(ip: &[u8]) -> (Self, Self) {
        (ip6::address(ip, ip6::field::SOURCE), ip6::address(ip, ip6::field::DESTINATION))
    }
}
