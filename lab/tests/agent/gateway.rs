//! Sluice between overlay and underlay, with real kernels on both sides: clients outside, the master, the node itself.

use nix::sys::signal::Signal;
use serde_json::{Value, json};

use super::world::{World, app, end, topology, until};

/// The lab with its master outside of the overlay, and a Sluice that is a gateway; what the client's network sends to
/// containers goes by it, and what containers of the first agent send there too.
fn gateway(hub: bool) -> Option<World> {
    let mut topology = topology(1);
    (topology.master.outside, topology.overlay.hub) = (true, hub);
    World::start_with(&topology, |lab| {
        let file = lab.sluice_config();
        let text = std::fs::read_to_string(&file).unwrap();
        let text = text.replacen("[overlay]\n", "[overlay]\ngateway = \"routed\"\n", 1);
        let allow = "prefix = 24\nunderlay_allow = [\"10.0.0.5/32\"]\n";
        let text = text.replacen("prefix = 24\n", allow, 1);
        std::fs::write(&file, text).unwrap();
        let file = lab.agent_config("agent1");
        let text = std::fs::read_to_string(&file).unwrap();
        std::fs::write(&file, text + "gateway_for = [\"0.0.0.0/0\"]\n").unwrap();
    })
}

/// Whom the web server of a task saw.
fn seen_by(world: &World, from: &str, to: &str) -> String {
    let said = world.said(from, &format!("curl -sS -m 5 http://{to}/"));
    said.lines().find_map(|line| line.strip_prefix("client ")).unwrap_or_else(|| panic!("{said}")).to_owned()
}

/// An app with a health check by which Marathon asks every container itself.
fn checked(id: &str, groups: &[&str]) -> Value {
    let mut app = app(id, 2, groups, &format!("{id}:80"));
    app["healthChecks"] = json!([{"protocol": "HTTP", "path": "/health", "portIndex": 0, "gracePeriodSeconds": 300,
        "intervalSeconds": 1, "timeoutSeconds": 1, "maxConsecutiveFailures": 0}]);
    app
}

/// Where the tasks of a new app are, on host ports that lead to containers on the overlay.
fn mapped(world: &World) -> Vec<String> {
    let mut app = app("/mapped", 2, &[], "/mapped:80");
    app["container"]["portMappings"][0]["hostPort"] = json!(0);
    world.deploy(&app);
    let to = world.lab.marathon("marathon").unwrap();
    let answer = world.lab.http("master", "GET", to, "/v2/apps/mapped/tasks", "").unwrap();
    let tasks: Value = serde_json::from_str(&answer.body).unwrap();
    let at = |task: &Value| format!("{}:{}", task["host"].as_str().unwrap(), task["ports"][0]);
    let all: Vec<String> = tasks["tasks"].as_array().unwrap().iter().map(at).collect();
    assert_eq!(all.len(), 2, "{tasks}");
    all
}

/// Waits until all of an app's tasks are as healthy as this, by Marathon.
fn healthy(world: &World, id: &str, wanted: u64) {
    let to = world.lab.marathon("marathon").unwrap();
    until(&format!("{wanted} of {id} are healthy"), || {
        let answer = world.lab.http("master", "GET", to, &format!("/v2/apps{id}"), "").ok()?;
        let app: Value = serde_json::from_str(&answer.body).ok()?;
        (app["app"]["tasksHealthy"] == wanted).then_some(())
    });
}

