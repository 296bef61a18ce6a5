//! Who has which address. Every section claims what it uses; [`Claims::settle`] finds addresses and ranges that two
//! of them want and may not share.

use std::collections::BTreeSet;
use std::net::IpAddr;
use std::ops::Range;

use ipnet::IpNet;

use crate::diagnostic::Findings;

/// What a claimed address is for. The number tells ranges of one kind apart.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Debug)]
pub(super) enum Owner {
    /// Addresses of named VIPs.
    Named,
    /// An overlay network.
    Network(usize),
    /// The VTEP subnet.
    VtepNet,
    /// A prefix on link.
    PortNet(usize),
    /// A port's own address.
    Port,
    /// A source address towards the underlay.
    Snat,
    /// A source address towards the overlay.
    SnatOverlay,
    /// A DNS address.
    Dns,
    /// The kernel's end of the host port.
    Host,
    /// Our VTEP's outer address.
    Underlay,
    /// A static VIP.
    Vip,
    /// A static backend's.
    Backend,
    /// Our VTEP's inner address.
    OwnVtep,
    /// The first or last address of a port's subnet.
    Edge,
    /// A neighbour's.
    Neighbour,
    /// A gateway's.
    Gateway,
    /// Another agent's.
    Agent,
    /// A Marathon's.
    Marathon,
    /// A Mesos master's.
    Master,
}

impl Owner {
    fn noun(self) -> &'static str {
        match self {
            Self::Named => "the range of named VIPs",
            Self::Network(_) => "an overlay network",
            Self::VtepNet => "the VTEP subnet",
            Self::PortNet(_) => "a port's subnet",
            Self::Port => "a port's own address",
            Self::Snat | Self::SnatOverlay => "a SNAT address",
            Self::Dns => "a DNS address",
            Self::Host => "the host port's address",
            Self::Underlay => "our VTEP's underlay address",
            Self::Vip => "a VIP",
            Self::Backend => "a backend's address",
            Self::OwnVtep => "our VTEP's address",
            Self::Edge => "the first or last address of a port's subnet",
            Self::Neighbour => "a neighbour's address",
            Self::Gateway => "a gateway's address",
            Self::Agent => "an agent's address",
            Self::Marathon => "a Marathon's address",
            Self::Master => "a Mesos master's address",
        }
    }

    /// How two claims of the same addresses go together; `self <= other` in the order of the variants.
    fn meets(self, other: Self) -> Meeting {
        use Owner::{
            Agent, Backend, Dns, Edge, Gateway, Host, Marathon, Master, Named, Neighbour, Network, OwnVtep, Port,
            PortNet, Snat, SnatOverlay, Underlay, Vip, VtepNet,
        };
        match (self, other) {
            // Where packets are sent to us, none may be sent out, and what is somebody else's is not ours.
            (Port | Snat | SnatOverlay | Dns | Host | Underlay | Vip, Backend) | (Backend, OwnVtep) => Meeting::Wrong,
            (Snat | SnatOverlay | Vip, Neighbour | Gateway | Agent | Marathon | Master) => Meeting::Wrong,
            (Port | Underlay, Agent) | (Port, Gateway) | (Vip | Snat | SnatOverlay | Dns | Backend, Edge) => {
                Meeting::Wrong
            }
            (_, Backend | OwnVtep | Edge | Neighbour | Gateway | Agent | Marathon | Master) => Meeting::Fine,
            (Named, Vip) => Meeting::Doubtful,
            (PortNet(a), PortNet(b)) if a != b => Meeting::Doubtful,
            // A port's address stands for its subnet, which meets the range itself.
            (Named | Network(_) | VtepNet, Port) => Meeting::Fine,
            (PortNet(_), _) | (VtepNet, VtepNet) => Meeting::Fine,
            (Network(_), SnatOverlay | Host | Dns) => Meeting::Fine,
            // A port has it, as a rule; and the resolver may share whatever address the kernel has.
            (Port, Dns | Underlay) | (Dns, Host | Underlay) => Meeting::Fine,
            (a, b) if a == b && !matches!(a, Network(_)) => Meeting::Twice,
            (
                Named | Network(_) | VtepNet | Port | Snat | SnatOverlay | Dns | Host | Underlay | Vip | Backend
                | OwnVtep | Edge | Neighbour | Gateway | Agent | Marathon | Master,
                _,
            ) => Meeting::Wrong,
        }
    }
}

