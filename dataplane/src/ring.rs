//! The hand-over ring: packets as received, copied from one worker to another (design.md section 2).
//!
//! One per ordered pair of workers; bounded; a single producer and a single consumer, which the two types enforce.
//! Slots written since the last [`Giver::commit`] are not yet visible to the taker: a burst is published at once.
#![allow(unsafe_code, reason = "slots are written by one thread and read by another; the two cursors fence them")]

use std::cell::UnsafeCell;
use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};

use crossbeam::utils::CachePadded;

/// What lies beside a handed packet's bytes.
#[derive(Clone, Copy, PartialEq, Eq, Debug, Default)]
pub struct Label {
    /// Port index on which it was received.
    pub ingress: u8,
    /// Workers that have looked for its session in vain, on its one round of them; 0 of what was given to its owner.
    pub round: u8,
}

struct Slot {
    label: Label,
    len: u16,
    bytes: Box<[u8]>,
}

struct Shared {
    slots: Box<[UnsafeCell<Slot>]>,
    /// Slots ever committed.
    tail: CachePadded<AtomicUsize>,
    /// Slots ever taken.
    head: CachePadded<AtomicUsize>,
}

// SAFETY: a slot is written by the one Giver while it lies outside head..tail, and read by the one Taker while inside;
// the cursors' release stores and acquire loads order the two.
unsafe impl Sync for Shared {}

/// The producer's end.
pub struct Giver {
    shared: Arc<Shared>,
    /// Slots ever written; ahead of `tail` until committed.
    written: usize,
    /// The taker's cursor as last seen.
    head: usize,
}

/// The consumer's end.
pub struct Taker {
    shared: Arc<Shared>,
    taken: usize,
}

/// A ring of `slots` (rounded up to a power of two) packets of at most `packet_bytes` octets.
#[must_use]
pub fn ring(slots: usize, packet_bytes: usize) -> (Giver, Taker) {
    let slots = slots.next_power_of_two();
    let packet_bytes = packet_bytes.min(usize::from(u16::MAX));
    let empty = || Slot { label: Label::default(), len: 0, bytes: vec![0; packet_bytes].into_boxed_slice() };
    let shared = Arc::new(Shared {
        slots: (0..slots).map(|_| UnsafeCell::new(empty())).collect(),
        tail: CachePadded::default(),
        head: CachePadded::default(),
    });
    let giver = Giver { shared: Arc::clone(&shared), written: 0, head: 0 };
    (giver, Taker { shared, taken: 0 })
}

impl Giver {
    /// Copies a packet into the next slot; `false` when the ring is full or the packet too long.
    #[must_use]
    pub fn give(&mut self, label: Label, packet: &[u8]) -> bool {
        let slots = self.shared.slots.len();
        if self.written - self.head == slots {
            self.head = self.shared.head.load(Ordering::Acquire);
            if self.written - self.head == slots {
                return false;
            }
        }
        // SAFETY: slot `written` is outside head..tail, so the taker does not look at it, and this is the only giver.
        let slot = unsafe { &mut *self.shared.slots[self.written & (slots - 1)].get() };
        let Some(room) = slot.bytes.get_mut(..packet.len()) else { return false };
        room.copy_from_slice(packet);
        slot.len = packet.len() as u16;
        slot.label = label;
        self.written += 1;
        true
    }

    /// Shows what was given since the last commit to the taker; `true` if there was anything.
    pub fn commit(&mut self) -> bool {
        let fresh = self.shared.tail.load(Ordering::Relaxed) != self.written;
        if fresh {
            self.shared.tail.store(self.written, Ordering::Release);
        }
        fresh
    }
}

impl Taker {
    /// Whether something waits.
    #[must_use]
    pub fn is_empty(&self) -> bool {
        self.shared.tail.load(Ordering::Acquire) == self.taken
    }

    /// Lends the next packet to `use_it`, then frees its slot; `None` when nothing waits.
    pub fn take<R>(&mut self, use_it: impl FnOnce(Label, &[u8]) -> R) -> Option<R> {
        if self.is_empty() {
            return None;
        }
        let index = self.taken & (self.shared.slots.len() - 1);
        // SAFETY: the slot lies inside head..tail (acquired above), so the giver does not touch it.
        let slot = unsafe { &*self.shared.slots[index].get() };
        let result = use_it(slot.label, &slot.bytes[..usize::from(slot.len)]);
        self.taken += 1;
        self.shared.head.store(self.taken, Ordering::Release);
        Some(result)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn label(ingress: u8) -> Label {
        Label { ingress, round: 0 }
    }

    #[test]
    fn nothing_is_seen_before_the_commit_and_order_is_kept() {
        let (mut giver, mut taker) = ring(4, 16);
        assert!(giver.give(label(1), b"one") && giver.give(label(2), b"two"));
        assert!(taker.is_empty());
        assert!(giver.commit() && !giver.commit());
        assert_eq!(taker.take(|l, b| (l.ingress, b.to_vec())), Some((1, b"one".to_vec())));
        assert_eq!(taker.take(|l, b| (l.ingress, b.to_vec())), Some((2, b"two".to_vec())));
        assert_eq!(taker.take(|_, _| ()), None);
    }

    #[test]
    fn a_full_ring_and_a_long_packet_are_refused() {
        let (mut giver, mut taker) = ring(2, 4);
        assert!(!giver.give(Label::default(), b"12345"));
        assert!(giver.give(Label::default(), b"1") && giver.give(Label::default(), b"2"));
        assert!(!giver.give(Label::default(), b"3"));
        giver.commit();
        taker.take(|_, _| ());
        assert!(giver.give(Label::default(), b"3"));
    }

    #[test]
    fn a_million_packets_cross_threads_in_order() {
        let (mut giver, mut taker) = ring(64, 8);
        let writer = std::thread::spawn(move || {
            let mut next = 0u64;
            while next < 1_000_000 {
                while next < 1_000_000 && giver.give(Label::default(), &next.to_le_bytes()) {
                    next += 1;
                }
                giver.commit();
                std::thread::yield_now();
            }
        });
        let mut expected = 0u64;
        while expected < 1_000_000 {
            match taker.take(|_, b| u64::from_le_bytes(b.try_into().unwrap())) {
                Some(n) => {
                    assert_eq!(n, expected);
                    expected += 1;
                }
                None => std::thread::yield_now(),
            }
        }
        writer.join().unwrap();
    }
}
