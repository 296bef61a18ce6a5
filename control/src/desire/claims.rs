//! Claims of named addresses: which name has which, kept across restarts.
//!
//! A name keeps its address as long as it has a backend and for 24 hours after, so that a deployment that stops everything
//! and starts again finds its old address. Time is seconds since the Unix epoch and always an argument.

use std::collections::BTreeMap;
use std::io::Write as _;
use std::net::Ipv4Addr;
use std::path::PathBuf;
use std::sync::Mutex;

use serde::{Deserialize, Serialize};

/// How long a claim without a backend is kept, seconds.
pub const IDLE_SECONDS: u64 = 24 * 3600;
/// Most claims kept; the longest idle go first.
pub const CLAIMS_MAX: usize = 100_000;
/// Largest file read, octets: a hundred thousand of the longest names.
const FILE_OCTETS: u64 = 64 << 20;

/// Addresses given to names.
#[derive(Clone, PartialEq, Eq, Debug, Default, Serialize, Deserialize)]
pub struct Claims {
    /// By name with its framework (`minitwit.marathon`).
    pub named: BTreeMap<String, Claim>,
}

/// One name's address.
#[derive(Clone, Copy, PartialEq, Eq, Debug, Serialize, Deserialize)]
pub struct Claim {
    /// The address.
    pub ip: Ipv4Addr,
    /// Since when it has no backend, seconds since the epoch; `None` while it has one.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub idle_since: Option<u64>,
}

impl Claims {
    /// Name to address.
    #[must_use]
    pub fn addresses(&self) -> BTreeMap<String, Ipv4Addr> {
        self.named.iter().map(|(name, claim)| (name.clone(), claim.ip)).collect()
    }

    /// The claims after `in_use` ([`super::Report::named`]) was put in place at `now`.
    #[must_use]
    pub fn settle(&self, in_use: &BTreeMap<String, Ipv4Addr>, now: u64) -> Self {
        let mut named: BTreeMap<String, Claim> = BTreeMap::new();
        for (name, claim) in &self.named {
            let since = claim.idle_since.unwrap_or(now);
            // A clock that was set back makes a claim live longer, never shorter.
            if now.saturating_sub(since) < IDLE_SECONDS {
                named.insert(name.clone(), Claim { ip: claim.ip, idle_since: Some(since) });
            }
        }
        named.extend(in_use.iter().map(|(name, ip)| (name.clone(), Claim { ip: *ip, idle_since: None })));
        let mut idle: Vec<(u64, String)> = named.iter().filter_map(|(n, c)| Some((c.idle_since?, n.clone()))).collect();
        idle.sort();
        let beyond = named.len().saturating_sub(CLAIMS_MAX);
        for (_, name) in idle.into_iter().take(beyond) {
            named.remove(&name);
        }
        Self { named }
    }
}

/// Why claims could not be kept or found.
#[derive(Debug, thiserror::Error)]
pub enum StoreError {
    /// The file cannot be read or written.
    #[error("claims of named VIPs in {path}: {source}")]
    Io {
        /// The file.
        path: PathBuf,
        /// The system's word.
        source: std::io::Error,
    },
    /// The file is there and is not ours.
    #[error(
        "claims of named VIPs in {path} cannot be read ({source}): move the file away to let addresses be chosen afresh"
    )]
    Format {
        /// The file.
        path: PathBuf,
        /// The parser's word.
        source: serde_json::Error,
    },
    /// The file is too large to be ours.
    #[error("claims of named VIPs in {path}: longer than {FILE_OCTETS} octets: move the file away")]
    TooLong {
        /// The file.
        path: PathBuf,
    },
}

/// Where claims outlive the process.
pub trait Store: Send + Sync {
    /// What was saved last; nothing saved is no claims.
    ///
    /// # Errors
    /// When something is there and cannot be understood: starting without it would change addresses.
    fn load(&self) -> Result<Claims, StoreError>;

    /// Replaces what was saved, wholly or not at all.
    ///
    /// # Errors
    /// When it could not be written.
    fn save(&self, claims: &Claims) -> Result<(), StoreError>;
}

/// Claims in a JSON file, replaced by rename.
#[derive(Clone, Debug)]
pub struct FileStore {
    /// The file. Its folder must exist.
    pub path: PathBuf,
}

impl FileStore {
    fn io(&self, source: std::io::Error) -> StoreError {
        StoreError::Io { path: self.path.clone(), source }
    }

