//! What the configuration means: checked types that cannot hold a wrong value, and [`Desired`], the whole state that
//! the packet path should have, from which tables are compiled.
//!
//! Everything here is plain data: no threads, sockets or clock. Addresses are host-order std types; ports and VNIs
//! are host-order integers; MACs are in wire order. Durations are whole seconds where the name says so.

use std::collections::BTreeMap;
use std::fmt;
use std::net::{IpAddr, Ipv4Addr, Ipv6Addr, SocketAddr};
use std::ops::{Deref, Index, IndexMut, RangeInclusive};
use std::path::PathBuf;
use std::str::FromStr;
use std::sync::Arc;

use ipnet::{IpNet, Ipv4Net, Ipv6Net};

mod health;
mod mesos;
mod zone;

pub use health::{FailOpen, Health, HealthCheck, Pace, Passive, Probe, is_path};
pub use mesos::{Access, Masters, Mesos, ZooKeeper};
pub use zone::{Origin, Reach, Record, RecordData, Records, Zone};

/// An Ethernet address, octets in wire order.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Default)]
pub struct Mac(pub [u8; 6]);

impl Mac {
    /// A multicast or broadcast address (lowest bit of the first octet, IEEE 802).
    #[must_use]
    pub fn is_group(self) -> bool {
        self.0[0] & 1 == 1
    }

    /// The MAC that DC/OS gives a VTEP: its OUI and the low 24 bits of the VTEP's address.
    #[must_use]
    pub fn of_vtep(vtep: Ipv4Addr) -> Self {
        let [_, b, c, d] = vtep.octets();
        Self([0x70, 0xb3, 0xd5, b, c, d])
    }
}

impl fmt::Display for Mac {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let [a, b, c, d, e, g] = self.0;
        write!(f, "{a:02x}:{b:02x}:{c:02x}:{d:02x}:{e:02x}:{g:02x}")
    }
}

impl fmt::Debug for Mac {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        fmt::Display::fmt(self, f)
    }
}

impl FromStr for Mac {
    type Err = NotAMac;

    fn from_str(text: &str) -> Result<Self, NotAMac> {
        let mut octets = [0; 6];
        let mut parts = text.split(':');
        for octet in &mut octets {
            let part = parts.next().filter(|p| p.len() == 2).ok_or(NotAMac)?;
            *octet = u8::from_str_radix(part, 16).map_err(|_| NotAMac)?;
        }
        parts.next().is_none().then_some(Self(octets)).ok_or(NotAMac)
    }
}

/// The text is not six two-digit hexadecimal octets joined by colons.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
#[error("not a MAC address (six octets like 02:00:00:00:00:01)")]
pub struct NotAMac;

/// A VXLAN network identifier, 24 bits (RFC 7348 section 5).
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Debug)]
pub struct Vni(u32);

impl Vni {
    /// The one that DC/OS gives all its networks.
    pub const DCOS: Self = Self(1024);

    /// `None` above 24 bits.
    #[must_use]
    pub fn new(value: u32) -> Option<Self> {
        (value < 1 << 24).then_some(Self(value))
    }

    /// The 24-bit value.
    #[must_use]
    pub fn get(self) -> u32 {
        self.0
    }
}

/// A transport protocol that a service may have.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Debug)]
pub enum Protocol {
    /// IP protocol 6.
    Tcp,
    /// IP protocol 17.
    Udp,
    /// IP protocol 132 (RFC 9260), by its ports: one address at each end.
    Sctp,
}

impl Protocol {
    /// The IP protocol number (IANA).
    #[must_use]
    pub fn number(self) -> u8 {
        match self {
            Self::Tcp => 6,
            Self::Udp => 17,
            Self::Sctp => 132,
        }
    }
}

impl fmt::Display for Protocol {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::Tcp => "tcp",
            Self::Udp => "udp",
            Self::Sctp => "sctp",
        })
    }
}

/// How a service's packets reach its backends (design.md section 4).
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Debug, Default)]
pub enum Mode {
    /// Destination and source are rewritten; the reply comes back through us.
    #[default]
    Nat,
    /// The destination alone is rewritten; the backend's way back must lead through us.
    NatPreserve,
    /// The packet as it is, in IP-in-IP (RFC 2003, RFC 2473); the backend owns the VIP and answers the client itself.
    DsrIpip,
    /// The same in GUE over UDP (draft-ietf-intarea-gue, version 0, as Linux decapsulates it).
    DsrGue,
    /// The same in VXLAN, for backends on the overlay.
    DsrVxlan,
    /// The same with the backend's MAC alone: backends on link.
    DsrMac,
}

impl Mode {
    /// Every mode with its name in the configuration and in labels.
    pub const ALL: &[(&str, Self)] = &[
        ("nat", Self::Nat),
        ("nat-preserve", Self::NatPreserve),
        ("dsr-ipip", Self::DsrIpip),
        ("dsr-gue", Self::DsrGue),
        ("dsr-vxlan", Self::DsrVxlan),
        ("dsr-mac", Self::DsrMac),
    ];

