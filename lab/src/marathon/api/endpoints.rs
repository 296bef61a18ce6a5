//! Tasks as text, for scripts: a line for each service port of an app, `app TAB port TAB host:port TAB host:port TAB`.

use std::fmt::Write as _;

use axum::http::{HeaderMap, header};
use axum::response::{IntoResponse, Response};

use super::super::Marathon;
use super::super::state::{Condition, Service, State, Task};

/// Whoever takes JSON gets JSON.
pub(super) fn are_wanted(headers: &HeaderMap) -> bool {
    let accepted = headers.get_all(header::ACCEPT).iter().filter_map(|value| value.to_str().ok());
    let ranges: Vec<&str> = accepted
        .flat_map(|text| text.split(','))
        .map(|range| range.split(';').next().unwrap_or_default().trim())
        .collect();
    let json = ranges.iter().any(|range| ["application/json", "application/*", "*/*"].contains(range));
    !json && ranges.contains(&"text/plain")
}

pub(super) fn answer(text: String) -> Response {
    ([(header::CONTENT_TYPE, "text/plain")], text).into_response()
}

/// The lines of an app; none of a pod. Only running tasks count, and an app without them has its lines all the same.
pub(super) fn of(marathon: &Marathon, state: &State, id: &str, service: &Service) -> String {
    if service.spec.pod {
        return String::new();
    }
    let name = id.trim_start_matches('/').replace('/', "_");
    let tasks: Vec<&Task> =
        state.tasks_of(id).into_iter().filter(|task| task.condition == Condition::Running).collect();
    let mut text = String::new();
    // Writing to a string cannot fail.
    let ports = service.spec.ports.iter().enumerate().filter(|(_, port)| port.service != 0);
    for (index, port) in ports {
        let _ = write!(text, "{name}\t{}\t", port.service);
        for task in &tasks {
            let _ = write!(text, "{}\t", endpoint(marathon, task, index, port.container));
        }
        text.push('\n');
    }
    if text.is_empty() {
        let hosts = tasks.iter().map(|task| format!("{} ", marathon.agents.host(task.agent)));
        let _ = writeln!(text, "{name}\t \t{}", hosts.collect::<String>());
    }
    text
}

/// The host port, else the container's own; 0 is what Marathon writes for a port that the task does not have.
fn endpoint(marathon: &Marathon, task: &Task, index: usize, container: u16) -> String {
    let host_port = task.host_ports.get(index).copied().flatten();
    match (host_port, task.address) {
        (None, Some(address)) if task.host_ports.len() > index => format!("{address}:{container}"),
        (port, _) => format!("{}:{}", marathon.agents.host(task.agent), port.unwrap_or(0)),
    }
}
