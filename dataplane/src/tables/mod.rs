//! Tables: everything that the packet path looks up, compiled from [`Desired`] into one immutable snapshot.
//!
//! A pure function of its inputs: equal `Desired` and numbers give equal tables. Unchanged services share their Maglev
//! tables with the snapshot before ([`Tables::compile`] takes it), so a change costs what it changes.

use std::collections::{BTreeMap, BTreeSet};
use std::convert::Infallible;
use std::net::{IpAddr, Ipv4Addr, Ipv6Addr, SocketAddr};
use std::sync::Arc;

use ipnet::IpNet;
use sluice_config::model::{
    AnswerRates, Desired, Empty, Local, LocalPort, Mac, Mode, OwnVtep, Protocol, Service, Shared, VipKey,
};

use crate::address::{Address, Districts};
use crate::limiter::{Answer, Rate};
use crate::sessions::{Flow, Lifetimes, Way};
use crate::time::Nanos;
use admission::Admissions;
use fib::{Fib, Target};
use flat::FlatMap;
use hash::HashKey;
use ids::{BackendKey, Ids};
use overlay::{Inner, Lanes, Overlay};
use policy::Policy;
use probe::Probes;
use snat::{Side, Snat};
use tunnel::{Kind, Tunnel};
use zone::Zones;

pub use overlay::{Agent, Sender};

pub mod admission;
pub mod dns;
pub mod fib;
pub mod flat;
pub mod hash;
pub mod ids;
pub mod maglev;
pub mod overlay;
mod patch;
pub mod policy;
pub mod probe;
pub mod snat;
pub mod tunnel;
mod unfit;
pub mod zone;

/// One immutable snapshot.
#[derive(Clone, Debug)]
pub struct Tables {
    /// Counts snapshots up from 1.
    pub generation: u64,
    /// Key of every hash whose result nodes must agree on.
    pub key: HashKey,
    /// What is looked up by IPv4 addresses.
    pub v4: AddressTables<u32>,
    /// What is looked up by IPv6 addresses.
    pub v6: AddressTables<u128>,
    /// By service number; index 0 is never used.
    pub services: Box<[Option<Arc<ServiceEntry>>]>,
    /// Service numbers in the order of the services in `desired`; 0 for one that was left out.
    order: Box<[u16]>,
    /// By backend number; index 0 is never used.
    pub backends: Box<[Option<BackendEntry>]>,
    /// Their IP protocol numbers.
    protocols: Box<[u8]>,
    /// SNAT addresses, and who owns which of their ports.
    pub snat: Snat,
    /// Next hops by number.
    pub hops: Box<[Hop]>,
    /// Tunnels to backends by number ([`BackendEntry::tunnel`]).
    pub tunnels: Box<[Tunnel]>,
    /// What the overlay is made of.
    pub overlay: Overlay,
    /// Agents by number; one that has parts of networks with different VNIs or ports is one for each of these.
    pub agents: Box<[Agent]>,
    /// Who may talk to whom.
    pub policy: Policy,
    /// Bounds of services.
    pub admission: Admissions,
    /// Ways of the node's own probes.
    pub probes: Probes,
    /// Names.
    pub zones: Arc<Zones>,
    /// This node's own.
    pub local: LocalTables,
    /// Services and backends that are left out while the others are served: those that there was no number for, which
    /// wait until numbers have rested, and those that their service's mode cannot reach.
    pub left_out: Box<[String]>,
    /// What was compiled, for `show`.
    pub desired: Arc<Desired>,
}

/// What is looked up by the addresses of one family.
#[derive(Clone, Debug)]
pub struct AddressTables<A: Address> {
    /// What each address of ours is.
    pub addresses: FlatMap<A>,
    /// Districts of our addresses and of the overlay: whoever sends from one of them is asked whether that may be.
    pub districts: Districts,
    /// Service numbers by address, port and protocol ([`Address::end`]), and [`ASKS`].
    pub services: FlatMap<A::End>,
    /// Backend numbers by address, port and protocol.
    pub backends: FlatMap<A::End>,
    /// As `backends`, those alone whose replies come as they are, to the client: `nat-preserve`.
    pub preserved: FlatMap<A::End>,
    /// Routes, the overlay's included.
    pub fib: Fib<A>,
    /// Hop numbers of neighbours on link, by address and port index.
    pub links: FlatMap<A::End>,
}

impl<A: Address> AddressTables<A> {
    /// What `address` is to us, if anything.
    #[must_use]
    #[inline]
    pub fn address(&self, address: A) -> Option<Owned> {
        self.addresses.get(address).map(Owned::decode)
    }

    /// The number of the service at this address, port and protocol.
    #[must_use]
    #[inline]
    pub fn service(&self, ip: A, port: u16, protocol: u8) -> Option<u16> {
        self.services.get(ip.end(port, protocol)).map(|number| number as u16)
    }

    /// As [`AddressTables::service`], and whether its packets are asked for more than their session: where they come
    /// from, or who owns them.
    #[must_use]
    #[inline]
    pub fn service_that_asks(&self, ip: A, port: u16, protocol: u8) -> Option<(u16, bool)> {
        self.services.get(ip.end(port, protocol)).map(|number| (number as u16, number & ASKS != 0))
    }

