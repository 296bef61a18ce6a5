//! The answer to `/state` (or `/master/state`) read into [`Facts`].
//!
//! An answer that is cut, empty or no JSON, or that lists no frameworks and agents, is an error and gives nothing: whoever
//! asked keeps what it had. Inside a whole answer each agent, framework and task is read on its own. Tasks and frameworks
//! that are over (`completed_tasks`, `completed_frameworks`, `unreachable_tasks`) are skipped unread.

use serde::Deserialize;
use serde_json::value::RawValue;
use serde_json::{Value, json};

use super::facts::{Endpoint, Facts};
use super::{member, read, task};
use crate::marathon::text::readable;
use crate::rejected::Rejected;
use crate::view::TaskState;

/// Most rejected things kept of one answer.
pub(super) const REJECTED_MAX: usize = 10_000;

/// An answer that says nothing.
#[derive(Debug, thiserror::Error)]
pub enum StateError {
    /// Cut, empty, or something else altogether.
    #[error("not the JSON that a Mesos master sends: {0}")]
    NotJson(#[from] serde_json::Error),
    /// JSON of something else.
    #[error("no list of frameworks and of agents in it: is this a Mesos master's /state?")]
    NotState,
}

#[derive(Deserialize)]
struct State<'a> {
    leader: Option<Value>,
    #[serde(borrow)]
    slaves: Option<Vec<&'a RawValue>>,
    #[serde(borrow)]
    recovered_slaves: Option<Vec<&'a RawValue>>,
    #[serde(borrow)]
    frameworks: Option<Vec<&'a RawValue>>,
}

/// A framework without what is over.
#[derive(Deserialize)]
struct Framework<'a> {
    id: Option<Value>,
    name: Option<Value>,
    pid: Option<Value>,
    hostname: Option<Value>,
    active: Option<Value>,
    role: Option<Value>,
    roles: Option<Value>,
    #[serde(borrow)]
    tasks: Option<&'a RawValue>,
}

/// Reads a master's whole state.
///
/// # Errors
/// When the answer says nothing at all.
pub fn read(body: &[u8]) -> Result<Facts, StateError> {
    let text = readable(body);
    let state: State<'_> = serde_json::from_str(&text)?;
    let (Some(slaves), Some(frameworks)) = (state.slaves, state.frameworks) else { return Err(StateError::NotState) };
    let mut facts =
        Facts { leader: state.leader.as_ref().and_then(Value::as_str).and_then(Endpoint::of_pid), ..Facts::default() };
    for raw in slaves {
        read_agent(raw, &mut facts);
    }
    for raw in state.recovered_slaves.into_iter().flatten() {
        let id = serde_json::from_str::<Value>(raw.get()).ok();
        facts.recovered.extend(id.as_ref().and_then(|v| read::id(v, ["id", "agent_id"]).ok()?.map(str::to_owned)));
    }
    for raw in frameworks {
        read_framework(raw, &mut facts);
    }
    settle(&mut facts.rejected);
    Ok(facts)
}

/// Sorts, and keeps the first of too many.
pub(super) fn settle(rejected: &mut Vec<Rejected>) {
    rejected.sort();
    rejected.dedup();
    rejected.truncate(REJECTED_MAX);
}

fn read_agent(raw: &RawValue, facts: &mut Facts) {
    let value: Value = serde_json::from_str(raw.get()).unwrap_or_default();
    match member::agent(&value) {
        Ok(agent) => {
            facts.agents.insert(agent.id.clone(), agent);
        }
        Err(reason) => {
            let id = read::id(&value, ["id", "agent_id"]).ok().flatten();
            id.map(|id| facts.unread.agents.insert(id.to_owned()));
            facts.rejected.push(Rejected::new(id.unwrap_or_default(), "agent", raw.get(), reason));
        }
    }
}

fn read_framework(raw: &RawValue, facts: &mut Facts) {
    let read = serde_json::from_str::<Framework<'_>>(raw.get()).map_err(|e| e.to_string());
    let read = read.and_then(|parts| {
        let value = json!({"id": parts.id, "name": parts.name, "pid": parts.pid, "hostname": parts.hostname,
            "active": parts.active, "role": parts.role, "roles": parts.roles});
        Ok((member::framework(&value)?, parts.tasks))
    });
    let (framework, tasks) = match read {
        Ok(read) => read,
        Err(reason) => {
            let value: Value = serde_json::from_str(raw.get()).unwrap_or_default();
            let id = read::id(&value, ["id", "framework_id"]).ok().flatten();
            match id {
                Some(id) => facts.unread.frameworks.insert(id.to_owned()),
                None => std::mem::replace(&mut facts.unread.nameless, true),
            };
            facts.rejected.push(Rejected::new(id.unwrap_or_default(), "framework", raw.get(), reason));
            return;
        }
    };
    match tasks.map_or(Ok(None), |tasks| serde_json::from_str::<Option<Vec<&RawValue>>>(tasks.get())) {
        Ok(tasks) => tasks.into_iter().flatten().for_each(|raw| read_task(raw, &framework.id, facts)),
        Err(_) => {
            facts.unread.frameworks.insert(framework.id.clone());
            let said = tasks.map(RawValue::get).unwrap_or_default();
            facts.rejected.push(Rejected::new(&framework.id, "tasks", said, "tasks must be a list"));
        }
    }
    facts.frameworks.push(framework);
}

