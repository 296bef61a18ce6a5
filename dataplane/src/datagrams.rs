//! A worker's fragmented datagrams: what was decided of each, and the frames of fragments that came before their first
//! one ([`crate::fragments`] keeps the places, this the frames).
//!
//! A frame waits as it was received. Once its datagram is decided it joins a burst again and passes every stage, so that
//! nothing is remembered of it that could be out of date.

use arrayvec::ArrayVec;

use crate::burst::{Action, Out, Packet, Tuple};
use crate::family::Family;
use crate::fragments::{Datagram, Fragments, Limits};
use crate::frame::Frame;
use crate::io::BURST;
use crate::tables::hash::HashKey;
use crate::time::Nanos;
use crate::verdict::DropReason;

/// Datagrams remembered, per family.
const DATAGRAMS: usize = 4096;
/// Frames that wait at most, per family; fewer of a small pool ([`limits`]). Two datagrams of 64 KB in reverse order
/// need 90.
const WAITING: usize = 256;
/// Of one datagram: 64 KB in frames of 1500 octets.
const WAITING_EACH: u8 = 48;
const KNOWN_SECONDS: u64 = 5;
const WAIT_SECONDS: u64 = 2;
/// Buckets swept in a turn while something waits: 100 turns a second pass the table within [`WAIT_SECONDS`].
const SWEEP: usize = 8;

/// What was decided of a datagram, by its first fragment.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Decided<A> {
    /// It was sent on.
    Sent {
        /// Source that was written.
        source: A,
        /// Destination that was written.
        destination: A,
        /// Identification that was written.
        id: u32,
        /// Its way out.
        out: Out,
        /// What policy was asked.
        asked: Asked,
        /// Generation of the tables that `out` means something in, its low bits.
        generation: u32,
    },
    /// It was given to another worker.
    Given {
        /// To which.
        worker: u8,
        /// [`Packet::round`] with which it went.
        round: u8,
    },
    /// It was dropped.
    Dropped(DropReason),
}

/// What policy is asked about a fragment. Who passes on what it is asked about takes one from its TTL.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Asked {
    /// May its source talk to this service?
    Service(u16),
    /// May the client or container that it goes to talk to whom it comes from?
    Reply,
    /// May its source talk to its destination?
    Forward,
    /// Nothing: it is answered, or the kernel's.
    Nothing,
}

impl From<Action> for Asked {
    fn from(action: Action) -> Self {
        match action {
            Action::Balance(service) => Self::Service(service),
            Action::Return { .. } | Action::Unmasquerade(_) => Self::Reply,
            Action::Forward | Action::Masquerade | Action::Enter => Self::Forward,
            Action::Done
            | Action::Parsed
            | Action::Arp
            | Action::Dns
            | Action::Echo
            | Action::Solicited
            | Action::Error
            | Action::Later
            | Action::Host => Self::Nothing,
        }
    }
}

/// A first fragment before balance rewrites it.
#[derive(Clone, Copy, Debug)]
pub struct Came {
    ends: (u128, u128),
    /// What policy was asked about it.
    pub asked: Asked,
}

/// A frame that waits, or has waited.
#[derive(Debug)]
pub struct Waiting {
    /// As received, or as taken from another worker's ring.
    pub frame: Frame,
    /// Port index on which it was received.
    pub ingress: u8,
    /// Whether another worker handed it over.
    pub handed: bool,
    /// [`Packet::round`].
    pub round: u8,
}

/// A fragment that need not wait any longer.
#[derive(Debug)]
pub enum Released {
    /// Its datagram is decided.
    Joins(Waiting),
    /// Its first fragment did not come.
    Late(Frame),
}

/// One family's.
struct Side<A> {
    known: Fragments<A, Decided<A>>,
    frames: Box<[Option<Waiting>]>,
}

impl<A: Family> Side<A> {
    fn new(key: HashKey, limits: Limits) -> Self {
        Self { known: Fragments::new(key, limits), frames: (0..limits.waiting).map(|_| None).collect() }
    }

    fn release(&mut self) -> Option<Released> {
        while let Some((place, verdict)) = self.known.released() {
            // Settle has put a frame at every place that was given away.
            let Some(waiting) = self.frames.get_mut(usize::from(place)).and_then(Option::take) else { continue };
            return Some(match verdict {
                Some(_) => Released::Joins(waiting),
                None => Released::Late(waiting.frame),
            });
        }
        None
    }

