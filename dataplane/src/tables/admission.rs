//! Who may use a service and how much of it there is, for the services that have bounds.
//!
//! A denied source is out whether it is allowed or not, however long the prefixes are: that is no longest match, so
//! sources are plain ranges and not a [`super::fib::Fib`]. Bounds are a worker's parts of the service's: flows are spread
//! over workers by a hash, so over many clients the parts are used alike; both are rounded up, so that every worker may
//! begin at least one.

use ipnet::IpNet;
use sluice_config::model::{Admission, Shared};

use super::flat::FlatMap;
use super::ids::Ids;
use crate::address::Address;
use crate::limiter::Rate;
use crate::time::Nanos;

/// Bounds of services, ready for packets.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct Admissions {
    /// Indexes into `all`, by service number.
    numbers: FlatMap<u32>,
    all: Box<[Bounds]>,
}

/// What one service is bound by.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct Bounds {
    /// A worker's part of the new sessions a second.
    pub rate: Option<Rate>,
    /// A worker's part of the sessions at once.
    pub sessions: Option<u32>,
    allow: Option<Sources>,
    deny: Sources,
}

impl Admissions {
    pub(super) fn new(shared: &Shared, ids: &mut Ids, seed: u64, now: Nanos, workers: usize) -> Self {
        let bound = shared.services.iter().filter(|s| s.admission != Admission::default());
        // A service without a number is served to nobody.
        let numbered: Vec<_> =
            bound.filter_map(|s| Some((u32::from(ids.service(s.key, now).ok()?), &s.admission))).collect();
        let workers = u32::try_from(workers.max(1)).unwrap_or(u32::MAX);
        Self {
            numbers: FlatMap::new(seed, numbered.iter().enumerate().map(|(index, (n, _))| (*n, index as u32))),
            all: numbered.iter().map(|(_, admission)| Bounds::new(admission, workers)).collect(),
        }
    }

    /// Whether no service has bounds.
    #[must_use]
    #[inline]
    pub fn is_empty(&self) -> bool {
        self.all.is_empty()
    }

    /// The bounds of the service with this number, if it has any.
    #[must_use]
    #[inline]
    pub fn of(&self, service: u16) -> Option<&Bounds> {
        self.all.get(self.numbers.get(u32::from(service))? as usize)
    }
}

impl Bounds {
    fn new(admission: &Admission, workers: u32) -> Self {
        let rate = |per_second: u32| Rate::shared(per_second, per_second.div_ceil(10), workers);
        Self {
            rate: admission.new_per_second.map(rate),
            sessions: admission.sessions.map(|most| Admission::part(most, workers as usize)),
            allow: (!admission.allow.is_empty()).then(|| Sources::new(&admission.allow)),
            deny: Sources::new(&admission.deny),
        }
    }

    /// Whether a source may use the service.
    #[must_use]
    pub fn admits<A: Bounded>(&self, source: A) -> bool {
        let has = |sources: &Sources| A::ranges(sources).contains(source);
        !has(&self.deny) && self.allow.as_ref().is_none_or(has)
    }
}

/// Sources of both families.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct Sources {
    v4: Ranges<u32>,
    v6: Ranges<u128>,
}

impl Sources {
    fn new(prefixes: &[IpNet]) -> Self {
        Self { v4: Ranges::new(prefixes), v6: Ranges::new(prefixes) }
    }
}

/// A family that sources are told in.
pub trait Bounded: Address {
    /// Those of this family.
    fn ranges(sources: &Sources) -> &Ranges<Self>;
}

impl Bounded for u32 {
    #[inline]
    fn ranges(sources: &Sources) -> &Ranges<Self> {
        &sources.v4
    }
}

impl Bounded for u128 {
    #[inline]
    fn ranges(sources: &Sources) -> &Ranges<Self> {
        &sources.v6
    }
}

/// Addresses as ranges: first and last of each, ascending, none touching another.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct Ranges<A>(Box<[(A, A)]>);

impl<A: Address> Ranges<A> {
    /// Those of these prefixes that are of this family.
    fn new(prefixes: &[IpNet]) -> Self {
        let mut ranges: Vec<(A, A)> = prefixes.iter().filter_map(A::range).collect();
        ranges.sort_unstable();
        // Of two prefixes that share an address one lies in the other.
        ranges.dedup_by(|next, kept| {
            let inside = next.0 <= kept.1;
            kept.1 = if inside { kept.1.max(next.1) } else { kept.1 };
            inside
        });
        Self(ranges.into())
    }

    #[inline]
    fn contains(&self, address: A) -> bool {
        let behind = self.0.partition_point(|(first, _)| *first <= address);
        behind.checked_sub(1).and_then(|at| self.0.get(at)).is_some_and(|(_, last)| address <= *last)
    }
}

#[cfg(test)]
mod tests {
    use std::net::Ipv4Addr;

    use ipnet::Ipv4Net;
    use proptest::prelude::*;

    use super::*;

    fn nets(given: &[(u32, u8)]) -> Vec<IpNet> {
        given.iter().map(|(a, l)| Ipv4Net::new(Ipv4Addr::from_bits(*a), *l).unwrap().trunc().into()).collect()
    }

    proptest! {
        #[test]
        fn sources_are_admitted_as_a_scan_of_the_prefixes_says(
            allow in prop::collection::vec((any::<u32>(), 0u8..=32), 0..6),
            deny in prop::collection::vec((any::<u32>(), 1u8..=32), 0..6),
            anywhere: Vec<u32>,
        ) {
            let admission = Admission { allow: nets(&allow), deny: nets(&deny), ..Admission::default() };
            let bounds = Bounds::new(&admission, 1);
            let edges = admission.allow.iter().chain(&admission.deny).filter_map(<u32 as Address>::range);
            let near = edges.flat_map(|(a, z)| [a.wrapping_sub(1), a, z, z.wrapping_add(1)]);
            for source in near.chain(anywhere) {
                let ip = source.to_ip();
                let within = |nets: &[IpNet]| nets.iter().any(|net| net.contains(&ip));
                let expected = !within(&admission.deny) && (allow.is_empty() || within(&admission.allow));
                prop_assert_eq!(bounds.admits(source), expected, "{}", ip);
            }
        }
    }

    #[test]
    fn a_list_of_one_family_allows_none_of_the_other() {
        let admission = Admission { allow: vec!["2001:db8::/32".parse().unwrap()], ..Admission::default() };
        let bounds = Bounds::new(&admission, 1);
        assert!(!bounds.admits(1u32));
        assert!(bounds.admits(0x2001_0db8_u128 << 96 | 5));
        assert!(!bounds.admits(0x2001_0db9_u128 << 96));
    }

    #[test]
    fn workers_have_equal_parts_and_none_has_nothing() {
        let of = |sessions, workers| {
            Bounds::new(&Admission { sessions: Some(sessions), ..Admission::default() }, workers).sessions
        };
        assert_eq!((of(100, 4), of(101, 4), of(1, 4), of(0, 4)), (Some(25), Some(26), Some(1), Some(0)));
    }
}
