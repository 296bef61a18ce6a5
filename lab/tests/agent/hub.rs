//! A network in hub mode: groups are enforced between containers of one agent, because nothing there passes Sluice by.

use nix::sys::signal::Signal;

use super::world::{World, app, end, topology};

#[test]
fn two_containers_of_one_agent_reach_each_other_through_sluice_and_only_with_a_group_in_common() {
    let mut one_agent = topology(1);
    one_agent.overlay.hub = true;
    one_agent.agents.truncate(1);
    let Some(world) = World::start(&one_agent) else { return };
    let agent = world.agent("agent1");
    let red = world.deploy(&app("/red", 2, &["red"], "/red:80"));
    let blue = world.deploy(&app("/blue", 1, &["blue"], "/blue:80"));
    let plain = world.lab.start_container("agent1", "c3").unwrap().to_string();
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

    // The agent itself reaches its containers as before, and a VIP of the own group is open.
    world.said("agent1", &format!("ping -c 1 -W 2 {plain}"));
    world.said(&from, "curl -sS -m 3 http://red.marathon.l4lb.thisdcos.directory/");
    world.fails(&from, "curl -sS -m 2 http://blue.marathon.l4lb.thisdcos.directory/");
    end(agent, Signal::SIGTERM);
}
