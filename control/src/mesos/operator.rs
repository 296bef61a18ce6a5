//! The operator API (`/api/v1`): a whole state, and the events that change it.
//!
//! A [`Ledger`] takes in one answer or event at a time. `TASK_UPDATED` says nothing of discovery, so it is merged into the
//! task that an earlier message described; a task that is over is forgotten. An event about something unknown is no error:
//! the stream's order is Mesos's own, and whatever went wrong ends with the next whole state.

use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;

use serde_json::Value;
use serde_json::value::RawValue;

use super::facts::{Agent, Endpoint, Facts, Framework, Task, Unread};
use super::state::{REJECTED_MAX, settle};
use super::{member, read, task};
use crate::marathon::text::readable;
use crate::rejected::Rejected;
use crate::view::TaskState;

/// A message that says nothing.
#[derive(Debug, thiserror::Error)]
pub enum EventError {
    /// Cut, empty, or something else altogether.
    #[error("not the JSON that Mesos's operator API sends: {0}")]
    NotJson(#[from] serde_json::Error),
    /// JSON of something else.
    #[error("no type in it: is this Mesos's operator API?")]
    NotAnEvent,
    /// An event that is too long.
    #[error("an event that is {0}")]
    TooLong(String),
}

/// What a message was.
#[derive(Clone, Copy, PartialEq, Debug)]
pub enum Said {
    /// A whole state, and with `SUBSCRIBED` how often a heartbeat comes, seconds.
    Whole(Option<f64>),
    /// Something changed.
    Change,
    /// Something happened that changes nothing here.
    Nothing,
    /// The stream is alive.
    Heartbeat,
}

/// Where the leading master is, and its id, of an answer to `GET_MASTER`; what is not said is `None`.
#[must_use]
pub fn master(answer: &[u8]) -> (Option<Endpoint>, Option<String>) {
    let answer: Value = serde_json::from_str(&readable(answer)).unwrap_or_default();
    master_info(&answer["get_master"]["master_info"])
}

/// As [`master`], of a `MasterInfo`.
pub(super) fn master_info(info: &Value) -> (Option<Endpoint>, Option<String>) {
    let address = &info["address"];
    let of_address = || {
        let port = read::port(&address["port"]).filter(|p| *p != 0)?;
        Some(Endpoint { host: address["ip"].as_str().filter(|ip| !ip.is_empty())?.to_owned(), port })
    };
    let endpoint = of_address().or_else(|| Endpoint::of_pid(info["pid"].as_str()?));
    (endpoint, info["id"].as_str().filter(|id| !id.is_empty()).map(str::to_owned))
}

/// What the operator API has said so far.
#[derive(Clone, PartialEq, Eq, Debug, Default)]
pub struct Ledger {
    frameworks: BTreeMap<String, Arc<Framework>>,
    agents: BTreeMap<String, Arc<Agent>>,
    recovered: BTreeSet<String>,
    /// By framework and id.
    tasks: BTreeMap<(String, String), Arc<Task>>,
    rejected: Vec<Rejected>,
    unread: Unread,
}

impl Ledger {
    /// Takes in one message.
    ///
    /// # Errors
    /// When it is none; nothing has changed then.
    pub fn apply(&mut self, message: &[u8]) -> Result<Said, EventError> {
        let text = readable(message);
        let whole: &RawValue = serde_json::from_str(&text)?;
        let parts = read::members(whole);
        let kind = parts.get("type").and_then(|kind| serde_json::from_str::<String>(kind.get()).ok());
        match kind.as_deref().ok_or(EventError::NotAnEvent)? {
            "SUBSCRIBED" => {
                let subscribed = parts.get("subscribed").map(|raw| read::members(raw)).unwrap_or_default();
                self.whole(subscribed.get("get_state").copied());
                let seconds = subscribed.get("heartbeat_interval_seconds");
                Ok(Said::Whole(seconds.and_then(|raw| serde_json::from_str(raw.get()).ok())))
            }
            "GET_STATE" => {
                self.whole(parts.get("get_state").copied());
                Ok(Said::Whole(None))
            }
            "HEARTBEAT" => Ok(Said::Heartbeat),
            kind => self.event(kind, whole),
        }
    }

