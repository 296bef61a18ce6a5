//! What balancing has decided of a packet is done with it: its new ends, a TTL less, and where the whole way is known its
//! outer header and Ethernet header in the same go. What [`crate::stage::encap`] and [`crate::stage::egress`] would make
//! of it is the same (`tests/modes/express.rs`); they have what is special: tags, fragments, ways that are not resolved.

use sluice_config::model::Mode;

use super::Balance;
use crate::burst::{Out, Packet};
use crate::family::Family;
use crate::fragments::Part;
use crate::frame::Pool;
use crate::stage::{encap, fit};
use crate::tables::fib::Target;
use crate::tables::snat::Side;
use crate::tables::tunnel::Kind;
use crate::tables::{BackendEntry, Exit, Tables};
use crate::verdict::{DropReason, Verdict};
use crate::wire::tunnel::Template;
use crate::wire::{ETHERNET, End};

/// New source and destination of a packet; `None` leaves it as it is.
pub(in crate::stage) type Ends<A> = Option<(End<A>, End<A>)>;

/// A way whose every header is known.
pub(in crate::stage) struct Whole<'a> {
    exit: &'a Exit,
    front: Option<&'a Template>,
    /// Whether it is an agent's tunnel.
    inside: bool,
}

impl Balance<'_> {
    /// Sends a packet out by the routes, with new ends or its own.
    ///
    /// # Errors
    /// [`DropReason::TooBig`].
    #[inline(always)]
    pub(in crate::stage) fn route<A: Family>(
        &self,
        packet: &mut Packet,
        pool: &mut Pool,
        ends: Ends<A>,
    ) -> Result<(), DropReason> {
        let destination = ends.map_or_else(|| A::ends(packet).1, |(_, destination)| destination.ip);
        match Whole::by_routes(self.tables, destination) {
            Some(way) if way.takes(packet, self.tables) => {
                self.count_inside(&way, destination);
                self.send_off(packet, pool, &way, ends);
            }
            Some(_) | None => {
                fit::check(packet, self.tables, || fit::room_to(self.tables, destination))?;
                leave(packet, pool, Out::Route, ends);
            }
        }
        Ok(())
    }

    /// Counts a packet to a container by its network.
    #[inline(always)]
    pub(super) fn count_inside<A: Family>(&self, way: &Whole<'_>, destination: A) {
        if way.inside {
            encap::count(self.tables, self.counters, destination);
        }
    }

    /// Writes all that changes, of a packet that the way takes.
    #[inline(always)]
    pub(in crate::stage) fn send_off<A: Family>(
        &self,
        packet: &mut Packet,
        pool: &mut Pool,
        way: &Whole<'_>,
        ends: Ends<A>,
    ) {
        let room = way.room();
        // There is: the way takes the packet.
        let _prepended = packet.frame.prepend(room);
        let (l4, protocol) = (usize::from(packet.l4).wrapping_sub(ETHERNET), packet.tuple.protocol);
        let entropy = match way.front {
            Some(front) if front.is_spread() => encap::entropy(packet, self.flows),
            Some(_) | None => 0,
        };
        let bytes = pool.bytes_mut(&mut packet.frame);
        if let Some((head, inner)) = bytes.split_at_mut_checked(ETHERNET + usize::from(room))
            && let Some((ethernet, outer)) = head.split_first_chunk_mut::<ETHERNET>()
        {
            change(inner, l4, protocol, ends);
            let kind = match way.front {
                Some(front) => {
                    front.write_before(outer, inner, entropy);
                    front.ether_type()
                }
                None => A::ETHER_TYPE,
            };
            ethernet[..12].copy_from_slice(&way.exit.macs);
            ethernet[12..].copy_from_slice(&kind);
        }
        packet.end(Verdict::Transmit(way.exit.port));
    }
}

