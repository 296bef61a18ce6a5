//! Rolling upgrades: tasks of the older version take no new flows once newer ones have taken their place.
//!
//! Marathon kills an old task for every new one that is ready, in an order of its own, and without `task_killing` says
//! nothing before the task is gone. So the old ones of an app drain as soon as the new ones are fit and enough; until then
//! all are used. A service is never emptied by this: whoever drains has a fit task of the same app beside it.

use std::collections::BTreeMap;

use super::combine::{AppId, Heard, Judge, Judged, Opinion, State, Verdict};
use crate::view::Rollout;

/// How many tasks of one app, in one service, could take new flows.
#[derive(Default)]
struct Fit {
    old: usize,
    new: usize,
}

/// Drains the old tasks of every app whose new ones are at least `percent` of those that could take new flows.
pub(super) fn retire(heard: &[Heard<'_>], judged: &mut [Judged], percent: u8) {
    let mut apps: BTreeMap<&AppId, Fit> = BTreeMap::new();
    for (heard, judged) in heard.iter().zip(judged.iter()).filter(|(_, judged)| judged.state == State::Active) {
        let Some(app) = heard.app else { continue };
        let fit = apps.entry(app).or_default();
        match heard.rollout {
            Rollout::Old => fit.old += 1,
            // What nobody has heard of yet replaces nobody.
            Rollout::New if judged.opinions.iter().all(|o| o.verdict == Verdict::Fit) => fit.new += 1,
            Rollout::New | Rollout::Unready | Rollout::None => {}
        }
    }
    let replaced = |fit: &Fit| fit.new > 0 && fit.new * 100 >= usize::from(percent) * (fit.new + fit.old);
    for (heard, judged) in heard.iter().zip(judged).filter(|(heard, _)| heard.rollout == Rollout::Old) {
        let goes = heard.app.and_then(|app| apps.get(app)).is_some_and(replaced);
        if goes && matches!(judged.state, State::Active | State::Unfit) {
            judged.state = State::Draining;
            judged.opinions.retain(|o| o.judge != Judge::Marathon);
            let reason = "it is of an older deployment, and tasks of the newer one serve";
            judged.opinions.insert(
                0,
                Opinion { judge: Judge::Marathon, verdict: Verdict::Unfit, reason: reason.into(), since: 0 },
            );
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::fixture::config;
    use crate::health::Judgements;
    use crate::health::combine::tests::{backend, service};
    use crate::health::combine::{Bounds, combine};
    use crate::health::drains::{Drained, What};
    use crate::view::Health;

    /// What becomes of tasks, a letter each: `o`ld, `n`ew, `u`nready; in capitals unhealthy; `k` a new one that is killed, `?`
    /// one whose check has not spoken. Behind a blank another app's.
    fn judge(tasks: &str, percent: u8, judgements: &Judgements) -> Vec<Judged> {
        let apps: Vec<(usize, String)> = (0..2).map(|n| (0, format!("/{n}"))).collect();
        let of: Vec<(usize, char)> =
            tasks.split(' ').enumerate().flat_map(|(app, of)| of.chars().map(move |c| (app, c))).collect();
        let backends: Vec<_> = (1..=of.len() as u8).map(backend).collect();
        let heard = backends.iter().zip(&of).map(|(backend, (app, letter))| Heard {
            backend,
            running: *letter != 'k',
            health: match letter {
                '?' => Health::Unknown,
                l if l.is_uppercase() => Health::Unhealthy,
                _ => Health::Healthy,
            },
            rollout: match letter.to_ascii_lowercase() {
                'o' => Rollout::Old,
                'u' => Rollout::Unready,
                _ => Rollout::New,
            },
            source: Judge::Marathon,
            app: Some(&apps[*app]),
        });
        let bounds = Bounds { upgrade_percent: percent, ..Bounds::of(&config()) };
        combine(&service(1, Vec::new()), &heard.collect::<Vec<_>>(), judgements, bounds)
    }

    fn states(tasks: &str, percent: u8) -> String {
        let judged = judge(tasks, percent, &Judgements::default());
        judged.iter().map(|j| j.state.name()).collect::<Vec<_>>().join(" ")
    }

    #[test]
    fn old_tasks_drain_once_a_new_one_is_fit_and_never_before() {
        for (tasks, becomes) in [
            ("oo", "active active"),
            ("on", "draining active"),
            ("oon", "draining draining active"),
            ("On", "draining active"),
            ("oN", "active unfit"),
            ("ou", "active unfit"),
            ("o?", "active unfit"),
            ("ok", "active draining"),
            ("ON", "fail-open fail-open"),
            ("OU", "fail-open fail-open"),
            ("O", "fail-open"),
        ] {
            assert_eq!(states(tasks, 0), becomes, "{tasks}");
        }
    }

    #[test]
    fn a_few_new_tasks_do_not_get_all_that_many_old_ones_had() {
        assert_eq!(states("ooon", 25), "draining draining draining active");
        assert_eq!(states("oooon", 25), "active active active active active");
        assert_eq!(states("oOOOn", 25), "draining draining draining draining active", "unfit ones carry nothing");
        assert_eq!(states("on", 100), "active active");
        assert_eq!(states("nn", 100), "active active");
    }

    #[test]
    fn another_apps_tasks_replace_nobody() {
        assert_eq!(states("o n", 0), "active active");
        assert_eq!(states("on o", 0), "draining active active");
    }

    #[test]
    fn an_operators_drain_of_the_new_task_keeps_the_old_one_in_use_and_who_drains_says_why() {
        let drained = |over| Judgements {
            drained: vec![Drained { what: What::Task { id: "web.2".into() }, over }],
            ..Judgements::default()
        };
        let named = |judgements: &Judgements| {
            judge("on", 0, judgements).iter().map(|j| j.state.name()).collect::<Vec<_>>().join(" ")
        };
        assert_eq!(named(&drained(false)), "active draining");
        assert_eq!(named(&drained(true)), "active removed");
        let judged = judge("on", 0, &Judgements::default());
        let [opinion] = judged[0].opinions.as_slice() else { panic!("{judged:?}") };
        assert_eq!((opinion.judge, opinion.verdict), (Judge::Marathon, Verdict::Unfit));
        assert!(opinion.reason.contains("older deployment"), "{}", opinion.reason);
        let unready = judge("ou", 0, &Judgements::default());
        assert_eq!(unready[1].opinions[0].reason, "a readiness check has not passed yet");
    }
}