    /// The number of the backend at this address, port and protocol.
    #[must_use]
    #[inline]
    pub fn backend(&self, ip: A, port: u16, protocol: u8) -> Option<u32> {
        self.backends.get(ip.end(port, protocol))
    }

    /// The number of the hop with this address on link on this port.
    #[must_use]
    #[inline]
    pub fn link(&self, ip: A, port: u8) -> Option<u32> {
        self.links.get(ip.end(0, port))
    }
}

/// In [`AddressTables::services`], of a service with bounds, groups or `nat-preserve`.
const ASKS: u32 = 1 << 16;

/// What an address of ours is, as [`AddressTables::addresses`] holds it.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Owned {
    /// A VIP.
    Vip,
    /// A SNAT address: its index.
    Snat(u8),
    /// Where DNS is answered.
    Dns,
    /// Our VTEP's underlay address.
    Vtep,
    /// The kernel's: on a port (its subnet's ends included), or in the overlay.
    Host,
}

impl Owned {
    fn encode(self) -> u32 {
        match self {
            Self::Vip => 0,
            Self::Dns => 1,
            Self::Vtep => 2,
            Self::Host => 3,
            Self::Snat(index) => 0x100 | u32::from(index),
        }
    }

    fn decode(value: u32) -> Self {
        match value {
            0 => Self::Vip,
            1 => Self::Dns,
            2 => Self::Vtep,
            3 => Self::Host,
            snat => Self::Snat(snat as u8),
        }
    }
}

/// A service, ready for packets.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct ServiceEntry {
    /// Virtual address.
    pub ip: IpAddr,
    /// Virtual port.
    pub port: u16,
    /// Protocol.
    pub protocol: Protocol,
    /// How packets reach backends.
    pub mode: Mode,
    /// What it answers without eligible backends.
    pub empty: Empty,
    /// Backend numbers by Maglev slot; empty without eligible backends.
    pub maglev: Arc<[u32]>,
    /// The table before this one, where flows without a session may go by it (`vip.second_chance`).
    pub before: Option<Arc<[u32]>>,
    /// Entries that configuration asks of the table.
    size: Option<u32>,
    /// Backends with their weights, by which an unchanged table is known.
    members: Box<[(u32, u16)]>,
    /// A bit for each [`Way`] that its flows may go.
    ways: u8,
}

impl ServiceEntry {
    fn new(service: &Service, members: Box<[(u32, u16)]>, maglev: Arc<[u32]>, before: Option<Arc<[u32]>>) -> Self {
        let VipKey { protocol, ip, port } = service.key;
        let (mode, empty, size) = (service.mode, service.empty, service.maglev_size);
        // A service that changed its mode begins its flows anew; `nat-preserve` has translated ones where the reply would
        // not pass here.
        let ways = match mode {
            Mode::Nat => 1 << Way::Translated as u8,
            Mode::NatPreserve => 1 << Way::Translated as u8 | 1 << Way::Preserved as u8,
            Mode::DsrIpip | Mode::DsrGue | Mode::DsrVxlan | Mode::DsrMac => 1 << Way::Direct as u8,
        };
        Self { ip, port, protocol, mode, empty, maglev, before, size, members, ways }
    }

    /// Whether it has flows of this kind.
    #[must_use]
    #[inline]
    pub fn keeps(&self, way: Way) -> bool {
        self.ways >> way as u8 & 1 != 0
    }

    /// Whether it is what `service` with these backends would compile to.
    fn is(&self, service: &Service, members: &[(u32, u16)], second_chance: bool) -> bool {
        let key = VipKey { protocol: self.protocol, ip: self.ip, port: self.port };
        let rest = (self.mode, self.empty, self.size) == (service.mode, service.empty, service.maglev_size);
        rest && key == service.key && *self.members == *members && (second_chance || self.before.is_none())
    }

    /// The table before `next`, which follows this entry's: one that is equal is no other.
    fn before(&self, next: &[u32]) -> Option<Arc<[u32]>> {
        if *self.maglev == *next { self.before.clone() } else { Some(Arc::clone(&self.maglev)) }
    }
}

/// A backend, ready for packets.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct BackendEntry {
    /// Address.
    pub ip: IpAddr,
    /// Port.
    pub port: u16,
    /// The agent to tunnel to; `None` for the underlay.
    pub agent: Option<u16>,
    /// The next hop towards it, where one was known when the tables were compiled.
    pub hop: Option<u32>,
    /// Which side it is on; an overlay backend without agent cannot be reached.
    pub side: Side,
    /// The first service that has it, and whether others do ([`Tables::serves`]).
    service: u16,
    shared: bool,
    /// By [`Kind`].
    tunnels: [u32; Kind::COUNT],
}

impl BackendEntry {
    const NO_TUNNEL: u32 = u32::MAX;
    const NO_TUNNELS: [u32; Kind::COUNT] = [Self::NO_TUNNEL; Kind::COUNT];

