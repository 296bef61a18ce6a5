//! Makes the agent's kernel have what its plan says, and nothing else that an agent made before.
//!
//! Every step looks first and changes only what differs, so that a second run changes nothing and one that was killed is
//! gone on with. Whatever is made carries [`AGENT`] as its protocol, or the device's alias; what does not is somebody
//! else's and stays. Links come before entries, entries before routes, routes before rules, and go in the other order:
//! no packet meets a way that leads nowhere.

use std::collections::{BTreeMap, BTreeSet};

use rtnetlink::Handle;

use super::plan::{Plan, Route};
use crate::netlink::NetlinkError;

mod entries;
mod links;
mod routes;
mod rules;

/// The protocol number of every route and rule that an agent makes: `ip route show table all proto 84` lists them. Not
/// `sluice run`'s, which takes over whatever has its own.
pub const AGENT: u8 = 84;

/// The index of each VNI's device.
type Tunnels = BTreeMap<u32, u32>;

/// The kernel, as an agent changes it.
#[derive(Debug)]
pub struct Kernel {
    handle: Handle,
    /// Routes that somebody else has; each is told of once.
    foreign: BTreeSet<Route>,
    /// Routes whose gateway is on no link of ours; each is told of once.
    cut_off: BTreeSet<Route>,
}

impl Kernel {
    /// A connection to it.
    ///
    /// # Errors
    /// When there is none to be had.
    pub fn connect() -> Result<Self, NetlinkError> {
        Ok(Self { handle: crate::netlink::connect()?, foreign: BTreeSet::new(), cut_off: BTreeSet::new() })
    }

    /// Makes it so. How many changes that took.
    ///
    /// # Errors
    /// What the kernel says; what was done stays, and the next call goes on.
    pub async fn settle(&mut self, plan: &Plan) -> Result<usize, NetlinkError> {
        let mut changes = self.remove_others(&plan.devices).await?;
        let mut tunnels = Tunnels::new();
        for device in &plan.devices {
            let (index, changed) = self.device(device).await?;
            if plan.speaks_ipv6() {
                links::switch_ipv6_on(&device.name)?;
            }
            changes += changed + self.peers(index, &plan.peers, plan.speaks_ipv6()).await?;
            tunnels.insert(device.vni, index);
        }
        changes += self.routes(&tunnels, &plan.routes).await?;
        changes += self.rules(&plan.rules).await?;
        Ok(changes)
    }

    /// Removes everything that an agent made, and those of `bridges` that have no port any more.
    ///
    /// # Errors
    /// What the kernel says.
    pub async fn down(&mut self, bridges: &[String]) -> Result<(), NetlinkError> {
        self.rules(&BTreeSet::new()).await?;
        for (_, message) in self.our_routes(&Tunnels::new()).await? {
            self.remove_route(message).await?;
        }
        let links = self.links().await?;
        let ours = links.iter().filter(|link| link.is_ours());
        for link in ours.chain(self.empty_bridges(&links, bridges).await?.iter()) {
            self.remove_link(link).await?;
        }
        Ok(())
    }
}
