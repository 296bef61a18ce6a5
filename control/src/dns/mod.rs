//! DNS over the kernel's sockets: TCP, and of UDP what the packet path leaves to it (reassembled fragments, and what the
//! node's own processes ask). The same table and the same encoder as in the packet path, so the answers are the same.

use std::net::{IpAddr, SocketAddr};
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering::Relaxed};
use std::time::Duration;

use sluice_dataplane::stage::dns::{Asker, Limit, Reply, answer};
use sluice_dataplane::tables::Tables;
use tokio::task::JoinSet;

pub mod secrets;
pub mod tcp;
pub mod udp;

/// The port (RFC 1035 section 4.2).
pub const PORT: u16 = 53;

/// An address that is not there yet is tried again after this.
const AGAIN: Duration = Duration::from_secs(1);

/// Where the tables are that were published last.
pub type Latest = Arc<dyn Fn() -> Option<Arc<Tables>> + Send + Sync>;

/// What the servers count.
#[derive(Debug, Default)]
pub struct Statistics {
    /// Queries over TCP that were answered.
    pub tcp_answers: AtomicU64,
    /// Connections that were taken.
    pub tcp_connections: AtomicU64,
    /// Connections that were closed at once: too many, of all or of one source.
    pub tcp_refused: AtomicU64,
    /// Connections that were closed because nothing came, or nothing was taken, for too long.
    pub tcp_idle: AtomicU64,
    /// Connections that were closed because what came is no query.
    pub tcp_malformed: AtomicU64,
    /// Queries over UDP that the kernel brought and that were answered.
    pub udp_answers: AtomicU64,
    /// The same that deserved no answer.
    pub udp_dropped: AtomicU64,
}

impl Statistics {
    /// Everything with its name, for metrics and `show`.
    #[must_use]
    pub fn all(&self) -> [(&'static str, u64); 7] {
        [
            ("tcp_answers", self.tcp_answers.load(Relaxed)),
            ("tcp_connections", self.tcp_connections.load(Relaxed)),
            ("tcp_refused", self.tcp_refused.load(Relaxed)),
            ("tcp_idle", self.tcp_idle.load(Relaxed)),
            ("tcp_malformed", self.tcp_malformed.load(Relaxed)),
            ("udp_answers", self.udp_answers.load(Relaxed)),
            ("udp_dropped", self.udp_dropped.load(Relaxed)),
        ]
    }
}

/// Serves on these addresses until what is returned is dropped; one that the kernel does not have yet is tried again
/// every second.
#[must_use]
pub fn serve(addresses: Vec<SocketAddr>, latest: &Latest, statistics: &Arc<Statistics>) -> JoinSet<()> {
    let mut tasks = JoinSet::new();
    let room = tcp::Room::default();
    for address in addresses {
        tasks.spawn(tcp::listen(address, Arc::clone(latest), Arc::clone(statistics), room.clone()));
        tasks.spawn(udp::listen(address, Arc::clone(latest), Arc::clone(statistics)));
    }
    tasks
}

/// Answers the query in the first `len` octets of `buffer` in its place; `None` where it deserves no answer.
pub(crate) fn reply(buffer: &mut [u8], len: usize, tables: &Tables, client: IpAddr, limit: Limit) -> Option<usize> {
    let client = client.to_canonical();
    let asker = Asker { ip: client, unix_seconds: now() };
    match answer(buffer, len, &tables.zones, &tables.local.dns, &asker, limit) {
        Reply::Answer { len, .. } => Some(len),
        Reply::Drop(_) => None,
    }
}

/// Seconds since 1970, modulo 2^32.
fn now() -> u32 {
    std::time::SystemTime::now().duration_since(std::time::UNIX_EPOCH).map_or(0, |since| since.as_secs() as u32)
}
