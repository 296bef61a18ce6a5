//! Why AF_XDP cannot be had, each reason with what to do about it.

use std::error::Error;
use std::io;

use super::chunk::max_mtu;
use crate::io::errno::errno;

/// Why a UMEM or a socket could not be had.
#[derive(Debug, thiserror::Error)]
pub enum XskError {
    /// An MTU that no chunk holds.
    #[error(
        "MTU {mtu} does not fit: a packet must lie in one chunk, so {} is the most; \
         set it with `ip link set dev INTERFACE mtu {}` or less",
        max_mtu(),
        max_mtu()
    )]
    Mtu {
        /// Largest MTU of the worker's ports.
        mtu: usize,
    },
    /// EPERM.
    #[error(
        "{what}: not permitted; Sluice needs CAP_NET_RAW, CAP_NET_ADMIN and CAP_BPF, \
         and CAP_IPC_LOCK or LimitMEMLOCK=infinity"
    )]
    Privileges {
        /// What was tried.
        what: String,
    },
    /// ENOBUFS: more locked memory than the limit.
    #[error(
        "{bytes} octets of frames exceed the limit on locked memory: grant CAP_IPC_LOCK, \
         set LimitMEMLOCK=infinity, or lower `limits.frames`"
    )]
    LockedMemory {
        /// Size of the UMEM.
        bytes: usize,
    },
    /// ENODEV.
    #[error("interface {interface} does not exist: `ip link` lists those that do")]
    NoInterface {
        /// Its name.
        interface: String,
    },
    /// EBUSY, still after two seconds.
    #[error(
        "queue {queue} of {interface} is taken by another process (another sluice, or another AF_XDP program): \
         stop it, or name other `queues` for this port"
    )]
    QueueTaken {
        /// Interface.
        interface: String,
        /// Queue.
        queue: u32,
    },
    /// EINVAL from bind.
    #[error("{interface} has no queue {queue}: `ethtool -l {interface}` shows its channels")]
    NoQueue {
        /// Interface.
        interface: String,
        /// Queue.
        queue: u32,
    },
    /// EOPNOTSUPP: no zero copy.
    #[error("{interface} cannot do zero copy on queue {queue}: set `mode = \"copy\"` or \"auto\" for this port")]
    NoZeroCopy {
        /// Interface.
        interface: String,
        /// Queue.
        queue: u32,
    },
    /// A ring size that is not a power of two.
    #[error("limits.rings = {rings}: an AF_XDP ring has a power of two of entries, such as 2048")]
    Rings {
        /// What was asked for.
        rings: u32,
    },
    /// Anything else.
    #[error("{what}: {source}")]
    Other {
        /// What was tried.
        what: String,
        /// What the kernel said.
        source: io::Error,
    },
}

/// What refused a UMEM of `bytes` octets.
pub(super) fn umem_error(error: &(dyn Error + 'static), bytes: usize) -> XskError {
    match errno(error) {
        libc::EPERM | libc::EACCES => XskError::Privileges { what: "AF_XDP memory".to_owned() },
        libc::ENOBUFS => XskError::LockedMemory { bytes },
        number => XskError::Other {
            what: format!("AF_XDP memory of {bytes} octets"),
            source: io::Error::from_raw_os_error(number),
        },
    }
}

/// What refused a socket.
pub(super) fn socket_error(number: i32, interface: &str, queue: u32) -> XskError {
    let interface = interface.to_owned();
    match number {
        libc::EPERM | libc::EACCES => XskError::Privileges { what: format!("AF_XDP socket on {interface}") },
        libc::ENODEV | libc::ENXIO => XskError::NoInterface { interface },
        libc::EBUSY => XskError::QueueTaken { interface, queue },
        libc::EINVAL => XskError::NoQueue { interface, queue },
        libc::EOPNOTSUPP => XskError::NoZeroCopy { interface, queue },
        _ => XskError::Other {
            what: format!("AF_XDP socket on queue {queue} of {interface}"),
            source: io::Error::from_raw_os_error(number),
        },
    }
}
