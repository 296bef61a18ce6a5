//! On what terms names are answered: this node's own, beside the zones that all share.

use std::net::IpAddr;

use ipnet::IpNet;
use sluice_config::model::Local;

use crate::limiter::Rate;
use crate::wire::dns::{EDNS_VERSION, rtype};

/// A secret that cookies are made with (RFC 9018).
#[derive(Clone, PartialEq, Eq)]
pub struct Secret(pub [u8; 16]);

impl std::fmt::Debug for Secret {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str("Secret")
    }
}

/// On what terms names are answered.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct Terms {
    /// Largest UDP answer offered by EDNS, octets.
    pub edns_max: u16,
    /// Whether TC is set on answers that were cut.
    pub truncate_bit: bool,
    /// Whether RA is set in answers.
    pub recursion_available: bool,
    /// What NSID is answered with; nothing where it is empty.
    pub nsid: Box<[u8]>,
    /// The first makes cookies, all are taken.
    pub secrets: Box<[Secret]>,
    /// First and last address of who is believed to be who it says.
    trusted4: Box<[(u32, u32)]>,
    trusted6: Box<[(u128, u128)]>,
    /// Answers to one prefix of others who have no cookie; a worker's part.
    pub rate: Rate,
    /// Seconds since 1970 at the monotonic clock's zero, modulo 2^32.
    pub epoch: u32,
    /// The OPT record of an answer without options, response code below 16, DO clear: eight octets and three.
    pub opt: ([u8; 8], [u8; 3]),
    /// Whether questions about others' names go to the node's kernel, where control forwards them.
    pub forward: bool,
}

impl Terms {
    /// Of a node, and first and last addresses in its overlay.
    #[must_use]
    pub fn new(local: &Local, overlay4: &[(u32, u32)], overlay6: &[(u128, u128)]) -> Self {
        let dns = &local.dns;
        let v4 = dns.trusted.iter().filter_map(|net| match net {
            IpNet::V4(net) => Some((net.network().to_bits(), net.broadcast().to_bits())),
            IpNet::V6(_) => None,
        });
        let v6 = dns.trusted.iter().filter_map(|net| match net {
            IpNet::V6(net) => Some((net.network().to_bits(), net.broadcast().to_bits())),
            IpNet::V4(_) => None,
        });
        let overlay4 = overlay4.iter().copied().filter(|_| dns.trust_overlay);
        let overlay6 = overlay6.iter().copied().filter(|_| dns.trust_overlay);
        let ([t0, t1], [s0, s1]) = (rtype::OPT.to_be_bytes(), dns.edns_max.to_be_bytes());
        let workers = u32::try_from(local.workers).unwrap_or(u32::MAX);
        Self {
            edns_max: dns.edns_max,
            truncate_bit: dns.truncate_bit,
            recursion_available: dns.recursion_available,
            nsid: dns.nsid.as_bytes().into(),
            secrets: dns.cookie_secrets.iter().map(|secret| Secret(*secret)).collect(),
            trusted4: v4.chain(overlay4).collect(),
            trusted6: v6.chain(overlay6).collect(),
            rate: Rate::shared(dns.responses_per_second, dns.responses_per_second, workers),
            epoch: dns.epoch,
            opt: ([0, t0, t1, s0, s1, 0, EDNS_VERSION, 0], [0; 3]),
            forward: dns.forward,
        }
    }

    /// Whether this address is believed to be its sender's.
    #[must_use]
    #[inline]
    pub fn trusts(&self, ip: IpAddr) -> bool {
        match ip {
            IpAddr::V4(ip) => self.trusted4.iter().any(|(first, last)| (*first..=*last).contains(&ip.to_bits())),
            IpAddr::V6(ip) => self.trusted6.iter().any(|(first, last)| (*first..=*last).contains(&ip.to_bits())),
        }
    }
}
