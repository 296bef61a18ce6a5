//! Managed neighbours: next hops that the kernel resolves and keeps resolved for us (NTF_EXT_MANAGED, Linux 5.16).
//!
//! The packet path sends neither ARP nor neighbour solicitations. Every gateway, on-link backend, agent and station that spoke to us is installed
//! here; the kernel's answers come back through the [`super::inventory`].

use std::collections::{BTreeSet, VecDeque};
use std::net::IpAddr;

use rtnetlink::Handle;
use rtnetlink::packet_route::neighbour::{NeighbourAttribute, NeighbourExtFlags, NeighbourMessage, NeighbourState};

use super::inventory::Inventory;
use super::{NetlinkError, Tried, inventory, ours, unless};

/// Link index and address.
pub type Key = (u32, IpAddr);

/// Most stations that are kept because they asked or were missed; the oldest gives way.
pub const MOST_ASKED: usize = 4096;

/// Our managed neighbours in the kernel.
#[derive(Debug)]
pub struct Neighbours {
    handle: Handle,
    there: BTreeSet<Key>,
    asked: VecDeque<Key>,
    /// How many the kernel refused last time, so that it is said once.
    refused: usize,
    is_asked: BTreeSet<Key>,
}

impl Neighbours {
    /// Takes over what an earlier Sluice left: the first [`Neighbours::settle`] removes what is not wanted of it.
    ///
    /// # Errors
    /// What the kernel says.
    pub async fn begin(handle: Handle) -> Result<Self, NetlinkError> {
        let there = left_behind(&handle).await?;
        Ok(Self { handle, there, asked: VecDeque::new(), refused: 0, is_asked: BTreeSet::new() })
    }

    /// Forgets what the kernel no longer keeps for us (a link that goes down takes its neighbours with it, and anybody
    /// may flush them), so that the next [`Neighbours::settle`] puts it back.
    fn compare(&mut self, kernel: &Inventory) {
        let kept = |(link, ip): &Key| kernel.neighbours.get(&(*link, *ip)).is_some_and(|n| n.kept);
        self.there.retain(kept);
    }

    /// Forgets that `key` was installed: installing it again makes the kernel ask at once, where it would wait for its
    /// own next turn (net.ipv4.neigh.*.interval_probe_time_ms, 5 s).
    pub fn doubt(&mut self, key: Key) {
        self.there.remove(&key);
    }

    /// Remembers a station that asked for us, or that a packet wanted; `true` if it is new.
    pub fn ask(&mut self, key: Key) -> bool {
        if !self.is_asked.insert(key) {
            return false;
        }
        self.asked.push_back(key);
        if self.asked.len() > MOST_ASKED
            && let Some(oldest) = self.asked.pop_front()
        {
            self.is_asked.remove(&oldest);
        }
        true
    }

    /// Makes our managed neighbours the wanted ones and those that were asked for, on links that are up. One that the
    /// kernel refuses is logged and does not keep the others from being installed.
    pub async fn settle(&mut self, wanted: &BTreeSet<Key>, kernel: &Inventory) {
        self.compare(kernel);
        // What is installed while its link is down fails, and is asked for again only seconds after the link is back.
        let up = |key: &&Key| kernel.links.get(&key.0).is_some_and(|link| link.up);
        let all: BTreeSet<Key> = wanted.union(&self.is_asked).filter(up).copied().collect();
        let mut refused = 0;
        let mut last = None;
        for key in all.difference(&self.there.clone()) {
            match self.install(*key).await {
                Ok(()) => drop(self.there.insert(*key)),
                Err(error) => {
                    refused += 1;
                    last = Some(error);
                }
            }
        }
        if let Some(error) = last.filter(|_| refused != self.refused) {
            tracing::warn!(refused, %error, "next hops cannot be kept resolved; is net.ipv4.neigh.default.gc_thresh3 too small?");
        }
        self.refused = refused;
        let stale: Vec<Key> = self.there.difference(&all).copied().collect();
        for key in stale {
            self.there.remove(&key);
            if let Err(error) = self.remove(key).await {
                tracing::debug!(ip = %key.1, %error, "a neighbour of ours was gone already");
            }
        }
    }

    /// Removes all of ours.
    pub async fn end(mut self) {
        // What the kernel lists includes what was forgotten here and is still there.
        self.there.extend(left_behind(&self.handle).await.unwrap_or_default());
        for key in &self.there {
            if let Err(error) = self.remove(*key).await {
                tracing::debug!(ip = %key.1, %error, "a neighbour of ours was gone already");
            }
        }
    }

    async fn install(&self, (link, ip): Key) -> Result<(), NetlinkError> {
        // NUD_NONE lets the kernel begin resolution; on an entry that exists it changes the flags alone.
        let mut request = self.handle.neighbours().add(link, ip).state(NeighbourState::None).replace();
        request
            .message_mut()
            .attributes
            .extend([NeighbourAttribute::ExtFlags(NeighbourExtFlags::Managed), NeighbourAttribute::Protocol(ours())]);
        request.execute().await.tried(|| format!("keep {ip} resolved"))
    }

    async fn remove(&self, (link, ip): Key) -> Result<(), NetlinkError> {
        let mut add = self.handle.neighbours().add(link, ip).state(NeighbourState::None);
        let message: NeighbourMessage = add.message_mut().clone();
        let removed = self.handle.neighbours().del(message).execute().await;
        unless(removed, &[libc::ENOENT, libc::ENODEV]).tried(|| format!("remove the neighbour {ip}"))
    }
}

async fn left_behind(handle: &Handle) -> Result<BTreeSet<Key>, NetlinkError> {
    let all = inventory::neighbours(handle).await?;
    Ok(all.into_iter().filter(|(_, neighbour)| neighbour.kept).map(|(key, _)| key).collect())
}