    /// The number of the tunnel of this kind to it ([`Tables::tunnels`]).
    #[must_use]
    #[inline]
    pub fn tunnel(&self, kind: Kind) -> Option<u32> {
        let number = self.tunnels[kind as usize];
        (number != Self::NO_TUNNEL).then_some(number)
    }
}

/// A next hop, ready for packets.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct Hop {
    /// Who it is.
    pub ip: IpAddr,
    /// How it is reached; `None` while its MAC is not known.
    pub exit: Option<Exit>,
    /// Port index.
    pub port: u8,
}

/// What a frame to a next hop begins with, and what its port takes.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct Exit {
    /// Its MAC and ours.
    pub macs: [u8; 12],
    /// Largest IP packet.
    pub mtu: u16,
    /// Port index.
    pub port: u8,
}

impl Exit {
    fn new(hop: Mac, index: usize, port: &LocalPort) -> Self {
        let mut macs = [0; 12];
        let (to, from) = macs.split_at_mut(6);
        to.copy_from_slice(&hop.0);
        from.copy_from_slice(&port.mac.0);
        Self { macs, mtu: port.mtu, port: index as u8 }
    }
}

/// This node's own, ready for packets.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct LocalTables {
    /// Packet ports, the host port last.
    pub ports: Box<[PortEntry]>,
    /// The host port: its index and the kernel's MAC behind it.
    pub host: Option<(u8, Mac)>,
    /// Our VTEP.
    pub vtep: Option<OwnVtep>,
    /// Largest IP packet that every way takes, tunnels included: a larger one is compared with the way that it goes.
    pub least_mtu: u16,
    /// Session time-outs.
    pub life: Lifetimes,
    /// A worker's part of what is answered, in the order of [`Answer::ALL`].
    pub answers: [Rate; Answer::ALL.len()],
    /// On what terms names are answered.
    pub dns: dns::Terms,
}

/// A port, ready for packets.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct PortEntry {
    /// Our MAC.
    pub mac: Mac,
    /// The same as the number that its octets are, the first one highest.
    pub station: u64,
    /// Largest IP packet.
    pub mtu: u16,
    /// Whether VXLAN may arrive.
    pub underlay: bool,
    /// Whether ARP is answered.
    pub arp: bool,
    /// The node's own addresses on it, the first of each family: whose errors about packets come from.
    pub own: [Option<IpAddr>; 2],
}

/// Why a `Desired` does not compile.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum CompileError {
    /// More SNAT addresses than an index holds.
    #[error("{0} SNAT addresses: 254 are the most")]
    TooManySnat(usize),
    /// More agents than an index holds.
    #[error("{0} overlay agents, each counted once for every VNI and port: 65535 are the most")]
    TooManyAgents(usize),
}

impl Tables {
    /// Compiles `desired`, giving numbers from `ids`; what has not changed since `previous` is shared with it.
    ///
    /// # Errors
    /// More SNAT addresses or agents than an index holds; `previous` then stays what packets use. Services and backends
    /// beyond their limits are left out by themselves ([`Tables::left_out`]).
    pub fn compile(
        desired: &Arc<Desired>,
        ids: &mut Ids,
        now: Nanos,
        previous: Option<&Self>,
    ) -> Result<Self, CompileError> {
        let Desired { shared, local } = &**desired;
        let key = HashKey::new(shared.hash_key);
        let seed = key.one(0x5eed);
        let lanes = Lanes::new(shared, local);
        if lanes.count() > usize::from(u16::MAX) {
            return Err(CompileError::TooManyAgents(lanes.count()));
        }
        let ways = Ways::new(shared, local, &lanes);
        let agents = lanes.agents(shared, local, &ways);
        // Before numbers are given: what does not compile takes none.
        let ours = addresses(shared, local)?;
        let before = Before::new(desired, key, previous);
        let Numbered { services, order, backends, protocols, tunnels, left_out } =
            patch::patched(shared, &ways, &before, ids, now)
                .unwrap_or_else(|| services(shared, &ways, before, ids, now));
        let policy = Policy::new(desired, ids, seed, now);
        let admission = Admissions::new(shared, ids, seed, now, local.workers);
        let overlay = Overlay::new(desired, &lanes, (&agents, &ways.v4), &ours, (seed, previous.map(|p| &p.overlay)));
        let asks = |number: u16, mode| {
            mode == Mode::NatPreserve || admission.of(number).is_some() || policy.is_service_grouped(number)
        };
        let numbered = Names {
            seed,
            ours: &ours,
            overlay: &overlay,
            services: &services,
            backends: &backends,
            protocols: &protocols,
            asks: &asks,
        };
        let Ways { v4, v6, hops, .. } = ways;
        let (v4, v6) = (numbered.tables(v4, &hops), numbered.tables(v6, &hops));
        let probes = Probes::new(local, seed, (&v4, &v6));
        Ok(Self {
            generation: previous.map_or(0, |p| p.generation) + 1,
            key,
            v4,
            v6,
            probes,
            services: services.into(),
            order: order.into(),
            left_out: left_out.into(),
            backends: backends.into(),
            protocols: protocols.into(),
            snat: Snat::new(local),
            hops: hops.table.into(),
            policy,
            admission,
            zones: zones(desired, key, previous),
            local: local_tables(local, &agents, &tunnels, &overlay),
            overlay,
            agents,
            tunnels: tunnels.into(),
            desired: Arc::clone(desired),
        })
    }

