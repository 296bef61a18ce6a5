use std::path::Path;

use serde_json::Value;
use sluice_config::model::Mac;

use super::routing::TABLES_OF_VNIS;
use super::*;
use crate::fixture::golden;

fn settings(address: &str, more: &str) -> Settings {
    let text = format!("[agent]\nurls = [\"http://10.0.0.9:8123\"]\naddress = \"{address}\"\n{more}");
    Settings::parse(&text, Path::new("agent.toml")).unwrap()
}

fn member(n: u8, networks: &[&str]) -> Member {
    let vtep_ip = Ipv4Addr::new(44, 128, 0, n);
    let subnets = networks.iter().enumerate().map(|(at, name)| {
        let net = if at == 0 { format!("9.0.{n}.0/24") } else { format!("172.20.{n}.0/24") };
        ((*name).to_owned(), net.parse().unwrap())
    });
    Member {
        ip: Ipv4Addr::new(10, 0, 0, 10 + n),
        vtep_ip,
        vtep_mac: Mac::of_vtep(vtep_ip).to_string(),
        subnets: subnets.collect(),
        subnets6: BTreeMap::new(),
    }
}

/// Three members, of which the third is Sluice; the network `lab` is in hub mode.
fn map() -> Map {
    let network = |name: &str, subnet: &str, hub| Network {
        name: name.into(),
        subnet: subnet.parse().unwrap(),
        subnet6: None,
        vni: 1024,
        port: 64_000,
        mtu: 1450,
        hub,
    };
    let sluice = member(3, &["dcos", "lab"]);
    Map {
        vni: 1024,
        vtep_prefix: 20,
        members: vec![member(1, &["dcos", "lab"]), member(2, &["dcos", "lab"]), sluice.clone()],
        sluice,
        networks: vec![network("dcos", "9.0.0.0/8", false), network("lab", "172.20.0.0/16", true)],
        vips: vec!["11.0.0.0/8".parse().unwrap(), "172.16.0.1/32".parse().unwrap()],
        dns: vec![IpAddr::from([198, 51, 100, 1])],
    }
}

fn lease(networks: &[&str]) -> Lease {
    let Member { vtep_ip, subnets, .. } = member(1, &["dcos", "lab"]);
    let subnets = subnets.into_iter().filter(|(name, _)| networks.contains(&name.as_str())).collect();
    Lease { vtep_ip, subnets, subnets6: BTreeMap::new(), left: false }
}

fn lines(plan: &Plan, with: &str) -> Vec<String> {
    plan.commands().lines().filter(|line| line.starts_with(with)).map(str::to_owned).collect()
}

#[test]
fn a_direct_network_goes_by_every_members_vtep_and_what_sluice_serves_by_its() {
    let plan = Plan::of(&settings("10.0.0.11", ""), &lease(&["dcos"]), &map()).unwrap();
    assert_eq!(
        lines(&plan, "ip route"),
        [
            "ip route replace 10.0.0.12/32 via 44.128.0.2 dev vtep1024 onlink table 42",
            "ip route replace 10.0.0.13/32 via 44.128.0.3 dev vtep1024 onlink table 42",
            "ip route replace 11.0.0.0/8 via 44.128.0.3 dev vtep1024 onlink table 43",
            "ip route replace 172.16.0.1/32 via 44.128.0.3 dev vtep1024 onlink table 43",
            "ip route replace 172.20.0.0/16 via 44.128.0.3 dev vtep1024 onlink table 43",
            "ip route replace 198.51.100.1/32 via 44.128.0.3 dev vtep1024 onlink table 43",
            "ip route replace unreachable 9.0.1.0/24 metric 4000000",
            "ip route replace 9.0.2.0/24 via 44.128.0.2 dev vtep1024 onlink",
            "ip route replace 9.0.3.0/24 via 44.128.0.3 dev vtep1024 onlink",
            "ip route replace 172.20.0.0/16 via 44.128.0.3 dev vtep1024 onlink",
        ]
    );
    assert_eq!(
        lines(&plan, "ip rule"),
        ["ip rule add priority 32010 from 9.0.0.0/8 lookup 43", "ip rule add priority 32011 from 9.0.0.0/8 lookup 42",]
    );
    assert!(plan.nftables.contains("ip saddr { 9.0.1.0/24 } ip daddr != { 9.0.0.0/8, 11.0.0.0/8, 172.16.0.1/32, 172.20.0.0/16, 198.51.100.1/32 } masquerade"), "{}", plan.nftables);
    let (path, text) = plan.cni.first_key_value().unwrap();
    let conf: Value = serde_json::from_str(text).unwrap();
    assert_eq!(path, Path::new("/etc/cni/net.d/dcos.conf"));
    assert_eq!(
        (&conf["type"], &conf["bridge"], &conf["isGateway"], &conf["ipMasq"]),
        (&"bridge".into(), &"m-dcos".into(), &true.into(), &false.into())
    );
    assert_eq!((&conf["mtu"], &conf["dns"]["nameservers"][0]), (&1450.into(), &"198.51.100.1".into()));
    assert_eq!(conf["ipam"]["ranges"][0][0]["subnet"], "9.0.1.0/25");
}

