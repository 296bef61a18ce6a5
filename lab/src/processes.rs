//! Ending processes: those that the lab recorded, by pid and start time (a pid may have been used again), and those that
//! live in its namespaces.

use std::fs;
use std::thread::sleep;
use std::time::Duration;

use nix::sys::signal::{Signal, kill, killpg};
use nix::unistd::Pid;

use crate::shell::run;

/// The pid of a recorded line (`PID START ...`), if that very process is still there.
pub(crate) fn still_the_same(line: &str) -> Option<u32> {
    let mut words = line.split(' ');
    let pid: u32 = words.next()?.parse().ok()?;
    let started: u64 = words.next()?.parse().ok()?;
    (start_time(pid) == Some(started)).then_some(pid)
}

/// Field 22 of /proc/PID/stat, in clock ticks since boot; the command name before it may hold spaces and parentheses.
pub(crate) fn start_time(pid: u32) -> Option<u64> {
    let stat = fs::read_to_string(format!("/proc/{pid}/stat")).ok()?;
    stat.rsplit_once(')')?.1.split_whitespace().nth(19)?.parse().ok()
}

/// Every process that lives in a network namespace.
pub(crate) fn in_namespace(namespace: &str) -> Vec<u32> {
    let text = run("ip", &["netns", "pids", namespace]).unwrap_or_default();
    text.lines().filter_map(|line| line.trim().parse().ok()).collect()
}

/// SIGTERM, up to `patience`, then SIGKILL. `leaders` were started as leaders of groups of their own: their groups go
/// with them. `others` go alone: their groups may hold what somebody piped them into.
pub(crate) fn end(leaders: &[u32], others: &[u32], patience: Duration) {
    let all = |signal: Signal| {
        leaders.iter().for_each(|pid| signal_group(*pid, signal));
        others.iter().for_each(|pid| signal_one(*pid, signal));
    };
    if !patience.is_zero() {
        all(Signal::SIGTERM);
        let mut left = patience;
        while !left.is_zero() && leaders.iter().chain(others).any(|pid| alive(*pid)) {
            sleep(Duration::from_millis(20));
            left = left.saturating_sub(Duration::from_millis(20));
        }
    }
    all(Signal::SIGKILL);
}

/// Sends a signal to one process; a process that is gone already is what was wanted.
pub(crate) fn signal_one(pid: u32, signal: Signal) {
    if let Ok(pid) = i32::try_from(pid) {
        let _ = kill(Pid::from_raw(pid), signal);
    }
}

/// Sends a signal to a process group; one that is gone already is what was wanted.
pub(crate) fn signal_group(leader: u32, signal: Signal) {
    if let Ok(leader) = i32::try_from(leader) {
        let _ = killpg(Pid::from_raw(leader), signal);
    }
}

/// Neither gone nor a zombie that waits for its parent.
fn alive(pid: u32) -> bool {
    fs::read_to_string(format!("/proc/{pid}/stat"))
        .ok()
        .and_then(|stat| Some(!stat.rsplit_once(')')?.1.trim_start().starts_with(['Z', 'X'])))
        .unwrap_or(false)
}
