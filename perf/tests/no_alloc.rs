//! A turn allocates nothing and frees nothing, whatever it meets: design.md section 2. Counted by an allocator that
//! stands before the system's, on the thread that turns.
#![allow(unsafe_code, reason = "an allocator can only be written so; this one adds counting to the system's")]
#![allow(clippy::unwrap_used, reason = "a test that cannot go on stops")]

use std::alloc::{GlobalAlloc, Layout, System};
use std::cell::Cell;
use std::net::Ipv4Addr;
use std::sync::Arc;

use sluice_config::model::{Desired, Mode, ProbePath};
use sluice_dataplane::sessions::{ACK, FIN, SYN};
use sluice_dataplane::tables::Tables;
use sluice_dataplane::tables::ids::Ids;
use sluice_dataplane::time::Nanos;
use sluice_dataplane::verdict::DropReason;
use sluice_dataplane::wire::checksum::{fold, sum};
use sluice_perf::hub;
use sluice_perf::paths::Path;
use sluice_perf::rig::Rig;
use sluice_perf::scene::Scene;
use sluice_perf::traffic::{self, client, client6};
use sluice_perf::world::{self, AGENT, DNS, HOST_PORT_MAC, IPIP_VIP, OURS, OVERLAY_VIP, ROUTER, VIP, VIP6};

struct Counting;

thread_local! {
    // Const and without a destructor, so that reading it never allocates.
    static CALLS: Cell<u64> = const { Cell::new(0) };
}

fn count() {
    CALLS.with(|calls| calls.set(calls.get() + 1));
}

// SAFETY: every call goes to the system's allocator unchanged; counting touches no memory that it manages.
unsafe impl GlobalAlloc for Counting {
    unsafe fn alloc(&self, layout: Layout) -> *mut u8 {
        count();
        // SAFETY: the caller's promise is passed on.
        unsafe { System.alloc(layout) }
    }

    unsafe fn dealloc(&self, address: *mut u8, layout: Layout) {
        count();
        // SAFETY: the caller's promise is passed on.
        unsafe { System.dealloc(address, layout) }
    }

    unsafe fn realloc(&self, address: *mut u8, layout: Layout, size: usize) -> *mut u8 {
        count();
        // SAFETY: the caller's promise is passed on.
        unsafe { System.realloc(address, layout, size) }
    }
}

#[global_allocator]
static ALLOCATOR: Counting = Counting;

/// Allocations and frees of `work`.
fn calls(work: impl FnOnce()) -> u64 {
    let before = CALLS.with(Cell::get);
    work();
    CALLS.with(Cell::get) - before
}

/// Turns every worker until nothing moves.
fn turn_out(rig: &mut Rig, workers: usize) {
    while (0..workers).map(|w| rig.turn(w)).sum::<usize>() > 0 {}
}

#[test]
fn the_allocator_is_counted() {
    assert!(calls(|| drop(std::hint::black_box(vec![1u8; 10]))) >= 2);
}

#[test]
fn no_measured_path_allocates() {
    for path in Path::ALL {
        let workers = path.workers();
        let tables = if path == Path::Hub { hub::tables() } else { world::tables(workers) };
        let mut rig = Rig::new(&tables.unwrap(), workers, path.room(1024).min(4096)).unwrap();
        let mut scene = Scene::new(path, 1024, &mut rig).unwrap();
        let mut frame = Vec::new();
        for n in 0..1000 {
            scene.fill(n, &mut frame);
            assert!(frame.is_empty() || rig.offer(0, &frame));
        }
        assert_eq!(calls(|| turn_out(&mut rig, workers)), 0, "{}", path.name());
        for worker in 0..workers {
            assert_eq!(rig.counters(worker).books().0, rig.counters(worker).books().1);
        }
    }
}

type Write = fn(&mut Vec<u8>, u32);

/// What else a worker meets, and the reason to drop it if there is one.
const OTHERS: &[(&str, Write, Option<DropReason>)] = &[
    ("arp for a VIP", |f, _| traffic::arp(f, ROUTER, VIP.0), None),
    ("arp for another", |f, _| traffic::arp(f, ROUTER, ROUTER), Some(DropReason::ArpNotOurs)),
    ("echo to a VIP", |f, n| traffic::echo(f, client(n).0, VIP.0), None),
    ("no such name", |f, n| traffic::question(f, client(n), 1, "nobody.mesos"), None),
    ("a foreign name", |f, n| traffic::question(f, client(n), 1, "example.org"), None),
    ("to the kernel", |f, n| traffic::tcp(f, client(n), (DNS, 53), SYN), None),
    ("no such service", |f, n| traffic::tcp(f, client(n), (VIP.0, 81), SYN), Some(DropReason::NoService)),
    ("an end of a session", |f, n| traffic::tcp(f, client(n), VIP, FIN | ACK), None),
    ("from a container", |f, n| traffic::tunnelled(f, (AGENT.2, 1024 + n as u16), VIP, SYN), None),
    ("a spoofing container", |f, _| traffic::tunnelled(f, (OURS, 9), OVERLAY_VIP, SYN), Some(DropReason::OverlaySpoof)),
    ("a loopback source", |f, _| traffic::tcp(f, (Ipv4Addr::LOCALHOST, 9), VIP, SYN), Some(DropReason::Martian)),
    ("fragments in reverse order", reversed, None),
    ("later fragments alone", alone, None),
    ("an error of an unknown flow", unknown_error, Some(DropReason::IcmpNoSession)),
    ("cut in the header", |f, n| cut(f, n, 30), Some(DropReason::Truncated)),
    ("cut in Ethernet", |f, n| cut(f, n, 9), Some(DropReason::Truncated)),
    ("a TTL that ran out", expired, None),
    ("a wrong checksum", bent, Some(DropReason::Ip4Checksum)),
];

