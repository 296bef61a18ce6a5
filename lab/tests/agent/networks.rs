//! A second network, with a VNI and a port of its own.

use nix::sys::signal::Signal;

use super::world::{World, end, topology, until};

#[test]
fn a_network_with_a_vni_of_its_own_is_apart_from_the_other_and_reaches_what_sluice_serves() {
    let world = World::start_with(&topology(2), |lab| {
        let network = "\n[[overlay.network]]\nname = \"lab\"\nsubnet = \"172.20.0.0/16\"\nown = \"172.20.9.0/24\"\nvni = 2000\nport = 4789\nmtu = 1400\nsubnet6 = \"fd01:b::/64\"\n";
        let file = lab.sluice_config();
        std::fs::write(&file, std::fs::read_to_string(&file).unwrap() + network).unwrap();
        for agent in ["agent1", "agent2"] {
            let file = lab.agent_config(agent);
            let text = std::fs::read_to_string(&file).unwrap();
            std::fs::write(&file, text.replace("networks = [\"dcos\"]", "networks = [\"dcos\", \"lab\"]")).unwrap();
        }
    });
    let Some(world) = world else { return };
    world.ipv6(&["agent1", "agent2"]);
    until("its addresses are settled", || (!world.kernel("agent1").contains("tentative")).then_some(()));
    let before = world.kernel("agent1");
    let [one, two] = ["agent1", "agent2"].map(|agent| world.agent(agent));
    let first = world.lab.start_container("agent1", "x1", "lab").unwrap();
    let second = world.lab.start_container("agent2", "x2", "lab").unwrap();
    assert_eq!([first, second].map(|ip| ip.to_string()), ["172.20.0.2", "172.20.1.2"]);
    until("agent1 hears of agent2", || world.kernel("agent1").contains("44.128.0.2 dev vtep2000 lladdr").then_some(()));
    let encapsulated = |device: &str| -> u64 {
        let file = format!("cat /sys/class/net/{device}/statistics/tx_packets");
        world.said("agent1", &file).trim().parse().unwrap()
    };
    let (of_lab, of_dcos) = (encapsulated("vtep2000"), encapsulated("vtep1024"));
    world.said("x1", &format!("ping -c 3 -i 0.2 -W 2 -s 1372 -M do {second}"));
    world.fails("x1", &format!("ping -c 1 -W 1 -s 1373 -M do {second}"));
    assert!(encapsulated("vtep2000") >= of_lab + 3);
    assert_eq!(encapsulated("vtep1024"), of_dcos);
    let six = world.said("x2", "ip -6 -o addr show dev eth0 scope global");
    let six = six.split_whitespace().find_map(|word| word.strip_suffix("/81")).unwrap_or_else(|| panic!("{six}"));
    assert_eq!(six.parse(), "fd01:b:0:0:1::2".parse::<std::net::Ipv6Addr>());
    until("IPv6 addresses are settled", || world.run("x1", &["ping", "-c", "1", "-W", "1", six]).0.then_some(()));
    let said = world.said("x1", &format!("ping -c 3 -i 0.2 -W 2 {six}"));
    assert!(said.contains(" 0% packet loss"), "{said}");
    let said = world.said("x1", "ping -c 3 -i 0.2 -W 2 198.51.100.1");
    assert!(said.contains(" 0% packet loss"), "{said}");
    world.said("x2", "dig +short +tries=1 +time=2 @198.51.100.1 leader.mesos");
    world.said("c1", "ping -c 3 -i 0.2 -W 2 9.0.1.2");

    end(one, Signal::SIGTERM);
    end(two, Signal::SIGTERM);
    for container in ["c1", "x1"] {
        world.said(container, "ip link del eth0");
    }
    for bridge in ["m-dcos", "m-lab"] {
        until("the bridge is empty", || {
            let ports = world.said("agent1", &format!("ip -o link show master {bridge}"));
            let name = |line: &str| {
                line.split_once(": ").and_then(|(_, rest)| rest.split_once('@')).map(|(name, _)| name.to_owned())
            };
            for port in ports.lines().filter_map(name) {
                world.run("agent1", &["ip", "link", "del", &port]);
            }
            ports.is_empty().then_some(())
        });
    }
    assert!(world.agent_with("agent1", &["--down"]).status.success());
    assert_eq!(world.kernel("agent1"), before);
}
