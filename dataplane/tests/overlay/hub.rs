//! Between containers there is a short way and a long one, and nobody can tell which one a packet took.

use proptest::prelude::*;
use sluice_config::model::Isolation;
use sluice_dataplane::verdict::DropReason;

use crate::common::*;
use crate::world::{self, Party};

/// The same packet with four octets of options that say nothing in the outer header: the long way.
fn with_options(packet: &[u8]) -> Vec<u8> {
    let mut long = [&packet[..34], &[1, 1, 1, 1], &packet[34..]].concat();
    long[14] = 0x46;
    let length = u16::from_be_bytes([packet[16], packet[17]]) + 4;
    long[16..18].copy_from_slice(&length.to_be_bytes());
    long[24..26].fill(0);
    let sum = etherparse::Ipv4Header::from_slice(&long[14..]).unwrap().0.calc_header_checksum();
    long[24..26].copy_from_slice(&sum.to_be_bytes());
    long
}

type Seen = (Vec<(usize, Vec<u8>)>, [Vec<u64>; 3], Vec<((u32, u32), u64)>);

fn seen(machine: &mut Machine, packet: &[u8]) -> Seen {
    let left = machine.feed(0, 0, &[packet.to_vec()]);
    let drops = DropReason::ALL.iter().map(|reason| machine.drops(*reason)).collect();
    let counters = machine.workers[0].counters();
    let [rx, tx] = [0, 1].map(|way| counters.networks.iter().map(|c| [c.rx.get(), c.tx.get()][way]).collect());
    (left, [drops, rx, tx], counters.denied.pairs().collect())
}

fn party() -> impl Strategy<Value = Party> {
    let all = world::containers(0);
    (0..all.len()).prop_map(move |n| all[n].clone())
}

proptest! {
    #[test]
    fn both_ways_say_the_same(
        (from, to) in (party(), party()),
        wrong_agent in prop::bool::weighted(0.1),
        elsewhere in prop::option::weighted(0.2, prop::sample::select(vec!["9.0.9.1", "9.0.77.1", "172.16.1.1", "192.0.2.1"])),
        kind in 0..3,
        payload in prop::sample::select(vec![0_usize, 1, 22, 600, 1408, 1422, 1440]),
        edits in prop::collection::vec((any::<prop::sample::Index>(), any::<u8>()), 0..3),
        hops in prop::sample::select(vec![0_u8, 1, 2, 64]),
        tos in 0_u8..4,
    ) {
        let destination = elsewhere.unwrap_or(&to.ip);
        let mut inner = match kind {
            0 => tcp((&from.ip, 7000), (destination, 80), ["A", "S"][usize::from(hops & 1)]),
            1 => udp((&from.ip, 7000), (destination, 80), &vec![7; payload]),
            _ => ping(&from.ip, destination),
        };
        (inner[22], inner[15]) = (hops, tos);
        inner[24..26].fill(0);
        let sum = etherparse::Ipv4Header::from_slice(&inner[14..]).unwrap().0.calc_header_checksum();
        inner[24..26].copy_from_slice(&sum.to_be_bytes());
        for (at, octet) in &edits {
            let at = at.index(inner.len());
            inner[at] = *octet;
        }
        let (_, agent, _) = from.place.unwrap();
        let packet = vxlan(if wrong_agent { 3 - agent } else { agent }, 1024, &inner);
        let mut machines = [0, 1].map(|_| Machine::new(quiet(world::cluster(Isolation::Enforced, true))));
        let short = seen(&mut machines[0], &packet);
        let long = seen(&mut machines[1], &with_options(&packet));
        prop_assert_eq!(short, long);
    }
}
