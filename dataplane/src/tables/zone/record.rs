//! Records as they go on the wire.

use sluice_config::model::{Record, RecordData};

use super::{PLACE, RrSet, uniform};
use crate::wire::dns::{CLASS_IN, HEADER_LEN, rtype};
use crate::wire::name::{self, BadName};
use crate::wire::sum::Sum;

/// Octets of a record before its data: owner as a pointer, type, class, TTL, length.
pub(super) const FIXED: usize = 12;
/// Most octets of records in one RRset, so that header, the longest question and OPT fit into a message beside it.
const RRSET_MAX: usize = u16::MAX as usize - 512;

/// A type's data, and the name in it.
#[derive(Clone, PartialEq, Eq, PartialOrd, Ord, Debug)]
pub(super) struct Data {
    pub(super) rtype: u16,
    pub(super) octets: Vec<u8>,
    /// Where in them the name that the record points to begins; it ends them.
    pub(super) target_at: Option<usize>,
}

/// # Errors
/// When a name in it is none.
pub(super) fn data(record: &Record) -> Result<Data, BadName> {
    let plain = |rtype, octets| Data { rtype, octets, target_at: None };
    let pointing = |rtype, front: &[u16], target: &str| {
        let mut octets: Vec<u8> = front.iter().flat_map(|number| number.to_be_bytes()).collect();
        octets.extend(name::from_text(target)?);
        Ok(Data { rtype, octets, target_at: Some(front.len() * 2) })
    };
    match &record.data {
        RecordData::A(ip) => Ok(plain(rtype::A, ip.octets().to_vec())),
        RecordData::Aaaa(ip) => Ok(plain(rtype::AAAA, ip.octets().to_vec())),
        RecordData::Srv { priority, weight, port, target } => {
            pointing(rtype::SRV, &[*priority, *weight, *port], target)
        }
        RecordData::Cname(target) => pointing(rtype::CNAME, &[], target),
        RecordData::Ptr(target) => pointing(rtype::PTR, &[], target),
        RecordData::Mx { preference, exchange } => pointing(rtype::MX, &[*preference], exchange),
        RecordData::Txt(strings) => {
            let text = |text: &Vec<u8>| [&[text.len().min(255) as u8][..], &text[..text.len().min(255)]].concat();
            let octets = strings.iter().flat_map(text).collect();
            Ok(plain(rtype::TXT, octets))
        }
    }
}

/// Type, class, TTL and data: a record behind its owner.
pub(super) fn tail(rtype: u16, ttl: u32, data: &[u8]) -> Vec<u8> {
    let mut tail = [rtype.to_be_bytes(), CLASS_IN.to_be_bytes()].concat();
    tail.extend(ttl.to_be_bytes());
    tail.extend((data.len() as u16).to_be_bytes());
    tail.extend(data);
    tail
}

/// An RRset as it lies in its entry.
#[derive(Clone, PartialEq, Eq, Debug)]
pub(super) struct Set {
    pub(super) rtype: u16,
    pub(super) count: u16,
    /// Descriptors, and the records.
    pub(super) octets: Vec<u8>,
}

impl Set {
    /// As many of the data, which are of one type and in order, as fit into a message; how many that is. All have the
    /// least TTL given (RFC 2181 section 5.2 wants one for all).
    pub(super) fn new(ttl: u32, all: &[Data], hash: impl Fn(&[u8]) -> u64) -> Self {
        let rtype = all.first().map_or(0, |data| data.rtype);
        let (mut places, mut records) = (Vec::new(), Vec::new());
        let mut count = 0;
        for data in all {
            if records.len() + FIXED + data.octets.len() > RRSET_MAX {
                break;
            }
            count += 1;
            if uniform(rtype).is_none() {
                places.extend(place(records.len(), data, &hash));
            }
            records.extend([0xc0, HEADER_LEN as u8]);
            records.extend(tail(rtype, ttl, &data.octets));
        }
        places.append(&mut records);
        Self { rtype, count, octets: places }
    }

    /// The word by which its entry describes it.
    pub(super) fn word(&self) -> u64 {
        let places = if uniform(self.rtype).is_some() { 0 } else { usize::from(self.count) * PLACE };
        let records = self.octets.get(places..).unwrap_or_default();
        let mut sum = Sum::default();
        sum.add(records, 0);
        let Self { rtype, count, .. } = *self;
        RrSet { rtype, count, octets: records.len() as u16, sum: sum.word(), words: &[] }.word()
    }

    /// The place in its entry: A, AAAA, SRV, then by number.
    pub(super) fn rank(&self) -> (u8, u16) {
        let first = match self.rtype {
            rtype::A => 0,
            rtype::AAAA => 1,
            rtype::SRV => 2,
            _ => 3,
        };
        (first, self.rtype)
    }
}

fn place(at: usize, data: &Data, hash: &impl Fn(&[u8]) -> u64) -> [u8; PLACE] {
    let target = data.target_at.and_then(|at| data.octets.get(at..)).unwrap_or_default();
    let mut place = [0; PLACE];
    if !target.is_empty() {
        place[..8].copy_from_slice(&hash(target).to_le_bytes());
        place[12..14].copy_from_slice(&((FIXED + data.target_at.unwrap_or(0)) as u16).to_le_bytes());
        place[14..].copy_from_slice(&(target.len() as u16).to_le_bytes());
    }
    place[8..12].copy_from_slice(&(at as u32).to_le_bytes());
    place
}
