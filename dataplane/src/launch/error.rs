//! Why the packet path does not come up, each reason with what to do about it.

use crate::io::card::CardError;
use crate::io::steer::SteerError;
use crate::io::xsk::XskError;

/// Why the packet path did not come up.
#[derive(Debug, thiserror::Error)]
pub enum LaunchError {
    /// No `[[port]]`.
    #[error("no `[[port]]` is configured: the packet path needs one")]
    NoPort,
    /// Ports with different numbers of queues.
    #[error(
        "port {port} has {count} queue(s) but port {first} has {wanted}: every port needs as many, one for each worker"
    )]
    Queues {
        /// The port.
        port: String,
        /// Its queues.
        count: usize,
        /// The first port.
        first: String,
        /// Its queues.
        wanted: usize,
    },
    /// `workers.cores` of another length.
    #[error("workers.cores names {cores} core(s) for {workers} worker(s): name one for each, or none")]
    Cores {
        /// Cores named.
        cores: usize,
        /// Workers.
        workers: usize,
    },
    /// A core that is not there.
    #[error("workers.cores: core {core} is not available to this process; these are: {available:?}")]
    Core {
        /// The core.
        core: usize,
        /// What there is.
        available: Vec<usize>,
    },
    /// Zero copy on one port, and another that copies.
    #[error(
        "port {port} asks for zero copy, but {other} copies, and one worker's ports share their memory: \
         set `mode = \"auto\"` for {port}, or give up {other}"
    )]
    ZeroCopy {
        /// The port.
        port: String,
        /// The one that copies.
        other: String,
    },
    /// `limits.frames` of 0.
    #[error("limits.frames is 0: a worker needs frames, such as 8192")]
    NoFrames,
    /// The interface is not as configured.
    #[error(transparent)]
    Card(#[from] CardError),
    /// A socket.
    #[error(transparent)]
    Xsk(#[from] XskError),
    /// The kernel program.
    #[error(transparent)]
    Steer(#[from] SteerError),
    /// A thread, an eventfd or a descriptor.
    #[error("{what}: {source}")]
    Io {
        /// What was tried.
        what: &'static str,
        /// What the kernel said.
        source: std::io::Error,
    },
}
