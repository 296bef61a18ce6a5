//! The shell against masters made of plain TCP listeners, which can do what no HTTP library would.

use std::collections::BTreeMap;
use std::path::{Path, PathBuf};
use std::sync::Mutex as StdMutex;
use std::sync::atomic::{AtomicUsize, Ordering};

use sluice_config::model::Access;
use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};
use tokio::net::TcpListener;

use super::*;

/// What a request is answered with, and whether the connection then stays open.
type Answer = (Vec<u8>, bool);

struct Fake {
    url: String,
    requests: Arc<StdMutex<Vec<String>>>,
    _task: Running,
}

impl Fake {
    /// `answer` sees the first line, without the version, and the body, and how many requests came before.
    async fn new(answer: impl Fn(&str, usize) -> Answer + Send + Sync + 'static) -> Self {
        let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let url = format!("http://{}", listener.local_addr().unwrap());
        let requests = Arc::new(StdMutex::new(Vec::new()));
        let (log, answer) = (Arc::clone(&requests), Arc::new(answer));
        let task = Running::spawn(async move {
            while let Ok((mut socket, _)) = listener.accept().await {
                let (log, answer) = (Arc::clone(&log), Arc::clone(&answer));
                tokio::spawn(async move {
                    let Some(whole) = request(&mut socket).await else { return };
                    let (head, body) = whole.split_once("\r\n\r\n").unwrap();
                    let line = head.lines().next().unwrap().trim_end_matches(" HTTP/1.1");
                    let before = {
                        let mut log = log.lock().unwrap();
                        log.push(whole.clone());
                        log.len() - 1
                    };
                    let (bytes, open) = answer(&format!("{line} {body}"), before);
                    let _ = socket.write_all(&bytes).await;
                    if open {
                        std::future::pending::<()>().await;
                    }
                });
            }
        });
        Self { url, requests, _task: task }
    }

    fn asked(&self, what: &str) -> usize {
        self.requests.lock().unwrap().iter().filter(|r| r.contains(what)).count()
    }
}

async fn request(socket: &mut tokio::net::TcpStream) -> Option<String> {
    let mut whole = Vec::new();
    loop {
        whole.push(socket.read_u8().await.ok()?);
        let text = String::from_utf8_lossy(&whole);
        let Some((head, body)) = text.split_once("\r\n\r\n") else { continue };
        let length = head.to_lowercase().lines().find_map(|l| l.strip_prefix("content-length: ")?.parse().ok());
        if body.len() >= length.unwrap_or(0) {
            return Some(text.into_owned());
        }
    }
}

fn ok(body: &str) -> Answer {
    let head = format!("HTTP/1.1 200 OK\r\nContent-Length: {}\r\nConnection: close\r\n\r\n", body.len());
    (format!("{head}{body}").into_bytes(), false)
}

fn status(line: &str) -> Answer {
    (format!("HTTP/1.1 {line}\r\nContent-Length: 0\r\nConnection: close\r\n\r\n").into_bytes(), false)
}

fn records(all: &[String]) -> Answer {
    let mut bytes = b"HTTP/1.1 200 OK\r\nContent-Type: application/json\r\n\r\n".to_vec();
    bytes.extend(all.iter().flat_map(|r| format!("{}\n{r}", r.len()).into_bytes()));
    (bytes, true)
}

fn task(id: &str) -> String {
    format!(
        r#"{{"task_id":{{"value":"{id}"}},"framework_id":{{"value":"F"}},"agent_id":{{"value":"S1"}},"state":"TASK_RUNNING"}}"#
    )
}

/// `SUBSCRIBED`, with these tasks on the agent S1, or with no agent.
fn subscribed(tasks: &[&str], agent: bool) -> String {
    let tasks: Vec<String> = tasks.iter().map(|id| task(id)).collect();
    let agents = if agent { r#"{"agent_info":{"id":{"value":"S1"},"hostname":"localhost"}}"# } else { "" };
    format!(
        r#"{{"type":"SUBSCRIBED","subscribed":{{"heartbeat_interval_seconds":1,"get_state":{{
        "get_tasks":{{"tasks":[{}]}},"get_agents":{{"agents":[{agents}]}},
        "get_frameworks":{{"frameworks":[{{"framework_info":{{"id":{{"value":"F"}},"name":"marathon"}}}}]}}}}}}}}"#,
        tasks.join(",")
    )
}

