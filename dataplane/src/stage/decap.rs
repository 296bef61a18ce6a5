//! Decap: VXLAN to our VTEP is stripped, its sender checked, the inner packet parsed in its place.
//!
//! The outer UDP checksum is not verified, whatever it is: Linux sends non-zero ones (design.md section 2).

use sluice_config::model::{Mac, OwnVtep};

use crate::burst::{Action, Burst, Packet};
use crate::counters::Counters;
use crate::family::Family;
use crate::fragments::Part;
use crate::frame::Pool;
use crate::stage::parse;
use crate::tables::{Agent, Tables};
use crate::verdict::DropReason;
use crate::wire::{ETHERNET, ip4, ip6, vxlan, word};

mod asked;

/// Strips every packet that is VXLAN to us.
pub fn run(burst: &mut Burst, pool: &mut Pool, tables: &Tables, counters: &Counters) {
    let Some(vtep) = &tables.local.vtep else { return };
    for packet in burst {
        if packet.action == Action::Parsed && is_vxlan(packet, vtep, tables) {
            match strip(packet, pool, tables, vtep) {
                // Where it was handed over it has been counted.
                Ok(()) if packet.handed => {}
                Ok(()) => count(packet, tables, counters),
                Err(reason) => packet.drop(reason),
            }
        }
    }
}

#[inline]
fn is_vxlan(packet: &Packet, vtep: &OwnVtep, tables: &Tables) -> bool {
    let tuple = &packet.tuple;
    !packet.v6
        && tuple.protocol == ip4::UDP
        && tuple.dst == vtep.underlay.to_bits()
        && tables.overlay.is_port(tuple.dport)
}

fn count(packet: &Packet, tables: &Tables, counters: &Counters) {
    let place = match (packet.agent, packet.v6) {
        // It asked for a MAC.
        (None, _) => None,
        (Some(_), false) => tables.overlay.place(packet.tuple.src),
        (Some(_), true) => tables.overlay.place(packet.ends6.0),
    };
    if let Some(counter) = place.and_then(|place| counters.networks.get(usize::from(place))) {
        counter.rx.add(1);
    }
}

#[inline]
fn strip(packet: &mut Packet, pool: &mut Pool, tables: &Tables, vtep: &OwnVtep) -> Result<(), DropReason> {
    if !tables.local.ports.get(usize::from(packet.ingress)).is_some_and(|p| p.underlay) {
        return Err(DropReason::VxlanPort);
    }
    if packet.part != Part::Whole {
        return Err(DropReason::VxlanFragment);
    }
    let (source, port) = (packet.tuple.src, packet.tuple.dport);
    let bytes = pool.bytes(&packet.frame);
    let l4 = usize::from(packet.l4);
    // Parse has checked the UDP length against the packet: 8 to what there is.
    let header = bytes.get(l4 + 8..l4 + usize::from(word(bytes, l4 + 4))).unwrap_or_default();
    if !tables.overlay.is_agent(source) {
        return Err(DropReason::VxlanUnknownVtep);
    }
    let inner = header.get(vxlan::HEADER..).ok_or(DropReason::VxlanHeader)?;
    let vni = vxlan::vni(header).ok_or(DropReason::VxlanHeader)?;
    // An agent that has no part of the networks with this VNI has no business there.
    let lane = tables.overlay.lane(port, vni).ok_or(DropReason::VxlanUnknownVni)?;
    let number = tables.overlay.agent(source, lane).ok_or(DropReason::VxlanUnknownVni)?;
    let agent = tables.agents.get(number as usize).ok_or(DropReason::VxlanUnknownVtep)?;
    let kind = word(inner, 12);
    let question = asked::is_question(inner);
    if inner.len() < ETHERNET || !question && (inner[..6] != vtep.mac.0 || ![0x0800, 0x86dd].contains(&kind)) {
        return Err(DropReason::VxlanInner);
    }
    if agent.vtep_mac != Mac(std::array::from_fn(|i| inner[6 + i])) {
        return Err(DropReason::OverlaySpoof);
    }
    if question {
        return asked::answer(packet, pool, (tables, vtep), agent, l4 + 8 + vxlan::HEADER);
    }
    let outer_ecn = bytes[usize::from(packet.l3) + ip4::field::TOS] & 3;
    let stripped = (l4 + 8 + vxlan::HEADER) as u16;
    if !packet.frame.trim_front(stripped) {
        return Err(DropReason::VxlanHeader);
    }
    packet.frame.set_len(inner.len() as u16);
    packet.agent = Some(number as u16);
    match kind {
        0x0800 => {
            parse::ip4(packet, pool.bytes(&packet.frame))?;
            check::<u32>(packet, agent, tables)?;
            if is_vxlan(packet, vtep, tables) {
                return Err(DropReason::VxlanNested);
            }
        }
        _ => {
            parse::ip6(packet, pool.bytes(&packet.frame))?;
            check::<u128>(packet, agent, tables)?;
        }
    }
    carry_ecn(packet, pool, outer_ecn)
}

/// Whether the agent may send what was in the tunnel.
#[inline]
fn check<A: Family>(packet: &Packet, agent: &Agent, tables: &Tables) -> Result<(), DropReason> {
    if !A::ends(packet).0.may_come_from(agent) {
        return Err(DropReason::OverlaySpoof);
    }
    let tuple = &packet.tuple;
    // In a tunnel to another agent the same would come back to it as if from us.
    let to_agent = !A::V6 && tuple.protocol == ip4::UDP && tables.overlay.is_agent(tuple.dst);
    if to_agent && tables.overlay.is_port(tuple.dport) { Err(DropReason::VxlanNested) } else { Ok(()) }
}

/// RFC 6040 section 4.2, figure 4. Idempotent, so a packet that is handed over as received may pass here twice.
fn carry_ecn(packet: &mut Packet, pool: &mut Pool, outer: u8) -> Result<(), DropReason> {
    const NOT_ECT: u8 = 0;
    const ECT1: u8 = 1;
    const ECT0: u8 = 2;
    if outer != ip4::CE && outer != ECT1 {
        return Ok(());
    }
    let l3 = usize::from(packet.l3);
    let ip = &mut pool.bytes_mut(&mut packet.frame)[l3..];
    let inner = if packet.v6 { ip6::ecn(ip) } else { ip[ip4::field::TOS] & 3 };
    match (inner, outer) {
        (NOT_ECT, ip4::CE) => return Err(DropReason::EcnLost),
        (_, ip4::CE) | (ECT0, ECT1) if packet.v6 => ip6::set_ecn(ip, outer),
        (_, ip4::CE) | (ECT0, ECT1) => ip4::set_ecn(ip, outer),
        _ => {}
    }
    Ok(())
}
