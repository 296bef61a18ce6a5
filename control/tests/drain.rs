//! Probes and drains of the whole program, on a veth in a namespace of the test's own.
#![allow(clippy::unwrap_used, clippy::panic, reason = "a test's helper fails the test")]

use std::io::Read as _;
use std::path::PathBuf;
use std::process::{Child, Command, Output, Stdio};
use std::time::{Duration, Instant};

use serde_json::Value;

mod namespace;

use namespace::{Station, everything, in_own_namespace, sh};

const PROGRAM: &str = env!("CARGO_BIN_EXE_sluice");

/// The node's `eth0`, and behind it a station that is client (192.0.2.8) and servers (192.0.2.7) at once.
fn node() -> Station {
    sh("echo 1 > /proc/sys/net/ipv6/conf/all/disable_ipv6; echo 1 > /proc/sys/net/ipv6/conf/default/disable_ipv6");
    sh("ip link add eth0 type veth peer name c0; ip addr add 192.0.2.1/24 dev eth0; ip link set eth0 up");
    sh("ethtool -K eth0 rxvlan off");
    let station = Station::new();
    sh(&format!("ip link set c0 netns {}", station.pid()));
    station.sh("ethtool -K c0 tx off >/dev/null; ip link set lo up; ip addr add 192.0.2.7/24 dev c0");
    station.sh("ip addr add 192.0.2.8/24 dev c0; ip link set c0 up; ip route add 172.16.0.0/16 via 192.0.2.1");
    station
}

/// A process that dies with this value.
struct Process(Child);

impl Drop for Process {
    fn drop(&mut self) {
        let _ = (self.0.kill(), self.0.wait());
    }
}

fn python(station: &Station, script: &str, out: Stdio) -> Process {
    let pid = station.pid().to_string();
    let child = Command::new("nsenter").args(["-t", &pid, "-n", "python3", "-c", script]).stdout(out).spawn();
    Process(child.unwrap())
}

/// A web server on the station that answers every request with its port and leaves connections open.
fn serve(station: &Station, port: u16) -> Process {
    let script = format!(
        "import http.server as h\nclass A(h.BaseHTTPRequestHandler):\n protocol_version=\"HTTP/1.1\"\n def do_GET(s):\n  s.send_response(200); s.send_header(\"Content-Length\",\"5\"); s.end_headers(); s.wfile.write(b\"{port}\")\n def log_message(*a): pass\nh.ThreadingHTTPServer((\"\",{port}),A).serve_forever()"
    );
    let server = python(station, &script, Stdio::null());
    station.sh(&format!(
        "for n in $(seq 100); do curl -sf -o /dev/null http://192.0.2.7:{port}/ && exit 0; sleep 0.05; done; exit 1"
    ));
    server
}

/// A running sluice.
struct Running {
    child: Process,
    folder: PathBuf,
}

impl Running {
    fn start(folder: PathBuf) -> Self {
        let probes = "kind = \"http\"\npath = \"/up\"\ninterval_seconds = 1\ntimeout_seconds = 1\nrise = 1\nfall = 2";
        Self::start_with(folder, probes)
    }

    /// With these lines in `[health]`.
    fn start_with(folder: PathBuf, health: &str) -> Self {
        std::fs::create_dir_all(&folder).unwrap();
        let text = format!(
            r#"
[[port]]
name = "lan"
interface = "eth0"
queues = [0]
[[service]]
vip = "172.16.0.1:80"
backends = [{{ address = "192.0.2.7:31001" }}, {{ address = "192.0.2.7:31002" }}]
[health]
{health}
[snat]
underlay = ["192.0.2.100"]
[api]
listen = "127.0.0.1:8123"
socket = "{}/sluice.sock"
"#,
            folder.display()
        );
        std::fs::write(folder.join("sluice.toml"), text).unwrap();
        let child = Command::new(PROGRAM)
            .args(["--log-format", "json", "run", "-c"])
            .arg(folder.join("sluice.toml"))
            .arg("--state")
            .arg(folder.join("state"))
            .env_remove("RUST_LOG")
            .stderr(Stdio::piped())
            .spawn();
        let running = Self { child: Process(child.unwrap()), folder };
        within(20, "ready", || {
            Command::new("curl").args(["-sf", "127.0.0.1:8123/readyz"]).output().unwrap().status.success()
        });
        running
    }

