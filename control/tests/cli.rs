//! The command line as people and scripts see it: exit codes, where the answer goes, and what it says.
#![allow(clippy::unwrap_used, reason = "a test's helper fails the test")]

use std::path::{Path, PathBuf};
use std::process::{Command, Output};

use serde_json::Value;

const RIGHT: &str = r#"
[[port]]
name = "lan"
interface = "lo"
queues = [0]
mac = "02:00:00:00:00:01"
addresses = ["10.0.0.1/24"]
[[neighbour]]
ip = "10.0.0.11"
mac = "02:00:00:00:00:11"
port = "lan"
[[neighbour]]
ip = "10.0.0.50"
mac = "02:00:00:00:00:50"
port = "lan"
[[service]]
vip = "172.16.0.1:80"
backends = [{ address = "10.0.0.11:31001" }]
[snat]
underlay = ["10.0.0.100"]
ports = "1024-65535"
"#;

/// A folder of the test's own, removed with it.
struct Folder(PathBuf);

impl Folder {
    fn new(test: &str) -> Self {
        let path = std::env::temp_dir().join(format!("sluice-cli-{}-{test}", std::process::id()));
        std::fs::create_dir_all(&path).unwrap();
        Self(path)
    }

    fn file(&self, name: &str, text: &str) -> PathBuf {
        let path = self.0.join(name);
        std::fs::write(&path, text).unwrap();
        path
    }

    /// A copy that may be run. Another process writes it: a file that this one has open for writing may be inherited
    /// by a child of another test, and is then "text file busy" (execve(2)).
    fn program(&self, name: &str, from: &Path) -> PathBuf {
        let path = self.0.join(name);
        let made = Command::new("install").args(["-m", "755"]).arg(from).arg(&path).status().unwrap();
        assert!(made.success());
        path
    }
}

impl Drop for Folder {
    fn drop(&mut self) {
        let _ = std::fs::remove_dir_all(&self.0);
    }
}

fn sluice(arguments: &[&str]) -> Output {
    Command::new(env!("CARGO_BIN_EXE_sluice")).args(arguments).env_remove("RUST_LOG").output().unwrap()
}

fn text(bytes: &[u8]) -> String {
    String::from_utf8(bytes.to_vec()).unwrap()
}

fn path(path: &Path) -> &str {
    path.to_str().unwrap()
}

#[test]
fn help_lists_every_command_and_the_exit_codes() {
    let help = sluice(&["--help"]);
    assert_eq!(help.status.code(), Some(0));
    let said = text(&help.stdout);
    for word in ["run", "check", "show", "replay", "compile", "zone", "bench", "lab", "Exit codes: 0 done; 1"] {
        assert!(said.contains(word), "{word} is not in {said}");
    }
    let show = text(&sluice(&["show", "--help"]).stdout);
    for subject in ["vips", "backends", "sessions", "drops", "workers", "zone", "labels", "--json", "--socket"] {
        assert!(show.contains(subject), "{subject} is not in {show}");
    }
}

#[test]
fn a_wrong_command_line_is_exit_code_2_and_says_why_on_standard_error() {
    for wrong in [&["brew"][..], &["show", "everything"], &["check", "--nonsense"], &["replay"], &[]] {
        let done = sluice(wrong);
        assert_eq!(done.status.code(), Some(2), "{wrong:?}");
        assert!(done.stdout.is_empty() && !done.stderr.is_empty(), "{wrong:?}");
    }
}

#[test]
fn a_right_configuration_is_0_and_says_what_one_snat_address_serves() {
    let folder = Folder::new("right");
    let file = folder.file("sluice.toml", RIGHT);
    let done = sluice(&["check", "--offline", "-c", path(&file)]);
    assert_eq!(done.status.code(), Some(0), "{}", text(&done.stderr));
    let said = text(&done.stdout);
    assert!(said.contains("right: 1 port(s), 1 worker(s), 1 static service(s)"), "{said}");
    assert!(said.contains("SNAT 10.0.0.100 (IPv4, underlay): one address serves 64512 flows per backend"), "{said}");
}

