//! An emulator on the loopback address, with its tasks as processes of this machine; removed with all of them.

use std::io::{BufRead as _, BufReader, Write as _};
use std::net::{SocketAddr, TcpStream};
use std::path::PathBuf;
use std::time::{Duration, Instant};

use serde_json::Value;
use sluice_lab::http::{Answer, request};
use sluice_lab::marathon::{Dialect, Emulator, Settings};
use sluice_lab::state::LabState;

pub(crate) struct Bench {
    pub(crate) address: SocketAddr,
    pub(crate) state: LabState,
    running: Option<(Emulator, tokio::runtime::Runtime)>,
}

impl Bench {
    pub(crate) fn start(dialect: Dialect) -> Self {
        let state = LabState::create().unwrap();
        let runtime = tokio::runtime::Builder::new_multi_thread().worker_threads(2).enable_all().build().unwrap();
        let settings = Settings {
            framework: "marathon".to_owned(),
            dialect,
            state: state.clone(),
            topology: None,
            program: PathBuf::from(env!("CARGO_BIN_EXE_sluice-lab")),
        };
        let emulator = runtime.block_on(async {
            let listener = tokio::net::TcpListener::bind("127.0.0.1:0").await.unwrap();
            Emulator::start(listener, settings).unwrap()
        });
        Self { address: emulator.address(), state, running: Some((emulator, runtime)) }
    }

    pub(crate) fn ask(&self, method: &str, path: &str, body: &Value) -> Answer {
        let body = if body.is_null() { String::new() } else { body.to_string() };
        request(method, self.address, path, &body).unwrap()
    }

    pub(crate) fn get(&self, path: &str) -> Value {
        let answer = self.ask("GET", path, &Value::Null);
        assert_eq!(answer.status, 200, "{path}: {}", answer.body);
        serde_json::from_str(&answer.body).unwrap()
    }

    pub(crate) fn send(&self, method: &str, path: &str, body: &Value) -> (u16, Value) {
        let answer = self.ask(method, path, body);
        (answer.status, serde_json::from_str(&answer.body).unwrap_or(Value::Null))
    }

    pub(crate) fn tasks(&self, app: &str) -> Vec<Value> {
        self.get(&format!("/v2/apps{app}/tasks"))["tasks"].as_array().unwrap().clone()
    }

    /// Waits until that many tasks of an app run.
    pub(crate) fn running(&self, app: &str, wanted: usize) -> Vec<Value> {
        eventually(&format!("{wanted} running tasks of {app}"), || {
            let tasks = self.tasks(app);
            let running = tasks.iter().filter(|t| t["state"] == "TASK_RUNNING").count();
            (running == wanted && tasks.len() == wanted).then_some(tasks)
        })
    }

    /// The process of a task, from the lab's record.
    pub(crate) fn pid(&self, task: &str) -> i32 {
        let text = std::fs::read_to_string(self.state.file("processes")).unwrap();
        let line = text.lines().find(|line| line.ends_with(task)).unwrap();
        line.split(' ').next().unwrap().parse().unwrap()
    }

    pub(crate) fn events(&self, query: &str) -> Events {
        let mut stream = TcpStream::connect(self.address).unwrap();
        stream.set_read_timeout(Some(Duration::from_secs(10))).unwrap();
        let head = format!("GET /v2/events{query} HTTP/1.1\r\nHost: x\r\nAccept: text/event-stream\r\n\r\n");
        stream.write_all(head.as_bytes()).unwrap();
        let mut lines = BufReader::new(stream);
        // The header comes once the subscription stands: what happens from here on is seen.
        let mut line = String::new();
        while line != "\r\n" {
            line.clear();
            lines.read_line(&mut line).unwrap();
        }
        Events { lines }
    }
}

impl Drop for Bench {
    fn drop(&mut self) {
        if let Some((emulator, runtime)) = self.running.take() {
            runtime.block_on(emulator.stop());
            runtime.shutdown_background();
        }
        self.state.remove().unwrap();
    }
}

/// An event stream, read as it comes.
pub(crate) struct Events {
    lines: BufReader<TcpStream>,
}

impl Events {
    /// The next event: its type and data. Chunk sizes and heartbeats are passed over.
    pub(crate) fn next(&mut self) -> (String, Value) {
        let mut name = None;
        loop {
            let mut line = String::new();
            assert!(self.lines.read_line(&mut line).unwrap() > 0, "the stream has ended");
            assert!(line.ends_with("\r\n"), "a line without CRLF: {line:?}");
            if let Some(event) = line.strip_prefix("event: ") {
                name = Some(event.trim_end().to_owned());
            } else if let Some(data) = line.strip_prefix("data: ") {
                return (name.unwrap(), serde_json::from_str(data).unwrap());
            }
        }
    }

    /// Waits for the chunk of no length that ends the stream.
    pub(crate) fn ended(&mut self) -> bool {
        let mut line = String::new();
        while self.lines.read_line(&mut line).is_ok_and(|length| length > 0) && line != "0\r\n" {
            line.clear();
        }
        line == "0\r\n"
    }

    /// Events up to and including the first of a type.
    pub(crate) fn until(&mut self, last: &str) -> Vec<(String, Value)> {
        let mut seen = Vec::new();
        loop {
            seen.push(self.next());
            if seen.last().unwrap().0 == last {
                return seen;
            }
        }
    }
}

/// Looks until there is something, for ten seconds.
pub(crate) fn eventually<T>(what: &str, mut look: impl FnMut() -> Option<T>) -> T {
    let began = Instant::now();
    while began.elapsed() < Duration::from_secs(10) {
        if let Some(found) = look() {
            return found;
        }
        std::thread::sleep(Duration::from_millis(20));
    }
    panic!("not within ten seconds: {what}");
}

/// A host-mode app that runs the built-in web task.
pub(crate) fn web(id: &str, instances: usize) -> Value {
    serde_json::json!({
        "id": id, "instances": instances, "cpus": 0.1, "mem": 32,
        "container": {"type": "DOCKER", "docker": {"image": "x", "network": "HOST"}},
        "portDefinitions": [{"port": 0, "protocol": "tcp", "name": "web", "labels": {"VIP_0": "/web:80"}}],
    })
}
