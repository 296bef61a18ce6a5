//! Where tasks run: the agents of a lab (host ports in the agent's namespace, containers in namespaces of their own), or
//! one agent on the loopback address for tests that make no namespaces.
//!
//! On loopback a container's address is one of 127.9.0.0/16, which every Linux answers on; bridge mode there has no
//! bridge: the process listens on the host port itself.

use std::net::{Ipv4Addr, Ipv6Addr, TcpListener, UdpSocket};
use std::sync::atomic::{AtomicU16, Ordering};

use crate::cluster::LabError;
use crate::place::Place;
use crate::state::{LabState, StateError};
use crate::topology::{AgentEntry, Topology};
use crate::wiring::container::{self, Container, Redirect};

/// Mesos's default range is wider; this one keeps clear of the kernel's ephemeral ports (from 32768).
const HOST_PORTS: std::ops::RangeInclusive<u16> = 31_000..=32_000;
const MASTER: &str = "11111111-2222-3333-4444-555555555555";

/// The agents, and the lab whose folder holds claims and logs.
#[derive(Debug)]
pub(crate) struct Agents {
    pub(crate) state: LabState,
    /// None: loopback.
    pub(crate) topology: Option<Topology>,
    next_port: AtomicU16,
    next_container: AtomicU16,
}

/// What a task was given, to be given back.
#[derive(Debug, Default)]
pub(crate) struct Sandbox {
    pub(crate) host_ports: Vec<Option<u16>>,
    pub(crate) address: Option<Ipv4Addr>,
    pub(crate) address6: Option<Ipv6Addr>,
    container: Option<Container>,
    redirects: Vec<Redirect>,
    claims: Vec<String>,
    /// None: the lab's own namespace (loopback).
    pub(crate) place: Option<Place>,
}

impl Agents {
    pub(crate) fn new(state: LabState, topology: Option<Topology>) -> Self {
        // Emulators on loopback share their ports: each begins elsewhere.
        let spread = state.id().bytes().fold(0, |sum: u16, byte| sum.wrapping_mul(31).wrapping_add(byte.into()));
        Self { state, topology, next_port: AtomicU16::new(spread), next_container: AtomicU16::new(0) }
    }

    pub(crate) fn count(&self) -> usize {
        self.topology.as_ref().map_or(1, |topology| topology.agents.len())
    }

    /// The agent's address, which Marathon calls its host.
    pub(crate) fn host(&self, agent: usize) -> Ipv4Addr {
        self.entry(agent).map_or(Ipv4Addr::LOCALHOST, |(_, entry)| entry.address)
    }

    /// The agent's Mesos id.
    pub(crate) fn id(&self, agent: usize) -> String {
        format!("{MASTER}-S{agent}")
    }

    pub(crate) fn framework_id(&self, number: u16) -> String {
        format!("{MASTER}-{number:04}")
    }

    fn entry(&self, agent: usize) -> Option<(&Topology, &AgentEntry)> {
        let topology = self.topology.as_ref()?;
        Some((topology, topology.agents.get(agent)?))
    }

    /// Takes a host port that nobody has, neither a task of this lab nor another process.
    pub(crate) fn take_host_port(
        &self,
        agent: usize,
        fixed: Option<u16>,
        sandbox: &mut Sandbox,
    ) -> Result<u16, StateError> {
        let span = HOST_PORTS.end() - HOST_PORTS.start() + 1;
        let tries = if fixed.is_some() { 1 } else { span };
        for _ in 0..tries {
            let turn = self.next_port.fetch_add(1, Ordering::Relaxed) % span;
            let port = fixed.unwrap_or(HOST_PORTS.start() + turn);
            let claim = format!("{}-port-{port}", self.host(agent));
            if self.free(port) && container::claim(&self.state, &claim)? {
                sandbox.claims.push(claim);
                return Ok(port);
            }
        }
        Err(StateError::Full { what: format!("host port {fixed:?} of {HOST_PORTS:?} on {}", self.host(agent)) })
    }

    /// On loopback other programs share the ports; in a lab the claims say it all.
    fn free(&self, port: u16) -> bool {
        self.topology.is_some()
            || (TcpListener::bind((Ipv4Addr::LOCALHOST, port)).is_ok()
                && UdpSocket::bind((Ipv4Addr::LOCALHOST, port)).is_ok())
    }

