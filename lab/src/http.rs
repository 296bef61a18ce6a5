//! One HTTP/1.1 request on a connection of its own, blocking, from any network namespace.

use std::io::{self, Read, Write};
use std::net::{SocketAddr, TcpStream};
use std::os::unix::net::UnixStream;
use std::path::Path;
use std::time::Duration;

/// An answer, whole.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Answer {
    pub status: u16,
    pub body: String,
}

/// Longest answer that is read, in bytes.
const LONGEST: u64 = 16 << 20;
const PATIENCE: Duration = Duration::from_secs(10);

/// Sends a request (an empty body: none) and reads the answer to its end.
pub fn request(method: &str, to: SocketAddr, path: &str, body: &str) -> io::Result<Answer> {
    let stream = TcpStream::connect_timeout(&to, PATIENCE)?;
    stream.set_read_timeout(Some(PATIENCE))?;
    exchange(stream, &to.to_string(), method, path, body)
}

/// GET over a unix socket.
pub fn get_unix(socket: &Path, path: &str) -> io::Result<Answer> {
    request_unix("GET", socket, path, "")
}

/// Like [`request`], over a unix socket.
pub fn request_unix(method: &str, socket: &Path, path: &str, body: &str) -> io::Result<Answer> {
    let stream = UnixStream::connect(socket)?;
    stream.set_read_timeout(Some(PATIENCE))?;
    exchange(stream, "localhost", method, path, body)
}

fn exchange(mut stream: impl Read + Write, to: &str, method: &str, path: &str, body: &str) -> io::Result<Answer> {
    let length = body.len();
    let head = format!("{method} {path} HTTP/1.1\r\nHost: {to}\r\nConnection: close\r\n");
    let content = format!("Content-Type: application/json\r\nContent-Length: {length}\r\n\r\n{body}");
    stream.write_all((head + &content).as_bytes())?;
    let mut answer = Vec::new();
    stream.take(LONGEST).read_to_end(&mut answer)?;
    parse(&String::from_utf8_lossy(&answer)).ok_or_else(|| io::Error::other("not an HTTP answer"))
}

fn parse(text: &str) -> Option<Answer> {
    let (head, body) = text.split_once("\r\n\r\n")?;
    let status = head.split(' ').nth(1)?.parse().ok()?;
    let chunked = head.to_ascii_lowercase().contains("transfer-encoding: chunked");
    let body = if chunked { joined(body) } else { body.to_owned() };
    Some(Answer { status, body })
}

/// RFC 9112 section 7.1: size in hexadecimal, CRLF, that many octets, CRLF.
fn joined(mut chunks: &str) -> String {
    let mut whole = String::new();
    while let Some((size, rest)) = chunks.split_once("\r\n") {
        let size = usize::from_str_radix(size.trim(), 16).unwrap_or(0);
        let Some(chunk) = rest.get(..size).filter(|_| size > 0) else { break };
        whole.push_str(chunk);
        chunks = rest.get(size + 2..).unwrap_or_default();
    }
    whole
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_answer_is_read_whole_in_chunks_or_not() {
        let plain = parse("HTTP/1.1 404 Not Found\r\nA: b\r\n\r\nno").unwrap();
        assert_eq!(plain, Answer { status: 404, body: "no".to_owned() });
        let chunked = "HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n3\r\nabc\r\n2\r\nde\r\n0\r\n\r\n";
        assert_eq!(parse(chunked).unwrap().body, "abcde");
    }
}
