//! The exhaustive model check: every pair of parties by every way that a packet can take, through `Worker::turn`,
//! against the slow obvious policy of [`may_talk`].

use std::net::Ipv4Addr;

use sluice_config::model::Isolation;
use sluice_dataplane::verdict::DropReason as R;

use crate::common::icmp::{PORT_UNREACHABLE, error, quote};
use crate::common::parts::split;
use crate::common::*;
use crate::world::*;

const ISOLATIONS: [Isolation; 2] = [Isolation::Enforced, Isolation::Open];

#[derive(Clone, Copy, Debug)]
enum Kind {
    Tcp,
    Udp,
    Icmp,
}

const KINDS: [Kind; 3] = [Kind::Tcp, Kind::Udp, Kind::Icmp];

impl Kind {
    fn packet(self, from: (&str, u16), to: (&str, u16)) -> Vec<u8> {
        match self {
            Self::Tcp => tcp(from, to, "S"),
            Self::Udp => udp(from, to, &[7; 64]),
            Self::Icmp => ping(from.0, to.0),
        }
    }
}

fn parties() -> Vec<Party> {
    containers(1).into_iter().chain(OUTSIDE.map(Party::outside)).collect()
}

/// Inner destinations of what left in tunnels.
fn reached(left: &[(usize, Vec<u8>)]) -> Vec<String> {
    let inner = |frame: &[u8]| Ipv4Addr::from_bits(u32::from_be_bytes(frame[80..84].try_into().unwrap())).to_string();
    left.iter().filter(|(_, frame)| ends(frame).1.1 == 64000).map(|(_, frame)| inner(frame)).collect()
}

fn denials(machine: &Machine) -> u64 {
    [R::GroupDenied, R::GroupUnderlay, R::GroupMasqueraded].map(|reason| machine.drops(reason)).iter().sum()
}

/// All of `packets` arrive at `to`, or policy drops all of them.
fn check(machine: &mut Machine, packets: &[Vec<u8>], to: &str, may: bool, what: &str) {
    let before = denials(machine);
    let left = machine.feed(0, 0, packets);
    let denied = (denials(machine) - before) as usize;
    let expected = if may { (packets.len(), 0) } else { (0, packets.len()) };
    let there = reached(&left).iter().filter(|ip| *ip == to).count();
    let drops: Vec<_> = R::ALL.iter().map(|r| (r.name(), machine.drops(*r))).filter(|(_, n)| *n > 0).collect();
    assert_eq!((there, denied), expected, "{what}; drops so far {drops:?}");
    assert_eq!(left.len(), there, "{what}: something went elsewhere");
}

/// Every pair under both isolations of the second network.
fn every_pair(parties: &[Party], mut check: impl FnMut(&mut Machine, &Party, &Party, bool)) {
    for dev in ISOLATIONS {
        let mut machine = Machine::new(quiet(cluster(dev, true)));
        for from in parties {
            for to in containers(0) {
                check(&mut machine, from, &to, may_talk(from, &to, dev));
            }
        }
    }
}

#[test]
fn directly() {
    every_pair(&containers(1), |machine, from, to, may| {
        for kind in KINDS {
            let packet = from.sends(&kind.packet((&from.ip, 7000), (&to.ip, 80)));
            check(machine, &[packet], &to.ip, may, &format!("{kind:?} {from:?} to {to:?}"));
        }
    });
}

#[test]
fn by_a_vip() {
    every_pair(&parties(), |machine, from, to, may| {
        for kind in [Kind::Tcp, Kind::Udp] {
            let packet = from.sends(&kind.packet((&from.ip, 7000), (&to.vip(), 80)));
            check(machine, &[packet], &to.ip, may, &format!("{kind:?} {from:?} to the VIP of {to:?}"));
        }
        // A VIP's echo is ours and reaches no container.
        let left = machine.feed(0, 0, &[from.sends(&ping(&from.ip, &to.vip()))]);
        assert_eq!(reached(&left).iter().filter(|ip| **ip == to.ip).count(), 0);
    });
}

#[test]
fn no_state_is_made_for_what_is_denied() {
    for dev in ISOLATIONS {
        let mut machine = Machine::new(quiet(cluster(dev, true)));
        let mut allowed = 0;
        for from in parties() {
            for to in containers(0) {
                machine.feed(0, 0, &[from.sends(&tcp((&from.ip, 7000), (&to.vip(), 80), "S"))]);
                allowed += u64::from(may_talk(&from, &to, dev));
            }
        }
        assert_eq!(machine.total(|c| c.sessions_made.get()), allowed);
    }
}

