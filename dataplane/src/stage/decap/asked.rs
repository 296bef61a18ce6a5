//! Who asks through a tunnel for the MAC of an address of ours (ARP, neighbour solicitation) is answered there: the frame
//! goes back as it came, its inner part turned into the answer. Nothing is flooded, and nobody else is answered for.

use sluice_config::model::{Mac, OwnVtep};

use crate::burst::{Out, Packet};
use crate::family::Family;
use crate::frame::Pool;
use crate::tables::{Agent, Owned, Tables};
use crate::verdict::DropReason;
use crate::wire::{ETHERNET, arp, ip4, ip6, long, nd, put, word};

const ARP: u16 = 0x0806;
const IPV6: u16 = 0x86dd;

/// Whether an inner frame asks for a MAC.
#[inline]
pub(super) fn is_question(frame: &[u8]) -> bool {
    match word(frame, 12) {
        ARP => true,
        IPV6 => {
            let ip = frame.get(ETHERNET..).unwrap_or_default();
            ip.get(ip6::field::NEXT) == Some(&ip6::ICMP) && ip.get(ip6::HEADER) == Some(&nd::SOLICITATION)
        }
        _ => false,
    }
}

/// Answers the question in the frame that begins at `inner`, if it is the agent's to ask and ours to answer.
#[cold]
pub(super) fn answer(
    packet: &mut Packet,
    pool: &mut Pool,
    (tables, vtep): (&Tables, &OwnVtep),
    agent: &Agent,
    inner: usize,
) -> Result<(), DropReason> {
    let l3 = usize::from(packet.l3);
    let bytes = pool.bytes_mut(&mut packet.frame);
    let frame = bytes.get_mut(inner..).unwrap_or_default();
    let from = Mac(std::array::from_fn(|i| frame[6 + i]));
    match word(frame, 12) {
        ARP => {
            let asked = arp::request(frame).ok_or(DropReason::VxlanInner)?;
            of_us(asked.sender, asked.target, agent, tables)?;
            arp::reply(frame, vtep.mac);
        }
        _ => {
            let ip = &frame[ETHERNET..];
            let whole =
                usize::from(word(ip, ip6::field::LENGTH)) == nd::MESSAGE && ip.len() == ip6::HEADER + nd::MESSAGE;
            let asked = nd::solicitation(ip, ip6::HEADER).filter(|_| whole).ok_or(DropReason::VxlanInner)?;
            of_us(asked.sender, asked.target, agent, tables)?;
            nd::advertise(frame, asked, vtep.mac);
        }
    }
    put(frame, 0, from.0);
    put(frame, 6, vtep.mac.0);
    // The outer header's sum does not care which address comes first; without a checksum UDP is right as it is.
    let ip = &mut bytes[l3..];
    let (source, destination) = (long(ip, ip4::field::SOURCE), long(ip, ip4::field::DESTINATION));
    put(ip, ip4::field::SOURCE, destination.to_be_bytes());
    put(ip, ip4::field::DESTINATION, source.to_be_bytes());
    put(ip, usize::from(packet.l4) - l3 + 6, [0, 0]);
    packet.leave(Out::Back);
    Ok(())
}

/// Whether the sender is the agent's, and the target is one of our addresses in the overlay, or what it reaches through us.
fn of_us<A: Family>(sender: A, target: A, agent: &Agent, tables: &Tables) -> Result<(), DropReason> {
    if !sender.may_come_from(agent) {
        return Err(DropReason::OverlaySpoof);
    }
    let ours = match A::tables(tables).address(target) {
        Some(Owned::Vip | Owned::Snat(_) | Owned::Dns) => true,
        Some(Owned::Host | Owned::Vtep) | None => tables.overlay.is_address(target),
    };
    if ours { Ok(()) } else { Err(DropReason::ArpNotOurs) }
}