#[test]
fn a_wrong_configuration_is_1_with_file_line_column_caret_and_remedy() {
    let folder = Folder::new("wrong");
    let file = folder.file("sluice.toml", &RIGHT.replace("queues", "queus"));
    let done = sluice(&["check", "--offline", "-c", path(&file)]);
    assert_eq!(done.status.code(), Some(1));
    let said = text(&done.stderr);
    assert!(said.contains(&format!("{}:5:1: ", file.display())), "{said}");
    assert!(said.contains("^") && said.contains("queues"), "{said}");
    let json = sluice(&["check", "--offline", "--json", "-c", path(&file)]);
    assert_eq!(json.status.code(), Some(1));
    let document: Value = serde_json::from_slice(&json.stdout).unwrap();
    assert_eq!(document["valid"], false);
    assert_eq!(document["errors"][0]["line"], 5);
    assert!(document["errors"][0]["remedy"].as_str().unwrap().contains("queues"), "{document}");
}

#[test]
fn a_file_that_is_not_there_and_a_machine_that_does_not_fit_are_1() {
    let missing = sluice(&["check", "-c", "/nonexistent/sluice.toml"]);
    assert_eq!(missing.status.code(), Some(1));
    assert!(text(&missing.stderr).contains("/nonexistent/sluice.toml"));
    let folder = Folder::new("machine");
    let file = folder.file("sluice.toml", &RIGHT.replace("\"lo\"", "\"no-such-if\""));
    assert_eq!(sluice(&["check", "--offline", "-c", path(&file)]).status.code(), Some(0));
    let here = sluice(&["check", "-c", path(&file)]);
    assert_eq!(here.status.code(), Some(1));
    assert!(text(&here.stderr).contains("no-such-if"), "{}", text(&here.stderr));
}

#[test]
fn nobody_at_the_socket_is_1_and_names_the_remedy() {
    let done = sluice(&["show", "vips", "--socket", "/nonexistent/sluice.sock"]);
    assert_eq!(done.status.code(), Some(1));
    let said = text(&done.stderr);
    assert!(said.contains("/nonexistent/sluice.sock") && said.contains("sluice run"), "{said}");
}

#[test]
fn run_without_privileges_is_1_and_names_the_capabilities() {
    let folder = Folder::new("privileges");
    let socket = folder.0.join("sluice.sock");
    let file =
        folder.file("sluice.toml", &format!("{RIGHT}\n[api]\nlisten = \"\"\nsocket = \"{}\"\n", socket.display()));
    let setpriv = Command::new("setpriv")
        .args(["--bounding-set=-all", "--inh-caps=-all", "--reuid=65534", "--regid=65534", "--clear-groups", "true"])
        .status();
    if !setpriv.is_ok_and(|s| s.success()) {
        println!("skipped: giving privileges up needs root and setpriv");
        return;
    }
    // The program itself must be reachable for an ordinary user.
    let program = folder.program("sluice", env!("CARGO_BIN_EXE_sluice").as_ref());
    let done = Command::new("setpriv")
        .args(["--bounding-set=-all", "--inh-caps=-all", "--reuid=65534", "--regid=65534", "--clear-groups"])
        .arg(&program)
        .args(["run", "-c", path(&file)])
        .env("STATE_DIRECTORY", folder.0.join("state"))
        .output()
        .unwrap();
    assert_eq!(done.status.code(), Some(1), "{}", text(&done.stderr));
    let said = text(&done.stderr);
    assert!(said.contains("lacks CAP_NET_ADMIN, CAP_NET_RAW, CAP_BPF"), "{said}");
}

#[test]
fn bench_and_lab_are_programs_beside_this_one() {
    let folder = Folder::new("sisters");
    let program = folder.program("sluice", env!("CARGO_BIN_EXE_sluice").as_ref());
    let missing = Command::new(&program).arg("lab").output().unwrap();
    assert_eq!(missing.status.code(), Some(1));
    assert!(text(&missing.stderr).contains("sluice-lab"), "{}", text(&missing.stderr));
    folder.program("sluice-lab", &folder.file("lab.sh", "#!/bin/sh\necho \"lab got $*\"; exit 7\n"));
    let done = Command::new(&program).args(["lab", "up", "--help", "-x"]).output().unwrap();
    assert_eq!((done.status.code(), text(&done.stdout).trim()), (Some(7), "lab got up --help -x"));
}

