//! The octets of a client's address that a session's 64-bit key word has no room for.
//!
//! An IPv4 key word holds the whole address, so nothing lies beside it and every comparison here compiles away. An IPv6
//! key word holds 32 bits of the keyed hash instead; the address itself lies in the same bucket and is compared on every
//! hit, so that two addresses whose digests are equal never share a session.

use std::fmt::Debug;
use std::sync::atomic::{AtomicU64, Ordering::Relaxed};

use super::caller::Talk;
use crate::tables::hash::MixKey;

/// What a session keeps of an address, or of both ends of a flow, of type `A` beside its key word.
pub trait Beside<A>: Default + Debug + Send + Sync + 'static {
    /// The keyed hash of an address with a port and a service.
    fn hash(key: MixKey, ip: A, port_and_service: u32) -> u64;

    /// The upper half of the key word of an entry with this hash.
    fn tag(ip: A, hash: u64) -> u32;

    /// Whether an entry whose tag is equal is this address's.
    fn is(&self, ip: A) -> bool;

    /// Keeps the address.
    fn set(&self, ip: A);

    /// The address of an entry with this tag.
    fn get(&self, tag: u32) -> A;
}

impl Beside<u32> for () {
    #[inline]
    fn hash(key: MixKey, ip: u32, port_and_service: u32) -> u64 {
        key.one(u64::from(ip) << 32 | u64::from(port_and_service))
    }

    #[inline]
    fn tag(ip: u32, _hash: u64) -> u32 {
        ip
    }

    #[inline]
    fn is(&self, _ip: u32) -> bool {
        true
    }

    #[inline]
    fn set(&self, _ip: u32) {}

    #[inline]
    fn get(&self, tag: u32) -> u32 {
        tag
    }
}

/// A whole address as two words, the more significant first.
pub type Whole = [AtomicU64; 2];

impl Beside<u128> for Whole {
    #[inline]
    fn hash(key: MixKey, ip: u128, port_and_service: u32) -> u64 {
        key.three((ip >> 64) as u64, ip as u64, u64::from(port_and_service))
    }

    #[inline]
    fn tag(_ip: u128, hash: u64) -> u32 {
        digest(hash)
    }

    #[inline]
    fn is(&self, ip: u128) -> bool {
        Beside::<u128>::get(self, 0) == ip
    }

    #[inline]
    fn set(&self, ip: u128) {
        store(self, ip);
    }

    #[inline]
    fn get(&self, _tag: u32) -> u128 {
        load(self)
    }
}

/// Both IPv4 addresses of a masqueraded flow in one word, the far end's port in the other.
impl Beside<Talk<u32>> for Whole {
    #[inline]
    fn hash(key: MixKey, talk: Talk<u32>, port_and_protocol: u32) -> u64 {
        let ports = u64::from(talk.far_port) << 32 | u64::from(port_and_protocol);
        key.two(u64::from(talk.container) << 32 | u64::from(talk.far), ports)
    }

    #[inline]
    fn tag(_talk: Talk<u32>, hash: u64) -> u32 {
        digest(hash)
    }

    #[inline]
    fn is(&self, talk: Talk<u32>) -> bool {
        Beside::<Talk<u32>>::get(self, 0) == talk
    }

    #[inline]
    fn set(&self, talk: Talk<u32>) {
        let [ips, port] = self;
        ips.store(u64::from(talk.container) << 32 | u64::from(talk.far), Relaxed);
        port.store(talk.far_port.into(), Relaxed);
    }

    #[inline]
    fn get(&self, _tag: u32) -> Talk<u32> {
        let [ips, port] = self;
        let ips = ips.load(Relaxed);
        Talk { container: (ips >> 32) as u32, far: ips as u32, far_port: port.load(Relaxed) as u16 }
    }
}

/// Both IPv6 addresses of a masqueraded flow, and the far end's port.
#[derive(Debug, Default)]
pub struct Ends {
    container: Whole,
    far: Whole,
    far_port: AtomicU64,
}

impl Beside<Talk<u128>> for Ends {
    #[inline]
    fn hash(key: MixKey, talk: Talk<u128>, port_and_protocol: u32) -> u64 {
        let ports = u64::from(talk.far_port) << 32 | u64::from(port_and_protocol);
        let digest = |ip: u128| key.two((ip >> 64) as u64, ip as u64);
        key.three(digest(talk.container), digest(talk.far), ports)
    }

    #[inline]
    fn tag(_talk: Talk<u128>, hash: u64) -> u32 {
        digest(hash)
    }

    #[inline]
    fn is(&self, talk: Talk<u128>) -> bool {
        self.get(0) == talk
    }

    #[inline]
    fn set(&self, talk: Talk<u128>) {
        store(&self.container, talk.container);
        store(&self.far, talk.far);
        self.far_port.store(talk.far_port.into(), Relaxed);
    }

    #[inline]
    fn get(&self, _tag: u32) -> Talk<u128> {
        Talk { container: load(&self.container), far: load(&self.far), far_port: self.far_port.load(Relaxed) as u16 }
    }
}

/// Bucket numbers are the low bits of either half of the hash; the multiplication makes every bit of it count here
/// (2^64 over the golden ratio, odd).
#[inline]
fn digest(hash: u64) -> u32 {
    (hash.wrapping_mul(0x9e37_79b9_7f4a_7c15) >> 32) as u32
}

#[inline]
fn store([high, low]: &Whole, ip: u128) {
    high.store((ip >> 64) as u64, Relaxed);
    low.store(ip as u64, Relaxed);
}

#[inline]
fn load([high, low]: &Whole) -> u128 {
    u128::from(high.load(Relaxed)) << 64 | u128::from(low.load(Relaxed))
}