    fn ask(&self, arguments: &[&str]) -> Output {
        let socket = self.folder.join("sluice.sock");
        Command::new(PROGRAM).args(arguments).arg("--socket").arg(socket).output().unwrap()
    }

    /// What it answers; it must not refuse.
    fn said(&self, arguments: &[&str]) -> String {
        let out = self.ask(arguments);
        assert!(out.status.success(), "{arguments:?}: {}", String::from_utf8_lossy(&out.stderr));
        String::from_utf8(out.stdout).unwrap()
    }

    /// What it refuses with.
    fn refused(&self, arguments: &[&str]) -> String {
        let out = self.ask(arguments);
        assert_eq!(out.status.code(), Some(1), "{}", String::from_utf8_lossy(&out.stdout));
        String::from_utf8(out.stderr).unwrap()
    }

    /// `PORT STATE JUDGE VERDICT..` of every backend.
    fn backends(&self) -> Vec<String> {
        let document: Value = serde_json::from_str(&self.said(&["show", "backends", "--json"])).unwrap();
        let said = |backend: &Value| {
            let judges = backend["judges"].as_array().unwrap().iter();
            let judges =
                judges.map(|j| format!(" {} {}", j["judge"].as_str().unwrap(), j["verdict"].as_str().unwrap()));
            format!("{} {}{}", backend["port"], backend["state"].as_str().unwrap(), judges.collect::<String>())
        };
        document.as_array().unwrap().iter().map(said).collect()
    }

    fn become_so(&self, expected: &[&str]) {
        within(10, &format!("{expected:?}"), || self.backends() == expected);
    }

    fn metric(&self, line: &str) -> bool {
        sh("curl -sf 127.0.0.1:8123/metrics").lines().any(|found| found == line)
    }

    fn signal(&mut self, signal: &str) -> Option<i32> {
        sh(&format!("kill -{signal} {}", self.child.0.id()));
        self.child.0.wait().unwrap().code()
    }
}

fn within(seconds: u64, what: &str, is_so: impl Fn() -> bool) {
    let began = Instant::now();
    while !is_so() {
        assert!(began.elapsed() < Duration::from_secs(seconds), "not within {seconds} s: {what}");
        std::thread::sleep(Duration::from_millis(50));
    }
}

/// Who answers new flows.
fn answers(station: &Station) -> Vec<String> {
    let all = "for n in $(seq 12); do curl -sS -m 2 --interface 192.0.2.8 http://172.16.0.1/ 2>&1; echo; done";
    let mut all: Vec<String> = station.sh(all).lines().map(str::to_owned).collect();
    all.sort();
    all.dedup();
    all
}

fn folder(test: &str) -> PathBuf {
    let folder = std::env::temp_dir().join(format!("sluice-drain-{}-{test}", std::process::id()));
    let _ = std::fs::remove_dir_all(&folder);
    folder
}

#[test]
fn a_server_that_stops_gets_no_new_flows_and_show_says_why() {
    in_own_namespace("a_server_that_stops_gets_no_new_flows_and_show_says_why", || async {
        let station = node();
        let _first = serve(&station, 31001);
        let second = serve(&station, 31002);
        let mut running = Running::start(folder("probe"));
        running.become_so(&["31001 active probe fit", "31002 active probe fit"]);
        assert_eq!(answers(&station), ["31001", "31002"]);
        drop(second);
        running.become_so(&["31001 active probe fit", "31002 unfit probe unfit"]);
        assert_eq!(answers(&station), ["31001"]);
        let shown = running.said(&["show", "backends"]);
        assert!(shown.contains("http:/up: refused"), "{shown}");
        assert!(running.metric("sluice_backend_healthy{vip=\"172.16.0.1:80/tcp\",backend=\"192.0.2.7:31002\"} 0"));
        let _second = serve(&station, 31002);
        running.become_so(&["31001 active probe fit", "31002 active probe fit"]);
        assert_eq!(running.signal("TERM"), Some(0));
        std::fs::remove_dir_all(&running.folder).unwrap();
    });
}

