//! `SLUICE_HEALTH`: how a service that labels make is probed.

use sluice_config::model::{HealthCheck, Probe};

use super::Report;
use super::draft::Draft;
use crate::rejected::Rejected;
use crate::view::{Task, TaskPort};

/// The label.
pub(super) const KEY: &str = "SLUICE_HEALTH";

/// The label of the port, else of the app; what cannot be read, or asked of the port, is reported and not there.
pub(super) fn label(task: &Task, port: &TaskPort, report: &mut Report) -> Option<Probe> {
    let text = port.labels.get(KEY).or_else(|| task.labels.get(KEY))?;
    let read = Probe::read(text).map_err(|reason| format!("{reason}; [health] is used")).and_then(|probe| {
        let unfit = || format!("{} cannot be asked of a {} port; [health] is used", probe.kind(), port.protocol);
        if probe.fits(port.protocol) { Ok(probe) } else { Err(unfit()) }
    });
    read.map_err(|reason| report.reject(Rejected::new(&task.id, KEY, text, reason))).ok()
}

/// The first word counts: the configuration's, then the first app's in byte order.
pub(super) fn join(draft: &mut Draft, default: &HealthCheck, probe: &Probe) -> Result<(), String> {
    let asked = HealthCheck { probe: probe.clone(), ..default.clone() };
    match draft.service.health.get_or_insert(asked) {
        there if there.probe == *probe => Ok(()),
        there => Err(format!("its VIP is probed by {} already: one VIP is probed in one way", there.probe)),
    }
}
