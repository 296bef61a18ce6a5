//! Where the sister binaries are: beside this one, or where the operator says.

use std::path::{Path, PathBuf};

/// A binary that the lab needs and cannot find.
#[derive(Debug, thiserror::Error)]
#[error(
    "cannot find the binary `{name}` beside {beside}; build it with `cargo build --workspace` or say where it is ({hint})"
)]
pub struct NotFound {
    pub name: String,
    pub beside: String,
    pub hint: String,
}

/// `sluice` or `sluice-lab`: what `given` says, else the environment (`SLUICE`, `SLUICE_LAB`), else beside the running
/// executable or one folder up (a test runs in `target/debug/deps`).
pub fn find(name: &str, given: Option<&Path>) -> Result<PathBuf, NotFound> {
    let variable = name.to_uppercase().replace('-', "_");
    let own = std::env::current_exe().unwrap_or_default();
    if own.file_name().is_some_and(|n| n == name) {
        return Ok(own);
    }
    let beside = own.parent().map(|p| p.join(name));
    let above = own.parent().and_then(Path::parent).map(|p| p.join(name));
    let named = [given.map(Path::to_owned), std::env::var_os(&variable).map(PathBuf::from)];
    let hint = format!("--{name} PATH or {variable}=PATH");
    named
        .into_iter()
        .flatten()
        .next()
        .map_or_else(
            || [beside, above].into_iter().flatten().find(|path| path.is_file()),
            |path| path.is_file().then_some(path),
        )
        .ok_or_else(|| NotFound { name: name.to_owned(), beside: own.display().to_string(), hint })
}
