//! The node's own probes of backends that answer as the VIP: carried as the mode carries clients' packets, to precisely
//! the backend that the probe's address is for, and the answers back to the kernel's socket.

use std::net::IpAddr;

use sluice_config::model::*;
use sluice_dataplane::verdict::DropReason;

use crate::common::*;
use crate::world::*;

/// The port of the kernel's socket; worker 0 keeps it, whoever owns it as a SNAT port.
const PORT: u16 = 40_001;
const DSR: [Mode; 4] = [Mode::DsrIpip, Mode::DsrGue, Mode::DsrVxlan, Mode::DsrMac];

/// What the kernel sends from, what it sends to the second backend's probe, where answers are sent, and who asks.
struct Ends {
    kernel: &'static str,
    probe: [&'static str; 2],
    snat: &'static str,
}

fn ends_for(vip: &str) -> Ends {
    match vip {
        VIP => Ends { kernel: OURS4, probe: ["198.18.0.1", "198.18.0.2"], snat: "10.0.0.100" },
        _ => Ends { kernel: OURS6, probe: ["2001:2::1", "2001:2::2"], snat: "2001:db8::100" },
    }
}

/// One service in this mode, whose two backends are probed.
fn probed(workers: usize, mode: Mode, vip: &str, backends: &[&str; 2]) -> Desired {
    let mut desired = cluster(workers, vec![service_in(mode, vip, backends)]);
    let key = desired.shared.services[0].key;
    let addresses = ends_for(vip).probe;
    let paths = addresses.iter().zip(backends).map(|(address, backend)| ProbePath {
        address: address.parse().unwrap(),
        vip: key,
        backend: backend.parse().unwrap(),
        mode,
    });
    desired.local.probes = paths.collect();
    desired
}

/// Every DSR mode with VIPs and backends of either family that it has.
fn cases() -> Vec<(Mode, &'static str, [&'static str; 2])> {
    let both = |mode| [VIP, VIP6].map(|vip| [BACKENDS4, BACKENDS6].map(|backends| (mode, vip, backends)));
    let mut all: Vec<_> = [Mode::DsrIpip, Mode::DsrGue].into_iter().flat_map(both).flatten().collect();
    all.extend([(Mode::DsrVxlan, VIP, OVERLAY), (Mode::DsrVxlan, VIP6, OVERLAY)]);
    all.extend([(Mode::DsrMac, VIP, BACKENDS4), (Mode::DsrMac, VIP6, BACKENDS6)]);
    all
}

/// A packet of the kernel's socket to the probe's address of the `n`th backend.
fn asked(vip: &str, n: usize, flags: &str) -> Vec<u8> {
    let Ends { kernel, probe, .. } = ends_for(vip);
    let mut packet = segment((kernel, PORT), (probe[n], 80), flags, &[], 5);
    packet[..6].copy_from_slice(&HOST_PEER.0);
    packet[6..12].copy_from_slice(&HOST.0);
    packet
}

/// A backend's answer, as the VIP.
fn answer(vip: &str, port: u16) -> Vec<u8> {
    segment((vip, 80), (ends_for(vip).snat, port), "SA", &[], 7)
}

/// Feeds a packet of which exactly one must leave, and says by which port.
fn pass(machine: &mut Machine, worker: usize, port: usize, packet: Vec<u8>) -> (usize, Vec<u8>) {
    let left = machine.feed(worker, port, &[packet]);
    let dropped: Vec<_> = DropReason::ALL.iter().filter(|r| machine.drops(**r) > 0).collect();
    let [left] = &left[..] else { panic!("{} packets left; drops so far {dropped:?}", left.len()) };
    left.clone()
}

/// The client's packet inside whatever the mode puts around it.
fn inner(mode: Mode, outer: &[u8]) -> Vec<u8> {
    let header = if outer[12] == 8 { 20 } else { 40 };
    let at = 14
        + match mode {
            Mode::DsrIpip => header,
            Mode::DsrGue => header + 8 + 4,
            Mode::DsrVxlan => header + 8 + 8 + 14,
            Mode::DsrMac | Mode::Nat | Mode::NatPreserve => 0,
        };
    let ether_type = if outer[at] >> 4 == 4 { [8, 0] } else { [0x86, 0xdd] };
    [&outer[..12], &ether_type, &outer[at..]].concat()
}