fn everybody_reaches_everybody_by_the_gateway(hub: bool) {
    let Some(world) = gateway(hub) else { return };
    let agent = world.agent("agent1");
    assert!(!world.said("master", "ip -o link").contains("vtep"), "the master has no way of its own");
    for role in ["client", "sluice"] {
        world.serve(role, "0.0.0.0", 8088);
    }

    // Marathon's checks, and its readiness with them.
    let web = world.deploy(&checked("/web", &[]));
    let red = world.deploy(&checked("/red", &["red"]));
    for id in ["/web", "/red"] {
        healthy(&world, id, 2);
    }
    for to in web.iter().chain(&red) {
        assert!(seen_by(&world, "master", to).starts_with("10.0.0.5:"), "as it is, not masqueraded");
    }

    // A client outside, by containers' own addresses; groups are not for it.
    for to in &web {
        assert!(seen_by(&world, "client", to).starts_with("192.0.2.10:"));
        world.said("client", &format!("ping -c 2 -i 0.2 -W 2 {to}"));
    }
    for to in &red {
        world.fails("client", &format!("curl -sS -m 2 http://{to}/"));
    }
    let denied = world.shown("policy")["denied"].clone();
    assert!(denied.as_array().unwrap().iter().any(|pair| pair["from"] == "underlay"), "{denied}");

    // Containers of the agent that sends to the gateway, outwards and to the node; the node to containers.
    let own = "9.0.0.2";
    let received = || world.metric_of("sluice_network_rx_packets_total", "network=\"dcos\"");
    let before = received();
    for to in ["192.0.2.10:8088", "10.0.0.9:8088"] {
        assert!(seen_by(&world, "c1", to).starts_with(&format!("{own}:")), "{to}");
    }
    assert!(received() >= before + 10, "by Sluice");
    let red_here = red.iter().find(|ip| ip.starts_with("9.0.0.")).unwrap();
    let grouped = world.role_of(red_here);
    world.fails(&grouped, "curl -sS -m 2 http://192.0.2.10:8088/");
    let said = world.said(&grouped, "curl -sS -m 5 http://10.0.0.5:8080/ping");
    assert!(said.contains("pong"), "whom `underlay_allow` has it reaches: {said}");
    for to in web.iter().chain(&red) {
        assert!(seen_by(&world, "sluice", to).starts_with("9.0.9.1:"), "{to}");
    }
    // Answers of mapped host ports come back by the tunnel as the agent's: on either kind of agent to the node, and
    // where all that is outside goes by Sluice to everybody.
    for to in mapped(&world) {
        for from in ["sluice", "client", "master"] {
            world.said(from, &format!("curl -sS -m 5 http://{to}/"));
        }
    }
    let mut seen = std::collections::BTreeSet::new();
    until("both answer by the VIP", || {
        let said =
            world.run("client", &["curl", "-sS", "-m", "5", "http://mapped.marathon.l4lb.thisdcos.directory/"]).1;
        seen.extend(said.lines().find(|line| line.starts_with("task ")).map(str::to_owned));
        (seen.len() == 2).then_some(())
    });
    // What is inside stays inside.
    let mate = web.iter().find(|ip| ip.starts_with("9.0.0.")).unwrap();
    assert!(seen_by(&world, "c1", mate).starts_with(&format!("{own}:")));
    assert!(seen_by(&world, "c2", mate).starts_with("9.0.2.2:"));

    // One agent of each kind: on the one that DC/OS sets up groups hold for what passes Sluice alone, whatever the mode.
    let policy = world.shown("policy");
    for (agent, direct) in
        [("10.0.0.11", if hub { json!([]) } else { json!(["dcos"]) }), ("10.0.0.12", json!(["dcos"]))]
    {
        let row = policy["agents"].as_array().unwrap().iter().find(|row| row["ip"] == agent).unwrap();
        assert_eq!(row["direct"], direct, "{policy}");
    }
    let groups = world.shown("groups");
    let row = &groups["groups"][0];
    assert_eq!(
        (&row["groups"], &row["count"], &row["underlay_allow"]),
        (&json!(["red"]), &json!(2), &json!(["10.0.0.5/32"]))
    );
    assert!(row["denied_to"].as_u64() > Some(0), "the client's: {groups}");
    assert!(row["containers"][0]["task"].as_str().unwrap().starts_with("red."), "{groups}");
    let said = world.asked(&["show", "groups"]);
    assert!(said.contains("red") && said.contains("10.0.0.11") && said.contains("10.0.0.12"), "{said}");

    // Without Sluice the checks do not reach them: nobody else carries them.
    world.restart_sluice(Signal::SIGTERM, || healthy(&world, "/web", 0));
    for id in ["/web", "/red"] {
        healthy(&world, id, 2);
    }
    assert!(seen_by(&world, "client", &web[0]).starts_with("192.0.2.10:"));
    let kernel = world.kernel("agent1");
    end(agent, Signal::SIGKILL);
    let agent = world.again("agent1");
    std::thread::sleep(std::time::Duration::from_millis(1500));
    assert_eq!(world.kernel("agent1"), kernel, "a default route and exceptions from it are found as they are");
    end(agent, Signal::SIGTERM);
}

#[test]
fn clients_the_master_and_the_node_reach_containers_by_the_gateway_and_containers_reach_them() {
    everybody_reaches_everybody_by_the_gateway(false);
}

#[test]
fn the_gateway_of_a_network_in_hub_mode_is_the_same() {
    everybody_reaches_everybody_by_the_gateway(true);
}
