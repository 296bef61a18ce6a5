//! Sessions of one worker: bounded, keyed, one or two 16-byte entries each (design.md section 4).
//!
//! The forward entry {client address, port, service} tells the backend, SNAT address and port; the reverse entry
//! {backend, SNAT address and port, protocol} tells the client and service. They are made and removed together. Each
//! lies in one of two 8-way buckets that its hash names; a bucket is two cache lines, keys and values, so a hit reads
//! two lines that lie side by side. An IPv6 bucket has two more with the addresses, of which a hit reads one
//! ([`beside`]).
//!
//! Three ways lead back ([`Way`]). `nat` is as above. In `nat-preserve` the reverse entry is {backend, client port,
//! protocol}, and the client's address, which a reply names, is hashed along and compared. A DSR session is a forward
//! entry alone.
//!
//! - **Half-open sessions are on probation**: a newcomer that finds its two forward buckets full, or the table at
//!   capacity, takes the place of an old one there, and one that finds no free port takes that of the oldest it met; an
//!   established session is never taken. A session that begins without a SYN is half open too. All ways may be half open,
//!   since none of them keeps anybody out. Ticks are too coarse to tell the oldest under a flood: a bit beside the
//!   state protects a new session until all that were there before it have gone (the second chance of page
//!   replacement), which took the loss of honest handshakes 50 ms long from 5 to 1 in 100 in `tests/flood.rs`.
//! - **SNAT ports rest**: when a TCP session ends, its reverse entry stays behind, marked, until the backend has
//!   forgotten the connection (`timeouts.snat_rest` after its last packet). A newcomer that finds both reverse buckets
//!   full ends the longest rest there, which is counted.
//! - **A hard drain needs no scan** and entries hold no generation: a backend's number is in no other backend's use
//!   until it has rested longer than any session lives ([`crate::tables::ids`]), so a session whose number the tables
//!   do not know misses at once, and the sweep ends it.
//!
//! - **Handshakes are observed** where both directions pass here: the first answer of a backend, its refusal, or that it
//!   had none when the client repeated its SYN or gave up, is noted once for each session ([`Sessions::take_seen`]).
//!
//! What look-ups and insertions cost is measured by perf/benches/sessions.rs.
//!
//! Only the owning worker changes sessions. Everything is an atomic word, so that others may read along for `show`
//! without stopping it; relaxed loads and stores are ordinary moves.

use std::sync::atomic::{AtomicU32, AtomicU64, AtomicUsize, Ordering::Relaxed};

use sluice_config::model::Protocol;

use crate::event::Seen;
use crate::tables::hash::{HashKey, MixKey};
use crate::time::Tick;

pub mod beside;
pub mod caller;
mod entry;
mod held;
mod insert;
mod life;
mod observed;
mod peek;
mod sweep;
mod table;

pub use entry::{ACK, Choice, Client, FIN, Flow, RST, SYN, Shown, State, Way};
pub use insert::{Newcomer, Refused};
pub use life::Lifetimes;
pub use table::Home;

use beside::Beside;
use caller::Caller;
use entry::{Chosen, Heard};
use held::Held;
use observed::Observed;
use table::{Place, Side, WAYS};

/// Sessions of one worker with clients of one address family, readable by others.
#[derive(Debug)]
pub struct Sessions<A: Caller = u32> {
    forward: Side<A>,
    reverse: Side<A>,
    key: MixKey,
    visible: HashKey,
    capacity: usize,
    count: AtomicUsize,
    evicted: AtomicU64,
    resting: AtomicUsize,
    cut_short: AtomicU64,
    held: Held,
    observed: Observed,
    /// Sessions by service number.
    services: Box<[AtomicU32]>,
    swept: AtomicUsize,
    /// Where to look next for a session on probation when a newcomer's own buckets have none.
    hand: AtomicUsize,
}

impl<A: Caller> Sessions<A> {
    /// Room for `capacity` sessions at half load; hashes are keyed with `key`. Those of services numbered below 4096 are
    /// counted by service.
    #[must_use]
    pub fn new(capacity: usize, key: [u8; 16]) -> Self {
        Self::with_services(capacity, key, 4096)
    }

