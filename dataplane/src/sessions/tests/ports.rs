//! SNAT ports beside a slow model with time, and who gets the last of them.

use proptest::prelude::*;

use super::*;

const FIRST: u16 = 2000;
const PORTS: u16 = 6;

/// The last session that had a port.
#[derive(Clone, Copy, Debug)]
struct Holder {
    client: u32,
    state: State,
    asked: u64,
    answered: u64,
    ended: bool,
}

impl Holder {
    fn silent(&self, now: u64) -> u64 {
        now / 2 - self.asked.max(self.answered) / 2
    }

    fn lives(&self, now: u64) -> bool {
        !self.ended && self.silent(now) <= u64::from(life().of(self.state.bits() as usize))
    }

    fn rests(&self, now: u64) -> bool {
        // Sixty seconds in ticks of two, and one because either end may lie anywhere in its tick.
        let remembered = matches!(self.state, State::Established | State::Closing);
        !self.lives(now) && remembered && self.silent(now) <= 31
    }
}

#[derive(Clone, Debug)]
enum Step {
    Ask(u32, u8, u16),
    Answer(u16, u8),
    Wait(u64),
    Remove(u32),
    Sweep,
}

fn step() -> impl Strategy<Value = Step> {
    let flags = prop::sample::select(vec![SYN, ACK, ACK, FIN | ACK, RST]);
    prop_oneof![
        8 => (0u32..16, flags.clone(), 0..PORTS).prop_map(|(n, f, from)| Step::Ask(n, f, from)),
        4 => (0..PORTS, flags).prop_map(|(n, f)| Step::Answer(n, f)),
        2 => (0u64..40).prop_map(Step::Wait),
        1 => (0u32..16).prop_map(Step::Remove),
        1 => Just(Step::Sweep),
    ]
}

struct World {
    sessions: Sessions,
    protocol: Protocol,
    /// By port.
    model: [Option<Holder>; PORTS as usize],
    now: u64,
}

impl World {
    fn flow(&self, port: u16) -> Flow {
        Flow { backend: 3, snat: 1, port: FIRST + port, protocol: self.protocol }
    }

    fn port_of(&self, client: u32) -> Option<u16> {
        let had = |h: &Option<Holder>| h.is_some_and(|h| h.client == client && h.lives(self.now));
        self.model.iter().position(had).map(|port| port as u16)
    }

    fn ask(&mut self, n: u32, flags: u8, from: u16) -> Result<(), TestCaseError> {
        let known = self.port_of(n);
        let found = ask(&self.sessions, client(n), flags, self.now);
        prop_assert_eq!(found.map(|(flow, _)| flow), known.map(|port| self.flow(port)));
        let now = self.now;
        match known.and_then(|port| self.model[usize::from(port)].as_mut()) {
            Some(holder) => (holder.state, holder.asked) = (holder.state.after(flags, true), now),
            None => self.begin(n, flags, from)?,
        }
        Ok(())
    }

    fn begin(&mut self, n: u32, flags: u8, from: u16) -> Result<(), TestCaseError> {
        let order: Vec<u16> = (from..PORTS).chain(0..from).collect();
        let free = |port: &u16| self.model[usize::from(*port)].is_none_or(|h| !h.lives(self.now) && !h.rests(self.now));
        let expected = order.iter().copied().find(free).or_else(|| self.weakest(&order));
        let hash = self.sessions.expect_client(client(n));
        let new = self.sessions.expect(client(n), hash, self.flow(from));
        let ports = order[1..].iter().map(|port| FIRST + port);
        let got = self.sessions.begin_on(&new, ports, u32::MAX, flags, tick(self.now), life());
        prop_assert_eq!(got, expected.map(|port| self.flow(port)).ok_or(Refused::Taken));
        if let Some(port) = expected {
            let state = State::first(self.protocol, flags);
            let holder = Holder { client: n, state, asked: self.now, answered: self.now, ended: false };
            self.model[usize::from(port)] = Some(holder);
        }
        Ok(())
    }

