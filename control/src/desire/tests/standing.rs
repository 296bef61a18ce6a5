//! What a VIP stands against: its backends going, limits, and the words of tasks that are odd.

use super::*;

fn keys(desired: &Desired) -> Vec<String> {
    desired.shared.services.iter().map(|s| s.key.to_string()).collect()
}

#[test]
fn a_vip_is_there_as_long_as_its_app_is_and_a_name_as_long_as_it_has_a_backend() {
    let labels = json!({ "VIP_0": "172.16.0.1:80", "VIP_1": "minitwit:80" });
    let staging = |mut app: Value| {
        app["tasks"][0]["state"] = "TASK_STAGING".into();
        app
    };
    for (app, what) in [
        (bridge("/minitwit", labels.clone(), 0), "instances 0"),
        (staging(bridge("/minitwit", labels.clone(), 1)), "a task that does not run yet"),
    ] {
        let case = Case::of(json!([app]));
        let (desired, report) = case.run();
        assert_eq!(keys(&desired), ["11.45.193.125:80/tcp", "172.16.0.1:80/tcp"], "{what}");
        assert!(desired.shared.services.iter().all(|s| s.backends.is_empty()), "{what}");
        assert_eq!(desired.shared.services[0].name.as_deref(), Some("minitwit.marathon"), "{what}");
        assert_eq!(a_records(&desired, "minitwit.marathon.l4lb.thisdcos.directory"), [""; 0], "{what}");
        assert_eq!((report.rejected, report.named.len()), (vec![], 1), "{what}");
    }
    let mut case = Case::of(json!([bridge("/minitwit", labels, 1)]));
    assert_eq!(a_records(&case.run().0, "minitwit.marathon.l4lb.thisdcos.directory"), ["11.45.193.125"]);
    case.list(0, json!([]));
    assert_eq!(keys(&case.run().0), [""; 0]);
}

#[test]
fn a_service_without_a_backend_compiles_into_tables_that_have_its_address() {
    use sluice_dataplane::tables::{Tables, ids::Ids};
    let mut case = Case::of(json!([bridge("/minitwit", json!({ "VIP_0": "minitwit:80" }), 0)]));
    case.config.services = vec![Service { backends: Vec::new(), ..fixed("172.16.0.1:80", "10.0.0.99:8080") }];
    let desired = Arc::new(case.run().0);
    let tables =
        Tables::compile(&desired, &mut Ids::new(100, 1000, 1), sluice_dataplane::time::Nanos(0), None).unwrap();
    for ip in [[11, 45, 193, 125], [172, 16, 0, 1]] {
        assert!(tables.v4.address(u32::from_be_bytes(ip)).is_some(), "{ip:?}");
    }
}

#[test]
fn a_pod_without_instances_and_a_first_minuteman_app_without_tasks_have_their_vips() {
    let pod = json!({ "id": "/pod", "instances": [], "spec": { "networks": [{ "mode": "container", "name": "dcos" }],
        "containers": [{ "name": "c1", "endpoints": [
            { "name": "web", "containerPort": 8080, "protocol": ["tcp"], "labels": { "VIP_0": "172.16.0.6:80" } }] }] } });
    let mut app = bridge("/old", json!({}), 0);
    app["labels"] = json!({ "vip_PORT0": "udp://172.16.0.5:53", "vip_PORT1": "172.16.0.5:53" });
    let bodies = (json!({ "apps": [app] }).to_string(), json!([pod]).to_string());
    let answers = Answers { apps: bodies.0.as_bytes(), pods: Some(bodies.1.as_bytes()), ..Answers::default() };
    let mut case = Case::of(json!([]));
    case.view.apply(Event::Marathon { source: 0, listing: listing(answers).unwrap() });
    let (desired, report) = case.run();
    assert_eq!(keys(&desired), ["172.16.0.6:80/tcp", "172.16.0.5:53/udp"]);
    let listed: Vec<(&str, &str)> = report.rejected.iter().map(|r| (r.task.as_str(), r.label.as_str())).collect();
    assert_eq!(listed, [("/old", "vip_PORT1")]);
}

#[test]
fn a_mistake_in_a_label_shows_before_the_first_task() {
    let (_, report) = Case::of(json!([bridge("/web", json!({ "VIP_0": "web", "VIP_1": "0.0.0.0:80" }), 0)])).run();
    let listed: Vec<(&str, &str)> = report.rejected.iter().map(|r| (r.task.as_str(), r.label.as_str())).collect();
    assert_eq!(listed, [("/web", "VIP_0"), ("/web", "VIP_1")]);
}

