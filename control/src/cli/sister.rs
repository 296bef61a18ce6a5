//! `sluice bench` and `sluice lab`: programs beside this one take over the process.

use std::ffi::OsString;
use std::os::unix::process::CommandExt as _;
use std::path::PathBuf;
use std::process::Command;

use anyhow::Context as _;

/// Passed on as they are.
#[derive(Debug, clap::Args)]
#[command(disable_help_flag = true)]
pub(super) struct Arguments {
    /// Passed on; `--help` shows them.
    #[arg(trailing_var_arg = true, allow_hyphen_values = true, value_name = "ARGUMENTS")]
    arguments: Vec<OsString>,
}

/// Becomes `program`; returns only when it cannot.
pub(super) fn exec(program: &str, with: &Arguments) -> anyhow::Result<()> {
    let path = beside(program)?;
    let error = Command::new(&path).args(&with.arguments).exec();
    Err(error).with_context(|| format!("{}: it is installed beside sluice", path.display()))
}

fn beside(program: &str) -> anyhow::Result<PathBuf> {
    let own = std::env::current_exe().context("where this program is")?;
    Ok(own.with_file_name(program))
}
