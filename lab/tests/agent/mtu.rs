//! Packets that do not fit: what containers are told by their own MTU, and what Sluice tells those who send more.

use nix::sys::signal::Signal;

use super::world::{World, end, topology, until, with_ipv6};

const FOUR: [&str; 2] = ["9.0.0.2", "9.0.1.2"];
const SIX: [&str; 2] = ["fd01:b::2", "fd01:b:0:0:1::2"];
/// `overlay.mtu`: the underlay has room for more, so only Sluice says so.
const MTU: u64 = 1300;

#[test]
fn handshakes_are_clamped_to_the_overlays_mtu_and_what_is_larger_all_the_same_is_told() {
    let mut two_agents = topology(2);
    two_agents.overlay.hub = true;
    let keys = format!("mtu = {MTU}\ngateway = \"routed\"\n");
    let world = World::start_with(&two_agents, |lab| with_ipv6(lab, &keys));
    let Some(world) = world else { return };
    world.ipv6(&["agent1", "agent2"]);
    let agents = ["agent1", "agent2"].map(|agent| world.agent(agent));
    until("agent1 hears of agent2", || world.kernel("agent1").contains("44.128.0.2 dev vtep1024 lladdr").then_some(()));
    for to in [FOUR[1], SIX[1]] {
        until("addresses are settled", || world.run("c1", &["ping", "-c", "1", "-W", "1", to]).0.then_some(()));
    }
    for role in ["c1", "c2"] {
        world.serve(role, "::", 80);
    }

    // Agents have it from Sluice: exactly that much fits, and the container's own kernel says the rest.
    for (to, headers) in [(FOUR[1], 28), (SIX[1], 48)] {
        world.said("c1", &format!("ping -c 2 -i 0.2 -W 2 -M do -s {} {to}", MTU - headers));
        let said = world.fails("c1", &format!("ping -c 1 -W 1 -M do -s {} {to}", MTU - headers + 1));
        assert!(said.contains(&format!("mtu={MTU}")) || said.contains(&format!("mtu: {MTU}")), "{said}");
    }
    assert_eq!(told(&world), 0);

    // Agents and containers that take more for possible than there is.
    for agent in agents {
        end(agent, Signal::SIGTERM);
    }
    for (agent, container) in [("agent1", "c1"), ("agent2", "c2")] {
        let links = world.said(agent, "ip -o link show type veth");
        let names = links.lines().filter_map(|line| line.split_once(": ")?.1.split_once('@')).map(|(name, _)| name);
        for name in names.filter(|name| *name != "eth0").chain(["vtep1024"]) {
            world.said(agent, &format!("ip link set {name} mtu 1450"));
        }
        world.said(container, "ip link set eth0 mtu 1450");
    }
    // Of each handshake both ends are told less, so nobody sends what does not fit.
    for (from, to) in [("c1", 1), ("c2", 0), ("client", 0)] {
        let families = if from == "client" { &[FOUR[to]][..] } else { &[FOUR[to], SIX[to]] };
        for to in families {
            let before = world.metric("sluice_mss_clamped_total");
            let host = if to.contains(':') { format!("[{to}]") } else { (*to).to_owned() };
            let url = format!("http://{host}/octets?n=1000000");
            let size = world.said(from, &format!("curl -sS -m 20 -o /dev/null -w %{{size_download}} {url}"));
            assert_eq!(size, "1000000", "{from} {to}");
            // What a client outside is answered goes past Sluice.
            let clamped = world.metric("sluice_mss_clamped_total") - before;
            assert!(clamped >= if from == "client" { 1 } else { 2 }, "{from} {to}: {clamped}");
        }
    }
    assert_eq!(told(&world), 0, "no segment was too big");

    for (from, to, headers, said) in [
        ("c1", FOUR[1], 28, "Frag needed and DF set (mtu = 1300)"),
        ("c2", SIX[0], 48, "Packet too big: mtu=1300"),
        ("client", FOUR[0], 28, "Frag needed and DF set (mtu = 1300)"),
    ] {
        let before = told(&world);
        let answer = world.fails(from, &format!("ping -c 1 -W 2 -M do -s {} {to}", MTU - headers + 1));
        assert!(answer.contains(said), "{from} {to}: {answer}");
        assert_eq!(told(&world), before + 1);
        // From now on it knows.
        world.said(from, &format!("ping -c 1 -W 2 -M do -s {} {to}", MTU - headers));
        world.fails(from, &format!("ping -c 1 -W 2 -M do -s {} {to}", MTU - headers + 1));
        assert_eq!(told(&world), before + 1, "its own kernel says so");
    }
}

/// How many packets Sluice called too big to their senders.
fn told(world: &World) -> u64 {
    world.metric_of("sluice_answer_packets_total", "kind=\"too_big\"")
}