    /// The number of a service, by what it is known by on the wire.
    #[must_use]
    pub fn service_number(&self, key: VipKey) -> Option<u16> {
        match key.ip {
            IpAddr::V4(ip) => self.v4.service(ip.to_bits(), key.port, key.protocol.number()),
            IpAddr::V6(ip) => self.v6.service(ip.to_bits(), key.port, key.protocol.number()),
        }
    }

    /// The number of a backend.
    #[must_use]
    pub fn backend_number(&self, address: SocketAddr, protocol: Protocol) -> Option<u32> {
        match address.ip() {
            IpAddr::V4(ip) => self.v4.backend(ip.to_bits(), address.port(), protocol.number()),
            IpAddr::V6(ip) => self.v6.backend(ip.to_bits(), address.port(), protocol.number()),
        }
    }

    /// Where an address leads.
    #[must_use]
    pub fn target(&self, ip: IpAddr) -> Option<Target> {
        match ip {
            IpAddr::V4(ip) => self.v4.fib.lookup(ip.to_bits()),
            IpAddr::V6(ip) => self.v6.fib.lookup(ip.to_bits()),
        }
    }

    /// The service with this number.
    #[must_use]
    #[inline]
    pub fn service(&self, number: u16) -> Option<&ServiceEntry> {
        self.services.get(usize::from(number))?.as_deref()
    }

    /// The backend with this number.
    #[must_use]
    #[inline]
    pub fn backend(&self, number: u32) -> Option<&BackendEntry> {
        self.backends.get(number as usize)?.as_ref()
    }

    /// Whether `backend` is one of this service's: a session must not outlive that, whoever has its address by then.
    #[must_use]
    #[inline]
    pub fn serves(&self, number: u16, service: &ServiceEntry, backend: u32) -> bool {
        self.server(number, service, backend).is_some()
    }

    /// The backend with this number, where it is one of this service's ([`Tables::serves`]).
    #[must_use]
    #[inline]
    pub fn server(&self, number: u16, service: &ServiceEntry, backend: u32) -> Option<&BackendEntry> {
        self.backend(backend).filter(|entry| {
            entry.service == number || entry.shared && service.members.iter().any(|(member, _)| *member == backend)
        })
    }

    /// As [`Tables::serves`], by number.
    #[must_use]
    #[inline]
    pub fn is_served(&self, service: u16, backend: u32) -> bool {
        self.service(service).is_some_and(|entry| self.serves(service, entry, backend))
    }

    /// Numbers of the backends of `nat-preserve` services.
    fn preserved(&self) -> impl Iterator<Item = u32> + '_ {
        preserved(&self.services)
    }

    /// Address, port and protocol number of a backend whose packets do not come out of a tunnel.
    fn outside(&self, number: u32) -> Option<(SocketAddr, u8)> {
        let backend = self.backend(number).filter(|b| b.side == Side::Underlay)?;
        let service = self.service(backend.service)?;
        Some((SocketAddr::new(backend.ip, backend.port), service.protocol.number()))
    }

    /// What the kernel program must take for us.
    #[must_use]
    pub fn steering(&self) -> Steering {
        let local = &self.desired.local;
        let mut addresses: Vec<IpAddr> = self.services.iter().flatten().map(|s| s.ip).collect();
        addresses.extend(local.snat_addresses());
        addresses.sort_unstable();
        addresses.dedup();
        Steering {
            addresses,
            dns: local.dns_addresses().collect(),
            preserved: self.preserved().filter_map(|n| self.outside(n)).collect(),
            vtep: local.vtep.as_ref().map(|v| (v.underlay, self.overlay.ports().collect())),
            networks: match self.overlay.is_gateway() {
                true => overlay::networks(&self.desired.shared).collect(),
                false => BTreeSet::new(),
            },
        }
    }
}

/// What the kernel program takes: the rest passes to the kernel.
#[derive(Clone, PartialEq, Eq, Debug, Default)]
pub struct Steering {
    /// Everything to these (VIPs and SNAT addresses), and ARP requests and neighbour solicitations for them. Sorted.
    pub addresses: Vec<IpAddr>,
    /// UDP port 53 of these, and ARP requests and neighbour solicitations for them where the kernel does not own them.
    pub dns: Vec<IpAddr>,
    /// From these, whoever it goes to: backends of `nat-preserve` services, with their IP protocol number.
    pub preserved: BTreeSet<(SocketAddr, u8)>,
    /// UDP to this address and these ports.
    pub vtep: Option<(Ipv4Addr, Vec<u16>)>,
    /// Everything to these: the overlay's networks, where Sluice is the gateway.
    pub networks: BTreeSet<IpNet>,
}

/// Next hops as they are numbered: neighbours first, then gateways that no neighbour resolves.
struct Hops {
    table: Vec<Hop>,
    numbers: BTreeMap<(IpAddr, usize), u32>,
}

