//! The whole program on a veth with two queues, in a namespace of the test's own: it serves, leaves the node as it was,
//! and starts again after SIGKILL.
#![allow(clippy::unwrap_used, clippy::panic, reason = "a test's helper fails the test")]

use std::io::Read as _;
use std::path::PathBuf;
use std::process::{Child, Command, Stdio};
use std::time::{Duration, Instant};

use serde_json::Value;

mod namespace;

use namespace::{Station, everything, in_own_namespace, sh};

const PROGRAM: &str = env!("CARGO_BIN_EXE_sluice");

/// The node: `eth0` with two queues, and, behind one queue (a local stack moves a flow to another one when it sends
/// again, which no card does), a station behind it that is client (192.0.2.8) and server (192.0.2.7) at once.
fn node() -> Station {
    // Duplicate address detection would make the node differ from one moment to the next.
    sh("echo 1 > /proc/sys/net/ipv6/conf/all/disable_ipv6; echo 1 > /proc/sys/net/ipv6/conf/default/disable_ipv6");
    sh("ip link add eth0 numtxqueues 2 numrxqueues 2 type veth peer name c0 numtxqueues 1 numrxqueues 1");
    sh("ip addr add 192.0.2.1/24 dev eth0; ip link set eth0 up; ethtool -K eth0 rxvlan off");
    let station = Station::new();
    sh(&format!("ip link set c0 netns {}", station.pid()));
    station.sh("ethtool -K c0 tx off >/dev/null; ip link set lo up; ip addr add 192.0.2.7/24 dev c0");
    station.sh("ip addr add 192.0.2.8/24 dev c0; ip link set c0 up; ip route add 172.16.0.0/16 via 192.0.2.1");
    station
}

/// The configuration that the tests run, in this folder.
fn written(folder: &std::path::Path) -> PathBuf {
    let file = folder.join("sluice.toml");
    let socket = folder.join("sluice.sock");
    let text = format!(
        r#"
[[port]]
name = "lan"
interface = "eth0"
queues = [0, 1]
[[service]]
vip = "172.16.0.1:80"
backends = [{{ address = "192.0.2.7:31001" }}]
[snat]
underlay = ["192.0.2.100"]
[overlay]
vtep = "44.128.0.9/20"
[[overlay.network]]
name = "dcos"
subnet = "9.0.0.0/8"
prefix = 24
own = "9.0.9.0/24"
[host]
addresses = ["9.0.9.1/24"]
[api]
listen = "127.0.0.1:8123"
socket = "{}"
"#,
        socket.display()
    );
    std::fs::write(&file, text).unwrap();
    file
}

/// A running sluice; killed when the test ends early.
struct Running {
    child: Child,
    folder: PathBuf,
}

impl Running {
    fn start(test: &str) -> Self {
        Self::start_under(test, &["env"])
    }

    /// Started by a program that becomes it.
    fn start_under(test: &str, starter: &[&str]) -> Self {
        Self::start_with(test, starter, None)
    }

    /// With other SNAT addresses, and more at the end of the configuration.
    fn start_with(test: &str, starter: &[&str], more: Option<(&str, &str)>) -> Self {
        let folder = std::env::temp_dir().join(format!("sluice-run-{}-{test}", std::process::id()));
        std::fs::create_dir_all(&folder).unwrap();
        let file = written(&folder);
        if let Some((snat, more)) = more {
            let text = std::fs::read_to_string(&file).unwrap().replace("\"192.0.2.100\"", snat);
            std::fs::write(&file, text + more).unwrap();
        }
        let child = Command::new(starter[0])
            .args(&starter[1..])
            .arg(PROGRAM)
            .args(["--log-format", "json", "run", "-c"])
            .arg(&file)
            .arg("--state")
            .arg(folder.join("state"))
            .env_remove("RUST_LOG")
            .stderr(Stdio::piped())
            .spawn()
            .unwrap();
        let mut running = Self { child, folder };
        running.await_ready();
        running
    }

    fn await_ready(&mut self) {
        let began = Instant::now();
        while !Command::new("curl").args(["-sf", "127.0.0.1:8123/readyz"]).output().unwrap().status.success() {
            if let Some(status) = self.child.try_wait().unwrap() {
                panic!("ended with {status}: {}", self.logs());
            }
            assert!(began.elapsed() < Duration::from_secs(20), "not ready in time");
            std::thread::sleep(Duration::from_millis(50));
        }
    }

