//! What judges the backends of services of every mode, family and holder.

use sluice_config::model::{HealthCheck, Mode, Probe};

use super::*;
use crate::health::drains::{Drained, What};

fn probes(desired: &Desired) -> Vec<String> {
    let probe = |s: &Service| s.health.as_ref().map(|check| check.probe.to_string());
    desired.shared.services.iter().map(|s| format!("{} {}", s.key.ip, probe(s).unwrap_or_default())).collect()
}

#[test]
fn a_static_service_keeps_its_own_probe_beside_its_mode_and_an_apps_other_word_is_listed() {
    let labels = json!({ "VIP_0": "172.16.0.1:80", "SLUICE_HEALTH": "http:/up" });
    let mut case = Case::of(json!([bridge("/a", labels.clone(), 1)]));
    case.config.health.check.probe = Probe::Tcp;
    let mut own = fixed("172.16.0.1:80", "10.0.0.99:80");
    own.mode = Mode::NatPreserve;
    own.admission.sessions = Some(7);
    own.health = Some(HealthCheck { probe: Probe::http("/mine"), ..HealthCheck::default() });
    let silent = fixed("172.16.0.2:80", "10.0.0.99:80");
    case.config.services = vec![own, silent];
    let (desired, report) = case.run();
    assert_eq!(probes(&desired), ["172.16.0.1 http:/mine", "172.16.0.2 tcp"]);
    let own = service(&desired, "172.16.0.1:80/tcp");
    assert_eq!((own.mode, own.admission.sessions, own.backends.len()), (Mode::NatPreserve, Some(7), 2));
    let [listed] = report.rejected.as_slice() else { panic!("{:?}", report.rejected) };
    assert_eq!((listed.label.as_str(), listed.value.as_str()), ("SLUICE_HEALTH", "http:/up"));
}

#[test]
fn an_apps_probe_holds_for_both_addresses_of_its_name_and_drains_know_both_families() {
    let mut app = contained("/web", "10.8.0.2", "minitwit:80");
    app["tasks"][0]["ipAddresses"].as_array_mut().unwrap().push(json!({ "ipAddress": "2001:db8:8::2" }));
    app["labels"] = json!({ "SLUICE_HEALTH": "http:/up", "SLUICE_MODE": "dsr-ipip" });
    let mut case = Case::of(json!([app]));
    let (desired, report) = case.run();
    assert_eq!(report.rejected, []);
    assert_eq!(probes(&desired), ["11.45.193.125 http:/up", "fd01:c::3b5e:5826:8404:8066 http:/up"]);
    assert!(desired.shared.services.iter().all(|s| s.mode == Mode::DsrIpip));
    let left = |case: &Case| case.run().0.shared.services.iter().flat_map(|s| backends(s)).collect::<Vec<_>>();
    let address = "[2001:db8:8::2]:80".parse().unwrap();
    let what = What::Backend { address, task: Some("web.1".into()) };
    case.view.health.drained = vec![Drained { what, over: false }];
    assert_eq!(left(&case), ["10.8.0.2:80*1", "[2001:db8:8::2]:80*0"]);
    case.view.health.drained = vec![Drained { what: What::Agent { ip: [10, 0, 0, 14].into() }, over: true }];
    assert_eq!(left(&case), [""; 0]);
}
