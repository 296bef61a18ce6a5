//! Sessions beside a slow model, in each family.

use std::collections::BTreeMap;

use proptest::prelude::*;

use super::*;

/// The slow, obvious model: what was last heard from either side, and the state.
#[derive(Clone, Copy, Debug)]
struct Model {
    flow: u32,
    state: State,
    asked: u64,
    answered: u64,
}

impl Model {
    fn lives(&self, now: u64) -> bool {
        let life = i64::from(life().of(self.state.bits() as usize));
        let ticks = |t: u64| (t / 2) as i64;
        ticks(now) - ticks(self.asked.max(self.answered)) <= life
    }
}

#[derive(Clone, Debug)]
enum Step {
    Ask(u32, u8),
    Answer(u32, u8),
    Wait(u64),
    Sweep,
}

fn step() -> impl Strategy<Value = Step> {
    let flags = prop::sample::select(vec![SYN, ACK, FIN | ACK, RST]);
    prop_oneof![
        4 => (0u32..12, flags.clone()).prop_map(|(n, f)| Step::Ask(n, f)),
        4 => (0u32..12, flags).prop_map(|(n, f)| Step::Answer(n, f)),
        2 => (0u64..60).prop_map(Step::Wait),
        1 => Just(Step::Sweep),
    ]
}

/// Goes through `steps` beside the model, with clients of one family.
fn follow<A: Sample>(steps: &[Step], key: [u8; 16]) -> Result<(), TestCaseError> {
    let sessions = Sessions::<A>::new(1000, key);
    let mut model: BTreeMap<u32, Model> = BTreeMap::new();
    let mut now = 0;
    let mut next_flow = 0;
    for step in steps {
        match *step {
            Step::Wait(seconds) => now += seconds,
            Step::Sweep => {
                sessions.sweep(usize::MAX, tick(now), life(), |_, _| true);
                model.retain(|_, m| m.lives(now));
                prop_assert_eq!(sessions.len(), model.len());
            }
            Step::Ask(n, flags) => {
                let found = ask(&sessions, client(n), flags, now);
                let expected = model.get(&n).filter(|m| m.lives(now)).copied();
                prop_assert_eq!(found, expected.map(|m| (flow(m.flow), m.state)));
                let mut m = expected.unwrap_or_else(|| {
                    next_flow += 1;
                    sessions.insert(client(n), flow(next_flow), SYN, tick(now), life()).unwrap();
                    Model { flow: next_flow, state: State::HalfOpen, asked: now, answered: now }
                });
                if expected.is_some() {
                    m.state = m.state.after(flags, true);
                    m.asked = now;
                }
                model.insert(n, m);
            }
            Step::Answer(n, flags) => {
                let Some(m) = model.get(&n).copied() else { continue };
                let found = answer_to(&sessions, client::<A>(n).ip, flow(m.flow), flags, now);
                prop_assert_eq!(found, m.lives(now).then(|| client(n)));
                match m.lives(now) {
                    true => model.insert(n, Model { state: m.state.after(flags, false), answered: now, ..m }),
                    false => model.remove(&n),
                };
            }
        }
        prop_assert_eq!((sessions.of_service(1) as usize, sessions.of_service(2)), (sessions.len(), 0));
    }
    Ok(())
}

proptest! {
    #[test]
    fn they_do_what_a_slow_model_does(steps in prop::collection::vec(step(), 1..200), key: [u8; 16]) {
        follow::<u32>(&steps, key)?;
        follow::<u128>(&steps, key)?;
        follow::<Clashing>(&steps, key)?;
        follow::<Talk<u32>>(&steps, key)?;
        follow::<Talk<u128>>(&steps, key)?;
        follow::<Talk<Clashing>>(&steps, key)?;
    }
}
