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

fn packet(of_tcp: bool, from: (&str, u16), to: (&str, u16), flags: &str) -> Vec<u8> {
    if of_tcp { tcp(from, to, flags) } else { udp(from, to, b"payload") }
}

/// What is known of a pair's flow: what its packets leave as, as they are where the far end began; last heard of when.
#[derive(Clone, Debug)]
struct Known {
    ours: Option<(String, u16)>,
    tick: u64,
}

struct World {
    machine: Machine,
    seconds: u64,
    known: BTreeMap<Talk, Known>,
}

impl World {
    fn age(&self, t: &Talk) -> Option<u64> {
        self.known.get(t).map(|known| self.seconds / 2 - known.tick)
    }

    /// Whether the flow of a pair is alive; `None` on the last ticks, when it may be or not.
    fn lives(&self, t: &Talk) -> Option<bool> {
        // Of TCP nothing but SYNs is sent.
        let life = if t.4 { 5 } else { 30 };
        match self.age(t) {
            Some(age) if age <= life => Some(true),
            Some(age) if age <= life + 2 => None,
            Some(_) | None => Some(false),
        }
    }

    fn note(&mut self, t: Talk, ours: Option<(String, u16)>) {
        self.known.insert(t, Known { ours, tick: self.seconds / 2 });
    }

    /// Whether another flow to the same far end may have this port of ours.
    fn is_taken(&self, t: &Talk, ours: &(String, u16), surely: bool) -> bool {
        self.known.iter().any(|(other, known)| {
            let same = other != t && (other.2, other.3, other.4) == (t.2, t.3, t.4);
            same && known.ours.as_ref() == Some(ours) && self.lives(other).unwrap_or(!surely)
        })
    }

    fn out(&mut self, t: Talk, worker: usize) -> Result<(), TestCaseError> {
        let (container, far) = ((CONTAINERS[t.0], t.1), (FARS[t.2], t.3));
        let Some(lives) = self.lives(&t) else { return Ok(()) };
        let out = seen(self.machine.pass(worker, sent(&packet(t.4, container, far, "S"))));
        prop_assert_eq!(ends(&out).1, (far.0.to_owned(), far.1));
        let ours = ends(&out).0;
        match self.known.get(&t).filter(|_| lives) {
            // A SYN begins, whoever began before.
            Some(Known { ours: None, .. }) if !t.4 => {
                prop_assert_eq!(at(&ours), container);
                self.note(t, None);
                return Ok(());
            }
            Some(Known { ours: Some(before), .. }) => prop_assert_eq!(&ours, before),
            Some(_) | None => prop_assert!(!self.is_taken(&t, &ours, true), "two flows to one far end by one port"),
        }
        prop_assert_eq!(ours.0.as_str(), SNAT);
        self.note(t, Some(ours));
        Ok(())
    }

    fn back(&mut self, t: Talk, worker: usize) -> Result<(), TestCaseError> {
        let Some(Known { ours: Some(ours), .. }) = self.known.get(&t).cloned() else { return Ok(()) };
        let Some(lives) = self.lives(&t) else { return Ok(()) };
        let answer = packet(t.4, (FARS[t.2], t.3), at(&ours), "SA");
        if lives {
            let back = arrived(&self.machine.pass(worker, answer));
            prop_assert_eq!(ends(&back).1, (CONTAINERS[t.0].to_owned(), t.1));
            self.note(t, Some(ours));
        } else if !self.is_taken(&t, &ours, false) {
            self.machine.refuse(worker, 0, answer, R::SnatNoSession);
        }
        Ok(())
    }

    fn forge(&mut self, t: Talk, worker: usize) {
        if let Some(Known { ours: Some(ours), .. }) = self.known.get(&t) {
            self.machine.refuse(worker, 0, packet(t.4, ("192.0.2.99", t.3), at(ours), "SA"), R::SnatNoSession);
        }
    }

    fn enter(&mut self, t: Talk, worker: usize) -> Result<(), TestCaseError> {
        let asks = packet(t.4, (FARS[t.2], t.3), (CONTAINERS[t.0], t.1), "S");
        if CONTAINERS[t.0] == GROUPED {
            let reason = if FARS[t.2] == "10.0.0.11" { R::GroupMasqueraded } else { R::GroupUnderlay };
            self.machine.refuse(worker, 0, asks, reason);
            return Ok(());
        }
        let Some(lives) = self.lives(&t) else { return Ok(()) };
        let came = arrived(&self.machine.pass(worker, asks.clone()));
        prop_assert_eq!(ends(&came), ends(&asks));
        // What the container has begun stays so.
        let begun = lives && self.known.get(&t).is_some_and(|known| known.ours.is_some());
        if !begun {
            self.note(t, None);
        }
        Ok(())
    }
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(64))]
    #[test]
    fn a_reply_reaches_whose_it_is(steps in prop::collection::vec(step(), 1..80)) {
        let mut world = World { machine: machine(2), seconds: 0, known: BTreeMap::new() };
        for step in steps {
            match step {
                Step::Wait(seconds) => {
                    world.seconds += seconds;
                    world.machine.now = Nanos(world.machine.now.0 + Nanos::from_seconds(seconds).0);
                }
                Step::Out(t, worker) => world.out(t, worker)?,
                Step::Back(t, worker) => world.back(t, worker)?,
                Step::Forge(t, worker) => world.forge(t, worker),
                Step::Enter(t, worker) => world.enter(t, worker)?,
            }
        }
    }
}
