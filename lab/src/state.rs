//! What a lab has made, on disk before it is made, so that `sluice-lab down` removes it even after SIGKILL.
//!
//! A lab is a folder `/tmp/sluice-lab-<id>/` and network namespaces `slab-<id>-<role>`. Removing it ends every process
//! that lives in one of these namespaces or was recorded (by pid and start time: a pid may have been used again),
//! deletes the namespaces (their interfaces go with them) and then the folder. Nothing else is touched.

use std::fs::{self, OpenOptions};
use std::io::{self, Write as _};
use std::path::{Path, PathBuf};
use std::thread::sleep;
use std::time::{Duration, SystemTime, UNIX_EPOCH};

use crate::processes;
use crate::shell::{ShellError, run};

const FOLDER_PREFIX: &str = "sluice-lab-";
const TEMPORARY: &str = "/tmp";
const OWNER: &str = "owner";
const ENDING: &str = "ending";
/// From SIGTERM to SIGKILL: enough for Sluice to detach its program.
const PATIENCE: Duration = Duration::from_millis(1500);
const NAMESPACES: &str = "/run/netns";

/// The folder and the names of one lab. Cheap to clone; holding one keeps nothing alive.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct LabState {
    id: String,
    folder: PathBuf,
}

/// Why the lab's own files could not be written or its namespaces not removed.
#[derive(Debug, thiserror::Error)]
pub enum StateError {
    #[error("{path}: {source}")]
    File { path: PathBuf, source: io::Error },
    #[error("no lab `{id}`: there is no {path}; `sluice-lab status` lists the labs of this machine")]
    Unknown { id: String, path: PathBuf },
    #[error("`{id}` is not a lab id (lower-case letters and digits)")]
    NotAnId { id: String },
    #[error("the lab is being removed")]
    Ending,
    #[error("{what} is full: nothing left to give; use a topology with more agents or larger subnets")]
    Full { what: String },
    #[error(transparent)]
    Shell(#[from] ShellError),
}

impl LabState {
    /// Makes the folder of a new lab under a name that no other lab on this machine has.
    pub fn create() -> Result<Self, StateError> {
        let millis = SystemTime::now().duration_since(UNIX_EPOCH).map_or(0, |d| d.subsec_millis());
        for attempt in 0..64 {
            let id = format!("{:x}{:x}", std::process::id(), (millis + attempt) & 0xfff);
            let state = Self::at(id);
            match fs::create_dir(&state.folder) {
                Ok(()) => return state.fill().map(|()| state),
                Err(error) if error.kind() == io::ErrorKind::AlreadyExists => {}
                Err(source) => return Err(StateError::File { path: state.folder, source }),
            }
        }
        Err(StateError::NotAnId { id: "64 ids in a row are taken".to_owned() })
    }

    /// A lab that is there already.
    pub fn open(id: &str) -> Result<Self, StateError> {
        if id.is_empty() || !id.bytes().all(|b| b.is_ascii_lowercase() || b.is_ascii_digit()) {
            return Err(StateError::NotAnId { id: id.to_owned() });
        }
        let state = Self::at(id.to_owned());
        if state.folder.is_dir() {
            return Ok(state);
        }
        Err(StateError::Unknown { id: id.to_owned(), path: state.folder })
    }

    /// Every lab of this machine, by id.
    #[must_use]
    pub fn all() -> Vec<Self> {
        let names = fs::read_dir(TEMPORARY).into_iter().flatten().flatten();
        let mut ids: Vec<String> = names
            .filter_map(|entry| entry.file_name().to_str()?.strip_prefix(FOLDER_PREFIX).map(str::to_owned))
            .collect();
        ids.sort();
        ids.iter().filter_map(|id| Self::open(id).ok()).collect()
    }

    fn at(id: String) -> Self {
        let folder = Path::new(TEMPORARY).join(format!("{FOLDER_PREFIX}{id}"));
        Self { id, folder }
    }

    fn fill(&self) -> Result<(), StateError> {
        for name in ["logs", "claims", "tasks"] {
            let path = self.folder.join(name);
            fs::create_dir(&path).map_err(|source| StateError::File { path, source })?;
        }
        let path = self.folder.join(OWNER);
        let own = std::process::id();
        let line = format!("{own} {}", processes::start_time(own).unwrap_or_default());
        fs::write(&path, line).map_err(|source| StateError::File { path, source })
    }