    /// The port whose session is on probation longest; of equals the first that is tried.
    fn weakest(&self, order: &[u16]) -> Option<u16> {
        let age = |port: &u16| {
            let holder = self.model[usize::from(*port)].filter(|h| h.lives(self.now) && h.state.on_probation())?;
            let age = self.now / 2 - holder.asked / 2;
            (age > 0).then_some((age, *port))
        };
        order.iter().rev().filter_map(age).max_by_key(|(age, _)| *age).map(|(_, port)| port)
    }

    fn answer(&mut self, port: u16, flags: u8) -> Result<(), TestCaseError> {
        let holder = self.model[usize::from(port)].filter(|h| h.lives(self.now));
        let found = answer(&self.sessions, self.flow(port), flags, self.now);
        prop_assert_eq!(found, holder.map(|h| client(h.client)));
        if let Some(h) = holder {
            let state = h.state.after(flags, false);
            self.model[usize::from(port)] = Some(Holder { state, answered: self.now, ..h });
        }
        Ok(())
    }

    fn remove(&mut self, n: u32) {
        self.sessions.remove(client(n));
        if let Some(holder) = self.port_of(n).and_then(|port| self.model[usize::from(port)].as_mut()) {
            holder.ended = true;
        }
    }

    fn sweep(&self) -> Result<(), TestCaseError> {
        // A port may begin to rest behind the sweep's back.
        for _ in 0..2 {
            self.sessions.sweep(usize::MAX, tick(self.now), life(), |_, _| true);
        }
        let count =
            |judge: fn(&Holder, u64) -> bool| self.model.iter().flatten().filter(|h| judge(h, self.now)).count();
        prop_assert_eq!(self.sessions.len(), count(Holder::lives));
        prop_assert_eq!(self.sessions.of_service(1) as usize, self.sessions.len());
        prop_assert_eq!(self.sessions.resting(), count(Holder::rests));
        let held: u32 = (0..16).map(|n| self.sessions.ports_held(u32::nth(n))).sum();
        prop_assert!(held as usize >= self.sessions.len());
        Ok(())
    }
}

proptest! {
    #[test]
    fn ports_are_given_and_rest_as_in_a_slow_model(
        steps in prop::collection::vec(step(), 1..300),
        key: [u8; 16],
        protocol in prop::sample::select(vec![Protocol::Tcp, Protocol::Udp, Protocol::Sctp]),
    ) {
        let mut world = World { sessions: Sessions::new(1000, key), protocol, model: [None; PORTS as usize], now: 0 };
        for step in steps {
            match step {
                Step::Ask(n, flags, from) => world.ask(n, flags, from)?,
                Step::Answer(port, flags) => world.answer(port, flags)?,
                Step::Wait(seconds) => world.now += seconds,
                Step::Remove(n) => world.remove(n),
                Step::Sweep => world.sweep()?,
            }
        }
    }
}

/// Begins a session on the first free port of 1000 to 1100, from `from` on and round.
fn begin_on(sessions: &Sessions, c: Client, from: u16, quota: u32) -> Result<Flow, Refused> {
    let first = Flow { backend: 1, snat: 0, port: from, protocol: Protocol::Tcp };
    let new = sessions.expect(c, sessions.expect_client(c), first);
    sessions.begin_on(&new, (from + 1..1101).chain(1000..from), quota, SYN, tick(0), life())
}

