//! How long to wait before what failed is tried again: doubled each time to a bound, then less by up to half at random, so
//! that many nodes do not come back at once.

use std::time::Duration;

const FIRST: Duration = Duration::from_millis(100);
const LAST: Duration = Duration::from_secs(5);

/// A source of waits; equal seeds give equal ones.
#[derive(Clone, Debug)]
pub(crate) struct BackOff {
    random: u64,
}

impl BackOff {
    pub(crate) fn new(seed: u64) -> Self {
        Self { random: seed }
    }

    /// The wait after so many failures in a row.
    pub(crate) fn after(&mut self, failures: u32) -> Duration {
        let whole = FIRST.saturating_mul(1 << failures.min(16)).min(LAST);
        whole - self.jitter(whole / 2)
    }

    /// What one of `urls` URLs failed at: the next one's turn comes, and the wait until then, which grows with each round.
    pub(crate) fn next_url(&mut self, url: &mut usize, urls: usize, failures: u32) -> Duration {
        let urls = urls.max(1);
        *url = (*url + 1) % urls;
        self.after(failures / u32::try_from(urls).unwrap_or(u32::MAX))
    }

    /// Between nothing and `most` (splitmix64).
    pub(crate) fn jitter(&mut self, most: Duration) -> Duration {
        self.random = self.random.wrapping_add(0x9e37_79b9_7f4a_7c15);
        let mut z = self.random;
        z = (z ^ (z >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
        z = (z ^ (z >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
        most.mul_f64((z >> 11) as f64 / (1u64 << 53) as f64)
    }
}
