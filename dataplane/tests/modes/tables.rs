//! Tables change under flows: who keeps its backend, who gets a second chance, and which backends a mode leaves out.

use std::collections::BTreeSet;
use std::sync::Arc;

use proptest::prelude::*;
use sluice_config::model::*;
use sluice_dataplane::tables::Tables;
use sluice_dataplane::tables::ids::Ids;
use sluice_dataplane::time::Nanos;
use sluice_dataplane::verdict::DropReason;

use crate::common::*;
use crate::world::*;

/// Where each of these flows goes now, as the MAC of the next hop.
fn hops(machine: &mut Machine, vip: &str, flags: &str) -> Vec<[u8; 6]> {
    let mut send = |port| machine.pass(0, segment((client_of(vip), port), (vip, 80), flags, &[], 0));
    (5000..5100).map(|port| send(port)[..6].try_into().unwrap()).collect()
}

#[test]
fn established_flows_keep_their_backend_through_table_changes_in_every_mode() {
    for (mode, vip, backends) in modes() {
        println!("{mode:?} {vip} {backends:?}");
        let one = |weights: [u16; 2]| {
            let mut service = service_in(mode, vip, &backends);
            service.backends.iter_mut().zip(weights).for_each(|(backend, weight)| backend.weight = weight);
            cluster(1, vec![service])
        };
        let mut machine = Machine::new(one([1, 1]));
        let chosen = hops(&mut machine, vip, "S");
        assert!(AGENT.iter().all(|agent| chosen.contains(&agent.0)));
        assert_eq!(hops(&mut machine, vip, "A"), chosen);
        // The first drains, comes back alone, and its service moves to other numbers.
        for weights in [[0, 1], [1, 0], [1, 5]] {
            machine.publish(one(weights));
            assert_eq!(hops(&mut machine, vip, "A"), chosen);
        }
        let mut more = one([1, 1]);
        let first = Arc::new(service_in(mode, "172.16.0.200", &[]));
        more.shared.services = std::iter::once(first).chain(more.shared.services.iter().cloned()).collect();
        machine.publish(more);
        assert_eq!(hops(&mut machine, vip, "A"), chosen);
        // A flow whose backend has gone starts anew.
        machine.publish(cluster(1, vec![service_in(mode, vip, &backends[1..])]));
        assert!(hops(&mut machine, vip, "A").iter().all(|hop| *hop == AGENT[1].0));
    }
}

#[test]
fn a_service_that_changes_its_mode_begins_its_flows_anew() {
    let mut machine = Machine::new(cluster(1, vec![service_in(Mode::Nat, VIP, &BACKENDS4)]));
    hops(&mut machine, VIP, "S");
    machine.publish(cluster(1, vec![service_in(Mode::DsrIpip, VIP, &BACKENDS4)]));
    let there = machine.pass(0, segment((CLIENT, 5000), (VIP, 80), "A", &[], 0));
    assert_eq!((there[23], there.len()), (4, 14 + 20 + 40));
    assert_eq!(machine.total(|c| c.sessions.get()), 100);
}

#[test]
fn a_packet_in_the_middle_of_a_flow_without_session_goes_by_the_table_before() {
    let with = |second_chance, backends: &[&str]| {
        let mut desired = cluster(1, vec![service_in(Mode::DsrIpip, VIP, backends)]);
        desired.shared.second_chance = second_chance;
        desired
    };
    for second_chance in [true, false] {
        // Where another node's flows went before the second backend came.
        let mut machine = Machine::new(with(second_chance, &BACKENDS4[..1]));
        machine.publish(with(second_chance, &BACKENDS4));
        let middle = hops(&mut machine, VIP, "A");
        assert_eq!(middle.iter().all(|hop| *hop == AGENT[0].0), second_chance);
        // New flows go by the new table, and so do those whose old backend is gone.
        let mut machine = Machine::new(with(second_chance, &BACKENDS4[..1]));
        machine.publish(with(second_chance, &BACKENDS4));
        assert!(hops(&mut machine, VIP, "S").contains(&AGENT[1].0));
        machine.publish(with(second_chance, &BACKENDS4[1..]));
        assert!(hops(&mut machine, VIP, "A").iter().all(|hop| *hop == AGENT[1].0));
        // Switched off again, nothing is remembered.
        machine.publish(with(false, &BACKENDS4[1..]));
        assert!(machine.tables.services.iter().flatten().all(|s| s.before.is_none()));
    }
}

