//! Who may talk to whom: where groups are enforced, who was kept from whom, and whether one may talk to another, by which
//! rule, with no packet sent.

use std::collections::BTreeMap;
use std::net::{IpAddr, SocketAddr};

use serde::Serialize;
use sluice_config::model::{Isolation, NetworkMode, Protocol, VipKey};
use sluice_dataplane::stage::admission;
use sluice_dataplane::tables::policy::{Denied, Party};
use sluice_dataplane::tables::{Owned, Tables};
use sluice_dataplane::verdict::DropReason;

use super::observed::{Observed, Published};

/// `show policy`.
#[derive(Clone, PartialEq, Eq, Debug, Default, Serialize)]
pub struct Shown {
    /// Networks by name.
    pub networks: Vec<Network>,
    /// Agents with their containers that have groups.
    pub agents: Vec<Agent>,
    /// Packets that policy has dropped, by pair; at last those of pairs beyond the first.
    pub denied: Vec<Pair>,
}

/// A network.
#[derive(Clone, PartialEq, Eq, Debug, Serialize)]
pub struct Network {
    /// Name.
    pub name: String,
    /// `enforced` or `open`.
    pub isolation: &'static str,
    /// Underlay prefixes that reach its containers with groups.
    pub underlay_allow: Vec<String>,
    /// Containers with groups.
    pub grouped: usize,
}

/// An agent.
#[derive(Clone, PartialEq, Eq, Debug, Serialize)]
pub struct Agent {
    /// Its underlay address.
    pub ip: String,
    /// Its networks.
    pub networks: Vec<String>,
    /// Containers with groups on it.
    pub grouped: usize,
    /// Those of them in which it sends to other agents and between its own containers without us, so that groups hold only
    /// for what passes here: all but those in hub mode, where it has a lease, by which it is known to run `sluice agent`.
    pub direct: Vec<String>,
}

/// Packets dropped between two parties.
#[derive(Clone, PartialEq, Eq, Debug, Serialize)]
pub struct Pair {
    /// Who sent them: `underlay`, a network, or a network and groups.
    pub from: String,
    /// Who would have got them.
    pub to: String,
    /// How many.
    pub packets: u64,
}

/// The document of `show policy`.
#[must_use]
pub fn show(observed: &Observed, published: Option<&Published>) -> Shown {
    let Some(Published { tables, .. }) = published else { return Shown::default() };
    let shared = &tables.desired.shared;
    let networks = shared.networks.iter().map(|network| Network {
        name: network.name.clone(),
        isolation: match network.isolation {
            Isolation::Enforced => "enforced",
            Isolation::Open => "open",
        },
        underlay_allow: network.underlay_allow.iter().map(ToString::to_string).collect(),
        grouped: shared.containers.iter().filter(|c| c.network == network.name).count(),
    });
    let in_hub_mode = shared.networks.iter().filter(|network| network.mode == NetworkMode::Hub);
    let hubs: Vec<&str> = in_hub_mode.map(|network| network.name.as_str()).collect();
    let agents = shared.agents.iter().map(|agent| {
        let holds = |ip: IpAddr| match ip {
            IpAddr::V4(ip) => agent.subnets.values().any(|net| net.contains(&ip)),
            IpAddr::V6(ip) => agent.subnets6.values().any(|net| net.contains(&ip)),
        };
        let hub = |network: &String| hubs.contains(&network.as_str()) && observed.has_lease(agent.ip);
        Agent {
            ip: agent.ip.to_string(),
            networks: agent.subnets.keys().cloned().collect(),
            grouped: shared.containers.iter().filter(|c| holds(c.ip)).count(),
            direct: agent.subnets.keys().filter(|network| !hub(network)).cloned().collect(),
        }
    });
    Shown { networks: networks.collect(), agents: agents.collect(), denied: denied(observed, tables) }
}

/// Denials over all workers. A pair whose parties the tables no longer have is one of `former` ones.
#[must_use]
pub fn denied(observed: &Observed, tables: &Tables) -> Vec<Pair> {
    let names: BTreeMap<u32, &str> = tables.policy.parties().labels().collect();
    let name = |label| names.get(&label).copied().unwrap_or("former").to_owned();
    let mut pairs: BTreeMap<(String, String), u64> = BTreeMap::new();
    for counters in &observed.workers {
        for ((from, to), packets) in counters.denied.pairs() {
            *pairs.entry((name(from), name(to))).or_default() += packets;
        }
    }
    let others: u64 = observed.workers.iter().map(|counters| counters.denied.others()).sum();
    let mut all: Vec<Pair> = pairs.into_iter().map(|((from, to), packets)| Pair { from, to, packets }).collect();
    all.extend((others > 0).then(|| Pair { from: "others".into(), to: "others".into(), packets: others }));
    all
}

/// Whether one may talk to another.
#[derive(Clone, PartialEq, Eq, Debug, Serialize)]
pub struct Explained {
    /// The sender's address.
    pub from: IpAddr,
    /// What policy takes it for.
    pub from_party: String,
    /// The receiver's address, with the port of a VIP.
    pub to: String,
    /// What policy takes it for.
    pub to_party: String,
    /// Whether packets pass.
    pub allowed: bool,
    /// By which rule.
    pub rule: String,
}

