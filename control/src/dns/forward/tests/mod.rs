//! The forwarder before resolvers that misbehave: sockets of this test's own on the loopback address.

use std::net::{IpAddr, Ipv4Addr, SocketAddr};
use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering::Relaxed};
use std::time::Duration;

use hickory_proto::op::{Message, MessageType, ResponseCode};
use hickory_proto::rr::rdata::{A, SOA, TXT};
use hickory_proto::rr::{Name, RData, Record};
use sluice_config::model::{Desired, Local, Record as Own, RecordData, Zone};
use sluice_dataplane::stage::dns::Limit;
use sluice_dataplane::tables::Tables;
use sluice_dataplane::tables::ids::Ids;
use sluice_dataplane::time::Nanos;
use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};
use tokio::net::{TcpListener, UdpSocket};
use tokio::task::JoinSet;

use super::*;
use crate::dns::{Names, Said};

mod clients;
mod upstream;

const CLIENT: IpAddr = IpAddr::V4(Ipv4Addr::new(10, 0, 0, 7));

/// What follows `[dns]`, read.
pub(super) fn dns(keys: &str) -> Dns {
    let text = format!("[[port]]\ninterface = \"eth0\"\n[dns]\naddresses = [\"198.51.100.1\"]\n{keys}\n");
    match sluice_config::parse(&text, "test") {
        Ok(config) => config.dns,
        Err(errors) => panic!("{errors}"),
    }
}

/// A query with RD.
pub(super) fn asked(name: &str, qtype: u16) -> Vec<u8> {
    let wire = sluice_dataplane::wire::name::from_text(name).unwrap();
    [&[0x12, 0x34, 1, 0, 0, 1, 0, 0, 0, 0, 0, 0][..], &wire, &qtype.to_be_bytes(), &[0, 1]].concat()
}

/// The same with EDNS.
fn asked_with_edns(name: &str, qtype: u16, size: u16) -> Vec<u8> {
    let [high, low] = size.to_be_bytes();
    let mut message = [asked(name, qtype), vec![0, 0, 41, high, low, 0, 0, 0, 0, 0, 0]].concat();
    message[11] = 1;
    message
}

/// A resolver that says what a function makes of the query, and of how many there were: datagrams, or one message over
/// TCP. It is gone when this is dropped.
struct Fake {
    address: SocketAddr,
    asked: Arc<AtomicUsize>,
    _tasks: JoinSet<()>,
}

impl Fake {
    async fn start(say: impl Fn(&[u8], usize) -> Vec<Vec<u8>> + Clone + Send + 'static) -> Self {
        Self::start_with(say, |_| Vec::new()).await
    }

    async fn start_with(
        say: impl Fn(&[u8], usize) -> Vec<Vec<u8>> + Clone + Send + 'static,
        over_tcp: impl Fn(&[u8]) -> Vec<u8> + Send + 'static,
    ) -> Self {
        let (socket, listener) = sockets().await;
        let address = socket.local_addr().unwrap();
        let asked = Arc::new(AtomicUsize::new(0));
        let count = Arc::clone(&asked);
        let mut tasks = JoinSet::new();
        tasks.spawn(async move {
            let mut query = [0; 4096];
            loop {
                let (len, from) = socket.recv_from(&mut query).await.unwrap();
                for answer in say(&query[..len], count.fetch_add(1, Relaxed)) {
                    socket.send_to(&answer, from).await.unwrap();
                }
            }
        });
        tasks.spawn(async move {
            loop {
                let (mut stream, _) = listener.accept().await.unwrap();
                let mut query = vec![0; usize::from(stream.read_u16().await.unwrap())];
                stream.read_exact(&mut query).await.unwrap();
                let answer = over_tcp(&query);
                let _ = stream.write_all(&[&(answer.len() as u16).to_be_bytes()[..], &answer].concat()).await;
            }
        });
        Self { address, asked, _tasks: tasks }
    }

    fn asked(&self) -> usize {
        self.asked.load(Relaxed)
    }
}

/// Sockets of both kinds at one port, below those that the kernel gives to the forwarder's own.
async fn sockets() -> (UdpSocket, TcpListener) {
    loop {
        let port = rand::random_range(10_000..30_000);
        let socket = UdpSocket::bind((Ipv4Addr::LOCALHOST, port)).await;
        if let (Ok(socket), Ok(listener)) = (socket, TcpListener::bind((Ipv4Addr::LOCALHOST, port)).await) {
            return (socket, listener);
        }
    }
}

