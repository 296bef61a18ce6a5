//! Health checks, really made: HTTP, TCP and COMMAND, from where the emulator runs (COMMAND: where the task runs).

use std::net::{Ipv4Addr, SocketAddr};
use std::sync::Arc;

use tokio::io::{AsyncBufReadExt as _, AsyncWriteExt as _, BufReader};
use tokio::net::TcpStream;
use tokio::time::{Instant, sleep, timeout};

use super::spec::{HealthCheck, Network, Probe, ProbePort};
use super::state::Task;
use super::{Marathon, notices};
use crate::place::Place;

/// Checks one task by one of its checks until the task ends (the caller aborts this).
pub(crate) async fn watch(marathon: Arc<Marathon>, instance: String, index: usize, place: Option<Place>) {
    let found = marathon.with(|state| {
        let task = state.tasks.get(&instance)?;
        let check = task.spec.health.get(index)?.clone();
        let target = target(&marathon, task, &check);
        Some((check, target))
    });
    let Some((check, target)) = found else { return };
    let began = Instant::now();
    loop {
        let result = timeout(check.timeout, probe(&check.probe, target, place.as_ref())).await;
        let result = result.unwrap_or_else(|_| Err(format!("no answer within {:?}", check.timeout)));
        let in_grace = began.elapsed() < check.grace;
        let kill = record(&marathon, &instance, index, &check, result, in_grace);
        if kill {
            return;
        }
        sleep(check.interval).await;
    }
}

/// Host and bridge mode are asked on the agent's port, a container on its own address and port.
fn target(marathon: &Marathon, task: &Task, check: &HealthCheck) -> Option<SocketAddr> {
    let wanted = match check.probe {
        Probe::Http { port, .. } | Probe::Tcp { port } => port,
        Probe::Command(_) => return None,
    };
    let agent = marathon.agents.host(task.agent);
    let own = task.address.unwrap_or(Ipv4Addr::LOCALHOST);
    let address = if matches!(task.spec.network, Network::Container(_)) { own } else { agent };
    let port = match wanted {
        ProbePort::Number(number) => number,
        ProbePort::Index(index) => {
            let host_port = task.host_ports.get(index).copied().flatten();
            let container = task.spec.ports.get(index).map(|port| port.container);
            match task.spec.network {
                Network::Container(_) => container.filter(|p| *p != 0).or(host_port)?,
                Network::Host | Network::Bridge => host_port?,
            }
        }
    };
    Some(SocketAddr::from((address, port)))
}

async fn probe(probe: &Probe, target: Option<SocketAddr>, place: Option<&Place>) -> Result<(), String> {
    match (probe, target) {
        (Probe::Command(line), _) => run(line, place).await,
        (Probe::Tcp { .. }, Some(target)) => connect(target).await.map(drop),
        (Probe::Http { path, .. }, Some(target)) => http(target, path).await,
        (Probe::Tcp { .. } | Probe::Http { .. }, None) => Err("the task has no such port".to_owned()),
    }
}

async fn connect(target: SocketAddr) -> Result<TcpStream, String> {
    TcpStream::connect(target).await.map_err(|error| format!("{target}: {error}"))
}

/// Marathon takes 200-399 for well.
async fn http(target: SocketAddr, path: &str) -> Result<(), String> {
    let mut stream = connect(target).await?;
    let request = format!("GET {path} HTTP/1.1\r\nHost: {target}\r\nUser-Agent: Marathon\r\nConnection: close\r\n\r\n");
    stream.write_all(request.as_bytes()).await.map_err(|error| error.to_string())?;
    let mut line = String::new();
    BufReader::new(stream).read_line(&mut line).await.map_err(|error| error.to_string())?;
    let status = line.split(' ').nth(1).and_then(|code| code.parse::<u16>().ok());
    match status {
        Some(200..=399) => Ok(()),
        Some(other) => Err(format!("{other}")),
        None => Err(format!("not an HTTP answer: {:?}", line.trim_end())),
    }
}

async fn run(line: &str, place: Option<&Place>) -> Result<(), String> {
    let mut command = match place {
        Some(place) => place.command("/bin/sh"),
        None => std::process::Command::new("/bin/sh"),
    };
    command.args(["-c", line]);
    let mut command = tokio::process::Command::from(command);
    command.kill_on_drop(true).stdin(std::process::Stdio::null());
    let output = command.output().await.map_err(|error| error.to_string())?;
    if output.status.success() { Ok(()) } else { Err(format!("{}", output.status)) }
}

/// Notes a result; true when the task was told to end because of it.
fn record(
    marathon: &Marathon,
    instance: &str,
    index: usize,
    check: &HealthCheck,
    result: Result<(), String>,
    in_grace: bool,
) -> bool {
    let now = super::clock::now();
    let outcome = marathon.with(|state| {
        let task = state.tasks.get_mut(instance)?;
        let before = task.healthy();
        let seen = task.checks.get_mut(index)?;
        let failed = result.is_err();
        // While a task starts up, failures say nothing: until its first success within the grace period.
        if failed && in_grace && seen.first_success.is_none() {
            return None;
        }
        seen.seen = true;
        seen.alive = !failed;
        match &result {
            Ok(()) => {
                seen.consecutive_failures = 0;
                seen.first_success.get_or_insert_with(|| now.clone());
                seen.last_success = Some(now);
            }
            Err(cause) => {
                seen.consecutive_failures += 1;
                seen.last_failure = Some(now);
                seen.last_failure_cause = Some(cause.clone());
            }
        }
        let fatal = check.max_failures > 0 && seen.consecutive_failures >= check.max_failures;
        Some((before != task.healthy(), failed, fatal))
    });
    let Some((changed, failed, fatal)) = outcome else { return false };
    if failed {
        notices::check_failed(marathon, instance, check);
    }
    if changed {
        notices::health_changed(marathon, instance);
        marathon.wake();
    }
    if fatal {
        notices::unhealthy_kill(marathon, instance, &result.err().unwrap_or_default());
        marathon.kill(instance);
    }
    fatal
}
