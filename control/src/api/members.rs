//! `show networks`, `show vteps` and `show leases`: who has which place in the overlay, and who says so.

use std::collections::BTreeMap;
use std::net::Ipv4Addr;
use std::time::Instant;

use ipnet::Ipv4Net;
use serde::Serialize;
use sluice_config::model::{Isolation, NetworkMode, OverlayNetwork};
use sluice_dataplane::counters::{Counter, NetworkCounters};

use super::observed::{Observed, Published};
use crate::lease::desk::{Row, at};
use crate::lease::map::{Map, Member};

/// One network.
#[derive(Clone, PartialEq, Eq, Debug, Serialize)]
pub struct NetworkRow {
    /// Its name.
    pub name: String,
    /// All its container addresses.
    pub subnet: Ipv4Net,
    /// Prefix length of an agent's part.
    pub prefix: u8,
    /// This node's own part.
    pub own: Option<Ipv4Net>,
    /// `direct` or `hub`.
    pub mode: &'static str,
    /// `enforced` or `open`.
    pub isolation: &'static str,
    /// Parts that somebody has, this node included.
    pub taken: usize,
    /// Parts in all.
    pub parts: u64,
    /// Packets that came out of tunnels from its containers since the start.
    pub rx: u64,
    /// Packets that went into tunnels to its containers.
    pub tx: u64,
}

/// One VTEP.
#[derive(Clone, PartialEq, Eq, Debug, Serialize)]
pub struct VtepRow {
    /// Whose it is, and its subnets.
    #[serde(flatten)]
    pub member: Member,
    /// Who says so: `this node`, `configuration`, `lease` or `overlay module`.
    pub source: &'static str,
}

/// Networks, in the configuration's order.
#[must_use]
pub fn networks(observed: &Observed, published: Option<&Published>) -> Vec<NetworkRow> {
    let Some(published) = published else { return Vec::new() };
    let shared = &published.tables.desired.shared;
    let places: BTreeMap<&str, u8> = published.tables.overlay.places().collect();
    let packets = |network: &OverlayNetwork, read: fn(&NetworkCounters) -> &Counter| {
        let place = places.get(network.name.as_str()).copied();
        let of = observed.workers.iter().filter_map(|c| c.networks.get(usize::from(place?)));
        of.map(|n| read(n).get()).sum()
    };
    let row = |network: &OverlayNetwork| NetworkRow {
        name: network.name.clone(),
        subnet: network.subnet,
        prefix: network.prefix,
        own: network.own,
        mode: match network.mode {
            NetworkMode::Direct => "direct",
            NetworkMode::Hub => "hub",
        },
        isolation: match network.isolation {
            Isolation::Enforced => "enforced",
            Isolation::Open => "open",
        },
        taken: shared.agents.iter().filter(|agent| agent.subnets.contains_key(&network.name)).count()
            + usize::from(network.own.is_some()),
        parts: 1_u64 << network.prefix.saturating_sub(network.subnet.prefix_len()),
        rx: packets(network, |n| &n.rx),
        tx: packets(network, |n| &n.tx),
    };
    shared.networks.iter().map(row).collect()
}

/// VTEPs, this node's among them.
#[must_use]
pub fn vteps(observed: &Observed, published: Option<&Published>) -> Vec<VtepRow> {
    let map = published.and_then(|published| Map::of(&observed.config, &published.tables));
    let Some(map) = map else { return Vec::new() };
    let own = map.sluice.ip;
    let row = |member: Member| VtepRow { source: source(observed, member.ip, own), member };
    map.members.into_iter().map(row).collect()
}

fn source(observed: &Observed, ip: Ipv4Addr, own: Ipv4Addr) -> &'static str {
    let written = observed.config.overlay.iter().flat_map(|overlay| &overlay.agents).any(|agent| agent.ip == ip);
    match (ip == own, written) {
        (true, _) => "this node",
        (_, true) => "configuration",
        _ if observed.has_lease(ip) => "lease",
        _ => "overlay module",
    }
}

/// Leases, by agent.
#[must_use]
pub fn leases(observed: &Observed) -> Vec<Row> {
    observed.leases.as_ref().map(|office| at(&office.desk).rows(Instant::now())).unwrap_or_default()
}
