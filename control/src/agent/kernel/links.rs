//! The VXLAN devices, and bridges that nobody uses any more.

use std::collections::BTreeSet;
use std::net::{IpAddr, Ipv4Addr};

use futures_util::TryStreamExt as _;
use ipnet::IpNet;
use rtnetlink::packet_route::address::AddressAttribute;
use rtnetlink::packet_route::link::{InfoData, InfoVxlan, LinkAttribute, LinkInfo, LinkMessage};
use rtnetlink::{LinkUnspec, LinkVxlan};
use sluice_config::model::Mac;

use super::Kernel;
use crate::agent::plan::Device;
use crate::netlink::devconf::{self, RP_FILTER};
use crate::netlink::inventory::{self, read_link};
use crate::netlink::{NetlinkError, Tried, unless};

/// The alias of the device that an agent made.
const ALIAS: &str = "sluice agent";
/// The device's name until it has its alias: what has this name is ours, whenever the process that made it ended.
const UNFINISHED: &str = "sluice-agent0";

/// A link as the kernel tells of it.
#[derive(Clone, PartialEq, Eq, Debug)]
pub(super) struct Seen {
    index: u32,
    name: String,
    alias: String,
    kind: String,
    mac: Option<Mac>,
    mtu: u32,
    up: bool,
    vxlan: Option<(u32, u16)>,
    local: Option<Ipv4Addr>,
}

impl Kernel {
    /// The device, made or changed where it has to be.
    pub(super) async fn device(&self, wanted: &Device) -> Result<(u32, usize), NetlinkError> {
        let links = self.links().await?;
        if let Some(foreign) = links.iter().find(|link| link.name == wanted.name && !link.is_ours()) {
            let kind = if foreign.kind.is_empty() { "physical interface" } else { &foreign.kind };
            return Err(NetlinkError::Refused {
                what: format!("make the VXLAN device {}", wanted.name),
                reason: format!(
                    "a {kind} of that name is there, and is not an agent's of Sluice: remove it (`ip link del {}`), or write another `device`",
                    wanted.name
                ),
            });
        }
        let (link, made) = match links.into_iter().find(|link| link.fits(wanted)) {
            Some(link) => (link, 0),
            None => (self.make(wanted).await?, 1),
        };
        Ok((link.index, made + self.refresh(&link, wanted).await?))
    }

    /// Removes devices of ours that are none of these.
    pub(super) async fn remove_others(&self, wanted: &[Device]) -> Result<usize, NetlinkError> {
        let ours = self.links().await?.into_iter().filter(Seen::is_ours);
        let others: Vec<Seen> = ours.filter(|link| !wanted.iter().any(|device| link.fits(device))).collect();
        for old in &others {
            self.remove_link(old).await?;
        }
        Ok(others.len())
    }

    async fn make(&self, wanted: &Device) -> Result<Seen, NetlinkError> {
        let message = LinkVxlan::new(UNFINISHED, wanted.vni)
            .port(wanted.port)
            .local(wanted.local)
            .learning(false)
            .udp_csum(false)
            .build();
        let what = || format!("make the VXLAN device {}", wanted.name);
        self.handle.link().add(message).execute().await.tried(what)?;
        let index = self.links().await?.into_iter().find(|link| link.name == UNFINISHED).map_or(0, |link| link.index);
        // No packet leaves it with an address that the kernel made up; what comes in may come from anywhere in the overlay.
        devconf::set_ipv4(&self.handle, index, RP_FILTER, 0).await?;
        if let Err(error) = devconf::no_ipv6_address(&self.handle, index).await {
            tracing::debug!(%error, "this kernel speaks no IPv6");
        }
        let alias = LinkUnspec::new_with_index(index).alias(ALIAS).build();
        self.handle.link().change(alias).execute().await.tried(what)?;
        let name = LinkUnspec::new_with_index(index).name(&wanted.name).build();
        self.handle.link().change(name).execute().await.tried(what)?;
        let made = self.links().await?.into_iter().find(|link| link.index == index);
        made.ok_or_else(|| NetlinkError::Refused { what: what(), reason: "it vanished at once".into() })
    }

