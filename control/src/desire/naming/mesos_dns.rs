//! Names under `domain` as Mesos-DNS makes them of tasks (facts/dcos.md A.2, A.3), and the copies of them that DC/OS has
//! under `mesos.thisdcos.directory` (B.6: priority 1, weight 1).

use std::collections::BTreeSet;
use std::net::IpAddr;

use sluice_config::model::{IpSource, RecordData};

use super::super::Cluster;
use super::{Given, Plan, Standing, address, rule, standing};
use crate::mesos::facts;
use crate::names::{self, LabelRule};
use crate::rejected::Rejected;
use crate::view::{PortAt, Task};

/// The label below which DC/OS's copy stands.
pub(super) const COPY: &str = "mesos";

/// Puts a record under `domain`, and its copy beside the DC/OS names.
pub(super) struct Put<'a> {
    plan: &'a Plan,
    domain: &'a str,
    /// What copies end in.
    copy: String,
    weight: u16,
    pub(super) given: &'a mut Given,
}

impl<'a> Put<'a> {
    pub(super) fn new(cluster: &Cluster<'a>, plan: &'a Plan, given: &'a mut Given) -> Self {
        let dns = &cluster.config.dns;
        let apex = plan.zones.get(usize::from(plan.dcos)).map_or("", |zone| zone.apex.as_str());
        Self { plan, domain: &dns.domain, copy: format!("{COPY}.{apex}"), weight: dns.srv_weight, given }
    }

    /// `name` and below are relative to `domain`.
    pub(super) fn ips<'i>(&mut self, name: &str, ips: impl IntoIterator<Item = &'i IpAddr>, standing: Standing) {
        for ip in ips {
            self.both(name, address(*ip), address(*ip), standing);
        }
    }

    pub(super) fn srv(&mut self, name: &str, target: &str, port: u16, standing: Standing) {
        let srv = |priority, weight, target| RecordData::Srv { priority, weight, port, target };
        let here = srv(0, self.weight, format!("{target}.{}", self.domain));
        let there = srv(1, 1, format!("{target}.{}", self.copy));
        self.both(name, here, there, standing);
    }

    fn both(&mut self, name: &str, here: RecordData, there: RecordData, standing: Standing) {
        let copy = format!("{name}.{}", self.copy);
        self.given.put(self.plan.domain, format!("{name}.{}", self.domain), here, standing);
        // One that is too long here is listed once.
        if names::is_servable(&copy) {
            self.given.put(self.plan.dcos, copy, there, standing);
        }
    }
}

/// What a task is called, and where it is.
struct Named<'a> {
    id: &'a str,
    name: &'a str,
    /// Whether the name is that of its discovery information, which stands as it is too.
    is_discovery: bool,
    agent_id: &'a str,
    framework: String,
    ips: Vec<IpAddr>,
    agent_ips: Vec<IpAddr>,
    standing: Standing,
}

/// A discovery port: number, name and protocol.
type Port<'a> = (u16, &'a str, &'a str);

/// The names of a task that Mesos tells of.
pub(super) fn of_mesos(
    cluster: &Cluster<'_>,
    plan: &Plan,
    task: &facts::Task,
    framework: &facts::Framework,
    agent: &facts::Agent,
    is_well: bool,
) -> Given {
    let mut given = Given::default();
    let discovery = task.discovery.as_ref().map(|d| d.name.as_str()).filter(|name| !name.is_empty());
    let host = agent.endpoint.as_ref().map_or(agent.hostname.as_str(), |endpoint| endpoint.host.as_str());
    let agent_ips: Vec<IpAddr> = cluster.view.agent_address(host).into_iter().collect();
    let named = Named {
        id: &task.id,
        name: discovery.unwrap_or(&task.name),
        is_discovery: discovery.is_some(),
        agent_id: &task.agent,
        framework: names::fragment(&framework.name, rule(cluster.config)),
        ips: addresses(cluster, task, &agent_ips),
        agent_ips,
        standing: standing(is_well),
    };
    let ports = task.discovery.iter().flat_map(|d| &d.ports).map(|p| (p.number, p.name.as_str(), p.protocol.as_str()));
    let ports: Vec<Port<'_>> = ports.collect();
    let host_ports: Vec<u16> = task.ports().collect();
    named.put(cluster, plan, &host_ports, &ports, &mut given);
    given
}

