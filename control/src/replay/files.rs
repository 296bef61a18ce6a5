//! Files that are all written or none: each under another name beside its own, put in its place when all are whole.

use std::path::{Path, PathBuf};

use sluice_dataplane::io::pcap::CaptureError;

use super::ReplayError;

/// Files under their other names. What is not put in place is removed.
#[derive(Debug, Default)]
pub(super) struct Files {
    /// Other name, own name.
    beside: Vec<(PathBuf, PathBuf)>,
}

impl Files {
    /// Has `write` write the file at the path that it is given.
    ///
    /// # Errors
    /// What `write` says, about the file's own name.
    pub(super) fn write(
        &mut self,
        file: &Path,
        write: impl FnOnce(&Path) -> Result<(), ReplayError>,
    ) -> Result<(), ReplayError> {
        // A rename would replace a device, a pipe or a link by a file.
        let own = match std::fs::metadata(file) {
            Ok(there) if !there.is_file() => return write(file),
            Ok(_) => std::fs::canonicalize(file).unwrap_or_else(|_| file.to_owned()),
            Err(_) => file.to_owned(),
        };
        let mut other = own.clone().into_os_string();
        other.push(format!(".{}.{}.new", std::process::id(), self.beside.len()));
        let other = PathBuf::from(other);
        self.beside.push((other.clone(), own));
        write(&other).map_err(|error| named(error, file))
    }

    /// Gives every file its own name.
    ///
    /// # Errors
    /// When the system refuses: files before that one have their names then.
    pub(super) fn put_in_place(mut self) -> Result<(), ReplayError> {
        for (other, own) in std::mem::take(&mut self.beside) {
            if let Err(source) = std::fs::rename(&other, &own) {
                let _ = std::fs::remove_file(&other);
                return Err(ReplayError::Write { path: own, source });
            }
        }
        Ok(())
    }
}

/// The error about the name that was asked for.
fn named(error: ReplayError, file: &Path) -> ReplayError {
    let path = file.to_owned();
    if let ReplayError::Capture(CaptureError::Format { packet, source, .. }) = error {
        return ReplayError::Capture(CaptureError::Format { path, packet, source });
    }
    let (ReplayError::Capture(CaptureError::File { source, .. }) | ReplayError::Write { source, .. }) = error else {
        return error;
    };
    ReplayError::Write { path, source }
}

impl Drop for Files {
    fn drop(&mut self) {
        for (other, _) in &self.beside {
            // It may not have come to be.
            let _ = std::fs::remove_file(other);
        }
    }
}