#[test]
fn whatever_a_container_of_a_hub_network_sends_into_any_network_goes_by_sluice() {
    let plan =
        Plan::of(&settings("10.0.0.11", "networks = [\"lab\"]\nmtu = 9000\n"), &lease(&["lab"]), &map()).unwrap();
    let hub: Vec<String> = lines(&plan, "ip route").into_iter().filter(|line| line.ends_with("table 44")).collect();
    assert_eq!(
        hub,
        [
            "ip route replace 9.0.0.0/8 via 44.128.0.3 dev vtep1024 onlink table 44",
            "ip route replace 10.0.0.12/32 via 44.128.0.2 dev vtep1024 onlink table 44",
            "ip route replace 10.0.0.13/32 via 44.128.0.3 dev vtep1024 onlink table 44",
            "ip route replace 11.0.0.0/8 via 44.128.0.3 dev vtep1024 onlink table 44",
            "ip route replace 172.16.0.1/32 via 44.128.0.3 dev vtep1024 onlink table 44",
            "ip route replace 172.20.0.0/16 via 44.128.0.3 dev vtep1024 onlink table 44",
            "ip route replace 198.51.100.1/32 via 44.128.0.3 dev vtep1024 onlink table 44",
        ]
    );
    assert!(!plan.commands().contains("table 42") && !plan.commands().contains("172.20.2.0/24"));
    assert_eq!(
        lines(&plan, "ip rule"),
        [
            "ip rule add priority 32000 from all iif vtep1024 lookup 254",
            "ip rule add priority 32001 from 172.20.1.0/24 iif lo lookup 254",
            "ip rule add priority 32002 from 172.20.1.0/24 lookup 44",
        ]
    );
    let conf: Value = serde_json::from_str(plan.cni.first_key_value().unwrap().1).unwrap();
    assert_eq!((&conf["type"], &conf["bridge"], &conf["mtu"]), (&"ptp".into(), &Value::Null, &1450.into()));
}

#[test]
fn nothing_on_an_agent_passes_sluice_on_its_way_to_a_hub_container() {
    let mut map = map();
    (map.networks[1].vni, map.networks[1].port) = (2000, 4789);
    let both = settings("10.0.0.11", "networks = [\"dcos\", \"lab\"]\n");
    let plan = Plan::of(&both, &lease(&["dcos", "lab"]), &map).unwrap();
    // Containers of a direct network here, and what comes back from Sluice in the tunnels of another VNI.
    for line in [
        "ip route replace 172.20.0.0/16 via 44.128.0.3 dev vtep1024 onlink table 43",
        "ip rule add priority 32000 from all iif vtep1024 lookup 254",
        "ip rule add priority 32000 from all iif vtep2000 lookup 254",
        "    udp dport { 4789, 64000 } @th,96,24 { 1024, 2000 } ip saddr != { 10.0.0.11, 10.0.0.12, 10.0.0.13 } counter drop",
        "    udp dport { 4789, 64000 } @th,96,24 { 1024, 2000 } iifname { \"vtep1024\", \"vtep2000\" } counter drop",
        "    udp dport { 4789, 64000 } @th,96,24 { 1024, 2000 } iifname \"m-dcos\" counter drop",
        "    iifname \"veth*\" ip daddr { 172.20.1.0/24 } fib saddr . iif oif missing counter drop",
        "    ip daddr { 172.20.1.0/24 } counter drop",
    ] {
        assert!(plan.commands().lines().any(|l| l == line), "{line} is not in\n{}", plan.commands());
    }
    let direct = Plan::of(&settings("10.0.0.11", ""), &lease(&["dcos"]), &map).unwrap();
    assert!(!direct.nftables.contains("forward") && direct.nftables.contains("delete table ip sluice_agent_guard"));
}

