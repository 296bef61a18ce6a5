//! What is asked of resolvers: of a client's message only what decides the answer. Cookies, client subnets and whatever
//! else it carries stay here.

use hickory_proto::op::{Edns, Message, MessageType, OpCode, Query};
use hickory_proto::rr::{Name, RecordType};
use hickory_proto::serialize::binary::{BinDecodable as _, BinDecoder};
use rand::RngExt as _;
use sluice_dataplane::wire::dns::{self, HEADER_LEN};

/// Checking disabled, in the fourth octet (RFC 4035 section 3.2.2): what a validating resolver says depends on it.
pub(in crate::dns) const CD: u8 = 0x10;
/// Largest answer that is taken over UDP: no path cuts it into fragments.
const UDP_MAX: u16 = 1232;

/// A question of class IN.
#[derive(Clone, PartialEq, Eq, Hash, Debug)]
pub struct Question {
    /// On the wire, lower case.
    name: Box<[u8]>,
    qtype: u16,
    dnssec_ok: bool,
    checking_disabled: bool,
}

/// How a question is put.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(super) enum Manner {
    /// With EDNS, and with letters in random case, which a sender of forged answers has to guess.
    Careful,
    /// For servers that know neither: without mixed case, and without EDNS unless DO is asked for.
    Plain,
}

impl Question {
    /// Of a client's message; `None` if that is no well-formed query.
    #[must_use]
    pub fn read(message: &[u8]) -> Option<Self> {
        let query = dns::parse(message).ok()?;
        Some(Self {
            name: message.get(HEADER_LEN..HEADER_LEN + query.name_len)?.to_ascii_lowercase().into(),
            qtype: query.qtype,
            dnssec_ok: query.edns.is_some_and(|edns| edns.dnssec_ok),
            checking_disabled: message.get(3)? & CD != 0,
        })
    }

    /// The name on the wire, in lower case.
    #[must_use]
    pub fn name(&self) -> &[u8] {
        &self.name
    }

    /// Octets that it takes in memory, about.
    pub(super) fn octets(&self) -> usize {
        size_of::<Self>() + self.name.len()
    }

    pub(super) fn record_type(&self) -> RecordType {
        self.qtype.into()
    }

    /// The same question for every kind of client: on its way back to us it may have changed so far.
    pub(super) fn variants(&self) -> impl Iterator<Item = Self> + '_ {
        [(false, false), (false, true), (true, false), (true, true)]
            .into_iter()
            .map(|(dnssec_ok, checking_disabled)| Self { dnssec_ok, checking_disabled, ..self.clone() })
    }

    /// As a query with a random id, and where its question ends; `None` if the name cannot be encoded.
    pub(super) fn query(&self, manner: Manner) -> Option<(Vec<u8>, usize)> {
        let mut name = self.name.to_vec();
        if manner == Manner::Careful {
            mix_case(&mut name);
        }
        let mut message = Message::new(rand::rng().random(), MessageType::Query, OpCode::Query);
        message.metadata.recursion_desired = true;
        message.metadata.checking_disabled = self.checking_disabled;
        message.add_query(Query::query(read_name(&name)?, self.record_type()));
        if manner == Manner::Careful || self.dnssec_ok {
            let mut edns = Edns::new();
            edns.set_max_payload(UDP_MAX).set_dnssec_ok(self.dnssec_ok);
            message.set_edns(edns);
        }
        Some((message.to_vec().ok()?, HEADER_LEN + name.len() + 4))
    }
}

/// A name out of a message.
pub(super) fn read_name(wire: &[u8]) -> Option<Name> {
    Name::read(&mut BinDecoder::new(wire)).ok()
}

/// Length octets are below every letter.
fn mix_case(name: &mut [u8]) {
    let mut random = rand::rng();
    for letter in name.iter_mut().filter(|octet| octet.is_ascii_lowercase()) {
        if random.random() {
            *letter = letter.to_ascii_uppercase();
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::dns::forward::tests::asked;

    #[test]
    fn nothing_of_the_client_goes_along_but_the_question_and_two_bits() {
        let mut message = asked("Web.Example.org", 1);
        message[3] |= CD;
        message[11] = 1;
        // OPT with DO, a cookie and a client subnet.
        message.extend([0, 0, 41, 2, 0, 0, 0, 0x80, 0, 0, 23]);
        message.extend([0, 10, 0, 8, 1, 2, 3, 4, 5, 6, 7, 8, 0, 8, 0, 7, 0, 1, 24, 0, 192, 0, 2]);
        let question = Question::read(&message).unwrap();
        assert_eq!(question.name(), b"\x03web\x07example\x03org\0");
        let (query, end) = question.query(Manner::Careful).unwrap();
        assert_eq!(query[2..12], [1, CD, 0, 1, 0, 0, 0, 0, 0, 1]);
        assert!(query[12..end - 4].eq_ignore_ascii_case(question.name()) && query[end - 4..end] == [0, 1, 0, 1]);
        assert_eq!(query[end..], [0, 0, 41, 4, 208, 0, 0, 0x80, 0, 0, 0], "1232 octets, DO, no option");
        let (plain, end) = question.query(Manner::Plain).unwrap();
        assert_eq!((plain.len(), &plain[12..end - 4]), (end + 11, question.name()), "DO needs EDNS");
        let (plain, end) = Question::read(&asked("org", 1)).unwrap().query(Manner::Plain).unwrap();
        assert_eq!(plain.len(), end);
    }

    #[test]
    fn ids_and_the_case_of_letters_are_another_each_time() {
        let question = Question::read(&asked("a-rather-long-name.example.org", 1)).unwrap();
        let mut all: Vec<Vec<u8>> = (0..100).map(|_| question.query(Manner::Careful).unwrap().0).collect();
        all.sort();
        all.dedup_by(|a, b| a[..2] == b[..2] || a[12..] == b[12..]);
        assert!(all.len() > 90, "{}", all.len());
    }
}
