//! One packet through everything: brings a lab up, starts Sluice on it, deploys, asks, scales, kills, and judges each
//! line. [`run`] returns the board; the run fails if one line does not hold.

mod apps;
mod ask;
mod board;
mod enumerate;
mod session;
mod steps;

use std::path::{Path, PathBuf};
use std::process::Child;
use std::time::{Duration, Instant};

use crate::cluster::{Lab, LabError, Options};
use crate::marathon::Dialect;
use crate::topology::Topology;

pub use board::{Board, Line};

/// What the demo runs on.
#[derive(Debug, Clone)]
pub struct DemoSettings {
    pub topology: Topology,
    pub dialect: Dialect,
    /// The `sluice` binary.
    pub sluice: PathBuf,
    /// The `sluice-lab` binary.
    pub own: PathBuf,
    /// Leave everything running.
    pub keep: bool,
}

/// Why a line does not hold, or why the demo could not go on.
#[derive(Debug, thiserror::Error)]
pub enum DemoError {
    #[error(transparent)]
    Lab(#[from] LabError),
    #[error("{0}")]
    Not(String),
}

/// A demo that is under way.
pub(crate) struct Demo {
    lab: Lab,
    own: PathBuf,
    board: Board,
}

/// Runs it all. The lab is gone afterwards unless `keep`.
pub fn run(settings: &DemoSettings, what_to_try: impl Fn(&Lab) -> String) -> Result<Board, DemoError> {
    let board = Board::new();
    board.doing("the lab comes up: fabric, client, agents with the kernel's VXLAN, two Marathons");
    let lab = Lab::up(&settings.topology, &Options::default())?;
    let marathons = lab.start_marathons(settings.dialect)?;
    let mut demo = Demo { lab, own: settings.own.clone(), board };
    let sluice = demo.start_sluice(&settings.sluice)?;
    demo.all_steps();
    if settings.keep {
        demo.board.print_table();
        println!("\n{}", what_to_try(&demo.lab));
        demo.lab.detach();
        return Ok(demo.board);
    }
    demo.stop_sluice(sluice);
    demo.board.print_table();
    drop(marathons);
    demo.lab.down()?;
    Ok(demo.board)
}

impl Demo {
    fn start_sluice(&mut self, program: &Path) -> Result<Child, DemoError> {
        self.board.doing(&format!("sluice run -c {}", self.lab.sluice_config().display()));
        let began = Instant::now();
        let child = self.lab.start_sluice(program)?;
        let took = board::millis(began.elapsed());
        self.board.figure("start to ready", took.clone());
        self.board.check("Sluice is ready (/readyz)", Ok(format!("after {took}")));
        Ok(child)
    }

    /// SIGTERM: ends by itself with success, its program detached.
    fn stop_sluice(&mut self, mut child: Child) {
        crate::processes::signal_one(child.id(), nix::sys::signal::Signal::SIGTERM);
        let ended = self.until("sluice ends after SIGTERM", Duration::from_secs(10), || {
            let status = child.try_wait().map_err(|error| DemoError::Not(error.to_string()))?;
            match status {
                Some(status) if status.success() => Ok(true),
                Some(status) => Err(DemoError::Not(format!("it ended with {status}"))),
                None => Ok(false),
            }
        });
        let clean = ended.and_then(|took| {
            let link = self.lab.exec("sluice", &["ip", "-d", "link", "show", "dev", "eth0"])?;
            let link = String::from_utf8_lossy(&link.stdout);
            if link.contains("xdp") {
                return Err(DemoError::Not(format!("an XDP program is still on eth0: {link}")));
            }
            Ok(format!("after {}, eth0 has no program", board::millis(took)))
        });
        self.board.check("a clean shutdown", clean);
    }
}
