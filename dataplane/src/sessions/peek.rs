//! Looking without touching: an ICMP error or a fragment that asks for a session does not keep it alive.

use super::Sessions;
use super::caller::Caller;
use super::entry::{Client, Flow};
use super::life::Lifetimes;
use crate::time::Tick;

impl<A: Caller> Sessions<A> {
    /// The flow of a client's session; `None` when there is none or it has expired.
    #[must_use]
    pub fn flow_of(&self, client: Client<A>, now: Tick, life: Lifetimes) -> Option<Flow> {
        let at = self.find_client(client, client.hash(self.key))?;
        (!self.expired(at, now, life)).then(|| self.chosen(at).flow())
    }

    /// Whose session a flow with a way back is; `ip` is the client's address in `nat-preserve` and means nothing
    /// otherwise. `None` when there is none, it has expired, or its port rests.
    #[must_use]
    pub fn client_of(&self, flow: Flow, ip: A, now: Tick, life: Lifetimes) -> Option<Client<A>> {
        let at = self.find_flow(flow, ip).filter(|at| !self.heard(*at).is_resting())?;
        let client = self.client_at(at);
        self.flow_of(client, now, life).filter(|found| *found == flow).map(|_| client)
    }
}
