//! The world that is measured: one card and a host port, five VIPs of 100 backends each (`nat` over IPv4 and IPv6,
//! `dsr-ipip` to the underlay, `nat` and `dsr-vxlan` to the overlay), ten agents, a grouped container so that isolation is asked for every packet, and a zone of 1,000 names.

use std::collections::BTreeMap;
use std::net::{IpAddr, Ipv4Addr, Ipv6Addr, SocketAddr};
use std::sync::Arc;

use anyhow::{Context as _, Result};
use ipnet::{IpNet, Ipv4Net, Ipv6Net};
use sluice_config::model::{
    AnswerRates, Backend, Container, Desired, Gateway, Isolation, Local, LocalDns, LocalPort, Mac, Mode, Neighbour,
    OverlayAgent, OverlayNetwork, OwnVtep, Protocol, Record, RecordData, Role, Route, Service, Shared, Timeouts,
    VipKey, Vni, Zone,
};
use sluice_dataplane::tables::Tables;
use sluice_dataplane::tables::ids::Ids;
use sluice_dataplane::time::Nanos;

/// Backends of each VIP.
pub const BACKENDS: u8 = 100;
/// Names in the zone `mesos`.
pub const NAMES: u32 = 1000;

/// Our MAC on the card.
pub const OUR_MAC: Mac = Mac([2, 0, 0, 0, 0, 1]);
/// The router between clients and us.
pub const ROUTER_MAC: Mac = Mac([2, 0, 0, 0, 1, 1]);
/// Our MAC on the host port.
pub const HOST_PORT_MAC: Mac = Mac([2, 0, 0, 0, 0, 2]);
/// The kernel's MAC behind the host port.
pub const KERNEL_MAC: Mac = Mac([2, 0, 0, 0, 0, 3]);

/// Our address on the card, and of our VTEP.
pub const OURS: Ipv4Addr = Ipv4Addr::new(10, 0, 0, 9);
/// The router.
pub const ROUTER: Ipv4Addr = Ipv4Addr::new(10, 0, 0, 1);
/// Where DNS is answered.
pub const DNS: Ipv4Addr = Ipv4Addr::new(10, 0, 0, 53);
/// The same over IPv6.
pub const DNS6: Ipv6Addr = underlay6(0, 0x53);
/// The VIP whose backends are on the underlay.
pub const VIP: (Ipv4Addr, u16) = (Ipv4Addr::new(11, 0, 0, 1), 80);
/// The VIP whose backends are on the overlay.
pub const OVERLAY_VIP: (Ipv4Addr, u16) = (Ipv4Addr::new(11, 0, 0, 2), 80);
/// The VIP in mode `dsr-ipip`, whose backends are on the underlay.
pub const IPIP_VIP: (Ipv4Addr, u16) = (Ipv4Addr::new(11, 0, 0, 3), 80);
/// The VIP in mode `dsr-vxlan`, whose backends are on the overlay.
pub const VXLAN_VIP: (Ipv4Addr, u16) = (Ipv4Addr::new(11, 0, 0, 4), 80);
/// The IPv6 VIP, whose backends are on the underlay.
pub const VIP6: (Ipv6Addr, u16) = (underlay6(0xc, 1), 80);
/// Where containers' traffic comes from: the first agent and its first container.
pub const AGENT: (Ipv4Addr, Mac, Ipv4Addr) =
    (Ipv4Addr::new(10, 0, 1, 1), Mac([0x70, 0xb3, 0xd5, 0x80, 0, 1]), Ipv4Addr::new(9, 0, 101, 2));
/// Our VTEP's MAC.
pub const VTEP_MAC: Mac = Mac([0x70, 0xb3, 0xd5, 0x80, 0, 9]);
/// Outer UDP port of VXLAN.
pub const VXLAN_PORT: u16 = 64000;
/// An address of the underlay's IPv6 /48: subnet and host.
const fn underlay6(subnet: u16, host: u16) -> Ipv6Addr {
    Ipv6Addr::new(0x2001, 0xdb8, 1, subnet, 0, 0, 0, host)
}

/// Index of the host port.
pub const HOST_PORT: usize = 1;

/// The compiled tables for that many workers.
///
/// # Errors
/// When this world does not compile, which is a defect of this file.
pub fn tables(workers: usize) -> Result<Arc<Tables>> {
    tables_with(workers, vec![zone()])
}

