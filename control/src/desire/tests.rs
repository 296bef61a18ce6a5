//! `desire` asked through Marathon's own answers: each test is a payload and what must come of it.

use proptest::prelude::*;
use serde_json::{Value, json};
use sluice_config::model::{Backend, OverlayAgent, Protocol, Service, Sharing};
use sluice_dataplane::tables::hash::HashKey;
use sluice_dataplane::tables::zone::Zones;

use super::*;
use crate::desire::claims::tests::claimed;
use crate::fixture::{config, golden_bytes, marathon};
use crate::marathon::payload::{Answers, listing};
use crate::offline::local_from_config;
use crate::view::Event;

mod families;
mod judged;
mod listed;
mod malformed;
mod modes;
mod ownership;
mod serving;
mod standing;
mod upgrade;

struct Case {
    config: Config,
    claims: Claims,
    view: ClusterView,
}

impl Case {
    fn of(apps: Value) -> Self {
        let mut case = Self { config: config(), claims: Claims::default(), view: ClusterView::default() };
        case.list(0, apps);
        case
    }

    fn list(&mut self, source: usize, apps: Value) {
        let body = json!({ "apps": apps }).to_string();
        let listing = listing(Answers { apps: body.as_bytes(), ..Answers::default() }).unwrap();
        self.view.apply(Event::Marathon { source, listing });
    }

    fn run(&self) -> (Desired, Report) {
        desire(&self.config, &self.view, &self.claims, &local_from_config(&self.config), [7; 16])
    }
}

fn service<'a>(desired: &'a Desired, key: &str) -> &'a Service {
    let keys: Vec<String> = desired.shared.services.iter().map(|s| s.key.to_string()).collect();
    desired.shared.services.iter().find(|s| s.key.to_string() == key).unwrap_or_else(|| panic!("{key} not in {keys:?}"))
}

fn backends(service: &Service) -> Vec<String> {
    service.backends.iter().map(|b| format!("{}*{}", b.address, b.weight)).collect()
}

fn a_records(desired: &Desired, name: &str) -> Vec<String> {
    records(desired, name, "A")
}

