//! The API over a dataplane that is only tables and counters: schemas, health, and metrics that a parser accepts.
#![allow(clippy::unwrap_used, clippy::panic, reason = "a test's helper fails the test")]

use std::collections::{BTreeMap, BTreeSet};
use std::net::SocketAddr;
use std::sync::Arc;
use std::sync::atomic::{AtomicU32, Ordering::Relaxed};
use std::time::{Duration, Instant};

use serde_json::{Value, json};
use sluice_config::model::Config;
use sluice_control::api::observed::{MarathonState, MesosState, Observed, Published};
use sluice_control::api::serve::{CONNECTIONS, HEADER, Socket, serve_tcp};
use sluice_control::api::{metrics, show};
use sluice_control::desire::{Claims, Report};
use sluice_control::lease::desk::{Desk, LeaseOffice, Order};
use sluice_control::lease::file::File;
use sluice_control::lease::pool::Pool;
use sluice_control::lease::token::Token;
use sluice_control::mesos::overlay::OverlaySeen;
use sluice_control::offline::local_from_config;
use sluice_control::run::publication::{Moment, Publication};
use sluice_dataplane::counters::Counters;
use sluice_dataplane::verdict::DropReason;
use tokio::io::{AsyncRead, AsyncReadExt as _, AsyncWrite, AsyncWriteExt as _};
use tokio::net::{TcpStream, UnixStream};

const TEXT: &str = r#"
[[port]]
name = "lan"
interface = "eth0"
queues = [0, 1]
mac = "02:00:00:00:00:01"
addresses = ["10.0.0.1/24"]
[[service]]
vip = "172.16.0.1:80"
backends = [{ address = "10.0.0.11:31001" }, { address = "10.0.0.12:31002", weight = 0 }]
[snat]
underlay = ["10.0.0.100"]
[dns]
addresses = ["10.0.0.53"]
[overlay]
vtep = "44.128.0.9/20"
leases = true
[[overlay.network]]
name = "dcos"
subnet = "9.0.0.0/8"
own = "9.0.9.0/24"
"#;

/// Two workers; the second saw 3 packets to the VIP's first backend, dropped one and handed none over.
fn observed() -> Observed {
    let observed = heard_in_part();
    observed.complete_map();
    observed
}

/// The same before every source was heard.
fn heard_in_part() -> Observed {
    let config = sluice_config::parse(TEXT, "test").unwrap();
    let workers: Vec<_> = (0..2).map(|_| Arc::new(Counters::new(2, 16, 16))).collect();
    let mut observed = Observed::new(config.clone(), workers, vec!["lan".into(), "host".into()]);
    observed.leases = Some(office(&config));
    let local = local_from_config(&config);
    let made = Publication::new(config, [0; 16], Claims::default()).make(local, Moment::default());
    let tables = made.tables.unwrap().unwrap();
    let busy = &observed.workers[1];
    let entry = tables.services.iter().position(Option::is_some).unwrap();
    busy.services[entry].add(3);
    busy.rx.add(4);
    busy.tx.add(3);
    busy.drops(DropReason::NoService).add(1);
    busy.ports[0].rx.add(4);
    busy.dns[3].add(2);
    observed.note(Published { tables, report: Arc::new(Report::default()) }, Duration::from_millis(2));
    observed.marathon_to_dataplane.observe(Duration::from_millis(30));
    observed
}