    fn show(&self, what: &str) -> Value {
        let socket = self.folder.join("sluice.sock");
        let out = Command::new(PROGRAM).args(["show", what, "--json", "--socket"]).arg(socket).output().unwrap();
        assert!(out.status.success(), "{}", String::from_utf8_lossy(&out.stderr));
        serde_json::from_slice(&out.stdout).unwrap()
    }

    /// What was dropped so far, by reason.
    fn dropped(&self) -> String {
        let drops = self.show("drops");
        let some = drops["reasons"].as_array().unwrap().iter().filter(|r| r["count"] != 0);
        some.map(|r| format!("{}: {}, ", r["name"], r["count"])).collect()
    }

    fn signal(&mut self, signal: &str) -> Option<i32> {
        sh(&format!("kill -{signal} {}", self.child.id()));
        self.child.wait().unwrap().code()
    }

    fn logs(&mut self) -> String {
        let mut text = String::new();
        self.child.stderr.take().unwrap().read_to_string(&mut text).unwrap();
        text
    }
}

impl Drop for Running {
    fn drop(&mut self) {
        let _ = self.child.kill();
        let _ = self.child.wait();
        let _ = std::fs::remove_dir_all(&self.folder);
    }
}

fn curl(station: &Station) -> String {
    station.sh("curl -sS -m 5 --interface 192.0.2.8 http://172.16.0.1/ 2>&1 || true")
}

/// A process that dies with this value.
struct Server(Child);

impl Drop for Server {
    fn drop(&mut self) {
        let _ = (self.0.kill(), self.0.wait());
    }
}

/// A server on the station that answers everything with `served`.
fn serve(station: &Station) -> Server {
    let answer = "import http.server as h\nclass A(h.BaseHTTPRequestHandler):\n def do_GET(s):\n  s.send_response(200); s.send_header(\"Content-Length\",\"6\"); s.end_headers(); s.wfile.write(b\"served\")\n def log_message(*a): pass\n\nclass S(h.HTTPServer): address_family=10\nS((\"::\",31001),A).serve_forever()";
    let child = Command::new("nsenter")
        .args(["-t", &station.pid().to_string(), "-n", "python3", "-c", answer])
        .spawn()
        .unwrap();
    let server = Server(child);
    station.sh(
        "for n in $(seq 100); do curl -sf -o /dev/null http://192.0.2.7:31001/ && exit 0; sleep 0.05; done; exit 1",
    );
    server
}

#[test]
fn a_vip_is_served_to_a_client_and_to_the_node_itself_and_the_end_leaves_the_node_as_it_was() {
    let name = "a_vip_is_served_to_a_client_and_to_the_node_itself_and_the_end_leaves_the_node_as_it_was";
    in_own_namespace(name, || async {
        let station = node();
        let _server = serve(&station);
        // Neighbours that the kernel itself learned age by themselves: they are no part of the comparison.
        sh("ip neigh flush all");
        let before = everything();
        let mut running = Running::start("whole");
        for _ in 0..5 {
            assert_eq!(curl(&station), "served");
        }
        assert_eq!(sh("curl -s -m 5 http://172.16.0.1/"), "served", "the node's own processes use VIPs too");
        assert!(station.sh("ping -c1 -W2 172.16.0.1").contains("1 received"));
        assert!(station.sh("ping -c1 -W2 192.0.2.1").contains("1 received"), "the node itself is still there");
        for (to, what) in [("9.0.7.7", "containers"), ("44.128.0.7", "VTEPs, behind which containers are")] {
            let route = sh(&format!("ip route get {to}"));
            assert!(route.contains("dev sluice0 src 9.0.9.1"), "{what}: {route}");
        }
        let vips = running.show("vips");
        assert_eq!(vips[0]["backends"][0]["flows"], 6, "{vips}");
        let drops = running.show("drops");
        assert_eq!(drops["books"]["balanced"], true, "{drops}");
        let metrics = sh("curl -sf 127.0.0.1:8123/metrics");
        assert!(metrics.contains("sluice_vip_packets_total{vip=\"172.16.0.1:80/tcp\""), "{metrics}");
        assert!(sh("ip -d link show eth0").contains("xdp"));
        let socket = running.folder.join("sluice.sock");
        let mode = std::os::unix::fs::PermissionsExt::mode(&std::fs::metadata(&socket).unwrap().permissions());
        assert_eq!(mode & 0o777, 0o660);
        assert_eq!(running.signal("TERM"), Some(0));
        let logs = running.logs();
        assert!(logs.lines().all(|l| serde_json::from_str::<Value>(l).is_ok_and(|l| l["level"] != "ERROR")), "{logs}");
        assert!(!socket.exists());
        sh("ip neigh flush all");
        assert_eq!(everything(), before);
    });
}

