//! What each family's answers are made of.

use crate::family::Family;
use crate::wire::icmp::Message;
use crate::wire::{icmp, icmp6, ip4, ip6, sctp, tcp, word};

/// A family in which answers are written. `ip` begins at the IP header and ends with the packet.
pub(super) trait Speak: Family {
    /// The TTL ran out.
    const TIME_EXCEEDED: Message;
    /// Nobody serves the port.
    const PORT_UNREACHABLE: Message;
    /// Octets that [`Speak::write`] puts before the quoted packet.
    const FRONT: usize;

    /// Too big for a way of that MTU; `None` where the sender does not want to know.
    fn too_big(ip: &[u8], mtu: u16) -> Option<Message>;

    /// Whether anything may be said about the packet.
    fn may_answer(ip: &[u8], too_big: bool) -> bool;

    /// How many octets of a packet of `length` an error quotes.
    fn quotable(length: usize) -> usize;

    /// Writes an error into the room before the packet that it is about, and says whom it goes to.
    fn write(packet: &mut [u8], message: Message, source: Self) -> Option<Self>;

    /// Turns a TCP packet into the reset that refuses it, and says how long that is.
    fn reset(ip: &mut [u8], l4: usize) -> Option<usize>;

    /// The same of SCTP.
    fn abort(ip: &mut [u8], l4: usize) -> Option<usize>;
}

impl Speak for u32 {
    const TIME_EXCEEDED: Message = Message::TIME_EXCEEDED;
    const PORT_UNREACHABLE: Message = Message::unreachable(icmp::code::PORT);
    const FRONT: usize = icmp::FRONT;

    /// Without DF the sender leaves it to routers to fragment, which we do not.
    fn too_big(ip: &[u8], mtu: u16) -> Option<Message> {
        (word(ip, ip4::field::FRAGMENT) & ip4::DF != 0).then(|| Message::too_big(mtu))
    }

    fn may_answer(ip: &[u8], _too_big: bool) -> bool {
        icmp::may_answer(ip)
    }

    fn quotable(length: usize) -> usize {
        icmp::quotable(length)
    }

    fn write(packet: &mut [u8], message: Message, source: Self) -> Option<Self> {
        icmp::write(packet, message, source)
    }

    fn reset(ip: &mut [u8], l4: usize) -> Option<usize> {
        tcp::reset4(ip, l4)
    }

    fn abort(ip: &mut [u8], l4: usize) -> Option<usize> {
        const LENGTH: usize = ip4::HEADER + sctp::ABORT;
        let (source, destination) = Self::read(ip);
        sctp::abort(ip.get_mut(l4..)?).then_some(())?;
        ip.copy_within(l4..l4 + sctp::ABORT, ip4::HEADER);
        ip4::write_header(ip, LENGTH as u16, ip4::DF, sctp::PROTOCOL, 0, destination, source);
        Some(LENGTH)
    }
}

impl Speak for u128 {
    const TIME_EXCEEDED: Message = icmp6::TIME_EXCEEDED;
    const PORT_UNREACHABLE: Message = icmp6::unreachable(icmp6::code::PORT);
    const FRONT: usize = icmp6::FRONT;

    fn too_big(_ip: &[u8], mtu: u16) -> Option<Message> {
        Some(icmp6::too_big(u32::from(mtu)))
    }

    fn may_answer(ip: &[u8], too_big: bool) -> bool {
        icmp6::may_answer(ip, too_big)
    }

    fn quotable(length: usize) -> usize {
        icmp6::quotable(length)
    }

    fn write(packet: &mut [u8], message: Message, source: Self) -> Option<Self> {
        icmp6::write(packet, message, source)
    }

    fn reset(ip: &mut [u8], l4: usize) -> Option<usize> {
        tcp::reset6(ip, l4)
    }

    fn abort(ip: &mut [u8], l4: usize) -> Option<usize> {
        let (source, destination) = Self::read(ip);
        sctp::abort(ip.get_mut(l4..)?).then_some(())?;
        ip.copy_within(l4..l4 + sctp::ABORT, ip6::HEADER);
        ip6::write_header(ip, sctp::ABORT as u16, sctp::PROTOCOL, destination, source);
        Some(ip6::HEADER + sctp::ABORT)
    }
}
