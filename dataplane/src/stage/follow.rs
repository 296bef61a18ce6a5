//! Follow: what was decided of a datagram's first fragment is done with the later ones: the same addresses written, the
//! same identification, the same way out. Those that come before it wait. Policy is asked about each, from the tables of the moment.

use crate::burst::{Action, Burst, Out, Packet};
use crate::datagrams::{Asked, Came, Datagrams, Decided, Fragmented};
use crate::fragments::{Datagram, Later, Part};
use crate::frame::Pool;
use crate::stage::seeker::Seeker;
use crate::stage::{classify, isolate};
use crate::verdict::{DropReason, Verdict};

/// Remembers what became of first fragments, and has the later ones follow.
pub fn run(burst: &mut Burst, pool: &mut Pool, datagrams: &mut Datagrams, with: &Seeker<'_>) {
    let mut came = datagrams.take_came().into_iter();
    for packet in burst {
        match packet.part {
            Part::Whole => {}
            Part::First => {
                let Some(came) = came.next() else { continue };
                match packet.v6 {
                    false => with.remember::<u32>(packet, pool, &came, datagrams),
                    true => with.remember::<u128>(packet, pool, &came, datagrams),
                }
            }
            Part::Later => {
                let done = match packet.v6 {
                    false => with.follow::<u32>(packet, pool, datagrams),
                    true => with.follow::<u128>(packet, pool, datagrams),
                };
                if let Err(reason) = done {
                    packet.drop(reason);
                }
            }
        }
    }
}

impl Seeker<'_> {
    #[cold]
    fn remember<A: Fragmented>(&self, packet: &mut Packet, pool: &mut Pool, came: &Came, datagrams: &mut Datagrams) {
        let datagram = came.datagram::<A>(packet);
        let decided = match packet.verdict {
            // Whoever pretends to be another's source must not decide about that one's datagrams.
            Verdict::Drop(DropReason::Martian | DropReason::OverlaySpoof) => return,
            Verdict::Drop(reason) => Decided::Dropped(reason),
            Verdict::Give(worker) => Decided::Given { worker, round: packet.round },
            Verdict::Pending | Verdict::Transmit(_) | Verdict::Host | Verdict::Hold(_) => {
                let ((source, destination), out, asked) = (A::ends(packet), packet.out, came.asked);
                let id = self.renumbered(&datagram, source);
                identify::<A>(packet, pool, id);
                Decided::Sent { source, destination, id, out, asked, generation: self.tables.generation as u32 }
            }
        };
        A::known(datagrams).first(datagram, decided, self.now);
        // Later ones have no ports; without them all have one tunnel entropy, and stay on one path.
        if packet.pending() {
            (packet.tuple.sport, packet.tuple.dport, packet.hash) = (0, 0, 0);
        }
    }

    #[cold]
    fn follow<A: Fragmented>(
        &self,
        packet: &mut Packet,
        pool: &mut Pool,
        datagrams: &mut Datagrams,
    ) -> Result<(), DropReason> {
        if packet.action != Action::Later {
            return Ok(());
        }
        classify::source_is_sound::<A>(packet, self.tables)?;
        let (source, destination) = A::ends(packet);
        let datagram = Datagram { source, destination, id: packet.id, protocol: packet.tuple.protocol };
        let known = A::known(datagrams);
        if let Some(decided) = known.decided(&datagram, self.now) {
            return self.obey(packet, pool, decided);
        }
        if !classify::concerns_us::<A>(packet, self.tables) {
            return Err(DropReason::NotForUs);
        }
        match known.later(datagram, self.now) {
            Later::Follow(decided) => self.obey(packet, pool, decided),
            Later::Hold(place) => {
                self.counters.fragments_waited.add(1);
                packet.end(Verdict::Hold(place));
                Ok(())
            }
            Later::Drop(reason) => Err(reason),
        }
    }

    fn obey<A: Fragmented>(&self, packet: &mut Packet, pool: &mut Pool, decided: Decided<A>) -> Result<(), DropReason> {
        match decided {
            Decided::Dropped(reason) => Err(reason),
            // A handed packet goes on only with its first fragment's round.
            Decided::Given { round, .. } if packet.handed && round <= packet.round => Err(DropReason::HandoverTwice),
            Decided::Given { worker, round } => {
                packet.round = round;
                packet.end(Verdict::Give(worker));
                Ok(())
            }
            Decided::Sent { source, destination, id, out, asked, generation } => {
                self.admitted::<A>(packet, asked, destination)?;
                let out =
                    if generation == self.tables.generation as u32 { out } else { again(packet, out, destination)? };
                let l3 = usize::from(packet.l3);
                if asked != Asked::Nothing {
                    classify::alive(packet)?;
                    A::decrement(&mut pool.bytes_mut(&mut packet.frame)[l3..]);
                }
                A::readdress(&mut pool.bytes_mut(&mut packet.frame)[l3..], source, destination);
                identify::<A>(packet, pool, id);
                A::set_ends(packet, source, destination);
                packet.leave(out);
                self.counters.fragments_followed.add(1);
                Ok(())
            }
        }
    }

    /// The identification of a datagram that leaves with another source. Many senders come to share that one, and each
    /// numbers its datagrams for itself, often from 1 on: each is moved by a distance of its own, so that the receiver
    /// does not put parts of different datagrams together (RFC 6864 section 5.3.1).
    fn renumbered<A: Fragmented>(&self, came: &Datagram<A>, written: A) -> u32 {
        let [high, low] = came.source.words();
        let distance = if written == came.source { 0 } else { self.tables.key.two(high, low) as u32 };
        came.id.wrapping_add(distance)
    }

    fn admitted<A: Fragmented>(&self, packet: &Packet, asked: Asked, written: A) -> Result<(), DropReason> {
        let (source, destination) = A::ends(packet);
        let admitted = match asked {
            Asked::Service(number) => isolate::service_admitted(self.tables, source, number),
            Asked::Reply => isolate::pair_admitted(self.tables, written, source),
            Asked::Forward => isolate::pair_admitted(self.tables, source, destination),
            Asked::Nothing => Ok(()),
        };
        admitted.map_err(|denied| self.denied(denied))
    }
}

fn identify<A: Fragmented>(packet: &mut Packet, pool: &mut Pool, id: u32) {
    let (l3, l4) = (usize::from(packet.l3), usize::from(packet.l4));
    A::identify(pool.bytes_mut(&mut packet.frame).get_mut(l3..).unwrap_or_default(), l4 - l3, id);
}

/// The way out in tables that are newer than the one that it was decided in: by the routes, where the destination leads
/// there. What answers the client itself is not found by its destination, which is the VIP.
fn again<A: Fragmented>(packet: &Packet, out: Out, destination: A) -> Result<Out, DropReason> {
    match out {
        Out::Hop(_) | Out::Agent(_) | Out::Tunnel(_) if destination == A::ends(packet).1 => {
            Err(DropReason::FragmentStale)
        }
        Out::Hop(_) | Out::Agent(_) | Out::Tunnel(_) => Ok(Out::Route),
        Out::Nowhere | Out::Back | Out::Route | Out::Host => Ok(out),
    }
}