/// The same with these zones.
///
/// # Errors
/// As [`tables`].
pub fn tables_with(workers: usize, zones: Vec<Zone>) -> Result<Arc<Tables>> {
    let mut desired = desired(workers)?;
    desired.shared.zones = Arc::new(zones);
    let desired = Arc::new(desired);
    let tables = Tables::compile(&desired, &mut Ids::new(1024, 65536, 0), Nanos::default(), None)?;
    Ok(Arc::new(tables))
}

/// What they are compiled from.
///
/// # Errors
/// As [`tables`].
pub fn desired(workers: usize) -> Result<Desired> {
    Ok(Desired { shared: shared()?, local: local(workers)? })
}

/// The same for one worker with every service in this mode, their backends on the VIP's port.
///
/// # Errors
/// As [`tables`].
pub fn tables_in(mode: Mode) -> Result<Arc<Tables>> {
    let mut desired = desired(1)?;
    for service in desired.shared.services.iter_mut() {
        service.mode = mode;
        for backend in &mut service.backends {
            backend.address.set_port(service.key.port);
        }
    }
    Ok(Arc::new(Tables::compile(&Arc::new(desired), &mut Ids::new(1024, 65536, 0), Nanos::default(), None)?))
}

fn shared() -> Result<Shared> {
    let numbers = || 0..BACKENDS;
    let on_underlay = |port| numbers().map(move |n| backend(Ipv4Addr::new(10, 0, 0, 101 + n), port, None)).collect();
    let on_overlay = |port| {
        let address = |n: u8| Ipv4Addr::new(9, 0, 101 + n / 10, 10 + n % 10);
        numbers().map(|n| backend(address(n), port, Some("dcos"))).collect()
    };
    let on_underlay6 = numbers().map(|n| backend(underlay6(0, 0x101 + u16::from(n)), 31001, None)).collect();
    let mut services = vec![
        service(VIP, Mode::Nat, on_underlay(31001)),
        service(OVERLAY_VIP, Mode::Nat, on_overlay(31001)),
        service(IPIP_VIP, Mode::DsrIpip, on_underlay(IPIP_VIP.1)),
        service(VXLAN_VIP, Mode::DsrVxlan, on_overlay(VXLAN_VIP.1)),
        service(VIP6, Mode::Nat, on_underlay6),
    ];
    services.sort_by_key(|service| service.key);
    Ok(Shared {
        hash_key: *b"sluice-perf-key!",
        services: services.into(),
        zones: Arc::new(vec![zone()]),
        networks: vec![network()?],
        agents: (0..10).map(agent).collect::<Result<_>>()?,
        containers: vec![Container {
            ip: Ipv4Addr::new(9, 0, 101, 200).into(),
            network: "dcos".to_owned(),
            groups: vec!["blue".to_owned()],
        }],
        second_chance: false,
    })
}

fn service((ip, port): (impl Into<IpAddr>, u16), mode: Mode, backends: Vec<Backend>) -> Service {
    let key = VipKey { protocol: Protocol::Tcp, ip: ip.into(), port };
    Service { mode, ..Service::plain(key, backends) }
}

fn backend(ip: impl Into<IpAddr>, port: u16, network: Option<&str>) -> Backend {
    Backend {
        address: SocketAddr::new(ip.into(), port),
        network: network.map(str::to_owned),
        weight: 1,
        agent: None,
        task: None,
        groups: Vec::new(),
    }
}

fn network() -> Result<OverlayNetwork> {
    Ok(OverlayNetwork {
        name: "dcos".to_owned(),
        subnet: net(Ipv4Addr::new(9, 0, 0, 0), 8)?,
        prefix: 24,
        own: Some(net(Ipv4Addr::new(9, 0, 9, 0), 24)?),
        isolation: Isolation::Enforced,
        ..OverlayNetwork::default()
    })
}

fn agent(n: u8) -> Result<OverlayAgent> {
    Ok(OverlayAgent {
        ip: Ipv4Addr::new(10, 0, 1, 1 + n),
        vtep_ip: Ipv4Addr::new(44, 128, 1, 1 + n),
        vtep_mac: Mac([0x70, 0xb3, 0xd5, 0x80, 0, 1 + n]),
        subnets: BTreeMap::from([("dcos".to_owned(), net(Ipv4Addr::new(9, 0, 101 + n, 0), 24)?)]),
        subnets6: BTreeMap::new(),
    })
}

fn zone() -> Zone {
    let address = |n: u32| Ipv4Addr::from_bits(Ipv4Addr::new(10, 0, 4, 0).to_bits() + n);
    let records: Vec<_> =
        (0..NAMES).map(|n| Record { name: name(n), ttl: 60, data: RecordData::A(address(n)) }).collect();
    Zone { records: records.into(), ..Zone::new("mesos", "ns1.mesos") }
}