    /// Its name in the configuration and in labels.
    #[must_use]
    pub fn name(self) -> &'static str {
        Self::ALL.iter().find(|(_, mode)| *mode == self).map_or("nat", |(name, _)| name)
    }

    /// Whether backends answer clients themselves, so that they must own the VIP and listen on its port.
    #[must_use]
    pub fn is_dsr(self) -> bool {
        matches!(self, Self::DsrIpip | Self::DsrGue | Self::DsrVxlan | Self::DsrMac)
    }
}

/// What a service that cannot serve answers: one without eligible backends, and to newcomers one without free SNAT ports.
#[derive(Clone, Copy, PartialEq, Eq, Debug, Default)]
pub enum Empty {
    /// A TCP reset (RFC 9293 section 3.10.7.1), ICMP port unreachable for the others: clients learn at once.
    #[default]
    Reset,
    /// Nothing.
    Drop,
}

/// Who may use a service, and how much of it there is.
#[derive(Clone, PartialEq, Eq, Debug, Default)]
pub struct Admission {
    /// New flows a second over all workers, of which each has an equal part; `None` is no bound.
    pub new_per_second: Option<u32>,
    /// Sessions at once over all workers, of which each has an equal part, rounded up ([`Self::part`]); `None` is no
    /// bound.
    pub sessions: Option<u32>,
    /// Sources that may use it; empty is everybody.
    pub allow: Vec<IpNet>,
    /// Sources that may not, `allow` or not.
    pub deny: Vec<IpNet>,
    /// Groups that may use it beside those of its backends.
    pub groups: AllowGroups,
}

impl Admission {
    /// One of `workers` equal parts of a bound. Rounded up, because flows are spread over workers by a hash, and on one
    /// without a part none could begin: all together may have up to `workers - 1` more.
    #[must_use]
    pub fn part(bound: u32, workers: usize) -> u32 {
        bound.div_ceil(u32::try_from(workers.max(1)).unwrap_or(u32::MAX))
    }
}

/// Which groups may use a grouped service beside those that its backends share (`SLUICE_ALLOW_GROUPS`).
#[derive(Clone, PartialEq, Eq, Debug, Default)]
pub enum AllowGroups {
    /// No other.
    #[default]
    Own,
    /// These too, sorted.
    These(Vec<String>),
    /// Everybody, of whatever group or none.
    All,
}

/// What a service is known by on the wire.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Debug)]
pub struct VipKey {
    /// Transport protocol.
    pub protocol: Protocol,
    /// Virtual address.
    pub ip: IpAddr,
    /// Virtual port, never 0.
    pub port: u16,
}

impl fmt::Display for VipKey {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}/{}", SocketAddr::new(self.ip, self.port), self.protocol)
    }
}

// ---------------------------------------------------------------------------------------------------------------
// What a checked TOML file means.

/// A checked configuration. Only [`crate::parse`] and its kin build one from a file, so whoever
/// holds it need not check again.
#[derive(Clone, Debug)]
pub struct Config {
    /// The packet ports, in file order. The host port is not among them.
    pub ports: Vec<Port>,
    /// Worker threads; one per configured queue.
    pub workers: Workers,
    /// Fixed neighbours (`[[neighbour]]`), for replay and tests.
    pub neighbours: Vec<Neighbour>,
    /// Fixed routes (`[[route]]`), likewise.
    pub routes: Vec<Route>,
    /// Marathons to follow.
    pub marathons: Vec<Marathon>,
    /// Mesos, where it is asked.
    pub mesos: Option<Mesos>,
    /// Ranges and defaults of VIPs.
    pub vip: Vip,
    /// Static services (`[[service]]`).
    pub services: Vec<Service>,
    /// Source addresses of `nat`.
    pub snat: Snat,
    /// Names.
    pub dns: Dns,
    /// The overlay, where one is configured.
    pub overlay: Option<Overlay>,
    /// Where the API listens.
    pub api: Api,
    /// What judges backends.
    pub health: Health,
    /// Bounds of everything that grows.
    pub limits: Limits,
    /// Session time-outs.
    pub timeouts: Timeouts,
    /// The veth pair between Sluice and the node's own kernel; `None` with `[host] enabled = false`.
    pub host: Option<Host>,
}

/// One `[[port]]`.
#[derive(Clone, Debug)]
pub struct Port {
    /// Name used in routes, neighbours and counters.
    pub name: String,
    /// Kernel interface that carries it.
    pub interface: String,
    /// Receive queues, one worker each; the same number on every port.
    pub queues: Vec<u32>,
    /// AF_XDP mode.
    pub mode: XdpMode,
    /// MAC when it is not the interface's own (replay, tests).
    pub mac: Option<Mac>,
    /// Addresses with prefix when they are not the interface's own (replay, tests).
    pub addresses: Vec<Ipv4Net>,
    /// IPv6 addresses with prefix, likewise.
    pub addresses6: Vec<Ipv6Net>,
    /// Which traffic is expected here.
    pub role: Role,
    /// Largest IP packet; `None` takes the interface's.
    pub mtu: Option<u16>,
    /// Whether Sluice answers ARP for VIPs and its other own addresses here (`arp = "answer" | "off"`).
    pub arp: bool,
}

/// `mode` of a port.
#[derive(Clone, Copy, PartialEq, Eq, Debug, Default)]
pub enum XdpMode {
    /// Zero copy where the driver can, else copy.
    #[default]
    Auto,
    /// Zero copy or refuse.
    ZeroCopy,
    /// Native program, copied frames.
    Copy,
    /// Generic program, copied frames.
    Skb,
}

