//! Golden cases: a sentence, a configuration and packets in; packets and counters out. Every folder of tests/golden is
//! one; adding one adds no code. `host-in.pcap` is what the node's own kernel sends, `marathon-apps.json` what Marathon says. `SLUICE_BLESS=1 cargo test -p sluice-control --test golden` writes what comes out, to be
//! read (`tcpdump -vr out.pcap`) before it is committed.
#![allow(clippy::unwrap_used, clippy::panic, reason = "clippy knows only #[test] functions as tests")]

use std::fs;
use std::path::{Path, PathBuf};
use std::process::Command;

use serde_json::{Map, Value};

fn cases() -> Vec<PathBuf> {
    let folder = Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/golden");
    let mut cases: Vec<_> = fs::read_dir(folder).unwrap().map(|entry| entry.unwrap().path()).collect();
    cases.sort();
    cases
}

/// Replays a case with `workers` workers; what left by the port, by the host port, and the counters above 0.
fn replay(case: &Path, workers: usize, scratch: &Path) -> (Vec<u8>, Vec<u8>, Value) {
    let file = |name: &str| case.join(name).to_str().unwrap().to_owned();
    let out = |name: &str| scratch.join(name).to_str().unwrap().to_owned();
    let mut command = Command::new(env!("CARGO_BIN_EXE_sluice"));
    command.args(["replay", "-c", &file("sluice.toml"), "--in", &file("in.pcap"), "--out", &out("out.pcap")]);
    command.args(["--host", &out("host.pcap"), "--counters", &out("counters.json"), "--workers", &workers.to_string()]);
    if case.join("host-in.pcap").exists() {
        command.args(["--in", &format!("host={}", file("host-in.pcap"))]);
    }
    if case.join("marathon-apps.json").exists() {
        command.args(["--marathon-apps", &file("marathon-apps.json")]);
    }
    let ran = command.output().unwrap();
    assert!(ran.status.success(), "{}: {}", case.display(), String::from_utf8_lossy(&ran.stderr));
    let counters: Value = serde_json::from_slice(&fs::read(out("counters.json")).unwrap()).unwrap();
    (fs::read(out("out.pcap")).unwrap(), fs::read(out("host.pcap")).unwrap(), above_zero(&counters))
}

fn above_zero(counters: &Value) -> Value {
    let mut kept = counters.clone();
    let drops = kept["drops"].as_object_mut().unwrap();
    *drops = std::mem::take(drops).into_iter().filter(|(_, n)| *n != 0).collect::<Map<_, _>>();
    kept
}

fn expect(case: &Path, name: &str, seen: &[u8]) {
    let path = case.join(name);
    if std::env::var_os("SLUICE_BLESS").is_some() {
        fs::write(&path, seen).unwrap();
    }
    let sentence = fs::read_to_string(case.join("sentence.txt")).unwrap();
    assert!(fs::read(&path).unwrap() == seen, "{}: {name} differs: {sentence}", case.display());
}

#[test]
fn every_golden_case_gives_its_packets_and_counters() {
    let scratch = std::env::temp_dir().join(format!("sluice-golden-{}", std::process::id()));
    fs::create_dir_all(&scratch).unwrap();
    for case in cases() {
        let (sent, host, counters) = replay(&case, 1, &scratch);
        expect(&case, "out.pcap", &sent);
        expect(&case, "host.pcap", &host);
        let mut text = serde_json::to_string_pretty(&counters).unwrap();
        text.push('\n');
        expect(&case, "counters.json", text.as_bytes());
        let total = |v: &Value| v.as_object().unwrap().values().map(|n| n.as_u64().unwrap()).sum::<u64>();
        let left = counters["tx"].as_u64().unwrap() + counters["host"].as_u64().unwrap();
        assert_eq!(counters["rx"].as_u64().unwrap(), left + total(&counters["drops"]), "{}", case.display());
        // Which SNAT port is taken depends on the number of workers, what becomes of requests does not.
        let (_, _, two) = replay(&case, 2, &scratch);
        assert_eq!(two["rx"], counters["rx"], "{}: two workers", case.display());
    }
    fs::remove_dir_all(&scratch).unwrap();
}