/// A desk whose one lease is 10.0.0.11's, kept in a file that an earlier run wrote.
fn office(config: &Config) -> LeaseOffice {
    static NUMBER: AtomicU32 = AtomicU32::new(0);
    let number = NUMBER.fetch_add(1, Relaxed);
    let path = std::env::temp_dir().join(format!("sluice-api-leases-{}-{number}.json", std::process::id()));
    let kept = r#"{"leases": {"10.0.0.11": {"vtep_ip": "44.128.0.1", "subnets": {"dcos": "9.0.0.0/24"}}}}"#;
    std::fs::write(&path, kept).unwrap();
    let desk = Desk::open(Some(File { path: path.clone() }), Pool::of(config, &[]).unwrap()).unwrap();
    let word = path.with_extension("token");
    std::fs::write(&word, "a-word-of-the-agents\n").unwrap();
    let token = Some(Token::read("overlay.token_file", &word).unwrap());
    std::fs::remove_file(path).unwrap();
    std::fs::remove_file(word).unwrap();
    let (orders, mut wishes) = tokio::sync::mpsc::channel::<Order>(1);
    let desk = Arc::new(std::sync::Mutex::new(desk));
    let by = Arc::clone(&desk);
    if let Ok(runtime) = tokio::runtime::Handle::try_current() {
        runtime.spawn(async move {
            while let Some(Order { agent, wish, answer }) = wishes.recv().await {
                let done = by.lock().unwrap().obey(agent, &wish, Instant::now());
                let _ = answer.send(done.map(|(lease, _)| lease));
            }
        });
    }
    LeaseOffice { desk, orders, token }
}

async fn ask_lease(address: SocketAddr, token: &str, body: &str) -> String {
    let request = format!(
        "POST /v1/overlay/lease HTTP/1.1\r\nhost: x\r\nauthorization: Bearer {token}\r\ncontent-length: {}\r\n\r\n{body}",
        body.len()
    );
    let (mut stream, mut answer) = (TcpStream::connect(address).await.unwrap(), String::new());
    stream.write_all(request.as_bytes()).await.unwrap();
    stream.read_to_string(&mut answer).await.unwrap();
    answer
}