/// `role` of a port.
#[derive(Clone, Copy, PartialEq, Eq, Debug, Default)]
pub enum Role {
    /// Clients only: VXLAN is refused here.
    Client,
    /// Agents only.
    Underlay,
    /// Both on one card.
    #[default]
    Both,
}

impl Role {
    /// Whether VXLAN from agents may arrive here.
    #[must_use]
    pub fn is_underlay(self) -> bool {
        !matches!(self, Self::Client)
    }
}

/// `[workers]`.
#[derive(Clone, Debug, Default)]
pub struct Workers {
    /// Core of each worker; empty leaves placement to the kernel.
    pub cores: Vec<usize>,
    /// What an idle worker does.
    pub idle: Idle,
}

/// `idle` of `[workers]` (design.md section 2).
#[derive(Clone, Copy, PartialEq, Eq, Debug, Default)]
pub enum Idle {
    /// Poll for 50 us, then sleep until woken.
    #[default]
    Adaptive,
    /// Never sleep: for dedicated cores.
    Spin,
}

/// A neighbour: who has an address on a port.
#[derive(Clone, PartialEq, Eq, PartialOrd, Ord, Debug)]
pub struct Neighbour {
    /// Address on link.
    pub ip: IpAddr,
    /// Its MAC.
    pub mac: Mac,
    /// Index into [`Config::ports`] and [`Local::ports`].
    pub port: usize,
}

/// A route of the packet path.
#[derive(Clone, PartialEq, Eq, PartialOrd, Ord, Debug)]
pub struct Route {
    /// Destination.
    pub prefix: IpNet,
    /// Gateway; `None` is on link.
    pub via: Option<IpAddr>,
    /// Index into [`Config::ports`] and [`Local::ports`].
    pub port: usize,
}

/// One `[[marathon]]`.
#[derive(Clone, Debug)]
pub struct Marathon {
    /// Base URLs, tried in turn.
    pub urls: Vec<String>,
    /// Framework name when `/v2/info` does not say; empty means `marathon`.
    pub framework: String,
    /// HTTP basic user, with `password_file`.
    pub user: Option<String>,
    /// File that holds the basic password.
    pub password_file: Option<PathBuf>,
    /// File that holds a token, sent as `Authorization: token=...`.
    pub token_file: Option<PathBuf>,
    /// Extra CA certificate (PEM) to trust for https.
    pub ca_file: Option<PathBuf>,
}

impl Marathon {
    /// The hosts of its URLs that are IPv4 addresses: no VIP may be one of them.
    pub fn addresses(&self) -> impl Iterator<Item = Ipv4Addr> {
        self.urls.iter().filter_map(|url| url_address(url))
    }
}

/// The host of `http://HOST[:PORT][/PATH]`, where it is an IPv4 address.
pub(crate) fn url_address(url: &str) -> Option<Ipv4Addr> {
    let (_, rest) = url.split_once("://")?;
    let authority = rest.split(['/', '?', '#']).next()?;
    authority.split(':').next()?.parse().ok()
}

/// `[vip]`.
#[derive(Clone, Debug)]
pub struct Vip {
    /// First and last IPv4 address of named VIPs (DC/OS: 11.0.0.0 and 11.255.255.255).
    pub named: RangeInclusive<Ipv4Addr>,
    /// First and last IPv6 address of named VIPs.
    pub named6: RangeInclusive<Ipv6Addr>,
    /// Mode of services that name none.
    pub mode: Mode,
    /// What to do with equal claims.
    pub sharing: Sharing,
    /// What services without eligible backends answer, unless they say otherwise.
    pub empty: Empty,
    /// Whether flows without a session go by the tables before ([`Shared::second_chance`]).
    pub second_chance: bool,
    /// File that keeps the claims of VIPs; `None` is `claims.json` in the state folder.
    pub store: Option<PathBuf>,
    /// File with the 16-octet hash key that all nodes share; `None` is a random key.
    pub hash_key_file: Option<PathBuf>,
}

/// `sharing` of `[vip]`.
#[derive(Clone, Copy, PartialEq, Eq, Debug, Default)]
pub enum Sharing {
    /// Equal claims are merged, their backends united.
    #[default]
    Union,
    /// The second claimant is refused.
    Owner,
}

/// `[snat]`.
#[derive(Clone, Debug)]
pub struct Snat {
    /// Source addresses towards underlay backends.
    pub underlay: Vec<Ipv4Addr>,
    /// IPv6 source addresses towards underlay backends.
    pub underlay6: Vec<Ipv6Addr>,
    /// Source addresses towards overlay backends, inside our own overlay subnet.
    pub overlay: Vec<Ipv4Addr>,
    /// The same of IPv6.
    pub overlay6: Vec<Ipv6Addr>,
    /// Ports used on each address.
    pub ports: RangeInclusive<u16>,
    /// Ports that one client may hold, over all workers and backends, and still get one of those that are kept back for
    /// others (one in eight); `None` is an eighth of `ports`.
    pub quota: Option<u32>,
}

impl Snat {
    /// Ports of a block, which one worker owns (design.md section 2).
    pub const BLOCK: u16 = 64;