/// The values of a name, other names for it followed.
fn records(desired: &Desired, name: &str, kind: &str) -> Vec<String> {
    let zones = &desired.shared.zones;
    let rows = crate::api::zone::rows(zones, &Zones::compile(zones, 1, HashKey::default()), 1, true);
    let row = rows.into_iter().find(|row| row.name == format!("{name}.") && row.r#type == kind);
    row.map(|row| row.values).unwrap_or_default()
}

/// A `[[service]]` with one backend.
fn fixed(vip: &str, backend: &str) -> Service {
    let vip: SocketAddr = vip.parse().unwrap();
    let backend = Backend {
        address: backend.parse().unwrap(),
        network: None,
        weight: 1,
        agent: None,
        task: None,
        groups: Vec::new(),
    };
    Service::plain(VipKey { protocol: Protocol::Tcp, ip: vip.ip(), port: vip.port() }, vec![backend])
}

/// An app on the overlay's container network whose task has this address.
fn contained(id: &str, ip: &str, vip: &str) -> Value {
    json!({ "id": id, "networks": [{ "mode": "container", "name": "other" }],
        "container": { "portMappings": [{ "containerPort": 80, "labels": { "VIP_0": vip } }] },
        "tasks": [{ "id": format!("{}.1", id.trim_start_matches('/')), "host": "10.0.0.14", "state": "TASK_RUNNING",
            "ports": [], "ipAddresses": [{ "ipAddress": ip }] }] })
}

/// A bridge app whose first mapping has these labels, with running tasks on 10.0.0.(11..).
fn bridge(id: &str, labels: Value, tasks: usize) -> Value {
    let task = |n: usize| {
        json!({ "id": format!("{}.{n}", id.trim_start_matches('/')), "slaveId": format!("f-S{n}"), "state": "TASK_RUNNING",
            "host": format!("10.0.0.{}", 11 + n), "ports": [31000 + n],
            "ipAddresses": [{ "ipAddress": "172.17.0.2" }] })
    };
    json!({ "id": id, "networks": [{ "mode": "container/bridge" }],
        "container": { "portMappings": [{ "containerPort": 80, "hostPort": 0, "protocol": "tcp", "labels": labels }] },
        "tasks": (0..tasks).map(task).collect::<Vec<_>>() })
}

#[test]
fn minitwit_has_its_vip_its_named_vip_and_its_names() {
    let case = Case::of(json!([bridge("/minitwit", json!({ "VIP_0": "172.16.0.1:80", "VIP_1": "minitwit:80" }), 2)]));
    let (desired, report) = case.run();
    assert_eq!(report.rejected, []);
    let by_address = service(&desired, "172.16.0.1:80/tcp");
    assert_eq!(backends(by_address), ["10.0.0.11:31000*1", "10.0.0.12:31001*1"]);
    assert_eq!(by_address.backends[0].network, None);
    let named = service(&desired, "11.45.193.125:80/tcp");
    assert_eq!(named.name.as_deref(), Some("minitwit.marathon"));
    assert_eq!(named.framework.as_deref(), Some("marathon"));
    assert_eq!(a_records(&desired, "minitwit.marathon.mesos"), ["10.0.0.11", "10.0.0.12"]);
    assert_eq!(a_records(&desired, "minitwit.marathon.slave.mesos"), ["10.0.0.11", "10.0.0.12"]);
    for zone in ["l4lb.thisdcos.directory", "dclb.thisdcos.directory", "l4lb.thisdcos.global", "dclb.thisdcos.global"] {
        assert_eq!(a_records(&desired, &format!("minitwit.marathon.{zone}")), ["11.45.193.125"], "{zone}");
    }
    assert_eq!(a_records(&desired, "ns1.mesos"), ["192.0.2.53"]);
    assert_eq!(a_records(&desired, "ns.spartan"), ["192.0.2.53"]);
    assert_eq!(a_records(&desired, "minitwit.marathon.containerip.dcos.thisdcos.directory"), ["172.17.0.2"]);
    assert_eq!(a_records(&desired, "minitwit.marathon.autoip.dcos.thisdcos.directory"), ["10.0.0.11", "10.0.0.12"]);
    let zone = desired.shared.zones.iter().find(|z| z.apex == "mesos").unwrap();
    assert_eq!(
        (zone.ns[0].as_str(), zone.ns_ttl, zone.soa_ttl, zone.timers),
        ("ns1.mesos", 60, 60, [60, 600, 86400, 5])
    );
    let zone = desired.shared.zones.iter().find(|z| z.apex == "thisdcos.directory").unwrap();
    assert_eq!(
        (zone.ns[0].as_str(), zone.ns_ttl, zone.soa_ttl, zone.timers),
        ("ns.spartan", 3600, 5, [60, 180, 86400, 5])
    );
}

#[test]
fn what_is_desired_compiles_into_tables_that_serve_it() {
    use sluice_dataplane::tables::{Tables, ids::Ids};
    let labels = json!({ "VIP_0": "172.16.0.1:80", "VIP_1": "minitwit:80" });
    let (desired, _) = Case::of(json!([bridge("/minitwit", labels, 2)])).run();
    let mut ids = Ids::new(100, 1000, 1);
    let tables = Tables::compile(&Arc::new(desired), &mut ids, sluice_dataplane::time::Nanos(0), None).unwrap();
    assert!(tables.v4.address(Ipv4Addr::new(11, 45, 193, 125).to_bits()).is_some());
    assert!(tables.v4.address(Ipv4Addr::new(172, 16, 0, 1).to_bits()).is_some());
    assert!(tables.zones.rejected().is_empty(), "{:?}", tables.zones.rejected());
}

#[test]
fn an_app_in_a_group_of_marathon_user_has_both_forms_of_its_name() {
    let mut case = Case::of(json!([bridge("/group/app", json!({}), 1)]));
    case.config.marathons = vec![marathon("marathon-user")];
    let (desired, _) = case.run();
    for name in ["app-group.marathon-user.mesos", "app.group.marathon-user.mesos"] {
        assert_eq!(a_records(&desired, name), ["10.0.0.11"], "{name}");
    }
    let canonical = format!("app-group-{}-s0.marathon-user.mesos", crate::names::hash5("group/app.0"));
    assert_eq!(a_records(&desired, &canonical), ["10.0.0.11"]);
    Arc::make_mut(case.view.marathons.get_mut(&0).unwrap()).framework = Some("said.by.info".into());
    assert_eq!(a_records(&case.run().0, "app.group.said.by.info.mesos"), ["10.0.0.11"], "its own word goes first");
}

#[test]
fn an_overlay_task_is_reached_on_its_own_address_and_a_mapped_one_on_its_agents() {
    let case = Case::of(json!([{ "id": "/db", "networks": [{ "mode": "container", "name": "dcos" }],
        "container": { "portMappings": [
            { "containerPort": 5432, "hostPort": null, "labels": { "VIP_0": "db:5432" } },
            { "containerPort": 5433, "hostPort": 0, "labels": { "VIP_0": "db:5433" } },
            { "containerPort": 9999, "protocol": "udp,tcp", "labels": { "VIP_0": "/dual:9999" } }] },
        "tasks": [{ "id": "db.1", "slaveId": "f-S4", "host": "10.0.0.14", "state": "TASK_RUNNING", "ports": [31005],
            "ipAddresses": [{ "ipAddress": "9.0.3.2" }] }] }]));
    let (desired, report) = case.run();
    assert_eq!(report.rejected, []);
    let ip = report.named["db.marathon"];
    let direct = service(&desired, &format!("{ip}:5432/tcp"));
    assert_eq!(backends(direct), ["9.0.3.2:5432*1"]);
    assert_eq!(direct.backends[0].network.as_deref(), Some("dcos"));
    assert_eq!(backends(service(&desired, &format!("{ip}:5433/tcp"))), ["10.0.0.14:31005*1"], "the only host port");
    let dual = report.named["dual.marathon"];
    let keys: Vec<_> = desired.shared.services.iter().filter(|s| s.key.ip == dual).map(|s| s.key.protocol).collect();
    assert_eq!(keys, [Protocol::Tcp, Protocol::Udp]);
}

#[test]
fn host_networking_takes_definitions_in_order_and_old_forms_are_read_alike() {
    let case = Case::of(json!([
        { "id": "/web", "networks": [{ "mode": "host" }],
          "portDefinitions": [{ "port": 10000 }, { "port": 10001, "labels": { "VIP_0": "web:80" } }],
          "tasks": [{ "id": "web.1", "host": "10.0.0.11", "state": "TASK_RUNNING", "ports": [31000, 31001] }] },
        { "id": "/old", "container": { "docker": { "network": "BRIDGE", "portMappings": [
            { "containerPort": 80, "labels": { "VIP_0": "old:80" } }] } },
          "tasks": [{ "id": "old.1", "host": "10.0.0.12", "state": "TASK_RUNNING", "ports": [31002] }] },
        { "id": "/club", "ipAddress": { "networkName": "dcos", "groups": ["secret-club"], "discovery": { "ports": [
            { "number": 80, "name": "http", "protocol": "tcp", "labels": { "VIP_0": "club:80" } }] } },
          "labels": { "SLUICE_GROUPS": " b , a,secret-club" },
          "tasks": [{ "id": "club.1", "host": "10.0.0.13", "state": "TASK_RUNNING", "ports": [],
            "ipAddresses": [{ "ipAddress": "9.0.1.2" }] }] }]));
    let (desired, report) = case.run();
    assert_eq!(report.rejected, []);
    let of = |name: &str| service(&desired, &format!("{}:80/tcp", report.named[name]));
    assert_eq!(backends(of("web.marathon")), ["10.0.0.11:31001*1"]);
    assert_eq!(backends(of("old.marathon")), ["10.0.0.12:31002*1"]);
    assert_eq!(backends(of("club.marathon")), ["9.0.1.2:80*1"]);
    assert_eq!(of("club.marathon").backends[0].groups, ["a", "b", "secret-club"]);
    let [container] = desired.shared.containers.as_slice() else { panic!("{:?}", desired.shared.containers) };
    assert_eq!((container.network.as_str(), container.groups.len()), ("dcos", 3));
}

#[test]
fn a_container_that_mesos_does_not_reach_keeps_its_groups_unless_another_runs_at_its_address() {
    let app = |id: &str, group: &str, state: &str| {
        let mut app = contained(id, "9.0.1.2", &format!("{id}:80"));
        app["networks"][0]["name"] = "dcos".into();
        app["networks"][0]["labels"] = json!({ "SLUICE_GROUPS": group });
        app["tasks"][0]["state"] = state.into();
        app
    };
    let groups = |apps: Value| {
        let (desired, _) = Case::of(apps).run();
        desired.shared.containers.iter().map(|c| c.groups.join(",")).collect::<Vec<_>>()
    };
    for state in ["TASK_RUNNING", "TASK_KILLING", "TASK_UNREACHABLE", "TASK_STARTING"] {
        assert_eq!(groups(json!([app("/red", "red", state)])), ["red"], "{state}");
    }
    assert_eq!(groups(json!([app("/red", "red", "TASK_LOST")])), [""; 0]);
    for ids in [["/a", "/b"], ["/b", "/a"]] {
        let both = [app(ids[0], "red", "TASK_UNREACHABLE"), app(ids[1], "blue", "TASK_RUNNING")];
        assert_eq!(groups(json!(both)), ["blue"]);
    }
    assert_eq!(groups(json!([app("/a", "a", "TASK_RUNNING"), app("/b", "b", "TASK_RUNNING")])), ["a,b"]);
}

#[test]
fn the_firsts_minuteman_app_labels_are_honoured() {
    let mut app = bridge("/web", json!({}), 1);
    app["labels"] = json!({ "vip_PORT0": "udp://172.16.0.5:53", "vip_PORT1": "tcp://172.16.0.5:80", "VIP_0": "x:1" });
    let (desired, report) = Case::of(json!([app])).run();
    assert_eq!(backends(service(&desired, "172.16.0.5:53/udp")), ["10.0.0.11:31000*1"]);
    let labels: Vec<&str> = report.rejected.iter().map(|r| r.label.as_str()).collect();
    assert_eq!(labels, ["VIP_0", "vip_PORT1"], "an app has no ports; the task has one host port only");
}

#[test]
fn killing_unhealthy_and_weighted_tasks_have_their_weights() {
    let mut app = bridge("/web", json!({ "VIP_0": "172.16.0.1:80", "SLUICE_WEIGHT": "7" }), 4);
    app["healthChecks"] = json!([{}]);
    for (n, alive) in [(0, true), (1, false), (2, true)] {
        app["tasks"][n]["healthCheckResults"] = json!([{ "alive": alive }]);
    }
    app["tasks"][2]["state"] = "TASK_KILLING".into();
    let (desired, report) = Case::of(json!([app.clone()])).run();
    let expected = ["10.0.0.11:31000*7", "10.0.0.12:31001*0", "10.0.0.13:31002*0", "10.0.0.14:31003*0"];
    assert_eq!(backends(service(&desired, "172.16.0.1:80/tcp")), expected);
    assert_eq!(report.fail_open, []);
    assert_eq!(a_records(&desired, "web.marathon.mesos"), ["10.0.0.11"], "names prefer healthy tasks");
    app["tasks"][0]["healthCheckResults"] = json!([{ "alive": false }]);
    app["tasks"][3]["state"] = "TASK_UNREACHABLE".into();
    let (desired, report) = Case::of(json!([app])).run();
    let expected = ["10.0.0.11:31000*7", "10.0.0.12:31001*7", "10.0.0.13:31002*0"];
    assert_eq!(backends(service(&desired, "172.16.0.1:80/tcp")), expected, "all unhealthy: all serve but the killed");
    assert_eq!(report.fail_open.len(), 1);
}

#[test]
fn equal_claims_are_united_and_both_label_forms_are_one_name() {
    let case = Case::of(json!([
        bridge("/a", json!({ "VIP_0": "/foo:80" }), 1),
        { "id": "/b", "networks": [{ "mode": "host" }], "portDefinitions": [{ "labels": { "VIP_0": "foo:80" } }],
          "tasks": [{ "id": "b.1", "host": "10.0.0.20", "state": "TASK_RUNNING", "ports": [31000] }] }]));
    let (desired, report) = case.run();
    let ip = report.named["foo.marathon"];
    assert_eq!(backends(service(&desired, &format!("{ip}:80/tcp"))), ["10.0.0.11:31000*1", "10.0.0.20:31000*1"]);
    assert_eq!(desired.shared.services.len(), 1);
}

#[test]
fn an_owned_vip_stays_with_the_first_app_in_byte_order() {
    let mut case = Case::of(json!([
        bridge("/b", json!({ "VIP_0": "172.16.0.1:80" }), 1),
        bridge("/a", json!({ "VIP_0": "172.16.0.1:80" }), 2)
    ]));
    case.config.vip.sharing = Sharing::Owner;
    let (desired, report) = case.run();
    assert_eq!(service(&desired, "172.16.0.1:80/tcp").backends.len(), 2);
    let [refused] = report.rejected.as_slice() else { panic!("{:?}", report.rejected) };
    assert_eq!(refused.task, "b.0");
    assert!(refused.reason.contains("the app /a"), "{}", refused.reason);
}

#[test]
fn a_static_service_and_a_label_unite() {
    let mut case = Case::of(json!([bridge("/a", json!({ "VIP_0": "172.16.0.1:80" }), 1)]));
    let (desired, _) = case.run();
    let mut fixed = service(&desired, "172.16.0.1:80/tcp").clone();
    fixed.framework = None;
    fixed.backends[0].address = "10.0.0.99:8080".parse().unwrap();
    fixed.backends[0].weight = 3;
    case.config.services = vec![fixed];
    let (desired, report) = case.run();
    assert_eq!(report.rejected, []);
    assert_eq!(backends(service(&desired, "172.16.0.1:80/tcp")), ["10.0.0.11:31000*1", "10.0.0.99:8080*3"]);
}

#[test]
fn every_label_that_is_not_honoured_is_listed_and_spoils_nothing() {
    let bad = json!({
        "VIP_0": "172.16.0.1:80", "VIP_1": "foo", "VIP_2": "foo:65536", "VIP_3": ":80", "VIP_4": "ff02::1:80",
        "VIP_5": "0.0.0.0:80", "VIP_6": "224.0.0.1:80", "VIP_7": "127.0.0.1:80", "VIP_8": "192.0.2.10:80",
        "VIP_9": "192.0.2.53:53", "VIP_A": "192.0.2.11:80", "VIP_B": "9.0.1.7:80", "VIP_C": "169.254.0.1:80",
        "VIP_D": "10.0.0.11:80", "VIP_E": 7, "VIP_F": "44.128.0.9:80", "VIP_G": "a\u{0}\u{202e}", "VIP_H": "255.255.255.255:1",
        "Vip_0": "foo:80", "xVIP_0": "foo:80"
    });
    let (desired, report) =
        Case::of(json!([bridge("/web", bad, 1), bridge("/good", json!({ "VIP_0": "good:80" }), 1)])).run();
    assert_eq!(desired.shared.services.len(), 2);
    let labels: Vec<&str> = report.rejected.iter().map(|r| r.label.as_str()).collect();
    let expected =
        "VIP_E Vip_0 VIP_1 VIP_2 VIP_3 VIP_4 VIP_5 VIP_6 VIP_7 VIP_8 VIP_9 VIP_A VIP_B VIP_C VIP_D VIP_F VIP_G VIP_H";
    assert_eq!(labels.join(" "), expected, "{:#?}", report.rejected);
    assert!(report.rejected.iter().all(|r| !r.reason.is_empty() && !r.value.contains('\0')));
}

#[test]
fn bad_apps_tasks_and_ports_are_listed_and_the_good_ones_beside_them_serve() {
    let mut app =
        bridge("/web", json!({ "VIP_0": "172.16.0.1:80", "SLUICE_WEIGHT": "much", "SLUICE_MODE": "tunnel" }), 2);
    app["tasks"].as_array_mut().unwrap().extend([json!({ "id": 7 }), json!(null), json!("task")]);
    app["tasks"]
        .as_array_mut()
        .unwrap()
        .push(json!({ "id": "web.9", "host": "no-such-host", "state": "TASK_RUNNING", "ports": [1] }));
    app["tasks"]
        .as_array_mut()
        .unwrap()
        .push(json!({ "id": "web.8", "host": "10.0.0.30", "state": "TASK_RUNNING", "ports": [] }));
    let (desired, report) = Case::of(json!([{ "id": 7 }, null, "app", { "id": "/x", "tasks": 9 }, app])).run();
    assert_eq!(backends(service(&desired, "172.16.0.1:80/tcp")), ["10.0.0.11:31000*1", "10.0.0.12:31001*1"]);
    let count = |text: &str| report.rejected.iter().filter(|r| r.reason.contains(text)).count();
    assert_eq!(count("the app cannot be read"), 4);
    assert_eq!(count("the task cannot be read"), 3);
    assert_eq!(count("no name that resolves"), 1);
    assert_eq!(count("no number for this port yet"), 1);
    assert!(count("a mode is one of nat, nat-preserve") >= 2 && count("0 to 1000") >= 2, "{:#?}", report.rejected);
}

#[test]
fn a_vip_key_in_mixed_case_is_listed_with_the_key_to_write() {
    let mut app = bridge("/web", json!({ "Vip_0": "172.16.0.1:80", "xVIP_0": "a:1", "vip": "172.16.0.2:80" }), 1);
    app["labels"] = json!({ "vIP_x": "a:80", "Vip_Port0": "tcp://172.16.0.3:80" });
    let (desired, report) = Case::of(json!([app])).run();
    let keys: Vec<String> = desired.shared.services.iter().map(|s| s.key.to_string()).collect();
    assert_eq!(keys, ["172.16.0.2:80/tcp", "172.16.0.3:80/tcp"]);
    let listed: Vec<(&str, &str)> = report.rejected.iter().map(|r| (r.label.as_str(), r.reason.as_str())).collect();
    let reason = "a VIP label begins with VIP or vip, in one case: write ";
    let expected = [("Vip_0", format!("{reason}VIP_0")), ("vIP_x", format!("{reason}VIP_x"))];
    assert_eq!(listed, expected.each_ref().map(|(key, reason)| (*key, reason.as_str())));
}

/// `body` as Marathon would send it, with no mending on the way.
fn heard(body: &[u8]) -> (Desired, Report) {
    let mut case = Case::of(json!([]));
    let listing = listing(Answers { apps: body, ..Answers::default() }).unwrap();
    case.view.apply(Event::Marathon { source: 0, listing });
    case.run()
}

#[test]
fn half_a_surrogate_pair_and_octets_that_are_no_text_spoil_their_own_label_alone() {
    let app = bridge("/web", json!({ "VIP_0": "172.16.0.1:80", "VIP_1": "HERE:80" }), 1);
    let body = json!({ "apps": [app, bridge("/good", json!({ "VIP_0": "172.16.0.2:80" }), 1)] }).to_string();
    for bad in [&b"\\ud800"[..], b"\\udfff\\ud83d", b"\xff\xfe"] {
        let (before, after) = body.split_once("HERE").unwrap();
        let (desired, report) = heard(&[before.as_bytes(), bad, after.as_bytes()].concat());
        let keys: Vec<String> = desired.shared.services.iter().map(|s| s.key.to_string()).collect();
        assert_eq!(keys, ["172.16.0.1:80/tcp", "172.16.0.2:80/tcp"], "{}", bad.escape_ascii());
        let listed: Vec<(&str, &str)> = report.rejected.iter().map(|r| (r.task.as_str(), r.label.as_str())).collect();
        assert_eq!(listed, [("web.0", "VIP_1")], "{}", bad.escape_ascii());
    }
}

#[test]
fn an_app_of_which_only_the_id_can_be_read_is_listed_by_it() {
    let deep = "[".repeat(300) + &"]".repeat(300);
    let (_, report) = heard(format!("{{\"apps\":[{{\"id\":\"/deep\",\"container\":{deep}}}]}}").as_bytes());
    assert_eq!(report.rejected[0].task, "/deep", "{:?}", report.rejected);
}

#[test]
fn a_host_name_serves_once_it_is_found() {
    let mut app = bridge("/web", json!({ "VIP_0": "172.16.0.1:80" }), 1);
    app["tasks"][0]["host"] = "agent-1.example".into();
    let mut case = Case::of(json!([app]));
    assert_eq!(backends(service(&case.run().0, "172.16.0.1:80/tcp")), [""; 0]);
    assert_eq!(case.view.marathons[&0].host_names().len(), 1);
    case.view.apply(Event::Hosts(BTreeMap::from([("agent-1.example".into(), Ipv4Addr::new(10, 0, 0, 77))])));
    assert_eq!(backends(service(&case.run().0, "172.16.0.1:80/tcp")), ["10.0.0.77:31000*1"]);
}

#[test]
fn a_backend_that_is_a_vip_or_this_node_is_no_backend() {
    let mut looped = bridge("/loop", json!({ "VIP_0": "172.16.0.2:80" }), 0);
    looped["tasks"] = json!([{ "id": "loop.1", "host": "192.0.2.10", "state": "TASK_RUNNING", "ports": [31000] }]);
    let mut inner = bridge("/inner", json!({ "VIP_0": "172.16.0.3:80" }), 0);
    inner["networks"] = json!([{ "mode": "host" }]);
    inner["portDefinitions"] = json!([{ "labels": { "VIP_0": "172.16.0.3:80" } }]);
    inner["container"] = json!(null);
    inner["tasks"] = json!([{ "id": "inner.1", "host": "h", "state": "TASK_RUNNING", "ports": [1],
        "ipAddresses": [{ "ipAddress": "172.16.0.1" }] }]);
    let good = bridge("/web", json!({ "VIP_0": "172.16.0.9:80" }), 1);
    let mut case = Case::of(json!([looped, inner, good]));
    case.config.services = vec![fixed("172.16.0.1:80", "10.0.0.99:8080")];
    let (desired, report) = case.run();
    let served = desired.shared.services.iter().filter(|s| !s.backends.is_empty());
    let keys: Vec<String> = served.map(|s| s.key.to_string()).collect();
    assert_eq!(keys, ["172.16.0.1:80/tcp", "172.16.0.9:80/tcp"]);
    let refused: Vec<&str> = report.rejected.iter().filter(|r| r.label == "backend").map(|r| r.task.as_str()).collect();
    assert_eq!(refused, ["inner.1", "loop.1"]);
}

/// What a label that asks for `ip` is told, empty where it has its VIP.
fn told(case: &mut Case, ip: &str) -> String {
    case.list(0, json!([bridge("/web", json!({ "VIP_0": format!("{ip}:1") }), 1)]));
    let (desired, report) = case.run();
    let served = desired.shared.services.iter().any(|s| s.key.ip.to_string() == ip);
    assert_eq!(served, report.rejected.is_empty(), "{ip}: {:?}", report.rejected);
    report.rejected.first().map(|r| r.reason.clone()).unwrap_or_default()
}

#[test]
fn no_label_takes_an_address_that_this_node_needs_to_reach() {
    let mut case = Case::of(json!([]));
    case.config.marathons[0].urls = vec!["http://marathon.example:8080".into(), "https://10.9.0.2:8443/x".into()];
    case.config.neighbours = vec![sluice_config::model::Neighbour {
        ip: "198.51.100.7".parse().unwrap(),
        mac: sluice_config::model::Mac([2, 0, 0, 0, 0, 7]),
        port: 0,
    }];
    let route = |via: &str| sluice_config::model::Route {
        prefix: "0.0.0.0/0".parse().unwrap(),
        via: Some(via.parse().unwrap()),
        port: 0,
    };
    case.config.routes = vec![route("198.51.100.1")];
    case.config.ports[0].addresses.push("10.7.0.9/31".parse().unwrap());
    for (ip, what) in [
        ("10.9.0.2", "a Marathon's address"),
        ("198.51.100.7", "a neighbour's address"),
        ("198.51.100.1", "a gateway's address"),
        ("192.0.2.0", "first or last"),
        ("192.0.2.255", "first or last"),
        ("192.0.2.99", "in 192.0.2.0/24, where one of this node's ports is"),
        ("10.7.0.8", "in 10.7.0.8/31"),
        ("10.9.0.3", ""),
        ("192.0.3.0", ""),
    ] {
        let said = told(&mut case, ip);
        assert!(said.contains(what) && said.is_empty() == what.is_empty(), "{ip}: {said}");
    }
}

#[test]
fn what_the_kernel_and_marathon_say_is_reserved_as_well() {
    let case = Case::of(json!([
        bridge("/kernel", json!({ "VIP_0": "172.31.0.1:1" }), 1),
        bridge("/neighbour", json!({ "VIP_0": "172.31.0.2:1" }), 1),
        bridge("/leader", json!({ "VIP_0": "172.31.0.3:1" }), 1),
        bridge("/link", json!({ "VIP_0": "172.30.0.9:1" }), 1),
        bridge("/good", json!({ "VIP_0": "172.31.0.4:1" }), 1)
    ]));
    let mut local = local_from_config(&case.config);
    let mac = sluice_config::model::Mac([2, 0, 0, 0, 0, 7]);
    let neighbour = |ip: &str, port| sluice_config::model::Neighbour { ip: ip.parse().unwrap(), mac, port };
    local.host_port = Some(1);
    local.neighbours = vec![neighbour("172.31.0.1", 1), neighbour("172.31.0.2", 0)];
    local.ports[0].addresses.push("172.30.0.1/24".parse().unwrap());
    let mut view = case.view.clone();
    Arc::make_mut(view.marathons.get_mut(&0).unwrap()).framework_host = Some("172.31.0.3".into());
    let mut config = case.config.clone();
    config.services = vec![fixed("172.30.0.10:80", "10.0.0.99:80"), fixed("172.30.0.255:80", "10.0.0.99:80")];
    let (desired, report) = desire(&config, &view, &case.claims, &local, [7; 16]);
    let keys: Vec<String> = desired.shared.services.iter().map(|s| s.key.to_string()).collect();
    assert_eq!(keys, ["172.30.0.10:80/tcp", "172.31.0.4:1/tcp"], "a [[service]] may be on link");
    let refused: Vec<&str> = report.rejected.iter().map(|r| r.task.as_str()).collect();
    assert_eq!(refused, ["", "kernel.0", "leader.0", "link.0", "neighbour.0"]);
}

#[test]
fn a_label_takes_no_backend_away() {
    let mut case = Case::of(json!([
        contained("/db", "10.8.0.2", "172.16.0.7:5432"),
        bridge("/thief", json!({ "VIP_0": "10.0.0.77:1", "VIP_1": "10.8.0.2:1", "VIP_2": "172.16.0.8:1" }), 1)
    ]));
    case.config.services = vec![fixed("172.16.0.1:80", "10.0.0.77:8080")];
    let (desired, report) = case.run();
    assert_eq!(backends(service(&desired, "172.16.0.1:80/tcp")), ["10.0.0.77:8080*1"]);
    assert_eq!(backends(service(&desired, "172.16.0.7:5432/tcp")), ["10.8.0.2:80*1"]);
    assert_eq!(desired.shared.services.len(), 3, "and 172.16.0.8");
    let listed: Vec<(&str, &str)> = report.rejected.iter().map(|r| (r.label.as_str(), r.reason.as_str())).collect();
    let expected = [
        ("VIP_0", "10.0.0.77 is a backend's address, of a [[service]] of the configuration: no VIP may have it"),
        ("VIP_1", "10.8.0.2 is a backend's address, of the app /db: no VIP may have it"),
    ];
    assert_eq!(listed, expected);
}

#[test]
fn two_marathons_live_side_by_side() {
    let mut case = Case::of(json!([bridge("/web", json!({ "VIP_0": "web:80", "VIP_1": "172.16.0.1:80" }), 1)]));
    case.config.marathons.push(marathon("other"));
    let mut second = bridge("/web", json!({ "VIP_0": "web:80", "VIP_1": "172.16.0.1:80" }), 1);
    second["tasks"][0]["host"] = "10.0.0.50".into();
    second["tasks"][0]["id"] = "web.other".into();
    case.list(1, json!([second]));
    let (desired, report) = case.run();
    assert_eq!(report.named.keys().collect::<Vec<_>>(), ["web.marathon", "web.other"]);
    assert_eq!(service(&desired, "172.16.0.1:80/tcp").backends.len(), 2, "an address is shared by all frameworks");
    assert_eq!(a_records(&desired, "web.other.mesos"), ["10.0.0.50"]);
}

#[test]
fn a_claim_keeps_its_address_while_its_app_is_away() {
    let mut case = Case::of(json!([bridge("/web", json!({ "VIP_0": "minitwit:80" }), 1)]));
    let odd = Ipv4Addr::new(11, 9, 9, 9);
    case.claims = claimed(&[("minitwit.marathon", odd.octets())], 5);
    let (_, report) = case.run();
    assert_eq!(report.named["minitwit.marathon"], odd);
    case.list(0, json!([]));
    let (desired, report) = case.run();
    assert!(desired.shared.services.is_empty() && report.named.is_empty());
    case.claims.settle(report.in_use(), 10);
    assert_eq!(case.claims.named["minitwit.marathon"].holds, odd);
}

#[test]
fn an_address_in_the_named_range_may_be_claimed_unless_a_name_has_it() {
    let labels =
        json!({ "VIP_0": "11.1.2.3:80", "VIP_1": "11.45.193.125:81", "VIP_2": "11.9.9.9:80", "VIP_3": "minitwit:80" });
    let mut case = Case::of(json!([bridge("/a", labels, 1)]));
    case.claims = claimed(&[("idle.marathon", [11, 9, 9, 9])], 1);
    case.claims.settle(Report::default().in_use(), 2);
    let (desired, report) = case.run();
    let keys: Vec<String> = desired.shared.services.iter().map(|s| s.key.to_string()).collect();
    assert_eq!(keys, ["11.1.2.3:80/tcp", "11.45.193.125:80/tcp"]);
    let reasons: Vec<&str> = report.rejected.iter().map(|r| r.reason.as_str()).collect();
    assert!(
        reasons[0].ends_with("named VIP minitwit.marathon") && reasons[1].ends_with("named VIP idle.marathon"),
        "{reasons:?}"
    );
}

#[test]
fn ten_thousand_tasks_take_an_unoptimised_build_less_than_ten_seconds() {
    let apps: Vec<Value> = (0..1000)
        .map(|n| bridge(&format!("/g{}/app-{n}", n % 7), json!({ "VIP_0": format!("s{n}:80") }), 10))
        .collect();
    let case = Case::of(json!(apps));
    // The thread's own time: others on the machine are nothing to it.
    let spent = || rustix::time::clock_gettime(rustix::time::ClockId::ThreadCPUTime).tv_sec;
    let before = spent();
    let (desired, _) = case.run();
    assert_eq!(desired.shared.services.len(), 1000);
    assert!(spent() - before < 10, "this is the bound of an unoptimised build");
}

#[test]
fn limits_hold_and_what_is_beyond_is_listed() {
    let mut case = Case::of(json!([bridge("/a", json!({ "VIP_0": "172.16.0.1:80", "VIP_1": "172.16.0.2:80" }), 1)]));
    case.config.limits.services = 1;
    let (desired, report) = case.run();
    assert_eq!(desired.shared.services.len(), 1);
    assert!(report.rejected[0].reason.contains("limits.services = 1"));
}

#[test]
fn a_pods_endpoint_is_found_by_its_name() {
    let pod = json!({ "id": "/pod", "spec": { "networks": [{ "mode": "container", "name": "dcos", "labels": { "SLUICE_GROUPS": "club" } }],
        "containers": [{ "name": "c1", "endpoints": [
            { "name": "web", "containerPort": 8080, "hostPort": 0, "protocol": ["tcp"], "labels": { "VIP_0": "/pod:80" } },
            { "name": "raw", "containerPort": 9090, "protocol": ["udp", "tcp"], "labels": { "VIP_0": "/pod:90" } }] }] },
        "instances": [{ "id": "pod.instance-1", "agentHostname": "10.0.0.15", "agentId": "f-S5",
            "networks": [{ "name": "dcos", "addresses": ["9.0.5.2"] }],
            "containers": [{ "name": "c1", "status": "TASK_RUNNING", "endpoints": [
                { "name": "raw", "healthy": true }, { "name": "web", "allocatedHostPort": 31010 }] }] }] });
    let bodies = (json!({ "apps": [] }).to_string(), json!([null, { "id": 5 }, pod]).to_string());
    let answers = Answers { apps: bodies.0.as_bytes(), pods: Some(bodies.1.as_bytes()), ..Answers::default() };
    let mut case = Case::of(json!([]));
    case.view.apply(Event::Marathon { source: 0, listing: listing(answers).unwrap() });
    let (desired, report) = case.run();
    assert_eq!(report.rejected.len(), 2, "{:?}", report.rejected);
    let ip = report.named["pod.marathon"];
    assert_eq!(backends(service(&desired, &format!("{ip}:80/tcp"))), ["10.0.0.15:31010*1"]);
    assert_eq!(backends(service(&desired, &format!("{ip}:90/tcp"))), ["9.0.5.2:9090*1"]);
    assert_eq!(backends(service(&desired, &format!("{ip}:90/udp"))), ["9.0.5.2:9090*1"]);
    assert_eq!(desired.shared.containers[0].groups, ["club"]);
}

#[test]
fn an_answer_that_says_nothing_is_an_error_at_every_cut() {
    let whole = json!({ "apps": [bridge("/web", json!({ "VIP_0": "a:80" }), 1)] }).to_string();
    for cut in 0..whole.len() {
        assert!(listing(Answers { apps: &whole.as_bytes()[..cut], ..Answers::default() }).is_err(), "{cut}");
    }
    for apps in ["{}", "[]", "null", "{\"apps\":null}", "<html>", "{\"apps\":{}}"] {
        assert!(listing(Answers { apps: apps.as_bytes(), ..Answers::default() }).is_err(), "{apps}");
    }
}

#[test]
fn tasks_that_come_on_their_own_are_joined_by_app() {
    let mut app = bridge("/web", json!({ "VIP_0": "172.16.0.1:80" }), 1);
    let mut task = app["tasks"][0].take();
    task["appId"] = "/web".into();
    app.as_object_mut().unwrap().remove("tasks");
    let (apps, tasks) = (json!({ "apps": [app] }).to_string(), json!({ "tasks": [task, 7] }).to_string());
    let answers = Answers { apps: apps.as_bytes(), tasks: Some(tasks.as_bytes()), ..Answers::default() };
    assert_eq!(listing(answers).unwrap().tasks.len(), 1);
}

/// Mesos's tasks put in Marathon's words: the recorded VIPs of the original must come out, addresses included.
#[test]
fn the_recorded_vips_of_dcos_come_out_alike() {
    for file in ["vip-labels", "tcp-and-udp", "hello-overlay", "operator-api", "unhealthy", "pod-tasks"] {
        let Some(bytes) = golden_bytes(&format!("mesos-operator-api/expected/{file}.json")) else { return };
        let recorded: Value = serde_json::from_slice(&bytes).unwrap();
        let mut case = Case::of(json!([]));
        case.view.marathons.clear();
        let mut frameworks: Vec<&str> =
            recorded["tasks"].as_array().unwrap().iter().filter_map(|t| t["framework"].as_str()).collect();
        frameworks.sort_unstable();
        frameworks.dedup();
        case.config.marathons = frameworks.iter().map(|f| marathon(f)).collect();
        for (source, framework) in frameworks.iter().enumerate() {
            let of = recorded["tasks"].as_array().unwrap().iter().filter(|t| t["framework"] == *framework);
            case.list(source, of.map(in_marathons_words).collect());
        }
        let (desired, report) = case.run();
        let dns: BTreeMap<&str, &str> = recorded["named_ips_max_11_255_255_255"]
            .as_array()
            .unwrap()
            .iter()
            .filter(|n| n["family"] == "inet")
            .map(|n| (n["dns"].as_str().unwrap(), n["ip"].as_str().unwrap()))
            .collect();
        for (name, ip) in &dns {
            assert_eq!(a_records(&desired, name), [*ip], "{file} {name} {:#?}", report.rejected);
        }
        let mut seen = 0;
        for vip in recorded["vips_by_label"].as_array().unwrap() {
            let mut expected: Vec<String> = vip["backends"]
                .as_array()
                .unwrap()
                .iter()
                .filter(|b| b["ip"].as_str().unwrap().contains('.'))
                .map(|b| format!("{}:{}*{}", b["ip"].as_str().unwrap(), b["port"], b["weight"]))
                .collect();
            if expected.is_empty() {
                continue;
            }
            expected.sort();
            let key = &vip["vip"];
            let ip = key["ip"].as_str().map_or_else(
                || {
                    let name = crate::names::fragment(key["label"].as_str().unwrap(), crate::names::LabelRule::Rfc1123);
                    let fw =
                        crate::names::fragment(key["framework"].as_str().unwrap(), crate::names::LabelRule::Rfc1123);
                    report.named[&format!("{name}.{fw}")].to_string()
                },
                str::to_owned,
            );
            let service = service(&desired, &format!("{ip}:{}/{}", key["port"], key["protocol"].as_str().unwrap()));
            // All unhealthy means all used (issue 3): the original left such a VIP without a backend that takes flows.
            let all_down = expected.iter().all(|b| b.ends_with("*0"));
            assert_eq!(report.fail_open.contains(&service.key), all_down, "{file} {key}");
            if all_down {
                expected.iter_mut().for_each(|b| *b = b.replace("*0", "*1"));
            }
            let mut got = backends(service);
            got.sort();
            assert_eq!(got, expected, "{file} {key}");
            seen += 1;
        }
        println!("{file}: {seen} VIPs, {} names", dns.len());
    }
}

/// One recorded task as an app of its own: host ports on the agent, the others on the task's addresses.
fn in_marathons_words(task: &Value) -> Value {
    let ports: Vec<Value> = task["ports"].as_array().into_iter().flatten().cloned().collect();
    let mapped: Vec<&Value> = ports.iter().filter_map(|p| p.get("host_port")).collect();
    let mapping = |p: &Value| {
        let vips: serde_json::Map<String, Value> = p["vip"]
            .as_array()
            .into_iter()
            .flatten()
            .enumerate()
            .map(|(i, v)| (format!("VIP_{i}"), v.clone()))
            .collect();
        json!({ "containerPort": p["port"], "hostPort": p.get("host_port"), "protocol": p["protocol"], "labels": vips })
    };
    let state = if task["state"] == "running" { "TASK_RUNNING" } else { "TASK_FINISHED" };
    let ips: Vec<Value> =
        task["task_ip"].as_array().into_iter().flatten().map(|ip| json!({ "ipAddress": ip })).collect();
    let health: Vec<Value> = task["healthy"].as_bool().map(|alive| json!({ "alive": alive })).into_iter().collect();
    json!({ "id": format!("/{}", task["name"].as_str().unwrap_or("x")), "networks": [{ "mode": "container" }],
        "container": { "portMappings": ports.iter().map(mapping).collect::<Vec<_>>() },
        "tasks": [{ "id": task["task_id"], "slaveId": "f-S1", "host": task["agent_ip"], "state": state, "ports": mapped,
            "ipAddresses": ips, "healthCheckResults": health }] })
}

/// A configuration in which few addresses stand in many places.
fn crowded(at: &[u8]) -> String {
    let ips = ["10.0.0.1", "10.0.0.2", "10.0.0.255", "10.0.0.0", "10.0.1.5", "9.0.9.2", "44.128.0.9", "169.254.0.1"];
    let ip = |n: usize| ips[usize::from(at[n]) % ips.len()];
    let service = |vip: usize, port: u16| {
        format!(
            "[[service]]\nvip = \"{}:{port}\"\nbackends = [{{ address = \"{}:1\" }}, {{ address = \"{}:2\" }}]\n",
            ip(vip),
            ip(vip + 1),
            ip(vip + 2)
        )
    };
    let mut text = "[[port]]\nname = \"lan\"\naddresses = [\"10.0.0.1/24\"]\n".to_owned();
    let mac = "02:00:00:00:00:07";
    for part in [
        service(0, 80),
        service(3, 81),
        format!("[dns]\naddresses = [\"{}\"]\n", ip(6)),
        format!("[[neighbour]]\nip = \"{}\"\nmac = \"{mac}\"\n", ip(7)),
        format!("[[route]]\nprefix = \"0.0.0.0/0\"\nvia = \"{}\"\n", ip(8)),
        format!("[[marathon]]\nurls = [\"http://{}:8080\"]\n", ip(9)),
        "[overlay]\nvtep = \"44.128.0.9/20\"\n".to_owned(),
    ]
    .iter()
    .zip(at.iter().skip(11))
    .filter_map(|(part, coin)| (coin % 2 == 0).then_some(part))
    {
        text.push_str(part);
    }
    text + &format!("[snat]\nunderlay = [\"{}\"]\n", ip(10))
}

#[test]
fn what_of_the_configuration_is_refused_is_told_apart_from_labels() {
    let mut case = Case::of(json!([bridge("/web", json!({ "VIP_0": "192.0.2.10:80" }), 1)]));
    case.config.services = vec![fixed("192.0.2.10:80", "10.0.0.99:80"), fixed("172.16.0.1:80", "192.0.2.53:80")];
    let (_, report) = case.run();
    let found: Vec<&str> = report.of_configuration().map(|r| r.value.as_str()).collect();
    assert_eq!(found, ["192.0.2.10:80/tcp", "192.0.2.53:80 of 172.16.0.1:80/tcp"]);
    assert_eq!(report.rejected.len(), 3);
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(4096))]

    #[test]
    fn what_check_calls_right_is_not_refused_afterwards(at in proptest::collection::vec(any::<u8>(), 18)) {
        let text = crowded(&at);
        if let Ok(config) = sluice_config::parse(&text, "t.toml") {
            let (_, report) =
                desire(&config, &ClusterView::default(), &Claims::default(), &local_from_config(&config), [7; 16]);
            prop_assert_eq!(report.rejected, vec![], "{}", text);
        }
    }
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(64))]

    #[test]
    fn any_order_of_apps_and_tasks_gives_an_equal_result(seed in proptest::collection::vec(any::<u32>(), 24), tasks in 1usize..4) {
        let mut apps: Vec<Value> = (0..6).map(|n| {
            let vips = json!({ "VIP_0": format!("svc-{}:80", n % 3), "VIP_1": "172.16.0.1:80", "VIP_2": format!("bad-{n}"),
                "SLUICE_WEIGHT": n.to_string(), "SLUICE_GROUPS": "x" });
            bridge(&format!("/g/app-{n}"), vips, tasks)
        }).collect();
        let mut case = Case::of(json!(apps.clone()));
        // So few addresses that names collide.
        case.config.vip.named = Ipv4Addr::new(11, 0, 0, 0)..=Ipv4Addr::new(11, 0, 0, 3);
        let (expected, report) = case.run();
        let mut order = seed.iter();
        shuffle(&mut apps, &mut order);
        for app in &mut apps {
            shuffle(app["tasks"].as_array_mut().unwrap(), &mut order);
        }
        case.view = ClusterView::default();
        case.list(0, json!(apps));
        let (got, again) = case.run();
        prop_assert_eq!(format!("{expected:?}"), format!("{got:?}"));
        prop_assert_eq!(report, again);
    }

    #[test]
    fn no_text_in_any_place_does_harm(text in "\\PC{0,40}|[\\x00-\\x7f]{0,40}", key in "(VIP|vip|SLUICE_)[\\x00-\\x7f]{0,8}") {
        let mut labels = serde_json::Map::new();
        labels.insert(key, json!(text.clone()));
        labels.insert("VIP_good".into(), json!("172.16.0.1:80"));
        labels.insert("VIP_text".into(), json!(format!("{text}:80")));
        let mut hostile = bridge("/h", json!(labels), 2);
        hostile["id"] = json!(text.clone());
        hostile["tasks"][0]["host"] = json!(text.clone());
        hostile["tasks"][0]["id"] = json!(text.clone());
        hostile["tasks"][0]["slaveId"] = json!(text);
        let (desired, _) = Case::of(json!([hostile, bridge("/web", json!({ "VIP_0": "good:80" }), 1)])).run();
        prop_assert!(!backends(service(&desired, "172.16.0.1:80/tcp")).is_empty());
        for record in desired.shared.zones.iter().flat_map(|z| z.records.iter()) {
            prop_assert!(crate::names::is_servable(&record.name), "{:?}", record.name);
            prop_assert_eq!(record.name.to_ascii_lowercase(), record.name.clone());
        }
    }
}

