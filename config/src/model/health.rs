//! What judges backends, and how their judgements are used.

use std::fmt;
use std::net::{Ipv4Addr, Ipv6Addr};
use std::ops::RangeInclusive;

use ipnet::{Ipv4Net, Ipv6Net};

use super::Protocol;

/// `[health]`.
#[derive(Clone, Debug)]
pub struct Health {
    /// What services have that say nothing.
    pub check: HealthCheck,
    /// Probes on their way at once, over all backends.
    pub parallel: usize,
    /// Observation by the packet path.
    pub passive: Passive,
    /// While an app is deployed: how much of its tasks that could take new flows must be of the new version, percent,
    /// before those of the old one take none. One task at least, whatever this says.
    pub upgrade_percent: u8,
    /// Addresses of [`super::ProbePath`]s: routed to the host port and to nowhere else.
    pub probe_range: Ipv4Net,
    /// The same for VIPs of IPv6.
    pub probe_range6: Ipv6Net,
}

impl Health {
    /// Networks for measurements between devices (RFC 2544 appendix C): nobody routes them.
    pub const PROBE_RANGE: Ipv4Net = Ipv4Net::new_assert(Ipv4Addr::new(198, 18, 0, 0), 15);
    /// The same of IPv6 (RFC 5180 section 8).
    pub const PROBE_RANGE6: Ipv6Net = Ipv6Net::new_assert(Ipv6Addr::new(0x2001, 2, 0, 0, 0, 0, 0, 0), 48);
}

impl Default for Health {
    fn default() -> Self {
        let (check, passive) = (HealthCheck::default(), Passive::default());
        let (probe_range, probe_range6) = (Self::PROBE_RANGE, Self::PROBE_RANGE6);
        Self { check, parallel: 128, passive, upgrade_percent: 25, probe_range, probe_range6 }
    }
}

/// How one service's backends are probed.
#[derive(Clone, PartialEq, Eq, Debug, Default)]
pub struct HealthCheck {
    /// What is asked.
    pub probe: Probe,
    /// How often, and how often in a row before it counts.
    pub pace: Pace,
    /// Whether all backends are used where all of them are judged unfit. Without this the service is empty then.
    pub fail_open: FailOpen,
}

impl HealthCheck {
    /// This check for a service of `protocol`: what cannot be asked of such a service is not asked.
    #[must_use]
    pub fn of(&self, protocol: Protocol) -> Self {
        let probe = if self.probe.fits(protocol) { self.probe.clone() } else { Probe::Off };
        Self { probe, ..self.clone() }
    }
}

/// `fail_open`.
#[derive(Clone, Copy, PartialEq, Eq, Debug, Default)]
pub enum FailOpen {
    /// Checks that all fail at once say more about the checks than about the backends.
    #[default]
    All,
    /// Nobody is used whom somebody calls unfit.
    Never,
}

/// What one probe asks.
#[derive(Clone, PartialEq, Eq, PartialOrd, Ord, Hash, Debug, Default)]
pub enum Probe {
    /// Nothing.
    #[default]
    Off,
    /// Whether a connection is accepted.
    Tcp,
    /// `GET path` over HTTP/1.1, and the status.
    Http {
        /// Path and query, beginning with `/`.
        path: String,
        /// First and last status that is well.
        status: (u16, u16),
    },
    /// A datagram, and whether any answer comes.
    Udp {
        /// What it carries.
        payload: String,
    },
}

impl Probe {
    /// Statuses that are well unless others are asked for: success and redirection (RFC 9110 section 15).
    pub const STATUS: RangeInclusive<u16> = 200..=399;
    /// What a datagram carries unless something else is asked for.
    pub const PAYLOAD: &str = "sluice";
    /// Longest path of an HTTP probe, octets.
    pub const PATH_MAX: usize = 1024;
    /// Longest payload of a UDP probe, octets: it fits every link (RFC 1122 section 3.3.2).
    pub const PAYLOAD_MAX: usize = 512;

    /// An HTTP probe with the usual statuses.
    #[must_use]
    pub fn http(path: &str) -> Self {
        Self::Http { path: path.to_owned(), status: Self::STATUS.into_inner() }
    }

