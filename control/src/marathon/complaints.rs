//! Which errors are worth a line in the log: each when it is new, and once a minute while it lasts.

use std::collections::BTreeMap;
use std::time::Duration;

/// How often the same error is logged.
const AGAIN: Duration = Duration::from_secs(60);
/// Most different errors in that time: an error's text may come from a Marathon that has a new one each time.
const MOST: usize = 16;

/// Errors of the last minute, and when each was logged.
#[derive(Debug, Default)]
pub(crate) struct Complaints {
    logged: BTreeMap<String, Duration>,
    since_recovery: bool,
}

impl Complaints {
    /// Whether to log this error now.
    pub(crate) fn is_due(&mut self, now: Duration, error: &str) -> bool {
        self.logged.retain(|_, at| now < *at + AGAIN);
        let due = !self.logged.contains_key(error) && self.logged.len() < MOST;
        if due {
            self.logged.insert(error.to_owned(), now);
            self.since_recovery = true;
        }
        due
    }

    /// All is well: whether that is news.
    pub(crate) fn recovered(&mut self) -> bool {
        std::mem::take(&mut self.since_recovery)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_error_that_lasts_is_logged_when_it_changes_and_once_a_minute() {
        let mut complaints = Complaints::default();
        let errors = |second: u64| if second < 100 { "refused" } else { "status 503" };
        let logged = (0..200).filter(|n| complaints.is_due(Duration::from_secs(*n), errors(*n))).collect::<Vec<_>>();
        assert_eq!(logged, [0, 60, 100, 160]);
        assert_eq!((complaints.recovered(), complaints.recovered()), (true, false));
    }

    #[test]
    fn errors_that_never_repeat_are_a_few_a_minute() {
        let mut complaints = Complaints::default();
        let logged = (0..6000).filter(|n| complaints.is_due(Duration::from_millis(n * 10), &n.to_string()));
        assert_eq!(logged.count(), MOST);
        assert!(complaints.logged.len() <= MOST);
    }
}
