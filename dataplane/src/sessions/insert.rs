//! How sessions begin: a place in both directions, or the reason why there is none.
//!
//! A burst's new flows are made in two loops, so that their cache misses overlap: [`Sessions::expect`] for each asks for
//! the lines that [`Sessions::begin`] then reads and writes.
//!
//! Look-up that misses and insertion, nanoseconds a packet in bursts of 64, IPv4 (perf/benches/sessions.rs on two shared
//! cores of a Xeon with 2 MB second-level caches each):
//!
//! | room | DSR, half full | DSR, full: another gives way | `nat`, half full, port choice included |
//! |---|---|---|---|
//! | 262,144 | 70 | 134 | 126 |
//! | 1,048,576 | 82 | 142 | 235 |

use std::sync::atomic::Ordering::Relaxed;

use arrayvec::ArrayVec;

use super::Sessions;
use super::beside::Beside;
use super::caller::Caller;
use super::entry::{Chosen, Client, Flow, SYN, State, Way};
use super::life::Lifetimes;
use super::table::Place;
use crate::time::Tick;

/// Why a session could not be made.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Refused {
    /// No place, and nothing on probation to make way.
    Full,
    /// The flow is another session's, or its port rests.
    Taken,
    /// The client has a session already: an earlier packet of the burst began it. Look it up again.
    Known,
    /// This client holds its share of ports, and those that are left are for others.
    Quota,
}

/// A session about to be made, the lines that it needs asked for.
#[derive(Clone, Copy, Debug)]
pub struct Newcomer<A = u32> {
    client: Client<A>,
    hash: u64,
    flow: Flow,
    flow_hash: u64,
    /// Where the client's ports are counted; of flows of `nat`.
    held: u64,
}

/// Ports that are tried together, so that their misses overlap.
const AT_ONCE: usize = 4;

/// Ports found taken before the pool counts as nearly empty: with nine of ten taken that happens once in thirty times,
/// with three of four once in ten thousand.
const TIGHT: usize = 32;

/// Whether a port is for clients that hold fewer than their share: every eighth, so that one client that never tires of
/// trying cannot have all of a pool.
fn is_kept_back(port: u16) -> bool {
    port % 8 == 7
}

impl<A: Caller> Sessions<A> {
    /// Asks for the lines of a session to be made that its client's look-up has not asked for; `hash` is what
    /// [`Sessions::expect_client`] said.
    #[must_use]
    #[inline]
    pub fn expect(&self, client: Client<A>, hash: u64, flow: Flow) -> Newcomer<A> {
        let new = self.on(client, hash, flow, 0);
        if flow.way() != Way::Translated {
            return new;
        }
        let held = self.held.hash(self.key, client.ip);
        self.held.expect(held);
        Newcomer { held, ..new }
    }

    #[inline]
    fn on(&self, client: Client<A>, hash: u64, flow: Flow, held: u64) -> Newcomer<A> {
        if flow.way() == Way::Direct {
            return Newcomer { client, hash, flow, flow_hash: 0, held };
        }
        let flow_hash = flow.hash(self.key, client.ip);
        self.reverse.prefetch(flow_hash);
        Newcomer { client, hash, flow, flow_hash, held }
    }

    /// Makes a session, for a first packet with these TCP flags. A flow met half-way (after a restart) has proved as
    /// little as a SYN: anybody can send a segment with ACK.
    ///
    /// # Errors
    /// When there is no room, the flow is not free, or the client has a session.
    #[inline]
    pub fn begin(&self, new: &Newcomer<A>, flags: u8, now: Tick, life: Lifetimes) -> Result<(), Refused> {
        // Making way for one direction removes whole sessions, so a place that the other one has found stays vacant.
        let forward = self.forward_room(new, now, life)?;
        let reverse = match new.flow.way() {
            Way::Direct => None,
            Way::Translated | Way::Preserved => Some(self.reverse_room(new, now, life)?),
        };
        let Newcomer { client, hash, flow, .. } = *new;
        let word = client.word(hash);
        self.forward.beside(forward).set(client.ip);
        self.forward.value(forward).store(Chosen::new(flow, State::first(flow.protocol, flags), now).0, Relaxed);
        self.forward.key(forward).store(word, Relaxed);
        if let Some(at) = reverse {
            self.wake(at, now, life);
            self.reverse.beside(at).set(client.ip);
            self.reverse.value(at).store(word, Relaxed);
            // What begins without a SYN may rightly be refused, so its answer says nothing of the backend.
            let told = if flags & SYN == 0 || !A::OBSERVED { Flow::TOLD } else { 0 };
            self.reverse.key(at).store(flow.word() | told | u64::from(now.0) << Flow::TICK_SHIFT, Relaxed);
        }
        if flow.way() == Way::Translated {
            self.held.add(new.held);
        }
        self.count.store(self.len() + 1, Relaxed);
        self.count_service(client.service, 1);
        Ok(())
    }

