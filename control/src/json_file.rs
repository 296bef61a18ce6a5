//! Small JSON files that outlive the process: replaced wholly or not at all, whenever the power goes.

use std::io::Write as _;
use std::path::Path;

use serde::Serialize;
use serde::de::DeserializeOwned;

/// Why a file could not be read or replaced; whoever has the file says what is in it, and what to do.
pub(crate) enum JsonError {
    /// The system's word.
    Io(std::io::Error),
    /// It is no JSON, or not of this kind.
    Format(serde_json::Error),
    /// It is longer than it may be.
    TooLong,
}

/// What was saved last; where there is no file, the default.
///
/// # Errors
/// When something is there and cannot be read, or is longer than `most` octets.
pub(crate) fn load<T: DeserializeOwned + Default>(path: &Path, most: u64) -> Result<T, JsonError> {
    match std::fs::metadata(path) {
        Err(error) if error.kind() == std::io::ErrorKind::NotFound => return Ok(T::default()),
        Err(error) => return Err(JsonError::Io(error)),
        Ok(there) if there.len() > most => return Err(JsonError::TooLong),
        Ok(_) => {}
    }
    let json = std::fs::read(path).map_err(JsonError::Io)?;
    serde_json::from_slice(&json).map_err(JsonError::Format)
}

/// Replaces what was saved.
///
/// # Errors
/// What the system says; the old file is still there then.
pub(crate) fn save<T: Serialize>(path: &Path, value: &T) -> Result<(), JsonError> {
    let json = serde_json::to_vec_pretty(value).map_err(JsonError::Format)?;
    replace(path, &json).map_err(JsonError::Io)
}

/// Writes `bytes` beside `path` and renames.
fn replace(path: &Path, bytes: &[u8]) -> std::io::Result<()> {
    let mut beside = path.to_owned().into_os_string();
    beside.push(".new");
    let mut file = std::fs::File::create(&beside)?;
    file.write_all(bytes)?;
    file.sync_all()?;
    std::fs::rename(&beside, path)?;
    // The rename itself lasts only once the folder is on disk.
    match path.parent().filter(|folder| !folder.as_os_str().is_empty()) {
        Some(folder) => std::fs::File::open(folder)?.sync_all(),
        None => Ok(()),
    }
}
