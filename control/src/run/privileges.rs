//! Whether this process may do what `run` does, asked before anything is touched (facts/platform.md, Privileges).

use rustix::process::{Resource, Rlimit, getrlimit, setrlimit};

/// A capability by its number in linux/capability.h.
const NEEDED: [(&str, u32); 3] = [("CAP_NET_ADMIN", 12), ("CAP_NET_RAW", 13), ("CAP_BPF", 39)];

/// Stands for CAP_BPF on kernels and in containers that do not know it.
const SYS_ADMIN: u32 = 21;

/// Capabilities that are missing.
#[derive(Clone, PartialEq, Eq, Debug, thiserror::Error)]
#[error(
    "not permitted: `sluice run` lacks {}; run it as root, or with \
     `setcap cap_net_admin,cap_net_raw,cap_bpf,cap_ipc_lock+ep` on the program",
    .0.join(", ")
)]
pub struct NotPermitted(pub Vec<&'static str>);

/// Asks the kernel what this process may do.
///
/// # Errors
/// Names what is missing.
pub fn check() -> Result<(), NotPermitted> {
    let status = std::fs::read_to_string("/proc/self/status").unwrap_or_default();
    match missing(&status) {
        missing if missing.is_empty() => Ok(()),
        missing => Err(NotPermitted(missing)),
    }
}

/// Raises the limit of open files to what this process may have: sockets and maps count, per worker and port, and so
/// does every connection. What the kernel refuses stays as it was.
pub fn raise_open_files() {
    let now = getrlimit(Resource::Nofile);
    let _ = setrlimit(Resource::Nofile, Rlimit { current: now.maximum, maximum: now.maximum });
}

/// What `/proc/self/status` lacks; nothing where it does not say (the kernel will).
fn missing(status: &str) -> Vec<&'static str> {
    let line = status.lines().find_map(|line| line.strip_prefix("CapEff:"));
    let Some(effective) = line.and_then(|mask| u64::from_str_radix(mask.trim(), 16).ok()) else { return Vec::new() };
    let has = |number: u32| effective >> number & 1 == 1;
    let has_it = |number: u32| has(number) || (number == 39 && has(SYS_ADMIN));
    NEEDED.iter().filter(|(_, number)| !has_it(*number)).map(|(name, _)| *name).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_is_missing_is_named() {
        assert_eq!(missing("Name:\tx\nCapEff:\t000001ffffffffff\n"), [""; 0]);
        assert_eq!(missing("CapEff:\t0000000000000000\n"), ["CAP_NET_ADMIN", "CAP_NET_RAW", "CAP_BPF"]);
        assert_eq!(missing("CapEff:\t0000000000203000\n"), [""; 0]);
        assert_eq!(missing("nothing\n"), [""; 0]);
    }
}