    /// Whole blocks of ports: as many workers at most can begin flows.
    #[must_use]
    pub fn blocks(&self) -> usize {
        let first = u32::from(*self.ports.start()).div_ceil(u32::from(Self::BLOCK));
        let end = (u32::from(*self.ports.end()) + 1) / u32::from(Self::BLOCK);
        end.saturating_sub(first) as usize
    }

    /// Whether masqueraded flows have this port, where containers are masqueraded: the upper half of each block.
    /// Services have the others, so a reply to either is never taken for one to the other.
    #[must_use]
    pub const fn is_masqueraded(port: u16) -> bool {
        port % Self::BLOCK >= Self::BLOCK / 2
    }

    /// Ports of the worker that has the fewest: blocks are dealt to `workers` in turn by their number.
    #[must_use]
    pub fn ports_per_worker(&self, workers: usize) -> usize {
        self.fewest(workers, |_| true)
    }

    /// As [`Snat::ports_per_worker`], those alone that `counts`.
    #[must_use]
    pub fn fewest(&self, workers: usize, counts: impl Fn(u16) -> bool) -> usize {
        let mut each = vec![0usize; workers.max(1)];
        for port in self.ports.clone().filter(|port| counts(*port)) {
            let worker = usize::from(port / Self::BLOCK) % each.len();
            if let Some(owned) = each.get_mut(worker) {
                *owned += 1;
            }
        }
        each.into_iter().min().unwrap_or_default()
    }
}

/// `[dns]` (facts/dcos.md A, B.6).
#[derive(Clone, Debug)]
pub struct Dns {
    /// Addresses that the packet path answers on; none of either family switches DNS off.
    pub addresses: Vec<Ipv4Addr>,
    /// IPv6 addresses likewise.
    pub addresses6: Vec<Ipv6Addr>,
    /// The Mesos domain, lower case, without dots at its ends.
    pub domain: String,
    /// TTL of records under `domain`, seconds.
    pub ttl: u32,
    /// TTL of the DC/OS zones, seconds.
    pub dcos_ttl: u32,
    /// SOA MINIMUM and the SOA's TTL in negative answers, seconds.
    pub negative_ttl: u32,
    /// SOA MNAME of `domain`.
    pub soa_mname: String,
    /// SOA RNAME of `domain`.
    pub soa_rname: String,
    /// SOA REFRESH, seconds.
    pub soa_refresh: u32,
    /// SOA RETRY, seconds.
    pub soa_retry: u32,
    /// SOA EXPIRE, seconds.
    pub soa_expire: u32,
    /// Largest UDP answer offered by EDNS, octets.
    pub edns_max: u16,
    /// Whether TC is set on answers that were cut.
    pub truncate_bit: bool,
    /// Whether RA is set in answers.
    pub recurse: bool,
    /// Whether names that no zone here answers for are asked of `resolvers`.
    pub external: bool,
    /// Whom they are asked of, in this order.
    pub resolvers: Vec<SocketAddr>,
    /// The same of single suffixes (lower case, without dots at their ends), whether or not `external` is set.
    pub zone_resolvers: BTreeMap<String, Vec<SocketAddr>>,
    /// Where a task's address comes from, first that has one.
    pub ip_sources: Vec<IpSource>,
    /// Whether labels follow RFC 952 (24 characters, letters first) instead of RFC 1123.
    pub enforce_rfc952: bool,
    /// What health does to answers under `domain`.
    pub health: DnsHealth,
    /// Whether answers under `domain` are Mesos-DNS's, quirks included.
    pub compat: bool,
    /// Weight in SRV records.
    pub srv_weight: u16,
    /// Whether the HTTP API lists all records.
    pub enumeration: bool,
    /// Crypto id of the cluster; empty: there are no names with it.
    pub cluster_id: String,
    /// Whose addresses are believed, and who may ask for names of others; empty: private and link-local ones, and the
    /// overlay's.
    pub trusted: Vec<IpNet>,
    /// Answers a second to one prefix of others without a cookie.
    pub responses_per_second: u32,
    /// File of the secrets of DNS cookies.
    pub cookie_secret_file: Option<PathBuf>,
    /// What NSID is answered with.
    pub nsid: String,
    /// Zones of the operator's own.
    pub zones: Vec<StaticZone>,
}

impl Dns {
    /// Whether names are served at all.
    #[must_use]
    pub fn is_on(&self) -> bool {
        !(self.addresses.is_empty() && self.addresses6.is_empty())
    }

    /// Whether names of others are asked of somebody.
    #[must_use]
    pub fn forwards(&self) -> bool {
        self.external || !self.zone_resolvers.is_empty()
    }

    /// SOA MINIMUM of the zones beside `domain`: Mesos-DNS's own, where its quirks hold, is its own alone.
    #[must_use]
    pub fn negative_ttl_of_dcos(&self) -> u32 {
        if self.compat { self.dcos_ttl } else { self.negative_ttl }
    }

    /// Addresses of both families.
    pub fn all_addresses(&self) -> impl Iterator<Item = IpAddr> + '_ {
        let v4 = self.addresses.iter().map(|ip| IpAddr::V4(*ip));
        v4.chain(self.addresses6.iter().map(|ip| IpAddr::V6(*ip)))
    }
}