#[test]
fn backends_that_a_mode_cannot_reach_are_left_out_with_the_reason() {
    for (mode, vip, unfit, why) in [
        (Mode::Nat, VIP, "[2001:db8::11]:80", "not of the VIP's family"),
        (Mode::NatPreserve, VIP6, "10.0.0.11:80", "not of the VIP's family"),
        (Mode::DsrIpip, VIP, "10.0.0.11:81", "must listen on 80"),
        (Mode::DsrGue, VIP6, "[2001:db8::11]:81", "must listen on 80"),
        (Mode::DsrVxlan, VIP, "9.0.1.2:81", "must listen on 80"),
        (Mode::DsrMac, VIP, "10.0.0.11:81", "must listen on 80"),
        (Mode::DsrMac, VIP, "198.51.100.7:80", "on link only"),
        (Mode::DsrMac, VIP, "9.0.1.2:80", "on the underlay only"),
        (Mode::DsrIpip, VIP, "9.0.1.2:80", "on the underlay only"),
        (Mode::DsrVxlan, VIP, "10.0.0.11:80", "in an overlay network only"),
    ] {
        println!("{mode:?} {vip} {unfit}");
        let fit = if mode == Mode::DsrVxlan {
            OVERLAY[1]
        } else if vip == VIP6 {
            BACKENDS6[1]
        } else {
            BACKENDS4[1]
        };
        let mut machine = Machine::new(cluster(1, vec![service_in(mode, vip, &[fit, unfit])]));
        let [left_out] = &*machine.tables.left_out else { panic!("{:?}", machine.tables.left_out) };
        assert!(left_out.starts_with(unfit) && left_out.contains(why), "{left_out}");
        assert!(hops(&mut machine, vip, "S").iter().all(|hop| *hop == AGENT[1].0));
        let mut machine = Machine::new(quiet(cluster(1, vec![service_in(mode, vip, &[unfit])])));
        let client = client_of(vip);
        machine.refuse(0, 0, segment((client, 5000), (vip, 80), "S", &[], 0), DropReason::NoBackend);
    }
    let mut bare = cluster(1, vec![service_in(Mode::DsrIpip, VIP, &BACKENDS6)]);
    bare.local.ports[0].addresses6.clear();
    assert!(Machine::new(bare).tables.left_out.iter().all(|l| l.contains("no port has an address of its family")));
}

#[test]
fn what_a_mode_cannot_do_at_this_moment_is_a_counted_drop() {
    let syn = || segment((CLIENT, 5000), (VIP, 80), "S", &[], 0);
    let mut unresolved = cluster(1, vec![service_in(Mode::DsrMac, VIP, &["10.0.0.77:80"])]);
    Machine::new(unresolved.clone()).refuse(0, 0, syn(), DropReason::NextHopUnresolved);
    for mode in [Mode::DsrIpip, Mode::DsrGue, Mode::NatPreserve] {
        unresolved.shared.services[0].mode = mode;
        Machine::new(unresolved.clone()).refuse(0, 0, syn(), DropReason::NextHopUnresolved);
    }
    let lost = cluster(1, vec![service_in(Mode::DsrVxlan, VIP, &["9.0.77.5:80"])]);
    Machine::new(lost).refuse(0, 0, syn(), DropReason::NoAgent);
    let mut low = syn();
    low[22] = 2;
    for ttl in [1, 0] {
        low[22] = ttl;
        let sum = etherparse::Ipv4Header::from_slice(&low[14..]).unwrap().0.calc_header_checksum();
        low[24..26].copy_from_slice(&sum.to_be_bytes());
        for mode in [Mode::Nat, Mode::NatPreserve, Mode::DsrIpip, Mode::DsrGue, Mode::DsrMac] {
            let mut machine = Machine::new(quiet(cluster(1, vec![service_in(mode, VIP, &BACKENDS4)])));
            machine.refuse(0, 0, low.clone(), DropReason::TtlExpired);
        }
    }
}

