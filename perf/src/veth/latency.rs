//! A client that asks at a steady rate over an ordinary socket, and notes how long each answer took.

use std::net::{Ipv4Addr, UdpSocket};
use std::time::{Duration, Instant};

use anyhow::{Result, ensure};

use super::dns::{message, name_of};

/// How long answers took.
pub(super) struct Latencies {
    /// Sorted, microseconds.
    sorted: Vec<f64>,
    /// Questions without an answer.
    pub lost: usize,
}

impl Latencies {
    /// The time within which this share of the answers came.
    pub(super) fn quantile(&self, share: f64) -> f64 {
        let at = (self.sorted.len() as f64 * share) as usize;
        self.sorted.get(at.min(self.sorted.len().saturating_sub(1))).copied().unwrap_or_default()
    }
}

/// Asks `server` `rate` questions a second for `length`.
pub(super) fn ask(server: Ipv4Addr, rate: u32, length: Duration) -> Result<Latencies> {
    let socket = UdpSocket::bind(("0.0.0.0", 0))?;
    socket.connect((server, 53))?;
    socket.set_read_timeout(Some(Duration::from_millis(200)))?;
    let mut buffer = [0; 512];
    // The first one waits for ARP.
    let known = (0..10).any(|_| socket.send(&message(0, &name_of(0))).is_ok() && socket.recv(&mut buffer).is_ok());
    ensure!(known, "{server} does not answer");
    socket.set_nonblocking(true)?;
    let pace = Duration::from_secs(1) / rate;
    let mut sent: Vec<Option<Instant>> = vec![None; 1 << 16];
    let (mut sorted, mut asked) = (Vec::new(), 0u32);
    let start = Instant::now();
    // Another quarter of a second for the last answers.
    while start.elapsed() < length + Duration::from_millis(250) {
        if start.elapsed() < length && start.elapsed() >= pace * asked {
            let id = asked as u16;
            sent[usize::from(id)] = Some(Instant::now());
            socket.send(&message(id, &name_of(asked)))?;
            asked += 1;
        }
        while let Ok(octets) = socket.recv(&mut buffer) {
            ensure!(octets > 12 && buffer[3] & 15 == 0 && buffer[7] == 1, "an answer that is none");
            let id = u16::from_be_bytes([buffer[0], buffer[1]]);
            if let Some(then) = sent[usize::from(id)].take() {
                sorted.push(then.elapsed().as_nanos() as f64 / 1e3);
            }
        }
    }
    sorted.sort_by(f64::total_cmp);
    Ok(Latencies { lost: asked as usize - sorted.len(), sorted })
}
