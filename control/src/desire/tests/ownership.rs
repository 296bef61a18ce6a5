//! Who has a VIP that is not shared.

use super::*;

const VIP: &str = "172.16.0.1:80";

fn owned(apps: Value) -> Case {
    let mut case = Case::of(apps);
    case.config.vip.sharing = Sharing::Owner;
    case
}

fn app(id: &str) -> Value {
    bridge(id, json!({ "VIP_0": VIP }), 1)
}

/// Runs, keeps the claims as `run` would, and says whose tasks serve.
fn who(case: &mut Case, now: u64) -> Vec<String> {
    let (desired, report) = case.run();
    case.claims.settle(report.in_use(), now);
    desired.shared.services.iter().flat_map(|s| &s.backends).filter_map(|b| b.task.clone()).collect()
}

#[test]
fn the_first_owner_keeps_a_vip_from_an_app_whose_name_comes_before() {
    let mut case = owned(json!([app("/b")]));
    assert_eq!(who(&mut case, 100), ["b.0"]);
    case.list(0, json!([app("/a"), app("/b")]));
    assert_eq!(who(&mut case, 200), ["b.0"], "first seen goes before first in byte order");
    let (_, report) = case.run();
    let [refused] = report.rejected.as_slice() else { panic!("{:?}", report.rejected) };
    assert_eq!(refused.task, "a.0");
    assert!(refused.reason.contains("172.16.0.1:80/tcp is the app /b of marathon's"), "{}", refused.reason);
}

#[test]
fn an_owner_that_went_has_its_vip_for_another_day() {
    let mut case = owned(json!([app("/b")]));
    who(&mut case, 100);
    case.list(0, json!([app("/a")]));
    assert_eq!(who(&mut case, 200), [""; 0]);
    assert_eq!(who(&mut case, 200 + claims::IDLE_SECONDS - 1), [""; 0]);
    who(&mut case, 200 + claims::IDLE_SECONDS);
    assert_eq!(who(&mut case, 201 + claims::IDLE_SECONDS), ["a.0"]);
}

#[test]
fn two_new_claimants_are_settled_by_byte_order_alike_on_every_node() {
    for apps in [json!([app("/a"), app("/b")]), json!([app("/b"), app("/a")])] {
        assert_eq!(who(&mut owned(apps), 100), ["a.0"]);
    }
}

#[test]
fn apps_of_one_id_in_two_frameworks_are_two() {
    let mut case = owned(json!([app("/a")]));
    case.config.marathons.push(marathon("other"));
    case.list(1, json!([app("/a")]));
    let (_, report) = case.run();
    assert_eq!(report.owners["172.16.0.1:80/tcp"].framework, "marathon");
    assert_eq!(report.rejected.len(), 1);
}

#[test]
fn a_static_service_goes_before_every_app() {
    let mut case = owned(json!([app("/a")]));
    case.config.services = vec![fixed(VIP, "10.0.0.99:80")];
    let (desired, report) = case.run();
    assert_eq!(backends(service(&desired, "172.16.0.1:80/tcp")), ["10.0.0.99:80*1"]);
    assert!(report.rejected[0].reason.contains("a [[service]] of the configuration"), "{:?}", report.rejected);
    assert!(report.owners.is_empty());
}
