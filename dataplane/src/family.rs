//! The two families as stages see them: where a packet, the tables and a worker have the parts of each.

use crate::address::Address;
use crate::burst::Packet;
use crate::limiter::NewFlows;
use crate::sessions::caller::Talk;
use crate::sessions::{Lifetimes, Sessions};
use crate::tables::admission::Bounded;
use crate::tables::overlay::Inner;
use crate::tables::policy::Grouped;
use crate::tables::{AddressTables, Tables};
use crate::time::Tick;
use crate::wire::{End, icmp, icmp6, ip4, ip6, long, put};

/// A family that packets are carried in.
pub trait Family: Bounded + Grouped + Inner {
    /// ICMP's protocol number.
    const ICMP: u8;

    /// ICMP's type of an echo request.
    const ECHO: u8;

    /// ICMP's type of an echo reply.
    const ECHO_REPLY: u8;

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

    /// A worker's flows between containers and the outside.
    fn masquerade(flows: &Flows) -> &Masquerade<Self>;

    /// Rewrites both ends of a packet whose IP header `ip` begins with, and takes one from its TTL.
    fn translate(ip: &mut [u8], l4: usize, protocol: u8, source: End<Self>, destination: End<Self>);

    /// Rewrites both addresses and the identifier of an echo message at `l4`, and nothing else.
    fn translate_echo(ip: &mut [u8], l4: usize, source: Self, destination: Self, id: u16);

    /// Writes both addresses into the IP header that `ip` begins with, and changes nothing else.
    fn readdress(ip: &mut [u8], source: Self, destination: Self);

    /// Writes another identification into a fragment; `l4` is the offset of what follows its headers.
    fn identify(ip: &mut [u8], l4: usize, id: u32);

    /// Takes one from the TTL or hop limit.
    fn decrement(ip: &mut [u8]);

    /// Source and destination as the header at the start of `ip` has them.
    fn read(ip: &[u8]) -> (Self, Self);
}

/// Flows of one worker between containers and the outside, where the gateway masquerades. A caller is the container and
/// the far end together, whoever began; the hash of that is the same on every worker, and tells whose the flow is.
#[derive(Debug)]
pub struct Masquerade<A: Address> {
    /// Begun by the container: they have a SNAT port.
    pub begun: Sessions<Talk<A>>,
    /// Begun outside: a container's answers to them leave unchanged. A table of their own, so that nobody outside can
    /// fill that of the containers.
    pub entered: Sessions<Talk<A>>,
}

impl<A: Address> Masquerade<A> {
    fn new(capacity: usize, key: [u8; 16]) -> Self {
        // Counted by protocol number.
        let sessions = || Sessions::with_services(capacity, key, 256);
        Self { begun: sessions(), entered: sessions() }
    }

    /// Flows on probation that ever gave way to newer ones.
    #[must_use]
    pub fn evicted(&self) -> u64 {
        self.begun.evicted() + self.entered.evicted()
    }

    /// Looks at the next few buckets, or at all at once; returns how many flows it ended.
    pub fn sweep(&self, all: bool, now: Tick, life: Lifetimes) -> u32 {
        let sweep = |sessions: &Sessions<Talk<A>>| {
            sessions.sweep(if all { usize::MAX } else { sessions.sweep_step() }, now, life, |_, _| true)
        };
        sweep(&self.begun) + sweep(&self.entered)
    }
}

/// Sessions of one worker, by family.
#[derive(Debug)]
pub struct Flows {
    /// IPv4.
    pub v4: Sessions<u32>,
    /// IPv6.
    pub v6: Sessions<u128>,
    /// Flows of a masquerading gateway, IPv4.
    pub masquerade4: Masquerade<u32>,
    /// IPv6.
    pub masquerade6: Masquerade<u128>,
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
            masquerade4: Masquerade::new(0, key),
            masquerade6: Masquerade::new(0, key),
            newcomers: NewFlows::new(services),
        }
    }

    /// The same with room for `capacity` flows of each family that containers begin at a masquerading gateway, and as
    /// many that begin outside.
    #[must_use]
    pub fn masquerading(self, capacity: usize, key: [u8; 16]) -> Self {
        Self { masquerade4: Masquerade::new(capacity, key), masquerade6: Masquerade::new(capacity, key), ..self }
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
    const ECHO: u8 = icmp::kind::ECHO;
    const ECHO_REPLY: u8 = icmp::kind::ECHO_REPLY;
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

    #[inline]
    fn masquerade(flows: &Flows) -> &Masquerade<Self> {
        &flows.masquerade4
    }

    #[inline(always)]
    fn translate(ip: &mut [u8], l4: usize, protocol: u8, source: End<Self>, destination: End<Self>) {
        ip4::translate(ip, l4, protocol, source, destination);
    }

    fn translate_echo(ip: &mut [u8], l4: usize, source: Self, destination: Self, id: u16) {
        ip4::readdress(ip, source, destination);
        icmp::identify(ip.get_mut(l4..).unwrap_or_default(), id);
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
    const ECHO: u8 = icmp6::kind::ECHO;
    const ECHO_REPLY: u8 = icmp6::kind::ECHO_REPLY;
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

    #[inline]
    fn masquerade(flows: &Flows) -> &Masquerade<Self> {
        &flows.masquerade6
    }

    #[inline(always)]
    fn translate(ip: &mut [u8], l4: usize, protocol: u8, source: End<Self>, destination: End<Self>) {
        ip6::translate(ip, l4, protocol, source, destination);
    }

    fn translate_echo(ip: &mut [u8], l4: usize, source: Self, destination: Self, id: u16) {
        icmp6::translate_echo(ip, l4, source, destination, id);
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
