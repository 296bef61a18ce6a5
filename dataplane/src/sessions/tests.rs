use std::net::IpAddr;

use sluice_config::model::{Protocol, Timeouts};

use super::caller::Talk;
use super::*;
use crate::address::Address;
use crate::tables::flat::Key;
use crate::time::Nanos;

fn life() -> Lifetimes {
    Timeouts { tcp_half_open: 10, tcp_established: 100, tcp_closing: 20, udp: 30, sctp: 40, snat_rest: 60 }.into()
}

/// Callers of one kind to test with.
trait Sample: Caller {
    fn nth(n: u32) -> Self;
}

impl Sample for u32 {
    fn nth(n: u32) -> Self {
        0x0a00_0000 + n
    }
}

impl Sample for u128 {
    fn nth(n: u32) -> Self {
        0x2001_0db8 << 96 | Self::from(n) << 64 | 7
    }
}

/// Containers of three, who talk to as many as they can.
impl Sample for Talk<u32> {
    fn nth(n: u32) -> Self {
        Self { container: u32::nth(n % 3), far: u32::nth(100 + n / 6), far_port: (n / 3 % 2) as u16 }
    }
}

impl Sample for Talk<u128> {
    fn nth(n: u32) -> Self {
        let Talk { container, far, far_port } = Talk::<u32>::nth(n);
        Self { container: container.into(), far: far.into(), far_port }
    }
}

impl Sample for Talk<Clashing> {
    fn nth(n: u32) -> Self {
        let Talk { container, far, far_port } = Talk::<u128>::nth(n);
        Self { container: Clashing(container), far: Clashing(far), far_port }
    }
}

/// IPv6 as it would be if every digest and every hash clashed with another's.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Default, Debug)]
struct Clashing(u128);

impl Sample for Clashing {
    fn nth(n: u32) -> Self {
        Self(n.into())
    }
}

impl Key for Clashing {
    const NONE: Self = Self(0);

    fn folded(self, multiplier: u64) -> u64 {
        self.0.folded(multiplier)
    }
}

impl Address for Clashing {
    const OCTETS: usize = 16;
    type End = (u128, u32);
    type Beside = Apart;
    type Ends = Apart;

    fn from_ip(ip: IpAddr) -> Option<Self> {
        u128::from_ip(ip).map(Self)
    }

    fn to_ip(self) -> IpAddr {
        self.0.to_ip()
    }

    fn words(self) -> [u64; 2] {
        self.0.words()
    }

    fn end(self, port: u16, number: u8) -> Self::End {
        self.0.end(port, number)
    }

    fn next(self) -> Option<Self> {
        self.0.next().map(Self)
    }

    fn district(self) -> usize {
        self.0.district()
    }

    fn first_octet(self) -> u8 {
        self.0.first_octet()
    }

    fn octet_range(octet: u8) -> (Self, Self) {
        let (first, last) = u128::octet_range(octet);
        (Self(first), Self(last))
    }
}

#[derive(Debug, Default)]
struct Apart(beside::Whole, beside::Ends);

impl Beside<Talk<Clashing>> for Apart {
    fn hash(_key: MixKey, talk: Talk<Clashing>, _port_and_protocol: u32) -> u64 {
        talk.far.0 as u64 & 1
    }

    fn tag(_talk: Talk<Clashing>, _hash: u64) -> u32 {
        9
    }

    fn is(&self, talk: Talk<Clashing>) -> bool {
        self.1.is(plain(talk))
    }

    fn set(&self, talk: Talk<Clashing>) {
        self.1.set(plain(talk));
    }

    fn get(&self, tag: u32) -> Talk<Clashing> {
        let Talk { container, far, far_port } = self.1.get(tag);
        Talk { container: Clashing(container), far: Clashing(far), far_port }
    }
}

fn plain(talk: Talk<Clashing>) -> Talk<u128> {
    Talk { container: talk.container.0, far: talk.far.0, far_port: talk.far_port }
}

impl Beside<Clashing> for Apart {
    fn hash(_key: MixKey, ip: Clashing, _port_and_service: u32) -> u64 {
        ip.0 as u64 & 1
    }

