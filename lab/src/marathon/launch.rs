//! Turns a spec into real processes: takes ports and addresses, makes the container, sets the environment, starts.

use std::collections::BTreeMap;
use std::fs::{self, File};
use std::io;
use std::net::{IpAddr, Ipv6Addr};
use std::path::{Path, PathBuf};
use std::process::Stdio;
use std::time::Duration;

use tokio::process::{Child, Command as TokioCommand};

use super::agents::{Agents, Sandbox};
use super::spec::{Command, Container, HostPort, Network, Port, RunSpec, Unit};
use crate::cluster::LabError;
use crate::state::StateError;
use crate::wiring::container::Redirect;

/// Who a task is, for its environment.
#[derive(Debug, Clone)]
pub(crate) struct Identity {
    pub(crate) task: String,
    pub(crate) version: String,
    pub(crate) agent: usize,
}

/// A task that runs.
#[derive(Debug)]
pub(crate) struct Launched {
    pub(crate) sandbox: Sandbox,
    pub(crate) processes: Vec<Child>,
}

/// Starts every process of an instance. On failure nothing is left. Must run in a tokio runtime; it blocks for as long
/// as `ip` and `nft` take.
pub(crate) fn launch(
    agents: &Agents,
    program: &Path,
    spec: &RunSpec,
    identity: &Identity,
) -> Result<Launched, LabError> {
    let mut sandbox = Sandbox::default();
    let mut processes = Vec::new();
    match prepare(agents, spec, identity.agent, &mut sandbox)
        .and_then(|()| start_units(agents, program, spec, identity, &sandbox, &mut processes))
    {
        Ok(()) => Ok(Launched { sandbox, processes }),
        Err(error) => {
            let pids: Vec<u32> = processes.iter().filter_map(Child::id).collect();
            crate::processes::end(&pids, &[], Duration::ZERO);
            agents.release(identity.agent, sandbox);
            Err(error)
        }
    }
}

fn prepare(agents: &Agents, spec: &RunSpec, agent: usize, sandbox: &mut Sandbox) -> Result<(), LabError> {
    for port in &spec.ports {
        let taken = match port.host {
            HostPort::None => None,
            HostPort::Any => Some(agents.take_host_port(agent, None, sandbox)?),
            HostPort::Fixed(fixed) => Some(agents.take_host_port(agent, Some(fixed), sandbox)?),
        };
        sandbox.host_ports.push(taken);
    }
    let by_docker = spec.container == Container::Docker;
    match &spec.network {
        Network::Host => agents.on_host(agent, sandbox),
        Network::Bridge => agents.on_bridge(agent, by_docker, sandbox)?,
        Network::Container(name) => agents.on_overlay(agent, name, by_docker, sandbox)?,
    }
    if spec.network == Network::Host {
        return Ok(());
    }
    for (port, host_port) in spec.ports.iter().zip(sandbox.host_ports.clone()) {
        let Some(host_port) = host_port else { continue };
        for udp in [false, true].into_iter().filter(|udp| if *udp { port.udp } else { port.tcp }) {
            let container_port = if port.container == 0 { host_port } else { port.container };
            agents.redirect(agent, Redirect { udp, host_port, container_port }, sandbox)?;
        }
    }
    Ok(())
}

fn start_units(
    agents: &Agents,
    program: &Path,
    spec: &RunSpec,
    identity: &Identity,
    sandbox: &Sandbox,
    processes: &mut Vec<Child>,
) -> Result<(), LabError> {
    for (index, unit) in spec.units.iter().enumerate() {
        let folder = agents.state.file("tasks").join(format!("{}{}", identity.task, suffix(spec, unit)));
        fs::create_dir(&folder).map_err(|source| io_error(&folder, source))?;
        let words = words(agents, program, spec, index, sandbox);
        let environment = environment(agents, spec, index, identity, sandbox, &folder);
        let child = start(sandbox, &words, environment, &folder)?;
        let pid = child.id();
        processes.push(child);
        if let Some(pid) = pid {
            agents.state.record_process(pid, &identity.task)?;
        }
        if agents.state.ending() {
            return Err(StateError::Ending.into());
        }
    }
    Ok(())
}

fn suffix(spec: &RunSpec, unit: &Unit) -> String {
    if spec.pod { format!(".{}", unit.name) } else { String::new() }
}

