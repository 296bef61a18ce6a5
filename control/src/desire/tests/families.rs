//! IPv6 in every place, and one task that is on both families.

use sluice_config::model::{Mode, OverlayNetwork, Vni};

use super::*;

/// A task on container networking with these addresses.
fn dual(id: &str, ips: &[&str], labels: Value) -> Value {
    let ips: Vec<Value> = ips.iter().map(|ip| json!({ "ipAddress": ip })).collect();
    json!({ "id": id, "networks": [{ "mode": "container", "name": "other" }],
        "container": { "portMappings": [{ "containerPort": 80, "labels": labels }] },
        "tasks": [{ "id": format!("{}.1", id.trim_start_matches('/')), "host": "10.0.0.14", "state": "TASK_RUNNING",
            "ports": [], "ipAddresses": ips }] })
}

fn with_six(apps: Value) -> Case {
    let mut case = Case::of(apps);
    case.config.snat.underlay6 = vec!["2001:db8::11".parse().unwrap()];
    case.config.ports[0].addresses6 = vec!["2001:db8::10/64".parse().unwrap()];
    case
}

fn keys(desired: &Desired) -> Vec<String> {
    desired.shared.services.iter().map(|s| s.key.to_string()).collect()
}

fn aaaa_records(desired: &Desired, name: &str) -> Vec<String> {
    records(desired, name, "AAAA")
}

#[test]
fn a_name_has_one_address_of_each_family_in_which_it_has_a_backend() {
    let case = with_six(json!([
        dual("/both", &["10.8.0.2", "2001:db8:8::2"], json!({ "VIP_0": "both:80" })),
        dual("/six", &["2001:db8:8::3"], json!({ "VIP_0": "six:80" })),
        dual("/four", &["10.8.0.4"], json!({ "VIP_0": "minitwit:80" }))
    ]));
    let (desired, report) = case.run();
    assert_eq!(report.rejected, []);
    assert_eq!(report.named.keys().collect::<Vec<_>>(), ["both.marathon", "minitwit.marathon"]);
    assert_eq!(report.named6.keys().collect::<Vec<_>>(), ["both.marathon", "six.marathon"]);
    let (four, six) = (report.named["both.marathon"], report.named6["both.marathon"]);
    assert_eq!(backends(service(&desired, &format!("{four}:80/tcp"))), ["10.8.0.2:80*1"]);
    assert_eq!(backends(service(&desired, &format!("[{six}]:80/tcp"))), ["[2001:db8:8::2]:80*1"]);
    let name = "both.marathon.l4lb.thisdcos.directory";
    assert_eq!(
        (a_records(&desired, name), aaaa_records(&desired, name)),
        (vec![four.to_string()], vec![six.to_string()])
    );
    assert!(a_records(&desired, "six.marathon.l4lb.thisdcos.directory").is_empty());
}

#[test]
fn an_ipv6_label_stands_without_brackets_and_takes_the_tasks_ipv6_addresses() {
    let labels = json!({ "VIP_0": "fd00::80:80", "VIP_1": "172.16.0.1:80" });
    let mut agent = bridge("/agent", json!({ "VIP_0": "fd00::90:90" }), 1);
    agent["tasks"][0]["host"] = "2001:db8:a::1".into();
    let case = with_six(json!([dual("/web", &["10.8.0.2", "2001:db8:8::2"], labels), agent]));
    let (desired, report) = case.run();
    assert_eq!(report.rejected, []);
    assert_eq!(backends(service(&desired, "[fd00::80]:80/tcp")), ["[2001:db8:8::2]:80*1"]);
    assert_eq!(backends(service(&desired, "172.16.0.1:80/tcp")), ["10.8.0.2:80*1"]);
    assert_eq!(backends(service(&desired, "[fd00::90]:90/tcp")), ["[2001:db8:a::1]:31000*1"]);
}

#[test]
fn a_vip_of_a_family_in_which_the_task_has_no_address_is_listed_with_the_way_out() {
    let mut app = dual("/web", &["10.8.0.2"], json!({ "VIP_0": "fd00::80:80" }));
    let (desired, report) = with_six(json!([app.clone()])).run();
    assert_eq!(backends(service(&desired, "[fd00::80]:80/tcp")), [""; 0]);
    assert!(report.rejected[0].reason.starts_with("nat needs a backend of the VIP's family"), "{:?}", report.rejected);
    app["labels"] = json!({ "SLUICE_MODE": "dsr-gue" });
    let (desired, report) = with_six(json!([app])).run();
    assert_eq!(report.rejected, []);
    assert_eq!(backends(service(&desired, "[fd00::80]:80/tcp")), ["10.8.0.2:80*1"]);
}

#[test]
fn nat_without_a_source_address_of_the_family_is_listed_and_other_modes_need_none() {
    let apps = json!([dual("/web", &["2001:db8:8::2"], json!({ "VIP_0": "fd00::80:80" }))]);
    let (desired, report) = Case::of(apps.clone()).run();
    assert_eq!(backends(service(&desired, "[fd00::80]:80/tcp")), [""; 0]);
    assert_eq!(report.rejected[0].reason, "nat needs a source address there: add an IPv6 `underlay` to [snat]");
    for mode in ["nat-preserve", "dsr-ipip"] {
        let mut case = Case::of(apps.clone());
        case.config.vip.mode = Mode::ALL.iter().find(|(name, _)| *name == mode).unwrap().1;
        assert_eq!(backends(service(&case.run().0, "[fd00::80]:80/tcp")), ["[2001:db8:8::2]:80*1"], "{mode}");
    }
}

