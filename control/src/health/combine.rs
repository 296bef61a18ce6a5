//! The judgements of one service's backends, joined: who takes new flows, and who said what.

use std::borrow::Cow;
use std::collections::{BTreeMap, BTreeSet};
use std::net::SocketAddr;

use sluice_config::model::{Backend, Config, FailOpen, Health as HealthSection, Passive, Probe, Service};
use sluice_dataplane::tables::ids::BackendKey;
use sluice_dataplane::time::Nanos;

use super::Judgements;
use super::drains::Drained;
use super::standing::Standing;
use super::target::{Carried, Target};
use super::upgrade;
use crate::view::{Health, Rollout};

/// Who judges.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Debug)]
pub enum Judge {
    /// Marathon: its health checks, the task's state, and deployments.
    Marathon,
    /// Mesos, of tasks that no Marathon tells of: what its checks say, and the task's state.
    Mesos,
    /// Our own probes.
    Probe,
    /// The packet path.
    Passive,
    /// An operator.
    Drain,
    /// The rule for the case that all are judged unfit.
    FailOpen,
}

impl Judge {
    /// Its name in `show backends`.
    #[must_use]
    pub fn name(self) -> &'static str {
        match self {
            Self::Marathon => "marathon",
            Self::Mesos => "mesos",
            Self::Probe => "probe",
            Self::Passive => "passive",
            Self::Drain => "drain",
            Self::FailOpen => "fail-open",
        }
    }
}

/// What a judge says.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Verdict {
    /// It may be used.
    Fit,
    /// It may not.
    Unfit,
    /// Too little was heard to say.
    Unknown,
    /// It would say unfit, and a bound forbids it.
    Overruled,
}

impl Verdict {
    /// Its name in `show backends`.
    #[must_use]
    pub fn name(self) -> &'static str {
        match self {
            Self::Fit => "fit",
            Self::Unfit => "unfit",
            Self::Unknown => "unknown",
            Self::Overruled => "overruled",
        }
    }
}

/// One judge's word about one backend.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct Opinion {
    /// Who says it.
    pub judge: Judge,
    /// What.
    pub verdict: Verdict,
    /// Why, for people.
    pub reason: Cow<'static, str>,
    /// Since when, seconds since the epoch; [`super::chronicle`] fills it in.
    pub since: u64,
}

/// What becomes of a backend.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Debug, Default)]
pub enum State {
    /// It takes new flows.
    #[default]
    Active,
    /// It takes new flows because all are judged unfit.
    FailOpen,
    /// Somebody judges it unfit: it keeps the flows that it has.
    Unfit,
    /// It is to take no new flows (a drain, a task that is being killed or replaced, weight 0), and keeps the flows that it has.
    Draining,
    /// Its drain is over: it is in no table.
    Removed,
}

impl State {
    /// Every state.
    pub const ALL: [Self; 5] = [Self::Active, Self::FailOpen, Self::Unfit, Self::Draining, Self::Removed];

    /// Its name in `show backends`.
    #[must_use]
    pub fn name(self) -> &'static str {
        match self {
            Self::Active => "active",
            Self::FailOpen => "fail-open",
            Self::Unfit => "unfit",
            Self::Draining => "draining",
            Self::Removed => "removed",
        }
    }

    /// Whether it takes new flows.
    #[must_use]
    pub fn takes_new_flows(self) -> bool {
        matches!(self, Self::Active | Self::FailOpen)
    }
}

/// All that is said of one backend of one service.
#[derive(Clone, PartialEq, Eq, Debug, Default)]
pub struct Judged {
    /// What becomes of it.
    pub state: State,
    /// Since when, seconds since the epoch; [`super::chronicle`] fills it in.
    pub since: u64,
    /// By judge.
    pub opinions: Vec<Opinion>,
}

/// An app or pod: of which Marathon (its index in the configuration), and its id.
pub type AppId = (usize, String);

