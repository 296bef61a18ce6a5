//! The next table on its way: the one before, and names that are to be other than there.

use std::collections::BTreeMap;
use std::sync::Arc;

use hashbrown::HashMap;

use super::record::Set;
use super::{Alias, Authority, Entry, Rejected, Shard, Zones, flag, shard_of};
use crate::frame::huge_pages;
use crate::tables::hash::NameKey;

/// A name in lower-case wire form.
pub(super) type Name = Vec<u8>;

/// Names of a shard when a table is made, and how far from it a shard may get before all are laid out again.
const SHARD: usize = 128;
const STRETCH: usize = 4;
/// What 24 bits hold.
const CHILDREN_MAX: u32 = 0xff_ffff;

/// A name as it shall be.
#[derive(Clone, PartialEq, Eq, Debug)]
struct Node {
    zone: u16,
    flags: u8,
    children: u32,
    sets: Vec<Set>,
}

pub(super) struct Draft<'a> {
    key: NameKey,
    before: Option<&'a Zones>,
    /// `None` goes.
    nodes: HashMap<Name, Option<Node>>,
}

/// Where a name is, and what is special about that.
#[derive(Clone, Copy)]
pub(super) struct Seat {
    pub(super) zone: u16,
    pub(super) flags: u8,
}

impl Seat {
    /// Above every zone.
    pub(super) const NOWHERE: Self = Self { zone: u16::MAX, flags: flag::NOWHERE };
}

impl<'a> Draft<'a> {
    pub(super) fn new(key: NameKey, before: Option<&'a Zones>) -> Self {
        Self { key, before, nodes: HashMap::new() }
    }

    pub(super) fn hash(&self, wire: &[u8]) -> u64 {
        self.key.name(wire)
    }

    /// Gives a name these records, `keep` or not where there are none (an apex and an alias are there without any).
    /// `seat` says where each of its parents is.
    pub(super) fn put(&mut self, name: &[u8], at: Seat, sets: Vec<Set>, keep: bool, seat: &dyn Fn(&[u8]) -> Seat) {
        let known = self.node(name);
        if sets.is_empty() && !keep {
            match known {
                Some(node) if node.children > 0 => {
                    let Seat { zone, flags } = seat(name);
                    let node = Node { zone, flags: flags | node.flags & flag::WILD, sets, ..node };
                    self.nodes.insert(name.to_vec(), Some(node));
                }
                Some(_) => {
                    self.nodes.insert(name.to_vec(), None);
                    self.unlink(name);
                }
                None => {}
            }
            return;
        }
        let is_new = known.is_none();
        let known = known.unwrap_or(Node { zone: at.zone, flags: 0, children: 0, sets: Vec::new() });
        let node = Node { zone: at.zone, flags: at.flags | known.flags & flag::WILD, sets, ..known };
        self.nodes.insert(name.to_vec(), Some(node));
        if is_new {
            self.link(name, seat);
        }
    }

    /// A new name counts with its parent, which is made if it is not there.
    fn link(&mut self, name: &[u8], seat: &dyn Fn(&[u8]) -> Seat) {
        let mut child = name.to_vec();
        while let Some(parent) = parent(&child).map(<[u8]>::to_vec) {
            let known = self.node(&parent);
            let is_new = known.is_none();
            let mut node = known.unwrap_or_else(|| {
                let Seat { zone, flags } = seat(&parent);
                Node { zone, flags, children: 0, sets: Vec::new() }
            });
            node.children += 1;
            if child.starts_with(b"\x01*") {
                node.flags |= flag::WILD;
            }
            self.nodes.insert(parent.clone(), Some(node));
            if !is_new {
                break;
            }
            child = parent;
        }
    }

    /// A parent goes with its last child, if it holds nothing itself.
    fn unlink(&mut self, name: &[u8]) {
        let mut child = name.to_vec();
        while let Some(parent) = parent(&child).map(<[u8]>::to_vec) {
            let Some(mut node) = self.node(&parent) else { break };
            node.children = node.children.saturating_sub(1);
            if child.starts_with(b"\x01*") {
                node.flags &= !flag::WILD;
            }
            let goes = node.children == 0 && node.sets.is_empty() && node.flags & flag::ALIAS == 0;
            self.nodes.insert(parent.clone(), (!goes).then_some(node));
            if !goes {
                break;
            }
            child = parent;
        }
    }

    fn node(&self, name: &[u8]) -> Option<Node> {
        match self.nodes.get(name) {
            Some(node) => node.clone(),
            None => self.before.and_then(|zones| zones.whole(name)).map(|entry| Node::of(&entry)),
        }
    }

    /// The table.
    pub(super) fn finish(self, zones: Box<[Authority]>, aliases: Box<[Alias]>, rejected: Box<[Rejected]>) -> Zones {
        let (added, gone) = self.balance();
        let before = self.before.map_or(0, |zones| zones.count);
        let count = before + added - gone;
        let had = self.before.map_or(0, |zones| zones.shards.len());
        let fits = had > 0 && count <= had * SHARD * STRETCH && (had == 1 || count * STRETCH >= had * SHARD);
        let shards = if fits { had } else { (count / SHARD).next_power_of_two() };
        let key = self.key;
        let shards = if count == 0 { Box::default() } else { self.shards(shards, fits) };
        Zones { key, shards, zones, aliases, count, rejected }
    }

