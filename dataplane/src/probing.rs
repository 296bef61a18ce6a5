//! Probes of the node's own that are on their way to backends which answer as the VIP ([`crate::stage::probe`]): whose
//! each is, by its source port.
//!
//! A probe leaves with a SNAT address and the port that the kernel gave it, so its answer tells by its destination port
//! alone who waits for it. The prober binds its sockets, and the kernel gives no two of them one port. No NAT session
//! can have the same ends: its packets come from a backend's address, never from a VIP's. What the kernel sends comes to
//! worker 0 (`net.core.txrehash` would change its queue otherwise), so that one keeps them, and the others nothing.

use crate::address::Address;
use crate::time::Nanos;
use crate::wire::ip4;

/// The worker that keeps them.
pub const OWNER: u8 = 0;

/// The longest that a probe may take (`health.timeout_seconds`), seconds.
const LONGEST: u32 = 3600;

/// Ports of one protocol.
const PORTS: usize = 1 << 16;

/// Those of both families. ~6 MB at [`OWNER`], of which the kernel gives pages as they are used.
#[derive(Debug)]
pub struct Probing {
    /// IPv4.
    pub v4: Waiting<u32>,
    /// IPv6.
    pub v6: Waiting<u128>,
}

impl Probing {
    /// For a worker.
    #[must_use]
    pub fn new(worker: u8) -> Self {
        let places = if worker == OWNER { 2 * PORTS } else { 0 };
        Self { v4: Waiting::new(places), v6: Waiting::new(places) }
    }
}

/// Those of one family: UDP's behind TCP's.
#[derive(Debug)]
pub struct Waiting<A> {
    /// The kernel's own address.
    source: Box<[A]>,
    /// Where it sent the probe.
    to: Box<[A]>,
    /// When it last sent, or was sent, something, in seconds and one more; 0 is never.
    seen: Box<[u32]>,
}

impl<A: Address> Waiting<A> {
    fn new(places: usize) -> Self {
        let addresses = || vec![A::default(); places].into();
        Self { source: addresses(), to: addresses(), seen: vec![0; places].into() }
    }

    fn place(port: u16, protocol: u8) -> usize {
        usize::from(port) + if protocol == ip4::UDP { PORTS } else { 0 }
    }

    /// Notes that the kernel sent from `source` and this port to `to`.
    pub fn sent(&mut self, port: u16, protocol: u8, source: A, to: A, now: Nanos) {
        let place = Self::place(port, protocol);
        if let (Some(is), Some(was), Some(seen)) =
            (self.source.get_mut(place), self.to.get_mut(place), self.seen.get_mut(place))
        {
            (*is, *was, *seen) = (source, to, seconds(now).saturating_add(1));
        }
    }

    /// Who waits for an answer at this port, and where it had sent its probe.
    pub fn answered(&mut self, port: u16, protocol: u8, now: Nanos) -> Option<(A, A)> {
        let place = Self::place(port, protocol);
        let (seen, now) = (self.seen.get_mut(place)?, seconds(now));
        if *seen == 0 || now.saturating_add(1).saturating_sub(*seen) > LONGEST {
            return None;
        }
        *seen = now.saturating_add(1);
        Some((*self.source.get(place)?, *self.to.get(place)?))
    }
}

fn seconds(now: Nanos) -> u32 {
    u32::try_from(now.0 / 1_000_000_000).unwrap_or(u32::MAX - 1)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_port_of_each_protocol_waits_for_itself_and_not_for_ever() {
        let mut waiting = Probing::new(OWNER).v4;
        let at = Nanos::from_seconds;
        assert_eq!(waiting.answered(40_000, ip4::TCP, at(0)), None);
        waiting.sent(40_000, ip4::TCP, 1, 2, at(0));
        waiting.sent(40_000, ip4::UDP, 3, 4, at(0));
        assert_eq!(waiting.answered(40_000, ip4::TCP, at(3600)), Some((1, 2)));
        assert_eq!(waiting.answered(40_000, ip4::TCP, at(7200)), Some((1, 2)), "it was seen meanwhile");
        assert_eq!(waiting.answered(40_000, ip4::UDP, at(3601)), None);
        waiting.sent(40_000, ip4::TCP, 5, 6, at(7201));
        assert_eq!(waiting.answered(40_000, ip4::TCP, at(7201)), Some((5, 6)), "the last one counts");
        assert_eq!(waiting.answered(65_535, ip4::UDP, at(7201)), None);
    }

    #[test]
    fn who_is_not_the_owner_keeps_nothing() {
        let mut waiting = Probing::new(1).v6;
        waiting.sent(40_000, ip4::TCP, 1, 2, Nanos(0));
        assert_eq!(waiting.answered(40_000, ip4::TCP, Nanos(0)), None);
    }
}
