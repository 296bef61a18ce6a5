//! When which target is probed: a state machine without I/O, clock or randomness of its own.
//!
//! Every target has its own rhythm, its interval with a tenth of jitter to either side, so that neither many targets nor
//! many nodes probe in step. At most `parallel` probes are on their way; what is due longest goes first, so that a crowd of
//! silent backends makes all rounds slower and starves none.

use std::collections::{BTreeMap, BTreeSet};
use std::net::SocketAddr;

use sluice_dataplane::time::Nanos;

use super::standing::{Count, Outcome, Standing};
use super::target::Target;

/// A new target is probed within this, nanoseconds.
const FIRST: u64 = 1_000_000_000;

/// A probe that is to be made now.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct Errand {
    /// What [`Rounds::take`] knows it by.
    pub number: u64,
    /// What is asked, and of whom.
    pub target: Target,
    /// Where it is sent.
    pub to: SocketAddr,
}

/// One target's place in the rounds.
#[derive(Debug)]
struct Ward {
    target: Target,
    to: SocketAddr,
    count: Count,
    /// When it is due; `None` while a probe is on its way.
    due: Option<Nanos>,
    /// When its last probe began.
    began: Nanos,
}

/// All targets.
#[derive(Debug)]
pub struct Rounds {
    parallel: usize,
    random: u64,
    next: u64,
    numbers: BTreeMap<Target, u64>,
    wards: BTreeMap<u64, Ward>,
    queue: BTreeSet<(Nanos, u64)>,
    /// Probes on their way, those of targets that have gone included.
    away: BTreeSet<u64>,
}

impl Rounds {
    /// No targets; `seed` is for the jitter.
    #[must_use]
    pub fn new(seed: u64, parallel: usize) -> Self {
        Self {
            parallel: parallel.max(1),
            random: seed,
            next: 0,
            numbers: BTreeMap::new(),
            wards: BTreeMap::new(),
            queue: BTreeSet::new(),
            away: BTreeSet::new(),
        }
    }

    /// Makes the targets these. Whoever stays keeps its counters and its rhythm; whether a standing was lost.
    pub fn attend(&mut self, wanted: &BTreeMap<Target, SocketAddr>, now: Nanos) -> bool {
        let gone: Vec<Target> = self.numbers.keys().filter(|t| !wanted.contains_key(t)).cloned().collect();
        for target in &gone {
            self.let_go(target);
        }
        for (target, to) in wanted {
            match self.numbers.get(target).and_then(|number| self.wards.get_mut(number)) {
                Some(ward) => ward.to = *to,
                None => self.begin(target, *to, now),
            }
        }
        !gone.is_empty()
    }

    fn let_go(&mut self, target: &Target) {
        let ward = self.numbers.remove(target).and_then(|number| Some((number, self.wards.remove(&number)?)));
        if let Some((number, Ward { due: Some(due), .. })) = ward {
            self.queue.remove(&(due, number));
        }
    }

    fn begin(&mut self, target: &Target, to: SocketAddr, now: Nanos) {
        let number = self.next;
        self.next += 1;
        let due = Nanos(now.0.saturating_add(self.jitter(FIRST)));
        self.numbers.insert(target.clone(), number);
        self.queue.insert((due, number));
        let ward = Ward { target: target.clone(), to, count: Count::default(), due: Some(due), began: now };
        self.wards.insert(number, ward);
    }

    /// The probes that begin now.
    pub fn due(&mut self, now: Nanos) -> Vec<Errand> {
        let mut errands = Vec::new();
        while self.away.len() < self.parallel {
            let Some((_, number)) = self.queue.first().copied().filter(|(due, _)| *due <= now) else { break };
            self.queue.pop_first();
            let Some(ward) = self.wards.get_mut(&number) else { continue };
            (ward.due, ward.began) = (None, now);
            self.away.insert(number);
            errands.push(Errand { number, target: ward.target.clone(), to: ward.to });
        }
        errands
    }

    /// When [`Rounds::due`] will have something; `None` while only a result can change that.
    #[must_use]
    pub fn wake(&self) -> Option<Nanos> {
        if self.away.len() >= self.parallel {
            return None;
        }
        self.queue.first().map(|(due, _)| *due)
    }

    /// Takes a probe's result; whether a standing changed. A result of a target that has gone only makes room.
    pub fn take(&mut self, number: u64, outcome: Outcome, now: Nanos) -> bool {
        if !self.away.remove(&number) {
            return false;
        }
        let Some(interval) = self.wards.get(&number).map(|w| u64::from(w.target.pace.interval_seconds)) else {
            return false;
        };
        let interval = Nanos::from_seconds(interval).0;
        let pause = interval - interval / 10 + self.jitter(interval / 5);
        let Some(ward) = self.wards.get_mut(&number) else { return false };
        // Counted from the start of the last one, but never at once: a probe may have taken the whole interval.
        let due = Nanos((ward.began.0.saturating_add(pause)).max(now.0.saturating_add(interval / 10)));
        ward.due = Some(due);
        self.queue.insert((due, number));
        let pace = ward.target.pace;
        ward.count.take(outcome, &pace)
    }

    /// What is known of every target.
    #[must_use]
    pub fn standings(&self) -> BTreeMap<Target, Standing> {
        self.wards.values().map(|ward| (ward.target.clone(), ward.count.standing)).collect()
    }

    /// Between nothing and `most` (splitmix64).
    fn jitter(&mut self, most: u64) -> u64 {
        self.random = self.random.wrapping_add(0x9e37_79b9_7f4a_7c15);
        let mut z = self.random;
        z = (z ^ (z >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
        z = (z ^ (z >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
        (z ^ (z >> 31)) % (most + 1)
    }
}

#[cfg(test)]
mod tests;