#[test]
fn two_nodes_that_number_differently_choose_alike() {
    let mut services = vec![];
    for (n, (mode, vip, backends)) in modes().into_iter().enumerate() {
        let mut service = service_in(mode, vip, &backends);
        service.key.port = 80;
        service.key.ip = if vip == VIP { format!("172.16.1.{n}") } else { format!("fd01:c::1:{n}") }.parse().unwrap();
        services.push(service);
    }
    let here = cluster(1, services.clone());
    services.reverse();
    let there = cluster(2, services.clone());
    let compile =
        |desired: Desired, ids: &mut Ids| Tables::compile(&Arc::new(desired), ids, Nanos::default(), None).unwrap();
    let mut used = Ids::new(64, 256, 0);
    for n in 0..9 {
        let ip = std::net::IpAddr::from([172, 16, 9, n]);
        used.service(VipKey { protocol: Protocol::Udp, ip, port: 1 }, Nanos::default()).unwrap();
    }
    let (here, there) = (compile(here, &mut Ids::new(64, 256, 0)), compile(there, &mut used));
    for service in &services {
        let named = |tables: &Tables| -> Vec<_> {
            let entry = tables.service(tables.service_number(service.key).unwrap()).unwrap();
            entry.maglev.iter().map(|number| tables.backend(*number).unwrap().ip).collect()
        };
        assert_eq!(named(&here), named(&there), "{}", service.key);
    }
}

/// What may change from one publication to the next.
#[derive(Clone, Debug)]
enum Change {
    /// A service in a mode with these of the backends, by their bits, and whether they are told to be in the overlay.
    Serve {
        at: u8,
        mode: Mode,
        v6: bool,
        backends: u8,
        inside: bool,
        weight: u16,
    },
    Withdraw {
        at: u8,
    },
    Mtu(u16),
    Own(u8),
    Neighbour(bool),
    SecondChance(bool),
}

fn change() -> impl Strategy<Value = Change> {
    let modes = [Mode::Nat, Mode::NatPreserve, Mode::DsrIpip, Mode::DsrGue, Mode::DsrMac, Mode::DsrVxlan];
    let serve =
        (0..4u8, prop::sample::select(modes.to_vec()), any::<bool>(), 0..16u8, prop::bool::weighted(0.1), 0..3u16);
    let serve = serve.prop_map(|(at, mode, v6, backends, inside, weight)| Change::Serve {
        at,
        mode,
        v6,
        backends,
        inside,
        weight,
    });
    prop_oneof![
        6 => serve,
        1 => (0..4u8).prop_map(|at| Change::Withdraw { at }),
        1 => (1280..1500u16).prop_map(Change::Mtu),
        1 => (1..5u8).prop_map(Change::Own),
        1 => any::<bool>().prop_map(Change::Neighbour),
        1 => any::<bool>().prop_map(Change::SecondChance),
    ]
}

/// The next state; the services that are not concerned stay the allocations that they were.
fn changed(before: &Desired, change: &Change) -> Desired {
    let mut next = before.clone();
    let key = |at: u8, v6: bool| VipKey {
        protocol: Protocol::Tcp,
        ip: if v6 { format!("fd01:c::{at}") } else { format!("172.16.1.{at}") }.parse().unwrap(),
        port: 80,
    };
    let replace = |next: &mut Desired, gone: [VipKey; 2], new: Option<Service>| {
        let kept = before.shared.services.iter().filter(|s| !gone.contains(&s.key)).cloned();
        let mut services: Vec<Arc<Service>> = kept.chain(new.map(Arc::new)).collect();
        services.sort_by_key(|service| service.key);
        next.shared.services = services.into();
    };
    match *change {
        Change::Serve { at, mode, v6, backends, inside, weight } => {
            let overlay = mode == Mode::DsrVxlan || inside && matches!(mode, Mode::Nat | Mode::NatPreserve);
            let all = if overlay { [OVERLAY, OVERLAY] } else { [BACKENDS4, BACKENDS6] }.concat();
            // Rewritten packets keep their family, the rest goes to backends of either.
            let reached = |address: &&str| mode.is_dsr() || v6 == address.starts_with('[');
            let chosen = (0..4).filter(|n| backends >> n & 1 == 1).map(|n| all[n]).filter(reached);
            let chosen: BTreeSet<&str> = chosen.collect();
            let mut service = service_in(mode, VIP, &chosen.into_iter().collect::<Vec<_>>());
            service.key = key(at, v6);
            if let Some(first) = service.backends.first_mut() {
                first.weight = weight;
            }
            if inside {
                // A container that no agent is known to have, with and without the word that it is one.
                let network = (at % 2 == 0).then_some("dcos");
                if mode == Mode::Nat && !v6 {
                    service.backends.push(backend("9.0.77.5:80", network));
                }
            }
            replace(&mut next, [key(at, v6); 2], Some(service));
        }
        Change::Withdraw { at } => replace(&mut next, [key(at, true), key(at, false)], None),
        Change::Mtu(mtu) => next.local.ports[0].mtu = mtu,
        Change::Own(n) => next.local.ports[0].addresses = vec![format!("10.0.0.{n}/24").parse().unwrap()],
        Change::Neighbour(there) => {
            next.local.neighbours.retain(|n| n.mac != AGENT[0]);
            let ip = "10.0.0.11".parse().unwrap();
            next.local.neighbours.extend(there.then_some(Neighbour { ip, mac: AGENT[0], port: 0 }));
        }
        Change::SecondChance(on) => next.shared.second_chance = on,
    }
    next
}

