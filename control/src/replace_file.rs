//! Small files that outlive the process: replaced wholly or not at all, whenever the power goes.

use std::io::Write as _;
use std::path::Path;

/// Writes `bytes` beside `path` and renames.
///
/// # Errors
/// What the system says; the old file is still there then.
pub(crate) fn replace_file(path: &Path, bytes: &[u8]) -> std::io::Result<()> {
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
