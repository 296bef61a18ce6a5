//! What a topology file says: one cluster, its addresses and its overlay.
//!
//! Everything that a node knows of another node comes from [`Topology::members`]: Sluice is one of these records and
//! has no entry of its own kind.

use std::net::Ipv4Addr;
use std::path::{Path, PathBuf};

use ipnet::Ipv4Net;
use serde::{Deserialize, Serialize};

/// The topology that `sluice-lab up` uses when it is given none.
const DEFAULT: &str = include_str!("../topologies/two-agents.toml");

/// A cluster, as read from `topologies/*.toml`.
#[derive(Debug, Clone, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Topology {
    pub underlay: Underlay,
    pub overlay: Overlay,
    pub sluice: SluiceNode,
    pub client: Client,
    pub master: Master,
    #[serde(default, rename = "marathon")]
    pub marathons: Vec<MarathonEntry>,
    /// The Mesos master, on the same node as the Marathons.
    #[serde(default)]
    pub mesos: Option<MesosEntry>,
    #[serde(default, rename = "agent")]
    pub agents: Vec<AgentEntry>,
}

/// The network that joins the nodes; the bridge in the fabric namespace has `router`.
#[derive(Debug, Clone, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Underlay {
    pub subnet: Ipv4Net,
    pub router: Ipv4Addr,
    pub mtu: u16,
}

/// The one overlay network, in DC/OS's terms.
#[derive(Debug, Clone, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Overlay {
    pub name: String,
    pub subnet: Ipv4Net,
    pub prefix: u8,
    pub vni: u32,
    pub port: u16,
    pub vtep_prefix: u8,
    /// DC/OS's `dcos_overlay_mtu`, in bytes: what containers see.
    pub container_mtu: u16,
    /// Whether Sluice's agents send everything of it to Sluice.
    #[serde(default)]
    pub hub: bool,
}

/// The node under test.
#[derive(Debug, Clone, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct SluiceNode {
    pub address: Ipv4Addr,
    pub queues: u16,
    pub vtep: Ipv4Addr,
    pub subnet: Ipv4Net,
    pub snat_underlay: Vec<Ipv4Addr>,
    pub snat_overlay: Vec<Ipv4Addr>,
    pub dns: Vec<Ipv4Addr>,
    /// What the router and the agents send to Sluice.
    pub vips: Vec<Ipv4Net>,
}

/// Somebody outside the cluster.
#[derive(Debug, Clone, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Client {
    pub address: Ipv4Net,
    pub router: Ipv4Addr,
}

/// The node that Marathon runs on.
#[derive(Debug, Clone, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Master {
    pub address: Ipv4Addr,
    /// Whether it is no member of the overlay, and reaches containers through Sluice.
    #[serde(default)]
    pub outside: bool,
    pub vtep: Ipv4Addr,
    pub subnet: Ipv4Net,
}

/// One Marathon, on the master's address.
#[derive(Debug, Clone, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct MarathonEntry {
    pub framework: String,
    pub port: u16,
}

/// The Mesos master, on the master's address.
#[derive(Debug, Clone, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct MesosEntry {
    pub port: u16,
}

/// One Mesos agent.
#[derive(Debug, Clone, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct AgentEntry {
    pub name: String,
    pub address: Ipv4Addr,
    pub vtep: Ipv4Addr,
    pub subnet: Ipv4Net,
    /// Whether `sluice agent` sets it up, by a lease that Sluice gives it (which must be the VTEP and subnet above: the
    /// lowest free ones), instead of the lab, as DC/OS does it.
    #[serde(default)]
    pub sluice_agent: bool,
    #[serde(default)]
    pub containers: Vec<String>,
}

/// What every node of the overlay knows of every other one: the agents, the master and Sluice alike.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Member {
    pub name: String,
    pub address: Ipv4Addr,
    pub vtep: Ipv4Addr,
    pub mac: String,
    pub subnet: Ipv4Net,
}

/// Why a topology was refused.
#[derive(Debug, thiserror::Error)]
pub enum TopologyError {
    #[error(
        "cannot read the topology {path}: {source}; give --topology FILE an existing file (examples: lab/topologies)"
    )]
    Read { path: PathBuf, source: std::io::Error },
    #[error("{path}: {source}")]
    Parse { path: PathBuf, source: Box<toml::de::Error> },
    #[error("{what} {address} is not in {subnet}: give it an address of that subnet")]
    Outside { what: String, address: Ipv4Addr, subnet: Ipv4Net },
    #[error("address {address} is given to {first} and to {second}: give one of them another")]
    Twice { address: Ipv4Addr, first: String, second: String },
    #[error("name `{name}` is used twice or is reserved (fabric, sluice, client, master): choose another")]
    Name { name: String },
    #[error("name `{name}` must be 1-10 lower-case letters and digits: it becomes part of interface names")]
    Spelling { name: String },
}

impl Topology {
    /// The default topology.
    pub fn built_in() -> Result<Self, TopologyError> {
        Self::parse(DEFAULT, Path::new("lab/topologies/two-agents.toml"))
    }

    /// Reads and checks a file.
    pub fn load(path: &Path) -> Result<Self, TopologyError> {
        let text =
            std::fs::read_to_string(path).map_err(|source| TopologyError::Read { path: path.to_owned(), source })?;
        Self::parse(&text, path)
    }