    /// The labs that a process made.
    #[must_use]
    pub fn made_by(pid: u32) -> Vec<Self> {
        Self::all().into_iter().filter(|lab| lab.owner() == Some(pid)).collect()
    }

    /// The process that made this lab, while it lives: it will remove the lab itself.
    #[must_use]
    pub fn owner(&self) -> Option<u32> {
        fs::read_to_string(self.folder.join(OWNER)).ok().as_deref().and_then(processes::still_the_same)
    }

    /// Whether the lab is being removed: nothing may be started in it any more.
    #[must_use]
    pub fn ending(&self) -> bool {
        self.folder.join(ENDING).exists() || !self.folder.exists()
    }

    /// The id that `sluice-lab down` takes.
    #[must_use]
    pub fn id(&self) -> &str {
        &self.id
    }

    /// `/tmp/sluice-lab-<id>`.
    #[must_use]
    pub fn folder(&self) -> &Path {
        &self.folder
    }

    /// A file of the lab.
    #[must_use]
    pub fn file(&self, name: &str) -> PathBuf {
        self.folder.join(name)
    }

    /// The network namespace of a role (`client`, `agent1`, `c1`, ...).
    #[must_use]
    pub fn namespace(&self, role: &str) -> String {
        format!("slab-{}-{role}", self.id)
    }

    /// Makes the namespace of a role, with `lo` up and IPv6 off.
    pub fn add_namespace(&self, role: &str) -> Result<String, StateError> {
        let name = self.namespace(role);
        run("ip", &["netns", "add", &name])?;
        Ok(name)
    }

    /// The roles whose namespaces exist, sorted.
    #[must_use]
    pub fn roles(&self) -> Vec<String> {
        let prefix = self.namespace("");
        let names = fs::read_dir(NAMESPACES).into_iter().flatten().flatten();
        let mut roles: Vec<String> =
            names.filter_map(|entry| entry.file_name().to_str()?.strip_prefix(&prefix).map(str::to_owned)).collect();
        roles.sort();
        roles
    }

    /// Writes a process down before anybody can forget it.
    pub fn record_process(&self, pid: u32, name: &str) -> Result<(), StateError> {
        let path = self.file("processes");
        let line = format!("{pid} {} {name}\n", processes::start_time(pid).unwrap_or_default());
        OpenOptions::new()
            .create(true)
            .append(true)
            .open(&path)
            .and_then(|mut file| file.write_all(line.as_bytes()))
            .map_err(|source| StateError::File { path, source })
    }

    /// Removes one namespace and ends what still runs in it.
    pub fn remove_namespace(&self, role: &str) -> Result<(), StateError> {
        let name = self.namespace(role);
        processes::end(&[], &processes::in_namespace(&name), Duration::ZERO);
        run("ip", &["netns", "del", &name])?;
        Ok(())
    }

    /// Removes the whole lab: processes, namespaces, folder. Says what could not be removed, after trying all of it.
    pub fn remove(&self) -> Result<(), StateError> {
        // Who starts a process records it and then looks at this: it is in the record that is read below, or ends itself.
        let path = self.folder.join(ENDING);
        fs::write(&path, "").map_err(|source| StateError::File { path, source })?;
        let recorded = self.recorded_processes();
        let mut others: Vec<u32> =
            self.roles().iter().flat_map(|role| processes::in_namespace(&self.namespace(role))).collect();
        others.retain(|pid| *pid != std::process::id());
        processes::end(&recorded, &others, PATIENCE);
        let failed: Vec<StateError> =
            self.roles().iter().filter_map(|role| self.remove_namespace(role).err()).collect();
        if let Some(error) = failed.into_iter().next() {
            return Err(error);
        }
        self.remove_folder()
    }

    /// A task that was about to start may write once more before it sees that the lab is ending.
    fn remove_folder(&self) -> Result<(), StateError> {
        let mut last = Ok(());
        for _ in 0..40 {
            match fs::remove_dir_all(&self.folder) {
                Err(source) if source.kind() != io::ErrorKind::NotFound => {
                    last = Err(StateError::File { path: self.folder.clone(), source });
                }
                Ok(()) | Err(_) => return Ok(()),
            }
            sleep(Duration::from_millis(25));
        }
        last
    }

    fn recorded_processes(&self) -> Vec<u32> {
        let text = fs::read_to_string(self.file("processes")).unwrap_or_default();
        text.lines().filter_map(processes::still_the_same).collect()
    }
}
