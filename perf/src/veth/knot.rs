//! Knot DNS in XDP mode on the same end of the pair, with the same names: what answers faster than any other server that
//! Debian has.

use std::fmt::Write as _;
use std::fs;
use std::path::PathBuf;
use std::process::{Child, Command, Stdio};
use std::time::Duration;

use anyhow::{Context as _, Result, bail};

use super::dns::{ADDRESS, NAMES, address, name};
use super::subject::CORE;
use super::wire::{INTERFACE, ip};

/// A server that runs until it is dropped, on the measured processor.
pub(super) struct Knot {
    process: Child,
    folder: PathBuf,
}

impl Knot {
    pub(super) fn start() -> Result<Self> {
        let folder = std::env::temp_dir().join(format!("sluice-bench-knot-{}", std::process::id()));
        fs::create_dir_all(&folder)?;
        let at = folder.display();
        fs::write(folder.join("mesos.zone"), zone()?)?;
        fs::write(
            folder.join("knot.conf"),
            format!(
                "server:\n  rundir: {at}\n  udp-workers: 1\n  tcp-workers: 1\n  background-workers: 1\n  listen: {ADDRESS}@53\n\
                 xdp:\n  listen: {INTERFACE}@53\n\
                 log:\n  - target: stderr\n    any: info\n\
                 database:\n  storage: {at}\n\
                 zone:\n  - domain: mesos\n    storage: {at}\n    file: mesos.zone\n"
            ),
        )?;
        let log = fs::File::create(folder.join("log"))?;
        // taskset becomes what it starts, whose threads stay on its processor.
        let mut command = Command::new("taskset");
        command.args(["-c", &CORE.to_string(), "knotd", "-c"]).arg(folder.join("knot.conf"));
        command.stdin(Stdio::null()).stdout(log.try_clone()?).stderr(log);
        let process = command.spawn().context("taskset does not start: install util-linux")?;
        let knot = Self { process, folder };
        knot.wait()?;
        Ok(knot)
    }

    fn wait(&self) -> Result<()> {
        for _ in 0..100 {
            std::thread::sleep(Duration::from_millis(100));
            let log = fs::read_to_string(self.folder.join("log"))?;
            if log.contains("server started") && log.contains("initialized XDP") {
                return Ok(());
            }
        }
        bail!(
            "knotd does not begin to answer; is it installed (`make bench-dns` does that)? {}",
            fs::read_to_string(self.folder.join("log"))?
        )
    }

    /// CPU time of all its threads, nanoseconds.
    pub(super) fn cpu_ns(&self) -> Result<u64> {
        let mut sum = 0;
        for task in fs::read_dir(format!("/proc/{}/task", self.process.id()))?.flatten() {
            let said = fs::read_to_string(task.path().join("schedstat"))?;
            sum +=
                said.split(' ').next().and_then(|ns| ns.parse::<u64>().ok()).context("no schedstat in this kernel")?;
        }
        Ok(sum)
    }
}

impl Drop for Knot {
    fn drop(&mut self) {
        // One that has ended already cannot be ended.
        let _ = self.process.kill();
        let _ = self.process.wait();
        // Its program outlives it.
        let _ = ip(&format!("link set dev {INTERFACE} xdp off"));
        let _ = fs::remove_dir_all(&self.folder);
    }
}

fn zone() -> Result<String> {
    let mut zone = String::from(
        "$ORIGIN mesos.\n@ 60 SOA ns1.mesos. root.ns1.mesos. 1 60 600 86400 5\n@ 60 NS ns1.mesos.\nns1 60 A 10.9.0.53\n",
    );
    for n in 0..NAMES {
        writeln!(zone, "{}. 60 A {}", name(n), address(n))?;
    }
    Ok(zone)
}
