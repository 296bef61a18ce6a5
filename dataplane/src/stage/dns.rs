//! The answer is written over the question, and the packet turned round.
//!
//! Five passes over half a burst: every question is checked, its name hashed and the slot asked for; the slots are read and
//! the entries asked for; answers are looked up, and the slots asked for of the names that an SRV answer points to; the
//! entries of those; then all are answered. Nearly every answer is put together in one go and leaves from here ([`short`]);
//! the others go by [`answer`], the pure part, octets to octets, and on to encap and egress. Answered here: queries of class
//! IN in our zones; whatever else deserves an answer gets NOTIMP, FORMERR or REFUSED, but what control forwards, which goes
//! to the node's kernel. Who may be somebody else gets little and not often ([`guard`]).

use std::net::IpAddr;

use arrayvec::ArrayVec;

use crate::burst::{Action, Burst, Out, Packet, Tuple};
use crate::counters::{self, Counters};
use crate::frame::Pool;
use crate::tables::Tables;
use crate::tables::zone::{Entry, Probe};
use crate::time::Nanos;
use crate::verdict::{DropReason, Verdict};
use crate::wire::dns::Rcode;

mod answer;
mod compat;
mod cookie;
pub mod guard;
mod short;
#[cfg(test)]
mod tests;
mod turn;
mod write;

use answer::read_probed;
pub use answer::{Answer, Limit, Reply, answer, read};
pub use cookie::Asker;
use guard::{Guard, Portion};
use turn::Question;

/// A question of the burst.
struct Asked<'a> {
    packet: usize,
    question: Question,
    /// What may be the entry of the name.
    candidate: Option<Entry<'a>>,
    /// `Err` says why it gets none.
    answer: Result<Answer<'a>, DropReason>,
}

/// Targets of an SRV answer whose addresses are fetched ahead; more are few.
const AHEAD: usize = 4;

/// Answers every packet whose action is [`Action::Dns`].
pub fn run(burst: &mut Burst, pool: &mut Pool, tables: &Tables, counters: &Counters, guard: &mut Guard, now: Nanos) {
    let with = With { tables, counters, now };
    for part in burst.chunks_mut(AT_ONCE) {
        some(part, pool, with, guard);
    }
}

/// Questions that are answered together: enough to fetch what all need while others are looked at, and few enough that
/// what was fetched for the first is still near when the last is written.
const AT_ONCE: usize = 32;

fn some(burst: &mut [Packet], pool: &mut Pool, with: With<'_>, guard: &mut Guard) {
    let tables = with.tables;
    let mut asked = ArrayVec::<Asked<'_>, AT_ONCE>::new();
    for (index, packet) in burst.iter_mut().enumerate().filter(|(_, p)| p.action == Action::Dns) {
        let gathered = match packet.v6 {
            true => gather::<true>(packet, index, pool, tables, &mut asked),
            false => gather::<false>(packet, index, pool, tables, &mut asked),
        };
        if let Err(reason) = gathered {
            packet.drop(reason);
        }
    }
    if asked.is_empty() {
        return;
    }
    for asked in &mut asked {
        asked.candidate = tables.zones.candidate(&asked.question.probe);
    }
    for asked in &mut asked {
        let Question { at, len, probe, query, .. } = &asked.question;
        let message = pool.bytes(&burst[asked.packet].frame).get(*at..at + len).unwrap_or_default();
        read_probed(message, (probe, asked.candidate), *query, &tables.zones, &mut asked.answer);
        ahead(asked, |target| tables.zones.prefetch_slot(target));
    }
    for asked in &asked {
        ahead(asked, |target| {
            let _asked_for = tables.zones.candidate(target);
        });
    }
    for asked in &asked {
        let packet = &mut burst[asked.packet];
        match &asked.answer {
            Ok(answer) => reply(packet, &asked.question, answer, pool, with, guard),
            Err(reason) => packet.drop(*reason),
        }
    }
}

/// Shows what an SRV answer points to.
#[inline]
fn ahead(asked: &Asked<'_>, show: impl Fn(&Probe)) {
    if let Some(set) = asked.answer.as_ref().ok().and_then(Answer::pointing) {
        for index in 0..usize::from(set.count).min(AHEAD) {
            show(&set.place(index).target);
        }
    }
}

#[inline]
fn client(packet: &Packet) -> IpAddr {
    if packet.v6 { IpAddr::V6(packet.ends6.0.into()) } else { IpAddr::V4(packet.tuple.src.into()) }
}

/// Reads the question of a packet of the burst. The frame is opened to its chunk's end: room for the answer.
#[inline(never)]
fn gather<const V6: bool>(
    packet: &mut Packet,
    index: usize,
    pool: &mut Pool,
    tables: &Tables,
    asked: &mut ArrayVec<Asked<'_>, AT_ONCE>,
) -> Result<(), DropReason> {
    let whole = packet.frame.extent();
    let octets = open(packet, pool);
    let ip_end = usize::from(packet.l3) + usize::from(packet.ip_len);
    let (l3, l4) = (usize::from(packet.l3), usize::from(packet.l4));
    let question = turn::question::<V6>(octets, l3, l4, ip_end, &tables.zones);
    packet.frame.restore(whole);
    let question = question?;
    tables.zones.prefetch_slot(&question.probe);
    asked.push(Asked { packet: index, question, candidate: None, answer: Err(DropReason::DnsMalformed) });
    Ok(())
}

