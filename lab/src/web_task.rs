//! The task that runs in place of an image: a small web server, and UDP echo on the same ports.
//!
//! `GET /` says who answered and whom it saw; `/health` is 200; `/slow?ms=N` answers after N ms; `/octets?n=N` is N octets
//! that [`octets`] tells ahead. On SIGTERM it goes on
//! accepting for `linger` (so that a balancer which heard of TASK_KILLING has time to turn away), then finishes what it
//! began and ends.

use std::net::{IpAddr, SocketAddr};
use std::time::Duration;

use axum::Router;
use axum::extract::connect_info::Connected;
use axum::extract::{ConnectInfo, Query};
use axum::routing::get;
use axum::serve::IncomingStream;
use serde::Deserialize;
use tokio::net::{TcpListener, UdpSocket};
use tokio::signal::unix::{SignalKind, signal};
use tokio::time::{sleep, timeout};

/// Requests that are still being answered this long after the listener closed are given up.
const LAST_WORDS: Duration = Duration::from_secs(5);
/// No request may hold a task up for longer.
const LONGEST_SLOW_MS: u64 = 60_000;
/// No answer is longer.
const MOST_OCTETS: usize = 64 << 20;

/// What `sluice-lab task` was asked to be.
#[derive(Debug, Clone)]
pub struct WebTask {
    pub bind: IpAddr,
    pub ports: Vec<u16>,
    pub linger: Duration,
}

/// Serves until SIGTERM and its linger are over.
pub async fn serve(task: &WebTask) -> std::io::Result<()> {
    let mut terminate = signal(SignalKind::terminate())?;
    let (stop, stopped) = tokio::sync::watch::channel(false);
    let mut servers = tokio::task::JoinSet::new();
    for port in &task.ports {
        let address = SocketAddr::from((task.bind, *port));
        let listener = TcpListener::bind(address).await?;
        let echo = UdpSocket::bind(address).await?;
        let mut stopped = stopped.clone();
        let ended = async move {
            // The sender lives as long as this function: either way it is over.
            let _ = stopped.wait_for(|stop| *stop).await;
        };
        let service = router().into_make_service_with_connect_info::<Ends>();
        servers.spawn(async move { axum::serve(listener, service).with_graceful_shutdown(ended).await });
        tokio::spawn(answer_udp(echo));
    }
    tokio::select! {
        _ = terminate.recv() => {}
        ended = servers.join_next(), if !servers.is_empty() => return joined(ended),
    }
    sleep(task.linger).await;
    // Receivers that are gone have stopped.
    let _ = stop.send(true);
    let _ = timeout(LAST_WORDS, async { while servers.join_next().await.is_some() {} }).await;
    Ok(())
}

fn joined(ended: Option<Result<std::io::Result<()>, tokio::task::JoinError>>) -> std::io::Result<()> {
    match ended {
        Some(Ok(result)) => result,
        Some(Err(error)) => Err(std::io::Error::other(error)),
        None => Ok(()),
    }
}

/// Both ends of a connection: a task has several addresses.
#[derive(Debug, Clone, Copy)]
struct Ends {
    own: Option<SocketAddr>,
    client: SocketAddr,
}

impl Connected<IncomingStream<'_, TcpListener>> for Ends {
    fn connect_info(stream: IncomingStream<'_, TcpListener>) -> Self {
        Self { own: stream.io().local_addr().ok(), client: *stream.remote_addr() }
    }
}

fn router() -> Router {
    Router::new()
        .route("/", get(async |ConnectInfo(ends)| who(ends)))
        .route("/health", get(|| async { "ok\n" }))
        .route("/slow", get(slow))
        .route("/octets", get(async |Query(Octets { n }): Query<Octets>| octets(n)))
}

#[derive(Debug, Deserialize)]
struct Octets {
    n: usize,
}

/// What `/octets?n=N` answers: no two stretches of it are alike, so that what is lost, doubled or misplaced shows.
#[must_use]
pub fn octets(n: usize) -> Vec<u8> {
    let words = (0..u32::MAX).flat_map(|i| i.wrapping_mul(0x9e37_79b9).to_be_bytes());
    words.take(n.min(MOST_OCTETS)).collect()
}

fn who(ends: Ends) -> String {
    let task = std::env::var("MESOS_TASK_ID").unwrap_or_else(|_| "none".to_owned());
    let host = std::fs::read_to_string("/proc/sys/kernel/hostname").unwrap_or_default();
    let own = ends.own.map(|own| own.to_string()).unwrap_or_default();
    format!("task {task}\nhost {}\naddress {own}\nclient {}\n", host.trim(), ends.client)
}

#[derive(Debug, Deserialize)]
struct Slow {
    #[serde(default)]
    ms: u64,
}

async fn slow(Query(slow): Query<Slow>, ConnectInfo(ends): ConnectInfo<Ends>) -> String {
    sleep(Duration::from_millis(slow.ms.min(LONGEST_SLOW_MS))).await;
    who(ends)
}

async fn answer_udp(socket: UdpSocket) {
    let mut datagram = vec![0; 65_535];
    while let Ok((length, from)) = socket.recv_from(&mut datagram).await {
        if let Some(payload) = datagram.get(..length) {
            // Who does not want the answer does not get it.
            let _ = socket.send_to(payload, from).await;
        }
    }
}