#[tokio::test]
async fn an_agent_speaks_for_itself_alone_and_shows_the_word() {
    let address = serve_tcp("127.0.0.1:0".parse().unwrap(), Arc::new(observed())).await.unwrap();
    let ask = |token, body| ask_lease(address, token, body);
    let word = "a-word-of-the-agents";
    let taken = ask(word, r#"{"agent": "127.0.0.1", "networks": ["dcos"]}"#).await;
    assert!(taken.starts_with("HTTP/1.1 200") && taken.contains(r#""vtep_ip":"44.128.0.2""#), "{taken}");
    assert!(taken.contains(r#""vips":["172.16.0.1/32"]"#), "{taken}");
    let told: Value = serde_json::from_str(taken.split_once("\r\n\r\n").unwrap().1).unwrap();
    let again = format!(r#"{{"agent": "127.0.0.1", "version": {}}}"#, told["version"]);
    assert!(ask_lease(address, word, &again).await.contains(r#""map":null"#), "a map that is known is not told again");
    for (token, body, status) in [
        ("another-word-of-some", r#"{"agent": "127.0.0.1"}"#, 401),
        (word, r#"{"agent": "10.0.0.11"}"#, 403),
        (word, r#"{"agent": "127.0.0.1", "networks": ["lab"]}"#, 400),
        (word, "{}", 400),
    ] {
        let answer = ask(token, body).await;
        assert!(answer.starts_with(&format!("HTTP/1.1 {status}")), "{body}: {answer}");
    }
    let (mut stream, mut answer) = (TcpStream::connect(address).await.unwrap(), String::new());
    stream.write_all(b"POST /v1/overlay/release HTTP/1.1\r\nhost: x\r\ncontent-length: 0\r\n\r\n").await.unwrap();
    stream.read_to_string(&mut answer).await.unwrap();
    assert!(answer.starts_with("HTTP/1.1 404"), "releasing is the operator's: {answer}");
}

#[tokio::test]
async fn nobody_is_told_of_the_overlay_before_every_source_was_heard() {
    let observed = Arc::new(heard_in_part());
    let address = serve_tcp("127.0.0.1:0".parse().unwrap(), Arc::clone(&observed)).await.unwrap();
    let body = r#"{"agent": "127.0.0.1", "networks": ["dcos"]}"#;
    let early = ask_lease(address, "a-word-of-the-agents", body).await;
    assert!(early.starts_with("HTTP/1.1 503") && early.contains("the whole overlay yet"), "{early}");
    let leases = show::document(&observed, "leases").await.unwrap();
    assert_eq!(leases.as_array().unwrap().len(), 1, "and none has a place by it: {leases}");
    observed.complete_map();
    let told = ask_lease(address, "a-word-of-the-agents", body).await;
    assert!(told.starts_with("HTTP/1.1 200"), "{told}");
}

/// The shape of an object that counts.
fn numbers(names: &[&str]) -> Value {
    names.iter().map(|name| ((*name).to_owned(), json!("number"))).collect::<serde_json::Map<_, _>>().into()
}

#[test]
fn what_has_no_number_is_counted() {
    let config = sluice_config::parse(TEXT, "test").unwrap();
    let observed = Observed::new(config.clone(), Vec::new(), Vec::new());
    let local = local_from_config(&config);
    let made = Publication::new(config, [0; 16], Claims::default()).make(local, Moment::default());
    let mut tables = made.tables.unwrap().unwrap();
    Arc::get_mut(&mut tables).unwrap().left_out = ["172.16.0.9:80/tcp: no number left".to_owned()].into();
    observed.note(Published { tables, report: made.report }, Duration::from_millis(2));
    assert_eq!(parse(&metrics::text(&observed))["sluice_left_out"][0].1, 1.0);
}

/// The shape of a document: member names and kinds, one element for each list.
fn shape(value: &Value) -> Value {
    match value {
        Value::Null => json!("null"),
        Value::Bool(_) => json!("bool"),
        Value::Number(_) => json!("number"),
        Value::String(_) => json!("string"),
        Value::Array(all) => Value::Array(all.iter().take(1).map(shape).collect()),
        Value::Object(members) => members.iter().map(|(k, v)| (k.clone(), shape(v))).collect(),
    }
}

#[tokio::test]
async fn the_schema_of_every_document_is_as_published() {
    let observed = observed();
    let books = json!({"rx": "number", "taken": "number", "made": "number", "tx": "number", "host": "number",
        "drops": "number", "given": "number", "held": "number", "balanced": "bool"});
    let backend = json!({"ip": "string", "port": "number", "weight": "number", "agent_ip": "null", "network": "null",
        "groups": [], "task": "null", "flows": "number", "state": "string", "since": "null", "judges": []});
    let mut with_vip = backend.clone();
    with_vip["vip"] = json!("string");
    with_vip["name"] = json!("null");
    let expected = [
        (
            "vips",
            json!([{"protocol": "string", "ip": "string", "port": "number", "name": "null", "framework": "null",
            "backends": [backend], "packets": "number"}]),
        ),
        ("backends", json!([with_vip])),
        ("drains", json!([])),
        (
            "sessions",
            json!({"workers": [{"worker": "number", "sessions": "number", "capacity": "number",
            "made": "number", "expired": "number", "evicted": "number", "masqueraded": "number", "entered": "number"}], "sessions": []}),
        ),
        ("drops", json!({"books": books, "reasons": [{"name": "string", "count": "number", "sentence": "string"}]})),
        (
            "workers",
            json!([{"worker": "number", "books": books, "turns": "number", "idle_turns": "number",
            "sleeps": "number", "sessions": "number", "events_lost": "number", "dns": {},
            "ports": [{"port": "string", "rx": "number", "rx_bytes": "number", "tx": "number", "tx_bytes": "number"}]}]),
        ),
        ("zone", json!([{"name": "string", "type": "string", "ttl": "number", "values": ["string"]}])),
        (
            "names",
            json!({"queries": "number", "queries_per_second": "number",
            "types": numbers(&["a", "aaaa", "any", "cname", "mx", "ns", "other", "ptr", "soa", "srv", "txt"]),
            "rcodes": numbers(&show::RCODES),
            "sources": numbers(&["mesos", "dcos", "reverse", "static", "none"]),
            "dropped": numbers(&["dns_malformed", "dns_bad_checksum", "dns_source_port", "dns_rate"]),
            "kernel": numbers(&observed.names.all().map(|(name, _)| name))}),
        ),
        ("labels", json!({"labels": [], "more_labels": "bool", "rejected": [], "fail_open": [], "mixed_groups": []})),
        ("sources", json!([])),
        ("resolvers", json!({"resolvers": [], "counters": {}})),
        (
            "policy",
            json!({"networks": [{"name": "string", "isolation": "string", "grouped": "number", "underlay_allow": []}],
            "agents": [], "denied": []}),
        ),
        ("groups", json!({"groups": [], "more": "number"})),
        (
            "networks",
            json!([{"name": "string", "subnet": "string", "prefix": "number", "own": "string", "mode": "string",
            "isolation": "string", "taken": "number", "parts": "number", "rx": "number", "tx": "number"}]),
        ),
        (
            "vteps",
            json!([{"ip": "string", "vtep_ip": "string", "vtep_mac": "string", "subnets": {"dcos": "string"},
            "subnets6": {}, "source": "string"}]),
        ),
        (
            "leases",
            json!([{"agent": "string", "vtep_ip": "string", "vtep_mac": "string", "subnets": {"dcos": "string"},
            "subnets6": {}, "state": "string", "heard_ago": "null", "why": "null"}]),
        ),
    ];
    assert_eq!(expected.iter().map(|(what, _)| *what).collect::<Vec<_>>(), show::SUBJECTS);
    for (what, expected) in expected {
        let document = show::document(&observed, what).await.unwrap();
        assert_eq!(shape(&document), expected, "{what}: {document}");
    }
    assert!(show::document(&observed, "everything").await.is_none());
}

#[tokio::test]
async fn packets_drops_and_books_are_those_of_the_workers() {
    let observed = observed();
    let vips = show::document(&observed, "vips").await.unwrap();
    assert_eq!((&vips[0]["ip"], &vips[0]["packets"]), (&json!("172.16.0.1"), &json!(3)));
    assert_eq!(vips[0]["backends"][1]["weight"], 0);
    let drops = show::document(&observed, "drops").await.unwrap();
    assert_eq!((&drops["books"]["rx"], &drops["books"]["balanced"]), (&json!(4), &json!(true)));
    assert_eq!(drops["reasons"].as_array().unwrap().len(), DropReason::COUNT, "zeros included");
    observed.workers[0].rx.add(1);
    let drops = show::document(&observed, "drops").await.unwrap();
    assert_eq!(drops["books"]["balanced"], false, "a packet that went nowhere is seen");
    let workers = show::document(&observed, "workers").await.unwrap();
    assert_eq!(workers[1]["dns"], json!({"nxdomain": 2}));
    observed.workers[0].drops(DropReason::DnsRate).add(3);
    observed.names.tcp_answers.fetch_add(4, Relaxed);
    let names = show::document(&observed, "names").await.unwrap();
    assert_eq!(
        (&names["queries"], &names["rcodes"]["nxdomain"], &names["dropped"]["dns_rate"]),
        (&json!(9), &json!(2), &json!(3))
    );
}

#[test]
fn a_node_is_ready_once_tables_are_published_and_every_marathon_was_listed() {
    let mut observed = observed();
    assert_eq!(observed.unready(), [""; 0]);
    let marathon =
        MarathonState { name: "http://m:8080".into(), error: Some("refused".into()), ..MarathonState::default() };
    observed.marathons = Box::new(move || vec![marathon.clone()]);
    assert_eq!(observed.unready(), ["Marathon http://m:8080 was not listed yet: refused"]);
    observed.marathons = Box::new(Vec::new);
    observed.mesos = Box::new(|| vec![MesosState { name: "zk://z:1/mesos".into(), ..MesosState::default() }]);
    assert_eq!(observed.unready(), ["Mesos zk://z:1/mesos was not heard yet"]);
    let fresh = Observed::new(observed.config.clone(), Vec::new(), Vec::new());
    assert_eq!(fresh.unready(), ["no tables are published yet"]);
}

/// Samples by name: labels and value.
type Samples = BTreeMap<String, Vec<(BTreeMap<String, String>, f64)>>;

/// Every sample of a text, by name; panics where the text breaks the format (version 0.0.4).
fn parse(text: &str) -> Samples {
    let mut kinds: BTreeMap<String, String> = BTreeMap::new();
    let mut samples: BTreeMap<String, Vec<_>> = BTreeMap::new();
    let mut series = BTreeSet::new();
    let mut helped = BTreeSet::new();
    for line in text.lines() {
        if let Some(rest) = line.strip_prefix("# HELP ") {
            let (name, help) = rest.split_once(' ').unwrap();
            assert!(!help.is_empty() && helped.insert(name.to_owned()), "HELP of {name} twice");
            continue;
        }
        if let Some(rest) = line.strip_prefix("# TYPE ") {
            let (name, kind) = rest.split_once(' ').unwrap();
            assert!(helped.contains(name) && kinds.insert(name.to_owned(), kind.to_owned()).is_none(), "{line}");
            assert_eq!(kind == "counter", name.ends_with("_total"), "{line}");
            continue;
        }
        let (head, value) = line.rsplit_once(' ').unwrap();
        let (name, labels) = match head.split_once('{') {
            None => (head, BTreeMap::new()),
            Some((name, rest)) => (name, labels(rest.strip_suffix('}').unwrap())),
        };
        assert!(
            name.starts_with("sluice_")
                && name.bytes().all(|b| b.is_ascii_lowercase() || b.is_ascii_digit() || b == b'_')
        );
        let family =
            ["_bucket", "_sum", "_count"].iter().find_map(|s| name.strip_suffix(s).filter(|f| kinds.contains_key(*f)));
        assert!(kinds.contains_key(family.unwrap_or(name)), "{name} without TYPE");
        assert!(series.insert(head.to_owned()), "{head} twice");
        let value = value.parse().unwrap_or_else(|_| panic!("{line}"));
        samples.entry(name.to_owned()).or_default().push((labels, value));
    }
    samples
}

fn labels(mut text: &str) -> BTreeMap<String, String> {
    let mut found = BTreeMap::new();
    while !text.is_empty() {
        let (name, rest) = text.split_once("=\"").unwrap();
        let (mut value, mut end, mut escaped) = (String::new(), None, false);
        for (at, c) in rest.char_indices() {
            match (escaped, c) {
                (false, '\\') => escaped = true,
                (false, '"') => {
                    end = Some(at + 1);
                    break;
                }
                (_, c) => {
                    escaped = false;
                    value.push(c);
                }
            }
        }
        assert!(found.insert(name.to_owned(), value).is_none());
        text = rest[end.unwrap()..].trim_start_matches(',');
    }
    found
}

#[test]
fn the_metrics_parse_and_say_what_the_counters_say() {
    let mut observed = observed();
    observed.marathons = Box::new(|| {
        vec![MarathonState {
            name: "http://\"odd\\name".into(),
            connected: true,
            events: 7,
            ..MarathonState::default()
        }]
    });
    observed.mesos = Box::new(|| vec![a_mesos()]);
    let samples = parse(&metrics::text(&observed));
    let one = |name: &str, label: &str, value: &str| {
        let found = samples[name].iter().filter(|(labels, _)| labels.get(label).is_some_and(|v| v == value));
        found.map(|(_, v)| *v).sum::<f64>()
    };
    assert_eq!(one("sluice_vip_packets_total", "vip", "172.16.0.1:80/tcp"), 3.0);
    assert_eq!(one("sluice_drop_packets_total", "reason", "no_service"), 1.0);
    assert_eq!(samples["sluice_drop_packets_total"].len(), 2 * DropReason::COUNT);
    assert_eq!(one("sluice_dns_responses_total", "rcode", "nxdomain"), 2.0);
    assert_eq!(one("sluice_rx_packets_total", "port", "lan"), 4.0);
    assert_eq!(one("sluice_vip_backends", "state", "draining"), 1.0);
    assert_eq!(one("sluice_marathon_connected", "marathon", "http://\"odd\\name"), 1.0);
    assert_eq!(one("sluice_mesos_connected", "mesos", "http://10.0.0.1:5050"), 1.0);
    assert_eq!(one("sluice_mesos_agents_waited_for", "mesos", "http://10.0.0.1:5050"), 3.0);
    assert_eq!(one("sluice_mesos_errors_total", "kind", "stream"), 2.0);
    assert_eq!(one("sluice_backend_healthy", "backend", "10.0.0.11:31001"), 1.0);
    assert_eq!(samples["sluice_backend_healthy"].len(), 2);
    assert_eq!(one("sluice_probes_total", "result", "refused"), 0.0);
    assert_eq!((samples["sluice_probes_total"].len(), samples["sluice_drains"][0].1), (8, 0.0));
    assert_eq!(samples["sluice_table_generation"][0].1, 1.0);
    assert_eq!(samples["sluice_left_out"][0].1, 0.0);
    assert_eq!(samples["sluice_marathon_to_dataplane_seconds_count"][0].1, 1.0);
    assert_eq!(one("sluice_marathon_to_dataplane_seconds_bucket", "le", "0.05"), 1.0);
    assert_eq!(one("sluice_marathon_to_dataplane_seconds_bucket", "le", "0.025"), 0.0);
}

fn a_mesos() -> MesosState {
    MesosState {
        name: "http://10.0.0.1:5050".into(),
        connected: true,
        known: true,
        leader: Some("10.0.0.1:5050".into()),
        heard_ago: Some(2.5),
        events: 9,
        stream_errors: 2,
        waiting: 3,
        error: Some("silent".into()),
        overlay: Some(OverlaySeen { asked: true, answers: true, errors: 1, ..OverlaySeen::default() }),
        ..MesosState::default()
    }
}

#[tokio::test]
async fn every_source_is_shown_with_when_it_was_heard_and_what_went_wrong() {
    let mut observed = observed();
    observed.marathons = Box::new(|| vec![MarathonState { name: "http://m:8080".into(), ..MarathonState::default() }]);
    observed.mesos = Box::new(|| vec![a_mesos()]);
    let shown = show::document(&observed, "sources").await.unwrap();
    assert_eq!(shown[0]["kind"], "marathon");
    assert_eq!(
        shown[1],
        json!({"kind": "mesos", "name": "http://10.0.0.1:5050", "connected": true, "leader": "10.0.0.1:5050", "listed": true,
            "heard_seconds_ago": 2.5, "events": 9, "stream_errors": 2, "list_errors": 0, "agents_waited_for": 3,
            "error": "silent"})
    );
    assert_eq!(
        (&shown[2]["kind"], &shown[2]["connected"], &shown[2]["list_errors"]),
        (&json!("overlay"), &json!(true), &json!(1))
    );
}

#[tokio::test]
async fn idle_connections_are_bounded_and_time_out_and_the_unix_socket_has_room_of_its_own() {
    let folder = std::env::temp_dir().join(format!("sluice-api-{}", std::process::id()));
    let path = folder.join("sluice.sock");
    let observed = Arc::new(observed());
    let _file = Socket::open(&path).await.unwrap().serve(Arc::clone(&observed));
    let address = serve_tcp("127.0.0.1:0".parse().unwrap(), observed).await.unwrap();
    let mut idle = Vec::new();
    for _ in 0..CONNECTIONS {
        idle.push(TcpStream::connect(address).await.unwrap());
    }
    let opened = Instant::now();
    let mut one_more = TcpStream::connect(address).await.unwrap();
    let refused = tokio::time::timeout(HEADER / 2, one_more.read(&mut [0; 16])).await.expect("closed at once");
    assert!(matches!(refused, Ok(0) | Err(_)));
    assert!(ask(&mut UnixStream::connect(&path).await.unwrap()).await.starts_with("HTTP/1.1 200"));
    for mut connection in idle {
        let _ = connection.read(&mut [0; 256]).await;
    }
    let took = opened.elapsed();
    assert!(took < HEADER + Duration::from_secs(3), "{took:?}");
    assert!(ask(&mut TcpStream::connect(address).await.unwrap()).await.starts_with("HTTP/1.1 200"));
    std::fs::remove_dir_all(&folder).unwrap();
}

async fn ask(stream: &mut (impl AsyncRead + AsyncWrite + Unpin)) -> String {
    let mut answer = String::new();
    let asked = stream.write_all(b"GET /metrics HTTP/1.1\r\nHost: sluice\r\n\r\n").await;
    if asked.is_ok() {
        let _ = stream.read_to_string(&mut answer).await;
    }
    answer
}