/// A TCP SYN from 10.0.0.50:40000 to 172.16.0.1:80, in a pcap file.
fn capture() -> Vec<u8> {
    let hex = "020000000001020000000050080045000028000140004006\
               0000\
               0a000032ac1000019c4000500000000100000000500220000000\
               0000";
    let digits: Vec<u8> = hex.bytes().filter(u8::is_ascii_hexdigit).collect();
    let mut frame: Vec<u8> =
        digits.chunks(2).map(|p| u8::from_str_radix(std::str::from_utf8(p).unwrap(), 16).unwrap()).collect();
    let sum = |bytes: &[u8], start: u32| {
        let mut sum = start;
        for pair in bytes.chunks(2) {
            sum += u32::from(u16::from_be_bytes([pair[0], *pair.get(1).unwrap_or(&0)]));
        }
        while sum > 0xffff {
            sum = (sum & 0xffff) + (sum >> 16);
        }
        !(sum as u16)
    };
    let ip = sum(&frame[14..34], 0);
    frame[24..26].copy_from_slice(&ip.to_be_bytes());
    let pseudo = !u32::from(sum(&frame[26..34], 6 + 20)) & 0xffff;
    let tcp = sum(&frame[34..54], pseudo);
    frame[50..52].copy_from_slice(&tcp.to_be_bytes());
    let mut file = Vec::new();
    for word in [0xa1b2_c3d4u32, 0x0004_0002, 0, 0, 65535, 1, 1_700_000_000, 0, frame.len() as u32, frame.len() as u32]
    {
        file.extend(word.to_le_bytes());
    }
    file.extend(frame);
    file
}

#[test]
fn a_capture_is_replayed_and_the_counters_have_every_reason_with_zeros() {
    let folder = Folder::new("replay");
    let file = folder.file("sluice.toml", RIGHT);
    let (input, output, counters) =
        (folder.0.join("in.pcap"), folder.0.join("out.pcap"), folder.0.join("counters.json"));
    std::fs::write(&input, capture()).unwrap();
    let done = sluice(&[
        "replay",
        "-c",
        path(&file),
        "--in",
        &format!("lan={}", input.display()),
        "--out",
        path(&output),
        "--workers",
        "2",
        "--counters",
        path(&counters),
    ]);
    assert_eq!(done.status.code(), Some(0), "{}", text(&done.stderr));
    let said: Value = serde_json::from_slice(&std::fs::read(&counters).unwrap()).unwrap();
    assert_eq!((&said["rx"], &said["tx"], &said["host"]), (&1.into(), &1.into(), &0.into()), "{said}");
    let drops = said["drops"].as_object().unwrap();
    assert!(drops.len() > 20 && drops.values().all(|n| n == 0), "{said}");
    let out = std::fs::read(&output).unwrap();
    // 24 octets of file header, 16 of packet header, then Ethernet: to the backend's MAC, from SNAT to 10.0.0.11:31001.
    assert_eq!(out[40..46], [2, 0, 0, 0, 0, 0x11]);
    assert_eq!(out[66..74], [10, 0, 0, 100, 10, 0, 0, 11]);
    assert_eq!(out[76..78], 31001u16.to_be_bytes());
    let unknown = sluice(&["replay", "-c", path(&file), "--in", "wan=x.pcap"]);
    assert_eq!(unknown.status.code(), Some(1));
    assert!(text(&unknown.stderr).contains("no port `wan`; the configuration has lan"), "{}", text(&unknown.stderr));
}