fn master(id: &str) -> Answer {
    ok(&format!(
        r#"{{"type":"GET_MASTER","get_master":{{"master_info":{{"id":"{id}","pid":"master@10.0.0.9:5050"}}}}}}"#
    ))
}

/// A master that streams these tasks and then is quiet.
fn good(request: &str, tasks: &[&str]) -> Answer {
    match request {
        r#"POST /api/v1 {"type":"SUBSCRIBE"}"# => records(&[subscribed(tasks, true)]),
        r#"POST /api/v1 {"type":"GET_MASTER"}"# => master("m1"),
        _ => status("404 Not Found"),
    }
}

fn state(tasks: &str) -> Answer {
    ok(&format!(
        r#"{{"id":"m1","leader":"master@10.0.0.9:5050","pid":"master@10.0.0.9:5050","slaves":[{{"id":"S1"}}],
        "frameworks":[{{"id":"F","tasks":[{tasks}]}}]}}"#
    ))
}

struct Following {
    events: mpsc::Receiver<Event>,
    seen: watch::Receiver<Seen>,
    _task: Running,
}

fn mesos(urls: &[&str]) -> Mesos {
    Mesos {
        masters: Masters::Listed(urls.iter().map(|u| (*u).to_owned()).collect()),
        refresh_seconds: 1,
        reregister_seconds: 2,
        state_octets: 1 << 20,
        access: Access::default(),
    }
}

fn start(mesos: Mesos) -> Following {
    start_with(mesos, Settings::default())
}

fn start_with(mesos: Mesos, settings: Settings) -> Following {
    let (sender, events) = mpsc::channel(16);
    let (status, seen) = watch::channel(Seen::default());
    let task = Running::spawn(async move { follow(&mesos, settings, sender, status).await.unwrap() });
    Following { events, seen, _task: task }
}

impl Following {
    /// The tasks of the next facts, and whether they are streamed.
    async fn tasks(&mut self) -> (String, bool) {
        let (facts, streaming) = self.facts().await;
        let ids: Vec<&str> = facts.tasks.iter().map(|t| t.id.as_str()).collect();
        (ids.join(" "), streaming)
    }

    async fn facts(&mut self) -> (Arc<Facts>, bool) {
        loop {
            let event = tokio::time::timeout(Duration::from_secs(20), self.events.recv()).await.unwrap().unwrap();
            if let Event::Mesos { facts, streaming } = event {
                return (facts, streaming);
            }
        }
    }

    async fn until(&mut self, wanted: impl Fn(&Status) -> bool) -> Status {
        let found = self.seen.wait_for(|s| wanted(&s.status));
        tokio::time::timeout(Duration::from_secs(20), found).await.unwrap().unwrap().status.clone()
    }
}

fn error_of(status: &Status) -> &str {
    status.error.as_ref().map_or("", |(_, error)| error)
}

