//! The host port: the veth pair between Sluice and the node's own kernel (design.md section 2).
//!
//! The pair that an earlier Sluice left behind is replaced, never reused: its queues and MACs may be other ones.
//! Nothing on the node answers ARP across it: the kernel reaches everything through [`GATEWAY`], whose MAC is a
//! permanent entry.

use std::net::{IpAddr, Ipv4Addr, Ipv6Addr};

use ipnet::IpNet;
use rtnetlink::packet_route::address::AddressHeaderFlags;
use rtnetlink::packet_route::link::{InfoData, InfoVeth, LinkAttribute};
use rtnetlink::packet_route::neighbour::{NeighbourAttribute, NeighbourState};
use rtnetlink::{Handle, LinkMessageBuilder, LinkUnspec, LinkVeth};
use sluice_config::model::{Host, Mac};

use super::devconf::{self, FORWARDING, RP_FILTER};
use super::inventory::{Inventory, Link};
use super::{NetlinkError, Tried, features, ours, programs};

/// The gateway of every route to the host port: link-local (RFC 3927), so it is nobody's real address.
pub const GATEWAY: Ipv4Addr = Ipv4Addr::new(169, 254, 77, 1);

/// Likewise of every IPv6 route.
pub const GATEWAY6: Ipv6Addr = Ipv6Addr::new(0xfe80, 0, 0, 0, 0, 0, 0x4d, 1);

/// The pair as the kernel has it.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct HostPort {
    /// Index of the kernel's end.
    pub kernel_index: u32,
    /// MAC of the kernel's end.
    pub kernel_mac: Mac,
    /// Name of Sluice's end, which the workers poll.
    pub peer: String,
    /// Index of Sluice's end.
    pub peer_index: u32,
    /// MAC of Sluice's end.
    pub peer_mac: Mac,
    /// Largest IP packet.
    pub mtu: u32,
    /// Whether the kernel reaches IPv6 addresses through it ([`with_ipv6`]).
    pub ipv6: bool,
}

impl HostPort {
    /// Whether the kernel has a way to this prefix through it.
    #[must_use]
    pub fn leads(&self, prefix: &IpNet) -> bool {
        self.ipv6 || matches!(prefix, IpNet::V4(_))
    }
}

/// Makes the pair, with one queue per worker, but for the kernel's way to Sluice: a local stack chooses another queue for
/// a flow when it sends again (net.core.txrehash), and NAT needs the whole flow on one worker. That one is worker 0.
/// `names` are the addresses that DNS is answered on: the kernel's end gets those that it does not have yet, of IPv4 here
/// and of IPv6 by [`with_ipv6`].
///
/// # Errors
/// When the names are taken by others, or what the kernel says.
pub async fn make(
    handle: &Handle,
    host: &Host,
    names: &[IpAddr],
    workers: usize,
    mtu: u32,
) -> Result<HostPort, NetlinkError> {
    if let Some(name) = programs::held(handle, &[&host.interface, &host.peer]).await? {
        return Err(NetlinkError::HostPortInUse { name });
    }
    remove(handle, host).await?;
    handle
        .link()
        .add(pair(host, workers as u32, mtu))
        .execute()
        .await
        .tried(|| format!("make the veth pair {} and {}", host.interface, host.peer))?;
    let made = Inventory::list(handle).await?;
    let (Some((kernel_index, kernel)), Some((peer_index, peer))) = (made.link(&host.interface), made.link(&host.peer))
    else {
        return Err(refused(host, "it vanished at once".into()));
    };
    let port = HostPort {
        kernel_index,
        kernel_mac: kernel.mac.unwrap_or_default(),
        peer: host.peer.clone(),
        peer_index,
        peer_mac: peer.mac.unwrap_or_default(),
        mtu,
        ipv6: false,
    };
    // The settings come before the ends go up, so that no packet ever passes without them.
    settings(handle, host, &port).await?;
    for index in [peer_index, kernel_index] {
        let up = LinkUnspec::new_with_index(index).up().build();
        handle.link().change(up).execute().await.tried(|| format!("set interface {index} up"))?;
    }
    address(handle, host, names, &port).await?;
    Ok(port)
}

