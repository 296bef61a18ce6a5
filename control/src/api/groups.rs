//! `show groups`: who has which isolation groups, whom they reach by them, and how often they were kept from somebody.
//!
//! A row is what policy takes for one: the containers of a network that have the same groups. Groups alone are looked at;
//! whether one address reaches another, by all rules, `sluice explain` says.

use std::collections::{BTreeMap, HashMap};
use std::net::{IpAddr, Ipv4Addr};

use ipnet::IpNet;
use serde::Serialize;
use sluice_config::model::{Container, OverlayAgent, Service};
use sluice_dataplane::tables::Tables;
use sluice_dataplane::tables::policy::Party;

use super::observed::{Observed, Published};
use super::policy::denied;
use crate::lease::both;

/// Most rows that are listed, and of each most containers, other rows and VIPs.
pub const MOST: usize = 256;

/// `show groups`.
#[derive(Clone, PartialEq, Eq, Debug, Default, Serialize)]
pub struct Groups {
    /// By network and groups.
    pub groups: Vec<Row>,
    /// Rows that are not listed.
    pub more: usize,
}

/// The containers of a network that have the same groups.
#[derive(Clone, PartialEq, Eq, Debug, Default, Serialize)]
pub struct Row {
    /// Network.
    pub network: String,
    /// Their groups.
    pub groups: Vec<String>,
    /// How many they are.
    pub count: usize,
    /// The first of them, by address.
    pub containers: Vec<Member>,
    /// Rows that they reach and that reach them, this one too, as `show policy` names them.
    pub reach: Vec<String>,
    /// VIPs that are open to them, static and named.
    pub vips: Vec<String>,
    /// How many these are.
    pub vip_count: usize,
    /// Prefixes of the underlay that reach them; all of the underlay is reached by them, but where nothing is
    /// masqueraded answers come only from there.
    pub underlay_allow: Vec<String>,
    /// Packets of theirs that policy dropped.
    pub denied_from: u64,
    /// Packets to them that policy dropped.
    pub denied_to: u64,
}

/// One container.
#[derive(Clone, PartialEq, Eq, Debug, Serialize)]
pub struct Member {
    /// Its address.
    pub ip: IpAddr,
    /// Its task's id, where that is known.
    pub task: Option<String>,
    /// The underlay address of the agent whose subnet it is in.
    pub agent: Option<Ipv4Addr>,
}

/// The document of `show groups`.
#[must_use]
pub fn groups(observed: &Observed, published: Option<&Published>) -> Groups {
    let Some(published) = published else { return Groups::default() };
    let tables = &*published.tables;
    let mut parties: BTreeMap<(&str, &[String]), Alike<'_>> = BTreeMap::new();
    for container in &tables.desired.shared.containers {
        let party = party(tables, container.ip);
        if tables.policy.parties().is_grouped(party) {
            let key = (container.network.as_str(), container.groups.as_slice());
            parties.entry(key).or_insert_with(|| (party, Vec::new())).1.push(container);
        }
    }
    let shown = Shown {
        tables,
        tasks: tasks(published),
        agents: agents(&tables.desired.shared.agents),
        denied: denied(observed, tables).into_iter().map(|pair| ([pair.from, pair.to], pair.packets)).collect(),
        parties: parties.values().map(|(party, _)| *party).collect(),
    };
    let more = parties.len().saturating_sub(MOST);
    let rows = parties.into_iter().take(MOST);
    Groups { groups: rows.map(|((network, groups), of)| shown.row(network, groups, of)).collect(), more }
}

/// Containers that policy takes for one.
type Alike<'a> = (Party, Vec<&'a Container>);

/// What rows are made of.
struct Shown<'a> {
    tables: &'a Tables,
    tasks: HashMap<IpAddr, &'a str>,
    agents: BTreeMap<IpAddr, (IpNet, Ipv4Addr)>,
    denied: Vec<([String; 2], u64)>,
    parties: Vec<Party>,
}