#[tokio::test]
async fn the_stream_says_everything_then_changes_and_who_leads() {
    let added = format!(r#"{{"type":"TASK_ADDED","task_added":{{"task":{}}}}}"#, task("b"));
    let fake = Fake::new(move |request, _| match request {
        r#"POST /api/v1 {"type":"SUBSCRIBE"}"# => records(&[subscribed(&["a"], true), added.clone()]),
        _ => good(request, &[]),
    })
    .await;
    let mut following = start(mesos(&[&fake.url]));
    let (facts, streaming) = following.facts().await;
    assert!(streaming && facts.tasks.len() == 1, "{facts:?}");
    assert_eq!(
        (facts.leader.as_ref().unwrap().to_string(), facts.master.as_deref()),
        ("10.0.0.9:5050".into(), Some("m1"))
    );
    assert_eq!(facts.masters.len(), 1);
    let (mut tasks, mut hosts) = (0, BTreeMap::new());
    while tasks < 2 || hosts.is_empty() {
        match following.events.recv().await.unwrap() {
            Event::Mesos { facts, streaming: true } => tasks = facts.tasks.len(),
            Event::Hosts(found) => hosts = found,
            other @ (Event::Marathon { .. } | Event::Mesos { .. } | Event::MesosLost | Event::Overlay(_)) => {
                panic!("{other:?}")
            }
        }
    }
    assert!(hosts.contains_key("localhost"), "agents' names are looked up");
}

#[tokio::test]
async fn a_stream_that_is_silent_or_cut_anywhere_is_opened_again_and_nothing_is_lost_meanwhile() {
    let whole = subscribed(&["a"], true);
    let fake = Fake::new(move |request, _| match request {
        // 1 s heartbeats: silent for three of them, then cut inside a record.
        r#"POST /api/v1 {"type":"SUBSCRIBE"}"# => {
            let (mut bytes, _) = records(std::slice::from_ref(&whole));
            bytes.extend_from_slice(b"500\n{\"type\":");
            (bytes, true)
        }
        _ => good(request, &[]),
    })
    .await;
    let mut following = start(mesos(&[&fake.url]));
    assert_eq!(following.tasks().await, ("a".into(), true));
    let status = following.until(|s| s.stream_errors >= 1).await;
    assert!(error_of(&status).contains("silent for 3 s"), "{status:?}");
    assert_eq!(following.tasks().await, ("a".into(), true));
    assert_eq!(following.seen.borrow().status.held, 0, "it is the same master");
}

