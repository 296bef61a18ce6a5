//! DNS over the kernel's UDP: queries that came in fragments or are forwarded, and those of the node's own processes.

use std::net::SocketAddr;
use std::sync::Arc;
use std::sync::atomic::Ordering::Relaxed;

use sluice_dataplane::stage::dns::Limit;
use tokio::net::UdpSocket;
use tokio::time::sleep;

use super::{AGAIN, Names, Said, is_trusted};

/// Largest datagram that is read.
const DATAGRAM: usize = 65_535;

/// Answers on this address for ever.
pub(super) async fn listen(address: SocketAddr, names: Names) {
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
    answer(Arc::new(socket), names).await;
}

/// Answers whoever asks. What has to be asked of others holds nobody else up.
pub async fn answer(socket: Arc<UdpSocket>, names: Names) {
    let mut buffer = vec![0; DATAGRAM];
    loop {
        // An error is about a client that is gone, as a rule; the socket itself stays.
        let Ok((len, client)) = socket.recv_from(&mut buffer).await else {
            sleep(std::time::Duration::from_millis(10)).await;
            continue;
        };
        match said(&mut buffer, len, client, &names) {
            Said::Nothing => {
                names.statistics.udp_dropped.fetch_add(1, Relaxed);
            }
            Said::Here(len) => send(&socket, &buffer[..len], client, &names).await,
            Said::Known(answer) => send(&socket, &answer, client, &names).await,
            Said::Later(waiting) => {
                let (socket, names) = (Arc::clone(&socket), names.clone());
                tokio::spawn(async move { send(&socket, &waiting.answer().await, client, &names).await });
            }
        }
    }
}

fn said(buffer: &mut [u8], len: usize, client: SocketAddr, names: &Names) -> Said {
    // Port 0 and those that answer anything get none: the packet path's rule, too.
    let tables = (names.latest)().filter(|_| !matches!(client.port(), 0 | 7 | 13 | 19));
    let Some(tables) = tables else { return Said::Nothing };
    let limit = if is_trusted(client.ip(), &tables) { Limit::Udp } else { Limit::Doubtful };
    names.say(buffer, len, &tables, client.ip(), limit)
}

async fn send(socket: &UdpSocket, answer: &[u8], client: SocketAddr, names: &Names) {
    names.statistics.udp_answers.fetch_add(1, Relaxed);
    // A full queue loses a datagram, as any network may.
    let _ = socket.send_to(answer, client).await;
}