#[test]
fn in_fragments() {
    let mut id = 0;
    every_pair(&containers(1), |machine, from, to, may| {
        for (kind, vip) in KINDS.map(|kind| (kind, false)).into_iter().chain([(Kind::Udp, true), (Kind::Tcp, true)]) {
            let name = if vip { to.vip() } else { to.ip.clone() };
            for reversed in [false, true] {
                id += 1;
                let whole = kind.packet((&from.ip, 7000), (&name, 80));
                let cut = if matches!(kind, Kind::Udp) { vec![16, 40] } else { vec![8] };
                let cut = if matches!(kind, Kind::Tcp) { vec![24] } else { cut };
                let mut parts: Vec<_> = split(&whole, id, &cut).iter().map(|part| from.sends(part)).collect();
                if reversed {
                    parts.reverse();
                }
                // What was decided of datagrams before is forgotten.
                machine.now.0 += 60_000_000_000;
                machine.workers[0].give_up_fragments(machine.now);
                let what = format!("{kind:?} {from:?} to {name} in fragments, reversed {reversed}");
                check(machine, &parts, &to.ip, may, &what);
            }
        }
    });
}

/// An error between containers is judged by who sends it, whatever it quotes.
#[test]
fn as_an_error_that_quotes_anything() {
    every_pair(&containers(1), |machine, from, to, may| {
        for kind in KINDS {
            // Its own packet to the sender, and an allowed one to a container of the receiver's groups.
            let (net, agent, set) = to.place.unwrap();
            let friend = Party::container(net, agent, set, 2).ip;
            for about in [&from.ip, &friend] {
                let quoted = quote(&kind.packet((&to.ip, 80), (about, 7000)), 8);
                let packet = from.sends(&error(&from.ip, &to.ip, PORT_UNREACHABLE, &quoted));
                check(machine, &[packet], &to.ip, may, &format!("an error about {kind:?} {from:?} to {to:?}"));
            }
        }
    });
}

/// A friend has a session with the service; others, whom its backend may be closed to, tell of errors in it.
#[test]
fn as_an_error_in_the_session_of_another() {
    for dev in ISOLATIONS {
        for to in containers(0) {
            let mut machine = Machine::new(quiet(cluster(dev, true)));
            let (net, agent, set) = to.place.unwrap();
            let friend = Party::container(net, agent, set, 2);
            let request = tcp((&friend.ip, 7000), (&to.vip(), 80), "S");
            let there = machine.pass(0, friend.sends(&request));
            let (snat, backend) = ends(&there[50..]);
            assert_eq!(backend.0, to.ip);
            let back = machine.pass(0, to.sends(&tcp((&to.ip, 80), (&snat.0, snat.1), "SA")));
            for from in containers(1).into_iter().filter(|from| from.place.unwrap().1 == agent) {
                // Containers with groups are no routers and tell of nobody else.
                let tells = groups(&from, dev).is_empty();
                let may = tells && may_talk(&from, &to, dev);
                let told = error(&from.ip, &to.vip(), PORT_UNREACHABLE, &quote(&back[50..], 8));
                check(&mut machine, &[from.sends(&told)], &to.ip, may, &format!("{from:?} to the service of {to:?}"));
                let told = error(&from.ip, &snat.0, PORT_UNREACHABLE, &quote(&there[50..], 8));
                let may = tells && may_talk(&from, &friend, dev);
                check(&mut machine, &[from.sends(&told)], &friend.ip, may, &format!("{from:?} to a client of {to:?}"));
            }
        }
    }
}

#[test]
fn a_change_reaches_established_flows_in_both_directions() {
    for dev in ISOLATIONS {
        let mut machine = Machine::new(quiet(cluster(dev, false)));
        let mut flows = vec![];
        for (from, to) in
            parties().into_iter().flat_map(|from| containers(0).into_iter().map(move |to| (from.clone(), to)))
        {
            let there = machine.pass(0, from.sends(&tcp((&from.ip, 7000), (&to.vip(), 80), "S")));
            let ((snat, port), _) = ends(&there[50..]);
            machine.pass(0, to.sends(&tcp((&to.ip, 80), (&snat, port), "SA")));
            flows.push((from, to, snat, port));
        }
        machine.publish(quiet(cluster(dev, true)));
        for (from, to, snat, port) in flows {
            let may = may_talk(&from, &to, dev);
            let there = from.sends(&tcp((&from.ip, 7000), (&to.vip(), 80), "A"));
            check(&mut machine, &[there], &to.ip, may, &format!("an established flow {from:?} to {to:?}"));
            let before = denials(&machine);
            let back = machine.feed(0, 0, &[to.sends(&tcp((&to.ip, 80), (&snat, port), "A"))]);
            let denied = denials(&machine) - before;
            assert_eq!((back.len(), denied), (usize::from(may), u64::from(!may)), "the way back, {from:?} to {to:?}");
        }
    }
}

#[test]
fn names_are_for_everybody_and_lead_nowhere_else() {
    let mut machine = Machine::new(quiet(cluster(Isolation::Enforced, true)));
    let question = [0, 1, 1, 0, 0, 1, 0, 0, 0, 0, 0, 0, 1, b'x', 5, b'm', b'e', b's', b'o', b's', 0, 0, 1, 0, 1];
    for from in containers(1) {
        let left = machine.feed(0, 0, &[from.sends(&udp((&from.ip, 7000), ("198.51.100.1", 53), &question))]);
        assert_eq!(reached(&left), [from.ip]);
    }
}
