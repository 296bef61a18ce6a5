//! `sluice-lab`: a cluster on one machine, and what runs in it.

use std::process::ExitCode;

mod cli;

fn main() -> ExitCode {
    match cli::run() {
        Ok(code) => code,
        Err(error) => {
            eprintln!("sluice-lab: {error:#}");
            ExitCode::FAILURE
        }
    }
}