/// Removes the pair, if it is there.
///
/// # Errors
/// When the name belongs to something else, or what the kernel says.
pub async fn remove(handle: &Handle, host: &Host) -> Result<(), NetlinkError> {
    let now = Inventory::list(handle).await?;
    for (name, key) in [(&host.interface, "interface"), (&host.peer, "peer")] {
        if let Some((_, Link { kind, .. })) = now.link(name).filter(|(_, link)| link.kind != "veth") {
            let kind = if kind.is_empty() { "physical interface".to_owned() } else { kind.clone() };
            return Err(NetlinkError::NameTaken { name: name.clone(), kind, key });
        }
    }
    if let Some((index, _)) = now.link(&host.interface).or_else(|| now.link(&host.peer)) {
        let removed = handle.link().del(index).execute().await;
        removed.tried(|| format!("remove the old veth {}", host.interface))?;
    }
    Ok(())
}

fn pair(host: &Host, queues: u32, mtu: u32) -> rtnetlink::packet_route::link::LinkMessage {
    let sized =
        |sending| [LinkAttribute::NumTxQueues(sending), LinkAttribute::NumRxQueues(queues), LinkAttribute::Mtu(mtu)];
    let mut peer = LinkUnspec::new_with_name(&host.peer).build();
    peer.attributes.extend(sized(queues));
    let mut message = LinkMessageBuilder::<LinkVeth>::new(&host.interface, &host.peer)
        .set_info_data(InfoData::Veth(InfoVeth::Peer(peer)))
        .build();
    message.attributes.extend(sized(1));
    message
}

/// Offloads off, no reverse-path filter (answers come from VIPs that are routed elsewhere), no IPv6 chatter.
async fn settings(handle: &Handle, host: &Host, port: &HostPort) -> Result<(), NetlinkError> {
    let name = &host.interface;
    features::switch_off(name, features::UNFINISHED).tried(|| format!("switch offloads of {name} off"))?;
    let peer = &host.peer;
    features::switch_off(peer, features::TAKEN_OUT).tried(|| format!("switch offloads of {peer} off"))?;
    devconf::set_ipv4(handle, port.kernel_index, RP_FILTER, 0).await?;
    devconf::set_ipv4(handle, port.peer_index, FORWARDING, 0).await?;
    // The kernel's "all" wins where it is larger.
    if std::fs::read_to_string("/proc/sys/net/ipv4/conf/all/rp_filter").is_ok_and(|all| all.trim() == "1") {
        tracing::warn!(
            "net.ipv4.conf.all.rp_filter is 1: answers to this node's own processes may be lost; set it to 0"
        );
    }
    for (end, index) in [(name, port.kernel_index), (peer, port.peer_index)] {
        no_ipv6(handle, end, index).await;
    }
    Ok(())
}

/// Router solicitations would only be noise. Netlink has no word for disable_ipv6, and a container's /proc/sys may be
/// read-only: no address is then all that can be had.
async fn no_ipv6(handle: &Handle, end: &str, index: u32) {
    let path = format!("/proc/sys/net/ipv6/conf/{end}/disable_ipv6");
    // A kernel without IPv6 has nothing to switch off.
    let Ok(now) = std::fs::read_to_string(&path) else { return };
    if now.trim() == "1" {
        return;
    }
    if let Err(error) = std::fs::write(&path, "1") {
        let no_address = devconf::no_ipv6_address(handle, index).await.is_ok();
        tracing::warn!(interface = end, %error, no_address, "{path} cannot be written; IPv6 stays on there");
    }
}

async fn address(handle: &Handle, host: &Host, names: &[IpAddr], port: &HostPort) -> Result<(), NetlinkError> {
    for ip in host.addresses.iter().map(IpNet::addr).filter(IpAddr::is_ipv4) {
        // As a /32: the way to the rest of the network is the route through GATEWAY, not ARP on this link.
        let added = handle.address().add(port.kernel_index, ip, 32).execute().await;
        added.tried(|| format!("give {} the address {ip}", host.interface))?;
    }
    for ip in missing(handle, names).await?.into_iter().filter(IpAddr::is_ipv4) {
        let added = handle.address().add(port.kernel_index, ip, 32).execute().await;
        added.tried(|| format!("give {} the DNS address {ip}", host.interface))?;
    }
    gateway(handle, port, IpAddr::V4(GATEWAY)).await
}