    fn tag(_ip: Clashing, _hash: u64) -> u32 {
        9
    }

    fn is(&self, ip: Clashing) -> bool {
        Beside::<u128>::is(&self.0, ip.0)
    }

    fn set(&self, ip: Clashing) {
        Beside::<u128>::set(&self.0, ip.0);
    }

    fn get(&self, tag: u32) -> Clashing {
        Clashing(Beside::<u128>::get(&self.0, tag))
    }
}

fn client<A: Sample>(n: u32) -> Client<A> {
    Client { ip: A::nth(n), port: 1000, service: 1 }
}

fn flow(n: u32) -> Flow {
    Flow { backend: 1 + n / 60_000, snat: 0, port: 1024 + (n % 60_000) as u16, protocol: Protocol::Tcp }
}

fn tick(seconds: u64) -> Tick {
    Nanos::from_seconds(seconds).tick()
}

/// The session that a client's packet finds, as it was before the packet.
fn ask<A: Caller>(sessions: &Sessions<A>, c: Client<A>, flags: u8, at: u64) -> Option<(Flow, State)> {
    let hash = sessions.expect_client(c);
    let before = sessions.find_client(c, hash).map(|place| sessions.chosen(place));
    let (choice, over) = sessions.forward(c, hash, flags, tick(at), &life())?;
    let (flow, state) = before.map(|chosen| (chosen.flow(), chosen.state()))?;
    let told = (choice.backend(), choice.snat(), choice.port(), over);
    assert_eq!(told, (flow.backend, flow.snat, flow.port, state.over()));
    Some((flow, state))
}

fn answer<A: Caller>(sessions: &Sessions<A>, f: Flow, flags: u8, at: u64) -> Option<Client<A>> {
    sessions.reverse(f, sessions.expect_flow(f), flags, tick(at), life())
}

/// The same, told apart by whom it goes to.
fn answer_to<A: Caller>(sessions: &Sessions<A>, to: A, f: Flow, flags: u8, at: u64) -> Option<Client<A>> {
    sessions.reverse_of(f, to, sessions.expect_flow_of(f, to), flags, tick(at), life())
}

#[test]
fn both_directions_find_each_other() {
    let sessions = Sessions::<u32>::new(100, [1; 16]);
    sessions.insert(client(1), flow(1), SYN, tick(0), life()).unwrap();
    assert_eq!(ask(&sessions, client(1), SYN, 0), Some((flow(1), State::HalfOpen)));
    assert_eq!(answer(&sessions, flow(1), SYN | ACK, 0), Some(client(1)));
    assert_eq!(ask(&sessions, client(2), SYN, 0), None);
    assert_eq!(answer(&sessions, flow(2), ACK, 0), None);
}

#[test]
fn a_handshake_lengthens_and_a_fin_shortens_the_life() {
    let sessions = Sessions::<u32>::new(100, [1; 16]);
    for n in 0..3 {
        sessions.insert(client(n), flow(n), SYN, tick(0), life()).unwrap();
    }
    ask(&sessions, client(1), ACK, 2);
    ask(&sessions, client(2), ACK, 2);
    answer(&sessions, flow(2), FIN | ACK, 2);
    assert_eq!(ask(&sessions, client(0), SYN, 20), None, "half open");
    assert_eq!(ask(&sessions, client(2), ACK, 30), None, "closing");
    assert_eq!(ask(&sessions, client(1), ACK, 90), Some((flow(1), State::Established)));
    assert_eq!(sessions.len(), 1);
}

#[test]
fn a_flow_met_half_way_is_established_once_its_client_goes_on_with_it() {
    let sessions = Sessions::<u32>::new(100, [1; 16]);
    for n in 0..4 {
        sessions.insert(client(n), flow(n), ACK, tick(0), life()).unwrap();
    }
    assert!(answer(&sessions, flow(1), ACK, 2).is_some() && ask(&sessions, client(2), ACK, 2).is_some());
    answer(&sessions, flow(3), RST, 2);
    assert_eq!(answer(&sessions, flow(2), ACK, 60), Some(client(2)));
    for n in [0, 1, 3] {
        assert_eq!(ask(&sessions, client(n), ACK, 60), None, "client {n}");
    }
}

