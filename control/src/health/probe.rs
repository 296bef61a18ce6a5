//! One probe, over the node's kernel: the overlay is reached through the host port, as clients reach it through us.

use std::io;
use std::net::{IpAddr, Ipv4Addr, Ipv6Addr, SocketAddr};
use std::time::Duration;

use bytes::Bytes;
use http_body_util::Empty;
use hyper_util::rt::TokioIo;
use sluice_config::model::Probe;
use tokio::net::{TcpSocket, TcpStream, UdpSocket};

use super::standing::{Failure, Outcome};

/// Makes one probe to an address, of whoever is `asked` there; it takes no longer than `patience`.
pub async fn probe(probe: &Probe, to: SocketAddr, asked: SocketAddr, patience: Duration) -> Outcome {
    let outcome = async {
        match probe {
            Probe::Off => Outcome::Unsent,
            Probe::Tcp => outcome(connect(to).await.map(drop)),
            Probe::Http { path, status } => match connect(to).await {
                Ok(stream) => http(stream, asked, path, *status).await,
                Err(error) => outcome(Err(error)),
            },
            Probe::Udp { payload } => match udp(to, payload.as_bytes()).await {
                Ok(outcome) => outcome,
                Err(error) => outcome(Err(error)),
            },
        }
    };
    tokio::time::timeout(patience, outcome).await.unwrap_or(Outcome::Failed(Failure::TimedOut))
}

/// Bound first: of bound sockets no two have one port, whomever they talk to, and the packet path goes by that
/// ([`sluice_dataplane::probing`]).
async fn connect(to: SocketAddr) -> io::Result<TcpStream> {
    let socket = if to.is_ipv4() { TcpSocket::new_v4()? } else { TcpSocket::new_v6()? };
    socket.bind(any_port(to))?;
    socket.connect(to).await
}

/// Any address and port of the family of `to`.
fn any_port(to: SocketAddr) -> SocketAddr {
    let any: IpAddr = match to.ip() {
        IpAddr::V4(_) => Ipv4Addr::UNSPECIFIED.into(),
        IpAddr::V6(_) => Ipv6Addr::UNSPECIFIED.into(),
    };
    SocketAddr::new(any, 0)
}

fn outcome(result: io::Result<()>) -> Outcome {
    let Err(error) = result else { return Outcome::Answered };
    let kind = error.kind();
    let failure = [
        (io::ErrorKind::ConnectionRefused, Failure::Refused),
        (io::ErrorKind::ConnectionReset, Failure::Refused),
        (io::ErrorKind::TimedOut, Failure::TimedOut),
        (io::ErrorKind::HostUnreachable, Failure::Unreachable),
        (io::ErrorKind::NetworkUnreachable, Failure::Unreachable),
    ];
    // The rest is descriptors, memory, source ports: ours, not the backend's.
    let failure = failure.into_iter().find(|(of, _)| *of == kind);
    failure.map_or(Outcome::Unsent, |(_, failure)| Outcome::Failed(failure))
}

async fn http(stream: TcpStream, asked: SocketAddr, path: &str, status: (u16, u16)) -> Outcome {
    let request = hyper::Request::get(path)
        .header("host", asked.to_string())
        .header("user-agent", concat!("sluice/", env!("CARGO_PKG_VERSION")))
        .header("connection", "close")
        .body(Empty::<Bytes>::new());
    // What may stand there was checked when the configuration or the label was read.
    let Ok(request) = request else { return Outcome::Unsent };
    let (mut sender, connection) = match hyper::client::conn::http1::handshake(TokioIo::new(stream)).await {
        Ok(both) => both,
        Err(error) => return Outcome::Failed(failure(&error)),
    };
    // The answer's head is enough; the connection goes with this function, whatever the body would be.
    let answer = sender.send_request(request);
    tokio::pin!(answer);
    let answer = tokio::select! {
        answer = &mut answer => answer,
        // A server that closes at once may have answered all the same: what it said waits in `answer`.
        _ = connection => answer.await,
    };
    match answer {
        Ok(answer) if (status.0..=status.1).contains(&answer.status().as_u16()) => Outcome::Answered,
        Ok(answer) => Outcome::Failed(Failure::Status(answer.status().as_u16())),
        Err(error) => Outcome::Failed(failure(&error)),
    }
}

fn failure(error: &hyper::Error) -> Failure {
    if error.is_parse() || error.is_parse_too_large() || error.is_parse_status() {
        Failure::NotHttp
    } else {
        Failure::Closed
    }
}

/// Any answer from the very address is one. ICMP port unreachable comes as an error of the connected socket (udp(7)).
async fn udp(to: SocketAddr, payload: &[u8]) -> io::Result<Outcome> {
    let socket = UdpSocket::bind(any_port(to)).await?;
    socket.connect(to).await?;
    socket.send(payload).await?;
    socket.recv(&mut [0; 1]).await?;
    Ok(Outcome::Answered)
}