/// Addresses of names that the kernel does not have: DNS over TCP is the kernel's to take, so it must own them. They go
/// with the pair.
async fn missing(handle: &Handle, names: &[IpAddr]) -> Result<Vec<IpAddr>, NetlinkError> {
    let owned = Inventory::list(handle).await?;
    let is_owned = |ip: &IpAddr| owned.addresses.iter().any(|(_, net)| net.addr() == *ip);
    Ok(names.iter().copied().filter(|ip| !is_owned(ip)).collect())
}

/// Lets the node's own processes use IPv6 VIPs and containers: the kernel's end speaks IPv6, with the addresses that the
/// configuration gives it and nothing to solicit. Whether it does; where the kernel has no IPv6, or /proc/sys cannot be
/// written, it does not.
///
/// # Errors
/// What the kernel says to the gateway's entry.
pub async fn with_ipv6(
    handle: &Handle,
    host: &Host,
    names: &[IpAddr],
    port: &mut HostPort,
) -> Result<(), NetlinkError> {
    let path = format!("/proc/sys/net/ipv6/conf/{}/disable_ipv6", host.interface);
    if !std::path::Path::new(&path).exists() {
        return Ok(());
    }
    let silent = devconf::no_ipv6_address(handle, port.kernel_index).await;
    if let Err(error) = std::fs::write(&path, "0") {
        tracing::warn!(%error, "{path} cannot be written: this node's own processes do not reach IPv6 VIPs and containers");
        return Ok(());
    }
    silent?;
    let own = host.addresses.iter().map(IpNet::addr).chain(missing(handle, names).await?);
    for ip in own.filter(IpAddr::is_ipv6) {
        let mut request = handle.address().add(port.kernel_index, ip, 128);
        // Nobody on this link could have it: it is to be used at once.
        request.message_mut().header.flags |= AddressHeaderFlags::Nodad;
        request.execute().await.tried(|| format!("give {} the address {ip}", host.interface))?;
    }
    port.ipv6 = true;
    gateway(handle, port, IpAddr::V6(GATEWAY6)).await
}

/// Puts the gateway's permanent entry back where the kernel lost it (it does when the link goes down), and keeps
/// Sluice's end from forwarding (net.ipv4.ip_forward, when it changes, changes it everywhere): the pair outlives a Sluice
/// that is killed, and with forwarding what the routes send there would come in again and go round until its TTL ends.
///
/// # Errors
/// What the kernel says.
pub async fn settle(handle: &Handle, port: &HostPort, kernel: &Inventory) -> Result<(), NetlinkError> {
    if kernel.links.get(&port.peer_index).is_some_and(|link| link.forwards) {
        devconf::set_ipv4(handle, port.peer_index, FORWARDING, 0).await?;
    }
    let up = kernel.links.get(&port.kernel_index).is_some_and(|link| link.up);
    let of_four = Some(IpAddr::V4(GATEWAY));
    for ip in of_four.into_iter().chain(port.ipv6.then_some(IpAddr::V6(GATEWAY6))) {
        let known = kernel.neighbours.get(&(port.kernel_index, ip));
        if up && known.and_then(|n| n.mac) != Some(port.peer_mac) {
            gateway(handle, port, ip).await?;
        }
    }
    Ok(())
}

async fn gateway(handle: &Handle, port: &HostPort, ip: IpAddr) -> Result<(), NetlinkError> {
    let mut gateway = handle
        .neighbours()
        .add(port.kernel_index, ip)
        .state(NeighbourState::Permanent)
        .link_layer_address(&port.peer_mac.0)
        .replace();
    gateway.message_mut().attributes.push(NeighbourAttribute::Protocol(ours()));
    gateway.execute().await.tried(|| format!("make {ip} a permanent neighbour of interface {}", port.kernel_index))
}

fn refused(host: &Host, reason: String) -> NetlinkError {
    NetlinkError::Refused { what: format!("make the veth pair {} and {}", host.interface, host.peer), reason }
}
