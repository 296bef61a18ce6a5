//! Fragment: first fragments are noted as they came, before anything is rewritten, so that [`super::follow`] can tell
//! what was decided of their datagrams; and one that this worker has no session for goes round the workers once: cards
//! choose the queue of a fragment by its addresses alone, so whole packets of its flow are often another worker's.

use sluice_config::model::Mode;

use crate::burst::{Action, Burst, Packet};
use crate::datagrams::Datagrams;
use crate::family::Family;
use crate::fragments::Part;
use crate::sessions::Client;
use crate::stage::seeker::Seeker;
use crate::verdict::DropReason;
use crate::wire::ip4;

/// Notes every first fragment.
pub fn run(burst: &mut Burst, datagrams: &mut Datagrams, with: &Seeker<'_>) {
    for packet in burst {
        if packet.part != Part::First {
            continue;
        }
        datagrams.came(packet);
        let done = match packet.v6 {
            false => with.begins::<u32>(packet),
            true => with.begins::<u128>(packet),
        };
        if let Err(reason) = done {
            packet.drop(reason);
        }
    }
}

impl Seeker<'_> {
    #[cold]
    fn begins<A: Family>(&self, packet: &mut Packet) -> Result<(), DropReason> {
        match packet.action {
            Action::Balance(service) => {
                let mode = self.tables.service(service).map_or(Mode::Nat, |s| s.mode);
                has_ports_to_change(packet, mode)?;
                let client = Client { ip: A::ends(packet).0, port: packet.tuple.sport, service };
                // In `nat-preserve` a hash tells the owner, and balance gives it there; without sessions Maglev decides.
                let kept = mode != Mode::NatPreserve && A::sessions(self.flows).has_room();
                if kept && self.known(client).is_none() {
                    let _given_or_begun_here = packet.go_round(self.worker, self.workers);
                }
                Ok(())
            }
            Action::Return { .. } | Action::Masquerade | Action::Unmasquerade(_) => {
                has_ports_to_change(packet, Mode::Nat)
            }
            Action::Done
            | Action::Parsed
            | Action::Arp
            | Action::Dns
            | Action::Echo
            | Action::Solicited
            | Action::Error
            | Action::Later
            | Action::Forward
            | Action::Enter
            | Action::Host => Ok(()),
        }
    }
}

/// SCTP's checksum covers its ports and, unlike the others', cannot be updated without knowing how much follows (RFC 9260
/// appendix A), which a first fragment does not tell.
fn has_ports_to_change(packet: &Packet, mode: Mode) -> Result<(), DropReason> {
    let rewritten = !mode.is_dsr() && packet.tuple.protocol == ip4::SCTP;
    if rewritten { Err(DropReason::FragmentSctp) } else { Ok(()) }
}
