//! Why the kernel program could not be loaded, attached or told, each reason with what to do about it.

use std::error::Error;

use aya::programs::ProgramError;

use crate::io::errno::errno;

/// Largest IP packet of a native program that sees one buffer only (veth allows 3506, page-sized drivers 3498).
pub(super) const PLAIN_MTU: usize = 3498;

/// Why the kernel program could not be loaded, attached or told.
#[derive(Debug, thiserror::Error)]
pub enum SteerError {
    /// EPERM.
    #[error(
        "the kernel program for {interface}: not permitted; Sluice needs CAP_NET_RAW, CAP_NET_ADMIN and CAP_BPF, \
         and CAP_IPC_LOCK or LimitMEMLOCK=infinity"
    )]
    Privileges {
        /// Interface.
        interface: String,
    },
    /// No such interface.
    #[error("interface {interface} does not exist: `ip link` lists those that do")]
    NoInterface {
        /// Its name.
        interface: String,
    },
    /// EBUSY, EEXIST.
    #[error(
        "another XDP program is attached to {interface}: stop the program that attached it (another sluice?), or \
         remove it with `ip link set dev {interface} xdp off`"
    )]
    Occupied {
        /// Interface.
        interface: String,
    },
    /// EOPNOTSUPP.
    #[error("the driver of {interface} runs no XDP program: set `mode = \"skb\"` for this port")]
    NoNative {
        /// Interface.
        interface: String,
    },
    /// ENOSPC from veth.
    #[error(
        "{interface} receives on fewer queues than its peer transmits on: \
         raise them with `ethtool -L {interface} rx N` or lower the peer's with `ethtool -L PEER tx N`"
    )]
    FewQueues {
        /// Interface.
        interface: String,
    },
    /// ERANGE.
    #[error(
        "the MTU of {interface} or of its peer is too large for XDP: `ip link set dev {interface} mtu {PLAIN_MTU}`"
    )]
    Mtu {
        /// Interface.
        interface: String,
    },
    /// The kernel attached by netlink what it refused as a link: the program would outlive the process.
    #[error("this kernel does not attach XDP by bpf_link on {interface}: Linux 5.9 or later is needed")]
    NoLink {
        /// Interface.
        interface: String,
    },
    /// E2BIG from the map of addresses.
    #[error("more addresses than the kernel program holds (65536): fewer VIPs, or lower `limits.services`")]
    Full,
    /// A queue beyond the map of sockets.
    #[error("queue {queue} of {interface}: 255 is the highest that the kernel program knows")]
    Queue {
        /// Interface.
        interface: String,
        /// Queue.
        queue: u32,
    },
    /// Anything else.
    #[error("the kernel program for {interface}: {what}: {reason}")]
    Other {
        /// Interface.
        interface: String,
        /// What was tried.
        what: &'static str,
        /// What the kernel or the loader said.
        reason: String,
    },
}

/// What `what` failed with on `interface`.
pub(super) fn failed(interface: &str, what: &'static str, error: &(dyn Error + 'static)) -> SteerError {
    let interface = interface.to_owned();
    if let Some(ProgramError::UnknownInterface { .. }) = error.downcast_ref() {
        return SteerError::NoInterface { interface };
    }
    match errno(error) {
        libc::EPERM => SteerError::Privileges { interface },
        // The verifier refuses a program with EACCES, and its log says why.
        libc::EACCES if what != "verify" => SteerError::Privileges { interface },
        libc::EBUSY | libc::EEXIST => SteerError::Occupied { interface },
        libc::EOPNOTSUPP => SteerError::NoNative { interface },
        libc::ENOSPC => SteerError::FewQueues { interface },
        libc::ERANGE => SteerError::Mtu { interface },
        libc::E2BIG => SteerError::Full,
        libc::ENODEV => SteerError::NoInterface { interface },
        _ => SteerError::Other { interface, what, reason: chain(error) },
    }
}

/// An error and its sources, in one line.
fn chain(error: &(dyn Error + 'static)) -> String {
    let mut text = error.to_string();
    let mut next = error.source();
    while let Some(error) = next {
        text = format!("{text}: {error}");
        next = error.source();
    }
    text
}
