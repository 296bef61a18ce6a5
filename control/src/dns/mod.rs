//! DNS over the kernel's sockets: TCP, and of UDP what the packet path leaves to it (reassembled fragments, names of others
//! that are forwarded, and what the node's own processes ask). The same table and the same encoder as in the packet path,
//! so the answers are the same.

use std::net::{IpAddr, SocketAddr};
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering::Relaxed};
use std::time::Duration;

use sluice_dataplane::stage::dns::{Asker, Limit, Reply, read};
use sluice_dataplane::tables::Tables;
use tokio::task::JoinSet;

use forward::{Forwarder, Ours, Question, Shell, Taken, Waiting};

pub mod forward;
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
    /// Connections that were closed because too many of their queries waited for an answer.
    pub tcp_crowded: AtomicU64,
    /// Queries over UDP that the kernel brought and that were answered.
    pub udp_answers: AtomicU64,
    /// The same that deserved no answer.
    pub udp_dropped: AtomicU64,
}

impl Statistics {
    /// Everything with its name, for metrics and `show`.
    #[must_use]
    pub fn all(&self) -> [(&'static str, u64); 8] {
        [
            ("tcp_answers", self.tcp_answers.load(Relaxed)),
            ("tcp_connections", self.tcp_connections.load(Relaxed)),
            ("tcp_refused", self.tcp_refused.load(Relaxed)),
            ("tcp_idle", self.tcp_idle.load(Relaxed)),
            ("tcp_malformed", self.tcp_malformed.load(Relaxed)),
            ("tcp_crowded", self.tcp_crowded.load(Relaxed)),
            ("udp_answers", self.udp_answers.load(Relaxed)),
            ("udp_dropped", self.udp_dropped.load(Relaxed)),
        ]
    }
}

/// What every server needs.
#[derive(Clone)]
pub struct Names {
    /// What is answered from.
    pub latest: Latest,
    /// What is counted.
    pub statistics: Arc<Statistics>,
    /// Who asks others, if anybody does.
    pub forwarder: Option<Arc<Forwarder>>,
}

/// What a query gets.
enum Said {
    /// Nothing.
    Nothing,
    /// The first octets of the buffer.
    Here(usize),
    /// An answer that was known.
    Known(Vec<u8>),
    /// One that is waited for.
    Later(Waiting),
}

/// Serves on these addresses until what is returned is dropped; one that the kernel does not have yet is tried again
/// every second.
#[must_use]
pub fn serve(addresses: Vec<SocketAddr>, names: &Names) -> JoinSet<()> {
    let mut tasks = JoinSet::new();
    let room = tcp::Room::default();
    for address in addresses {
        tasks.spawn(tcp::listen(address, names.clone(), room.clone()));
        tasks.spawn(udp::listen(address, names.clone()));
    }
    tasks
}

impl Names {
    /// Answers the query in the first `len` octets of `buffer` in its place, if it need not be waited for.
    fn say(&self, buffer: &mut [u8], len: usize, tables: &Tables, client: IpAddr, limit: Limit) -> Said {
        let (client, zones, terms) = (client.to_canonical(), &tables.zones, &tables.local.dns);
        let query = buffer.get(..len).unwrap_or_default();
        let Ok(answer) = read(query, zones) else { return Said::Nothing };
        let forwarder = self.forwarder.as_ref().filter(|_| answer.is_foreign(query) && is_trusted(client, tables));
        let asked = forwarder.and_then(|forwarder| Some((forwarder, Question::read(query)?)));
        let checking_disabled = query.get(3).is_some_and(|flags| flags & forward::CD != 0);
        let asker = Asker { ip: client, unix_seconds: now() };
        let Reply::Answer { len: refused, .. } = answer.reply(buffer, len, zones, terms, &asker, limit) else {
            return Said::Nothing;
        };
        let Some((forwarder, question)) = asked else { return Said::Here(refused) };
        let shell = Shell {
            refusal: buffer[..refused].to_vec(),
            question_end: answer.question_end(),
            most: answer.limit(len, terms, limit),
            recursion_available: terms.recursion_available,
            checking_disabled,
            ours: Ours(Arc::clone(&self.latest)),
        };
        match forwarder.take(question, client, shell) {
            Taken::Refused => Said::Here(refused),
            Taken::Answer(answer) => Said::Known(answer),
            Taken::Later(waiting) => Said::Later(waiting),
        }
    }
}

/// Whether the client is believed to be who it says, and others are asked for it: for everybody it would be an open
/// resolver. The node's own processes have its addresses, which the kernel takes from nobody else.
fn is_trusted(client: IpAddr, tables: &Tables) -> bool {
    let client = client.to_canonical();
    client.is_loopback()
        || tables.local.dns.trusts(client)
        || tables.desired.local.dns_addresses().any(|own| own == client)
}

/// Seconds since 1970, modulo 2^32.
fn now() -> u32 {
    std::time::SystemTime::now().duration_since(std::time::UNIX_EPOCH).map_or(0, |since| since.as_secs() as u32)
}
