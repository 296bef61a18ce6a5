//! What the entries say: who talks to whom, how far it has come, and when it was last heard.

use sluice_config::model::Protocol;

use super::beside::Beside;
use super::caller::Caller;
use crate::tables::hash::MixKey;
use crate::time::Tick;

/// Who a client talks to: the key of a forward entry.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct Client<A = u32> {
    /// Address, host byte order.
    pub ip: A,
    /// Port.
    pub port: u16,
    /// Service number, never 0; of a masqueraded flow the IP protocol's.
    pub service: u16,
}

impl<A: Caller> Client<A> {
    #[inline]
    pub(super) fn hash(self, key: MixKey) -> u64 {
        A::Beside::hash(key, self.ip, self.low())
    }

    /// The key word of an entry with this hash: address or its digest 32, port 16, service 16 bits.
    #[inline]
    pub(super) fn word(self, hash: u64) -> u64 {
        u64::from(A::Beside::tag(self.ip, hash)) << 32 | u64::from(self.low())
    }

    #[inline]
    fn low(self) -> u32 {
        u32::from(self.port) << 16 | u32::from(self.service)
    }

    #[inline]
    pub(super) fn from_word(word: u64, beside: &A::Beside) -> Self {
        Self { ip: beside.get((word >> 32) as u32), port: (word >> 16) as u16, service: word as u16 }
    }
}

/// What a backend sees: the key of a reverse entry.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct Flow {
    /// Backend number, 24 bits; of a masqueraded flow the IP protocol's.
    pub backend: u32,
    /// SNAT address index, below [`Flow::SNAT_ADDRESSES`]; above, that there is none ([`Flow::way`]).
    pub snat: u8,
    /// SNAT port; the client's own in `nat-preserve`, 0 in the DSR modes.
    pub port: u16,
    /// Protocol; UDP stands for ICMP echo.
    pub protocol: Protocol,
}

/// How a session's packets find their way back.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Way {
    /// `nat`: by SNAT address and port.
    Translated,
    /// `nat-preserve`: by the client's own address and port.
    Preserved,
    /// The DSR modes: they do not pass here, and there is no reverse entry.
    Direct,
}

impl Way {
    #[inline(always)]
    fn of(snat: u8) -> Self {
        match snat {
            Flow::DIRECT => Self::Direct,
            Flow::PRESERVED => Self::Preserved,
            _ => Self::Translated,
        }
    }
}

/// What packets to a backend need of their flow, as entries hold it: backend, SNAT address and port. What else an entry's
/// word holds is in it too, so two of them are not compared.
#[derive(Clone, Copy, Debug)]
pub struct Choice(u64);

impl Choice {
    /// As [`Flow::backend`].
    #[must_use]
    #[inline(always)]
    pub fn backend(self) -> u32 {
        self.0 as u32 & 0xff_ffff
    }

    /// As [`Flow::snat`].
    #[must_use]
    #[inline(always)]
    pub fn snat(self) -> u8 {
        (self.0 >> 24) as u8
    }

    /// As [`Flow::port`].
    #[must_use]
    #[inline(always)]
    pub fn port(self) -> u16 {
        (self.0 >> 32) as u16
    }

    /// As [`Flow::way`].
    #[must_use]
    #[inline(always)]
    pub fn way(self) -> Way {
        Way::of(self.snat())
    }
}

impl Flow {
    /// SNAT addresses that there are numbers for.
    pub const SNAT_ADDRESSES: usize = 254;

    pub(super) const MASK: u64 = (1 << 50) - 1;
    /// In a reverse key word: how the handshake went is known, and was told.
    pub(super) const TOLD: u64 = 1 << 50;
    /// In a reverse key word: the session has ended and its port rests.
    pub(super) const RESTING: u64 = 1 << 51;
    pub(super) const TICK_SHIFT: u32 = 52;
    /// The SNAT address index of flows of `nat-preserve`.
    pub const PRESERVED: u8 = 254;
    const DIRECT: u8 = 255;

    /// A flow of the DSR modes.
    #[must_use]
    pub fn direct(backend: u32, protocol: Protocol) -> Self {
        Self { backend, snat: Self::DIRECT, port: 0, protocol }
    }

    /// A flow of `nat-preserve` from a client's port.
    #[must_use]
    pub fn preserved(backend: u32, port: u16, protocol: Protocol) -> Self {
        Self { backend, snat: Self::PRESERVED, port, protocol }
    }

    /// How its packets find their way back.
    #[must_use]
    #[inline]
    pub fn way(self) -> Way {
        Way::of(self.snat)
    }

