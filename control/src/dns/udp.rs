//! DNS over the kernel's UDP: queries that came in fragments, and those of the node's own processes.

use std::net::SocketAddr;
use std::sync::Arc;
use std::sync::atomic::Ordering::Relaxed;

use sluice_dataplane::stage::dns::Limit;
use tokio::net::UdpSocket;
use tokio::time::sleep;

use super::{AGAIN, Latest, Statistics, reply};

/// Largest datagram that is read.
const DATAGRAM: usize = 65_535;

/// Answers on this address for ever.
pub(super) async fn listen(address: SocketAddr, latest: Latest, statistics: Arc<Statistics>) {
    let mut said = false;
    let socket = loop {
        match UdpSocket::bind(address).await {
            Ok(socket) => break socket,
            Err(error) if !said => {
                tracing::warn!(%address, %error, "DNS over the kernel's UDP waits for its address");
                said = true;
            }
            Err(_) => {}
        }
        sleep(AGAIN).await;
    };
    answer(&socket, &latest, &statistics).await;
}

/// Answers whoever asks.
pub async fn answer(socket: &UdpSocket, latest: &Latest, statistics: &Statistics) {
    let mut buffer = vec![0; DATAGRAM];
    loop {
        // An error is about a client that is gone, as a rule; the socket itself stays.
        let Ok((len, client)) = socket.recv_from(&mut buffer).await else {
            sleep(std::time::Duration::from_millis(10)).await;
            continue;
        };
        let tables = latest();
        let limit = match &tables {
            Some(tables) if tables.local.dns.trusts(client.ip().to_canonical()) => Limit::Udp,
            _ => Limit::Doubtful,
        };
        let sent = tables.and_then(|tables| reply(&mut buffer, len, &tables, client.ip(), limit));
        // Port 0 and those that answer anything get none: the packet path's rule, too.
        match sent.filter(|_| !matches!(client.port(), 0 | 7 | 13 | 19)) {
            Some(len) => {
                statistics.udp_answers.fetch_add(1, Relaxed);
                // A full queue loses a datagram, as any network may.
                let _ = socket.send_to(&buffer[..len], client).await;
            }
            None => {
                statistics.udp_dropped.fetch_add(1, Relaxed);
            }
        }
    }
}