/// What unhealthy tasks do to answers.
#[derive(Clone, Copy, PartialEq, Eq, Debug, Default)]
pub enum DnsHealth {
    /// They are left out while there are healthy ones of the name.
    #[default]
    Prefer,
    /// They are left out.
    Require,
    /// They are answered.
    Ignore,
}

/// One `[[dns.zone]]`. Its records are text still: reading them takes more than this crate has.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct StaticZone {
    /// Apex, lower case, without dots at its ends.
    pub name: String,
    /// Master file.
    pub file: Option<PathBuf>,
    /// Lines of a master file.
    pub records: Vec<String>,
}

/// One of `dns.ip_sources`.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum IpSource {
    /// The agent's address.
    Host,
    /// The task's own addresses.
    NetInfo,
    /// The Mesos containerizer's label (Mesos state only).
    Mesos,
    /// Docker's address (Mesos state only).
    Docker,
}

/// `[overlay]`, our own place in it and what is known of the others without asking.
#[derive(Clone, Debug)]
pub struct Overlay {
    /// The VNI that every network shares (DC/OS: 1024).
    pub vni: Vni,
    /// Outer UDP port (DC/OS: 64000).
    pub udp_port: u16,
    /// Our VTEP address and the VTEP subnet.
    pub vtep: Ipv4Net,
    /// Our VTEP's MAC.
    pub vtep_mac: Mac,
    /// Underlay address of our VTEP; `None` takes the first address of the first underlay port.
    pub underlay: Option<Ipv4Addr>,
    /// Largest inner packet; `None` is the underlay's MTU less 50.
    pub mtu: Option<u16>,
    /// Whether, and how, agents get their places from us.
    pub leases: Option<LeaseDesk>,
    /// Whether packets are passed on between overlay and underlay.
    pub gateway: Gateway,
    /// Networks, by name in file order.
    pub networks: Vec<OverlayNetwork>,
    /// Agents given in the file.
    pub agents: Vec<OverlayAgent>,
}

/// `leases = true` of `[overlay]`.
#[derive(Clone, PartialEq, Eq, Debug, Default)]
pub struct LeaseDesk {
    /// File that keeps leases; `None` is one in the state folder.
    pub store: Option<PathBuf>,
    /// File of the word that agents must show; `None` asks for none.
    pub token_file: Option<PathBuf>,
}

/// One `[[overlay.network]]`.
#[derive(Clone, PartialEq, Eq, Debug, Default)]
pub struct OverlayNetwork {
    /// Name, as apps say it.
    pub name: String,
    /// All its container addresses.
    pub subnet: Ipv4Net,
    /// Prefix length of the part that each agent has.
    pub prefix: u8,
    /// Our own part (`own`), which holds the SNAT addresses and the host port's address.
    pub own: Option<Ipv4Net>,
    /// All its IPv6 addresses, where it has any.
    pub subnet6: Option<Ipv6Net>,
    /// Prefix length of the part of them that each agent has.
    pub prefix6: u8,
    /// Our own part of them.
    pub own6: Option<Ipv6Net>,
    /// Its VNI; `None` is the overlay's.
    pub vni: Option<Vni>,
    /// Its outer UDP port; `None` is the overlay's.
    pub udp_port: Option<u16>,
    /// Largest inner packet, where that is less than the overlay's. Networks with one VNI and port share the least.
    pub mtu: Option<u16>,
    /// Whether agents send to each other, or everything to us.
    pub mode: NetworkMode,
    /// Whether groups are enforced.
    pub isolation: Isolation,
    /// Underlay prefixes that may reach grouped containers.
    pub underlay_allow: Vec<IpNet>,
}

impl OverlayNetwork {
    /// Whether an address is one of its own.
    #[must_use]
    pub fn has(&self, ip: IpAddr) -> bool {
        match ip {
            IpAddr::V4(ip) => self.subnet.contains(&ip),
            IpAddr::V6(ip) => self.subnet6.is_some_and(|net| net.contains(&ip)),
        }
    }

    /// The UDP port and the VNI of the tunnels that it is in; `own` are the overlay's.
    #[must_use]
    pub fn tunnels(&self, own: (u16, Vni)) -> (u16, Vni) {
        (self.udp_port.unwrap_or(own.0), self.vni.unwrap_or(own.1))
    }

    /// Whether agents answer this SNAT address in the tunnels that the network is in.
    #[must_use]
    pub fn answers(&self, source: IpAddr, networks: &[Self], own: (u16, Vni)) -> bool {
        let home = networks.iter().find(|network| network.has(source));
        home.map_or(own, |network| network.tunnels(own)) == self.tunnels(own)
    }
}

/// `mode` of a network.
#[derive(Clone, Copy, PartialEq, Eq, Debug, Default)]
pub enum NetworkMode {
    /// Agents send to each other.
    #[default]
    Direct,
    /// Agents that run `sluice agent` send everything to us.
    Hub,
}

/// `gateway` of `[overlay]`.
#[derive(Clone, Copy, PartialEq, Eq, Debug, Default)]
pub enum Gateway {
    /// Not here.
    #[default]
    Off,
    /// As they are, both ways.
    Routed,
    /// What containers begin leaves with an address of `snat.underlay`; what begins outside is routed, its replies too.
    Masqueraded,
}