/// Later fragments before the first one of each datagram, so that they wait and are released.
fn reversed(frame: &mut Vec<u8>, n: u32) {
    traffic::fragment(frame, client(0), VIP, (n / 4) as u16, (3 - n as u16 % 4, 4));
}

fn alone(frame: &mut Vec<u8>, n: u32) {
    traffic::fragment(frame, client(0), VIP, n as u16, (1, 4));
}

/// About a reply that nobody has sent, so that it goes all the way round.
fn unknown_error(frame: &mut Vec<u8>, n: u32) {
    traffic::tcp(frame, VIP, client(n), ACK);
    let quoted = frame[14..].to_vec();
    traffic::icmp_error(frame, VIP.0, &quoted);
}

fn cut(frame: &mut Vec<u8>, n: u32, len: usize) {
    traffic::tcp(frame, client(n), VIP, SYN);
    frame.truncate(len);
}

fn bent(frame: &mut Vec<u8>, n: u32) {
    traffic::tcp(frame, client(n), VIP, SYN);
    frame[24] ^= 0x40;
}

fn expired(frame: &mut Vec<u8>, n: u32) {
    traffic::tcp(frame, client(n), VIP, SYN);
    frame[22] = 1;
    frame[24..26].fill(0);
    let sum = !fold(sum(&frame[14..34], 0));
    frame[24..26].copy_from_slice(&sum.to_be_bytes());
}

#[test]
fn neither_answers_nor_drops_nor_the_host_port_allocate() {
    let tables = world::tables(1).unwrap();
    for (what, write, reason) in OTHERS {
        let mut rig = Rig::new(&tables, 1, 4096).unwrap();
        let mut frame = Vec::new();
        for n in 0..200 {
            write(&mut frame, n);
            assert!(rig.offer(0, &frame));
        }
        assert_eq!(calls(|| turn_out(&mut rig, 1)), 0, "{what}");
        let counters = rig.counters(0);
        let for_it = reason.map_or(0, |r| counters.drops(r).get());
        let expected = if reason.is_some() { 200 } else { 0 };
        assert_eq!((for_it, counters.dropped()), (expected, expected), "{what}: {}", rig.losses());
    }
}

#[test]
fn neither_errors_nor_fragments_of_known_flows_allocate_wherever_they_arrive() {
    let tables = world::tables(2).unwrap();
    let mut rig = Rig::new(&tables, 2, 4096).unwrap();
    let mut frame = Vec::new();
    let mut there = Vec::new();
    for n in 0..64 {
        traffic::tcp(&mut frame, client(n), VIP, SYN);
        assert!(rig.offer(0, &frame));
    }
    turn_out(&mut rig, 2);
    rig.collect(0, |_, packet| there.push((packet.to_vec(), traffic::ends(packet).unwrap().0)));
    let mut reply = Vec::new();
    for (n, (request, (snat, _))) in (0..).zip(&there) {
        traffic::icmp_error(&mut frame, *snat, &request[14..]);
        assert!(rig.offer(0, &frame));
        traffic::tcp(&mut reply, VIP, client(n), ACK);
        traffic::icmp_error(&mut frame, VIP.0, &reply[14..]);
        assert!(rig.offer(0, &frame));
        for part in 0..4 {
            traffic::fragment(&mut frame, client(n), VIP, 7, (part, 4));
            assert!(rig.offer(0, &frame));
        }
    }
    assert_eq!(calls(|| turn_out(&mut rig, 2)), 0);
    let counters = rig.counters(0);
    assert_eq!((counters.icmp_errors.get(), counters.fragments_followed.get()), (128, 192), "{}", rig.losses());
}

