//! The kernel program (`xdp/steer.bpf.c`): loaded and attached per interface, told what is ours.
//!
//! Contract: what [`Steer::set`] was last given reaches the registered sockets, and everything else the kernel; what
//! is ours on a queue without a socket is dropped and counted. A program is attached by a bpf_link that is never
//! pinned, so it goes with the process, SIGKILL included. Linux 5.18 or later (bpf_xdp_load_bytes, xdp.frags).

use std::collections::{BTreeMap, BTreeSet};
use std::io;
use std::net::{IpAddr, SocketAddr, UdpSocket};
use std::os::fd::AsRawFd;

use aya::maps::lpm_trie::{Key, LpmTrie};
use aya::maps::{HashMap, MapData, MapError, PerCpuArray, XskMap};
use aya::programs::links::FdLink;
use aya::programs::{ProgramError, Xdp, xdp};
use aya::{Ebpf, EbpfLoader};
use ipnet::IpNet;
use sluice_config::model::XdpMode;

use self::error::{PLAIN_MTU, failed};
use crate::tables::Steering;

pub use self::error::SteerError;

mod error;

static OBJECT: &[u8] = aya::include_bytes_aligned!(concat!(env!("OUT_DIR"), "/steer.bpf.o"));

/// Flags of ADDRESSES (steer.bpf.c).
const TAKE_ALL: u32 = 1;
const TAKE_DNS: u32 = 2;
const TAKE_ARP: u32 = 4;
const TAKE_TUNNELS: u32 = 8;

/// Which side of Sluice an interface is.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Side {
    /// A packet port; `arp` is whether ARP for our addresses is answered on it.
    Wire {
        /// `arp` of the port.
        arp: bool,
    },
    /// Sluice's end of the host port: everything is ours.
    Host,
}

/// What the kernel program counts, over all processors.
#[derive(Clone, Copy, PartialEq, Eq, Debug, Default)]
pub struct SteerStatistics {
    /// Packets sent to a socket, ARP excepted.
    pub taken: u64,
    /// Packets left to the kernel.
    pub passed: u64,
    /// Packets of ours dropped because their queue had no socket.
    pub no_socket: u64,
    /// Of those passed: later fragments of UDP to a DNS or VTEP address, which may have been ours.
    pub fragment_passed: u64,
    /// ARP requests and neighbour solicitations sent to a socket.
    pub arp_taken: u64,
}

/// The program of one interface.
#[derive(Debug)]
pub struct Steer {
    interface: String,
    side: Side,
    ebpf: Ebpf,
    link: Option<FdLink>,
    /// What ADDRESSES holds.
    held: BTreeMap<IpAddr, u32>,
    /// What PRESERVED holds.
    preserved: BTreeSet<Sender>,
    /// What TUNNELS holds.
    tunnels: BTreeSet<u16>,
    /// What NETWORKS holds.
    networks: BTreeSet<IpNet>,
}

/// An address and port with the IP protocol number.
type Sender = (SocketAddr, u8);

impl Steer {
    /// Loads the program for `interface`, without attaching it.
    ///
    /// # Errors
    /// No privileges, or a kernel that refuses it.
    pub fn load(interface: &str, side: Side) -> Result<Self, SteerError> {
        let host = u32::from(side == Side::Host);
        let ebpf = EbpfLoader::new()
            .override_global("HOST_PORT", &host, true)
            .load(OBJECT)
            .map_err(|e| failed(interface, "load", &e))?;
        Ok(Self {
            interface: interface.to_owned(),
            side,
            ebpf,
            link: None,
            held: BTreeMap::new(),
            preserved: BTreeSet::new(),
            tunnels: BTreeSet::new(),
            networks: BTreeSet::new(),
        })
    }

