//! A network in hub mode that has IPv6: groups hold over it as over IPv4, and the node reaches containers by it.

use nix::sys::signal::Signal;
use serde_json::Value;

use super::world::{World, app, end, topology, until, with_ipv6};

/// The IPv6 address of a container.
fn six(world: &World, role: &str) -> String {
    let said = world.said(role, "ip -6 -o addr show dev eth0 scope global");
    let ip = said.split_whitespace().find_map(|word| word.split_once("/81")).map(|(ip, _)| ip.to_owned());
    ip.unwrap_or_else(|| panic!("{role}: {said}"))
}

#[test]
fn groups_hold_over_ipv6_between_containers_of_one_agent_and_of_two() {
    let mut two_agents = topology(2);
    two_agents.overlay.hub = true;
    let world = World::start_with(&two_agents, |lab| with_ipv6(lab, ""));
    let Some(world) = world else { return };
    world.ipv6(&["agent1", "agent2"]);
    let agents = ["agent1", "agent2"].map(|agent| world.agent(agent));
    until("agent1 hears of agent2", || world.kernel("agent1").contains("44.128.0.2 dev vtep1024 lladdr").then_some(()));
    // A `cmd` of their own: the lab's task listens on IPv4 alone.
    let program = env!("CARGO_BIN_EXE_sluice-lab");
    let of = |id: &str, groups: &[&str]| {
        let mut app = app(id, 2, groups, &format!("{id}:80"));
        app["cmd"] = format!("exec {program} task --bind :: --port 80").into();
        world.deploy(&app)
    };
    let (red, blue) = (of("/red", &["red"]), of("/blue", &["blue"]));
    let on = |ips: &[String], net: &str| world.role_of(ips.iter().find(|ip| ip.starts_with(net)).unwrap());
    let from = on(&red, "9.0.0.");
    let mate = six(&world, &on(&red, "9.0.1."));
    let strangers = [six(&world, &on(&blue, "9.0.0.")), six(&world, &on(&blue, "9.0.1."))];
    let ends = |ip: &str, kind: &str| -> bool {
        let line = match kind {
            "ICMPv6" => format!("exec ping -c 1 -W 1 {ip}"),
            "TCP" => format!("exec curl -sS -m 2 -o /dev/null http://[{ip}]/"),
            "UDP" => format!("exec 3<>/dev/udp/{ip}/80; echo -n hello >&3; [ \"$(timeout 1 head -c 5 <&3)\" = hello ]"),
            other => panic!("{other}"),
        };
        world.run(&from, &["bash", "-c", &line]).0
    };
    for kind in ["ICMPv6", "TCP", "UDP"] {
        until(&format!("{kind} to a mate on the other agent"), || ends(&mate, kind).then_some(()));
        for stranger in &strangers {
            assert!(!ends(stranger, kind), "{kind} to {stranger}");
        }
    }
    // One that joins them on the same agent, of the same group, is reached; nobody answers for anybody on the link.
    let more = of("/more", &["red"]);
    let here = six(&world, &on(&more, "9.0.0."));
    for kind in ["ICMPv6", "TCP", "UDP"] {
        until(&format!("{kind} to a mate on this agent"), || ends(&here, kind).then_some(()));
    }
    for to in [&here, &strangers[0]] {
        world.said(&from, &format!("ip -6 route add {to}/128 dev eth0"));
        assert!(!ends(to, "ICMPv6"), "its link has nobody but the agent");
        let neighbour = world.said(&from, &format!("ip -6 neigh show {to} dev eth0"));
        assert!(!neighbour.contains("lladdr"), "nobody answers a solicitation: {neighbour}");
        world.said(&from, &format!("ip -6 route del {to}/128 dev eth0"));
    }
    let gateway = world.said(&from, "ip -6 route show default");
    let gateway = gateway.split_whitespace().nth(2).unwrap().to_owned();
    world.said(&from, &format!("ip -6 route add {}/128 via {gateway}", strangers[0]));
    assert!(!ends(&strangers[0], "TCP"), "by its agent there is no other way than by Sluice");

    // The node itself, and containers to it.
    for to in [&mate, &here, &strangers[0], &strangers[1]] {
        world.said("sluice", &format!("ping -c 2 -i 0.2 -W 2 {to}"));
        let said = world.said("sluice", &format!("curl -sS -m 5 http://[{to}]/"));
        assert!(said.contains("client [fd01:b::9:0:0:1]:"), "{said}");
    }
    world.serve("sluice", "::", 8088);
    until("the node answers", || {
        let (done, said) = world.run(&from, &["curl", "-sS", "-m", "5", "http://[fd01:b::9:0:0:1]:8088/"]);
        (done && said.contains(&format!("client [{}]:", six(&world, &from)))).then_some(())
    });

    let groups = world.shown("groups")["groups"].clone();
    let red = groups.as_array().unwrap().iter().find(|row| row["groups"] == serde_json::json!(["red"])).unwrap();
    let ips: Vec<&str> = red["containers"].as_array().unwrap().iter().filter_map(|c| c["ip"].as_str()).collect();
    assert!(ips.contains(&mate.as_str()) && ips.contains(&here.as_str()), "{groups}");
    assert!(red["denied_from"].as_u64() > Some(5), "{groups}");
    let owners: Vec<&Value> = red["containers"].as_array().unwrap().iter().map(|c| &c["agent"]).collect();
    assert!(owners.iter().all(|agent| agent.is_string()), "of IPv6 too: {groups}");
    for agent in agents {
        end(agent, Signal::SIGTERM);
    }
}
