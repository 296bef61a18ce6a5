//! What Sluice does to the node's kernel, seen with `ip` in a network namespace of the test's own.

#![allow(clippy::unwrap_used, reason = "a test's helper fails the test")]

use std::collections::BTreeSet;
use std::net::{IpAddr, Ipv4Addr};
use std::process::Command;
use std::time::{Duration, Instant};

use serde_json::Value;
use sluice_config::model::Host;
use sluice_control::netlink::inventory::Inventory;
use sluice_control::netlink::neighbours::Neighbours;
use sluice_control::netlink::routes::{Routes, Served};
use sluice_control::netlink::{connect, follow, host_port};

mod namespace;

use namespace::{Station, everything, in_own_namespace, sh};

fn json(command: &str) -> Value {
    let text = sh(command);
    serde_json::from_str(if text.trim().is_empty() { "[]" } else { &text }).unwrap()
}

fn host() -> Host {
    Host { interface: "sl0".into(), peer: "sl0x".into(), addresses: vec!["9.0.9.1/24".parse().unwrap()] }
}

fn served() -> Served {
    Served {
        networks: [("9.0.0.0/8".parse().unwrap(), Some("9.0.9.1".parse().unwrap()))].into(),
        claimed: ["11.0.0.0/8".parse().unwrap(), "172.16.0.1/32".parse().unwrap()].into(),
    }
}

#[test]
fn the_host_port_is_made_as_the_design_says() {
    in_own_namespace("the_host_port_is_made_as_the_design_says", || async {
        let handle = connect().unwrap();
        let port = host_port::make(&handle, &host(), &[], 3, 1400).await.unwrap();
        let links = json("ip -j -d link show");
        let link = |name: &str| links.as_array().unwrap().iter().find(|l| l["ifname"] == name).unwrap().clone();
        for end in ["sl0", "sl0x"] {
            let queues = if end == "sl0" { 1 } else { 3 };
            assert_eq!(link(end)["num_tx_queues"], queues, "{end}");
            assert_eq!(link(end)["num_rx_queues"], 3, "{end}");
            assert_eq!(link(end)["mtu"], 1400, "{end}");
            assert!(link(end)["flags"].as_array().unwrap().contains(&"UP".into()), "{end}");
        }
        assert_eq!(link("sl0")["address"], port.kernel_mac.to_string());
        assert_eq!(link("sl0x")["address"], port.peer_mac.to_string());
        assert_eq!(sh("cat /proc/sys/net/ipv4/conf/sl0/rp_filter").trim(), "0");
        if std::path::Path::new("/proc/sys/net/ipv6/conf/sl0").exists() {
            assert_eq!(sh("cat /proc/sys/net/ipv6/conf/sl0/disable_ipv6").trim(), "1");
        }
        assert!(sh("ip addr show dev sl0").contains("inet 9.0.9.1/32"));
        let gateway = sh("ip neigh show dev sl0");
        assert!(gateway.contains(&format!("169.254.77.1 lladdr {} PERMANENT", port.peer_mac)), "{gateway}");
        if Command::new("ethtool").arg("--version").output().is_ok() {
            let features = sh("ethtool -k sl0");
            for off in ["tx-checksumming: off", "tcp-segmentation-offload: off", "generic-segmentation-offload: off"] {
                assert!(features.contains(off), "{off} in {features}");
            }
        }
    });
}

#[test]
fn sluices_end_never_forwards_whatever_ip_forward_becomes() {
    in_own_namespace("sluices_end_never_forwards_whatever_ip_forward_becomes", || async {
        sh("echo 1 > /proc/sys/net/ipv4/ip_forward; echo 1 > /proc/sys/net/ipv4/conf/default/rp_filter");
        let handle = connect().unwrap();
        let port = host_port::make(&handle, &host(), &[], 1, 1450).await.unwrap();
        let forwards = |end: &str| sh(&format!("cat /proc/sys/net/ipv4/conf/{end}/forwarding")).trim() == "1";
        assert_eq!((forwards("sl0"), forwards("sl0x")), (true, false));
        assert_eq!(sh("cat /proc/sys/net/ipv4/conf/sl0/rp_filter").trim(), "0");
        sh("echo 0 > /proc/sys/net/ipv4/ip_forward; echo 1 > /proc/sys/net/ipv4/ip_forward");
        assert!(forwards("sl0x"), "the kernel changes it everywhere");
        host_port::settle(&handle, &port, &Inventory::list(&handle).await.unwrap()).await.unwrap();
        assert_eq!((forwards("sl0"), forwards("sl0x")), (true, false));
    });
}

