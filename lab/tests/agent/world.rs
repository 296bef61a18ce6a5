//! A lab whose agents are set up by `sluice agent`, and what tests ask of it.

use std::cell::RefCell;
use std::path::{Path, PathBuf};
use std::process::{Child, Output};
use std::time::{Duration, Instant};

use nix::sys::signal::{Signal, kill};
use nix::unistd::Pid;
use serde_json::Value;
use sluice_lab::http::get_unix;
use sluice_lab::marathon::Dialect;
use sluice_lab::{Lab, Options, Topology};

const PATIENCE: Duration = Duration::from_secs(30);

pub(crate) struct World {
    pub(crate) lab: Lab,
    pub(crate) program: PathBuf,
    sluice: RefCell<Child>,
    children: RefCell<Vec<Child>>,
}

/// The built-in cluster with the first `leased` of its agents set up by `sluice agent`, in the places that are the lowest
/// free ones.
pub(crate) fn topology(leased: usize) -> Topology {
    let mut topology = Topology::built_in().unwrap();
    for (n, agent) in topology.agents.iter_mut().take(leased).enumerate() {
        agent.sluice_agent = true;
        agent.vtep = format!("44.128.0.{}", n + 1).parse().unwrap();
        agent.subnet = format!("9.0.{n}.0/24").parse().unwrap();
    }
    topology
}

/// Gives the lab's network IPv6, and Sluice an address there; `keys` come into `[overlay]`.
pub(crate) fn with_ipv6(lab: &Lab, keys: &str) {
    let file = lab.sluice_config();
    let text = std::fs::read_to_string(&file).unwrap();
    let text = text.replacen("[overlay]\n", &format!("[overlay]\n{keys}"), 1);
    let more = "prefix = 24\nsubnet6 = \"fd01:b::/64\"\nown6 = \"fd01:b:0:0:9::/80\"\n";
    let text = text.replacen("prefix = 24\n", more, 1);
    let text = text.replacen("\"9.0.9.1/24\"", "\"9.0.9.1/24\", \"fd01:b:0:0:9::1/80\"", 1);
    std::fs::write(&file, text).unwrap();
}

impl World {
    /// Marathons and Sluice run, agents not yet; `None`, with a sentence, where something is not there.
    pub(crate) fn start(topology: &Topology) -> Option<Self> {
        Self::start_with(topology, |_| {})
    }

    /// The same with files of the lab changed before.
    pub(crate) fn start_with(topology: &Topology, change: impl FnOnce(&Lab)) -> Option<Self> {
        let program = Path::new(env!("CARGO_BIN_EXE_sluice-lab")).with_file_name("sluice");
        for needed in [program.as_path(), Path::new("/usr/lib/cni/bridge")] {
            if !needed.is_file() {
                println!("skipped: {} is not there (`cargo build --workspace`, `make setup`)", needed.display());
                return None;
            }
        }
        let lab = Lab::up(topology, &Options::default()).unwrap();
        change(&lab);
        let by = Path::new(env!("CARGO_BIN_EXE_sluice-lab"));
        let children = RefCell::new(lab.start_marathons_by(by, Dialect::V1_9).unwrap());
        let sluice = RefCell::new(lab.start_sluice(&program).unwrap());
        Some(Self { lab, program, sluice, children })
    }

    /// Ends Sluice with a signal, does something, and starts it again, until it is ready.
    pub(crate) fn restart_sluice<T>(&self, signal: Signal, meanwhile: impl FnOnce() -> T) -> T {
        let mut sluice = self.sluice.borrow_mut();
        kill(Pid::from_raw(i32::try_from(sluice.id()).unwrap()), signal).unwrap();
        sluice.wait().unwrap();
        let done = meanwhile();
        *sluice = self.lab.start_sluice(&self.program).unwrap();
        done
    }

    /// Starts the lab's web server, with UDP echo, somewhere, and waits until it listens.
    pub(crate) fn serve(&self, role: &str, bind: &str, port: u16) {
        let (name, port) = (format!("web-{role}"), port.to_string());
        let program = Path::new(env!("CARGO_BIN_EXE_sluice-lab"));
        let child = self.lab.start(role, &name, program, &["task", "--bind", bind, "--port", &port]).unwrap();
        self.children.borrow_mut().push(child);
        until(&format!("{role} listens"), || {
            self.run(role, &["ss", "-Hltn", "sport", "=", &port]).1.contains(&format!(":{port}")).then_some(())
        });
    }

    /// What the running Sluice answers an operator.
    pub(crate) fn asked(&self, words: &[&str]) -> String {
        let mut command = std::process::Command::new(&self.program);
        let Output { status, stdout, stderr } =
            command.args(words).arg("--socket").arg(self.lab.sluice_socket()).output().unwrap();
        assert!(status.success(), "{words:?}: {}", String::from_utf8_lossy(&stderr));
        String::from_utf8_lossy(&stdout).into_owned()
    }

    /// Starts `sluice agent` on an agent, with the containers that it has from the start.
    pub(crate) fn agent(&self, name: &str) -> Child {
        self.lab.start_agent(&self.program, name).unwrap()
    }

    /// Starts it again where it ran before.
    pub(crate) fn again(&self, name: &str) -> Child {
        self.lab.start_agent_alone(&self.program, name).unwrap()
    }

    /// One run of `sluice agent` with these words.
    pub(crate) fn agent_with(&self, name: &str, words: &[&str]) -> Output {
        let config = self.lab.agent_config(name).display().to_string();
        let mut command = self.lab.place(name).unwrap().network_only(&self.program.display().to_string());
        command.args(["agent", "-c", &config]).args(words).output().unwrap()
    }

