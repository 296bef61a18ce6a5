//! How the demo asks: Marathon's API, Sluice's socket, `dig` and `curl` from the namespaces of a lab.

use std::collections::BTreeMap;
use std::net::SocketAddr;
use std::time::{Duration, Instant};

use serde_json::Value;

use super::{Demo, DemoError};
use crate::http;
use crate::load::Seen;

const POLL: Duration = Duration::from_millis(10);

impl Demo {
    /// One request to a framework's Marathon.
    pub(super) fn marathon(&self, framework: &str, method: &str, path: &str, body: &Value) -> Result<Value, DemoError> {
        let to = self.lab.marathon(framework)?;
        let body = if body.is_null() { String::new() } else { body.to_string() };
        let answer = self.lab.http("master", method, to, path, &body)?;
        if answer.status >= 300 {
            return Err(DemoError::Not(format!("{method} {path} answered {}: {}", answer.status, answer.body)));
        }
        serde_json::from_str(&answer.body).map_err(|error| DemoError::Not(format!("{method} {path}: {error}")))
    }

    /// What `sluice show WHAT --json` shows, asked on its socket.
    pub(super) fn show(&self, what: &str) -> Result<Value, DemoError> {
        let path = format!("/v1/show/{what}");
        let answer = http::get_unix(&self.lab.sluice_socket(), &path)
            .map_err(|error| DemoError::Not(format!("Sluice's socket: {error}")))?;
        if answer.status != 200 {
            return Err(DemoError::Not(format!("{path} answered {}: {}", answer.status, answer.body)));
        }
        serde_json::from_str(&answer.body).map_err(|error| DemoError::Not(format!("{path}: {error}")))
    }

    /// How many backends of a VIP take new flows because they are well. Before anybody is known to be, all are used.
    pub(super) fn backends(&self, vip: SocketAddr) -> Result<usize, DemoError> {
        let vips = self.show("vips")?;
        let is = |v: &&Value| v["ip"] == vip.ip().to_string() && v["port"] == vip.port();
        let found = vips.as_array().into_iter().flatten().find(is);
        let backends = found.and_then(|v| v["backends"].as_array());
        Ok(backends.into_iter().flatten().filter(|b| b["state"] == "active" && b["weight"] != 0).count())
    }

    /// Tasks of an app that run and are well.
    pub(super) fn healthy(&self, framework: &str, app: &str) -> Result<usize, DemoError> {
        let shown = self.marathon(framework, "GET", &format!("/v2/apps{app}"), &Value::Null)?;
        Ok(shown["app"]["tasksHealthy"].as_u64().unwrap_or(0) as usize)
    }

    /// Deployments of a framework that are not done.
    pub(super) fn deployments(&self, framework: &str) -> Result<usize, DemoError> {
        let shown = self.marathon(framework, "GET", "/v2/deployments", &Value::Null)?;
        Ok(shown.as_array().map_or(0, Vec::len))
    }

    /// The A records that `dig` prints, sorted, asked of Sluice's DNS address from a namespace.
    pub(super) fn dig(&self, role: &str, name: &str) -> Result<Vec<String>, DemoError> {
        let server = self.lab.topology().sluice.dns.first().map(|a| format!("@{a}")).unwrap_or_default();
        let said = self.said(role, &["dig", "+short", "+tries=2", "+time=2", &server, name, "A"])?;
        let mut lines: Vec<String> = said.lines().map(str::to_owned).filter(|l| !l.starts_with(';')).collect();
        lines.sort();
        if lines.is_empty() {
            return Err(DemoError::Not(format!("dig {name} from {role}: no address")));
        }
        Ok(lines)
    }

    /// `times` requests by curl, each by a connection of its own: how many each task answered.
    pub(super) fn curl(&self, role: &str, url: &str, times: usize) -> Result<BTreeMap<String, usize>, DemoError> {
        // One curl, many transfers; `Connection: close` makes each a flow of its own.
        let urls = vec![url; times];
        let mut words = vec!["curl", "-sS", "--fail", "--max-time", "10", "-H", "Connection: close"];
        words.extend(urls);
        let said = self.said(role, &words)?;
        let mut tasks = BTreeMap::new();
        for task in said.lines().filter_map(|line| line.strip_prefix("task ")) {
            *tasks.entry(task.to_owned()).or_default() += 1;
        }
        let answered: usize = tasks.values().sum();
        if answered != times {
            return Err(DemoError::Not(format!("curl {url} from {role}: {answered} of {times} requests answered")));
        }
        Ok(tasks)
    }

    pub(super) fn said(&self, role: &str, words: &[&str]) -> Result<String, DemoError> {
        let output = self.lab.exec(role, words)?;
        if output.status.success() {
            return Ok(String::from_utf8_lossy(&output.stdout).into_owned());
        }
        let said = String::from_utf8_lossy(&output.stderr);
        let said = said.lines().last().unwrap_or_default();
        let command = words.first().copied().unwrap_or_default();
        let last = words.last().copied().unwrap_or_default();
        Err(DemoError::Not(format!("{command} {last} from {role} failed ({}): {said}", output.status)))
    }

    /// Load on a target from the client's namespace, in a process of its own.
    pub(super) fn load(&self, target: &str, rate: u32, seconds: f64) -> Result<LoadRun, DemoError> {
        let mut command = self.lab.command("client", &self.own.display().to_string())?;
        let (rate, seconds) = (rate.to_string(), seconds.to_string());
        command.args(["load", "--json", "--target", target, "--rate", &rate, "--seconds", &seconds]);
        command.stdout(std::process::Stdio::piped());
        let child = command.spawn().map_err(|error| DemoError::Not(format!("load: {error}")))?;
        Ok(LoadRun { child, began: Instant::now() })
    }

    /// Looks until something holds; how long that took.
    pub(super) fn until(
        &self,
        what: &str,
        patience: Duration,
        mut holds: impl FnMut() -> Result<bool, DemoError>,
    ) -> Result<Duration, DemoError> {
        let began = Instant::now();
        let mut last = None;
        while began.elapsed() < patience {
            match holds() {
                Ok(true) => return Ok(began.elapsed()),
                Ok(false) => {}
                Err(error) => last = Some(error),
            }
            std::thread::sleep(POLL);
        }
        let why = last.map(|error| format!(": {error}")).unwrap_or_default();
        Err(DemoError::Not(format!("not within {patience:?}: {what}{why}")))
    }
}

/// A load that is running.
#[derive(Debug)]
pub(super) struct LoadRun {
    child: std::process::Child,
    pub(super) began: Instant,
}

impl LoadRun {
    /// Waits for its end.
    pub(super) fn seen(self) -> Result<Seen, DemoError> {
        let output = self.child.wait_with_output().map_err(|error| DemoError::Not(format!("load: {error}")))?;
        serde_json::from_slice(&output.stdout).map_err(|error| {
            DemoError::Not(format!("load said {:?}: {error}", String::from_utf8_lossy(&output.stdout)))
        })
    }
}
