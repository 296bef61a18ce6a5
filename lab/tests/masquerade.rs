//! A gateway that masquerades, with real kernels at both ends: a container on an agent as DC/OS sets it up, whose kernel
//! masquerades nothing, reaches somebody outside through Sluice. Needs root, and the binary `sluice` beside `sluice-lab`.
#![allow(clippy::unwrap_used, clippy::panic, reason = "a test that cannot go on fails")]

use std::path::{Path, PathBuf};
use std::process::Child;
use std::time::{Duration, Instant};

use serde_json::Value;
use sluice_lab::http::get_unix;
use sluice_lab::{Lab, Options, Topology};

/// The client, who serves here, and our address that it sees.
const OUTSIDE: &str = "192.0.2.10";
const SNAT: &str = "10.0.0.100";
const WEB: u16 = 8000;

/// `None`, with a sentence, where the workspace is not built.
fn sluice() -> Option<PathBuf> {
    let program = Path::new(env!("CARGO_BIN_EXE_sluice-lab")).with_file_name("sluice");
    if !program.is_file() {
        println!("skipped: {} is not built (`cargo build --workspace`)", program.display());
    }
    program.is_file().then_some(program)
}

struct World {
    lab: Lab,
    _children: Vec<Child>,
}

impl World {
    fn start() -> Option<Self> {
        let program = sluice()?;
        let mut topology = Topology::built_in().unwrap();
        topology.marathons.clear();
        topology.mesos = None;
        let lab = Lab::up(&topology, &Options::default()).unwrap();
        let file = lab.sluice_config();
        let text = std::fs::read_to_string(&file).unwrap();
        let text = text.replacen("[overlay]\n", "[overlay]\ngateway = \"masqueraded\"\n", 1);
        std::fs::write(&file, text).unwrap();
        let mut world = Self { lab, _children: vec![] };
        for agent in ["agent1", "agent2"] {
            world.said(agent, "nft flush chain ip lab postrouting");
            world.said(agent, "ip route add 192.0.2.0/24 via 44.128.0.9 dev vtep1024 onlink table 43");
        }
        for role in ["client", "c1"] {
            let arguments = ["task", "--port", &WEB.to_string()];
            let by = Path::new(env!("CARGO_BIN_EXE_sluice-lab"));
            world._children.push(world.lab.start(role, &format!("web-{role}"), by, &arguments).unwrap());
        }
        world._children.push(world.lab.start_sluice(&program).unwrap());
        for role in ["client", "c1"] {
            until(&format!("{role} serves"), || {
                world.run(role, &format!("curl -sS -m 2 http://127.0.0.1:{WEB}/health")).0.then_some(())
            });
        }
        Some(world)
    }

    fn run(&self, role: &str, line: &str) -> (bool, String) {
        let output = self.lab.exec(role, &line.split(' ').collect::<Vec<_>>()).unwrap();
        (output.status.success(), String::from_utf8_lossy(&[output.stdout, output.stderr].concat()).into_owned())
    }

    fn said(&self, role: &str, line: &str) -> String {
        let (done, said) = self.run(role, line);
        assert!(done, "{role}: {line}: {said}");
        said
    }

    fn address(&self, role: &str) -> String {
        let said = self.said(role, "ip -4 -o addr show dev eth0");
        let address = said.split_whitespace().skip_while(|word| *word != "inet").nth(1).unwrap();
        address.split('/').next().unwrap().to_owned()
    }

    fn shown(&self, what: &str) -> Value {
        let answer = get_unix(&self.lab.sluice_socket(), &format!("/v1/show/{what}")).unwrap();
        serde_json::from_str(&answer.body).unwrap()
    }

    /// A metric over all its labels.
    fn metric(&self, name: &str) -> f64 {
        let text = get_unix(&self.lab.sluice_socket(), "/metrics").unwrap().body;
        let name = format!("sluice_{name}");
        let of = |line: &&str| line.split(['{', ' ']).next() == Some(name.as_str());
        text.lines().filter(of).filter_map(|line| line.rsplit(' ').next()?.parse::<f64>().ok()).sum()
    }

    fn dropped(&self, reason: &str) -> u64 {
        let drops = self.shown("drops");
        let all = drops["reasons"].as_array().unwrap();
        all.iter().find(|r| r["name"] == reason).unwrap()["count"].as_u64().unwrap()
    }
}

fn until<T>(what: &str, mut look: impl FnMut() -> Option<T>) -> T {
    let began = Instant::now();
    while began.elapsed() < Duration::from_secs(30) {
        if let Some(found) = look() {
            return found;
        }
        std::thread::sleep(Duration::from_millis(50));
    }
    panic!("not within thirty seconds: {what}");
}

/// Whom the built-in task saw.
fn client_of(said: &str) -> String {
    let client = said.lines().find_map(|line| line.strip_prefix("client ")).unwrap_or_else(|| panic!("{said}"));
    client.rsplit_once(':').unwrap().0.to_owned()
}