impl Shown<'_> {
    fn row(&self, network: &str, groups: &[String], (party, mut of): Alike<'_>) -> Row {
        of.sort_unstable_by_key(|container| container.ip);
        let names = self.tables.policy.parties();
        let shared = &self.tables.desired.shared;
        let reach = self.parties.iter().filter(|other| **other == party || names.share(party, **other));
        let open = shared.services.iter().filter(|service| self.is_open(service, &of));
        let allow = shared.networks.iter().find(|n| n.name == network).map(|n| &n.underlay_allow);
        let packets = |at: usize| {
            let of = self.denied.iter().filter(|(pair, _)| pair[at] == names.name(party));
            of.map(|(_, packets)| packets).sum()
        };
        Row {
            network: network.to_owned(),
            groups: groups.to_vec(),
            count: of.len(),
            containers: of.iter().take(MOST).map(|container| self.member(container.ip)).collect(),
            reach: reach.take(MOST).map(|other| names.name(*other).to_owned()).collect(),
            vips: open.clone().take(MOST).map(vip).collect(),
            vip_count: open.count(),
            underlay_allow: allow.into_iter().flatten().map(ToString::to_string).collect(),
            denied_from: packets(0),
            denied_to: packets(1),
        }
    }

    fn member(&self, ip: IpAddr) -> Member {
        let agent = self.agents.range(..=ip).next_back().map(|(_, agent)| agent).filter(|(net, _)| net.contains(&ip));
        Member { ip, task: self.tasks.get(&ip).map(|task| (*task).to_owned()), agent: agent.map(|(_, agent)| *agent) }
    }

    /// Whether a service is open to these containers, of which one stands for all that have an address of its family.
    fn is_open(&self, service: &Service, of: &[&Container]) -> bool {
        let source = of.iter().map(|container| container.ip).find(|ip| ip.is_ipv4() == service.key.ip.is_ipv4());
        let (Some(source), Some(number)) = (source, self.tables.service_number(service.key)) else { return false };
        match source {
            IpAddr::V4(ip) => self.tables.policy.admits_service(ip.to_bits(), number).is_ok(),
            IpAddr::V6(ip) => self.tables.policy.admits_service(ip.to_bits(), number).is_ok(),
        }
    }
}

fn party(tables: &Tables, ip: IpAddr) -> Party {
    match ip {
        IpAddr::V4(ip) => tables.policy.party(ip.to_bits()),
        IpAddr::V6(ip) => tables.policy.party(ip.to_bits()),
    }
}

fn vip(service: &std::sync::Arc<Service>) -> String {
    match &service.name {
        Some(name) => format!("{} ({name})", service.key),
        None => service.key.to_string(),
    }
}

fn tasks(published: &Published) -> HashMap<IpAddr, &str> {
    let tasks = published.report.listings.iter().flat_map(|(_, listing)| &listing.tasks);
    tasks.flat_map(|task| task.ips.iter().map(|ip| (*ip, task.id.as_str()))).collect()
}

/// Agents by the first address of each of their subnets, which no other agent's overlaps.
fn agents(of: &[OverlayAgent]) -> BTreeMap<IpAddr, (IpNet, Ipv4Addr)> {
    let nets = |agent: &OverlayAgent| {
        let ip = agent.ip;
        both(&agent.subnets, &agent.subnets6).map(move |(_, net)| (net.network(), (net, ip))).collect::<Vec<_>>()
    };
    of.iter().flat_map(nets).collect()
}

#[cfg(test)]
mod tests {
    use std::sync::Arc;
    use std::time::Duration;

    use sluice_config::model::{Backend, Desired, Protocol, VipKey};
    use sluice_dataplane::counters::Counters;
    use sluice_dataplane::tables::ids::Ids;
    use sluice_dataplane::time::Nanos;

    use super::*;
    use crate::desire::Report;
    use crate::fixture::{config, task};
    use crate::view::Listing;