#[test]
fn a_server_that_refuses_handshakes_is_ejected_and_comes_back() {
    in_own_namespace("a_server_that_refuses_handshakes_is_ejected_and_comes_back", || async {
        let station = node();
        let _first = serve(&station, 31001);
        let mut running = Running::start_with(folder("ejected"), "kind = \"off\"\neject_seconds = 6");
        assert_eq!(running.backends(), ["31001 active", "31002 active"]);
        let refused = answers(&station);
        assert!(refused.iter().any(|said| said.starts_with("curl: (7)")), "nobody listens at 31002: {refused:?}");
        // Of a dozen flows the server had half, as a rule, and five in a row eject it: more, until it has had them.
        within(10, "31002 is ejected", || {
            answers(&station);
            running.backends() == ["31001 active", "31002 unfit passive unfit"]
        });
        assert_eq!(answers(&station), ["31001"]);
        let _second = serve(&station, 31002);
        running.become_so(&["31001 active", "31002 active"]);
        assert_eq!(answers(&station), ["31001", "31002"]);
        assert_eq!(running.signal("TERM"), Some(0));
        std::fs::remove_dir_all(&running.folder).unwrap();
    });
}

#[test]
fn where_every_server_is_judged_unfit_all_of_them_are_used() {
    in_own_namespace("where_every_server_is_judged_unfit_all_of_them_are_used", || async {
        let station = node();
        sh("ip neigh flush all");
        let before = everything();
        let mut running = Running::start(folder("open"));
        let open = "fail-open probe unfit fail-open fit";
        running.become_so(&[&format!("31001 {open}"), &format!("31002 {open}")]);
        let vips = running.said(&["show", "labels"]);
        assert!(vips.contains("172.16.0.1:80/tcp: all backends are unhealthy"), "{vips}");
        assert!(running.metric("sluice_fail_open_vips 1"));
        let _second = serve(&station, 31002);
        running.become_so(&["31001 unfit probe unfit", "31002 active probe fit"]);
        assert_eq!(running.signal("TERM"), Some(0));
        sh("ip neigh flush all");
        assert_eq!(everything(), before, "probes leave nothing in the kernel");
        std::fs::remove_dir_all(&running.folder).unwrap();
    });
}

#[test]
fn a_drain_takes_new_flows_at_once_holds_across_sigkill_and_is_taken_back() {
    in_own_namespace("a_drain_takes_new_flows_at_once_holds_across_sigkill_and_is_taken_back", || async {
        let station = node();
        let _servers = (serve(&station, 31001), serve(&station, 31002));
        let mut running = Running::start(folder("kept"));
        running.become_so(&["31001 active probe fit", "31002 active probe fit"]);
        let said = running.said(&["drain", "192.0.2.7:31001", "--timeout", "3600"]);
        assert!(said.starts_with("backend 192.0.2.7:31001 takes no new flows") && said.contains("3600 s"), "{said}");
        assert!(said.contains("  172.16.0.1:80/tcp 192.0.2.7:31001\n"), "{said}");
        assert_eq!(answers(&station), ["31002"], "at once");
        assert!(running.metric("sluice_drains 1"));
        let drained = ["31001 draining probe fit drain unfit", "31002 active probe fit"];
        assert_eq!(running.backends(), drained);
        running.signal("KILL");
        let folder = running.folder.clone();
        let mut running = Running::start(folder);
        assert_eq!(running.backends()[0].split(' ').nth(1), Some("draining"), "from the first tables on");
        assert_eq!(answers(&station), ["31002"]);
        let shown = running.said(&["show", "drains"]);
        assert!(shown.contains("backend 192.0.2.7:31001  draining") && shown.contains("59m"), "{shown}");
        let said = running.said(&["undrain", "192.0.2.7:31001"]);
        assert!(said.starts_with("backend 192.0.2.7:31001 is drained no longer"), "{said}");
        running.become_so(&["31001 active probe fit", "31002 active probe fit"]);
        assert_eq!(answers(&station), ["31001", "31002"]);
        let said = running.said(&["drain", "192.0.2.7", "--timeout", "3600", "--json"]);
        let done: Value = serde_json::from_str(&said).unwrap();
        assert_eq!((&done["what"], done["kept"].as_bool()), (&"agent 192.0.2.7".into(), Some(true)));
        assert_eq!(done["backends"].as_array().unwrap().len(), 2);
        let nobody = station.sh("curl -sS -m 1 --interface 192.0.2.8 http://172.16.0.1/ 2>&1 || true");
        assert!(nobody.contains("curl: "), "all are drained, so nobody takes new flows: {nobody}");
        assert_eq!(running.signal("TERM"), Some(0));
        std::fs::remove_dir_all(&running.folder).unwrap();
    });
}