#[tokio::test]
async fn without_the_operator_api_the_state_is_polled_at_either_path() {
    let polls = Arc::new(AtomicUsize::new(0));
    let count = Arc::clone(&polls);
    let fake = Fake::new(move |request, _| match request {
        "GET /master/state " if count.fetch_add(1, Ordering::SeqCst) < 2 => {
            state(r#"{"id":"a","state":"TASK_RUNNING"}"#)
        }
        "GET /master/state " => state(r#"{"id":"b","state":"TASK_RUNNING"}"#),
        _ => status("404 Not Found"),
    })
    .await;
    let mut following = start(mesos(&[&fake.url]));
    assert_eq!(following.tasks().await, ("a".into(), false));
    assert_eq!(following.tasks().await, ("b".into(), false));
    assert!(polls.load(Ordering::SeqCst) >= 3 && following.seen.borrow().status.stream_errors > 0);
}

#[tokio::test]
async fn a_standby_leads_to_the_leader_and_no_further_and_a_refusal_says_what_to_set() {
    let folder = std::env::temp_dir().join(format!("sluice-mesos-token-{}", std::process::id()));
    std::fs::create_dir_all(&folder).unwrap();
    let token_file = folder.join("token");
    std::fs::write(&token_file, "s3cret\n").unwrap();
    let leader = Fake::new(|request, _| good(request, &["a"])).await;
    let stranger = Fake::new(|request, _| good(request, &["x"])).await;
    let to = |url: &str| {
        let url = url.trim_start_matches("http:").to_owned();
        move |request: &str, _| {
            let path = request.split(' ').nth(1).unwrap_or_default();
            status(&format!("307 Temporary Redirect\r\nLocation: {url}{path}"))
        }
    };
    let standby = Fake::new(to(&leader.url)).await;
    let access = Access { token_file: Some(token_file), ..Access::default() };
    let mut following = start(Mesos { access: access.clone(), ..mesos(&[&standby.url, &leader.url]) });
    assert_eq!(following.tasks().await, ("a".into(), true));
    assert_eq!(following.seen.borrow().status.stream_errors, 0, "the redirect was followed, body and all");
    assert!(leader.asked("authorization: token=s3cret") >= 1);
    let lost = Fake::new(to(&stranger.url)).await;
    let mut following = start(Mesos { access: access.clone(), ..mesos(&[&lost.url]) });
    let status_seen = following.until(|s| s.stream_errors > 0).await;
    assert!(error_of(&status_seen).contains("not among the masters of [mesos]"), "{status_seen:?}");
    assert_eq!(stranger.asked(""), 0, "the stranger was not even asked");
    let guarded = Fake::new(|_, _| status("401 Unauthorized")).await;
    let mut following = start(mesos(&[&guarded.url]));
    let seen = following.until(|s| s.stream_errors > 0).await;
    assert!(error_of(&seen).contains("set user and password_file, or token_file, in [mesos]"), "{seen:?}");
    let mut following = start(Mesos { access, ..mesos(&[&guarded.url]) });
    let seen = following.until(|s| s.stream_errors > 0).await;
    assert!(error_of(&seen).contains("what token_file of [mesos] holds is not accepted"), "{seen:?}");
    assert!(!format!("{seen:?}").contains("s3cret"));
    std::fs::remove_dir_all(&folder).unwrap();
}

#[tokio::test]
async fn a_new_master_that_knows_no_agent_yet_takes_nothing_away_until_the_time_is_over() {
    let subscriptions = Arc::new(AtomicUsize::new(0));
    let count = Arc::clone(&subscriptions);
    let fake = Fake::new(move |request, _| match request {
        r#"POST /api/v1 {"type":"SUBSCRIBE"}"# if count.fetch_add(1, Ordering::SeqCst) == 0 => {
            // It ends.
            (records(&[subscribed(&["a"], true)]).0, false)
        }
        r#"POST /api/v1 {"type":"SUBSCRIBE"}"# => records(&[subscribed(&[], false)]),
        r#"POST /api/v1 {"type":"GET_MASTER"}"# => master(if count.load(Ordering::SeqCst) == 1 { "m1" } else { "m2" }),
        _ => status("404 Not Found"),
    })
    .await;
    let mut following = start(mesos(&[&fake.url]));
    assert_eq!(following.tasks().await, ("a".into(), true));
    let (facts, _) = following.facts().await;
    assert_eq!((facts.master.as_deref(), facts.tasks.len(), facts.agents.len()), (Some("m2"), 1, 1), "held");
    let held = following.until(|s| s.waiting == 1).await;
    assert_eq!(held.held, 1);
    assert_eq!(following.tasks().await, (String::new(), true), "after reregister_seconds");
}

#[tokio::test]
async fn what_is_too_long_or_endless_or_no_recordio_is_refused_by_name_and_what_was_known_stays() {
    let long = format!("{}\n", 2 << 20);
    let digits = "9".repeat(4096);
    for (stream, sentence) in
        [(long.as_str(), "state_octets"), (digits.as_str(), "no RecordIO"), ("12\n{\"a\":1}     ", "no type")]
    {
        let bytes = format!("HTTP/1.1 200 OK\r\n\r\n{stream}");
        let fake = Fake::new(move |request, _| match request {
            r#"POST /api/v1 {"type":"SUBSCRIBE"}"# => (bytes.clone().into_bytes(), true),
            "GET /state " => (b"HTTP/1.1 200 OK\r\nContent-Length: 524288000\r\n\r\n{".to_vec(), true),
            _ => status("404 Not Found"),
        })
        .await;
        let mut following = start(mesos(&[&fake.url]));
        let seen = following.until(|s| s.stream_errors > 0).await;
        assert!(error_of(&seen).contains(sentence), "{sentence}: {seen:?}");
        let seen = following.until(|s| s.list_errors > 0 && error_of(s).contains("longer than")).await;
        assert!(error_of(&seen).contains("[mesos] state_octets"), "{seen:?}");
        assert_eq!(seen.published, 0);
    }
}

#[tokio::test]
async fn it_ends_when_nobody_listens_and_a_configuration_that_cannot_be_used_is_refused() {
    let fake = Fake::new(|request, _| good(request, &[])).await;
    let (sender, events) = mpsc::channel(1);
    drop(events);
    let (status, _keep) = watch::channel(Seen::default());
    follow(&mesos(&[&fake.url]), Settings::default(), sender, status).await.unwrap();
    let (sender, _events) = mpsc::channel(1);
    let (status, _keep) = watch::channel(Seen::default());
    let access = Access { ca_file: Some("/no/such".into()), ..Access::default() };
    let refused =
        follow(&Mesos { access, ..mesos(&[&fake.url]) }, Settings::default(), sender, status).await.unwrap_err();
    assert!(refused.to_string().starts_with("[mesos] /no/such"), "{refused}");
}

/// `/overlay-master/state` with one agent, which has joined.
fn overlay(agent: u8) -> Answer {
    ok(&format!(
        r#"{{"network":{{"overlays":[{{"name":"dcos","subnet":"9.0.0.0/8","prefix":24}}]}},"agents":[
        {{"ip":"10.0.0.{agent}","overlays":[{{"info":{{"name":"dcos"}},"subnet":"9.0.{agent}.0/24","state":{{"status":"STATUS_OK"}},
        "backend":{{"vxlan":{{"vtep_ip":"44.128.0.{agent}/20","vtep_mac":"70:b3:d5:80:00:02"}}}}}}]}}]}}"#
    ))
}