fn start(
    sandbox: &Sandbox,
    words: &[String],
    environment: BTreeMap<String, String>,
    folder: &Path,
) -> Result<Child, LabError> {
    let (program, arguments) = words.split_first().map_or(("true", &[][..]), |(p, a)| (p.as_str(), a));
    let mut command = match &sandbox.place {
        Some(place) => place.command(program),
        None => std::process::Command::new(program),
    };
    let output = |name: &str| File::create(folder.join(name)).map_err(|source| io_error(folder, source));
    command.args(arguments).envs(environment).current_dir(folder).stdin(Stdio::null());
    command.stdout(output("stdout")?).stderr(output("stderr")?);
    // A task and all that it starts are ended together.
    std::os::unix::process::CommandExt::process_group(&mut command, 0);
    TokioCommand::from(command).spawn().map_err(|source| LabError::Io { what: words.join(" "), source })
}

/// What is executed. An image is the lab's own web task, on the ports that the image would listen on.
fn words(agents: &Agents, program: &Path, spec: &RunSpec, unit: usize, sandbox: &Sandbox) -> Vec<String> {
    let owned = |words: &[&str]| words.iter().map(|w| (*w).to_owned()).collect::<Vec<_>>();
    match spec.units.get(unit).map(|unit| &unit.command) {
        Some(Command::Shell(line)) => owned(&["/bin/sh", "-c", line]),
        Some(Command::Exec(words)) => words.clone(),
        Some(Command::BuiltIn) | None => {
            let mut words = owned(&[&program.display().to_string(), "task"]);
            for port in own_ports(agents, spec, unit, sandbox) {
                words.extend(["--port".to_owned(), port.to_string()]);
            }
            let bind = match (&agents.topology, sandbox.address, sandbox.address6) {
                (None, address, _) => address.map(IpAddr::V4),
                // Of both families.
                (Some(_), _, Some(_)) => Some(Ipv6Addr::UNSPECIFIED.into()),
                (Some(_), _, None) => None,
            };
            words.extend(bind.into_iter().flat_map(|bind| ["--bind".to_owned(), bind.to_string()]));
            words
        }
    }
}

/// The ports that a unit's process listens on.
fn own_ports(agents: &Agents, spec: &RunSpec, unit: usize, sandbox: &Sandbox) -> Vec<u16> {
    let bridged_on_loopback = agents.topology.is_none() && spec.network == Network::Bridge;
    let ports = spec.ports.iter().zip(&sandbox.host_ports).filter(|(port, _)| port.unit == unit);
    ports
        .filter_map(|(port, host)| match spec.network {
            Network::Host => *host,
            Network::Bridge | Network::Container(_) if bridged_on_loopback => *host,
            Network::Bridge | Network::Container(_) => Some(port.container).filter(|p| *p != 0).or(*host),
        })
        .collect()
}

/// Marathon's and Mesos's variables; the app's own come first, so that these win as they do there.
fn environment(
    agents: &Agents,
    spec: &RunSpec,
    unit: usize,
    identity: &Identity,
    sandbox: &Sandbox,
    folder: &Path,
) -> BTreeMap<String, String> {
    let mut all = spec.env.clone();
    let unit_of = spec.units.get(unit);
    all.extend(unit_of.iter().flat_map(|u| u.env.clone()));
    let mut set = |key: String, value: String| drop(all.insert(key, value));
    let effective: Vec<(u16, &Port)> =
        spec.ports.iter().zip(&sandbox.host_ports).map(|(port, host)| (host.unwrap_or(port.container), port)).collect();
    for (index, (number, port)) in effective.iter().enumerate() {
        set(format!("PORT{index}"), number.to_string());
        let declared = if port.container == 0 { port.service } else { port.container };
        set(format!("PORT_{declared}"), number.to_string());
        if !port.name.is_empty() {
            set(format!("PORT_{}", port.name.to_uppercase().replace('-', "_")), number.to_string());
        }
    }
    if let Some((first, _)) = effective.first() {
        set("PORT".to_owned(), first.to_string());
        let all: Vec<String> = effective.iter().map(|(number, _)| number.to_string()).collect();
        set("PORTS".to_owned(), all.join(","));
    }
    set("HOST".to_owned(), agents.host(identity.agent).to_string());
    set("MESOS_TASK_ID".to_owned(), identity.task.clone());
    set("MESOS_SANDBOX".to_owned(), folder.display().to_string());
    set("MARATHON_APP_ID".to_owned(), spec.id.clone());
    set("MARATHON_APP_VERSION".to_owned(), identity.version.clone());
    if let Some(image) = unit_of.and_then(|u| u.image.clone()) {
        set("MARATHON_APP_DOCKER_IMAGE".to_owned(), image);
    }
    all
}

fn io_error(path: &Path, source: io::Error) -> LabError {
    LabError::Io { what: PathBuf::from(path).display().to_string(), source }
}