    fn write(&self, json: &[u8]) -> std::io::Result<()> {
        let mut beside = self.path.clone().into_os_string();
        beside.push(".new");
        let mut file = std::fs::File::create(&beside)?;
        file.write_all(json)?;
        file.sync_all()?;
        std::fs::rename(&beside, &self.path)?;
        // The rename itself lasts only once the folder is on disk.
        match self.path.parent().filter(|p| !p.as_os_str().is_empty()) {
            Some(folder) => std::fs::File::open(folder)?.sync_all(),
            None => Ok(()),
        }
    }
}

impl Store for FileStore {
    fn load(&self) -> Result<Claims, StoreError> {
        match std::fs::metadata(&self.path) {
            Err(error) if error.kind() == std::io::ErrorKind::NotFound => return Ok(Claims::default()),
            Err(error) => return Err(self.io(error)),
            Ok(meta) if meta.len() > FILE_OCTETS => return Err(StoreError::TooLong { path: self.path.clone() }),
            Ok(_) => {}
        }
        let json = std::fs::read(&self.path).map_err(|e| self.io(e))?;
        serde_json::from_slice(&json).map_err(|source| StoreError::Format { path: self.path.clone(), source })
    }

    fn save(&self, claims: &Claims) -> Result<(), StoreError> {
        let json = serde_json::to_vec_pretty(claims);
        let json = json.map_err(|source| StoreError::Format { path: self.path.clone(), source })?;
        self.write(&json).map_err(|e| self.io(e))
    }
}

/// Claims that end with the process: for offline questions and tests.
#[derive(Debug, Default)]
pub struct MemoryStore(Mutex<Claims>);

impl Store for MemoryStore {
    fn load(&self) -> Result<Claims, StoreError> {
        Ok(self.0.lock().unwrap_or_else(std::sync::PoisonError::into_inner).clone())
    }

    fn save(&self, claims: &Claims) -> Result<(), StoreError> {
        claims.clone_into(&mut self.0.lock().unwrap_or_else(std::sync::PoisonError::into_inner));
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn in_use(names: &[(&str, [u8; 4])]) -> BTreeMap<String, Ipv4Addr> {
        names.iter().map(|(n, ip)| ((*n).to_owned(), Ipv4Addr::from(*ip))).collect()
    }

    #[test]
    fn a_claim_without_a_backend_is_kept_for_a_day_and_no_longer() {
        let claims = Claims::default().settle(&in_use(&[("a.m", [11, 0, 0, 1])]), 1_000);
        assert_eq!(claims.named["a.m"].idle_since, None);
        let idle = claims.settle(&BTreeMap::new(), 2_000);
        assert_eq!(idle.named["a.m"].idle_since, Some(2_000));
        let almost = idle.settle(&BTreeMap::new(), 2_000 + IDLE_SECONDS - 1);
        assert_eq!(almost.named["a.m"].ip, Ipv4Addr::new(11, 0, 0, 1));
        assert!(almost.settle(&BTreeMap::new(), 2_000 + IDLE_SECONDS).named.is_empty());
        let back = almost.settle(&in_use(&[("a.m", [11, 0, 0, 1])]), 3_000);
        assert_eq!(back.named["a.m"].idle_since, None);
    }

    #[test]
    fn a_clock_set_back_takes_no_claim_away() {
        let idle = Claims::default().settle(&in_use(&[("a.m", [11, 0, 0, 1])]), 9_000).settle(&BTreeMap::new(), 9_000);
        assert_eq!(idle.settle(&BTreeMap::new(), 5).named.len(), 1);
    }

    #[test]
    fn a_file_keeps_claims_across_a_restart_and_a_broken_one_is_an_error() {
        let folder = std::env::temp_dir().join(format!("sluice-claims-{}", std::process::id()));
        std::fs::create_dir_all(&folder).unwrap();
        let store = FileStore { path: folder.join("claims.json") };
        assert_eq!(store.load().unwrap(), Claims::default());
        let claims = Claims::default().settle(&in_use(&[("a.m", [11, 0, 0, 1]), ("b.m", [11, 0, 0, 2])]), 1);
        store.save(&claims).unwrap();
        assert_eq!(FileStore { path: store.path.clone() }.load().unwrap(), claims);
        std::fs::write(&store.path, b"{\"named\":").unwrap();
        assert!(matches!(store.load(), Err(StoreError::Format { .. })));
        for (broken, what) in
            [(&b""[..], "EOF"), (b"{}", "missing field"), (b"{\"named\":{\"a.m\":{\"ip\":7}}}", "IPv4")]
        {
            std::fs::write(&store.path, broken).unwrap();
            let said = store.load().unwrap_err().to_string();
            assert!(said.contains(&store.path.display().to_string()) && said.contains("move the file away"), "{said}");
            assert!(said.contains(what), "{said}");
        }
        std::fs::remove_dir_all(&folder).unwrap();
    }
}
