//! Refuse: some packets that would be dropped are answered instead, in place and as they were received: a TTL that ran
//! out, what does not fit its way out, and newcomers to a service that cannot serve them.
//!
//! Runs where no packet that was dropped for such a reason has been changed yet (but for a tunnel's outer headers), so
//! that the answer quotes what its sender knows. An answer counts as its packet's transmission. What must not be answered
//! (RFC 1122 section 3.2.2, RFC 4443 section 2.4(e)) and what the rates in `[limits]` do not allow stays the drop that it
//! was. A burst in which nobody noted such a drop is not looked at: with a look at each verdict `parse-drop` took 1 ns more.

use sluice_config::model::Empty;

use crate::burst::{Burst, Out, Packet};
use crate::counters::Counters;
use crate::frame::Pool;
use crate::limiter::{Answer, RateLimits};
use crate::tables::{Owned, Tables};
use crate::time::Nanos;
use crate::verdict::{DropReason, Reply, Verdict};
use crate::wire::icmp::Message;
use crate::wire::{ETHERNET, ip4};
use speak::Speak;

mod speak;

/// Answers what can be answered of what was dropped.
pub fn run(
    burst: &mut Burst,
    pool: &mut Pool,
    tables: &Tables,
    limits: &mut RateLimits,
    counters: &Counters,
    now: Nanos,
) {
    for packet in burst {
        let Verdict::Drop(reason) = packet.verdict else { continue };
        if !is_told(reason) {
            continue;
        }
        let answered = match packet.v6 {
            false => answer::<u32>(packet, pool, tables, limits, now, reason),
            true => answer::<u128>(packet, pool, tables, limits, now, reason),
        };
        if let Some(reply) = answered {
            counters.answers(reply).add(1);
            counters.answered(reason).add(1);
        }
    }
}

/// Whether there may be something to say of such a drop. Who drops for such a reason says so to the turn.
#[must_use]
#[inline]
pub fn is_told(reason: DropReason) -> bool {
    use DropReason::{NoBackend, SnatExhausted, SnatQuota, TooBig, TtlExpired};
    matches!(reason, NoBackend | SnatExhausted | SnatQuota | TooBig | TtlExpired)
}

/// What is said to the sender.
enum Said {
    Error(Reply, Message),
    Reset,
    Abort,
}

#[inline(never)]
fn answer<A: Speak>(
    packet: &mut Packet,
    pool: &mut Pool,
    tables: &Tables,
    limits: &mut RateLimits,
    now: Nanos,
    reason: DropReason,
) -> Option<Reply> {
    let said = said::<A>(packet, pool, tables, reason)?;
    let ip = pool.bytes(&packet.frame).get(usize::from(packet.l3)..)?;
    if !A::may_answer(ip, reason == DropReason::TooBig) {
        return None;
    }
    let reply = match said {
        Said::Error(reply, message) => {
            let source = speaker::<A>(packet, tables, reason)?;
            limits.allow(Answer::Error, now).then_some(())?;
            error::<A>(packet, pool, message, source)?;
            reply
        }
        Said::Reset => {
            limits.allow(Answer::Reset, now).then_some(())?;
            turned::<A>(packet, pool, A::reset)?;
            Reply::Reset
        }
        Said::Abort => {
            limits.allow(Answer::Reset, now).then_some(())?;
            turned::<A>(packet, pool, A::abort)?;
            Reply::Abort
        }
    };
    packet.verdict = Verdict::Pending;
    packet.leave(packet.agent.map_or(Out::Back, Out::Agent));
    Some(reply)
}

/// What there is to say, if anything.
fn said<A: Speak>(packet: &Packet, pool: &Pool, tables: &Tables, reason: DropReason) -> Option<Said> {
    use DropReason::{NoBackend, SnatExhausted, SnatQuota, TooBig, TtlExpired};
    if reason == TtlExpired {
        return Some(Said::Error(Reply::TimeExceeded, A::TIME_EXCEEDED));
    }
    if reason == TooBig && packet.mtu > 0 {
        let ip = pool.bytes(&packet.frame).get(usize::from(packet.l3)..)?;
        return A::too_big(ip, packet.mtu).map(|message| Said::Error(Reply::TooBig, message));
    }
    // Of a flow that lost its session a later packet may still find a port.
    let newcomer = matches!(reason, SnatExhausted | SnatQuota) && packet.is_first(pool);
    if newcomer || reason == NoBackend { refusal::<A>(packet, tables) } else { None }
}

