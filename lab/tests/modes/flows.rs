//! Flows that were there before and have to go on: what is sent says in which order, what comes back is compared.

use std::io::{BufRead as _, BufReader, Read as _, Write as _};
use std::net::{SocketAddr, TcpStream, UdpSocket};
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::thread::JoinHandle;
use std::time::Duration;

use sluice_lab::web_task::octets;

use super::world::World;

/// No answer within this is a lost connection.
const PATIENCE: Duration = Duration::from_secs(10);
/// An answer of several segments.
const ANSWER_OCTETS: usize = 10_000;
/// Datagrams under way at once: enough to be put out of order.
const TRAIN: u32 = 8;

/// A flow on a thread of its own, until it is asked to end.
pub(crate) struct Conversation {
    stop: Arc<AtomicBool>,
    thread: JoinHandle<u64>,
}

impl Conversation {
    /// One TCP connection, one request after the other.
    pub(crate) fn begin(world: &World, to: SocketAddr) -> Self {
        let mut talk = Talk::begin(world.tcp(to), to);
        let backend = talk.who();
        let wanted = octets(ANSWER_OCTETS);
        Self::start(move || {
            assert_eq!(talk.ask(&format!("/octets?n={ANSWER_OCTETS}")), wanted, "{to}");
            assert_eq!(talk.who(), backend, "{to}: another backend answers on an established connection");
        })
    }

    /// One UDP flow of numbered datagrams, some under way at once; all come back, in order.
    pub(crate) fn begin_udp(world: &World, to: SocketAddr) -> Self {
        let socket = world.udp(to);
        let mut number = 0;
        Self::start(move || {
            train(&socket, number, to);
            number += TRAIN;
        })
    }

    fn start(mut once: impl FnMut() + Send + 'static) -> Self {
        once();
        let stop = Arc::new(AtomicBool::new(false));
        let asked = Arc::clone(&stop);
        let thread = std::thread::spawn(move || {
            let mut rounds = 1;
            while !asked.load(Ordering::Relaxed) {
                once();
                rounds += 1;
                std::thread::sleep(Duration::from_millis(1));
            }
            // What came last may have harmed it: it has to answer still.
            once();
            rounds + 1
        });
        Self { stop, thread }
    }

    /// How often it went there and back; fails where it did not go on.
    pub(crate) fn end(self) -> u64 {
        self.stop.store(true, Ordering::Relaxed);
        self.thread.join().unwrap_or_else(|panic| std::panic::resume_unwind(panic))
    }
}

fn train(socket: &UdpSocket, first: u32, to: SocketAddr) {
    for number in first..first + TRAIN {
        socket.send(&number.to_be_bytes()).unwrap();
    }
    for number in first..first + TRAIN {
        let mut answer = [0; 64];
        let length =
            socket.recv(&mut answer).unwrap_or_else(|error| panic!("{to}: datagram {number} is lost: {error}"));
        assert_eq!(answer.get(..length), Some(&number.to_be_bytes()[..]), "{to}: another than datagram {number}");
    }
}

/// HTTP on one connection that stays.
struct Talk {
    lines: BufReader<TcpStream>,
    to: SocketAddr,
}

impl Talk {
    fn begin(stream: TcpStream, to: SocketAddr) -> Self {
        stream.set_read_timeout(Some(PATIENCE)).unwrap();
        Self { lines: BufReader::new(stream), to }
    }

    fn who(&mut self) -> String {
        let body = String::from_utf8(self.ask("/")).unwrap();
        body.lines().find_map(|line| line.strip_prefix("host ")).unwrap().to_owned()
    }

    fn ask(&mut self, path: &str) -> Vec<u8> {
        let Self { lines, to } = self;
        let lost = |error: std::io::Error| -> ! { panic!("the connection to {to} is lost: {error}") };
        let request = format!("GET {path} HTTP/1.1\r\nHost: {to}\r\n\r\n");
        lines.get_mut().write_all(request.as_bytes()).unwrap_or_else(|error| lost(error));
        let mut length = None;
        let mut line = String::new();
        while line != "\r\n" {
            line.clear();
            let read = lines.read_line(&mut line).unwrap_or_else(|error| lost(error));
            assert!(read > 0, "the connection to {to} was closed");
            let value = line.to_ascii_lowercase().strip_prefix("content-length: ").map(|n| n.trim().parse().unwrap());
            length = length.or(value);
        }
        let mut body = vec![0; length.unwrap()];
        lines.read_exact(&mut body).unwrap_or_else(|error| lost(error));
        body
    }
}
