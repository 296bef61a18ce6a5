//! Where a task's port is reached, and with which weight (facts/dcos.md B.4).

use std::net::{IpAddr, Ipv4Addr, SocketAddr};

use sluice_config::model::Backend;

use super::{Cluster, Report};
use crate::rejected::Rejected;
use crate::view::{Health, PortAt, Task, TaskPort, TaskState};

/// Largest `SLUICE_WEIGHT`.
const WEIGHT_MAX: u16 = 1000;

/// A backend whose weight is not settled yet: that needs the whole service.
#[derive(Clone, PartialEq, Eq, PartialOrd, Ord, Debug)]
pub(super) struct Candidate {
    /// Whether it may take new flows at all.
    pub(super) running: bool,
    /// What its health checks say.
    pub(super) health: Health,
    /// With the weight that it has when it takes new flows.
    pub(super) backend: Backend,
}

/// The backends of one port of one task, or why there is none.
pub(super) fn candidates(
    cluster: &Cluster<'_>,
    task: &Task,
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
    let weight = weight(task, port, report);
    let in_container = matches!(port.at, PortAt::Container(_));
    let candidate = |ip: Ipv4Addr| {
        let network = cluster.network_of(IpAddr::V4(ip)).filter(|_| in_container).map(|n| n.name.clone());
        if let (true, None, Some(name)) =
            (in_container, &network, port.networks.first().or_else(|| task.networks.first()))
        {
            report.other_networks.insert(IpAddr::V4(ip), name.clone());
        }
        Candidate {
            running: task.state == TaskState::Running,
            health: task.health,
            backend: Backend {
                address: SocketAddr::new(IpAddr::V4(ip), number),
                network,
                weight,
                agent: agent.map(IpAddr::V4),
                task: Some(task.id.clone()),
                groups: task.groups.to_vec(),
            },
        }
    };
    Ok(ips.into_iter().map(candidate).collect())
}

/// The task's own IPv4 addresses; of several, those in the networks that the port names, where any is.
fn container_ips(cluster: &Cluster<'_>, task: &Task, port: &TaskPort) -> Result<Vec<Ipv4Addr>, String> {
    let mut ips: Vec<Ipv4Addr> = task.ips.iter().filter_map(|ip| v4(*ip)).collect();
    ips.sort_unstable();
    ips.dedup();
    let named = |ip: &Ipv4Addr| cluster.network_of(IpAddr::V4(*ip)).is_some_and(|n| port.networks.contains(&n.name));
    if ips.iter().any(named) {
        ips.retain(named);
    }
    match (ips.is_empty(), task.ips.is_empty()) {
        (false, _) => Ok(ips),
        (true, true) => Err("the task has no address of its own yet".to_owned()),
        (true, false) => Err("the task has IPv6 addresses only; IPv6 is not in this release yet".to_owned()),
    }
}

fn v4(ip: IpAddr) -> Option<Ipv4Addr> {
    match ip {
        IpAddr::V4(ip) => Some(ip),
        IpAddr::V6(_) => None,
    }
}

fn unresolved(task: &Task) -> String {
    let host = crate::rejected::shown(&task.host);
    format!("the agent's host {host:?} is no IPv4 address and no name that resolves to one")
}

/// `SLUICE_WEIGHT` of the port, else of the app, else 1.
fn weight(task: &Task, port: &TaskPort, report: &mut Report) -> u16 {
    const KEY: &str = "SLUICE_WEIGHT";
    let Some(text) = port.labels.get(KEY).or_else(|| task.labels.get(KEY)) else { return 1 };
    match text.trim().parse::<u16>() {
        Ok(weight) if weight <= WEIGHT_MAX => weight,
        Ok(_) | Err(_) => {
            report.reject(Rejected::new(&task.id, KEY, text, "a weight is a number from 0 to 1000; 1 is used"));
            1
        }
    }
}
