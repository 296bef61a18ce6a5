//! The answer to `/state` (or `/master/state`) read into [`Facts`].
//!
//! An answer that is cut, empty or no JSON, or that lists no frameworks and agents, is an error and gives nothing: whoever
//! asked keeps what it had. Inside a whole answer each agent, framework and task is read on its own. Tasks and frameworks
//! that are over (`completed_tasks`, `completed_frameworks`, `unreachable_tasks`) are skipped unread.

use std::sync::Arc;

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
    /// A master that does not lead knows nothing.
    #[error("this master does not lead: {leader} does")]
    NotLeading {
        /// The one that does, or what is known of it.
        leader: String,
    },
}

#[derive(Deserialize)]
struct State<'a> {
    id: Option<Value>,
    leader: Option<Value>,
    pid: Option<Value>,
    #[serde(borrow)]
    slaves: Option<Vec<&'a RawValue>>,
    #[serde(borrow)]
    recovered_slaves: Option<Vec<&'a RawValue>>,
    #[serde(borrow)]
    frameworks: Option<Vec<&'a RawValue>>,
    /// Tasks whose framework the master has not heard from since it leads (before Mesos 1.2).
    #[serde(borrow)]
    orphan_tasks: Option<Vec<&'a RawValue>>,
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
    read_text(&readable(body)).map(|(facts, _)| facts)
}

/// As [`read`], of a master that is asked because it leads.
///
/// # Errors
/// As [`read`], and when it does not.
pub fn read_leading(body: &[u8]) -> Result<Facts, StateError> {
    let (facts, own) = read_text(&readable(body))?;
    match (&facts.leader, own) {
        (None, _) => Err(StateError::NotLeading { leader: "no master yet".to_owned() }),
        (Some(leader), Some(own)) if *leader != own => Err(StateError::NotLeading { leader: leader.to_string() }),
        (Some(_), _) => Ok(facts),
    }
}

/// The facts, and where the master that says them is.
fn read_text(text: &str) -> Result<(Facts, Option<Endpoint>), StateError> {
    let state: State<'_> = serde_json::from_str(text)?;
    let endpoint = |pid: &Option<Value>| pid.as_ref().and_then(Value::as_str).and_then(Endpoint::of_pid);
    let (Some(slaves), Some(frameworks)) = (state.slaves, state.frameworks) else { return Err(StateError::NotState) };
    let mut facts = Facts {
        leader: endpoint(&state.leader),
        master: state.id.as_ref().and_then(Value::as_str).map(str::to_owned),
        ..Facts::default()
    };
    for raw in slaves {
        read_agent(raw, &mut facts);
    }
    let recovered = state.recovered_slaves.into_iter().flatten();
    facts.recovered.extend(recovered.filter_map(|raw| read::id_alone(raw, ["id", "agent_id"])));
    for raw in frameworks {
        read_framework(raw, &mut facts);
    }
    for raw in state.orphan_tasks.into_iter().flatten() {
        read_task(raw, None, &mut facts);
    }
    settle(&mut facts.rejected);
    Ok((facts, endpoint(&state.pid)))
}

/// Sorts, and keeps the first of too many.
pub(super) fn settle(rejected: &mut Vec<Rejected>) {
    rejected.sort();
    rejected.dedup();
    rejected.truncate(REJECTED_MAX);
}

fn read_agent(raw: &RawValue, facts: &mut Facts) {
    match read::object(raw).and_then(|value| member::agent(&value)) {
        Ok(agent) => {
            facts.agents.insert(agent.id.clone(), agent);
        }
        Err(reason) => {
            let id = read::id_alone(raw, ["id", "agent_id"]);
            facts.unread.agents.extend(id.clone());
            facts.rejected.push(Rejected::new(&id.unwrap_or_default(), "agent", raw.get(), reason));
        }
    }
    facts.rejected.truncate(2 * REJECTED_MAX);
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
            let id = read::id_alone(raw, ["id", "framework_id"]);
            facts.unread.nameless |= id.is_none();
            facts.unread.frameworks.extend(id.clone());
            facts.rejected.push(Rejected::new(&id.unwrap_or_default(), "framework", raw.get(), reason));
            return;
        }
    };
    match tasks.map_or(Ok(None), |tasks| serde_json::from_str::<Option<Vec<&RawValue>>>(tasks.get())) {
        Ok(tasks) => tasks.into_iter().flatten().for_each(|raw| read_task(raw, Some(&framework.id), facts)),
        Err(_) => {
            facts.unread.frameworks.insert(framework.id.clone());
            let said = tasks.map(RawValue::get).unwrap_or_default();
            facts.rejected.push(Rejected::new(&framework.id, "tasks", said, "tasks must be a list"));
        }
    }
    facts.frameworks.push(framework);
}

fn read_task(raw: &RawValue, framework: Option<&str>, facts: &mut Facts) {
    match read::object(raw).and_then(|value| task::task(&value, framework, &mut facts.rejected)) {
        Ok(task) if task.state == TaskState::Terminal => {}
        Ok(task) => facts.tasks.push(Arc::new(task)),
        Err(reason) => {
            let id = read::id_alone(raw, ["id", "task_id"]);
            match (&id, framework) {
                (Some(id), _) => facts.unread.tasks.insert(id.clone()),
                (None, Some(framework)) => facts.unread.frameworks.insert(framework.to_owned()),
                (None, None) => std::mem::replace(&mut facts.unread.nameless, true),
            };
            facts.rejected.push(Rejected::new(&id.unwrap_or_default(), "task", raw.get(), reason));
        }
    }
    facts.rejected.truncate(2 * REJECTED_MAX);
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
    fn a_master_that_does_not_lead_is_not_believed() {
        let state = |leader: &str| {
            format!(
                r#"{{"pid": "master@10.0.0.1:5050", "id": "x", "leader": "{leader}", "slaves": [], "frameworks": [],
                "orphan_tasks": [{{"id": "t", "framework_id": "F", "state": "TASK_RUNNING"}}, {{}}]}}"#
            )
        };
        let leading = read_leading(state("master@10.0.0.1:5050").as_bytes()).unwrap();
        assert_eq!((leading.master.as_deref(), leading.tasks.len(), leading.unread.nameless), (Some("x"), 1, true));
        let error = read_leading(state("master@10.0.0.2:5050").as_bytes()).unwrap_err().to_string();
        assert_eq!(error, "this master does not lead: 10.0.0.2:5050 does");
        assert!(read_leading(state("").as_bytes()).is_err());
    }

    #[test]
    fn what_is_no_state_is_an_error() {
        for body in [&b""[..], b"{", b"[]", b"{}", br#"{"slaves": [], "frameworks": null}"#, br#"{"frameworks": {}}"#] {
            assert!(read(body).is_err(), "{}", body.escape_ascii());
        }
    }
}
