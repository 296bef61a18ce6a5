//! Rounds under a clock of the test's own.

use proptest::prelude::*;
use sluice_config::model::{Pace, Probe};

use super::super::standing::Failure;
use super::*;

const SECOND: u64 = 1_000_000_000;

fn target(n: u16) -> Target {
    let address = SocketAddr::from(([10, 0, (n >> 8) as u8, n as u8], 80));
    Target { address, probe: Probe::Tcp, pace: Pace::default(), through: None }
}

fn wanted(targets: impl IntoIterator<Item = u16>) -> BTreeMap<Target, SocketAddr> {
    targets.into_iter().map(|n| (target(n), target(n).address)).collect()
}

#[test]
fn a_new_target_is_probed_within_a_second_and_then_every_interval_with_a_tenth_of_jitter() {
    let mut rounds = Rounds::new(7, 10);
    rounds.attend(&wanted([1]), Nanos(0));
    let mut now = rounds.wake().unwrap();
    assert!(now.0 <= SECOND);
    for _ in 0..50 {
        let errands = rounds.due(now);
        assert_eq!(errands.len(), 1);
        assert!(rounds.due(now).is_empty(), "one at a time");
        assert!(rounds.wake().is_none());
        let answered = Nanos(now.0 + SECOND / 100);
        rounds.take(errands[0].number, Outcome::Answered, answered);
        let next = rounds.wake().unwrap();
        let pause = next.0 - now.0;
        assert!((45 * SECOND / 10..=55 * SECOND / 10).contains(&pause), "{pause}");
        now = next;
    }
}

#[test]
fn many_targets_are_not_probed_in_step() {
    let mut rounds = Rounds::new(1, 10_000);
    rounds.attend(&wanted(0..1000), Nanos(0));
    let tenths: Vec<usize> = (1..=10).map(|n| rounds.due(Nanos(n * SECOND / 10)).len()).collect();
    assert_eq!(tenths.iter().sum::<usize>(), 1000);
    assert!(tenths.iter().all(|n| (50..150).contains(n)), "{tenths:?}");
}

#[test]
fn no_more_than_parallel_are_away_and_who_waits_longest_goes_first() {
    let mut rounds = Rounds::new(1, 3);
    rounds.attend(&wanted(0..10), Nanos(0));
    let late = Nanos(20 * SECOND);
    let first = rounds.due(late);
    assert_eq!(first.len(), 3);
    assert!(rounds.due(late).is_empty() && rounds.wake().is_none());
    let mut seen: BTreeSet<u64> = first.iter().map(|e| e.number).collect();
    let mut away = first;
    for _ in 0..7 {
        rounds.take(away.remove(0).number, Outcome::Failed(Failure::TimedOut), late);
        let next = rounds.due(late);
        assert_eq!(next.len(), 1);
        assert!(seen.insert(next[0].number), "somebody was probed twice before another one once");
        away.extend(next);
    }
}

#[test]
fn a_target_that_goes_and_comes_back_begins_anew_and_its_old_probe_says_nothing() {
    let mut rounds = Rounds::new(1, 1);
    rounds.attend(&wanted([1]), Nanos(0));
    let old = rounds.due(Nanos(SECOND)).remove(0);
    assert!(rounds.attend(&wanted([]), Nanos(SECOND)));
    rounds.attend(&wanted([1]), Nanos(SECOND));
    assert!(rounds.due(Nanos(9 * SECOND)).is_empty(), "the old probe still takes its place");
    assert!(!rounds.take(old.number, Outcome::Answered, Nanos(9 * SECOND)));
    assert_eq!(rounds.standings()[&target(1)], Standing::Unknown);
    let new = rounds.due(Nanos(9 * SECOND)).remove(0);
    assert!(rounds.take(new.number, Outcome::Answered, Nanos(9 * SECOND)));
    assert!(!rounds.take(new.number, Outcome::Answered, Nanos(9 * SECOND)), "a result counts once");
}

#[test]
fn a_probe_that_takes_its_whole_interval_is_followed_by_a_pause_all_the_same() {
    let mut rounds = Rounds::new(1, 1);
    rounds.attend(&wanted([1]), Nanos(0));
    let errand = rounds.due(Nanos(SECOND)).remove(0);
    let end = Nanos(60 * SECOND);
    rounds.take(errand.number, Outcome::Failed(Failure::TimedOut), end);
    assert!(rounds.wake().unwrap().0 >= end.0 + SECOND / 2);
}

#[derive(Clone, Debug)]
enum Step {
    Attend(Vec<u16>),
    Wait(u64),
    Answer(prop::sample::Index, bool),
}

fn step() -> impl Strategy<Value = Step> {
    prop_oneof![
        prop::collection::vec(0u16..12, 0..12).prop_map(Step::Attend),
        (0u64..12 * SECOND).prop_map(Step::Wait),
        (any::<prop::sample::Index>(), any::<bool>()).prop_map(|(which, good)| Step::Answer(which, good)),
    ]
}

proptest! {
    /// The model: who is attended, who is away, and each target's history since it came.
    #[test]
    fn rounds_agree_with_a_slow_model(steps in prop::collection::vec(step(), 1..120), parallel in 1usize..5, seed: u64) {
        let mut rounds = Rounds::new(seed, parallel);
        let (mut now, mut attended, mut away) = (Nanos(0), BTreeMap::<Target, Count>::new(), Vec::<Errand>::new());
        let mut alive = BTreeMap::<u64, Target>::new();
        for step in steps {
            match step {
                Step::Attend(list) => {
                    let list = wanted(list);
                    rounds.attend(&list, now);
                    attended.retain(|t, _| list.contains_key(t));
                    alive.retain(|_, t| list.contains_key(t));
                    list.into_keys().for_each(|t| { attended.entry(t).or_default(); });
                }
                Step::Wait(time) => now = Nanos(now.0 + time),
                Step::Answer(which, good) => if !away.is_empty() {
                    let errand = away.remove(which.index(away.len()));
                    let outcome = if good { Outcome::Answered } else { Outcome::Failed(Failure::Refused) };
                    let changed = rounds.take(errand.number, outcome, now);
                    let count = alive.remove(&errand.number).and_then(|t| attended.get_mut(&t));
                    let expected = count.is_some_and(|count| count.take(outcome, &errand.target.pace));
                    prop_assert_eq!(changed, expected);
                }
            }
            for errand in rounds.due(now) {
                prop_assert!(attended.contains_key(&errand.target));
                prop_assert!(!alive.values().any(|t| *t == errand.target), "two probes of one target");
                alive.insert(errand.number, errand.target.clone());
                away.push(errand);
            }
            prop_assert!(away.len() <= parallel);
            prop_assert!(rounds.wake().is_none_or(|wake| wake > now), "something is due and was not begun");
            let expected: BTreeMap<Target, Standing> = attended.iter().map(|(t, c)| (t.clone(), c.standing)).collect();
            prop_assert_eq!(rounds.standings(), expected);
        }
    }
}
