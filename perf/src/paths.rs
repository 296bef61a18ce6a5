//! The paths that are measured, and what each of them needs before and between its packets.

use anyhow::{Context as _, Result, ensure};
use sluice_dataplane::sessions::{ACK, Client, SYN};

use crate::rig::{FRAMES, Rig};
use crate::traffic::{self, End, client};
use crate::world::{self, OVERLAY_VIP, VIP, name};

/// Session counts of the curve.
pub const CURVE: [u32; 5] = [1, 1024, 16_384, 131_072, 1_048_576];
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
    /// Client to VIP, each packet the first of its flow.
    VipNatNewFlow,
    /// Client to VIP, session known, backend behind VXLAN.
    OverlayEncap,
    /// A question for an address that exists.
    DnsA,
    /// A turn with nothing received.
    Idle,
}

impl Path {
    /// In the order of reports.
    pub const ALL: [Self; 7] = [
        Self::ParseDrop,
        Self::VipNatHit,
        Self::VipNatMixed,
        Self::VipNatNewFlow,
        Self::OverlayEncap,
        Self::DnsA,
        Self::Idle,
    ];

    /// Name in reports.
    #[must_use]
    pub fn name(self) -> &'static str {
        match self {
            Self::ParseDrop => "parse-drop",
            Self::VipNatHit => "vip-nat-hit",
            Self::VipNatMixed => "vip-nat-mixed",
            Self::VipNatNewFlow => "vip-nat-new-flow",
            Self::OverlayEncap => "overlay-encap",
            Self::DnsA => "dns-a",
            Self::Idle => "idle",
        }
    }

    /// Session counts at which it is measured when nobody says otherwise.
    #[must_use]
    pub fn curve(self) -> &'static [u32] {
        match self {
            Self::VipNatHit | Self::VipNatMixed | Self::VipNatNewFlow | Self::OverlayEncap => &CURVE,
            Self::ParseDrop | Self::DnsA | Self::Idle => &[0],
        }
    }

    /// Whether its packets leave; the others are dropped.
    #[must_use]
    pub fn leaves(self) -> bool {
        self != Self::ParseDrop
    }

    fn vip(self) -> End {
        if self == Self::OverlayEncap { OVERLAY_VIP } else { VIP }
    }
}

/// A path with the state that its packets meet.
pub struct Scene {
    path: Path,
    sessions: u32,
    service: u16,
    /// By session: how its backend answers. Only where replies are sent.
    replies: Vec<(End, End)>,
    /// New flows made so far, and those that are gone again.
    flows: std::ops::Range<u32>,
    names: Vec<String>,
}

impl Scene {
    /// Makes `sessions` established sessions in `rig` for `path`.
    ///
    /// # Errors
    /// When a packet of the handshake is lost.
    pub fn new(path: Path, sessions: u32, rig: &mut Rig) -> Result<Self> {
        let vip = path.vip();
        let service = rig.service(vip).context("the world has this VIP")?;
        let mut scene = Self { path, sessions, service, replies: Vec::new(), flows: 0..0, names: Vec::new() };
        for flags in [SYN, ACK] {
            let mut replies = Vec::new();
            rig.pass(
                sessions,
                |n, frame| traffic::tcp(frame, client(n), vip, flags),
                |_, sent| replies.extend(traffic::ends(sent).map(|(snat, backend)| (backend, snat))),
            )?;
            if path == Path::VipNatMixed {
                scene.replies = replies;
            }
        }
        if path == Path::DnsA {
            scene.names = (0..world::NAMES).map(name).collect();
        }
        Ok(scene)
    }

    /// Room that its sessions need.
    #[must_use]
    pub fn room(path: Path, sessions: u32) -> usize {
        let new = if path == Path::VipNatNewFlow { ROUND_FLOWS } else { 0 };
        // The default of limits.sessions, so that few sessions are measured in a table of everyday size.
        (sessions + new).max(262_144) as usize
    }

    /// Writes packet `n`. Sessions are met in an order that no prefetcher guesses.
    pub fn fill(&mut self, n: u32, frame: &mut Vec<u8>) {
        let vip = self.path.vip();
        match self.path {
            Path::ParseDrop => traffic::udp(frame, client(n % 1024), (std::net::Ipv4Addr::new(192, 0, 2, 1), 9), &[]),
            Path::VipNatHit | Path::OverlayEncap => traffic::tcp(frame, client(self.session(n)), vip, ACK),
            Path::VipNatMixed if n.is_multiple_of(2) => traffic::tcp(frame, client(self.session(n / 2)), vip, ACK),
            Path::VipNatMixed => {
                let reply = self.replies.get(self.session(n / 2) as usize);
                let (backend, snat) = reply.copied().unwrap_or((VIP, VIP));
                traffic::tcp(frame, backend, snat, ACK);
            }
            Path::VipNatNewFlow => {
                traffic::tcp(frame, new_flow(self.flows.end), vip, SYN);
                self.flows.end += 1;
            }
            Path::DnsA => {
                let name = &self.names[n.wrapping_mul(0x9e37_79b1) as usize % self.names.len()];
                traffic::question(frame, (client(n % 1024).0, 40_000), n as u16, name);
            }
            Path::Idle => frame.clear(),
        }
    }

    fn session(&self, n: u32) -> u32 {
        // An odd multiplier permutes a power of two.
        n.wrapping_mul(0x9e37_79b1) % self.sessions.max(1)
    }

    /// Ends the flows that the last packets began, so that every run finds the same table.
    ///
    /// # Errors
    /// When other sessions are left than those that were established.
    pub fn restore(&mut self, rig: &Rig) -> Result<()> {
        for n in std::mem::take(&mut self.flows) {
            let (ip, port) = new_flow(n);
            rig.flows(0).v4.remove(Client { ip: ip.to_bits(), port, service: self.service });
        }
        let left = rig.flows(0).v4.len();
        ensure!(left == self.sessions as usize, "{} sessions are left of {}", left, self.sessions);
        Ok(())
    }

    /// Checks that `packets` packets went the way that this path is named for, by the counters before and after.
    ///
    /// # Errors
    /// When they did not; the message says where they went.
    pub fn check(&self, rig: &Rig, before: Counted, packets: u64) -> Result<()> {
        let now = Counted::of(rig);
        let expected = match (self.path, self.path.leaves()) {
            (Path::Idle, _) => now.tx == before.tx && now.dropped == before.dropped,
            (Path::VipNatNewFlow, _) => now.tx - before.tx == packets && now.made - before.made == packets,
            (_, true) => now.tx - before.tx == packets && now.made == before.made,
            (_, false) => now.dropped - before.dropped == packets,
        };
        expected.then_some(()).with_context(|| {
            format!(
                "{}: {packets} packets did not all go its way: {now:?} after {before:?}; {}",
                self.path.name(),
                rig.losses()
            )
        })
    }
}

/// Flows that one run of `vip-nat-new-flow` makes.
const ROUND_FLOWS: u32 = 16 * FRAMES;

/// A client that no established session has.
fn new_flow(n: u32) -> End {
    let (ip, port) = client(n);
    (ip, port + 20_000)
}

/// What is compared before and after a run.
#[derive(Clone, Copy, Debug)]
pub struct Counted {
    tx: u64,
    dropped: u64,
    made: u64,
}

impl Counted {
    /// The first worker's, now.
    #[must_use]
    pub fn of(rig: &Rig) -> Self {
        let counters = rig.counters(0);
        Self { tx: counters.tx.get(), dropped: counters.dropped(), made: counters.sessions_made.get() }
    }
}
