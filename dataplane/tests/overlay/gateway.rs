//! Between overlay and underlay.

use sluice_config::model::*;
use sluice_dataplane::verdict::DropReason as R;

use crate::common::parts::split;
use crate::common::*;

const GROUPED: &str = "9.0.2.9";

fn cluster(gateway: Gateway) -> Desired {
    let mut desired = quiet(desired(1));
    desired.local.vtep.as_mut().unwrap().gateway = gateway;
    desired.shared.containers = vec![Container { ip: v4(GROUPED), network: "dcos".into(), groups: vec!["a".into()] }];
    desired.shared.networks[0].underlay_allow = vec!["192.0.2.77/32".parse().unwrap()];
    desired
}

#[test]
fn clients_reach_containers_and_containers_reach_clients() {
    let mut machine = Machine::new(cluster(Gateway::Routed));
    let there = machine.pass(0, tcp((CLIENT, 5000), ("9.0.2.7", 80), "S"));
    assert_eq!(ends(&there), (("10.0.0.9".into(), ends(&there).0.1), ("10.0.0.12".into(), 64000)));
    assert_eq!(ends(&there[50..]), ((CLIENT.into(), 5000), ("9.0.2.7".into(), 80)));
    check_sums(&there[50..]);
    let back = machine.pass(0, vxlan(2, 1024, &tcp(("9.0.2.7", 80), (CLIENT, 5000), "SA")));
    assert_eq!((ends(&back), &back[..6]), ((("9.0.2.7".into(), 80), (CLIENT.into(), 5000)), &ROUTER.0[..]));
    assert_eq!(machine.total(|c| c.sessions_made.get()), 0);
    let parts = split(&udp((CLIENT, 5000), ("9.0.2.7", 80), &[7; 400]), 9, &[104, 200]);
    assert_eq!(machine.feed(0, 0, &[parts[2].clone(), parts[0].clone(), parts[1].clone()]).len(), 3);
}

#[test]
fn groups_hold_at_the_gateway_too() {
    let mut machine = Machine::new(cluster(Gateway::Routed));
    machine.refuse(0, 0, tcp((CLIENT, 5000), (GROUPED, 80), "S"), R::GroupUnderlay);
    machine.refuse(0, 0, tcp(("10.0.0.11", 5000), (GROUPED, 80), "S"), R::GroupMasqueraded);
    machine.pass(0, tcp(("192.0.2.77", 5000), (GROUPED, 80), "S"));
    machine.pass(0, vxlan(2, 1024, &tcp((GROUPED, 80), (CLIENT, 5000), "S")));
    let denied: Vec<_> = machine.workers[0].counters().denied.pairs().map(|(_, count)| count).collect();
    assert_eq!(denied, [2]);
}

#[test]
fn it_is_no_router_between_others_and_nobody_enters_as_a_container() {
    let mut machine = Machine::new(cluster(Gateway::Routed));
    machine.refuse(0, 0, tcp((CLIENT, 5000), ("10.0.0.11", 80), "S"), R::NotForUs);
    machine.refuse(0, 0, tcp((CLIENT, 5000), ("9.0.77.7", 80), "S"), R::NoAgent);
    machine.refuse(0, 0, tcp(("9.0.1.7", 5000), ("9.0.2.7", 80), "S"), R::OverlaySpoof);
    // Nor through the kernel, which passes on what it is sent.
    let mut forwarded = tcp(("9.0.1.7", 5000), ("9.0.2.7", 80), "S");
    forwarded[..6].copy_from_slice(&HOST_PEER.0);
    machine.refuse(0, 1, forwarded.clone(), R::OverlaySpoof);
    forwarded = tcp((CLIENT, 5000), ("9.0.2.7", 80), "S");
    forwarded[..6].copy_from_slice(&HOST_PEER.0);
    assert_eq!(machine.feed(0, 1, &[forwarded]).len(), 1);
}

/// Several nodes that share one VTEP, by an underlay address that a router spreads over them and that is on no port.
#[test]
fn a_vtep_at_an_anycast_address_takes_tunnels_and_sends_from_it() {
    let mut desired = cluster(Gateway::Off);
    desired.local.vtep.as_mut().unwrap().underlay = ip("10.0.99.1");
    let mut machine = Machine::new(desired);
    let inner = tcp(("9.0.1.7", 7000), ("9.0.2.7", 80), "S");
    let tunnel = vxlan(1, 1024, &inner);
    let there = machine.pass(0, udp(("10.0.0.11", 40000), ("10.0.99.1", 64000), &tunnel[42..]));
    assert_eq!(ends(&there).0.0, "10.0.99.1");
    assert_eq!(ends(&there[50..]), (("9.0.1.7".into(), 7000), ("9.0.2.7".into(), 80)));
    // To the port's own address there is no VTEP then.
    assert_eq!(machine.feed(0, 0, &[tunnel]).iter().map(|(port, _)| *port).collect::<Vec<_>>(), [1]);
}

#[test]
fn without_a_gateway_nothing_passes() {
    let mut machine = Machine::new(cluster(Gateway::Off));
    machine.refuse(0, 0, tcp((CLIENT, 5000), ("9.0.2.7", 80), "S"), R::NotForUs);
    machine.refuse(0, 0, vxlan(2, 1024, &tcp(("9.0.2.7", 80), (CLIENT, 5000), "SA")), R::NotForUs);
    assert!(machine.tables.steering().networks.is_empty());
    machine.publish(cluster(Gateway::Routed));
    assert_eq!(machine.tables.steering().networks, ["9.0.0.0/8".parse().unwrap()].into());
}
