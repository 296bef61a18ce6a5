//! The fault injector: a port around another that loses, cuts, spoils and refuses, as a seed says.

use std::os::fd::RawFd;

use super::{Frames, Port};
use crate::frame::Pool;
use crate::tables::hash::HashKey;
use crate::time::Nanos;

/// How often each fault happens, in 1024ths of packets.
#[derive(Clone, Copy, Debug, Default)]
pub struct Faults {
    /// A received packet vanishes before the worker sees it.
    pub lose: u16,
    /// A received packet ends early.
    pub cut: u16,
    /// One bit of a received packet is flipped.
    pub flip: u16,
    /// The port takes nothing for transmission this turn.
    pub refuse: u16,
}

/// Injects faults; the same seed gives the same faults for the same packets.
#[derive(Debug)]
pub struct Fault<P> {
    inner: P,
    faults: Faults,
    dice: HashKey,
    throws: u64,
}

impl<P> Fault<P> {
    /// Around `inner`.
    #[must_use]
    pub fn new(inner: P, faults: Faults, seed: u64) -> Self {
        let mut key = [0; 16];
        key[..8].copy_from_slice(&seed.to_le_bytes());
        Self { inner, faults, dice: HashKey::new(key), throws: 0 }
    }

    /// The port inside.
    pub fn inner(&mut self) -> &mut P {
        &mut self.inner
    }

    fn throw(&mut self) -> u64 {
        self.throws += 1;
        self.dice.one(self.throws)
    }

    fn happens(&mut self, in_1024: u16) -> bool {
        self.throw() % 1024 < u64::from(in_1024)
    }
}

impl<P: Port> Port for Fault<P> {
    fn receive(&mut self, pool: &mut Pool, now: Nanos, into: &mut Frames) {
        let before = into.len();
        self.inner.receive(pool, now, into);
        let fresh: Frames = into.drain(before..).collect();
        for mut frame in fresh {
            if self.happens(self.faults.lose) {
                pool.recycle(frame);
                continue;
            }
            if self.happens(self.faults.cut) {
                let len = self.throw() % (frame.len() as u64 + 1);
                frame.set_len(len as u16);
            }
            if self.happens(self.faults.flip) && !frame.is_empty() {
                let bit = self.throw() % (frame.len() as u64 * 8);
                pool.bytes_mut(&mut frame)[bit as usize / 8] ^= 1 << (bit % 8);
            }
            into.push(frame);
        }
    }

    fn transmit(&mut self, pool: &mut Pool, frames: &mut Frames) {
        if !self.happens(self.faults.refuse) {
            self.inner.transmit(pool, frames);
        }
    }

    fn flush(&mut self, pool: &mut Pool) {
        self.inner.flush(pool);
    }

    fn descriptor(&self) -> Option<RawFd> {
        self.inner.descriptor()
    }

    fn unfinished(&self) -> bool {
        self.inner.unfinished()
    }

    fn frame_bytes(&self) -> usize {
        self.inner.frame_bytes()
    }
}
