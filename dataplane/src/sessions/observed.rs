//! What sessions tell of backends: how handshakes go, for passive health checks.

use std::sync::atomic::{AtomicU64, AtomicUsize, Ordering::Relaxed};

use crate::event::Seen;

/// Backends that are told apart: by the low bits of their numbers. Where two share them, an answer of one is told in
/// vain, and a later one of the other not at all: [`Seen::Answered`] only shortens a count that time forgets too.
const BACKENDS: usize = 1 << 16;

/// Handshakes noted between two calls of [`Observed::take`] at most.
const NOTES: usize = 64;

/// Handshakes to be told of, and backends of which a failure was told.
#[derive(Debug)]
pub(super) struct Observed {
    failing: Box<[AtomicU64]>,
    notes: [AtomicU64; NOTES],
    noted: AtomicUsize,
    lost: AtomicU64,
}

impl Observed {
    pub(super) fn new() -> Self {
        Self {
            failing: (0..BACKENDS / 64).map(|_| AtomicU64::new(0)).collect(),
            notes: [const { AtomicU64::new(0) }; NOTES],
            noted: AtomicUsize::new(0),
            lost: AtomicU64::new(0),
        }
    }

    /// A handshake succeeded.
    pub(super) fn answered(&self, backend: u32) {
        let (word, bit) = self.failure(backend);
        let before = word.load(Relaxed);
        if before & bit != 0 {
            word.store(before & !bit, Relaxed);
            self.note(backend, Seen::Answered);
        }
    }

    /// A handshake failed.
    pub(super) fn failed(&self, backend: u32, seen: Seen) {
        let (word, bit) = self.failure(backend);
        word.store(word.load(Relaxed) | bit, Relaxed);
        self.note(backend, seen);
    }

    fn failure(&self, backend: u32) -> (&AtomicU64, u64) {
        let number = backend as usize % BACKENDS;
        (&self.failing[number / 64], 1 << (number % 64))
    }

    fn note(&self, backend: u32, seen: Seen) {
        let noted = self.noted.load(Relaxed);
        match self.notes.get(noted) {
            Some(place) => {
                place.store(u64::from(backend) << 8 | seen as u64, Relaxed);
                self.noted.store(noted + 1, Relaxed);
            }
            None => self.lost.store(self.lost.load(Relaxed) + 1, Relaxed),
        }
    }

    /// Lends every note to `tell`, and forgets it. Returns how many there was no room for.
    #[inline]
    pub(super) fn take(&self, mut tell: impl FnMut(u32, Seen)) -> u64 {
        let noted = self.noted.load(Relaxed);
        if noted == 0 {
            return 0;
        }
        for note in &self.notes[..noted] {
            let note = note.load(Relaxed);
            let seen = match note & 0xff {
                0 => Seen::Unanswered,
                1 => Seen::Refused,
                _ => Seen::Answered,
            };
            tell((note >> 8) as u32, seen);
        }
        self.noted.store(0, Relaxed);
        self.lost.swap(0, Relaxed)
    }
}
