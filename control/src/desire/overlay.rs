//! What the file and the overlay's master say of networks and agents, made one. The file's word goes first; where the
//! master's differs, that is said.

use std::collections::{BTreeMap, HashMap};
use std::net::Ipv4Addr;

use ipnet::Ipv4Net;
use sluice_config::model::{Config, Local, OverlayAgent, OverlayNetwork};

use crate::rejected::Rejected;
use crate::view::OverlayView;

/// Configured networks first, then those of the overlay's master that the configuration does not name.
pub(super) fn networks(config: &Config, said: &OverlayView) -> Vec<OverlayNetwork> {
    let mut networks = config.overlay.as_ref().map_or_else(Vec::new, |o| o.networks.clone());
    for network in &said.networks {
        if rival(&networks, network).is_none() {
            networks.push(network.clone());
        }
    }
    networks
}

/// The network of the same name, or that has some of its addresses.
fn rival<'a>(networks: &'a [OverlayNetwork], network: &OverlayNetwork) -> Option<&'a OverlayNetwork> {
    networks.iter().find(|n| n.name == network.name || overlap(n.subnet, network.subnet))
}

fn overlap(a: Ipv4Net, b: Ipv4Net) -> bool {
    a.contains(&b.network()) || b.contains(&a.network())
}

/// Remote VTEPs. Our own leases come last: they are compared with what the others say where they are given.
pub(super) fn agents(config: &Config, said: &OverlayView, local: &Local) -> Vec<OverlayAgent> {
    let own = local.vtep.as_ref().map(|v| v.vtep.addr());
    let of_file = OfFile::new(config);
    let of_master = said.agents.iter().filter(|agent| of_file.rival(agent).is_none());
    let all = said
        .leased
        .agents
        .iter()
        .chain(of_master)
        .chain(of_file.by_ip.values().copied())
        .filter(|agent| Some(agent.vtep_ip) != own);
    let by_ip: BTreeMap<Ipv4Addr, OverlayAgent> = all.map(|agent| (agent.ip, agent.clone())).collect();
    by_ip.into_values().collect()
}

/// What the master says and the file contradicts.
pub(super) fn conflicts(config: &Config, said: &OverlayView) -> Vec<Rejected> {
    let of_file = OfFile::new(config);
    let agent = |agent: &OverlayAgent| {
        let rival = of_file.rival(agent).filter(|rival| *rival != agent)?;
        let reason =
            format!("Mesos says so; [[overlay.agent]] has {}, and that holds: remove it to take Mesos's", shown(rival));
        Some(Rejected::new("", "overlay agent", &shown(agent), reason))
    };
    let configured = config.overlay.as_ref().map_or(&[][..], |overlay| &overlay.networks);
    let network = |network: &OverlayNetwork| {
        let rival = rival(configured, network)?;
        let same = (&rival.name, rival.subnet, rival.prefix) == (&network.name, network.subnet, network.prefix);
        let OverlayNetwork { name, subnet, prefix, .. } = rival;
        let reason = format!("Mesos says so; [[overlay.network]] has {name} {subnet} prefix {prefix}, and that holds");
        let value = format!("{} {} prefix {}", network.name, network.subnet, network.prefix);
        (!same).then(|| Rejected::new("", "overlay network", &value, reason))
    };
    said.agents.iter().filter_map(agent).chain(said.networks.iter().filter_map(network)).collect()
}

fn shown(agent: &OverlayAgent) -> String {
    let OverlayAgent { ip, vtep_ip, vtep_mac, subnets, subnets6 } = agent;
    let four = subnets.iter().map(|(name, subnet)| format!("{name} {subnet}"));
    let subnets: Vec<String> = four.chain(subnets6.iter().map(|(name, subnet)| format!("{name} {subnet}"))).collect();
    format!("{ip}: VTEP {vtep_ip} {vtep_mac}, {}", subnets.join(", "))
}

/// The agents of the file, by what can be only one's.
struct OfFile<'a> {
    by_ip: BTreeMap<Ipv4Addr, &'a OverlayAgent>,
    by_vtep: HashMap<Ipv4Addr, &'a OverlayAgent>,
    by_subnet: HashMap<Ipv4Net, &'a OverlayAgent>,
}