impl Hops {
    fn new(local: &Local) -> Self {
        let mut hops = Self { table: Vec::new(), numbers: BTreeMap::new() };
        for neighbour in &local.neighbours {
            let port = local.ports.get(neighbour.port);
            hops.add(neighbour.ip, neighbour.port, port.map(|port| Exit::new(neighbour.mac, neighbour.port, port)));
        }
        for route in &local.routes {
            if let Some(ip) = route.via {
                hops.add(ip, route.port, None);
            }
        }
        hops
    }

    fn add(&mut self, ip: IpAddr, port: usize, exit: Option<Exit>) {
        let table = &mut self.table;
        self.numbers.entry((ip, port)).or_insert_with(|| {
            table.push(Hop { ip, exit, port: port as u8 });
            table.len() as u32 - 1
        });
    }

    fn links<A: Address>(&self) -> impl Iterator<Item = (A::End, u32)> + '_ {
        self.numbers.iter().filter_map(|((ip, port), number)| Some((A::from_ip(*ip)?.end(0, *port as u8), *number)))
    }
}

/// Routes and next hops together: where an address is reached.
struct Ways {
    v4: Fib<u32>,
    v6: Fib<u128>,
    hops: Hops,
    /// By port index.
    own: Vec<Own>,
    /// Largest inner packet of the overlay.
    overlay_mtu: u16,
}

/// What outer headers need to know of a port.
struct Own {
    v4: Option<Ipv4Addr>,
    v6: Option<Ipv6Addr>,
    mtu: u16,
}

impl Ways {
    fn new(shared: &Shared, local: &Local, lanes: &Lanes) -> Self {
        let hops = Hops::new(local);
        let prefixes = prefixes(shared, local, &hops, lanes);
        let own = local.ports.iter().map(|port| Own {
            v4: port.addresses.first().map(ipnet::Ipv4Net::addr),
            v6: port.addresses6.first().map(ipnet::Ipv6Net::addr),
            mtu: port.mtu,
        });
        let overlay_mtu = local.vtep.as_ref().map_or(u16::MAX, |vtep| vtep.mtu);
        Self { v4: Fib::new(prefixes.iter().copied()), v6: Fib::new(prefixes), hops, own: own.collect(), overlay_mtu }
    }

    fn target(&self, ip: IpAddr) -> Option<Target> {
        match ip {
            IpAddr::V4(ip) => self.v4.lookup(ip.to_bits()),
            IpAddr::V6(ip) => self.v6.lookup(ip.to_bits()),
        }
    }

    fn exit(&self, hop: Option<u32>) -> Option<Exit> {
        self.hops.table.get(hop? as usize)?.exit
    }

    fn hop(&self, ip: IpAddr) -> Option<u32> {
        match self.target(ip)? {
            Target::Hop(hop) => Some(hop),
            Target::Link(port) => self.hops.numbers.get(&(ip, usize::from(port))).copied(),
            Target::Agent(_) | Target::NoAgent | Target::Host => None,
        }
    }

    /// A backend and its way; one in an overlay network is never reached bare.
    fn backend(&self, ip: IpAddr, port: u16, in_network: bool) -> BackendEntry {
        let agent = match self.target(ip) {
            Some(Target::Agent(agent)) => Some(agent),
            Some(Target::Hop(_) | Target::Link(_) | Target::NoAgent | Target::Host) | None => None,
        };
        let side = if in_network || agent.is_some() { Side::Overlay } else { Side::Underlay };
        let (hop, tunnels) = (self.hop(ip), BackendEntry::NO_TUNNELS);
        BackendEntry { ip, port, agent, hop, side, service: 0, shared: false, tunnels }
    }
}

/// Every prefix that packets are routed by: the node's, then the overlay's; of equal ones the first wins.
fn prefixes(shared: &Shared, local: &Local, hops: &Hops, lanes: &Lanes) -> Vec<(IpNet, Target)> {
    let host = local.vtep.iter().flat_map(|v| &v.host_addresses).map(|ip| (IpNet::from(*ip), Target::Host));
    let agents = lanes.prefixes(shared, local).map(|(net, number)| (net, Target::Agent(number)));
    let routes = local.routes.iter().filter_map(|route| {
        let target = match route.via {
            Some(via) => Target::Hop(*hops.numbers.get(&(via, route.port))?),
            None => Target::Link(route.port as u8),
        };
        Some((route.prefix, target))
    });
    let overlay = overlay::nets(shared, local).map(|net| (net, Target::NoAgent));
    host.chain(agents).chain(overlay).chain(routes).collect()
}

/// Compiled zones; as much of those before as has not changed.
fn zones(desired: &Desired, key: HashKey, previous: Option<&Tables>) -> Arc<Zones> {
    let (serial, zones) = (desired.local.soa_serial, &desired.shared.zones);
    let Some(before) = previous.filter(|p| p.key == key) else { return Arc::new(Zones::compile(zones, serial, key)) };
    let then = &before.desired.shared.zones;
    if before.desired.local.soa_serial == serial && (Arc::ptr_eq(then, zones) || then == zones) {
        return Arc::clone(&before.zones);
    }
    Arc::new(before.zones.next(then, zones, serial))
}

