//! A path with the state that its packets meet, before and between its packets.

use anyhow::{Context as _, Result, ensure};
use sluice_dataplane::sessions::{ACK, SYN};

use crate::hub;
use crate::names;
use crate::paths::Path;
use crate::rig::Rig;
use crate::traffic::{self, End, End6, client, client6};
use crate::world::{self, IPIP_VIP, OVERLAY_VIP, VIP, VIP6, VXLAN_VIP, name};

/// A path with the state that its packets meet.
pub struct Scene {
    path: Path,
    sessions: u32,
    /// By session: how its backend answers. Only where replies are sent.
    replies: Vec<(End, End)>,
    replies6: Vec<(End6, End6)>,
    /// New flows made so far.
    flows: u32,
    names: Vec<String>,
}

impl Scene {
    /// Makes `sessions` sessions in `rig` for `path`: established ones, half-open ones where others take their place,
    /// none where there is no room for any.
    ///
    /// # Errors
    /// When a packet of the handshake is lost.
    pub fn new(path: Path, sessions: u32, rig: &mut Rig) -> Result<Self> {
        let mut scene = Self { path, sessions, replies: Vec::new(), replies6: Vec::new(), flows: 0, names: Vec::new() };
        let packets: &[u8] = &[SYN, ACK];
        let handshake = usize::from(path != Path::VipHashOnly) + usize::from(path.establishes());
        for flags in &packets[..handshake] {
            scene.replies.clear();
            scene.replies6.clear();
            let (replies, replies6) = (&mut scene.replies, &mut scene.replies6);
            rig.pass(
                path.sender(),
                sessions,
                |n, frame| from_client(frame, path, n, *flags),
                |_, sent| {
                    if matches!(path, Path::VipNatMixed | Path::VipNatHandover) {
                        replies.extend(traffic::ends(sent).map(|(snat, backend)| (backend, snat)));
                    } else if path == Path::Vip6NatMixed {
                        replies6.extend(traffic::ends6(sent).map(|(snat, backend)| (backend, snat)));
                    }
                },
            )?;
        }
        if path == Path::DnsA {
            scene.names = (0..world::NAMES).map(name).collect();
        }
        Ok(scene)
    }

    /// Writes packet `n`. Sessions are met in an order that no prefetcher guesses.
    pub fn fill(&mut self, n: u32, frame: &mut Vec<u8>) {
        match self.path {
            Path::ParseDrop => traffic::udp(frame, client(n % 1024), (std::net::Ipv4Addr::new(192, 0, 2, 1), 9), &[]),
            Path::VipNatMixed | Path::Vip6NatMixed if n.is_multiple_of(2) => {
                from_client(frame, self.path, self.session(n / 2), ACK);
            }
            Path::VipNatMixed => self.reply(self.session(n / 2), frame),
            Path::VipNatHandover => self.reply(self.session(n), frame),
            Path::Vip6NatMixed => {
                let (backend, snat) = self.replies6.get(self.session(n / 2) as usize).copied().unwrap_or((VIP6, VIP6));
                traffic::tcp6(frame, backend, snat, ACK);
            }
            Path::VipNatNewFlow | Path::VipNewFlow => {
                traffic::tcp(frame, new_flow(self.flows), vip(self.path), SYN);
                self.flows += 1;
            }
            Path::DnsA => {
                let name = &self.names[n.wrapping_mul(0x9e37_79b1) as usize % self.names.len()];
                traffic::question(frame, (client(n % 1024).0, 40_000), n as u16, name);
            }
            Path::DnsMix10k | Path::Dns6Mix10k | Path::DnsMix1m => {
                let names = self.path.names().unwrap_or(names::SMALL);
                if names::question(frame, n, names, self.path == Path::Dns6Mix10k).is_err() {
                    frame.clear();
                }
            }
            Path::Hub => hub::packet(n, frame),
            Path::Idle => frame.clear(),
            Path::VipNatHit | Path::OverlayEncap | Path::VipDsrIpipHit | Path::VipDsrVxlanHit | Path::VipHashOnly => {
                from_client(frame, self.path, self.session(n), ACK);
            }
        }
    }