/// What the sources say of a backend.
#[derive(Clone, Copy, Debug)]
pub struct Heard<'a> {
    /// The backend, with the weight that it has when it takes new flows.
    pub backend: &'a Backend,
    /// Whether its task runs and is not being killed.
    pub running: bool,
    /// What its health checks say.
    pub health: Health,
    /// Where its task stands in a deployment.
    pub rollout: Rollout,
    /// Its app, while a deployment of that runs.
    pub app: Option<&'a AppId>,
    /// Who says so: [`Judge::Marathon`] or [`Judge::Mesos`].
    pub source: Judge,
}

/// What of the configuration bounds judgements.
#[derive(Clone, Copy, Debug)]
pub struct Bounds {
    /// Of ejection.
    pub passive: Passive,
    /// `health.upgrade_percent`.
    pub upgrade_percent: u8,
    /// Whose backends are probed as the VIP.
    pub carried: Carried,
}

impl Bounds {
    /// Those of a configuration.
    #[must_use]
    pub fn of(config: &Config) -> Self {
        let HealthSection { passive, upgrade_percent, .. } = config.health;
        Self { passive, upgrade_percent, carried: Carried::of(config) }
    }
}

/// Judges the backends of `service` (whose own `backends` are not looked at), in their order.
#[must_use]
pub fn combine(service: &Service, heard: &[Heard<'_>], judgements: &Judgements, bounds: Bounds) -> Vec<Judged> {
    let passive = bounds.passive;
    let drained: Vec<Option<&Drained>> = heard.iter().map(|h| drain_of(h.backend, &judgements.drained)).collect();
    let out = ejected(service, heard, judgements, passive);
    let opinions = |(h, drain): (&Heard<'_>, &Option<&Drained>)| {
        let mut opinions = Vec::new();
        opinions.extend(source(h));
        opinions.extend(probe(service, h.backend, judgements, bounds.carried));
        opinions.extend(out.get(&h.backend.address).map(|honoured| ejection(*honoured, passive)));
        opinions.extend(drain.map(draining));
        opinions
    };
    let mut judged: Vec<Judged> = heard
        .iter()
        .zip(&drained)
        .map(|both| {
            let opinions = opinions(both);
            Judged { state: state(both.0, *both.1, &opinions), since: 0, opinions }
        })
        .collect();
    upgrade::retire(heard, &mut judged, bounds.upgrade_percent);
    open(service, heard, &mut judged);
    judged
}

fn drain_of<'a>(backend: &Backend, drained: &'a [Drained]) -> Option<&'a Drained> {
    // Of two that concern it the one that is over counts.
    drained.iter().filter(|d| d.what.concerns(backend)).max_by_key(|d| d.over)
}

fn state(heard: &Heard<'_>, drain: Option<&Drained>, opinions: &[Opinion]) -> State {
    match drain {
        Some(drain) if drain.over => State::Removed,
        Some(_) => State::Draining,
        None if !heard.running || heard.backend.weight == 0 => State::Draining,
        // A check that is defined and has not spoken yet: the task may not have begun to serve.
        None if !heard.health.takes_new_flows() || heard.rollout == Rollout::Unready => State::Unfit,
        None if opinions.iter().any(|o| o.verdict == Verdict::Unfit) => State::Unfit,
        None => State::Active,
    }
}

