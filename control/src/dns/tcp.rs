//! DNS over TCP (RFC 7766): a length of two octets before every message, queries one behind the other.
//!
//! Bounds: connections of all and of one source, time without a query or without taking an answer, queries that are
//! answered before the client has taken what it asked for, and queries that wait for others' answers. Whoever goes beyond
//! is closed and counted.

use std::collections::HashMap;
use std::net::{IpAddr, SocketAddr};
use std::sync::atomic::Ordering::Relaxed;
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use futures_util::stream::{FuturesUnordered, StreamExt as _};
use sluice_dataplane::stage::dns::Limit;
use tokio::io::{AsyncRead, AsyncReadExt as _, AsyncWrite, AsyncWriteExt as _};
use tokio::net::TcpListener;
use tokio::time::{sleep, timeout};

use super::{AGAIN, Names, Said};

/// Most connections.
pub const CONNECTIONS: usize = 1000;
/// Most connections of one source: an IPv4 address, or an IPv6 /64.
pub const OF_A_SOURCE: usize = 50;
/// How long a connection may be idle, and a client may take to read an answer.
pub const IDLE: Duration = Duration::from_secs(10);
/// Most queries that are answered before a client has taken the answers to those before, and that wait for an answer.
pub const IN_FLIGHT: usize = 64;

/// The connections that there are, by source.
#[derive(Clone, Default)]
pub struct Room(Arc<Mutex<HashMap<IpAddr, usize>>>);

/// A connection's place; it is free again when this is dropped.
struct Place {
    room: Room,
    source: IpAddr,
}

impl Room {
    fn take(&self, peer: IpAddr) -> Option<Place> {
        let source = source(peer);
        let mut taken = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        let all: usize = taken.values().sum();
        let of_it = taken.get(&source).copied().unwrap_or(0);
        if all >= CONNECTIONS || of_it >= OF_A_SOURCE {
            return None;
        }
        taken.insert(source, of_it + 1);
        Some(Place { room: self.clone(), source })
    }
}

impl Drop for Place {
    fn drop(&mut self) {
        let mut taken = self.room.0.lock().unwrap_or_else(PoisonError::into_inner);
        if let Some(count) = taken.get_mut(&self.source) {
            *count -= 1;
            if *count == 0 {
                taken.remove(&self.source);
            }
        }
    }
}

/// Who counts as one source.
fn source(peer: IpAddr) -> IpAddr {
    match peer.to_canonical() {
        IpAddr::V4(ip) => ip.into(),
        IpAddr::V6(ip) => IpAddr::V6((ip.to_bits() >> 64 << 64).into()),
    }
}

/// Answers on this address for ever.
pub(super) async fn listen(address: SocketAddr, names: Names, room: Room) {
    let mut said = false;
    let listener = loop {
        match TcpListener::bind(address).await {
            Ok(listener) => break listener,
            Err(error) if !said => {
                tracing::warn!(%address, %error, "DNS over TCP waits for its address");
                said = true;
            }
            Err(_) => {}
        }
        sleep(AGAIN).await;
    };
    accept(listener, names, room).await;
}

/// Answers whoever connects.
pub async fn accept(listener: TcpListener, names: Names, room: Room) {
    loop {
        let Ok((stream, peer)) = listener.accept().await else {
            // Out of file descriptors, as a rule: those that there are end by themselves.
            sleep(Duration::from_millis(100)).await;
            continue;
        };
        let Some(place) = room.take(peer.ip()) else {
            names.statistics.tcp_refused.fetch_add(1, Relaxed);
            continue;
        };
        names.statistics.tcp_connections.fetch_add(1, Relaxed);
        let names = names.clone();
        tokio::spawn(async move {
            let ended = converse(stream, peer.ip(), &names, IDLE).await;
            let counter = match ended {
                End::Gone => None,
                End::Idle => Some(&names.statistics.tcp_idle),
                End::Malformed => Some(&names.statistics.tcp_malformed),
                End::Crowded => Some(&names.statistics.tcp_crowded),
            };
            if let Some(counter) = counter {
                counter.fetch_add(1, Relaxed);
            }
            drop(place);
        });
    }
}

/// How a connection ended.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
enum End {
    /// The client closed it, or broke off.
    Gone,
    /// Nothing came, or nothing was taken.
    Idle,
    /// What came is no query.
    Malformed,
    /// Too many queries wait for an answer.
    Crowded,
}

