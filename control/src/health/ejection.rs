//! What the packet path's own observation leads to: some failed handshakes in a row, and a backend takes no new flows for
//! a while (facts/dcos.md B.5: five, 30 seconds).
//!
//! The packet path tells [`Seen::Unanswered`] and [`Seen::Refused`] as they happen, and [`Seen::Answered`] for the first
//! handshake that succeeds after one of them: a healthy backend costs no events. Events may be lost: a count that nothing
//! was added to for as long as an ejection lasts is forgotten. How many of a service's backends may be out at once is
//! [`super::combine`]'s to say, which knows the service.

use std::collections::BTreeMap;

use sluice_config::model::Passive;
use sluice_dataplane::event::Seen;
use sluice_dataplane::tables::ids::BackendKey;
use sluice_dataplane::time::Nanos;

/// Most backends with failures that are counted; more than `limits.backends` allows cannot be.
const COUNTED_MAX: usize = 1 << 20;

/// Failures in a row.
#[derive(Clone, Copy, Debug)]
struct Row {
    failures: u8,
    last: Nanos,
}

/// Who has failed how often, and who is ejected.
#[derive(Debug)]
pub struct Ejections {
    passive: Passive,
    rows: BTreeMap<BackendKey, Row>,
    ejected: BTreeMap<BackendKey, Nanos>,
}

impl Ejections {
    /// Nobody has failed yet.
    #[must_use]
    pub fn new(passive: Passive) -> Self {
        Self { passive, rows: BTreeMap::new(), ejected: BTreeMap::new() }
    }

    /// Takes one observation; whether somebody was ejected by it. Of an ejected backend nothing counts: its old flows say
    /// nothing new.
    pub fn take(&mut self, backend: BackendKey, seen: Seen, now: Nanos) -> bool {
        if self.passive.percent == 0 || self.ejected.contains_key(&backend) {
            return false;
        }
        if seen == Seen::Answered {
            self.rows.remove(&backend);
            return false;
        }
        if self.rows.len() >= COUNTED_MAX && !self.rows.contains_key(&backend) {
            return false;
        }
        let lasts = self.lasts();
        let row = self.rows.entry(backend).or_insert(Row { failures: 0, last: now });
        if now.0.saturating_sub(row.last.0) >= lasts {
            row.failures = 0;
        }
        (row.failures, row.last) = (row.failures.saturating_add(1), now);
        if row.failures < self.passive.failures {
            return false;
        }
        self.rows.remove(&backend);
        self.ejected.insert(backend, now);
        true
    }

    /// Ends what is over; whether anything was.
    pub fn settle(&mut self, now: Nanos) -> bool {
        let lasts = self.lasts();
        let is_on = |since: &Nanos| now.0.saturating_sub(since.0) < lasts;
        self.rows.retain(|_, row| is_on(&row.last));
        let before = self.ejected.len();
        self.ejected.retain(|_, since| is_on(since));
        self.ejected.len() != before
    }

    /// Who is ejected, and since when.
    #[must_use]
    pub fn ejected(&self) -> &BTreeMap<BackendKey, Nanos> {
        &self.ejected
    }

    fn lasts(&self) -> u64 {
        Nanos::from_seconds(u64::from(self.passive.seconds)).0
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;
    use sluice_config::model::Protocol;

    fn key(n: u8) -> BackendKey {
        BackendKey { address: ([10, 0, 0, n], 80).into(), protocol: Protocol::Tcp }
    }

    fn at(seconds: u64) -> Nanos {
        Nanos::from_seconds(seconds)
    }

    #[test]
    fn five_failures_in_a_row_eject_for_thirty_seconds_and_an_answer_between_them_begins_the_row_anew() {
        let mut ejections = Ejections::new(Passive::default());
        for seen in [Seen::Unanswered, Seen::Refused, Seen::Unanswered, Seen::Refused, Seen::Answered] {
            assert!(!ejections.take(key(1), seen, at(1)));
        }
        let row: Vec<bool> = (0..5).map(|_| ejections.take(key(1), Seen::Unanswered, at(2))).collect();
        assert_eq!(row, [false, false, false, false, true]);
        assert_eq!(ejections.ejected().get(&key(1)), Some(&at(2)));
        assert!(!ejections.settle(at(31)) && ejections.settle(at(32)));
        assert!(ejections.ejected().is_empty());
        assert!(!ejections.take(key(1), Seen::Refused, at(33)), "it begins with nothing against it");
    }

    #[test]
    fn failures_that_lie_far_apart_are_no_row_and_with_percent_0_none_are() {
        let mut ejections = Ejections::new(Passive::default());
        for n in 0..20 {
            assert!(!ejections.take(key(1), Seen::Refused, at(30 * n)));
        }
        let mut off = Ejections::new(Passive { percent: 0, ..Passive::default() });
        assert!((0..20).all(|_| !off.take(key(1), Seen::Refused, at(1))));
    }

    proptest! {
        /// The model keeps every observation of one backend and counts back from the last.
        #[test]
        fn ejections_agree_with_a_slow_model(
            steps in prop::collection::vec((1u64..3, 0u8..3, 0u64..12), 0..80), failures in 1u8..4, seconds in 1u16..20,
        ) {
            let mut ejections = Ejections::new(Passive { failures, seconds, percent: 50 });
            let (mut now, mut ended) = (0u64, BTreeMap::<u64, u64>::new());
            let mut history: Vec<(u64, u64, bool)> = Vec::new();
            for (backend, seen, wait) in steps {
                now += wait;
                ejections.settle(at(now));
                let seen = [Seen::Unanswered, Seen::Refused, Seen::Answered][usize::from(seen)];
                let is_out = ended.get(&backend).is_some_and(|end| *end > now);
                let took = ejections.take(key(backend as u8), seen, at(now));
                if is_out {
                    prop_assert!(!took);
                    continue;
                }
                history.push((now, backend, seen == Seen::Answered));
                let mut after = now;
                let row = history.iter().rev().filter(|(_, b, _)| *b == backend).take_while(|(at, _, good)| {
                    let near = !good && after - at < u64::from(seconds);
                    after = *at;
                    near
                });
                let enough = row.count() >= usize::from(failures);
                prop_assert_eq!(took, enough);
                if enough {
                    history.retain(|(_, b, _)| *b != backend);
                    ended.insert(backend, now + u64::from(seconds));
                }
            }
        }
    }
}