#[test]
fn a_network_with_a_vni_of_its_own_has_a_device_and_tables_of_its_own() {
    let mut map = map();
    (map.networks[1].vni, map.networks[1].port, map.networks[1].mtu, map.networks[1].hub) = (2000, 4789, 1400, false);
    let plan =
        Plan::of(&settings("10.0.0.11", "networks = [\"dcos\", \"lab\"]\n"), &lease(&["dcos", "lab"]), &map).unwrap();
    let devices: Vec<String> =
        plan.devices.iter().map(|d| format!("{} {} {} {} {}", d.name, d.vni, d.port, d.address, d.mtu)).collect();
    assert_eq!(devices, ["vtep1024 1024 64000 44.128.0.1/20 1450", "vtep2000 2000 4789 44.128.0.1/32 1400"]);
    let (agents, served) = (TABLES_OF_VNIS + 2000, TABLES_OF_VNIS + (1 << 24) + 2000);
    for line in [
        "ip route replace 172.20.2.0/24 via 44.128.0.2 dev vtep2000 onlink".to_owned(),
        "ip route replace 9.0.2.0/24 via 44.128.0.2 dev vtep1024 onlink".to_owned(),
        format!("ip route replace 10.0.0.12/32 via 44.128.0.2 dev vtep2000 onlink table {agents}"),
        format!("ip route replace 11.0.0.0/8 via 44.128.0.3 dev vtep2000 onlink table {served}"),
        format!("ip rule add priority 32010 from 172.20.0.0/16 lookup {served}"),
    ] {
        assert!(plan.commands().lines().any(|l| l == line), "{line} is not in\n{}", plan.commands());
    }
    map.networks[1].vni = 1024;
    let refused = Plan::of(&settings("10.0.0.11", ""), &lease(&["dcos", "lab"]), &map).unwrap_err();
    assert_eq!(refused, PlanError::TwoPorts(1024));
}

#[test]
fn ipv6_goes_by_the_link_local_address_of_a_vteps_mac() {
    let mut map = map();
    map.networks[0].subnet6 = Some("fd01:b::/64".parse().unwrap());
    map.members[1].subnets6.insert("dcos".into(), "fd01:b:0:0:2::/80".parse().unwrap());
    map.vips.push("fd01:c::/64".parse().unwrap());
    let mut lease = lease(&["dcos"]);
    lease.subnets6.insert("dcos".into(), "fd01:b:0:0:1::/80".parse().unwrap());
    let plan = Plan::of(&settings("10.0.0.11", ""), &lease, &map).unwrap();
    for line in [
        "ip neigh replace fe80::72b3:d5ff:fe80:2 lladdr 70:b3:d5:80:00:02 dev vtep1024 nud permanent",
        "ip -6 route replace fd01:b:0:0:2::/80 via fe80::72b3:d5ff:fe80:2 dev vtep1024 onlink",
        "ip -6 route replace fd01:c::/64 via fe80::72b3:d5ff:fe80:3 dev vtep1024 onlink table 43",
        "ip -6 route replace unreachable fd01:b:0:0:1::/80 metric 4000000",
        "ip -6 rule add priority 32010 from fd01:b::/64 lookup 43",
        "    ip6 saddr { fd01:b:0:0:1::/80 } ip6 daddr != { fd01:b::/64, fd01:c::/64 } masquerade",
    ] {
        assert!(plan.commands().lines().any(|l| l == line), "{line} is not in\n{}", plan.commands());
    }
    let conf: Value = serde_json::from_str(plan.cni.first_key_value().unwrap().1).unwrap();
    assert_eq!(conf["ipam"]["ranges"][1][0]["subnet"], "fd01:b:0:0:1::/81");
    assert_eq!(conf["ipam"]["routes"][1]["dst"], "::/0");
}

#[test]
fn a_lease_in_a_network_that_the_map_lacks_is_an_error() {
    let mut map = map();
    map.networks.remove(0);
    let refused = Plan::of(&settings("10.0.0.11", ""), &lease(&["dcos"]), &map).unwrap_err();
    assert_eq!(refused, PlanError::NoNetwork("dcos".into()));
}

#[test]
fn nodes_are_told_of_the_way_by_the_underlay() {
    assert!(for_nodes(&map()).contains("nameserver 198.51.100.1\n"));
    assert!(for_nodes(&map()).contains("ip route replace 11.0.0.0/8 via 10.0.0.13\n"));
    let plan = Plan::of(&settings("10.0.0.11", "node_routes = true\n"), &lease(&["dcos"]), &map()).unwrap();
    assert!(lines(&plan, "ip route").contains(&"ip route replace 11.0.0.0/8 via 10.0.0.13".to_owned()));
}

