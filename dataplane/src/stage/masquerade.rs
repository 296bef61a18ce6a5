//! Masquerade: what containers begin leaves with a SNAT address and port of this node, and what comes back to these goes
//! to the container. What begins outside is passed on as it is, and so are the answers to it.
//!
//! A flow is known by both its ends, so a reply counts only from whom the container talks to, and one port of ours serves
//! as many far ends as there are. The hash of both ends tells which worker has the flow, whoever began it and whichever
//! way a packet comes; that worker's ports bring the replies to it. An echo message's identifier is the port of who asks;
//! who is asked has port 0.
//!
//! Two passes, so that cache misses overlap: hashes with prefetch, then each packet.

use crate::address::Address;
use crate::burst::{Action, Burst, Packet};
use crate::family::Family;
use crate::frame::Pool;
use crate::sessions::caller::Talk;
use crate::sessions::{ACK, Client, Flow, RST, Refused, SYN};
use crate::stage::balance::{self, Balance};
use crate::stage::{fit, isolate, refuse};
use crate::tables::snat::Purpose;
use crate::verdict::DropReason;
use crate::wire::{End, ip4, quote, tcp, word};

/// Ports tried for a new flow before it is refused.
const TRIES: usize = 256;

/// Sends on every packet between a container and the outside; whether it dropped one that may be answered ([`refuse`]).
pub fn run(burst: &mut Burst, pool: &mut Pool, with: &Balance<'_>) -> bool {
    for packet in burst.iter_mut() {
        match packet.v6 {
            false => with.gather_masqueraded::<u32>(packet, pool),
            true => with.gather_masqueraded::<u128>(packet, pool),
        }
    }
    let mut told = false;
    for packet in burst {
        let done = match packet.v6 {
            false => with.masqueraded::<u32>(packet, pool),
            true => with.masqueraded::<u128>(packet, pool),
        };
        if let Err(reason) = done {
            told |= refuse::is_told(reason);
            packet.drop(reason);
        }
    }
    told
}

/// Source and destination port, of an echo message as said above.
fn ports<A: Family>(packet: &Packet, pool: &Pool) -> (u16, u16) {
    let tuple = &packet.tuple;
    if tuple.protocol != A::ICMP {
        return (tuple.sport, tuple.dport);
    }
    let id = word(message(packet, pool), quote::ECHO_ID);
    if asks::<A>(packet, pool) { (id, 0) } else { (0, id) }
}

/// Whether an ICMP packet is an echo request; others that come here are replies.
fn asks<A: Family>(packet: &Packet, pool: &Pool) -> bool {
    message(packet, pool).first() == Some(&A::ECHO)
}

fn message<'a>(packet: &Packet, pool: &'a Pool) -> &'a [u8] {
    pool.bytes(&packet.frame).get(usize::from(packet.l4)..).unwrap_or_default()
}

/// What a flow between a container's port and a far end is known by.
pub(super) fn key<A: Address>(container: End<A>, far: End<A>, protocol: u8) -> Client<Talk<A>> {
    let talk = Talk { container: container.ip, far: far.ip, far_port: far.port };
    Client { ip: talk, port: container.port, service: protocol.into() }
}

/// What a reply to one of our ports is known by; whose it is its session tells.
pub(super) fn reverse<A: Address>(far: End<A>, (snat, port): (u8, u16), protocol: u8) -> (Flow, Talk<A>) {
    let flow = Flow { backend: protocol.into(), snat, port, protocol: transport(protocol) };
    (flow, Talk { container: A::default(), far: far.ip, far_port: far.port })
}

/// Whose states and time-outs a flow of this protocol has: an echo's are UDP's.
fn transport(protocol: u8) -> sluice_config::model::Protocol {
    match protocol {
        ip4::TCP | ip4::SCTP => balance::protocol(protocol),
        _ => balance::protocol(ip4::UDP),
    }
}

