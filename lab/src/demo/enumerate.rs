//! Mesos-DNS's HTTP API, asked as the cluster's own description asks it.

use serde_json::Value;

use super::apps::TASK_NAMES;
use super::{Demo, DemoError};
use crate::node_config::API_PORT;

impl Demo {
    /// By the masters' name, whose port 8123 leads to Sluice, and by Sluice's own.
    pub(super) fn enumerated(&mut self) {
        for name in ["master.mesos", "ns1.mesos"] {
            let found = self.enumeration("client", name).and_then(|tasks| all_named(&tasks));
            self.board.check(&format!("curl -s -f http://{name}:{API_PORT}/v1/enumerate from the client"), found);
        }
    }

    /// The names of the tasks that `/v1/enumerate` of that host tells of, sorted.
    fn enumeration(&self, role: &str, name: &str) -> Result<Vec<String>, DemoError> {
        let address = self.dig(role, name)?.swap_remove(0);
        let url = format!("http://{name}:{API_PORT}/v1/enumerate");
        // In some chroots a process cannot be given a resolver of its own (place.rs): `dig` has asked for curl.
        let known = format!("{name}:{API_PORT}:{address}");
        let said = self.said(role, &["curl", "-s", "-f", "--max-time", "10", "--resolve", &known, &url])?;
        let answer: Value = serde_json::from_str(&said).map_err(|e| DemoError::Not(format!("{url}: {e}")))?;
        let frameworks = answer["frameworks"].as_array().into_iter().flatten();
        let tasks = frameworks.flat_map(|f| f["tasks"].as_array().into_iter().flatten());
        let mut names: Vec<String> = tasks.filter_map(|task| task["name"].as_str().map(str::to_owned)).collect();
        names.sort();
        Ok(names)
    }
}

fn all_named(tasks: &[String]) -> Result<String, DemoError> {
    match TASK_NAMES.iter().find(|name| !tasks.iter().any(|task| task == *name)) {
        None => Ok(tasks.join(" ")),
        Some(missing) => Err(DemoError::Not(format!("no {missing} among {}", tasks.join(" ")))),
    }
}
