//! Foreign names, asked with dig from outside, from a container and from the node itself, of a resolver that is a real
//! server (dnsmasq). Needs root, and the binary `sluice` beside `sluice-lab`.
#![allow(clippy::unwrap_used, clippy::panic, reason = "a test that cannot go on fails")]

use std::path::{Path, PathBuf};
use std::process::Child;
use std::time::Duration;

use nix::sys::signal::{Signal, kill};
use nix::unistd::Pid;
use sluice_lab::http::get_unix;
use sluice_lab::{Lab, Options, Topology};

const DNSMASQ: &str = "/usr/sbin/dnsmasq";
const RESOLVER: &str = "10.0.0.5";

/// `None`, with a sentence, where the workspace is not built or there is no dnsmasq.
fn sluice() -> Option<PathBuf> {
    let program = Path::new(env!("CARGO_BIN_EXE_sluice-lab")).with_file_name("sluice");
    let missing = [(&program, "cargo build --workspace"), (&PathBuf::from(DNSMASQ), "make setup")]
        .into_iter()
        .find(|(file, _)| !file.is_file())
        .map(|(file, remedy)| println!("skipped: there is no {} (`{remedy}`)", file.display()));
    missing.is_none().then_some(program)
}

struct World {
    lab: Lab,
    program: PathBuf,
}

impl World {
    fn start() -> Option<Self> {
        let program = sluice()?;
        let mut topology = Topology::built_in().unwrap();
        topology.marathons.clear();
        topology.mesos = None;
        Some(Self { lab: Lab::up(&topology, &Options::default()).unwrap(), program })
    }

    /// Runs Sluice with more in `[dns]`.
    fn run(&self, keys: &str) -> Child {
        let file = self.lab.sluice_config();
        let text = std::fs::read_to_string(&file).unwrap();
        std::fs::write(&file, text.replacen("[dns]\n", &format!("[dns]\n{keys}\n"), 1)).unwrap();
        self.lab.start_sluice(&self.program).unwrap()
    }

    /// A resolver that knows `www.example.org` for two seconds, and a long text.
    fn resolver(&self) -> Child {
        let text = vec!["x".repeat(200); 16].join(",");
        let listen = format!("--listen-address={RESOLVER}");
        let text = format!("--txt-record=big.example.org,{text}");
        let arguments = [
            "--no-daemon",
            "--conf-file=/dev/null",
            "--no-resolv",
            "--no-hosts",
            "--user=root",
            "--bind-interfaces",
            &listen,
            "--local=/example.org/",
            "--host-record=www.example.org,192.0.2.80,2",
            "--host-record=lasting.example.org,192.0.2.81,300",
            &text,
        ];
        self.lab.start("master", "dnsmasq", Path::new(DNSMASQ), &arguments).unwrap()
    }

    fn dig(&self, role: &str, words: &[&str]) -> String {
        let words = [&["dig", "+tries=1", "+time=6", "@198.51.100.1"][..], words].concat();
        String::from_utf8_lossy(&self.lab.exec(role, &words).unwrap().stdout).into_owned()
    }

    /// An event of the forwarder's.
    fn count(&self, event: &str) -> u64 {
        let text = get_unix(&self.lab.sluice_socket(), "/metrics").unwrap().body;
        let line = text.lines().find(|line| line.contains(&format!("dns_forward_total{{event=\"{event}\"}}")));
        line.and_then(|line| line.rsplit(' ').next()).and_then(|n| n.parse().ok()).unwrap_or(0)
    }
}

fn end(mut child: Child) {
    kill(Pid::from_raw(child.id() as i32), Signal::SIGTERM).unwrap();
    child.wait().unwrap();
}

fn is_refused(said: &str) -> bool {
    said.contains("status: REFUSED")
}

#[test]
fn foreign_names_are_answered_by_a_resolver_and_out_of_memory_when_it_is_gone() {
    let Some(world) = World::start() else { return };
    let resolver = world.resolver();
    let running = world.run("");
    assert!(is_refused(&world.dig("client", &["www.example.org"])), "external = false");
    end(running);

    let trusted = "trusted = [\"192.0.2.0/24\", \"9.0.0.0/8\"]";
    let running = world.run(&format!("external = true\nresolvers = [\"{RESOLVER}\"]\n{trusted}"));
    let said = world.dig("client", &["www.example.org"]);
    assert!(said.contains("status: NOERROR") && said.contains("192.0.2.80"), "{said}");
    assert!(said.contains("flags: qr rd ra;"), "{said}");
    for role in ["client", "c1", "sluice"] {
        let said = world.dig(role, &["+short", "lasting.example.org"]);
        assert_eq!(said.trim(), "192.0.2.81", "{role}");
        assert_eq!(world.dig(role, &["+short", "+tcp", "lasting.example.org"]).trim(), "192.0.2.81", "{role} by TCP");
    }
    assert_eq!((world.count("queries"), world.count("cached")), (2, 5));
    let said = world.dig("client", &["nosuch.example.org"]);
    assert!(said.contains("status: NXDOMAIN"), "{said}");
    assert!(is_refused(&world.dig("client", &["+norecurse", "www.example.org"])), "RD=0");
    // Outside of dns.trusted.
    assert!(is_refused(&world.dig("agent1", &["www.example.org"])), "a stranger");
    let said = world.dig("client", &["+ignore", "big.example.org", "TXT"]);
    assert!(said.contains(" tc ") && said.contains("ANSWER: 0"), "{said}");
    let said = world.dig("client", &["+short", "big.example.org", "TXT"]);
    assert_eq!(said.matches('x').count(), 16 * 200, "the whole of it, by TCP");
    assert!(world.count("over_tcp") > 0);

    end(resolver);
    std::thread::sleep(Duration::from_millis(2100));
    let said = world.dig("client", &["www.example.org"]);
    assert!(said.contains("192.0.2.80"), "a stale answer: {said}");
    assert!(world.count("stale") > 0);
    let said = world.dig("client", &["unknown.example.org"]);
    assert!(said.contains("status: SERVFAIL"), "{said}");

    let resolver = world.resolver();
    let mut tries = 0;
    // What failed is asked again after five seconds.
    while !world.dig("client", &["unknown.example.org"]).contains("status: NXDOMAIN") {
        tries += 1;
        assert!(tries < 40, "the resolver is back");
        std::thread::sleep(Duration::from_millis(250));
    }
    end(resolver);
    let explained = world.lab.command("sluice", &world.program.display().to_string());
    let socket = world.lab.sluice_socket().display().to_string();
    let explained = explained.unwrap().args(["query", "www.example.org", "--explain", "--socket", &socket]).output();
    let explained = String::from_utf8(explained.unwrap().stdout).unwrap();
    assert!(explained.contains(&format!("forwarded to {RESOLVER}:53 (dns.resolvers)")), "{explained}");
    end(running);
    world.lab.down().unwrap();
}
