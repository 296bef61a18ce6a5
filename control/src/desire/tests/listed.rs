//! What `show labels` says of each label.

use super::*;
use crate::desire::labels::labels;

/// `task label value -> vips: reason` of each label.
fn listed(case: &Case) -> Vec<String> {
    let (desired, report) = case.run();
    let (all, cut) = labels(&report, &desired.shared.services);
    assert!(!cut);
    let line = |l: labels::Label| {
        let vips = l.vips.join(" ");
        format!("{} {} {} {} -> {vips}: {}", l.task, l.port, l.label, l.value, l.reason.unwrap_or_default())
    };
    all.into_iter().map(line).collect()
}

#[test]
fn every_label_is_listed_with_its_vip_or_with_the_reason_why_it_has_none() {
    let mut app = bridge("/web", json!({ "VIP_0": "172.16.0.1:80", "VIP_1": "minitwit:80", "VIP_2": "foo" }), 2);
    app["tasks"][1]["state"] = "TASK_STAGING".into();
    let mut direct = bridge("/direct", json!({ "VIP_0": "172.16.0.2:80", "SLUICE_MODE": "dsr-ipip" }), 1);
    direct["tasks"][0]["id"] = "direct\u{202e}.1".into();
    let expected = [
        "direct\\u{202e}.1 agent 31000/tcp VIP_0 172.16.0.2:80 -> : dsr-ipip leaves the port as it is, so the backend's must be 80 too: let the backend listen on 80, or write mode nat",
        "web.0 agent 31000/tcp VIP_0 172.16.0.1:80 -> 172.16.0.1:80/tcp: ",
        "web.0 agent 31000/tcp VIP_1 minitwit:80 -> 11.45.193.125:80/tcp: ",
        "web.0 agent 31000/tcp VIP_2 foo -> : no port: write NAME:PORT or ADDRESS:PORT",
        "web.1 agent 31001/tcp VIP_0 172.16.0.1:80 -> : the task is not running",
        "web.1 agent 31001/tcp VIP_1 minitwit:80 -> : the task is not running",
        "web.1 agent 31001/tcp VIP_2 foo -> : no port: write NAME:PORT or ADDRESS:PORT",
    ];
    assert_eq!(listed(&Case::of(json!([app, direct]))), expected);
}

#[test]
fn a_name_says_both_its_addresses_and_a_refused_one_its_owner() {
    let mut app = contained("/web", "10.8.0.2", "minitwit:80");
    app["tasks"][0]["ipAddresses"].as_array_mut().unwrap().push(json!({ "ipAddress": "2001:db8:8::2" }));
    let mut case = Case::of(json!([app.clone()]));
    case.config.snat.underlay6 = vec!["2001:db8::11".parse().unwrap()];
    let vips = "11.45.193.125:80/tcp [fd01:c::3b5e:5826:8404:8066]:80/tcp";
    assert_eq!(listed(&case), [format!("web.1 container 80/tcp VIP_0 minitwit:80 -> {vips}: ")]);
    case.config.vip.sharing = Sharing::Owner;
    case.list(0, json!([app, contained("/x", "10.8.0.3", "minitwit:80")]));
    let said = listed(&case);
    assert!(said[1].starts_with("x.1") && said[1].contains("is the app /web of marathon's"), "{said:?}");
}

#[test]
fn a_task_whose_drain_is_over_serves_nothing_and_its_label_says_so() {
    use crate::health::drains::{Drained, What};
    let mut case = Case::of(json!([bridge("/web", json!({ "VIP_0": "172.16.0.1:80" }), 2)]));
    let drained = |over| vec![Drained { what: What::Task { id: "web.1".into() }, over }];
    case.view.health.drained = drained(false);
    assert_eq!(listed(&case)[1], "web.1 agent 31001/tcp VIP_0 172.16.0.1:80 -> 172.16.0.1:80/tcp: ");
    case.view.health.drained = drained(true);
    let expected = "its drain is over: `sluice show drains` lists it, `sluice undrain` takes it back";
    assert_eq!(listed(&case)[1], format!("web.1 agent 31001/tcp VIP_0 172.16.0.1:80 -> : {expected}"));
}

#[test]
fn apps_that_share_a_vip_and_differ_in_their_groups_are_told_of_each_other() {
    let member = |id: &str, ip: &str, groups: &str| {
        let mut app = contained(id, ip, "172.16.0.1:80");
        app["labels"] = json!({ "SLUICE_GROUPS": groups });
        app
    };
    let mut case = Case::of(json!([member("/a", "9.0.1.2", "club"), member("/b", "9.0.1.3", "other,club")]));
    let (desired, report) = case.run();
    assert_eq!(backends(service(&desired, "172.16.0.1:80/tcp")).len(), 2);
    let [listed] = report.rejected.as_slice() else { panic!("{:?}", report.rejected) };
    assert_eq!((listed.label.as_str(), listed.value.as_str()), ("SLUICE_GROUPS", "172.16.0.1:80/tcp"));
    assert_eq!(
        listed.reason,
        "its backends differ in their groups: club (a.1), club,other (b.1); only sources that all of them allow are admitted"
    );
    assert_eq!(report.mixed_groups.len(), 1);
    case.list(0, json!([member("/a", "9.0.1.2", "club"), member("/b", "9.0.1.3", "")]));
    assert!(case.run().1.rejected[0].reason.contains("no group (b.1), club (a.1)"), "{:?}", case.run().1.rejected);
    case.list(0, json!([member("/a", "9.0.1.2", "club"), member("/b", "9.0.1.3", "club")]));
    assert_eq!(case.run().1.rejected, []);
}
