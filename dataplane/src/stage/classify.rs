//! Classify: the only big match. What is this packet to us, and what has to be done with it?

use std::net::IpAddr;

use crate::burst::{Action, Burst, Out, Packet};
use crate::family::Family;
use crate::fragments::Part;
use crate::frame::Pool;
use crate::sessions::Flow;
use crate::stage::icmp_error::{self, Errors};
use crate::stage::{fit, probe, refuse};
use crate::tables::fib::Target;
use crate::tables::snat::Side;
use crate::tables::{Owned, Tables};
use crate::verdict::DropReason;
use crate::wire::{gue, icmp, icmp6, ip4, ip6, nd, quote, tunnel, word};

/// What few bursts have, and the stages that are for it alone.
#[derive(Clone, Copy, Default, Debug)]
pub struct Seen {
    /// Questions.
    pub questions: bool,
    /// What is answered in place without state: ARP, solicitations, echo requests.
    pub asked: bool,
    /// Fragments.
    pub fragments: bool,
    /// ICMP errors.
    pub errors: bool,
    /// Drops that may be answered ([`refuse`]).
    pub told: bool,
    /// Drops that may be our own probes, or answers to them ([`probe`]).
    pub probes: bool,
}

/// Gives every parsed packet its action.
pub fn run(burst: &mut Burst, pool: &Pool, tables: &Tables) -> Seen {
    let mut seen = Seen::default();
    for packet in burst {
        seen.fragments |= packet.part != Part::Whole;
        if packet.action != Action::Parsed {
            seen.asked |= packet.action == Action::Arp;
            continue;
        }
        let found = match packet.v6 {
            false => classify::<u32>(packet, pool, tables),
            true => classify::<u128>(packet, pool, tables),
        };
        match found {
            Ok(Action::Host) => match fit::check(packet, tables, || fit::room(tables, Out::Host)) {
                Ok(()) => packet.leave(Out::Host),
                Err(reason) => {
                    seen.told = true;
                    packet.drop(reason);
                }
            },
            Ok(action) => {
                seen.errors |= action == Action::Error;
                seen.questions |= action == Action::Dns;
                seen.asked |= matches!(action, Action::Echo | Action::Solicited);
                packet.action = action;
            }
            Err(reason) => {
                seen.told |= refuse::is_told(reason);
                seen.probes |= probe::is_one(reason, tables);
                packet.drop(reason);
            }
        }
    }
    seen
}

#[inline]
fn classify<A: Errors>(packet: &Packet, pool: &Pool, tables: &Tables) -> Result<Action, DropReason> {
    let tuple = &packet.tuple;
    let destination = A::ends(packet).1;
    let from_host = is_from_host(packet, tables);
    source_is_sound::<A>(packet, tables)?;
    let action = match A::tables(tables).address(destination) {
        Some(Owned::Vip) => vip::<A>(packet, pool, tables)?,
        Some(Owned::Snat(index)) => snat::<A>(packet, pool, tables, index)?,
        Some(Owned::Dns) => match tuple.protocol {
            ip4::UDP if tuple.dport == 53 && packet.part != Part::Whole => return Err(DropReason::Fragment),
            ip4::UDP if tuple.dport == 53 => Action::Dns,
            icmp if icmp == A::ICMP => echo::<A>(packet, pool)?,
            _ => Action::Host,
        },
        Some(Owned::Vtep | Owned::Host) if tunnel_failed::<A>(packet, pool, tables) => {
            return Err(DropReason::IcmpTunnel);
        }
        Some(Owned::Vtep | Owned::Host) => preserved::<A>(packet, tables).unwrap_or(Action::Host),
        None if A::V6 && tuple.protocol == ip6::ICMP && kind(packet, pool) == nd::SOLICITATION => Action::Solicited,
        None => match preserved::<A>(packet, tables) {
            Some(action) => action,
            None if is_about_preserved::<A>(packet, pool, tables) => Action::Error,
            None => routed::<A>(packet, pool, tables, from_host)?,
        },
    };
    match action {
        Action::Host if from_host => Err(DropReason::NotForUs),
        Action::Error | Action::Solicited if packet.part != Part::Whole => Err(DropReason::Fragment),
        Action::Balance(_)
        | Action::Return { .. }
        | Action::Error
        | Action::Forward
        | Action::Masquerade
        | Action::Unmasquerade(_)
        | Action::Enter => alive(packet).map(|()| action),
        Action::Done
        | Action::Parsed
        | Action::Arp
        | Action::Dns
        | Action::Echo
        | Action::Solicited
        | Action::Later
        | Action::Host => Ok(action),
    }
}