#[test]
fn replies_alone_keep_a_session_alive() {
    let sessions = Sessions::<u32>::new(100, [1; 16]);
    sessions.insert(client(1), flow(1), SYN, tick(0), life()).unwrap();
    ask(&sessions, client(1), ACK, 0);
    for at in (0..500).step_by(50) {
        assert_eq!(answer(&sessions, flow(1), ACK, at), Some(client(1)), "at {at} s");
        assert_eq!(sessions.sweep(1 << 20, tick(at), life(), |_, _| true), 0);
    }
    assert_eq!(sessions.sweep(1 << 20, tick(700), life(), |_, _| true), 1);
    assert_eq!(answer(&sessions, flow(1), ACK, 700), None);
    assert!(sessions.is_empty());
}

#[test]
fn a_full_table_prefers_the_established() {
    let sessions = Sessions::<u32>::new(64, [1; 16]);
    for n in 0..64 {
        sessions.insert(client(n), flow(n), SYN, tick(0), life()).unwrap();
        if n < 32 {
            ask(&sessions, client(n), ACK, 0);
        }
    }
    let flood = (1000..3000).filter(|n| sessions.insert(client(*n), flow(*n), SYN, tick(1), life()).is_ok()).count();
    assert!(flood > 100 && sessions.evicted() > 100, "half-open ones made way {flood} times");
    assert_eq!((sessions.len(), sessions.of_service(1)), (64, 64));
    for n in 0..32 {
        assert_eq!(ask(&sessions, client(n), ACK, 1), Some((flow(n), State::Established)), "client {n}");
    }
}

#[test]
fn a_million_sessions_find_room_at_half_load() {
    let sessions = Sessions::<u32>::new(1 << 17, [3; 16]);
    for n in 0..1 << 17 {
        assert_eq!(sessions.insert(client(n), flow(n), SYN, tick(0), life()), Ok(()), "session {n}");
    }
    assert_eq!(sessions.iter().count(), 1 << 17);
}

#[test]
fn a_session_ends_with_its_backend() {
    let sessions = Sessions::<u32>::new(100, [1; 16]);
    sessions.insert(client(1), flow(1), SYN, tick(0), life()).unwrap();
    sessions.insert(client(2), Flow { backend: 9, ..flow(2) }, SYN, tick(0), life()).unwrap();
    assert_eq!(sessions.sweep(1 << 20, tick(0), life(), |_, backend| backend == 9), 1);
    assert_eq!(ask(&sessions, client(1), ACK, 0), None);
    assert!(ask(&sessions, client(2), ACK, 0).is_some());
}

#[test]
fn clients_whose_digests_clash_keep_their_own_sessions() {
    let sessions = Sessions::<Clashing>::new(100, [1; 16]);
    for n in 0..8 {
        sessions.insert(client(2 * n), flow(n), SYN, tick(0), life()).unwrap();
    }
    for n in 0..8 {
        assert_eq!(ask(&sessions, client(2 * n), SYN, 0), Some((flow(n), State::HalfOpen)));
        assert_eq!(answer(&sessions, flow(n), ACK, 0), Some(client(2 * n)));
    }
    sessions.remove(client(6));
    assert_eq!(ask(&sessions, client(6), SYN, 0), None);
    assert_eq!(answer(&sessions, flow(3), ACK, 0), None);
    assert_eq!(sessions.len(), 7);
}