/// `isolation` of a network.
#[derive(Clone, Copy, PartialEq, Eq, Debug, Default)]
pub enum Isolation {
    /// Groups are enforced.
    #[default]
    Enforced,
    /// Groups are ignored.
    Open,
}

/// One agent's place in the overlay (`[[overlay.agent]]`, `/overlay-master/state`).
#[derive(Clone, PartialEq, Eq, PartialOrd, Ord, Debug)]
pub struct OverlayAgent {
    /// Its underlay address, the outer destination.
    pub ip: Ipv4Addr,
    /// Its VTEP address.
    pub vtep_ip: Ipv4Addr,
    /// Its VTEP's MAC, the inner destination.
    pub vtep_mac: Mac,
    /// Its container subnet in each network, by network name.
    pub subnets: BTreeMap<String, Ipv4Net>,
    /// The same of IPv6, in the networks that have it.
    pub subnets6: BTreeMap<String, Ipv6Net>,
}

/// `[api]`.
#[derive(Clone, Debug)]
pub struct Api {
    /// TCP address of metrics and health; `None` with `listen = ""`.
    pub listen: Option<SocketAddr>,
    /// Unix socket that `sluice show` asks.
    pub socket: PathBuf,
}

/// `[limits]`.
#[derive(Clone, Copy, Debug)]
pub struct Limits {
    /// Sessions per worker.
    pub sessions: usize,
    /// Masqueraded flows per worker, and as many that begin outside.
    pub masquerade: usize,
    /// Frames per worker.
    pub frames: u32,
    /// Entries of each AF_XDP ring, a power of two.
    pub rings: u32,
    /// Slots of each hand-over ring, a power of two.
    pub handover: usize,
    /// Services at once.
    pub services: usize,
    /// Backends at once.
    pub backends: usize,
    /// What is answered by the node itself.
    pub answers: AnswerRates,
}

/// What the packet path answers by itself (`[limits]`), a second over all workers; a tenth of it at once after a pause.
/// 0 is never.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct AnswerRates {
    /// Echo replies of VIPs.
    pub echo: u32,
    /// ICMP errors (RFC 1812 section 4.3.2.8, RFC 4443 section 2.4(f)).
    pub errors: u32,
    /// Resets of TCP, aborts of SCTP.
    pub resets: u32,
}

impl Default for AnswerRates {
    fn default() -> Self {
        Self { echo: 10_000, errors: 1000, resets: 10_000 }
    }
}

/// `[timeouts]`: how long an idle session is kept, whole seconds, at most [`Timeouts::MAX_SECONDS`].
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct Timeouts {
    /// TCP before the handshake is complete.
    pub tcp_half_open: u16,
    /// TCP established.
    pub tcp_established: u16,
    /// TCP after a FIN or RST.
    pub tcp_closing: u16,
    /// UDP.
    pub udp: u16,
    /// SCTP.
    pub sctp: u16,
    /// How long a SNAT port rests after the last packet of a TCP connection, before another one towards the same
    /// backend gets it: twice the longest life of a segment, as long as Linux keeps TIME-WAIT. 0: not at all.
    pub snat_rest: u16,
}

impl Timeouts {
    /// The session clock's half wrap (design.md section 2): nothing may be kept longer.
    pub const MAX_SECONDS: u16 = 3600;
}

impl Default for Timeouts {
    fn default() -> Self {
        Self { tcp_half_open: 10, tcp_established: 900, tcp_closing: 30, udp: 60, sctp: 120, snat_rest: 60 }
    }
}

/// `[host]`: the host port's two ends (design.md section 2).
#[derive(Clone, Debug)]
pub struct Host {
    /// The kernel's end, which carries addresses and routes.
    pub interface: String,
    /// Sluice's end, polled by the workers.
    pub peer: String,
    /// The kernel end's overlay addresses, one of each family in our own part of each network.
    pub addresses: Vec<IpNet>,
}

// ---------------------------------------------------------------------------------------------------------------
// What the packet path should do: the input of `Tables::compile`.

/// The whole state that the packet path should have: a pure function of configuration, sources and routes.
#[derive(Clone, Debug, Default)]
pub struct Desired {
    /// Equal on every node with equal inputs.
    pub shared: Shared,
    /// This node's own.
    pub local: Local,
}

/// What is equal on every node.
#[derive(Clone, Debug, Default)]
pub struct Shared {
    /// Key of every hash whose result nodes must agree on.
    pub hash_key: [u8; 16],
    /// Services, sorted by key, no key twice.
    pub services: Services,
    /// Whether a packet in the middle of a flow that has no session goes by the tables before, where they differ
    /// (`vip.second_chance`): the flow may come from another node.
    pub second_chance: bool,
    /// Authoritative zones, sorted by apex: as a whole, because a million names are not copied for a change elsewhere.
    pub zones: Arc<Vec<Zone>>,
    /// Overlay networks.
    pub networks: Vec<OverlayNetwork>,
    /// Remote VTEPs (never our own), sorted.
    pub agents: Vec<OverlayAgent>,
    /// Containers that have groups, sorted; absent means no group.
    pub containers: Vec<Container>,
}

