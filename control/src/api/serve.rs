//! The API's sockets: a unix socket for the node's own people, TCP for health and metrics.
//!
//! Whoever connects gets one answer and a bounded time: [`HEADER`] to ask, [`ANSWER`] in all. Each socket has room for
//! [`CONNECTIONS`] at a time, of its own, and closes what comes beyond, so that nobody outside can take the file
//! descriptors of the process, or the unix socket, away.

use std::io;
use std::net::{IpAddr, SocketAddr};
use std::os::unix::fs::{FileTypeExt as _, PermissionsExt as _};
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::Duration;

use axum::serve::Listener;
use axum::{Extension, Router};
use hyper::server::conn::http1;
use hyper_util::rt::{TokioIo, TokioTimer};
use hyper_util::service::TowerToHyperService;
use tokio::net::{TcpListener, UnixListener, UnixStream};
use tokio::sync::Semaphore;

use super::observed::Observed;

/// Most connections of one socket at a time.
pub const CONNECTIONS: usize = 256;

/// How long a caller has for its request's header.
pub const HEADER: Duration = Duration::from_secs(5);

/// How long a connection lasts at most, the answer included.
const ANSWER: Duration = Duration::from_secs(30);

/// Why the API cannot be reached.
#[derive(Debug, thiserror::Error)]
pub enum ServeError {
    /// Another Sluice answers there.
    #[error("{0} is in use: another sluice answers there; stop it, or write another `api.socket`")]
    InUse(PathBuf),
    /// Something that is no socket is there.
    #[error("{0} exists and is not a socket; move it away, or write another `api.socket`")]
    NotASocket(PathBuf),
    /// The unix socket cannot be made.
    #[error("cannot listen on the unix socket {0} (`api.socket`): {1}")]
    Unix(PathBuf, #[source] io::Error),
    /// The TCP socket cannot be made.
    #[error("cannot listen on {0} (`api.listen`): {1}; write another address, or \"\" for none")]
    Tcp(SocketAddr, #[source] io::Error),
}

/// The unix socket, removed when this, or what [`Socket::serve`] gives, is dropped.
#[derive(Debug)]
pub struct Socket {
    file: Remove,
    listener: UnixListener,
}

/// Who asks over TCP.
#[derive(Clone, Copy, Debug)]
pub(super) struct Peer(pub(super) IpAddr);

/// The unix socket's file; removing it tells callers that nobody is there.
#[derive(Debug)]
pub struct Remove(PathBuf);

impl Drop for Remove {
    fn drop(&mut self) {
        let _ = std::fs::remove_file(&self.0);
    }
}

impl Socket {
    /// Listens on `path` (mode 0660). The file of a Sluice that died is replaced, that of a living one is not.
    ///
    /// # Errors
    /// When `path` is taken or cannot be made.
    pub async fn open(path: &Path) -> Result<Self, ServeError> {
        let failed = |error| ServeError::Unix(path.to_owned(), error);
        match std::fs::symlink_metadata(path) {
            Ok(there) if !there.file_type().is_socket() => return Err(ServeError::NotASocket(path.to_owned())),
            Ok(_) if UnixStream::connect(path).await.is_ok() => return Err(ServeError::InUse(path.to_owned())),
            Ok(_) => std::fs::remove_file(path).map_err(failed)?,
            Err(_) => {}
        }
        if let Some(folder) = path.parent() {
            std::fs::create_dir_all(folder).map_err(failed)?;
        }
        let listener = UnixListener::bind(path).map_err(failed)?;
        let file = Remove(path.to_owned());
        std::fs::set_permissions(path, std::fs::Permissions::from_mode(0o660)).map_err(failed)?;
        Ok(Self { file, listener })
    }

    /// Answers from now on, in a task of its own, until the runtime ends. Keep what is returned as long.
    #[must_use]
    pub fn serve(self, observed: Arc<Observed>) -> Remove {
        let router = super::private(observed);
        tokio::spawn(answer(self.listener, move |_| router.clone()));
        self.file
    }
}

/// Answers on TCP from now on, in a task of its own.
///
/// # Errors
/// When the address is taken or not ours.
pub async fn serve_tcp(address: SocketAddr, observed: Arc<Observed>) -> Result<SocketAddr, ServeError> {
    let failed = |error| ServeError::Tcp(address, error);
    let listener = TcpListener::bind(address).await.map_err(failed)?;
    let bound = listener.local_addr().map_err(failed)?;
    let router = super::public(observed);
    tokio::spawn(answer(listener, move |peer: SocketAddr| router.clone().layer(Extension(Peer(peer.ip())))));
    Ok(bound)
}

/// Answers whoever connects; the listener waits a second where it cannot accept.
async fn answer<L: Listener>(mut listener: L, router: impl Fn(L::Addr) -> Router) {
    let room = Arc::new(Semaphore::new(CONNECTIONS));
    loop {
        let (stream, peer) = listener.accept().await;
        let Ok(place) = Arc::clone(&room).try_acquire_owned() else { continue };
        let service = TowerToHyperService::new(router(peer));
        tokio::spawn(async move {
            let mut http = http1::Builder::new();
            http.timer(TokioTimer::new()).header_read_timeout(HEADER).keep_alive(false);
            let connection = http.serve_connection(TokioIo::new(stream), service);
            // A caller that breaks off is no news.
            let _ = tokio::time::timeout(ANSWER, connection).await;
            drop(place);
        });
    }
}