#[test]
fn a_direct_session_is_one_entry() {
    let sessions = Sessions::<u32>::new(100, [1; 16]);
    let direct = Flow::direct(7, Protocol::Tcp);
    for n in 0..50 {
        sessions.insert(client(n), direct, SYN, tick(0), life()).unwrap();
    }
    assert_eq!(ask(&sessions, client(1), ACK, 0), Some((direct, State::HalfOpen)));
    assert!(sessions.reverse.buckets.iter().all(|b| b.keys.iter().all(|k| k.load(Relaxed) == 0)));
    assert_eq!((sessions.ports_held(u32::nth(1)), direct.way()), (0, Way::Direct));
    assert_eq!(sessions.sweep(1 << 20, tick(20), life(), |_, _| true), 49);
    assert_eq!(ask(&sessions, client(1), RST, 20), Some((direct, State::Established)));
    assert_eq!(ask(&sessions, client(1), ACK, 60), None);
    assert_eq!((sessions.len(), sessions.resting()), (0, 0));
}

fn preserves<A: Sample>() {
    let sessions = Sessions::<A>::new(100, [1; 16]);
    // One backend, one port, several clients: they differ in their addresses only.
    let kept = Flow::preserved(7, 1000, Protocol::Udp);
    let reply = |n: u32, at: u64| {
        let (ip, now) = (A::nth(n), tick(at));
        let hash = sessions.expect_flow_of(kept, ip);
        let mut homes = [Home::First, Home::Second].into_iter();
        homes.find_map(|home| sessions.reverse_preserved_in(home, kept, ip, hash, 0, now, life()))
    };
    for n in 0..5 {
        sessions.insert(client(n), kept, 0, tick(0), life()).unwrap();
    }
    for n in 0..5 {
        assert_eq!(ask(&sessions, client(n), 0, 0), Some((kept, State::Udp)));
        assert_eq!(reply(n, 20), Some(client(n)));
    }
    assert_eq!(reply(5, 20), None);
    let other = Client { service: 2, ..client(1) };
    assert_eq!(
        sessions.insert(other, kept, 0, tick(20), life()),
        Err(Refused::Taken),
        "its replies would be ambiguous"
    );
    sessions.remove(client(1));
    assert_eq!((reply(1, 20), reply(2, 20)), (None, Some(client(2))));
    assert_eq!(sessions.insert(other, kept, 0, tick(20), life()), Ok(()));
    assert_eq!(reply(1, 20), Some(other));
    assert_eq!(reply(3, 90), None, "expired");
}

#[test]
fn a_reply_to_the_clients_own_port_finds_its_service() {
    preserves::<u32>();
    preserves::<u128>();
    preserves::<Clashing>();
}

#[test]
fn the_second_packet_of_a_burst_does_not_begin_a_second_session() {
    let sessions = Sessions::<u32>::new(100, [1; 16]);
    sessions.insert(client(1), flow(1), SYN, tick(0), life()).unwrap();
    assert_eq!(sessions.insert(client(1), flow(2), SYN, tick(0), life()), Err(Refused::Known));
    assert_eq!(sessions.insert(client(1), flow(2), SYN, tick(40), life()), Ok(()), "that session has expired");
    assert_eq!((sessions.len(), answer(&sessions, flow(1), ACK, 40)), (1, None));
}

mod flood;
mod masquerade;
mod model;
mod observed;
mod ports;

/// What entries tell by a few bits is what their states say.
#[test]
fn bits_of_entries_say_what_their_states_say() {
    let states = [State::HalfOpen, State::Established, State::Closing, State::Udp, State::Sctp, State::Refused];
    for state in states {
        let chosen = Chosen::new(flow(1), state, tick(4));
        assert_eq!(chosen.state(), state);
        assert_eq!(chosen.is_over(), state.over(), "{state:?}");
        assert_eq!(chosen.aged().is_passed_over(), state.on_probation(), "{state:?}");
        assert!(!chosen.is_passed_over(), "a young one");
        assert_eq!(chosen.dispensable(tick(4)) > 0, state.on_probation(), "{state:?}");
        let settled = (0..=u8::MAX).filter(|flags| flags & (FIN | RST) == 0).all(|f| state.after(f, true) == state);
        assert!(settled || !chosen.is_settled(), "{state:?}");
        assert_eq!(chosen.is_settled(), !state.on_probation(), "{state:?}");
        assert_eq!(chosen.heard_at(tick(8)), chosen.with(state, tick(8)));
    }
}
