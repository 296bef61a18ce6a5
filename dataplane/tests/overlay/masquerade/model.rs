//! Any flows in any order beside a slow model: a reply reaches whose it is and nobody else, whichever worker gets it.

use std::collections::BTreeMap;

use proptest::prelude::*;

use super::*;

const CONTAINERS: [&str; 4] = [CONTAINER, OTHER, GROUPED, "9.0.1.1"];
const FARS: [&str; 4] = [CLIENT, "192.0.2.11", "10.0.0.11", "10.0.0.1"];

/// Container and its port, far end and its port, whether TCP.
type Talk = (usize, u16, usize, u16, bool);

#[derive(Clone, Debug)]
enum Step {
    /// A packet from the container, to this worker.
    Out(Talk, usize),
    /// The far end's answer to what it saw last of that.
    Back(Talk, usize),
    /// A packet from somebody else to where that went out.
    Forge(Talk, usize),
    /// The far end begins.
    Enter(Talk, usize),
    Wait(u64),
}

fn step() -> impl Strategy<Value = Step> {
    let talk = (0..4usize, 5000..5003u16, 0..4usize, prop::sample::select(vec![80u16, 5353]), any::<bool>());
    let talk = (talk, 0..2usize);
    prop_oneof![
        5 => talk.clone().prop_map(|(t, w)| Step::Out(t, w)),
        4 => talk.clone().prop_map(|(t, w)| Step::Back(t, w)),
        2 => talk.clone().prop_map(|(t, w)| Step::Forge(t, w)),
        2 => talk.prop_map(|(t, w)| Step::Enter(t, w)),
        1 => (0..90u64).prop_map(Step::Wait),
    ]
}

fn packet(tcp_: bool, from: (&str, u16), to: (&str, u16), flags: &str) -> Vec<u8> {
    if tcp_ { tcp(from, to, flags) } else { udp(from, to, b"payload") }
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(64))]
    #[test]
    fn a_reply_reaches_whose_it_is(steps in prop::collection::vec(step(), 1..80)) {
        let mut machine = machine(2);
        let mut seconds = 0u64;
        // What left as what, and when its flow was last heard of; of what began outside as it is, `None`.
        let mut known: BTreeMap<Talk, (Option<(String, u16)>, u64)> = BTreeMap::new();
        for step in steps {
            let tick = seconds / 2;
            // Of UDP, and of TCP of which nothing but SYNs was seen; on the last ticks either may be.
            let life = |t: &Talk| if t.4 { 5 } else { 30 };
            let lives = |known: &BTreeMap<Talk, (Option<(String, u16)>, u64)>, t: &Talk| match known.get(t) {
                Some((_, at)) if tick - at <= life(t) => Some(true),
                Some((_, at)) if tick - at <= life(t) + 2 => None,
                _ => Some(false),
            };
            match step {
                Step::Wait(n) => {
                    seconds += n;
                    machine.now = Nanos(machine.now.0 + Nanos::from_seconds(n).0);
                }
                Step::Out(t, worker) => {
                    let (container, far) = ((CONTAINERS[t.0], t.1), (FARS[t.2], t.3));
                    let Some(lives) = lives(&known, &t) else { continue };
                    let out = seen(machine.pass(worker, sent(&packet(t.4, container, far, "S"))));
                    prop_assert_eq!(ends(&out).1, (far.0.to_owned(), far.1));
                    let ours = ends(&out).0;
                    match known.get(&t).filter(|_| lives) {
                        Some((Some(before), _)) => prop_assert_eq!(&ours, before),
                        // A SYN begins, whoever began before.
                        Some((None, _)) if !t.4 => {
                            prop_assert_eq!(at(&ours), container);
                            known.insert(t, (None, tick));
                            continue;
                        }
                        _ => {
                            let taken = known.iter().any(|(other, (their, _))| {
                                (other.2, other.3, other.4) == (t.2, t.3, t.4)
                                    && their.as_ref() == Some(&ours)
                                    && *other != t
                                    && tick - known[other].1 <= life(other)
                            });
                            prop_assert!(!taken, "two flows to one far end with one port");
                        }
                    }
                    prop_assert_eq!(ours.0.as_str(), SNAT);
                    known.insert(t, (Some(ours), tick));
                }
                Step::Back(t, worker) => {
                    let Some((Some(ours), _)) = known.get(&t).cloned() else { continue };
                    let Some(lives) = lives(&known, &t) else { continue };
                    // Another flow may have got the port since.
                    let owner = known.iter().find(|(other, (their, at))| {
                        (other.2, other.3, other.4) == (t.2, t.3, t.4)
                            && their.as_ref() == Some(&ours)
                            && tick - at <= life(other) + 2
                    });
                    let owner = owner.map(|(owner, _)| *owner);
                    let answer = packet(t.4, (FARS[t.2], t.3), at(&ours), "SA");
                    match (lives, owner) {
                        (true, _) => {
                            let back = arrived(&machine.pass(worker, answer));
                            prop_assert_eq!(ends(&back).1, (CONTAINERS[t.0].to_owned(), t.1));
                            known.insert(t, (Some(ours), tick));
                        }
                        (false, None) => machine.refuse(worker, 0, answer, R::SnatNoSession),
                        (false, Some(_)) => {}
                    }
                }
                Step::Forge(t, worker) => {
                    let Some((Some(ours), _)) = known.get(&t).cloned() else { continue };
                    machine.refuse(worker, 0, packet(t.4, ("192.0.2.99", t.3), at(&ours), "SA"), R::SnatNoSession);
                }
                Step::Enter(t, worker) => {
                    let asks = packet(t.4, (FARS[t.2], t.3), (CONTAINERS[t.0], t.1), "S");
                    let grouped = CONTAINERS[t.0] == GROUPED;
                    if grouped {
                        let denied = R::GroupUnderlay;
                        let masqueraded = R::GroupMasqueraded;
                        let reason = if FARS[t.2] == "10.0.0.11" { masqueraded } else { denied };
                        machine.refuse(worker, 0, asks, reason);
                        continue;
                    }
                    let Some(lives) = lives(&known, &t) else { continue };
                    let came = arrived(&machine.pass(worker, asks.clone()));
                    prop_assert_eq!(ends(&came), ends(&asks));
                    // Beside a flow of the container's own it changes nothing.
                    match known.get(&t).filter(|_| lives) {
                        Some((Some(_), _)) => {}
                        _ => drop(known.insert(t, (None, tick))),
                    }
                }
            }
        }
    }
}
