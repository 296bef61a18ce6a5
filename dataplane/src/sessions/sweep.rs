//! How sessions end: by time, by their backend's leaving, by a newcomer's need.

use std::sync::atomic::Ordering::Relaxed;

use super::Sessions;
use super::entry::{Client, Flow, Way};
use super::life::Lifetimes;
use super::table::{Place, WAYS};
use crate::address::Address;
use crate::time::Tick;

impl<A: Address> Sessions<A> {
    /// Looks at the next `buckets` buckets of either direction; ends sessions that have expired or that `alive`
    /// (service, backend) does not know any more, and the rest of ports that have rested. Returns how many sessions it
    /// ended.
    pub fn sweep(&self, buckets: usize, now: Tick, life: Lifetimes, alive: impl Fn(u16, u32) -> bool) -> u32 {
        let mut ended = 0;
        let all = self.forward.buckets.len();
        let mut bucket = self.swept.load(Relaxed);
        for _ in 0..buckets.min(all) {
            for at in (0..WAYS as u8).map(|way| Place { bucket: bucket as u32, way }) {
                ended += u32::from(self.sweep_session(at, now, life, &alive));
                self.sweep_rest(at, now, life);
            }
            bucket = (bucket + 1) & (all - 1);
        }
        self.swept.store(bucket, Relaxed);
        ended
    }

    fn sweep_session(&self, at: Place, now: Tick, life: Lifetimes, alive: impl Fn(u16, u32) -> bool) -> bool {
        let key = self.forward.key(at).load(Relaxed);
        if key == 0 {
            return false;
        }
        let over = self.expired(at, now, life) || !alive(key as u16, self.chosen(at).flow().backend);
        if over {
            self.end(at);
        }
        over
    }

    fn sweep_rest(&self, at: Place, now: Tick, life: Lifetimes) {
        let heard = self.heard(at);
        if heard.is_resting() && life.has_rested(heard.tick(), now) {
            self.reverse.key(at).store(0, Relaxed);
            self.resting.store(self.resting() - 1, Relaxed);
        }
    }

    /// Buckets that a turn sweeps, so that 100 turns a second pass the table in half of half the wrap: an entry's
    /// tick can then never be mistaken for one a wrap later.
    #[must_use]
    pub fn sweep_step(&self) -> usize {
        self.forward.buckets.len().div_ceil(200_000).max(4)
    }

    /// Ends a client's session.
    pub fn remove(&self, client: Client<A>) {
        if let Some(at) = self.find_client(client, client.hash(self.key)) {
            self.end(at);
        }
    }

    /// Whether both directions of the session whose forward entry this is have been silent for too long.
    pub(super) fn expired(&self, at: Place, now: Tick, life: Lifetimes) -> bool {
        let chosen = self.chosen(at);
        let lasting = life.of(chosen.state());
        if now.since(chosen.tick()) <= lasting {
            return false;
        }
        let reverse = self.find_flow(chosen.flow(), self.client_of(at).ip);
        reverse.is_none_or(|at| now.since(self.heard(at).tick()) > lasting)
    }

    /// Ends the session whose forward entry this is; its SNAT port rests where the backend may remember it.
    pub(super) fn end(&self, at: Place) {
        let (chosen, ip) = (self.chosen(at), self.client_of(at).ip);
        let flow = chosen.flow();
        if let Some(reverse) = self.find_flow(flow, ip) {
            let mut word = 0;
            if flow.way() == Way::Translated && chosen.state().is_remembered() {
                let last = chosen.tick().or_later(self.heard(reverse).tick());
                word = flow.word() | Flow::RESTING | u64::from(last.0) << Flow::TICK_SHIFT;
                self.resting.store(self.resting() + 1, Relaxed);
            }
            self.reverse.key(reverse).store(word, Relaxed);
        }
        if flow.way() == Way::Translated {
            self.held.subtract(self.key, ip);
        }
        self.forward.key(at).store(0, Relaxed);
        self.count.store(self.len() - 1, Relaxed);
    }

    /// Whose forward entry lies here.
    fn client_of(&self, at: Place) -> Client<A> {
        Client::from_word(self.forward.key(at).load(Relaxed), self.forward.beside(at))
    }

    /// Frees a place in a forward bucket: an expired session's, else that of one on probation.
    pub(super) fn make_way_forward(&self, hash: u64, now: Tick, life: Lifetimes) {
        let places = self.forward.places(hash, self.turn());
        self.evict(places.filter(|at| self.forward.key(*at).load(Relaxed) != 0), now, life);
    }

    /// The same in a reverse bucket.
    pub(super) fn make_way_reverse(&self, hash: u64, now: Tick, life: Lifetimes) {
        let held = |at: &Place| self.heard(*at).0 != 0 && !self.heard(*at).is_resting();
        let places = self.reverse.places(hash, self.turn()).filter(held).filter_map(|at| {
            let client = self.client_at(at);
            self.find_client(client, client.hash(self.key))
        });
        self.evict(places, now, life);
    }

    /// Where to begin looking, another place each time: of sessions equally old any may go.
    fn turn(&self) -> usize {
        self.evicted() as usize % (2 * WAYS)
    }

    /// Ends the first expired session, else the oldest on probation, those that are young last.
    fn evict(&self, candidates: impl Iterator<Item = Place> + Clone, now: Tick, life: Lifetimes) {
        let mut victim: Option<((bool, u16), Place)> = None;
        for at in candidates.clone() {
            if self.expired(at, now, life) {
                self.end(at);
                return;
            }
            let chosen = self.chosen(at);
            let age = (!chosen.is_young(), now.since(chosen.tick()));
            if chosen.state().on_probation() && victim.is_none_or(|(oldest, _)| age > oldest) {
                victim = Some((age, at));
            }
        }
        let Some(((old, _), at)) = victim else { return };
        if !old {
            candidates.for_each(|at| self.forward.value(at).store(self.chosen(at).aged().0, Relaxed));
        }
        self.end(at);
        self.evicted.store(self.evicted() + 1, Relaxed);
    }
}