#[test]
fn routes_lead_to_the_host_port_and_blackholes_stand_behind_them() {
    in_own_namespace("routes_lead_to_the_host_port_and_blackholes_stand_behind_them", || async {
        let handle = connect().unwrap();
        let port = host_port::make(&handle, &host(), &[], 1, 1450).await.unwrap();
        let mut routes = Routes::begin(handle.clone()).await.unwrap();
        routes.settle(&served().wanted(|_| true), Some(&port)).await.unwrap();
        let to_vip = sh("ip route get 172.16.0.1");
        assert!(to_vip.contains("via 169.254.77.1 dev sl0"), "{to_vip}");
        let to_container = sh("ip route get 9.0.1.5");
        assert!(to_container.contains("dev sl0 src 9.0.9.1"), "{to_container}");
        // A Sluice that dies takes nothing with it; only the veth's end can vanish, and then the blackhole is left.
        sh("ip link del sl0");
        let dead = Command::new("ip").args(["route", "get", "172.16.0.1"]).output().unwrap();
        assert!(!dead.status.success(), "{}", String::from_utf8_lossy(&dead.stdout));
        // Another VIP set: the old ones go.
        let mut routes = Routes::begin(handle.clone()).await.unwrap();
        assert_eq!(sh("ip route show proto 83 type blackhole").lines().count(), 2, "taken over");
        let port = host_port::make(&handle, &host(), &[], 1, 1450).await.unwrap();
        let fewer = Served { claimed: ["11.0.0.0/8".parse().unwrap()].into(), ..Served::default() };
        routes.settle(&served().wanted(|_| true), Some(&port)).await.unwrap();
        routes.settle(&fewer.wanted(|_| true), Some(&port)).await.unwrap();
        let not_known_yet = sh("ip route show proto 83 172.16.0.1");
        assert_eq!(not_known_yet.trim().split(" metric").next(), Some("blackhole 172.16.0.1"), "it may be wanted yet");
        routes.complete();
        routes.settle(&fewer.wanted(|_| true), Some(&port)).await.unwrap();
        assert_eq!(sh("ip route show proto 83").lines().count(), 2, "{}", sh("ip route show proto 83"));
    });
}

#[test]
fn an_ipv6_address_in_the_overlay_is_the_kernels_at_once_and_its_source_there() {
    in_own_namespace("an_ipv6_address_in_the_overlay_is_the_kernels_at_once_and_its_source_there", || async {
        if !std::path::Path::new("/proc/sys/net/ipv6").exists() {
            println!("skipped: this kernel has no IPv6");
            return;
        }
        let handle = connect().unwrap();
        let mut host = host();
        host.addresses.push("fd01:b:0:0:9::1/80".parse().unwrap());
        let names = ["fd01:b:0:0:9::53".parse().unwrap()];
        let mut port = host_port::make(&handle, &host, &names, 1, 1450).await.unwrap();
        host_port::with_ipv6(&handle, &host, &names, &mut port).await.unwrap();
        let mut routes = Routes::begin(handle.clone()).await.unwrap();
        let networks = [("fd01:b::/64".parse().unwrap(), Some("fd01:b:0:0:9::1".parse().unwrap()))].into();
        routes.settle(&Served { networks, ..served() }.wanted(|net| port.leads(net)), Some(&port)).await.unwrap();
        let there = sh("ip -6 addr show dev sl0");
        for ip in ["fd01:b::9:0:0:1/128", "fd01:b::9:0:0:53/128"] {
            assert!(there.contains(ip) && !there.contains("tentative"), "{there}");
        }
        assert!(!there.contains("fe80"), "no address of its own making: {there}");
        let to_container = sh("ip -6 route get fd01:b:0:0:1::5");
        assert!(to_container.contains("dev sl0") && to_container.contains("src fd01:b::9:0:0:1"), "{to_container}");
    });
}