/// How the service that cannot serve refuses.
fn refusal<A: Speak>(packet: &Packet, tables: &Tables) -> Option<Said> {
    let tuple = &packet.tuple;
    let number = A::tables(tables).service(A::ends(packet).1, tuple.dport, tuple.protocol)?;
    match (tables.service(number)?.empty, tuple.protocol) {
        (Empty::Drop, _) => None,
        (Empty::Reset, ip4::TCP) => Some(Said::Reset),
        (Empty::Reset, ip4::SCTP) => Some(Said::Abort),
        (Empty::Reset, _) => Some(Said::Error(Reply::Unreachable, A::PORT_UNREACHABLE)),
    }
}

/// Whose address an error comes from: of a router's errors the node's own on that side (RFC 1812 section 4.3.2.4), of a
/// service's the address that the sender knows; either where there is only one. A packet to a subnet's broadcast
/// address gets none, and of the kernel's own packets only those to a VIP.
fn speaker<A: Speak>(packet: &Packet, tables: &Tables, reason: DropReason) -> Option<A> {
    let own = own::<A>(packet, tables);
    let destination = A::ends(packet).1;
    let asked = match A::tables(tables).address(destination) {
        Some(Owned::Vip | Owned::Snat(_) | Owned::Dns | Owned::Vtep) => Some(destination),
        Some(Owned::Host) => return own.filter(|own| *own == destination),
        None => None,
    };
    if reason == DropReason::TtlExpired { own.or(asked) } else { asked.or(own) }
}

/// The node's own address on the side that the packet came from.
fn own<A: Speak>(packet: &Packet, tables: &Tables) -> Option<A> {
    let local = &tables.local;
    if packet.agent.is_some() {
        let vtep = local.vtep.as_ref()?;
        // Without a host port there is the VTEP itself, which agents have a route to.
        let addresses = vtep.host_addresses.iter().copied().chain([vtep.vtep.addr().into()]);
        return addresses.into_iter().find_map(A::from_ip);
    }
    // The kernel takes nothing from an address that is its own.
    if local.host.is_some_and(|(port, _)| port == packet.ingress) {
        return None;
    }
    local.ports.get(usize::from(packet.ingress))?.own.into_iter().flatten().find_map(A::from_ip)
}

/// Writes an error in front of as much of the packet as it quotes.
fn error<A: Speak>(packet: &mut Packet, pool: &mut Pool, message: Message, source: A) -> Option<()> {
    let quoted = A::quotable(usize::from(packet.ip_len));
    packet.frame.set_len((ETHERNET + quoted) as u16);
    packet.frame.prepend(A::FRONT as u16).then_some(())?;
    let bytes = pool.bytes_mut(&mut packet.frame);
    bytes.copy_within(A::FRONT..A::FRONT + ETHERNET, 0);
    let destination = A::write(bytes.get_mut(ETHERNET..)?, message, source)?;
    packet.ip_len = (A::FRONT + quoted) as u16;
    A::set_ends(packet, source, destination);
    packet.tuple.protocol = A::ICMP;
    (packet.tuple.sport, packet.tuple.dport) = (0, 0);
    Some(())
}

/// Writes an answer of the transport over the packet.
fn turned<A: Speak>(packet: &mut Packet, pool: &mut Pool, write: fn(&mut [u8], usize) -> Option<usize>) -> Option<()> {
    let (l3, l4) = (usize::from(packet.l3), usize::from(packet.l4));
    let length = write(pool.bytes_mut(&mut packet.frame).get_mut(l3..)?, l4 - l3)?;
    packet.frame.set_len((l3 + length) as u16);
    packet.ip_len = length as u16;
    let (source, destination) = A::ends(packet);
    A::set_ends(packet, destination, source);
    (packet.tuple.sport, packet.tuple.dport) = (packet.tuple.dport, packet.tuple.sport);
    Some(())
}
