//! The table's inside: finding and claiming entries, and the lists of places.

use super::{Datagram, Entry, Fragments, NONE, Nanos, Queue, WAYS};
use crate::address::Address;

/// Which of the table's own lists of places.
#[derive(Clone, Copy)]
pub(super) enum Kind {
    /// Nobody waits there.
    Free,
    /// To be fetched.
    Released,
}

impl<A: Address, V: Copy> Fragments<A, V> {
    #[inline]
    pub(super) fn bucket(&self, datagram: &Datagram<A>) -> usize {
        // The number of buckets is a power of two.
        datagram.hash(self.key) as usize & (self.entries.len() - 1)
    }

    #[inline]
    pub(super) fn entry(&mut self, bucket: usize, way: usize) -> Option<&mut Entry<A, V>> {
        self.entries.get_mut(bucket)?.get_mut(way)
    }

    /// The way in which the datagram is, if it is not past its time; if it is, it is forgotten.
    pub(super) fn find(&mut self, bucket: usize, datagram: &Datagram<A>, now: Nanos) -> Option<usize> {
        let ways = self.entries.get(bucket)?;
        let way = ways.iter().position(|entry| entry.until != Nanos(0) && entry.datagram == *datagram)?;
        (!self.forget_if_late(bucket, way, now)).then_some(way)
    }

    /// Makes an entry for the datagram: in a free way, else in the place of the one that would be forgotten next, those
    /// without a verdict first. Only a first fragment may push out a verdict, so that no flood of later fragments can.
    pub(super) fn claim(
        &mut self,
        bucket: usize,
        datagram: &Datagram<A>,
        over_verdicts: bool,
        now: Nanos,
    ) -> Option<usize> {
        let rank = |entry: &Entry<A, V>| match entry {
            entry if entry.until <= now => (0, 0),
            entry => (1 + u8::from(entry.verdict.is_some()), entry.until.0),
        };
        let candidates = self.entries.get(bucket)?.iter().map(rank).enumerate();
        let worst = if over_verdicts { 2 } else { 1 };
        let (way, _) = candidates.filter(|(_, (class, _))| *class <= worst).min_by_key(|(_, rank)| *rank)?;
        self.release(bucket, way, None);
        let until = Nanos(now.0.saturating_add(self.limits.wait_for).max(1));
        let entry = self.entry(bucket, way)?;
        *entry = Entry { datagram: *datagram, until, verdict: None, queue: Queue::EMPTY, waiting: 0 };
        Some(way)
    }

    /// Forgets an entry that is past its time; whether it was.
    pub(super) fn forget_if_late(&mut self, bucket: usize, way: usize, now: Nanos) -> bool {
        let Some(entry) = self.entry(bucket, way).filter(|entry| entry.until <= now) else { return false };
        (entry.until, entry.verdict) = (Nanos(0), None);
        self.release(bucket, way, None);
        true
    }

    /// Gives one more fragment a place to wait at.
    pub(super) fn hold(&mut self, bucket: usize, way: usize) -> Option<u16> {
        let each = self.limits.waiting_each;
        let mut queue = self.entry(bucket, way).filter(|entry| entry.waiting < each)?.queue;
        let place = self.pop(Kind::Free)?;
        self.append(&mut queue, place);
        self.holding += 1;
        let entry = self.entry(bucket, way)?;
        (entry.queue, entry.waiting) = (queue, entry.waiting + 1);
        Some(place)
    }

    /// Releases all that wait for an entry, in order of arrival; at most [`super::Limits::waiting_each`] steps.
    pub(super) fn release(&mut self, bucket: usize, way: usize, verdict: Option<V>) {
        let Some(entry) = self.entry(bucket, way) else { return };
        let mut at = std::mem::replace(&mut entry.queue, Queue::EMPTY).head;
        entry.waiting = 0;
        while let Some(place) = self.places.get_mut(usize::from(at)) {
            let next = place.next;
            place.verdict = verdict;
            self.push(Kind::Released, at);
            at = next;
        }
    }

    /// Puts a place at the end of a list of the table.
    pub(super) fn push(&mut self, kind: Kind, place: u16) {
        let mut queue = *self.list(kind);
        self.append(&mut queue, place);
        *self.list(kind) = queue;
    }

    /// Takes the first place of a list of the table.
    pub(super) fn pop(&mut self, kind: Kind) -> Option<u16> {
        let head = self.list(kind).head;
        let next = self.places.get(usize::from(head))?.next;
        let list = self.list(kind);
        list.head = next;
        if next == NONE {
            list.tail = NONE;
        }
        Some(head)
    }

    fn list(&mut self, kind: Kind) -> &mut Queue {
        match kind {
            Kind::Free => &mut self.free,
            Kind::Released => &mut self.released,
        }
    }

    fn append(&mut self, queue: &mut Queue, place: u16) {
        if let Some(own) = self.places.get_mut(usize::from(place)) {
            own.next = NONE;
        }
        match self.places.get_mut(usize::from(queue.tail)) {
            Some(last) => last.next = place,
            None => queue.head = place,
        }
        queue.tail = place;
    }
}

const _: () = assert!(WAYS.is_power_of_two());
