//! Agents and Sluice itself that go and come back: places stay, the others' ways stay, and nobody has to help.

use nix::sys::signal::Signal;

use super::ping::Ping;
use super::world::{World, end, topology, until};

/// Every lease but for when its agent asked last.
fn leases(world: &World) -> Vec<String> {
    let all = world.shown("leases");
    let of = |lease: &serde_json::Value| {
        format!("{} {} {} {} {}", lease["agent"], lease["vtep_ip"], lease["vtep_mac"], lease["subnets"], lease["state"])
    };
    all.as_array().unwrap().iter().map(of).collect()
}

fn answered(world: &World, from: &str, to: &str) {
    until(&format!("{from} reaches {to}"), || world.run(from, &["ping", "-c", "1", "-W", "1", to]).0.then_some(()));
}

#[test]
fn an_agent_that_was_cut_off_for_a_while_comes_back_to_its_place_and_the_others_lose_nothing() {
    let mut two_agents = topology(2);
    two_agents.overlay.hub = true;
    let Some(world) = World::start(&two_agents) else { return };
    let [one, two] = ["agent1", "agent2"].map(|agent| world.agent(agent));
    until("agent1 hears of agent2", || world.kernel("agent1").contains("44.128.0.2 dev vtep1024 lladdr").then_some(()));
    let mate = world.lab.start_container("agent1", "c3", "dcos").unwrap().to_string();
    answered(&world, "c1", "9.0.1.2");
    let (before, kernels) = (leases(&world), ["agent1", "agent2"].map(|agent| world.kernel(agent)));
    let others = Ping::start(&world, "c1", &mate);

    // The whole node is gone for its cluster: no carrier, and nobody asks for its lease.
    end(two, Signal::SIGKILL);
    world.said("fabric", "ip link set agent2 down");
    until("it is gone", || (!world.run("c1", &["ping", "-c", "1", "-W", "1", "9.0.1.2"]).0).then_some(()));
    std::thread::sleep(std::time::Duration::from_secs(5));
    assert_eq!(leases(&world), before, "its place stays its own");
    assert_eq!(world.kernel("agent1"), kernels[0], "the others keep the way to it");

    world.said("fabric", "ip link set agent2 up");
    let two = world.again("agent2");
    for (from, to) in [("c1", "9.0.1.2"), ("c2", "9.0.0.2"), ("c2", mate.as_str()), ("sluice", "9.0.1.2")] {
        answered(&world, from, to);
    }
    assert_eq!(leases(&world), before);
    assert_eq!(["agent1", "agent2"].map(|agent| world.kernel(agent)), kernels);
    let (sent, received) = others.end();
    assert!(sent > 100 && received + 1 >= sent, "{sent} sent, {received} answered");
    end(one, Signal::SIGTERM);
    end(two, Signal::SIGTERM);
}

#[test]
fn agents_go_on_without_sluice_and_have_their_places_when_it_is_back() {
    let Some(world) = World::start(&topology(2)) else { return };
    let [one, mut two] = ["agent1", "agent2"].map(|agent| world.agent(agent));
    until("agent1 hears of agent2", || world.kernel("agent1").contains("44.128.0.2 dev vtep1024 lladdr").then_some(()));
    answered(&world, "c1", "9.0.1.2");
    let (before, kernels) = (leases(&world), ["agent1", "agent2"].map(|agent| world.kernel(agent)));
    let direct = Ping::start(&world, "c1", "9.0.1.2");
    for signal in [Signal::SIGTERM, Signal::SIGKILL] {
        two = world.restart_sluice(signal, || {
            // One that is started meanwhile finds its kernel as it left it, and leaves it so.
            end(two, Signal::SIGTERM);
            let two = world.again("agent2");
            std::thread::sleep(std::time::Duration::from_secs(3));
            assert_eq!(["agent1", "agent2"].map(|agent| world.kernel(agent)), kernels);
            two
        });
        until("both agents have asked again", || {
            let all = world.shown("leases");
            let asked = all.as_array().unwrap().iter().filter(|lease| lease["heard_ago"].is_u64());
            (asked.count() == 2).then_some(())
        });
        assert_eq!(leases(&world), before);
        assert_eq!(["agent1", "agent2"].map(|agent| world.kernel(agent)), kernels);
        for to in ["198.51.100.1", "9.0.9.1"] {
            answered(&world, "c1", to);
        }
        until("a master's name is known again", || {
            world
                .run("c2", &["dig", "+short", "+tries=1", "+time=1", "@198.51.100.1", "leader.mesos"])
                .1
                .contains("10.0.0.5")
                .then_some(())
        });
    }
    let (sent, received) = direct.end();
    println!("between the agents while Sluice was away twice: {sent} sent, {received} answered");
    assert!(sent > 100 && received + 1 >= sent, "{sent} sent, {received} answered");
    end(one, Signal::SIGTERM);
    end(two, Signal::SIGTERM);
}
