//! From an event of Mesos to the answer: a task comes or goes among 10,000, and its name is asked for until it says so.
//!
//! `cargo bench -p sluice-control --bench delay [-- CHANGES]`. The bound of issue 4 is 100 ms at 99 %. A master on the
//! loopback address streams to the code that `sluice run` has: reader, state machine, view, names, tables, at `run`'s own
//! pace. Not in it is what `run` does for the kernel, and the moment until a worker's next turn.
#![allow(clippy::unwrap_used, clippy::print_stdout, missing_docs, reason = "a bench")]

use std::net::{IpAddr, Ipv4Addr};
use std::sync::Arc;
use std::time::Duration;

use serde_json::{Value, json};
use sluice_config::model::Config;
use sluice_control::desire::Claims;
use sluice_control::mesos::shell::{self, Seen, Settings};
use sluice_control::offline::local_from_config;
use sluice_control::run::pace::Pace;
use sluice_control::run::publication::{Moment, Publication};
use sluice_control::view::Event;
use sluice_dataplane::stage::dns::{Asker, Limit, Reply, answer};
use sluice_dataplane::tables::Tables;
use sluice_dataplane::time::Nanos;
use sluice_dataplane::wire::name;
use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};
use tokio::net::{TcpListener, TcpStream};
use tokio::sync::{mpsc, watch};
use tokio::time::{Instant, sleep_until};

const TASKS: usize = 10_000;
const AGENTS: usize = 800;

/// What there is.
#[derive(Clone, Copy, Debug)]
struct Shape {
    name: &'static str,
    apps: usize,
    /// Another task changes so often.
    churn: Option<Duration>,
}

const SHAPES: [Shape; 4] = [
    Shape { name: "5,000 services of 2 tasks", apps: TASKS / 2, churn: None },
    Shape { name: "the same, 50 other changes a second", apps: TASKS / 2, churn: Some(Duration::from_millis(20)) },
    Shape { name: "one service of 10,000 tasks", apps: 1, churn: None },
    Shape { name: "the same, 50 other changes a second", apps: 1, churn: Some(Duration::from_millis(20)) },
];

fn config(master: &str) -> Config {
    let text = format!(
        r#"
        [[port]]
        interface = "eth0"
        mac = "02:00:00:00:00:01"
        addresses = ["192.0.2.1/24"]
        queues = [0]
        [mesos]
        masters = ["{master}"]
        [snat]
        underlay = ["192.0.2.100"]
        [dns]
        addresses = ["192.0.2.53"]
        [limits]
        services = 20000
        backends = 100000
    "#
    );
    sluice_config::parse(&text, "bench").unwrap()
}

fn agent(n: usize) -> (String, Ipv4Addr) {
    (format!("f-S{n}"), Ipv4Addr::new(10, 0, (n / 200) as u8, (n % 200 + 11) as u8))
}

fn task(app: usize, number: usize, on: usize, state: &str) -> Value {
    let (agent, _) = agent(on);
    json!({
        "task_id": { "value": format!("app-{app}.{number}") }, "name": format!("app-{app}"), "state": state,
        "framework_id": { "value": "F" }, "agent_id": { "value": agent },
        "statuses": [{ "state": state, "timestamp": number as f64,
            "container_status": { "network_infos": [{ "ip_addresses": [{ "ip_address": "172.17.0.2" }] }] } }],
        "discovery": { "visibility": "FRAMEWORK", "name": format!("app-{app}"), "ports": { "ports": [
            { "number": 10_000 + number % 50_000, "protocol": "tcp", "name": "http",
              "labels": { "labels": [{ "key": "VIP_0", "value": format!("/app-{app}:80") }] } }] } },
    })
}

/// Tasks are on all agents but the last one, which is for what changes.
fn whole(shape: Shape) -> Value {
    let tasks: Vec<Value> =
        (0..TASKS).map(|n| task(n % shape.apps, n, (n * 7 + n / AGENTS) % (AGENTS - 1), "TASK_RUNNING")).collect();
    let info = |n| {
        let (id, ip) = agent(n);
        json!({ "agent_info": { "id": { "value": id }, "hostname": ip }, "pid": format!("slave(1)@{ip}:5051"), "active": true })
    };
    let framework = json!({ "framework_info": { "id": { "value": "F" }, "name": "marathon" }, "active": true });
    json!({ "type": "SUBSCRIBED", "subscribed": { "heartbeat_interval_seconds": 15.0, "get_state": {
        "get_tasks": { "tasks": tasks }, "get_frameworks": { "frameworks": [framework] },
        "get_agents": { "agents": (0..AGENTS).map(info).collect::<Vec<_>>() } } } })
}