/// A list of services. One that has not changed is the same allocation in the next list, by which it is known.
#[derive(Clone, PartialEq, Eq, Debug, Default)]
pub struct Services(Vec<Arc<Service>>);

impl Services {
    /// Adds one at the end.
    pub fn push(&mut self, service: impl Into<Arc<Service>>) {
        self.0.push(service.into());
    }

    /// To change them: each is another allocation wherever the list before is still held.
    pub fn iter_mut(&mut self) -> impl Iterator<Item = &mut Service> {
        self.0.iter_mut().map(Arc::make_mut)
    }
}

impl Deref for Services {
    type Target = [Arc<Service>];

    fn deref(&self) -> &Self::Target {
        &self.0
    }
}

impl Index<usize> for Services {
    type Output = Service;

    fn index(&self, at: usize) -> &Service {
        &self.0[at]
    }
}

/// A service that is changed is another allocation wherever the list before is still held.
impl IndexMut<usize> for Services {
    fn index_mut(&mut self, at: usize) -> &mut Service {
        Arc::make_mut(&mut self.0[at])
    }
}

impl<'a> IntoIterator for &'a Services {
    type Item = &'a Arc<Service>;
    type IntoIter = std::slice::Iter<'a, Arc<Service>>;

    fn into_iter(self) -> Self::IntoIter {
        self.0.iter()
    }
}

impl<S: Into<Arc<Service>>> Extend<S> for Services {
    fn extend<I: IntoIterator<Item = S>>(&mut self, services: I) {
        self.0.extend(services.into_iter().map(Into::into));
    }
}

impl<S: Into<Arc<Service>>> FromIterator<S> for Services {
    fn from_iter<I: IntoIterator<Item = S>>(services: I) -> Self {
        Self(services.into_iter().map(Into::into).collect())
    }
}

impl<S: Into<Arc<Service>>> From<Vec<S>> for Services {
    fn from(services: Vec<S>) -> Self {
        services.into_iter().collect()
    }
}

/// A load-balanced service.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct Service {
    /// Protocol, address and port.
    pub key: VipKey,
    /// DNS name without the zone suffix (`minitwit.marathon`), for named VIPs.
    pub name: Option<String>,
    /// Framework that claims it; `None` for static services.
    pub framework: Option<String>,
    /// How packets reach backends.
    pub mode: Mode,
    /// Who may use it, and how much of it there is.
    pub admission: Admission,
    /// What it answers without eligible backends.
    pub empty: Empty,
    /// Entries of its Maglev table; `None` goes by the number of backends.
    pub maglev_size: Option<u32>,
    /// How its backends are probed; `None`, in [`Config::services`] alone, is as in `[health]`.
    pub health: Option<HealthCheck>,
    /// Backends, sorted by address; draining ones have weight 0.
    pub backends: Vec<Backend>,
}

impl Service {
    /// A service without name, bounds or exceptions, in `nat` mode.
    #[must_use]
    pub fn plain(key: VipKey, backends: Vec<Backend>) -> Self {
        Self {
            key,
            name: None,
            framework: None,
            mode: Mode::Nat,
            admission: Admission::default(),
            empty: Empty::Reset,
            maglev_size: None,
            health: None,
            backends,
        }
    }
}

/// A real server.
#[derive(Clone, PartialEq, Eq, PartialOrd, Ord, Debug)]
pub struct Backend {
    /// Address and port that packets are sent to.
    pub address: SocketAddr,
    /// Overlay network that `address` lies in; `None` is the underlay.
    pub network: Option<String>,
    /// Share of new flows, 0 to 1000; 0 keeps old flows only.
    pub weight: u16,
    /// The agent that runs it.
    pub agent: Option<IpAddr>,
    /// Task id, for people.
    pub task: Option<String>,
    /// Isolation groups, sorted.
    pub groups: Vec<String>,
}

/// An overlay container that has groups.
#[derive(Clone, PartialEq, Eq, PartialOrd, Ord, Debug)]
pub struct Container {
    /// Its overlay address.
    pub ip: IpAddr,
    /// Its network.
    pub network: String,
    /// Its groups, sorted, not empty.
    pub groups: Vec<String>,
}

/// What is this node's own.
#[derive(Clone, PartialEq, Eq, Debug, Default)]
pub struct Local {
    /// Number of workers.
    pub workers: usize,
    /// Packet ports, in [`Config::ports`] order; the host port, if there is one, comes last.
    pub ports: Vec<LocalPort>,
    /// Index of the host port in `ports`.
    pub host_port: Option<usize>,
    /// MAC of the host port's far end, the kernel's.
    pub host_mac: Option<Mac>,
    /// Next hops whose MAC is known.
    pub neighbours: Vec<Neighbour>,
    /// Routes, connected ones included.
    pub routes: Vec<Route>,
    /// Source addresses towards underlay backends.
    pub snat_underlay: Vec<Ipv4Addr>,
    /// IPv6 source addresses towards underlay backends.
    pub snat_underlay6: Vec<Ipv6Addr>,
    /// Source addresses towards overlay backends.
    pub snat_overlay: Vec<Ipv4Addr>,
    /// IPv6 source addresses towards overlay backends.
    pub snat_overlay6: Vec<Ipv6Addr>,
    /// First and last SNAT port.
    pub snat_ports: (u16, u16),
    /// As [`Snat::quota`]; each worker has an equal part, rounded up.
    pub snat_quota: Option<u32>,
    /// Our VTEP.
    pub vtep: Option<OwnVtep>,
    /// Addresses that DNS is answered on.
    pub dns_addresses: Vec<Ipv4Addr>,
    /// IPv6 addresses that DNS is answered on.
    pub dns_addresses6: Vec<Ipv6Addr>,
    /// Serial of every SOA whose zone has none of its own.
    pub soa_serial: u32,
    /// On what terms names are answered.
    pub dns: LocalDns,
    /// Session time-outs.
    pub timeouts: Timeouts,
    /// What is answered by the node itself.
    pub answers: AnswerRates,
    /// Ways of probes to backends that must own their VIP, sorted by address.
    pub probes: Vec<ProbePath>,
}

