//! Sessions of one worker: bounded, keyed, two 16-byte entries each (design.md section 4).
//!
//! The forward entry {client address, port, service} tells the backend, SNAT address and port; the reverse entry
//! {backend, SNAT address and port, protocol} tells the client and service. They are made and removed together. Each
//! lies in one of two 8-way buckets that its hash names; a bucket is two cache lines, keys and values, so a hit reads
//! two lines that lie side by side.
//!
//! Only the owning worker changes sessions. Everything is an atomic word, so that others may read along for `show`
//! without stopping it; relaxed loads and stores are ordinary moves.

use std::net::Ipv4Addr;
use std::sync::atomic::{AtomicU64, AtomicUsize, Ordering::Relaxed};

use sluice_config::model::{Protocol, Timeouts};

use crate::frame::{huge_pages, prefetch};
use crate::tables::hash::HashKey;
use crate::time::{Nanos, Tick};

const WAYS: usize = 8;

/// Eight keys in one line, their values in the next.
#[derive(Debug, Default)]
#[repr(align(128))]
struct Bucket {
    keys: [AtomicU64; WAYS],
    values: [AtomicU64; WAYS],
}

/// One direction's entries.
#[derive(Debug)]
struct Side {
    buckets: Box<[Bucket]>,
    /// Bits of a key word that are the key; the rest is time.
    key_mask: u64,
}

#[derive(Clone, Copy, PartialEq, Eq, Debug)]
struct Place {
    bucket: u32,
    way: u8,
}

impl Side {
    fn new(slots: usize, key_mask: u64) -> Self {
        let count = (slots / WAYS).next_power_of_two();
        let mut buckets = Vec::with_capacity(count);
        huge_pages(buckets.spare_capacity_mut());
        buckets.resize_with(count, Bucket::default);
        Self { buckets: buckets.into(), key_mask }
    }

    #[inline]
    fn homes(&self, hash: u64) -> [u32; 2] {
        let mask = self.buckets.len() as u32 - 1;
        [hash as u32 & mask, (hash >> 32) as u32 & mask]
    }

    #[inline]
    fn prefetch(&self, hash: u64) {
        let bucket = &self.buckets[self.homes(hash)[0] as usize];
        prefetch(&raw const bucket.keys);
        prefetch(&raw const bucket.values);
    }

    #[inline]
    fn find(&self, hash: u64, key: u64) -> Option<Place> {
        self.homes(hash).into_iter().find_map(|bucket| {
            let keys = &self.buckets[bucket as usize].keys;
            // All eight are compared before anything branches: the hit's way is not predictable.
            let mut hits = 0u32;
            for (way, slot) in keys.iter().enumerate() {
                hits |= u32::from(slot.load(Relaxed) & self.key_mask == key) << way;
            }
            (hits != 0).then(|| Place { bucket, way: hits.trailing_zeros() as u8 })
        })
    }

    /// A vacant place for this hash: the first home, whose line a look-up has asked for, while it is not nearly full,
    /// else the emptier. At half load 16 of 100 entries lie in their second home (37 with the emptier always), and in
    /// 131,072 insertions none found both full (4 when the first is filled up to seven).
    fn vacant(&self, hash: u64) -> Option<Place> {
        const ROOMY: usize = 3;
        let free = |bucket: u32| {
            let keys = &self.buckets[bucket as usize].keys;
            let vacant = keys.iter().filter(|k| k.load(Relaxed) == 0).count();
            let way = keys.iter().position(|k| k.load(Relaxed) == 0)? as u8;
            Some((vacant, Place { bucket, way }))
        };
        let [first, second] = self.homes(hash).map(free);
        match (first, second) {
            (Some((a, place)), Some((b, _))) if a >= ROOMY || a >= b => Some(place),
            (_, Some((_, place))) | (Some((_, place)), None) => Some(place),
            (None, None) => None,
        }
    }

    fn places(&self, hash: u64) -> impl Iterator<Item = Place> + '_ {
        let homes = self.homes(hash);
        homes.into_iter().flat_map(|bucket| (0..WAYS as u8).map(move |way| Place { bucket, way }))
    }

    #[inline]
    fn key(&self, at: Place) -> &AtomicU64 {
        &self.buckets[at.bucket as usize].keys[usize::from(at.way)]
    }

    #[inline]
    fn value(&self, at: Place) -> &AtomicU64 {
        &self.buckets[at.bucket as usize].values[usize::from(at.way)]
    }
}