fn added(app: usize, number: usize, on: usize) -> Value {
    json!({ "type": "TASK_ADDED", "task_added": { "task": task(app, number, on, "TASK_RUNNING") } })
}

fn gone(app: usize, number: usize, on: usize) -> Value {
    let status = json!({ "task_id": { "value": format!("app-{app}.{number}") }, "agent_id": { "value": agent(on).0 },
        "state": "TASK_KILLED", "timestamp": 9e9 });
    json!({ "type": "TASK_UPDATED",
        "task_updated": { "framework_id": { "value": "F" }, "state": "TASK_KILLED", "status": status } })
}

/// A master that says `first` and then what comes out of `events`.
async fn serve(listener: TcpListener, first: Value, mut events: mpsc::Receiver<Value>) {
    loop {
        let (mut socket, _) = listener.accept().await.unwrap();
        socket.set_nodelay(true).unwrap();
        let request = request(&mut socket).await;
        if !request.contains("SUBSCRIBE") {
            let body = r#"{"type":"GET_MASTER","get_master":{"master_info":{"id":"m"}}}"#;
            let text = format!("HTTP/1.1 200 OK\r\nConnection: close\r\nContent-Length: {}\r\n\r\n{body}", body.len());
            socket.write_all(text.as_bytes()).await.unwrap();
            continue;
        }
        socket.write_all(b"HTTP/1.1 200 OK\r\nContent-Type: application/json\r\n\r\n").await.unwrap();
        say(&mut socket, &first).await;
        let mut rest = events;
        let (_closed, none) = mpsc::channel(1);
        events = none;
        tokio::spawn(async move {
            while let Some(event) = rest.recv().await {
                say(&mut socket, &event).await;
            }
        });
    }
}

async fn request(socket: &mut TcpStream) -> String {
    let mut text = String::new();
    while !text.contains("\r\n\r\n") || !text.contains("\"type\"") {
        let mut part = [0; 4096];
        let read = socket.read(&mut part).await.unwrap();
        assert!(read > 0, "{text}");
        text.push_str(&String::from_utf8_lossy(&part[..read]));
    }
    text
}

async fn say(socket: &mut TcpStream, event: &Value) {
    let text = event.to_string();
    socket.write_all(format!("{}\n{text}", text.len()).as_bytes()).await.unwrap();
}

/// Whether `A app-N.marathon.mesos` says this address.
fn says(tables: &Tables, app: usize, address: Ipv4Addr) -> bool {
    let wire = name::from_text(&format!("app-{app}.marathon.mesos")).unwrap();
    let query = [&[0, 1, 0, 0, 0, 1, 0, 0, 0, 0, 0, 0][..], &wire, &[0, 1, 0, 1]].concat();
    let mut buffer = query.clone();
    buffer.resize(65_535, 0);
    let asker = Asker { ip: IpAddr::V4(Ipv4Addr::new(192, 0, 2, 9)), unix_seconds: 0 };
    match answer(&mut buffer, query.len(), &tables.zones, &tables.local.dns, &asker, Limit::Tcp) {
        Reply::Answer { len, .. } => buffer[..len].windows(4).any(|octets| octets == address.octets()),
        Reply::Drop(_) => false,
    }
}

/// Publishes what comes, as `sluice run` does, until nobody listens.
async fn publish(
    config: Config,
    mut events: mpsc::Receiver<Event>,
    tables: watch::Sender<Option<(Instant, Arc<Tables>)>>,
) {
    let local = local_from_config(&config);
    let mut publication = Publication::new(config, [1; 16], Claims::default());
    let start = Instant::now();
    let mut pace = Pace::new(start);
    loop {
        let due = pace.due().unwrap_or_else(|| Instant::now() + Duration::from_secs(3600));
        tokio::select! {
            event = events.recv() => {
                let Some(event) = event else { return };
                publication.view.apply(event);
                pace.changed(Instant::now());
            }
            () = sleep_until(due), if pace.due().is_some() => {
                pace.begun();
                let monotonic = Nanos(start.elapsed().as_nanos() as u64);
                let moment = Moment { monotonic, unix_seconds: 1_700_000_000 + start.elapsed().as_secs() };
                let made = publication.make(local.clone(), moment);
                if let Some(made) = made.tables.unwrap() {
                    tables.send_replace(Some((Instant::now(), made)));
                }
                publication.tidy();
                pace.done(Instant::now(), publication.names_wait());
            }
        }
    }
}