/// Every address of ours with what it is.
fn addresses(shared: &Shared, local: &Local) -> Result<Vec<(IpAddr, u32)>, CompileError> {
    let count = local.snat_addresses().count();
    if count > Flow::SNAT_ADDRESSES {
        return Err(CompileError::TooManySnat(count));
    }
    let v4 = |ip: &Ipv4Addr, owned: Owned| (IpAddr::V4(*ip), owned.encode());
    let vips = shared.services.iter().map(|s| (s.key.ip, Owned::Vip.encode()));
    let snat = local.snat_addresses().enumerate().map(|(i, ip)| (ip, Owned::Snat(i as u8).encode()));
    let dns = local.dns_addresses().map(|ip| (ip, Owned::Dns.encode()));
    // A subnet's network and broadcast addresses are nobody's to send from.
    let edges = local.ports.iter().flat_map(|p| &p.addresses).filter(|net| net.prefix_len() < 31);
    let edges = edges.flat_map(|net| [net.network(), net.broadcast()]).map(|ip| v4(&ip, Owned::Host));
    let ports = local.ports.iter().flat_map(|p| {
        let six = p.addresses6.iter().map(|net| (IpAddr::V6(net.addr()), Owned::Host.encode()));
        p.addresses.iter().map(|net| v4(&net.addr(), Owned::Host)).chain(six)
    });
    let host = local.vtep.iter().flat_map(|v| &v.host_addresses).map(|ip| (*ip, Owned::Host.encode()));
    let vtep = local.vtep.iter().map(|v| v4(&v.underlay, Owned::Vtep));
    // The last of equal ones counts: DNS takes one port only and leaves the rest to the kernel.
    Ok(edges.chain(ports).chain(host).chain(vtep).chain(vips).chain(snat).chain(dns).collect())
}

/// What the tables by address are made of.
struct Names<'a> {
    seed: u64,
    ours: &'a [(IpAddr, u32)],
    overlay: &'a Overlay,
    services: &'a [Option<Arc<ServiceEntry>>],
    backends: &'a [Option<BackendEntry>],
    protocols: &'a [u8],
    /// Whether a service with this number and mode asks for more ([`ASKS`]).
    asks: &'a dyn Fn(u16, Mode) -> bool,
}

impl Names<'_> {
    fn tables<A: Inner>(&self, fib: Fib<A>, hops: &Hops) -> AddressTables<A> {
        let ours = self.ours.iter().filter_map(|(ip, owned)| Some((A::from_ip(*ip)?, *owned)));
        let addresses = FlatMap::new(self.seed, ours);
        // An address that is something else of ours as well is that.
        let is_vip = |ip| addresses.get(ip).map(Owned::decode) == Some(Owned::Vip);
        let services = self.services.iter().enumerate().filter_map(|(number, s)| {
            let s = s.as_ref()?;
            let ip = A::from_ip(s.ip).filter(|ip| is_vip(*ip))?;
            let asks = if (self.asks)(number as u16, s.mode) { ASKS } else { 0 };
            Some((ip.end(s.port, s.protocol.number()), number as u32 | asks))
        });
        let end = |number: u32| {
            let (b, protocol) = (self.backends.get(number as usize)?.as_ref()?, self.protocols.get(number as usize)?);
            Some((A::from_ip(b.ip)?.end(b.port, *protocol), number))
        };
        let backends = (0..self.backends.len() as u32).filter_map(end);
        AddressTables {
            services: FlatMap::new(self.seed, services),
            addresses,
            districts: self.districts::<A>(),
            backends: FlatMap::new(self.seed, backends),
            preserved: FlatMap::new(self.seed, preserved(self.services).filter_map(end)),
            fib,
            links: FlatMap::new(self.seed, hops.links::<A>()),
        }
    }
}

impl Names<'_> {
    fn districts<A: Inner>(&self) -> Districts {
        let ours = self.ours.iter().filter_map(|(ip, _)| A::from_ip(*ip)).map(Address::district);
        Districts::new(ours.chain(self.overlay.districts::<A>()))
    }
}

/// Numbers of the backends of `nat-preserve` services.
fn preserved(services: &[Option<Arc<ServiceEntry>>]) -> impl Iterator<Item = u32> + '_ {
    let services = services.iter().flatten().filter(|s| s.mode == Mode::NatPreserve);
    services.flat_map(|s| s.members.iter().map(|(number, _)| *number))
}

/// Services and backends by their numbers.
#[derive(Default)]
struct Numbered {
    services: Vec<Option<Arc<ServiceEntry>>>,
    /// [`Tables::order`].
    order: Vec<u16>,
    backends: Vec<Option<BackendEntry>>,
    /// IP protocol numbers, by backend number.
    protocols: Vec<u8>,
    tunnels: Vec<Tunnel>,
    left_out: Vec<String>,
}

impl Numbered {
    fn service(&mut self, number: u16, entry: Arc<ServiceEntry>) {
        self.put_service(number, entry);
        self.order.push(number);
    }

    fn put_service(&mut self, number: u16, entry: Arc<ServiceEntry>) {
        put(&mut self.services, usize::from(number), Some(entry));
    }