/// The TTL, and new ends.
#[inline(always)]
fn change<A: Family>(ip: &mut [u8], l4: usize, protocol: u8, ends: Ends<A>) {
    match ends {
        Some((source, destination)) => A::translate(ip, l4, protocol, source, destination),
        None => A::decrement(ip),
    }
}

/// Changes a packet and leaves it to the stages that follow to find its way.
pub(in crate::stage) fn leave<A: Family>(packet: &mut Packet, pool: &mut Pool, out: Out, ends: Ends<A>) {
    let (l3, l4) = (usize::from(packet.l3), usize::from(packet.l4));
    change(&mut pool.bytes_mut(&mut packet.frame)[l3..], l4 - l3, packet.tuple.protocol, ends);
    if let Some((source, destination)) = ends {
        A::set_ends(packet, source.ip, destination.ip);
        (packet.tuple.sport, packet.tuple.dport) = (source.port, destination.port);
    }
    packet.leave(out);
}

impl<'a> Whole<'a> {
    /// Where a mode sends a backend's packets ([`super::send::out`]).
    #[inline(always)]
    pub(super) fn to_backend<A: Family>(tables: &'a Tables, mode: Mode, backend: &BackendEntry) -> Option<Self> {
        match mode {
            Mode::Nat | Mode::NatPreserve => match backend.agent {
                Some(agent) => Self::to_agent::<A>(tables, agent),
                None if backend.side == Side::Underlay => Self::by(tables, backend.hop?),
                None => None,
            },
            Mode::DsrIpip => Self::by_tunnel(tables, backend.tunnel(Kind::ipip(A::V6))?),
            Mode::DsrGue => Self::by_tunnel(tables, backend.tunnel(Kind::gue(A::V6))?),
            Mode::DsrVxlan => Self::to_agent::<A>(tables, backend.agent?),
            Mode::DsrMac => Self::by(tables, backend.hop?),
        }
    }

    #[inline(always)]
    fn by_routes<A: Family>(tables: &'a Tables, destination: A) -> Option<Self> {
        let ours = A::tables(tables);
        match ours.fib.lookup(destination)? {
            Target::Hop(hop) => Self::by(tables, hop),
            Target::Link(port) => Self::by(tables, ours.link(destination, port)?),
            Target::Agent(agent) => Self::to_agent::<A>(tables, agent),
            Target::NoAgent | Target::Host => None,
        }
    }

    #[inline(always)]
    pub(in crate::stage) fn to_agent<A: Family>(tables: &'a Tables, number: u16) -> Option<Self> {
        let agent = tables.agents.get(usize::from(number))?;
        let [v4_inside, v6_inside] = agent.vxlan.as_ref()?;
        let front = Some(if A::V6 { v6_inside } else { v4_inside });
        Some(Self { exit: agent.exit.as_ref()?, front, inside: true })
    }

    #[inline(always)]
    fn by_tunnel(tables: &'a Tables, number: u32) -> Option<Self> {
        let tunnel = tables.tunnels.get(number as usize)?;
        Some(Self { exit: tunnel.exit.as_ref()?, front: Some(&tunnel.template), inside: false })
    }

    #[inline(always)]
    fn by(tables: &'a Tables, hop: u32) -> Option<Self> {
        Some(Self { exit: tables.hops.get(hop as usize)?.exit.as_ref()?, front: None, inside: false })
    }

    /// Octets of the outer header.
    #[inline(always)]
    fn room(&self) -> u16 {
        self.front.map_or(0, |front| front.len() as u16)
    }

    /// Whether nothing need be done to a packet that goes this way but what is known of it: it is whole, has no tags, and
    /// is so small that every way takes it.
    #[inline(always)]
    pub(in crate::stage) fn takes(&self, packet: &Packet, tables: &Tables) -> bool {
        packet.part == Part::Whole
            && packet.tagged == 0
            && usize::from(packet.l3) == ETHERNET
            && packet.ip_len <= tables.local.least_mtu
            && packet.frame.start() >= self.room()
    }
}
