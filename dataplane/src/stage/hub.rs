//! Hub: plain packets from a container to a container, by the tunnels of their agents. [`recognise`] does what
//! [`super::parse`], [`super::decap`] and [`super::classify`] would, and asks for the lines that policy looks at;
//! [`run`] asks policy, and writes the tunnel to the other agent over the one that the packet came in.
//!
//! Of what is not plain, or not between containers, nothing is changed here: those stages say what becomes of it, and say
//! the same of packets of this kind (`tests/overlay/hub.rs`).

use crate::burst::{Action, Burst, Out, Packet};
use crate::frame::{self, Pool};
use crate::stage::balance::Balance;
use crate::stage::balance::depart::Whole;
use crate::stage::{express, isolate};
use crate::tables::{Sender, Tables};
use crate::wire::{ETHERNET, ip4, vxlan, word};

/// Outer Ethernet, IPv4 without options, UDP, VXLAN.
const FRONT: usize = vxlan::OVERHEAD;
const UDP: usize = ETHERNET + ip4::HEADER;

/// Takes the tunnel off a packet to our VTEP, if it is of this kind; nothing is changed of others.
#[inline]
pub(super) fn recognise(packet: &mut Packet, outer: &express::Plain4, bytes: &[u8], with: &Balance<'_>) -> bool {
    let tables = with.tables;
    let Some((agent, place, plain)) = inner(packet, outer, bytes, tables) else { return false };
    let (source, destination) = (plain.tuple().src, plain.tuple().dst);
    let Some((to, network)) = between(&plain, tables) else { return false };
    // As many octets as were looked at: it is that long.
    if !packet.frame.trim_front(FRONT as u16) {
        return false;
    }
    plain.note(packet);
    if let Some(counter) = with.counters.networks.get(usize::from(place)) {
        counter.rx.add(1);
    }
    packet.agent = Some(agent);
    packet.action = Action::Forward;
    packet.out = Out::Agent(to);
    packet.network = network;
    tables.policy.expect(source, destination);
    if let Some(agent) = tables.agents.get(usize::from(to)) {
        // Its way, and what precedes IPv4.
        let line = (&raw const *agent).cast::<u8>();
        [0, 64].into_iter().for_each(|at| frame::prefetch(line.wrapping_add(at)));
    }
    true
}

/// What is in the tunnel, and which agent sent it.
#[inline(always)]
fn inner(
    packet: &Packet,
    outer: &express::Plain4,
    bytes: &[u8],
    tables: &Tables,
) -> Option<(u16, u8, express::Plain4)> {
    let overlay = &tables.overlay;
    let underlay = tables.local.ports.get(usize::from(packet.ingress)).is_some_and(|port| port.underlay);
    // ECN that the tunnel carries must be brought inside.
    let unmarked = bytes.get(ETHERNET + ip4::field::TOS)? & 1 == 0;
    if !underlay || !unmarked || outer.tuple().protocol != ip4::UDP {
        return None;
    }
    let end = UDP + usize::from(word(bytes, UDP + 4));
    let (head, frame) = bytes.get(..end)?.split_first_chunk::<FRONT>()?;
    let header = u64::from_be_bytes(std::array::from_fn(|i| head[UDP + 8 + i]));
    let lane = overlay.lane_of(outer.tuple().dport, header)? as u32;
    let ethernet = frame.first_chunk::<ETHERNET>()?;
    let (to, station) = express::stations(ethernet);
    if to != overlay.station() || word(ethernet, 12) != 0x0800 {
        return None;
    }
    let plain = express::read4(frame)?;
    let (of, place) = overlay.agent_of(plain.tuple().src)?;
    let is_of_it = *overlay.sender(of)? == Sender { station, underlay: outer.tuple().src, lane };
    is_of_it.then_some((of, place, plain))
}

/// The agent of the packet's destination and the place of its network, where nothing else has to be done than to carry it
/// there.
#[inline(always)]
fn between(plain: &express::Plain4, tables: &Tables) -> Option<(u16, u8)> {
    let there = tables.overlay.agent_of(plain.tuple().dst)?;
    // A container may serve in `nat-preserve` where there is any such service.
    // A handshake is told what the way has room for.
    let odd = plain.hops_left() <= 1
        || plain.begins()
        || plain.length() > tables.local.least_mtu
        || !tables.v4.preserved.is_empty();
    (!odd).then_some(there)
}

/// Sends every packet that was recognised to its agent, or drops it.
#[inline(never)]
pub fn run(burst: &mut Burst, pool: &mut Pool, with: &Balance<'_>) {
    for packet in burst.iter_mut().filter(|packet| packet.action == Action::Forward) {
        let Out::Agent(to) = packet.out else { continue };
        let (source, destination) = (packet.tuple.src, packet.tuple.dst);
        if let Err(denied) = isolate::pair_admitted(with.tables, source, destination) {
            packet.drop(isolate::counted(denied, with.tables, with.counters));
            continue;
        }
        match Whole::to_agent::<u32>(with.tables, to) {
            Some(way) if way.takes(packet, with.tables) => {
                with.send_off::<u32>(packet, pool, &way, None);
                if let Some(counter) = with.counters.networks.get(usize::from(packet.network)) {
                    counter.tx.add(1);
                }
            }
            // As any other that is passed on.
            Some(_) | None => packet.out = Out::Nowhere,
        }
    }
}
