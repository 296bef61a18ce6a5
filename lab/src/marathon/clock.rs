//! Marathon's timestamps (`2024-05-01T10:00:00.000Z`) and identifiers, both unique within one emulator.

use std::sync::atomic::{AtomicU64, Ordering};
use std::time::{SystemTime, UNIX_EPOCH};

/// Gives every version and identifier once: two calls in one millisecond differ.
#[derive(Debug)]
pub(crate) struct Clock {
    last_millis: AtomicU64,
    node: u64,
}

impl Clock {
    /// `node` tells the identifiers of one emulator from another's.
    pub(crate) fn new(node: u64) -> Self {
        Self { last_millis: AtomicU64::new(0), node: node & 0xffff_ffff_ffff }
    }

    /// Milliseconds since 1970, never the same twice.
    fn tick(&self) -> u64 {
        let now = SystemTime::now().duration_since(UNIX_EPOCH).map_or(0, |d| d.as_millis() as u64);
        let previous = self
            .last_millis
            .fetch_update(Ordering::Relaxed, Ordering::Relaxed, |last| Some(now.max(last + 1)))
            .unwrap_or_else(|last| last);
        now.max(previous + 1)
    }

    /// A timestamp that no other call gave: a version.
    pub(crate) fn version(&self) -> String {
        timestamp(self.tick())
    }

    /// A UUID in the layout of version 1 (RFC 9562 section 5.1), as Marathon's task ids have.
    pub(crate) fn uuid(&self) -> String {
        // Version 1 counts 100 ns since 1582-10-15.
        let count = self.tick() * 10_000 + 0x01b2_1dd2_1381_4000;
        let (low, mid, high) = (count & 0xffff_ffff, (count >> 32) & 0xffff, (count >> 48) & 0x0fff);
        format!("{low:08x}-{mid:04x}-1{high:03x}-8000-{:012x}", self.node)
    }
}

/// The present as Marathon writes it.
pub(crate) fn now() -> String {
    timestamp(SystemTime::now().duration_since(UNIX_EPOCH).map_or(0, |d| d.as_millis() as u64))
}

fn timestamp(millis: u64) -> String {
    let (days, rest) = (millis / 86_400_000, millis % 86_400_000);
    let (year, month, day) = civil(days);
    let (seconds, millis) = (rest / 1000, rest % 1000);
    let (hour, minute, second) = (seconds / 3600, seconds / 60 % 60, seconds % 60);
    format!("{year:04}-{month:02}-{day:02}T{hour:02}:{minute:02}:{second:02}.{millis:03}Z")
}

/// Days since 1970-01-01 to year, month and day of the Gregorian calendar (years begin in March, eras of 400 years).
fn civil(days: u64) -> (u64, u64, u64) {
    let shifted = days + 719_468;
    let (era, day_of_era) = (shifted / 146_097, shifted % 146_097);
    let year_of_era = (day_of_era - day_of_era / 1460 + day_of_era / 36_524 - day_of_era / 146_096) / 365;
    let day_of_year = day_of_era - (365 * year_of_era + year_of_era / 4 - year_of_era / 100);
    let month_from_march = (5 * day_of_year + 2) / 153;
    let day = day_of_year - (153 * month_from_march + 2) / 5 + 1;
    let month = if month_from_march < 10 { month_from_march + 3 } else { month_from_march - 9 };
    (era * 400 + year_of_era + u64::from(month <= 2), month, day)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn timestamps_are_those_of_the_calendar_leap_days_included() {
        assert_eq!(timestamp(0), "1970-01-01T00:00:00.000Z");
        assert_eq!(timestamp(1_709_164_800_000), "2024-02-29T00:00:00.000Z");
        assert_eq!(timestamp(1_714_557_605_123), "2024-05-01T10:00:05.123Z");
    }

    #[test]
    fn versions_and_ids_never_repeat() {
        let clock = Clock::new(1);
        let versions: std::collections::BTreeSet<_> = (0..100).map(|_| clock.version()).collect();
        let ids: std::collections::BTreeSet<_> = (0..100).map(|_| clock.uuid()).collect();
        assert_eq!((versions.len(), ids.len()), (100, 100));
    }
}
