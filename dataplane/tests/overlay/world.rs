//! Two networks on two agents, containers of every set of groups in each, and a service for each container.

use std::collections::BTreeMap;

use sluice_config::model::*;

use crate::common::*;

/// Sets of groups that a container may have.
pub(crate) const SETS: [&[&str]; 5] = [&[], &["a"], &["b"], &["a", "b"], &["c"]];
/// A host outside that `dcos` lets in, and one that nobody does.
pub(crate) const OUTSIDE: [&str; 2] = ["192.0.2.77", CLIENT];

/// A network: its name and the second octet of its subnet.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(crate) enum Net {
    Dcos,
    Dev,
}

pub(crate) const NETS: [Net; 2] = [Net::Dcos, Net::Dev];

impl Net {
    pub(crate) fn name(self) -> &'static str {
        match self {
            Self::Dcos => "dcos",
            Self::Dev => "dev",
        }
    }

    fn octet(self) -> u8 {
        match self {
            Self::Dcos => 0,
            Self::Dev => 128,
        }
    }
}

/// Who sends or receives.
#[derive(Clone, PartialEq, Eq, Debug)]
pub(crate) struct Party {
    pub(crate) ip: String,
    /// Of a container: its network, its agent, its set.
    pub(crate) place: Option<(Net, u8, usize)>,
}

impl Party {
    /// The `n`th container with this set on an agent.
    pub(crate) fn container(net: Net, agent: u8, set: usize, n: u8) -> Self {
        let last = 10 * (set as u8 + 1) + n;
        Self { ip: format!("9.{}.{agent}.{last}", net.octet()), place: Some((net, agent, set)) }
    }

    pub(crate) fn outside(ip: &str) -> Self {
        Self { ip: ip.to_owned(), place: None }
    }

    /// A packet of its, as its agent sends it, or the router.
    pub(crate) fn sends(&self, packet: &[u8]) -> Vec<u8> {
        match self.place {
            Some((_, agent, _)) => vxlan(agent, 1024, packet),
            None => packet.to_vec(),
        }
    }

    /// The VIP whose only backend it is.
    pub(crate) fn vip(&self) -> String {
        let (net, agent, set) = self.place.unwrap();
        format!("172.16.{}.{}", net.octet() + agent, set + 1)
    }
}

/// Containers of every network, agent and set, the `n`th of each.
pub(crate) fn containers(n: u8) -> Vec<Party> {
    let all = NETS.into_iter().flat_map(|net| [1, 2].map(|agent| (net, agent)));
    all.flat_map(|(net, agent)| (0..SETS.len()).map(move |set| Party::container(net, agent, set, n))).collect()
}

/// The groups that count of a party, where `dev` may be open.
pub(crate) fn groups(party: &Party, dev: Isolation) -> Vec<&'static str> {
    match party.place {
        Some((Net::Dev, ..)) if dev == Isolation::Open => vec![],
        Some((.., set)) => SETS[set].to_vec(),
        None => vec![],
    }
}

/// The slow obvious policy of design.md section 6.
pub(crate) fn may_talk(from: &Party, to: &Party, dev: Isolation) -> bool {
    let (mine, theirs) = (groups(from, dev), groups(to, dev));
    if mine.is_empty() && theirs.is_empty() {
        return true;
    }
    match (from.place, to.place) {
        (Some((here, ..)), Some((there, ..))) => here == there && mine.iter().any(|g| theirs.contains(g)),
        (None, Some((net, ..))) => net == Net::Dcos && from.ip == OUTSIDE[0],
        (_, None) => true,
    }
}

/// The cluster with its groups, or with none.
pub(crate) fn cluster(dev: Isolation, grouped: bool) -> Desired {
    let mut desired = desired(1);
    let network = |net: Net, isolation| OverlayNetwork {
        name: net.name().into(),
        subnet: format!("9.{}.0.0/9", net.octet()).parse().unwrap(),
        prefix: 24,
        own: Some(format!("9.{}.9.0/24", net.octet()).parse().unwrap()),
        isolation,
        underlay_allow: match net {
            Net::Dcos => vec![format!("{}/32", OUTSIDE[0]).parse().unwrap()],
            Net::Dev => vec![],
        },
        ..OverlayNetwork::default()
    };
    let shared = &mut desired.shared;
    shared.networks = vec![network(Net::Dcos, Isolation::Enforced), network(Net::Dev, dev)];
    for (agent, n) in shared.agents.iter_mut().zip(1..) {
        let part = |net: Net| (net.name().to_owned(), format!("9.{}.{n}.0/24", net.octet()).parse().unwrap());
        agent.subnets = BTreeMap::from(NETS.map(part));
    }
    let groups = |set: usize| if grouped { SETS[set].iter().map(|g| (*g).to_owned()).collect() } else { vec![] };
    let mut services = vec![];
    for (party, n) in (0..3).flat_map(|n| containers(n).into_iter().map(move |party| (party, n))) {
        let (net, _, set) = party.place.unwrap();
        if grouped && set > 0 {
            shared.containers.push(Container { ip: v4(&party.ip), network: net.name().into(), groups: groups(set) });
        }
        for protocol in [Protocol::Tcp, Protocol::Udp].into_iter().filter(|_| n == 0) {
            let mut only = backend(&format!("{}:80", party.ip), Some(net.name()));
            only.groups = groups(set);
            services.push(service(protocol, &party.vip(), 80, vec![only]));
        }
    }
    services.sort_by_key(|service| service.key);
    shared.services = services.into();
    desired
}