#[test]
fn a_start_after_sigkill_finds_what_was_left_and_serves_again() {
    in_own_namespace("a_start_after_sigkill_finds_what_was_left_and_serves_again", || async {
        let station = node();
        let _server = serve(&station);
        sh("ip neigh flush all");
        sh("echo 1 > /proc/sys/net/ipv4/ip_forward");
        let before = everything();
        let mut running = Running::start("killed");
        assert_eq!(curl(&station), "served");
        running.signal("KILL");
        // The pair is still there, and with it the routes: what goes in on one end must not come back out of the other.
        let sent = || {
            let link: Value = serde_json::from_str(&sh("ip -s -j link show sluice0")).unwrap();
            link[0]["stats64"]["tx"]["packets"].as_u64().unwrap()
        };
        let sent_before = sent();
        let ping = station.sh("ping -c3 -i0.2 -W1 172.16.0.1 || true");
        assert!(ping.contains(" 0 received") && !ping.contains("exceeded"), "{ping}");
        assert!(sent() - sent_before < 10, "packets went round");
        assert!(sh("ip route").contains("blackhole 172.16.0.1"), "the kernel must not answer for a VIP now");
        assert_ne!(curl(&station), "served");
        let monitor = Command::new("ip").args(["monitor", "route"]).stdout(Stdio::piped()).spawn().unwrap();
        let mut running = Running::start("killed");
        assert_eq!(curl(&station), "served");
        let mut monitor = Server(monitor);
        monitor.0.kill().unwrap();
        let mut happened = String::new();
        monitor.0.stdout.take().unwrap().read_to_string(&mut happened).unwrap();
        let gone = happened.lines().filter(|l| l.contains("Deleted blackhole")).count();
        assert!(happened.contains("172.16.0.1") && gone == 0, "a moment without blackholes: {happened}");
        assert_eq!(sh("ip route show proto 83").lines().filter(|l| l.contains("172.16.0.1")).count(), 2);
        assert_eq!(running.signal("INT"), Some(0));
        sh("ip neigh flush all");
        assert_eq!(everything(), before);
    });
}

/// Asks until the answer is `served`; how long that took.
fn served_again(station: &Station) -> Duration {
    let began = Instant::now();
    while station.sh("curl -sS -m 1 --interface 192.0.2.8 http://172.16.0.1/ 2>&1 || true") != "served" {
        assert!(began.elapsed() < Duration::from_secs(8), "VIPs stopped for ever");
    }
    began.elapsed()
}

#[test]
fn neighbours_and_routes_that_vanish_come_back_and_vips_with_them() {
    in_own_namespace("neighbours_and_routes_that_vanish_come_back_and_vips_with_them", || async {
        let station = node();
        let _server = serve(&station);
        let mut running = Running::start("flap");
        assert_eq!(curl(&station), "served");
        let blackholes = || sh("ip route show proto 83 type blackhole");
        let (routes, nowhere) = (sh("ip route show proto 83"), blackholes());
        for trouble in [
            "ip neigh flush dev eth0",
            "ip link set eth0 down; sleep 0.3; ip link set eth0 up",
            "ip link set eth0 down; ip link set eth0 up",
            "ip route flush proto 83",
            "ip link set sluice0 down; sleep 0.1; ip link set sluice0 up",
        ] {
            sh(trouble);
            let took = served_again(&station);
            println!("{trouble}: served again after {took:?}");
            assert!(took < Duration::from_secs(4), "{trouble}: {took:?}");
            let began = Instant::now();
            while blackholes() != nowhere || sh("ip route show proto 83") != routes {
                assert!(began.elapsed() < Duration::from_secs(2), "{trouble}: {}", sh("ip route show proto 83"));
                std::thread::sleep(Duration::from_millis(20));
            }
            assert_eq!(sh("curl -s -m 5 http://172.16.0.1/"), "served", "{trouble}: the node itself");
            let began = Instant::now();
            while !sh("ip neigh show dev eth0").contains("managed") {
                assert!(began.elapsed() < Duration::from_secs(2), "{trouble}: {}", sh("ip neigh"));
                std::thread::sleep(Duration::from_millis(20));
            }
        }
        assert_eq!(running.signal("TERM"), Some(0));
    });
}