    /// Reads `off`, `tcp`, `udp` or `http:/path` (`SLUICE_HEALTH`); the error says what to write.
    ///
    /// # Errors
    /// When it is none of them.
    pub fn read(text: &str) -> Result<Self, &'static str> {
        match text.trim() {
            "off" => Ok(Self::Off),
            "tcp" => Ok(Self::Tcp),
            "udp" => Ok(Self::Udp { payload: Self::PAYLOAD.to_owned() }),
            "http" => Ok(Self::http("/")),
            text => match text.strip_prefix("http:") {
                Some(path) if is_path(path) => Ok(Self::http(path)),
                Some(_) => {
                    Err("after `http:` comes a path: `/`, then printable ASCII without blanks, 1024 octets at most")
                }
                None => Err("write off, tcp, udp or http:/path"),
            },
        }
    }

    /// Whether a service of `protocol` can be asked so: UDP services answer datagrams, and TCP ones connections.
    #[must_use]
    pub fn fits(&self, protocol: Protocol) -> bool {
        match self {
            Self::Off => true,
            Self::Tcp | Self::Http { .. } => protocol == Protocol::Tcp,
            Self::Udp { .. } => protocol == Protocol::Udp,
        }
    }

    /// Its word in the configuration.
    #[must_use]
    pub fn kind(&self) -> &'static str {
        match self {
            Self::Off => "off",
            Self::Tcp => "tcp",
            Self::Http { .. } => "http",
            Self::Udp { .. } => "udp",
        }
    }
}

/// Whether this may stand in the first line of a request (RFC 9112 section 3.2.1): no blank, no control character.
#[must_use]
pub fn is_path(text: &str) -> bool {
    text.starts_with('/') && text.len() <= Probe::PATH_MAX && text.bytes().all(|b| b.is_ascii_graphic() && b != b'#')
}

impl fmt::Display for Probe {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Http { path, .. } => write!(f, "http:{path}"),
            Self::Off | Self::Tcp | Self::Udp { .. } => f.write_str(self.kind()),
        }
    }
}

/// How often a backend is probed, and how often in a row the same must be heard.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Debug)]
pub struct Pace {
    /// From one probe's start to the next, seconds; jitter of a tenth comes on top or goes off.
    pub interval_seconds: u16,
    /// How long one probe may take, seconds; never more than the interval.
    pub timeout_seconds: u16,
    /// Successes in a row that make an unfit backend fit.
    pub rise: u8,
    /// Failures in a row that make a fit backend unfit.
    pub fall: u8,
}

impl Default for Pace {
    fn default() -> Self {
        Self { interval_seconds: 5, timeout_seconds: 2, rise: 2, fall: 3 }
    }
}

/// What failures that the packet path sees lead to (facts/dcos.md B.5: five in a row, 30 seconds).
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct Passive {
    /// Failures in a row that eject a backend.
    pub failures: u8,
    /// For how long, seconds.
    pub seconds: u16,
    /// Share of a service's backends that may be ejected at once, percent; one of several may be always. 0 switches
    /// passive observation off.
    pub percent: u8,
}

impl Passive {
    /// How many of a service's backends may be ejected at once: never the only one.
    #[must_use]
    pub fn most(&self, backends: usize) -> usize {
        if self.percent == 0 || backends < 2 {
            return 0;
        }
        (backends * usize::from(self.percent) / 100).max(1)
    }
}

impl Default for Passive {
    fn default() -> Self {
        Self { failures: 5, seconds: 30, percent: 30 }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_label_reads_what_it_shows_and_nothing_that_could_split_a_request() {
        for good in ["off", "tcp", "udp", "http:/", "http:/health?deep=1"] {
            assert_eq!(Probe::read(good).unwrap().to_string(), good);
        }
        for wrong in ["", "TCP", "http:health", "http:/a b", "http:/a\r\nX: y", "http:/\u{e9}", "http:/#x", "sctp"] {
            assert!(Probe::read(wrong).is_err(), "{wrong}");
        }
        assert!(Probe::read(&format!("http:/{}", "x".repeat(1024))).is_err());
    }

    #[test]
    fn a_check_is_asked_only_of_services_that_can_answer_it() {
        let check = HealthCheck { probe: Probe::Tcp, ..HealthCheck::default() };
        let kinds = [Protocol::Tcp, Protocol::Udp, Protocol::Sctp].map(|p| check.of(p).probe.kind());
        assert_eq!(kinds, ["tcp", "off", "off"]);
    }

    #[test]
    fn one_of_several_may_be_ejected_whatever_the_share_and_never_the_only_one() {
        let passive = Passive { percent: 30, ..Passive::default() };
        assert_eq!([0, 1, 2, 3, 9, 10, 100].map(|n| passive.most(n)), [0, 0, 1, 1, 2, 3, 30]);
        assert_eq!(Passive { percent: 0, ..passive }.most(100), 0);
        assert_eq!(Passive { percent: 100, ..passive }.most(4), 4);
    }
}
