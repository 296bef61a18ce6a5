//! Ways of the node's own probes to backends that answer clients themselves ([`ProbePath`]): by the address that a probe
//! is sent to, and the VIPs that their answers come from.

use std::net::{IpAddr, SocketAddr};

use sluice_config::model::{Local, Mode, ProbePath, VipKey};

use super::AddressTables;
use super::flat::FlatMap;
use crate::address::Address;

/// Where the probes to one address go.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct ProbeEntry {
    /// The VIP, of the family of the probe's address.
    pub vip: VipKey,
    /// How the service's packets reach the backend.
    pub mode: Mode,
    /// The backend's number.
    pub backend: u32,
}

/// All of them.
#[derive(Clone, Debug)]
pub struct Probes {
    entries: Box<[ProbeEntry]>,
    v4: Ways<u32>,
    v6: Ways<u128>,
}

/// Those of one family.
#[derive(Clone, Debug)]
pub struct Ways<A: Address> {
    /// Entries by the address that a probe is sent to.
    addresses: FlatMap<A>,
    /// Address, port and protocol of every VIP of an entry.
    vips: FlatMap<A::End>,
}

impl Probes {
    /// The paths whose backends have numbers.
    pub(super) fn new(local: &Local, seed: u64, (v4, v6): (&AddressTables<u32>, &AddressTables<u128>)) -> Self {
        let number = |backend: SocketAddr, protocol| match backend.ip() {
            IpAddr::V4(ip) => v4.backend(ip.to_bits(), backend.port(), protocol),
            IpAddr::V6(ip) => v6.backend(ip.to_bits(), backend.port(), protocol),
        };
        let known = local.probes.iter().filter_map(|path| {
            let ProbePath { address, vip, backend, mode } = *path;
            Some((address, ProbeEntry { vip, mode, backend: number(backend, vip.protocol.number())? }))
        });
        let (addresses, entries): (Vec<IpAddr>, Vec<ProbeEntry>) = known.unzip();
        Self {
            v4: Ways::new(seed, &addresses, &entries),
            v6: Ways::new(seed, &addresses, &entries),
            entries: entries.into(),
        }
    }

    /// Whether there is none.
    #[must_use]
    #[inline]
    pub fn is_empty(&self) -> bool {
        self.entries.is_empty()
    }

    /// Those of one family.
    #[must_use]
    pub fn v4(&self) -> &Ways<u32> {
        &self.v4
    }

    /// As [`Probes::v4`].
    #[must_use]
    pub fn v6(&self) -> &Ways<u128> {
        &self.v6
    }

    /// The entry of a probe to this address.
    #[must_use]
    pub fn get<A: Address>(&self, ways: &Ways<A>, address: A) -> Option<&ProbeEntry> {
        self.entries.get(ways.addresses.get(address)? as usize)
    }
}

impl<A: Address> Ways<A> {
    fn new(seed: u64, addresses: &[IpAddr], entries: &[ProbeEntry]) -> Self {
        let of_family = || addresses.iter().zip(entries).enumerate();
        let to = of_family().filter_map(|(number, (ip, _))| Some((A::from_ip(*ip)?, number as u32)));
        let vips = of_family().filter_map(|(number, (_, entry))| {
            let VipKey { ip, port, protocol } = entry.vip;
            Some((A::from_ip(ip)?.end(port, protocol.number()), number as u32))
        });
        Self { addresses: FlatMap::new(seed, to), vips: FlatMap::new(seed, vips) }
    }

    /// Whether answers to probes come from here.
    #[must_use]
    pub fn asks(&self, vip: A, port: u16, protocol: u8) -> bool {
        self.vips.get(vip.end(port, protocol)).is_some()
    }
}