/// Who a client talks to: the key of a forward entry.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct Client {
    /// Address, host byte order.
    pub ip: u32,
    /// Port.
    pub port: u16,
    /// Service number.
    pub service: u16,
}

impl Client {
    #[inline]
    fn word(self) -> u64 {
        u64::from(self.ip) << 32 | u64::from(self.port) << 16 | u64::from(self.service)
    }

    #[inline]
    fn from_word(word: u64) -> Self {
        Self { ip: (word >> 32) as u32, port: (word >> 16) as u16, service: word as u16 }
    }
}

/// What a backend sees: the key of a reverse entry.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct Flow {
    /// Backend number, 24 bits.
    pub backend: u32,
    /// SNAT address index.
    pub snat: u8,
    /// SNAT port.
    pub port: u16,
    /// Protocol.
    pub protocol: Protocol,
}

impl Flow {
    const MASK: u64 = (1 << 50) - 1;
    const TICK_SHIFT: u32 = 52;

    #[inline]
    fn word(self) -> u64 {
        let protocol = match self.protocol {
            Protocol::Tcp => 0,
            Protocol::Udp => 1 << 48,
            Protocol::Sctp => 2 << 48,
        };
        u64::from(self.backend) | u64::from(self.snat) << 24 | u64::from(self.port) << 32 | protocol
    }

    #[inline]
    fn from_word(word: u64) -> Self {
        Self {
            backend: word as u32 & 0xff_ffff,
            snat: (word >> 24) as u8,
            port: (word >> 32) as u16,
            protocol: match word >> 48 & 3 {
                0 => Protocol::Tcp,
                1 => Protocol::Udp,
                _ => Protocol::Sctp,
            },
        }
    }
}

/// How far a session has come.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum State {
    /// TCP, the client has not acknowledged anything yet.
    HalfOpen,
    /// TCP, in use.
    Established,
    /// TCP, a FIN or RST was seen.
    Closing,
    /// UDP.
    Udp,
    /// SCTP.
    Sctp,
}

impl State {
    #[inline]
    fn bits(self) -> u64 {
        match self {
            Self::HalfOpen => 0,
            Self::Established => 1,
            Self::Closing => 2,
            Self::Udp => 3,
            Self::Sctp => 4,
        }
    }

    #[inline]
    fn from_bits(bits: u64) -> Self {
        match bits & 7 {
            0 => Self::HalfOpen,
            1 => Self::Established,
            2 => Self::Closing,
            3 => Self::Udp,
            _ => Self::Sctp,
        }
    }

    fn protocol(self) -> Protocol {
        match self {
            Self::Udp => Protocol::Udp,
            Self::Sctp => Protocol::Sctp,
            Self::HalfOpen | Self::Established | Self::Closing => Protocol::Tcp,
        }
    }

    /// The state of a TCP session after a packet with these flags; `client` says who sent it.
    #[must_use]
    #[inline]
    pub fn after(self, flags: u8, client: bool) -> Self {
        match self {
            Self::Udp | Self::Sctp => self,
            _ if flags & (FIN | RST) != 0 => Self::Closing,
            // The client's first segment without SYN proves that it got the answer.
            Self::HalfOpen if client && flags & (SYN | ACK) == ACK => Self::Established,
            Self::HalfOpen | Self::Established | Self::Closing => self,
        }
    }
}

/// TCP flags, RFC 9293 section 3.1.
pub const FIN: u8 = 1;
/// TCP flag.
pub const SYN: u8 = 2;
/// TCP flag.
pub const RST: u8 = 4;
/// TCP flag.
pub const ACK: u8 = 16;

/// A forward entry's value: backend 24, SNAT index 8, SNAT port 16, state 4, tick 12 bits.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
struct Chosen(u64);

impl Chosen {
    #[inline]
    fn new(flow: Flow, state: State, tick: Tick) -> Self {
        Self(flow.word() & 0xffff_ffff_ffff | state.bits() << 48 | u64::from(tick.0) << Flow::TICK_SHIFT)
    }

    #[inline]
    fn state(self) -> State {
        State::from_bits(self.0 >> 48)
    }