/// Explains every pair of addresses that two texts mean: a task id, a task's name, or an address; of `to` with a port, if
/// that is a VIP's.
///
/// # Errors
/// Who is not known.
pub fn explain(published: &Published, from: &str, to: &str) -> Result<Vec<Explained>, String> {
    let (whom, port) = match to.rsplit_once(':').filter(|(whom, _)| !whom.contains(':') || whom.ends_with(']')) {
        Some((whom, port)) => (whom, Some(port.parse::<u16>().map_err(|_| format!("{port}: not a port"))?)),
        None => (to, None),
    };
    let (sources, destinations) = (addresses(published, from)?, addresses(published, whom)?);
    let mut all = Vec::new();
    for source in sources {
        for destination in destinations.iter().filter(|ip| ip.is_ipv4() == source.is_ipv4()) {
            all.push(pair(&published.tables, source, *destination, port));
        }
    }
    if all.is_empty() { Err(format!("{from} and {whom} have no addresses of one family")) } else { Ok(all) }
}

/// The addresses of a task, by its id or name, or an address itself.
fn addresses(published: &Published, who: &str) -> Result<Vec<IpAddr>, String> {
    if let Ok(ip) = who.trim_matches(['[', ']']).parse() {
        return Ok(vec![ip]);
    }
    let tasks = published.report.listings.iter().flat_map(|(_, listing)| &listing.tasks);
    let mut ips: Vec<IpAddr> =
        tasks.filter(|task| task.id == who || task.name == who).flat_map(|task| task.ips.iter().copied()).collect();
    ips.sort_unstable();
    ips.dedup();
    if ips.is_empty() { Err(format!("{who}: no address, and no task with that id or name has one")) } else { Ok(ips) }
}

fn pair(tables: &Tables, from: IpAddr, to: IpAddr, port: Option<u16>) -> Explained {
    let key = |protocol| VipKey { protocol, ip: to, port: port.unwrap_or_default() };
    let service =
        [Protocol::Tcp, Protocol::Udp, Protocol::Sctp].into_iter().find_map(|p| tables.service_number(key(p)));
    let (party, other, judged) = match (from, to) {
        (IpAddr::V4(from), IpAddr::V4(to)) => judge(tables, from.to_bits(), to.to_bits(), service),
        (IpAddr::V6(from), IpAddr::V6(to)) => judge(tables, from.to_bits(), to.to_bits(), service),
        (IpAddr::V4(_), IpAddr::V6(_)) | (IpAddr::V6(_), IpAddr::V4(_)) => {
            (Party::UNDERLAY, Party::UNDERLAY, Err(DropReason::NotForUs.into()))
        }
    };
    let parties = tables.policy.parties();
    let other = judged.err().and_then(|denied| denied.pair).map_or(other, |(_, to)| to);
    let shown = match port {
        Some(port) => SocketAddr::new(to, port).to_string(),
        None => to.to_string(),
    };
    Explained {
        from,
        from_party: parties.name(party).to_owned(),
        to: shown,
        to_party: if service.is_some() {
            format!("a VIP ({})", parties.name(other))
        } else {
            parties.name(other).to_owned()
        },
        allowed: judged.is_ok(),
        rule: format!("{}{}", rule(tables, party, other, service.is_some(), judged), way_out(tables, from, to)),
    }
}

/// What a gateway does with packets of a container to somebody outside.
fn way_out(tables: &Tables, from: IpAddr, to: IpAddr) -> &'static str {
    let leaves = match (from, to) {
        (IpAddr::V4(from), IpAddr::V4(to)) => leaves(tables, from.to_bits(), to.to_bits()),
        (IpAddr::V6(from), IpAddr::V6(to)) => leaves(tables, from.to_bits(), to.to_bits()),
        (IpAddr::V4(_), IpAddr::V6(_)) | (IpAddr::V6(_), IpAddr::V4(_)) => false,
    };
    match (leaves, tables.overlay.masquerades(), tables.overlay.is_gateway()) {
        (true, true, _) => "; masqueraded: what it begins leaves this gateway with an address of snat.underlay",
        (true, false, true) => "; routed: it leaves this gateway with its own address",
        (true, false, false) | (false, ..) => "",
    }
}

fn leaves<A: sluice_dataplane::family::Family>(tables: &Tables, from: A, to: A) -> bool {
    tables.overlay.has(from) && !tables.overlay.has(to) && A::tables(tables).address(to).is_none()
}

fn judge<A: sluice_dataplane::family::Family>(
    tables: &Tables,
    from: A,
    to: A,
    service: Option<u16>,
) -> (Party, Party, Result<(), Denied>) {
    let policy = &tables.policy;
    let judged = match service {
        // Nothing but an echo request is answered there, and no container is asked.
        None if A::tables(tables).address(to) == Some(Owned::Vip) => Err(DropReason::NoService.into()),
        Some(number) => admission::source(tables, from, number)
            .map_err(Denied::from)
            .and_then(|()| policy.admits_service(from, number)),
        None => policy.admits(from, to),
    };
    (policy.party(from), policy.party(to), judged)
}

