//! Containers reach the Sluice node itself, as they reach any DC/OS node: through the VTEPs, behind their agent's VTEP
//! address, and the node's answer goes back the same way. Needs root, and the binary `sluice` beside `sluice-lab`.
#![allow(clippy::unwrap_used, clippy::panic, reason = "a test that cannot go on fails")]

use std::path::{Path, PathBuf};

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

fn output(lab: &Lab, role: &str, words: &[&str]) -> String {
    let output = lab.exec(role, words).unwrap();
    String::from_utf8_lossy(&[output.stdout, output.stderr].concat()).into_owned()
}

/// The packet count of one direction of an interface.
fn packets(lab: &Lab, role: &str, device: &str, direction: &str) -> u64 {
    let file = format!("/sys/class/net/{device}/statistics/{direction}_packets");
    output(lab, role, &["cat", &file]).trim().parse().unwrap()
}

#[test]
fn a_container_reaches_the_node_and_the_node_reaches_a_container() {
    let Some(sluice) = sluice() else { return };
    let lab = Lab::up(&Topology::built_in().unwrap(), &Options::default()).unwrap();
    lab.start_marathons_by(Path::new(env!("CARGO_BIN_EXE_sluice-lab")), Dialect::V1_9).unwrap();
    let mut running = lab.start_sluice(&sluice).unwrap();
    let back = packets(&lab, "agent1", "vtep1024", "rx");
    for (container, agent) in [("c1", "44.128.0.2"), ("c2", "44.128.0.3")] {
        let said = output(&lab, container, &["curl", "-sS", "-m", "5", "http://10.0.0.9:8123/healthz"]);
        assert!(said.contains("ok"), "{container}: {said}");
        // ping waits no longer for its last answer than for an interval, if that is more than twice what others took.
        let said = output(&lab, container, &["ping", "-c", "3", "-i", "0.3", "-W", "2", "10.0.0.9"]);
        assert!(said.contains(" 0% packet loss"), "{container}: {said}");
        let said = output(&lab, "sluice", &["ip", "route", "get", agent]);
        assert!(said.contains("dev sluice0") && said.contains("src 9.0.9.1"), "{said}");
    }
    assert!(packets(&lab, "agent1", "vtep1024", "rx") >= back + 6, "answers come through the VTEP");
    let said = output(&lab, "sluice", &["ping", "-c", "3", "-i", "0.3", "-W", "2", "9.0.2.2"]);
    assert!(said.contains(" 0% packet loss"), "{said}");
    let said = output(&lab, "c1", &["ping", "-c", "3", "-i", "0.3", "-W", "2", "9.0.9.1"]);
    assert!(said.contains(" 0% packet loss"), "Sluice's own address in the overlay: {said}");
    lab.down().unwrap();
    running.wait().unwrap();
}