fn shuffle<'a>(list: &mut [Value], order: &mut impl Iterator<Item = &'a u32>) {
    for i in (1..list.len()).rev() {
        list.swap(i, order.next().map_or(0, |r| *r as usize % (i + 1)));
    }
}

#[test]
fn sluice_health_says_how_a_vip_is_probed_and_what_cannot_be_asked_is_listed() {
    let labels = |probe: &str| json!({ "VIP_0": "/web:80", "SLUICE_HEALTH": probe });
    let mut first = bridge("/a", labels("http:/up"), 1);
    first["tasks"][0]["host"] = json!("10.0.0.21");
    let case = Case::of(json!([first, bridge("/b", labels("tcp"), 1)]));
    let (desired, report) = case.run();
    let web = desired.shared.services.iter().find(|s| s.key.port == 80).unwrap();
    let check = web.health.as_ref().unwrap();
    assert_eq!((check.probe.to_string().as_str(), check.pace), ("http:/up", Default::default()));
    let reasons: Vec<&str> = report.rejected.iter().map(|r| r.reason.as_str()).collect();
    assert_eq!(reasons, ["its VIP is probed by http:/up already: one VIP is probed in one way"]);
    let (desired, report) = Case::of(json!([bridge("/a", labels("udp"), 1)])).run();
    assert_eq!(desired.shared.services[0].health.as_ref().unwrap().probe.kind(), "off");
    assert_eq!(report.rejected[0].reason, "udp cannot be asked of a tcp port; [health] is used");
    let (_, report) = Case::of(json!([bridge("/a", labels("http:up"), 1)])).run();
    assert!(report.rejected[0].reason.contains("after `http:` comes a path"), "{report:?}");
}

