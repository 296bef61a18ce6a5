//! Addresses of named VIPs: DC/OS's own choice (facts/dcos.md B.3), so that a cluster moves over without a changed address.
//!
//! The first choice of a name is `min + phash2(name) mod (max - min)`, for IPv6 with the name's SHA-1 as the number; the
//! next free address after it (round the range) where another name has that. Existing claims keep theirs, of two claims
//! of one address the elder; new names are taken in byte order. So the result is a function of names and claims alone,
//! equal on every node. The divisor is `max - min`, not the number of addresses: with it changes every address.

use std::collections::{BTreeMap, BTreeSet};
use std::net::{Ipv4Addr, Ipv6Addr};
use std::ops::RangeInclusive;

use sha1::{Digest as _, Sha1};

use super::claims::Claim;

/// An address that names can have.
pub trait Named: Copy + Ord {
    /// The first choice of a name between two addresses.
    fn choice(name: &str, min: Self, max: Self) -> Self;
    /// The address after it; the last is followed by the first.
    fn after(self) -> Self;
}

impl Named for Ipv4Addr {
    fn choice(name: &str, min: Self, max: Self) -> Self {
        let span = max.to_bits().saturating_sub(min.to_bits());
        Self::from_bits(min.to_bits() + if span == 0 { 0 } else { phash2(name.as_bytes(), span) })
    }

    fn after(self) -> Self {
        Self::from_bits(self.to_bits().wrapping_add(1))
    }
}

impl Named for Ipv6Addr {
    fn choice(name: &str, min: Self, max: Self) -> Self {
        let span = max.to_bits().saturating_sub(min.to_bits());
        Self::from_bits(min.to_bits() + if span == 0 { 0 } else { sha1_modulo(name, span) })
    }

    fn after(self) -> Self {
        Self::from_bits(self.to_bits().wrapping_add(1))
    }
}

/// Gives every name in `names` an address of `range` that no other name in the result or in `claims` has and that is not
/// in `reserved`. Names for which none is left are absent from the result.
#[must_use]
pub fn allocate<A: Named>(
    names: &BTreeSet<&str>,
    claims: &BTreeMap<String, Claim<A>>,
    range: &RangeInclusive<A>,
    reserved: &BTreeSet<A>,
) -> BTreeMap<String, A> {
    let mut taken = standing(claims, range, reserved);
    let mut given = BTreeMap::new();
    for name in names {
        let kept = claims.get(*name).map(|c| c.holds).filter(|ip| taken.get(ip) == Some(name));
        let ip = kept.or_else(|| free(name, range, |ip| taken.contains_key(ip) || reserved.contains(ip)));
        if let Some(ip) = ip {
            taken.insert(ip, name);
            given.insert((*name).to_owned(), ip);
        }
    }
    given
}

/// The claims that stand, by address.
fn standing<'a, A: Named>(
    claims: &'a BTreeMap<String, Claim<A>>,
    range: &RangeInclusive<A>,
    reserved: &BTreeSet<A>,
) -> BTreeMap<A, &'a str> {
    let mut standing: BTreeMap<A, (u64, &str)> = BTreeMap::new();
    for (name, claim) in claims.iter().filter(|(_, c)| range.contains(&c.holds) && !reserved.contains(&c.holds)) {
        let ours = (claim.first_seen, name.as_str());
        let elder = standing.entry(claim.holds).or_insert(ours);
        *elder = (*elder).min(ours);
    }
    standing.into_iter().map(|(ip, (_, name))| (ip, name)).collect()
}

fn free<A: Named>(name: &str, range: &RangeInclusive<A>, taken: impl Fn(&A) -> bool) -> Option<A> {
    let (min, max) = (*range.start(), *range.end());
    let first = A::choice(name, min, max);
    let mut candidate = first;
    // Each step but the last meets an address that is taken, so this is bounded by what is held, not by the range.
    loop {
        if !taken(&candidate) {
            return Some(candidate);
        }
        candidate = if candidate == max { min } else { candidate.after() };
        if candidate == first {
            return None;
        }
    }
}