impl<'a> OfFile<'a> {
    fn new(config: &'a Config) -> Self {
        let all = || config.overlay.iter().flat_map(|o| &o.agents);
        Self {
            by_ip: all().map(|agent| (agent.ip, agent)).collect(),
            by_vtep: all().map(|agent| (agent.vtep_ip, agent)).collect(),
            by_subnet: all().flat_map(|agent| agent.subnets.values().map(move |net| (*net, agent))).collect(),
        }
    }

    /// The agent of the file that this one is, or whose place it would take.
    fn rival(&self, agent: &OverlayAgent) -> Option<&'a OverlayAgent> {
        let by_subnet = || agent.subnets.values().find_map(|net| self.by_subnet.get(net));
        self.by_ip.get(&agent.ip).or_else(|| self.by_vtep.get(&agent.vtep_ip)).or_else(by_subnet).copied()
    }
}

#[cfg(test)]
mod tests {
    use sluice_config::model::Mac;

    use super::*;
    use crate::offline::local_from_config;

    const TEXT: &str = r#"
[[port]]
interface = "eth0"
mac = "02:00:00:00:00:01"
addresses = ["10.0.0.9/24"]
queues = [0]
[overlay]
vtep = "44.128.0.9/20"
[[overlay.network]]
name = "dcos"
subnet = "9.0.0.0/8"
[[overlay.agent]]
ip = "10.0.0.11"
vtep_ip = "44.128.0.2"
vtep_mac = "70:b3:d5:80:00:02"
subnets = { dcos = "9.0.1.0/24" }
"#;

    fn agent(ip: u8, vtep: u8, subnet: u8) -> OverlayAgent {
        OverlayAgent {
            ip: Ipv4Addr::new(10, 0, 0, ip),
            vtep_ip: Ipv4Addr::new(44, 128, 0, vtep),
            vtep_mac: Mac([0x70, 0xb3, 0xd5, 0x80, 0, vtep]),
            subnets: [("dcos".to_owned(), Ipv4Net::new_assert(Ipv4Addr::new(9, 0, subnet, 0), 24))].into(),
            subnets6: BTreeMap::new(),
        }
    }

    #[test]
    fn what_the_file_says_of_an_agent_holds_and_where_mesos_differs_that_is_said() {
        let config = sluice_config::parse(TEXT, "test").unwrap();
        let local = local_from_config(&config);
        let made = |agents: &[OverlayAgent]| {
            let said = OverlayView { agents: agents.to_vec(), ..OverlayView::default() };
            (agents_of(&config, &said, &local), conflicts(&config, &said).len())
        };
        let ours = agent(11, 2, 1);
        assert_eq!(made(&[]), (vec![11], 0));
        assert_eq!(made(&[ours, agent(12, 3, 2)]), (vec![11, 12], 0), "the same word twice is none");
        // The same node elsewhere, and others with its VTEP or its subnet.
        for (other, count) in [(agent(11, 4, 1), 1), (agent(13, 2, 7), 1), (agent(13, 5, 1), 1)] {
            assert_eq!(made(&[other, agent(12, 3, 2)]), (vec![11, 12], count));
        }
        assert_eq!(made(&[agent(9, 9, 9)]), (vec![11], 0), "our own VTEP is no remote one");
    }

    fn agents_of(config: &Config, said: &OverlayView, local: &Local) -> Vec<u8> {
        agents(config, said, local).iter().map(|agent| agent.ip.octets()[3]).collect()
    }

    #[test]
    fn a_network_that_is_configured_otherwise_is_said() {
        let config = sluice_config::parse(TEXT, "test").unwrap();
        let mut said = OverlayView { networks: networks(&config, &OverlayView::default()), ..OverlayView::default() };
        assert_eq!(conflicts(&config, &said), []);
        said.networks[0].prefix = 26;
        let [conflict] = &*conflicts(&config, &said) else { panic!("one conflict") };
        assert_eq!(conflict.value, "dcos 9.0.0.0/8 prefix 26");
        assert_eq!(networks(&config, &said).len(), 1);
    }
}
