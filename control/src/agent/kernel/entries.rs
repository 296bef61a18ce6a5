//! What a VXLAN device knows of the other members: neighbours of both families, and forwarding entries.

use std::collections::BTreeSet;
use std::net::IpAddr;

use futures_util::TryStreamExt as _;
use rtnetlink::packet_route::AddressFamily;
use rtnetlink::packet_route::neighbour::{
    NeighbourAddress, NeighbourAttribute, NeighbourFlags, NeighbourMessage, NeighbourState,
};
use sluice_config::model::Mac;

use super::Kernel;
use crate::agent::plan::Peer;
use crate::netlink::{NetlinkError, Tried, unless};

impl Kernel {
    /// Neighbours and forwarding entries.
    pub(super) async fn peers(
        &self,
        index: u32,
        wanted: &BTreeSet<Peer>,
        with_ipv6: bool,
    ) -> Result<usize, NetlinkError> {
        let neighbours: BTreeSet<(IpAddr, String)> =
            wanted.iter().flat_map(|peer| peer.neighbours().map(|ip| (ip, peer.mac.clone()))).collect();
        let forwarding: BTreeSet<(IpAddr, String)> =
            wanted.iter().map(|peer| (IpAddr::V4(peer.underlay), peer.mac.clone())).collect();
        let (four, six): (BTreeSet<_>, BTreeSet<_>) = neighbours.into_iter().partition(|(ip, _)| ip.is_ipv4());
        let mut changes = self.entries(index, AddressFamily::Bridge, &forwarding).await?;
        changes += self.entries(index, AddressFamily::Inet, &four).await?;
        if with_ipv6 {
            changes += self.entries(index, AddressFamily::Inet6, &six).await?;
        }
        Ok(changes)
    }

    /// Makes the device's permanent entries of one family these: of each address and MAC.
    async fn entries(
        &self,
        index: u32,
        family: AddressFamily,
        wanted: &BTreeSet<(IpAddr, String)>,
    ) -> Result<usize, NetlinkError> {
        let mut there = Vec::new();
        let mut listed = self.handle.neighbours().get().set_address_family(family).execute();
        while let Some(message) = listed.try_next().await.tried(|| "list neighbours".into())? {
            if message.header.ifindex == index && message.header.state == NeighbourState::Permanent {
                there.extend(entry(&message).map(|entry| (entry, message)));
            }
        }
        let known: BTreeSet<_> = there.iter().map(|(entry, _)| entry.clone()).collect();
        let by_mac = family == AddressFamily::Bridge;
        let mut changes = 0;
        for (address, mac) in wanted.difference(&known) {
            let octets = mac.parse::<Mac>().unwrap_or_default().0;
            let request = if by_mac {
                self.handle.neighbours().add_bridge(index, &octets).destination(*address).flags(NeighbourFlags::Own)
            } else {
                self.handle.neighbours().add(index, *address).link_layer_address(&octets)
            };
            request.replace().execute().await.tried(|| format!("make {address} with {mac} a neighbour"))?;
            changes += 1;
        }
        for ((address, mac), message) in there {
            // Replaced above, unless nobody has either any more: a neighbour is known by its address, a forwarding entry by
            // its MAC.
            let replaced = wanted.iter().any(|(a, m)| if by_mac { *m == mac } else { *a == address });
            if !wanted.contains(&(address, mac.clone())) {
                changes += 1;
                if !replaced {
                    let removed = self.handle.neighbours().del(message).execute().await;
                    unless(removed, &[libc::ENOENT]).tried(|| format!("forget the neighbour {address} with {mac}"))?;
                }
            }
        }
        Ok(changes)
    }
}

fn entry(message: &NeighbourMessage) -> Option<(IpAddr, String)> {
    let mut address = None;
    let mut mac = None;
    for attribute in &message.attributes {
        if let NeighbourAttribute::Destination(NeighbourAddress::Inet(ip)) = attribute {
            address = Some(IpAddr::V4(*ip));
        } else if let NeighbourAttribute::Destination(NeighbourAddress::Inet6(ip)) = attribute {
            address = Some(IpAddr::V6(*ip));
        } else if let NeighbourAttribute::Destination(NeighbourAddress::Other(octets)) = attribute {
            // Of a bridge's family the parser does not know the address.
            address = <[u8; 4]>::try_from(octets.as_slice()).ok().map(|octets| IpAddr::V4(octets.into()));
        } else if let NeighbourAttribute::LinkLayerAddress(octets) = attribute {
            mac = <[u8; 6]>::try_from(octets.as_slice()).ok().map(|octets| Mac(octets).to_string());
        }
    }
    address.zip(mac)
}