    /// The agent itself: host mode.
    pub(crate) fn on_host(&self, agent: usize, sandbox: &mut Sandbox) {
        sandbox.address = Some(self.host(agent));
        sandbox.place = self.entry(agent).map(|(_, entry)| self.place(&entry.name));
    }

    /// A container of its own on the overlay.
    pub(crate) fn on_overlay(
        &self,
        agent: usize,
        network: &str,
        by_docker: bool,
        sandbox: &mut Sandbox,
    ) -> Result<(), LabError> {
        let Some((topology, entry)) = self.entry(agent) else {
            return self.on_loopback(sandbox);
        };
        if !entry.sluice_agent && topology.overlay.name != network {
            return Err(LabError::NoNetwork { network: network.to_owned(), known: topology.overlay.name.clone() });
        }
        let role = self.container_role(sandbox);
        let made = match entry.sluice_agent {
            true => container::by_cni(&self.state, entry, &role, network)?,
            false => container::on_overlay(&self.state, topology, entry, &role, by_docker)?,
        };
        self.enter(made, sandbox);
        Ok(())
    }

    /// A container behind the agent's docker0 or Mesos's bridge.
    pub(crate) fn on_bridge(&self, agent: usize, by_docker: bool, sandbox: &mut Sandbox) -> Result<(), LabError> {
        let Some((topology, entry)) = self.entry(agent) else {
            self.on_host(agent, sandbox);
            return Ok(());
        };
        let made = container::on_nat_bridge(&self.state, topology, entry, &self.container_role(sandbox), by_docker)?;
        self.enter(made, sandbox);
        Ok(())
    }

    /// Lets a host port of the agent lead to the task's container.
    pub(crate) fn redirect(&self, agent: usize, redirect: Redirect, sandbox: &mut Sandbox) -> Result<(), LabError> {
        if let (Some((_, entry)), Some(address)) = (self.entry(agent), sandbox.address) {
            container::redirect(&self.state, entry, address, redirect, true)?;
            sandbox.redirects.push(redirect);
        }
        Ok(())
    }

    /// Gives back all that a task had, in spite of failures: what cannot be removed goes with the lab.
    pub(crate) fn release(&self, agent: usize, sandbox: Sandbox) {
        if let (Some((_, entry)), Some(address)) = (self.entry(agent), sandbox.address) {
            for redirect in &sandbox.redirects {
                log_failure(container::redirect(&self.state, entry, address, *redirect, false));
            }
        }
        if let Some(container) = &sandbox.container {
            log_failure(container::remove(&self.state, container));
        }
        sandbox.claims.iter().for_each(|claim| container::release(&self.state, claim));
    }

    fn on_loopback(&self, sandbox: &mut Sandbox) -> Result<(), LabError> {
        for number in 2..u16::MAX {
            let [high, low] = number.to_be_bytes();
            let address = Ipv4Addr::new(127, 9, high, low);
            let claim = format!("loopback-{address}");
            if container::claim(&self.state, &claim)? {
                sandbox.claims.push(claim);
                sandbox.address = Some(address);
                return Ok(());
            }
        }
        Err(StateError::Full { what: "127.9.0.0/16".to_owned() }.into())
    }

    fn enter(&self, made: Container, sandbox: &mut Sandbox) {
        sandbox.address = Some(made.address);
        sandbox.address6 = made.address6;
        sandbox.place = Some(self.place(&made.role));
        sandbox.container = Some(made);
    }

    fn place(&self, role: &str) -> Place {
        Place {
            namespace: self.state.namespace(role),
            hostname: role.to_owned(),
            resolver: Some(self.state.file(crate::cluster::RESOLVER)),
        }
    }

    /// `t<n>`, unlike any other of this lab: two emulators share it.
    fn container_role(&self, sandbox: &mut Sandbox) -> String {
        loop {
            let number = self.next_container.fetch_add(1, Ordering::Relaxed);
            let role = format!("t{number}");
            // A folder that cannot be written fails with its own words in the next step.
            if container::claim(&self.state, &role).unwrap_or(true) {
                sandbox.claims.push(role.clone());
                return role;
            }
        }
    }
}

fn log_failure(result: Result<(), StateError>) {
    if let Err(error) = result {
        tracing::warn!(%error, "not given back");
    }
}