/// What dcos-net programs on a node, recorded, and what is planned from the same agents.
#[test]
fn neighbours_forwarding_and_routes_are_those_of_dcos() {
    let Some(golden) = golden("overlay/allocation-and-node-config.json") else { return };
    let mut compared = 0;
    for case in golden["cases"].as_array().unwrap() {
        for node in case["node_config"].as_array().unwrap() {
            compare(case, node);
            compared += 1;
        }
    }
    assert_eq!(compared, 4);
}

fn compare(case: &Value, node: &Value) {
    let text = |value: &Value| value.as_str().unwrap().to_owned();
    let four = |agent: &Value| {
        agent["overlays"].as_array().unwrap().iter().find(|o| o["subnet"].is_string()).cloned().unwrap()
    };
    let members: Vec<Member> = case["agents"]
        .as_array()
        .unwrap()
        .iter()
        .map(|agent| {
            let (overlay, ip) = (four(agent), text(&agent["ip"]).parse().unwrap());
            let vxlan = &overlay["backend"]["vxlan"];
            let subnets = [(text(&overlay["info"]["name"]), text(&overlay["subnet"]).parse().unwrap())].into();
            let vtep: Ipv4Net = text(&vxlan["vtep_ip"]).parse().unwrap();
            Member { ip, vtep_ip: vtep.addr(), vtep_mac: text(&vxlan["vtep_mac"]), subnets, subnets6: BTreeMap::new() }
        })
        .collect();
    let own = members.iter().find(|m| m.ip.to_string() == text(&node["node"])).unwrap().clone();
    let info = four(&case["agents"][0])["info"].clone();
    let map = Map {
        networks: vec![Network {
            name: text(&info["name"]),
            subnet: text(&info["subnet"]).parse().unwrap(),
            ..map().networks.remove(0)
        }],
        members,
        ..map()
    };
    let lease = Lease { vtep_ip: own.vtep_ip, subnets: own.subnets, subnets6: BTreeMap::new(), left: false };
    let plan = Plan::of(&settings(&own.ip.to_string(), ""), &lease, &map).unwrap();
    assert_eq!((plan.devices[0].name.as_str(), plan.devices[0].port, plan.devices[0].vni), ("vtep1024", 64_000, 1024));
    assert_eq!(plan.devices[0].mac, node["link"]["address"]);
    assert_eq!(node["link"]["addrs"][0], plan.devices[0].address.to_string());
    let is_four = |value: &Value| value.as_str().is_some_and(|text| !text.contains(':'));
    let mut recorded = (BTreeSet::new(), BTreeSet::new(), BTreeSet::new());
    for entry in node["entries"].as_array().unwrap() {
        if is_four(&entry["neigh"]) {
            recorded.0.insert((text(&entry["neigh"]), text(&entry["lladdr"])));
        } else if entry["fdb"].is_string() {
            recorded.1.insert((text(&entry["dst"]), text(&entry["fdb"])));
        } else if is_four(&entry["route"]) {
            let table = entry["table"].as_u64().map_or(MAIN, |table| table as u32);
            recorded.2.insert((table, text(&entry["route"]), text(&entry["via"])));
        }
    }
    let neighbours = plan.peers.iter().map(|p| (p.vtep_ip.to_string(), p.mac.clone()));
    let forwarding = plan.peers.iter().map(|p| (p.underlay.to_string(), p.mac.clone()));
    // What Sluice adds: the way to what it serves, and that an absent container is told of.
    let routes = plan.routes.iter().filter_map(|route| match route.to {
        To::Vtep(via, 1024) if route.table != SERVED => Some((route.table, route.prefix.to_string(), via.to_string())),
        To::Vtep(..) | To::Gateway(_) | To::Unreachable => None,
    });
    assert_eq!((neighbours.collect(), forwarding.collect(), routes.collect()), recorded);
    let rules: Vec<String> = node["rules"].as_array().unwrap().iter().map(|rule| text(&rule["ip_rule"])).collect();
    let planned: Vec<String> = plan.rules.iter().map(ToString::to_string).collect();
    assert!(rules.iter().all(|rule| planned.iter().any(|own| own.ends_with(rule))), "{rules:?} {planned:?}");
}
