//! SNAT addresses, and which worker owns which of their ports.
//!
//! Ports are owned in blocks of 64, dealt to the workers in turn, so that a reply tells its owner by its destination
//! port alone. A worker picks ports from its own blocks; whether one is free is asked of its sessions.

use std::net::IpAddr;

use sluice_config::model::{self, Gateway, Local, Shared};

use super::overlay::Lanes;
use crate::address::Address;
use crate::sessions::Flow;

/// Ports of a block.
pub const BLOCK: usize = model::Snat::BLOCK as usize;

/// Primes above every number of slots, so that a walk in such steps meets all of them.
const STEPS: [u32; 16] = [
    65_537, 94_379, 123_449, 152_809, 182_417, 212_281, 242_413, 272_807, 303_469, 334_387, 365_567, 397_013, 428_731,
    460_697, 492_967, 525_409,
];

/// SNAT addresses by index: those towards the underlay first, then those towards the overlay, then IPv6's likewise.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct Snat {
    addresses: Box<[IpAddr]>,
    /// Where those towards the overlay, IPv6's, and IPv6's towards the overlay begin.
    overlay: u8,
    v6: u8,
    overlay6: u8,
    /// By lane: indexes of IPv4's and of IPv6's that agents answer in its tunnels.
    lanes: Box<[[Box<[u8]>; 2]]>,
    ports: (u16, u16),
    /// A worker's part of `snat.quota`, where that is said.
    quota: Option<u32>,
    workers: u16,
    /// Whether ports are parted between services and masqueraded flows.
    parted: bool,
    /// By worker: its first block, and the slots of its blocks.
    owned: Box<[(u32, u32)]>,
}

/// Whose flows a port is for, where containers are masqueraded: their replies are told apart by the port alone.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Purpose {
    /// `nat` and `nat-preserve` services.
    Service,
    /// Masqueraded flows.
    Masquerade,
}

/// Which side a backend is on.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Side {
    /// Reached as it is.
    Underlay,
    /// Reached through VXLAN.
    Overlay,
}

impl Snat {
    pub(super) fn new(shared: &Shared, local: &Local, lanes: &Lanes) -> Self {
        let workers = local.workers.max(1) as u16;
        let owned = |worker| owned(local.snat_ports, workers.into(), worker);
        // A session's entry has no number for more.
        let addresses: Box<[IpAddr]> = local.snat_addresses().take(Flow::SNAT_ADDRESSES).collect();
        let snat = Self {
            addresses,
            overlay: local.snat_underlay.len() as u8,
            v6: (local.snat_underlay.len() + local.snat_overlay.len()) as u8,
            overlay6: (local.snat_underlay.len() + local.snat_overlay.len() + local.snat_underlay6.len()) as u8,
            lanes: Box::default(),
            ports: local.snat_ports,
            quota: local.snat_quota.map(|quota| quota.div_ceil(workers.into())),
            workers,
            parted: local.vtep.as_ref().is_some_and(|vtep| vtep.gateway == Gateway::Masqueraded),
            owned: (0..workers.into()).map(owned).collect(),
        };
        let place = |ip: &IpAddr| lanes.of(*ip, shared, local);
        Self { lanes: (0..lanes.all().len()).map(|lane| snat.overlay_in(lane, place)).collect(), ..snat }
    }

    /// Indexes of the overlay's addresses whose place is this lane, of each family.
    fn overlay_in(&self, lane: usize, place: impl Fn(&IpAddr) -> usize) -> [Box<[u8]>; 2] {
        [true, false].map(|four| {
            let all = (0u8..)
                .zip(&self.addresses)
                .filter(|(index, ip)| self.side(*index) == Side::Overlay && ip.is_ipv4() == four && place(ip) == lane);
            all.map(|(index, _)| index).collect()
        })
    }

    /// The address with this index, where it is of this family.
    #[must_use]
    #[inline]
    pub fn address<A: Address>(&self, index: u8) -> Option<A> {
        self.addresses.get(usize::from(index)).and_then(|ip| A::from_ip(*ip))
    }

    /// As [`Snat::address`], of either family.
    #[must_use]
    pub fn ip(&self, index: u8) -> Option<IpAddr> {
        self.addresses.get(usize::from(index)).copied()
    }

    /// The side that this address serves.
    #[must_use]
    #[inline]
    pub fn side(&self, index: u8) -> Side {
        if (self.overlay..self.v6).contains(&index) || index >= self.overlay6 { Side::Overlay } else { Side::Underlay }
    }

