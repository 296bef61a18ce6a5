//! How long an idle session is kept.

use sluice_config::model::Timeouts;

use super::entry::State;
use crate::time::Nanos;

/// Time-outs in ticks.
#[derive(Clone, Copy, Debug)]
pub struct Lifetimes([u16; 5]);

impl From<Timeouts> for Lifetimes {
    fn from(seconds: Timeouts) -> Self {
        // One tick more than the quotient: a session lives at least as long as configured.
        let ticks = |s: u16| (u64::from(s) * 1_000_000_000).div_ceil(Nanos::TICK) as u16 + 1;
        Self([
            ticks(seconds.tcp_half_open),
            ticks(seconds.tcp_established),
            ticks(seconds.tcp_closing),
            ticks(seconds.udp),
            ticks(seconds.udp),
        ])
    }
}

impl Lifetimes {
    #[inline]
    pub(super) fn of(self, state: State) -> u16 {
        self.0[state.bits() as usize]
    }
}