/// The SHA-1 of a name, a number of 160 bits with the first octet highest, modulo `span`, which is not 0.
fn sha1_modulo(name: &str, span: u128) -> u128 {
    let bits = |octet: u8| (0..8).rev().map(move |n| u128::from(octet >> n & 1));
    Sha1::digest(name.as_bytes()).iter().copied().flat_map(bits).fold(0, |rest, bit| {
        // The remainder is below the span, so its double is below twice the span: the carry stands for one subtraction.
        let (carry, double) = (rest >> 127 == 1, rest << 1 | bit);
        if carry || double >= span { double.wrapping_sub(span) } else { double }
    })
}

/// Erlang's `phash2(Binary, Range)`: Jenkins' lookup2 with the initial value that Erlang gives a binary. `range` is not 0.
#[must_use]
pub fn phash2(binary: &[u8], range: u32) -> u32 {
    // 13 times the golden ratio, modulo 2^32: Erlang's tag of a binary.
    const TAG: u32 = 0x08d1_2e65;
    const GOLDEN: u32 = 0x9e37_79b9;
    if binary.is_empty() {
        return TAG % range.max(1);
    }
    let mut state = [GOLDEN, GOLDEN, TAG];
    let mut blocks = binary.chunks_exact(12);
    for block in &mut blocks {
        state[0] = state[0].wrapping_add(le32(block, 0));
        state[1] = state[1].wrapping_add(le32(block, 4));
        state[2] = state[2].wrapping_add(le32(block, 8));
        mix(&mut state);
    }
    let tail = blocks.remainder();
    // The length is modulo 2^32 in the original too.
    state[2] = state[2].wrapping_add(binary.len() as u32);
    state[0] = state[0].wrapping_add(le32(tail, 0));
    state[1] = state[1].wrapping_add(le32(tail, 4));
    state[2] = state[2].wrapping_add(le32(tail, 8) << 8);
    mix(&mut state);
    state[2] % range.max(1)
}

/// Four octets from `at`, little end first; octets that are not there count as 0.
fn le32(octets: &[u8], at: usize) -> u32 {
    (0..4).map(|i| u32::from(octets.get(at + i).copied().unwrap_or(0)) << (8 * i)).fold(0, |a, b| a | b)
}

