//! Two agents by `sluice agent`: what one of them does the other hears of.

use nix::sys::signal::Signal;
use serde_json::Value;

use super::world::{World, end, topology, until};

fn lease(world: &World, agent: &str) -> Option<Value> {
    let all = world.shown("leases");
    all.as_array().unwrap().iter().find(|lease| lease["agent"] == agent).cloned()
}

#[test]
fn an_agent_that_leaves_is_forgotten_and_comes_back_to_its_place_and_a_released_place_is_given_again() {
    let Some(world) = World::start(&topology(2)) else { return };
    let one = world.agent("agent1");
    let two = world.agent("agent2");
    let before = lease(&world, "10.0.0.12").unwrap();
    assert_eq!((&before["vtep_ip"], &before["subnets"]["dcos"]), (&"44.128.0.2".into(), &"9.0.1.0/24".into()));
    let knows = |ip: &str| world.kernel("agent1").contains(&format!("{ip} dev vtep1024 lladdr"));
    until("agent1 hears of agent2", || knows("44.128.0.2").then_some(()));
    world.said("c1", "ping -c 3 -i 0.2 -W 2 9.0.1.2");
    world.said("c2", "ping -c 3 -i 0.2 -W 2 9.0.0.2");

    end(two, Signal::SIGTERM);
    assert!(world.agent_with("agent2", &["--down"]).status.success());
    assert_eq!(lease(&world, "10.0.0.12").unwrap()["state"], "left");
    until("agent1 forgets agent2", || (!knows("44.128.0.2")).then_some(()));
    assert!(!world.kernel("agent1").contains("9.0.1.0/24"));
    let two = world.again("agent2");
    until("agent1 hears of agent2 again", || knows("44.128.0.2").then_some(()));
    let after = lease(&world, "10.0.0.12").unwrap();
    assert_eq!(
        (&after["vtep_ip"], &after["subnets"], &after["state"]),
        (&before["vtep_ip"], &before["subnets"], &"held".into())
    );

    // A reboot: its kernel knows nothing any more, and everything comes back, the place too.
    let kernel = world.kernel("agent2");
    end(two, Signal::SIGKILL);
    for lost in [
        "ip link del vtep1024",
        "nft delete table ip sluice_agent",
        "ip rule del priority 32010",
        "ip rule del priority 32011",
    ] {
        world.said("agent2", lost);
    }
    let two = world.again("agent2");
    until("agent2 has its network again", || world.kernel("agent2").contains("lookup 42").then_some(()));
    assert_eq!(world.kernel("agent2"), kernel);
    world.said("c1", "ping -c 3 -i 0.2 -W 2 9.0.1.2");

    // Nobody speaks for another agent, or without the word.
    let ask = "http://10.0.0.9:8123/v1/overlay/lease";
    let said = world.said("agent1", &format!("curl -sS -m 3 -d {{\"agent\":\"10.0.0.11\"}} {ask}"));
    assert!(said.contains("overlay.token_file"), "{said}");
    let token = std::fs::read_to_string(world.lab.state().file("overlay-token")).unwrap();
    let (_, said) = world.run(
        "agent1",
        &[
            "curl",
            "-sS",
            "-m",
            "3",
            "-d",
            "{\"agent\":\"10.0.0.12\"}",
            "-H",
            &format!("Authorization: Bearer {}", token.trim()),
            ask,
        ],
    );
    assert!(said.contains("10.0.0.12 must ask for itself") && said.contains("10.0.0.11"), "{said}");

    // A place that an operator takes away is the next one's.
    end(two, Signal::SIGKILL);
    world.asked(&["overlay", "release", "10.0.0.12"]);
    until("agent1 forgets it", || (!knows("44.128.0.2")).then_some(()));
    assert!(lease(&world, "10.0.0.12").is_none());
    for what in ["leases", "networks", "vteps"] {
        let shown = world.asked(&["show", what]);
        let part = if what == "networks" { "9.0.0.0/8" } else { "44.128.0.1" };
        assert!(shown.contains(part), "{what}: {shown}");
    }
    end(one, Signal::SIGTERM);
}