    /// Parses and checks a topology; `path` is for messages only.
    pub fn parse(text: &str, path: &Path) -> Result<Self, TopologyError> {
        let topology: Self = toml::from_str(text)
            .map_err(|source| TopologyError::Parse { path: path.to_owned(), source: Box::new(source) })?;
        topology.check()?;
        Ok(topology)
    }

    /// Whether a node's place in the overlay is a lease of Sluice's.
    #[must_use]
    pub fn has_lease(&self, name: &str) -> bool {
        self.agents.iter().any(|agent| agent.sluice_agent && agent.name == name)
    }

    /// Every node of the overlay, Sluice included, in the order in which they are written.
    #[must_use]
    pub fn members(&self) -> Vec<Member> {
        let Master { address, vtep, subnet, outside } = self.master;
        let master = (!outside).then_some(("master", address, vtep, subnet));
        let sluice = ("sluice", self.sluice.address, self.sluice.vtep, self.sluice.subnet);
        let agents = self.agents.iter().map(|a| (a.name.as_str(), a.address, a.vtep, a.subnet));
        master.into_iter().chain(agents).chain(std::iter::once(sluice)).map(Member::new).collect()
    }

    fn check(&self) -> Result<(), TopologyError> {
        self.check_names()?;
        let mut seen: Vec<(Ipv4Addr, String)> = vec![(self.underlay.router, "underlay.router".to_owned())];
        for address in &self.sluice.snat_underlay {
            claim(&mut seen, *address, "sluice.snat_underlay".to_owned())?;
        }
        for member in self.members() {
            let what = format!("{}.address", member.name);
            within(&what, member.address, self.underlay.subnet)?;
            within(&format!("{}.subnet", member.name), member.subnet.network(), self.overlay.subnet)?;
            claim(&mut seen, member.address, what)?;
            claim(&mut seen, member.vtep, format!("{}.vtep", member.name))?;
            claim(&mut seen, member.subnet.network(), format!("{}.subnet", member.name))?;
        }
        for address in &self.sluice.snat_overlay {
            within("sluice.snat_overlay", *address, self.sluice.subnet)?;
        }
        within("client.router", self.client.router, self.client.address)
    }

    fn check_names(&self) -> Result<(), TopologyError> {
        let mut seen = vec!["fabric", "sluice", "client", "master"];
        let containers = self.agents.iter().flat_map(|a| &a.containers);
        for name in self.agents.iter().map(|a| &a.name).chain(containers) {
            let spelled = name.bytes().all(|b| b.is_ascii_lowercase() || b.is_ascii_digit());
            if name.is_empty() || name.len() > 10 || !spelled {
                return Err(TopologyError::Spelling { name: name.clone() });
            }
            if seen.contains(&name.as_str()) {
                return Err(TopologyError::Name { name: name.clone() });
            }
            seen.push(name);
        }
        Ok(())
    }
}

impl Member {
    fn new((name, address, vtep, subnet): (&str, Ipv4Addr, Ipv4Addr, Ipv4Net)) -> Self {
        Self { name: name.to_owned(), address, vtep, mac: vtep_mac(vtep), subnet }
    }
}

/// DC/OS's rule: the OUI 70:B3:D5 and the low 24 bits of the VTEP's address.
#[must_use]
pub fn vtep_mac(vtep: Ipv4Addr) -> String {
    let [_, b, c, d] = vtep.octets();
    format!("70:b3:d5:{b:02x}:{c:02x}:{d:02x}")
}

fn within(what: &str, address: Ipv4Addr, subnet: Ipv4Net) -> Result<(), TopologyError> {
    if subnet.contains(&address) {
        return Ok(());
    }
    Err(TopologyError::Outside { what: what.to_owned(), address, subnet })
}

fn claim(seen: &mut Vec<(Ipv4Addr, String)>, address: Ipv4Addr, who: String) -> Result<(), TopologyError> {
    if let Some((_, first)) = seen.iter().find(|(taken, _)| *taken == address) {
        return Err(TopologyError::Twice { address, first: first.clone(), second: who });
    }
    seen.push((address, who));
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_built_in_topology_is_valid_and_sluice_is_one_member_among_others() {
        let members = Topology::built_in().unwrap().members();
        let names: Vec<_> = members.iter().map(|m| m.name.as_str()).collect();
        assert_eq!(names, ["master", "agent1", "agent2", "sluice"]);
        assert_eq!(members[3].mac, "70:b3:d5:80:00:09");
    }

    #[test]
    fn an_address_given_twice_is_refused_with_both_owners() {
        let text = DEFAULT.replace("10.0.0.12", "10.0.0.11");
        let error = Topology::parse(&text, Path::new("t.toml")).unwrap_err().to_string();
        assert!(error.contains("agent1.address") && error.contains("agent2.address"), "{error}");
    }

    #[test]
    fn an_unknown_key_is_refused_with_its_line() {
        let text = DEFAULT.replace("mtu = 1500", "mtuu = 1500");
        let error = Topology::parse(&text, Path::new("t.toml")).unwrap_err().to_string();
        assert!(error.contains("mtuu") && error.contains("line"), "{error}");
    }
}
