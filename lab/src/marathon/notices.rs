//! The events that Marathon publishes, each with the fields and under the name that it has there.

use serde_json::{Map, Value, json};

use super::Marathon;
use super::definition::{Dialect, Object};
use super::render;
use super::spec::HealthCheck;
use super::state::{Condition, Deployment, Task};

fn publish(marathon: &Marathon, event_type: &str, fields: Value) {
    if let Value::Object(fields) = fields {
        marathon.events.publish(event_type, fields);
    }
}

/// `status_update_event`, and what goes with it since instances exist (1.4).
pub(crate) fn task_changed(marathon: &Marathon, instance: &str, message: &str) {
    let told = marathon.with(|state| {
        let task = state.tasks.get(instance)?;
        Some((status_update(marathon, task, message), instance_changed(marathon, task), task.condition))
    });
    let Some((status, instance_fields, condition)) = told else { return };
    publish(marathon, "status_update_event", status);
    if marathon.dialect == Dialect::V1_3 {
        return;
    }
    publish(marathon, "instance_changed_event", instance_fields.clone());
    if matches!(condition, Condition::Killed | Condition::Finished | Condition::Failed) {
        let fields = json!({
            "instanceId": instance, "runSpecId": instance_fields["runSpecId"], "condition": condition.instance(),
        });
        publish(marathon, "unknown_instance_terminated_event", fields);
    }
}

fn status_update(marathon: &Marathon, task: &Task, message: &str) -> Value {
    json!({
        "slaveId": marathon.agents.id(task.agent), "taskId": task.id, "taskStatus": task.condition.mesos(),
        "message": message, "appId": task.service, "host": marathon.agents.host(task.agent).to_string(),
        "ipAddresses": render::addresses(task), "ports": render::host_ports(task), "version": task.version,
    })
}

fn instance_changed(marathon: &Marathon, task: &Task) -> Value {
    json!({
        "instanceId": task.instance, "condition": task.condition.instance(), "runSpecId": task.service,
        "agentId": marathon.agents.id(task.agent), "host": marathon.agents.host(task.agent).to_string(),
        "runSpecVersion": task.version,
    })
}

pub(crate) fn health_changed(marathon: &Marathon, instance: &str) {
    let told = marathon.with(|state| {
        let task = state.tasks.get(instance)?;
        Some((task.id.clone(), task.service.clone(), task.version.clone(), task.healthy()))
    });
    let Some((task, service, version, healthy)) = told else { return };
    let alive = healthy.unwrap_or(false);
    if marathon.dialect == Dialect::V1_3 {
        let fields = json!({"appId": service, "taskId": task, "version": version, "alive": alive});
        publish(marathon, "health_status_changed_event", fields);
        return;
    }
    let fields = json!({
        "instanceId": instance, "runSpecId": service, "healthy": healthy, "runSpecVersion": version,
    });
    publish(marathon, "instance_health_changed_event", fields);
    let fields = json!({"appId": service, "instanceId": instance, "version": version, "alive": alive});
    publish(marathon, "health_status_changed_event", fields);
}

pub(crate) fn check_failed(marathon: &Marathon, instance: &str, check: &HealthCheck) {
    let told = marathon.with(|state| state.tasks.get(instance).map(|t| (t.service.clone(), shown_id(marathon, t))));
    let Some((service, task)) = told else { return };
    let fields = json!({"appId": service, "taskId": task, "healthCheck": check.source});
    publish(marathon, "failed_health_check_event", fields);
}

pub(crate) fn unhealthy_kill(marathon: &Marathon, instance: &str, reason: &str) {
    let fields = marathon.with(|state| {
        let task = state.tasks.get(instance)?;
        Some(json!({
            "appId": task.service, "taskId": task.id, "instanceId": task.instance, "version": task.version,
            "reason": reason, "host": marathon.agents.host(task.agent).to_string(),
            "slaveId": marathon.agents.id(task.agent),
        }))
    });
    let name = match marathon.dialect {
        Dialect::V1_3 => "unhealthy_task_kill_event",
        Dialect::V1_9 => "unhealthy_instance_kill_event",
    };
    fields.into_iter().for_each(|fields| publish(marathon, name, fields));
}

/// 1.4 and later put the instance's id where the task's was.
fn shown_id(marathon: &Marathon, task: &Task) -> String {
    match marathon.dialect {
        Dialect::V1_3 => task.id.clone(),
        Dialect::V1_9 => task.instance.clone(),
    }
}

pub(crate) fn api_post(marathon: &Marathon, client: &str, id: &str, definition: &Object) {
    let fields = json!({"clientIp": client, "uri": format!("/v2/apps/{id}"), "appDefinition": definition});
    publish(marathon, "api_post_event", fields);
}

pub(crate) fn pod_api(marathon: &Marathon, event_type: &str, client: &str, id: &str) {
    publish(marathon, event_type, json!({"clientIp": client, "uri": format!("/v2/pods/{id}")}));
}

pub(crate) fn group_changed(marathon: &Marathon, version: &str) {
    publish(marathon, "group_change_success", json!({"groupId": "/", "version": version}));
}

pub(crate) fn deployment_began(marathon: &Marathon, deployment: &Deployment) {
    let (plan, step) = (render::deployment_plan(deployment), render::step(&deployment.actions));
    publish(marathon, "deployment_info", json!({"plan": plan, "currentStep": step}));
}

pub(crate) fn deployment_done(marathon: &Marathon, deployment: &Deployment) {
    let (plan, step) = (render::deployment_plan(deployment), render::step(&deployment.actions));
    publish(marathon, "deployment_step_success", json!({"plan": plan, "currentStep": step}));
    publish(marathon, "deployment_success", json!({"id": deployment.id, "plan": plan}));
}

pub(crate) fn deployment_cancelled(marathon: &Marathon, deployment: &Deployment) {
    let plan = render::deployment_plan(deployment);
    let fields = json!({"id": deployment.id, "plan": plan, "reason": "canceled"});
    publish(marathon, "deployment_failed", fields);
}

pub(crate) fn app_terminated(marathon: &Marathon, id: &str) {
    publish(marathon, "app_terminated_event", json!({"appId": id}));
}

pub(crate) fn stream(marathon: &Marathon, event_type: &str, remote: &str) {
    marathon.events.publish(event_type, Map::from_iter([("remoteAddress".to_owned(), remote.into())]));
}
