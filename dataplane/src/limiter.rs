//! Rates: how often something may be done, as token buckets of eight octets each.
//!
//! A bucket is one time, when it will be full again; what a token costs and what a full bucket holds are times too,
//! computed when a [`Rate`] is made. So the packet path adds and compares and never divides. ~2 ns a packet.

use std::sync::atomic::{AtomicU64, Ordering::Relaxed};

use crate::time::Nanos;

/// Parts of a nanosecond in which buckets count, as a shift: at 30 million a second a whole nanosecond would be off by
/// 1 %. 64 bits of it last for 36 years of uptime.
const PARTS: u32 = 4;
/// A second in those parts.
const SECOND: u64 = 1_000_000_000 << PARTS;

/// How often, and how many at once.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct Rate {
    /// Time that a token takes to come.
    interval: u64,
    /// Time in which an empty bucket fills.
    depth: u64,
}

impl Rate {
    /// Without limit.
    pub const UNLIMITED: Self = Self { interval: 0, depth: 0 };
    /// Never.
    pub const NEVER: Self = Self { interval: 1, depth: 0 };

    /// `per_second` in the long run, and up to `burst` (at least one) at once after a pause; never at 0 per second.
    #[must_use]
    pub fn new(per_second: u32, burst: u32) -> Self {
        Self::shared(per_second, burst, 1)
    }

    /// One of `workers` equal parts of a rate. What one worker does not use the others do not get: flows are spread by
    /// a hash, so over many clients the parts are used alike.
    #[must_use]
    pub fn shared(per_second: u32, burst: u32, workers: u32) -> Self {
        if per_second == 0 {
            return Self::NEVER;
        }
        let workers = workers.max(1);
        // Rounded up: rather a token too late than a rate above what was asked for.
        let interval = SECOND.saturating_mul(u64::from(workers)).div_ceil(u64::from(per_second));
        Self { interval, depth: interval.saturating_mul(u64::from(burst.div_ceil(workers).max(1))) }
    }
}

/// What is left of a rate. A new one is full.
#[derive(Clone, Copy, PartialEq, Eq, Debug, Default)]
pub struct Bucket {
    full_at: u64,
}

impl Bucket {
    /// Takes a token, if there is one. The rate may be another one each time: a bucket is never emptier than empty.
    #[must_use]
    #[inline]
    pub fn take(&mut self, rate: Rate, now: Nanos) -> bool {
        let now = now.0 << PARTS;
        let missing = self.full_at.saturating_sub(now).min(rate.depth);
        let after = missing.saturating_add(rate.interval);
        let enough = after <= rate.depth || rate.interval == 0;
        // Written either way, so that what a lowered depth cut off does not come back as a debt.
        self.full_at = now.saturating_add(if enough { after } else { missing });
        enough
    }
}

impl Bucket {
    /// Which of two was used less of late: the one that is full sooner.
    #[must_use]
    #[inline]
    pub fn is_fuller(&self, other: &Self) -> bool {
        self.full_at < other.full_at
    }
}

/// What a worker answers by itself, each at a rate of its own, so that a flood of one kind does not silence the others.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Answer {
    /// Echo replies.
    Echo,
    /// ICMP errors (RFC 1812 section 4.3.2.8, RFC 4443 section 2.4(f)).
    Error,
    /// Resets of refused TCP segments and aborts of refused SCTP packets.
    Reset,
}

impl Answer {
    /// All of them.
    pub const ALL: [Self; 3] = [Self::Echo, Self::Error, Self::Reset];
}

/// A worker's rates of answers, and what is left of them.
#[derive(Clone, Copy, Debug)]
pub struct RateLimits {
    rates: [Rate; Answer::ALL.len()],
    buckets: [Bucket; Answer::ALL.len()],
}

impl RateLimits {
    /// Full buckets; `rates` in the order of [`Answer::ALL`].
    #[must_use]
    pub fn new(rates: [Rate; Answer::ALL.len()]) -> Self {
        Self { rates, buckets: [Bucket::default(); Answer::ALL.len()] }
    }

    /// Other rates, from now on.
    pub fn set(&mut self, rates: [Rate; Answer::ALL.len()]) {
        self.rates = rates;
    }

    /// Whether one more answer of this kind may be sent.
    #[must_use]
    #[inline]
    pub fn allow(&mut self, answer: Answer, now: Nanos) -> bool {
        let at = answer as usize;
        self.buckets[at].take(self.rates[at], now)
    }
}

/// A worker's part of every service's rate of new flows. Only that worker takes from it; it lies beside the worker's
/// sessions, which others read, so every bucket is an atomic word.
#[derive(Debug)]
pub struct NewFlows {
    buckets: Box<[AtomicU64]>,
}

