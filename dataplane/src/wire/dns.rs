//! DNS messages: what a query asks (RFC 1035 section 4, RFC 6891).
//!
//! Two readers, no allocation, every walk bounded by the message: [`plain`] takes the query that resolvers send and
//! nothing else, [`parse`] takes all of them and says what is wrong with the rest. Where `plain` accepts a message
//! whose name is well formed, `parse` says the same of it.

use super::name;

/// Octets of the header.
pub const HEADER_LEN: usize = 12;
/// Octets of an OPT record without options: what every answer to EDNS ends with.
pub const OPT_LEN: usize = 11;
/// Largest UDP message of a client that says nothing else (RFC 1035 section 4.2.1).
pub const UDP_MAX: usize = 512;
/// Class IN.
pub const CLASS_IN: u16 = 1;
/// The only EDNS version there is.
pub const EDNS_VERSION: u8 = 0;

/// Bits of the header's third octet.
pub mod flag {
    /// A response.
    pub const QR: u8 = 0x80;
    /// Where the opcode is.
    pub const OPCODE: u8 = 0x78;
    /// Authoritative answer.
    pub const AA: u8 = 0x04;
    /// Cut to fit.
    pub const TC: u8 = 0x02;
    /// Recursion desired.
    pub const RD: u8 = 0x01;
    /// Recursion available, in the fourth octet.
    pub const RA: u8 = 0x80;
}

/// Record and question types (IANA).
pub mod rtype {
    /// IPv4 address.
    pub const A: u16 = 1;
    /// Name server.
    pub const NS: u16 = 2;
    /// Another name for the same (RFC 1034 section 3.6.2).
    pub const CNAME: u16 = 5;
    /// Start of authority.
    pub const SOA: u16 = 6;
    /// Name of an address.
    pub const PTR: u16 = 12;
    /// Mail exchange.
    pub const MX: u16 = 15;
    /// Text.
    pub const TXT: u16 = 16;
    /// IPv6 address.
    pub const AAAA: u16 = 28;
    /// Server selection.
    pub const SRV: u16 = 33;
    /// EDNS pseudo-record.
    pub const OPT: u16 = 41;
    /// Incremental transfer, a question only.
    pub const IXFR: u16 = 251;
    /// Transfer, a question only.
    pub const AXFR: u16 = 252;
    /// Any type, a question only.
    pub const ANY: u16 = 255;
}

/// Response codes (IANA); above 15 the upper bits travel in OPT.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
#[repr(u8)]
pub enum Rcode {
    /// Answered, perhaps with no data.
    NoError = 0,
    /// The query breaks the format.
    FormErr = 1,
    /// The name does not exist.
    NxDomain = 3,
    /// Not a kind of query that is served.
    NotImp = 4,
    /// Not served here.
    Refused = 5,
    /// It could not be found out: the servers that know do not answer.
    ServFail = 2,
    /// An EDNS version that is not 0.
    BadVers = 16,
}

impl Rcode {
    /// The four bits that the header holds.
    #[must_use]
    pub fn header_bits(self) -> u8 {
        self as u8 & 0x0f
    }

    /// The eight bits above, which OPT holds (RFC 6891 section 6.1.3).
    #[must_use]
    pub fn opt_bits(self) -> u8 {
        self as u8 >> 4
    }
}

/// What a client's OPT record says.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct Edns {
    /// Largest UDP message that it takes, octets, as sent.
    pub size: u16,
    /// Version.
    pub version: u8,
    /// The DO bit (RFC 3225).
    pub dnssec_ok: bool,
    /// Whether the name of the server is asked for (RFC 5001).
    pub nsid: bool,
    /// Where in the message the client's cookie is; 0 for none. See [`Edns::cookie`].
    cookie_at: u16,
    /// Its octets.
    cookie_len: u8,
}

impl Edns {
    /// Whether the client sent a cookie.
    #[must_use]
    #[inline]
    pub fn has_cookie(&self) -> bool {
        self.cookie_at != 0
    }

    /// Whether it asks for nothing that an answer's OPT record would say.
    #[must_use]
    #[inline(always)]
    pub fn is_bare(&self) -> bool {
        !self.nsid && self.cookie_at == 0
    }

    /// The client's cookie, if it sent one, out of its message, which still is as it came.
    #[must_use]
    pub fn cookie(&self, message: &[u8]) -> Option<Cookie> {
        let at = usize::from(self.cookie_at);
        if at == 0 {
            return None;
        }
        Cookie::read(message.get(at..at + usize::from(self.cookie_len))?)
    }
}

/// A COOKIE option (RFC 7873 section 4).
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct Cookie {
    /// The client's part.
    pub client: [u8; 8],
    /// The server's part, if it is of the length that ours have (RFC 9018 section 4).
    pub server: Option<[u8; 16]>,
}

