//! Every mode of a service on real packets: AF_XDP on veth, kernels with real TCP on both sides, and the tools that an
//! operator would reach for. These tests need root, the binary `sluice` beside `sluice-lab`, and the packages that they
//! name.
#![allow(clippy::unwrap_used, clippy::panic, reason = "a test that cannot go on fails")]

mod flows;
mod probes;
mod swaps;
mod tools;
mod world;

use std::collections::BTreeSet;
use std::net::{IpAddr, SocketAddr};

use sluice_lab::web_task::octets;

use flows::Conversation;
use tools::Tools;
use world::{SERVICES, Service, World};

/// Long enough for a hundred segments of any size, short enough for a debug build.
const DOWNLOAD_OCTETS: usize = 1_000_000;

#[test]
fn curl_iperf3_wrk_and_hping3_work_in_every_mode() {
    let Some(world) = World::start() else { return };
    let tools = Tools::of(&world);
    for service in SERVICES {
        println!("{} {}", service.mode, service.vip);
        every_backend_answers(&tools, service);
        bytes_arrive_whole(&tools, service);
        tools.iperf3(service.ip(), false);
        tools.iperf3(service.ip(), true);
        tools.wrk(service.ip());
        if service.ip().is_ipv4() {
            a_flood_of_syns_harms_no_established_connection(&world, &tools, service);
        }
        world.packets_went_by(service);
    }
    // Containers' packets have less room than the client's kernel thinks.
    assert!(world.metric("sluice_mss_clamped_total") > 0);
    world.the_books_balance();
    world.stop();
}

#[test]
fn a_datagram_that_does_not_fit_the_tunnel_is_counted_and_holds_up_nothing() {
    let Some(world) = World::start() else { return };
    let service = SERVICES.iter().find(|s| s.mode == "dsr-ipip" && s.ip().is_ipv4()).unwrap();
    let socket = world.udp(SocketAddr::new(service.ip(), world::UDP_PORT));
    let mut answer = [0; 2000];
    let mut echoed = |length: usize| {
        socket.send(&vec![7; length]).unwrap();
        socket.recv(&mut answer).ok()
    };
    // 1480 octets of IP fit behind an outer header of 20; 1481 do not, and Linux sets DF.
    assert_eq!(echoed(1452), Some(1452));
    assert_eq!(echoed(1453), None);
    // A client that was told (ICMP too big) leaves in fragments what it sends from then on.
    let told = world.answers("too_big");
    assert_eq!(echoed(1472), (told > 0).then_some(1472));
    assert_eq!(echoed(100), Some(100));
    let too_big = world.drops("too_big") + world.answers("too_big");
    assert_eq!(too_big, if told > 0 { 1 } else { 2 });
    world.the_books_balance();
    world.stop();
}

fn every_backend_answers(tools: &Tools<'_>, service: &Service) {
    let said = tools.curl(&format!("http://{}/?[1-24]", in_url(service.ip())));
    let hosts: Vec<&str> = said.lines().filter_map(|line| line.strip_prefix("host ")).collect();
    assert_eq!(hosts.len(), 24, "{service:?}: {said}");
    let seen: BTreeSet<&str> = hosts.into_iter().collect();
    let wanted: BTreeSet<&str> = service.hosts.iter().copied().collect();
    assert_eq!(seen, wanted, "{service:?}");
}

fn bytes_arrive_whole(tools: &Tools<'_>, service: &Service) {
    let got = tools.curl_octets(&format!("http://{}/octets?n={DOWNLOAD_OCTETS}", in_url(service.ip())));
    assert!(got == octets(DOWNLOAD_OCTETS), "{service:?}: {} octets, or other ones", got.len());
}

fn a_flood_of_syns_harms_no_established_connection(world: &World, tools: &Tools<'_>, service: &Service) {
    let established = Conversation::begin(world, SocketAddr::new(service.ip(), 80));
    let answered = tools.hping3(service.ip(), 80, 3000);
    assert!(answered > 1500, "{service:?}: {answered} of 3000 SYNs were answered");
    // A port of the VIP that is no service.
    let unserved = world.drops("no_service");
    tools.hping3(service.ip(), 9, 500);
    assert_eq!(world.drops("no_service") - unserved, 500, "{service:?}");
    let answers = established.end();
    assert!(answers > 1, "{service:?}: {answers} answers while SYNs came");
}

/// IPv6 addresses stand in brackets (RFC 3986 section 3.2.2).
fn in_url(ip: IpAddr) -> String {
    match ip {
        IpAddr::V4(ip) => ip.to_string(),
        IpAddr::V6(ip) => format!("[{ip}]"),
    }
}
