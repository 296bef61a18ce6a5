//! A gateway that masquerades: what containers begin leaves with its address and comes back to them alone.

use sluice_config::model::*;
use sluice_dataplane::time::Nanos;
use sluice_dataplane::verdict::DropReason as R;

use crate::common::*;

mod bounds;
mod errors;
mod model;
mod six;
mod ways;

const CONTAINER: &str = "9.0.2.7";
const OTHER: &str = "9.0.1.8";
const GROUPED: &str = "9.0.2.9";
const SNAT: &str = "10.0.0.100";

fn cluster(workers: usize) -> Desired {
    let mut desired = quiet(desired(workers));
    desired.local.vtep.as_mut().unwrap().gateway = Gateway::Masqueraded;
    desired.shared.containers = vec![Container { ip: v4(GROUPED), network: "dcos".into(), groups: vec!["a".into()] }];
    desired
}

fn machine(workers: usize) -> Machine {
    Machine::new(cluster(workers))
}

/// What a container sends, as its agent does.
fn sent(packet: &[u8]) -> Vec<u8> {
    let agent = packet[28];
    vxlan(agent, 1024, packet)
}

/// What an agent gets in its tunnel, its sums right.
fn arrived(packet: &[u8]) -> Vec<u8> {
    let (_, (agent, 64000)) = ends(packet) else { panic!("no tunnel: {:?}", ends(packet)) };
    let inner = packet[50..].to_vec();
    assert_eq!(agent, format!("10.0.0.{}", 10 + inner[32]), "another container's agent");
    check_sums(&inner);
    inner
}

/// What somebody outside gets, its sums right.
fn seen(packet: Vec<u8>) -> Vec<u8> {
    check_sums(&packet);
    packet
}

fn at(address: &(String, u16)) -> (&str, u16) {
    (&address.0, address.1)
}

/// An echo message with this identifier.
fn echo(source: &str, destination: &str, id: u16, reply: bool) -> Vec<u8> {
    let builder =
        etherparse::PacketBuilder::ethernet2(ROUTER.0, OURS.0).ipv4(ip(source).octets(), ip(destination).octets(), 64);
    let builder = if reply { builder.icmpv4_echo_reply(id, 2) } else { builder.icmpv4_echo_request(id, 2) };
    let mut packet = vec![];
    builder.write(&mut packet, b"echo").unwrap();
    packet
}

fn id(packet: &[u8]) -> u16 {
    u16::from_be_bytes([packet[38], packet[39]])
}
