//! Tasks of a version that a running deployment replaces.

use super::*;

const VERSIONS: [&str; 3] = ["2024-05-01T10:00:00.000Z", "2024-05-01T11:00:00.000Z", "2024-05-01T12:00:00.000Z"];

/// An app in a deployment of the second version, with a task of each of these versions and healths.
fn upgraded(tasks: &[(usize, Option<bool>)]) -> Value {
    let mut app = bridge("/web", json!({ "VIP_0": "172.16.0.1:80" }), tasks.len());
    app["version"] = VERSIONS[1].into();
    app["versionInfo"] = json!({ "lastScalingAt": VERSIONS[1], "lastConfigChangeAt": VERSIONS[1] });
    app["deployments"] = json!([{ "id": "97c136bf-5a28-4821-9d94-480d9fbb01c8" }]);
    app["healthChecks"] = json!([{ "protocol": "MESOS_HTTP" }]);
    for (task, (version, alive)) in app["tasks"].as_array_mut().unwrap().iter_mut().zip(tasks) {
        task["version"] = VERSIONS[*version].into();
        if let Some(alive) = alive {
            task["healthCheckResults"] = json!([{ "alive": alive }]);
        }
    }
    app
}

fn weights(app: Value) -> Vec<String> {
    let (desired, report) = Case::of(json!([app])).run();
    assert_eq!(report.rejected, []);
    backends(service(&desired, "172.16.0.1:80/tcp")).iter().map(|b| b[b.len() - 1..].to_owned()).collect()
}

#[test]
fn old_tasks_of_a_running_deployment_get_weight_0_once_a_new_one_is_healthy() {
    let (well, ill, silent) = (Some(true), Some(false), None);
    assert_eq!(weights(upgraded(&[(0, well), (0, well), (1, well)])), ["0", "0", "1"]);
    assert_eq!(weights(upgraded(&[(0, well), (1, well), (2, well)])), ["0", "1", "1"], "scaled meanwhile");
    assert_eq!(weights(upgraded(&[(0, well), (1, ill), (1, silent)])), ["1", "0", "0"]);
    assert_eq!(weights(upgraded(&[(0, well), (0, ill)])), ["1", "0"]);
    assert_eq!(weights(upgraded(&[(0, well), (0, well), (0, well), (0, well), (1, well)])), ["1"; 5]);
}

#[test]
fn outside_a_deployment_and_while_scaling_versions_say_nothing() {
    let tasks = [(0, Some(true)), (1, Some(true))];
    let mut app = upgraded(&tasks);
    app["deployments"] = json!([]);
    assert_eq!(weights(app), ["1", "1"]);
    let mut app = upgraded(&tasks);
    app["versionInfo"]["lastConfigChangeAt"] = VERSIONS[0].into();
    assert_eq!(weights(app), ["1", "1"]);
}

#[test]
fn a_new_task_takes_over_once_its_readiness_check_has_passed() {
    let ready = |ready: bool| {
        let mut app = upgraded(&[(0, Some(true)), (1, Some(true))]);
        app["readinessChecks"] = json!([{ "name": "warm" }]);
        app["readinessCheckResults"] = json!([{ "name": "warm", "taskId": "web.1", "ready": ready }]);
        weights(app)
    };
    assert_eq!(ready(false), ["1", "0"]);
    assert_eq!(ready(true), ["0", "1"]);
}

#[test]
fn an_old_task_drains_in_the_service_where_it_is_replaced_and_stays_in_the_one_where_it_is_not() {
    let mut app = upgraded(&[(0, Some(true)), (1, Some(true))]);
    let mapping = json!({ "containerPort": 81, "hostPort": 0, "labels": { "VIP_0": "172.16.0.2:81" } });
    app["container"]["portMappings"].as_array_mut().unwrap().push(mapping);
    app["tasks"][0]["ports"] = json!([31000, 31500]);
    let (desired, report) = Case::of(json!([app])).run();
    assert_eq!(backends(service(&desired, "172.16.0.1:80/tcp")), ["10.0.0.11:31000*0", "10.0.0.12:31001*1"]);
    assert_eq!(backends(service(&desired, "172.16.0.2:81/tcp")), ["10.0.0.11:31500*1"]);
    let place = (service(&desired, "172.16.0.1:80/tcp").key, "10.0.0.11:31000".parse().unwrap());
    let judged = &report.judged[&place];
    assert_eq!(judged.state.name(), "draining");
    assert!(judged.opinions[0].reason.contains("older deployment"), "{judged:?}");
}

#[test]
fn at_one_address_the_newer_task_counts() {
    let mut app = upgraded(&[(0, Some(true)), (1, Some(true))]);
    app["tasks"][1]["host"] = "10.0.0.11".into();
    app["tasks"][1]["ports"] = json!([31000]);
    let (desired, _) = Case::of(json!([app])).run();
    let [backend] = service(&desired, "172.16.0.1:80/tcp").backends.as_slice() else { panic!("{desired:?}") };
    assert_eq!((backend.task.as_deref(), backend.weight), (Some("web.1"), 1));
}