/// Queries until one of both ends it. The answers to at most [`IN_FLIGHT`] queries that lie ready are written together;
/// those that wait for others come when they are there (RFC 7766 section 7: in any order).
async fn converse<S>(mut stream: S, peer: IpAddr, names: &Names, patience: Duration) -> End
where
    S: AsyncRead + AsyncWrite + Unpin,
{
    let mut came: Vec<u8> = Vec::new();
    let mut message = vec![0; usize::from(u16::MAX)];
    let mut waiting = FuturesUnordered::new();
    let mut is_open = true;
    loop {
        let mut answers = Framed::default();
        let mut done = 0;
        for _ in 0..IN_FLIGHT {
            let Some(query) = framed(&came[done..]) else { break };
            done += 2 + query.len();
            if waiting.len() == IN_FLIGHT {
                return End::Crowded;
            }
            let Some(tables) = (names.latest)() else { return End::Gone };
            message[..query.len()].copy_from_slice(query);
            match names.say(&mut message, query.len(), &tables, peer, Limit::Tcp) {
                Said::Nothing => return End::Malformed,
                Said::Here(len) => answers.push(&message[..len]),
                Said::Known(answer) => answers.push(&answer),
                Said::Later(one) => waiting.push(one.answer()),
            }
        }
        came.drain(..done);
        if done == 0 {
            if !is_open && waiting.is_empty() {
                return End::Gone;
            }
            tokio::select! {
                Some(answer) = waiting.next() => answers.push(&answer),
                read = timeout(patience, stream.read_buf(&mut came)), if is_open => match read {
                    // A client that will ask no more still takes what it asked for.
                    Ok(Ok(0)) => is_open = false,
                    Ok(Ok(_)) => {}
                    Ok(Err(_)) => return End::Gone,
                    Err(_) if waiting.is_empty() => return End::Idle,
                    Err(_) => {}
                },
            }
        }
        if let Some(end) = write(&mut stream, &answers, names, patience).await {
            return end;
        }
        // RFC 1035 section 4.1.1: shorter than a header is no message at all.
        if came.first_chunk::<2>().is_some_and(|len| u16::from_be_bytes(*len) < 12) {
            return End::Malformed;
        }
    }
}

/// Writes these answers; what ended the connection, if something did.
async fn write<S>(stream: &mut S, answers: &Framed, names: &Names, patience: Duration) -> Option<End>
where
    S: AsyncWrite + Unpin,
{
    names.statistics.tcp_answers.fetch_add(answers.count, Relaxed);
    match timeout(patience, stream.write_all(&answers.octets)).await {
        Ok(Ok(())) => None,
        Ok(Err(_)) => Some(End::Gone),
        Err(_) => Some(End::Idle),
    }
}

/// Messages, each behind its length.
#[derive(Default)]
struct Framed {
    octets: Vec<u8>,
    count: u64,
}

impl Framed {
    fn push(&mut self, message: &[u8]) {
        self.octets.extend((message.len() as u16).to_be_bytes());
        self.octets.extend(message);
        self.count += 1;
    }
}

/// The message that lies ready whole.
fn framed(came: &[u8]) -> Option<&[u8]> {
    let (len, rest) = came.split_first_chunk::<2>()?;
    rest.get(..usize::from(u16::from_be_bytes(*len)))
}

#[cfg(test)]
mod tests {
    use std::net::Ipv4Addr;

    use sluice_config::model::{Desired, Local, Record, RecordData, Zone};
    use sluice_dataplane::tables::Tables;
    use sluice_dataplane::tables::ids::Ids;
    use sluice_dataplane::time::Nanos;
    use tokio::io::duplex;
    use tokio::net::TcpStream;

    use super::*;

    fn tables() -> Arc<Tables> {
        let record = |last: u8| Record {
            name: "many.mesos".to_owned(),
            ttl: 60,
            data: RecordData::A(Ipv4Addr::new(10, 0, 0, last)),
        };
        let zone = Zone { records: (1..=60).map(record).collect(), ..Zone::new("mesos", "ns1.mesos") };
        let mut desired = Desired { local: Local { workers: 1, ..Local::default() }, ..Desired::default() };
        desired.shared.zones = Arc::new(vec![zone]);
        Arc::new(Tables::compile(&Arc::new(desired), &mut Ids::new(8, 8, 60), Nanos(0), None).unwrap())
    }

    fn names() -> Names {
        let tables = tables();
        let latest: super::super::Latest = Arc::new(move || Some(Arc::clone(&tables)));
        Names { latest, statistics: Arc::default(), forwarder: None }
    }

    fn query(id: u8) -> Vec<u8> {
        let message = [&[0, id, 1, 0, 0, 1, 0, 0, 0, 0, 0, 0][..], b"\x04many\x05mesos\0", &[0, 1, 0, 1]].concat();
        [&(message.len() as u16).to_be_bytes()[..], &message].concat()
    }

