//! Judgements of backends as `show backends` and `show drains` have them. These types are a schema, as those of
//! [`super::show`].

use std::net::SocketAddr;

use serde::Serialize;
use sluice_config::model::{Backend, VipKey};

use super::observed::Published;
use crate::desire::Report;
use crate::health::combine::State;

/// What one judge says of a backend.
#[derive(Clone, PartialEq, Debug, Serialize)]
pub struct Judgement {
    /// `marathon`, `probe`, `passive`, `drain` or `fail-open`.
    pub judge: &'static str,
    /// `fit`, `unfit`, `unknown` or `overruled`.
    pub verdict: &'static str,
    /// Why.
    pub reason: String,
    /// Since when, seconds since the epoch.
    pub since: u64,
}

/// What becomes of a backend, and who says what.
#[derive(Clone, PartialEq, Debug, Serialize)]
pub struct Standing {
    /// `active`, `fail-open`, `unfit`, `draining` or `removed`.
    pub state: &'static str,
    /// Since when, seconds since the epoch; `null` for a backend that nobody ever judged.
    pub since: Option<u64>,
    /// By judge; empty where nobody judges.
    pub judges: Vec<Judgement>,
}

/// One drain.
#[derive(Clone, PartialEq, Debug, Serialize)]
pub struct Drain {
    /// `backend ADDRESS:PORT`, `task ID` or `agent ADDRESS`.
    pub what: String,
    /// `draining`, or `over` once its time-out has passed.
    pub state: &'static str,
    /// When it began, seconds since the epoch.
    pub since: u64,
    /// When old flows end, seconds since the epoch.
    pub until: u64,
    /// `VIP/PROTOCOL BACKEND` of everything that it concerns now.
    pub backends: Vec<String>,
}

/// Of one backend of one service.
#[must_use]
pub fn standing(report: &Report, vip: VipKey, backend: &Backend) -> Standing {
    let Some(judged) = report.judged.get(&(vip, backend.address)) else {
        return Standing { state: State::Active.name(), since: None, judges: Vec::new() };
    };
    let judgement = |opinion: &crate::health::combine::Opinion| Judgement {
        judge: opinion.judge.name(),
        verdict: opinion.verdict.name(),
        reason: opinion.reason.clone().into_owned(),
        since: opinion.since,
    };
    Standing {
        state: judged.state.name(),
        since: Some(judged.since),
        judges: judged.opinions.iter().map(judgement).collect(),
    }
}

/// All drains, sorted by what they drain.
#[must_use]
pub fn drains(published: Option<&Published>) -> Vec<Drain> {
    let Some(Published { report, .. }) = published else { return Vec::new() };
    let place = |(key, address): &(VipKey, SocketAddr)| format!("{key} {address}");
    let shown = |in_force: &crate::desire::DrainInForce| Drain {
        what: in_force.drain.what.to_string(),
        state: if in_force.over { "over" } else { "draining" },
        since: in_force.drain.since,
        until: in_force.drain.until,
        backends: in_force.backends.iter().map(place).collect(),
    };
    report.drains.iter().map(shown).collect()
}