#[test]
fn a_probe_goes_to_its_backend_as_a_clients_packet_does_and_its_answer_to_the_kernels_socket() {
    for (mode, vip, backends) in cases() {
        let ends = ends_for(vip);
        let mut machine = Machine::new(probed(1, mode, vip, &backends));
        for n in [1, 0, 1] {
            let (port, sent) = pass(&mut machine, 0, 1, asked(vip, n, "S"));
            assert_eq!((port, &sent[..6]), (0, &AGENT[n].0[..]), "{mode:?} {vip} {backends:?}");
            let carried = inner(mode, &sent);
            assert_eq!(ends_of(&carried), (end(ends.snat, PORT), end(vip, 80)), "{mode:?} {vip}");
            let (port, back) = pass(&mut machine, 0, 0, answer(vip, PORT));
            assert_eq!((port, &back[..6], &back[6..12]), (1, &HOST.0[..], &HOST_PEER.0[..]));
            assert_eq!(ends_of(&back), (end(ends.probe[n], 80), end(ends.kernel, PORT)));
            assert_eq!(back[back.len() - 7..], [0x5a; 7]);
        }
        // A client's packet goes as before.
        let client = machine.pass(0, segment((client_of(vip), 5000), (vip, 80), "S", &[], 5));
        let to = inner(mode, &client);
        assert_eq!(ends_of(&to), (end(client_of(vip), 5000), end(vip, 80)));
        let counts = (machine.total(|c| c.probes_carried.get()), machine.total(|c| c.probes_answered.get()));
        assert_eq!((counts, machine.total(|c| c.sessions_made.get())), ((3, 3), 1));
    }
}

#[test]
fn whichever_worker_gets_a_probe_or_its_answer_gives_it_to_the_one_that_knows() {
    for vip in [VIP, VIP6] {
        let backends = if vip == VIP { BACKENDS4 } else { BACKENDS6 };
        let mut machine = Machine::new(probed(3, Mode::DsrIpip, vip, &backends));
        for (there, back) in [(0, 0), (0, 2), (1, 0), (2, 1)] {
            let (port, sent) = pass(&mut machine, there, 1, asked(vip, 1, "S"));
            assert_eq!((port, &sent[..6]), (0, &AGENT[1].0[..]));
            assert_eq!(pass(&mut machine, back, 0, answer(vip, PORT)).0, 1);
        }
        assert_eq!(machine.total(|c| c.given.get()), 4);
    }
}

#[test]
fn who_asks_udp_gets_the_datagram_of_the_address_that_it_asked() {
    let mut desired = probed(1, Mode::DsrIpip, VIP, &BACKENDS4);
    let mut service = Service::clone(&desired.shared.services[0]);
    service.key.protocol = Protocol::Udp;
    desired.local.probes.iter_mut().for_each(|path| path.vip = service.key);
    desired.shared.services = vec![service].into();
    let mut machine = Machine::new(desired);
    let mut question = udp((OURS4, PORT), ("198.18.0.2", 80), b"sluice");
    question[..12].copy_from_slice(&[HOST_PEER.0, HOST.0].concat());
    let (_, sent) = pass(&mut machine, 0, 1, question);
    let carried = inner(Mode::DsrIpip, &sent);
    check_sums(&carried);
    assert_eq!(ends(&carried), (("10.0.0.100".into(), PORT), (VIP.into(), 80)));
    let (port, back) = pass(&mut machine, 0, 0, udp((VIP, 80), ("10.0.0.100", PORT), b"well"));
    check_sums(&back);
    assert_eq!((port, ends(&back)), (1, (("198.18.0.2".into(), 80), (OURS4.into(), PORT))));
    machine.refuse(0, 0, tcp((VIP, 80), ("10.0.0.100", PORT), "SA"), DropReason::Martian);
}

