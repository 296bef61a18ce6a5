//! The shell against a Marathon made of a plain TCP listener, which can do what no HTTP library would.

use std::collections::BTreeMap;
use std::net::Ipv4Addr;
use std::sync::Mutex as StdMutex;
use std::sync::atomic::{AtomicUsize, Ordering};

use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};
use tokio::net::{TcpListener, TcpStream};

use super::*;
use crate::fixture::marathon;

/// The path that apps are asked for by.
const LISTED: &str = super::APPS;

const APPS: &str = r#"{"apps":[{"id":"/web","tasks":[{"id":"web.1","host":"10.0.0.11","state":"TASK_RUNNING"}]}]}"#;
const STREAM_HEAD: &str = "HTTP/1.1 200 OK\r\nContent-Type: text/event-stream\r\n\r\n";

/// What a request is answered with: bytes, and whether the connection then stays open.
type Answer = (Vec<u8>, bool);

struct Fake {
    url: String,
    requests: Arc<StdMutex<Vec<String>>>,
    _task: Running,
}

fn ok(body: &str) -> Answer {
    (
        format!("HTTP/1.1 200 OK\r\nContent-Length: {}\r\nConnection: close\r\n\r\n{body}", body.len()).into_bytes(),
        false,
    )
}

fn status(line: &str) -> Answer {
    (format!("HTTP/1.1 {line}\r\nContent-Length: 0\r\nConnection: close\r\n\r\n").into_bytes(), false)
}

