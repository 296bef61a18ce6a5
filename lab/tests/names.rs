//! Mesos-DNS's HTTP API where people look for it: on the masters, who pass port 8123 on by the rules that operators are
//! given (docs/redirect-8123.nft), and at `soa_mname`. Needs root, and the binary `sluice` beside `sluice-lab`.
#![allow(clippy::unwrap_used, clippy::panic, reason = "a test that cannot go on fails")]

use std::path::{Path, PathBuf};
use std::time::{Duration, Instant};

use serde_json::Value;
use sluice_lab::http::get_unix;
use sluice_lab::marathon::Dialect;
use sluice_lab::{Lab, Options, Topology};

/// `None`, with a sentence, where the workspace is not built.
fn sluice() -> Option<PathBuf> {
    let program = Path::new(env!("CARGO_BIN_EXE_sluice-lab")).with_file_name("sluice");
    if !program.is_file() {
        println!("skipped: {} is not built (`cargo build --workspace`)", program.display());
    }
    program.is_file().then_some(program)
}

/// Its standard output, if it succeeded.
fn said(lab: &Lab, role: &str, words: &[&str]) -> Option<String> {
    let output = lab.exec(role, words).unwrap();
    output.status.success().then(|| String::from_utf8_lossy(&output.stdout).trim().to_owned())
}

#[test]
fn the_api_is_found_by_the_masters_name_and_by_soa_mname() {
    let Some(sluice) = sluice() else { return };
    let lab = Lab::up(&Topology::built_in().unwrap(), &Options::default()).unwrap();
    let _sources = lab.start_marathons_by(Path::new(env!("CARGO_BIN_EXE_sluice-lab")), Dialect::V1_9).unwrap();
    let mut running = lab.start_sluice(&sluice).unwrap();
    // A container, an agent, somebody outside, and the master itself.
    for role in ["client", "c1", "agent1", "master"] {
        for (name, address) in [("master.mesos", "10.0.0.5"), ("ns1.mesos", "198.51.100.1")] {
            let asked = ["dig", "+short", "+time=2", "@198.51.100.1", name];
            let began = Instant::now();
            while said(&lab, role, &asked).as_deref() != Some(address) {
                assert!(
                    began.elapsed() < Duration::from_secs(10),
                    "{name} from {role}: {:?}",
                    said(&lab, role, &asked)
                );
                std::thread::sleep(Duration::from_millis(50));
            }
            let known = format!("{name}:8123:{address}");
            let url = format!("http://{name}:8123/v1/enumerate");
            let words = ["curl", "-s", "-f", "--max-time", "5", "--resolve", &known, &url];
            let answer = said(&lab, role, &words).unwrap_or_else(|| panic!("{url} from {role}"));
            let answer: Value = serde_json::from_str(&answer).unwrap();
            assert!(answer["frameworks"].is_array(), "{url} from {role}: {answer}");
        }
    }
    let shown = get_unix(&lab.sluice_socket(), "/v1/show/names").unwrap().body;
    let shown: Value = serde_json::from_str(&shown).unwrap();
    assert!(shown["sources"]["mesos"].as_u64() >= Some(8), "{shown}");
    assert!(shown["queries_per_second"].as_f64() > Some(0.0), "{shown}");
    lab.down().unwrap();
    running.wait().unwrap();
}
