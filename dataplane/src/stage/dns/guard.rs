//! What clients get whose address may be somebody else's: so many answers a second and prefix, and beyond that every
//! second time a cut one, by which an honest client learns to ask over TCP (response rate limiting with slip 2).
//!
//! A table of fixed size with two places for each prefix; a prefix that is new takes the place of the one that was
//! quieter. The hash is keyed, so nobody can aim at another's place.

use std::net::IpAddr;

use crate::limiter::{Bucket, Rate};
use crate::tables::hash::HashKey;
use crate::time::Nanos;

/// Prefixes that are told apart, a power of two: 256 KB a worker.
const PREFIXES: usize = 16_384;

/// How much of an answer.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Portion {
    /// As much as cannot be worth an attacker's while.
    Little,
    /// None but TC.
    Slip,
    /// None.
    Nothing,
}

#[derive(Clone, Copy, Default)]
struct Place {
    tag: u32,
    refused: u32,
    bucket: Bucket,
}

/// One worker's table.
pub struct Guard {
    key: HashKey,
    places: Box<[Place]>,
}

impl Guard {
    /// All full.
    #[must_use]
    pub fn new(key: HashKey) -> Self {
        Self { key, places: vec![Place::default(); PREFIXES].into() }
    }

    /// What a client gets, of a prefix with this rate.
    #[must_use]
    pub fn portion(&mut self, ip: IpAddr, rate: Rate, now: Nanos) -> Portion {
        let hash = match ip {
            IpAddr::V4(ip) => self.key.two(4, u64::from(ip.to_bits() >> 8)),
            IpAddr::V6(ip) => self.key.two(6, (ip.to_bits() >> 72) as u64),
        };
        let pair = hash as usize & (PREFIXES - 2);
        let tag = (hash >> 32) as u32;
        let Some([one, other]) = self.places.get_mut(pair..pair + 2).and_then(|pair| pair.first_chunk_mut::<2>())
        else {
            return Portion::Little;
        };
        let place = match (one.tag == tag, other.tag == tag) {
            (true, _) => one,
            (false, true) => other,
            (false, false) => {
                let quieter = if one.bucket.is_fuller(&other.bucket) { one } else { other };
                *quieter = Place { tag, ..Place::default() };
                quieter
            }
        };
        if place.bucket.take(rate, now) {
            return Portion::Little;
        }
        place.refused = place.refused.wrapping_add(1);
        if place.refused.is_multiple_of(2) { Portion::Slip } else { Portion::Nothing }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_prefix_gets_its_rate_then_every_second_answer_cut_and_others_are_not_concerned() {
        let mut guard = Guard::new(HashKey::new([7; 16]));
        let rate = Rate::new(10, 10);
        let mut ask = |ip: &str, ms: u64| guard.portion(ip.parse().unwrap(), rate, Nanos(ms * 1_000_000));
        let first: Vec<_> = (0..10).map(|n| ask(&format!("192.0.2.{n}"), 0)).collect();
        assert_eq!(first, [Portion::Little; 10]);
        let beyond: Vec<_> = (0..4).map(|n| ask(&format!("192.0.2.{n}"), 0)).collect();
        assert_eq!(beyond, [Portion::Nothing, Portion::Slip, Portion::Nothing, Portion::Slip]);
        assert_eq!(ask("192.0.3.1", 0), Portion::Little);
        assert_eq!(ask("192.0.2.1", 100), Portion::Little);
        let six: Vec<_> = (0..11).map(|n| ask(&format!("2001:db8:0:{n}::1"), 200)).collect();
        assert_eq!(six[10], Portion::Nothing, "a /56 is one client");
    }

    #[test]
    fn a_flood_from_everywhere_forgets_prefixes_and_grows_nothing() {
        let mut guard = Guard::new(HashKey::new([7; 16]));
        let rate = Rate::new(1, 1);
        let little = (0..200_000u32)
            .filter(|n| guard.portion(IpAddr::V4((n << 8).into()), rate, Nanos(u64::from(*n))) == Portion::Little);
        assert!(little.count() > 190_000);
        assert_eq!(guard.places.len(), PREFIXES);
    }
}
