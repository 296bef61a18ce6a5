//! What a worker tells control: small, `Copy`, lossy and counted.

use std::net::IpAddr;
use std::sync::Arc;

use crossbeam::queue::ArrayQueue;

/// Something that control may want to act on.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Event {
    /// A packet could not leave because this address on link has no MAC yet.
    NextHopUnresolved {
        /// Who is to be resolved.
        ip: IpAddr,
        /// Port index.
        port: u8,
    },
    /// A station on link asked by ARP or neighbour solicitation for an address of ours, so answers to it will soon need its MAC.
    NeighbourAsked {
        /// Its protocol address.
        ip: IpAddr,
        /// Port index.
        port: u8,
    },
    /// How a TCP handshake with a backend went.
    Handshake {
        /// Its number in the tables.
        backend: u32,
        /// What came of it.
        seen: Seen,
    },
}

/// What the packet path saw of a TCP handshake with a backend, once for each session of `nat` and `nat-preserve`: in the
/// DSR modes answers do not pass here.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Seen {
    /// The client had to repeat its SYN, or gave up.
    Unanswered,
    /// Answered by a reset.
    Refused,
    /// Answered, the first time since this backend failed: one that never fails costs no events.
    Answered,
}

/// The ring that carries events up: bounded; a push into a full ring is refused and counted by the worker.
pub type Events = Arc<ArrayQueue<Event>>;

/// A ring of events for one worker.
#[must_use]
pub fn events() -> Events {
    Arc::new(ArrayQueue::new(256))
}