#[test]
fn what_nobody_waits_for_is_dropped_as_before() {
    for (mode, vip, backends) in cases() {
        let ends = ends_for(vip);
        let mut machine = Machine::new(probed(2, mode, vip, &backends));
        machine.refuse(0, 0, answer(vip, PORT), DropReason::Martian);
        machine.refuse(1, 0, answer(vip, PORT), DropReason::Martian);
        pass(&mut machine, 0, 1, asked(vip, 0, "S"));
        machine.refuse(0, 0, answer(vip, PORT + 1), DropReason::Martian);
        let elsewhere = segment((vip, 81), (ends.snat, PORT), "SA", &[], 0);
        machine.refuse(0, 0, elsewhere, DropReason::Martian);
        let outside = segment((client_of(vip), 80), (ends.snat, PORT), "SA", &[], 0);
        machine.refuse(0, 0, outside, DropReason::SnatUnknown);
        // Only the kernel probes, only where something is probed, and only at the VIP's port.
        let mut forged = asked(vip, 0, "S");
        forged[..6].copy_from_slice(&OURS.0);
        machine.refuse(0, 0, forged, DropReason::Martian);
        let beyond = if vip == VIP { "198.18.0.3" } else { "2001:2::3" };
        for (to, port) in [(beyond, 80), (ends.probe[0], 81)] {
            let mut packet = segment((ends.kernel, PORT), (to, port), "S", &[], 0);
            packet[..12].copy_from_slice(&[HOST_PEER.0, HOST.0].concat());
            machine.refuse(0, 1, packet, DropReason::NotForUs);
        }
        assert_eq!(pass(&mut machine, 0, 0, answer(vip, PORT)).0, 1, "the one that was asked for comes through");
    }
}

#[test]
fn an_address_that_is_another_backends_now_takes_no_answer_of_the_one_before() {
    let desired = probed(1, Mode::DsrIpip, VIP, &BACKENDS4);
    let mut machine = Machine::new(desired.clone());
    pass(&mut machine, 0, 1, asked(VIP, 0, "S"));
    let mut gone = desired.clone();
    gone.local.probes.remove(0);
    machine.publish(gone);
    machine.refuse(0, 0, answer(VIP, PORT), DropReason::Martian);
    let mut other = desired.clone();
    let mut services: Vec<Service> = other.shared.services.iter().map(|s| (**s).clone()).collect();
    services.push(service_in(Mode::DsrIpip, "172.16.0.7", &BACKENDS4));
    other.shared.services = services.into();
    other.local.probes[0].vip.ip = "172.16.0.7".parse::<IpAddr>().unwrap();
    machine.publish(other);
    machine.refuse(0, 0, answer(VIP, PORT), DropReason::Martian);
    machine.publish(desired);
    assert_eq!(pass(&mut machine, 0, 0, answer(VIP, PORT)).0, 1);
    machine.now = sluice_dataplane::time::Nanos::from_seconds(3700);
    machine.refuse(0, 0, answer(VIP, PORT), DropReason::Martian);
}

#[test]
fn what_cannot_be_carried_says_why() {
    for mode in DSR {
        let backends = if mode == Mode::DsrVxlan { OVERLAY } else { BACKENDS4 };
        let mut desired = probed(1, mode, VIP, &backends);
        desired.local.snat_underlay.clear();
        Machine::new(desired).refuse(0, 1, asked(VIP, 0, "S"), DropReason::NoSnat);
        let mut machine = Machine::new(probed(1, mode, VIP, &backends));
        let mut last = asked(VIP, 0, "S");
        last[22] = 2;
        machine.refuse(0, 1, hop_later(&last), DropReason::TtlExpired);
        let mut packet = segment((OURS4, PORT), ("198.18.0.1", 80), "A", &[], 1480);
        packet[..12].copy_from_slice(&[HOST_PEER.0, HOST.0].concat());
        machine.refuse(0, 1, packet, DropReason::TooBig);
    }
}
