//! A SYN flood from random sources, with everything counted.

use std::collections::VecDeque;

use super::*;

const ESTABLISHED: u32 = 131_072;
const CAPACITY: usize = 524_288;
/// Ten million in an optimised build: `cargo test --release -p sluice-dataplane flood`.
const SYNS: u64 = if cfg!(debug_assertions) { 600_000 } else { 10_000_000 };
/// SYNs a second; with it the clock goes from tick to tick, and half-open sessions expire.
const RATE: u64 = 500_000;

/// SplitMix64 (Steele, Lea and Flood 2014).
fn random(state: &mut u64) -> u64 {
    *state = state.wrapping_add(0x9e37_79b9_7f4a_7c15);
    let z = (*state ^ *state >> 30).wrapping_mul(0xbf58_476d_1ce4_e5b9);
    let z = (z ^ z >> 27).wrapping_mul(0x94d0_49bb_1331_11eb);
    z ^ z >> 31
}

/// Sources outside of 10.0.0.0/8, which the established are from.
fn source(random: u64) -> Client {
    Client { ip: (random >> 32) as u32 | 0x8000_0000, port: random as u16, service: 1 }
}

fn choose(random: u64, direct: bool) -> Flow {
    let backend = 1 + (random % 100) as u32;
    match direct {
        true => Flow::direct(backend, Protocol::Tcp),
        false => Flow { backend, snat: 0, port: 1024 + (random >> 32) as u16 % 64_000, protocol: Protocol::Tcp },
    }
}

/// Sends a SYN; whether a session was made.
fn syn(sessions: &Sessions, c: Client, draw: u64, direct: bool, now: Tick) -> bool {
    let hash = sessions.expect_client(c);
    if sessions.forward(c, hash, SYN, now, &life()).is_some() {
        return false;
    }
    let new = sessions.expect(c, hash, choose(draw, direct));
    let ports = (0..64).map(|n| 1024 + ((draw >> 32) as u16 % 64_000 + 7 * n) % 64_000);
    sessions.begin_on(&new, ports, u32::MAX, SYN, now, life()).is_ok()
}

fn flood(direct: bool) {
    let sessions = Sessions::new(CAPACITY, [9; 16]);
    let mut dice = 1;
    for n in 0..ESTABLISHED {
        assert!(syn(&sessions, client(n), random(&mut dice), direct, tick(0)));
        assert!(ask(&sessions, client(n), ACK, 0).is_some());
    }
    let before: Vec<_> = (0..ESTABLISHED).map(|n| ask(&sessions, client(n), ACK, 0)).collect();
    let (mut made, mut expired) = (u64::from(ESTABLISHED), 0);
    let mut shaking = VecDeque::new();
    let (mut shaken, mut tried) = (0, 0);
    for n in 0..SYNS {
        let seconds = n / RATE;
        made += u64::from(syn(&sessions, source(random(&mut dice)), random(&mut dice), direct, tick(seconds)));
        if n % 64 == 0 {
            expired += u64::from(sessions.sweep(sessions.sweep_step(), tick(seconds), life(), |_, _| true));
        }
        // An honest client now and then, whose ACK comes 50 ms later.
        if n % 1000 == 0 {
            let honest = client(ESTABLISHED + n as u32);
            made += u64::from(syn(&sessions, honest, random(&mut dice), direct, tick(seconds)));
            shaking.push_back((n + RATE / 20, honest));
        }
        if let Some((_, honest)) = shaking.pop_front_if(|(due, _)| *due <= n) {
            tried += 1;
            shaken += u32::from(ask(&sessions, honest, ACK, seconds).is_some());
        }
    }
    for (n, was) in before.iter().enumerate() {
        assert_eq!(ask(&sessions, client(n as u32), ACK, SYNS / RATE), *was, "established session {n}");
    }
    assert!(made > SYNS / 2 && sessions.evicted() > 0, "{made} made, {} evicted", sessions.evicted());
    // The others' second SYN, a second later, finds its place as the first one did.
    assert!(shaken * 100 >= tried * 98, "{shaken} of {tried} honest handshakes came through");
    assert!(sessions.len() <= CAPACITY);
    assert_eq!(sessions.iter().count(), sessions.len());
    // Sessions that a look-up or an insertion found expired are in neither count.
    assert!(made - expired - sessions.evicted() >= sessions.len() as u64);
    let reverse = sessions.reverse.buckets.iter().flat_map(|b| &b.keys).filter(|k| k.load(Relaxed) != 0).count();
    assert_eq!(reverse, if direct { 0 } else { sessions.len() + sessions.resting() });
}

#[test]
fn a_table_full_of_half_open_sessions_refuses_nobody() {
    let sessions = Sessions::<u32>::new(4096, [9; 16]);
    for n in 0..100_000 {
        let made = sessions.insert(client(n), Flow::direct(1, Protocol::Tcp), SYN, tick(0), life());
        assert_eq!(made, Ok(()), "client {n}");
    }
    assert_eq!((sessions.len(), sessions.evicted()), (4096, 100_000 - 4096));
}

#[test]
fn no_established_session_is_lost_to_a_flood_of_syns_to_a_dsr_service() {
    flood(true);
}

#[test]
fn no_established_session_is_lost_to_a_flood_of_syns_to_a_nat_service() {
    flood(false);
}
