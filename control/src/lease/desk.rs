//! The book of leases where it is kept and changed: nothing is given that was not saved before.

use std::collections::BTreeMap;
use std::net::Ipv4Addr;
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Instant;

use serde::{Deserialize, Serialize};
use sluice_config::model::{Config, OverlayAgent};
use tokio::sync::{mpsc, oneshot};

use super::file::{File, LeasesError};
use super::pool::Pool;
use super::token::Token;
use super::{Lease, Leases, Refusal};
use crate::rejected::Rejected;

/// The desk, shared between the loop that publishes and the API.
pub type Shared = Arc<Mutex<Desk>>;

/// What is asked of the desk.
#[derive(Clone, PartialEq, Eq, Debug)]
pub enum Wish {
    /// A place with a subnet of each of these networks, or the one that is there.
    Take(Vec<String>),
    /// Out of the overlay, keeping the place.
    Leave,
    /// The place is to be somebody else's.
    Release,
}

/// A wish, and where its answer is waited for.
#[derive(Debug)]
pub struct Order {
    /// Whose place.
    pub agent: Ipv4Addr,
    /// What to do.
    pub wish: Wish,
    /// The lease as it is, or was; it comes once workers have the tables.
    pub answer: oneshot::Sender<Result<Lease, DeskError>>,
}

