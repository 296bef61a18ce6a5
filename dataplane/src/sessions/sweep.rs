//! How sessions end: by time, by their backend's leaving, by a newcomer's need.

use std::sync::atomic::Ordering::Relaxed;

use super::Sessions;
use super::caller::Caller;
use super::entry::{Chosen, Client, Flow, State, Way};
use super::life::Lifetimes;
use super::table::{Place, WAYS};
use crate::event::Seen;
use crate::time::Tick;

impl<A: Caller> Sessions<A> {
    /// Looks at the next `buckets` buckets of either direction; ends sessions that have expired or that `alive`
    /// (service, backend) does not know any more, and the rest of ports that have rested. Returns how many sessions it
    /// ended.
    pub fn sweep(&self, buckets: usize, now: Tick, life: Lifetimes, alive: impl Fn(u16, u32) -> bool) -> u32 {
        let resting = self.resting() > 0;
        if self.is_empty() && !resting {
            return 0;
        }
        let mut ended = 0;
        let all = self.forward.buckets.len();
        let mut bucket = self.swept.load(Relaxed);
        for _ in 0..buckets.min(all) {
            for at in Place::of(bucket as u32) {
                ended += u32::from(self.sweep_session(at, now, life, &alive));
                if resting {
                    self.sweep_rest(at, now, life);
                }
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
        if self.expired(at, now, life) {
            self.lapse(at);
            return true;
        }
        let over = !alive(key as u16, self.chosen(at).flow().backend);
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
        let lasting = life.of(chosen.state_bits());
        if now.since(chosen.tick()) <= lasting {
            return false;
        }
        let reverse = self.find_flow(chosen.flow(), self.client_from(at).ip);
        reverse.is_none_or(|at| now.since(self.heard(at).tick()) > lasting)
    }

    /// Ends the session whose forward entry this is because it has expired.
    pub(super) fn lapse(&self, at: Place) {
        self.note_unanswered(at);
        self.end(at);
    }

    /// Notes that a backend has not answered a session's SYN, if that is so and was not noted before.
    #[cold]
    pub(super) fn note_unanswered(&self, at: Place) {
        let (flow, state) = (self.chosen(at).flow(), self.chosen(at).state());
        if state != State::HalfOpen {
            return;
        }
        let Some(reverse) = self.find_flow(flow, self.client_from(at).ip) else { return };
        let heard = self.heard(reverse);
        if !heard.is_told() {
            self.observed.failed(flow.backend, Seen::Unanswered);
            self.reverse.key(reverse).store(heard.0 | Flow::TOLD, Relaxed);
        }
    }

    /// Ends the session whose forward entry this is; its SNAT port rests where the backend may remember it.
    pub(super) fn end(&self, at: Place) {
        let (chosen, Client { ip, service, .. }) = (self.chosen(at), self.client_from(at));
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
            self.held.subtract(self.held.hash(self.key, ip));
        }
        self.forward.key(at).store(0, Relaxed);
        self.count.store(self.len() - 1, Relaxed);
        self.count_service(service, u32::MAX);
    }

    /// Whose forward entry lies here.
    fn client_from(&self, at: Place) -> Client<A> {
        Client::from_word(self.forward.key(at).load(Relaxed), self.forward.beside(at))
    }

    /// Frees a place in a forward bucket: that of an old session on probation, those that are young last, else an
    /// expired one's. Says which.
    pub(super) fn make_way_forward(&self, hash: u64, now: Tick, life: Lifetimes) -> Option<Place> {
        let homes = self.forward.homes(hash);
        let [first, _] = homes;
        // One in the first home that all newcomers since have passed over is as good as the oldest of both.
        if let Some(at) = self.passed_over(first) {
            self.give_way(at);
            return Some(at);
        }
        let Some((score, at)) = self.most_dispensable(&homes, now) else {
            return self.evict_expired(self.forward.places(hash), now, life);
        };
        if score < Chosen::OLD {
            homes.into_iter().for_each(|bucket| self.age(bucket));
        }
        self.give_way(at);
        Some(at)
    }

    /// A session in this forward bucket that is on probation and not young. Of several any may go, another one each time.
    #[inline]
    fn passed_over(&self, bucket: u32) -> Option<Place> {
        let (keys, values) = self.forward.words(bucket);
        let mut ways = 0u32;
        for (key, value) in keys.iter().zip(values).rev() {
            let old = Chosen(value.load(Relaxed)).is_passed_over() & (key.load(Relaxed) != 0);
            ways = ways << 1 | u32::from(old);
        }
        // Turned, so that the lowest bit is another way each time.
        let turn = self.evicted() as u32 % WAYS as u32;
        let turned = (ways | ways << WAYS) >> turn;
        (ways != 0).then(|| Place { bucket, way: ((turned.trailing_zeros() + turn) % WAYS as u32) as u8 })
    }

    /// The session in these forward buckets that should give way first. Scored without branches: which of the ways is
    /// on probation nobody can predict. Of equals any may go, another one each time.
    fn most_dispensable(&self, buckets: &[u32], now: Tick) -> Option<(u16, Place)> {
        let turn = self.evicted() as u32 % WAYS as u32;
        let mut best = 0u32;
        for (home, bucket) in buckets.iter().enumerate() {
            let (keys, values) = self.forward.words(*bucket);
            for way in 0..WAYS {
                let held = u32::from(keys[way].load(Relaxed) != 0);
                let score = u32::from(Chosen(values[way].load(Relaxed)).dispensable(now)) * held;
                // The score, then the home, then the way: one comparison finds all three.
                best = best.max(score << 4 | (home as u32) << 3 | (way as u32 ^ turn));
            }
        }
        let (score, home, way) = (best >> 4, best >> 3 & 1, (best ^ turn) % WAYS as u32);
        (score > 0).then(|| (score as u16, Place { bucket: buckets[home as usize], way: way as u8 }))
    }

    /// Makes a bucket's sessions old.
    fn age(&self, bucket: u32) {
        let (_, values) = self.forward.words(bucket);
        values.iter().for_each(|v| v.store(Chosen(v.load(Relaxed)).aged().0, Relaxed));
    }

    pub(super) fn give_way(&self, at: Place) {
        self.end(at);
        self.evicted.store(self.evicted() + 1, Relaxed);
    }

    /// The same for a place in a reverse bucket.
    #[cold]
    pub(super) fn make_way_reverse(&self, hash: u64, now: Tick, life: Lifetimes) {
        let held = |at: &Place| self.heard(*at).0 != 0 && !self.heard(*at).is_resting();
        let forward = |at: Place| {
            let client = self.client_at(at);
            self.find_client(client, client.hash(self.key))
        };
        let sessions = self.reverse.places(hash).filter(held).filter_map(forward);
        let score = |at: &Place| self.chosen(*at).dispensable(now);
        match sessions.clone().filter(|at| score(at) > 0).max_by_key(score) {
            Some(at) => self.give_way(at),
            None => {
                self.evict_expired(sessions, now, life);
            }
        }
    }

    /// The same for any place, in one of the next few forward buckets.
    #[cold]
    pub(super) fn make_way_anywhere(&self, now: Tick, life: Lifetimes) {
        const MOST: usize = 16;
        let all = self.forward.buckets.len();
        for _ in 0..MOST.min(all) {
            let bucket = self.hand.load(Relaxed);
            self.hand.store((bucket + 1) & (all - 1), Relaxed);
            match self.most_dispensable(&[bucket as u32], now) {
                Some((_, at)) => return self.give_way(at),
                None => {
                    self.evict_expired(Place::of(bucket as u32), now, life);
                }
            }
            if self.len() < self.capacity {
                return;
            }
        }
    }

    #[cold]
    fn evict_expired(&self, mut candidates: impl Iterator<Item = Place>, now: Tick, life: Lifetimes) -> Option<Place> {
        let held = |at: &Place| self.forward.key(*at).load(Relaxed) != 0;
        let at = candidates.find(|at| held(at) && self.expired(*at, now, life))?;
        self.lapse(at);
        Some(at)
    }
}
