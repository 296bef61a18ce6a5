//! Pings that go on while something else happens.

use std::fs;
use std::path::PathBuf;
use std::process::Child;

use nix::sys::signal::{Signal, kill};
use nix::unistd::Pid;

use super::world::World;

/// A hundred pings a second.
pub(crate) struct Ping {
    child: Child,
    log: PathBuf,
}

impl Ping {
    pub(crate) fn start(world: &World, from: &str, to: &str) -> Self {
        let log = world.lab.state().file(&format!("ping-{from}-{to}"));
        let child = world
            .lab
            .command(from, "ping")
            .unwrap()
            .args(["-D", "-i", "0.01", to])
            .stdout(fs::File::create(&log).unwrap())
            .spawn()
            .unwrap();
        Self { child, log }
    }

    /// When each was answered.
    pub(crate) fn answers(&self) -> Vec<f64> {
        let text = fs::read_to_string(&self.log).unwrap();
        let times = text.lines().filter(|line| line.contains("bytes from"));
        times.filter_map(|line| line.strip_prefix('[')?.split_once(']')?.0.parse().ok()).collect()
    }

    /// How many were sent, and how many answered.
    pub(crate) fn end(mut self) -> (u64, u64) {
        kill(Pid::from_raw(i32::try_from(self.child.id()).unwrap()), Signal::SIGINT).unwrap();
        self.child.wait().unwrap();
        let text = fs::read_to_string(&self.log).unwrap();
        let line = text.lines().find(|line| line.contains("packets transmitted")).unwrap();
        let mut counts = line.split(", ").filter_map(|part| part.split(' ').next()?.parse().ok());
        (counts.next().unwrap(), counts.next().unwrap())
    }
}
