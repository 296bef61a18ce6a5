//! How packets reach backends, and who may use a service: by the file and by labels.

use sluice_config::model::{AllowGroups, Empty, Mode};

use super::*;

/// A host-network app on its own agent that listens on `port`.
fn host(id: &str, agent: &str, port: u16, labels: Value) -> Value {
    json!({ "id": id, "networks": [{ "mode": "host" }], "portDefinitions": [{ "labels": labels }],
        "tasks": [{ "id": format!("{}.1", id.trim_start_matches('/')), "host": agent, "state": "TASK_RUNNING",
            "ports": [port] }] })
}

#[test]
fn direct_return_takes_backends_on_the_vips_port_and_lists_the_others() {
    let labels = json!({ "VIP_0": "172.16.0.1:80", "SLUICE_MODE": "dsr-ipip" });
    let case = Case::of(json!([host("/a", "10.0.0.11", 80, labels.clone()), host("/b", "10.0.0.12", 31000, labels)]));
    let (desired, report) = case.run();
    let service = service(&desired, "172.16.0.1:80/tcp");
    assert_eq!((service.mode, backends(service)), (Mode::DsrIpip, vec!["10.0.0.11:80*1".to_owned()]));
    let [refused] = report.rejected.as_slice() else { panic!("{:?}", report.rejected) };
    assert_eq!((refused.task.as_str(), refused.value.as_str()), ("b.1", "10.0.0.12:31000 of 172.16.0.1:80/tcp"));
    assert!(refused.reason.starts_with("dsr-ipip leaves the port as it is, so the backend's must be 80 too"));
}

#[test]
fn direct_return_by_mac_is_for_backends_on_link_and_by_vxlan_for_the_overlay() {
    let mac = |agent| host("/a", agent, 80, json!({ "VIP_0": "172.16.0.1:80", "SLUICE_MODE": "dsr-mac" }));
    let (desired, report) = Case::of(json!([mac("192.0.2.77")])).run();
    assert_eq!((desired.shared.services[0].mode, report.rejected.len()), (Mode::DsrMac, 0));
    let (_, report) = Case::of(json!([mac("10.0.0.11")])).run();
    assert!(report.rejected[0].reason.starts_with("dsr-mac reaches backends on link only"), "{:?}", report.rejected);
    let overlay = |mode| {
        let mut app = contained("/db", "9.0.1.2", "172.16.0.1:80");
        app["labels"] = json!({ "SLUICE_MODE": mode });
        Case::of(json!([app])).run()
    };
    let (desired, report) = overlay("dsr-vxlan");
    assert_eq!((desired.shared.services[0].mode, report.rejected.len()), (Mode::DsrVxlan, 0));
    let (_, report) = overlay("dsr-gue");
    assert!(report.rejected[0].reason.contains("on the underlay only"), "{:?}", report.rejected);
}

#[test]
fn the_ports_own_word_goes_before_the_apps_and_the_first_apps_before_the_others() {
    let mut first = host("/a", "10.0.0.11", 80, json!({ "VIP_0": "172.16.0.1:80", "SLUICE_MODE": "dsr-gue" }));
    first["labels"] = json!({ "SLUICE_MODE": "dsr-ipip" });
    let second = host("/b", "10.0.0.12", 80, json!({ "VIP_0": "172.16.0.1:80" }));
    let (desired, report) = Case::of(json!([second, first])).run();
    let service = service(&desired, "172.16.0.1:80/tcp");
    assert_eq!((service.mode, service.backends.len()), (Mode::DsrGue, 2));
    let [listed] = report.rejected.as_slice() else { panic!("{:?}", report.rejected) };
    assert_eq!(listed.task, "b.1");
    assert!(listed.reason.contains("172.16.0.1:80/tcp is dsr-gue by the word of the app /a"), "{}", listed.reason);
}

#[test]
fn a_static_service_keeps_its_own_word_and_exists_without_backends() {
    let mut case = Case::of(json!([host("/a", "10.0.0.11", 80, json!({ "VIP_0": "172.16.0.1:80" }))]));
    let mut kept = fixed("172.16.0.1:80", "10.0.0.99:80");
    kept.mode = Mode::DsrIpip;
    kept.admission.sessions = Some(7);
    kept.maglev_size = Some(65_537);
    let mut empty = fixed("172.16.0.2:80", "10.0.0.99:80");
    empty.backends.clear();
    empty.empty = Empty::Drop;
    case.config.services = vec![kept, empty];
    let (desired, report) = case.run();
    assert_eq!(report.rejected, []);
    let kept = service(&desired, "172.16.0.1:80/tcp");
    assert_eq!((kept.mode, kept.admission.sessions, kept.maglev_size), (Mode::DsrIpip, Some(7), Some(65_537)));
    assert_eq!(backends(kept), ["10.0.0.11:80*1", "10.0.0.99:80*1"]);
    let empty = service(&desired, "172.16.0.2:80/tcp");
    assert_eq!((empty.empty, empty.backends.len()), (Empty::Drop, 0));
}

#[test]
fn groups_that_may_use_a_service_are_those_that_all_its_apps_let_in() {
    let groups = |text: &str| json!({ "VIP_0": "172.16.0.1:80", "SLUICE_ALLOW_GROUPS": text });
    let allowed = |apps: Value| {
        let (desired, report) = Case::of(apps).run();
        assert_eq!(report.rejected, []);
        service(&desired, "172.16.0.1:80/tcp").admission.groups.clone()
    };
    let these = |names: &[&str]| AllowGroups::These(names.iter().map(|n| (*n).to_owned()).collect());
    assert_eq!(allowed(json!([host("/a", "10.0.0.11", 80, groups(" b , a,,b"))])), these(&["a", "b"]));
    assert_eq!(allowed(json!([host("/a", "10.0.0.11", 80, groups("*"))])), AllowGroups::All);
    let two = json!([host("/a", "10.0.0.11", 80, groups("*")), host("/b", "10.0.0.12", 80, groups("x"))]);
    assert_eq!(allowed(two), these(&["x"]));
    let silent = json!([
        host("/a", "10.0.0.11", 80, groups("*")),
        host("/b", "10.0.0.12", 80, json!({ "VIP_0": "172.16.0.1:80" }))
    ]);
    assert_eq!(allowed(silent), AllowGroups::Own);
}