impl Balance<'_> {
    /// Notes the hash of a packet's flow, its line asked for. What another worker owns goes there at once.
    #[inline]
    fn gather_masqueraded<A: Family>(&self, packet: &mut Packet, pool: &Pool) {
        let flows = A::masquerade(self.flows);
        let (hash, owner) = match packet.action {
            Action::Masquerade => {
                let client = self.leaving::<A>(packet, pool);
                let hash = flows.begun.expect_client(client);
                (hash, self.owner_of::<A>(client, hash, packet.tuple.protocol))
            }
            Action::Enter => {
                let client = self.entering::<A>(packet, pool);
                let hash = flows.entered.expect_client(client);
                (hash, self.owner_of::<A>(client, hash, packet.tuple.protocol))
            }
            Action::Unmasquerade(index) => {
                let (far_port, port) = ports::<A>(packet, pool);
                let far = End { ip: A::ends(packet).0, port: far_port };
                let (flow, talk) = reverse(far, (index, port), packet.tuple.protocol);
                (flows.begun.expect_flow_of(flow, talk), self.tables.snat.owner(port))
            }
            Action::Done
            | Action::Parsed
            | Action::Arp
            | Action::Dns
            | Action::Echo
            | Action::Solicited
            | Action::Balance(_)
            | Action::Return { .. }
            | Action::Error
            | Action::Later
            | Action::Forward
            | Action::Host => return,
        };
        if packet.belongs(owner, self.worker) {
            packet.hash = hash;
        }
    }

    /// Who has a flow. What a container sends from a port on which it serves in `nat-preserve` has gone to the worker that
    /// would have its client's session before it comes here, and is not handed over again.
    #[inline]
    fn owner_of<A: Family>(&self, client: Client<Talk<A>>, hash: u64, protocol: u8) -> u8 {
        let (preserved, Talk { container, far, far_port }) = (&A::tables(self.tables).preserved, client.ip);
        if !preserved.is_empty() && preserved.get(container.end(client.port, protocol)).is_some() {
            return balance::preserved_owner(self.tables, End { ip: far, port: far_port }, protocol);
        }
        self.tables.snat.worker(hash)
    }

    #[inline]
    fn masqueraded<A: Family>(&self, packet: &mut Packet, pool: &mut Pool) -> Result<(), DropReason> {
        match packet.action {
            Action::Masquerade => self.out::<A>(packet, pool),
            Action::Enter => self.enter::<A>(packet, pool),
            Action::Unmasquerade(index) => self.home::<A>(packet, pool, index),
            Action::Done
            | Action::Parsed
            | Action::Arp
            | Action::Dns
            | Action::Echo
            | Action::Solicited
            | Action::Balance(_)
            | Action::Return { .. }
            | Action::Error
            | Action::Later
            | Action::Forward
            | Action::Host => Ok(()),
        }
    }

    /// The flow of a container's packet.
    fn leaving<A: Family>(&self, packet: &Packet, pool: &Pool) -> Client<Talk<A>> {
        let ((source, destination), (sport, dport)) = (A::ends(packet), ports::<A>(packet, pool));
        key(End { ip: source, port: sport }, End { ip: destination, port: dport }, packet.tuple.protocol)
    }

    /// The flow of a packet to a container.
    fn entering<A: Family>(&self, packet: &Packet, pool: &Pool) -> Client<Talk<A>> {
        let ((source, destination), (sport, dport)) = (A::ends(packet), ports::<A>(packet, pool));
        key(End { ip: destination, port: dport }, End { ip: source, port: sport }, packet.tuple.protocol)
    }

    /// From a container: as its flow has it, or as it is where the other end began.
    fn out<A: Family>(&self, packet: &mut Packet, pool: &mut Pool) -> Result<(), DropReason> {
        let (client, hash, flags) = (self.leaving::<A>(packet, pool), packet.hash, packet.tcp_flags);
        let flows = A::masquerade(self.flows);
        let begins = flags & (SYN | ACK | RST) == SYN;
        if let Some((choice, over)) = flows.begun.forward(client, hash, flags, self.now, &self.life) {
            if !(over && begins) {
                return self.leave_as::<A>(packet, pool, (choice.snat(), choice.port()));
            }
            flows.begun.remove(client);
        }
        // Whoever sends a SYN begins, whatever was said to that port before.
        if begins {
            flows.entered.remove(client);
        } else if flows.entered.forward(client, hash, flags, self.now, &self.life).is_some() {
            return self.forward::<A>(packet, pool);
        }
        let flow = self.begin_masqueraded::<A>(packet, pool, client, hash)?;
        self.leave_as::<A>(packet, pool, (flow.snat, flow.port))
    }

    /// Begins a flow on a port of this worker's.
    fn begin_masqueraded<A: Family>(
        &self,
        packet: &Packet,
        pool: &Pool,
        client: Client<Talk<A>>,
        hash: u64,
    ) -> Result<Flow, DropReason> {
        let (protocol, snat) = (packet.tuple.protocol, &self.tables.snat);
        if protocol == ip4::TCP && !tcp::is_sensible(packet.tcp_flags) {
            return Err(DropReason::TcpFlags);
        }
        // An answer to a SYN or an echo that is forgotten, or that nobody sent: whoever floods a container with these would
        // fill the table of what containers begin, and an honest client's second SYN would find itself in it.
        if packet.tcp_flags & (SYN | ACK) == SYN | ACK {
            return Err(DropReason::SnatNoSession);
        }
        if protocol == A::ICMP && !asks::<A>(packet, pool) {
            return Err(DropReason::IcmpUnhandled);
        }
        // All flows of a container have one address (RFC 4787 REQ-2), its flows ports of their own.
        let [high, low] = client.ip.container.words();
        let address = snat.pick::<A>(self.tables.key.two(high, low)).ok_or(DropReason::NoSnat)?;
        // The worker used the high bits of the hash; the port takes another mixture.
        let walk = hash.rotate_left(31).wrapping_mul(0x9e37_79b9_7f4a_7c15);
        let mut ports = snat.candidates(self.worker, Purpose::Masquerade, walk).take(TRIES);
        let port = ports.next().ok_or(DropReason::MasqueradeExhausted)?;
        let flow = Flow { backend: protocol.into(), snat: address, port, protocol: transport(protocol) };
        let sessions = &A::masquerade(self.flows).begun;
        let quota = snat.share(self.worker);
        // A port serves every far end, so ports alone do not bound who talks to many.
        if sessions.is_nearly_full() && sessions.ports_held(client.ip) >= quota {
            return Err(DropReason::SnatQuota);
        }
        let newcomer = sessions.expect(client, hash, flow);
        let made = sessions.begin_on(&newcomer, ports, quota, packet.tcp_flags, self.now, self.life);
        let flow = made.map_err(|refused| match refused {
            // It was just looked for.
            Refused::Full | Refused::Known => DropReason::MasqueradeFull,
            Refused::Taken => DropReason::MasqueradeExhausted,
            Refused::Quota => DropReason::SnatQuota,
        })?;
        self.counters.masquerade_made.add(1);
        Ok(flow)
    }

    /// Sends a container's packet out from a SNAT address and port.
    fn leave_as<A: Family>(
        &self,
        packet: &mut Packet,
        pool: &mut Pool,
        (snat, port): (u8, u16),
    ) -> Result<(), DropReason> {
        let ((container, far), (_, far_port)) = (A::ends(packet), ports::<A>(packet, pool));
        let ip = self.tables.snat.address(snat).ok_or(DropReason::NoSnat)?;
        self.rewrite(packet, pool, (container, far), (End { ip, port }, End { ip: far, port: far_port }))?;
        self.counters.masqueraded.add(1);
        Ok(())
    }

    /// Back to a container. Policy is asked whether the container may talk to the far end: the flow is the container's.
    fn home<A: Family>(&self, packet: &mut Packet, pool: &mut Pool, index: u8) -> Result<(), DropReason> {
        let ((source, _), (far_port, port)) = (A::ends(packet), ports::<A>(packet, pool));
        let far = End { ip: source, port: far_port };
        let (flow, talk) = reverse(far, (index, port), packet.tuple.protocol);
        let sessions = &A::masquerade(self.flows).begun;
        let known = sessions.reverse_of(flow, talk, packet.hash, packet.tcp_flags, self.now, self.life);
        let client = known.ok_or(DropReason::SnatNoSession)?;
        let container = client.ip.container;
        isolate::pair_admitted(self.tables, container, far.ip)
            .map_err(|denied| isolate::counted(denied, self.tables, self.counters))?;
        self.rewrite(packet, pool, (container, far.ip), (far, End { ip: container, port: client.port }))?;
        self.counters.unmasqueraded.add(1);
        Ok(())
    }

    /// From outside to a container, as it is, remembered.
    fn enter<A: Family>(&self, packet: &mut Packet, pool: &mut Pool) -> Result<(), DropReason> {
        let (client, hash, flags) = (self.entering::<A>(packet, pool), packet.hash, packet.tcp_flags);
        let flows = A::masquerade(self.flows);
        let sessions = &flows.entered;
        let known = sessions.forward(client, hash, flags, self.now, &self.life);
        let anew = flags & (SYN | ACK | RST) == SYN && known.is_some_and(|(_, over)| over);
        if anew {
            sessions.remove(client);
        }
        // What the container has begun stays so.
        if (anew || known.is_none()) && flows.begun.flow_of(client, self.now, self.life).is_none() {
            let protocol = packet.tuple.protocol;
            let flow = Flow::direct(protocol.into(), transport(protocol));
            let newcomer = sessions.expect(client, hash, flow);
            sessions.begin(&newcomer, flags, self.now, self.life).map_err(|_full| DropReason::MasqueradeFull)?;
        }
        self.forward::<A>(packet, pool)
    }

    /// Sends a packet between these two out with new ends; both sides of a handshake are told what the way between them
    /// has room for.
    fn rewrite<A: Family>(
        &self,
        packet: &mut Packet,
        pool: &mut Pool,
        (container, far): (A, A),
        ends: (End<A>, End<A>),
    ) -> Result<(), DropReason> {
        let (tables, (source, destination)) = (self.tables, ends);
        let is_echo = packet.tuple.protocol == A::ICMP;
        if packet.tcp_flags & SYN != 0 || is_echo {
            // Before anything is changed.
            fit::check(packet, tables, || fit::room_to(tables, destination.ip))?;
            let room = || fit::room_to(tables, container).min(fit::room_to(tables, far));
            fit::clamp::<A>(packet, pool, tables, self.counters, room);
        }
        if !is_echo {
            return self.route(packet, pool, Some(ends));
        }
        let (l3, l4) = (usize::from(packet.l3), usize::from(packet.l4));
        let ip = pool.bytes_mut(&mut packet.frame).get_mut(l3..).unwrap_or_default();
        // Of the two that asked is the one with a port.
        A::translate_echo(ip, l4 - l3, source.ip, destination.ip, source.port | destination.port);
        A::set_ends(packet, source.ip, destination.ip);
        self.route::<A>(packet, pool, None)
    }
}