    #[inline]
    fn tick(self) -> Tick {
        Tick((self.0 >> Flow::TICK_SHIFT) as u16)
    }

    #[inline]
    fn flow(self) -> Flow {
        let mut flow = Flow::from_word(self.0 & 0xffff_ffff_ffff);
        flow.protocol = self.state().protocol();
        flow
    }
}

/// Why a session could not be made.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Refused {
    /// No place, and nothing half open to make way.
    Full,
    /// The flow is another session's.
    Taken,
}

/// Time-outs in ticks.
#[derive(Clone, Copy, Debug)]
pub struct Lifetimes([u16; 5]);

impl From<Timeouts> for Lifetimes {
    fn from(seconds: Timeouts) -> Self {
        // One tick more than the quotient: a session lives at least as long as configured.
        let ticks = |s: u16| (u64::from(s) * 1_000_000_000).div_ceil(Nanos::TICK) as u16 + 1;
        Self([
            ticks(seconds.tcp_half_open),
            ticks(seconds.tcp_established),
            ticks(seconds.tcp_closing),
            ticks(seconds.udp),
            ticks(seconds.sctp),
        ])
    }
}

impl Lifetimes {
    #[inline]
    fn of(self, state: State) -> u16 {
        self.0[state.bits() as usize]
    }
}

/// What `show sessions` says of one.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct Shown {
    /// Client and service.
    pub client: Client,
    /// Backend and SNAT.
    pub flow: Flow,
    /// State.
    pub state: State,
    /// When the client was last heard.
    pub tick: Tick,
}

impl Shown {
    /// The client's address.
    #[must_use]
    pub fn client_ip(&self) -> Ipv4Addr {
        Ipv4Addr::from_bits(self.client.ip)
    }
}

/// Sessions of one worker, readable by others.
#[derive(Debug)]
pub struct Sessions {
    forward: Side,
    reverse: Side,
    key: HashKey,
    capacity: usize,
    count: AtomicUsize,
    evicted: AtomicU64,
    swept: AtomicUsize,
}

impl Sessions {
    /// Room for `capacity` sessions at half load; hashes are keyed with `key`.
    #[must_use]
    pub fn new(capacity: usize, key: [u8; 16]) -> Self {
        let slots = (capacity * 2).max(2 * WAYS);
        Self {
            forward: Side::new(slots, u64::MAX),
            reverse: Side::new(slots, Flow::MASK),
            key: HashKey::new(key),
            capacity,
            count: AtomicUsize::new(0),
            evicted: AtomicU64::new(0),
            swept: AtomicUsize::new(0),
        }
    }

    /// Sessions at this moment, expired ones that no sweep has met included.
    #[must_use]
    pub fn len(&self) -> usize {
        self.count.load(Relaxed)
    }

    /// Half-open sessions that ever gave way to newer ones.
    #[must_use]
    pub fn evicted(&self) -> u64 {
        self.evicted.load(Relaxed)
    }

    /// Whether there are none.
    #[must_use]
    pub fn is_empty(&self) -> bool {
        self.len() == 0
    }

    /// Hash of a client, its line asked for.
    #[must_use]
    #[inline]
    pub fn expect_client(&self, client: Client) -> u64 {
        let hash = self.key.one(client.word());
        self.forward.prefetch(hash);
        hash
    }

    /// Hash of a flow, its line asked for.
    #[must_use]
    #[inline]
    pub fn expect_flow(&self, flow: Flow) -> u64 {
        let hash = self.key.one(flow.word());
        self.reverse.prefetch(hash);
        hash
    }

    /// The flow of a client's session, which its packet keeps alive; `None` when there is none or it has expired.
    #[inline]
    pub fn forward(&self, client: Client, hash: u64, flags: u8, now: Tick, life: Lifetimes) -> Option<(Flow, State)> {
        let at = self.forward.find(hash, client.word())?;
        let chosen = Chosen(self.forward.value(at).load(Relaxed));
        if now.since(chosen.tick()) > life.of(chosen.state()) && self.expired(chosen, now, life) {
            self.remove_at(at, chosen);
            return None;
        }
        let (flow, before) = (chosen.flow(), chosen.state());
        let fresh = Chosen::new(flow, before.after(flags, true), now);
        if fresh != chosen {
            self.forward.value(at).store(fresh.0, Relaxed);
        }
        Some((flow, before))
    }