/// All that packets to services are sent by.
fn compiled(tables: &Tables) -> impl PartialEq + std::fmt::Debug + '_ {
    let Tables { services, backends, tunnels, hops, local, left_out, .. } = tables;
    ((services, backends, tunnels), (hops, local, left_out), tables.steering())
}

proptest! {
    #![proptest_config(ProptestConfig { failure_persistence: None, ..ProptestConfig::with_cases(128) })]

    #[test]
    fn a_service_that_is_taken_over_is_as_it_would_be_compiled(changes in prop::collection::vec(change(), 1..20)) {
        let mut desired = cluster(1, vec![]);
        let (mut ids, mut ids_anew) = (Ids::new(64, 256, 0), Ids::new(64, 256, 0));
        let (mut before, mut before_anew): (Option<Tables>, Option<Tables>) = (None, None);
        for change in changes {
            desired = changed(&desired, &change);
            let shared = Arc::new(desired.clone());
            let mut anew = desired.clone();
            anew.shared.services = desired.shared.services.iter().map(|s| Service::clone(s)).collect();
            let tables = Tables::compile(&shared, &mut ids, Nanos::default(), before.as_ref()).unwrap();
            let tables_anew =
                Tables::compile(&Arc::new(anew), &mut ids_anew, Nanos::default(), before_anew.as_ref()).unwrap();
            prop_assert!(compiled(&tables) == compiled(&tables_anew), "{change:?} {tables:#?} {tables_anew:#?}");
            (before, before_anew) = (Some(tables), Some(tables_anew));
        }
    }
}

proptest! {
    #![proptest_config(ProptestConfig { failure_persistence: None, ..ProptestConfig::with_cases(48) })]

    #[test]
    fn nat_there_and_back_is_the_identity_but_for_the_ttl(
        preserve: bool, v6: bool, overlay: bool, port in 1u16.., payload in 0usize..1300, worker in 0usize..2,
    ) {
        let mode = if preserve { Mode::NatPreserve } else { Mode::Nat };
        let (vip, backends) = match (v6, overlay) {
            (true, _) => (VIP6, BACKENDS6),
            (false, true) => (VIP, OVERLAY),
            (false, false) => (VIP, BACKENDS4),
        };
        let mut machine = Machine::new(cluster(2, vec![service_in(mode, vip, &backends)]));
        let sent = segment((client_of(vip), port), (vip, 80), "A", &[], payload);
        let out = machine.pass(worker, sent.clone());
        let front = if overlay && !v6 { 50 } else { 0 };
        let (from, to) = ends_of(&out[front..]);
        let (from_ip, to_ip) = (from.0.to_string(), to.0.to_string());
        // The backend echoes what it got.
        let mut echo = segment((&to_ip, to.1), (&from_ip, from.1), "A", &[], payload);
        if front > 0 {
            echo = vxlan(if to_ip == OVERLAY[0][..7] { 1 } else { 2 }, 1024, &echo);
        }
        let back = machine.pass(1 - worker, echo);
        let mirrored = hop_later(&segment((vip, 80), (client_of(vip), port), "A", &[], payload));
        prop_assert_eq!(&back[12..], &mirrored[12..]);
        prop_assert_eq!(&back[..12], &[ROUTER.0, OURS.0].concat()[..]);
    }
}