/// The answer of a resolver to this query.
fn answer(query: &[u8], code: ResponseCode, answers: Vec<RData>, ttl: u32) -> Vec<u8> {
    let mut message = Message::from_vec(query).unwrap();
    message.metadata.message_type = MessageType::Response;
    (message.metadata.response_code, message.metadata.authentic_data) = (code, true);
    message.metadata.authoritative = true;
    let name = message.queries[0].name.clone();
    message.add_answers(answers.into_iter().map(|data| Record::from_rdata(name.clone(), ttl, data)));
    message.to_vec().unwrap()
}

fn one(query: &[u8]) -> Vec<u8> {
    answer(query, ResponseCode::NoError, vec![RData::A(A::new(192, 0, 2, 1))], 300)
}

fn nothing(query: &[u8], code: ResponseCode, minimum: u32) -> Vec<u8> {
    let mut message = Message::from_vec(&answer(query, code, Vec::new(), 0)).unwrap();
    let name = || Name::from_ascii("org.").unwrap();
    let soa = SOA::new(name(), name(), 1, 2, 3, 4, minimum);
    message.add_authority(Record::from_rdata(name(), 900, RData::SOA(soa)));
    message.to_vec().unwrap()
}

fn text(octets: usize) -> RData {
    RData::TXT(TXT::new((0..octets / 200).map(|_| "x".repeat(200)).collect()))
}

/// The servers of a node that forwards all to these.
fn names(fakes: &[&Fake]) -> Names {
    let list: Vec<String> = fakes.iter().map(|fake| format!("\"{}\"", fake.address)).collect();
    names_with(&format!("external = true\nresolvers = [{}]", list.join(", ")))
}

fn names_with(keys: &str) -> Names {
    let dns = dns(keys);
    let record = Own { name: "web.mesos".to_owned(), ttl: 60, data: RecordData::A(Ipv4Addr::new(10, 0, 0, 1)) };
    let zone = Zone { records: [record].into_iter().collect::<Vec<_>>().into(), ..Zone::new("mesos", "ns1.mesos") };
    let mut desired = Desired { local: Local { workers: 1, ..Local::default() }, ..Desired::default() };
    desired.local.dns.forward = true;
    desired.local.dns_addresses = vec![Ipv4Addr::new(198, 51, 100, 1)];
    desired.local.dns.trusted = vec!["10.0.0.0/8".parse().unwrap()];
    desired.shared.zones = Arc::new(vec![zone]);
    let tables = Arc::new(Tables::compile(&Arc::new(desired), &mut Ids::new(8, 8, 60), Nanos(0), None).unwrap());
    let latest: crate::dns::Latest = Arc::new(move || Some(Arc::clone(&tables)));
    Names { latest, statistics: Arc::default(), forwarder: Forwarder::new(&dns) }
}

/// What is said to this client at once, or what it waits for.
fn say(names: &Names, query: &[u8], client: IpAddr, limit: Limit) -> Said {
    let mut buffer = query.to_vec();
    buffer.resize(65_535, 0);
    let tables = (names.latest)().unwrap();
    match names.say(&mut buffer, query.len(), &tables, client, limit) {
        Said::Here(len) => Said::Known(buffer[..len].to_vec()),
        said @ (Said::Nothing | Said::Known(_) | Said::Later(_)) => said,
    }
}

async fn ended(said: Said) -> Vec<u8> {
    match said {
        Said::Known(answer) => answer,
        Said::Later(waiting) => waiting.answer().await,
        Said::Nothing | Said::Here(_) => panic!("no answer"),
    }
}

/// The answer in the end, over UDP.
async fn told(names: &Names, query: &[u8]) -> Vec<u8> {
    ended(say(names, query, CLIENT, Limit::Udp)).await
}

fn rcode(message: &[u8]) -> u8 {
    message[3] & 15
}

const SERVFAIL: u8 = 2;
const NXDOMAIN: u8 = 3;
const REFUSED: u8 = 5;

/// A statistic of the forwarder.
fn count(names: &Names, name: &str) -> u64 {
    let shown = names.forwarder.as_ref().unwrap().shown();
    *shown.counters.get(name).unwrap()
}