    fn sweep(&mut self, buckets: usize, now: Nanos) {
        if self.known.holding() > 0 {
            self.known.sweep(buckets, now);
        }
    }
}

/// Both families', and the first fragments of a burst.
pub struct Datagrams {
    v4: Side<u32>,
    v6: Side<u128>,
    came: ArrayVec<Came, BURST>,
}

/// A family whose datagrams come in fragments.
pub trait Fragmented: Family {
    /// Its table.
    fn known(datagrams: &mut Datagrams) -> &mut Fragments<Self, Decided<Self>>;
    /// An address that [`Came`] has kept.
    fn narrow(kept: u128) -> Self;
}

impl Fragmented for u32 {
    fn known(datagrams: &mut Datagrams) -> &mut Fragments<Self, Decided<Self>> {
        &mut datagrams.v4.known
    }

    fn narrow(kept: u128) -> Self {
        kept as Self
    }
}

impl Fragmented for u128 {
    fn known(datagrams: &mut Datagrams) -> &mut Fragments<Self, Decided<Self>> {
        &mut datagrams.v6.known
    }

    fn narrow(kept: u128) -> Self {
        kept
    }
}

/// The bounds for a pool of `frames`, an eighth of which may wait.
fn limits(frames: usize) -> Limits {
    let waiting = WAITING.min(frames / 16) as u16;
    Limits {
        datagrams: DATAGRAMS,
        waiting,
        waiting_each: WAITING_EACH.min((waiting / 2).max(1) as u8),
        known_for: Nanos::from_seconds(KNOWN_SECONDS).0,
        wait_for: Nanos::from_seconds(WAIT_SECONDS).0,
    }
}

impl Datagrams {
    /// None yet, for a pool of `frames`; all the memory that they will ever have.
    #[must_use]
    pub fn new(key: HashKey, frames: usize) -> Self {
        let limits = limits(frames);
        Self { v4: Side::new(key, limits), v6: Side::new(key, limits), came: ArrayVec::new() }
    }

    /// Notes the ends of a first fragment; for every one of a burst, in order.
    pub fn came(&mut self, packet: &Packet) {
        let Tuple { src, dst, .. } = packet.tuple;
        let ends = if packet.v6 { packet.ends6 } else { (src.into(), dst.into()) };
        let _room_for_a_burst = self.came.try_push(Came { ends, asked: packet.action.into() });
    }

    /// What was noted of the burst's first fragments.
    pub fn take_came(&mut self) -> ArrayVec<Came, BURST> {
        std::mem::take(&mut self.came)
    }

    /// Keeps the frame of a fragment that was given this place.
    pub fn keep(&mut self, place: u16, v6: bool, waiting: Waiting) {
        let frames = if v6 { &mut self.v6.frames } else { &mut self.v4.frames };
        if let Some(room) = frames.get_mut(usize::from(place)) {
            *room = Some(waiting);
        }
    }

    /// The next fragment that need not wait any longer.
    pub fn release(&mut self) -> Option<Released> {
        self.v4.release().or_else(|| self.v6.release())
    }

    /// Frames that wait.
    #[must_use]
    pub fn holding(&self) -> usize {
        self.v4.known.holding() + self.v6.known.holding()
    }

    /// Gives up some of those that have waited too long: a few buckets' a turn.
    pub fn sweep(&mut self, now: Nanos) {
        self.v4.sweep(SWEEP, now);
        self.v6.sweep(SWEEP, now);
    }

    /// Gives up all that have waited too long by `now`.
    pub fn sweep_all(&mut self, now: Nanos) {
        self.v4.sweep(usize::MAX, now);
        self.v6.sweep(usize::MAX, now);
    }
}

impl Came {
    /// The datagram of the first fragment, which is now `packet`.
    #[must_use]
    pub fn datagram<A: Fragmented>(&self, packet: &Packet) -> Datagram<A> {
        let (source, destination) = self.ends;
        Datagram {
            source: A::narrow(source),
            destination: A::narrow(destination),
            id: packet.id,
            protocol: packet.tuple.protocol,
        }
    }
}