/// The mix of lookup2 (Bob Jenkins, 1996).
fn mix(state: &mut [u32; 3]) {
    let [mut a, mut b, mut c] = *state;
    for (right, left, last) in [(13, 8, 13), (12, 16, 5), (3, 10, 15)] {
        a = a.wrapping_sub(b).wrapping_sub(c) ^ (c >> right);
        b = b.wrapping_sub(c).wrapping_sub(a) ^ (a << left);
        c = c.wrapping_sub(a).wrapping_sub(b) ^ (b >> last);
    }
    *state = [a, b, c];
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::desire::claims::tests::claimed;
    use crate::fixture::golden;

    const DCOS: RangeInclusive<Ipv4Addr> = Ipv4Addr::new(11, 0, 0, 0)..=Ipv4Addr::new(11, 255, 255, 255);

    fn one<A: Named>(name: &str, range: &RangeInclusive<A>) -> A {
        allocate(&BTreeSet::from([name]), &BTreeMap::new(), range, &BTreeSet::new())[name]
    }

    #[test]
    fn minitwit_has_the_address_that_dcos_gives_it() {
        assert_eq!(one("minitwit.marathon", &DCOS), Ipv4Addr::new(11, 45, 193, 125));
        let built_in = Ipv4Addr::new(11, 0, 0, 0)..=Ipv4Addr::new(11, 255, 255, 254);
        assert_eq!(one("minitwit.marathon", &built_in), Ipv4Addr::new(11, 45, 193, 198));
    }

    #[test]
    fn every_recorded_name_has_the_recorded_addresses() {
        let Some(vectors) = golden("vip/named-vip-hash-vectors.json") else { return };
        let small = Ipv4Addr::new(11, 0, 0, 0)..=Ipv4Addr::new(11, 0, 0, 254);
        let built_in = Ipv4Addr::new(11, 0, 0, 0)..=Ipv4Addr::new(11, 255, 255, 254);
        let six: RangeInclusive<Ipv6Addr> =
            "fd01:c::".parse().unwrap()..="fd01:c::ffff:ffff:ffff:ffff".parse().unwrap();
        let vectors = vectors.as_array().unwrap();
        assert!(vectors.len() > 50);
        for v in vectors {
            let name = v["name"].as_str().unwrap();
            for (range, key) in
                [(&DCOS, "ip4_dcos_default"), (&built_in, "ip4_dcos_net_default"), (&small, "ip4_test_254")]
            {
                assert_eq!(one(name, range).to_string(), v[key].as_str().unwrap(), "{name} {key}");
            }
            assert_eq!(one(name, &six), v["ip6_default"].as_str().unwrap().parse::<Ipv6Addr>().unwrap(), "{name}");
        }
    }

    #[test]
    fn a_span_of_all_addresses_is_divided_without_overflow() {
        let all = Ipv6Addr::UNSPECIFIED..=Ipv6Addr::from_bits(u128::MAX);
        let high = |name: &str| {
            let digest = Sha1::digest(name.as_bytes());
            digest.iter().take(16).fold(0u128, |n, octet| n << 8 | u128::from(*octet))
        };
        // 2^128 is 1 modulo 2^128 - 1, so the number is its low 128 bits plus its high 32.
        for name in ["minitwit.marathon", "a", "b.c"] {
            let digest = Sha1::digest(name.as_bytes());
            let low = digest.iter().skip(4).fold(0u128, |n, octet| n << 8 | u128::from(*octet));
            let (sum, carry) = low.overflowing_add(high(name) >> 96);
            assert_eq!(one(name, &all).to_bits(), sum + u128::from(carry), "{name}");
        }
    }

    #[test]
    fn a_collision_takes_the_next_address_round_the_end_of_the_range() {
        let range = Ipv4Addr::new(11, 0, 0, 0)..=Ipv4Addr::new(11, 0, 0, 2);
        let names = BTreeSet::from(["a.m", "b.m", "c.m", "d.m"]);
        let given = allocate(&names, &BTreeMap::new(), &range, &BTreeSet::new());
        assert_eq!(given.len(), 3, "the range has room for three");
        assert!(!given.contains_key("d.m"), "the last in byte order goes without");
        assert_eq!(given.values().collect::<BTreeSet<_>>().len(), 3);
    }

    #[test]
    fn a_claim_keeps_its_address_and_nobody_else_gets_it() {
        let wanted = one("minitwit.marathon", &DCOS);
        let claims = claimed(&[("zzz.marathon", wanted.octets())], 1).named;
        let names = BTreeSet::from(["minitwit.marathon", "zzz.marathon"]);
        let given = allocate(&names, &claims, &DCOS, &BTreeSet::new());
        assert_eq!(given["zzz.marathon"], wanted);
        assert_eq!(u32::from(given["minitwit.marathon"]), u32::from(wanted) + 1);
        let idle = allocate(&BTreeSet::from(["minitwit.marathon"]), &claims, &DCOS, &BTreeSet::new());
        assert_eq!(u32::from(idle["minitwit.marathon"]), u32::from(wanted) + 1, "an idle claim holds too");
    }

    #[test]
    fn of_two_claims_of_one_address_the_elder_stands() {
        let ip = [11, 0, 0, 9];
        let mut claims = claimed(&[("a.m", ip)], 20).named;
        claims.extend(claimed(&[("b.m", ip)], 10).named);
        let given = allocate(&BTreeSet::from(["a.m", "b.m"]), &claims, &DCOS, &BTreeSet::new());
        assert_eq!(given["b.m"], Ipv4Addr::from(ip));
        assert_eq!(given["a.m"], one("a.m", &DCOS), "the other chooses afresh");
    }

    #[test]
    fn a_claim_outside_the_range_and_a_reserved_address_are_not_used() {
        let claims = claimed(&[("minitwit.marathon", [12, 0, 0, 1])], 1).named;
        let reserved = BTreeSet::from([one("minitwit.marathon", &DCOS)]);
        let given = allocate(&BTreeSet::from(["minitwit.marathon"]), &claims, &DCOS, &reserved);
        assert_eq!(given["minitwit.marathon"], Ipv4Addr::new(11, 45, 193, 126));
    }
}
