//! Isolate: may this source talk to this destination? Asked before any state is made. Replies are judged in balance,
//! where their session tells the original client.

use crate::address::Address;
use crate::burst::{Action, Burst, Packet};
use crate::stage::admission;
use crate::tables::Tables;
use crate::verdict::DropReason;

/// Drops what policy forbids.
pub fn run(burst: &mut Burst, tables: &Tables) {
    if !tables.admission.is_empty() {
        sources(burst, tables);
    }
    if tables.policy.is_empty() {
        return;
    }
    // Groups are the overlay's, which carries IPv4.
    for packet in burst.iter_mut().filter(|p| !p.v6) {
        if let Err(reason) = admitted(packet, tables) {
            packet.drop(reason);
        }
    }
}

/// Drops what comes from where its service is not for.
fn sources(burst: &mut Burst, tables: &Tables) {
    for packet in burst {
        let Action::Balance(number) = packet.action else { continue };
        let admitted = match packet.v6 {
            false => admission::source::<u32>(packet, tables, number),
            true => admission::source::<u128>(packet, tables, number),
        };
        if let Err(reason) = admitted {
            packet.drop(reason);
        }
    }
}

fn admitted(packet: &Packet, tables: &Tables) -> Result<(), DropReason> {
    let tuple = &packet.tuple;
    match packet.action {
        Action::Balance(service) => tables.policy.admits_service(tuple.src, service, || near(tables, service)),
        Action::Forward => tables.policy.admits(tuple.src, tuple.dst),
        // DNS answers everybody; replies and the rest are judged elsewhere or touch no container.
        Action::Done
        | Action::Parsed
        | Action::Arp
        | Action::Dns
        | Action::Echo
        | Action::Solicited
        | Action::Return { .. }
        | Action::Host => Ok(()),
    }
}

/// Any backend of the service: all lie in the network whose groups it has.
fn near(tables: &Tables, service: u16) -> u32 {
    let first = tables.service(service).and_then(|s| s.maglev.first());
    first.and_then(|number| u32::from_ip(tables.backend(*number)?.ip)).unwrap_or_default()
}
