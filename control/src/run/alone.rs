//! One Sluice per network namespace: everything that it makes there carries one protocol number, and the next start
//! takes all of that over.

use std::io;
use std::os::linux::net::SocketAddrExt as _;
use std::os::unix::net::{SocketAddr, UnixListener};

/// Abstract sockets belong to the network namespace and go with their process, however it ends.
const NAME: &str = "sluice";

/// Why this is not the only one.
#[derive(Debug, thiserror::Error)]
pub enum NotAlone {
    /// Another one runs.
    #[error("another sluice runs in this network namespace (`ss -xlp src @{NAME}` shows it); stop it first")]
    Another,
    /// No socket to be had.
    #[error("cannot make the abstract unix socket @{NAME}, which keeps a second sluice away: {0}")]
    Socket(#[source] io::Error),
}

/// Being the only one, for as long as this value lives.
#[derive(Debug)]
pub struct Alone {
    _socket: UnixListener,
}

/// Sees to it that no other Sluice starts in this network namespace.
///
/// # Errors
/// When one runs already.
pub fn alone() -> Result<Alone, NotAlone> {
    let socket = hold(NAME).map_err(NotAlone::Socket)?.ok_or(NotAlone::Another)?;
    Ok(Alone { _socket: socket })
}

/// Holds an abstract socket of this name; `None` while another process does.
pub(crate) fn hold(name: &str) -> io::Result<Option<UnixListener>> {
    match UnixListener::bind_addr(&SocketAddr::from_abstract_name(name)?) {
        Ok(socket) => Ok(Some(socket)),
        Err(error) if error.kind() == io::ErrorKind::AddrInUse => Ok(None),
        Err(error) => Err(error),
    }
}
