//! The thin shell around [`Rounds`]: it makes the probes and tells the standings. No decision is made here.

use std::collections::BTreeMap;
use std::net::SocketAddr;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering::Relaxed};
use std::time::Duration;

use sluice_dataplane::idle::clock;
use sluice_dataplane::time::Nanos;
use tokio::sync::watch;
use tokio::task::JoinSet;

use super::probe::probe;
use super::rounds::{Errand, Rounds};
use super::standing::{Failure, Outcome, Standing};
use super::target::Target;

/// How long it waits where only a target or a result can bring work.
const LONG: Duration = Duration::from_secs(3600);

/// Names of how probes ended, as in `sluice_probes_total{result}`.
pub const RESULTS: [&str; 8] =
    ["answered", "refused", "timed_out", "unreachable", "closed", "wrong_status", "not_http", "unsent"];

/// How probes ended since the start.
#[derive(Debug, Default)]
pub struct Totals([AtomicU64; RESULTS.len()]);

impl Totals {
    fn count(&self, outcome: Outcome) {
        let place = match outcome {
            Outcome::Answered => 0,
            Outcome::Failed(Failure::Refused) => 1,
            Outcome::Failed(Failure::TimedOut) => 2,
            Outcome::Failed(Failure::Unreachable) => 3,
            Outcome::Failed(Failure::Closed) => 4,
            Outcome::Failed(Failure::Status(_)) => 5,
            Outcome::Failed(Failure::NotHttp) => 6,
            Outcome::Unsent => 7,
        };
        if let Some(total) = self.0.get(place) {
            total.fetch_add(1, Relaxed);
        }
    }

    /// Each result with its number of probes.
    pub fn read(&self) -> impl Iterator<Item = (&'static str, u64)> {
        RESULTS.iter().zip(&self.0).map(|(name, total)| (*name, total.load(Relaxed)))
    }
}

/// The ends of a prober that runs; it stops when `targets` is dropped.
#[derive(Debug)]
pub struct Prober {
    /// What is to be probed, with where each probe is sent.
    pub targets: watch::Sender<BTreeMap<Target, SocketAddr>>,
    /// What the probes say.
    pub standings: watch::Receiver<Arc<BTreeMap<Target, Standing>>>,
    /// How they ended.
    pub totals: Arc<Totals>,
}

/// Starts a prober without targets, in a task of its own.
#[must_use]
pub fn begin(seed: u64, parallel: usize) -> Prober {
    let (targets, wanted) = watch::channel(BTreeMap::new());
    let (tell, standings) = watch::channel(Arc::default());
    let totals = Arc::<Totals>::default();
    tokio::spawn(run(Rounds::new(seed, parallel), wanted, tell, Arc::clone(&totals)));
    Prober { targets, standings, totals }
}

async fn run(
    mut rounds: Rounds,
    mut wanted: watch::Receiver<BTreeMap<Target, SocketAddr>>,
    tell: watch::Sender<Arc<BTreeMap<Target, Standing>>>,
    totals: Arc<Totals>,
) {
    let mut away: JoinSet<(u64, Outcome)> = JoinSet::new();
    loop {
        for errand in rounds.due(clock()) {
            away.spawn(carry_out(errand));
        }
        let pause = rounds.wake().map_or(LONG, |wake| until(wake, clock()));
        let mut changed = false;
        tokio::select! {
            new = wanted.changed() => match new {
                Ok(()) => changed = rounds.attend(&wanted.borrow_and_update(), clock()),
                Err(_) => return,
            },
            Some(ended) = away.join_next() => {
                // A probe that panicked has no number; none does, and its place would be the price.
                if let Ok((number, outcome)) = ended {
                    totals.count(outcome);
                    changed = rounds.take(number, outcome, clock());
                }
            }
            () = tokio::time::sleep(pause) => {}
        }
        if changed {
            tell.send_replace(Arc::new(rounds.standings()));
        }
    }
}

async fn carry_out(errand: Errand) -> (u64, Outcome) {
    let patience = Duration::from_secs(u64::from(errand.target.pace.timeout_seconds));
    (errand.number, probe(&errand.target.probe, errand.to, errand.target.asked(), patience).await)
}

fn until(then: Nanos, now: Nanos) -> Duration {
    Duration::from_nanos(then.0.saturating_sub(now.0))
}

#[cfg(test)]
mod tests {
    use super::*;
    use sluice_config::model::{Pace, Probe};
    use tokio::net::TcpListener;

    async fn standing(prober: &mut Prober, target: &Target, wanted: Standing) {
        let found = prober.standings.wait_for(|all| all.get(target) == Some(&wanted));
        assert!(tokio::time::timeout(Duration::from_secs(20), found).await.is_ok(), "never {wanted:?}");
    }

    #[tokio::test]
    async fn a_listener_that_goes_and_comes_back_is_unfit_meanwhile() {
        let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let address = listener.local_addr().unwrap();
        let pace = Pace { interval_seconds: 1, timeout_seconds: 1, rise: 1, fall: 2 };
        let target = Target { address, probe: Probe::Tcp, pace, through: None };
        let mut prober = begin(3, 4);
        prober.targets.send_replace([(target.clone(), address)].into());
        standing(&mut prober, &target, Standing::Fit).await;
        drop(listener);
        standing(&mut prober, &target, Standing::Unfit(Failure::Refused)).await;
        let _listener = TcpListener::bind(address).await.unwrap();
        standing(&mut prober, &target, Standing::Fit).await;
        let totals: BTreeMap<&str, u64> = prober.totals.read().collect();
        assert!(totals["answered"] >= 2 && totals["refused"] >= 2, "{totals:?}");
        prober.targets.send_replace(BTreeMap::new());
        let none = prober.standings.wait_for(|all| all.is_empty());
        assert!(tokio::time::timeout(Duration::from_secs(2), none).await.is_ok());
    }
}