/// Whether the node's kernel sent it.
#[inline]
pub(super) fn is_from_host(packet: &Packet, tables: &Tables) -> bool {
    tables.local.host.is_some_and(|(port, _)| port == packet.ingress)
}

/// Whether its sender may have its source address.
#[inline]
pub(super) fn source_is_sound<A: Family>(packet: &Packet, tables: &Tables) -> Result<(), DropReason> {
    let from_host = is_from_host(packet, tables);
    let source = A::ends(packet).0;
    // Only the node's kernel may speak with an address of ours.
    if !from_host && A::tables(tables).address(source).is_some() {
        return Err(DropReason::Martian);
    }
    // Policy goes by addresses, so an overlay source counts only where decap has checked it, or, of what the kernel
    // sends, in our own part: it may pass on what comes from outside.
    if packet.agent.is_none() && tables.overlay.has(source) && !(from_host && tables.overlay.is_own(source)) {
        return Err(DropReason::OverlaySpoof);
    }
    Ok(())
}

/// Whether a packet with this destination could be served, whatever its ports: only such fragments may wait.
pub(super) fn concerns_us<A: Family>(packet: &Packet, tables: &Tables) -> bool {
    let destination = A::ends(packet).1;
    let ours = A::tables(tables).address(destination).is_some();
    let enters = tables.overlay.is_gateway() && tables.overlay.has(destination);
    ours || enters || packet.agent.is_some() || is_from_host(packet, tables)
}

#[inline]
fn vip<A: Family>(packet: &Packet, pool: &Pool, tables: &Tables) -> Result<Action, DropReason> {
    let tuple = &packet.tuple;
    match tuple.protocol {
        ip4::TCP | ip4::UDP | ip4::SCTP => A::tables(tables)
            .service(A::ends(packet).1, tuple.dport, tuple.protocol)
            .map(Action::Balance)
            .ok_or(DropReason::NoService),
        icmp if icmp == A::ICMP && is_error::<A>(packet, pool) => Ok(Action::Error),
        icmp if icmp == A::ICMP => echo::<A>(packet, pool),
        _ => Err(DropReason::Protocol),
    }
}

#[inline]
fn snat<A: Family>(packet: &Packet, pool: &Pool, tables: &Tables, index: u8) -> Result<Action, DropReason> {
    let tuple = &packet.tuple;
    let masquerades = tables.overlay.masquerades() && tables.snat.side(index) == Side::Underlay;
    match tuple.protocol {
        ip4::TCP | ip4::UDP | ip4::SCTP => {}
        ip6::ICMP if A::V6 && kind(packet, pool) == nd::SOLICITATION => return Ok(Action::Solicited),
        icmp if icmp == A::ICMP && is_error::<A>(packet, pool) => return Ok(Action::Error),
        icmp if icmp == A::ICMP && masquerades && kind(packet, pool) == A::ECHO_REPLY => {}
        icmp if icmp == A::ICMP => return Err(DropReason::IcmpUnhandled),
        _ => return Err(DropReason::Protocol),
    }
    // An overlay reply comes out of a tunnel, an underlay reply does not, but for an agent's own: anything else is forged.
    let source = A::ends(packet).0;
    if (tables.snat.side(index) == Side::Overlay) != is_container::<A>(packet, tables) {
        return Err(DropReason::Martian);
    }
    match A::tables(tables).backend(source, tuple.sport, tuple.protocol) {
        Some(backend) => Ok(Action::Return { backend, snat: index }),
        None if masquerades => Ok(Action::Unmasquerade(index)),
        None => Err(DropReason::SnatUnknown),
    }
}

