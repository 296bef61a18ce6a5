//! Addresses of named VIPs: DC/OS's own choice (facts/dcos.md B.3), so that a cluster moves over without a changed address.
//!
//! The address of a name is `min + phash2(name, max - min)`, the next free one after it (round the range) where another
//! name has that. Existing claims keep theirs; new names are taken in byte order, so the result is a function of the two
//! sets alone. The divisor is `max - min`, not the number of addresses: with it changes every address.

use std::collections::{BTreeMap, BTreeSet};
use std::net::Ipv4Addr;
use std::ops::RangeInclusive;

/// Gives every name in `names` an address of `range` that no other name in the result or in `claims` has and that is not
/// in `reserved`. Names for which none is left are absent from the result.
#[must_use]
pub fn allocate(
    names: &BTreeSet<String>,
    claims: &BTreeMap<String, Ipv4Addr>,
    range: &RangeInclusive<Ipv4Addr>,
    reserved: &BTreeSet<Ipv4Addr>,
) -> BTreeMap<String, Ipv4Addr> {
    let mut taken = reserved.clone();
    let mut kept = BTreeMap::new();
    for (name, ip) in claims {
        if range.contains(ip) && taken.insert(*ip) {
            kept.insert(name.clone(), *ip);
        }
    }
    let mut given = BTreeMap::new();
    for name in names {
        let ip = kept.get(name).copied().or_else(|| free(name, range, &taken));
        if let Some(ip) = ip {
            taken.insert(ip);
            given.insert(name.clone(), ip);
        }
    }
    given
}

fn free(name: &str, range: &RangeInclusive<Ipv4Addr>, taken: &BTreeSet<Ipv4Addr>) -> Option<Ipv4Addr> {
    let (min, max) = (u32::from(*range.start()), u32::from(*range.end()));
    let span = max.checked_sub(min)?;
    let mut candidate = min + if span == 0 { 0 } else { phash2(name.as_bytes(), span) };
    // At most one more try than addresses are taken can fail, so this is bounded by what we hold, not by the range.
    for _ in 0..=taken.len() {
        let ip = Ipv4Addr::from(candidate);
        if !taken.contains(&ip) {
            return Some(ip);
        }
        candidate = if candidate == max { min } else { candidate + 1 };
    }
    None
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
    use crate::fixture::golden;

    const DCOS: RangeInclusive<Ipv4Addr> = Ipv4Addr::new(11, 0, 0, 0)..=Ipv4Addr::new(11, 255, 255, 255);

    fn set(names: &[&str]) -> BTreeSet<String> {
        names.iter().map(|n| (*n).to_owned()).collect()
    }

    fn one(name: &str, range: &RangeInclusive<Ipv4Addr>) -> Ipv4Addr {
        allocate(&set(&[name]), &BTreeMap::new(), range, &BTreeSet::new())[name]
    }

    #[test]
    fn minitwit_has_the_address_that_dcos_gives_it() {
        assert_eq!(one("minitwit.marathon", &DCOS), Ipv4Addr::new(11, 45, 193, 125));
        let built_in = Ipv4Addr::new(11, 0, 0, 0)..=Ipv4Addr::new(11, 255, 255, 254);
        assert_eq!(one("minitwit.marathon", &built_in), Ipv4Addr::new(11, 45, 193, 198));
    }

    #[test]
    fn every_recorded_name_has_the_recorded_address() {
        let Some(vectors) = golden("vip/named-vip-hash-vectors.json") else { return };
        let small = Ipv4Addr::new(11, 0, 0, 0)..=Ipv4Addr::new(11, 0, 0, 254);
        let built_in = Ipv4Addr::new(11, 0, 0, 0)..=Ipv4Addr::new(11, 255, 255, 254);
        let vectors = vectors.as_array().unwrap();
        assert!(vectors.len() > 50);
        for v in vectors {
            let name = v["name"].as_str().unwrap();
            for (range, key) in
                [(&DCOS, "ip4_dcos_default"), (&built_in, "ip4_dcos_net_default"), (&small, "ip4_test_254")]
            {
                assert_eq!(one(name, range).to_string(), v[key].as_str().unwrap(), "{name} {key}");
            }
        }
    }

    #[test]
    fn a_collision_takes_the_next_address_round_the_end_of_the_range() {
        let range = Ipv4Addr::new(11, 0, 0, 0)..=Ipv4Addr::new(11, 0, 0, 2);
        let names = set(&["a.m", "b.m", "c.m", "d.m"]);
        let given = allocate(&names, &BTreeMap::new(), &range, &BTreeSet::new());
        assert_eq!(given.len(), 3, "the range has room for three");
        assert!(!given.contains_key("d.m"), "the last in byte order goes without");
        assert_eq!(given.values().collect::<BTreeSet<_>>().len(), 3);
    }

    #[test]
    fn a_claim_keeps_its_address_and_nobody_else_gets_it() {
        let wanted = one("minitwit.marathon", &DCOS);
        let claims = BTreeMap::from([("zzz.marathon".to_owned(), wanted)]);
        let given = allocate(&set(&["minitwit.marathon", "zzz.marathon"]), &claims, &DCOS, &BTreeSet::new());
        assert_eq!(given["zzz.marathon"], wanted);
        assert_eq!(u32::from(given["minitwit.marathon"]), u32::from(wanted) + 1);
        let idle = allocate(&set(&["minitwit.marathon"]), &claims, &DCOS, &BTreeSet::new());
        assert_eq!(u32::from(idle["minitwit.marathon"]), u32::from(wanted) + 1, "an idle claim holds too");
    }

    #[test]
    fn a_claim_outside_the_range_and_a_reserved_address_are_not_used() {
        let claims = BTreeMap::from([("minitwit.marathon".to_owned(), Ipv4Addr::new(12, 0, 0, 1))]);
        let reserved = BTreeSet::from([one("minitwit.marathon", &DCOS)]);
        let given = allocate(&set(&["minitwit.marathon"]), &claims, &DCOS, &reserved);
        assert_eq!(given["minitwit.marathon"], Ipv4Addr::new(11, 45, 193, 126));
    }
}
