//! What only the machine knows, behind a trait: interfaces, receive queues, cores, addresses of the kernel.
//!
//! [`Linux`] reads `/proc` and `/sys`. `/proc/net` is of the caller's network namespace, but `/sys/class/net` is of the
//! one in which `/sys` was mounted (`ip netns exec` mounts its own, `nsenter --net` does not): where the two have other
//! interfaces, the number of queues is unknown.

use std::net::{IpAddr, Ipv4Addr};
use std::path::{Path, PathBuf};

/// The machine that a configuration is compared with.
pub trait Machine {
    /// Names of all interfaces, sorted.
    fn interfaces(&self) -> Vec<String>;
    /// Number of receive queues; `None` when it cannot be known.
    fn queues(&self, interface: &str) -> Option<u32>;
    /// Numbers of the cores that are online, sorted.
    fn cores(&self) -> Vec<usize>;
    /// Addresses that the kernel answers for.
    fn addresses(&self) -> Vec<IpAddr>;
}

/// This machine.
#[derive(Clone, Copy, Debug, Default)]
pub struct Linux;

impl Machine for Linux {
    fn interfaces(&self) -> Vec<String> {
        interfaces(&read("/proc/net/dev"))
    }

    fn queues(&self, interface: &str) -> Option<u32> {
        if names_in("/sys/class/net".as_ref())? != self.interfaces() {
            return None;
        }
        let folder: PathBuf = ["/sys/class/net", interface, "queues"].iter().collect();
        let queues = names_in(&folder)?;
        u32::try_from(queues.iter().filter(|name| name.starts_with("rx-")).count()).ok()
    }

    fn cores(&self) -> Vec<usize> {
        let online = cores(&read("/sys/devices/system/cpu/online"));
        if !online.is_empty() {
            return online;
        }
        (0..std::thread::available_parallelism().map_or(1, std::num::NonZero::get)).collect()
    }

    fn addresses(&self) -> Vec<IpAddr> {
        addresses(&read("/proc/net/fib_trie")).into_iter().map(IpAddr::V4).collect()
    }
}

/// A file that is missing says nothing.
fn read(path: &str) -> String {
    std::fs::read_to_string(path).unwrap_or_default()
}

/// Names in a folder, sorted. Bonding's control file in `/sys/class/net` is no interface.
fn names_in(folder: &Path) -> Option<Vec<String>> {
    let entries = std::fs::read_dir(folder).ok()?.filter_map(Result::ok);
    let names = entries.map(|entry| entry.file_name().to_string_lossy().into_owned());
    let mut names: Vec<_> = names.filter(|name| name != "bonding_masters").collect();
    names.sort();
    Some(names)
}

/// `/proc/net/dev`: two lines of headers, then `name: counters`.
fn interfaces(text: &str) -> Vec<String> {
    let names = text.lines().skip(2).filter_map(|line| line.rsplit_once(':').map(|(name, _)| name.trim().to_owned()));
    let mut names: Vec<_> = names.collect();
    names.sort();
    names
}

/// A list like `0-3,6`.
fn cores(text: &str) -> Vec<usize> {
    let range = |part: &str| {
        let (first, last) = part.split_once('-').unwrap_or((part, part));
        let (first, last): (usize, usize) = (first.trim().parse().ok()?, last.trim().parse().ok()?);
        Some(first..=last.min(65_535))
    };
    text.trim().split(',').filter_map(range).flatten().collect()
}

/// `/proc/net/fib_trie`: a leaf is `|-- address`, a local one is followed by `/32 host LOCAL`.
fn addresses(text: &str) -> Vec<Ipv4Addr> {
    let mut leaf: Option<Ipv4Addr> = None;
    let mut all = Vec::new();
    for line in text.lines().map(str::trim) {
        if let Some(address) = line.strip_prefix("|-- ") {
            leaf = address.parse().ok();
        } else if line.starts_with("/32 host LOCAL") {
            all.extend(leaf);
        }
    }
    all.sort();
    all.dedup();
    all
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_kernels_lists_are_understood() {
        let dev = "Inter-|   Receive\n face |bytes\n  lo:  1 2\n eth0: 3 4\n";
        assert_eq!(interfaces(dev), ["eth0", "lo"]);
        assert_eq!(cores("0-2,5\n"), [0, 1, 2, 5]);
        assert_eq!(cores("garbage"), Vec::<usize>::new());
        let trie = "Main:\n  +-- 0.0.0.0/0 3 0 5\n     |-- 10.0.0.0\n        /24 link UNICAST\n     |-- 10.0.0.9\n        /32 host LOCAL\n     |-- 10.0.0.255\n        /32 link BROADCAST\n";
        assert_eq!(addresses(trie), [Ipv4Addr::new(10, 0, 0, 9)]);
    }

    #[test]
    fn this_machine_has_a_loopback_interface_and_a_core() {
        assert!(Linux.interfaces().contains(&"lo".to_owned()));
        assert!(Linux.queues("lo").is_none_or(|count| count >= 1));
        assert!(!Linux.cores().is_empty());
        assert!(Linux.addresses().contains(&IpAddr::V4(Ipv4Addr::LOCALHOST)));
        assert_eq!(Linux.queues("no such interface"), None);
    }
}
