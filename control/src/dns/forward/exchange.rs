//! One question to one resolver, over UDP, and over TCP where the answer does not fit or somebody else sends answers too.
//!
//! A socket of its own for every question, so that its port is another each time (the kernel draws it at random), and
//! connected, so that the kernel takes datagrams of the resolver alone. Of those, one is the answer that has the id, is a
//! response, and holds the question octet for octet; every other is counted and waited past, for whoever can send one could
//! otherwise end the question with it.

use std::net::{IpAddr, Ipv4Addr, Ipv6Addr, SocketAddr};
use std::sync::atomic::Ordering::Relaxed;

use hickory_proto::op::{Message, ResponseCode};
use hickory_proto::rr::RecordType;
use sluice_dataplane::wire::dns::{HEADER_LEN, flag};
use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};
use tokio::net::{TcpStream, UdpSocket};

use super::question::{Manner, Question};
use super::statistics::Statistics;

/// More than any server sends to who takes 1232 octets.
const DATAGRAM: usize = 4096;
/// So many wrong answers are no accident: the question is put over TCP, where they cannot be sent.
const FORGED: u32 = 16;

/// Why a resolver's answer is of no use.
#[derive(Debug, thiserror::Error)]
pub(super) enum Trouble {
    /// Nothing listens there, or no packet goes there.
    #[error("{0}")]
    Io(#[from] std::io::Error),
    /// It said nothing in time.
    #[error("no answer in time")]
    Silent,
    /// The name cannot be put into a query.
    #[error("the name cannot be asked for")]
    Name,
    /// It cannot or will not answer.
    #[error("{0}")]
    Code(ResponseCode),
    /// It points to somebody else, which is for resolvers.
    #[error("a referral")]
    Referral,
    /// It is no answer to the question.
    #[error("no answer to the question")]
    Wrong,
}

impl Trouble {
    /// Whether the resolver lives.
    pub(super) fn is_word(&self) -> bool {
        match self {
            Self::Io(_) | Self::Silent | Self::Wrong => false,
            Self::Name | Self::Code(_) | Self::Referral => true,
        }
    }
}

/// Asks; the caller says how long. The message, and its octets.
pub(super) async fn ask(
    at: SocketAddr,
    question: &Question,
    manner: Manner,
    statistics: &Statistics,
) -> Result<(Message, usize), Trouble> {
    statistics.queries.fetch_add(1, Relaxed);
    let (query, end) = question.query(manner).ok_or(Trouble::Name)?;
    let sent = Sent { query: &query, end };
    match over_udp(at, &sent, statistics).await? {
        Some(answer) => useful(answer, question),
        None => {
            statistics.over_tcp.fetch_add(1, Relaxed);
            useful(over_tcp(at, &sent).await?, question)
        }
    }
}

/// A query, and where its question ends.
struct Sent<'a> {
    query: &'a [u8],
    end: usize,
}

impl Sent<'_> {
    /// Whether this is the answer.
    fn is_answered_by(&self, message: &[u8]) -> bool {
        let same = |range: std::ops::Range<usize>| message.get(range.clone()) == self.query.get(range);
        let is_response = |flags: &u8| flags & (flag::QR | flag::OPCODE) == flag::QR;
        same(0..2) && message.get(2).is_some_and(is_response) && same(4..6) && same(HEADER_LEN..self.end)
    }
}

/// `None` where TCP is to be used.
async fn over_udp(
    at: SocketAddr,
    sent: &Sent<'_>,
    statistics: &Statistics,
) -> Result<Option<(Message, usize)>, Trouble> {
    let any = if at.is_ipv4() { IpAddr::V4(Ipv4Addr::UNSPECIFIED) } else { IpAddr::V6(Ipv6Addr::UNSPECIFIED) };
    let socket = UdpSocket::bind((any, 0)).await?;
    socket.connect(at).await?;
    socket.send(sent.query).await?;
    let mut buffer = vec![0; DATAGRAM];
    for _ in 0..FORGED {
        let len = socket.recv(&mut buffer).await?;
        let message = &buffer[..len];
        if sent.is_answered_by(message) {
            if message[2] & flag::TC != 0 {
                return Ok(None);
            }
            if let Ok(read) = Message::from_vec(message) {
                return Ok(Some((read, len)));
            }
        }
        statistics.ignored.fetch_add(1, Relaxed);
    }
    Ok(None)
}

async fn over_tcp(at: SocketAddr, sent: &Sent<'_>) -> Result<(Message, usize), Trouble> {
    let mut stream = TcpStream::connect(at).await?;
    stream.write_all(&[&(sent.query.len() as u16).to_be_bytes(), sent.query].concat()).await?;
    let mut message = vec![0; usize::from(stream.read_u16().await?)];
    stream.read_exact(&mut message).await?;
    let answer = Message::from_vec(&message).ok().filter(|_| sent.is_answered_by(&message));
    Ok((answer.ok_or(Trouble::Wrong)?, message.len()))
}

/// Whether it can be told to a client.
pub(super) fn useful((message, octets): (Message, usize), question: &Question) -> Result<(Message, usize), Trouble> {
    let code = message.metadata.response_code;
    if !matches!(code, ResponseCode::NoError | ResponseCode::NXDomain) {
        return Err(Trouble::Code(code));
    }
    let has = |rtype| message.authorities.iter().any(|record| record.record_type() == rtype);
    let is_referral = message.answers.is_empty() && has(RecordType::NS) && !has(RecordType::SOA);
    if is_referral && code == ResponseCode::NoError && question.record_type() != RecordType::NS {
        return Err(Trouble::Referral);
    }
    Ok((message, octets))
}