#[test]
fn no_mode_allocates_over_either_family() {
    for (name, mode) in Mode::ALL {
        let tables = world::tables_in(*mode).unwrap();
        // Underlay, overlay, IPv6: where a mode reaches none of a VIP's backends, its packets are dropped.
        let writes: [Write; 3] = [
            |f, n| traffic::tcp(f, client(n % 100), VIP, if n < 100 { SYN } else { ACK }),
            |f, n| traffic::tcp(f, client(n % 100), OVERLAY_VIP, if n < 100 { SYN } else { ACK }),
            |f, n| traffic::tcp6(f, client6(n % 100), VIP6, if n < 100 { SYN } else { ACK }),
        ];
        let mut sent = 0;
        for write in writes {
            let mut rig = Rig::new(&tables, 1, 4096).unwrap();
            let mut frame = Vec::new();
            for n in 0..200 {
                write(&mut frame, n);
                assert!(rig.offer(0, &frame));
            }
            assert_eq!(calls(|| turn_out(&mut rig, 1)), 0, "{name}");
            let counters = rig.counters(0);
            assert_eq!(counters.drops(DropReason::NoBackend).get(), counters.dropped(), "{name}: {}", rig.losses());
            sent += counters.tx.get();
        }
        assert!(sent >= 200, "{name}");
    }
}

#[test]
fn neither_a_probe_that_is_carried_nor_its_answer_allocates() {
    let mut desired = Desired::clone(&world::tables(1).unwrap().desired);
    let service = desired.shared.services.iter().find(|s| s.mode == Mode::DsrIpip).unwrap();
    let probe = Ipv4Addr::new(198, 18, 0, 1);
    let (vip, backend) = (service.key, service.backends[7].address);
    desired.local.probes = vec![ProbePath { address: probe.into(), vip, backend, mode: Mode::DsrIpip }];
    let tables = Tables::compile(&Arc::new(desired), &mut Ids::new(1024, 65536, 0), Nanos::default(), None).unwrap();
    let mut rig = Rig::new(&Arc::new(tables), 1, 4096).unwrap();
    let kernel = Ipv4Addr::new(9, 0, 9, 1);
    let snat = |port: u16| Ipv4Addr::new(10, 0, 2, 201 + (port % 4) as u8);
    let mut frame = Vec::new();
    for port in 40_000..40_100 {
        traffic::tcp(&mut frame, (kernel, port), (probe, IPIP_VIP.1), SYN);
        frame[..6].copy_from_slice(&HOST_PORT_MAC.0);
        assert!(rig.offer(1, &frame));
    }
    assert_eq!(calls(|| turn_out(&mut rig, 1)), 0);
    for port in 40_000..40_100 {
        traffic::tcp(&mut frame, IPIP_VIP, (snat(port), port), SYN | ACK);
        assert!(rig.offer(0, &frame));
    }
    assert_eq!(calls(|| turn_out(&mut rig, 1)), 0);
    let counters = rig.counters(0);
    assert_eq!((counters.probes_carried.get(), counters.probes_answered.get()), (100, 100), "{}", rig.losses());
}

#[test]
fn a_full_session_table_and_a_full_port_allocate_nothing() {
    let tables = world::tables(1).unwrap();
    let mut rig = Rig::new(&tables, 1, 64).unwrap();
    let mut frame = Vec::new();
    // Established sessions do not make way, so later flows are refused.
    for flags in [SYN, ACK] {
        for n in 0..2000 {
            traffic::tcp(&mut frame, client(n), VIP, flags);
            assert!(rig.offer(0, &frame));
        }
        assert_eq!(calls(|| turn_out(&mut rig, 1)), 0);
        rig.collect(0, |_, _| {});
    }
    assert!(rig.counters(0).drops(DropReason::SessionsFull).get() + rig.counters(0).sessions_evicted.get() > 0);
}

#[test]
fn neither_the_giver_nor_the_taker_of_a_handed_packet_allocates() {
    let tables = world::tables(2).unwrap();
    let mut rig = Rig::new(&tables, 2, 4096).unwrap();
    let mut frame = Vec::new();
    // Replies to SNAT ports of both workers, whose sessions nobody has: what counts is the way there.
    for port in (1024..9000).step_by(16) {
        let (backend, snat) = (Ipv4Addr::new(10, 0, 0, 101), Ipv4Addr::new(10, 0, 2, 201));
        traffic::tcp(&mut frame, (backend, 31001), (snat, port), ACK);
        assert!(rig.offer(0, &frame));
    }
    assert_eq!(calls(|| turn_out(&mut rig, 2)), 0);
    let (given, taken) = (rig.counters(0).given.get(), rig.counters(1).taken.get());
    assert!(given > 100 && given == taken, "given {given}, taken {taken}; {}", rig.losses());
}

#[test]
fn new_tables_are_taken_and_old_ones_let_go_without_allocating() {
    let mut rig = Rig::new(&world::tables(1).unwrap(), 1, 64).unwrap();
    turn_out(&mut rig, 1);
    rig.publish(&world::tables(1).unwrap());
    assert_eq!(calls(|| turn_out(&mut rig, 1)), 0);
}
