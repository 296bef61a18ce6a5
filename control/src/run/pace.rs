//! When to publish: at once where nothing was published lately, and then so often at most.

use std::time::Duration;

use tokio::time::Instant;

/// Publications a second at most, names that follow services not counted; what changes meanwhile goes into the next one.
pub const PER_SECOND: u32 = 50;

/// When the next publication is due.
#[derive(Debug)]
pub struct Pace {
    due: Option<Instant>,
    not_before: Instant,
}

impl Pace {
    /// Nothing is due, and everything may be.
    #[must_use]
    pub fn new(now: Instant) -> Self {
        Self { due: None, not_before: now }
    }

    /// Something changed.
    pub fn changed(&mut self, now: Instant) {
        self.sooner(self.not_before.max(now));
    }

    /// Somebody waits for it.
    pub fn urgent(&mut self, now: Instant) {
        self.sooner(now);
    }

    /// It failed, and is tried again then.
    pub fn again(&mut self, at: Instant) {
        self.sooner(at);
    }

    /// When to publish; `None` while there is nothing to.
    #[must_use]
    pub fn due(&self) -> Option<Instant> {
        self.due
    }

    /// It begins: what changes from here on is for the next one.
    pub fn begun(&mut self) {
        self.due = None;
    }

    /// It is done; what follows of it (`Publication::names_wait`) is due at once.
    pub fn done(&mut self, now: Instant, more: bool) {
        self.not_before = now + Duration::from_secs(1) / PER_SECOND;
        if more {
            self.sooner(now);
        }
    }

    fn sooner(&mut self, then: Instant) {
        self.due = Some(self.due.map_or(then, |due| due.min(then)));
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_first_change_is_published_at_once_and_the_next_after_a_pause_unless_somebody_waits() {
        let start = Instant::now();
        let at = |ms| start + Duration::from_millis(ms);
        let mut pace = Pace::new(start);
        assert_eq!(pace.due(), None);
        pace.changed(at(5));
        assert_eq!(pace.due(), Some(at(5)));
        pace.begun();
        pace.done(at(8), false);
        assert_eq!(pace.due(), None);
        pace.changed(at(9));
        pace.changed(at(10));
        assert_eq!(pace.due(), Some(at(28)));
        pace.urgent(at(11));
        assert_eq!(pace.due(), Some(at(11)));
        pace.begun();
        pace.done(at(12), true);
        assert_eq!(pace.due(), Some(at(12)), "more follows");
        pace.begun();
        pace.again(at(1032));
        pace.done(at(33), false);
        assert_eq!(pace.due(), Some(at(1032)));
    }
}
