//! A lab with Marathon, Mesos and Sluice, its tasks, and requests from inside them.

use std::net::SocketAddr;
use std::path::{Path, PathBuf};
use std::process::{Child, Command};
use std::sync::atomic::{AtomicUsize, Ordering};
use std::sync::{Mutex, PoisonError};
use std::time::{Duration, Instant};

use serde_json::{Value, json};
use sluice_lab::marathon::Dialect;
use sluice_lab::{Lab, Options, Topology};

use super::apps::App;
use super::rows::Kind;
use super::tasks::Task;

/// For what the lab needs time to become; what is asked afterwards must succeed at once.
const PATIENCE: Duration = Duration::from_secs(60);
/// The machine has two cores, and others use them too.
const REQUESTS_AT_ONCE: usize = 4;
/// Agents of the built-in cluster, and a third.
pub(crate) const AGENTS: [&str; 3] = ["10.0.0.11", "10.0.0.12", "10.0.0.13"];
/// Where the VIPs of rows by address are.
pub(crate) const VIPS: &str = "198.51.100.128/25";
/// Where Sluice answers names and its API.
pub(crate) const SLUICE: &str = "198.51.100.1";

pub(crate) struct Cluster {
    pub(crate) lab: Lab,
    program: PathBuf,
    _children: Vec<Child>,
}

