//! What an operator drains: no new flows at once, the old ones until a time-out, then none. Kept in a file across restarts;
//! time is seconds since the epoch and always an argument.

use std::collections::BTreeSet;
use std::fmt;
use std::net::{IpAddr, SocketAddr};
use std::path::PathBuf;

use serde::{Deserialize, Serialize};
use sluice_config::model::Backend;

use crate::json_file::{self, JsonError};

/// How long a drain is remembered that concerns nothing any longer, seconds. An agent's stays until it is taken back.
pub const IDLE_SECONDS: u64 = 24 * 3600;

/// Most drains at once.
pub const DRAINS_MAX: usize = 1000;

/// Largest file read, octets.
const FILE_OCTETS: u64 = 16 << 20;

/// What is drained.
#[derive(Clone, PartialEq, Eq, PartialOrd, Ord, Debug, Serialize, Deserialize)]
#[serde(rename_all = "snake_case", deny_unknown_fields)]
pub enum What {
    /// An address and port. With a task, only as long as that task has it: ports are given out again.
    Backend {
        /// Address and port.
        address: SocketAddr,
        /// The task that had it.
        task: Option<String>,
    },
    /// Every port of a task.
    Task {
        /// Mesos task id.
        id: String,
    },
    /// Everything on an agent.
    Agent {
        /// Its address.
        ip: IpAddr,
    },
}

impl What {
    /// Whether `backend` is drained by it.
    #[must_use]
    pub fn concerns(&self, backend: &Backend) -> bool {
        match self {
            Self::Backend { address, task } => *address == backend.address && *task == backend.task,
            Self::Task { id } => backend.task.as_ref() == Some(id),
            // A backend of the configuration names no agent: on the underlay it is its own.
            Self::Agent { ip } => match backend.agent {
                Some(agent) => agent == *ip,
                None => backend.network.is_none() && backend.address.ip() == *ip,
            },
        }
    }
}

impl fmt::Display for What {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Backend { address, .. } => write!(f, "backend {address}"),
            Self::Task { id } => write!(f, "task {}", crate::rejected::shown(id)),
            Self::Agent { ip } => write!(f, "agent {ip}"),
        }
    }
}

/// One drain.
#[derive(Clone, PartialEq, Eq, Debug, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Drain {
    /// What is drained.
    pub what: What,
    /// When it began, seconds since the epoch.
    pub since: u64,
    /// When old flows end, seconds since the epoch.
    pub until: u64,
    /// Since when it concerns nothing.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub idle_since: Option<u64>,
}

/// A drain as `desire` sees it: no clock.
#[derive(Clone, PartialEq, Eq, PartialOrd, Ord, Debug)]
pub struct Drained {
    /// What is drained.
    pub what: What,
    /// Whether its time-out has passed.
    pub over: bool,
}

/// All drains.
#[derive(Clone, PartialEq, Eq, Debug, Default, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Drains {
    /// Sorted by what they drain, nothing twice.
    pub drains: Vec<Drain>,
}

/// There are too many drains.
#[derive(Clone, Copy, PartialEq, Eq, Debug, thiserror::Error)]
#[error("{DRAINS_MAX} drains are there already: take some back with `sluice undrain`, `sluice show drains` lists them")]
pub struct TooMany;

impl Drains {
    /// Drains `what` from `now` on, for `seconds`. One that is drained already keeps its beginning.
    ///
    /// # Errors
    /// When there are too many.
    pub fn add(&mut self, what: What, now: u64, seconds: u64) -> Result<&Drain, TooMany> {
        let at = match self.drains.binary_search_by(|d| d.what.cmp(&what)) {
            Ok(at) => at,
            Err(_) if self.drains.len() >= DRAINS_MAX => return Err(TooMany),
            Err(at) => {
                self.drains.insert(at, Drain { what, since: now, until: now, idle_since: None });
                at
            }
        };
        let drain = self.drains.get_mut(at).ok_or(TooMany)?;
        (drain.until, drain.idle_since) = (now.saturating_add(seconds), None);
        Ok(drain)
    }

    /// Takes a drain back; whether there was one.
    pub fn remove(&mut self, what: &What) -> bool {
        let before = self.drains.len();
        self.drains.retain(|drain| drain.what != *what);
        self.drains.len() != before
    }

    /// What is drained at `now`.
    #[must_use]
    pub fn at(&self, now: u64) -> Vec<Drained> {
        self.drains.iter().map(|d| Drained { what: d.what.clone(), over: d.until <= now }).collect()
    }

    /// Forgets what has concerned nothing for a day; whether anything changed. `concerned` is what concerns a backend now.
    pub fn settle(&mut self, concerned: &BTreeSet<What>, now: u64) -> bool {
        let mut changed = false;
        self.drains.retain_mut(|drain| {
            let idle = match drain.what {
                What::Agent { .. } => None,
                What::Backend { .. } | What::Task { .. } if concerned.contains(&drain.what) => None,
                What::Backend { .. } | What::Task { .. } => Some(drain.idle_since.unwrap_or(now)),
            };
            // A clock that was set back makes a drain live longer, never shorter.
            let stays = idle.is_none_or(|since| now.saturating_sub(since) < IDLE_SECONDS);
            changed |= !stays || idle != drain.idle_since;
            drain.idle_since = idle;
            stays
        });
        changed
    }
}

