//! Isolate: may this source talk to this destination? Asked before any state is made. Replies are judged in balance,
//! where their session tells the original client.

use crate::burst::{Action, Burst, Packet};
use crate::counters::Counters;
use crate::family::Family;
use crate::sessions::Client;
use crate::stage::admission;
use crate::tables::Tables;
use crate::tables::policy::Denied;
use crate::verdict::DropReason;

/// Drops what policy forbids.
pub fn run(burst: &mut Burst, tables: &Tables, counters: &Counters) {
    for packet in burst {
        if let Err(denied) = admitted(packet, tables) {
            packet.drop(counted(denied, tables, counters));
        }
    }
}

/// The reason to drop, and who was kept from whom counted.
#[cold]
pub(super) fn counted(denied: Denied, tables: &Tables, counters: &Counters) -> DropReason {
    if let Some((from, to)) = denied.pair {
        let parties = tables.policy.parties();
        counters.denied.add(parties.label(from), parties.label(to));
    }
    denied.reason
}

/// Whether a packet may go where it is about to.
///
/// # Errors
/// Why not.
#[inline]
pub(super) fn admitted(packet: &Packet, tables: &Tables) -> Result<(), Denied> {
    match packet.action {
        Action::Balance(service) if packet.v6 => service_admitted(tables, packet.ends6.0, service),
        Action::Balance(service) => service_admitted(tables, packet.tuple.src, service),
        Action::Forward | Action::Masquerade | Action::Enter if packet.v6 => {
            pair_admitted(tables, packet.ends6.0, packet.ends6.1)
        }
        Action::Forward | Action::Masquerade | Action::Enter => {
            pair_admitted(tables, packet.tuple.src, packet.tuple.dst)
        }
        // DNS answers everybody; replies and the rest are judged elsewhere or touch no container.
        Action::Done
        | Action::Parsed
        | Action::Arp
        | Action::Dns
        | Action::Echo
        | Action::Solicited
        | Action::Return { .. }
        | Action::Unmasquerade(_)
        | Action::Error
        | Action::Later
        | Action::Host => Ok(()),
    }
}

/// Whether the service's own bounds and policy let `client` talk to it.
#[inline]
pub(super) fn service_admitted<A: Family>(tables: &Tables, client: A, service: u16) -> Result<(), Denied> {
    if !tables.admission.is_empty() {
        admission::source(tables, client, service)?;
    }
    match tables.policy.is_empty() {
        true => Ok(()),
        false => tables.policy.admits_service(client, service),
    }
}

/// Whether policy lets a client talk to its service, as for its packets there: the backends' groups are the service's.
#[inline]
pub(super) fn service_answers<A: Family>(tables: &Tables, client: Client<A>) -> Result<(), Denied> {
    match tables.policy.is_empty() {
        true => Ok(()),
        false => tables.policy.admits_service(client.ip, client.service),
    }
}

/// Whether policy lets one address talk to another, whatever service they meet through.
#[inline]
pub(super) fn pair_admitted<A: Family>(tables: &Tables, source: A, destination: A) -> Result<(), Denied> {
    match tables.policy.is_empty() {
        true => Ok(()),
        false => tables.policy.admits(source, destination),
    }
}
