//! The forwarding table: longest prefix match by binary search over disjoint ranges.
//!
//! Load-balancer nodes have few routes: an index by the first octet leaves none or a few ranges of a sorted array to search.

use ipnet::IpNet;

use crate::address::Address;

/// What a prefix leads to.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Debug)]
pub enum Target {
    /// A gateway: index of a resolved or unresolved next hop.
    Hop(u32),
    /// On link on this port; the destination itself is the next hop.
    Link(u8),
    /// An agent's containers: index of the agent.
    Agent(u16),
    /// In the overlay, but nobody's that we know: never sent bare.
    NoAgent,
    /// The node's own kernel.
    Host,
}

/// Ranges of addresses and their targets.
#[derive(Clone, PartialEq, Eq, Debug, Default)]
pub struct Fib<A> {
    /// First address of each range, ascending; the first is 0.
    starts: Box<[A]>,
    targets: Box<[Option<Target>]>,
    /// By first octet: how many ranges begin up to its first address, and up to its last. Most octets have none between.
    octets: Box<[(u32, u32)]>,
}

impl<A: Address> Fib<A> {
    /// Of those of these prefixes that are of this family; of equal prefixes the first wins.
    #[must_use]
    pub fn new(prefixes: impl IntoIterator<Item = (IpNet, Target)>) -> Self {
        let ranged = |(net, target): (IpNet, Target)| Some((A::range(&net)?, net.prefix_len(), target));
        let mut prefixes: Vec<_> = prefixes.into_iter().filter_map(ranged).collect();
        // Shortest first, so that longer ones are painted over them; stable, so reversing keeps the first of equals.
        prefixes.reverse();
        prefixes.sort_by_key(|(_, length, _)| *length);
        let mut starts = vec![A::default()];
        for ((first, last), ..) in &prefixes {
            starts.push(*first);
            starts.extend(last.next());
        }
        starts.sort_unstable();
        starts.dedup();
        let mut targets = vec![None; starts.len()];
        for ((first, last), _, target) in &prefixes {
            let first = starts.partition_point(|s| s < first);
            let last = starts.partition_point(|s| s <= last);
            targets[first..last].fill(Some(*target));
        }
        let octets = (0..=u8::MAX).map(|octet| {
            let (first, last) = A::octet_range(octet);
            let upto = |address: A| starts.partition_point(|s| *s <= address) as u32;
            (upto(first), upto(last))
        });
        Self { octets: octets.collect(), starts: starts.into(), targets: targets.into() }
    }

    /// Where all addresses from `first` to `last` lead, where that is one place.
    #[must_use]
    pub fn whole(&self, first: A, last: A) -> Option<Target> {
        let range = |address| self.starts.partition_point(|s| *s <= address);
        (range(first) == range(last)).then(|| self.lookup(first))?
    }

    /// Where `address` leads.
    #[must_use]
    #[inline]
    pub fn lookup(&self, address: A) -> Option<Target> {
        let (before, upto) = *self.octets.get(usize::from(address.first_octet()))?;
        let between = self.starts.get(before as usize..upto as usize)?;
        let range = before as usize + between.partition_point(|s| *s <= address);
        *self.targets.get(range.checked_sub(1)?)?
    }
}

#[cfg(test)]
mod tests {
    use std::net::Ipv4Addr;

    use ipnet::Ipv4Net;
    use proptest::prelude::*;

    use super::*;

    proptest! {
        #[test]
        fn it_agrees_with_a_scan_for_the_longest_prefix(
            routes in prop::collection::vec((any::<u32>(), 0u8..=32, 0u8..4), 0..12),
            near in prop::collection::vec((any::<prop::sample::Index>(), -2i64..3), 20),
            anywhere: Vec<u32>,
        ) {
            let routes: Vec<_> = routes
                .into_iter()
                .map(|(a, l, p)| (Ipv4Net::new(Ipv4Addr::from_bits(a), l).unwrap().trunc(), Target::Link(p)))
                .collect();
            let fib = Fib::<u32>::new(routes.iter().map(|(net, target)| ((*net).into(), *target)));
            let edges = near.iter().filter(|_| !routes.is_empty()).map(|(i, d)| {
                (i64::from(i.get(&routes).0.network().to_bits()) + d).clamp(0, i64::from(u32::MAX)) as u32
            });
            for address in anywhere.iter().copied().chain(edges) {
                let ip = Ipv4Addr::from_bits(address);
                let longest = routes.iter().filter(|(n, _)| n.contains(&ip)).map(|(n, _)| n.prefix_len()).max();
                let expected = routes.iter().find(|(n, _)| n.contains(&ip) && Some(n.prefix_len()) == longest);
                prop_assert_eq!(fib.lookup(address), expected.map(|(_, t)| *t));
            }
        }
    }
}