    /// The client of a backend's reply, which keeps the session alive; `None` when there is none or it has expired.
    ///
    /// The forward entry is looked at only once per tick and session, or when the reply closes it.
    #[inline]
    pub fn reverse(&self, flow: Flow, hash: u64, flags: u8, now: Tick, life: Lifetimes) -> Option<Client> {
        let at = self.reverse.find(hash, flow.word())?;
        let client = Client::from_word(self.reverse.value(at).load(Relaxed));
        let word = self.reverse.key(at).load(Relaxed);
        let heard = Tick((word >> Flow::TICK_SHIFT) as u16);
        if heard != now || flags & (FIN | RST) != 0 {
            let place = self.forward.find(self.key.one(client.word()), client.word())?;
            let chosen = Chosen(self.forward.value(place).load(Relaxed));
            let lasting = life.of(chosen.state());
            if now.since(heard) > lasting && now.since(chosen.tick()) > lasting {
                self.remove_at(place, chosen);
                return None;
            }
            let after = Chosen::new(chosen.flow(), chosen.state().after(flags, false), chosen.tick());
            self.forward.value(place).store(after.0, Relaxed);
            self.reverse.key(at).store(flow.word() | u64::from(now.0) << Flow::TICK_SHIFT, Relaxed);
        }
        Some(client)
    }

    /// Whether a flow is in use; an expired session on it is removed.
    #[must_use]
    pub fn in_use(&self, flow: Flow, now: Tick, life: Lifetimes) -> bool {
        let Some(at) = self.reverse.find(self.key.one(flow.word()), flow.word()) else { return false };
        let client = Client::from_word(self.reverse.value(at).load(Relaxed));
        let Some(place) = self.forward.find(self.key.one(client.word()), client.word()) else { return true };
        let chosen = Chosen(self.forward.value(place).load(Relaxed));
        if self.expired(chosen, now, life) {
            self.remove_at(place, chosen);
            return false;
        }
        true
    }

    /// Makes a session for a client that has none, on a flow that is not in use, for a first packet with these TCP
    /// flags: a flow met half-way (after a restart) is established at once.
    ///
    /// # Errors
    /// When there is no room.
    pub fn insert(&self, client: Client, flow: Flow, flags: u8, now: Tick, life: Lifetimes) -> Result<(), Refused> {
        let (forward_hash, reverse_hash) = (self.key.one(client.word()), self.key.one(flow.word()));
        if self.reverse.find(reverse_hash, flow.word()).is_some() {
            return Err(Refused::Taken);
        }
        if self.len() >= self.capacity || self.forward.vacant(forward_hash).is_none() {
            self.make_way_forward(forward_hash, now, life);
        }
        if self.reverse.vacant(reverse_hash).is_none() {
            self.make_way_reverse(reverse_hash, now, life);
        }
        if self.len() >= self.capacity {
            return Err(Refused::Full);
        }
        let forward = self.forward.vacant(forward_hash).ok_or(Refused::Full)?;
        let reverse = self.reverse.vacant(reverse_hash).ok_or(Refused::Full)?;
        let state = match flow.protocol {
            Protocol::Tcp => State::HalfOpen.after(flags, true),
            Protocol::Udp => State::Udp,
            Protocol::Sctp => State::Sctp,
        };
        self.forward.value(forward).store(Chosen::new(flow, state, now).0, Relaxed);
        self.forward.key(forward).store(client.word(), Relaxed);
        self.reverse.value(reverse).store(client.word(), Relaxed);
        self.reverse.key(reverse).store(flow.word() | u64::from(now.0) << Flow::TICK_SHIFT, Relaxed);
        self.count.store(self.len() + 1, Relaxed);
        Ok(())
    }

    /// Removes a client's session.
    pub fn remove(&self, client: Client) {
        if let Some(at) = self.forward.find(self.key.one(client.word()), client.word()) {
            self.remove_at(at, Chosen(self.forward.value(at).load(Relaxed)));
        }
    }