    fn observed(containers: Vec<Container>) -> Observed {
        let config = config();
        let mut desired = Desired { local: crate::offline::local_from_config(&config), ..Desired::default() };
        let overlay = config.overlay.as_ref().unwrap();
        desired.shared.networks.clone_from(&overlay.networks);
        desired.shared.networks[0].underlay_allow = vec!["192.0.2.0/24".parse().unwrap()];
        desired.shared.containers = containers;
        desired.shared.agents = vec![OverlayAgent {
            ip: Ipv4Addr::new(10, 0, 0, 11),
            vtep_ip: Ipv4Addr::new(44, 128, 0, 2),
            vtep_mac: sluice_config::model::Mac::of_vtep(Ipv4Addr::new(44, 128, 0, 2)),
            subnets: [("dcos".to_owned(), "9.0.1.0/24".parse().unwrap())].into(),
            subnets6: BTreeMap::new(),
        }];
        let service = |octet: u8, group: Option<&str>| {
            let backend = Backend {
                address: format!("9.0.1.{octet}:80").parse().unwrap(),
                network: Some("dcos".into()),
                weight: 1,
                agent: None,
                task: None,
                groups: group.into_iter().map(str::to_owned).collect(),
            };
            let key = VipKey { protocol: Protocol::Tcp, ip: format!("172.16.0.{octet}").parse().unwrap(), port: 80 };
            Arc::new(Service::plain(key, vec![backend]))
        };
        desired.shared.services = vec![service(2, Some("a")), service(4, Some("b")), service(9, None)].into();
        let tables = Tables::compile(&Arc::new(desired), &mut Ids::new(8, 8, 60), Nanos(0), None).unwrap();
        let mut web = task("web.1");
        web.ips = vec!["9.0.1.2".parse().unwrap()];
        let listing = Listing { tasks: vec![web.into()], ..Listing::default() };
        let report = Report { listings: vec![("marathon".into(), Arc::new(listing))], ..Report::default() };
        let observed = Observed::new(config, vec![Arc::new(Counters::new(1, 8, 8))], Vec::new());
        observed.note(Published { tables: Arc::new(tables), report: Arc::new(report) }, Duration::ZERO);
        observed
    }

    fn container(ip: &str, groups: &[&str]) -> Container {
        let groups = groups.iter().map(|group| (*group).to_owned()).collect();
        Container { ip: ip.parse().unwrap(), network: "dcos".into(), groups }
    }

    fn shown(observed: &Observed) -> Groups {
        groups(observed, observed.published().as_ref())
    }

    #[test]
    fn a_row_says_who_they_are_whom_they_reach_and_how_often_they_were_refused() {
        let observed = observed(vec![
            container("9.0.1.2", &["a"]),
            container("9.0.1.3", &["a"]),
            container("9.0.2.4", &["b"]),
            container("9.0.1.5", &["a", "b"]),
        ]);
        let tables = observed.published().unwrap().tables;
        let label = |ip: &str| {
            let party = party(&tables, ip.parse().unwrap());
            tables.policy.parties().label(party)
        };
        observed.workers[0].denied.add(label("9.0.1.2"), label("9.0.2.4"));
        let groups = shown(&observed);
        let names: Vec<String> = groups.groups.iter().map(|row| row.groups.join(" ")).collect();
        assert_eq!((names, groups.more), (vec!["a".into(), "a b".into(), "b".into()], 0));
        let [a, both, b] = &*groups.groups else { panic!("three rows") };
        assert_eq!((a.count, &*a.underlay_allow), (2, &["192.0.2.0/24".to_owned()][..]));
        let member = |row: &Row, at: usize| (row.containers[at].task.clone(), row.containers[at].agent);
        assert_eq!(member(a, 0), (Some("web.1".into()), Some(Ipv4Addr::new(10, 0, 0, 11))));
        assert_eq!(member(b, 0), (None, None), "no agent has that subnet, and no task that address");
        assert_eq!(a.reach, ["dcos: a", "dcos: a, b"]);
        assert_eq!(both.reach, ["dcos: a", "dcos: a, b", "dcos: b"]);
        assert_eq!((&*a.vips, a.vip_count), (&["172.16.0.2:80/tcp".to_owned()][..], 1));
        assert_eq!(both.vip_count, 2, "the VIP over a container without groups is for those without");
        assert_eq!([a.denied_from, a.denied_to, b.denied_from, b.denied_to], [1, 0, 0, 1]);
    }

    #[test]
    fn however_many_they_are_so_many_are_listed_and_the_others_counted() {
        let many = (0..=MOST).map(|n| container(&format!("9.0.{}.{}", n / 200, 2 + n % 200), &[&format!("g{n}")]));
        let groups = shown(&observed(many.collect()));
        assert_eq!((groups.groups.len(), groups.more), (MOST, 1));
        let many = (0..=MOST).map(|n| container(&format!("9.0.{}.{}", n / 200, 2 + n % 200), &["all"]));
        let groups = shown(&observed(many.collect()));
        assert_eq!((groups.groups[0].containers.len(), groups.groups[0].count), (MOST, MOST + 1));
    }
}
