//! How sessions end: by time, by their backend's leaving, by a newcomer's need.

use std::sync::atomic::Ordering::Relaxed;

use super::Sessions;
use super::entry::{Chosen, Client, Flow, State};
use super::life::Lifetimes;
use super::table::{Place, WAYS};
use crate::address::Address;
use crate::time::Tick;

impl<A: Address> Sessions<A> {
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

    /// Removes a client's session.
    pub fn remove(&self, client: Client<A>) {
        if let Some(at) = self.find_client(client, client.hash(self.key)) {
            self.remove_at(at, Chosen(self.forward.value(at).load(Relaxed)));
        }
    }

    /// Whether both directions have been silent for too long.
    pub(super) fn expired(&self, chosen: Chosen, now: Tick, life: Lifetimes) -> bool {
        let lasting = life.of(chosen.state());
        if now.since(chosen.tick()) <= lasting {
            return false;
        }
        let heard = self.find_flow(chosen.flow()).map(|at| self.reverse.key(at).load(Relaxed));
        heard.is_none_or(|word| now.since(Tick((word >> Flow::TICK_SHIFT) as u16)) > lasting)
    }

    pub(super) fn remove_at(&self, at: Place, chosen: Chosen) {
        if let Some(reverse) = self.find_flow(chosen.flow()) {
            self.reverse.key(reverse).store(0, Relaxed);
        }
        self.forward.key(at).store(0, Relaxed);
        self.count.store(self.len() - 1, Relaxed);
    }

    /// Frees a place in a forward bucket: an expired session's, else a half-open one's.
    pub(super) fn make_way_forward(&self, hash: u64, now: Tick, life: Lifetimes) {
        let places = self.forward.places(hash);
        let candidates = places.filter(|at| self.forward.key(*at).load(Relaxed) != 0);
        self.evict(candidates, now, life);
    }

    pub(super) fn make_way_reverse(&self, hash: u64, now: Tick, life: Lifetimes) {
        let clients = self.reverse.places(hash).filter(|at| self.reverse.key(*at).load(Relaxed) != 0);
        let places = clients.filter_map(|at| {
            let client = self.client_at(at);
            self.find_client(client, client.hash(self.key))
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
