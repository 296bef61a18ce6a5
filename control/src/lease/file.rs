//! Leases in a JSON file, replaced by rename: what was promised is there whenever the power goes.

use std::path::PathBuf;

use super::Leases;
use crate::json_file::{self, JsonError};

/// Largest file read, octets: the most leases, each in several networks.
const FILE_OCTETS: u64 = 64 << 20;

/// Why leases could not be kept or found.
#[derive(Debug, thiserror::Error)]
pub enum LeasesError {
    /// The file cannot be read or written.
    #[error("leases in {path}: {source}")]
    Io {
        /// The file.
        path: PathBuf,
        /// The system's word.
        source: std::io::Error,
    },
    /// The file is there and is not ours.
    #[error(
        "leases in {path} cannot be read ({source}): put the file back as it was; without it agents would be given addresses that others have"
    )]
    Format {
        /// The file.
        path: PathBuf,
        /// The parser's word.
        source: serde_json::Error,
    },
    /// The file is too large to be ours.
    #[error("leases in {path}: longer than {FILE_OCTETS} octets: put the file back as it was")]
    TooLong {
        /// The file.
        path: PathBuf,
    },
    /// Somebody edited it.
    #[error("leases in {path}: {what}; take one of the two out")]
    Twice {
        /// The file.
        path: PathBuf,
        /// What is in it twice.
        what: String,
    },
}

/// The file. Its folder must exist.
#[derive(Clone, Debug)]
pub struct File {
    /// Where it is.
    pub path: PathBuf,
}

impl File {
    /// What was saved last; nothing saved is no leases.
    ///
    /// # Errors
    /// When something is there and cannot be understood: starting without it would give addresses twice.
    pub fn load(&self) -> Result<Leases, LeasesError> {
        let leases: Leases = json_file::load(&self.path, FILE_OCTETS).map_err(|e| self.error(e))?;
        match leases.twice() {
            None => Ok(leases),
            Some(what) => Err(LeasesError::Twice { path: self.path.clone(), what }),
        }
    }

    /// Replaces what was saved, wholly or not at all.
    ///
    /// # Errors
    /// What the system says.
    pub fn save(&self, leases: &Leases) -> Result<(), LeasesError> {
        json_file::save(&self.path, leases).map_err(|e| self.error(e))
    }

    fn error(&self, error: JsonError) -> LeasesError {
        let path = self.path.clone();
        match error {
            JsonError::Io(source) => LeasesError::Io { path, source },
            JsonError::Format(source) => LeasesError::Format { path, source },
            JsonError::TooLong => LeasesError::TooLong { path },
        }
    }
}
