//! Why Sluice does not run, or no longer: whatever its parts say, and what is only seen where they come together.

use sluice_dataplane::launch::LaunchError;

use crate::api::serve::ServeError;
use crate::marathon::fetch_error::StartError;
use crate::netlink::NetlinkError;
use crate::store::StoreError;

/// Why Sluice does not run, or no longer.
#[derive(Debug, thiserror::Error)]
pub enum RunError {
    /// Privileges.
    #[error(transparent)]
    NotPermitted(#[from] super::privileges::NotPermitted),
    /// Another Sluice.
    #[error(transparent)]
    NotAlone(#[from] super::alone::NotAlone),
    /// The hash key.
    #[error(transparent)]
    HashKey(#[from] super::hash_key::HashKeyError),
    /// The secrets of DNS cookies.
    #[error(transparent)]
    Cookies(#[from] crate::dns::secrets::SecretError),
    /// The kernel.
    #[error(transparent)]
    Netlink(#[from] NetlinkError),
    /// The API's sockets.
    #[error(transparent)]
    Serve(#[from] ServeError),
    /// Claims of named VIPs.
    #[error(transparent)]
    Claims(#[from] StoreError),
    /// Drains of an earlier run.
    #[error(transparent)]
    Drains(#[from] crate::health::drains::DrainsError),
    /// Leases of an earlier run.
    #[error(transparent)]
    Leases(#[from] crate::lease::file::LeasesError),
    /// The word that agents must show.
    #[error(transparent)]
    Token(#[from] crate::lease::token::TokenError),
    /// The first tables.
    #[error(transparent)]
    Tables(#[from] sluice_dataplane::tables::CompileError),
    /// The packet path.
    #[error(transparent)]
    Launch(#[from] LaunchError),
    /// A Marathon of the configuration cannot be followed at all.
    #[error(transparent)]
    Marathon(#[from] StartError),
    /// A source of the view panicked.
    #[error("a Marathon is no longer followed ({0}); the log above says where. Restart sluice, and report it")]
    SourceDied(#[source] tokio::task::JoinError),
    /// A worker panicked.
    #[error("a worker has died; the log above says where. Restart sluice, and report it")]
    WorkerDied,
    /// An interface vanished.
    #[error("interface {0} has gone, and its sockets with it; bring it back and start sluice again")]
    InterfaceGone(String),
    /// Netlink ended.
    #[error("the kernel's state is no longer followed: the netlink connection ended")]
    NetlinkEnded,
    /// Signals.
    #[error("cannot wait for signals: {0}")]
    Signals(#[source] std::io::Error),
}
