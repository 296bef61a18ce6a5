//! `sluice-bench veth` measures what it says: packets come back through each subject. Needs root and two processors.
#![allow(clippy::unwrap_used, reason = "a test that cannot go on fails")]

use std::time::Duration;

use sluice_perf::veth::{Settings, Subject, measure};

#[test]
fn every_subject_has_a_ratio_to_the_echo() {
    if !nix::unistd::geteuid().is_root() {
        println!("skipped: it makes network namespaces, which needs root");
        return;
    }
    let settings = Settings { pairs: 1, run: Duration::from_millis(400), flows: 64 };
    for subject in [Subject::Nat, Subject::DsrIpip] {
        let seen = measure(subject, &settings).unwrap();
        assert!(seen.mpps_per_cpu > 0.0 && seen.echo_mpps_per_cpu > 0.0, "{seen:?}");
        // A debug build of Sluice beside an echo that is nearly all kernel.
        assert!((0.01..2.0).contains(&seen.ratio), "{seen:?}");
        assert_eq!((seen.pairs, seen.least), (1, seen.most));
    }
}

#[test]
fn flows_are_a_power_of_two() {
    let settings = Settings { pairs: 1, run: Duration::from_millis(400), flows: 100 };
    let said = measure(Subject::Nat, &settings).unwrap_err().to_string();
    assert!(said.contains("a power of two"), "{said}");
}
