//! The memory port: frames put in by hand come out of `receive`, what is transmitted can be looked at. For tests,
//! benches and fuzzing.

use std::collections::VecDeque;

use super::{BURST, Frames, Port};
use crate::frame::{Frame, Pool};
use crate::time::Nanos;

/// Two queues of frames.
#[derive(Debug)]
pub struct MemoryPort {
    incoming: VecDeque<Frame>,
    outgoing: VecDeque<Frame>,
    room: usize,
    burst: usize,
}

impl Default for MemoryPort {
    fn default() -> Self {
        Self::with_room(1 << 16)
    }
}

impl MemoryPort {
    /// A port that holds at most `room` transmitted frames until they are taken.
    #[must_use]
    pub fn with_room(room: usize) -> Self {
        Self { incoming: VecDeque::with_capacity(room), outgoing: VecDeque::with_capacity(room), room, burst: BURST }
    }

    /// Lets a turn receive at most `burst` frames, however many wait.
    pub fn limit(&mut self, burst: usize) {
        self.burst = burst;
    }

    /// Puts a copy of `packet` where it will be received; `false` when the pool has no frame for it.
    pub fn inject(&mut self, pool: &mut Pool, packet: &[u8]) -> bool {
        pool.take_copy(packet).map(|frame| self.incoming.push_back(frame)).is_some()
    }

    /// Puts a frame where it will be received.
    pub fn offer(&mut self, frame: Frame) {
        self.incoming.push_back(frame);
    }

    /// The next transmitted frame.
    pub fn sent(&mut self) -> Option<Frame> {
        self.outgoing.pop_front()
    }

    /// Copies of everything transmitted, the frames given back.
    pub fn collect(&mut self, pool: &mut Pool) -> Vec<Vec<u8>> {
        let mut packets = Vec::new();
        while let Some(frame) = self.sent() {
            packets.push(pool.bytes(&frame).to_vec());
            pool.recycle(frame);
        }
        packets
    }
}

impl Port for MemoryPort {
    fn receive(&mut self, _pool: &mut Pool, _now: Nanos, into: &mut Frames) {
        let n = into.remaining_capacity().min(self.incoming.len()).min(self.burst);
        into.extend(self.incoming.drain(..n));
    }

    fn transmit(&mut self, _pool: &mut Pool, frames: &mut Frames) {
        let n = (self.room - self.outgoing.len()).min(frames.len());
        self.outgoing.extend(frames.drain(..n));
    }

    fn flush(&mut self, _pool: &mut Pool) {}
}
