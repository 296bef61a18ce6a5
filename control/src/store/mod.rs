//! Where claims outlive the process: a trait, so that several nodes may share them one day, and a file.
//!
//! A store holds one set of [`Claims`] and replaces it as a whole. It never decides anything: which claim stands is
//! [`Claims`]' own rule, equal on every node.

use std::path::PathBuf;

use crate::desire::Claims;

mod file;
mod memory;

pub use file::FileStore;
pub use memory::MemoryStore;

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
    #[error("claims of named VIPs in {path}: longer than {} octets: move the file away", file::FILE_OCTETS)]
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