/// The `n`th name of the zone, without the final dot.
#[must_use]
pub fn name(n: u32) -> String {
    format!("app-{n}.marathon.mesos")
}

fn local(workers: usize) -> Result<Local> {
    let backends = (0..BACKENDS).map(|n| neighbour(Ipv4Addr::new(10, 0, 0, 101 + n), 2, n));
    let backends6 = (0..BACKENDS).map(|n| neighbour(underlay6(0, 0x101 + u16::from(n)), 2, n));
    let agents = (0..10).map(|n| neighbour(Ipv4Addr::new(10, 0, 1, 1 + n), 3, n));
    let router6 = Neighbour { ip: underlay6(0, 1).into(), mac: ROUTER_MAC, port: 0 };
    let router = Neighbour { ip: ROUTER.into(), mac: ROUTER_MAC, port: 0 };
    let on_link = Route { prefix: net(Ipv4Addr::new(10, 0, 0, 0), 16)?.into(), via: None, port: 0 };
    let on_link6 = Route { prefix: Ipv6Net::new(underlay6(0, 0), 64)?.into(), via: None, port: 0 };
    let default6 = Route { prefix: IpNet::V6(Ipv6Net::default()), via: Some(router6.ip), port: 0 };
    let default = Route { prefix: net(Ipv4Addr::UNSPECIFIED, 0)?.into(), via: Some(IpAddr::V4(ROUTER)), port: 0 };
    Ok(Local {
        workers,
        ports: vec![
            LocalPort { addresses6: vec![Ipv6Net::new(underlay6(0, 9), 64)?], ..port("uplink", OUR_MAC, OURS, 16)? },
            port("host", HOST_PORT_MAC, Ipv4Addr::new(9, 0, 9, 1), 24)?,
        ],
        host_port: Some(HOST_PORT),
        host_mac: Some(KERNEL_MAC),
        neighbours: [router, router6].into_iter().chain(backends).chain(backends6).chain(agents).collect(),
        routes: vec![on_link, default, on_link6, default6],
        // Four of each: a million flows to one VIP leave most ports of a backend free.
        snat_underlay: (201..=204).map(|n| Ipv4Addr::new(10, 0, 2, n)).collect(),
        snat_underlay6: (0x201..=0x204).map(|n| underlay6(2, n)).collect(),
        snat_overlay: (2..=5).map(|n| Ipv4Addr::new(9, 0, 9, n)).collect(),
        snat_overlay6: Vec::new(),
        snat_quota: None,
        snat_ports: (1024, 65535),
        vtep: Some(OwnVtep {
            underlay: OURS,
            vtep: net(Ipv4Addr::new(44, 128, 0, 9), 20)?,
            mac: VTEP_MAC,
            vni: Vni::new(1024).context("1024 is a VNI")?,
            udp_port: VXLAN_PORT,
            gateway: Gateway::Off,
            mtu: 1450,
            host_addresses: vec![Ipv4Addr::new(9, 0, 9, 1).into()],
        }),
        dns_addresses: vec![DNS],
        soa_serial: 1,
        dns_addresses6: vec![DNS6],
        // Who asks here is known: the benchmarks' own range.
        dns: LocalDns {
            trusted: vec![net(Ipv4Addr::new(198, 18, 0, 0), 15)?.into(), IpNet::V6(Ipv6Net::default())],
            ..LocalDns::default()
        },
        probes: Vec::new(),
        // Established sessions outlast the time that passes between runs (`vip-nat-new-flow`).
        timeouts: Timeouts { tcp_established: Timeouts::MAX_SECONDS, ..Timeouts::default() },
        // More than are ever asked for at once, so that what is counted does not hang on time.
        answers: AnswerRates { echo: 100_000, errors: 100_000, resets: 100_000 },
    })
}

fn port(name: &str, mac: Mac, address: Ipv4Addr, prefix: u8) -> Result<LocalPort> {
    let addresses = vec![net(address, prefix)?];
    Ok(LocalPort {
        name: name.to_owned(),
        mac,
        addresses,
        addresses6: Vec::new(),
        mtu: 1500,
        role: Role::Both,
        arp: true,
    })
}

fn neighbour(ip: impl Into<IpAddr>, block: u8, n: u8) -> Neighbour {
    Neighbour { ip: ip.into(), mac: Mac([2, 0, 0, block, 0, n]), port: 0 }
}

fn net(address: Ipv4Addr, prefix: u8) -> Result<Ipv4Net> {
    Ok(Ipv4Net::new(address, prefix)?)
}