impl Following {
    /// The last octets of the agents that the overlay's master told of next.
    async fn overlay(&mut self) -> Vec<u8> {
        loop {
            let event = tokio::time::timeout(Duration::from_secs(20), self.events.recv()).await.unwrap().unwrap();
            if let Event::Overlay(said) = event {
                return said.agents.iter().map(|agent| agent.ip.octets()[3]).collect();
            }
        }
    }

    async fn until_overlay(&mut self, wanted: impl Fn(&OverlaySeen) -> bool) -> OverlaySeen {
        let found = self.seen.wait_for(|s| s.overlay.as_ref().is_some_and(&wanted));
        tokio::time::timeout(Duration::from_secs(20), found).await.unwrap().unwrap().overlay.clone().unwrap()
    }
}

#[tokio::test]
async fn the_leaders_overlay_module_is_asked_with_our_credentials_and_its_errors_are_listed() {
    let folder = std::env::temp_dir().join(format!("sluice-mesos-overlay-{}", std::process::id()));
    std::fs::create_dir_all(&folder).unwrap();
    let token_file = folder.join("token");
    std::fs::write(&token_file, "s3cret\n").unwrap();
    let access = Access { token_file: Some(token_file), ..Access::default() };
    let leads = Arc::new(StdMutex::new(String::new()));
    let pid = Arc::clone(&leads);
    let questions = AtomicUsize::new(0);
    let leader = Fake::new(move |request, _| match request {
        r#"POST /api/v1 {"type":"GET_MASTER"}"# => {
            let pid = pid.lock().unwrap().replace("http://", "master@");
            ok(&format!(r#"{{"type":"GET_MASTER","get_master":{{"master_info":{{"id":"m1","pid":"{pid}"}}}}}}"#))
        }
        "GET /overlay-master/state " => match questions.fetch_add(1, Ordering::SeqCst) {
            0 => overlay(11),
            1 => status("500 Internal Server Error"),
            2 => ok("{}"),
            _ => overlay(12),
        },
        _ => good(request, &["a"]),
    })
    .await;
    leads.lock().unwrap().clone_from(&leader.url);
    let other = Fake::new(|_, _| overlay(99)).await;
    let settings = Settings { overlay: true, ..Settings::default() };
    let mut following = start_with(Mesos { access, ..mesos(&[&other.url, &leader.url]) }, settings);
    assert_eq!(following.overlay().await, [11]);
    let seen = following.until_overlay(|seen| seen.errors == 1).await;
    assert!(seen.error.as_ref().unwrap().contains("500") && seen.agents == 1 && !seen.answers, "{seen:?}");
    let seen = following.until_overlay(|seen| seen.errors == 2).await;
    assert!(seen.error.as_ref().unwrap().contains("neither"), "{seen:?}");
    assert_eq!(following.overlay().await, [12], "errors took nothing away, and were no events");
    let seen = following.until_overlay(|seen| seen.answers && seen.agents == 1).await;
    assert_eq!((seen.errors, seen.error), (2, None));
    assert_eq!(other.asked("/overlay-master/state"), 0);
    let asked = leader.requests.lock().unwrap();
    let mut of_overlay = asked.iter().filter(|r| r.contains("/overlay-master/state"));
    assert!(of_overlay.all(|r| r.contains("authorization: token=s3cret")));
    std::fs::remove_dir_all(&folder).unwrap();
}

#[tokio::test]
async fn a_master_without_an_overlay_module_is_none_to_complain_of_and_none_is_asked_unless_wanted() {
    let fake = Fake::new(|request, _| good(request, &["a"])).await;
    let settings = Settings { overlay: true, ..Settings::default() };
    let mut following = start_with(mesos(&[&fake.url]), settings);
    let seen = following.until_overlay(|seen| seen.asked).await;
    assert_eq!((seen.answers, seen.errors, seen.error), (false, 0, None));
    assert_eq!(following.overlay().await, [0; 0], "which is told: nothing more is to be waited for");
    let fake = Fake::new(|request, _| good(request, &["a"])).await;
    let mut following = start(mesos(&[&fake.url]));
    assert_eq!(following.tasks().await, ("a".into(), true));
    assert_eq!((fake.asked("/overlay-master/state"), following.seen.borrow().overlay.is_none()), (0, true));
}

/// PEM files of a CA, of what it gave `localhost`, and of what it gave a client; and the server's own configuration, which
/// wants that client.
struct Pki {
    ca: PathBuf,
    cert: PathBuf,
    key: PathBuf,
    server: rustls::ServerConfig,
}

fn pki(folder: &Path) -> Pki {
    let _ = rustls::crypto::ring::default_provider().install_default();
    let ca_key = rcgen::KeyPair::generate().unwrap();
    let mut ca = rcgen::CertificateParams::new(Vec::<String>::new()).unwrap();
    ca.is_ca = rcgen::IsCa::Ca(rcgen::BasicConstraints::Unconstrained);
    let own = ca.self_signed(&ca_key).unwrap();
    let issuer = rcgen::Issuer::from_params(&ca, &ca_key);
    let write = |name: &str, text: &str| {
        let path = folder.join(name);
        std::fs::write(&path, text).unwrap();
        path
    };
    let (server_key, client_key) = (rcgen::KeyPair::generate().unwrap(), rcgen::KeyPair::generate().unwrap());
    let leaf = |name: &str, key: &rcgen::KeyPair| {
        rcgen::CertificateParams::new(vec![name.to_owned()]).unwrap().signed_by(key, &issuer).unwrap()
    };
    let client = leaf("sluice", &client_key);
    let mut roots = rustls::RootCertStore::empty();
    roots.add(own.der().clone()).unwrap();
    let verifier = rustls::server::WebPkiClientVerifier::builder(Arc::new(roots)).build().unwrap();
    let key = rustls::pki_types::PrivateKeyDer::try_from(server_key.serialize_der()).unwrap();
    let chain = vec![leaf("localhost", &server_key).der().clone()];
    let server =
        rustls::ServerConfig::builder().with_client_cert_verifier(verifier).with_single_cert(chain, key).unwrap();
    Pki {
        ca: write("ca.pem", &own.pem()),
        cert: write("cert.pem", &client.pem()),
        key: write("key.pem", &client_key.serialize_pem()),
        server,
    }
}

#[tokio::test]
async fn a_master_that_wants_a_certificate_gets_ours() {
    let folder = std::env::temp_dir().join(format!("sluice-mesos-tls-{}", std::process::id()));
    std::fs::create_dir_all(&folder).unwrap();
    let Pki { ca, cert, key, server } = pki(&folder);
    let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let url = format!("https://localhost:{}", listener.local_addr().unwrap().port());
    let acceptor = tokio_rustls::TlsAcceptor::from(Arc::new(server));
    let _server = Running::spawn(async move {
        while let Ok((socket, _)) = listener.accept().await {
            let acceptor = acceptor.clone();
            tokio::spawn(async move {
                let Ok(mut socket) = acceptor.accept(socket).await else { return };
                let mut head = [0; 4096];
                let read = socket.read(&mut head).await.unwrap_or(0);
                let line = String::from_utf8_lossy(&head[..read]).into_owned();
                let answer = if line.starts_with("GET /state ") { state("") } else { status("404 Not Found") };
                let _ = socket.write_all(&answer.0).await;
                let _ = socket.shutdown().await;
            });
        }
    });
    let ours = Access { ca_file: Some(ca.clone()), cert_file: Some(cert), key_file: Some(key), ..Access::default() };
    let mut following = start(Mesos { access: ours, ..mesos(&[&url]) });
    assert_eq!(following.tasks().await, (String::new(), false));
    let nobody = Access { ca_file: Some(ca), ..Access::default() };
    let mut following = start(Mesos { access: nobody, ..mesos(&[&url]) });
    let seen = following.until(|s| s.list_errors > 0).await;
    assert!(error_of(&seen).to_lowercase().contains("certificate"), "{seen:?}");
    std::fs::remove_dir_all(&folder).unwrap();
}
