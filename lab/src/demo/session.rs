//! An ssh-like session to the Sluice node's own address: a line to and fro five times a second, for as long as the demo
//! lasts. It proves that what is not Sluice's passes it.

use std::io::{BufRead as _, BufReader, Write as _};
use std::net::{SocketAddr, TcpListener, TcpStream};
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::thread::{JoinHandle, sleep, spawn};
use std::time::Duration;

use crate::place::within;

const PERIOD: Duration = Duration::from_millis(200);
/// A line that does not come back for this long has been lost, and the session with it.
const PATIENCE: Duration = Duration::from_secs(3);

/// The session; [`Session::end`] says how it went.
#[derive(Debug)]
pub(super) struct Session {
    stop: Arc<AtomicBool>,
    lines: Arc<AtomicU64>,
    client: JoinHandle<Result<(), String>>,
}

impl Session {
    /// Opens it from one namespace to an address in another.
    pub(super) fn open(from: &str, to: &str, address: SocketAddr) -> Result<Self, String> {
        let listener = within(to, || TcpListener::bind(address)).and_then(|l| l).map_err(|e| e.to_string())?;
        spawn(move || echo(&listener));
        let stream = within(from, || TcpStream::connect_timeout(&address, PATIENCE)).and_then(|s| s);
        let stream = stream.map_err(|error| format!("{address}: {error}"))?;
        let (stop, lines) = (Arc::new(AtomicBool::new(false)), Arc::new(AtomicU64::new(0)));
        let (stopped, counted) = (stop.clone(), lines.clone());
        let client = spawn(move || talk(stream, &stopped, &counted));
        Ok(Self { stop, lines, client })
    }

    /// Ends it: how many lines went to and fro, or what broke it.
    pub(super) fn end(self) -> Result<u64, String> {
        self.stop.store(true, Ordering::Relaxed);
        let result = self.client.join().unwrap_or_else(|_| Err("the session's thread panicked".to_owned()));
        let lines = self.lines.load(Ordering::Relaxed);
        result.map(|()| lines).map_err(|error| format!("broke after {lines} lines: {error}"))
    }
}

/// One connection is all that there is to serve.
fn echo(listener: &TcpListener) {
    let Ok((stream, _)) = listener.accept() else { return };
    let Ok(mut back) = stream.try_clone() else { return };
    for line in BufReader::new(stream).lines().map_while(Result::ok) {
        if writeln!(back, "{line}").is_err() {
            return;
        }
    }
}

fn talk(stream: TcpStream, stop: &AtomicBool, lines: &AtomicU64) -> Result<(), String> {
    let said = |error: std::io::Error| error.to_string();
    stream.set_read_timeout(Some(PATIENCE)).map_err(said)?;
    let mut there = stream.try_clone().map_err(said)?;
    let mut back = BufReader::new(stream);
    while !stop.load(Ordering::Relaxed) {
        let sent = format!("line {}\n", lines.load(Ordering::Relaxed));
        there.write_all(sent.as_bytes()).map_err(said)?;
        let mut received = String::new();
        back.read_line(&mut received).map_err(said)?;
        if received != sent {
            return Err(format!("{sent:?} came back as {received:?}"));
        }
        lines.fetch_add(1, Ordering::Relaxed);
        sleep(PERIOD);
    }
    Ok(())
}
