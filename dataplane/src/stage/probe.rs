//! Probe: the node's own probes of backends that answer as the VIP are carried to precisely the backend that they are for,
//! as the mode carries clients' packets, and the answers to the kernel's socket.
//!
//! | | source | destination |
//! |---|---|---|
//! | from the kernel | its own address and port | the probe's address ([`crate::tables::probe`]), the VIP's port |
//! | to the backend | a SNAT address, the same port | the VIP |
//! | from the backend | the VIP | the SNAT address and port |
//! | to the kernel | the probe's address, the VIP's port | its own address and port |
//!
//! To [`super::classify`] both are drops: nothing leads to a probe's address, and nobody but us may have a VIP for his
//! source. It says when a burst has such a drop while probes are carried at all; others are not looked at, so ordinary
//! packets pay nothing. What is no probe, and no answer that somebody waits for, stays the drop that it was. Fragments of
//! an answer do, and ICMP errors: the probe has its time-out.

use crate::address::Address;
use crate::burst::{Burst, Out, Packet};
use crate::counters::Counters;
use crate::family::Family;
use crate::fragments::Part;
use crate::frame::Pool;
use crate::probing::{OWNER, Probing, Waiting};
use crate::stage::balance::{depart, send};
use crate::stage::{classify, fit};
use crate::tables::probe::{ProbeEntry, Probes, Ways};
use crate::tables::{Owned, Tables};
use crate::time::Nanos;
use crate::verdict::{DropReason, Verdict};
use crate::wire::{End, ip4};

/// What carrying works with besides packets.
pub struct Carry<'a> {
    /// The snapshot.
    pub tables: &'a Tables,
    /// This worker's counters.
    pub counters: &'a Counters,
    /// This worker's number.
    pub worker: u8,
    /// The time.
    pub now: Nanos,
}

/// Whether what is dropped for this reason may be a probe, or the answer to one.
#[must_use]
#[inline]
pub fn is_one(reason: DropReason, tables: &Tables) -> bool {
    matches!(reason, DropReason::NotForUs | DropReason::Martian) && !tables.probes.is_empty()
}

/// Carries every probe and every answer of the burst.
pub fn run(burst: &mut Burst, pool: &mut Pool, with: &Carry<'_>, probing: &mut Probing) {
    for packet in burst {
        let Verdict::Drop(reason) = packet.verdict else { continue };
        let whole = packet.part == Part::Whole && matches!(packet.tuple.protocol, ip4::TCP | ip4::UDP);
        if !whole || !is_one(reason, with.tables) {
            continue;
        }
        match packet.v6 {
            false => with.carry::<u32>(packet, pool, reason, probing),
            true => with.carry::<u128>(packet, pool, reason, probing),
        }
    }
}

/// A family that probes are carried in.
trait Probed: Family {
    fn ways(probes: &Probes) -> &Ways<Self>;
    fn waiting(probing: &mut Probing) -> &mut Waiting<Self>;
}

impl Probed for u32 {
    fn ways(probes: &Probes) -> &Ways<Self> {
        probes.v4()
    }

    fn waiting(probing: &mut Probing) -> &mut Waiting<Self> {
        &mut probing.v4
    }
}

impl Probed for u128 {
    fn ways(probes: &Probes) -> &Ways<Self> {
        probes.v6()
    }

    fn waiting(probing: &mut Probing) -> &mut Waiting<Self> {
        &mut probing.v6
    }
}

/// A packet's new ends, and its way.
struct Carried<A> {
    source: End<A>,
    destination: End<A>,
    out: Out,
}

impl Carry<'_> {
    fn carry<A: Probed>(&self, packet: &mut Packet, pool: &mut Pool, was: DropReason, probing: &mut Probing) {
        let from_host = classify::is_from_host(packet, self.tables);
        let ours = match from_host {
            true => self.probe::<A>(packet).is_some(),
            false => self.is_answer::<A>(packet),
        };
        if !ours {
            return;
        }
        packet.verdict = Verdict::Pending;
        if !packet.belongs(OWNER, self.worker) {
            return;
        }
        let waiting = A::waiting(probing);
        let carried = match from_host {
            true => self.out::<A>(packet, waiting),
            false => self.back::<A>(packet, waiting).ok_or(was),
        };
        if let Err(reason) = carried.and_then(|carried| self.send(packet, pool, carried)) {
            packet.drop(reason);
            return;
        }
        let counter = if from_host { &self.counters.probes_carried } else { &self.counters.probes_answered };
        counter.add(1);
    }

    /// The way of a probe.
    fn probe<A: Probed>(&self, packet: &Packet) -> Option<&ProbeEntry> {
        let probes = &self.tables.probes;
        let entry = probes.get(A::ways(probes), A::ends(packet).1)?;
        let asked = (entry.vip.port, entry.vip.protocol.number());
        (asked == (packet.tuple.dport, packet.tuple.protocol)).then_some(entry)
    }

    /// Whether it comes from a VIP that is probed to the SNAT address that a probe from its destination port has.
    fn is_answer<A: Probed>(&self, packet: &Packet) -> bool {
        let (source, destination) = A::ends(packet);
        let tuple = &packet.tuple;
        let asked = A::ways(&self.tables.probes).asks(source, tuple.sport, tuple.protocol);
        let expected = self.snat::<A>(tuple.dport).map(Owned::Snat);
        asked && packet.agent.is_none() && expected.is_some() && A::tables(self.tables).address(destination) == expected
    }

    /// The SNAT address (its index) of a probe from this port.
    fn snat<A: Address>(&self, port: u16) -> Option<u8> {
        self.tables.snat.pick::<A>(port.into())
    }

    fn out<A: Probed>(&self, packet: &Packet, waiting: &mut Waiting<A>) -> Result<Carried<A>, DropReason> {
        let tables = self.tables;
        let entry = self.probe::<A>(packet).ok_or(DropReason::NotForUs)?;
        let backend = tables.backend(entry.backend).ok_or(DropReason::NoBackend)?;
        let out = send::out::<A>(entry.mode, backend)?;
        let port = packet.tuple.sport;
        let ip = self.snat::<A>(port).and_then(|index| tables.snat.address(index)).ok_or(DropReason::NoSnat)?;
        let vip = A::from_ip(entry.vip.ip).ok_or(DropReason::NotForUs)?;
        let (source, to) = A::ends(packet);
        waiting.sent(port, packet.tuple.protocol, source, to, self.now);
        Ok(Carried { source: End { ip, port }, destination: End { ip: vip, port: entry.vip.port }, out })
    }

    /// `None` where nobody waits for it.
    fn back<A: Probed>(&self, packet: &Packet, waiting: &mut Waiting<A>) -> Option<Carried<A>> {
        let tuple = &packet.tuple;
        let (kernel, to) = waiting.answered(tuple.dport, tuple.protocol, self.now)?;
        let probes = &self.tables.probes;
        let asked = probes.get(A::ways(probes), to)?.vip;
        let from = (A::from_ip(asked.ip)?, asked.port, asked.protocol.number());
        (from == (A::ends(packet).0, tuple.sport, tuple.protocol)).then_some(())?;
        let (source, destination) = (End { ip: to, port: tuple.sport }, End { ip: kernel, port: tuple.dport });
        Some(Carried { source, destination, out: Out::Host })
    }

    fn send<A: Probed>(&self, packet: &mut Packet, pool: &mut Pool, to: Carried<A>) -> Result<(), DropReason> {
        classify::alive(packet)?;
        fit::check(packet, self.tables, || fit::room(self.tables, to.out))?;
        depart::leave(packet, pool, to.out, Some((to.source, to.destination)));
        Ok(())
    }
}