/// Why drains could not be kept or found.
#[derive(Debug, thiserror::Error)]
pub enum DrainsError {
    /// The file cannot be read or written.
    #[error("drains in {path}: {source}")]
    Io {
        /// The file.
        path: PathBuf,
        /// The system's word.
        source: std::io::Error,
    },
    /// The file is there and is not ours.
    #[error("drains in {path} cannot be read ({source}): move the file away to start with no drains")]
    Format {
        /// The file.
        path: PathBuf,
        /// The parser's word.
        source: serde_json::Error,
    },
    /// The file is too large to be ours.
    #[error("drains in {path}: longer than {FILE_OCTETS} octets: move the file away to start with no drains")]
    TooLong {
        /// The file.
        path: PathBuf,
    },
}

/// Drains in a JSON file, replaced by rename.
#[derive(Clone, Debug)]
pub struct File {
    /// The file. Its folder must exist.
    pub path: PathBuf,
}

impl File {
    /// What was saved last; nothing saved is no drains.
    ///
    /// # Errors
    /// When something is there and cannot be understood: starting without it would use what was to be spared.
    pub fn load(&self) -> Result<Drains, DrainsError> {
        let mut drains: Drains = json_file::load(&self.path, FILE_OCTETS).map_err(|e| self.error(e))?;
        // Somebody may have edited it by hand.
        drains.drains.sort_by(|a, b| a.what.cmp(&b.what));
        drains.drains.dedup_by(|a, b| a.what == b.what);
        drains.drains.truncate(DRAINS_MAX);
        Ok(drains)
    }

    /// Replaces what was saved, wholly or not at all.
    ///
    /// # Errors
    /// When it could not be written.
    pub fn save(&self, drains: &Drains) -> Result<(), DrainsError> {
        json_file::save(&self.path, drains).map_err(|e| self.error(e))
    }

    fn error(&self, error: JsonError) -> DrainsError {
        let path = self.path.clone();
        match error {
            JsonError::Io(source) => DrainsError::Io { path, source },
            JsonError::Format(source) => DrainsError::Format { path, source },
            JsonError::TooLong => DrainsError::TooLong { path },
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::health::combine::tests::backend;

    fn task(id: &str) -> What {
        What::Task { id: id.to_owned() }
    }

    #[test]
    fn a_drain_is_over_at_its_time_out_and_a_second_word_moves_that_and_not_the_beginning() {
        let mut drains = Drains::default();
        drains.add(task("a"), 100, 300).unwrap();
        assert_eq!([399, 400].map(|now| drains.at(now)[0].over), [false, true]);
        let again = drains.add(task("a"), 450, 10).unwrap();
        assert_eq!((again.since, again.until), (100, 460));
        assert!(!drains.at(459)[0].over);
        assert!(drains.remove(&task("a")) && !drains.remove(&task("a")));
    }

    #[test]
    fn a_port_that_another_task_has_got_is_no_longer_drained() {
        let mut there = backend(1);
        let what = What::Backend { address: there.address, task: there.task.clone() };
        assert!(what.concerns(&there));
        there.task = Some("other.1".into());
        assert!(!what.concerns(&there));
    }

    #[test]
    fn an_agent_is_what_its_backends_name_and_those_of_the_configuration_are_their_own() {
        let agent = What::Agent { ip: [10, 0, 1, 1].into() };
        assert!(agent.concerns(&backend(1)) && !agent.concerns(&backend(2)));
        let fixed = Backend { agent: None, task: None, ..backend(1) };
        assert!(What::Agent { ip: fixed.address.ip() }.concerns(&fixed));
        let inside = Backend { network: Some("dcos".into()), ..fixed };
        assert!(!What::Agent { ip: inside.address.ip() }.concerns(&inside));
    }

    #[test]
    fn a_drain_that_concerns_nothing_is_forgotten_after_a_day_and_an_agents_is_not() {
        let mut drains = Drains::default();
        drains.add(task("a"), 0, 300).unwrap();
        drains.add(What::Agent { ip: [10, 0, 1, 1].into() }, 0, 300).unwrap();
        assert!(!drains.settle(&[task("a")].into(), 50));
        assert!(drains.settle(&BTreeSet::new(), 100));
        assert!(!drains.settle(&BTreeSet::new(), 100 + IDLE_SECONDS - 1));
        assert!(drains.settle(&[task("a")].into(), 100 + IDLE_SECONDS), "it is back");
        assert!(drains.settle(&BTreeSet::new(), 200_000));
        assert!(drains.settle(&BTreeSet::new(), 200_000 + IDLE_SECONDS));
        assert_eq!(drains.drains.iter().map(|d| d.what.to_string()).collect::<Vec<_>>(), ["agent 10.0.1.1"]);
    }

    #[test]
    fn a_file_keeps_drains_across_a_restart_and_a_broken_one_is_an_error_that_says_what_to_do() {
        let folder = std::env::temp_dir().join(format!("sluice-drains-{}", std::process::id()));
        std::fs::create_dir_all(&folder).unwrap();
        let file = File { path: folder.join("drains.json") };
        assert_eq!(file.load().unwrap(), Drains::default());
        let mut drains = Drains::default();
        drains.add(task("a"), 1, 2).unwrap();
        drains.add(What::Backend { address: "[fd01::1]:80".parse().unwrap(), task: None }, 1, 2).unwrap();
        file.save(&drains).unwrap();
        assert_eq!(file.load().unwrap(), drains);
        for broken in [&b""[..], b"{", b"{\"drains\":[{\"what\":{\"rack\":\"7\"},\"since\":0,\"until\":0}]}"] {
            std::fs::write(&file.path, broken).unwrap();
            let said = file.load().unwrap_err().to_string();
            assert!(said.contains("drains.json") && said.contains("move the file away"), "{said}");
        }
        std::fs::remove_dir_all(&folder).unwrap();
    }
}
