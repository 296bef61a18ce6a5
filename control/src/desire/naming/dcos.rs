//! `<task>.<framework>.{autoip,containerip,agentip}.dcos.thisdcos.directory` (facts/dcos.md B.6), and the names of
//! overlay addresses. Health is not asked here: these names say where a task is.

use std::net::IpAddr;

use sluice_config::model::RecordData;

use super::super::Cluster;
use super::{Given, Plan, Standing, address};
use crate::names::{self, LabelRule};
use crate::view::{PortAt, Task};

pub(super) fn of_task(cluster: &Cluster<'_>, plan: &Plan, task: &Task, framework: &str, given: &mut Given) {
    let (name, framework) = (names::label(&task.name, LabelRule::Rfc1123), names::label(framework, LabelRule::Rfc1123));
    if name.is_empty() || framework.is_empty() {
        return;
    }
    let apex = plan.zones.get(usize::from(plan.dcos)).map_or("", |zone| zone.apex.as_str());
    let agent: Vec<IpAddr> = cluster.view.agent_address(&task.host).into_iter().collect();
    let mapped = task.ports.iter().any(|p| matches!(p.at, PortAt::Agent(_)));
    let auto = if mapped || task.ips.is_empty() { &agent } else { &task.ips };
    for (kind, ips) in [("agentip", &agent), ("containerip", &task.ips), ("autoip", auto)] {
        for ip in ips {
            given.put(plan.dcos, format!("{name}.{framework}.{kind}.dcos.{apex}"), address(*ip), Standing::Well);
        }
    }
    let container = format!("{name}.{framework}.containerip.dcos.{apex}");
    for ip in &task.ips {
        if let (Some((zone, reverse)), true) = (plan.reverse.overlay(*ip), names::is_servable(&container)) {
            given.put(zone, reverse, RecordData::Ptr(container.clone()), Standing::Well);
        }
    }
}