    /// Packets of ours that arrive on `queue` go to this AF_XDP socket, which must be bound to that very queue.
    ///
    /// # Errors
    /// A queue above 255, or no AF_XDP socket.
    pub fn register(&mut self, queue: u32, socket: &impl AsRawFd) -> Result<(), SteerError> {
        let mut sockets = self.map(|e| XskMap::try_from(e.map_mut("SOCKETS")?).ok(), "SOCKETS")?;
        if queue >= sockets.len() {
            return Err(SteerError::Queue { interface: self.interface.clone(), queue });
        }
        let set = sockets.set(queue, socket.as_raw_fd(), 0);
        set.map_err(|e| failed(&self.interface, "register a socket", &e))
    }

    /// Attaches the program: generic for [`XdpMode::Skb`], else native. `mtu` is the interface's.
    ///
    /// # Errors
    /// Another program there, no native support, no such interface.
    pub fn attach(&mut self, mode: XdpMode, mtu: usize) -> Result<(), SteerError> {
        let plain = mtu <= PLAIN_MTU || mode == XdpMode::Skb;
        let link = attach(&mut self.ebpf, if plain { "steer" } else { "steer_frags" }, &self.interface, mode)?;
        self.link = Some(link);
        Ok(())
    }

    /// Detaches the program; everything passes to the kernel from here on.
    pub fn detach(&mut self) {
        self.link = None;
    }

    /// Takes exactly what `steering` says: adds first, removes after.
    ///
    /// # Errors
    /// More addresses than the program holds; those that fitted are taken.
    pub fn set(&mut self, steering: &Steering) -> Result<(), SteerError> {
        self.admit(steering)?;
        self.withdraw(steering)
    }

    /// Takes what `steering` adds and leaves the rest: call after the tables that need it are published.
    ///
    /// # Errors
    /// As [`Steer::set`].
    pub fn admit(&mut self, steering: &Steering) -> Result<(), SteerError> {
        let fresh: Vec<_> = tunnels(steering).difference(&self.tunnels).copied().collect();
        for port in fresh {
            let put = self.ports()?.insert(port, 0, 0);
            put.map_err(|e| failed(&self.interface, "add a tunnel's port", &e))?;
            self.tunnels.insert(port);
        }
        let fresh: Vec<_> = self.entered(steering).difference(&self.networks).copied().collect();
        for net in fresh {
            let put = self.prefixes()?.insert(&prefix_key(net), 0, 0);
            put.map_err(|e| failed(&self.interface, "add a network", &e))?;
            self.networks.insert(net);
        }
        let wanted = entries(steering, self.side, is_local);
        let fresh: Vec<_> = wanted.into_iter().filter(|(ip, take)| self.held.get(ip) != Some(take)).collect();
        for (ip, take) in fresh {
            let put = self.addresses()?.insert(key(ip), take, 0);
            put.map_err(|e| failed(&self.interface, "add an address", &e))?;
            self.held.insert(ip, take);
        }
        let fresh: Vec<_> = self.senders(steering).difference(&self.preserved).copied().collect();
        for sender in fresh {
            let put = self.replies()?.insert(sender_key(sender), 0, 0);
            put.map_err(|e| failed(&self.interface, "add a nat-preserve backend", &e))?;
            self.preserved.insert(sender);
        }
        Ok(())
    }

    /// Leaves to the kernel what `steering` no longer has: call before the tables without it are published.
    ///
    /// # Errors
    /// What the kernel says.
    pub fn withdraw(&mut self, steering: &Steering) -> Result<(), SteerError> {
        let wanted = entries(steering, self.side, is_local);
        let gone: Vec<IpAddr> = self.held.keys().filter(|ip| !wanted.contains_key(ip)).copied().collect();
        for ip in gone {
            let removed = self.addresses()?.remove(&key(ip));
            removed.map_err(|e| failed(&self.interface, "remove an address", &e))?;
            self.held.remove(&ip);
        }
        let gone: Vec<_> = self.preserved.difference(&self.senders(steering)).copied().collect();
        for sender in gone {
            let removed = self.replies()?.remove(&sender_key(sender));
            removed.map_err(|e| failed(&self.interface, "remove a nat-preserve backend", &e))?;
            self.preserved.remove(&sender);
        }
        let gone: Vec<_> = self.networks.difference(&self.entered(steering)).copied().collect();
        for net in gone {
            let removed = self.prefixes()?.remove(&prefix_key(net));
            removed.map_err(|e| failed(&self.interface, "remove a network", &e))?;
            self.networks.remove(&net);
        }
        let gone: Vec<_> = self.tunnels.difference(&tunnels(steering)).copied().collect();
        for port in gone {
            let removed = self.ports()?.remove(&port);
            removed.map_err(|e| failed(&self.interface, "remove a tunnel's port", &e))?;
            self.tunnels.remove(&port);
        }
        Ok(())
    }