    /// Leaves no room behind the last numbers that are in use.
    fn trim(&mut self) {
        self.services.truncate(self.services.iter().rposition(Option::is_some).map_or(0, |last| last + 1));
        self.backends.truncate(self.backends.iter().rposition(Option::is_some).map_or(0, |last| last + 1));
        self.protocols.truncate(self.backends.len());
    }

    /// A backend as it is for the service with the number `of`, beside those that have it already.
    fn shared(&self, of: u16, number: u32, entry: BackendEntry) -> BackendEntry {
        match self.backends.get(number as usize).copied().flatten() {
            Some(there) => BackendEntry { service: there.service, shared: true, tunnels: there.tunnels, ..entry },
            None => BackendEntry { service: of, shared: false, tunnels: BackendEntry::NO_TUNNELS, ..entry },
        }
    }

    /// The tunnel of this kind to a backend, unless there is one.
    fn dig<E>(
        &mut self,
        entry: &mut BackendEntry,
        kind: Kind,
        tunnel: impl FnOnce(Kind) -> Result<Tunnel, E>,
    ) -> Result<(), E> {
        if entry.tunnel(kind).is_none() {
            let tunnel = tunnel(kind)?;
            entry.tunnels[kind as usize] = self.tunnels.len() as u32;
            self.tunnels.push(tunnel);
        }
        Ok(())
    }

    fn backend(&mut self, number: u32, entry: BackendEntry, protocol: Protocol) {
        put(&mut self.backends, number as usize, Some(entry));
        put(&mut self.protocols, number as usize, protocol.number());
    }
}

/// The tables before, as far as something of them can stand in the next ones.
struct Before<'a> {
    key: HashKey,
    /// Those with the same key, whose Maglev tables are ours where members are.
    hashed: Option<&'a Tables>,
    /// Those that also have all numbers and reach backends by the same ways: a service that has not changed is in them
    /// as it will be.
    whole: Option<&'a Tables>,
    /// How far `whole` was read: both are sorted by key.
    at: usize,
}

/// What entries of services and backends are made from beside the services: ways of [`Ways`], tunnels by them, and whether
/// there are tables from before.
fn made_from(desired: &Desired) -> impl PartialEq + '_ {
    let Desired { shared, local } = desired;
    let ways = (&local.ports, &local.neighbours, &local.routes, &local.vtep, &shared.agents, &shared.networks);
    (ways, shared.second_chance)
}

impl<'a> Before<'a> {
    fn new(desired: &Desired, key: HashKey, previous: Option<&'a Tables>) -> Self {
        let hashed = previous.filter(|p| p.key == key);
        let same_ways = |p: &&Tables| made_from(&p.desired) == made_from(desired);
        Self { key, hashed, whole: hashed.filter(|p| p.left_out.is_empty()).filter(same_ways), at: 0 }
    }

    /// The tables that have this very service, its number and its entry in them. To be asked in the order of keys.
    fn same(&mut self, service: &Arc<Service>) -> Option<(&'a Tables, u16, &'a Arc<ServiceEntry>)> {
        let tables = self.whole?;
        let services = &tables.desired.shared.services;
        while services.get(self.at).is_some_and(|s| s.key < service.key) {
            self.at += 1;
        }
        let number =
            services.get(self.at).filter(|s| Arc::ptr_eq(s, service)).and_then(|_| tables.order.get(self.at))?;
        Some((tables, *number, tables.services.get(usize::from(*number))?.as_ref()?))
    }
}

fn services(shared: &Shared, ways: &Ways, mut before: Before<'_>, ids: &mut Ids, now: Nanos) -> Numbered {
    let mut all = Numbered::default();
    for service in &shared.services {
        if let Some((tables, number, entry)) = before.same(service) {
            again(service, number, entry, (tables, ways), &mut all);
            continue;
        }
        let number = match ids.service(service.key, now) {
            Ok(number) => number,
            Err(error) => {
                all.left_out.push(format!("{}: {error}", service.key));
                all.order.push(0);
                continue;
            }
        };
        let entry = fresh(number, service, shared, &before, ways, (ids, now), &mut all);
        all.service(number, entry);
    }
    all
}

/// The entry of a service that is not as it was, its backends in `all`.
fn fresh(
    number: u16,
    service: &Service,
    shared: &Shared,
    before: &Before<'_>,
    ways: &Ways,
    (ids, now): (&mut Ids, Nanos),
    all: &mut Numbered,
) -> Arc<ServiceEntry> {
    let members = members(number, service, ways, ids, now, all);
    let known = before.hashed.and_then(|p| p.services.get(usize::from(number))?.as_ref());
    match known {
        Some(same) if same.is(service, &members, shared.second_chance) => Arc::clone(same),
        _ => {
            let maglev = maglev_table(&all.backends, &members, before.key, service.maglev_size);
            let before = known.filter(|_| shared.second_chance).and_then(|known| known.before(&maglev));
            Arc::new(ServiceEntry::new(service, members, maglev, before))
        }
    }
}