#[test]
fn a_client_with_its_share_gets_none_of_the_last_ports_however_often_it_tries_and_others_do() {
    let sessions = Sessions::new(1000, [5; 16]);
    let greedy = |port: u16| Client { port, ..client::<u32>(1) };
    let established = |c: Client, from: u16| {
        let begun = begin_on(&sessions, c, from, 10);
        if begun.is_ok() {
            assert!(ask(&sessions, c, ACK, 0).is_some());
        }
        begun
    };
    let got = (0..1700u16).filter(|n| established(greedy(*n), 1000 + n * 37 % 101).is_ok()).count();
    // Twelve of the 101 are kept back; before it had its ten it got some of them.
    assert!((89..99).contains(&got), "{got} of 101");
    assert_eq!(sessions.ports_held(u32::nth(1)), got as u32);
    assert_eq!(begin_on(&sessions, greedy(3000), 1000, 10), Err(Refused::Quota));
    for n in 2..2 + 101 - got as u32 {
        assert!(established(client(n), 1000).is_ok(), "client {n}");
    }
    assert_eq!(begin_on(&sessions, client(500), 1000, 10), Err(Refused::Taken), "nothing is left for anybody");
    assert_eq!(sessions.evicted(), 0);
    // Established flows feel nothing of it.
    assert!(sessions.iter().filter(|s| s.client.ip == u32::nth(1)).all(|s| ask(&sessions, s.client, ACK, 0).is_some()));
}

#[test]
fn a_newcomer_without_any_other_place_ends_the_longest_rest() {
    // Both homes of everything are the same two buckets: 16 places.
    let sessions = Sessions::<u32>::new(8, [1; 16]);
    for n in 0..64 {
        let at = u64::from(n) / 4;
        sessions.insert(client(n), flow(n), SYN, tick(at), life()).unwrap();
        assert!(ask(&sessions, client(n), ACK, at).is_some());
        sessions.remove(client(n));
    }
    assert_eq!((sessions.len(), sessions.evicted()), (0, 0));
    assert!(sessions.cut_short() >= 48, "{} rests were cut short", sessions.cut_short());
    assert_eq!(sessions.resting() + sessions.cut_short() as usize, 64);
    assert!(sessions.in_use(flow(63), tick(15), life()));
    assert!(!sessions.in_use(flow(63), tick(80), life()));
}

#[test]
fn a_port_is_taken_from_who_is_on_probation_longest_and_never_from_the_established() {
    let sessions = Sessions::new(1000, [5; 16]);
    let begin = |n: u32, flags, at| {
        let first = Flow { backend: 1, snat: 0, port: 1000 + n as u16 % 100, protocol: Protocol::Tcp };
        let new = sessions.expect(client(n), sessions.expect_client(client::<u32>(n)), first);
        let ports = (first.port + 1..1100).chain(1000..first.port);
        sessions.begin_on(&new, ports, 10, flags, tick(at), life()).map(|flow| flow.port)
    };
    // A flood of bare ACKs, one of SYNs, and 20 honest ones among them.
    for n in 0..100 {
        assert!(begin(n, if n % 2 == 0 { SYN } else { ACK }, u64::from(n) / 20).is_ok());
        if n % 5 == 0 {
            assert!(ask(&sessions, client(n), ACK, u64::from(n) / 20).is_some());
        }
    }
    for n in 100..400 {
        let at = u64::from(6 + (n - 100) / 10);
        assert!(begin(n, SYN, at).is_ok(), "newcomer {n}");
        assert!(ask(&sessions, client(n), SYN, at).is_some());
    }
    assert_eq!((sessions.len(), sessions.evicted()), (100, 300));
    // Whose answer may be on its way keeps its port for a tick.
    assert!((400..500).any(|n| begin(n, SYN, 36) == Err(Refused::Taken)));
    for n in (0..100).step_by(5) {
        assert_eq!(ask(&sessions, client(n), ACK, 36).map(|(_, state)| state), Some(State::Established));
    }
}

#[test]
fn with_a_rest_of_zero_a_port_is_free_at_once() {
    let sessions = Sessions::<u32>::new(8, [1; 16]);
    let life = Timeouts { snat_rest: 0, ..Timeouts::default() }.into();
    sessions.insert(client(1), flow(1), SYN, tick(0), life).unwrap();
    assert!(ask(&sessions, client(1), ACK, 0).is_some());
    sessions.remove(client(1));
    assert_eq!(sessions.insert(client(2), flow(1), SYN, tick(0), life), Ok(()));
    assert_eq!((sessions.resting(), sessions.cut_short()), (0, 0));
}