#[cfg(test)]
mod tests {
    use super::*;
    use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};
    use tokio::net::TcpListener;

    const PATIENCE: Duration = Duration::from_millis(300);

    async fn ask(question: &Probe, to: SocketAddr) -> Outcome {
        probe(question, to, to, PATIENCE).await
    }

    /// A server that reads a request, says `answer`, and closes; `None` accepts and stays silent.
    async fn server(answer: Option<&'static [u8]>) -> SocketAddr {
        let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let address = listener.local_addr().unwrap();
        tokio::spawn(async move {
            let mut silent = Vec::new();
            loop {
                let (mut stream, _) = listener.accept().await.unwrap();
                let Some(answer) = answer else {
                    silent.push(stream);
                    continue;
                };
                let mut request = [0; 1024];
                let length = stream.read(&mut request).await.unwrap_or_default();
                let asked = String::from_utf8_lossy(&request[..length]).into_owned();
                assert!(length == 0 || asked.starts_with("GET /up?x=1 HTTP/1.1\r\n"), "{asked}");
                assert!(length == 0 || asked.contains(&format!("host: {address}\r\n")), "{asked}");
                let _ = stream.write_all(answer).await;
            }
        });
        address
    }

    /// A loopback port on which nobody listens.
    async fn nobody() -> SocketAddr {
        TcpListener::bind("127.0.0.1:0").await.unwrap().local_addr().unwrap()
    }

    #[tokio::test]
    async fn a_connection_that_is_accepted_is_an_answer_and_one_that_is_refused_is_none() {
        assert_eq!(ask(&Probe::Tcp, server(None).await).await, Outcome::Answered);
        assert_eq!(ask(&Probe::Tcp, nobody().await).await, Outcome::Failed(Failure::Refused));
        assert_eq!(ask(&Probe::http("/"), nobody().await).await, Outcome::Failed(Failure::Refused));
    }

    #[tokio::test]
    async fn a_listener_whose_backlog_is_full_and_never_accepts_times_out() {
        let socket = TcpSocket::new_v4().unwrap();
        socket.bind("127.0.0.1:0".parse().unwrap()).unwrap();
        let listener = socket.listen(0).unwrap();
        let address = listener.local_addr().unwrap();
        let mut held = Vec::new();
        let mut last = Outcome::Answered;
        for _ in 0..8 {
            let connect = tokio::time::timeout(Duration::from_millis(50), TcpStream::connect(address));
            held.push(connect.await);
            last = ask(&Probe::Tcp, address).await;
        }
        assert_eq!(last, Outcome::Failed(Failure::TimedOut));
    }

    #[tokio::test]
    async fn http_goes_by_the_status_and_by_nothing_else() {
        let asked = |status| Probe::Http { path: "/up?x=1".into(), status };
        for (answer, expected) in [
            (Some(&b"HTTP/1.1 200 OK\r\ncontent-length: 0\r\n\r\n"[..]), Outcome::Answered),
            (Some(b"HTTP/1.1 302 Found\r\nlocation: /x\r\n\r\n"), Outcome::Answered),
            (Some(b"HTTP/1.0 200 OK\r\n\r\na body that never ends"), Outcome::Answered),
            (Some(b"HTTP/1.1 404 Not Found\r\n\r\n"), Outcome::Failed(Failure::Status(404))),
            (Some(b"HTTP/1.1 503 Busy\r\n\r\n"), Outcome::Failed(Failure::Status(503))),
            (Some(b"SSH-2.0-OpenSSH_9.2\r\n"), Outcome::Failed(Failure::NotHttp)),
            (Some(b""), Outcome::Failed(Failure::Closed)),
            (None, Outcome::Failed(Failure::TimedOut)),
        ] {
            let address = server(answer).await;
            let shown = answer.map(String::from_utf8_lossy);
            assert_eq!(ask(&asked((200, 399)), address).await, expected, "{shown:?}");
        }
        let found = server(Some(b"HTTP/1.1 302 Found\r\n\r\n")).await;
        assert_eq!(ask(&asked((200, 299)), found).await, Outcome::Failed(Failure::Status(302)));
    }

    #[tokio::test]
    async fn any_datagram_is_an_answer_silence_is_none_and_port_unreachable_is_told_at_once() {
        let udp = Probe::Udp { payload: "ping".into() };
        let echo = UdpSocket::bind("127.0.0.1:0").await.unwrap();
        let address = echo.local_addr().unwrap();
        tokio::spawn(async move {
            let mut datagram = [0; 64];
            let (length, from) = echo.recv_from(&mut datagram).await.unwrap();
            assert_eq!(&datagram[..length], b"ping");
            echo.send_to(b"a long answer is an answer too", from).await.unwrap();
        });
        assert_eq!(ask(&udp, address).await, Outcome::Answered);
        let silent = UdpSocket::bind("127.0.0.1:0").await.unwrap();
        let address = silent.local_addr().unwrap();
        assert_eq!(ask(&udp, address).await, Outcome::Failed(Failure::TimedOut));
        drop(silent);
        let began = std::time::Instant::now();
        assert_eq!(ask(&udp, address).await, Outcome::Failed(Failure::Refused));
        assert!(began.elapsed() < PATIENCE);
    }
}