/// Where everyone who could take new flows is judged unfit all of them do: checks that all fail at once say more about the
/// checks than about the tasks (facts/balancing.md). An operator's drain is no such judgement.
fn open(service: &Service, heard: &[Heard<'_>], judged: &mut [Judged]) {
    let fail_open = service.health.as_ref().map_or(FailOpen::All, |check| check.fail_open);
    let unfit = judged.iter().filter(|j| j.state == State::Unfit).count();
    let active = judged.iter().filter(|j| j.state == State::Active).count();
    if fail_open == FailOpen::Never || active > 0 || unfit == 0 {
        return;
    }
    for (judged, _) in judged.iter_mut().zip(heard).filter(|(judged, _)| judged.state == State::Unfit) {
        judged.state = State::FailOpen;
        let reason = Cow::Borrowed("every backend that could be used is judged unfit, so all of them are used");
        judged.opinions.push(Opinion { judge: Judge::FailOpen, verdict: Verdict::Fit, reason, since: 0 });
    }
}

fn source(heard: &Heard<'_>) -> Option<Opinion> {
    let (verdict, reason) = match (heard.running, heard.health) {
        (false, _) => (Verdict::Unfit, "the task is being killed"),
        (true, Health::Unknown) => (Verdict::Unknown, "a check is defined and has not spoken yet"),
        (true, Health::Unhealthy) => (Verdict::Unfit, "a health check fails"),
        (true, Health::Unchecked | Health::Healthy) if heard.rollout == Rollout::Unready => {
            (Verdict::Unknown, "a readiness check has not passed yet")
        }
        (true, Health::Unchecked) => return None,
        (true, Health::Healthy) => (Verdict::Fit, "healthy"),
    };
    Some(Opinion { judge: heard.source, verdict, reason: reason.into(), since: 0 })
}

fn probe(service: &Service, backend: &Backend, judgements: &Judgements, carried: Carried) -> Option<Opinion> {
    let target = Target::of(service, backend, carried)?;
    let standing = judgements.probes.get(&target).copied().unwrap_or_default();
    let way = match (target.through, service.mode.is_dsr()) {
        (Some((_, mode)), _) => format!(" as the VIP, in {}", mode.name()),
        (None, true) => format!(
            " at its own address (to go in {} it needs [host] and a [snat] `underlay` of the VIP's family): whether it \
             owns the VIP is unknown",
            service.mode.name()
        ),
        (None, false) => String::new(),
    };
    let asked = &target.probe;
    let (verdict, reason) = match standing {
        Standing::Unknown => (Verdict::Unknown, format!("{}{way}: no result yet", kind(asked))),
        Standing::Fit => (Verdict::Fit, format!("{}{way}: answers", kind(asked))),
        Standing::Unfit(failure) => (Verdict::Unfit, format!("{}{way}: {failure}", kind(asked))),
    };
    Some(Opinion { judge: Judge::Probe, verdict, reason: reason.into(), since: 0 })
}

fn kind(probe: &Probe) -> String {
    crate::rejected::shown(&probe.to_string())
}

/// Who is ejected, and whether that is honoured: the longest ejected first, as many as the bound allows.
fn ejected(
    service: &Service,
    heard: &[Heard<'_>],
    judgements: &Judgements,
    passive: Passive,
) -> BTreeMap<SocketAddr, bool> {
    if judgements.ejected.is_empty() {
        return BTreeMap::new();
    }
    let since = |address| judgements.ejected.get(&BackendKey { address, protocol: service.key.protocol });
    let out = heard.iter().filter_map(|h| Some((*since(h.backend.address)?, h.backend.address)));
    let out: BTreeSet<(Nanos, SocketAddr)> = out.collect();
    let most = passive.most(heard.len());
    out.into_iter().enumerate().map(|(n, (_, address))| (address, n < most)).collect()
}

fn ejection(honoured: bool, passive: Passive) -> Opinion {
    let (verdict, reason) = match honoured {
        true => (Verdict::Unfit, format!("{} handshakes in a row failed", passive.failures)),
        false => (Verdict::Overruled, format!("failed too, but health.eject_percent = {} is reached", passive.percent)),
    };
    Opinion { judge: Judge::Passive, verdict, reason: reason.into(), since: 0 }
}

fn draining(drain: &Drained) -> Opinion {
    let reason = match drain.over {
        true => "the time-out of its drain has passed".to_owned(),
        false => format!("drained as {}", drain.what),
    };
    Opinion { judge: Judge::Drain, verdict: Verdict::Unfit, reason: reason.into(), since: 0 }
}

#[cfg(test)]
pub(super) mod tests;