    /// The same with counts for services numbered below `services`.
    #[must_use]
    pub fn with_services(capacity: usize, key: [u8; 16], services: usize) -> Self {
        let slots = (capacity * 2).max(2 * WAYS);
        Self {
            forward: Side::new(slots, u64::MAX),
            reverse: Side::new(slots, Flow::MASK),
            key: HashKey::new(key).into(),
            visible: HashKey::new(key),
            capacity,
            count: AtomicUsize::new(0),
            evicted: AtomicU64::new(0),
            resting: AtomicUsize::new(0),
            cut_short: AtomicU64::new(0),
            held: Held::new(capacity),
            observed: Observed::new(),
            services: (0..services).map(|_| AtomicU32::new(0)).collect(),
            swept: AtomicUsize::new(0),
            hand: AtomicUsize::new(0),
        }
    }

    /// The key that it was made with, for what else a worker keeps of packets.
    pub(crate) fn key(&self) -> HashKey {
        self.visible
    }

    /// Sessions at this moment, expired ones that no sweep has met included.
    #[must_use]
    pub fn len(&self) -> usize {
        self.count.load(Relaxed)
    }

    /// Sessions of a service at this moment, as [`Sessions::len`] counts; 0 of one whose number there is no count for.
    #[must_use]
    #[inline]
    pub fn of_service(&self, service: u16) -> u32 {
        self.services.get(usize::from(service)).map_or(0, |count| count.load(Relaxed))
    }

    /// One session more of a service, or with `u32::MAX` one less.
    #[inline]
    fn count_service(&self, service: u16, change: u32) {
        if let Some(count) = self.services.get(usize::from(service)) {
            count.store(count.load(Relaxed).wrapping_add(change), Relaxed);
        }
    }

    /// Sessions on probation that ever gave way to newer ones.
    #[must_use]
    pub fn evicted(&self) -> u64 {
        self.evicted.load(Relaxed)
    }

    /// SNAT ports that rest at this moment, those that have rested enough and no sweep has met included.
    #[must_use]
    pub fn resting(&self) -> usize {
        self.resting.load(Relaxed)
    }

    /// Ports whose rest ever ended early, because the table had no other place for a newcomer.
    #[must_use]
    pub fn cut_short(&self) -> u64 {
        self.cut_short.load(Relaxed)
    }

    /// Whether there are none.
    #[must_use]
    pub fn is_empty(&self) -> bool {
        self.len() == 0
    }

    /// Whether sessions are kept at all.
    #[must_use]
    #[inline]
    pub fn has_room(&self) -> bool {
        self.capacity > 0
    }

    /// Whether one session more needs another to give way.
    #[must_use]
    #[inline]
    pub fn is_full(&self) -> bool {
        self.len() >= self.capacity
    }

    /// Whether the last eighth is being used, which is for clients that have few.
    #[must_use]
    #[inline]
    pub fn is_nearly_full(&self) -> bool {
        self.len() >= self.capacity - self.capacity / 8
    }

    /// What tells a flow with this hash from others on the wire.
    #[must_use]
    #[inline]
    pub fn entropy(&self, hash: u64) -> u16 {
        self.key.entropy(hash)
    }

    /// Hash of a client, its first home asked for.
    #[must_use]
    #[inline]
    pub fn expect_client(&self, client: Client<A>) -> u64 {
        let hash = client.hash(self.key);
        self.forward.expect(hash, Home::First);
        hash
    }

    /// Hash of a flow of `nat`, its first home asked for.
    #[must_use]
    #[inline]
    pub fn expect_flow(&self, flow: Flow) -> u64 {
        let hash = self.key.one(flow.word());
        self.reverse.expect(hash, Home::First);
        hash
    }

    /// Hash of a flow of `nat-preserve` towards a client, or of a masqueraded one from its far end, its first home asked
    /// for.
    #[must_use]
    #[inline]
    pub fn expect_flow_of(&self, flow: Flow, ip: A) -> u64 {
        let hash = flow.hash(self.key, ip);
        self.reverse.expect(hash, Home::First);
        hash
    }

