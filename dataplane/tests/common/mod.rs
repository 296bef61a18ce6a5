//! A small cluster for tests of the packet path: one port, two agents, a service on each side, and packets for it.
#![allow(dead_code, reason = "each test file uses its own part")]
#![allow(unreachable_pub, reason = "a module of several test binaries")]
#![allow(clippy::unwrap_used, clippy::panic, reason = "clippy knows only #[test] functions as tests")]

pub mod icmp;
pub mod parts;
pub mod six;

use std::collections::BTreeMap;
use std::net::{IpAddr, Ipv4Addr, SocketAddr};
use std::sync::Arc;

use etherparse::PacketBuilder;
use sluice_config::model::*;
use sluice_dataplane::counters::Counters;
use sluice_dataplane::event::events;
use sluice_dataplane::family::Flows;
use sluice_dataplane::frame::Pool;
use sluice_dataplane::io::Port;
use sluice_dataplane::io::memory::MemoryPort;
use sluice_dataplane::mailbox::{Mailbox, Publisher};
use sluice_dataplane::tables::Tables;
use sluice_dataplane::tables::ids::Ids;
use sluice_dataplane::time::Nanos;
use sluice_dataplane::verdict::DropReason;
use sluice_dataplane::wake::Waker;
use sluice_dataplane::worker::{Setup, Worker, mesh};

pub const OURS: Mac = Mac([2, 0, 0, 0, 0, 9]);
pub const ROUTER: Mac = Mac([2, 0, 0, 0, 0, 1]);
pub const AGENT: [Mac; 2] = [Mac([2, 0, 0, 0, 0, 11]), Mac([2, 0, 0, 0, 0, 12])];
pub const VTEP: Mac = Mac([0x70, 0xb3, 0xd5, 0x80, 0, 9]);
pub const HOST: Mac = Mac([2, 0, 0, 0, 1, 1]);
pub const HOST_PEER: Mac = Mac([2, 0, 0, 0, 1, 2]);

pub const CLIENT: &str = "192.0.2.10";
pub const VIP: &str = "172.16.0.1";
pub const NAMED: &str = "11.45.193.125";

pub fn ip(text: &str) -> Ipv4Addr {
    text.parse().unwrap()
}

pub fn v4(text: &str) -> IpAddr {
    ip(text).into()
}

pub fn backend(address: &str, network: Option<&str>) -> Backend {
    let address: SocketAddr = address.parse().unwrap();
    Backend { address, network: network.map(Into::into), weight: 1, agent: None, task: None, groups: vec![] }
}

pub fn service(protocol: Protocol, vip: &str, port: u16, backends: Vec<Backend>) -> Service {
    let key = VipKey { protocol, ip: IpAddr::V4(ip(vip)), port };
    Service::plain(key, backends)
}

pub fn vtep_mac(n: u8) -> Mac {
    Mac([0x70, 0xb3, 0xd5, 0x80, 0, n])
}

fn agent(n: u8) -> OverlayAgent {
    OverlayAgent {
        ip: Ipv4Addr::new(10, 0, 0, 10 + n),
        vtep_ip: Ipv4Addr::new(44, 128, 0, 1 + n),
        vtep_mac: vtep_mac(1 + n),
        subnets: BTreeMap::from([("dcos".into(), format!("9.0.{n}.0/24").parse().unwrap())]),
        subnets6: BTreeMap::new(),
    }
}

