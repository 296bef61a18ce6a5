//! A burst of packets on its way through the stages, and what is known of each.

use arrayvec::ArrayVec;

use crate::fragments::Part;
use crate::frame::{Frame, Pool};
use crate::io::BURST;
use crate::verdict::{DropReason, Verdict};
use crate::wire::sctp::{self, Chunk};
use crate::wire::tcp::flag;
use crate::wire::{ip4, vlan};

/// Packets of one turn.
pub type Burst = ArrayVec<Packet, BURST>;

/// What a packet is, as the stages find out.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Action {
    /// Nothing more to do; the verdict stands.
    Done,
    /// Not yet classified.
    Parsed,
    /// ARP to be looked at.
    Arp,
    /// A question for us.
    Dns,
    /// An echo request to a VIP.
    Echo,
    /// A neighbour solicitation for an address of ours.
    Solicited,
    /// To a service (its number).
    Balance(u16),
    /// From a backend (its number) to a SNAT address (its index), or with [`crate::sessions::Flow::PRESERVED`] to a
    /// client.
    Return {
        /// Backend number.
        backend: u32,
        /// SNAT address index.
        snat: u8,
    },
    /// An ICMP error about a packet to or from one of our addresses.
    Error,
    /// A fragment without transport header, which follows its first one.
    Later,
    /// Routed on as it is.
    Forward,
    /// From a container to somebody outside, by a masquerading gateway.
    Masquerade,
    /// To a SNAT address (its index), perhaps in answer to what was masqueraded.
    Unmasquerade(u8),
    /// From somebody outside to a container, by a masquerading gateway, which its answers leave unchanged.
    Enter,
    /// To the node's kernel.
    Host,
}

/// Where a packet leaves, set by the stage that decides it and used by encap and egress.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Out {
    /// Not decided.
    Nowhere,
    /// Back to the station that it came from: MACs swapped, same port.
    Back,
    /// By the routes, to the packet's (new) destination.
    Route,
    /// To this next hop (index into the tables).
    Hop(u32),
    /// In VXLAN to this agent (index into the tables).
    Agent(u16),
    /// In this tunnel to a backend (index into the tables).
    Tunnel(u32),
    /// To the kernel by the host port.
    Host,
}

/// The IPv4 addresses and the ports of a packet, host byte order. ICMP has its identifier nowhere: ports are 0. The
/// addresses of IPv6 are in [`Packet::ends6`].
#[derive(Clone, Copy, PartialEq, Eq, Debug, Default)]
pub struct Tuple {
    /// Source address.
    pub src: u32,
    /// Destination address.
    pub dst: u32,
    /// Source port.
    pub sport: u16,
    /// Destination port.
    pub dport: u16,
    /// IP protocol number.
    pub protocol: u8,
}

/// A packet and what is known of it. Offsets count from the start of the frame's packet.
#[derive(Debug)]
pub struct Packet {
    /// Where its octets are.
    pub frame: Frame,
    /// Extent at reception, so that it can be handed over as received.
    pub received: (u16, u16),
    /// Port index on which it was received.
    pub ingress: u8,
    /// Whether another worker handed it over.
    pub handed: bool,
    /// Workers that have looked for its session in vain, on its one round of them ([`Packet::go_round`]).
    pub round: u8,
    /// Offset of the IP header; 0 where there is none, or it has not been parsed ([`Packet::is_parsed`]).
    pub l3: u8,
    /// Offset of the transport header.
    pub l4: u8,
    /// TCP flags (RFC 9293 section 3.1), 0 for others.
    pub tcp_flags: u8,
    /// TTL or hop limit as received.
    pub hops_left: u8,
    /// Agent (index into the tables) whose VTEP sent it, once stripped of VXLAN.
    pub agent: Option<u16>,
    /// Whether the innermost packet is IPv6.
    pub v6: bool,
    /// Octets of 802.1Q tags that parse took off, 0, 4 or 8: [`Packet::tags`].
    pub tagged: u8,
    /// The tags as received; they are put back on what leaves by the port on which the packet came.
    pub tags: [u8; 8],
    /// Which part of a datagram it is.
    pub part: Part,
    /// Identification of the datagram that it is a fragment of.
    pub id: u32,
    /// Place of the network that it goes to, of what [`crate::stage::hub`] carries
    /// ([`crate::counters::Counters::networks`]).
    pub network: u8,
    /// Octets of the IP packet, which Ethernet padding may follow.
    pub ip_len: u16,
    /// Largest IP packet that the way out takes, noted by who drops it as too big before it is changed; 0 unknown.
    pub mtu: u16,
    /// Innermost addresses and ports.
    pub tuple: Tuple,
    /// Innermost source and destination of IPv6.
    pub ends6: (u128, u128),
    /// Hash of what its session is looked up by, once it has been asked for; else 0.
    pub hash: u64,
    /// What it is.
    pub action: Action,
    /// Where it leaves.
    pub out: Out,
    /// How it ends.
    pub verdict: Verdict,
}