    pub(crate) fn run(&self, role: &str, words: &[&str]) -> (bool, String) {
        let output = self.lab.exec(role, words).unwrap();
        (output.status.success(), String::from_utf8_lossy(&[output.stdout, output.stderr].concat()).into_owned())
    }

    pub(crate) fn said(&self, role: &str, line: &str) -> String {
        let words: Vec<&str> = line.split(' ').collect();
        let (done, said) = self.run(role, &words);
        assert!(done, "{role}: {line}: {said}");
        said
    }

    pub(crate) fn fails(&self, role: &str, line: &str) -> String {
        let words: Vec<&str> = line.split(' ').collect();
        let (done, said) = self.run(role, &words);
        assert!(!done, "{role}: {line}: {said}");
        said
    }

    /// What Sluice shows.
    pub(crate) fn shown(&self, what: &str) -> Value {
        let answer = get_unix(&self.lab.sluice_socket(), &format!("/v1/show/{what}")).unwrap();
        serde_json::from_str(&answer.body).unwrap_or_else(|_| panic!("{what}: {}", answer.body))
    }

    /// The sum of a metric over its labels.
    pub(crate) fn metric(&self, name: &str) -> u64 {
        self.metric_of(name, "")
    }

    /// The sum of a metric over those of its samples that have this label.
    pub(crate) fn metric_of(&self, name: &str, label: &str) -> u64 {
        let text = get_unix(&self.lab.sluice_socket(), "/metrics").unwrap().body;
        let named = text.lines().filter(|line| line.split([' ', '{']).next() == Some(name) && line.contains(label));
        let samples: Vec<f64> = named.filter_map(|line| line.rsplit(' ').next()?.parse().ok()).collect();
        assert!(!samples.is_empty(), "no metric {name} with {label}");
        samples.iter().sum::<f64>() as u64
    }

    /// Switches IPv6 on in these namespaces, and forwarding: the lab's have it off; the CNI plugins let agents forward it,
    /// as they do IPv4, and leave that so.
    pub(crate) fn ipv6(&self, roles: &[&str]) {
        for role in roles {
            for which in ["all", "default"] {
                self.said(role, &format!("sysctl -qw net.ipv6.conf.{which}.disable_ipv6=0"));
                self.said(role, &format!("sysctl -qw net.ipv6.conf.{which}.forwarding=1"));
            }
        }
    }

    /// Deploys an app and waits until that many of its tasks run; their addresses.
    pub(crate) fn deploy(&self, app: &Value) -> Vec<String> {
        let to = self.lab.marathon("marathon").unwrap();
        let answer = self.lab.http("master", "POST", to, "/v2/apps", &app.to_string()).unwrap();
        assert_eq!(answer.status, 201, "{}", answer.body);
        let path = format!("/v2/apps{}/tasks", app["id"].as_str().unwrap());
        let wanted = app["instances"].as_u64().unwrap() as usize;
        until("tasks run", || {
            let answer = self.lab.http("master", "GET", to, &path, "").ok()?;
            let tasks: Value = serde_json::from_str(&answer.body).ok()?;
            let running = tasks["tasks"].as_array()?.iter().filter(|task| task["state"] == "TASK_RUNNING");
            let ips = running.filter_map(|task| task["ipAddresses"][0]["ipAddress"].as_str().map(str::to_owned));
            Some(ips.collect::<Vec<_>>()).filter(|ips| ips.len() == wanted)
        })
    }

    /// The container that has an address.
    pub(crate) fn role_of(&self, ip: &str) -> String {
        let has = |role: &String| {
            self.run(role, &["ip", "-4", "-o", "addr", "show", "dev", "eth0"]).1.contains(&format!("{ip}/"))
        };
        self.lab.state().roles().into_iter().find(has).unwrap_or_else(|| panic!("nobody has {ip}"))
    }

    /// What an agent's kernel has, but for counters and times.
    pub(crate) fn kernel(&self, role: &str) -> String {
        // In an order of its own: the kernel's is by index and by time.
        let sorted = |mut lines: Vec<&str>| {
            lines.sort_unstable();
            lines.join("\n")
        };
        let of = |line: &str| format!("$ {line}\n{}", sorted(self.said(role, line).lines().collect()));
        let addresses = self.said(role, "ip -o addr");
        // Indices of interfaces are never used again.
        let addresses: Vec<&str> =
            addresses.lines().filter_map(|line| line.split_once(": ").map(|(_, rest)| rest)).collect();
        [
            sorted(addresses),
            of("ip route show table all"),
            of("ip rule"),
            of("ip neigh show nud permanent"),
            of("nft -s list ruleset"),
        ]
        .join("\n")
    }
}

/// Ends a process with a signal and waits for it.
pub(crate) fn end(mut child: Child, signal: Signal) {
    kill(Pid::from_raw(i32::try_from(child.id()).unwrap()), signal).unwrap();
    child.wait().unwrap();
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

/// An app whose tasks are on the overlay.
pub(crate) fn app(id: &str, instances: u64, groups: &[&str], vip: &str) -> Value {
    serde_json::json!({
        "id": id, "instances": instances, "cpus": 0.1, "mem": 32,
        "container": {"type": "DOCKER", "docker": {"image": "x"}, "portMappings": [
            {"containerPort": 80, "hostPort": null, "protocol": "tcp", "name": "web", "labels": {"VIP_0": vip}},
        ]},
        "networks": [{"mode": "container", "name": "dcos", "labels": {"SLUICE_GROUPS": groups.join(",")}}],
    })
}