/// A reply in `nat-preserve` goes to the client and is known by the backend that it comes from.
#[inline]
fn preserved<A: Family>(packet: &Packet, tables: &Tables) -> Option<Action> {
    let tuple = &packet.tuple;
    let end = A::ends(packet).0.end(tuple.sport, tuple.protocol);
    let backend = A::tables(tables).preserved.get(end)?;
    Some(Action::Return { backend, snat: Flow::PRESERVED })
}

/// Whether it is an ICMP error about a packet of `nat-preserve`, which goes to the client too.
#[inline]
fn is_about_preserved<A: Errors>(packet: &Packet, pool: &Pool, tables: &Tables) -> bool {
    packet.tuple.protocol == A::ICMP
        && is_error::<A>(packet, pool)
        && icmp_error::is_preserved::<A>(packet, pool, tables)
}

/// Echo requests are answered for VIPs and the DNS address; nothing else of ICMP is.
fn echo<A: Family>(packet: &Packet, pool: &Pool) -> Result<Action, DropReason> {
    let request = if A::V6 { 0x8000 } else { 0x0800 };
    match word(pool.bytes(&packet.frame), usize::from(packet.l4)) {
        kind if kind == request => Ok(Action::Echo),
        // A host that knows our MAC asks by unicast whether we are still there (RFC 4861 section 7.3.3).
        kind if A::V6 && kind >> 8 == u16::from(nd::SOLICITATION) => Ok(Action::Solicited),
        _ => Err(DropReason::IcmpUnhandled),
    }
}

/// Whether ICMP tells of an error with a packet that it quotes (RFC 792, RFC 4443).
fn is_error<A: Family>(packet: &Packet, pool: &Pool) -> bool {
    let kind = kind(packet, pool);
    match A::V6 {
        false => matches!(kind, icmp::kind::UNREACHABLE | icmp::kind::TIME_EXCEEDED | icmp::kind::PARAMETER),
        true => (icmp6::kind::UNREACHABLE..=icmp6::kind::PARAMETER).contains(&kind),
    }
}

/// Whether it is an ICMP error about a tunnel of ours. What the tunnel carried is not looked for: an underlay that does
/// not take the overlay's packets has to be mended, not told to every client.
fn tunnel_failed<A: Family>(packet: &Packet, pool: &Pool, tables: &Tables) -> bool {
    if packet.tuple.protocol != A::ICMP || !is_error::<A>(packet, pool) {
        return false;
    }
    let message = pool.bytes(&packet.frame).get(usize::from(packet.l4)..).unwrap_or_default();
    let quoted = message.get(quote::HEADER..).unwrap_or_default();
    let (protocol, l4) = match A::V6 {
        false => (quoted.get(ip4::field::PROTOCOL), usize::from(quoted.first().map_or(0, |octet| octet & 15)) * 4),
        true => (quoted.get(ip6::field::NEXT), ip6::HEADER),
    };
    let tunnelled = match protocol {
        Some(&(tunnel::IP4 | tunnel::IP6)) => true,
        Some(&ip4::UDP) => {
            let port = word(quoted, l4 + 2);
            port == gue::PORT || tables.overlay.is_port(port)
        }
        Some(_) | None => false,
    };
    tunnelled && A::read(quoted).0 == A::ends(packet).1
}

/// ICMP's type.
fn kind(packet: &Packet, pool: &Pool) -> u8 {
    (word(pool.bytes(&packet.frame), usize::from(packet.l4)) >> 8) as u8
}