    fn reply(&self, session: u32, frame: &mut Vec<u8>) {
        let (backend, snat) = self.replies.get(session as usize).copied().unwrap_or((VIP, VIP));
        traffic::tcp(frame, backend, snat, ACK);
    }

    fn session(&self, n: u32) -> u32 {
        // An odd multiplier permutes a power of two.
        n.wrapping_mul(0x9e37_79b1) % self.sessions.max(1)
    }

    /// Lets the flows that the last packets began end, so that every run finds the same table: their handshakes were
    /// never finished.
    ///
    /// # Errors
    /// When other sessions are left than those that were made first, or as many where others took their place.
    pub fn restore(&mut self, rig: &mut Rig) -> Result<()> {
        if self.path == Path::VipNatNewFlow {
            rig.rest(14);
        }
        let left = rig.flows(self.path.sender()).len();
        let expected = if self.path == Path::VipHashOnly { 0 } else { self.sessions };
        ensure!(left == expected as usize, "{left} sessions are left of {expected}");
        Ok(())
    }

    /// Checks that `packets` packets went the way that this path is named for, by the counters before and after.
    ///
    /// # Errors
    /// When they did not; the message says where they went.
    pub fn check(&self, rig: &Rig, before: Counted, packets: u64) -> Result<()> {
        let now = Counted::of(rig, self.path);
        let (tx, made) = (now.tx - before.tx, now.made - before.made);
        let expected = match self.path {
            Path::Idle => tx == 0 && now.dropped == before.dropped,
            Path::ParseDrop => now.dropped - before.dropped == packets,
            Path::VipHashOnly => tx == packets && now.unremembered - before.unremembered == packets,
            Path::VipNatHandover => tx == packets && now.taken - before.taken == packets,
            Path::VipNatNewFlow | Path::VipNewFlow => tx == packets && made == packets,
            Path::VipNatHit
            | Path::VipNatMixed
            | Path::Vip6NatMixed
            | Path::OverlayEncap
            | Path::Hub
            | Path::VipDsrIpipHit
            | Path::VipDsrVxlanHit
            | Path::DnsA
            | Path::DnsMix10k
            | Path::Dns6Mix10k
            | Path::DnsMix1m => tx == packets && made == 0 && now.unremembered == before.unremembered,
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

fn vip(path: Path) -> End {
    match path {
        Path::OverlayEncap => OVERLAY_VIP,
        Path::VipDsrIpipHit | Path::VipHashOnly | Path::VipNewFlow => IPIP_VIP,
        Path::VipDsrVxlanHit => VXLAN_VIP,
        Path::ParseDrop
        | Path::VipNatHit
        | Path::VipNatMixed
        | Path::Vip6NatMixed
        | Path::VipNatHandover
        | Path::VipNatNewFlow
        | Path::Hub
        | Path::DnsA
        | Path::DnsMix10k
        | Path::Dns6Mix10k
        | Path::DnsMix1m
        | Path::Idle => VIP,
    }
}

/// A packet of the `n`th client to its path's VIP.
fn from_client(frame: &mut Vec<u8>, path: Path, n: u32, flags: u8) {
    if path == Path::Vip6NatMixed {
        traffic::tcp6(frame, client6(n), VIP6, flags);
    } else {
        traffic::tcp(frame, client(n), vip(path), flags);
    }
}

/// A client that no session has which was made first.
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
    taken: u64,
    unremembered: u64,
}

impl Counted {
    /// Those of the worker that sends this path's packets, now.
    #[must_use]
    pub fn of(rig: &Rig, path: Path) -> Self {
        let counters = rig.counters(path.sender());
        Self {
            tx: counters.tx.get(),
            dropped: counters.dropped(),
            made: counters.sessions_made.get(),
            taken: counters.taken.get(),
            unremembered: counters.unremembered.get(),
        }
    }
}
