//! Takes interfaces and opens sockets: everything that may be refused before a thread runs.

use std::num::NonZeroU32;
use std::os::fd::AsFd;

use sluice_config::model::{Config, Host, Port, XdpMode};

use super::LaunchError;
use crate::frame::Pool;
use crate::io::card::Card;
use crate::io::steer::{Side, Steer};
use crate::io::xsk::{Bind, Gauge, WorkerUmem, XskError, XskPort, chunk_bytes};

/// A port as the launcher sees it: interface, program, sockets. The host port comes last.
pub(super) struct Line {
    pub(super) interface: String,
    pub(super) queues: Vec<u32>,
    pub(super) mode: XdpMode,
    pub(super) mtu: usize,
    pub(super) steer: Steer,
    pub(super) gauges: Vec<Gauge>,
}

pub(super) fn worker_count(ports: &[Port]) -> Result<usize, LaunchError> {
    let first = ports.first().filter(|p| !p.queues.is_empty()).ok_or(LaunchError::NoPort)?;
    let wanted = first.queues.len();
    match ports.iter().find(|p| p.queues.len() != wanted) {
        None => Ok(wanted),
        Some(port) => Err(LaunchError::Queues {
            port: port.name.clone(),
            count: port.queues.len(),
            first: first.name.clone(),
            wanted,
        }),
    }
}

pub(super) fn check_cores(cores: &[usize], workers: usize) -> Result<(), LaunchError> {
    if cores.is_empty() {
        return Ok(());
    }
    if cores.len() != workers {
        return Err(LaunchError::Cores { cores: cores.len(), workers });
    }
    let available: Vec<usize> = core_affinity::get_core_ids().into_iter().flatten().map(|core| core.id).collect();
    match cores.iter().find(|core| !available.contains(core)) {
        None => Ok(()),
        Some(core) => Err(LaunchError::Core { core: *core, available }),
    }
}

/// Reads and checks every interface, and loads its program.
pub(super) fn lines(config: &Config, workers: usize) -> Result<Vec<Line>, LaunchError> {
    let line = |interface: &str, queues: Vec<u32>, mode, side| {
        let card = Card::read(interface)?;
        card.check(&queues)?;
        if side != Side::Host {
            card.check_tags()?;
        }
        let steer = Steer::load(interface, side)?;
        Ok(Line { interface: interface.to_owned(), queues, mode, mtu: card.mtu, steer, gauges: Vec::new() })
    };
    let wire = |p: &Port| line(&p.interface, p.queues.clone(), p.mode, Side::Wire { arp: p.arp });
    let host = |h: &Host| line(&h.peer, (0..workers as u32).collect(), XdpMode::Copy, Side::Host);
    config.ports.iter().map(wire).chain(config.host.iter().map(host)).collect()
}

/// A worker's frames and its sockets, in port order.
pub(super) type Parts = (Pool, Vec<XskPort>);

/// Opens every socket: zero copy where every port can, else copied.
pub(super) fn open(config: &Config, lines: &mut [Line], workers: usize) -> Result<Vec<Parts>, LaunchError> {
    let copies = |l: &&Line| matches!(l.mode, XdpMode::Copy | XdpMode::Skb);
    let asks = config.ports.iter().find(|p| p.mode == XdpMode::ZeroCopy);
    let bind = match (asks, lines.iter().find(copies)) {
        (Some(port), Some(line)) => {
            return Err(LaunchError::ZeroCopy { port: port.name.clone(), other: line.interface.clone() });
        }
        (_, None) => Bind::ZeroCopy,
        (None, Some(_)) => Bind::Copy,
    };
    match open_all(config, lines, workers, bind) {
        Err(LaunchError::Xsk(XskError::NoZeroCopy { .. })) if asks.is_none() && bind == Bind::ZeroCopy => {
            open_all(config, lines, workers, Bind::Copy)
        }
        opened => opened,
    }
}

fn open_all(config: &Config, lines: &mut [Line], workers: usize, bind: Bind) -> Result<Vec<Parts>, LaunchError> {
    for line in lines.iter_mut() {
        line.gauges.clear();
    }
    (0..workers).map(|worker| open_worker(config, lines, worker, bind)).collect()
}

fn open_worker(config: &Config, lines: &mut [Line], worker: usize, bind: Bind) -> Result<Parts, LaunchError> {
    let frames = NonZeroU32::new(config.limits.frames).ok_or(LaunchError::NoFrames)?;
    let mtu = lines.iter().map(|l| l.mtu).max().unwrap_or_default();
    let (umem, mut pool) = WorkerUmem::new(frames, chunk_bytes(mtu)?, config.limits.rings)?;
    // One share stays free for what transmits and for packets from other workers.
    let share = pool.count() / (lines.len() + 1);
    let mut ports = Vec::with_capacity(lines.len());
    for line in lines {
        let queue = line.queues[worker];
        let mut port = XskPort::open(&umem, &line.interface, queue, share, bind)?;
        port.prime(&mut pool);
        line.steer.register(queue, &port.as_fd())?;
        line.gauges.push(port.gauge().map_err(|source| LaunchError::Io { what: "socket descriptor", source })?);
        ports.push(port);
    }
    Ok((pool, ports))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn port(name: &str, queues: &[u32]) -> Port {
        Port {
            name: name.to_owned(),
            interface: name.to_owned(),
            queues: queues.to_vec(),
            mode: XdpMode::Auto,
            mac: None,
            addresses: Vec::new(),
            addresses6: Vec::new(),
            role: sluice_config::model::Role::Both,
            mtu: None,
            arp: true,
        }
    }

    #[test]
    fn every_port_must_have_as_many_queues() {
        assert_eq!(worker_count(&[port("a", &[0, 1]), port("b", &[2, 3])]).unwrap(), 2);
        assert_eq!(
            worker_count(&[port("a", &[0, 1]), port("b", &[0])]).unwrap_err().to_string(),
            "port b has 1 queue(s) but port a has 2: every port needs as many, one for each worker"
        );
        assert!(matches!(worker_count(&[]), Err(LaunchError::NoPort)));
        assert!(matches!(worker_count(&[port("a", &[])]), Err(LaunchError::NoPort)));
    }

    #[test]
    fn cores_that_are_not_there_are_refused() {
        assert!(check_cores(&[], 2).is_ok());
        assert!(matches!(check_cores(&[0], 2), Err(LaunchError::Cores { cores: 1, workers: 2 })));
        assert!(matches!(check_cores(&[100_000], 1), Err(LaunchError::Core { core: 100_000, .. })));
    }
}
