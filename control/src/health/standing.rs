//! What one backend's probes amount to: consecutive counters, so that one lost packet says nothing, and neither does one
//! lucky answer. Counters that only grow are a mistake that others made (facts/balancing.md section 2, row 7).

use std::fmt;

use sluice_config::model::Pace;

/// How one probe ended.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Outcome {
    /// The backend answered as it should.
    Answered,
    /// It did not.
    Failed(Failure),
    /// The probe never left this node (no socket, no route of ours): that says nothing about the backend.
    Unsent,
}

/// Why a probe failed.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Failure {
    /// A reset, or ICMP port unreachable.
    Refused,
    /// Nothing in time.
    TimedOut,
    /// ICMP unreachable of another kind, or no neighbour.
    Unreachable,
    /// The connection ended before the answer.
    Closed,
    /// Another HTTP status than those that are well.
    Status(u16),
    /// An answer that is not HTTP.
    NotHttp,
}

impl fmt::Display for Failure {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Refused => f.write_str("refused"),
            Self::TimedOut => f.write_str("no answer in time"),
            Self::Unreachable => f.write_str("unreachable"),
            Self::Closed => f.write_str("closed before the answer"),
            Self::Status(status) => write!(f, "HTTP status {status}"),
            Self::NotHttp => f.write_str("the answer is not HTTP"),
        }
    }
}

/// What the probes of one backend say.
#[derive(Clone, Copy, PartialEq, Eq, Debug, Default)]
pub enum Standing {
    /// Too little was heard: it may be used.
    #[default]
    Unknown,
    /// Fit.
    Fit,
    /// Unfit, and what the probe met that decided it.
    Unfit(Failure),
}

/// A standing while it changes.
#[derive(Clone, Copy, PartialEq, Eq, Debug, Default)]
pub struct Count {
    /// What counts now.
    pub standing: Standing,
    /// Results in a row that speak against it.
    against: u8,
}

impl Count {
    /// Takes one result; whether the standing changed.
    pub fn take(&mut self, outcome: Outcome, pace: &Pace) -> bool {
        let before = self.standing;
        match (self.standing, outcome) {
            (_, Outcome::Unsent) => {}
            (Standing::Unknown, Outcome::Answered) => self.become_now(Standing::Fit),
            (Standing::Fit, Outcome::Answered) | (Standing::Unfit(_), Outcome::Failed(_)) => self.against = 0,
            (Standing::Unknown | Standing::Fit, Outcome::Failed(failure)) => {
                self.object(pace.fall, Standing::Unfit(failure));
            }
            (Standing::Unfit(_), Outcome::Answered) => self.object(pace.rise, Standing::Fit),
        }
        self.standing != before
    }

    fn object(&mut self, enough: u8, then: Standing) {
        self.against = self.against.saturating_add(1);
        if self.against >= enough {
            self.become_now(then);
        }
    }

    fn become_now(&mut self, standing: Standing) {
        *self = Self { standing, against: 0 };
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    const PACE: Pace = Pace { interval_seconds: 5, timeout_seconds: 2, rise: 2, fall: 3 };

    fn after(outcomes: &str) -> Standing {
        let mut count = Count::default();
        for letter in outcomes.chars() {
            let outcome = match letter {
                '+' => Outcome::Answered,
                '-' => Outcome::Failed(Failure::Refused),
                _ => Outcome::Unsent,
            };
            count.take(outcome, &PACE);
        }
        count.standing
    }

    #[test]
    fn three_failures_in_a_row_make_unfit_and_two_answers_in_a_row_make_fit_again() {
        let unfit = Standing::Unfit(Failure::Refused);
        for (outcomes, expected) in [
            ("", Standing::Unknown),
            ("+", Standing::Fit),
            ("--", Standing::Unknown),
            ("---", unfit),
            ("+--+--", Standing::Fit),
            ("+---", unfit),
            ("---+", unfit),
            ("---+-+-+", unfit),
            ("---++", Standing::Fit),
            ("???", Standing::Unknown),
            ("+-?-?-", unfit),
        ] {
            assert_eq!(after(outcomes), expected, "{outcomes:?}");
        }
    }

    /// Slow and obvious: looks at the whole history for the last run that was long enough.
    fn model(history: &[bool], pace: &Pace) -> Standing {
        let mut standing = Standing::Unknown;
        for end in 1..=history.len() {
            let run = |what: bool| history[..end].iter().rev().take_while(|h| **h == what).count();
            standing = match standing {
                Standing::Unknown if run(true) >= 1 => Standing::Fit,
                Standing::Unknown | Standing::Fit if run(false) >= usize::from(pace.fall) => {
                    Standing::Unfit(Failure::TimedOut)
                }
                Standing::Unfit(_) if run(true) >= usize::from(pace.rise) => Standing::Fit,
                same @ (Standing::Unknown | Standing::Fit | Standing::Unfit(_)) => same,
            };
        }
        standing
    }

    proptest! {
        #[test]
        fn counters_agree_with_the_whole_history(
            history in prop::collection::vec(any::<bool>(), 0..60), rise in 1u8..5, fall in 1u8..5,
        ) {
            let pace = Pace { rise, fall, ..PACE };
            let mut count = Count::default();
            for good in &history {
                let before = count.standing;
                let outcome = if *good { Outcome::Answered } else { Outcome::Failed(Failure::TimedOut) };
                prop_assert_eq!(count.take(outcome, &pace), count.standing != before);
            }
            prop_assert_eq!(count.standing, model(&history, &pace));
        }
    }
}
