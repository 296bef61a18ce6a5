//! Sessions of one worker: bounded, keyed, two 16-byte entries each (design.md section 4).
//!
//! The forward entry {client address, port, service} tells the backend, SNAT address and port; the reverse entry
//! {backend, SNAT address and port, protocol} tells the client and service. They are made and removed together. Each
//! lies in one of two 8-way buckets that its hash names; a bucket is two cache lines, keys and values, so a hit reads
//! two lines that lie side by side. An IPv6 bucket has two more with the addresses, of which a hit reads one
//! ([`beside`]).
//!
//! Only the owning worker changes sessions. Everything is an atomic word, so that others may read along for `show`
//! without stopping it; relaxed loads and stores are ordinary moves.

use std::sync::atomic::{AtomicU64, AtomicUsize, Ordering::Relaxed};

use crate::address::Address;
use crate::tables::hash::HashKey;
use crate::time::Tick;

pub mod beside;
mod entry;
mod life;
mod sweep;
mod table;

pub use entry::{ACK, Client, FIN, Flow, RST, SYN, Shown, State};
pub use life::Lifetimes;

use beside::Beside;
use entry::Chosen;
use table::{Place, Side, WAYS};

/// Why a session could not be made.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Refused {
    /// No place, and nothing half open to make way.
    Full,
    /// The flow is another session's.
    Taken,
}

/// Sessions of one worker with clients of one address family, readable by others.
#[derive(Debug)]
pub struct Sessions<A: Address = u32> {
    forward: Side<A>,
    reverse: Side<A>,
    key: HashKey,
    capacity: usize,
    count: AtomicUsize,
    evicted: AtomicU64,
    swept: AtomicUsize,
}

impl<A: Address> Sessions<A> {
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
    pub fn expect_client(&self, client: Client<A>) -> u64 {
        let hash = client.hash(self.key);
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
    pub fn forward(
        &self,
        client: Client<A>,
        hash: u64,
        flags: u8,
        now: Tick,
        life: Lifetimes,
    ) -> Option<(Flow, State)> {
        let at = self.find_client(client, hash)?;
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
    pub fn reverse(&self, flow: Flow, hash: u64, flags: u8, now: Tick, life: Lifetimes) -> Option<Client<A>> {
        let at = self.reverse.find(hash, flow.word(), |_| true)?;
        let client = self.client_at(at);
        let word = self.reverse.key(at).load(Relaxed);
        let heard = Tick((word >> Flow::TICK_SHIFT) as u16);
        if heard != now || flags & (FIN | RST) != 0 {
            let place = self.find_client(client, client.hash(self.key))?;
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
        let Some(at) = self.find_flow(flow) else { return false };
        let client = self.client_at(at);
        let Some(place) = self.find_client(client, client.hash(self.key)) else { return true };
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
    pub fn insert(&self, client: Client<A>, flow: Flow, flags: u8, now: Tick, life: Lifetimes) -> Result<(), Refused> {
        let (forward_hash, reverse_hash) = (client.hash(self.key), self.key.one(flow.word()));
        if self.find_flow(flow).is_some() {
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
        let word = client.word(forward_hash);
        self.forward.beside(forward).set(client.ip);
        self.forward.value(forward).store(Chosen::new(flow, State::first(flow.protocol, flags), now).0, Relaxed);
        self.forward.key(forward).store(word, Relaxed);
        self.reverse.beside(reverse).set(client.ip);
        self.reverse.value(reverse).store(word, Relaxed);
        self.reverse.key(reverse).store(flow.word() | u64::from(now.0) << Flow::TICK_SHIFT, Relaxed);
        self.count.store(self.len() + 1, Relaxed);
        Ok(())
    }

    /// Every session, as another thread may read it: entries that change meanwhile may be missed or stale.
    pub fn iter(&self) -> impl Iterator<Item = Shown<A>> + '_ {
        self.forward.buckets.iter().flat_map(|bucket| {
            bucket.keys.iter().zip(&bucket.values).zip(&bucket.beside).filter_map(|((key, value), beside)| {
                let word = key.load(Relaxed);
                let chosen = Chosen(value.load(Relaxed));
                let client = Client::from_word(word, beside);
                let shown = Shown { client, flow: chosen.flow(), state: chosen.state(), tick: chosen.tick() };
                (word != 0 && key.load(Relaxed) == word).then_some(shown)
            })
        })
    }

    #[inline]
    fn find_client(&self, client: Client<A>, hash: u64) -> Option<Place> {
        self.forward.find(hash, client.word(hash), |at| self.forward.beside(at).is(client.ip))
    }

    #[inline]
    fn find_flow(&self, flow: Flow) -> Option<Place> {
        self.reverse.find(self.key.one(flow.word()), flow.word(), |_| true)
    }

    /// Whose reverse entry lies here.
    #[inline]
    fn client_at(&self, at: Place) -> Client<A> {
        Client::from_word(self.reverse.value(at).load(Relaxed), self.reverse.beside(at))
    }
}

#[cfg(test)]
mod tests;
