//! The answer is written over the question, and the packet turned round.
//!
//! Five passes over the burst: every question is checked, its name hashed and the slot asked for; the entries are asked
//! for; they are looked up, and the slots asked for of the names that an SRV answer points to; the entries of those; then
//! all are answered. [`answer`] is the pure part, octets to octets. Answered here: queries of class IN in our zones;
//! whatever else deserves an answer gets NOTIMP, FORMERR or REFUSED, but what control forwards, which goes to the node's
//! kernel. Who may be somebody else gets little and not often ([`guard`]).

use std::net::IpAddr;

use arrayvec::ArrayVec;

use crate::burst::{Action, Burst, Out, Packet};
use crate::counters::Counters;
use crate::frame::{self, Pool};
use crate::io::BURST;
use crate::tables::Tables;
use crate::tables::zone::Probe;
use crate::time::Nanos;
use crate::verdict::DropReason;

mod answer;
mod compat;
mod cookie;
pub mod guard;
pub mod sum;
#[cfg(test)]
mod tests;
mod turn;
mod write;

pub use answer::{Answer, Limit, Reply, answer, read};
pub use cookie::Asker;
use guard::{Guard, Portion};
pub use sum::Sum;

/// A question of the burst.
struct Asked<'a> {
    packet: usize,
    /// Offset of the message in the frame.
    at: usize,
    /// Octets of the message.
    len: usize,
    probe: Probe,
    /// `Err` says why it gets none.
    answer: Result<Answer<'a>, DropReason>,
}

/// Targets of an SRV answer whose addresses are fetched ahead; more are few.
const AHEAD: usize = 4;

/// Answers every packet whose action is [`Action::Dns`].
pub fn run(burst: &mut Burst, pool: &mut Pool, tables: &Tables, counters: &Counters, guard: &mut Guard, now: Nanos) {
    let mut asked = ArrayVec::<Asked<'_>, BURST>::new();
    for packet in burst.iter().filter(|p| p.action == Action::Dns) {
        prefetch_message(pool.bytes(&packet.frame));
    }
    for (index, packet) in burst.iter_mut().enumerate().filter(|(_, p)| p.action == Action::Dns) {
        match gather(packet, pool, tables) {
            Ok((at, len, probe)) => {
                asked.push(Asked { packet: index, at, len, probe, answer: Err(DropReason::DnsMalformed) });
            }
            Err(reason) => packet.drop(reason),
        }
    }
    if asked.is_empty() {
        return;
    }
    for question in &asked {
        tables.zones.prefetch_entry(&question.probe);
    }
    for question in &mut asked {
        let packet = &burst[question.packet];
        let message = pool.bytes(&packet.frame).get(question.at..question.at + question.len).unwrap_or_default();
        question.answer = read(message, &question.probe, &tables.zones);
        ahead(question, |target| tables.zones.prefetch_slot(target));
    }
    for question in &asked {
        ahead(question, |target| tables.zones.prefetch_entry(target));
    }
    let clock = tables.local.dns.epoch.wrapping_add((now.0 / 1_000_000_000) as u32);
    for question in &asked {
        let packet = &mut burst[question.packet];
        let asker = Asker { ip: client(packet), unix_seconds: clock };
        reply(packet, question, &asker, pool, tables, counters, guard, now);
    }
}

/// Shows what an SRV answer points to.
#[inline]
fn ahead(question: &Asked<'_>, show: impl Fn(&Probe)) {
    if let Some(set) = question.answer.as_ref().ok().and_then(Answer::pointing) {
        for index in 0..usize::from(set.count).min(AHEAD) {
            show(&set.place(index).target);
        }
    }
}

/// Parse has fetched the headers; the name, and most answers, lie in the next three lines.
#[inline]
fn prefetch_message(octets: &[u8]) {
    frame::prefetch(octets.as_ptr().wrapping_add(64));
    frame::prefetch(octets.as_ptr().wrapping_add(128));
    frame::prefetch(octets.as_ptr().wrapping_add(192));
}

#[inline]
fn client(packet: &Packet) -> IpAddr {
    if packet.v6 { IpAddr::V6(packet.ends6.0.into()) } else { IpAddr::V4(packet.tuple.src.into()) }
}

