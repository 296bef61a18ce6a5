//! Parties: all that policy treats alike. The underlay is one, so are the containers of a network without groups, and
//! those with the same groups.

use std::collections::BTreeMap;
use std::collections::btree_map::Entry;

use sluice_config::model::{Isolation, OverlayNetwork};

/// A party's number in the tables of the moment.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Debug)]
pub struct Party(u32);

impl Party {
    /// Whoever is in no overlay network.
    pub const UNDERLAY: Self = Self(0);

    /// The containers without groups of the network with this number.
    pub(super) fn of_network(number: u16) -> Self {
        Self(u32::from(number) + 1)
    }

    #[inline]
    pub(super) fn numbered(number: u32) -> Self {
        Self(number)
    }

    pub(super) fn number(self) -> u32 {
        self.0
    }
}

/// All parties, by number: the underlay, each network's without groups, those with groups.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct Parties {
    all: Vec<Known>,
    /// Networks by name.
    networks: BTreeMap<String, Network>,
    /// By (network, group).
    groups: BTreeMap<(u16, String), u32>,
}

#[derive(Clone, PartialEq, Eq, Debug)]
struct Network {
    number: u16,
    enforced: bool,
    /// By their groups, sorted.
    known: BTreeMap<Vec<String>, Party>,
}

#[derive(Clone, PartialEq, Eq, Debug)]
struct Known {
    network: Option<u16>,
    /// Numbers of its groups, sorted.
    groups: Box<[u32]>,
    name: Box<str>,
    label: u32,
}

impl Known {
    fn new(network: Option<u16>, groups: &[u32], name: &str) -> Self {
        Self { network, groups: groups.into(), name: name.into(), label: label(name) }
    }
}

impl Parties {
    pub(super) fn new(networks: &[OverlayNetwork]) -> Self {
        let without = networks.iter().zip(0..).map(|(network, number)| Known::new(Some(number), &[], &network.name));
        let numbers = networks.iter().zip(0..).map(|(network, number)| {
            let enforced = network.isolation == Isolation::Enforced;
            (network.name.clone(), Network { number, enforced, known: BTreeMap::new() })
        });
        Self {
            networks: numbers.collect(),
            all: std::iter::once(Known::new(None, &[], "underlay")).chain(without).collect(),
            groups: BTreeMap::new(),
        }
    }

    /// The party of a network's containers with these groups. Of a network that nobody knows there is none: such
    /// containers are the underlay's.
    pub(super) fn of(&mut self, network: &str, groups: &[String]) -> Party {
        let Some(Network { number, enforced, known }) = self.networks.get_mut(network) else { return Party::UNDERLAY };
        let number = *number;
        if groups.is_empty() || !*enforced {
            return Party::of_network(number);
        }
        let mut names = groups.to_vec();
        names.sort_unstable();
        names.dedup();
        match known.entry(names) {
            Entry::Occupied(there) => *there.get(),
            Entry::Vacant(free) => {
                let name = format!("{network}: {}", free.key().join(", "));
                let group = |name: &String| {
                    let next = self.groups.len() as u32;
                    *self.groups.entry((number, name.clone())).or_insert(next)
                };
                let mut groups: Vec<u32> = free.key().iter().map(group).collect();
                groups.sort_unstable();
                self.all.push(Known::new(Some(number), &groups, &name));
                *free.insert(Party(self.all.len() as u32 - 1))
            }
        }
    }

    fn get(&self, party: Party) -> Option<&Known> {
        self.all.get(party.0 as usize)
    }

    /// Whether it is containers with groups.
    #[must_use]
    pub fn is_grouped(&self, party: Party) -> bool {
        self.get(party).is_some_and(|known| !known.groups.is_empty())
    }

    /// The network that it is in.
    #[must_use]
    pub fn network(&self, party: Party) -> Option<u16> {
        self.get(party)?.network
    }

    /// The name of its network and its groups.
    #[must_use]
    pub fn name(&self, party: Party) -> &str {
        self.get(party).map_or("", |known| &known.name)
    }

    /// What it is called in counters, which outlive tables: a hash of its name, not 0.
    #[must_use]
    pub fn label(&self, party: Party) -> u32 {
        self.get(party).map_or(0, |known| known.label)
    }

    /// Every label with its name.
    pub fn labels(&self) -> impl Iterator<Item = (u32, &str)> {
        self.all.iter().map(|known| (known.label, &*known.name))
    }

    /// Whether two have a group in common; groups of different networks differ.
    #[must_use]
    pub fn share(&self, a: Party, b: Party) -> bool {
        let of = |party| self.get(party).map_or(&[][..], |known| &known.groups);
        share(of(a), of(b))
    }
}

/// FNV-1a.
fn label(name: &str) -> u32 {
    name.bytes().fold(0x811c_9dc5_u32, |hash, octet| (hash ^ u32::from(octet)).wrapping_mul(0x0100_0193)).max(1)
}

/// Whether two sorted sets have a member in common.
fn share(mut a: &[u32], mut b: &[u32]) -> bool {
    while let ([x, a_rest @ ..], [y, b_rest @ ..]) = (a, b) {
        match x.cmp(y) {
            std::cmp::Ordering::Equal => return true,
            std::cmp::Ordering::Less => a = a_rest,
            std::cmp::Ordering::Greater => b = b_rest,
        }
    }
    false
}