    /// What the program has counted since it was loaded.
    ///
    /// # Errors
    /// What the kernel says.
    pub fn statistics(&self) -> Result<SteerStatistics, SteerError> {
        let other = |e: &MapError| failed(&self.interface, "read statistics", e);
        let map = self.ebpf.map("STATISTICS").ok_or_else(|| self.missing("STATISTICS"))?;
        let counts = PerCpuArray::<_, u64>::try_from(map).map_err(|e| other(&e))?;
        let sum = |index: u32| counts.get(&index, 0).map(|cpus| cpus.iter().sum()).map_err(|e| other(&e));
        Ok(SteerStatistics {
            taken: sum(0)?,
            passed: sum(1)?,
            no_socket: sum(2)?,
            fragment_passed: sum(3)?,
            arp_taken: sum(4)?,
        })
    }

    /// Whose packets are taken whoever they go to; on the host port all are.
    fn senders(&self, steering: &Steering) -> BTreeSet<Sender> {
        match self.side {
            Side::Wire { .. } => steering.preserved.clone(),
            Side::Host => BTreeSet::new(),
        }
    }

    fn replies(&mut self) -> Result<HashMap<&mut MapData, [u8; 20], u32>, SteerError> {
        self.map(|e| HashMap::try_from(e.map_mut("PRESERVED")?).ok(), "PRESERVED")
    }

    /// Networks that packets enter here; on the host port all are taken.
    fn entered(&self, steering: &Steering) -> BTreeSet<IpNet> {
        match self.side {
            Side::Wire { .. } => steering.networks.clone(),
            Side::Host => BTreeSet::new(),
        }
    }

    fn prefixes(&mut self) -> Result<LpmTrie<&mut MapData, [u8; 16], u32>, SteerError> {
        self.map(|e| LpmTrie::try_from(e.map_mut("NETWORKS")?).ok(), "NETWORKS")
    }

    fn ports(&mut self) -> Result<HashMap<&mut MapData, u16, u32>, SteerError> {
        self.map(|e| HashMap::try_from(e.map_mut("TUNNELS")?).ok(), "TUNNELS")
    }

    fn addresses(&mut self) -> Result<HashMap<&mut MapData, [u8; 16], u32>, SteerError> {
        self.map(|e| HashMap::try_from(e.map_mut("ADDRESSES")?).ok(), "ADDRESSES")
    }

    fn map<'a, M>(
        &'a mut self,
        find: impl FnOnce(&'a mut Ebpf) -> Option<M>,
        name: &'static str,
    ) -> Result<M, SteerError> {
        let missing = self.missing(name);
        find(&mut self.ebpf).ok_or(missing)
    }

    fn missing(&self, name: &'static str) -> SteerError {
        SteerError::Other { interface: self.interface.clone(), what: name, reason: "no such map".to_owned() }
    }
}

/// A program that passes everything, on the kernel's end of the host port: a veth whose peer has a program receives
/// twice as fast (facts/platform.md). Nothing depends on it.
#[derive(Debug)]
pub struct Pass {
    _ebpf: Ebpf,
    _link: FdLink,
}