/// Client behind the router 10.0.0.1; agents 10.0.0.11 and .12 on link; us 10.0.0.9, SNAT .100 and 9.0.9.2.
pub fn desired(workers: usize) -> Desired {
    let net = |text: &str| text.parse().unwrap();
    let neighbour = |address: &str, mac| Neighbour { ip: IpAddr::V4(ip(address)), mac, port: 0 };
    Desired {
        shared: Shared {
            hash_key: [7; 16],
            second_chance: false,
            services: vec![
                service(
                    Protocol::Tcp,
                    NAMED,
                    80,
                    vec![backend("9.0.1.2:80", Some("dcos")), backend("9.0.2.2:80", Some("dcos"))],
                ),
                service(
                    Protocol::Tcp,
                    VIP,
                    80,
                    vec![backend("10.0.0.11:31000", None), backend("10.0.0.12:31001", None)],
                ),
                service(Protocol::Udp, VIP, 53, vec![backend("10.0.0.11:5353", None)]),
                service(Protocol::Tcp, VIP, 81, vec![]),
            ]
            .into(),
            zones: Arc::default(),
            networks: vec![OverlayNetwork {
                name: "dcos".into(),
                subnet: net("9.0.0.0/8"),
                prefix: 24,
                own: Some(net("9.0.9.0/24")),
                isolation: Isolation::Enforced,
                ..OverlayNetwork::default()
            }],
            agents: vec![agent(1), agent(2)],
            containers: vec![],
        },
        local: Local {
            workers,
            ports: vec![
                LocalPort {
                    name: "eth0".into(),
                    mac: OURS,
                    addresses: vec![net("10.0.0.9/24")],
                    addresses6: vec![],
                    mtu: 1500,
                    role: Role::Both,
                    arp: true,
                },
                LocalPort {
                    name: "host".into(),
                    mac: HOST_PEER,
                    addresses: vec![],
                    addresses6: vec![],
                    mtu: 1450,
                    role: Role::Client,
                    arp: true,
                },
            ],
            host_port: Some(1),
            host_mac: Some(HOST),
            neighbours: vec![
                neighbour("10.0.0.1", ROUTER),
                neighbour("10.0.0.11", AGENT[0]),
                neighbour("10.0.0.12", AGENT[1]),
            ],
            routes: vec![
                Route { prefix: "10.0.0.0/24".parse().unwrap(), via: None, port: 0 },
                Route { prefix: "0.0.0.0/0".parse().unwrap(), via: Some(IpAddr::V4(ip("10.0.0.1"))), port: 0 },
            ],
            snat_underlay6: vec![],
            snat_underlay: vec![ip("10.0.0.100")],
            snat_overlay: vec![ip("9.0.9.2")],
            snat_overlay6: vec![],
            snat_quota: None,
            snat_ports: (1024, 65535),
            vtep: Some(OwnVtep {
                underlay: ip("10.0.0.9"),
                vtep: net("44.128.0.9/20"),
                mac: VTEP,
                vni: Vni::new(1024).unwrap(),
                udp_port: 64000,
                gateway: Gateway::Off,
                mtu: 1450,
                host_addresses: vec![v4("9.0.9.1")],
            }),
            dns_addresses: vec![ip("198.51.100.1")],
            soa_serial: 1,
            dns_addresses6: Vec::new(),
            dns: LocalDns { recursion_available: false, ..LocalDns::default() },
            timeouts: Timeouts::default(),
            probes: Vec::new(),
            answers: AnswerRates::default(),
        },
    }
}

/// The same without answers to what is dropped: every refusal is a counted drop.
pub fn quiet(mut desired: Desired) -> Desired {
    desired.local.answers = AnswerRates { echo: 0, errors: 0, resets: 0 };
    desired
}

/// Workers over memory ports, with what a test needs to feed and question them.
pub struct Machine<P = MemoryPort> {
    pub workers: Vec<Worker<P>>,
    pub publisher: Publisher,
    pub ids: Ids,
    pub tables: Arc<Tables>,
    pub now: Nanos,
    frames: usize,
}

impl Machine {
    pub fn new(desired: Desired) -> Self {
        Self::with_ports(desired, |_| MemoryPort::default())
    }

    /// With room for `sessions` of each family.
    pub fn with_room(desired: Desired, sessions: usize) -> Self {
        Self::with(desired, sessions, |_| MemoryPort::default())
    }
}

impl<P: Port> Machine<P> {
    pub fn with_ports(desired: Desired, port: impl FnMut(usize) -> P) -> Self {
        Self::with(desired, 4096, port)
    }

    fn with(desired: Desired, sessions: usize, mut port: impl FnMut(usize) -> P) -> Self {
        const FRAMES: u32 = 512;
        let count = desired.local.workers;
        let ports = desired.local.ports.len();
        let mut ids = Ids::new(64, 256, 10_000);
        let now = Nanos::from_seconds(1);
        let tables = Arc::new(Tables::compile(&Arc::new(desired), &mut ids, now, None).unwrap());
        let mailboxes: Vec<Mailbox> = (0..count).map(|_| Mailbox::default()).collect();
        let wakers: Vec<_> = (0..count).map(|_| Arc::new(Waker::new().unwrap())).collect();
        let mut publisher = Publisher::new(mailboxes.clone());
        publisher.publish(&tables);
        let workers = mailboxes
            .into_iter()
            .zip(mesh(&wakers, 256, 2048 - 256))
            .enumerate()
            .map(|(id, (mailbox, (inboxes, outboxes)))| {
                Worker::new(Setup {
                    id: id as u8,
                    ports: (0..ports).map(&mut port).collect(),
                    pool: Pool::heap(FRAMES, 2048),
                    mailbox,
                    counters: Arc::new(Counters::new(ports, 64, 256)),
                    events: events(),
                    flows: Arc::new(Flows::new(sessions, [3; 16]).masquerading(sessions, [3; 16])),
                    inboxes,
                    outboxes,
                })
            })
            .collect();
        Self { workers, publisher, ids, tables, now, frames: FRAMES as usize }
    }