#[test]
fn labels_push_no_service_of_the_configuration_out_of_the_limits() {
    let labels = json!({ "VIP_0": "172.16.0.1:80", "VIP_1": "172.16.0.2:80", "VIP_2": "172.31.0.1:80" });
    let mut case = Case::of(json!([bridge("/a", labels, 3)]));
    case.config.services = vec![fixed("172.31.0.1:80", "10.0.0.99:1"), fixed("172.31.0.2:80", "10.0.0.99:2")];
    for (services, most, expected) in [
        (2, 100, "172.31.0.1:80/tcp*4 172.31.0.2:80/tcp*1"),
        (3, 100, "172.16.0.1:80/tcp*3 172.31.0.1:80/tcp*4 172.31.0.2:80/tcp*1"),
        (4, 7, "172.16.0.1:80/tcp*3 172.31.0.1:80/tcp*1 172.31.0.2:80/tcp*1"),
        (4, 2, "172.31.0.1:80/tcp*1 172.31.0.2:80/tcp*1"),
        (4, 11, "172.16.0.1:80/tcp*3 172.16.0.2:80/tcp*3 172.31.0.1:80/tcp*4 172.31.0.2:80/tcp*1"),
    ] {
        (case.config.limits.services, case.config.limits.backends) = (services, most);
        let (desired, report) = case.run();
        let got: Vec<String> =
            desired.shared.services.iter().map(|s| format!("{}*{}", s.key, s.backends.len())).collect();
        assert_eq!(got.join(" "), expected, "{services} {most}");
        assert_eq!(report.rejected.is_empty(), most == 11, "{services} {most}: {:?}", report.rejected);
    }
}

/// A host-mode app whose one task says that it runs on `host`.
fn hosted(id: &str, host: &str, vip: &str) -> Value {
    json!({ "id": id, "networks": [{ "mode": "host" }], "portDefinitions": [{ "labels": { "VIP_0": vip } }],
        "tasks": [{ "id": format!("{}.1", id.trim_start_matches('/')), "host": host, "state": "TASK_RUNNING", "ports": [31000] }] })
}

#[test]
fn a_task_that_says_it_runs_on_another_apps_vip_loses_its_backend_and_the_vip_stays() {
    let good = || bridge("/web", json!({ "VIP_0": "172.16.0.1:80", "VIP_1": "minitwit:80" }), 1);
    for (odd, vip) in [("172.16.0.1", "172.16.0.1:80/tcp"), ("11.45.193.125", "11.45.193.125:80/tcp")] {
        let mut case = Case::of(json!([good()]));
        let (_, report) = case.run();
        case.claims.settle(report.in_use(), 1);
        case.list(0, json!([good(), hosted("/odd", odd, "172.16.0.9:80")]));
        let (desired, report) = case.run();
        assert_eq!(backends(service(&desired, vip)), ["10.0.0.11:31000*1"]);
        assert_eq!(backends(service(&desired, "172.16.0.9:80/tcp")), [""; 0]);
        let [refused] = report.rejected.as_slice() else { panic!("{:?}", report.rejected) };
        assert_eq!((refused.task.as_str(), refused.label.as_str()), ("odd.1", "backend"));
        assert!(refused.reason.contains("itself a VIP"), "{}", refused.reason);
    }
}

#[test]
fn a_service_of_the_configuration_stays_whatever_tasks_say() {
    let mut case = Case::of(json!([hosted("/a", "172.16.0.1", "a:80"), hosted("/b", "172.16.0.1", "b:80")]));
    case.config.services = vec![fixed("172.16.0.1:80", "10.0.0.99:8080")];
    let (desired, report) = case.run();
    assert_eq!(backends(service(&desired, "172.16.0.1:80/tcp")), ["10.0.0.99:8080*1"]);
    let tasks: Vec<&str> = report.rejected.iter().map(|r| r.task.as_str()).collect();
    assert_eq!(tasks, ["a.1", "b.1"]);
}

#[test]
fn a_label_takes_no_agent_that_is_known_by_the_overlay_or_by_two_apps() {
    let thief = || bridge("/thief", json!({ "VIP_0": "10.6.0.1:1" }), 1);
    let one = hosted("/a", "10.6.0.1", "172.16.0.1:80");
    let mut by_two = Case::of(json!([thief(), one.clone(), hosted("/b", "10.6.0.1", "172.16.0.2:80")]));
    by_two.config.overlay = None;
    let mut by_overlay = Case::of(json!([thief(), one]));
    by_overlay.config.overlay.as_mut().unwrap().agents = vec![OverlayAgent {
        ip: Ipv4Addr::new(10, 6, 0, 1),
        vtep_ip: Ipv4Addr::new(44, 128, 0, 4),
        vtep_mac: sluice_config::model::Mac([0x70, 0xb3, 0xd5, 0x80, 0, 4]),
        subnets: BTreeMap::new(),
        subnets6: BTreeMap::new(),
    }];
    for case in [by_two, by_overlay] {
        let (desired, report) = case.run();
        assert_eq!(backends(service(&desired, "172.16.0.1:80/tcp")), ["10.6.0.1:31000*1"]);
        let [refused] = report.rejected.as_slice() else { panic!("{:?}", report.rejected) };
        assert_eq!(refused.task, "thief.0");
        assert!(refused.reason.contains("an agent's address"), "{}", refused.reason);
    }
}