    fn event(&mut self, kind: &str, message: &RawValue) -> Result<Said, EventError> {
        let message = read::object(message).map_err(EventError::TooLong)?;
        match kind {
            "TASK_ADDED" => self.add_task(&message["task_added"]["task"]),
            "TASK_UPDATED" => self.update_task(&message["task_updated"]),
            "FRAMEWORK_ADDED" => self.add_framework(&message["framework_added"]["framework"]),
            "FRAMEWORK_UPDATED" => self.add_framework(&message["framework_updated"]["framework"]),
            "FRAMEWORK_REMOVED" => self.remove_framework(&message["framework_removed"]["framework_info"]),
            "AGENT_ADDED" => self.add_agent(&message["agent_added"]["agent"]),
            "AGENT_REMOVED" => self.remove_agent(&message["agent_removed"]),
            _ => return Ok(Said::Nothing),
        }
        self.rejected.truncate(2 * REJECTED_MAX);
        Ok(Said::Change)
    }

    /// What is known now.
    #[must_use]
    pub fn facts(&self) -> Facts {
        let mut rejected = self.rejected.clone();
        settle(&mut rejected);
        Facts {
            leader: None,
            master: None,
            masters: Vec::new(),
            frameworks: self.frameworks.values().cloned().collect(),
            agents: self.agents.clone(),
            recovered: self.recovered.clone(),
            tasks: self.tasks.values().cloned().collect(),
            rejected,
            unread: self.unread.clone(),
        }
    }

    /// Each object is read on its own: a state of a hundred megabytes, read as a whole, would take a gigabyte.
    fn whole(&mut self, state: Option<&RawValue>) {
        *self = Self::default();
        let state = state.map(read::members).unwrap_or_default();
        let part = |name: &str| state.get(name).map(|raw| read::members(raw)).unwrap_or_default();
        let (frameworks, agents, tasks) = (part("get_frameworks"), part("get_agents"), part("get_tasks"));
        // A framework that has not come back since the master leads is told of as it was.
        for raw in ["recovered_frameworks", "frameworks"].iter().filter_map(|kind| frameworks.get(*kind)) {
            read::elements(raw).into_iter().for_each(|raw| self.take(raw, "framework", Self::add_framework));
        }
        for raw in agents.get("agents").map(|raw| read::elements(raw)).unwrap_or_default() {
            self.take(raw, "agent", Self::add_agent);
        }
        let recovered = agents.get("recovered_agents").map(|raw| read::elements(raw)).unwrap_or_default();
        self.recovered.extend(recovered.into_iter().filter_map(|raw| read::id_alone(raw, ["id", "agent_id"])));
        // An agent of its own says `launched_tasks`; `orphan_tasks` wait for their framework (before Mesos 1.2).
        for raw in ["tasks", "launched_tasks", "orphan_tasks"].iter().filter_map(|kind| tasks.get(*kind)) {
            read::elements(raw).into_iter().for_each(|raw| self.take(raw, "task", Self::add_task));
        }
    }

    /// Takes one object of a whole state in; one that is too long is listed, and what it may be is not taken for gone.
    fn take(&mut self, raw: &RawValue, what: &str, add: fn(&mut Self, &Value)) {
        match read::object(raw) {
            Ok(value) => add(self, &value),
            Err(reason) => {
                self.unread.nameless = true;
                self.rejected.push(Rejected::new("", what, raw.get(), reason));
            }
        }
        self.rejected.truncate(2 * REJECTED_MAX);
    }

    fn add_framework(&mut self, value: &Value) {
        match member::framework(value) {
            Ok(framework) => {
                self.unread.frameworks.remove(&framework.id);
                self.frameworks.insert(framework.id.clone(), framework);
            }
            Err(reason) => {
                let id = read::id(&value["framework_info"], ["id", "framework_id"]).ok().flatten();
                match id {
                    Some(id) => self.unread.frameworks.insert(id.to_owned()),
                    None => std::mem::replace(&mut self.unread.nameless, true),
                };
                self.reject(id, "framework", value, reason);
            }
        }
    }

    fn remove_framework(&mut self, value: &Value) {
        if let Ok(Some(id)) = read::id(value, ["id", "framework_id"]) {
            self.frameworks.remove(id);
            self.unread.frameworks.remove(id);
            self.tasks.retain(|(framework, _), _| framework != id);
        }
    }

    fn add_agent(&mut self, value: &Value) {
        match member::agent(value) {
            Ok(agent) => {
                self.recovered.remove(&agent.id);
                self.unread.agents.remove(&agent.id);
                self.agents.insert(agent.id.clone(), agent);
            }
            Err(reason) => {
                let id = read::id(&value["agent_info"], ["id", "agent_id"]).ok().flatten();
                id.map(|id| self.unread.agents.insert(id.to_owned()));
                self.reject(id, "agent", value, reason);
            }
        }
    }