    pub fn publish(&mut self, desired: Desired) {
        let tables = Tables::compile(&Arc::new(desired), &mut self.ids, self.now, Some(&self.tables)).unwrap();
        self.tables = Arc::new(tables);
        self.publisher.publish(&self.tables);
    }

    pub fn settle(&mut self) {
        let now = self.now;
        while self.workers.iter_mut().map(|w| w.turn(now)).sum::<usize>() > 0 {}
    }

    pub fn total(&self, count: impl Fn(&Counters) -> u64) -> u64 {
        self.workers.iter().map(|w| count(w.counters())).sum()
    }

    pub fn drops(&self, reason: DropReason) -> u64 {
        self.total(|c| c.drops(reason).get())
    }

    /// The books balance in every worker, and between them.
    pub fn check_books(&self) {
        for worker in &self.workers {
            let (came, went) = worker.counters().books();
            assert_eq!(came, went, "books of a worker");
        }
        assert_eq!(self.total(|c| c.given.get()), self.total(|c| c.taken.get()), "given and taken at rest");
        assert_eq!(
            self.total(|c| c.rx.get()),
            self.total(|c| c.tx.get() + c.host.get() + c.dropped() + c.held.get()),
            "rx = tx + host + drops + held"
        );
    }

    /// Every frame is back where it was, but for those that wait.
    pub fn check_frames(&mut self) {
        for worker in &mut self.workers {
            let held = worker.counters().held.get() as usize;
            let (_, pool) = worker.port(0).unwrap();
            assert_eq!(pool.free() + held, self.frames, "frames lost");
        }
    }
}

impl Machine<MemoryPort> {
    /// Feeds packets to a worker's port, lets everything come to rest, and returns what left each worker's ports as
    /// (port, packet). Books and frames are checked every time.
    pub fn feed(&mut self, worker: usize, port: usize, packets: &[Vec<u8>]) -> Vec<(usize, Vec<u8>)> {
        for packet in packets {
            let (memory, pool) = self.workers[worker].port(port).unwrap();
            assert!(memory.inject(pool, packet), "no frame for the test's packet");
        }
        self.settle();
        let mut left = vec![];
        for worker in &mut self.workers {
            for port in 0..2 {
                let (memory, pool) = worker.port(port).unwrap();
                left.extend(memory.collect(pool).into_iter().map(|p| (port, p)));
            }
        }
        self.check_books();
        self.check_frames();
        left
    }

    /// Feeds one packet of which exactly one must leave, by port 0.
    pub fn pass(&mut self, worker: usize, packet: Vec<u8>) -> Vec<u8> {
        let left = self.feed(worker, 0, &[packet]);
        let dropped: Vec<_> = DropReason::ALL.iter().filter(|r| self.drops(**r) > 0).collect();
        let [(0, packet)] = &left[..] else { panic!("{} packets left; drops so far {dropped:?}", left.len()) };
        packet.clone()
    }

    /// Feeds one packet that must end with `reason` and leave nothing.
    pub fn refuse(&mut self, worker: usize, port: usize, packet: Vec<u8>, reason: DropReason) {
        let before = self.drops(reason);
        let left = self.feed(worker, port, &[packet]);
        let now: Vec<_> = DropReason::ALL.iter().map(|r| (r.name(), self.drops(*r))).filter(|(_, n)| *n > 0).collect();
        assert_eq!((left.len(), self.drops(reason)), (0, before + 1), "expected {reason:?}; drops {now:?}");
    }
}

/// A TCP packet to us from the router.
pub fn tcp(source: (&str, u16), destination: (&str, u16), flags: &str) -> Vec<u8> {
    tcp_from(ROUTER, source, destination, flags)
}

pub fn tcp_from(mac: Mac, source: (&str, u16), destination: (&str, u16), flags: &str) -> Vec<u8> {
    let mut builder = PacketBuilder::ethernet2(mac.0, OURS.0)
        .ipv4(ip(source.0).octets(), ip(destination.0).octets(), 64)
        .tcp(source.1, destination.1, 1, 1000);
    for flag in flags.chars() {
        builder = match flag {
            'S' => builder.syn(),
            'A' => builder.ack(1),
            'F' => builder.fin(),
            'R' => builder.rst(),
            other => panic!("flag {other}"),
        };
    }
    let mut packet = vec![];
    builder.write(&mut packet, b"payload").unwrap();
    packet
}