#[test]
fn a_drained_agent_gets_no_new_flows_and_leaves_the_tables_when_its_time_is_up() {
    use crate::health::drains::{Drained, What};
    let mut case = Case::of(json!([bridge("/web", json!({ "VIP_0": "172.16.0.1:80" }), 2)]));
    let drained = |over| vec![Drained { what: What::Agent { ip: [10, 0, 0, 11].into() }, over }];
    case.view.health.drained = drained(false);
    let (desired, report) = case.run();
    assert_eq!(backends(service(&desired, "172.16.0.1:80/tcp")), ["10.0.0.11:31000*0", "10.0.0.12:31001*1"]);
    assert!(report.removed.is_empty() && report.fail_open.is_empty());
    case.view.health.drained = drained(true);
    let (desired, report) = case.run();
    assert_eq!(backends(service(&desired, "172.16.0.1:80/tcp")), ["10.0.0.12:31001*1"]);
    assert_eq!(report.removed.len(), 1);
    case.view.health.drained.extend([Drained { what: What::Agent { ip: [10, 0, 0, 12].into() }, over: true }]);
    let (desired, _) = case.run();
    assert_eq!(backends(service(&desired, "172.16.0.1:80/tcp")), [""; 0], "a VIP whose backends are drained stays");
}

#[test]
fn what_probes_and_the_packet_path_say_of_a_backend_moves_its_new_flows() {
    use crate::health::standing::{Failure, Standing};
    use crate::health::target::{Carried, Target};
    let labels = json!({ "VIP_0": "172.16.0.1:80", "SLUICE_HEALTH": "tcp" });
    let mut case = Case::of(json!([bridge("/web", labels, 3)]));
    let (desired, _) = case.run();
    let web = service(&desired, "172.16.0.1:80/tcp");
    let target = Target::of(web, &web.backends[0], Carried::default()).unwrap();
    case.view.health.probes = Arc::new([(target, Standing::Unfit(Failure::Refused))].into());
    let key = sluice_dataplane::tables::ids::BackendKey { address: web.backends[1].address, protocol: Protocol::Tcp };
    case.view.health.ejected.insert(key, sluice_dataplane::time::Nanos(7));
    let (desired, report) = case.run();
    let weights = backends(service(&desired, "172.16.0.1:80/tcp"));
    assert_eq!(weights, ["10.0.0.11:31000*0", "10.0.0.12:31001*0", "10.0.0.13:31002*1"]);
    assert!(report.fail_open.is_empty());
    assert_eq!(report.judged.values().map(|j| j.state.name()).collect::<Vec<_>>(), ["unfit", "unfit", "active"]);
}

#[test]
fn an_address_of_our_own_probes_is_no_vip() {
    let (desired, report) = Case::of(json!([bridge("/web", json!({ "VIP_0": "198.19.0.1:80" }), 1)])).run();
    assert!(desired.shared.services.is_empty());
    assert!(report.rejected[0].reason.contains("health.probe_range"), "{report:?}");
}
