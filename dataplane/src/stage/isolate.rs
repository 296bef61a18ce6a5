//! Isolate: may this source talk to this destination? Asked before any state is made. Replies are judged in balance,
//! where their session tells the original client.

use std::net::IpAddr;

use crate::address::Address;
use crate::burst::{Action, Burst, Packet};
use crate::sessions::Client;
use crate::stage::admission;
use crate::tables::Tables;
use crate::tables::admission::Bounded;
use crate::verdict::DropReason;

/// Drops what policy forbids.
pub fn run(burst: &mut Burst, tables: &Tables) {
    for packet in burst {
        if let Err(reason) = admitted(packet, tables) {
            packet.drop(reason);
        }
    }
}

/// Whether a packet may go where it is about to.
///
/// # Errors
/// The reason to drop.
#[inline]
pub(super) fn admitted(packet: &Packet, tables: &Tables) -> Result<(), DropReason> {
    match packet.action {
        Action::Balance(service) if packet.v6 => service_admitted(tables, packet.ends6.0, service),
        Action::Balance(service) => service_admitted(tables, packet.tuple.src, service),
        // Groups are the overlay's, which carries IPv4.
        Action::Forward if !packet.v6 && !tables.policy.is_empty() => {
            tables.policy.admits(packet.tuple.src, packet.tuple.dst)
        }
        // DNS answers everybody; replies and the rest are judged elsewhere or touch no container.
        Action::Done
        | Action::Parsed
        | Action::Arp
        | Action::Dns
        | Action::Echo
        | Action::Solicited
        | Action::Return { .. }
        | Action::Error
        | Action::Later
        | Action::Forward
        | Action::Host => Ok(()),
    }
}

/// Whether the service's own bounds and policy let `client` talk to it; groups are the overlay's, which carries IPv4.
#[inline]
pub(super) fn service_admitted<A: Bounded>(tables: &Tables, client: A, service: u16) -> Result<(), DropReason> {
    if !tables.admission.is_empty() {
        admission::source(tables, client, service)?;
    }
    match client.to_ip() {
        IpAddr::V4(client) if !tables.policy.is_empty() => {
            tables.policy.admits_service(client.to_bits(), service, || near(tables, service))
        }
        IpAddr::V4(_) | IpAddr::V6(_) => Ok(()),
    }
}

/// Whether policy lets a client talk to the service whose backend answers it, as for its packets there: the backend's
/// groups are the service's.
#[inline]
pub(super) fn service_answers<A: Address>(tables: &Tables, client: Client<A>, backend: A) -> Result<(), DropReason> {
    match (client.ip.to_ip(), backend.to_ip()) {
        (IpAddr::V4(ip), IpAddr::V4(backend)) if !tables.policy.is_empty() => {
            tables.policy.admits_service(ip.to_bits(), client.service, || backend.to_bits())
        }
        _ => Ok(()),
    }
}

/// Whether policy lets one address talk to another, whatever service they meet through.
#[inline]
pub(super) fn pair_admitted<A: Address>(tables: &Tables, source: A, destination: A) -> Result<(), DropReason> {
    match (source.to_ip(), destination.to_ip()) {
        (IpAddr::V4(source), IpAddr::V4(destination)) if !tables.policy.is_empty() => {
            tables.policy.admits(source.to_bits(), destination.to_bits())
        }
        _ => Ok(()),
    }
}

/// Any backend of the service: all lie in the network whose groups it has.
fn near(tables: &Tables, service: u16) -> u32 {
    let first = tables.service(service).and_then(|s| s.maglev.first());
    first.and_then(|number| u32::from_ip(tables.backend(*number)?.ip)).unwrap_or_default()
}