impl Cookie {
    /// `None` where its length is wrong (RFC 7873 section 5.2.2: FORMERR).
    fn read(data: &[u8]) -> Option<Self> {
        let (client, server) = data.split_first_chunk::<8>()?;
        let sound = server.is_empty() || (8..=32).contains(&server.len());
        sound.then(|| Self { client: *client, server: server.try_into().ok() })
    }
}

/// Option codes of EDNS (IANA).
pub mod option {
    /// Name server identifier.
    pub const NSID: u16 = 3;
    /// Cookie.
    pub const COOKIE: u16 = 10;
}

/// A well-formed query.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct Query {
    /// Octets of the name asked for, which begins behind the header.
    pub name_len: usize,
    /// Question type.
    pub qtype: u16,
    /// Question class.
    pub class: u16,
    /// EDNS, if offered.
    pub edns: Option<Edns>,
}

impl Query {
    /// Offset behind the question.
    #[must_use]
    #[inline]
    pub fn question_end(&self) -> usize {
        HEADER_LEN + self.name_len + 4
    }
}

/// A query that breaks the format, and what an answer to it can still say.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct Malformed {
    /// Offset behind the question; [`HEADER_LEN`] when there is none to echo.
    pub question_end: usize,
    /// The OPT record, if one was read.
    pub edns: Option<Edns>,
    /// Whether there is nothing but an OPT record with a cookie, which is no mistake (RFC 7873 section 5.4).
    pub cookie_alone: bool,
}

/// Reads a query whose name ends, as it seems, after `name_len` octets, if it is the usual kind: opcode QUERY, one
/// question, no record but one OPT. That the name is well formed is left to the caller. ~5 ns.
#[must_use]
#[inline(always)]
pub fn plain(message: &[u8], name_len: usize) -> Option<Query> {
    let [_, _, front @ .., r0, r1] = message.first_chunk::<HEADER_LEN>()?;
    // QR and opcode 0, QDCOUNT 1, ANCOUNT and NSCOUNT 0; the other flags and the rcode of a query mean nothing.
    if u64::from_be_bytes(*front) & 0xf800_ffff_ffff_ffff != 0x0000_0001_0000_0000 {
        return None;
    }
    let (question, rest) = message.get(HEADER_LEN + name_len..)?.split_first_chunk::<4>()?;
    let [t0, t1, c0, c1] = *question;
    let edns = match (u16::from_be_bytes([*r0, *r1]), rest.len()) {
        (0, 0) => None,
        (1, OPT_LEN) if let Some(edns) = bare(rest) => Some(edns),
        (1, OPT_LEN..) => Some(lone_opt(message, HEADER_LEN + name_len + 4)?),
        _ => return None,
    };
    Some(Query { name_len, qtype: u16::from_be_bytes([t0, t1]), class: u16::from_be_bytes([c0, c1]), edns })
}

/// The OPT record that is all there is from `at` on.
#[inline(never)]
fn lone_opt(message: &[u8], at: usize) -> Option<Edns> {
    let record = Reader { message, at }.record()?;
    let whole = record.end == message.len() && record.rtype == rtype::OPT;
    whole.then(|| record.edns()).flatten()
}

/// An OPT record without options, which is all of `octets`.
#[inline(always)]
fn bare(octets: &[u8]) -> Option<Edns> {
    let [root, t0, t1, s0, s1, _, version, flags, _, l0, l1] = *octets.first_chunk::<OPT_LEN>()?;
    let bare = root == 0 && u16::from_be_bytes([t0, t1]) == rtype::OPT && (l0, l1) == (0, 0);
    let size = u16::from_be_bytes([s0, s1]);
    bare.then_some(Edns { size, version, dnssec_ok: flags & 0x80 != 0, nsid: false, cookie_at: 0, cookie_len: 0 })
}

/// Reads any query of at least [`HEADER_LEN`] octets, whatever its opcode.
///
/// # Errors
/// When it deserves FORMERR: not one question, an answer in a query, a name that is compressed or too long, a record
/// that is cut, a wrong or second OPT, octets behind the last record.
pub fn parse(message: &[u8]) -> Result<Query, Malformed> {
    let mut known = Malformed { question_end: HEADER_LEN, edns: None, cookie_alone: false };
    read(message, &mut known).ok_or(known)
}

