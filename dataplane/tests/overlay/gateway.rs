//! Between overlay and underlay.

use etherparse::PacketBuilder;
use sluice_config::model::*;
use sluice_dataplane::verdict::DropReason as R;

use crate::common::parts::split;
use crate::common::six::{CLIENT6, ip6};
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
fn what_an_agent_sends_in_its_tunnel_by_its_underlay_address_is_as_if_it_came_without() {
    for gateway in [Gateway::Off, Gateway::Routed, Gateway::Masqueraded] {
        let mut machine = Machine::new(cluster(gateway));
        let of = |to: (&str, u16)| vxlan(1, 1024, &tcp(("10.0.0.11", 31000), to, "SA"));
        // A mapped host port answers the node itself, and a client by a VIP.
        assert!(matches!(&machine.feed(0, 0, &[of(("10.0.0.9", 40000))])[..], [(1, _)]), "to the kernel");
        let mut from = 5000;
        let asked = loop {
            let out = machine.pass(0, tcp((CLIENT, from), (VIP, 80), "S"));
            if ends(&out).1 == ("10.0.0.11".into(), 31000) {
                break ends(&out).0;
            }
            from += 1;
        };
        let back = machine.pass(0, of((&asked.0, asked.1)));
        assert_eq!(ends(&back), ((VIP.into(), 80), (CLIENT.into(), from)));
        // Nothing is opened by it.
        machine.refuse(0, 0, of((GROUPED, 80)), R::GroupMasqueraded);
        machine.refuse(0, 0, vxlan(2, 1024, &tcp(("10.0.0.11", 31000), ("10.0.0.9", 40000), "SA")), R::OverlaySpoof);
        if gateway == Gateway::Off {
            machine.refuse(0, 0, of((CLIENT, 80)), R::NotForUs);
        } else {
            assert_eq!(ends(&machine.pass(0, of((CLIENT, 80)))).0, ("10.0.0.11".into(), 31000), "not masqueraded");
        }
    }
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

/// Of either family, as its agent or the router sends it.
fn echo6(source: &str, destination: &str) -> Vec<u8> {
    let builder = PacketBuilder::ethernet2(ROUTER.0, OURS.0)
        .ipv6(ip6(source).octets(), ip6(destination).octets(), 64)
        .icmpv6_echo_request(1, 2);
    let mut packet = vec![];
    builder.write(&mut packet, b"echo").unwrap();
    packet
}

#[test]
fn what_no_router_passes_on_is_refused() {
    let mut machine = Machine::new(cluster(Gateway::Routed));
    for to in ["0.0.0.1", "127.0.0.1", "169.254.169.254", "224.0.0.5", "240.0.0.1", "255.255.255.255"] {
        machine.refuse(0, 0, vxlan(1, 1024, &udp(("9.0.1.7", 7), (to, 80), b"x")), R::NotForUs);
    }
    machine.refuse(0, 0, udp(("169.254.0.1", 7), ("9.0.2.7", 80), b"x"), R::Martian);

    let mut both = cluster(Gateway::Routed);
    both.shared.networks[0] =
        OverlayNetwork { subnet6: "fd01:b::/64".parse().ok(), prefix6: 80, ..both.shared.networks[0].clone() };
    for (agent, n) in both.shared.agents.iter_mut().zip(1..) {
        agent.subnets6 = [("dcos".to_owned(), format!("fd01:b::{n}:0:0:0/80").parse().unwrap())].into();
    }
    let router = ip6("2001:db8::1").into();
    both.local.ports[0].addresses6 = vec!["2001:db8::9/64".parse().unwrap()];
    both.local.neighbours.push(Neighbour { ip: router, mac: ROUTER, port: 0 });
    both.local.routes.push(Route { prefix: "2001:db8::/64".parse().unwrap(), via: None, port: 0 });
    both.local.routes.push(Route { prefix: "::/0".parse().unwrap(), via: Some(router), port: 0 });
    let mut machine = Machine::new(both);
    machine.pass(0, vxlan(1, 1024, &echo6("fd01:b::1:0:0:7", CLIENT6)));
    machine.pass(0, echo6(CLIENT6, "fd01:b::1:0:0:7"));
    for to in ["::1", "fe80::1", "ff02::1", "ff0e::1", "::ffff:192.0.2.10"] {
        machine.refuse(0, 0, vxlan(1, 1024, &echo6("fd01:b::1:0:0:7", to)), R::NotForUs);
    }
    machine.refuse(0, 0, echo6("fe80::1", "fd01:b::1:0:0:7"), R::Martian);
}