/// The same of what Marathon alone says: a discovery name and ports, as it gives them to Mesos.
pub(super) fn of_marathon(cluster: &Cluster<'_>, plan: &Plan, task: &Task, framework: &str, given: &mut Given) {
    let Some(agent_id) = task.slave.as_deref() else { return };
    let agent_ips: Vec<IpAddr> = cluster.view.agent_address(&task.host).into_iter().collect();
    let from = |source: &IpSource| match source {
        IpSource::Host => agent_ips.clone(),
        IpSource::NetInfo => task.ips.clone(),
        // Labels of statuses are not in what Marathon says.
        IpSource::Mesos | IpSource::Docker => Vec::new(),
    };
    let named = Named {
        id: &task.id,
        name: &task.name,
        is_discovery: true,
        agent_id,
        framework: names::fragment(framework, rule(cluster.config)),
        ips: cluster.config.dns.ip_sources.iter().map(from).find(|ips| !ips.is_empty()).unwrap_or_default(),
        agent_ips: agent_ips.clone(),
        standing: standing(task.health.takes_new_flows()),
    };
    let number = |at: PortAt| match at {
        PortAt::Host(port) | PortAt::Agent(port) | PortAt::Container(port) => Some(port),
        PortAt::Unallocated => None,
    };
    let on_agent = |at: PortAt| matches!(at, PortAt::Host(_) | PortAt::Agent(_));
    let ports: Vec<(u16, &str, String)> = task
        .ports
        .iter()
        .filter_map(|p| Some((number(p.at)?, p.name.as_deref().unwrap_or_default(), p.protocol.to_string())))
        .collect();
    let ports: Vec<Port<'_>> = ports.iter().map(|(n, name, protocol)| (*n, *name, protocol.as_str())).collect();
    let host_ports: BTreeSet<u16> = task.ports.iter().filter(|p| on_agent(p.at)).filter_map(|p| number(p.at)).collect();
    let host_ports: Vec<u16> = host_ports.into_iter().collect();
    named.put(cluster, plan, &host_ports, &ports, given);
}

/// `dns.ip_sources`: the first that has an address wins, and all of its addresses are used.
fn addresses(cluster: &Cluster<'_>, task: &facts::Task, agent: &[IpAddr]) -> Vec<IpAddr> {
    let status = task.running.as_ref();
    let of = |source: &IpSource| -> Vec<IpAddr> {
        match source {
            IpSource::Host => agent.to_vec(),
            IpSource::NetInfo => status.into_iter().flat_map(|s| &s.networks).flat_map(|n| &n.ips).copied().collect(),
            IpSource::Mesos => status.and_then(|s| s.mesos_ip).into_iter().collect(),
            IpSource::Docker => status.and_then(|s| s.docker_ip).into_iter().collect(),
        }
    };
    cluster.config.dns.ip_sources.iter().map(of).find(|ips| !ips.is_empty()).unwrap_or_default()
}

impl Named<'_> {
    fn put(&self, cluster: &Cluster<'_>, plan: &Plan, host_ports: &[u16], ports: &[Port<'_>], given: &mut Given) {
        let rule = rule(cluster.config);
        let label = names::label(self.name, rule);
        if label.is_empty() || self.framework.is_empty() {
            let reason = "nothing of the task's or framework's name may stand in DNS";
            given.rejected.push(Rejected::new(self.id, "name", self.name, reason));
            return;
        }
        let mut put = Put::new(cluster, plan, given);
        let mut forms = BTreeSet::from([label]);
        // As it is, too: what else it might hold no client could ask for.
        forms.extend((self.is_discovery && is_plain(self.name)).then(|| self.name.to_owned()));
        for form in forms {
            let canonical = names::canonical(&form, self.id, self.agent_id);
            self.form(&mut put, &form, &canonical, host_ports);
            let target = format!("{canonical}.{}", self.framework);
            for (number, name, protocol) in ports {
                for protocol in protocols(protocol, rule) {
                    let service = format!("_{form}._{protocol}.{}", self.framework);
                    put.srv(&service, &target, *number, self.standing);
                    let name = names::label(name, rule);
                    if !name.is_empty() {
                        put.srv(&format!("_{name}.{service}"), &target, *number, self.standing);
                    }
                }
            }
        }
    }

    /// Addresses, and SRV at host ports.
    fn form(&self, put: &mut Put<'_>, form: &str, canonical: &str, host_ports: &[u16]) {
        let (framework, standing) = (&self.framework, self.standing);
        for name in [form, canonical] {
            put.ips(&format!("{name}.{framework}"), &self.ips, standing);
            put.ips(&format!("{name}.{framework}.slave"), &self.agent_ips, standing);
        }
        let target = format!("{canonical}.{framework}.slave");
        for port in host_ports {
            for protocol in ["tcp", "udp"] {
                let service = format!("_{form}._{protocol}.{framework}");
                put.srv(&format!("{service}.slave"), &target, *port, standing);
                if !self.is_discovery {
                    put.srv(&service, &target, *port, standing);
                }
            }
        }
    }
}

/// The labels of a discovery port's protocol: of an empty one both.
fn protocols(protocol: &str, rule: LabelRule) -> Vec<String> {
    match names::label(protocol, rule) {
        label if label.is_empty() => vec!["tcp".to_owned(), "udp".to_owned()],
        label => vec![label],
    }
}

/// Whether a name may stand as it is.
fn is_plain(name: &str) -> bool {
    let character = |b: u8| matches!(b, b'a'..=b'z' | b'0'..=b'9' | b'-' | b'_' | b'.');
    name.bytes().all(character) && names::is_servable(name)
}