    /// Makes a session on the newcomer's port, else on the first free one of `ports`, and returns its flow. Where the
    /// first 32 that are tried are taken, or all, the session on probation longest among those gives way. A client that
    /// holds `quota` ports already tries none of those that are kept back ([`is_kept_back`]) however often it asks, takes
    /// nobody's place, and is not searched for further.
    ///
    /// # Errors
    /// [`Refused::Taken`] when no port is free, [`Refused::Quota`] when others might still get one.
    pub fn begin_on(
        &self,
        new: &Newcomer<A>,
        ports: impl Iterator<Item = u16>,
        quota: u32,
        flags: u8,
        now: Tick,
        life: Lifetimes,
    ) -> Result<Flow, Refused> {
        let over = self.ports_held(new.client.ip) >= quota;
        let mut ports = ports.filter(|port| !over || !is_kept_back(*port));
        let mut next = || -> ArrayVec<Newcomer<A>, AT_ONCE> {
            let more = ports.by_ref().take(AT_ONCE);
            more.map(|port| self.on(new.client, new.hash, Flow { port, ..new.flow }, new.held)).collect()
        };
        let mut group = if over && is_kept_back(new.flow.port) { next() } else { std::iter::once(*new).collect() };
        let mut taken: ArrayVec<Newcomer<A>, TIGHT> = ArrayVec::new();
        while !group.is_empty() {
            for candidate in &group {
                match self.begin(candidate, flags, now, life) {
                    Err(Refused::Taken) => {}
                    other => return other.map(|()| candidate.flow),
                }
                if taken.try_push(*candidate).is_ok() && taken.is_full() {
                    if over {
                        return Err(Refused::Quota);
                    }
                    if let Some(instead) = self.weakest(&taken, now) {
                        return self.begin_instead(instead, flags, now, life);
                    }
                }
            }
            group = next();
        }
        if over {
            return Err(Refused::Quota);
        }
        // Where they are full, they have been asked.
        let instead = if taken.is_full() { None } else { self.weakest(&taken, now) };
        self.begin_instead(instead.ok_or(Refused::Taken)?, flags, now, life)
    }

