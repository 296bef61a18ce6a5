//! A network in hub mode: groups are enforced between containers of one agent, because nothing there passes Sluice by.

use std::net::Ipv4Addr;
use std::process::Stdio;

use nix::sys::signal::Signal;

use super::world::{World, app, end, topology, until};

#[test]
fn two_containers_of_one_agent_reach_each_other_through_sluice_and_only_with_a_group_in_common() {
    let mut one_agent = topology(1);
    one_agent.overlay.hub = true;
    one_agent.agents.truncate(1);
    let Some(world) = World::start(&one_agent) else { return };
    let agent = world.agent("agent1");
    let red = world.deploy(&app("/red", 2, &["red"], "/red:80"));
    let blue = world.deploy(&app("/blue", 1, &["blue"], "/blue:80"));
    let plain = world.lab.start_container("agent1", "c3", "dcos").unwrap().to_string();
    let (from, mate, stranger) = (world.role_of(&red[0]), red[1].as_str(), blue[0].as_str());
    let encapsulated =
        || -> u64 { world.said("agent1", "cat /sys/class/net/vtep1024/statistics/tx_packets").trim().parse().unwrap() };

    let before = encapsulated();
    let said = world.said(&from, &format!("ping -c 3 -i 0.2 -W 2 {mate}"));
    assert!(said.contains(" 0% packet loss"), "{said}");
    assert!(encapsulated() >= before + 6, "questions and answers go by Sluice");
    world.said(&from, &format!("curl -sS -m 3 http://{mate}/"));
    world.said("c1", &format!("ping -c 3 -i 0.2 -W 2 {plain}"));

    for closed in [stranger, plain.as_str()] {
        world.fails(&from, &format!("ping -c 2 -i 0.2 -W 1 {closed}"));
        world.fails(&from, &format!("curl -sS -m 2 http://{closed}/"));
    }
    world.fails("c1", &format!("curl -sS -m 2 http://{stranger}/"));
    // The task echoes UDP on the same port.
    let udp = |to: &str| {
        world.run(
            &from,
            &["bash", "-c", &format!("exec 3<>/dev/udp/{to}/80; echo -n hello >&3; timeout 2 head -c 5 <&3")],
        )
    };
    assert_eq!(udp(mate), (true, "hello".to_owned()));
    assert!(!udp(stranger).0, "UDP to a stranger");
    // No other container is on the link, and nobody answers for one.
    for to in [mate, stranger] {
        let said = world.fails(&from, &format!("arping -c 2 -w 1 -I eth0 {to}"));
        assert!(said.contains("0 packets received") || said.contains("Received 0 response"), "{said}");
    }
    // A route of the container's own is no way round: its agent has none but by Sluice.
    world.said(&from, &format!("ip route add {stranger}/32 dev eth0"));
    world.fails(&from, &format!("ping -c 1 -W 1 {stranger}"));
    world.said(&from, &format!("ip route del {stranger}/32 dev eth0"));
    world.said(&from, &format!("ip route add {stranger}/32 via 9.0.0.1"));
    world.fails(&from, &format!("ping -c 1 -W 1 {stranger}"));

    let policy: serde_json::Value = serde_json::from_str(&world.asked(&["show", "policy", "--json"])).unwrap();
    let here = policy["agents"].as_array().unwrap().iter().find(|agent| agent["ip"] == "10.0.0.11").unwrap();
    assert_eq!(here["direct"], serde_json::json!([]), "groups hold everywhere: {policy}");

    // The agent itself reaches its containers as before, and a VIP of the own group is open.
    world.said("agent1", &format!("ping -c 1 -W 2 {plain}"));
    world.said(&from, "curl -sS -m 3 http://red.marathon.l4lb.thisdcos.directory/");
    world.fails(&from, "curl -sS -m 2 http://blue.marathon.l4lb.thisdcos.directory/");
    end(agent, Signal::SIGTERM);
}

