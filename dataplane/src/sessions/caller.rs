//! Who a session is of.
//!
//! Of a service's session that is the client's address. A masqueraded flow has no service whose number could stand for
//! its far end, so the far end belongs to its key, of both entries: a container may talk to many from one port, and flows
//! to different ones may share a SNAT port.

use std::fmt::Debug;

use super::beside::Beside;
use super::entry::Way;
use crate::address::Address;
use crate::tables::hash::MixKey;

/// What stands on the client's side of a session, beside its port.
pub trait Caller: Copy + Eq + Debug + Send + Sync + 'static {
    /// What a session keeps of it beside its 64-bit key word.
    type Beside: Beside<Self>;

    /// Whether it is told how handshakes of its sessions go, for health checks of backends.
    const OBSERVED: bool;

    /// Two words that tell apart whose ports are counted together.
    fn holder(self) -> [u64; 2];

    /// The hash of the reverse entry with this key word.
    fn flow_hash(self, key: MixKey, word: u64, way: Way) -> u64;

    /// Whether a reverse entry with the same key word, `whose` it is, is this caller's.
    fn has(self, way: Way, whose: impl FnOnce() -> Self) -> bool;
}

impl<A: Address> Caller for A {
    type Beside = <A as Address>::Beside;

    const OBSERVED: bool = true;

    #[inline]
    fn holder(self) -> [u64; 2] {
        self.words()
    }

    #[inline]
    fn flow_hash(self, key: MixKey, word: u64, way: Way) -> u64 {
        match way {
            Way::Translated | Way::Direct => key.one(word),
            Way::Preserved => {
                let [high, low] = self.words();
                key.three(word, high, low)
            }
        }
    }

    #[inline]
    fn has(self, way: Way, whose: impl FnOnce() -> Self) -> bool {
        way != Way::Preserved || whose() == self
    }
}

/// A container and whom it talks to, the far end's port included.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct Talk<A> {
    /// The container, host byte order; nobody where a flow is looked up by its far end.
    pub container: A,
    /// The far end, host byte order.
    pub far: A,
    /// Its port.
    pub far_port: u16,
}

impl<A: Address> Caller for Talk<A> {
    type Beside = A::Ends;

    const OBSERVED: bool = false;

    #[inline]
    fn holder(self) -> [u64; 2] {
        self.container.words()
    }

    #[inline]
    fn flow_hash(self, key: MixKey, word: u64, _way: Way) -> u64 {
        let [high, low] = self.far.words();
        key.two(key.three(word, high, low), self.far_port.into())
    }

    #[inline]
    fn has(self, _way: Way, whose: impl FnOnce() -> Self) -> bool {
        let other = whose();
        (self.far, self.far_port) == (other.far, other.far_port)
    }
}
