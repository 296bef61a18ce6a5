//! What a worker counts: one block per worker, written by that worker alone, read by anyone.
//!
//! The books balance (design.md section 2): rx + taken + made = tx + host + drops + given + held.

use std::sync::atomic::{AtomicU64, Ordering::Relaxed};

use sluice_config::model::Origin;

use crate::verdict::{DropReason, Reply};

/// A counter with one writer: an ordinary load and store, not a locked add.
#[derive(Debug, Default)]
pub struct Counter(AtomicU64);

impl Counter {
    /// Adds `n`; only the owning worker may call it.
    #[inline]
    pub fn add(&self, n: u64) {
        self.0.store(self.0.load(Relaxed).wrapping_add(n), Relaxed);
    }

    /// Makes it a gauge's new value; only the owning worker may call it.
    #[inline]
    pub fn set(&self, value: u64) {
        self.0.store(value, Relaxed);
    }

    /// Its value.
    #[must_use]
    pub fn get(&self) -> u64 {
        self.0.load(Relaxed)
    }
}

/// Packets and octets.
#[derive(Debug, Default)]
#[repr(align(64))]
pub struct PortCounters {
    /// Packets received.
    pub rx: Counter,
    /// Octets received.
    pub rx_bytes: Counter,
    /// Packets that the transmit ring took.
    pub tx: Counter,
    /// Octets that the transmit ring took.
    pub tx_bytes: Counter,
}

/// Packets of a network's containers, as tunnels carry them.
#[derive(Debug, Default)]
pub struct NetworkCounters {
    /// From them: out of tunnels. A fragment that waited for its first one is counted when it came and when it went on.
    pub rx: Counter,
    /// To them: into tunnels. What goes to a container as a VIP (`dsr-vxlan`) is not counted.
    pub tx: Counter,
}

/// Question types that are counted by themselves (IANA), with their names in metrics.
pub const DNS_TYPES: [(u16, &str); 10] = [
    (1, "a"),
    (28, "aaaa"),
    (33, "srv"),
    (12, "ptr"),
    (2, "ns"),
    (6, "soa"),
    (5, "cname"),
    (15, "mx"),
    (16, "txt"),
    (255, "any"),
];

/// The place of a type in [`Counters::dns_types`].
#[must_use]
#[inline]
pub fn dns_type(rtype: u16) -> usize {
    // The first three are nearly all there are.
    match rtype {
        1 => 0,
        28 => 1,
        33 => 2,
        _ => DNS_TYPES.iter().position(|(known, _)| *known == rtype).unwrap_or(DNS_TYPES.len()),
    }
}

/// The place of an origin in [`Counters::dns_sources`].
#[must_use]
#[inline]
pub fn dns_source(origin: Option<Origin>) -> usize {
    origin.map_or(Origin::ALL.len(), |origin| origin as usize)
}

/// Denials by pair of parties ([`crate::tables::policy::Parties::label`]): of the first pairs that are denied, and of
/// all others together.
#[derive(Debug)]
pub struct Denials {
    pairs: [(AtomicU64, Counter); Self::PAIRS],
    others: Counter,
}

impl Default for Denials {
    fn default() -> Self {
        Self { pairs: std::array::from_fn(|_| Default::default()), others: Counter::default() }
    }
}

impl Denials {
    /// Pairs that are counted by themselves.
    pub const PAIRS: usize = 256;
    /// Places that are looked at for a pair.
    const TRIES: usize = 16;

    /// Counts one; only the owning worker may call it. Labels are not 0.
    pub fn add(&self, from: u32, to: u32) {
        let pair = u64::from(from) << 32 | u64::from(to);
        let home = (pair.wrapping_mul(0x9e37_79b9_7f4a_7c15) >> 56) as usize;
        let mut places = (home..home + Self::TRIES).map(|at| &self.pairs[at % Self::PAIRS]);
        let place = places.find(|(there, _)| {
            if there.load(Relaxed) == 0 {
                there.store(pair, Relaxed);
            }
            there.load(Relaxed) == pair
        });
        place.map_or(&self.others, |(_, count)| count).add(1);
    }

    /// Every pair that was denied, sender first, with how often.
    pub fn pairs(&self) -> impl Iterator<Item = ((u32, u32), u64)> + '_ {
        let known = self.pairs.iter().map(|(pair, count)| (pair.load(Relaxed), count.get()));
        known.filter(|(pair, _)| *pair != 0).map(|(pair, count)| (((pair >> 32) as u32, pair as u32), count))
    }

    /// Denials between pairs for which there was no place.
    #[must_use]
    pub fn others(&self) -> u64 {
        self.others.get()
    }
}

