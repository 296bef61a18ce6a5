//! Since when a judgement holds: as long as it is the same as in the report before. Pure, with the wall clock as an argument.

use super::combine::Opinion;
use crate::desire::Report;

/// Dates every judgement of `report`: what was in `before` keeps its date, the rest is of `now`, seconds since the epoch.
pub fn date(report: &mut Report, before: Option<&Report>, now: u64) {
    for (place, judged) in &mut report.judged {
        let was = before.and_then(|before| before.judged.get(place));
        judged.since = was.filter(|w| w.state == judged.state).map_or(now, |w| w.since);
        for opinion in &mut judged.opinions {
            let same = |o: &&Opinion| o.judge == opinion.judge && o.verdict == opinion.verdict;
            opinion.since = was.and_then(|w| w.opinions.iter().find(same)).map_or(now, |o| o.since);
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::health::combine::tests::{backend, service};
    use crate::health::combine::{Judge, Judged, State, Verdict};

    fn report(state: State, verdicts: &[(Judge, Verdict)]) -> Report {
        let opinion = |(judge, verdict): &(Judge, Verdict)| Opinion {
            judge: *judge,
            verdict: *verdict,
            reason: "".into(),
            since: 0,
        };
        let judged = Judged { state, since: 0, opinions: verdicts.iter().map(opinion).collect() };
        Report { judged: [((service(1, vec![]).key, backend(1).address), judged)].into(), ..Report::default() }
    }

    fn dates(report: &Report) -> Vec<u64> {
        let judged = report.judged.values().next().unwrap();
        std::iter::once(judged.since).chain(judged.opinions.iter().map(|o| o.since)).collect()
    }

    #[test]
    fn what_stays_the_same_keeps_its_date_each_judge_for_itself() {
        let fit = [(Judge::Marathon, Verdict::Fit), (Judge::Probe, Verdict::Fit)];
        let half = [(Judge::Marathon, Verdict::Fit), (Judge::Probe, Verdict::Unfit)];
        let mut first = report(State::Active, &fit);
        date(&mut first, None, 100);
        let mut second = report(State::Active, &fit);
        date(&mut second, Some(&first), 200);
        assert_eq!(dates(&second), [100, 100, 100]);
        let mut third = report(State::Unfit, &half);
        date(&mut third, Some(&second), 300);
        assert_eq!(dates(&third), [300, 100, 300]);
    }
}
