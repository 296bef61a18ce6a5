//! Where a task's port is reached, and with which weight (facts/dcos.md B.4).

use std::net::{IpAddr, SocketAddr};

use sluice_config::model::Backend;

use super::index::AppId;
use super::{Cluster, Report, own_labels};
use crate::health::combine::{Heard, Judge};
use crate::view::joined;
use crate::view::{Health, PortAt, Rollout, Task, TaskPort, TaskState};

/// A backend whose weight is not settled yet: that needs the whole service.
#[derive(Clone, PartialEq, Eq, PartialOrd, Ord, Debug)]
pub(super) struct Candidate {
    /// Whether it may take new flows at all.
    pub(super) running: bool,
    /// What its health checks say.
    pub(super) health: Health,
    /// Where its task stands in a deployment.
    pub(super) rollout: Rollout,
    /// Its app, while a deployment of that runs.
    pub(super) app: Option<AppId>,
    /// Who says so.
    pub(super) source: Judge,
    /// With the weight that it has when it takes new flows.
    pub(super) backend: Backend,
}

impl Candidate {
    /// One of the configuration: there is no task that anybody could judge.
    pub(super) fn fixed(backend: &Backend) -> Self {
        let backend = backend.clone();
        let source = Judge::Marathon;
        Self { running: true, health: Health::Unchecked, rollout: Rollout::None, app: None, source, backend }
    }

    /// What the sources say of it.
    pub(super) fn heard(&self) -> Heard<'_> {
        let Self { running, health, rollout, app, source, backend } = self;
        let (running, health, rollout, source) = (*running, *health, *rollout, *source);
        Heard { backend, running, health, rollout, app: app.as_ref(), source }
    }
}

/// The backends of one port of one task, or why there is none.
pub(super) fn candidates(
    cluster: &Cluster<'_>,
    (source, task): (usize, &Task),
    port: &TaskPort,
    report: &mut Report,
) -> Result<Vec<Candidate>, String> {
    let agent = cluster.view.agent_address(&task.host);
    let (ips, number) = match port.at {
        PortAt::Unallocated => return Err("the task has no number for this port yet".to_owned()),
        PortAt::Container(number) => (container_ips(cluster, task, port)?, number),
        PortAt::Host(number) => match container_ips(cluster, task, port) {
            Ok(ips) => (ips, number),
            Err(_) => (vec![agent.ok_or_else(|| unresolved(task))?], number),
        },
        PortAt::Agent(number) => (vec![agent.ok_or_else(|| unresolved(task))?], number),
    };
    let weight = own_labels::weight(task, port, report);
    let in_container = matches!(port.at, PortAt::Container(_));
    let candidate = |ip: IpAddr| {
        let network = cluster.network_of(ip).filter(|_| in_container).map(|n| n.name.clone());
        if let (true, None, Some(name)) =
            (in_container, &network, port.networks.first().or_else(|| task.networks.first()))
        {
            report.other_networks.insert(ip, name.clone());
        }
        Candidate {
            running: task.state == TaskState::Running,
            health: task.health,
            rollout: task.rollout,
            app: (task.rollout != Rollout::None).then(|| (source, task.app.clone())),
            source: if source < joined::MESOS { Judge::Marathon } else { Judge::Mesos },
            backend: Backend {
                address: SocketAddr::new(ip, number),
                network,
                weight,
                agent,
                task: Some(task.id.clone()),
                groups: task.groups.to_vec(),
            },
        }
    };
    Ok(ips.into_iter().map(candidate).collect())
}

/// The task's own addresses; of several, those in the networks that the port names, where any is.
fn container_ips(cluster: &Cluster<'_>, task: &Task, port: &TaskPort) -> Result<Vec<IpAddr>, String> {
    let mut ips = task.ips.clone();
    ips.sort_unstable();
    ips.dedup();
    let named = |ip: &IpAddr| cluster.network_of(*ip).is_some_and(|n| port.networks.contains(&n.name));
    if ips.iter().any(named) {
        ips.retain(named);
    }
    if ips.is_empty() { Err("the task has no address of its own yet".to_owned()) } else { Ok(ips) }
}

fn unresolved(task: &Task) -> String {
    let host = crate::rejected::shown(&task.host);
    format!("the agent's host {host:?} is no address and no name that resolves to one")
}