#[derive(Clone, Copy, PartialEq, Eq, Debug)]
enum Meeting {
    Fine,
    Doubtful,
    Twice,
    Wrong,
}

#[derive(Clone, Debug)]
struct Claim {
    first: IpAddr,
    last: IpAddr,
    owner: Owner,
    key: &'static str,
    at: Range<usize>,
}

impl Claim {
    fn shown(&self) -> String {
        if self.first == self.last { self.first.to_string() } else { format!("{} to {}", self.first, self.last) }
    }

    /// Claims of defaults have no place in the file.
    fn written(&self) -> bool {
        !self.at.is_empty()
    }
}

/// All claims of a file.
#[derive(Debug, Default)]
pub(super) struct Claims {
    all: Vec<Claim>,
    /// What may be there many times, and is claimed once: ports of one backend, gateways of many routes.
    once: BTreeSet<(Owner, IpAddr)>,
}

impl Claims {
    pub(super) fn host(&mut self, owner: Owner, ip: impl Into<IpAddr>, key: &'static str, at: &Range<usize>) {
        let ip = ip.into();
        self.range(owner, ip, ip, key, at);
    }

    /// As [`Claims::host`], for what is allowed to be there many times: the first place counts.
    pub(super) fn once(&mut self, owner: Owner, ip: impl Into<IpAddr>, key: &'static str, at: &Range<usize>) {
        let ip = ip.into();
        if self.once.insert((owner, ip)) {
            self.host(owner, ip, key, at);
        }
    }

    pub(super) fn net(&mut self, owner: Owner, net: impl Into<IpNet>, key: &'static str, at: &Range<usize>) {
        let net = net.into();
        self.range(owner, net.network(), net.broadcast(), key, at);
    }

    /// An empty `at` is a default.
    pub(super) fn range(
        &mut self,
        owner: Owner,
        first: impl Into<IpAddr>,
        last: impl Into<IpAddr>,
        key: &'static str,
        at: &Range<usize>,
    ) {
        self.all.push(Claim { first: first.into(), last: last.into(), owner, key, at: at.clone() });
    }

    /// One sweep over the claims in the order of their first addresses, IPv4 before IPv6. A claim that met another is reported once and
    /// then left out, so that what is open at any address are few: the sweep takes n log n.
    pub(super) fn settle(mut self, found: &mut Findings<'_>) {
        self.all.sort_by_key(|claim| (claim.first, std::cmp::Reverse(claim.last), claim.at.start));
        let mut open: Vec<Claim> = Vec::new();
        for claim in self.all {
            open.retain(|other| other.last >= claim.first);
            let met =
                open.iter().map(|other| (other, meeting(other, &claim))).find(|(_, meeting)| *meeting != Meeting::Fine);
            if let Some((other, meeting)) = met {
                report(other, &claim, meeting, found);
            } else {
                open.push(claim);
            }
        }
    }
}

fn meeting(a: &Claim, b: &Claim) -> Meeting {
    let (low, high) = if a.owner <= b.owner { (a, b) } else { (b, a) };
    low.owner.meets(high.owner)
}

/// The later of two places is blamed; a default is never.
fn report(a: &Claim, b: &Claim, meeting: Meeting, found: &mut Findings<'_>) {
    let b_later = b.written() && (!a.written() || a.at.start <= b.at.start);
    let (first, blamed) = if b_later { (a, b) } else { (b, a) };
    let place =
        if first.written() { format!("line {}", found.source.line(first.at.start)) } else { "its default".to_owned() };
    let here = blamed.shown();
    let sentence = match meeting {
        Meeting::Twice => format!("`{}` has {here} twice", blamed.key),
        Meeting::Fine | Meeting::Doubtful | Meeting::Wrong if first.shown() == here => {
            format!("`{}` has {here}, which is {} too", blamed.key, first.owner.noun())
        }
        Meeting::Fine | Meeting::Doubtful | Meeting::Wrong => {
            format!("`{}` has {here}, which overlaps {}, {}", blamed.key, first.owner.noun(), first.shown())
        }
    };
    match meeting {
        Meeting::Doubtful => {
            found.warning(&blamed.at, sentence, format!("`{}` ({place}) has it too, keep them apart", first.key))
        }
        Meeting::Fine | Meeting::Twice | Meeting::Wrong => {
            found.error(&blamed.at, sentence, format!("write another, or change `{}` ({place})", first.key))
        }
    }
}