fn rule(tables: &Tables, from: Party, to: Party, vip: bool, judged: Result<(), Denied>) -> String {
    let parties = tables.policy.parties();
    match judged {
        Err(denied) => format!("{}: {}", denied.reason.name(), denied.reason.sentence()),
        Ok(()) if vip => "the VIP's backends are open to it".to_owned(),
        Ok(()) if !parties.is_grouped(from) && !parties.is_grouped(to) => "neither has a group that counts".to_owned(),
        Ok(()) if parties.share(from, to) => "they share a group in one network".to_owned(),
        Ok(()) if parties.is_grouped(from) => "groups are between containers: it may leave the overlay".to_owned(),
        Ok(()) => "underlay_allow of the network, or the node itself".to_owned(),
    }
}

#[cfg(test)]
mod tests {
    use std::sync::Arc;

    use sluice_config::model::{Container, Desired, Gateway, Service};
    use sluice_dataplane::tables::ids::Ids;
    use sluice_dataplane::time::Nanos;

    use super::*;
    use crate::desire::Report;
    use crate::fixture::{config, task};
    use crate::view::Listing;

    fn published(gateway: Gateway) -> Published {
        let config = config();
        let mut desired = Desired { local: crate::offline::local_from_config(&config), ..Desired::default() };
        desired.local.vtep.as_mut().unwrap().gateway = gateway;
        desired.shared.networks = config.overlay.map(|overlay| overlay.networks).unwrap_or_default();
        let member = |ip: &str, group: &str| Container {
            ip: ip.parse().unwrap(),
            network: "dcos".into(),
            groups: vec![group.to_owned()],
        };
        desired.shared.containers = vec![member("9.0.1.2", "a"), member("9.0.1.3", "a"), member("9.0.1.4", "b")];
        let vip = VipKey { protocol: Protocol::Tcp, ip: "172.16.0.1".parse().unwrap(), port: 80 };
        desired.shared.services = vec![Service::plain(vip, vec![])].into();
        let tables = Tables::compile(&Arc::new(desired), &mut Ids::new(8, 8, 60), Nanos(0), None).unwrap();
        let mut web = task("web.1");
        web.ips = vec!["9.0.1.2".parse().unwrap()];
        let listing = Listing { tasks: vec![web.into()], ..Listing::default() };
        let report = Report { listings: vec![("marathon".into(), Arc::new(listing))], ..Report::default() };
        Published { tables: Arc::new(tables), report: Arc::new(report) }
    }

    #[test]
    fn a_pair_is_explained_by_the_rule_that_holds_for_it() {
        let published = published(Gateway::Off);
        let said = |from: &str, to: &str| {
            let all = explain(&published, from, to).unwrap();
            (all[0].allowed, all[0].rule.clone())
        };
        assert_eq!(said("web.1", "9.0.1.3"), (true, "they share a group in one network".into()));
        assert_eq!(
            said("web.1", "192.0.2.1"),
            (true, "groups are between containers: it may leave the overlay".into())
        );
        assert!(said("web.1", "172.16.0.1:80").0);
        assert_eq!(said("9.0.2.1", "9.0.2.2"), (true, "neither has a group that counts".into()));
        for (from, to, reason) in [
            ("web.1", "9.0.1.4:80", DropReason::GroupDenied),
            ("9.0.2.1", "9.0.1.4", DropReason::GroupDenied),
            ("192.0.2.1", "9.0.1.4", DropReason::GroupUnderlay),
            ("web.1", "172.16.0.1", DropReason::NoService),
            ("web.1", "172.16.0.1:81", DropReason::NoService),
        ] {
            let (allowed, rule) = said(from, to);
            assert!(!allowed && rule.starts_with(reason.name()), "{from} to {to}: {rule}");
        }
        assert!(explain(&published, "nobody", "9.0.1.4").unwrap_err().contains("nobody"));
    }

    #[test]
    fn what_leaves_the_overlay_says_with_which_address() {
        let said = |gateway, from: &str, to: &str| {
            let all = explain(&published(gateway), from, to).unwrap();
            all[0].rule.split_once("; ").map(|(_, way)| way.to_owned()).unwrap_or_default()
        };
        assert!(said(Gateway::Masqueraded, "web.1", "192.0.2.1:80").starts_with("masqueraded: what it begins leaves"));
        assert!(said(Gateway::Routed, "9.0.2.1", "192.0.2.1").starts_with("routed: it leaves"));
        assert_eq!(said(Gateway::Off, "web.1", "192.0.2.1"), "");
        for (from, to) in [("web.1", "9.0.1.3"), ("192.0.2.1", "9.0.2.2"), ("192.0.2.1", "192.0.2.2")] {
            assert_eq!(said(Gateway::Masqueraded, from, to), "", "{from} to {to}");
        }
    }
}