#[test]
fn containers_reach_the_world_behind_the_gateways_address() {
    let Some(world) = World::start() else { return };
    world.said("client", &format!("ip route add {SNAT}/32 via 192.0.2.1 mtu lock 1400"));
    let containers = ["c1", "c2"].map(|role| (role, world.address(role)));
    for (role, address) in &containers {
        let said = world.said(role, &format!("curl -sS -m 5 http://{OUTSIDE}:{WEB}/"));
        assert_eq!(client_of(&said), SNAT, "{role}");
        let said = world.said(role, &format!("ping -c 3 -i 0.2 -W 2 {OUTSIDE}"));
        assert!(said.contains(" 0% packet loss"), "{role}: {said}");
        // In fragments, both ways: Sluice fragments nothing, so the client's fit the tunnel.
        let said = world.said(role, &format!("ping -c 2 -i 0.2 -W 2 -s 3000 {OUTSIDE}"));
        assert!(said.contains(" 0% packet loss"), "{role}: {said}");
        let sessions = world.shown("sessions");
        let rows = sessions["sessions"].as_array().unwrap();
        let mine = |protocol: &str| {
            let is = |row: &&Value| row["vip"] == "masqueraded" && row["protocol"] == protocol;
            rows.iter().filter(is).any(|row| {
                let starts = |key: &str, with: &str| row[key].as_str().unwrap().starts_with(&format!("{with}:"));
                starts("client", address) && starts("backend", OUTSIDE) && starts("snat", SNAT)
            })
        };
        assert!(mine("tcp") && mine("icmp"), "{role} {address}: {sessions}");
    }
    world.said("client", &format!("ip route del {SNAT}/32"));
    // Enough to fill many segments, which the handshake has told how large they may be.
    let said = world.said(
        "c1",
        &format!("curl -sS -m 20 -o /dev/null -w %{{size_download}} http://{OUTSIDE}:{WEB}/octets?n=4000000"),
    );
    assert_eq!(said, "4000000");
    // Many at once, which the card and the tunnel deal to both workers.
    for _ in 0..16 {
        assert_eq!(client_of(&world.said("c2", &format!("curl -sS -m 5 http://{OUTSIDE}:{WEB}/"))), SNAT);
    }
    // The built-in task echoes datagrams; no question of dig's is an answer, but that it came back says dig.
    let said = world.run("c1", &format!("dig @{OUTSIDE} -p {WEB} +tries=1 +time=3 example.org")).1;
    assert!(!said.contains("timed out") && !said.contains("refused"), "{said}");
    // Nobody listens there: the host's word comes back to the container.
    let said = world.run("c1", &format!("dig @{OUTSIDE} -p 9 +tries=1 +time=5 example.org")).1;
    assert!(said.contains("connection refused"), "{said}");
    assert!(world.metric("icmp_errors_translated_total") >= 1.0);
    assert!(world.metric("masqueraded_packets_total") > 100.0 && world.metric("unmasqueraded_packets_total") > 100.0);
    assert!(world.metric("masquerade_flows_total") >= 22.0);
    world.lab.down().unwrap();
}

#[test]
fn from_outside_a_container_is_reached_at_its_own_address_and_at_ours_nobody_is() {
    let Some(world) = World::start() else { return };
    let c1 = world.address("c1");
    let said = world.said("client", &format!("curl -sS -m 5 http://{c1}:{WEB}/"));
    assert_eq!(client_of(&said), OUTSIDE, "as it is, and so is the answer");
    let said = world.said("client", &format!("ping -c 2 -i 0.2 -W 2 {c1}"));
    assert!(said.contains(" 0% packet loss"), "{said}");
    assert_eq!((world.metric("masqueraded_packets_total"), world.metric("masquerade_flows_total")), (0.0, 0.0));
    // A flow of the container's, and strangers at its port of ours: neither Sluice nor the node's kernel answers.
    assert_eq!(client_of(&world.said("c1", &format!("curl -sS -m 5 http://{OUTSIDE}:{WEB}/"))), SNAT);
    let sessions = world.shown("sessions");
    let rows = sessions["sessions"].as_array().unwrap();
    let snat = rows.iter().find(|row| row["vip"] == "masqueraded").unwrap()["snat"].as_str().unwrap().to_owned();
    let before = world.dropped("snat_no_session");
    for role in ["client", "master"] {
        assert!(!world.run(role, &format!("curl -sS -m 1 http://{snat}/")).0, "{role}");
    }
    assert!(world.dropped("snat_no_session") >= before + 2);
    assert!(!world.run("client", &format!("ping -c 1 -W 1 {SNAT}")).0);
    // The agents' own addresses and the node's are reached as before.
    let said = world.said("c1", "curl -sS -m 5 http://10.0.0.9:8123/healthz");
    assert!(said.contains("ok"), "{said}");
    world.lab.down().unwrap();
}