    /// The address for a new flow of this family on the underlay, by hash.
    #[must_use]
    #[inline]
    pub fn pick<A: Address>(&self, hash: u64) -> Option<u8> {
        let range = if A::V6 { self.v6..self.overlay6 } else { 0..self.overlay };
        (!range.is_empty()).then(|| range.start + (hash % u64::from(range.end - range.start)) as u8)
    }

    /// The address for a new flow of this family towards an agent in this lane: one that it answers in the same tunnels.
    #[must_use]
    #[inline]
    pub fn pick_in<A: Address>(&self, lane: usize, hash: u64) -> Option<u8> {
        let all = &self.lanes.get(lane)?[usize::from(A::V6)];
        all.get(hash.checked_rem(all.len() as u64)? as usize).copied()
    }

    /// The worker that owns this port.
    #[must_use]
    #[inline]
    pub fn owner(&self, port: u16) -> u8 {
        (port / BLOCK as u16 % self.workers) as u8
    }

    /// The worker that this hash chooses, for flows that no port belongs to.
    #[must_use]
    #[inline]
    pub fn worker(&self, hash: u64) -> u8 {
        (((hash >> 32) * u64::from(self.workers)) >> 32) as u8
    }

    /// What a port is for.
    #[must_use]
    #[inline]
    pub fn purpose(&self, port: u16) -> Purpose {
        match self.parted && model::Snat::is_masqueraded(port) {
            true => Purpose::Masquerade,
            false => Purpose::Service,
        }
    }

    /// The ports that `worker` may give a flow: all of its own that are for this, from a place and in steps that the hash chooses. Were
    /// the steps the same for all flows, ports in use would come to lie side by side, and with half of them free some
    /// flows would still find dozens taken one after the other.
    #[inline]
    pub fn candidates(&self, worker: u8, purpose: Purpose, hash: u64) -> impl Iterator<Item = u16> + '_ {
        let (first, slots) = self.owned_by(worker);
        // Recorded captures hold ports that this has chosen (control/tests/golden).
        let mut next = (hash % u64::from(slots.max(1))) as u32;
        let step = STEPS[(hash >> 60) as usize] % slots.max(1);
        (0..slots).filter_map(move |_| {
            let slot = next;
            next += step;
            next -= if next >= slots { slots } else { 0 };
            let block = first + slot / BLOCK as u32 * u32::from(self.workers);
            let port = u16::try_from(block * BLOCK as u32 + slot % BLOCK as u32).ok()?;
            // At either end a block may reach out of the configured ports.
            ((self.ports.0..=self.ports.1).contains(&port) && self.purpose(port) == purpose).then_some(port)
        })
    }

    /// Ports that a client may hold and still get one of the worker's last: the worker's part of `snat.quota`, else an
    /// eighth of the worker's ports for these flows.
    #[must_use]
    #[inline]
    pub fn share(&self, worker: u8) -> u32 {
        self.quota.unwrap_or_else(|| self.owned_by(worker).1 / if self.parted { 16 } else { 8 })
    }

    #[inline]
    fn owned_by(&self, worker: u8) -> (u32, u32) {
        self.owned.get(usize::from(worker)).copied().unwrap_or_default()
    }
}

/// The first block of a worker that holds configured ports, and the slots of all of its blocks.
fn owned(ports: (u16, u16), workers: u32, worker: u32) -> (u32, u32) {
    let (lowest, highest) = (u32::from(ports.0) / BLOCK as u32, u32::from(ports.1) / BLOCK as u32);
    let first = lowest + (worker + workers - lowest % workers) % workers;
    let blocks = if first > highest { 0 } else { (highest - first) / workers + 1 };
    (first, blocks * BLOCK as u32)
}

#[cfg(test)]
mod tests {
    use std::collections::BTreeSet;

    use sluice_config::model::{Mac, OwnVtep, Vni};

    use super::*;
    use crate::tables::hash::HashKey;

    /// Without networks: all of the overlay is one lane.
    fn new(local: &Local) -> Snat {
        let shared = Shared::default();
        Snat::new(&shared, local, &Lanes::new(&shared, local))
    }

