//! ARP for IPv4 over Ethernet (RFC 826).

use sluice_config::model::Mac;

use super::{ETHERNET, long, put, word};

/// Octets of an ARP message for IPv4 over Ethernet.
pub const MESSAGE: usize = 28;

/// A request as far as it matters.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct Request {
    /// Who asks, host byte order.
    pub sender: u32,
    /// Who is asked for, host byte order.
    pub target: u32,
}

/// The request in an Ethernet frame of type ARP; `None` when it is anything else.
#[must_use]
pub fn request(frame: &[u8]) -> Option<Request> {
    let arp = frame.get(ETHERNET..ETHERNET + MESSAGE)?;
    // Hardware Ethernet, protocol IPv4, lengths 6 and 4, operation request.
    (arp[..8] == [0, 1, 8, 0, 6, 4, 0, 1]).then(|| Request { sender: long(arp, 14), target: long(arp, 24) })
}

/// Turns a request into its reply: `mac` has the address that was asked for.
pub fn reply(frame: &mut [u8], mac: Mac) {
    let Some(arp) = frame.get_mut(ETHERNET..ETHERNET + MESSAGE) else { return };
    let target = long(arp, 24);
    // The sender's addresses become the target's.
    arp.copy_within(8..18, 18);
    put(arp, 6, [0, 2]);
    put(arp, 8, mac.0);
    put(arp, 14, target.to_be_bytes());
    debug_assert_eq!(word(arp, 6), 2);
}