    /// MAC, MTU, state and address of a device that is there.
    async fn refresh(&self, link: &Seen, wanted: &Device) -> Result<usize, NetlinkError> {
        let mut changes = 0;
        let mac: Option<Mac> = wanted.mac.parse().ok();
        if link.mac != mac || link.mtu != wanted.mtu || !link.up {
            let octets = mac.unwrap_or_default().0.to_vec();
            let message = LinkUnspec::new_with_index(link.index).address(octets).mtu(wanted.mtu).up().build();
            self.handle.link().change(message).execute().await.tried(|| format!("set {} up", wanted.name))?;
            changes += 1;
        }
        let mut there = Vec::new();
        let mut addresses = self.handle.address().get().set_link_index_filter(link.index).execute();
        while let Some(message) = addresses.try_next().await.tried(|| "list addresses".into())? {
            there.push(message);
        }
        let is = |net: Option<(u32, IpNet)>| net.map(|(_, net)| net) == Some(IpNet::V4(wanted.address));
        if !there.iter().any(|message| is(inventory::read_address(message))) {
            let (ip, length) = (IpAddr::V4(wanted.address.addr()), wanted.address.prefix_len());
            let added = self.handle.address().add(link.index, ip, length).execute().await;
            added.tried(|| format!("give {} the address {}", wanted.name, wanted.address))?;
            changes += 1;
        }
        let four = |a: &AddressAttribute| matches!(a, AddressAttribute::Local(IpAddr::V4(_)));
        for old in there.into_iter().filter(|m| m.attributes.iter().any(four) && !is(inventory::read_address(m))) {
            let removed = self.handle.address().del(old).execute().await;
            unless(removed, &[libc::EADDRNOTAVAIL]).tried(|| format!("remove an old address of {}", wanted.name))?;
            changes += 1;
        }
        Ok(changes)
    }

    pub(super) async fn links(&self) -> Result<Vec<Seen>, NetlinkError> {
        let mut all = Vec::new();
        let mut links = self.handle.link().get().execute();
        while let Some(message) = links.try_next().await.tried(|| "list interfaces".into())? {
            all.push(seen(&message));
        }
        Ok(all)
    }

    pub(super) async fn remove_link(&self, link: &Seen) -> Result<(), NetlinkError> {
        let removed = self.handle.link().del(link.index).execute().await;
        unless(removed, &[libc::ENODEV]).tried(|| format!("remove {}", link.name))
    }

    /// Bridges of these names that the CNI plugin left when the last container went.
    pub(super) async fn empty_bridges(&self, links: &[Seen], names: &[String]) -> Result<Vec<Seen>, NetlinkError> {
        let mut used = BTreeSet::new();
        let mut messages = self.handle.link().get().execute();
        while let Some(message) = messages.try_next().await.tried(|| "list interfaces".into())? {
            let bridge =
                |a: &LinkAttribute| if let LinkAttribute::Controller(bridge) = a { Some(*bridge) } else { None };
            used.extend(message.attributes.iter().filter_map(bridge));
        }
        let empty = |link: &&Seen| link.kind == "bridge" && names.contains(&link.name) && !used.contains(&link.index);
        Ok(links.iter().filter(empty).cloned().collect())
    }
}

/// Lets a device speak IPv6, where new ones do not by themselves (net.ipv6.conf.default.disable_ipv6).
pub(super) fn switch_ipv6_on(device: &str) -> Result<(), NetlinkError> {
    let path = format!("/proc/sys/net/ipv6/conf/{device}/disable_ipv6");
    let now = std::fs::read_to_string(&path).tried(|| format!("read {path}: this kernel speaks no IPv6"))?;
    if now.trim() == "0" {
        return Ok(());
    }
    std::fs::write(&path, "0").tried(|| format!("write {path}"))
}

impl Seen {
    pub(super) fn is_ours(&self) -> bool {
        self.kind == "vxlan" && (self.alias == ALIAS || self.name == UNFINISHED)
    }

    /// Whether it can become what is wanted: what makes a device another one cannot be changed.
    fn fits(&self, wanted: &Device) -> bool {
        self.name == wanted.name && self.vxlan == Some((wanted.vni, wanted.port)) && self.local == Some(wanted.local)
    }
}

fn seen(message: &LinkMessage) -> Seen {
    let link = read_link(message);
    let mut alias = String::new();
    let mut local = None;
    for attribute in &message.attributes {
        if let LinkAttribute::IfAlias(text) = attribute {
            alias.clone_from(text);
        } else if let LinkAttribute::LinkInfo(infos) = attribute {
            for info in infos {
                let LinkInfo::Data(InfoData::Vxlan(settings)) = info else { continue };
                local = settings.iter().find_map(|s| if let InfoVxlan::Local(ip) = s { Some(*ip) } else { None });
            }
        }
    }
    let (index, mac, mtu, up, vxlan) = (message.header.index, link.mac, link.mtu, link.up, link.vxlan);
    Seen { index, name: link.name, alias, kind: link.kind, mac, mtu, up, vxlan, local }
}
