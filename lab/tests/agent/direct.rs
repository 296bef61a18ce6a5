//! One agent by `sluice agent`, one as DC/OS sets it up.

use std::process::Stdio;
use std::time::Duration;

use nix::sys::signal::Signal;

use super::world::{World, app, end, topology, until};

#[test]
fn containers_of_both_kinds_of_agent_reach_each_other_and_a_vip_and_a_restart_of_the_agent_loses_nothing() {
    let Some(world) = World::start(&topology(1)) else { return };
    let before = world.kernel("agent1");
    let agent = world.agent("agent1");

    let conf = world.said("agent1", &format!("cat {}", world.lab.state().file("cni-agent1/dcos.conf").display()));
    assert!(conf.contains("\"type\": \"bridge\"") && conf.contains("198.51.100.1"), "{conf}");
    for (from, to) in
        [("c1", "9.0.2.2"), ("c2", "9.0.0.2"), ("c1", "10.0.0.12"), ("c1", "10.0.0.9"), ("master", "9.0.0.2")]
    {
        let said = world.said(from, &format!("ping -c 3 -i 0.2 -W 2 {to}"));
        assert!(said.contains(" 0% packet loss"), "{from} {to}: {said}");
    }

    let tasks = world.deploy(&app("/web", 2, &[], "/web:80"));
    assert!(
        tasks.iter().any(|ip| ip.starts_with("9.0.0.")) && tasks.iter().any(|ip| ip.starts_with("9.0.2.")),
        "{tasks:?}"
    );
    for from in ["c1", "c2", "agent1", "agent2", "client"] {
        let mut seen = std::collections::BTreeSet::new();
        until(&format!("both tasks answer {from}"), || {
            let (done, said) =
                world.run(from, &["curl", "-sS", "-m", "3", "http://web.marathon.l4lb.thisdcos.directory/"]);
            seen.extend(said.lines().find(|line| done && line.starts_with("task ")).map(str::to_owned));
            (seen.len() == 2).then_some(())
        });
    }
    for ip in &tasks {
        world.said("c1", &format!("curl -sS -m 3 http://{ip}/"));
    }

    // As DC/OS programs it from the same records (golden/overlay), the rule's priority and `nolearning` apart.
    let kernel = world.kernel("agent1");
    for line in [
        "9.0.2.0/24 via 44.128.0.3 dev vtep1024",
        "10.0.0.12 via 44.128.0.3 dev vtep1024 table 42",
        "from 9.0.0.0/8 lookup 42",
        "44.128.0.3 dev vtep1024 lladdr 70:b3:d5:80:00:03 PERMANENT",
        "11.0.0.0/8 via 44.128.0.9 dev vtep1024 table 43",
    ] {
        assert!(kernel.contains(line), "{line} is not in\n{kernel}");
    }
    let forwarding = world.said("agent1", "bridge fdb show dev vtep1024");
    assert!(forwarding.contains("70:b3:d5:80:00:03 dst 10.0.0.12 self permanent"), "{forwarding}");

    // Under load it ends, is killed, and comes back; what somebody broke meanwhile is mended.
    let mut server = world.lab.command("c2", "iperf3").unwrap();
    let mut server = server.args(["-s", "-1"]).stdout(Stdio::null()).spawn().unwrap();
    until("iperf3 listens", || {
        world.run("c2", &["ss", "-Hltn", "sport", "=", "5201"]).1.contains("5201").then_some(())
    });
    let mut ping = world.lab.command("c2", "ping").unwrap();
    let ping = ping.args(["-i", "0.01", "-c", "800", "-W", "2", "9.0.0.2"]).stdout(Stdio::piped()).spawn().unwrap();
    let mut load = world.lab.command("c1", "iperf3").unwrap();
    let load =
        load.args(["-c", "9.0.2.2", "-t", "8", "-i", "0.2", "-b", "50M", "-J"]).stdout(Stdio::piped()).spawn().unwrap();
    end(agent, Signal::SIGTERM);
    let agent = world.again("agent1");
    std::thread::sleep(Duration::from_millis(1500));
    end(agent, Signal::SIGKILL);
    assert_eq!(world.kernel("agent1"), kernel);
    let agent = world.again("agent1");
    std::thread::sleep(Duration::from_millis(1500));
    let said = String::from_utf8(ping.wait_with_output().unwrap().stdout).unwrap();
    assert!(said.contains("800 received") && said.contains(" 0% packet loss"), "{said}");
    let report: serde_json::Value = serde_json::from_slice(&load.wait_with_output().unwrap().stdout).unwrap();
    let idle = report["intervals"].as_array().unwrap().iter().filter(|i| i["sum"]["bytes"] == 0).count();
    assert_eq!((idle, report["error"].as_str()), (0, None));
    server.wait().unwrap();
    assert_eq!(world.kernel("agent1"), kernel, "a restart changes nothing");

    end(agent, Signal::SIGKILL);
    for broken in [
        "ip route del 9.0.2.0/24",
        "ip rule del priority 32010",
        "ip neigh del 44.128.0.3 dev vtep1024",
        "bridge fdb del 70:b3:d5:80:00:03 dev vtep1024 dst 10.0.0.12 self",
        "ip addr del 44.128.0.1/20 dev vtep1024",
        "ip route add 9.0.77.0/24 via 10.0.0.12 proto 84",
    ] {
        world.said("agent1", broken);
    }
    world.said("agent1", "ip route add 203.0.113.0/24 via 10.0.0.1");
    let agent = world.again("agent1");
    until("it is mended", || {
        let now = world.kernel("agent1");
        let ours = now.lines().filter(|line| !line.starts_with("203.0.113.0/24"));
        ours.eq(kernel.lines()).then_some(())
    });
    world.said("c2", "ping -c 1 -W 2 9.0.0.2");

    // Printed is what a node needs, and nothing is done.
    let printed = world.agent_with("agent1", &["--print"]);
    let printed = String::from_utf8_lossy(&printed.stdout).into_owned();
    for line in ["nameserver 198.51.100.1", "ip route replace 11.0.0.0/8 via 10.0.0.9", "ip link add vtep1024 "] {
        assert!(printed.contains(line), "{line} is not in\n{printed}");
    }
    let twice = world.agent_with("agent1", &["--down"]);
    assert!(String::from_utf8_lossy(&twice.stderr).contains("another `sluice agent` runs"), "{twice:?}");

    // It goes: what others have there stays.
    end(agent, Signal::SIGTERM);
    world.said("c1", "ip link del eth0");
    let ports = world.said("agent1", "ip -o link show master m-dcos");
    for port in
        ports.lines().filter_map(|line| line.split_once(": ")?.1.split_once('@').map(|(name, _)| name.to_owned()))
    {
        world.said("agent1", &format!("ip link del {port}"));
    }
    let down = world.agent_with("agent1", &["--down"]);
    assert!(down.status.success(), "{}", String::from_utf8_lossy(&down.stderr));
    world.said("agent1", "ip route del 203.0.113.0/24");
    assert_eq!(world.kernel("agent1"), before);
    assert!(!world.lab.state().file("cni-agent1/dcos.conf").exists());
}