    /// What its packets to the backend need of it.
    #[must_use]
    #[inline]
    pub fn choice(self) -> Choice {
        Choice(self.word())
    }

    /// The hash of the reverse entry, which something of its session's caller may belong to.
    #[inline]
    pub(super) fn hash<A: Caller>(self, key: MixKey, ip: A) -> u64 {
        ip.flow_hash(key, self.word(), self.way())
    }

    #[inline]
    pub(super) fn word(self) -> u64 {
        let protocol = match self.protocol {
            Protocol::Tcp => 0,
            Protocol::Udp => 1 << 48,
            Protocol::Sctp => 2 << 48,
        };
        u64::from(self.backend) | u64::from(self.snat) << 24 | u64::from(self.port) << 32 | protocol
    }

    #[inline]
    fn from_word(word: u64) -> Self {
        Self {
            backend: word as u32 & 0xff_ffff,
            snat: (word >> 24) as u8,
            port: (word >> 32) as u16,
            protocol: match word >> 48 & 3 {
                0 => Protocol::Tcp,
                1 => Protocol::Udp,
                _ => Protocol::Sctp,
            },
        }
    }
}

/// How far a session has come.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum State {
    /// TCP, the client has not acknowledged anything yet.
    HalfOpen,
    /// TCP, in use.
    Established,
    /// TCP, a FIN or RST was seen after the client's acknowledgement.
    Closing,
    /// UDP.
    Udp,
    /// SCTP.
    Sctp,
    /// TCP, a FIN or RST was seen before the client acknowledged anything: a SYN flood at a port that is closed leaves
    /// only these, so they give way like half-open ones.
    Refused,
}

impl State {
    /// Of a session that begins with a packet with these TCP flags.
    #[inline]
    pub(super) fn first(protocol: Protocol, flags: u8) -> Self {
        match protocol {
            // RFC 9293: whoever begins with anything but a SYN has proved nothing either.
            Protocol::Tcp if flags & (FIN | RST) != 0 => Self::Refused,
            Protocol::Tcp => Self::HalfOpen,
            Protocol::Udp => Self::Udp,
            Protocol::Sctp => Self::Sctp,
        }
    }

    #[inline]
    pub(super) fn bits(self) -> u64 {
        // Numbered in the order of the variants, as `from_bits` has them.
        self as u64
    }

    #[inline]
    fn from_bits(bits: u64) -> Self {
        match bits & 7 {
            0 => Self::HalfOpen,
            1 => Self::Established,
            2 => Self::Closing,
            3 => Self::Udp,
            4 => Self::Sctp,
            _ => Self::Refused,
        }
    }

    fn protocol(self) -> Protocol {
        match self {
            Self::Udp => Protocol::Udp,
            Self::Sctp => Protocol::Sctp,
            Self::HalfOpen | Self::Established | Self::Closing | Self::Refused => Protocol::Tcp,
        }
    }

    /// Whether the connection is over, so that a SYN begins another one.
    #[must_use]
    pub fn over(self) -> bool {
        matches!(self, Self::Closing | Self::Refused)
    }

    /// Whether the session is on probation: its client has proved nothing yet, and newcomers may take its place.
    #[must_use]
    pub fn on_probation(self) -> bool {
        matches!(self, Self::HalfOpen | Self::Refused)
    }

    /// Whether the backend may remember the connection when the session has ended (TIME-WAIT, RFC 9293 section
    /// 3.6.1). Before the handshake is complete it holds at most an embryonic connection, which yields to another
    /// SYN's RST; would those rest too, a SYN flood could empty the pools of ports.
    pub(super) fn is_remembered(self) -> bool {
        matches!(self, Self::Established | Self::Closing)
    }

    /// The state of a TCP session after another packet with these flags; `client` says who sent it.
    #[must_use]
    #[inline]
    pub fn after(self, flags: u8, client: bool) -> Self {
        match self {
            Self::Udp | Self::Sctp => self,
            Self::HalfOpen | Self::Refused if flags & (FIN | RST) != 0 => Self::Refused,
            Self::Established | Self::Closing if flags & (FIN | RST) != 0 => Self::Closing,
            // The client's next segment without SYN proves that it got the answer.
            Self::HalfOpen if client && flags & (SYN | ACK) == ACK => Self::Established,
            Self::HalfOpen | Self::Established | Self::Closing | Self::Refused => self,
        }
    }
}

/// TCP flags, RFC 9293 section 3.1.
pub const FIN: u8 = 1;
/// TCP flag.
pub const SYN: u8 = 2;
/// TCP flag.
pub const RST: u8 = 4;
/// TCP flag.
pub const ACK: u8 = 16;

