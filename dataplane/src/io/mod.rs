//! Ports: where packets come from and go to. The memory port, the pcap port, the recorder and the fault injector are
//! ordinary drivers beside AF_XDP.

use std::os::fd::RawFd;

use arrayvec::ArrayVec;

use crate::frame::{Frame, Pool};
use crate::time::Nanos;

pub mod card;
mod errno;
pub mod fault;
pub mod memory;
pub mod pcap;
pub mod record;
pub mod steer;
pub mod xsk;

/// Packets that one turn takes at most.
pub const BURST: usize = 64;

/// Frames in the order in which they came or leave.
pub type Frames = ArrayVec<Frame, BURST>;

/// One queue of a port. Frames always belong to exactly one of: the pool's free list, the port, the worker.
pub trait Port: Send {
    /// Appends received frames until there are no more, or `into` is full. Refills the receive side from the pool.
    fn receive(&mut self, pool: &mut Pool, now: Nanos, into: &mut Frames);

    /// Takes frames from the front of `frames` for transmission, in order. Those that stay found no room.
    fn transmit(&mut self, pool: &mut Pool, frames: &mut Frames);

    /// Called once at the end of every turn: tells the kernel of new work, and gives finished frames back to the pool.
    fn flush(&mut self, pool: &mut Pool);

    /// What a sleeping worker waits on for packets; `None` where there is nothing to wait on.
    fn descriptor(&self) -> Option<RawFd> {
        None
    }

    /// Whether transmitted frames have not come back yet.
    fn unfinished(&self) -> bool {
        false
    }

    /// Longest packet that [`Port::transmit`] takes; a longer one is a programming error upstream and is not sent.
    fn frame_bytes(&self) -> usize {
        usize::from(u16::MAX)
    }
}

impl<P: Port + ?Sized> Port for Box<P> {
    fn receive(&mut self, pool: &mut Pool, now: Nanos, into: &mut Frames) {
        (**self).receive(pool, now, into);
    }

    fn transmit(&mut self, pool: &mut Pool, frames: &mut Frames) {
        (**self).transmit(pool, frames);
    }

    fn flush(&mut self, pool: &mut Pool) {
        (**self).flush(pool);
    }

    fn descriptor(&self) -> Option<RawFd> {
        (**self).descriptor()
    }

    fn unfinished(&self) -> bool {
        (**self).unfinished()
    }

    fn frame_bytes(&self) -> usize {
        (**self).frame_bytes()
    }
}