    fn remove_agent(&mut self, value: &Value) {
        if let Ok(Some(id)) = read::id(value, ["agent_id", "slave_id"]) {
            self.agents.remove(id);
            self.recovered.remove(id);
            self.unread.agents.remove(id);
        }
    }

    fn add_task(&mut self, value: &Value) {
        match task::task(value, None, &mut self.rejected) {
            Ok(task) => {
                self.unread.tasks.remove(&task.id);
                self.put(task);
            }
            Err(reason) => {
                let id = read::id(value, ["task_id", "id"]).ok().flatten();
                match id {
                    Some(id) => self.unread.tasks.insert(id.to_owned()),
                    None => std::mem::replace(&mut self.unread.nameless, true),
                };
                self.reject(id, "task", value, reason);
            }
        }
    }

    /// The state of the update counts, not that of its status: that one may be older (DCOS_OSS-3539).
    fn update_task(&mut self, value: &Value) {
        let status = &value["status"];
        let framework = read::id(value, ["framework_id", "framework_id"]).ok().flatten();
        let id = read::id(status, ["task_id", "id"]).ok().flatten();
        let (Some(framework), Some(id)) = (framework, id) else {
            return self.reject(id, "task_updated", value, "an update names a framework and a task".to_owned());
        };
        let key = (framework.to_owned(), id.to_owned());
        let said = value["state"].as_str().or_else(|| status["state"].as_str()).map(TaskState::read);
        let Some(known) = self.tasks.get(&key) else {
            if said == Some(TaskState::Terminal) {
                self.unread.tasks.remove(id);
            }
            return;
        };
        let mut task = Task::clone(known);
        task.state = said.unwrap_or(task.state);
        if let Ok(Some(agent)) = read::id(status, ["agent_id", "slave_id"]) {
            agent.clone_into(&mut task.agent);
        }
        task::apply_status(&mut task, status, &mut self.rejected);
        self.put(task);
    }

    fn put(&mut self, task: Task) {
        let key = (task.framework.clone(), task.id.clone());
        if task.state == TaskState::Terminal {
            self.unread.tasks.remove(&task.id);
            self.tasks.remove(&key);
        } else {
            self.tasks.insert(key, Arc::new(task));
        }
    }

    fn reject(&mut self, id: Option<&str>, what: &str, value: &Value, reason: String) {
        self.rejected.push(Rejected::new(id.unwrap_or_default(), what, &value.to_string(), reason));
    }
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;
    use crate::fixture::{golden, golden_bytes};
    use crate::view::Health;

    /// What a recorded file of JSON lines says in the end.
    fn recorded(name: &str) -> Option<Facts> {
        let body = golden_bytes(&format!("mesos-operator-api/in/{name}.json"))?;
        let mut ledger = Ledger::default();
        for line in body.split(|b| *b == b'\n').filter(|l| !l.is_empty()) {
            ledger.apply(line).unwrap();
        }
        Some(ledger.facts())
    }

    #[test]
    fn the_tasks_of_every_recorded_stream_are_those_that_dcos_net_saw() {
        for name in ["hello-overlay", "operator-api", "pod-tasks", "tcp-and-udp", "unhealthy", "vip-labels"] {
            let (Some(facts), Some(expected)) =
                (recorded(name), golden(&format!("mesos-operator-api/expected/{name}.json")))
            else {
                return;
            };
            assert_eq!(facts.rejected, [], "{name}");
            let expected = expected["tasks"].as_array().unwrap().iter().filter(|t| t["state"] != "terminal");
            let expected: Vec<Value> = expected
                .map(|t| json!([t["task_id"], t["name"], t["framework"], t["agent_ip"], t["task_ip"], t["state"]]))
                .collect();
            let mut found: Vec<Value> = Vec::new();
            for task in &facts.tasks {
                let framework = facts.framework(&task.framework).map(|f| f.name.as_str());
                let agent = facts.agents.get(&task.agent).map(|a| a.hostname.as_str());
                let state = format!("{:?}", task.state).to_lowercase();
                found.push(json!([task.id, task.discovery_name(), framework, agent, task.ips(), state]));
            }
            let sorted = |mut all: Vec<Value>| {
                all.sort_by_key(ToString::to_string);
                all
            };
            assert_eq!(sorted(found), sorted(expected), "{name}");
        }
    }