/// What a reverse key word tells beside its flow.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(super) struct Heard(pub(super) u64);

impl Heard {
    /// When the backend was last heard; of a port that rests, when anybody was.
    #[inline]
    pub(super) fn tick(self) -> Tick {
        Tick((self.0 >> Flow::TICK_SHIFT) as u16)
    }

    #[inline]
    pub(super) fn is_resting(self) -> bool {
        self.0 & Flow::RESTING != 0
    }

    #[inline]
    pub(super) fn is_told(self) -> bool {
        self.0 & Flow::TOLD != 0
    }
}

/// A forward entry's value: backend 24, SNAT index 8, SNAT port 16, state 3, young 1, tick 12 bits.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(super) struct Chosen(pub(super) u64);

impl Chosen {
    const FLOW: u64 = 0xffff_ffff_ffff;
    const YOUNG: u64 = 1 << 51;
    /// The least score of one that is not young: above every age.
    pub(super) const OLD: u16 = 1 << 13;

    #[inline]
    pub(super) fn new(flow: Flow, state: State, tick: Tick) -> Self {
        Self(flow.word() & Self::FLOW | Self::YOUNG).with(state, tick)
    }

    /// The same session in this state, last heard then.
    #[inline]
    pub(super) fn with(self, state: State, tick: Tick) -> Self {
        Self(self.0 & (Self::FLOW | Self::YOUNG) | state.bits() << 48 | u64::from(tick.0) << Flow::TICK_SHIFT)
    }

    /// The same session in the same state, last heard then.
    #[inline]
    pub(super) fn heard_at(self, tick: Tick) -> Self {
        Self(self.0 & ((1 << Flow::TICK_SHIFT) - 1) | u64::from(tick.0) << Flow::TICK_SHIFT)
    }

    #[inline]
    pub(super) fn state_bits(self) -> usize {
        (self.0 >> 48 & 7) as usize
    }

    /// Whether a packet without FIN or RST leaves its state as it is ([`State::after`]).
    #[inline]
    pub(super) fn is_settled(self) -> bool {
        const SETTLED: u64 = 1 << State::Established as u64
            | 1 << State::Closing as u64
            | 1 << State::Udp as u64
            | 1 << State::Sctp as u64;
        SETTLED >> self.state_bits() & 1 != 0
    }

    /// How soon it should give way: 0 never, from [`Chosen::OLD`] on before those that are young.
    #[inline]
    pub(super) fn dispensable(self, now: Tick) -> u16 {
        const ON_PROBATION: u64 = 1 << State::HalfOpen as u64 | 1 << State::Refused as u64;
        let on_probation = ON_PROBATION >> (self.0 >> 48 & 7) & 1;
        let old = if self.0 & Self::YOUNG == 0 { u64::from(Self::OLD) } else { 0 };
        let age = u64::from(now.0).wrapping_sub(self.0 >> Flow::TICK_SHIFT) & u64::from(Tick::MASK);
        ((old | (age + 1)) * on_probation) as u16
    }

    /// Whether it is on probation and all that were there before it have gone.
    #[inline(always)]
    pub(super) fn is_passed_over(self) -> bool {
        const ON_PROBATION: u64 = 1 << State::HalfOpen as u64 | 1 << State::Refused as u64;
        self.0 & Self::YOUNG == 0 && ON_PROBATION >> self.state_bits() & 1 != 0
    }

    #[inline]
    pub(super) fn aged(self) -> Self {
        Self(self.0 & !Self::YOUNG)
    }

    /// What was chosen.
    #[inline(always)]
    pub(super) fn choice(self) -> Choice {
        Choice(self.0)
    }

    /// Whether the connection is over ([`State::over`]).
    #[inline(always)]
    pub(super) fn is_over(self) -> bool {
        const OVER: u64 = 1 << State::Closing as u64 | 1 << State::Refused as u64;
        OVER >> self.state_bits() & 1 != 0
    }

    #[inline]
    pub(super) fn state(self) -> State {
        State::from_bits(self.0 >> 48)
    }

    #[inline]
    pub(super) fn tick(self) -> Tick {
        Tick((self.0 >> Flow::TICK_SHIFT) as u16)
    }

    #[inline]
    pub(super) fn flow(self) -> Flow {
        let mut flow = Flow::from_word(self.0 & Self::FLOW);
        flow.protocol = self.state().protocol();
        flow
    }
}

/// What `show sessions` says of one.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct Shown<A = u32> {
    /// Client and service.
    pub client: Client<A>,
    /// Backend and SNAT.
    pub flow: Flow,
    /// State.
    pub state: State,
    /// When the client was last heard.
    pub tick: Tick,
}