#[test]
fn a_container_whose_proc_sys_is_read_only_keeps_nothing_from_it() {
    in_own_namespace("a_container_whose_proc_sys_is_read_only_keeps_nothing_from_it", || async {
        let station = node();
        let _server = serve(&station);
        sh(
            "for k in all default; do echo 0 > /proc/sys/net/ipv6/conf/$k/disable_ipv6; done; echo 1 > /proc/sys/net/ipv4/conf/default/rp_filter",
        );
        let read_only = "mount --bind /proc/sys /proc/sys && mount -o remount,bind,ro /proc/sys && exec \"$@\"";
        let mut running = Running::start_under("container", &["unshare", "--mount", "sh", "-c", read_only, "sh"]);
        assert_eq!(curl(&station), "served");
        assert_eq!(sh("curl -s -m 5 http://172.16.0.1/"), "served");
        assert!(!sh("ip -6 addr show dev sluice0").contains("inet6"));
        assert_eq!(running.signal("TERM"), Some(0));
        let logs = running.logs();
        assert!(logs.contains("IPv6 stays on there"), "{logs}");
    });
}

#[test]
fn an_interface_that_vanishes_ends_it_with_a_clear_error_and_without_leftovers() {
    in_own_namespace("an_interface_that_vanishes_ends_it_with_a_clear_error_and_without_leftovers", || async {
        let _station = node();
        let mut running = Running::start("vanished");
        sh("ip link del eth0");
        assert_eq!(running.child.wait().unwrap().code(), Some(1));
        let logs = running.logs();
        assert!(logs.contains("interface eth0 has gone") && !logs.contains("as it was"), "{logs}");
        assert!(!sh("ip link").contains("sluice0") && !sh("ip route").contains("proto 83"), "{logs}");
    });
}

/// What `sluice run` says when it does not start.
fn refused(file: &std::path::Path) -> String {
    let state = file.with_file_name("other-state");
    let out = Command::new(PROGRAM).args(["run", "-c"]).arg(file).arg("--state").arg(state).output().unwrap();
    assert_eq!(out.status.code(), Some(1));
    String::from_utf8_lossy(&out.stderr).into_owned()
}

#[test]
fn what_stands_in_the_way_is_named_and_nothing_is_left() {
    in_own_namespace("what_stands_in_the_way_is_named_and_nothing_is_left", || async {
        let station = node();
        let _server = serve(&station);
        let running = Running::start("first");
        assert_eq!(curl(&station), "served");
        let before = everything();
        let file = running.folder.join("sluice.toml");
        let text = std::fs::read_to_string(&file).unwrap();
        let elsewhere = text.replace("sluice.sock", "second.sock").replace("8123", "8124");
        let other = running.folder.join("second.toml");
        // The very same; another socket; other names too; no host port at all.
        for second in [
            text.clone(),
            elsewhere.clone(),
            elsewhere.replace("[host]", "[host]\ninterface = \"other\"\npeer = \"otherx\""),
            elsewhere.replace("[host]\naddresses = [\"9.0.9.1/24\"]", ""),
        ] {
            std::fs::write(&other, second).unwrap();
            let said = refused(&other);
            assert!(said.contains("another sluice runs in this network namespace"), "{said}");
            let flows =
                |text: &str| text.lines().filter(|l| !l.contains("192.0.2.")).map(str::to_owned).collect::<Vec<_>>();
            assert_eq!(flows(&everything()), flows(&before), "nothing of the first one's was touched");
        }
        assert_eq!(curl(&station), "served");
        drop(running);
        // The kernel's own vxlan device.
        sh("ip link add vtep1024 type vxlan id 1024 dstport 64000 dev eth0; ip link set vtep1024 up");
        std::fs::create_dir_all(file.parent().unwrap()).unwrap();
        std::fs::write(&file, &text).unwrap();
        let said = refused(&file);
        assert!(said.contains("vtep1024") && said.contains("overlay.vni"), "{said}");
        sh("ip link del vtep1024");
        // Somebody else's program.
        let program = sluice_dataplane::io::steer::Pass::attach("eth0").unwrap();
        let said = refused(&file);
        assert!(said.contains("interface eth0 has an XDP program already"), "{said}");
        assert!(!said.contains("as it was"), "{said}");
        drop(program);
        let _ = std::fs::remove_dir_all(file.parent().unwrap());
    });
}