fn read(message: &[u8], known: &mut Malformed) -> Option<Query> {
    let count = |at: usize| message.get(at..at + 2).map(|two| u16::from_be_bytes([two[0], two[1]]));
    let (questions, answers, authority, additional) = (count(4)?, count(6)?, count(8)?, count(10)?);
    if questions != 1 {
        known.edns = cookie_alone(message).filter(|_| questions == 0);
        known.cookie_alone = known.edns.is_some();
        return None;
    }
    let name_len = name::walk(message.get(HEADER_LEN..)?)?;
    let [t0, t1, c0, c1] = *message.get(HEADER_LEN + name_len..)?.first_chunk::<4>()?;
    let mut query =
        Query { name_len, qtype: u16::from_be_bytes([t0, t1]), class: u16::from_be_bytes([c0, c1]), edns: None };
    known.question_end = query.question_end();
    let mut reader = Reader { message, at: query.question_end() };
    // An IXFR query carries the client's SOA (RFC 1995 section 3); nothing else carries records but additional ones.
    if answers != 0 || (authority != 0 && query.qtype != rtype::IXFR) {
        return None;
    }
    for _ in 0..authority {
        reader.record().filter(|record| record.rtype != rtype::OPT)?;
    }
    for _ in 0..additional {
        let record = reader.record()?;
        if record.rtype == rtype::OPT {
            let first = query.edns.is_none();
            known.edns = known.edns.or_else(|| Some(record.fixed()));
            query.edns = Some(record.edns().filter(|_| first)?);
        }
    }
    (reader.at == message.len()).then_some(query)
}

/// The OPT record with a cookie that is all there is behind the header: who sends it wants a cookie (RFC 7873 section 5.4).
fn cookie_alone(message: &[u8]) -> Option<Edns> {
    let counts = message.get(4..HEADER_LEN)?;
    let mut reader = Reader { message, at: HEADER_LEN };
    let edns = reader.record().filter(|record| record.rtype == rtype::OPT)?.edns()?;
    let alone = counts == [0, 0, 0, 0, 0, 0, 0, 1] && reader.at == message.len();
    alone.then_some(edns).filter(Edns::has_cookie)
}

/// Walks records.
struct Reader<'a> {
    message: &'a [u8],
    at: usize,
}

/// A record; `ttl` and `class` mean something else in OPT.
struct Record<'a> {
    rooted: bool,
    rtype: u16,
    class: u16,
    ttl: [u8; 4],
    data: &'a [u8],
    end: usize,
}

impl<'a> Reader<'a> {
    #[inline]
    fn record(&mut self) -> Option<Record<'a>> {
        let owner_len = self.owner()?;
        let (fixed, rest) = self.message.get(self.at + owner_len..)?.split_first_chunk::<10>()?;
        let [t0, t1, c0, c1, a, b, c, d, l0, l1] = *fixed;
        let data = rest.get(..usize::from(u16::from_be_bytes([l0, l1])))?;
        let rooted = owner_len == 1;
        self.at += owner_len + fixed.len() + data.len();
        Some(Record {
            rooted,
            rtype: u16::from_be_bytes([t0, t1]),
            class: u16::from_be_bytes([c0, c1]),
            ttl: [a, b, c, d],
            data,
            end: self.at,
        })
    }

    /// Octets of the owner's name here. A pointer ends it and is never followed, so no loop can be built.
    #[inline]
    fn owner(&self) -> Option<usize> {
        let bytes = self.message.get(self.at..)?;
        let mut at = 0;
        while at < name::NAME_MAX {
            match *bytes.get(at)? {
                0 => return Some(at + 1),
                len @ 1..=0x3f => at += 1 + usize::from(len),
                0xc0.. => return bytes.get(at + 1).map(|_| at + 2),
                0x40..0xc0 => return None,
            }
        }
        None
    }
}

impl Record<'_> {
    /// The fixed part of an OPT record.
    #[inline]
    fn fixed(&self) -> Edns {
        let [_, version, flags, _] = self.ttl;
        Edns { size: self.class, version, dnssec_ok: flags & 0x80 != 0, nsid: false, cookie_at: 0, cookie_len: 0 }
    }

    /// An OPT record owned by the root whose options fill its data exactly (RFC 6891 section 6.1.2).
    #[inline]
    fn edns(&self) -> Option<Edns> {
        let mut edns = self.fixed();
        let mut rest = self.data;
        while !rest.is_empty() {
            let ([c0, c1, l0, l1], after) = rest.split_first_chunk::<4>()?;
            let (data, after) = after.split_at_checked(usize::from(u16::from_be_bytes([*l0, *l1])))?;
            match u16::from_be_bytes([*c0, *c1]) {
                option::NSID => edns.nsid = true,
                // Of several the first counts (RFC 7873 section 5.2).
                option::COOKIE => {
                    Cookie::read(data)?;
                    if edns.cookie_at == 0 {
                        edns.cookie_at = (self.end - after.len() - data.len()) as u16;
                        edns.cookie_len = data.len() as u8;
                    }
                }
                _ => {}
            }
            rest = after;
        }
        self.rooted.then_some(edns)
    }
}