    /// Looks at the next `buckets` buckets; ends sessions that have expired or that `alive` (service, backend) does
    /// not know any more. Returns how many it ended.
    pub fn sweep(&self, buckets: usize, now: Tick, life: Lifetimes, alive: impl Fn(u16, u32) -> bool) -> u32 {
        let mut ended = 0;
        let all = self.forward.buckets.len();
        let mut bucket = self.swept.load(Relaxed);
        for _ in 0..buckets.min(all) {
            for way in 0..WAYS as u8 {
                let at = Place { bucket: bucket as u32, way };
                let key = self.forward.key(at).load(Relaxed);
                if key == 0 {
                    continue;
                }
                let chosen = Chosen(self.forward.value(at).load(Relaxed));
                if self.expired(chosen, now, life) || !alive(key as u16, chosen.flow().backend) {
                    self.remove_at(at, chosen);
                    ended += 1;
                }
            }
            bucket = (bucket + 1) & (all - 1);
        }
        self.swept.store(bucket, Relaxed);
        ended
    }

    /// Buckets that a turn sweeps, so that 100 turns a second pass the table in half of half the wrap: an entry's
    /// tick can then never be mistaken for one a wrap later.
    #[must_use]
    pub fn sweep_step(&self) -> usize {
        self.forward.buckets.len().div_ceil(200_000).max(4)
    }

    /// Every session, as another thread may read it: entries that change meanwhile may be missed or stale.
    pub fn iter(&self) -> impl Iterator<Item = Shown> + '_ {
        self.forward.buckets.iter().flat_map(|bucket| {
            bucket.keys.iter().zip(&bucket.values).filter_map(|(key, value)| {
                let word = key.load(Relaxed);
                let chosen = Chosen(value.load(Relaxed));
                (word != 0 && key.load(Relaxed) == word).then(|| Shown {
                    client: Client::from_word(word),
                    flow: chosen.flow(),
                    state: chosen.state(),
                    tick: chosen.tick(),
                })
            })
        })
    }

    /// Whether both directions have been silent for too long.
    fn expired(&self, chosen: Chosen, now: Tick, life: Lifetimes) -> bool {
        let lasting = life.of(chosen.state());
        if now.since(chosen.tick()) <= lasting {
            return false;
        }
        let flow = chosen.flow().word();
        let heard = self.reverse.find(self.key.one(flow), flow).map(|at| self.reverse.key(at).load(Relaxed));
        heard.is_none_or(|word| now.since(Tick((word >> Flow::TICK_SHIFT) as u16)) > lasting)
    }

    fn remove_at(&self, at: Place, chosen: Chosen) {
        let flow = chosen.flow().word();
        if let Some(reverse) = self.reverse.find(self.key.one(flow), flow) {
            self.reverse.key(reverse).store(0, Relaxed);
        }
        self.forward.key(at).store(0, Relaxed);
        self.count.store(self.len() - 1, Relaxed);
    }

    /// Frees a place in a forward bucket: an expired session's, else a half-open one's.
    fn make_way_forward(&self, hash: u64, now: Tick, life: Lifetimes) {
        let places = self.forward.places(hash);
        let candidates = places.filter(|at| self.forward.key(*at).load(Relaxed) != 0);
        self.evict(candidates, now, life);
    }

    fn make_way_reverse(&self, hash: u64, now: Tick, life: Lifetimes) {
        let clients = self.reverse.places(hash).filter(|at| self.reverse.key(*at).load(Relaxed) != 0);
        let places = clients.filter_map(|at| {
            let client = self.reverse.value(at).load(Relaxed);
            self.forward.find(self.key.one(client), client)
        });
        self.evict(places, now, life);
    }

    fn evict(&self, candidates: impl Iterator<Item = Place>, now: Tick, life: Lifetimes) {
        let mut oldest: Option<(u16, Place, Chosen)> = None;
        for at in candidates {
            let chosen = Chosen(self.forward.value(at).load(Relaxed));
            if self.expired(chosen, now, life) {
                self.remove_at(at, chosen);
                return;
            }
            let age = now.since(chosen.tick());
            if chosen.state() == State::HalfOpen && oldest.is_none_or(|(a, ..)| age >= a) {
                oldest = Some((age, at, chosen));
            }
        }
        if let Some((_, at, chosen)) = oldest {
            self.remove_at(at, chosen);
            self.evicted.store(self.evicted() + 1, Relaxed);
        }
    }
}

#[cfg(test)]
mod tests;
