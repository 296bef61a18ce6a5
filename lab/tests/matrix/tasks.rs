//! What runs of an app or a pod, and where.

use std::net::IpAddr;

use serde_json::Value;

use super::apps::App;
use super::cluster::{Cluster, From};
use super::rows::Kind;

/// A task as Marathon tells of it, and its process.
#[derive(Debug, Clone)]
pub(crate) struct Task {
    pub(crate) id: String,
    /// Its agent's address.
    pub(crate) host: String,
    pub(crate) addresses: Vec<IpAddr>,
    /// Host ports.
    pub(crate) ports: Vec<u16>,
    pub(crate) pid: u32,
}

impl Cluster {
    /// What runs of an app or a pod.
    pub(crate) fn tasks(&self, app: &App) -> Vec<Task> {
        let list = |value: &Value| value.as_array().cloned().unwrap_or_default();
        let text = |value: &Value| value.as_str().unwrap_or_default().to_owned();
        let ip = |value: &Value| value.as_str().and_then(|text| text.parse().ok());
        if app.kind == Kind::Pod {
            let (_, status) = self.marathon("GET", &format!("/v2/pods/{}::status", app.name), &Value::Null);
            let task = |instance: &Value| Task {
                id: text(&instance["id"]),
                host: text(&instance["agentHostname"]),
                addresses: list(&instance["networks"][0]["addresses"]).iter().filter_map(ip).collect(),
                ports: list(&instance["containers"][0]["endpoints"])
                    .iter()
                    .filter_map(|endpoint| u16::try_from(endpoint["allocatedHostPort"].as_u64()?).ok())
                    .collect(),
                pid: self.pid(&text(&instance["id"])),
            };
            return list(&status["instances"]).iter().map(task).collect();
        }
        let (_, tasks) = self.marathon("GET", &format!("/v2/apps/{}/tasks", app.name), &Value::Null);
        let task = |task: &Value| Task {
            id: text(&task["id"]),
            host: text(&task["host"]),
            addresses: list(&task["ipAddresses"]).iter().filter_map(|a| ip(&a["ipAddress"])).collect(),
            ports: list(&task["ports"]).iter().filter_map(|port| u16::try_from(port.as_u64()?).ok()).collect(),
            pid: self.pid(&text(&task["id"])),
        };
        list(&tasks["tasks"]).iter().map(task).collect()
    }

    /// The only one.
    pub(crate) fn task(&self, app: &App) -> Task {
        let [task] = self.tasks(app).try_into().unwrap_or_else(|all| panic!("{}: {all:?}", app.name));
        task
    }

    /// The process of a task, from the lab's record.
    fn pid(&self, task: &str) -> u32 {
        let text = std::fs::read_to_string(self.lab.state().file("processes")).unwrap();
        let line = text.lines().find(|line| line.ends_with(&format!(" {task}")));
        line.and_then(|line| line.split(' ').next()?.parse().ok()).unwrap_or_else(|| panic!("no process of {task}"))
    }

    /// Tasks are on the agent that was asked for, and their processes where their addresses are.
    pub(crate) fn check_places(&self, app: &App) {
        let tasks = self.tasks(app);
        assert_eq!(tasks.len(), app.instances, "{}: {tasks:?}", app.name);
        for task in tasks {
            assert!(app.agent.is_none_or(|agent| agent == task.host), "{}: {task:?}", app.name);
            let own = self.run(From::Task(&task), &["ip", "-oneline", "addr"]).unwrap();
            let has = |ip: &IpAddr| own.contains(&format!(" {ip}/"));
            assert!(!task.addresses.is_empty() && task.addresses.iter().all(has), "{task:?}: {own}");
        }
    }
}