    fn vtep() -> OwnVtep {
        OwnVtep {
            underlay: [10, 0, 0, 9].into(),
            vtep: "44.128.0.9/20".parse().unwrap(),
            mac: Mac([2; 6]),
            vni: Vni::DCOS,
            udp_port: 64_000,
            mtu: 1450,
            gateway: Gateway::Off,
            host_addresses: vec![],
        }
    }

    fn snat(workers: usize) -> Snat {
        new(&Local {
            workers,
            snat_underlay: vec!["10.0.0.100".parse().unwrap()],
            snat_overlay: vec!["9.0.9.2".parse().unwrap(), "9.0.9.3".parse().unwrap()],
            snat_underlay6: vec!["fd00::100".parse().unwrap()],
            snat_ports: (1024, 65535),
            ..Local::default()
        })
    }

    #[test]
    fn every_port_is_a_candidate_of_its_owner_and_of_nobody_else() {
        for workers in [1, 2, 3, 5] {
            let snat = snat(workers);
            let mut seen = BTreeSet::new();
            for worker in 0..workers as u8 {
                for port in snat.candidates(worker, Purpose::Service, 0xdead_beef) {
                    assert_eq!(snat.owner(port), worker);
                    assert!(seen.insert(port), "{port} twice");
                }
            }
            assert_eq!(seen, (1024..=65535).collect(), "{workers} workers");
            for step in 0..16u64 {
                let all: BTreeSet<u16> = snat.candidates(0, Purpose::Service, step << 60 | 77).collect();
                assert_eq!(all.len(), snat.candidates(0, Purpose::Service, 0).count(), "step {step}");
            }
        }
    }

    #[test]
    fn services_and_masqueraded_flows_part_every_workers_ports() {
        let vtep = OwnVtep { gateway: Gateway::Masqueraded, ..vtep() };
        let local = Local { workers: 3, snat_ports: (1024, 9999), vtep: Some(vtep), ..Local::default() };
        let snat = new(&local);
        let mut seen = BTreeSet::new();
        for (worker, purpose) in [0, 1, 2].into_iter().flat_map(|w| [(w, Purpose::Service), (w, Purpose::Masquerade)]) {
            let ports: Vec<u16> = snat.candidates(worker, purpose, 0xdead_beef).collect();
            assert!(ports.iter().all(|port| (snat.owner(*port), snat.purpose(*port)) == (worker, purpose)));
            assert!(ports.len() > 1400, "{} of worker {worker}", ports.len());
            assert!(ports.into_iter().all(|port| seen.insert(port)));
        }
        assert_eq!(seen, (1024..=9999).collect());
    }

    /// Three of four ports are in use. Independent tries find 32 taken ones in a row once in ten thousand walks.
    #[test]
    fn ports_in_use_do_not_come_to_lie_side_by_side() {
        let snat = snat(1);
        let key = HashKey::new([7; 16]);
        let mut used = vec![false; 65536];
        let mut longest = 0;
        for flow in 0..64_512 * 3 / 4 {
            let mut walk = snat.candidates(0, Purpose::Service, key.one(flow));
            let (tried, port) = walk.by_ref().enumerate().find(|(_, port)| !used[usize::from(*port)]).unwrap();
            longest = longest.max(tried);
            used[usize::from(port)] = true;
        }
        assert!(longest < 64, "{longest} taken in a row");
    }

    #[test]
    fn a_clients_share_is_an_eighth_or_a_part_of_the_quota_that_is_said() {
        let with = |quota, workers| {
            let local = Local { workers, snat_ports: (1024, 65535), snat_quota: quota, ..Local::default() };
            new(&local).share(0)
        };
        assert_eq!((with(None, 1), with(Some(100), 1), with(Some(100), 3)), (8064, 100, 34));
    }

    #[test]
    fn each_side_has_its_own_addresses() {
        let snat = snat(2);
        assert_eq!(snat.pick::<u32>(7), Some(0));
        assert!((0..100).all(|h| matches!(snat.pick_in::<u32>(0, h), Some(1 | 2))));
        assert_eq!((snat.side(0), snat.side(1)), (Side::Underlay, Side::Overlay));
    }

    #[test]
    fn ipv6_has_its_own_addresses() {
        let snat = snat(2);
        assert_eq!(snat.pick::<u128>(7), Some(3));
        assert_eq!(snat.pick_in::<u128>(0, 7), None);
        assert_eq!((snat.side(3), snat.address::<u32>(3)), (Side::Underlay, None));
        assert_eq!(snat.address::<u128>(3), Some(0xfd00 << 112 | 0x100));
    }
}