impl NewFlows {
    /// For services numbered below `services`; eight octets each.
    #[must_use]
    pub fn new(services: usize) -> Self {
        Self { buckets: (0..services).map(|_| AtomicU64::new(0)).collect() }
    }

    /// Whether the service may have one more flow. `rate` is this worker's part of what the service is allowed
    /// ([`Rate::shared`], in the tables). A number that there is no bucket for is not limited: tables refuse such.
    #[must_use]
    #[inline]
    pub fn admit(&self, service: u16, rate: Rate, now: Nanos) -> bool {
        let Some(full_at) = self.buckets.get(usize::from(service)) else { return true };
        let mut bucket = Bucket { full_at: full_at.load(Relaxed) };
        let admitted = bucket.take(rate, now);
        full_at.store(bucket.full_at, Relaxed);
        admitted
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    /// How many of `tries` equally spaced tries in a second from `start` pass.
    fn passed(bucket: &mut Bucket, rate: Rate, start: u64, tries: u64) -> u64 {
        (0..tries).map(|n| u64::from(bucket.take(rate, Nanos(start + n * 1_000_000_000 / tries)))).sum()
    }

    #[test]
    fn a_rate_is_kept_to_within_its_burst() {
        for (rate, burst) in [(1, 1), (1000, 50), (3333, 7), (250_000, 1000)] {
            let mut bucket = Bucket::default();
            let first = passed(&mut bucket, Rate::new(rate, burst), 0, 1_000_000);
            assert!(
                (u64::from(rate)..=u64::from(rate + burst)).contains(&first),
                "{rate}: {first} in the first second"
            );
            let second = passed(&mut bucket, Rate::new(rate, burst), 1_000_000_000, 1_000_000);
            assert!(second.abs_diff(u64::from(rate)) <= 1, "{rate}: {second} in the second second");
        }
    }

    #[test]
    fn nothing_and_everything_are_rates() {
        let mut bucket = Bucket::default();
        assert_eq!(passed(&mut bucket, Rate::new(0, 10), 5, 1000), 0);
        assert_eq!(passed(&mut bucket, Rate::UNLIMITED, 5, 1000), 1000);
        assert_eq!(passed(&mut bucket, Rate::new(1, 0), 5, 1000), 1);
    }

    #[test]
    fn a_raised_rate_does_not_wait_for_the_debt_of_the_old_one() {
        let mut bucket = Bucket::default();
        assert_eq!(passed(&mut bucket, Rate::new(1, 1000), 0, 1000), 1000);
        assert!(passed(&mut bucket, Rate::new(1000, 10), 1_000_000_000, 100_000) >= 999);
    }

    #[test]
    fn workers_together_keep_a_services_rate() {
        for workers in [1, 2, 3, 7] {
            let rate = Rate::shared(1000, 100, workers);
            let flows: Vec<_> = (0..workers).map(|_| NewFlows::new(2)).collect();
            let admitted =
                |n: u64| flows.iter().filter_map(|f| f.admit(1, rate, Nanos(n * 1000)).then_some(())).count();
            let total: usize = (0..1_000_000).map(admitted).sum();
            assert!((1000..=1100 + workers as usize).contains(&total), "{workers} workers: {total}");
        }
    }

    #[test]
    fn a_flood_of_one_answer_does_not_silence_the_others() {
        let mut limits = RateLimits::new([Rate::new(10, 10); 3]);
        let echoes = (0..1000).filter(|n| limits.allow(Answer::Echo, Nanos(*n))).count();
        assert_eq!(echoes, 10);
        assert!(limits.allow(Answer::Error, Nanos(1000)) && limits.allow(Answer::Reset, Nanos(1000)));
        limits.set([Rate::NEVER; 3]);
        assert!(!limits.allow(Answer::Error, Nanos(2000)));
    }

    proptest! {
        #[test]
        fn the_bucket_is_the_slow_model(
            per_second in 1u32.., burst in 1u32..100, workers in 1u32..9,
            steps in prop::collection::vec(prop_oneof![0u64..50, 0u64..2_000_000_000], 0..100),
        ) {
            let rate = Rate::shared(per_second, burst, workers);
            // Sixteenths of a nanosecond, exactly; a token is SECOND * workers / per_second of them, rounded up.
            let token = (16_000_000_000u128 * u128::from(workers)).div_ceil(u128::from(per_second));
            let depth = token * u128::from(burst.div_ceil(workers));
            let (mut bucket, mut level, mut now) = (Bucket::default(), depth, 0);
            for step in steps {
                now += step;
                level = depth.min(level + u128::from(step) * 16);
                let enough = level >= token;
                level -= if enough { token } else { 0 };
                prop_assert_eq!(bucket.take(rate, Nanos(now)), enough);
            }
        }
    }
}
