//! What a master knows, and who is told of its changes. Values are in the operator API's own JSON.

use std::collections::{BTreeMap, BTreeSet};

use bytes::Bytes;
use serde_json::{Value, json};
use tokio::sync::mpsc;

/// Events that a subscriber may be behind before it is cut off.
const BUFFER: usize = 4096;

#[derive(Debug)]
pub(super) struct Book {
    /// The master's own id.
    pub(super) id: String,
    /// AgentInfo of all agents, by id.
    agents: BTreeMap<String, Value>,
    registered: BTreeSet<String>,
    /// FrameworkInfo, by id.
    frameworks: BTreeMap<String, Value>,
    /// Task, by framework and id.
    tasks: BTreeMap<(String, String), Value>,
    subscribers: Vec<mpsc::Sender<Bytes>>,
}

/// An id as the operator API writes it.
fn id<'a>(of: &'a Value, field: &str) -> &'a str {
    of[field]["value"].as_str().unwrap_or_default()
}

impl Book {
    pub(super) fn new(id: String) -> Self {
        Self {
            id,
            agents: BTreeMap::new(),
            registered: BTreeSet::new(),
            frameworks: BTreeMap::new(),
            tasks: BTreeMap::new(),
            subscribers: Vec::new(),
        }
    }

    /// Takes in what one Marathon knows.
    pub(super) fn hear(&mut self, known: &Value) {
        for info in known["agents"].as_array().into_iter().flatten() {
            self.agents.entry(id(info, "id").to_owned()).or_insert_with(|| info.clone());
        }
        let framework = &known["framework"];
        let framework_id = id(framework, "id").to_owned();
        if framework_id.is_empty() {
            return;
        }
        if self.frameworks.get(&framework_id) != Some(framework) {
            let is_new = self.frameworks.insert(framework_id.clone(), framework.clone()).is_none();
            let (kind, field) = if is_new {
                ("FRAMEWORK_ADDED", "framework_added")
            } else {
                ("FRAMEWORK_UPDATED", "framework_updated")
            };
            self.tell(&json!({"type": kind, field: {"framework": shown_framework(framework)}}));
        }
        let now = known["tasks"].as_array().into_iter().flatten();
        let now: BTreeMap<&str, &Value> = now.map(|task| (id(task, "task_id"), task)).collect();
        let gone = self.tasks.keys().filter(|(of, task)| *of == framework_id && !now.contains_key(task.as_str()));
        for key in gone.cloned().collect::<Vec<_>>() {
            self.end(&key);
        }
        for (task_id, task) in now {
            self.put((framework_id.clone(), task_id.to_owned()), task);
        }
    }

    /// The task's last update: Marathon does not tell how it ended.
    fn end(&mut self, key: &(String, String)) {
        let Some(task) = self.tasks.remove(key).filter(|task| self.is_visible(task)) else { return };
        let status = json!({"task_id": task["task_id"], "agent_id": task["agent_id"], "state": "TASK_KILLED"});
        let update = json!({"framework_id": task["framework_id"], "state": "TASK_KILLED", "status": status});
        self.tell(&json!({"type": "TASK_UPDATED", "task_updated": update}));
    }

    fn put(&mut self, key: (String, String), task: &Value) {
        let before = self.tasks.insert(key, task.clone());
        if !self.is_visible(task) || before.as_ref() == Some(task) {
            return;
        }
        // An update carries neither ports nor discovery: what has others since is told of anew.
        let described = |task: &Value| (task["discovery"].clone(), task["resources"].clone());
        if before.is_none_or(|before| described(&before) != described(task)) {
            self.tell(&json!({"type": "TASK_ADDED", "task_added": {"task": task}}));
            return;
        }
        let plain = json!({"task_id": task["task_id"], "agent_id": task["agent_id"], "state": task["state"]});
        let status = task["statuses"].as_array().and_then(|all| all.last()).unwrap_or(&plain);
        let update = json!({"framework_id": task["framework_id"], "state": task["state"], "status": status});
        self.tell(&json!({"type": "TASK_UPDATED", "task_updated": update}));
    }

    fn is_visible(&self, task: &Value) -> bool {
        self.registered.contains(id(task, "agent_id"))
    }