    /// Of newcomers whose ports are taken, the one whose port's session should give way first, and that session: not one
    /// that was heard of in this tick, whose answer may be on its way.
    #[cold]
    fn weakest<'a>(&self, taken: &'a [Newcomer<A>], now: Tick) -> Option<(&'a Newcomer<A>, Place)> {
        let mut best = (0, None);
        for new in taken {
            let is_taken = |at| self.is_flow_of(at, new.flow, new.client.ip);
            let found = self.reverse.find(new.flow_hash, new.flow.word(), is_taken);
            let Some(at) = found.filter(|at| !self.heard(*at).is_resting()) else { continue };
            let client = self.client_at(at);
            let Some(holder) = self.find_client(client, client.hash(self.key)) else { continue };
            let chosen = self.chosen(holder);
            let score = chosen.dispensable(now);
            if score > best.0 && chosen.tick() != now {
                best = (score, Some((new, holder)));
            }
        }
        best.1
    }

    #[cold]
    fn begin_instead(
        &self,
        (new, of): (&Newcomer<A>, Place),
        flags: u8,
        now: Tick,
        life: Lifetimes,
    ) -> Result<Flow, Refused> {
        self.give_way(of);
        self.begin(new, flags, now, life).map(|()| new.flow)
    }

    /// SNAT ports that a client holds, or a few more than it does.
    #[must_use]
    pub fn ports_held(&self, ip: A) -> u32 {
        self.held.most(self.held.hash(self.key, ip))
    }

    /// Makes a session without having asked for its lines: for tests and tools.
    ///
    /// # Errors
    /// As [`Sessions::begin`].
    pub fn insert(&self, client: Client<A>, flow: Flow, flags: u8, now: Tick, life: Lifetimes) -> Result<(), Refused> {
        self.begin(&self.expect(client, client.hash(self.key), flow), flags, now, life)
    }

    /// Whether a flow of `nat` is in use or its port rests; an expired session on it is removed.
    #[must_use]
    pub fn in_use(&self, flow: Flow, now: Tick, life: Lifetimes) -> bool {
        let at = self.reverse.find(self.key.one(flow.word()), flow.word(), |_| true);
        at.is_some_and(|at| !self.is_free(at, now, life))
    }

    /// A vacant place for the newcomer's forward entry.
    #[inline]
    fn forward_room(&self, new: &Newcomer<A>, now: Tick, life: Lifetimes) -> Result<Place, Refused> {
        let word = new.client.word(new.hash);
        let survey = self.forward.survey::<true>(new.hash, word);
        if survey.met
            && let Some(at) = self.find_client(new.client, new.hash)
        {
            if !self.expired(at, now, life) {
                return Err(Refused::Known);
            }
            self.lapse(at);
        } else if let (Some(at), true) = (survey.vacancy(), self.len() < self.capacity) {
            return Ok(at);
        }
        self.make_room(new, now, life)
    }

    /// The same where a session has to make way first.
    #[cold]
    fn make_room(&self, new: &Newcomer<A>, now: Tick, life: Lifetimes) -> Result<Place, Refused> {
        let vacancy = || self.forward.survey::<true>(new.hash, new.client.word(new.hash)).vacancy();
        if self.len() >= self.capacity || vacancy().is_none() {
            let freed = self.make_way_forward(new.hash, now, life);
            if let (Some(at), true) = (freed, self.len() < self.capacity) {
                return Ok(at);
            }
        }
        if self.len() >= self.capacity && new.flow.way() != Way::Direct {
            self.make_way_reverse(new.flow_hash, now, life);
        }
        // Three in ten thousand newcomers to a table of half-open sessions at capacity find their own homes empty.
        if self.len() >= self.capacity {
            self.make_way_anywhere(now, life);
        }
        vacancy().filter(|_| self.len() < self.capacity).ok_or(Refused::Full)
    }

    /// A place for the newcomer's reverse entry that is vacant, or whose port has rested.
    #[inline]
    fn reverse_room(&self, new: &Newcomer<A>, now: Tick, life: Lifetimes) -> Result<Place, Refused> {
        let survey = self.reverse.survey::<false>(new.flow_hash, new.flow.word());
        if survey.met
            && let Some(at) =
                self.reverse.find(new.flow_hash, new.flow.word(), |at| self.is_flow_of(at, new.flow, new.client.ip))
        {
            return self.is_free(at, now, life).then_some(at).ok_or(Refused::Taken);
        }
        if let Some(at) = survey.vacancy() {
            return Ok(at);
        }
        if let Some(at) = self.longest_rested(new.flow_hash, now) {
            return Ok(at);
        }
        self.make_way_reverse(new.flow_hash, now, life);
        self.reverse.survey::<false>(new.flow_hash, new.flow.word()).vacancy().ok_or(Refused::Full)
    }

    /// Whether nobody has this reverse entry's flow any more and its port has rested; an expired session ends.
    fn is_free(&self, at: Place, now: Tick, life: Lifetimes) -> bool {
        if !self.heard(at).is_resting() {
            let client = self.client_at(at);
            let Some(place) = self.find_client(client, client.hash(self.key)) else { return false };
            if !self.expired(place, now, life) {
                return false;
            }
            self.lapse(place);
        }
        let heard = self.heard(at);
        heard.0 == 0 || heard.is_resting() && life.has_rested(heard.tick(), now)
    }

    /// Among the places of a hash, the one whose port rests longest.
    #[cold]
    fn longest_rested(&self, hash: u64, now: Tick) -> Option<Place> {
        let resting = self.reverse.places(hash).filter(|at| self.heard(*at).is_resting());
        resting.max_by_key(|at| now.since(self.heard(*at).tick()))
    }

    /// Ends the rest of the port whose place is about to be written, if one rests there.
    #[inline]
    fn wake(&self, at: Place, now: Tick, life: Lifetimes) {
        let heard = self.heard(at);
        if heard.is_resting() {
            self.resting.store(self.resting() - 1, Relaxed);
            let early = u64::from(!life.has_rested(heard.tick(), now));
            self.cut_short.store(self.cut_short() + early, Relaxed);
        }
    }
}