impl Pass {
    /// Loads and attaches it natively.
    ///
    /// # Errors
    /// As [`Steer::load`] and [`Steer::attach`].
    pub fn attach(interface: &str) -> Result<Self, SteerError> {
        let mut ebpf = EbpfLoader::new().load(OBJECT).map_err(|e| failed(interface, "load", &e))?;
        let link = attach(&mut ebpf, "pass_all", interface, XdpMode::Copy)?;
        Ok(Self { _ebpf: ebpf, _link: link })
    }
}

fn attach(ebpf: &mut Ebpf, name: &str, interface: &str, mode: XdpMode) -> Result<FdLink, SteerError> {
    let mode = match mode {
        XdpMode::Auto | XdpMode::ZeroCopy | XdpMode::Copy => xdp::XdpMode::Driver,
        XdpMode::Skb => xdp::XdpMode::Skb,
    };
    let other = |what, e: &ProgramError| failed(interface, what, e);
    let program = ebpf.program_mut(name).ok_or(ProgramError::UnexpectedProgramType).map_err(|e| other("find", &e))?;
    let program: &mut Xdp = program.try_into().map_err(|e| other("find", &e))?;
    program.load().map_err(|e| other("verify", &e))?;
    let link = program.attach(interface, mode).map_err(|e| other("attach", &e))?;
    let link = program.take_link(link).map_err(|e| other("attach", &e))?;
    // aya falls back to netlink where the kernel refuses a link: dropping the link detaches that at once.
    FdLink::try_from(link).map_err(|_| SteerError::NoLink { interface: interface.to_owned() })
}

/// Entries of ADDRESSES. `local` says whether the kernel owns an address and so answers ARP for it.
fn entries(steering: &Steering, side: Side, local: impl Fn(IpAddr) -> bool) -> BTreeMap<IpAddr, u32> {
    let Side::Wire { arp } = side else { return BTreeMap::new() };
    let answer = if arp { TAKE_ARP } else { 0 };
    let mut entries: BTreeMap<IpAddr, u32> = BTreeMap::new();
    for ip in &steering.dns {
        // The kernel answers ARP for its addresses on every interface, neighbour solicitations on their own alone.
        let kernel_answers = ip.is_ipv4() && local(*ip);
        *entries.entry(*ip).or_default() |= TAKE_DNS | if kernel_answers { 0 } else { answer };
    }
    if let Some((ip, _)) = &steering.vtep {
        *entries.entry((*ip).into()).or_default() |= TAKE_TUNNELS;
    }
    for ip in &steering.addresses {
        *entries.entry(*ip).or_default() |= TAKE_ALL | answer;
    }
    entries
}

/// Entries of TUNNELS.
fn tunnels(steering: &Steering) -> BTreeSet<u16> {
    steering.vtep.iter().flat_map(|(_, ports)| ports).copied().collect()
}

/// Whether the kernel owns `ip` in this network namespace: only then may a socket have it.
fn is_local(ip: IpAddr) -> bool {
    match UdpSocket::bind((ip, 0)) {
        Ok(_) => true,
        Err(error) => error.kind() != io::ErrorKind::AddrNotAvailable,
    }
}

/// An address as the program has it: IPv4 mapped into IPv6.
fn key(ip: IpAddr) -> [u8; 16] {
    match ip {
        IpAddr::V4(ip) => ip.to_ipv6_mapped().octets(),
        IpAddr::V6(ip) => ip.octets(),
    }
}

/// `struct prefix` of the program.
fn prefix_key(net: IpNet) -> Key<[u8; 16]> {
    let length = u32::from(net.prefix_len()) + if net.addr().is_ipv4() { 96 } else { 0 };
    Key::new(length, key(net.network()))
}

/// `struct sender` of the program: address, port in network byte order, protocol, 0.
fn sender_key((address, protocol): Sender) -> [u8; 20] {
    let mut octets = [0; 20];
    octets[..16].copy_from_slice(&key(address.ip()));
    octets[16..18].copy_from_slice(&address.port().to_be_bytes());
    octets[18] = protocol;
    octets
}

#[cfg(test)]
mod tests;
