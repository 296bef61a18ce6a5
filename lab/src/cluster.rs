//! One running cluster. Dropping a [`Lab`] removes it, on a panic too; [`Lab::detach`] leaves it for `down`.

use std::fs::{self, File};
use std::io;
use std::net::SocketAddr;
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Output, Stdio};
use std::time::Duration;

use crate::http::{self, Answer};
use crate::marathon::Dialect;
use crate::node_config;
use crate::place::{self, Place};
use crate::programs::{self, NotFound};
use crate::state::{LabState, StateError};
use crate::topology::{Topology, TopologyError};
use crate::wiring;

/// The topology of a lab, in its folder.
const TOPOLOGY: &str = "topology.json";
pub(crate) const RESOLVER: &str = "resolv.conf";

/// A cluster that is up.
#[derive(Debug)]
pub struct Lab {
    state: LabState,
    topology: Topology,
    kept: bool,
}

/// What may differ from lab to lab beside the topology.
#[derive(Debug, Clone, Default)]
pub struct Options {
    /// Leave it when the [`Lab`] is dropped.
    pub keep: bool,
}

/// Why a lab could not be made or asked.
#[derive(Debug, thiserror::Error)]
pub enum LabError {
    #[error("the lab makes network namespaces, which needs root: run it as root (sudo)")]
    NotRoot,
    #[error(transparent)]
    Topology(#[from] TopologyError),
    #[error(transparent)]
    State(#[from] StateError),
    #[error(transparent)]
    NotFound(#[from] NotFound),
    #[error("no node or container `{role}` in this lab; there are: {roles}")]
    NoRole { role: String, roles: String },
    #[error("Sluice is not ready: {why}; the end of its log {log}:\n{tail}")]
    NotReady { why: String, log: PathBuf, tail: String },
    #[error("no Marathon `{framework}` in this lab's topology: add a [[marathon]] with that framework")]
    NoFramework { framework: String },
    #[error("no Mesos master in this lab's topology: add [mesos] with its port")]
    NoMesos,
    #[error("no overlay network `{network}`; this lab has `{known}`")]
    NoNetwork { network: String, known: String },
    #[error("{what}: {source}")]
    Io { what: String, source: io::Error },
    #[error("{path} is not the record of a lab ({source}); remove it with `sluice-lab down`")]
    Record { path: PathBuf, source: serde_json::Error },
}

impl Lab {
    /// Makes the namespaces, the links and the overlay, and writes Sluice's configuration file. Starts nothing.
    pub fn up(topology: &Topology, options: &Options) -> Result<Self, LabError> {
        if !nix::unistd::geteuid().is_root() {
            return Err(LabError::NotRoot);
        }
        let state = LabState::create()?;
        let lab = Self { state, topology: topology.clone(), kept: options.keep };
        lab.write_files()?;
        wiring::build(&lab.state, &lab.topology)?;
        Ok(lab)
    }

    /// A lab that somebody else brought up; dropping this leaves it.
    pub fn open(state: LabState) -> Result<Self, LabError> {
        let path = state.file(TOPOLOGY);
        let text = fs::read(&path).map_err(|source| LabError::Io { what: path.display().to_string(), source })?;
        let topology = serde_json::from_slice(&text).map_err(|source| LabError::Record { path, source })?;
        Ok(Self { state, topology, kept: true })
    }

    fn write_files(&self) -> Result<(), LabError> {
        let topology = serde_json::to_string_pretty(&self.topology)
            .map_err(|source| LabError::Record { path: self.state.file(TOPOLOGY), source })?;
        self.write(TOPOLOGY, &topology)?;
        self.write(node_config::FILE, &node_config::render(&self.state, &self.topology))?;
        self.write(node_config::TOKEN, "a word that the agents of a lab show\n".replace(' ', "-").as_str())?;
        for agent in self.topology.agents.iter().filter(|agent| agent.sluice_agent) {
            self.write(&agent_file(&agent.name), &node_config::render_agent(&self.state, &self.topology, agent))?;
        }
        let servers = self.topology.sluice.dns.iter().map(|a| format!("nameserver {a}\n"));
        self.write(RESOLVER, &(servers.collect::<String>() + "options timeout:2 attempts:2\n"))
    }

    fn write(&self, name: &str, text: &str) -> Result<(), LabError> {
        let path = self.state.file(name);
        fs::write(&path, text).map_err(|source| LabError::Io { what: path.display().to_string(), source })
    }

    /// The lab's id, folder and namespaces.
    #[must_use]
    pub fn state(&self) -> &LabState {
        &self.state
    }

    /// What it was made from.
    #[must_use]
    pub fn topology(&self) -> &Topology {
        &self.topology
    }

    /// Sluice's configuration file.
    #[must_use]
    pub fn sluice_config(&self) -> PathBuf {
        self.state.file(node_config::FILE)
    }

    /// Sluice's unix socket, as the configuration file names it.
    #[must_use]
    pub fn sluice_socket(&self) -> PathBuf {
        self.state.file(node_config::SOCKET)
    }

    /// A command that will run in the namespace of a role: `client`, `sluice`, `fabric`, `master`, an agent, a
    /// container.
    pub fn command(&self, role: &str, program: &str) -> Result<Command, LabError> {
        Ok(self.place(role)?.command(program))
    }

    /// Where a role's processes run.
    pub fn place(&self, role: &str) -> Result<Place, LabError> {
        let roles = self.state.roles();
        if !roles.iter().any(|r| r == role) {
            return Err(LabError::NoRole { role: role.to_owned(), roles: roles.join(", ") });
        }
        let resolver = Some(self.state.file(RESOLVER));
        Ok(Place { namespace: self.state.namespace(role), hostname: role.to_owned(), resolver })
    }

    /// Runs a command in a role's namespace to its end and gives what it printed.
    pub fn exec(&self, role: &str, words: &[&str]) -> Result<Output, LabError> {
        let (program, arguments) = words.split_first().unwrap_or((&"true", &[]));
        let mut command = self.command(role, program)?;
        command.args(arguments).output().map_err(|source| LabError::Io { what: words.join(" "), source })
    }

    /// Starts a command in a role's namespace, its output going to `logs/<name>.log`; it ends with the lab.
    pub fn start(&self, role: &str, name: &str, program: &Path, arguments: &[&str]) -> Result<Child, LabError> {
        let command = self.command(role, &program.display().to_string())?;
        self.start_logged(command, name, arguments)
    }

    /// Like [`Lab::start`] with the network changed and nothing else: for a process that makes namespaces itself.
    pub fn start_network_only(
        &self,
        role: &str,
        name: &str,
        program: &Path,
        arguments: &[&str],
    ) -> Result<Child, LabError> {
        let command = self.place(role)?.network_only(&program.display().to_string());
        self.start_logged(command, name, arguments)
    }

    fn start_logged(&self, mut command: Command, name: &str, arguments: &[&str]) -> Result<Child, LabError> {
        let failed = |source| LabError::Io { what: format!("cannot start {name}"), source };
        let log = File::create(self.log(name)).map_err(failed)?;
        let errors = log.try_clone().map_err(failed)?;
        command.args(arguments).stdin(Stdio::null()).stdout(log).stderr(errors);
        // A group of its own: Ctrl-C at the terminal reaches the lab, which then ends its processes in order.
        std::os::unix::process::CommandExt::process_group(&mut command, 0);
        let child = command.spawn().map_err(failed)?;
        self.state.record_process(child.id(), name)?;
        Ok(child)
    }

    /// Starts every Marathon of the topology on the master and waits until each answers.
    pub fn start_marathons(&self, dialect: Dialect) -> Result<Vec<Child>, LabError> {
        self.start_marathons_by(&programs::find("sluice-lab", None)?, dialect)
    }

    /// [`Lab::start_marathons`] by a given `sluice-lab` binary.
    pub fn start_marathons_by(&self, program: &Path, dialect: Dialect) -> Result<Vec<Child>, LabError> {
        let mut started = Vec::new();
        for entry in &self.topology.marathons {
            let listen = self.marathon(&entry.framework)?.to_string();
            let arguments = ["marathon", "--lab", self.state.id(), "--listen", &listen, "--framework-name"];
            let mut arguments = arguments.to_vec();
            arguments.extend([entry.framework.as_str(), "--marathon-version", dialect.name()]);
            started.push(self.start_network_only("master", &entry.framework, program, &arguments)?);
        }
        for entry in &self.topology.marathons {
            self.await_answer(self.marathon(&entry.framework)?, "/ping")?;
        }
        if self.topology.mesos.is_some() {
            started.push(self.start_mesos_by(program, Duration::ZERO)?);
        }
        Ok(started)
    }

    /// Starts the Mesos master of the topology and waits until it answers. Its agents register within `reregister`.
    pub fn start_mesos_by(&self, program: &Path, reregister: Duration) -> Result<Child, LabError> {
        let to = self.mesos()?;
        let (listen, seconds) = (to.to_string(), reregister.as_secs_f64().to_string());
        let mut arguments = vec!["mesos", "--lab", self.state.id(), "--listen", &listen, "--reregister", &seconds];
        let marathons: Vec<String> =
            self.topology.marathons.iter().map(|m| self.at_master(m.port).to_string()).collect();
        arguments.extend(marathons.iter().flat_map(|marathon| ["--marathon", marathon.as_str()]));
        let child = self.start("master", "mesos", program, &arguments)?;
        self.await_answer(to, "/health")?;
        Ok(child)
    }

    fn await_answer(&self, to: SocketAddr, path: &str) -> Result<(), LabError> {
        let mut last = Ok(());
        for _ in 0..100 {
            match self.http("master", "GET", to, path, "") {
                Ok(_) => return Ok(()),
                Err(error) => last = Err(error),
            }
            std::thread::sleep(Duration::from_millis(50));
        }
        last
    }

    /// Starts Sluice on its node with the configuration that was written for it, and waits until it is ready.
    pub fn start_sluice(&self, program: &Path) -> Result<Child, LabError> {
        let config = self.sluice_config();
        let state = config.with_file_name("sluice-state").display().to_string();
        let config = config.display().to_string();
        let mut child = self.start("sluice", "sluice", program, &["run", "-c", &config, "--state", &state])?;
        let api = SocketAddr::from((self.topology.sluice.address, node_config::API_PORT));
        let mut last = "no answer".to_owned();
        for _ in 0..400 {
            match self.http("sluice", "GET", api, "/readyz", "") {
                Ok(answer) if answer.status == 200 => return Ok(child),
                Ok(answer) => last = answer.body.trim().to_owned(),
                Err(error) => last = error.to_string(),
            }
            if let Ok(Some(status)) = child.try_wait() {
                last = format!("it has ended ({status})");
                break;
            }
            std::thread::sleep(Duration::from_millis(50));
        }
        Err(LabError::NotReady { why: last, log: self.log("sluice"), tail: self.tail("sluice", 20) })
    }

    /// The configuration file of an agent that `sluice agent` sets up.
    #[must_use]
    pub fn agent_config(&self, agent: &str) -> PathBuf {
        self.state.file(&agent_file(agent))
    }

    /// Starts `sluice agent` on an agent of the topology, waits until containers can have a network there, and starts those
    /// that it has from the start.
    pub fn start_agent(&self, program: &Path, name: &str) -> Result<Child, LabError> {
        let child = self.start_agent_alone(program, name)?;
        if let Some(agent) = self.topology.agents.iter().find(|agent| agent.name == name) {
            wiring::start_containers(&self.state, &self.topology, agent)?;
        }
        Ok(child)
    }

    /// [`Lab::start_agent`] without containers: for one that has run before.
    pub fn start_agent_alone(&self, program: &Path, name: &str) -> Result<Child, LabError> {
        let config = self.agent_config(name).display().to_string();
        let log = format!("{name}-agent");
        let mut child = self.start_network_only(name, &log, program, &["agent", "-c", &config])?;
        let network = self.state.file(&format!("cni-{name}")).join(format!("{}.conf", self.topology.overlay.name));
        for _ in 0..200 {
            if network.exists() {
                return Ok(child);
            }
            if let Ok(Some(_)) = child.try_wait() {
                break;
            }
            std::thread::sleep(Duration::from_millis(50));
        }
        let why = format!("{} was not written by `sluice agent`", network.display());
        Err(LabError::NotReady { why, log: self.log(&log), tail: self.tail(&log, 20) })
    }

    /// Starts another container on a network of an agent that `sluice agent` has set up; its address.
    pub fn start_container(&self, agent: &str, role: &str, network: &str) -> Result<std::net::Ipv4Addr, LabError> {
        let roles = || self.topology.agents.iter().map(|a| a.name.as_str()).collect::<Vec<_>>().join(", ");
        let entry = self.topology.agents.iter().find(|entry| entry.name == agent);
        let entry = entry.ok_or_else(|| LabError::NoRole { role: agent.to_owned(), roles: roles() })?;
        Ok(wiring::container::by_cni(&self.state, entry, role, network)?.address)
    }

    /// The last lines of a process's log.
    fn tail(&self, name: &str, lines: usize) -> String {
        let log = fs::read_to_string(self.log(name)).unwrap_or_default();
        let all: Vec<&str> = log.lines().collect();
        all.get(all.len().saturating_sub(lines)..).unwrap_or_default().join("\n")
    }

    /// Where the API of a framework's Marathon is.
    pub fn marathon(&self, framework: &str) -> Result<SocketAddr, LabError> {
        let found = self.topology.marathons.iter().find(|entry| entry.framework == framework);
        let entry = found.ok_or_else(|| LabError::NoFramework { framework: framework.to_owned() })?;
        Ok(self.at_master(entry.port))
    }

    /// Where the Mesos master's API is.
    pub fn mesos(&self) -> Result<SocketAddr, LabError> {
        self.topology.mesos.as_ref().map(|mesos| self.at_master(mesos.port)).ok_or(LabError::NoMesos)
    }

    fn at_master(&self, port: u16) -> SocketAddr {
        SocketAddr::from((self.topology.master.address, port))
    }

    /// One HTTP request from a role's namespace, on a connection of its own.
    pub fn http(&self, role: &str, method: &str, to: SocketAddr, path: &str, body: &str) -> Result<Answer, LabError> {
        let namespace = self.place(role)?.namespace;
        place::within(&namespace, || http::request(method, to, path, body))
            .and_then(|answer| answer)
            .map_err(|source| LabError::Io { what: format!("{method} http://{to}{path} from {role}"), source })
    }

    /// The log file of a process that [`Lab::start`] started.
    #[must_use]
    pub fn log(&self, name: &str) -> PathBuf {
        self.state.file("logs").join(format!("{name}.log"))
    }

    /// Leaves the lab up; `sluice-lab down` removes it.
    pub fn detach(&mut self) {
        self.kept = true;
    }

    /// Removes the lab and says what could not be removed.
    pub fn down(mut self) -> Result<(), LabError> {
        self.kept = true;
        Ok(self.state.remove()?)
    }
}

fn agent_file(name: &str) -> String {
    format!("{name}.toml")
}

impl Drop for Lab {
    fn drop(&mut self) {
        if !self.kept
            && let Err(error) = self.state.remove()
        {
            tracing::error!(id = self.state.id(), %error, "the lab is not wholly removed; run `sluice-lab down`");
        }
    }
}
