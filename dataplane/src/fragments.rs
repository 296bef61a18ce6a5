//! Fragments: the first one, which has the ports, decides; the later ones of its datagram follow it (RFC 791, RFC 8200
//! section 4.5).
//!
//! One [`Fragments`] a worker and family, of fixed memory: it remembers what was decided of a datagram for a while, and
//! gives places to later fragments that come before the first. A place is a number; the frame itself waits with the
//! caller, who gets the number back from [`Fragments::released`] exactly once, with the verdict or without one. Nothing
//! is reassembled, and what overlaps in a datagram is the receiver's business, but for the transport header: that lies
//! in the first fragment alone, or the datagram is dropped ([`part`]).

use crate::address::Address;
use crate::tables::hash::HashKey;
use crate::time::Nanos;
use crate::verdict::DropReason;
use crate::wire::{ip4, sctp};

/// Datagrams that share a bucket.
const WAYS: usize = 4;
/// No place.
const NONE: u16 = u16::MAX;

/// Which part of a datagram a packet is.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Part {
    /// All of it (an IPv6 packet may carry a fragment header for nothing, RFC 6946).
    Whole,
    /// The beginning, transport header included.
    First,
    /// Something behind the transport header.
    Later,
}

/// Judges a packet with fragment fields: `offset` in 8-octet units, `more` to come, `octets` of payload behind the IP
/// header (IPv6: behind the fragment header), `header_len` octets that count against the 65,535 of a reassembled packet
/// (IPv4: the header's; IPv6: 0).
///
/// # Errors
/// The reason to drop: a length that cannot be, a first fragment without its whole transport header, a later one that
/// would overwrite it (RFC 1858 section 3, RFC 3128).
#[inline]
pub fn part(protocol: u8, offset: u16, more: bool, octets: usize, header_len: usize) -> Result<Part, DropReason> {
    if offset == 0 && !more {
        return Ok(Part::Whole);
    }
    let start = usize::from(offset) * 8;
    if octets == 0 || (more && !octets.is_multiple_of(8)) || header_len + start + octets > usize::from(u16::MAX) {
        return Err(DropReason::FragmentLength);
    }
    match (offset, transport_min(protocol)) {
        (0, needed) if octets >= needed => Ok(Part::First),
        (1.., needed) if start >= needed => Ok(Part::Later),
        _ => Err(DropReason::FragmentTiny),
    }
}

/// Transport octets that decide about a datagram: all of a TCP header but its options, the others' ports, and SCTP's
/// first chunk's type.
const fn transport_min(protocol: u8) -> usize {
    match protocol {
        ip4::TCP => 20,
        sctp::PROTOCOL => sctp::HEADER + 4,
        _ => 8,
    }
}

/// What the fragments of one datagram have in common.
#[derive(Clone, Copy, PartialEq, Eq, Debug, Default)]
pub struct Datagram<A> {
    /// Sender, host byte order.
    pub source: A,
    /// Receiver, host byte order.
    pub destination: A,
    /// Identification: 16 bits of IPv4, 32 of IPv6.
    pub id: u32,
    /// IP protocol of the transport.
    pub protocol: u8,
}

impl<A: Address> Datagram<A> {
    #[inline]
    fn hash(&self, key: HashKey) -> u64 {
        let last = u64::from(self.id) << 8 | u64::from(self.protocol);
        key.words(self.source.words().into_iter().chain(self.destination.words()).chain([last]))
    }
}

/// How much is remembered, and for how long.
#[derive(Clone, Copy, Debug)]
pub struct Limits {
    /// Datagrams; rounded up to a power of two of at least 4.
    pub datagrams: usize,
    /// Fragments that wait for their first one, in all; at most 65,534.
    pub waiting: u16,
    /// Of these, at most so many of one datagram.
    pub waiting_each: u8,
    /// Nanoseconds from the last first fragment until its verdict is forgotten. Receivers reassemble for up to 60 s (RFC
    /// 8200), but identifications of a busy pair come round sooner (RFC 4963).
    pub known_for: u64,
    /// Nanoseconds from the first waiting fragment until all that wait for the same are given up.
    pub wait_for: u64,
}

/// What becomes of a later fragment.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Later<V> {
    /// As the first one.
    Follow(V),
    /// It waits at this place, which is below [`Limits::waiting`].
    Hold(u16),
    /// There is no room.
    Drop(DropReason),
}

/// A datagram in the table; with `until` 0 there is none.
#[derive(Clone, Copy)]
struct Entry<A, V> {
    datagram: Datagram<A>,
    until: Nanos,
    verdict: Option<V>,
    queue: Queue,
    waiting: u8,
}

/// Places in order of arrival, linked through [`Place::next`].
#[derive(Clone, Copy)]
struct Queue {
    head: u16,
    tail: u16,
}

impl Queue {
    const EMPTY: Self = Self { head: NONE, tail: NONE };
}

