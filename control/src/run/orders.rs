//! Orders of an operator, and what else than the sources changes judgements: the running program's side of
//! [`crate::health`].

use std::sync::Arc;

use serde::Serialize;
use sluice_dataplane::idle::clock;
use tokio::sync::oneshot;
use tokio::task::block_in_place;

use super::{Machine, unix_seconds, wanted};
use crate::desire::Report;
use crate::health::drains::{Drains, What};
use crate::health::orders::{Asked, Known, Refusal, drained, timeout};
use crate::health::target::Carried;

/// What an operator wants.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Verb {
    /// No new flows, and none at all after a time-out.
    Drain,
    /// As before.
    Undrain,
}

/// An order, and where its answer is waited for.
#[derive(Debug)]
pub struct Order {
    /// What to do.
    pub verb: Verb,
    /// To whom.
    pub asked: Asked,
    /// The answer; it comes once workers have the tables.
    pub answer: oneshot::Sender<Result<Done, Refusal>>,
}

/// What was done. Fields are added, never renamed or removed.
#[derive(Clone, PartialEq, Eq, Debug, Serialize)]
pub struct Done {
    /// What was understood: `backend ..`, `task ..` or `agent ..`.
    pub what: String,
    /// When old flows end, seconds since the epoch; `null` for `undrain`.
    pub until: Option<u64>,
    /// Backends that it concerns: `VIP/PROTOCOL BACKEND`.
    pub backends: Vec<String>,
    /// Whether it will be remembered after a restart; without a state folder it is not.
    pub kept: bool,
}

/// An order that was taken.
#[derive(Debug)]
pub(super) struct Waiting {
    what: What,
    done: Done,
    answer: oneshot::Sender<Result<Done, Refusal>>,
}

impl Machine {
    /// Takes an order; [`Machine::answer`] answers it once it is published. A refusal is answered at once.
    pub(super) fn obey(&mut self, order: Order) {
        let Order { verb, asked, answer } = order;
        match self.take_order(verb, &asked) {
            Ok((what, done)) => {
                tracing::info!(what = %done.what, until = done.until, "{}", if verb == Verb::Drain { "drains" } else { "drains no longer" });
                self.waiting.push(Waiting { what, done, answer });
            }
            // Whoever asked may have gone away.
            Err(refusal) => drop(answer.send(Err(refusal))),
        }
    }

    /// What is saved is what is in force: an order that cannot be saved is not carried out.
    fn take_order(&mut self, verb: Verb, asked: &Asked) -> Result<(What, Done), Refusal> {
        let mut drains = self.publication.drains.clone();
        let (what, until) = self.change(&mut drains, verb, asked)?;
        let kept = self.keep(&drains)?;
        let done = Done { what: what.to_string(), until, backends: self.concerned(&what), kept };
        self.publication.drains = drains;
        Ok((what, done))
    }

    fn change(&self, drains: &mut Drains, verb: Verb, asked: &Asked) -> Result<(What, Option<u64>), Refusal> {
        let desired = self.publication.tables().map(|tables| Arc::clone(&tables.desired));
        let services = desired.as_ref().map_or(&[][..], |desired| &desired.shared.services);
        let report = self.publication.report().map(Arc::clone).unwrap_or_default();
        let known = Known::of(services, report.removed.values(), &self.publication.view);
        if verb == Verb::Undrain {
            let what = drained(&drains.drains, &asked.what, &known)?;
            drains.remove(&what);
            return Ok((what, None));
        }
        let seconds = timeout(asked)?;
        let what = known.find(&asked.what)?;
        let drain = drains.add(what.clone(), unix_seconds(), seconds);
        let until = drain.map_err(|error| Refusal::Failed(error.to_string()))?.until;
        Ok((what, Some(until)))
    }

    fn keep(&self, drains: &Drains) -> Result<bool, Refusal> {
        let Some(file) = &self.drains_file else { return Ok(false) };
        block_in_place(|| file.save(drains)).map_err(|error| Refusal::Failed(format!("nothing was done: {error}")))?;
        Ok(true)
    }

    /// `VIP/PROTOCOL BACKEND` of each backend that `what` concerns.
    fn concerned(&self, what: &What) -> Vec<String> {
        let desired = self.publication.tables().map(|tables| Arc::clone(&tables.desired));
        let services = desired.as_ref().map_or(&[][..], |desired| &desired.shared.services);
        let served = services.iter().flat_map(|service| service.backends.iter().map(|backend| (service.key, backend)));
        let report: Arc<Report> = self.publication.report().map(Arc::clone).unwrap_or_default();
        let removed = report.removed.iter().map(|((key, _), backend)| (*key, backend));
        let concerned = served.chain(removed).filter(|(_, backend)| what.concerns(backend));
        let mut all: Vec<String> = concerned.map(|(key, backend)| format!("{key} {}", backend.address)).collect();
        all.sort();
        all
    }

    /// Answers the orders that are published now.
    pub(super) fn answer(&mut self) {
        for Waiting { what, mut done, answer } in std::mem::take(&mut self.waiting) {
            done.backends = self.concerned(&what);
            // Whoever asked may have gone away.
            drop(answer.send(Ok(done)));
        }
    }

    /// Tells the prober whom to probe.
    pub(super) fn attend(&self) {
        let Some(tables) = self.publication.tables() else { return };
        let now = wanted(&tables.desired, Carried::of(&self.config));
        self.prober.targets.send_if_modified(|before| {
            let changed = *before != now;
            if changed {
                *before = now;
            }
            changed
        });
    }

    /// Whether time alone changed a judgement: a drain's time-out has passed, or an ejection is over.
    pub(super) fn is_overdue(&mut self) -> bool {
        let over = self.ejections.settle(clock());
        if over || self.publication.view.health.ejected.len() != self.ejections.ejected().len() {
            self.publication.view.health.ejected = self.ejections.ejected().clone();
            return true;
        }
        self.publication.is_overdue(unix_seconds())
    }

    /// Saves drains that changed by themselves; `false` when that failed.
    pub(super) fn save_drains(&mut self) -> bool {
        let (Some(file), Some(drains)) = (&self.drains_file, self.publication.unsaved_drains()) else { return true };
        match block_in_place(|| file.save(drains)) {
            Ok(()) => self.publication.saved_drains(),
            Err(error) => tracing::warn!(%error, "drains were not saved; it is tried again"),
        }
        self.publication.unsaved_drains().is_none()
    }
}
