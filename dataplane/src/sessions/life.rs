//! How long an idle session is kept.

use sluice_config::model::Timeouts;

use crate::time::{Nanos, Tick};

/// Time-outs in ticks.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct Lifetimes {
    /// By the three bits of a state.
    idle: [u16; 8],
    rest: u16,
}

impl From<Timeouts> for Lifetimes {
    fn from(seconds: Timeouts) -> Self {
        // One tick more than the quotient: a session lives at least as long as configured.
        let ticks = |s: u16| (u64::from(s) * 1_000_000_000).div_ceil(Nanos::TICK) as u16 + 1;
        Self {
            idle: [
                ticks(seconds.tcp_half_open),
                ticks(seconds.tcp_established),
                ticks(seconds.tcp_closing),
                ticks(seconds.udp),
                ticks(seconds.sctp),
                ticks(seconds.tcp_half_open),
                // No state has these numbers.
                0,
                0,
            ],
            rest: if seconds.snat_rest == 0 { 0 } else { ticks(seconds.snat_rest) },
        }
    }
}

impl Lifetimes {
    #[inline]
    pub(super) fn of(self, state_bits: usize) -> u16 {
        self.idle.get(state_bits).copied().unwrap_or_default()
    }

    /// Whether a port that was last used at `tick` has rested long enough.
    #[inline]
    pub(super) fn has_rested(self, tick: Tick, now: Tick) -> bool {
        self.rest == 0 || now.since(tick) > self.rest
    }
}
