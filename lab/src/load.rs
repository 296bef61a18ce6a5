//! HTTP requests at a steady rate: each on a connection of its own, none repeated, everything that did not end with a
//! whole 200 counted as lost. The rate does not wait for answers.

use std::collections::BTreeMap;
use std::fmt;
use std::net::SocketAddr;
use std::sync::Arc;
use std::time::Duration;

use serde::{Deserialize, Serialize};
use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};
use tokio::net::TcpStream;
use tokio::task::JoinSet;
use tokio::time::{Instant, MissedTickBehavior, interval, timeout};

/// What to ask, how often, for how long.
#[derive(Debug, Clone)]
pub struct Load {
    pub target: SocketAddr,
    pub path: String,
    pub rate_per_second: u32,
    pub duration: Duration,
    /// A kernel sends a lost SYN again after 1 s: less than that here counts such a request as lost.
    pub timeout: Duration,
}

/// What came of it. Times in microseconds from the request's start to its last byte.
#[derive(Debug, Clone, Default, Serialize, Deserialize)]
pub struct Seen {
    pub sent: u64,
    pub ok: u64,
    pub lost: u64,
    /// Of the good ones, those that took a second or longer: a segment was sent twice.
    pub slow: u64,
    pub p50_us: u64,
    pub p99_us: u64,
    pub max_us: u64,
    /// Good answers by the task that gave them.
    pub tasks: BTreeMap<String, u64>,
    /// Why requests were lost.
    pub causes: BTreeMap<String, u64>,
    /// When lost requests had begun, in milliseconds from the start; the first 1000 of them.
    pub lost_at_ms: Vec<u64>,
    /// When the good answers of each task began and ended, in milliseconds from the start.
    pub task_span_ms: BTreeMap<String, (u64, u64)>,
}

/// Requests that are under way at once; more are lost at once, by name.
const IN_FLIGHT: usize = 4096;
const LOST_KEPT: usize = 1000;

struct One {
    began: Duration,
    took: Duration,
    result: Result<String, String>,
}

/// Runs a load to its end.
pub async fn run(load: Load) -> Seen {
    let load = Arc::new(load);
    let start = Instant::now();
    let mut ticks = interval(Duration::from_secs(1) / load.rate_per_second.max(1));
    ticks.set_missed_tick_behavior(MissedTickBehavior::Burst);
    let mut all = Vec::new();
    let mut under_way = JoinSet::new();
    while start.elapsed() < load.duration {
        ticks.tick().await;
        while let Some(done) = under_way.try_join_next() {
            all.extend(done);
        }
        if under_way.len() >= IN_FLIGHT {
            let result = Err(format!("more than {IN_FLIGHT} requests under way"));
            all.push(One { began: start.elapsed(), took: Duration::ZERO, result });
            continue;
        }
        let load = load.clone();
        under_way.spawn(async move {
            let began = start.elapsed();
            let result = timeout(load.timeout, ask(&load)).await;
            let result = result.unwrap_or_else(|_| Err("timeout".to_owned()));
            One { began, took: start.elapsed() - began, result }
        });
    }
    while let Some(done) = under_way.join_next().await {
        all.extend(done);
    }
    sum_up(all)
}

/// The name of the task that answered, or why nobody did.
async fn ask(load: &Load) -> Result<String, String> {
    let failed = |what: &str| {
        let what = what.to_owned();
        move |error: std::io::Error| format!("{what}: {}", error.kind())
    };
    let mut stream = TcpStream::connect(load.target).await.map_err(failed("connect"))?;
    let request = format!("GET {} HTTP/1.1\r\nHost: {}\r\nConnection: close\r\n\r\n", load.path, load.target);
    stream.write_all(request.as_bytes()).await.map_err(failed("send"))?;
    let mut answer = Vec::with_capacity(512);
    stream.take(1 << 20).read_to_end(&mut answer).await.map_err(failed("receive"))?;
    let answer = String::from_utf8_lossy(&answer);
    let (head, body) = answer.split_once("\r\n\r\n").ok_or_else(|| "answer cut short".to_owned())?;
    let status = head.split(' ').nth(1).unwrap_or_default();
    if status != "200" {
        return Err(format!("status {status}"));
    }
    let task = body.lines().find_map(|line| line.strip_prefix("task "));
    Ok(task.unwrap_or("unnamed").to_owned())
}

fn sum_up(mut all: Vec<One>) -> Seen {
    all.sort_by_key(|one| one.began);
    let mut seen = Seen { sent: all.len() as u64, ..Seen::default() };
    let mut times = Vec::new();
    for one in all {
        let at = one.began.as_millis() as u64;
        match one.result {
            Ok(task) => {
                seen.ok += 1;
                seen.slow += u64::from(one.took >= Duration::from_secs(1));
                times.push(one.took.as_micros() as u64);
                *seen.tasks.entry(task.clone()).or_default() += 1;
                seen.task_span_ms.entry(task).or_insert((at, at)).1 = at;
            }
            Err(cause) => {
                seen.lost += 1;
                *seen.causes.entry(cause).or_default() += 1;
                if seen.lost_at_ms.len() < LOST_KEPT {
                    seen.lost_at_ms.push(at);
                }
            }
        }
    }
    times.sort_unstable();
    let percentile = |part: usize| times.get(times.len().saturating_sub(1) * part / 100).copied().unwrap_or(0);
    (seen.p50_us, seen.p99_us, seen.max_us) = (percentile(50), percentile(99), percentile(100));
    seen
}

impl fmt::Display for Seen {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        writeln!(f, "sent {}  answered {}  lost {}  slow {}", self.sent, self.ok, self.lost, self.slow)?;
        writeln!(f, "time: median {} us, 99 % {} us, longest {} us", self.p50_us, self.p99_us, self.max_us)?;
        for (task, count) in &self.tasks {
            writeln!(f, "  {count:>7}  {task}")?;
        }
        for (cause, count) in &self.causes {
            writeln!(f, "  lost {count:>7}  {cause}")?;
        }
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[tokio::test]
    async fn requests_to_a_port_where_nobody_listens_are_all_lost_and_say_why() {
        let listener = std::net::TcpListener::bind("127.0.0.1:0").unwrap();
        let target = listener.local_addr().unwrap();
        drop(listener);
        let (path, timeout) = ("/".to_owned(), Duration::from_secs(1));
        let seen =
            run(Load { target, path, rate_per_second: 100, duration: Duration::from_millis(100), timeout }).await;
        assert!(seen.sent > 0 && seen.lost == seen.sent && seen.ok == 0, "{seen:?}");
        assert!(seen.causes.keys().all(|cause| cause.starts_with("connect")), "{seen:?}");
    }
}