/// A way that a probe from the node's kernel takes in a DSR mode, so that its answer proves that the backend owns the
/// VIP.
///
/// The kernel routes `address` to the host port. A packet that comes from there with this destination and the VIP's port
/// goes to `backend`: destination `vip`, a SNAT address as the source, in the encapsulation of `mode`. The answer, from
/// the VIP to the SNAT address, becomes one from `address` and goes to the host port.
#[derive(Clone, PartialEq, Eq, PartialOrd, Ord, Debug)]
pub struct ProbePath {
    /// Destination that the prober uses, of the VIP's family, in [`Health::probe_range`] or [`Health::probe_range6`]; kept
    /// as long as the pair of VIP and backend.
    pub address: IpAddr,
    /// The service.
    pub vip: VipKey,
    /// The backend.
    pub backend: SocketAddr,
    /// How the service's packets reach it.
    pub mode: Mode,
}

/// On what terms names are answered.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct LocalDns {
    /// Largest UDP answer offered by EDNS, octets.
    pub edns_max: u16,
    /// Whether TC is set on answers that were cut.
    pub truncate_bit: bool,
    /// Whether RA is set in answers.
    pub recursion_available: bool,
    /// What NSID is answered with (RFC 5001); empty: it is ignored.
    pub nsid: String,
    /// The first makes cookies (RFC 9018), all are taken; without one no cookie is good.
    pub cookie_secrets: Vec<[u8; 16]>,
    /// Who is believed to be who it says, and may have long answers at any rate.
    pub trusted: Vec<IpNet>,
    /// Whether the overlay's containers are, too.
    pub trust_overlay: bool,
    /// Answers a second to one prefix (/24, /56) of others that have no cookie; what is beyond is dropped or cut.
    pub responses_per_second: u32,
    /// Seconds since 1970 at the monotonic clock's zero, modulo 2^32: by it packets know how old a cookie is.
    pub epoch: u32,
    /// Whether questions about others' names are forwarded by the node's kernel and control.
    pub forward: bool,
}

impl Default for LocalDns {
    fn default() -> Self {
        Self {
            edns_max: 1232,
            truncate_bit: true,
            recursion_available: true,
            nsid: String::new(),
            cookie_secrets: Vec::new(),
            trusted: Vec::new(),
            trust_overlay: true,
            responses_per_second: 200,
            epoch: 0,
            forward: false,
        }
    }
}

impl Local {
    /// Every address that DNS is answered on.
    pub fn dns_addresses(&self) -> impl Iterator<Item = IpAddr> + Clone + '_ {
        let v4 = self.dns_addresses.iter().map(|ip| IpAddr::V4(*ip));
        v4.chain(self.dns_addresses6.iter().map(|ip| IpAddr::V6(*ip)))
    }

    /// Every SNAT address in the order of its index: underlay, overlay, IPv6's underlay, IPv6's overlay.
    pub fn snat_addresses(&self) -> impl Iterator<Item = IpAddr> + Clone + '_ {
        let v4 = self.snat_underlay.iter().chain(&self.snat_overlay).map(|ip| IpAddr::V4(*ip));
        v4.chain(self.snat_underlay6.iter().chain(&self.snat_overlay6).map(|ip| IpAddr::V6(*ip)))
    }
}

/// A packet port as the tables know it.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct LocalPort {
    /// Name.
    pub name: String,
    /// Our MAC on it.
    pub mac: Mac,
    /// The node's own addresses on it.
    pub addresses: Vec<Ipv4Net>,
    /// The node's own IPv6 addresses on it.
    pub addresses6: Vec<Ipv6Net>,
    /// Largest IP packet.
    pub mtu: u16,
    /// Which traffic is expected.
    pub role: Role,
    /// Whether ARP is answered here.
    pub arp: bool,
}

/// Our own VTEP.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct OwnVtep {
    /// Outer address.
    pub underlay: Ipv4Addr,
    /// VTEP address and subnet.
    pub vtep: Ipv4Net,
    /// Inner MAC.
    pub mac: Mac,
    /// VNI.
    pub vni: Vni,
    /// Outer UDP destination port.
    pub udp_port: u16,
    /// Largest inner packet.
    pub mtu: u16,
    /// Whether packets are passed on between overlay and underlay.
    pub gateway: Gateway,
    /// The kernel's addresses in the overlay (on the host port): packets to them go to the host.
    pub host_addresses: Vec<IpAddr>,
}
