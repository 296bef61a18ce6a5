//! The recorder: a port around another that keeps a copy of the last packets each way.

use std::collections::VecDeque;
use std::os::fd::RawFd;

use super::pcap::Captured;
use super::{Frames, Port};
use crate::frame::Pool;
use crate::time::Nanos;

/// Records what passes a port.
#[derive(Debug)]
pub struct Recorder<P> {
    inner: P,
    keep: usize,
    now: Nanos,
    received: VecDeque<Captured>,
    sent: VecDeque<Captured>,
}

impl<P> Recorder<P> {
    /// Around `inner`, keeping the last `keep` packets of each direction.
    #[must_use]
    pub fn new(inner: P, keep: usize) -> Self {
        Self { inner, keep, now: Nanos::default(), received: VecDeque::new(), sent: VecDeque::new() }
    }

    /// The port inside.
    pub fn inner(&mut self) -> &mut P {
        &mut self.inner
    }

    /// The last packets received.
    #[must_use]
    pub fn received(&self) -> &VecDeque<Captured> {
        &self.received
    }

    /// The last packets that the port took for transmission.
    #[must_use]
    pub fn sent(&self) -> &VecDeque<Captured> {
        &self.sent
    }
}

fn remember(log: &mut VecDeque<Captured>, keep: usize, packet: Captured) {
    if log.len() == keep {
        log.pop_front();
    }
    if keep > 0 {
        log.push_back(packet);
    }
}

impl<P: Port> Port for Recorder<P> {
    fn receive(&mut self, pool: &mut Pool, now: Nanos, into: &mut Frames) {
        self.now = now;
        let before = into.len();
        self.inner.receive(pool, now, into);
        for frame in &into[before..] {
            remember(&mut self.received, self.keep, Captured { at: now, bytes: pool.bytes(frame).to_vec() });
        }
    }

    fn transmit(&mut self, pool: &mut Pool, frames: &mut Frames) {
        let offered: Vec<_> = frames.iter().map(|f| pool.bytes(f).to_vec()).collect();
        self.inner.transmit(pool, frames);
        let taken = offered.len() - frames.len();
        for bytes in offered.into_iter().take(taken) {
            remember(&mut self.sent, self.keep, Captured { at: self.now, bytes });
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
