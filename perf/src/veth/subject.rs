//! What is measured: the plain echo, and the launched packet path with one service.

use std::net::{Ipv4Addr, SocketAddr};
use std::sync::Arc;

use anyhow::{Result, bail};
use clap::ValueEnum;
use sluice_config::model::{
    Backend, Config, Desired, LocalPort, Mac, Mode, Neighbour, Protocol, Role, Route, Service, VipKey,
};
use sluice_dataplane::launch::{Dataplane, launch};
use sluice_dataplane::tables::Tables;
use sluice_dataplane::tables::ids::Ids;
use sluice_dataplane::time::Nanos;

use super::echo::{self, Echo};
use super::wire::{INTERFACE, cpu_ns_of};

pub(super) const OUR_MAC: Mac = Mac([2, 0, 0, 0, 0, 1]);
pub(super) const CLIENT_MAC: Mac = Mac([2, 0, 0, 0, 0, 2]);
pub(super) const CLIENT: Ipv4Addr = Ipv4Addr::new(10, 9, 0, 2);
pub(super) const VIP: (Ipv4Addr, u16) = (Ipv4Addr::new(11, 0, 0, 1), 8080);
/// Sizes of UMEM and rings, the configuration's defaults.
pub(super) const FRAMES: u32 = 8192;
/// See [`FRAMES`].
pub(super) const RINGS: u32 = 2048;
/// Where the measured thread is, and where the generator is with all of the receive side's interrupts: a transmit's
/// are taken where it is made.
pub(super) const CORE: usize = 0;
/// See [`CORE`].
pub(super) const GENERATOR_CORE: usize = 1;
/// As many as in `sluice-bench pipeline`.
const BACKENDS: u8 = 100;

/// What runs on `s0`.
#[derive(Clone, Copy, PartialEq, Eq, Debug, ValueEnum)]
pub enum Subject {
    /// The frame goes back with its MACs swapped.
    Echo,
    /// A service in mode `nat`.
    Nat,
    /// A service in mode `dsr-ipip`.
    DsrIpip,
}

/// A subject that runs until it is dropped.
pub(super) enum Running {
    Echo(#[expect(dead_code, reason = "kept running")] Box<Echo>),
    Sluice(Box<Dataplane>),
}

impl Subject {
    /// As the configuration calls it.
    #[must_use]
    pub fn name(self) -> &'static str {
        match self {
            Self::Echo => "echo",
            Self::Nat => Mode::Nat.name(),
            Self::DsrIpip => Mode::DsrIpip.name(),
        }
    }

    pub(super) fn start(self) -> Result<Running> {
        let mode = match self {
            Self::Echo => return Ok(Running::Echo(Box::new(Echo::start()?))),
            Self::Nat => Mode::Nat,
            Self::DsrIpip => Mode::DsrIpip,
        };
        let tables = Tables::compile(&Arc::new(desired(mode)?), &mut Ids::new(64, 1024, 0), Nanos::default(), None)?;
        Ok(Running::Sluice(Box::new(launch(&config("adaptive")?, &Arc::new(tables))?)))
    }
}

impl Running {
    /// CPU time of the thread that moves packets, nanoseconds.
    pub(super) fn cpu_ns(&self) -> Result<u64> {
        match self {
            Self::Echo(_) => cpu_ns_of(echo::THREAD),
            Self::Sluice(dataplane) if dataplane.alive() => cpu_ns_of("sluice-w0"),
            Self::Sluice(_) => bail!("the worker has ended"),
        }
    }
}

pub(super) fn config(idle: &str) -> Result<Config> {
    let text = format!(
        "[[port]]\nname = \"front\"\ninterface = \"{INTERFACE}\"\nqueues = [0]\nmode = \"copy\"\n\
         addresses = [\"10.9.0.1/16\"]\n\n[workers]\ncores = [{CORE}]\nidle = \"{idle}\"\n\n[limits]\nframes = {FRAMES}\nrings = {RINGS}\n"
    );
    // The host port would be another veth that control makes.
    Ok(Config { host: None, ..sluice_config::parse(&text, "veth.toml")? })
}

/// One service of many backends, all of them behind the sink's MAC.
fn desired(mode: Mode) -> Result<Desired> {
    let backend = |n: u8| Backend {
        address: SocketAddr::from((Ipv4Addr::new(10, 9, 1, n), VIP.1)),
        network: None,
        weight: 1,
        agent: None,
        task: None,
        groups: Vec::new(),
    };
    let key = VipKey { protocol: Protocol::Udp, ip: VIP.0.into(), port: VIP.1 };
    let service = Service { mode, ..Service::plain(key, (0..BACKENDS).map(backend).collect()) };
    let mut desired = on_wire()?;
    desired.shared.services = vec![service].into();
    let local = &mut desired.local;
    local.snat_underlay = vec![Ipv4Addr::new(10, 9, 2, 1)];
    local.snat_ports = (1024, 65535);
    let neighbour = |n: u8| Neighbour { ip: Ipv4Addr::new(10, 9, 1, n).into(), mac: CLIENT_MAC, port: 0 };
    local.neighbours = (0..BACKENDS).map(neighbour).collect();
    Ok(desired)
}

/// One worker on `s0`.
pub(super) fn on_wire() -> Result<Desired> {
    let mut desired = Desired::default();
    let local = &mut desired.local;
    local.workers = 1;
    local.ports = vec![LocalPort {
        name: "front".to_owned(),
        mac: OUR_MAC,
        addresses: vec!["10.9.0.1/16".parse()?],
        addresses6: Vec::new(),
        mtu: 1500,
        role: Role::Both,
        arp: true,
    }];
    local.routes = vec![Route { prefix: "10.9.0.0/16".parse()?, via: None, port: 0 }];
    Ok(desired)
}