    async fn read(stream: &mut (impl AsyncRead + Unpin)) -> Option<Vec<u8>> {
        let len = stream.read_u16().await.ok()?;
        let mut message = vec![0; usize::from(len)];
        stream.read_exact(&mut message).await.ok()?;
        Some(message)
    }

    /// A conversation of little patience.
    async fn brief(server: tokio::io::DuplexStream) -> End {
        converse(server, Ipv4Addr::LOCALHOST.into(), &names(), Duration::from_millis(50)).await
    }

    #[tokio::test]
    async fn a_query_in_single_octets_and_two_in_one_piece_are_answered_whole() {
        let (mut client, server) = duplex(64 * 1024);
        let names = names();
        let statistics = Arc::clone(&names.statistics);
        let served = tokio::spawn(async move { converse(server, Ipv4Addr::LOCALHOST.into(), &names, IDLE).await });
        for octet in query(1) {
            client.write_all(&[octet]).await.unwrap();
        }
        let answer = read(&mut client).await.unwrap();
        assert_eq!((answer[1], answer[2] & 2, u16::from_be_bytes([answer[6], answer[7]])), (1, 0, 60));
        client.write_all(&[query(2), query(3)].concat()).await.unwrap();
        assert_eq!([read(&mut client).await.unwrap()[1], read(&mut client).await.unwrap()[1]], [2, 3]);
        drop(client);
        assert_eq!(served.await.unwrap(), End::Gone);
        assert_eq!(statistics.tcp_answers.load(Relaxed), 3);
    }

    #[tokio::test]
    async fn what_is_no_query_ends_the_connection_and_the_server_lives() {
        for bad in [vec![0, 0], vec![0, 5, 1, 2, 3, 4, 5], {
            let mut r = query(1);
            r[4] |= 0x80;
            r
        }] {
            let (mut client, server) = duplex(1024);
            client.write_all(&bad).await.unwrap();
            assert_eq!(converse(server, Ipv4Addr::LOCALHOST.into(), &names(), IDLE).await, End::Malformed);
        }
    }

    #[tokio::test]
    async fn who_says_nothing_or_takes_nothing_is_let_go() {
        let (_client, server) = duplex(1024);
        assert_eq!(brief(server).await, End::Idle);
        let (mut client, server) = duplex(256);
        let asked = tokio::spawn(async move {
            for id in 0..100 {
                if client.write_all(&query(id)).await.is_err() {
                    break;
                }
            }
            client
        });
        assert_eq!(brief(server).await, End::Idle);
        asked.abort();
    }

    #[tokio::test]
    async fn one_source_has_fifty_connections_and_others_have_theirs() {
        let room = Room::default();
        let places: Vec<_> = (0..OF_A_SOURCE).map(|_| room.take("2001:db8::1".parse().unwrap()).unwrap()).collect();
        assert!(room.take("2001:db8::2".parse().unwrap()).is_none(), "a /64 is one source");
        assert!(room.take("2001:db8:0:1::2".parse().unwrap()).is_some());
        drop(places);
        assert!(room.take("2001:db8::2".parse().unwrap()).is_some());
        let all: Vec<_> = (0..CONNECTIONS as u32).filter_map(|n| room.take(IpAddr::V4(n.into()))).collect();
        assert_eq!(all.len(), CONNECTIONS);
        assert!(room.take("192.0.2.1".parse().unwrap()).is_none());
    }

    #[tokio::test]
    async fn the_answer_over_tcp_is_the_packet_paths_octet_for_octet() {
        let listener = TcpListener::bind((Ipv4Addr::LOCALHOST, 0)).await.unwrap();
        let address = listener.local_addr().unwrap();
        tokio::spawn(accept(listener, names(), Room::default()));
        let mut stream = TcpStream::connect(address).await.unwrap();
        stream.write_all(&query(9)).await.unwrap();
        let over_tcp = read(&mut stream).await.unwrap();
        let query = query(9);
        let mut buffer = query[2..].to_vec();
        // With EDNS the packet path sends as much; its OPT record alone is more.
        buffer[11] = 1;
        buffer.extend([0, 0, 41, 16, 0, 0, 0, 0, 0, 0, 0]);
        let len = buffer.len();
        buffer.resize(4096, 0);
        let said = names().say(&mut buffer, len, &tables(), Ipv4Addr::LOCALHOST.into(), Limit::Udp);
        let Said::Here(over_udp) = said else { panic!("no answer") };
        assert_eq!(over_tcp[12..], buffer[12..over_udp - 11]);
    }
}
