//! What a `dsr-ipip` or `dsr-gue` backend does in its kernel by `ipip`, `sit`, `ip6tnl` and `fou`, where the kernel has
//! none of them: takes the inner packet out and gives it to the namespace's own stack, in which the VIP is an address
//! of `lo`.
//!
//! IPv4 and IPv6, either in either: IP in IP (protocols 4 and 41) and GUE version 0 (draft-ietf-intarea-gue) at UDP
//! port 6080. The inner packet is written to a raw socket that takes whole packets; its address being local, the kernel
//! delivers it by `lo` as it is. Absent: ECN by RFC 6040, GUE's control messages, inner packets that are not for an
//! address of this namespace (the kernel would route them).

use std::io;
use std::net::{IpAddr, Ipv4Addr, Ipv6Addr, SocketAddr, UdpSocket};
use std::os::fd::OwnedFd;
use std::thread;

use rustix::net::{AddressFamily, Protocol, RecvFlags, SendFlags, SocketType, ipproto, recv, sendto, socket};

/// UDP port of GUE (IANA).
pub const GUE_PORT: u16 = 6080;

/// Largest packet that is read.
const LONGEST: usize = 65_535;
/// Octets of GUE's header without optional fields.
const GUE_HEADER: usize = 4;

/// What lies before the inner packet in what a socket gives.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Front {
    /// An IPv4 header: raw IPv4 sockets show it.
    Ip4,
    /// Nothing: raw IPv6 sockets keep the header to themselves.
    Nothing,
    /// GUE's header.
    Gue,
}

/// Unwraps until a socket fails. Needs CAP_NET_RAW.
///
/// # Errors
/// When a socket cannot be had, or one that was there fails.
pub fn run() -> io::Result<()> {
    let gue = OwnedFd::from(UdpSocket::bind((Ipv6Addr::UNSPECIFIED, GUE_PORT))?);
    let mut sources = vec![(gue, Front::Gue)];
    for (family, front) in [(AddressFamily::INET, Front::Ip4), (AddressFamily::INET6, Front::Nothing)] {
        for protocol in [ipproto::IPIP, ipproto::IPV6] {
            sources.push((raw(family, protocol)?, front));
        }
    }
    let stack = Stack { ip4: raw(AddressFamily::INET, ipproto::RAW)?, ip6: raw(AddressFamily::INET6, ipproto::RAW)? };
    thread::scope(|scope| {
        let loops: Vec<_> =
            sources.iter().map(|(source, front)| scope.spawn(|| unwrap_all(source, *front, &stack))).collect();
        loops.into_iter().try_for_each(|one| one.join().unwrap_or_else(|_| Err(io::Error::other("a loop panicked"))))
    })
}

fn raw(family: AddressFamily, protocol: Protocol) -> io::Result<OwnedFd> {
    Ok(socket(family, SocketType::RAW, Some(protocol))?)
}

fn unwrap_all(source: &OwnedFd, front: Front, stack: &Stack) -> io::Result<()> {
    let mut packet = vec![0; LONGEST];
    loop {
        let (length, _) = recv(source, packet.as_mut_slice(), RecvFlags::empty())?;
        if let Some(inner) = packet.get(..length).and_then(|whole| front.strip(whole)) {
            stack.deliver(inner);
        }
    }
}

impl Front {
    /// The inner packet, or nothing where there is none.
    fn strip(self, packet: &[u8]) -> Option<&[u8]> {
        let first = usize::from(*packet.first()?);
        match self {
            Self::Ip4 => packet.get((first & 15) * 4..),
            Self::Nothing => Some(packet),
            // Version 0, no control message; 5 bits count the words of optional fields.
            Self::Gue if first >> 5 == 0 => packet.get(GUE_HEADER + (first & 31) * 4..),
            Self::Gue => None,
        }
    }
}

/// Raw sockets that take packets with their headers.
struct Stack {
    ip4: OwnedFd,
    ip6: OwnedFd,
}

impl Stack {
    /// A packet that the kernel refuses is lost, as a broken one on a tunnel is.
    fn deliver(&self, packet: &[u8]) {
        let socket = match destination(packet) {
            Some(to @ IpAddr::V4(_)) => Some((&self.ip4, to)),
            Some(to @ IpAddr::V6(_)) => Some((&self.ip6, to)),
            None => None,
        };
        if let Some((socket, to)) = socket
            && let Err(error) = sendto(socket, packet, SendFlags::empty(), &SocketAddr::new(to, 0))
        {
            tracing::debug!(%to, %error, "an inner packet is lost");
        }
    }
}

fn destination(packet: &[u8]) -> Option<IpAddr> {
    match packet.first()? >> 4 {
        4 => Some(Ipv4Addr::from(<[u8; 4]>::try_from(packet.get(16..20)?).ok()?).into()),
        6 => Some(Ipv6Addr::from(<[u8; 16]>::try_from(packet.get(24..40)?).ok()?).into()),
        _ => None,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_inner_packet_begins_behind_options_and_optional_fields() {
        let outer = [&[0x46][..], &[0; 23], b"inner"].concat();
        assert_eq!(Front::Ip4.strip(&outer), Some(&b"inner"[..]));
        assert_eq!(Front::Gue.strip(&[&[0, 4, 0, 0][..], b"inner"].concat()), Some(&b"inner"[..]));
        assert_eq!(Front::Gue.strip(&[&[1, 4, 0, 0, 9, 9, 9, 9][..], b"inner"].concat()), Some(&b"inner"[..]));
        assert_eq!(Front::Nothing.strip(b"inner"), Some(&b"inner"[..]));
    }

    #[test]
    fn what_holds_no_packet_gives_none() {
        assert_eq!(Front::Gue.strip(&[0x20, 0, 0, 0, 1]), None, "a control message");
        assert_eq!(Front::Gue.strip(&[0x40, 0, 0, 0, 1]), None, "version 1");
        assert_eq!(Front::Ip4.strip(&[0x4f, 0, 0]), None);
        assert_eq!(
            [destination(&[]), destination(&[0x45; 19]), destination(&[0x60; 39]), destination(&[0; 40])],
            [None; 4]
        );
    }

    #[test]
    fn either_family_is_delivered_to_its_destination() {
        let mut packet = [0; 40];
        packet[0] = 0x45;
        packet[16..20].copy_from_slice(&[172, 16, 0, 1]);
        assert_eq!(destination(&packet), Some(Ipv4Addr::new(172, 16, 0, 1).into()));
        packet[0] = 0x60;
        packet[39] = 1;
        packet[24..39].fill(0);
        assert_eq!(destination(&packet), Some(Ipv6Addr::LOCALHOST.into()));
    }
}
