//! `/state`: the same as the operator API says, in the words that Mesos had before it.

use std::net::SocketAddr;

use serde_json::{Map, Value, json};

use super::book::Book;

pub(super) fn state(book: &Book, address: SocketAddr) -> Value {
    let known = book.state();
    let pid = format!("master@{address}");
    let list = |pointer: &str| known.pointer(pointer).and_then(Value::as_array).cloned().unwrap_or_default();
    let tasks = list("/get_tasks/tasks");
    let frameworks = list("/get_frameworks/frameworks");
    let agents = list("/get_agents/agents");
    json!({
        "version": "1.9.0", "id": book.id, "pid": pid, "leader": pid, "hostname": address.ip().to_string(),
        "slaves": agents.iter().map(|a| agent(&a["agent_info"], &a["pid"])).collect::<Vec<_>>(),
        "recovered_slaves": list("/get_agents/recovered_agents").iter().map(|a| agent(a, &Value::Null)).collect::<Vec<_>>(),
        "frameworks": frameworks.iter().map(|f| framework(&f["framework_info"], &tasks)).collect::<Vec<_>>(),
        "completed_frameworks": [], "orphan_tasks": [], "unregistered_frameworks": [],
    })
}

fn agent(info: &Value, pid: &Value) -> Value {
    let mut agent = Map::from_iter([
        ("id".to_owned(), info["id"]["value"].clone()),
        ("hostname".to_owned(), info["hostname"].clone()),
        ("port".to_owned(), info["port"].clone()),
        ("active".to_owned(), (!pid.is_null()).into()),
        ("attributes".to_owned(), json!({})),
    ]);
    if !pid.is_null() {
        agent.insert("pid".to_owned(), pid.clone());
    }
    agent.into()
}

fn framework(info: &Value, tasks: &[Value]) -> Value {
    let id = &info["id"]["value"];
    let own = tasks.iter().filter(|task| task["framework_id"]["value"] == *id);
    json!({
        "id": id, "name": info["name"], "hostname": info["hostname"], "role": info["role"], "active": true,
        "tasks": own.map(task).collect::<Vec<_>>(), "completed_tasks": [], "unreachable_tasks": [],
    })
}

fn task(of: &Value) -> Value {
    let ranges = of["resources"].as_array().into_iter().flatten().flat_map(|r| {
        r["ranges"]["range"].as_array().into_iter().flatten().map(|r| format!("{}-{}", r["begin"], r["end"]))
    });
    let ports = format!("[{}]", ranges.collect::<Vec<_>>().join(", "));
    json!({
        "id": of["task_id"]["value"], "name": of["name"], "framework_id": of["framework_id"]["value"],
        "slave_id": of["agent_id"]["value"], "state": of["state"], "statuses": of["statuses"],
        "discovery": of["discovery"], "container": of["container"], "labels": of["labels"]["labels"],
        "resources": {"cpus": 0.1, "mem": 32, "disk": 0, "ports": ports},
    })
}