/// Why nothing was done.
#[derive(Debug, thiserror::Error)]
pub enum DeskError {
    /// By the rules.
    #[error(transparent)]
    Refused(#[from] Refusal),
    /// It could not be kept.
    #[error("nothing was done: {0}")]
    NotSaved(#[from] LeasesError),
    /// It cannot be kept at all.
    #[error("no leases are given: there is no folder to keep them in (`sluice run --state`, or `overlay.lease_store`)")]
    NotKept,
}

/// Leases that hold, and those that do not.
#[derive(Clone, PartialEq, Eq, Debug, Default)]
pub struct Leased {
    /// Agents that have a place by lease, sorted.
    pub agents: Vec<OverlayAgent>,
    /// Leases of which somebody else has a part.
    pub rejected: Vec<Rejected>,
}

/// One lease, as `show leases` lists it. Fields are added, never renamed or removed.
#[derive(Clone, PartialEq, Eq, Debug, Serialize, Deserialize)]
pub struct Row {
    /// The agent's underlay address.
    pub agent: Ipv4Addr,
    /// Its VTEP's address.
    pub vtep_ip: Ipv4Addr,
    /// Its VTEP's MAC.
    pub vtep_mac: String,
    /// Its subnet in each network.
    pub subnets: BTreeMap<String, String>,
    /// The same of IPv6.
    pub subnets6: BTreeMap<String, String>,
    /// `held`, `left` or `conflict`.
    pub state: String,
    /// Seconds since it asked last; `null` while it has not since Sluice started.
    pub heard_ago: Option<u64>,
    /// What is wrong with it.
    pub why: Option<String>,
}

/// The book, the file that it is in, and what is to be given.
#[derive(Debug)]
pub struct Desk {
    leases: Leases,
    file: Option<File>,
    pool: Pool,
    /// The places that DC/OS's overlay module told of when leases were last compared with them; `None` since a change.
    settled: Option<Vec<OverlayAgent>>,
    heard: BTreeMap<Ipv4Addr, Instant>,
}

impl Desk {
    /// Opens the book.
    ///
    /// # Errors
    /// When the file cannot be understood.
    pub fn open(file: Option<File>, pool: Pool) -> Result<Self, LeasesError> {
        let leases = file.as_ref().map(File::load).transpose()?.unwrap_or_default();
        Ok(Self { leases, file, pool, settled: None, heard: BTreeMap::new() })
    }

    /// Does what is wished, and keeps it. The lease as it is, or was, and whether anything changed.
    ///
    /// # Errors
    /// When it may not or cannot be; nothing has changed then.
    pub fn obey(&mut self, agent: Ipv4Addr, wish: &Wish, now: Instant) -> Result<(Lease, bool), DeskError> {
        if let (Wish::Take(networks), Some(lease)) = (wish, self.leases.leases.get(&agent)) {
            // The usual question, of every agent every few seconds: nothing to change, nothing to copy.
            if self.pool.is_whole(lease, networks) && !lease.left && self.wrong(agent, lease).is_none() {
                let lease = self.pool.today(lease);
                self.heard.insert(agent, now);
                return Ok((lease, false));
            }
        }
        let mut leases = self.leases.clone();
        let (lease, changed) = match wish {
            Wish::Take(networks) => {
                let changed = leases.take(agent, networks, &self.pool)?;
                (leases.leases.get(&agent).cloned(), changed)
            }
            Wish::Leave => {
                let changed = leases.leave(agent)?;
                (leases.leases.get(&agent).cloned(), changed)
            }
            Wish::Release => (Some(leases.release(agent)?), true),
        };
        let lease = self.pool.today(&lease.ok_or(Refusal::NoLease(agent))?);
        if changed {
            self.file.as_ref().ok_or(DeskError::NotKept)?.save(&leases)?;
            self.leases = leases;
            self.settled = None;
        }
        match wish {
            Wish::Take(_) => drop(self.heard.insert(agent, now)),
            Wish::Leave | Wish::Release => drop(self.heard.remove(&agent)),
        }
        Ok((lease, changed))
    }

    /// The lease of an agent, as it is worth today.
    #[must_use]
    pub fn lease(&self, agent: Ipv4Addr) -> Option<Lease> {
        self.leases.leases.get(&agent).map(|lease| self.pool.today(lease))
    }

    /// Takes in what DC/OS's overlay module tells, and gives the leases that hold beside it; `None` when nothing of both
    /// has changed since.
    pub fn settle(&mut self, config: &Config, told: &[OverlayAgent]) -> Option<Leased> {
        if self.settled.as_deref() == Some(told) {
            return None;
        }
        self.pool = Pool::of(config, told)?;
        self.settled = Some(told.to_vec());
        let mut leased = Leased::default();
        for (agent, lease) in &self.leases.leases {
            match self.wrong(*agent, lease) {
                Some(why) => leased.rejected.push(Rejected::new("", "lease", &agent.to_string(), why)),
                None if lease.left => {}
                None => leased.agents.push(self.pool.today(lease).agent(*agent)),
            }
        }
        Some(leased)
    }

    /// Every lease, for people.
    #[must_use]
    pub fn rows(&self, now: Instant) -> Vec<Row> {
        let row = |(agent, lease): (&Ipv4Addr, &Lease)| {
            let why = self.wrong(*agent, lease);
            let state = if why.is_some() {
                "conflict"
            } else if lease.left {
                "left"
            } else {
                "held"
            };
            Row {
                agent: *agent,
                vtep_ip: lease.vtep_ip,
                vtep_mac: lease.vtep_mac().to_string(),
                subnets: lease.subnets.iter().map(|(name, net)| (name.clone(), net.to_string())).collect(),
                subnets6: lease.subnets6.iter().map(|(name, net)| (name.clone(), net.to_string())).collect(),
                state: state.to_owned(),
                heard_ago: self.heard.get(agent).map(|at| now.saturating_duration_since(*at).as_secs()),
                why,
            }
        };
        self.leases.leases.iter().map(row).collect()
    }

    fn wrong(&self, agent: Ipv4Addr, lease: &Lease) -> Option<String> {
        if let Some(source) = self.pool.place_of(agent) {
            return Some(format!(
                "{source} gives {agent} a place too, which goes before its lease; `sluice overlay release {agent}` ends the lease"
            ));
        }
        let what = self.pool.conflict(lease)?;
        Some(Refusal::Conflict { agent, what }.to_string())
    }
}

/// The desk, whoever held it last.
pub fn at(desk: &Shared) -> std::sync::MutexGuard<'_, Desk> {
    desk.lock().unwrap_or_else(PoisonError::into_inner)
}

/// Where the API finds the leases: the desk, who carries out what is wished, and what is asked of whoever wishes it.
#[derive(Clone, Debug)]
pub struct LeaseOffice {
    /// The desk.
    pub desk: Shared,
    /// Who carries out wishes.
    pub orders: mpsc::Sender<Order>,
    /// The word that agents must show.
    pub token: Option<Token>,
}
