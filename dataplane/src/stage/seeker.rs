//! What stages work with that look for a session which another worker may have.

use crate::counters::Counters;
use crate::family::{Family, Flows};
use crate::sessions::{Client, Flow};
use crate::stage::isolate;
use crate::tables::policy::Denied;
use crate::tables::{BackendEntry, Tables};
use crate::time::Nanos;
use crate::verdict::DropReason;

/// This worker's part in the search.
pub struct Seeker<'a> {
    /// The snapshot.
    pub tables: &'a Tables,
    /// This worker's sessions.
    pub flows: &'a Flows,
    /// This worker's counters.
    pub counters: &'a Counters,
    /// This worker's number.
    pub worker: u8,
    /// How many workers there are.
    pub workers: u8,
    /// Time.
    pub now: Nanos,
}

impl<'a> Seeker<'a> {
    /// For one turn at `now`; `among` is this worker's number and how many there are.
    #[must_use]
    pub fn new(tables: &'a Tables, flows: &'a Flows, counters: &'a Counters, among: (u8, u8), now: Nanos) -> Self {
        let (worker, workers) = among;
        Self { tables, flows, counters, worker, workers, now }
    }

    /// The reason to drop what is forbidden, counted.
    pub(super) fn denied(&self, denied: Denied) -> DropReason {
        isolate::counted(denied, self.tables, self.counters)
    }

    /// The flow and backend of a client's session, if its backend is still the service's. Keeps nothing alive.
    pub(super) fn known<A: Family>(&self, client: Client<A>) -> Option<(Flow, &BackendEntry)> {
        let flow = A::sessions(self.flows).flow_of(client, self.now.tick(), self.tables.local.life)?;
        let stays = self.tables.is_served(client.service, flow.backend);
        self.tables.backend(flow.backend).filter(|_| stays).map(|backend| (flow, backend))
    }

    /// The client of a flow with a way back, if its backend is still its service's. Keeps nothing alive.
    pub(super) fn client_of<A: Family>(&self, flow: Flow, ip: A) -> Option<Client<A>> {
        let client = A::sessions(self.flows).client_of(flow, ip, self.now.tick(), self.tables.local.life)?;
        self.tables.is_served(client.service, flow.backend).then_some(client)
    }
}
