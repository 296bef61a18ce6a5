//! A service's bounds hold in every mode, and say what happens where a DSR mode goes on without sessions.

use sluice_config::model::*;
use sluice_dataplane::time::Nanos;
use sluice_dataplane::verdict::DropReason;

use crate::common::*;
use crate::world::*;

fn bound(mode: Mode, vip: &str, backends: &[&str], admission: Admission) -> Desired {
    let mut service = service_in(mode, vip, backends);
    service.admission = admission;
    cluster(1, vec![service])
}

fn packet(vip: &str, port: u16, flags: &str) -> Vec<u8> {
    segment((client_of(vip), port), (vip, 80), flags, &[], 0)
}

#[test]
fn sessions_and_newcomers_are_bound_and_two_packets_of_a_burst_are_one_newcomer() {
    for (mode, vip, backends) in modes() {
        println!("{mode:?} {vip} {backends:?}");
        let most = Admission { sessions: Some(3), ..Admission::default() };
        let mut machine = Machine::new(bound(mode, vip, &backends, most));
        for port in 5000..5003 {
            machine.pass(0, packet(vip, port, "S"));
        }
        machine.refuse(0, 0, packet(vip, 5003, "S"), DropReason::AdmissionSessions);
        machine.pass(0, packet(vip, 5000, "A"));

        let slow = Admission { new_per_second: Some(20), ..Admission::default() };
        let mut machine = Machine::new(bound(mode, vip, &backends, slow));
        // A tenth of a second's at once, which is two.
        let twice = [5000, 5000, 5001, 5001].map(|port| packet(vip, port, "S"));
        assert_eq!(machine.feed(0, 0, &twice).len(), 4);
        machine.refuse(0, 0, packet(vip, 5002, "S"), DropReason::AdmissionRate);
        machine.now = Nanos(machine.now.0 + 50_000_000);
        machine.pass(0, packet(vip, 5002, "S"));

        let deny = vec![format!("{}/{}", client_of(vip), if vip == VIP { 32 } else { 128 }).parse().unwrap()];
        let mut machine = Machine::new(bound(mode, vip, &backends, Admission { deny, ..Admission::default() }));
        machine.refuse(0, 0, packet(vip, 5000, "S"), DropReason::AdmissionSource);
    }
}

#[test]
fn where_the_table_is_full_only_first_packets_of_a_dsr_flow_are_newcomers() {
    let mut machine = Machine::new(bound(Mode::DsrIpip, VIP, &BACKENDS4, Admission::default()));
    fill(&mut machine);
    machine.publish(bound(
        Mode::DsrIpip,
        VIP,
        &BACKENDS4,
        Admission { new_per_second: Some(10), ..Admission::default() },
    ));
    let from = |source: &str, flags: &str| segment((source, 7), (VIP, 80), flags, &[], 0);
    let first = machine.pass(0, from("198.51.100.9", "S"));
    for _ in 0..20 {
        assert_eq!(machine.pass(0, from("198.51.100.9", "A"))[..6], first[..6], "the same backend without a session");
    }
    assert_eq!(machine.total(|c| c.unremembered.get()), 21);
    machine.refuse(0, 0, from("198.51.100.10", "S"), DropReason::AdmissionRate);
    machine.now = Nanos(machine.now.0 + 100_000_000);
    machine.pass(0, from("198.51.100.10", "S"));
}

#[test]
fn without_room_for_any_session_only_first_packets_are_newcomers() {
    let slow = Admission { new_per_second: Some(10), ..Admission::default() };
    let mut machine = Machine::with_room(bound(Mode::DsrGue, VIP, &BACKENDS4, slow), 0);
    machine.pass(0, packet(VIP, 5000, "S"));
    for _ in 0..20 {
        machine.pass(0, packet(VIP, 5000, "A"));
    }
    machine.refuse(0, 0, packet(VIP, 5001, "S"), DropReason::AdmissionRate);
    assert_eq!(machine.total(|c| c.unremembered.get()), 21);
}

/// Establishes as many sessions as there is room for.
pub(crate) fn fill(machine: &mut Machine) {
    let mut flows = (0..).map(|n: u32| (format!("192.0.2.{}", 1 + n % 250), 1024 + (n / 250) as u16));
    while machine.total(|c| c.sessions.get()) < 4096 {
        let ends: Vec<_> = flows.by_ref().take(256).collect();
        // The first ACK may begin a session whose SYN has given way to another, the next one establishes it.
        for flags in ["S", "A", "A"] {
            let packets: Vec<_> =
                ends.iter().map(|(ip, port)| segment((ip, *port), (VIP, 80), flags, &[], 0)).collect();
            assert_eq!(machine.feed(0, 0, &packets).len(), 256);
        }
    }
}