/// Takes over a service that has not changed, with its backends and the tunnels to them, which have other numbers now.
fn again(
    service: &Service,
    number: u16,
    entry: &Arc<ServiceEntry>,
    (tables, ways): (&Tables, &Ways),
    all: &mut Numbered,
) {
    let kind = Kind::of(entry.mode, entry.ip.is_ipv6());
    for ((member, _), backend) in entry.members.iter().zip(&service.backends) {
        let Some(before) = tables.backend(*member) else { continue };
        // What several services have is in the tables before as the last of them has it.
        let here = match before.shared {
            true => ways.backend(before.ip, before.port, backend.network.is_some()),
            false => *before,
        };
        let mut backend = all.shared(number, *member, here);
        if let Some(kind) = kind
            && let Some(tunnel) = before.tunnel(kind).and_then(|tunnel| tables.tunnels.get(tunnel as usize))
        {
            let Ok(()) = all.dig(&mut backend, kind, |_| Ok::<_, Infallible>(tunnel.clone()));
        }
        all.backend(*member, backend, entry.protocol);
    }
    all.service(number, Arc::clone(entry));
}

/// The service's backends as (number, weight), in the order of `service.backends`.
fn members(
    of: u16,
    service: &Service,
    ways: &Ways,
    ids: &mut Ids,
    now: Nanos,
    all: &mut Numbered,
) -> Box<[(u32, u16)]> {
    let mut members = Vec::new();
    let protocol = service.key.protocol;
    let kind = Kind::of(service.mode, service.key.ip.is_ipv6());
    for backend in &service.backends {
        let address = backend.address;
        let entry = ways.backend(address.ip(), address.port(), backend.network.is_some());
        if let Err(error) = unfit::check(service, &entry, ways) {
            all.left_out.push(format!("{address} of {}: {error}", service.key));
            continue;
        }
        match ids.backend(BackendKey { address, protocol }, now) {
            Ok(number) => {
                let mut entry = all.shared(of, number, entry);
                let tunnel = |kind| Tunnel::new(kind, address.ip(), ways);
                if let Some(Err(error)) = kind.map(|kind| all.dig(&mut entry, kind, tunnel)) {
                    all.left_out.push(format!("{address} of {}: {error}", service.key));
                    continue;
                }
                all.backend(number, entry, protocol);
                members.push((number, backend.weight));
            }
            Err(error) => all.left_out.push(format!("{address} of {}: {error}", service.key)),
        }
    }
    members.into()
}

fn maglev_table(
    backends: &[Option<BackendEntry>],
    members: &[(u32, u16)],
    key: HashKey,
    size: Option<u32>,
) -> Arc<[u32]> {
    let named = members.iter().filter_map(|(number, weight)| {
        let backend = backends.get(*number as usize)?.as_ref()?;
        Some((SocketAddr::new(backend.ip, backend.port).to_string(), *number, *weight))
    });
    let named: Vec<_> = named.collect();
    let candidates: Vec<_> = named
        .iter()
        .map(|(name, number, weight)| maglev::Candidate { name, weight: *weight, number: *number })
        .collect();
    let eligible = candidates.iter().filter(|c| c.weight > 0).count();
    maglev::fill(key, &candidates, size.map_or_else(|| maglev::size_for(eligible), |size| size as usize)).into()
}

fn put<T: Default + Clone>(table: &mut Vec<T>, index: usize, value: T) {
    if table.len() <= index {
        table.resize(index + 1, T::default());
    }
    table[index] = value;
}

/// A MAC as the number that its octets are, the first one highest.
fn station(mac: &Mac) -> u64 {
    mac.0.iter().fold(0, |number, octet| number << 8 | u64::from(*octet))
}

fn local_tables(local: &Local, agents: &[Agent], tunnels: &[Tunnel], overlay: &Overlay) -> LocalTables {
    let mtus = local.ports.iter().map(|p| p.mtu).chain(local.vtep.iter().map(|v| v.mtu));
    let rooms = agents.iter().map(|a| a.room).chain(tunnels.iter().map(|t| t.room));
    LocalTables {
        least_mtu: mtus.chain(rooms).min().unwrap_or_default(),
        ports: local
            .ports
            .iter()
            .map(|p| PortEntry {
                mac: p.mac,
                station: station(&p.mac),
                mtu: p.mtu,
                underlay: p.role.is_underlay(),
                arp: p.arp,
                own: [p.addresses.first().map(|n| n.addr().into()), p.addresses6.first().map(|n| n.addr().into())],
            })
            .collect(),
        host: local.host_port.map(|port| port as u8).zip(local.host_mac),
        vtep: local.vtep.clone(),
        life: local.timeouts.into(),
        answers: answers(local),
        dns: dns::Terms::new(local, overlay.v4()),
    }
}

/// A worker's part of the rates, in the order of [`Answer::ALL`].
fn answers(local: &Local) -> [Rate; Answer::ALL.len()] {
    let AnswerRates { echo, errors, resets } = local.answers;
    let workers = u32::try_from(local.workers).unwrap_or(u32::MAX);
    [echo, errors, resets].map(|per_second| Rate::shared(per_second, per_second.div_ceil(10), workers))
}