    /// Asks for a client's second home, where the first has nothing: what follows may be an insertion.
    #[inline]
    pub fn expect_client_there(&self, hash: u64) {
        self.forward.expect(hash, Home::Second);
    }

    /// Asks for a flow's second home, where the first has nothing.
    #[inline]
    pub fn expect_flow_there(&self, hash: u64) {
        self.reverse.expect(hash, Home::Second);
    }

    /// What was chosen for a client's session, which its packet keeps alive, and whether its connection was over before
    /// the packet; `None` when there is none or it has expired.
    #[inline]
    pub fn forward(
        &self,
        client: Client<A>,
        hash: u64,
        flags: u8,
        now: Tick,
        life: &Lifetimes,
    ) -> Option<(Choice, bool)> {
        let first = self.forward_in(Home::First, client, hash, flags, now, life);
        first.or_else(|| self.forward_in(Home::Second, client, hash, flags, now, life))
    }

    /// The same, looked for in one home alone.
    #[inline(always)]
    pub fn forward_in(
        &self,
        home: Home,
        client: Client<A>,
        hash: u64,
        flags: u8,
        now: Tick,
        life: &Lifetimes,
    ) -> Option<(Choice, bool)> {
        let at =
            self.forward.find_in::<true>(home, hash, client.word(hash), |at| self.forward.beside(at).is(client.ip))?;
        let chosen = self.chosen(at);
        if now.since(chosen.tick()) > life.of(chosen.state_bits()) && self.expired(at, now, *life) {
            self.lapse(at);
            return None;
        }
        // Nearly every packet changes nothing but the time.
        if chosen.is_settled() && flags & (FIN | RST) == 0 {
            if chosen.tick() != now {
                self.forward.value(at).store(chosen.heard_at(now).0, Relaxed);
            }
        } else {
            self.advance(at, chosen, flags, now);
        }
        Some((chosen.choice(), chosen.is_over()))
    }

    /// A session goes on by a packet of its client that may change its state.
    #[inline(never)]
    fn advance(&self, at: Place, chosen: Chosen, flags: u8, now: Tick) {
        let before = chosen.state();
        let fresh = chosen.with(before.after(flags, true), now);
        if fresh != chosen {
            // A tick later, so that a duplicate on the way is no repetition.
            if flags & SYN != 0 && before == State::HalfOpen {
                self.note_unanswered(at);
            }
            self.forward.value(at).store(fresh.0, Relaxed);
        }
    }

    /// The client of a backend's reply in `nat`, which keeps the session alive; `None` when there is none or it has
    /// expired.
    ///
    /// The forward entry is looked at only once per tick and session, or when the reply closes it.
    #[inline]
    pub fn reverse(&self, flow: Flow, hash: u64, flags: u8, now: Tick, life: Lifetimes) -> Option<Client<A>> {
        let at = self.reverse.find(hash, flow.word(), |_| true)?;
        self.answered(at, flow, flags, now, life)
    }

    /// The same, looked for in one home alone.
    #[inline]
    pub fn reverse_in(
        &self,
        home: Home,
        flow: Flow,
        hash: u64,
        flags: u8,
        now: Tick,
        life: Lifetimes,
    ) -> Option<Client<A>> {
        let at = self.reverse.find_in::<false>(home, hash, flow.word(), |_| true)?;
        self.answered(at, flow, flags, now, life)
    }

    /// As [`Sessions::reverse_in`], in `nat-preserve`: `flow` is the backend and the client's port, `ip` the client, both
    /// of the reply.
    #[inline]
    #[expect(clippy::too_many_arguments, reason = "what a look-up needs, by value in registers")]
    pub fn reverse_preserved_in(
        &self,
        home: Home,
        flow: Flow,
        ip: A,
        hash: u64,
        flags: u8,
        now: Tick,
        life: Lifetimes,
    ) -> Option<Client<A>> {
        let at = self.reverse.find_in::<false>(home, hash, flow.word(), |at| self.client_at(at).ip == ip)?;
        self.answered(at, flow, flags, now, life)
    }

