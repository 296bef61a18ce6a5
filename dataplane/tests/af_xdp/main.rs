//! AF_XDP on real sockets: veth pairs between two network namespaces that each test makes and removes.
//!
//! Needs root; without it every test says so and passes.
#![allow(unsafe_code, reason = "setns and capset have no safe binding here")]
#![allow(clippy::unwrap_used, clippy::panic, reason = "helpers of tests, which clippy does not take for tests")]

mod dataplane;
mod inputs;
mod lab;
mod port;
mod refusals;
mod swaps;

use std::fs::File;
use std::net::{Ipv4Addr, SocketAddr, UdpSocket};
use std::num::NonZeroU32;
use std::os::fd::{AsFd, AsRawFd, RawFd};
use std::process::Command;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicU32, Ordering};
use std::time::{Duration, Instant};

use etherparse::PacketBuilder;
use sluice_config::model::{
    AnswerRates, Api, Backend, Config, Desired, Dns, Host, Idle, Limits, LocalPort, Mac, Mode, Neighbour,
    Port as ConfigPort, Protocol, Record, RecordData, Role, Route, Service, Sharing, Snat, Timeouts, Vip, VipKey,
    Workers, XdpMode, Zone,
};
use sluice_dataplane::counters::{Counter, Counters};
use sluice_dataplane::frame::{Frame, Pool};
use sluice_dataplane::idle::{self, Turn};
use sluice_dataplane::io::card::Card;
use sluice_dataplane::io::steer::{Side, Steer, SteerError};
use sluice_dataplane::io::xsk::{Bind, WorkerUmem, XskError, XskPort};
use sluice_dataplane::io::{Frames, Port};
use sluice_dataplane::launch::{LaunchError, launch};
use sluice_dataplane::tables::ids::Ids;
use sluice_dataplane::tables::{Steering, Tables};
use sluice_dataplane::time::Nanos;
use sluice_dataplane::wake::Waker;

use inputs::{balanced, compile, config, tables};
use lab::{Lab, run};

const FRAMES: u32 = 512;
const RING: u32 = 256;
const VIP: Ipv4Addr = Ipv4Addr::new(10, 9, 0, 100);
const OUR_MAC: [u8; 6] = [2, 0, 0, 0, 0, 1];
const CLIENT_MAC: [u8; 6] = [2, 0, 0, 0, 0, 2];

fn umem(chunk_bytes: usize) -> (WorkerUmem, Pool) {
    WorkerUmem::new(NonZeroU32::new(FRAMES).unwrap(), chunk_bytes, RING).unwrap()
}

fn vip_steering() -> Steering {
    Steering { addresses: vec![VIP.into()], ..Steering::default() }
}

/// A program on `interface` that takes the VIP, with these sockets.
fn steer(interface: &str, sockets: &[(u32, &XskPort)]) -> Steer {
    let mut steer = Steer::load(interface, Side::Wire { arp: true }).unwrap();
    for (queue, socket) in sockets {
        steer.register(*queue, *socket).unwrap();
    }
    steer.set(&vip_steering()).unwrap();
    steer.attach(XdpMode::Copy, 1500).unwrap();
    steer
}

/// Sends a UDP packet back where it came from; checksums stay right because only places are swapped.
fn turn_round(packet: &mut [u8]) {
    let (to, from) = packet.split_at_mut(6);
    to.swap_with_slice(&mut from[..6]);
    for i in 26..30 {
        packet.swap(i, i + 4);
    }
    packet.swap(34, 36);
    packet.swap(35, 37);
}