/// A good Marathon's answers, its stream quiet.
fn good(path: &str) -> Answer {
    match path {
        LISTED => ok(APPS),
        "/v2/pods::status" => ok("[]"),
        "/v2/info" => ok(r#"{"marathon_config":{"framework_name":"m"}}"#),
        "/v2/events" => (STREAM_HEAD.into(), true),
        _ => status("404 Not Found"),
    }
}

impl Fake {
    /// `answer` sees the path and how many requests for it came before.
    async fn new(answer: impl Fn(&str, usize) -> Answer + Send + Sync + 'static) -> Self {
        let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let url = format!("http://{}", listener.local_addr().unwrap());
        let requests = Arc::new(StdMutex::new(Vec::new()));
        let (log, answer) = (requests.clone(), Arc::new(answer));
        let task = Running::spawn(async move {
            while let Ok((socket, _)) = listener.accept().await {
                tokio::spawn(serve(socket, log.clone(), answer.clone()));
            }
        });
        Self { url, requests, _task: task }
    }

    fn requests(&self, path: &str) -> Vec<String> {
        let all = self.requests.lock().unwrap();
        all.iter().filter(|r| r.starts_with(&format!("GET {path} "))).cloned().collect()
    }
}

async fn serve(mut socket: TcpStream, log: Arc<StdMutex<Vec<String>>>, answer: Arc<impl Fn(&str, usize) -> Answer>) {
    let mut head = Vec::new();
    while !head.ends_with(b"\r\n\r\n") {
        match socket.read_u8().await {
            Ok(byte) => head.push(byte),
            Err(_) => return,
        }
    }
    let head = String::from_utf8_lossy(&head).into_owned();
    let path = head.split(' ').nth(1).unwrap_or_default().to_owned();
    let before = {
        let mut log = log.lock().unwrap();
        let before = log.iter().filter(|r| r.starts_with(&format!("GET {path} "))).count();
        log.push(head);
        before
    };
    let (bytes, open) = answer(&path, before);
    let _ = socket.write_all(&bytes).await;
    if open {
        std::future::pending::<()>().await;
    }
}

struct Following {
    events: mpsc::Receiver<Event>,
    status: watch::Receiver<Status>,
    _task: Running,
}

fn start(marathon: Marathon, settings: Settings) -> Following {
    let (sender, events) = mpsc::channel(16);
    let (status_sender, status) = watch::channel(Status::default());
    let task = Running::spawn(async move { follow(3, &marathon, settings, sender, status_sender).await.unwrap() });
    Following { events, status, _task: task }
}

fn to(urls: &[&str]) -> Marathon {
    Marathon { urls: urls.iter().map(|u| (*u).to_owned()).collect(), ..marathon("") }
}

impl Following {
    async fn listing(&mut self) -> Listing {
        let event = tokio::time::timeout(Duration::from_secs(20), self.events.recv()).await.unwrap().unwrap();
        match event {
            Event::Marathon { source: 3, listing } => listing,
            other @ (Event::Marathon { .. }
            | Event::Mesos { .. }
            | Event::MesosLost
            | Event::Hosts(_)
            | Event::Overlay(_)) => {
                panic!("{other:?}")
            }
        }
    }

    /// The next addresses; listings beside them are of no interest.
    async fn hosts(&mut self) -> BTreeMap<String, Ipv4Addr> {
        loop {
            let event = tokio::time::timeout(Duration::from_secs(20), self.events.recv()).await.unwrap().unwrap();
            if let Event::Hosts(found) = event {
                return found;
            }
        }
    }

    async fn until(&mut self, what: impl Fn(&Status) -> bool) -> Status {
        let seen = tokio::time::timeout(Duration::from_secs(20), self.status.wait_for(|s| what(s))).await;
        seen.unwrap_or_else(|_| panic!("never so")).unwrap().clone()
    }
}

fn error_of(status: &Status) -> &str {
    status.error.as_ref().map_or("", |(_, text)| text)
}

#[tokio::test]
async fn it_subscribes_then_lists_and_lists_again_at_an_event() {
    let fake = Fake::new(|path, _| match path {
        "/v2/events" => (format!("{STREAM_HEAD}event: status_update_event\ndata: {{}}\n\n").into_bytes(), true),
        _ => good(path),
    })
    .await;
    let mut following = start(to(&[&fake.url]), Settings::default());
    let listing = following.listing().await;
    assert_eq!((listing.framework.as_deref(), listing.tasks.len()), (Some("m"), 1));
    following.listing().await;
    assert!(fake.requests.lock().unwrap()[0].starts_with("GET /v2/events "), "the subscription goes first");
    assert!(following.until(|s| s.streaming && s.published == 2).await.hints >= 1);
}

#[tokio::test]
async fn a_stream_cut_in_the_middle_of_an_event_is_opened_again_and_everything_listed_again() {
    let fake = Fake::new(|path, before| match (path, before) {
        ("/v2/events", 0) => (format!("{STREAM_HEAD}event: status_upd").into_bytes(), false),
        _ => good(path),
    })
    .await;
    let mut following = start(to(&[&fake.url]), Settings::default());
    following.listing().await;
    following.listing().await;
    assert_eq!(following.until(|s| s.streaming && s.stream_errors == 1).await.url, 0);
    assert_eq!(fake.requests("/v2/events").len(), 2);
}

#[tokio::test]
async fn an_answer_that_is_cut_empty_compressed_or_not_json_changes_nothing() {
    let bad = [
        ok(&APPS[..APPS.len() / 2]),
        (b"HTTP/1.1 200 OK\r\nContent-Length: 500\r\n\r\n{\"apps\":[".to_vec(), false),
        ok(""),
        ok("<html>"),
        (b"HTTP/1.1 200 OK\r\nContent-Encoding: gzip\r\nContent-Length: 2\r\n\r\n\x1f\x8b".to_vec(), false),
        status("503 Service Unavailable"),
        status("404 Not Found"),
    ];
    futures_util::future::join_all(bad.map(one_bad_answer)).await;
}

/// The second listing is `bad`; what was known stays until the third.
async fn one_bad_answer(bad: Answer) {
    let fake = Fake::new(move |path, before| match (path, before) {
        (LISTED, 1) => bad.clone(),
        ("/v2/events", 0) => (format!("{STREAM_HEAD}event: x\ndata: 1\n\n").into_bytes(), true),
        _ => good(path),
    })
    .await;
    let mut following = start(to(&[&fake.url]), Settings::default());
    assert_eq!(following.listing().await.tasks.len(), 1);
    assert_eq!(following.listing().await.tasks.len(), 1, "nothing was published in between");
    assert_eq!(following.until(|s| s.published == 2).await.list_errors, 1);
    let compressible = fake.requests(LISTED).iter().any(|r| r.to_lowercase().contains("accept-encoding"));
    assert!(!compressible, "no compression is offered");
}

#[tokio::test]
async fn an_empty_list_of_apps_is_not_believed_at_once() {
    let ten = ten_tasks();
    let fake = Fake::new(move |path, before| match (path, before) {
        (LISTED, 1) => ok("{\"apps\":[]}"),
        (LISTED, _) => ok(&ten),
        ("/v2/events", 0) => (format!("{STREAM_HEAD}event: x\ndata: 1\n\n").into_bytes(), true),
        _ => good(path),
    })
    .await;
    let mut following = start(to(&[&fake.url]), Settings::default());
    following.listing().await;
    assert_eq!(following.listing().await.tasks.len(), 10);
    assert_eq!(following.until(|s| s.published == 2).await.held, 1);
}

#[tokio::test]
async fn tasks_whose_end_the_stream_has_told_go_at_once() {
    let end =
        |n| format!("event: status_update_event\ndata: {{\"taskId\":\"web.{n}\",\"taskStatus\":\"TASK_FAILED\"}}\n\n");
    let (ten, ends) = (ten_tasks(), (0..10).map(end).collect::<String>());
    let fake = Fake::new(move |path, before| match (path, before) {
        (LISTED, 0) => ok(&ten),
        (LISTED, _) => ok("{\"apps\":[]}"),
        ("/v2/events", 0) => (format!("{STREAM_HEAD}{ends}").into_bytes(), true),
        _ => good(path),
    })
    .await;
    let mut following = start(to(&[&fake.url]), Settings::default());
    assert_eq!(following.listing().await.tasks.len(), 10);
    assert_eq!(following.listing().await.tasks.len(), 0);
    assert_eq!(following.until(|s| s.published == 2).await.held, 0);
}

fn ten_tasks() -> String {
    let task = |n| format!(r#"{{"id":"web.{n}","host":"10.0.0.11","state":"TASK_RUNNING"}}"#);
    let tasks: Vec<String> = (0..10).map(task).collect();
    format!(r#"{{"apps":[{{"id":"/web","tasks":[{}]}}]}}"#, tasks.join(","))
}

#[tokio::test]
async fn apps_and_tasks_that_cannot_be_read_keep_what_was_known_of_them() {
    let app = |id: &str, tasks: &str| format!(r#"{{"id":"/{id}","tasks":{tasks}}}"#);
    let task = |id: &str| format!(r#"[{{"id":"{id}.1","host":"10.0.0.11","state":"TASK_RUNNING"}}]"#);
    let all: Vec<String> = ["a", "b", "c", "d"].iter().map(|id| app(id, &task(id))).collect();
    let first = format!("{{\"apps\":[{}]}}", all.join(","));
    let broken = [
        ("1,null,{\"id\":5}".to_owned(), "a.1 b.1 c.1 d.1"),
        (format!("{},{},{}", app("a", "\"no\""), app("b", "[{\"id\":\"b.1\",\"ports\":7}]"), all[2]), "a.1 b.1 c.1"),
        (format!("{},{{\"id\":\"/b\"}},{}", app("a", "[null]"), all[3]), "a.1 b.1 d.1"),
    ];
    for (body, expected) in broken {
        let (first, second) = (ok(&first), ok(&format!("{{\"apps\":[{body}]}}")));
        let fake = Fake::new(move |path, before| match (path, before) {
            (LISTED, 0) => first.clone(),
            (LISTED, _) => second.clone(),
            ("/v2/events", 0) => (format!("{STREAM_HEAD}event: x\ndata: 1\n\n").into_bytes(), true),
            _ => good(path),
        })
        .await;
        let mut following = start(to(&[&fake.url]), Settings::default());
        assert_eq!(following.listing().await.tasks.len(), 4);
        let ids: Vec<String> = following.listing().await.tasks.into_iter().map(|t| t.id.clone()).collect();
        assert_eq!(ids.join(" "), expected);
    }
}

#[tokio::test]
async fn an_endless_line_ends_the_stream_and_an_endless_body_the_listing() {
    let endless = Arc::new(AtomicUsize::new(0));
    let seen = endless.clone();
    let fake = Fake::new(move |path, before| match (path, before) {
        ("/v2/events", 0) => {
            seen.fetch_add(1, Ordering::Relaxed);
            ([STREAM_HEAD.as_bytes(), &vec![b'x'; 17 << 20]].concat(), true)
        }
        (LISTED, 0) => ([b"HTTP/1.1 200 OK\r\n\r\n".as_slice(), &vec![b' '; 3 << 20]].concat(), true),
        _ => good(path),
    })
    .await;
    let mut following = start(to(&[&fake.url]), Settings { body_octets: 1 << 20, seed: 1, ..Settings::default() });
    assert_eq!(following.listing().await.tasks.len(), 1);
    let status = following.until(|s| s.stream_errors == 1 && s.list_errors >= 1).await;
    assert!(status.published >= 1);
    assert_eq!(endless.load(Ordering::Relaxed), 1);
}

#[tokio::test]
async fn an_answer_above_the_default_limit_is_refused_before_it_is_read() {
    let fake = Fake::new(|path, before| match (path, before) {
        (LISTED, 0) => (format!("HTTP/1.1 200 OK\r\nContent-Length: {}\r\n\r\n", (64 << 20) + 1).into_bytes(), true),
        ("/v2/events", _) => status("503 Service Unavailable"),
        _ => good(path),
    })
    .await;
    let fetch = Fetch::new(&to(&[&fake.url])).unwrap();
    let error = list(&fetch, 0, Settings::default().body_octets).await.unwrap_err().to_string();
    assert!(error.contains("longer than 67108864 octets") && error.contains("body_octets"), "{error}");
}

#[tokio::test]
async fn a_dead_url_gives_way_to_the_next() {
    let dead = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let address = format!("http://{}", dead.local_addr().unwrap());
    drop(dead);
    let fake = Fake::new(|path, _| good(path)).await;
    let mut following = start(to(&[&address, &fake.url]), Settings::default());
    assert_eq!(following.listing().await.tasks.len(), 1);
    assert_eq!(following.until(|s| s.streaming).await.url, 1);
}

#[tokio::test]
async fn a_token_goes_to_configured_hosts_only() {
    let folder = std::env::temp_dir().join(format!("sluice-token-{}", std::process::id()));
    std::fs::create_dir_all(&folder).unwrap();
    let token_file = folder.join("token");
    std::fs::write(&token_file, "s3cret\n").unwrap();
    let stranger = Fake::new(|path, _| good(path)).await;
    let leader = Fake::new(|path, _| good(path)).await;
    let (to_stranger, to_leader) = (stranger.url.clone(), leader.url.clone());
    let standby = Fake::new(move |path, before| {
        let host = if before == 0 { &to_stranger } else { &to_leader };
        (
            format!("HTTP/1.1 307 T\r\nLocation: {host}{path}\r\nContent-Length: 0\r\nConnection: close\r\n\r\n")
                .into_bytes(),
            false,
        )
    })
    .await;
    let marathon = Marathon { token_file: Some(token_file), ..to(&[&standby.url, &leader.url]) };
    let fetch = Fetch::new(&marathon).unwrap();
    let refused = fetch.get(0, "/v2/info", 1000).await.unwrap_err();
    assert!(matches!(refused, FetchError::Redirect { .. }), "{refused}");
    assert!(fetch.get(0, "/v2/info", 1000).await.unwrap().is_some());
    assert_eq!(stranger.requests.lock().unwrap().len(), 0, "the stranger was not even asked");
    let asked = leader.requests("/v2/info");
    assert!(asked[0].to_lowercase().contains("authorization: token=s3cret"), "{asked:?}");
    assert!(!format!("{fetch:?} {refused}").contains("s3cret"));
    std::fs::remove_dir_all(&folder).unwrap();
}

#[tokio::test]
async fn a_password_goes_as_basic_and_a_redirect_loop_ends() {
    let folder = std::env::temp_dir().join(format!("sluice-password-{}", std::process::id()));
    std::fs::create_dir_all(&folder).unwrap();
    let password_file = folder.join("password");
    std::fs::write(&password_file, "pw").unwrap();
    let fake = Fake::new(|path, _| match path {
        "/v2/info" => status("302 Found\r\nLocation: /v2/info"),
        _ => good(path),
    })
    .await;
    let marathon = Marathon { user: Some("u".into()), password_file: Some(password_file), ..to(&[&fake.url]) };
    let fetch = Fetch::new(&marathon).unwrap();
    fetch.get(0, "/v2/pods::status", 1000).await.unwrap();
    assert!(fake.requests("/v2/pods::status")[0].to_lowercase().contains("authorization: basic dtpwdw=="));
    assert!(matches!(fetch.get(0, "/v2/info", 1000).await, Err(FetchError::RedirectLoop { .. })));
    std::fs::remove_dir_all(&folder).unwrap();
}

#[tokio::test]
async fn what_is_no_event_stream_is_not_read_as_one() {
    let fake = Fake::new(|path, _| match path {
        "/v2/events" => (b"HTTP/1.1 200 OK\r\nContent-Type: text/html\r\n\r\n".to_vec(), true),
        _ => good(path),
    })
    .await;
    let mut following = start(to(&[&fake.url]), Settings::default());
    let status = following.until(|s| s.stream_errors > 0).await;
    assert!(error_of(&status).contains("text/event-stream"), "{status:?}");
    assert_eq!(following.listing().await.tasks.len(), 1, "listing goes on without a stream");
}

#[tokio::test]
async fn a_host_name_of_an_agent_is_looked_up_beside_its_listing() {
    let fake = Fake::new(|path, _| match path {
        LISTED => ok(&APPS.replace("10.0.0.11", "localhost")),
        _ => good(path),
    })
    .await;
    let mut following = start(to(&[&fake.url]), Settings::default());
    following.listing().await;
    assert_eq!(following.hosts().await, BTreeMap::from([("localhost".into(), Ipv4Addr::LOCALHOST)]));
}

static RESOLVING: AtomicUsize = AtomicUsize::new(0);
static MOST_RESOLVING: AtomicUsize = AtomicUsize::new(0);

/// Says nothing for three seconds, but for the one that is good.
fn dead_resolver(name: &str) -> Option<Ipv4Addr> {
    let running = RESOLVING.fetch_add(1, Ordering::SeqCst) + 1;
    MOST_RESOLVING.fetch_max(running, Ordering::SeqCst);
    let found = (name == "good").then_some(Ipv4Addr::new(10, 0, 0, 1));
    if found.is_none() {
        std::thread::sleep(Duration::from_secs(3));
    }
    RESOLVING.fetch_sub(1, Ordering::SeqCst);
    found
}

#[tokio::test]
async fn a_dead_resolver_slows_no_listing_and_takes_few_threads() {
    let task = |host: &str| format!(r#"{{"id":"{host}","host":"{host}","state":"TASK_RUNNING","appId":"/web"}}"#);
    let hosts = (0..150).map(|n| format!("nowhere-{n}")).chain(["good".to_owned()]);
    let tasks: Vec<String> = hosts.map(|host| task(&host)).collect();
    let apps = format!(r#"{{"apps":[{{"id":"/web","tasks":[{}]}}]}}"#, tasks.join(","));
    let fake = Fake::new(move |path, before| match (path, before) {
        (LISTED, _) => ok(&apps),
        ("/v2/events", 0..5) => (format!("{STREAM_HEAD}event: x\ndata: 1\n\n").into_bytes(), false),
        _ => good(path),
    })
    .await;
    let begun = Instant::now();
    let mut following = start(to(&[&fake.url]), Settings { resolve: dead_resolver, ..Settings::default() });
    assert_eq!(following.listing().await.tasks.len(), 151);
    assert!(begun.elapsed() < Duration::from_millis(2500), "{:?}", begun.elapsed());
    assert_eq!(following.hosts().await.get("good"), Some(&Ipv4Addr::new(10, 0, 0, 1)));
    assert!(begun.elapsed() < Duration::from_secs(19), "{:?}", begun.elapsed());
    let most = MOST_RESOLVING.load(Ordering::SeqCst);
    assert!((1..=hosts::AT_ONCE).contains(&most), "{most} look-ups at a time");
}

#[tokio::test]
async fn a_marathon_that_is_down_fills_no_log() {
    let lines = Arc::new(AtomicUsize::new(0));
    let counted = lines.clone();
    let subscriber = tracing_subscriber::fmt().with_writer(move || {
        counted.fetch_add(1, Ordering::Relaxed);
        std::io::sink()
    });
    let _logging = tracing::subscriber::set_default(subscriber.finish());
    let dead = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let address = format!("http://{}", dead.local_addr().unwrap());
    drop(dead);
    let mut following = start(to(&[&address]), Settings::default());
    following.until(|s| s.stream_errors >= 5 && s.list_errors >= 5).await;
    // The stream, and whichever of the three parts of a listing failed first.
    assert!((1..=4).contains(&lines.load(Ordering::Relaxed)), "{lines:?}");
}

#[tokio::test]
async fn it_ends_when_nobody_listens() {
    let fake = Fake::new(|path, _| good(path)).await;
    let (sender, events) = mpsc::channel(1);
    drop(events);
    let (status, _keep) = watch::channel(Status::default());
    follow(0, &to(&[&fake.url]), Settings::default(), sender, status).await.unwrap();
}

#[test]
fn a_configuration_that_cannot_be_used_is_refused_with_its_key() {
    let refused = |m: Marathon| Fetch::new(&m).unwrap_err().to_string();
    assert!(refused(to(&[])).contains("no urls"));
    assert!(refused(to(&["marathon:8080"])).contains("marathon:8080"));
    assert!(!refused(to(&["http://u:pw@host"])).contains("pw"), "a password is not repeated");
    assert!(refused(Marathon { user: Some("u".into()), ..to(&["http://h"]) }).contains("password_file"));
    assert!(refused(Marathon { ca_file: Some("/no/such".into()), ..to(&["https://h"]) }).contains("/no/such"));
}

/// An https Marathon on `localhost` that answers every request with an empty list of pods, and its CA in a file.
async fn tls_fake(name: &str, expired: bool, folder: &std::path::Path) -> (String, std::path::PathBuf, Running) {
    let _ = rustls::crypto::ring::default_provider().install_default();
    let ca_key = rcgen::KeyPair::generate().unwrap();
    let mut ca = rcgen::CertificateParams::new(Vec::<String>::new()).unwrap();
    ca.is_ca = rcgen::IsCa::Ca(rcgen::BasicConstraints::Unconstrained);
    let ca_file = folder.join(format!("{name}-{expired}.pem"));
    std::fs::write(&ca_file, ca.self_signed(&ca_key).unwrap().pem()).unwrap();
    let key = rcgen::KeyPair::generate().unwrap();
    let mut leaf = rcgen::CertificateParams::new(vec![name.to_owned()]).unwrap();
    if expired {
        leaf.not_after = rcgen::date_time_ymd(2020, 1, 1);
    }
    let leaf = leaf.signed_by(&key, &rcgen::Issuer::from_params(&ca, &ca_key)).unwrap();
    let key = rustls::pki_types::PrivateKeyDer::try_from(key.serialize_der()).unwrap();
    let config =
        rustls::ServerConfig::builder().with_no_client_auth().with_single_cert(vec![leaf.der().clone()], key).unwrap();
    let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let url = format!("https://localhost:{}", listener.local_addr().unwrap().port());
    let acceptor = tokio_rustls::TlsAcceptor::from(Arc::new(config));
    let task = Running::spawn(async move {
        while let Ok((socket, _)) = listener.accept().await {
            let Ok(mut socket) = acceptor.accept(socket).await else { continue };
            let mut head = [0; 4096];
            let _ = socket.read(&mut head).await;
            let _ = socket.write_all(&ok("[]").0).await;
            let _ = socket.shutdown().await;
        }
    });
    (url, ca_file, task)
}

#[tokio::test]
async fn https_needs_a_known_ca_a_fresh_certificate_and_the_right_name() {
    let folder = std::env::temp_dir().join(format!("sluice-tls-{}", std::process::id()));
    std::fs::create_dir_all(&folder).unwrap();
    let (url, ca, _good) = tls_fake("localhost", false, &folder).await;
    let (expired_url, expired_ca, _expired) = tls_fake("localhost", true, &folder).await;
    let (other_url, other_ca, _other) = tls_fake("other.example", false, &folder).await;
    for (url, ca, expected) in [
        (&url, Some(&ca), None),
        (&url, None, Some("UnknownIssuer")),
        (&url, Some(&other_ca), Some("certificate")),
        (&expired_url, Some(&expired_ca), Some("expired")),
        (&other_url, Some(&other_ca), Some("not valid for")),
    ] {
        let marathon = Marathon { ca_file: ca.cloned(), ..to(&[url]) };
        let answer = match Fetch::new(&marathon) {
            Ok(fetch) => fetch.get(0, "/v2/pods::status", 1000).await.map_err(|e| e.to_string()),
            // A machine without any CA of its own.
            Err(StartError::Tls { .. }) if ca.is_none() => continue,
            Err(error) => panic!("{error}"),
        };
        match (answer, expected) {
            (Ok(body), None) => assert_eq!(body.as_deref(), Some(b"[]".as_slice())),
            (Err(error), Some(text)) => assert!(error.contains(text), "{error}"),
            (answer, _) => panic!("{expected:?}: {answer:?}"),
        }
    }
    std::fs::remove_dir_all(&folder).unwrap();
}