/// What is neither ours nor a service's: passed on between overlay and overlay, between overlay and kernel, and, by a
/// gateway, between overlay and underlay. From underlay to underlay nothing is.
fn routed<A: Family>(packet: &Packet, pool: &Pool, tables: &Tables, from_host: bool) -> Result<Action, DropReason> {
    let gateway = tables.overlay.is_gateway();
    let inside = packet.agent.is_some() || from_host;
    passes::<A>(packet)?;
    match A::tables(tables).fib.lookup(A::ends(packet).1) {
        Some(Target::Agent(_)) if (inside || gateway) && enters::<A>(packet, pool, tables) => Ok(Action::Enter),
        Some(Target::Agent(_)) if inside || gateway => Ok(Action::Forward),
        Some(Target::NoAgent) if inside || gateway => Err(DropReason::NoAgent),
        Some(Target::Host) if inside => Ok(Action::Host),
        Some(Target::Hop(_) | Target::Link(_)) if is_container::<A>(packet, tables) && tables.overlay.masquerades() => {
            leaves::<A>(packet, pool)
        }
        Some(Target::Hop(_) | Target::Link(_)) if gateway && packet.agent.is_some() => Ok(Action::Forward),
        Some(Target::Agent(_) | Target::NoAgent | Target::Host | Target::Hop(_) | Target::Link(_)) | None => {
            Err(DropReason::NotForUs)
        }
    }
}

/// Whether it comes from the overlay, and not from an agent by its underlay address.
pub(super) fn is_container<A: Family>(packet: &Packet, tables: &Tables) -> bool {
    packet.agent.is_some() && tables.overlay.has(A::ends(packet).0)
}

/// What becomes of a container's packet that a masquerading gateway passes on.
fn leaves<A: Family>(packet: &Packet, pool: &Pool) -> Result<Action, DropReason> {
    match packet.tuple.protocol {
        ip4::TCP | ip4::UDP | ip4::SCTP => Ok(Action::Masquerade),
        icmp if icmp == A::ICMP && is_error::<A>(packet, pool) => Ok(Action::Error),
        icmp if icmp == A::ICMP && [A::ECHO, A::ECHO_REPLY].contains(&kind(packet, pool)) => Ok(Action::Masquerade),
        _ => Err(DropReason::MasqueradeProtocol),
    }
}

/// Whether a packet to a container begins something outside the overlay, whose answers must leave unchanged. Neither
/// the node's own addresses nor what the overlay has are masqueraded to.
fn enters<A: Family>(packet: &Packet, pool: &Pool, tables: &Tables) -> bool {
    let begins = match packet.tuple.protocol {
        ip4::TCP | ip4::UDP | ip4::SCTP => true,
        icmp => icmp == A::ICMP && kind(packet, pool) == A::ECHO,
    };
    let source = A::ends(packet).0;
    tables.overlay.masquerades()
        && packet.agent.is_none()
        && begins
        && !tables.overlay.has(source)
        && A::tables(tables).address(source).is_none()
}

/// Whether its addresses are such as a router passes on: a default route leads to all others too.
pub(super) fn passes<A: Family>(packet: &Packet) -> Result<(), DropReason> {
    let (source, destination) = A::ends(packet);
    match (is_confined(source.to_ip()), is_confined(destination.to_ip())) {
        (false, false) => Ok(()),
        (true, _) => Err(DropReason::Martian),
        (false, true) => Err(DropReason::NotForUs),
    }
}

/// Loopback, multicast, link-local, reserved and unspecified addresses (RFC 1812 section 5.3.7, RFC 3927 section 7, RFC
/// 4291 section 2.5).
fn is_confined(ip: IpAddr) -> bool {
    match ip {
        IpAddr::V4(ip) => matches!(ip.octets(), [0 | 127 | 224.., ..]) || ip.is_link_local(),
        IpAddr::V6(ip) => {
            let nowhere = ip.is_unspecified() || ip.is_loopback() || ip.to_ipv4_mapped().is_some();
            nowhere || ip.is_multicast() || ip.is_unicast_link_local()
        }
    }
}

/// What is passed on loses one of its TTL; what has none left to lose ends here.
#[inline]
pub(super) fn alive(packet: &Packet) -> Result<(), DropReason> {
    if packet.hops_left > 1 { Ok(()) } else { Err(DropReason::TtlExpired) }
}
