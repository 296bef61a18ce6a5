//! The paths that are measured: what their packets are, and what their worker holds.

use crate::rig::FRAMES;

/// Session counts of the curve.
pub const CURVE: [u32; 6] = [1, 1024, 16_384, 131_072, 1_048_576, MOST_SESSIONS];
/// The most that may be asked for.
pub const MOST_SESSIONS: u32 = 4_194_304;

/// A way through the worker.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Path {
    /// Parsed to a tuple, looked up, and not for us.
    ParseDrop,
    /// Client to VIP, session known.
    VipNatHit,
    /// The same, every second packet a backend's reply.
    VipNatMixed,
    /// As `VipNatMixed`, over IPv6.
    Vip6NatMixed,
    /// A backend's reply that comes to the wrong worker and goes through the ring to its owner.
    VipNatHandover,
    /// Client to VIP, each packet the first of its flow; flows before it end by time.
    VipNatNewFlow,
    /// Client to VIP, session known, backend behind VXLAN.
    OverlayEncap,
    /// Container to a container of its group on another agent, 100,000 of them on 1,000 agents ([`crate::hub`]).
    Hub,
    /// Client to a VIP in mode `dsr-ipip`, session known.
    VipDsrIpipHit,
    /// Client to a VIP in mode `dsr-vxlan`, session known.
    VipDsrVxlanHit,
    /// Client to a VIP in mode `dsr-ipip`, by a worker without room for sessions.
    VipHashOnly,
    /// Client to a VIP in mode `dsr-ipip`, each packet the first of its flow, the table full: another one gives way.
    VipNewFlow,
    /// A question for an address that exists.
    DnsA,
    /// The mix of questions ([`crate::names`]) among 10,000 names.
    DnsMix10k,
    /// The same over IPv6.
    Dns6Mix10k,
    /// The same among a million names, over IPv4.
    DnsMix1m,
    /// A turn with nothing received.
    Idle,
}

impl Path {
    /// In the order of reports.
    pub const ALL: [Self; 17] = [
        Self::ParseDrop,
        Self::VipNatHit,
        Self::VipNatMixed,
        Self::Vip6NatMixed,
        Self::VipNatHandover,
        Self::VipNatNewFlow,
        Self::OverlayEncap,
        Self::Hub,
        Self::VipDsrIpipHit,
        Self::VipDsrVxlanHit,
        Self::VipHashOnly,
        Self::VipNewFlow,
        Self::DnsA,
        Self::DnsMix10k,
        Self::Dns6Mix10k,
        Self::DnsMix1m,
        Self::Idle,
    ];

    /// Name in reports.
    #[must_use]
    pub fn name(self) -> &'static str {
        match self {
            Self::ParseDrop => "parse-drop",
            Self::VipNatHit => "vip-nat-hit",
            Self::VipNatMixed => "vip-nat-mixed",
            Self::Vip6NatMixed => "vip6-nat-mixed",
            Self::VipNatHandover => "vip-nat-handover",
            Self::VipNatNewFlow => "vip-nat-new-flow",
            Self::OverlayEncap => "overlay-encap",
            Self::Hub => "hub",
            Self::VipDsrIpipHit => "vip-dsr-ipip-hit",
            Self::VipDsrVxlanHit => "vip-dsr-vxlan-hit",
            Self::VipHashOnly => "vip-hash-only",
            Self::VipNewFlow => "vip-new-flow",
            Self::DnsA => "dns-a",
            Self::DnsMix10k => "dns-mix-10k",
            Self::Dns6Mix10k => "dns6-mix-10k",
            Self::DnsMix1m => "dns-mix-1m",
            Self::Idle => "idle",
        }
    }

    /// Session counts at which it is measured when nobody says otherwise; for `vip-hash-only` they are flows.
    #[must_use]
    pub fn curve(self) -> &'static [u32] {
        match self {
            Self::ParseDrop
            | Self::Hub
            | Self::DnsA
            | Self::DnsMix10k
            | Self::Dns6Mix10k
            | Self::DnsMix1m
            | Self::Idle => &[0],
            // A table of one session is no table.
            Self::VipNewFlow => &CURVE[1..],
            Self::VipNatHit
            | Self::VipNatMixed
            | Self::Vip6NatMixed
            | Self::VipNatHandover
            | Self::VipNatNewFlow
            | Self::OverlayEncap
            | Self::VipDsrIpipHit
            | Self::VipDsrVxlanHit
            | Self::VipHashOnly => &CURVE,
        }
    }

    /// Names that its questions are among, where it is one of the mix.
    #[must_use]
    pub fn names(self) -> Option<u32> {
        match self {
            Self::DnsMix10k | Self::Dns6Mix10k => Some(crate::names::SMALL),
            Self::DnsMix1m => Some(crate::names::LARGE),
            Self::ParseDrop
            | Self::VipNatHit
            | Self::VipNatMixed
            | Self::Vip6NatMixed
            | Self::VipNatHandover
            | Self::VipNatNewFlow
            | Self::OverlayEncap
            | Self::Hub
            | Self::VipDsrIpipHit
            | Self::VipDsrVxlanHit
            | Self::VipHashOnly
            | Self::VipNewFlow
            | Self::DnsA
            | Self::Idle => None,
        }
    }

    /// Whether its packets leave; the others are dropped.
    #[must_use]
    pub fn leaves(self) -> bool {
        self != Self::ParseDrop
    }

    /// Whether each of its packets is a flow of its own.
    #[must_use]
    pub fn begins_flows(self) -> bool {
        matches!(self, Self::VipNatNewFlow | Self::VipNewFlow)
    }

    /// Whether the sessions that its worker holds have come through their handshake: the others are half open, so that
    /// newcomers take their place.
    #[must_use]
    pub fn establishes(self) -> bool {
        !matches!(self, Self::VipHashOnly | Self::VipNewFlow)
    }

    /// Workers that it goes through, the last of which has the sessions and sends the packets.
    #[must_use]
    pub fn workers(self) -> usize {
        if self == Self::VipNatHandover { 2 } else { 1 }
    }

    /// The worker that sends its packets.
    #[must_use]
    pub fn sender(self) -> usize {
        self.workers() - 1
    }

    /// Sessions that its worker has room for when it holds `sessions`.
    #[must_use]
    pub fn room(self, sessions: u32) -> usize {
        /// The default of limits.sessions, so that few sessions are measured in a table of everyday size.
        const EVERYDAY: u32 = 262_144;
        let room = match self {
            Self::VipHashOnly => 0,
            Self::VipNewFlow => sessions,
            Self::VipNatNewFlow => (sessions + ROUND_FLOWS).max(EVERYDAY),
            Self::ParseDrop
            | Self::VipNatHit
            | Self::VipNatMixed
            | Self::Vip6NatMixed
            | Self::VipNatHandover
            | Self::OverlayEncap
            | Self::Hub
            | Self::VipDsrIpipHit
            | Self::VipDsrVxlanHit
            | Self::DnsA
            | Self::DnsMix10k
            | Self::Dns6Mix10k
            | Self::DnsMix1m
            | Self::Idle => sessions.max(EVERYDAY),
        };
        room as usize
    }
}

/// Flows that one run of a path makes whose packets each begin one.
const ROUND_FLOWS: u32 = 16 * FRAMES;