#[test]
fn compile_says_what_becomes_of_a_label() {
    let folder = Folder::new("compile");
    let file = folder.file("sluice.toml", RIGHT);
    let apps = folder.file("apps.json", r#"{"apps":[]}"#);
    let done = sluice(&["compile", "--json", "-c", path(&file), "--marathon-apps", path(&apps)]);
    assert_eq!(done.status.code(), Some(0), "{}", text(&done.stderr));
    let said: Value = serde_json::from_slice(&done.stdout).unwrap();
    assert_eq!(said["vips"][0]["ip"], "172.16.0.1");
    assert!(said["rejected"].as_array().unwrap().is_empty());
    let table = text(&sluice(&["compile", "-c", path(&file), "--marathon-apps", path(&apps)]).stdout);
    assert!(table.contains("172.16.0.1:80") && table.contains("every label is honoured"), "{table}");
    let cut = folder.file("cut.json", r#"{"apps":["#);
    let done = sluice(&["compile", "--json", "-c", path(&file), "--marathon-apps", path(&cut)]);
    assert_eq!(done.status.code(), Some(1));
}

#[test]
fn check_says_what_each_worker_has_of_a_snat_address() {
    let folder = Folder::new("share");
    let file = folder.file("sluice.toml", &RIGHT.replace("[0]", "[0, 1]"));
    let said = text(&sluice(&["check", "--offline", "-c", path(&file)]).stdout);
    assert!(said.contains("one address serves 64512 flows per backend, 32256 on each worker"), "{said}");
    let json = sluice(&["check", "--offline", "--json", "-c", path(&file)]);
    let document: Value = serde_json::from_slice(&json.stdout).unwrap();
    assert_eq!(document["snat"][0]["flows_per_backend_and_worker"], 32256, "{document}");
}

#[test]
fn check_says_what_bounds_come_to_on_so_many_workers() {
    let folder = Folder::new("bounds");
    let bounded = |sessions: u32, quota: &str| {
        let more = RIGHT.replace("[0]", "[0, 1, 2]").replace("[snat]", &format!("[snat]\n{quota}"));
        let file =
            folder.file("sluice.toml", &more.replace("[[service]]", &format!("[[service]]\nsessions = {sessions}")));
        let said = text(&sluice(&["check", "--offline", "-c", path(&file)]).stdout);
        let json = sluice(&["check", "--offline", "--json", "-c", path(&file)]);
        (said, serde_json::from_slice::<Value>(&json.stdout).unwrap()["sessions"].clone())
    };
    let (said, json) = bounded(100, "quota = 500");
    assert!(said.contains("172.16.0.1:80/tcp: `sessions = 100` is 34 on each of 3 workers, 102 in all"), "{said}");
    assert!(said.contains("a client that holds 500 gets none of the last eighth"), "{said}");
    assert_eq!(json[0]["in_all"], 102);
    let (said, json) = bounded(99, "");
    assert!(!said.contains("`sessions") && said.contains("a client that holds an eighth of them"), "{said}");
    assert_eq!(json, serde_json::json!([]));
}

#[test]
fn a_vip_that_could_not_be_served_is_refused_at_its_line_by_every_command() {
    let folder = Folder::new("unserved");
    let file = folder.file("sluice.toml", &RIGHT.replace("172.16.0.1:80", "10.0.0.50:80"));
    let name = path(&file);
    for command in [&["check", "--offline", "-c", name][..], &["compile", "-c", name], &["zone", "-c", name]] {
        let done = sluice(command);
        assert_eq!(done.status.code(), Some(1), "{command:?}");
        let said = text(&done.stderr);
        assert!(said.contains(":17:7: `service.vip` has 10.0.0.50, which is a neighbour's address too"), "{said}");
    }
}

#[test]
fn an_error_says_its_cause_once() {
    let folder = Folder::new("once");
    let file = folder.file("sluice.toml", RIGHT);
    let cut = folder.file("cut.json", r#"{"apps":["#);
    for (apps, cause) in [("/nonexistent/apps.json", "os error 2"), (path(&cut), "EOF while parsing")] {
        let said = text(&sluice(&["compile", "-c", path(&file), "--marathon-apps", apps]).stderr);
        assert_eq!(said.matches(cause).count(), 1, "{said}");
    }
    let said = text(&sluice(&["replay", "-c", path(&file), "--in", "/nonexistent/in.pcap"]).stderr);
    assert_eq!(said.matches("os error 2").count(), 1, "{said}");
}

#[test]
fn a_replay_that_fails_leaves_its_files_as_they_were() {
    let folder = Folder::new("nothing");
    let file = folder.file("sluice.toml", RIGHT);
    let input = folder.0.join("in.pcap");
    std::fs::write(&input, capture()).unwrap();
    let before = folder.file("before.pcap", "what was there");
    let (new, counters) = (folder.0.join("new.pcap"), folder.0.join("no/such/counters.json"));
    let done = sluice(&[
        "replay",
        "-c",
        path(&file),
        "--in",
        path(&input),
        "--out",
        path(&new),
        "--host",
        path(&before),
        "--counters",
        path(&counters),
    ]);
    assert_eq!(done.status.code(), Some(1));
    let said = text(&done.stderr);
    assert!(said.contains(&format!("{}: cannot be written: No such file", counters.display())), "{said}");
    assert_eq!(std::fs::read(&before).unwrap(), b"what was there");
    let mut left: Vec<_> = std::fs::read_dir(&folder.0).unwrap().map(|e| e.unwrap().file_name()).collect();
    left.sort();
    assert_eq!(left, ["before.pcap", "in.pcap", "sluice.toml"]);
    let device = sluice(&["replay", "-c", path(&file), "--in", path(&input), "--out", "/dev/stdout"]);
    assert_eq!(device.stdout[..4], 0xa1b2_3c4du32.to_be_bytes(), "a device is written to, not replaced");
}

#[test]
fn a_replay_with_more_workers_than_blocks_of_snat_ports_is_refused() {
    let folder = Folder::new("blocks");
    let file = folder.file("sluice.toml", &RIGHT.replace("1024-65535", "1024-1151"));
    let input = folder.0.join("in.pcap");
    std::fs::write(&input, capture()).unwrap();
    let replay = |workers: &str| sluice(&["replay", "-c", path(&file), "--in", path(&input), "--workers", workers]);
    assert_eq!(replay("2").status.code(), Some(0));
    let said = text(&replay("3").stderr);
    assert!(said.contains("--workers 3: `snat.ports` has 2 whole block(s) of 64"), "{said}");
    assert!(said.contains("at least 192 ports"), "{said}");
}

#[test]
fn zone_prints_the_rows_of_the_names_and_aliases_when_asked() {
    let folder = Folder::new("zone");
    let file = folder.file("sluice.toml", &format!("{RIGHT}[dns]\naddresses = [\"10.0.0.53\"]\n"));
    let apps = folder.file(
        "apps.json",
        r#"{"apps":[{"id":"/Web","networks":[{"mode":"container/bridge"}],
            "container":{"portMappings":[{"containerPort":80,"hostPort":0,"labels":{"VIP_0":"web:80"}}]},
            "tasks":[{"id":"web.2","slaveId":"f-S2","host":"10.0.0.12","state":"TASK_RUNNING","ports":[31000]},
                {"id":"web.1","slaveId":"f-S1","host":"10.0.0.11","state":"TASK_RUNNING","ports":[31000]}]}]}"#,
    );
    let zone = |more: &[&str]| {
        let done = sluice(&[&["zone", "-c", path(&file), "--marathon-apps", path(&apps)], more].concat());
        assert_eq!(done.status.code(), Some(0), "{}", text(&done.stderr));
        text(&done.stdout)
    };
    let rows: Vec<Value> = serde_json::from_str(&zone(&["--json"])).unwrap();
    let expected = serde_json::json!(
        { "name": "web.marathon.mesos.", "type": "A", "ttl": 60, "values": ["10.0.0.11", "10.0.0.12"] }
    );
    assert!(rows.contains(&expected), "{rows:#?}");
    assert!(rows.iter().all(|row| !row["name"].as_str().unwrap().ends_with("thisdcos.global.")));
    let soa = rows.iter().find(|row| row["type"] == "SOA" && row["name"] == "mesos.").unwrap();
    assert_eq!(soa["values"][0].as_str().unwrap().split(' ').count(), 7);
    let more: Vec<Value> = serde_json::from_str(&zone(&["--json", "--aliases"])).unwrap();
    assert!(more.iter().any(|row| row["name"] == "web.marathon.l4lb.thisdcos.global."), "{more:#?}");
    assert!(zone(&[]).contains("web.marathon.mesos."));
}