/// Where a request comes from.
#[derive(Debug, Clone, Copy)]
pub(crate) enum From<'a> {
    /// A node of the lab, or somebody outside.
    Role(&'a str),
    Task(&'a Task),
}

/// The built-in cluster with a third agent, where addresses of the matrix's VIPs lead to Sluice.
pub(crate) fn three_agents() -> Topology {
    let mut topology = Topology::built_in().unwrap();
    let mut third = topology.agents[1].clone();
    third.name = "agent3".to_owned();
    third.address = AGENTS[2].parse().unwrap();
    third.vtep = "44.128.0.4".parse().unwrap();
    third.subnet = "9.0.3.0/24".parse().unwrap();
    third.containers.clear();
    topology.agents.push(third);
    topology.sluice.vips.push(VIPS.parse().unwrap());
    topology
}

impl Cluster {
    /// Everything but agents that are `sluice agent`'s runs; `None`, with a sentence, where something is not there.
    pub(crate) fn start(topology: &Topology, change: impl FnOnce(&Lab)) -> Option<Self> {
        let own = Path::new(env!("CARGO_BIN_EXE_sluice-lab"));
        let program = own.with_file_name("sluice");
        for needed in [program.as_path(), Path::new("/usr/lib/cni/bridge")] {
            if !needed.is_file() {
                println!("skipped: {} is not there (`cargo build --workspace`, `make setup`)", needed.display());
                return None;
            }
        }
        let lab = Lab::up(topology, &Options::default()).unwrap();
        change(&lab);
        let mut children = lab.start_marathons_by(own, Dialect::V1_9).unwrap();
        children.push(lab.start_sluice(&program).unwrap());
        Some(Self { lab, program, _children: children })
    }

    /// Starts `sluice agent` on an agent.
    pub(crate) fn start_agent(&self, name: &str) -> Child {
        self.lab.start_agent(&self.program, name).unwrap()
    }

    /// Deploys the apps at once and the pods one by one, and waits until all of them run where they are to be.
    pub(crate) fn deploy(&self, all: &[App]) {
        let (pods, apps): (Vec<&App>, Vec<&App>) = all.iter().partition(|app| app.kind == Kind::Pod);
        let apps: Vec<Value> = apps.iter().map(|app| app.definition()).collect();
        let (status, said) = self.marathon("PUT", "/v2/groups", &json!({"id": "/", "apps": apps}));
        assert_eq!(status, 200, "{said}");
        for pod in pods {
            let (status, said) = self.marathon("POST", "/v2/pods", &pod.definition());
            assert_eq!(status, 201, "{said}");
        }
        until("every deployment is done", || {
            let (_, deployments) = self.marathon("GET", "/v2/deployments", &Value::Null);
            deployments.as_array().filter(|all| all.is_empty()).map(drop)
        });
        in_parallel(all, |app| self.check_places(app));
    }

    pub(crate) fn marathon(&self, method: &str, path: &str, body: &Value) -> (u16, Value) {
        let body = if body.is_null() { String::new() } else { body.to_string() };
        let to = self.lab.marathon("marathon").unwrap();
        let answer = self.lab.http("master", method, to, path, &body).unwrap();
        (answer.status, serde_json::from_str(&answer.body).unwrap_or(Value::String(answer.body)))
    }

    /// A command that runs where the request is to come from, a task's with its resolver.
    pub(crate) fn command(&self, from: From<'_>, program: &str) -> Command {
        match from {
            From::Role(role) => self.lab.command(role, program).unwrap(),
            From::Task(task) => {
                let mut command = Command::new("nsenter");
                // The root as well: where the tests run in a chroot, a mount namespace by itself leads out of it.
                command.args(["--target", &task.pid.to_string(), "--net", "--mount", "--root", "--", program]);
                command
            }
        }
    }

    /// What it printed, if it succeeded; else what it said of its failure.
    pub(crate) fn run(&self, from: From<'_>, words: &[&str]) -> Result<String, String> {
        let output = self.command(from, words[0]).args(&words[1..]).output().unwrap();
        let text = |bytes: &[u8]| String::from_utf8_lossy(bytes).trim().to_owned();
        if output.status.success() { Ok(text(&output.stdout)) } else { Err(text(&output.stderr)) }
    }

    /// The task that answers a request with 200.
    pub(crate) fn answers(&self, from: From<'_>, to: &str) -> Result<String, String> {
        self.curl(from, "--ipv4", to)
    }

    fn curl(&self, from: From<'_>, family: &str, to: &str) -> Result<String, String> {
        let url = format!("http://{to}/");
        let body = self.run(from, &["curl", "-sS", "--fail", family, "--max-time", "10", &url])?;
        let task = body.lines().find_map(|line| line.strip_prefix("task "));
        task.map(str::to_owned).ok_or(body)
    }

    /// Whether it is this task that answers.
    pub(crate) fn is_answered_by(&self, task: &Task, from: From<'_>, to: &str) -> Result<(), String> {
        is_of(task, self.answers(from, to))
    }

    /// The same over IPv6.
    pub(crate) fn is_answered_by_six(&self, task: &Task, from: From<'_>, to: &str) -> Result<(), String> {
        is_of(task, self.curl(from, "--ipv6", to))
    }

    /// Whether a datagram to `address/port` comes back: a socket that is connected takes nothing from elsewhere.
    pub(crate) fn is_echoed(&self, from: From<'_>, to: &str) -> Result<(), String> {
        let line = format!("exec 3<>/dev/udp/{to}; echo -n hello >&3; timeout 3 head -c 5 <&3");
        // Datagrams may be lost.
        eventually(|| match self.run(from, &["bash", "-c", &line]) {
            Ok(said) if said == "hello" => Ok(()),
            other => Err(format!("{from:?}: {other:?}")),
        })
    }

    /// GET of Sluice's own API, from the master.
    pub(crate) fn sluice(&self, path: &str) -> Value {
        let to = SocketAddr::new(SLUICE.parse().unwrap(), 8123);
        let answer = self.lab.http("master", "GET", to, path, "").unwrap();
        serde_json::from_str(&answer.body).unwrap_or(Value::String(answer.body))
    }

    /// Waits until these VIPs are served: until somebody outside has an answer from each.
    pub(crate) fn await_vips(&self, vips: &[String]) {
        let answers = in_parallel(vips, |vip| eventually(|| self.answers(From::Role("client"), vip)));
        let failed: Vec<_> = vips.iter().zip(answers).filter_map(|(vip, answer)| Some((vip, answer.err()?))).collect();
        let known = |what| self.sluice(&format!("/v1/{what}"));
        assert!(failed.is_empty(), "{failed:?}\n{}", known("vips"));
    }
}

fn is_of(task: &Task, answer: Result<String, String>) -> Result<(), String> {
    match answer {
        Ok(id) if id == task.id => Ok(()),
        Ok(id) => Err(format!("{id} answers instead of {}", task.id)),
        Err(said) => Err(said),
    }
}

/// Does something with each of the items, a few at a time; in their order.
pub(crate) fn in_parallel<T: Sync, R: Send>(items: &[T], work: impl Fn(&T) -> R + Sync) -> Vec<R> {
    let next = AtomicUsize::new(0);
    let done = Mutex::new(Vec::with_capacity(items.len()));
    std::thread::scope(|scope| {
        for _ in 0..REQUESTS_AT_ONCE {
            scope.spawn(|| {
                while let index = next.fetch_add(1, Ordering::Relaxed)
                    && let Some(item) = items.get(index)
                {
                    let result = work(item);
                    done.lock().unwrap_or_else(PoisonError::into_inner).push((index, result));
                }
            });
        }
    });
    let mut done = done.into_inner().unwrap_or_else(PoisonError::into_inner);
    done.sort_by_key(|(index, _)| *index);
    done.into_iter().map(|(_, result)| result).collect()
}

pub(crate) fn until<T>(what: &str, mut look: impl FnMut() -> Option<T>) -> T {
    let began = Instant::now();
    while began.elapsed() < PATIENCE {
        if let Some(found) = look() {
            return found;
        }
        std::thread::sleep(Duration::from_millis(50));
    }
    panic!("not within {PATIENCE:?}: {what}");
}

/// Asks again until it succeeds, for what becomes true by itself; the last failure.
pub(crate) fn eventually<T>(mut ask: impl FnMut() -> Result<T, String>) -> Result<T, String> {
    let began = Instant::now();
    loop {
        match ask() {
            Err(_) if began.elapsed() < PATIENCE / 2 => std::thread::sleep(Duration::from_millis(100)),
            result => return result,
        }
    }
}