/// What answers are made with.
#[derive(Clone, Copy)]
struct With<'a> {
    tables: &'a Tables,
    counters: &'a Counters,
    now: Nanos,
}

#[inline(always)]
fn reply(
    packet: &mut Packet,
    question: &Question,
    answer: &Answer<'_>,
    pool: &mut Pool,
    with: With<'_>,
    guard: &mut Guard,
) {
    let With { tables, counters, .. } = with;
    let terms = &tables.local.dns;
    let ip = client(packet);
    let trusted = terms.trusts(ip);
    let plain = packet.agent.is_none() && packet.tagged == 0;
    if let Some(port) = tables.local.ports.get(usize::from(packet.ingress)).filter(|_| trusted && plain) {
        let whole = packet.frame.extent();
        let (octets, zones) = (open(packet, pool), &tables.zones);
        let answered = match packet.v6 {
            true => short::reply::<true>(octets, port, question, answer, zones, terms),
            false => short::reply::<false>(octets, port, question, answer, zones, terms),
        };
        if let Some(len) = answered {
            packet.frame.set_len(len as u16);
            count(counters, answer, answer.rcode);
            return packet.end(Verdict::Transmit(packet.ingress));
        }
        packet.frame.restore(whole);
    }
    long(packet, question, answer, pool, with, guard, (ip, trusted));
}

fn count(counters: &Counters, answer: &Answer<'_>, rcode: Rcode) {
    counters.dns[usize::from(rcode.header_bits())].add(1);
    counters.dns_types[counters::dns_type(answer.qtype())].add(1);
    counters.dns_sources[counters::dns_source(answer.origin())].add(1);
}

/// Of answers of any kind, to whomever.
#[inline(never)]
fn long(
    packet: &mut Packet,
    question: &Question,
    answer: &Answer<'_>,
    pool: &mut Pool,
    with: With<'_>,
    guard: &mut Guard,
    (ip, trusted): (IpAddr, bool),
) {
    let With { tables, counters, now } = with;
    let terms = &tables.local.dns;
    let query = question.at..question.at + question.len;
    // Only for those who are trusted: to everybody it would be an open resolver. Who forwards is behind the host port; what
    // came from there has been forwarded already.
    if terms.forward && trusted && is_outside(packet, tables) {
        let message = pool.bytes(&packet.frame).get(query.clone());
        if answer.is_foreign(message.unwrap_or_default()) {
            return packet.leave(Out::Host);
        }
    }
    let asker = Asker { ip, unix_seconds: terms.epoch.wrapping_add((now.0 / 1_000_000_000) as u32) };
    let proven = |pool: &Pool| {
        let message = pool.bytes(&packet.frame).get(query.clone());
        answer.is_proven(message.unwrap_or_default(), terms, &asker)
    };
    let limit = if trusted || proven(pool) {
        Limit::Udp
    } else {
        match guard.portion(ip, terms.rate, now) {
            Portion::Little => Limit::Doubtful,
            Portion::Slip => Limit::Slip,
            Portion::Nothing => return packet.drop(DropReason::DnsRate),
        }
    };
    let (whole, l3, room) = (packet.frame.extent(), usize::from(packet.l3), mtu(packet, tables));
    let octets = open(packet, pool);
    let at = turn::close_up(octets, packet.v6, l3, question);
    let most = at.max(l3 + room).min(octets.len());
    let message = &mut octets[at..most.max(at + question.len)];
    match answer.reply(message, question.len, &tables.zones, terms, &asker, limit) {
        Reply::Answer { len, rcode, sum } => {
            let total = turn::turn(octets, packet.v6, l3, question, len, answer.question_end(), sum);
            packet.frame.set_len((l3 + total) as u16);
            packet.l4 = (at - turn::UDP_LEN) as u8;
            packet.ip_len = total as u16;
            let came = packet.tuple;
            packet.tuple = Tuple { src: came.dst, sport: came.dport, dst: came.src, dport: came.sport, ..came };
            packet.ends6 = (packet.ends6.1, packet.ends6.0);
            count(counters, answer, rcode);
            packet.leave(packet.agent.map_or(Out::Back, Out::Agent));
        }
        Reply::Drop(reason) => {
            packet.frame.restore(whole);
            packet.drop(reason);
        }
    }
}

/// The packet, and behind it what room its chunk has.
#[inline(always)]
fn open<'a>(packet: &mut Packet, pool: &'a mut Pool) -> &'a mut [u8] {
    let room = pool.chunk_bytes() - usize::from(packet.frame.start());
    packet.frame.set_len(room as u16);
    pool.bytes_mut(&mut packet.frame)
}

fn is_outside(packet: &Packet, tables: &Tables) -> bool {
    tables.local.host.is_some_and(|(port, _)| port != packet.ingress)
}

/// Largest IP packet towards the client.
fn mtu(packet: &Packet, tables: &Tables) -> usize {
    let of_tunnel = packet.agent.and_then(|agent| tables.agents.get(usize::from(agent))).map(|agent| agent.room);
    let of_port = || tables.local.ports.get(usize::from(packet.ingress)).map(|port| port.mtu);
    usize::from(of_tunnel.or_else(of_port).unwrap_or(u16::MAX))
}
