//! A network namespace of a test's own: the test runs itself again under `unshare --net`. It has no name, and goes with
//! the process whatever happens.

use std::process::{Child, Command};

const INSIDE: &str = "SLUICE_TEST_INSIDE_NAMESPACE";

pub(crate) fn in_own_namespace<F: Future<Output = ()>>(test: &str, body: impl FnOnce() -> F) {
    if std::env::var_os(INSIDE).is_some() {
        sh("ip link set lo up");
        tokio::runtime::Runtime::new().unwrap().block_on(body());
        return;
    }
    if !Command::new("unshare").args(["--net", "true"]).status().is_ok_and(|s| s.success()) {
        println!("skipped: making a network namespace needs root and util-linux");
        return;
    }
    let again = Command::new("unshare")
        .arg("--net")
        .arg(std::env::current_exe().unwrap())
        .args([test, "--exact", "--nocapture"])
        .env(INSIDE, "1")
        .status();
    assert!(again.unwrap().success(), "failed inside the namespace");
}

pub(crate) fn sh(command: &str) -> String {
    let out = Command::new("sh").args(["-c", command]).output().unwrap();
    assert!(out.status.success(), "{command}: {}", String::from_utf8_lossy(&out.stderr));
    String::from_utf8(out.stdout).unwrap()
}

/// Everything that a clean shutdown must leave as it was.
pub(crate) fn everything() -> String {
    // The kernel sees the other end of a link a moment after both are up, and routes say `linkdown` until then.
    until("every link has its carrier", || !sh("ip link").contains("NO-CARRIER"));
    ["ip -d link | sed 's/qdisc.*//'", "ip addr", "ip route show table all", "ip neigh", "ip rule"].map(sh).join("\n")
}

/// Waits, half a minute at most.
fn until(what: &str, is: impl Fn() -> bool) {
    let began = std::time::Instant::now();
    while !is() {
        assert!(began.elapsed().as_secs() < 30, "not within half a minute: {what}");
        std::thread::sleep(std::time::Duration::from_millis(10));
    }
}

/// Another machine: a process that holds a namespace open, and dies with this value.
pub(crate) struct Station(Child);

impl Station {
    pub(crate) fn new() -> Self {
        let station = Self(Command::new("unshare").args(["--net", "sleep", "120"]).spawn().unwrap());
        let namespace = |pid: &str| std::fs::read_link(format!("/proc/{pid}/ns/net")).unwrap();
        let (ours, its) = (namespace("self"), station.pid().to_string());
        until("it has a namespace of its own", || namespace(&its) != ours);
        station
    }

    pub(crate) fn pid(&self) -> u32 {
        self.0.id()
    }

    /// Runs `command` on it.
    pub(crate) fn sh(&self, command: &str) -> String {
        sh(&format!("nsenter -t {} -n sh -c '{command}'", self.pid()))
    }
}

impl Drop for Station {
    fn drop(&mut self) {
        let _ = self.0.kill();
        let _ = self.0.wait();
    }
}