    /// Names that come and that go.
    fn balance(&self) -> (usize, usize) {
        let (mut added, mut gone) = (0, 0);
        for (name, node) in &self.nodes {
            match (self.before.and_then(|zones| zones.whole(name)).is_some(), node.is_some()) {
                (false, true) => added += 1,
                (true, false) => gone += 1,
                (true, true) | (false, false) => {}
            }
        }
        (added, gone)
    }

    fn shards(mut self, count: usize, fits: bool) -> Box<[Shard]> {
        let mut shards: Vec<BTreeMap<Name, Option<Node>>> = vec![BTreeMap::new(); count];
        let before = self.before.filter(|_| fits);
        if !fits && let Some(before) = self.before {
            for entry in before.entries() {
                self.nodes.entry_ref(entry.name()).or_insert_with(|| Some(Node::of(&entry)));
            }
        }
        let key = self.key;
        for (name, node) in self.nodes {
            let hash = key.name(&name);
            if let Some(shard) = shards.get_mut(shard_of(hash, count)) {
                shard.insert(name, node);
            }
        }
        let made = shards.into_iter().enumerate().map(|(index, changes)| {
            let before = before.and_then(|zones| zones.shards.get(index));
            match before {
                Some(shard) if changes.is_empty() => shard.clone(),
                Some(shard) => lay_out(key, old(shard), changes),
                None => lay_out(key, Vec::new(), changes),
            }
        });
        if before.is_some() { made.collect() } else { gathered(made.collect()) }
    }
}

/// A shard's entries with their octets, by name.
fn old(shard: &Shard) -> Vec<(&[u8], &[u8])> {
    shard.entries().map(|entry| (entry.name(), entry.words[..entry.len()].as_flattened())).collect()
}

/// A shard in the order of its names.
fn lay_out(key: NameKey, old: Vec<(&[u8], &[u8])>, changes: BTreeMap<Name, Option<Node>>) -> Shard {
    let mut entries: Vec<(&[u8], std::borrow::Cow<'_, [u8]>)> = Vec::new();
    entries.extend(old.into_iter().filter(|(name, _)| !changes.contains_key(*name)).map(|(n, o)| (n, o.into())));
    entries.extend(changes.iter().filter_map(|(n, node)| Some((n.as_slice(), node.as_ref()?.octets(n).into()))));
    entries.sort_unstable_by_key(|(name, _)| *name);
    if entries.is_empty() {
        return Shard::default();
    }
    let slots = (entries.len() * 2).next_power_of_two();
    let mut octets = vec![0; slots * 8];
    for (name, entry) in entries {
        let hash = key.name(name);
        let mut at = hash as usize & (slots - 1);
        while octets[at * 8..at * 8 + 8] != [0; 8] {
            at = (at + 1) & (slots - 1);
        }
        let slot = hash >> 32 << 32 | (octets.len() / 8) as u64;
        octets[at * 8..at * 8 + 8].copy_from_slice(&slot.to_le_bytes());
        octets.extend_from_slice(&entry);
    }
    let len = octets.len();
    Shard { slab: Arc::new(octets), from: 0, len, slots: slots as u32 }
}

/// The same shards in one piece of memory: a large table that is read at random misses page tables as often as its lines.
fn gathered(shards: Vec<Shard>) -> Box<[Shard]> {
    let total = shards.iter().map(|shard| shard.len).sum();
    let mut slab = Vec::with_capacity(total);
    huge_pages(slab.spare_capacity_mut());
    for shard in &shards {
        slab.extend_from_slice(shard.octets());
    }
    let slab = Arc::new(slab);
    let mut from = 0;
    let moved = shards.into_iter().map(|shard| {
        let moved = Shard { slab: Arc::clone(&slab), from, ..shard };
        from += moved.len;
        moved
    });
    moved.collect()
}

impl Entry<'_> {
    /// Its words.
    fn len(&self) -> usize {
        let mut sets = self.sets();
        sets.by_ref().for_each(drop);
        self.words.len() - sets.words.len()
    }
}

impl Node {
    fn of(entry: &Entry<'_>) -> Self {
        let set = |set: super::RrSet<'_>| Set {
            rtype: set.rtype,
            count: set.count,
            octets: [set.words[..set.places()].as_flattened(), set.records()].concat(),
        };
        Self {
            zone: entry.zone() as u16,
            flags: entry.flags(),
            children: entry.children(),
            sets: entry.sets().map(set).collect(),
        }
    }

    fn octets(&self, name: &[u8]) -> Vec<u8> {
        let children = u64::from(self.children.min(CHILDREN_MAX));
        let head = name.len() as u64
            | (self.sets.len() as u64) << 8
            | u64::from(self.zone) << 16
            | u64::from(self.flags) << 32
            | children << 40;
        let mut octets = head.to_le_bytes().to_vec();
        octets.extend(name);
        pad(&mut octets);
        for set in &self.sets {
            octets.extend(set.word().to_le_bytes());
        }
        for set in &self.sets {
            octets.extend(&set.octets);
            pad(&mut octets);
        }
        octets
    }
}

fn pad(octets: &mut Vec<u8>) {
    octets.resize(octets.len().next_multiple_of(8), 0);
}

/// The name without its first label; `None` where that is the root.
fn parent(name: &[u8]) -> Option<&[u8]> {
    let first = usize::from(*name.first()?);
    name.get(1 + first..).filter(|parent| parent.len() > 1)
}