async fn measure(shape: Shape, changes: usize) -> Vec<Duration> {
    let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let config = config(&format!("http://{}", listener.local_addr().unwrap()));
    let (tell, told) = mpsc::channel(16);
    let master = tokio::spawn(serve(listener, whole(shape), told));
    let (sender, events) = mpsc::channel(1024);
    let (seen, _keep) = watch::channel(Seen::default());
    let mesos = config.mesos.clone().unwrap();
    let followed = tokio::spawn(async move { shell::follow(&mesos, Settings::default(), sender, seen).await });
    let (made, mut tables) = watch::channel(None::<(Instant, Arc<Tables>)>);
    let published = tokio::spawn(publish(config, events, made));
    let last = |tables: &Option<(Instant, Arc<Tables>)>, app: usize, address, wanted| {
        tables.as_ref().is_some_and(|(_, tables)| says(tables, app, address) == wanted)
    };
    let first = agent((TASKS - 1) * 7 % (AGENTS - 1)).1;
    drop(tables.wait_for(|tables| tables.as_ref().is_some_and(|(_, t)| t.zones.len() > TASKS)).await.unwrap());
    let churn = shape.churn.map(|every| tokio::spawn(others(shape, every, tell.clone())));
    let (mut delays, spare) = (Vec::new(), agent(AGENTS - 1).1);
    assert_ne!(first, spare);
    for n in 0..changes {
        // At no fixed time of any cycle.
        tokio::time::sleep(Duration::from_millis(60 + (n * 37 % 90) as u64)).await;
        let (app, number) = (n / 2 * 13 % shape.apps, 100_000 + n / 2);
        let is_there = n % 2 == 0;
        let event = if is_there { added(app, number, AGENTS - 1) } else { gone(app, number, AGENTS - 1) };
        let begun = Instant::now();
        tell.send(event).await.unwrap();
        let seen = tables.wait_for(|tables| last(tables, app, spare, is_there)).await.unwrap();
        delays.push(seen.as_ref().unwrap().0 - begun);
    }
    if let Some(churn) = churn {
        churn.abort();
    }
    [master.abort_handle(), followed.abort_handle(), published.abort_handle()].iter().for_each(|task| task.abort());
    delays
}

/// Tasks of other apps, or of the one that there is, that come and go on an agent that has others.
async fn others(shape: Shape, every: Duration, tell: mpsc::Sender<Value>) {
    for n in 0.. {
        tokio::time::sleep(every).await;
        let (app, number, on) = ((n / 2 * 31 + 7) % shape.apps, 200_000 + n / 2, n / 2 % 100);
        let event = if n % 2 == 0 { added(app, number, on) } else { gone(app, number, on) };
        if tell.send(event).await.is_err() {
            return;
        }
    }
}

fn main() {
    // Cargo's own `--bench` is among the arguments.
    let changes = std::env::args().filter_map(|word| word.parse().ok()).next().unwrap_or(400);
    let runtime = tokio::runtime::Builder::new_multi_thread().worker_threads(2).enable_all().build().unwrap();
    println!(
        "{:<38} {:>8} {:>8} {:>8} {:>8}   milliseconds from event to answer, {changes} changes",
        "", "least", "median", "99 %", "most"
    );
    let only = std::env::var("SHAPE").ok().and_then(|number| number.parse().ok());
    for (_, shape) in SHAPES.into_iter().enumerate().filter(|(n, _)| only.is_none_or(|only: usize| only == *n)) {
        let mut delays = runtime.block_on(measure(shape, changes));
        delays.sort();
        let at = |part: usize| delays[(delays.len() * part / 1000).min(delays.len() - 1)].as_secs_f64() * 1e3;
        println!("{:<38} {:>8.1} {:>8.1} {:>8.1} {:>8.1}", shape.name, at(0), at(500), at(990), at(1000));
    }
}