    /// As [`Sessions::reverse`], of a masqueraded flow, which its far end is told apart by.
    #[inline]
    pub fn reverse_of(
        &self,
        flow: Flow,
        far: A,
        hash: u64,
        flags: u8,
        now: Tick,
        life: Lifetimes,
    ) -> Option<Client<A>> {
        let at = self.reverse.find(hash, flow.word(), |at| self.is_flow_of(at, flow, far))?;
        self.answered(at, flow, flags, now, life)
    }

    #[inline(always)]
    fn answered(&self, at: Place, flow: Flow, flags: u8, now: Tick, life: Lifetimes) -> Option<Client<A>> {
        let client = self.client_at(at);
        let heard = self.heard(at);
        if heard.is_resting() {
            return None;
        }
        let quiet = heard.tick() == now && heard.is_told() && flags & (FIN | RST) == 0;
        if quiet { Some(client) } else { self.note_answer(at, client, flow, flags, now, life) }
    }

    /// What a reply changes: once a tick the time, its session's state, and what is told of the handshake.
    #[inline(never)]
    fn note_answer(
        &self,
        at: Place,
        client: Client<A>,
        flow: Flow,
        flags: u8,
        now: Tick,
        life: Lifetimes,
    ) -> Option<Client<A>> {
        let heard = self.heard(at);
        let place = self.find_client(client, client.hash(self.key))?;
        let chosen = self.chosen(place);
        let lasting = life.of(chosen.state_bits());
        if now.since(heard.tick()) > lasting && now.since(chosen.tick()) > lasting {
            self.end(place);
            return None;
        }
        if !heard.is_told() && flow.protocol == Protocol::Tcp {
            match chosen.state() == State::HalfOpen && flags & RST != 0 {
                true => self.observed.failed(flow.backend, Seen::Refused),
                false => self.observed.answered(flow.backend),
            }
        }
        let after = chosen.with(chosen.state().after(flags, false), chosen.tick());
        self.forward.value(place).store(after.0, Relaxed);
        let word = flow.word() | Flow::TOLD | u64::from(now.0) << Flow::TICK_SHIFT;
        self.reverse.key(at).store(word, Relaxed);
        Some(client)
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

    /// Lends every handshake that was noted since the last call to `tell`, by backend number. Returns how many there was
    /// no room for.
    #[inline]
    pub fn take_seen(&self, tell: impl FnMut(u32, Seen)) -> u64 {
        self.observed.take(tell)
    }

    #[inline]
    fn find_client(&self, client: Client<A>, hash: u64) -> Option<Place> {
        self.forward.find(hash, client.word(hash), |at| self.forward.beside(at).is(client.ip))
    }

    /// The reverse entry of a client's flow.
    #[inline]
    fn find_flow(&self, flow: Flow, ip: A) -> Option<Place> {
        if flow.way() == Way::Direct {
            return None;
        }
        self.reverse.find(flow.hash(self.key, ip), flow.word(), |at| self.is_flow_of(at, flow, ip))
    }

    /// Whether a reverse entry with this flow's key is this caller's flow: some flows of several callers share a key.
    #[inline]
    fn is_flow_of(&self, at: Place, flow: Flow, ip: A) -> bool {
        ip.has(flow.way(), || self.client_at(at).ip)
    }

    #[inline]
    fn chosen(&self, at: Place) -> Chosen {
        Chosen(self.forward.value(at).load(Relaxed))
    }

    #[inline]
    fn heard(&self, at: Place) -> Heard {
        Heard(self.reverse.key(at).load(Relaxed))
    }

    /// Whose reverse entry lies here.
    #[inline]
    fn client_at(&self, at: Place) -> Client<A> {
        Client::from_word(self.reverse.value(at).load(Relaxed), self.reverse.beside(at))
    }
}

#[cfg(test)]
mod tests;