/// Where the message is, and its name on the way to the table. The frame is opened to its chunk's end: room for the
/// answer.
fn gather(packet: &mut Packet, pool: &mut Pool, tables: &Tables) -> Result<(usize, usize, Probe), DropReason> {
    let whole = packet.frame.extent();
    let room = pool.chunk_bytes() - usize::from(packet.frame.start());
    packet.frame.set_len(room as u16);
    let octets = pool.bytes_mut(&mut packet.frame);
    let ip_end = usize::from(packet.l3) + usize::from(packet.ip_len);
    let question = turn::question(octets, packet.v6, usize::from(packet.l3), usize::from(packet.l4), ip_end);
    let found = question.map(|(at, len)| (at, len, tables.zones.probe(&octets[at..])));
    packet.frame.restore(whole);
    if let Ok((_, _, probe)) = &found {
        tables.zones.prefetch_slot(probe);
    }
    found
}

#[expect(clippy::too_many_arguments, reason = "the pieces of a turn, each borrowed by itself")]
#[inline]
fn reply(
    packet: &mut Packet,
    question: &Asked<'_>,
    asker: &Asker,
    pool: &mut Pool,
    tables: &Tables,
    counters: &Counters,
    guard: &mut Guard,
    now: Nanos,
) {
    let terms = &tables.local.dns;
    let answer = match &question.answer {
        Err(reason) => return packet.drop(*reason),
        // Who would forward it is behind the host port; what came from there has been forwarded already.
        Ok(answer) if terms.forward && answer.is_foreign() && is_outside(packet, tables) => {
            return packet.leave(Out::Host);
        }
        Ok(answer) => answer,
    };
    let proven = |pool: &Pool| {
        let message = pool.bytes(&packet.frame).get(question.at..question.at + question.len);
        answer.is_proven(message.unwrap_or_default(), terms, asker)
    };
    let limit = if terms.trusts(asker.ip) || proven(pool) {
        Limit::Udp
    } else {
        match guard.portion(asker.ip, terms.rate, now) {
            Portion::Little => Limit::Doubtful,
            Portion::Slip => Limit::Slip,
            Portion::Nothing => return packet.drop(DropReason::DnsRate),
        }
    };
    let whole = packet.frame.extent();
    let room = pool.chunk_bytes() - usize::from(packet.frame.start());
    packet.frame.set_len(room as u16);
    let octets = pool.bytes_mut(&mut packet.frame);
    let l3 = usize::from(packet.l3);
    let most = question.at.max(l3 + mtu(packet, tables)).min(octets.len());
    let message = &mut octets[question.at..most.max(question.at + question.len)];
    match answer.reply(message, question.len, &tables.zones, terms, asker, limit) {
        Reply::Answer { len, rcode, sum } => {
            let total = turn::turn(octets, packet.v6, l3, len, answer.question_end(), sum);
            packet.frame.set_len((l3 + total) as u16);
            packet.l4 = (question.at - turn::UDP_LEN) as u8;
            packet.ip_len = total as u16;
            let asked = packet.tuple;
            (packet.tuple.src, packet.tuple.sport) = (asked.dst, asked.dport);
            (packet.tuple.dst, packet.tuple.dport) = (asked.src, asked.sport);
            packet.ends6 = (packet.ends6.1, packet.ends6.0);
            counters.dns[usize::from(rcode.header_bits())].add(1);
            counters.dns_types[crate::counters::dns_type(answer.qtype())].add(1);
            counters.dns_sources[crate::counters::dns_source(answer.origin())].add(1);
            packet.leave(packet.agent.map_or(Out::Back, Out::Agent));
        }
        Reply::Drop(reason) => {
            packet.frame.restore(whole);
            packet.drop(reason);
        }
    }
}

fn is_outside(packet: &Packet, tables: &Tables) -> bool {
    tables.local.host.is_some_and(|(port, _)| port != packet.ingress)
}

/// Largest IP packet towards the client.
#[inline]
fn mtu(packet: &Packet, tables: &Tables) -> usize {
    let (port, vtep) = (tables.local.ports.get(usize::from(packet.ingress)), &tables.local.vtep);
    let (port, vtep) = (port.map(|port| port.mtu), vtep.as_ref().map(|vtep| vtep.mtu));
    usize::from(packet.agent.and(vtep).or(port).unwrap_or(u16::MAX))
}