#[test]
fn what_a_killed_sluice_left_is_replaced_and_a_clean_end_leaves_nothing() {
    in_own_namespace("what_a_killed_sluice_left_is_replaced_and_a_clean_end_leaves_nothing", || async {
        let before = everything();
        let handle = connect().unwrap();
        // Three starts, none of them ended.
        for workers in [1, 2, 3] {
            let port = host_port::make(&handle, &host(), &[], workers, 1450).await.unwrap();
            let mut routes = Routes::begin(handle.clone()).await.unwrap();
            routes.settle(&served().wanted(|_| true), Some(&port)).await.unwrap();
            let mut neighbours = Neighbours::begin(handle.clone()).await.unwrap();
            let kernel = Inventory::list(&handle).await.unwrap();
            neighbours.settle(&BTreeSet::from([(port.kernel_index, Ipv4Addr::new(9, 0, 9, 77).into())]), &kernel).await;
        }
        assert_eq!(sh("ip route show proto 83").lines().count(), 5);
        let neighbours = Neighbours::begin(handle.clone()).await.unwrap();
        neighbours.end().await;
        Routes::begin(handle.clone()).await.unwrap().end().await.unwrap();
        host_port::remove(&handle, &host()).await.unwrap();
        assert_eq!(everything(), before);
    });
}

#[test]
fn a_name_that_belongs_to_something_else_is_refused() {
    in_own_namespace("a_name_that_belongs_to_something_else_is_refused", || async {
        sh("ip link add sl0 type bridge");
        let error = host_port::make(&connect().unwrap(), &host(), &[], 1, 1450).await.unwrap_err().to_string();
        assert!(error.contains("sl0 exists and is a bridge") && error.contains("host.interface"), "{error}");
        assert!(sh("ip link").contains("sl0"));
    });
}

#[test]
fn a_managed_neighbour_resolves_without_a_packet_and_follows_a_new_mac() {
    in_own_namespace("a_managed_neighbour_resolves_without_a_packet_and_follows_a_new_mac", || async {
        sh("ip link add va type veth peer name vb");
        let station = Station::new();
        sh(&format!("ip link set vb netns {}; ip addr add 192.0.2.1/24 dev va; ip link set va up", station.pid()));
        station.sh("ip link set vb address 02:00:00:00:00:77 up; ip addr add 192.0.2.7/24 dev vb");
        let mut kernel = follow::follow().await.unwrap();
        let link = kernel.borrow().link("va").unwrap().0;
        let ip = Ipv4Addr::new(192, 0, 2, 7);
        let mut neighbours = Neighbours::begin(connect().unwrap()).await.unwrap();
        let first = kernel.borrow().clone();
        neighbours.settle(&BTreeSet::from([(link, ip.into())]), &first).await;
        let mut becomes = async |mac: &str| {
            let started = Instant::now();
            let known = kernel.wait_for(|k| {
                k.neighbours.get(&(link, IpAddr::V4(ip))).and_then(|n| n.mac).is_some_and(|m| m.to_string() == mac)
            });
            tokio::time::timeout(Duration::from_secs(10), known).await.expect("resolved in time").unwrap();
            started.elapsed()
        };
        println!("resolved after {:?}", becomes("02:00:00:00:00:77").await);
        assert!(sh("ip neigh show dev va").contains("managed"));
        // A station with a new MAC is known by the ARP request of its own next packet.
        station.sh("ip link set vb address 02:00:00:00:00:88; ip neigh flush dev vb; ping -c1 -W1 192.0.2.1 >/dev/null || true");
        println!("followed after {:?}", becomes("02:00:00:00:00:88").await);
    });
}