#[test]
fn two_agents_in_hub_mode_send_to_each_other_through_sluice() {
    let mut two_agents = topology(2);
    two_agents.overlay.hub = true;
    let Some(world) = World::start(&two_agents) else { return };
    let agents = [world.agent("agent1"), world.agent("agent2")];
    until("agent1 hears of agent2", || world.kernel("agent1").contains("44.128.0.2 dev vtep1024 lladdr").then_some(()));
    world.said("c1", "ping -c 3 -i 0.2 -W 2 9.0.1.2");
    let route = world.said("agent1", "ip route get 9.0.1.2 from 9.0.0.2 iif eth0");
    assert!(route.contains("via 44.128.0.9 dev vtep1024"), "{route}");

    let mut server = world.lab.command("c2", "iperf3").unwrap();
    let mut server = server.args(["-s", "-1"]).stdout(Stdio::null()).spawn().unwrap();
    until("iperf3 listens", || {
        world.run("c2", &["ss", "-Hltn", "sport", "=", "5201"]).1.contains("5201").then_some(())
    });
    let report: serde_json::Value = serde_json::from_str(&world.said("c1", "iperf3 -c 9.0.1.2 -t 3 -J")).unwrap();
    server.wait().unwrap();
    let rate = report["end"]["sum_received"]["bits_per_second"].as_f64().unwrap();
    println!("iperf3 between two agents in hub mode: {:.0} Mbit/s", rate / 1e6);
    assert!(rate > 10e6, "{rate}");

    let red = world.deploy(&app("/red", 2, &["red"], "/red:80"));
    let blue = world.deploy(&app("/blue", 2, &["blue"], "/blue:80"));
    let from = world.role_of(&red[0]);
    world.said(&from, &format!("curl -sS -m 3 http://{}/", red[1]));
    for stranger in &blue {
        world.fails(&from, &format!("curl -sS -m 2 http://{stranger}/"));
    }
    // A task that goes gives its address back to host-local.
    let to = world.lab.marathon("marathon").unwrap();
    assert_eq!(world.lab.http("master", "DELETE", to, "/v2/apps/blue", "").unwrap().status, 200);
    let kept = |ip: &String| {
        ["agent1", "agent2"]
            .iter()
            .any(|agent| world.lab.state().file(&format!("cni-{agent}-state/dcos/{ip}")).exists())
    };
    until("addresses are free", || (!blue.iter().any(kept)).then_some(()));
    agents.into_iter().for_each(|agent| end(agent, Signal::SIGTERM));
}

/// A UDP datagram to a port where nobody listens, in IPv4 behind an Ethernet header.
fn frame(to_mac: [u8; 6], from: Ipv4Addr, to: Ipv4Addr) -> Vec<u8> {
    let mut ip = vec![0x45, 0, 0, 33, 0, 1, 0, 0, 64, 17, 0, 0];
    ip.extend(from.octets().into_iter().chain(to.octets()));
    let sum: u32 = ip.chunks(2).map(|pair| u32::from(pair[0]) << 8 | u32::from(pair[1])).sum();
    let sum = !((sum & 0xffff) + (sum >> 16)) as u16;
    ip[10..12].copy_from_slice(&sum.to_be_bytes());
    let udp = [0, 7, 0, 9, 0, 13, 0, 0];
    [&to_mac[..], &[2, 0, 0, 0, 0, 7, 8, 0], &ip, &udp, b"hello"].concat()
}

#[test]
fn neither_a_forged_source_nor_a_tunnel_of_its_own_gets_a_container_past_sluice() {
    let mut one_agent = topology(1);
    one_agent.overlay.hub = true;
    one_agent.agents.truncate(1);
    let Some(world) = World::start(&one_agent) else { return };
    let agent = world.agent("agent1");
    let red = world.deploy(&app("/red", 1, &["red"], "/red:80"));
    let blue = world.deploy(&app("/blue", 1, &["blue"], "/blue:80"));
    let (from, to, victim) = (world.role_of(&red[0]), blue[0].as_str(), world.role_of(&blue[0]));
    // Datagrams for which there was no socket.
    let came = || -> u64 {
        let said = world.said(&victim, "cat /proc/net/snmp");
        said.lines().filter(|line| line.starts_with("Udp:")).nth(1).unwrap().split(' ').nth(2).unwrap().parse().unwrap()
    };
    // What the container's own kernel sends with an address that is not the container's: no raw socket is needed.
    world.said(&from, "ip addr add 192.0.2.77/32 dev eth0");
    world.said(&from, &format!("ip route add {to}/32 via 9.0.0.1 src 192.0.2.77"));
    let spoof = || drop(world.run(&from, &["bash", "-c", &format!("echo -n hello > /dev/udp/{to}/9")]));
    // VXLAN to the agent's own address, as if from another member.
    let inner = frame([0x70, 0xb3, 0xd5, 0x80, 0, 1], Ipv4Addr::new(9, 0, 9, 2), to.parse().unwrap());
    let octets: String =
        [&[8, 0, 0, 0, 0, 4, 0, 0], &inner[..]].concat().iter().map(|octet| format!("\\x{octet:02x}")).collect();
    let tunnel = || {
        let line = format!("printf '{octets}' > /dev/udp/10.0.0.11/64000");
        let (done, said) = world.run(&from, &["bash", "-c", &line]);
        assert!(done, "{said}");
    };
    let passes = |send: &dyn Fn()| {
        let before = came();
        send();
        // What comes through by the agent alone is there at once.
        world.said("agent1", &format!("ping -c 1 -W 2 {to}"));
        came() > before
    };
    assert!(!passes(&spoof), "a forged source");
    assert!(!passes(&tunnel), "a tunnel");

    // That it would have come is seen without the guard, which the next start puts back.
    world.said("agent1", "nft delete table ip sluice_agent_guard");
    assert!(passes(&spoof) && passes(&tunnel));
    end(agent, Signal::SIGTERM);
    let agent = world.again("agent1");
    until("the guard is back", || world.kernel("agent1").contains("sluice_agent_guard").then_some(()));
    assert!(!passes(&spoof) && !passes(&tunnel));
    // What it may do it still does.
    world.said(&from, "curl -sS -m 3 http://red.marathon.l4lb.thisdcos.directory/");
    end(agent, Signal::SIGTERM);
}