impl Packet {
    /// A packet as received on `ingress`.
    #[must_use]
    #[inline]
    pub fn received(frame: Frame, ingress: u8) -> Self {
        let received = frame.extent();
        Self {
            frame,
            received,
            ingress,
            handed: false,
            round: 0,
            l3: 0,
            l4: 0,
            tcp_flags: 0,
            hops_left: 0,
            agent: None,
            v6: false,
            tagged: 0,
            tags: [0; 8],
            part: Part::Whole,
            id: 0,
            network: 0,
            ip_len: 0,
            mtu: 0,
            ends6: (0, 0),
            tuple: Tuple::default(),
            hash: 0,
            action: Action::Parsed,
            out: Out::Nowhere,
            verdict: Verdict::Pending,
        }
    }

    /// Whether its IP header is known.
    #[must_use]
    #[inline]
    pub fn is_parsed(&self) -> bool {
        self.l3 > 0
    }

    /// Ends it.
    #[inline]
    pub fn drop(&mut self, reason: DropReason) {
        self.end(Verdict::Drop(reason));
    }

    /// Ends it with any verdict.
    #[inline]
    pub fn end(&mut self, verdict: Verdict) {
        self.action = Action::Done;
        self.verdict = verdict;
    }

    /// Sends it on by `out`; encap and egress do the rest.
    #[inline]
    pub fn leave(&mut self, out: Out) {
        self.action = Action::Done;
        self.out = out;
    }

    /// Whether it is `worker`'s, where a flow of its has this owner; if not, it goes to the owner, once.
    #[inline]
    pub fn belongs(&mut self, owner: u8, worker: u8) -> bool {
        if owner != worker {
            self.end(match self.handed {
                true => Verdict::Drop(DropReason::HandoverTwice),
                false => Verdict::Give(owner),
            });
        }
        owner == worker
    }

    /// Sends it to the next of `workers` workers on its one round of them, from `worker`, which has not found its
    /// session; `false` when all have looked, or when it was given to this worker as the owner.
    #[must_use]
    pub fn go_round(&mut self, worker: u8, workers: u8) -> bool {
        let further = self.round + 1 < workers && (self.round > 0 || !self.handed);
        if further {
            self.round += 1;
            self.end(Verdict::Give((worker + 1) % workers));
        }
        further
    }

    /// Puts the tags that parse took off back in front; `false` where there is no room.
    #[must_use]
    pub fn tag(&mut self, pool: &mut Pool) -> bool {
        let tags = self.tags;
        let given = self.frame.prepend(u16::from(self.tagged));
        if given {
            vlan::tag(pool.bytes_mut(&mut self.frame), &tags[..usize::from(self.tagged)]);
        }
        given
    }

    /// Makes its frame what was received, for whoever begins again with it.
    pub fn make_as_received(&mut self, pool: &mut Pool) {
        self.frame.restore(self.received);
        if self.tagged > 0 {
            // There is room: the tags were taken off this very frame.
            let _always = self.tag(pool);
        }
    }

    /// Whether it asks for a new connection; of UDP every packet may.
    #[must_use]
    pub fn is_first(&self, pool: &Pool) -> bool {
        let l4 = pool.bytes(&self.frame).get(usize::from(self.l4)..).unwrap_or_default();
        match self.tuple.protocol {
            ip4::TCP => self.tcp_flags & (flag::SYN | flag::ACK) == flag::SYN,
            ip4::SCTP => sctp::first_chunk(l4) == Some(Chunk::Init),
            _ => true,
        }
    }

    /// Whether it still has a way to go.
    #[must_use]
    #[inline]
    pub fn pending(&self) -> bool {
        self.verdict == Verdict::Pending
    }
}