/// One worker's block.
#[derive(Debug)]
#[repr(align(64))]
pub struct Counters {
    /// Packets received from ports.
    pub rx: Counter,
    /// Packets taken from other workers' rings.
    pub taken: Counter,
    /// Packets made here.
    pub made: Counter,
    /// Packets that a transmit ring took, the host port's excepted.
    pub tx: Counter,
    /// Packets that the host port's ring took.
    pub host: Counter,
    /// Packets handed to another worker.
    pub given: Counter,
    /// Packets that wait here at this moment: fragments before their first one.
    pub held: Counter,
    /// Turns.
    pub turns: Counter,
    /// Turns that received nothing.
    pub idle_turns: Counter,
    /// Times that the worker slept.
    pub sleeps: Counter,
    /// Sessions at this moment.
    pub sessions: Counter,
    /// Sessions begun.
    pub sessions_made: Counter,
    /// Sessions ended by expiry.
    pub sessions_expired: Counter,
    /// Half-open sessions that gave way to newer ones.
    pub sessions_evicted: Counter,
    /// SNAT ports that rest at this moment, until their backends have forgotten them.
    pub snat_resting: Counter,
    /// Ports whose rest ended early, because a newcomer had no other place.
    pub snat_rests_cut: Counter,
    /// Packets of containers that left with a SNAT address of the masquerading gateway.
    pub masqueraded: Counter,
    /// Packets that came back to it and went to their container.
    pub unmasqueraded: Counter,
    /// Masqueraded flows begun.
    pub masquerade_made: Counter,
    /// Flows of the masquerading gateway ended by expiry, whoever began them.
    pub masquerade_expired: Counter,
    /// Of these flows, half-open ones that gave way to newer ones.
    pub masquerade_evicted: Counter,
    /// Masqueraded flows at this moment.
    pub masquerade_flows: Counter,
    /// Flows of the masquerading gateway that began outside, at this moment.
    pub masquerade_entered: Counter,
    /// ICMP errors translated and sent on.
    pub icmp_errors: Counter,
    /// Of these, "too big" messages whose MTU was below what every host must take, and was raised to that.
    pub icmp_mtu_raised: Counter,
    /// Later fragments that were sent on as their first one.
    pub fragments_followed: Counter,
    /// Fragments that ever waited for their first one.
    pub fragments_waited: Counter,
    /// Packets of new flows in a DSR mode that went by Maglev alone, because the session table was full.
    pub unremembered: Counter,
    /// SYNs whose maximum segment size was lowered to what fits the way.
    pub mss_clamped: Counter,
    /// Packets of the node's own probes that were carried to a backend of a DSR mode.
    pub probes_carried: Counter,
    /// Packets of backends that answered them.
    pub probes_answered: Counter,
    /// DNS answers by response code (0 to 15).
    pub dns: [Counter; 16],
    /// DNS answers by question type, in the order of [`DNS_TYPES`], the rest last.
    pub dns_types: [Counter; DNS_TYPES.len() + 1],
    /// DNS answers by where their zone's names come from, in the order of [`Origin::ALL`]; those of no zone last.
    pub dns_sources: [Counter; Origin::ALL.len() + 1],
    /// Events lost because their ring was full.
    pub events_lost: Counter,
    /// Packets that policy kept from a party, by who sent them and who would have got them.
    pub denied: Denials,
    drops: [Counter; DropReason::COUNT],
    answers: [Counter; Reply::ALL.len()],
    answered: [Counter; DropReason::COUNT],
    /// By a network's place ([`crate::tables::overlay::Overlay::places`]).
    pub networks: Box<[NetworkCounters]>,
    /// By port index, the host port last.
    pub ports: Box<[PortCounters]>,
    /// Packets towards backends, by service number.
    pub services: Box<[Counter]>,
    /// New flows, by backend number.
    pub backends: Box<[Counter]>,
}

impl Counters {
    /// Zeros for that many ports, services and backends (`[limits]`).
    #[must_use]
    pub fn new(ports: usize, services: usize, backends: usize) -> Self {
        fn zeros<T: Default>(n: usize) -> Box<[T]> {
            (0..n).map(|_| T::default()).collect()
        }
        Self {
            rx: Counter::default(),
            taken: Counter::default(),
            made: Counter::default(),
            tx: Counter::default(),
            host: Counter::default(),
            given: Counter::default(),
            held: Counter::default(),
            turns: Counter::default(),
            idle_turns: Counter::default(),
            sleeps: Counter::default(),
            sessions: Counter::default(),
            sessions_made: Counter::default(),
            sessions_expired: Counter::default(),
            sessions_evicted: Counter::default(),
            snat_resting: Counter::default(),
            snat_rests_cut: Counter::default(),
            masqueraded: Counter::default(),
            unmasqueraded: Counter::default(),
            masquerade_made: Counter::default(),
            masquerade_expired: Counter::default(),
            masquerade_evicted: Counter::default(),
            masquerade_flows: Counter::default(),
            masquerade_entered: Counter::default(),
            icmp_errors: Counter::default(),
            icmp_mtu_raised: Counter::default(),
            fragments_followed: Counter::default(),
            fragments_waited: Counter::default(),
            unremembered: Counter::default(),
            mss_clamped: Counter::default(),
            probes_carried: Counter::default(),
            probes_answered: Counter::default(),
            dns: Default::default(),
            dns_types: Default::default(),
            dns_sources: Default::default(),
            events_lost: Counter::default(),
            denied: Denials::default(),
            drops: std::array::from_fn(|_| Counter::default()),
            answers: Default::default(),
            answered: std::array::from_fn(|_| Counter::default()),
            networks: zeros(usize::from(u8::MAX) + 1),
            ports: zeros(ports),
            services: zeros(services),
            backends: zeros(backends),
        }
    }

    /// The counter of one reason.
    #[must_use]
    pub fn drops(&self, reason: DropReason) -> &Counter {
        &self.drops[reason as usize]
    }

    /// The counter of one kind of answer. Each is one of [`Counters::tx`] or [`Counters::host`] as well.
    #[must_use]
    pub fn answers(&self, reply: Reply) -> &Counter {
        &self.answers[reply as usize]
    }

    /// Packets that would have been dropped for this reason and were answered instead: each is in `tx`, not in the drops.
    #[must_use]
    pub fn answered(&self, reason: DropReason) -> &Counter {
        &self.answered[reason as usize]
    }

    /// All drops together.
    #[must_use]
    pub fn dropped(&self) -> u64 {
        self.drops.iter().map(Counter::get).sum()
    }

    /// Both sides of the books: what came in, what became of it. Equal whenever the worker is between turns.
    #[must_use]
    pub fn books(&self) -> (u64, u64) {
        let came = self.rx.get() + self.taken.get() + self.made.get();
        let went = self.tx.get() + self.host.get() + self.dropped() + self.given.get() + self.held.get();
        (came, went)
    }
}
