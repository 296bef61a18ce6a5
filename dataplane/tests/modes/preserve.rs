//! `nat-preserve`: the destination alone is rewritten, and the reply is known by the backend that it comes from.

use sluice_config::model::*;
use sluice_dataplane::verdict::DropReason;

use crate::common::*;
use crate::world::*;

fn text((ip, port): (std::net::IpAddr, u16)) -> (String, u16) {
    (ip.to_string(), port)
}

#[test]
fn the_backend_sees_the_client_and_its_reply_comes_back_as_the_vip_by_any_worker() {
    for (vip, client, backends) in [(VIP, CLIENT, BACKENDS4), (VIP6, CLIENT6, BACKENDS6)] {
        let mut machine = Machine::new(cluster(2, vec![service_in(Mode::NatPreserve, vip, &backends)]));
        for port in 5000..5050 {
            let worker = usize::from(port) % 2;
            let there = machine.pass(worker, segment((client, port), (vip, 80), "S", &[], 3));
            let (from, to) = ends_of(&there);
            assert_eq!(from, end(client, port));
            assert!(backends.contains(&std::net::SocketAddr::from(to).to_string().as_str()), "{to:?}");
            assert_eq!(there[6..12], OURS.0);
            let (backend, backend_port) = text(to);
            for worker in [0, 1] {
                let answer = segment((&backend, backend_port), (client, port), "SA", &[], 5);
                let back = machine.pass(worker, answer);
                assert_eq!(ends_of(&back), (end(vip, 80), end(client, port)));
                assert_eq!(back[..6], ROUTER.0);
            }
        }
        assert!(machine.total(|c| c.given.get()) > 50, "both workers own clients");
        assert!(machine.workers.iter().all(|w| w.counters().sessions_made.get() > 10));
        assert_eq!(machine.total(|c| c.sessions.get()), 50);
    }
}

#[test]
fn it_takes_an_overlay_backend_through_its_tunnel() {
    let mut machine = Machine::new(cluster(2, vec![service_in(Mode::NatPreserve, VIP, &OVERLAY)]));
    let there = machine.pass(0, tcp((CLIENT, 5000), (VIP, 80), "S"));
    let (from, (backend, 80)) = ends(&there[50..]) else { panic!() };
    assert_eq!(from, (CLIENT.into(), 5000));
    check_sums(&there[50..]);
    let agent = if backend == "9.0.1.2" { 1 } else { 2 };
    let back = machine.pass(1, vxlan(agent, 1024, &tcp((&backend, 80), (CLIENT, 5000), "SA")));
    assert_eq!(ends(&back), ((VIP.into(), 80), (CLIENT.into(), 5000)));
    check_sums(&back);
}

#[test]
fn what_a_backend_sends_to_others_goes_to_the_kernel_or_is_refused_without_one() {
    let service = || vec![service_in(Mode::NatPreserve, VIP, &BACKENDS4)];
    let reply = || tcp(("10.0.0.11", 80), ("192.0.2.77", 9), "A");
    let left = Machine::new(cluster(1, service())).feed(0, 0, &[reply()]);
    let [(1, packet)] = &left[..] else { panic!("{left:?}") };
    assert_eq!(packet[14..], reply()[14..], "unchanged");
    let mut alone = cluster(1, service());
    (alone.local.host_port, alone.local.host_mac) = (None, None);
    Machine::new(alone).refuse(0, 0, reply(), DropReason::SnatNoSession);
}

#[test]
fn a_container_that_is_a_backend_still_talks_to_other_containers_within_policy() {
    let mut machine = Machine::new(cluster(1, vec![service_in(Mode::NatPreserve, VIP, &OVERLAY)]));
    let between = || vxlan(1, 1024, &tcp(("9.0.1.2", 80), ("9.0.2.9", 7), "A"));
    let there = machine.pass(0, between());
    assert_eq!(ends(&there[50..]), (("9.0.1.2".into(), 80), ("9.0.2.9".into(), 7)));
    let mut grouped = cluster(1, vec![service_in(Mode::NatPreserve, VIP, &OVERLAY)]);
    grouped.shared.containers =
        vec![Container { ip: v4("9.0.2.9"), network: "dcos".into(), groups: vec!["blue".into()] }];
    machine.publish(grouped);
    machine.refuse(0, 0, between(), DropReason::GroupDenied);
}

#[test]
fn the_kernel_program_is_told_of_underlay_backends_alone() {
    let backends = ["10.0.0.11:80", "9.0.1.2:80"];
    let services = vec![service_in(Mode::NatPreserve, VIP, &backends), service_in(Mode::Nat, NAMED, &BACKENDS4)];
    let machine = Machine::new(cluster(1, services));
    let preserved: Vec<_> = machine.tables.steering().preserved.into_iter().collect();
    assert_eq!(preserved, [("10.0.0.11:80".parse().unwrap(), 6)]);
}