#[test]
fn a_flow_that_is_there_is_kept_until_the_time_out_and_then_ends() {
    in_own_namespace("a_flow_that_is_there_is_kept_until_the_time_out_and_then_ends", || async {
        let station = node();
        let _servers = (serve(&station, 31001), serve(&station, 31002));
        let mut running = Running::start(folder("flow"));
        running.become_so(&["31001 active probe fit", "31002 active probe fit"]);
        // Connects until the first server answers, then asks it five times a second on that one connection.
        let script = "import http.client as h, time\nwhile True:\n c=h.HTTPConnection(\"172.16.0.1\",80,timeout=3,source_address=(\"192.0.2.8\",0))\n c.request(\"GET\",\"/\")\n if c.getresponse().read()==b\"31001\": break\n c.close()\nbegan=time.time()\ntry:\n while time.time()-began<15:\n  c.request(\"GET\",\"/\"); print(c.getresponse().read().decode(), flush=True); c.auto_open=0; time.sleep(0.2)\nexcept Exception as e: print(\"ended\", time.time()-began, flush=True)";
        let mut client = python(&station, script, Stdio::piped());
        within(10, "the flow", || running.said(&["show", "sessions"]).contains("established"));
        std::thread::sleep(Duration::from_millis(500));
        running.said(&["drain", "192.0.2.7:31001", "--timeout", "3"]);
        assert_eq!(answers(&station), ["31002"]);
        let over = || running.said(&["show", "drains"]).contains("over");
        assert!(!over());
        within(6, "the time-out", over);
        assert_eq!(running.backends(), ["31002 active probe fit"], "it is in no table");
        let mut said = String::new();
        client.0.stdout.take().unwrap().read_to_string(&mut said).unwrap();
        let kept = said.lines().filter(|line| *line == "31001").count();
        let ended: f64 = said.lines().last().unwrap().strip_prefix("ended ").expect(&said).parse().unwrap();
        assert!(kept >= 12 && said.lines().count() == kept + 1, "{said}");
        assert!((2.5..10.0).contains(&ended), "{said}");
        running.said(&["undrain", "192.0.2.7:31001"]);
        running.become_so(&["31001 active probe fit", "31002 active probe fit"]);
        assert_eq!(running.signal("TERM"), Some(0));
        std::fs::remove_dir_all(&running.folder).unwrap();
    });
}

#[test]
fn what_cannot_be_drained_is_answered_with_what_can() {
    in_own_namespace("what_cannot_be_drained_is_answered_with_what_can", || async {
        let _station = node();
        let mut running = Running::start(folder("refused"));
        let said = running.refused(&["drain", "192.0.2.7:31009"]);
        assert!(said.contains("nothing is called 192.0.2.7:31009: did you mean 192.0.2.7:31001, 192.0.2.7?"), "{said}");
        let said = running.refused(&["drain", "web.1"]);
        assert!(said.contains("2 backends, 0 tasks and 1 agents are known; `sluice show backends`"), "{said}");
        assert!(running.refused(&["undrain", "192.0.2.7"]).contains("is not drained, and nothing else is"));
        let out = running.ask(&["drain", "192.0.2.7", "--timeout", "604801"]);
        assert_eq!(out.status.code(), Some(2), "the command line is wrong");
        let socket = running.folder.join("sluice.sock").display().to_string();
        let post = |body: &str| {
            sh(&format!("curl -s -w %{{http_code}} --unix-socket {socket} -d '{body}' http://sluice/v1/drain"))
        };
        assert!(post("{\"what\":7}").ends_with("400"), "{}", post("{\"what\":7}"));
        let long = post("{\"what\":\"192.0.2.7\",\"timeout_seconds\":604801}");
        assert!(long.contains("604800 (a week) or less") && long.ends_with("400"), "{long}");
        assert!(post(&format!("{{\"what\":\"{}\"}}", "x".repeat(1025))).ends_with("400"));
        assert!(post(&format!("{{\"what\":\"{}\"}}", "x".repeat(100_000))).ends_with("413"));
        let public = sh("curl -s -w %{http_code} -d '{\"what\":\"192.0.2.7\"}' http://127.0.0.1:8123/v1/drain");
        assert!(public.ends_with("404"), "orders are taken on the unix socket alone: {public}");
        assert_eq!(running.signal("TERM"), Some(0));
        std::fs::remove_dir_all(&running.folder).unwrap();
    });
}