#[test]
fn no_label_takes_an_ipv6_address_that_somebody_has() {
    let mut case = with_six(json!([]));
    case.config.neighbours = vec![sluice_config::model::Neighbour {
        ip: "2001:db8:7::7".parse().unwrap(),
        mac: sluice_config::model::Mac([2, 0, 0, 0, 0, 7]),
        port: 0,
    }];
    let mut local = local_from_config(&case.config);
    local.routes.push(sluice_config::model::Route {
        prefix: "::/0".parse().unwrap(),
        via: Some("2001:db8:6::1".parse().unwrap()),
        port: 0,
    });
    for (ip, what) in [
        ("::", "no address"),
        ("::1", "a loopback address"),
        ("ff02::1", "a multicast address"),
        ("fe80::1", "a link-local address"),
        ("::ffff:10.0.0.1", "an IPv4 address in IPv6 form"),
        ("2001:db8::10", "an address of this node's own port"),
        ("2001:db8::11", "a SNAT address"),
        ("2001:db8::", "the first or last address"),
        ("2001:db8::99", "in 2001:db8::/64, where one of this node's ports is"),
        ("2001:db8:7::7", "a neighbour's address"),
        ("2001:db8:6::1", "a gateway's address"),
        ("2001:db8:8::2", "a backend's address, of the app /web"),
    ] {
        case.list(0, json!([dual("/web", &["2001:db8:8::2"], json!({ "VIP_0": format!("{ip}:1") }))]));
        let (desired, report) = desire(&case.config, &case.view, &case.claims, &local, [7; 16]);
        assert_eq!(keys(&desired), [""; 0], "{ip}");
        assert!(report.rejected[0].reason.contains(what), "{ip}: {:?}", report.rejected);
    }
}

#[test]
fn a_discovery_port_that_a_mapping_has_too_counts_once() {
    let app = json!({ "id": "/web", "ipAddress": { "discovery": { "ports": [
            { "number": 80, "name": "http", "protocol": "tcp", "labels": { "VIP_0": "172.16.0.1:80", "VIP_1": "x:80" } },
            { "number": 81, "name": "other", "protocol": "tcp", "labels": { "VIP_0": "172.16.0.1:81" } }] } },
        "container": { "docker": { "network": "USER", "portMappings": [
            { "containerPort": 80, "hostPort": 0, "labels": { "VIP_0": "172.16.0.1:80", "VIP_1": "y:80" } }] } },
        "tasks": [{ "id": "web.1", "host": "10.0.0.11", "state": "TASK_RUNNING", "ports": [31000],
            "ipAddresses": [{ "ipAddress": "9.0.1.2" }] }] });
    let (desired, report) = Case::of(json!([app])).run();
    assert_eq!(report.rejected, []);
    assert_eq!(backends(service(&desired, "172.16.0.1:80/tcp")), ["10.0.0.11:31000*1"], "not by both ways");
    assert_eq!(backends(service(&desired, "172.16.0.1:81/tcp")), ["9.0.1.2:81*1"]);
    assert_eq!(report.named.keys().collect::<Vec<_>>(), ["x.marathon", "y.marathon"], "one key, two values: both");
}

#[test]
fn a_name_keeps_the_address_of_a_family_while_its_task_starts_again() {
    let app = |state: &str| {
        let mut app = dual("/six", &["2001:db8:8::3"], json!({ "VIP_0": "six:80" }));
        app["tasks"][0]["state"] = state.into();
        app
    };
    let mut case = with_six(json!([app("TASK_RUNNING")]));
    let (desired, report) = case.run();
    case.claims.settle(report.in_use(), 1);
    case.list(0, json!([app("TASK_STAGING")]));
    let (restarting, report) = case.run();
    assert_eq!((keys(&restarting), report.named.len()), (keys(&desired), 0));
    assert_eq!(keys(&Case::of(json!([app("TASK_STAGING")])).run().0).len(), 1, "before the first task: IPv4's");
}

#[test]
fn nat_without_a_source_address_in_the_tunnels_of_the_network_is_listed() {
    let mut app = dual("/web", &["172.21.1.2"], json!({ "VIP_0": "172.16.0.1:80" }));
    app["networks"][0]["name"] = "lab".into();
    let mut case = Case::of(json!([app]));
    let networks = &mut case.config.overlay.as_mut().unwrap().networks;
    let lab = OverlayNetwork { name: "lab".into(), subnet: "172.21.0.0/16".parse().unwrap(), ..networks[0].clone() };
    networks.push(OverlayNetwork { vni: Vni::new(2000), own: "172.21.9.0/24".parse().ok(), ..lab });
    let (desired, report) = case.run();
    assert_eq!(backends(service(&desired, "172.16.0.1:80/tcp")), [""; 0]);
    assert!(report.rejected[0].reason.contains("in the tunnels of the network lab"), "{:?}", report.rejected);
    case.config.snat.overlay.push("172.21.9.2".parse().unwrap());
    let (desired, report) = case.run();
    assert_eq!((report.rejected, backends(service(&desired, "172.16.0.1:80/tcp")).len()), (vec![], 1));
}
