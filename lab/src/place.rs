//! Where a command runs: which network namespace, with which host name and resolver.
//!
//! `nsenter`, `unshare` and the shell replace themselves by what they start, so the pid of the [`Command`] is the pid
//! of the program itself. The resolver and /sys are mounted in a mount namespace of the process's own: the machine's
//! /etc stays as it is.

use std::fs::File;
use std::io;
use std::path::PathBuf;
use std::process::Command;

use nix::sched::{CloneFlags, setns};

use serde::{Deserialize, Serialize};

/// $1 host name, $2 resolv.conf or empty; the rest is the command. /sys shows the devices of the namespace in which it
/// was mounted, so it is mounted again. In a chroot whose root is no mount point / cannot be made private, and a mount
/// might be seen outside: there the machine's own /sys and resolver stay.
const SETTLE: &str = "hostname \"$1\" 2>/dev/null; if mount --make-rprivate / 2>/dev/null; then \
    mount -t sysfs sysfs /sys 2>/dev/null; [ -n \"$2\" ] && mount --bind \"$2\" /etc/resolv.conf 2>/dev/null; \
    fi; shift 2; exec \"$@\"";

/// A network namespace to start processes in.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Place {
    pub namespace: String,
    pub hostname: String,
    /// Seen as /etc/resolv.conf; none: the machine's own.
    pub resolver: Option<PathBuf>,
}

impl Place {
    /// A command that runs here with its own view of /sys, host name and resolver.
    #[must_use]
    pub fn command(&self, program: &str) -> Command {
        let resolver = self.resolver.as_ref().map(|p| p.display().to_string()).unwrap_or_default();
        let mut command = self.network_only("unshare");
        command.args(["--mount", "--propagation", "unchanged", "--uts", "--", "/bin/sh", "-c", SETTLE, "sh"]);
        command.arg(&self.hostname).arg(resolver).arg(program);
        command
    }

    /// A command with this network and nothing else changed: namespaces that it makes are seen by everybody, which
    /// they would not be from inside a mount namespace.
    #[must_use]
    pub fn network_only(&self, program: &str) -> Command {
        let mut command = Command::new("nsenter");
        command.arg(format!("--net=/run/netns/{}", self.namespace)).args(["--", program]);
        command
    }
}

/// Does some work on a thread of its own that is in a network namespace: sockets that it opens belong there.
pub fn within<R: Send>(namespace: &str, work: impl FnOnce() -> R + Send) -> io::Result<R> {
    let file = File::open(format!("/run/netns/{namespace}"))?;
    std::thread::scope(|scope| {
        let worker = scope.spawn(|| {
            setns(&file, CloneFlags::CLONE_NEWNET)?;
            Ok(work())
        });
        worker.join().unwrap_or_else(|_| Err(io::Error::other("the work in the namespace panicked")))
    })
}
