//! Attacks and faults by the rows of the test matrix in issue 3's facts (robustness.md, D2): each test is a row's number
//! and its attack, and shows what happens: a counted drop and nothing else, or an answer. Rows 5, 23, 24 and 33 (fragments,
//! ICMP errors) are tested where those are served; row 12's refusal of a service that leads back to itself is in
//! config/tests/mistakes.txt and control's `a_backend_that_is_a_vip_or_this_node_is_no_backend`; row 30's new random key
//! for each start is in control/src/run/hash_key.rs.
#![allow(clippy::unwrap_used, clippy::panic, reason = "clippy knows only #[test] functions as tests")]

#[path = "../common/mod.rs"]
mod common;

mod floods;
mod headers;
mod templates;

use common::*;
use sluice_config::model::*;
use sluice_dataplane::verdict::DropReason;

/// Feeds packets each of which must end with `reason`: that counter alone rises, by as many.
fn all_refused(machine: &mut Machine, port: usize, packets: &[Vec<u8>], reason: DropReason) {
    let (before, all) = (machine.drops(reason), machine.total(|c| c.dropped()));
    let left = machine.feed(0, port, packets);
    let counted = (machine.drops(reason) - before, machine.total(|c| c.dropped()) - all);
    let expected = packets.len() as u64;
    assert_eq!((left.len(), counted), (0, (expected, expected)), "expected {reason:?}");
}

/// IPv4's header checksum made right.
fn summed(mut packet: Vec<u8>) -> Vec<u8> {
    let header = usize::from(packet[14] & 15) * 4;
    packet[24..26].fill(0);
    let sum: u32 = packet[14..14 + header].chunks(2).map(|w| u32::from(w[0]) << 8 | u32::from(w[1])).sum();
    let sum = (sum & 0xffff) + (sum >> 16);
    let sum = !((sum & 0xffff) + (sum >> 16)) as u16;
    packet[24..26].copy_from_slice(&sum.to_be_bytes());
    packet
}

/// With octets overwritten, and IPv4's header checksum right.
fn edited(packet: &[u8], at: usize, octets: &[u8]) -> Vec<u8> {
    let mut packet = packet.to_vec();
    packet[at..at + octets.len()].copy_from_slice(octets);
    summed(packet)
}