pub fn udp(source: (&str, u16), destination: (&str, u16), payload: &[u8]) -> Vec<u8> {
    let builder = PacketBuilder::ethernet2(ROUTER.0, OURS.0)
        .ipv4(ip(source.0).octets(), ip(destination.0).octets(), 64)
        .udp(source.1, destination.1);
    let mut packet = vec![];
    builder.write(&mut packet, payload).unwrap();
    packet
}

pub fn ping(source: &str, destination: &str) -> Vec<u8> {
    let builder = PacketBuilder::ethernet2(ROUTER.0, OURS.0)
        .ipv4(ip(source).octets(), ip(destination).octets(), 64)
        .icmpv4_echo_request(1, 2);
    let mut packet = vec![];
    builder.write(&mut packet, b"echo").unwrap();
    packet
}

/// `inner` (from its Ethernet header on) in VXLAN from agent `n`, as Linux sends it.
pub fn vxlan(n: u8, vni: u32, inner: &[u8]) -> Vec<u8> {
    let mut payload = vec![8, 0, 0, 0];
    payload.extend((vni << 8).to_be_bytes());
    payload.extend(inner);
    payload[8..14].copy_from_slice(&VTEP.0);
    payload[14..20].copy_from_slice(&vtep_mac(1 + n).0);
    udp((&format!("10.0.0.{}", 10 + n), 40000), ("10.0.0.9", 64000), &payload)
}

/// Source and destination (address and port) of a packet from its Ethernet header on.
pub fn ends(packet: &[u8]) -> ((String, u16), (String, u16)) {
    let at = |i: usize| Ipv4Addr::from_bits(u32::from_be_bytes(packet[i..i + 4].try_into().unwrap())).to_string();
    let port = |i: usize| u16::from_be_bytes([packet[i], packet[i + 1]]);
    ((at(26), port(34)), (at(30), port(36)))
}

/// Panics unless IPv4 and transport checksums are right.
pub fn check_sums(packet: &[u8]) {
    use etherparse::{NetHeaders, PacketHeaders, TransportHeader};
    let headers = PacketHeaders::from_ethernet_slice(packet).unwrap();
    let Some(NetHeaders::Ipv4(header, _)) = &headers.net else { panic!("not IPv4") };
    assert_eq!(header.header_checksum, header.calc_header_checksum(), "IPv4 checksum");
    let payload = headers.payload.slice();
    match headers.transport {
        Some(TransportHeader::Tcp(tcp)) => {
            assert_eq!(tcp.checksum, tcp.calc_checksum_ipv4(header, payload).unwrap(), "TCP checksum");
        }
        Some(TransportHeader::Udp(udp)) if udp.checksum != 0 => {
            assert_eq!(udp.checksum, udp.calc_checksum_ipv4(header, payload).unwrap(), "UDP checksum");
        }
        Some(TransportHeader::Icmpv4(icmp)) => assert_eq!(icmp.checksum, icmp.icmp_type.calc_checksum(payload)),
        _ => {}
    }
}

/// An SCTP packet (RFC 9260) with its CRC32c, which is computed bit by bit.
pub fn sctp_packet(source: u16, destination: u16, tag: u32, chunks: &[u8]) -> Vec<u8> {
    let ports = [source.to_be_bytes(), destination.to_be_bytes()].concat();
    let mut bytes = [&ports[..], &tag.to_be_bytes(), &[0; 4], chunks].concat();
    let crc = !bytes.iter().fold(u32::MAX, |crc, octet| {
        (0..8).fold(crc ^ u32::from(*octet), |crc, _| if crc & 1 == 1 { crc >> 1 ^ 0x82f6_3b78 } else { crc >> 1 })
    });
    bytes[8..12].copy_from_slice(&crc.to_le_bytes());
    bytes
}

/// `sctp` in IP of either family, from the router.
pub fn ip_packet((source, destination): (&str, &str), sctp: &[u8]) -> Vec<u8> {
    let ethernet = PacketBuilder::ethernet2(ROUTER.0, OURS.0);
    let step = match (source.parse().unwrap(), destination.parse().unwrap()) {
        (IpAddr::V4(s), IpAddr::V4(d)) => ethernet.ipv4(s.octets(), d.octets(), 64),
        (IpAddr::V6(s), IpAddr::V6(d)) => ethernet.ipv6(s.octets(), d.octets(), 64),
        _ => panic!("two families"),
    };
    let mut packet = vec![];
    step.write(&mut packet, etherparse::ip_number::SCTP, sctp).unwrap();
    packet
}
