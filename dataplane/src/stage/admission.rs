//! Admission: bounds of a service. Sources are looked at for every packet, before any state is made ([`source`], called by
//! isolate); rates and numbers where a session is about to begin ([`newcomer`], called by balance).

use crate::counters::Counters;
use crate::family::{Family, Flows};
use crate::tables::Tables;
use crate::tables::admission::Bounded;
use crate::time::Nanos;
use crate::verdict::DropReason;

/// Whether a source may use the service with this number.
///
/// # Errors
/// The reason to drop.
pub fn source<A: Bounded>(tables: &Tables, source: A, number: u16) -> Result<(), DropReason> {
    let admitted = tables.admission.of(number).is_none_or(|bounds| bounds.admits(source));
    if admitted { Ok(()) } else { Err(DropReason::AdmissionSource) }
}

/// Whether another session of the service with this number may begin on this worker.
///
/// # Errors
/// The reason to drop.
#[inline]
pub fn newcomer<A: Family>(
    tables: &Tables,
    flows: &Flows,
    counters: &Counters,
    number: u16,
    now: Nanos,
) -> Result<(), DropReason> {
    let Some(bounds) = tables.admission.of(number) else { return Ok(()) };
    if bounds.sessions.is_some_and(|most| is_full::<A>(tables, flows, counters, number, most, now)) {
        return Err(DropReason::AdmissionSessions);
    }
    if bounds.rate.is_some_and(|rate| !flows.newcomers.admit(number, rate, now)) {
        return Err(DropReason::AdmissionRate);
    }
    Ok(())
}

/// Whether the service has `most` sessions. Expired ones count until a sweep meets them, which on an idle worker may take
/// minutes: each newcomer that they keep out sweeps as much as a turn does.
fn is_full<A: Family>(tables: &Tables, flows: &Flows, counters: &Counters, number: u16, most: u32, now: Nanos) -> bool {
    let sessions = A::sessions(flows);
    if sessions.of_service(number) < most {
        return false;
    }
    let alive = |service, backend| tables.is_served(service, backend);
    let ended = sessions.sweep(sessions.sweep_step(), now.tick(), tables.local.life, alive);
    counters.sessions_expired.add(u64::from(ended));
    sessions.of_service(number) >= most
}