fn read_task(raw: &RawValue, framework: &str, facts: &mut Facts) {
    let value: Value = serde_json::from_str(raw.get()).unwrap_or_default();
    match task::task(&value, Some(framework), &mut facts.rejected) {
        Ok(task) if task.state == TaskState::Terminal => {}
        Ok(task) => facts.tasks.push(std::sync::Arc::new(task)),
        Err(reason) => {
            let id = read::id(&value, ["id", "task_id"]).ok().flatten();
            match id {
                Some(id) => facts.unread.tasks.insert(id.to_owned()),
                None => facts.unread.frameworks.insert(framework.to_owned()),
            };
            facts.rejected.push(Rejected::new(id.unwrap_or_default(), "task", raw.get(), reason));
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::fixture::golden_bytes;

    #[test]
    fn the_recorded_state_is_read() {
        let Some(body) = golden_bytes("mesos-dns/state.json") else { return };
        let facts = read(&body).unwrap();
        assert_eq!(facts.leader.as_ref().unwrap().to_string(), "1.2.3.4:5050");
        assert_eq!((facts.agents.len(), facts.frameworks.len(), facts.rejected.len()), (4, 4, 0));
        let names: Vec<&str> = facts.tasks.iter().map(|t| t.name.as_str()).collect();
        assert_eq!(names.len(), 9, "running tasks only: {names:?}");
        let toy = facts.tasks.iter().find(|t| t.name == "toy-store").unwrap();
        let ips: Vec<String> = toy.running.as_ref().unwrap().ips().map(|ip| ip.to_string()).collect();
        assert_eq!(ips, ["12.0.1.3", "12.0.1.2", "fd01:b::1:8000:2"]);
        assert_eq!(toy.ports().collect::<Vec<_>>(), [31354, 31355]);
        // Three RUNNING statuses, not in the order of time.
        let liquor = facts.tasks.iter().find(|t| t.name == "liquor.store").unwrap();
        assert_eq!(liquor.running.as_ref().unwrap().docker_ip, Some("10.3.0.1".parse().unwrap()));
    }

    #[test]
    fn one_bad_object_spoils_nothing_beside_it() {
        let body = br#"{"leader": null, "slaves": [null, 7, {"id": "S1", "hostname": "10.0.0.1", "pid": null}, {"hostname": "x"}],
            "frameworks": [{"id": "F1", "name": "m", "pid": null, "tasks": [
                {"id": "a", "name": null, "slave_id": "S1", "state": "TASK_RUNNING", "statuses": null, "resources": null,
                 "discovery": {"name": null, "ports": {"ports": [{"number": 80}, {"number": 99999}, null]}}},
                {"id": "", "name": "x"}, {"id": "b", "name": "n", "discovery": {"name": 5, "ports": null}}, "x", null]},
              {"id": "F2", "tasks": "none"}, {"id": null}, {"id": "F3", "tasks": null}]}"#;
        let facts = read(body).unwrap();
        assert_eq!(facts.agents.keys().collect::<Vec<_>>(), ["S1"]);
        assert_eq!(facts.frameworks.iter().map(|f| f.id.as_str()).collect::<Vec<_>>(), ["F1", "F2", "F3"]);
        assert_eq!(facts.tasks.iter().map(|t| t.id.as_str()).collect::<Vec<_>>(), ["a", "b"]);
        assert_eq!(facts.tasks[0].discovery.as_ref().unwrap().ports.len(), 1);
        assert!(facts.unread.nameless);
        assert_eq!(facts.unread.frameworks.iter().collect::<Vec<_>>(), ["F1", "F2"]);
        assert_eq!(facts.rejected.len(), 10, "{:#?}", facts.rejected);
    }

    #[test]
    fn what_is_no_state_is_an_error() {
        for body in [&b""[..], b"{", b"[]", b"{}", br#"{"slaves": [], "frameworks": null}"#, br#"{"frameworks": {}}"#] {
            assert!(read(body).is_err(), "{}", body.escape_ascii());
        }
    }
}
