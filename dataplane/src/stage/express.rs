//! Express: nearly every packet, in one loop without a branch that it takes. TCP or UDP in a whole, untagged IP packet
//! without options or extension headers, nothing wrong with it, from outside, to a service or from a backend of one: it
//! is parsed, classified and admitted, and the lines of its session are asked for. So is a question for us.
//!
//! Of any other nothing is decided here: the stages from [`super::parse`] to [`super::isolate`] find out what it is, and
//! say the same of packets of this kind, with more questions (`tests/modes/express.rs`). Where a burst has no others, those
//! stages are not asked at all.

use crate::burst::{Action, Burst, Packet, Tuple};
use crate::family::Family;
use crate::frame::{self, Pool};
use crate::sessions::SYN;
use crate::stage::balance::Balance;
use crate::stage::{classify, hub, isolate, parse};
use crate::tables::snat::Side;
use crate::tables::{Owned, Tables};
use crate::wire::{ETHERNET, ip4, ip6, long, tcp, word};

/// What a burst has, beside what is balanced.
#[derive(Clone, Copy, Default, Debug)]
pub struct Left {
    /// Packets of which nothing is decided.
    pub others: bool,
    /// Questions.
    pub questions: bool,
    /// Packets between containers ([`hub`]).
    pub carried: bool,
}

/// Looks at every packet; what there is for the stages that follow.
pub fn run(burst: &mut Burst, pool: &Pool, with: &Balance<'_>) -> Left {
    let mut left = Left::default();
    for packet in burst {
        let bytes = pool.bytes(&packet.frame);
        match one(packet, bytes, with) {
            Kind::Balanced => {}
            Kind::Question => {
                left.questions = true;
                // The headers are here; the name, and most answers, lie in the next three lines.
                [64, 128, 192].iter().for_each(|line| frame::prefetch(bytes.as_ptr().wrapping_add(*line)));
            }
            Kind::Carried => left.carried = true,
            Kind::Other => left.others = true,
        }
    }
    left
}

/// What a packet is.
#[derive(Clone, Copy, PartialEq, Eq)]
enum Kind {
    Balanced,
    Question,
    Carried,
    Other,
}

#[inline(always)]
fn one(packet: &mut Packet, bytes: &[u8], with: &Balance<'_>) -> Kind {
    let Some(ethernet) = bytes.first_chunk::<ETHERNET>() else { return Kind::Other };
    if !is_to_us(packet, ethernet, with.tables) {
        return Kind::Other;
    }
    match word(ethernet, 12) {
        0x0800 => {
            let Some(plain) = read4(bytes) else { return Kind::Other };
            if plain.tuple.dst == with.tables.overlay.end() && hub::recognise(packet, &plain, bytes, with) {
                return Kind::Carried;
            }
            plain.note(packet);
            known::<u32>(packet, with)
        }
        0x86dd if ip6(packet, bytes) => known::<u128>(packet, with),
        _ => Kind::Other,
    }
}

/// The group bit of a MAC (IEEE 802.3 section 3.2.3) in the number that its octets are.
const GROUP: u64 = 1 << 40;

#[inline(always)]
fn is_to_us(packet: &Packet, ethernet: &[u8; ETHERNET], tables: &Tables) -> bool {
    let Some(port) = tables.local.ports.get(usize::from(packet.ingress)) else { return false };
    let (to, from) = stations(ethernet);
    to == port.station && from != port.station && from != 0 && from & GROUP == 0
}

/// Destination and source of a frame as the numbers that their octets are.
#[inline(always)]
pub(super) fn stations(ethernet: &[u8; ETHERNET]) -> (u64, u64) {
    // Eight octets at a time, of which six are the address.
    let at = |at: usize| u64::from_be_bytes(std::array::from_fn(|i| ethernet[at + i])) >> 16;
    (at(0), at(6))
}

/// Ethernet and IPv4 without options.
const PLAIN4: usize = ETHERNET + ip4::HEADER;
/// Ethernet and the fixed IPv6 header.
const PLAIN6: usize = ETHERNET + ip6::HEADER;

/// What a plain IPv4 packet says of itself.
pub(super) struct Plain4 {
    length: u16,
    hops_left: u8,
    tcp_flags: u8,
    tuple: Tuple,
}

/// Reads a packet with its Ethernet header; `None` of one that is not plain.
#[inline(always)]
pub(super) fn read4(bytes: &[u8]) -> Option<Plain4> {
    let (head, rest) = bytes.split_first_chunk::<PLAIN4>()?;
    let at = |field: usize| ETHERNET + field;
    let length = word(head, at(ip4::field::LENGTH));
    // Shorter than the header itself it wraps, and is longer than any packet.
    let l4 = rest.get(..usize::from(length).wrapping_sub(ip4::HEADER))?;
    let (src, dst) = (long(head, at(ip4::field::SOURCE)), long(head, at(ip4::field::DESTINATION)));
    let protocol = head[at(ip4::field::PROTOCOL)];
    let (ports, tcp_flags) = transport(l4, protocol)?;
    let plain = head[ETHERNET] == 0x45 && word(head, at(ip4::field::FRAGMENT)) & 0x3fff == 0;
    if !plain || parse::martian(src) || src == dst || !ip4::sound(&head[ETHERNET..]) {
        return None;
    }
    let tuple = Tuple { src, dst, sport: (ports >> 16) as u16, dport: ports as u16, protocol };
    Some(Plain4 { length, hops_left: head[at(ip4::field::TTL)], tcp_flags, tuple })
}