    /// Lets that part of all agents register, the first ones first.
    pub(super) fn register(&mut self, part: f64) {
        let wanted = (self.agents.len() as f64 * part.clamp(0.0, 1.0)) as usize;
        let next: Vec<String> =
            self.agents.keys().take(wanted).filter(|a| !self.registered.contains(*a)).cloned().collect();
        for agent in next {
            self.registered.insert(agent.clone());
            let info = self.agents.get(&agent).cloned().unwrap_or_default();
            self.tell(&json!({"type": "AGENT_ADDED", "agent_added": {"agent": shown_agent(&info)}}));
            let of_agent = self.tasks.values().filter(|task| id(task, "agent_id") == agent).cloned();
            for task in of_agent.collect::<Vec<_>>() {
                self.tell(&json!({"type": "TASK_ADDED", "task_added": {"task": task}}));
            }
        }
    }

    /// `GetState`.
    pub(super) fn state(&self) -> Value {
        let agents =
            |registered: bool| self.agents.iter().filter(move |(id, _)| self.registered.contains(*id) == registered);
        json!({
            "get_tasks": {"tasks": self.tasks()}, "get_executors": {},
            "get_frameworks": {"frameworks": self.frameworks.values().map(shown_framework).collect::<Vec<_>>()},
            "get_agents": {
                "agents": agents(true).map(|(_, info)| shown_agent(info)).collect::<Vec<_>>(),
                "recovered_agents": agents(false).map(|(_, info)| info).collect::<Vec<_>>(),
            },
        })
    }

    /// The tasks that it can know of.
    fn tasks(&self) -> Vec<&Value> {
        self.tasks.values().filter(|task| self.is_visible(task)).collect()
    }

    /// A new subscriber; `first` is told it before anything else.
    pub(super) fn subscribe(&mut self, first: &Value) -> mpsc::Receiver<Bytes> {
        let (queue, events) = mpsc::channel(BUFFER);
        // There is room in a new queue.
        let _ = queue.try_send(record(first));
        self.subscribers.push(queue);
        events
    }

    pub(super) fn beat(&mut self) {
        self.tell(&json!({"type": "HEARTBEAT"}));
    }

    fn tell(&mut self, event: &Value) {
        let record = record(event);
        self.subscribers.retain(|queue| queue.try_send(record.clone()).is_ok());
    }
}

fn shown_framework(info: &Value) -> Value {
    json!({"framework_info": info, "active": true, "connected": true, "recovered": false})
}

fn shown_agent(info: &Value) -> Value {
    let pid = format!("slave(1)@{}:5051", info["hostname"].as_str().unwrap_or_default());
    json!({"agent_info": info, "active": true, "version": "1.9.0", "pid": pid})
}

/// One record of RecordIO.
fn record(message: &Value) -> Bytes {
    let text = message.to_string();
    Bytes::from(format!("{}\n{text}", text.len()))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn known(state: &str) -> Value {
        let task = json!({"task_id": {"value": "t"}, "framework_id": {"value": "F"}, "agent_id": {"value": "S"}, "state": state});
        json!({"agents": [{"id": {"value": "S"}, "hostname": "10.0.0.1"}], "framework": {"id": {"value": "F"}}, "tasks": [task]})
    }

    fn types(events: &mut mpsc::Receiver<Bytes>) -> Vec<String> {
        let mut all = Vec::new();
        while let Ok(record) = events.try_recv() {
            let text = String::from_utf8(record.to_vec()).unwrap();
            let (length, json) = text.split_once('\n').unwrap();
            assert_eq!(length.parse::<usize>().unwrap(), json.len());
            let event: Value = serde_json::from_str(json).unwrap();
            all.push(event["type"].as_str().unwrap().to_owned());
        }
        all
    }

    #[test]
    fn a_task_is_told_of_once_its_agent_is_back_and_then_each_change_once() {
        let mut book = Book::new("m".to_owned());
        let mut events = book.subscribe(&json!({"type": "SUBSCRIBED"}));
        book.hear(&known("TASK_STAGING"));
        assert_eq!(types(&mut events), ["SUBSCRIBED", "FRAMEWORK_ADDED"]);
        assert_eq!(book.state()["get_tasks"]["tasks"], json!([]));
        assert_eq!(book.state()["get_agents"]["recovered_agents"][0]["hostname"], "10.0.0.1");
        book.register(0.5);
        assert_eq!(types(&mut events), [""; 0]);
        book.register(1.0);
        assert_eq!(types(&mut events), ["AGENT_ADDED", "TASK_ADDED"]);
        book.hear(&known("TASK_STAGING"));
        book.hear(&known("TASK_RUNNING"));
        assert_eq!(types(&mut events), ["TASK_UPDATED"]);
        let mut none = known("");
        none["tasks"] = json!([]);
        book.hear(&none);
        assert_eq!(types(&mut events), ["TASK_UPDATED"]);
        assert_eq!(book.state()["get_tasks"]["tasks"], json!([]));
    }
}