#[test]
fn an_interface_that_is_missing_and_a_queue_that_another_program_holds_are_named() {
    use sluice_dataplane::io::xsk::{Bind, WorkerUmem, XskPort};
    in_own_namespace("an_interface_that_is_missing_and_a_queue_that_another_program_holds_are_named", || async {
        let _station = node();
        let folder = std::env::temp_dir().join(format!("sluice-run-{}-held", std::process::id()));
        std::fs::create_dir_all(&folder).unwrap();
        let file = written(&folder);
        let text = std::fs::read_to_string(&file).unwrap();
        sh("ip neigh flush all");
        let before = everything();
        std::fs::write(&file, text.replace("\"eth0\"", "\"eth7\"")).unwrap();
        let said = refused(&file);
        assert!(
            said.contains("sluice.toml:4:13: there is no interface eth7") && said.contains("did you mean \"eth0\"?"),
            "{said}"
        );
        std::fs::write(&file, &text).unwrap();
        let (umem, _pool) = WorkerUmem::new(std::num::NonZeroU32::new(64).unwrap(), 2048, 64).unwrap();
        let holder = XskPort::open(&umem, "eth0", 1, 16, Bind::Copy).unwrap();
        let said = refused(&file);
        assert!(said.contains("queue 1 of eth0 is taken by another process") && said.contains("name other"), "{said}");
        assert!(!said.contains("as it was"), "{said}");
        drop((holder, umem));
        std::fs::remove_dir_all(&folder).unwrap();
        sh("ip neigh flush all");
        assert_eq!(everything(), before);
    });
}

/// [`node`] with IPv6 on its one link: the same station is 2001:db8::7 and ::8.
fn node6() -> Station {
    let station = node();
    sh("echo 0 > /proc/sys/net/ipv6/conf/eth0/disable_ipv6; ip -6 addr add 2001:db8::1/64 dev eth0 nodad");
    station.sh("ip -6 addr add 2001:db8::7/64 dev c0 nodad; ip -6 addr add 2001:db8::8/64 dev c0 nodad");
    station.sh("ip -6 route add fd00:80::/64 via 2001:db8::1");
    station
}

#[test]
fn an_ipv6_vip_is_served_to_a_client_and_to_the_node_itself() {
    in_own_namespace("an_ipv6_vip_is_served_to_a_client_and_to_the_node_itself", || async {
        let station = node6();
        let _server = serve(&station);
        let service = "[[service]]\nvip = \"[fd00:80::1]:80\"\nbackends = [{ address = \"[2001:db8::7]:31001\" }]\n";
        let snat = "\"192.0.2.100\", \"2001:db8::100\"";
        let mut running = Running::start_with("ipv6", &["env"], Some((snat, service)));
        for _ in 0..3 {
            let said = station.sh("curl -gsS -m 5 --interface 2001:db8::8 http://[fd00:80::1]/ 2>&1 || true");
            assert_eq!(said, "served", "{}", running.dropped());
        }
        assert_eq!(curl(&station), "served", "IPv4 beside it");
        let routes = sh("ip -6 route show proto 83");
        for destination in ["fd00:80::1", "2001:db8::100"] {
            assert!(routes.contains(&format!("{destination} via fe80::4d:1 dev sluice0")), "{routes}");
            assert!(routes.contains(&format!("blackhole {destination} dev lo")), "{routes}");
        }
        let own = sh("curl -gsS -m 5 http://[fd00:80::1]/ 2>&1 || true");
        assert_eq!(own, "served", "the node's own processes: {}", running.dropped());
        assert!(sh("ip neigh show dev eth0").contains("2001:db8::7"), "the backend is kept resolved");
        assert!(station.sh("ping -6 -c1 -W2 2001:db8::1").contains("1 received"), "the node itself is still there");
        assert_eq!(running.show("drops")["books"]["balanced"], true);
        assert_eq!(running.signal("KILL"), None);
        assert!(sh("ip -6 route show proto 83").contains("blackhole fd00:80::1"), "the kernel must not answer for it");
        let mut running = Running::start_with("ipv6", &["env"], Some((snat, service)));
        let said = station.sh("curl -gsS -m 5 --interface 2001:db8::8 http://[fd00:80::1]/ 2>&1 || true");
        assert_eq!(said, "served", "after SIGKILL");
        assert_eq!(running.signal("TERM"), Some(0));
        assert_eq!(sh("ip -6 route show proto 83"), "");
    });
}