impl Plain4 {
    /// The addresses and ports.
    #[inline(always)]
    pub(super) fn tuple(&self) -> &Tuple {
        &self.tuple
    }

    /// Octets of the IP packet.
    #[inline(always)]
    pub(super) fn length(&self) -> u16 {
        self.length
    }

    /// Whether it is one of a TCP handshake.
    #[inline(always)]
    pub(super) fn begins(&self) -> bool {
        self.tcp_flags & SYN != 0
    }

    /// TTL.
    #[inline(always)]
    pub(super) fn hops_left(&self) -> u8 {
        self.hops_left
    }

    /// Notes it of the packet whose frame begins with its Ethernet header.
    #[inline(always)]
    pub(super) fn note(self, packet: &mut Packet) {
        packet.l3 = ETHERNET as u8;
        packet.l4 = PLAIN4 as u8;
        packet.ip_len = self.length;
        packet.hops_left = self.hops_left;
        packet.tcp_flags = self.tcp_flags;
        packet.frame.set_len(ETHERNET as u16 + self.length);
        packet.tuple = self.tuple;
    }
}

#[inline(always)]
fn ip6(packet: &mut Packet, bytes: &[u8]) -> bool {
    let Some((head, rest)) = bytes.split_first_chunk::<PLAIN6>() else { return false };
    let at = |field: usize| ETHERNET + field;
    let payload = word(head, at(ip6::field::LENGTH));
    let Some(l4) = rest.get(..usize::from(payload)) else { return false };
    let ends = (ip6::address(head, at(ip6::field::SOURCE)), ip6::address(head, at(ip6::field::DESTINATION)));
    let protocol = head[at(ip6::field::NEXT)];
    let Some((ports, tcp_flags)) = transport(l4, protocol) else { return false };
    let unsummed = protocol == ip4::UDP && word(l4, 6) == 0;
    if head[ETHERNET] >> 4 != 6
        || unsummed
        || parse::martian6(ends.0)
        || parse::is_link_local(ends.0)
        || ends.0 == ends.1
    {
        return false;
    }
    packet.l3 = ETHERNET as u8;
    packet.l4 = PLAIN6 as u8;
    packet.ip_len = ip6::HEADER as u16 + payload;
    packet.hops_left = head[at(ip6::field::HOP_LIMIT)];
    packet.tcp_flags = tcp_flags;
    packet.frame.set_len(PLAIN6 as u16 + payload);
    packet.v6 = true;
    packet.ends6 = ends;
    packet.tuple = Tuple { sport: (ports >> 16) as u16, dport: ports as u16, protocol, ..Tuple::default() };
    true
}

/// Both ports, and the flags of TCP.
#[inline(always)]
fn transport(l4: &[u8], protocol: u8) -> Option<(u32, u8)> {
    let (ports, flags) = match protocol {
        ip4::TCP => {
            let segment = l4.first_chunk::<{ tcp::HEADER }>()?;
            let header = usize::from(segment[12] >> 4) * 4;
            if header < tcp::HEADER || header > l4.len() {
                return None;
            }
            (long(segment, 0), segment[13])
        }
        ip4::UDP => {
            let datagram = l4.first_chunk::<8>()?;
            let length = usize::from(word(datagram, 4));
            if length < 8 || length > l4.len() {
                return None;
            }
            (long(datagram, 0), 0)
        }
        _ => return None,
    };
    (ports >> 16 != 0).then_some((ports, flags))
}

/// Notes what [`classify`] says of a packet to a service, from a backend on the underlay, or with a question, and asks
/// for the lines of its session.
#[inline(always)]
fn known<A: Family>(packet: &mut Packet, with: &Balance<'_>) -> Kind {
    let tables = with.tables;
    let ours = A::tables(tables);
    let (source, destination) = A::ends(packet);
    let Tuple { sport, dport, protocol, .. } = packet.tuple;
    if packet.hops_left <= 1 || ours.districts.have(source) && classify::source_is_sound::<A>(packet, tables).is_err() {
        return Kind::Other;
    }
    if dport == 53 && protocol == ip4::UDP && ours.address(destination) == Some(Owned::Dns) {
        packet.action = Action::Dns;
        return Kind::Question;
    }
    if let Some((number, asks)) = ours.service_that_asks(destination, dport, protocol) {
        packet.action = Action::Balance(number);
        if asks {
            return admitted::<A>(packet, with);
        }
        with.gather_client::<A>(packet, number);
        return Kind::Balanced;
    }
    match ours.address(destination) {
        Some(Owned::Snat(snat)) if tables.snat.side(snat) == Side::Underlay => {
            let Some(backend) = ours.backend(source, sport, protocol) else { return Kind::Other };
            with.gather_reply::<A>(packet, backend, snat);
            Kind::Balanced
        }
        Some(Owned::Snat(_) | Owned::Dns | Owned::Vip | Owned::Vtep | Owned::Host) | None => Kind::Other,
    }
}

#[inline(never)]
fn admitted<A: Family>(packet: &mut Packet, with: &Balance<'_>) -> Kind {
    if isolate::admitted(packet, with.tables).is_err() {
        return Kind::Other;
    }
    with.gather::<A>(packet);
    Kind::Balanced
}