    #[test]
    fn a_check_that_has_not_spoken_is_unknown_and_its_word_is_kept() {
        let Some(facts) = recorded("unhealthy") else { return };
        assert_eq!(facts.tasks[0].health, Health::Unknown);
        let Some(facts) = recorded("vip-labels") else { return };
        assert_eq!(facts.tasks[0].health, Health::Healthy);
        assert_eq!(facts.tasks[0].labels.len(), 2, "{:?}", facts.tasks[0].labels);
    }

    fn told(ledger: &mut Ledger, message: Value) -> Said {
        ledger.apply(message.to_string().as_bytes()).unwrap()
    }

    fn update(state: &str, status: &str) -> Value {
        json!({"type": "TASK_UPDATED", "task_updated": {"framework_id": {"value": "F"}, "state": state,
            "status": {"task_id": {"value": "t"}, "agent_id": {"value": "S"}, "state": status}}})
    }

    #[test]
    fn an_update_is_merged_by_its_own_state_and_ends_the_task_when_that_is_over() {
        let mut ledger = Ledger::default();
        told(&mut ledger, update("TASK_RUNNING", "TASK_RUNNING"));
        assert_eq!(ledger.facts().tasks.len(), 0, "of a task that nobody described");
        let task = json!({"type": "TASK_ADDED", "task_added": {"task": {"task_id": {"value": "t"}, "name": "n",
            "framework_id": {"value": "F"}, "state": "TASK_STAGING", "discovery": {"name": "d"}}}});
        assert_eq!(told(&mut ledger, task), Said::Change);
        told(&mut ledger, update("TASK_KILLING", "TASK_RUNNING"));
        let facts = ledger.facts();
        assert_eq!((facts.tasks[0].state, facts.tasks[0].discovery_name()), (TaskState::Killing, "d"));
        assert_eq!(facts.tasks[0].agent, "S");
        told(&mut ledger, update("TASK_LOST", "TASK_RUNNING"));
        assert_eq!(ledger.facts(), Facts::default());
    }

    #[test]
    fn agents_that_the_master_waits_for_are_known_until_they_come() {
        let mut ledger = Ledger::default();
        let whole = json!({"type": "SUBSCRIBED", "subscribed": {"heartbeat_interval_seconds": 15.0, "get_state": {"get_agents": {
            "recovered_agents": [{"id": {"value": "S1"}, "hostname": "h"}, {"id": {"value": "S2"}}, {"id": null}]}}}});
        assert_eq!(told(&mut ledger, whole), Said::Whole(Some(15.0)));
        assert_eq!(ledger.facts().recovered.len(), 2);
        let added = json!({"type": "AGENT_ADDED", "agent_added": {"agent": {"agent_info": {"id": {"value": "S1"}}}}});
        told(&mut ledger, added);
        let removed = json!({"type": "AGENT_REMOVED", "agent_removed": {"agent_id": {"value": "S2"}}});
        told(&mut ledger, removed);
        assert_eq!((ledger.facts().recovered.len(), ledger.facts().agents.len()), (0, 1));
    }

    #[test]
    fn a_framework_takes_its_tasks_with_it_and_odd_messages_change_nothing() {
        let mut ledger = Ledger::default();
        told(
            &mut ledger,
            json!({"type": "TASK_ADDED", "task_added": {"task": {"task_id": {"value": "t"}, "framework_id": {"value": "F"}}}}),
        );
        for odd in [
            json!({"type": "TASK_UPDATED"}),
            json!({"type": "AGENT_REMOVED", "agent_removed": null}),
            json!({"type": "FRAMEWORK_REMOVED", "framework_removed": {"framework_info": {"id": 7}}}),
            json!({"type": "NEW"}),
        ] {
            told(&mut ledger, odd);
        }
        assert_eq!(ledger.facts().tasks.len(), 1);
        assert!(
            ledger.apply(b"{").is_err() && ledger.apply(b"{}").is_err() && ledger.apply(b"{\"type\":null}").is_err()
        );
        told(
            &mut ledger,
            json!({"type": "FRAMEWORK_REMOVED", "framework_removed": {"framework_info": {"id": {"value": "F"}}}}),
        );
        assert_eq!(ledger.facts().tasks.len(), 0);
    }
}