/// Where a fragment waits.
#[derive(Clone, Copy)]
struct Place<V> {
    next: u16,
    verdict: Option<V>,
}

/// What was decided of datagrams, and who waits for that. `V` is what the first fragment's verdict consists of.
pub struct Fragments<A, V> {
    key: HashKey,
    limits: Limits,
    entries: Box<[[Entry<A, V>; WAYS]]>,
    places: Box<[Place<V>]>,
    free: Queue,
    released: Queue,
    holding: u16,
    swept: usize,
}

impl<A: Address, V: Copy> Fragments<A, V> {
    /// A table with nothing in it; all the memory that it will ever have.
    #[must_use]
    pub fn new(key: HashKey, limits: Limits) -> Self {
        let empty =
            Entry { datagram: Datagram::default(), until: Nanos(0), verdict: None, queue: Queue::EMPTY, waiting: 0 };
        let buckets = limits.datagrams.div_ceil(WAYS).next_power_of_two();
        let waiting = limits.waiting.min(NONE - 1);
        let place = |at: u16| Place { next: if at + 1 < waiting { at + 1 } else { NONE }, verdict: None };
        let free = if waiting == 0 { Queue::EMPTY } else { Queue { head: 0, tail: waiting - 1 } };
        Self {
            key,
            limits,
            entries: vec![[empty; WAYS]; buckets].into_boxed_slice(),
            places: (0..waiting).map(place).collect(),
            free,
            released: Queue::EMPTY,
            holding: 0,
            swept: 0,
        }
    }

    /// A first fragment was decided: those that wait are released with its verdict, those to come follow it. A second
    /// first fragment replaces the verdict: the identification is in use again, or somebody overlaps on purpose, and
    /// then each was judged by itself.
    pub fn first(&mut self, datagram: Datagram<A>, verdict: V, now: Nanos) {
        let bucket = self.bucket(&datagram);
        let Some(way) = self.find(bucket, &datagram, now).or_else(|| self.claim(bucket, &datagram, true, now)) else {
            return;
        };
        let until = Nanos(now.0.saturating_add(self.limits.known_for));
        let Some(entry) = self.entry(bucket, way) else { return };
        (entry.verdict, entry.until) = (Some(verdict), until);
        self.release(bucket, way, Some(verdict));
    }

    /// What was decided of a datagram, if it is known.
    #[must_use]
    pub fn decided(&mut self, datagram: &Datagram<A>, now: Nanos) -> Option<V> {
        let bucket = self.bucket(datagram);
        let way = self.find(bucket, datagram, now)?;
        self.entry(bucket, way)?.verdict
    }

    /// A later fragment came.
    #[must_use]
    pub fn later(&mut self, datagram: Datagram<A>, now: Nanos) -> Later<V> {
        let bucket = self.bucket(&datagram);
        let found = self.find(bucket, &datagram, now);
        if let Some(verdict) = found.and_then(|way| self.entry(bucket, way)).and_then(|entry| entry.verdict) {
            return Later::Follow(verdict);
        }
        if self.free.head == NONE || self.limits.waiting_each == 0 {
            return Later::Drop(DropReason::FragmentsFull);
        }
        let way = found.or_else(|| self.claim(bucket, &datagram, false, now));
        match way.and_then(|way| self.hold(bucket, way)) {
            Some(place) => Later::Hold(place),
            None => Later::Drop(DropReason::FragmentsFull),
        }
    }

    /// The next place that somebody need wait at no longer, and the verdict to follow; `None` for the verdict when the
    /// first fragment did not come in time or was pushed out. Call it until it says `None`, after every
    /// [`Fragments::first`], [`Fragments::later`] and [`Fragments::sweep`]; the place may be given away by the next call.
    pub fn released(&mut self) -> Option<(u16, Option<V>)> {
        let place = self.pop(Kind::Released)?;
        let verdict = self.places.get(usize::from(place)).and_then(|p| p.verdict);
        self.push(Kind::Free, place);
        self.holding = self.holding.saturating_sub(1);
        Some((place, verdict))
    }

    /// Looks at the next `buckets` of the table and gives up those that waited too long. Once round is enough within
    /// [`Limits::wait_for`]; an entry past its time counts as absent anyway, but what waits for it holds frames.
    pub fn sweep(&mut self, buckets: usize, now: Nanos) {
        for _ in 0..buckets.min(self.entries.len()) {
            for way in 0..WAYS {
                self.forget_if_late(self.swept, way, now);
            }
            self.swept = (self.swept + 1) & (self.entries.len() - 1);
        }
    }

    /// Fragments that wait now, those released but not yet fetched among them.
    #[must_use]
    pub fn holding(&self) -> usize {
        usize::from(self.holding)
    }

    /// Buckets of the table, for [`Fragments::sweep`].
    #[must_use]
    pub fn buckets(&self) -> usize {
        self.entries.len()
    }
}

mod table;
#[cfg(test)]
mod tests;

use table::Kind;
