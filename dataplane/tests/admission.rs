//! Bounds of a service: who may use it, how many sessions it may begin and have. Each bound has a drop reason of its own,
//! and no bound touches another service. Books and frames are checked after every step.
#![allow(clippy::unwrap_used, clippy::panic, reason = "clippy knows only #[test] functions as tests")]

mod common;

use common::*;
use sluice_config::model::*;
use sluice_dataplane::time::Nanos;
use sluice_dataplane::verdict::DropReason;

/// The usual cluster with `admission` on the TCP and UDP services of the VIP.
fn bound(workers: usize, admission: &Admission) -> Desired {
    let mut desired = desired(workers);
    for service in desired.shared.services.iter_mut().skip(1).take(2) {
        service.admission = admission.clone();
    }
    desired
}

fn nets(list: &[&str]) -> Vec<ipnet::IpNet> {
    list.iter().map(|net| net.parse().unwrap()).collect()
}

fn syn(n: u16) -> Vec<u8> {
    tcp((CLIENT, 5000 + n), (VIP, 80), "S")
}

#[test]
fn only_sources_that_are_allowed_and_not_denied_reach_a_service_and_no_state_is_made_for_others() {
    let admission = Admission {
        allow: nets(&["192.0.2.0/24", "9.0.1.0/24"]),
        deny: nets(&["192.0.2.64/26", "192.0.2.10/32"]),
        ..Admission::default()
    };
    let mut machine = Machine::new(bound(1, &admission));
    let from = |source: &str| tcp((source, 5000), (VIP, 80), "S");
    for source in ["192.0.2.9", "192.0.2.63", "192.0.2.128"] {
        machine.pass(0, from(source));
    }
    for source in ["192.0.2.10", "192.0.2.64", "192.0.2.127", "192.0.3.1", "198.51.100.7"] {
        machine.refuse(0, 0, from(source), DropReason::AdmissionSource);
    }
    machine.pass(0, vxlan(1, 1024, &from("9.0.1.7")));
    machine.refuse(0, 0, vxlan(2, 1024, &from("9.0.2.7")), DropReason::AdmissionSource);
    assert_eq!(machine.total(|c| c.sessions_made.get()), 4);
    // Another service, and echo, are for everybody.
    machine.pass(0, tcp(("192.0.2.10", 5000), (NAMED, 80), "S"));
    machine.pass(0, ping("192.0.2.10", VIP));
    // A source that is denied from now on is out in the middle of its flow.
    let later = Admission { deny: nets(&["192.0.2.9/32"]), ..admission };
    machine.publish(bound(1, &later));
    machine.refuse(0, 0, tcp(("192.0.2.9", 5000), (VIP, 80), "A"), DropReason::AdmissionSource);
    machine.pass(0, tcp(("192.0.2.63", 5000), (VIP, 80), "A"));
}

#[test]
fn new_sessions_are_bound_by_the_second_and_old_ones_go_on() {
    let mut machine = Machine::new(bound(1, &Admission { new_per_second: Some(50), ..Admission::default() }));
    // A tenth of a second's at once.
    for n in 0..5 {
        machine.pass(0, syn(n));
    }
    machine.refuse(0, 0, syn(5), DropReason::AdmissionRate);
    for n in 0..5 {
        machine.pass(0, tcp((CLIENT, 5000 + n), (VIP, 80), "A"));
    }
    machine.pass(0, tcp((CLIENT, 5000), (NAMED, 80), "S"));
    // The other service of that address has a rate of its own.
    machine.pass(0, udp((CLIENT, 5000), (VIP, 53), b"question"));
    machine.now = Nanos(machine.now.0 + 20_000_000);
    machine.pass(0, syn(5));
    machine.refuse(0, 0, syn(6), DropReason::AdmissionRate);
    let mut begun = 0;
    for _ in 0..1000 {
        machine.now = Nanos(machine.now.0 + 1_000_000);
        begun += machine.feed(0, 0, &[syn(100 + begun as u16)]).len();
    }
    assert!((49..=51).contains(&begun), "{begun} in a second");
}

#[test]
fn sessions_at_once_are_bound_and_their_number_goes_down_when_they_end() {
    let mut machine = Machine::new(bound(1, &Admission { sessions: Some(3), ..Admission::default() }));
    for n in 0..3 {
        machine.pass(0, syn(n));
    }
    machine.refuse(0, 0, syn(3), DropReason::AdmissionSessions);
    machine.pass(0, tcp((CLIENT, 5000), (VIP, 80), "A"));
    // A client that starts anew after its connection has ended has one session still.
    machine.pass(0, tcp((CLIENT, 5000), (VIP, 80), "R"));
    machine.pass(0, syn(0));
    machine.refuse(0, 0, syn(3), DropReason::AdmissionSessions);
    // By time, found by the sweep.
    machine.now = Nanos::from_seconds(2000);
    machine.settle();
    for worker in &mut machine.workers {
        worker.expire_all(machine.now);
    }
    for n in 10..13 {
        machine.pass(0, syn(n));
    }
    machine.refuse(0, 0, syn(13), DropReason::AdmissionSessions);
    // By their backends' leaving.
    let mut gone = bound(1, &Admission { sessions: Some(3), ..Admission::default() });
    gone.shared.services[1].backends = vec![backend("10.0.0.12:9", None)];
    machine.publish(gone);
    for n in 10..13 {
        machine.pass(0, syn(n));
    }
    machine.refuse(0, 0, syn(13), DropReason::AdmissionSessions);
    assert_eq!(machine.total(|c| c.sessions.get()), 3);
}

#[test]
fn a_newcomer_that_expired_sessions_keep_out_helps_to_sweep_them() {
    let mut machine = Machine::new(bound(1, &Admission { sessions: Some(3), ..Admission::default() }));
    for n in 0..3 {
        machine.pass(0, syn(n));
    }
    machine.now = Nanos::from_seconds(2000);
    let mut tries = 0;
    while machine.feed(0, 0, &[syn(3)]).is_empty() {
        tries += 1;
        assert!(tries < 1000, "expired sessions count for ever");
    }
}

#[test]
fn workers_have_equal_parts_of_a_bound() {
    let mut machine = Machine::new(bound(2, &Admission { sessions: Some(7), ..Admission::default() }));
    let mut begun = [0, 0];
    for n in 0..40 {
        let worker = usize::from(n % 2);
        begun[worker] += machine.feed(worker, 0, &[syn(n)]).len();
    }
    assert_eq!(begun, [4, 4], "7 in two parts, rounded up");
    assert_eq!(machine.drops(DropReason::AdmissionSessions), 32);
}

#[test]
fn a_service_that_has_no_session_to_give_serves_nobody() {
    for (admission, reason) in [
        (Admission { sessions: Some(0), ..Admission::default() }, DropReason::AdmissionSessions),
        (Admission { new_per_second: Some(0), ..Admission::default() }, DropReason::AdmissionRate),
    ] {
        Machine::new(bound(1, &admission)).refuse(0, 0, syn(0), reason);
    }
}
