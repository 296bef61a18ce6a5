//! What sessions tell of backends.

use super::*;
use crate::event::Seen;

fn seen<A: Caller>(sessions: &Sessions<A>) -> Vec<(u32, Seen)> {
    let mut all = Vec::new();
    sessions.take_seen(|backend, seen| all.push((backend, seen)));
    all
}

#[test]
fn a_handshake_without_an_answer_is_told_once_and_one_that_is_answered_never() {
    let sessions = Sessions::<u32>::new(100, [1; 16]);
    for n in 0..3 {
        sessions.insert(client(n), flow(n), SYN, tick(0), life()).unwrap();
    }
    answer(&sessions, flow(2), SYN | ACK, 0);
    ask(&sessions, client(1), SYN, 0);
    assert_eq!(seen(&sessions), [], "a duplicate on the way is no repetition");
    for at in [4, 8] {
        ask(&sessions, client(1), SYN, at);
        ask(&sessions, client(2), SYN, at);
    }
    assert_eq!(seen(&sessions), [(1, Seen::Unanswered)], "the client had to repeat its SYN");
    sessions.sweep(1 << 20, tick(60), life(), |_, _| true);
    assert_eq!(seen(&sessions), [(1, Seen::Unanswered)], "another gave up");
    assert!(sessions.is_empty());
}

#[test]
fn a_refusal_is_told_and_so_is_the_first_answer_after_it() {
    let sessions = Sessions::<u128>::new(100, [1; 16]);
    for n in 0..4 {
        sessions.insert(client(n), flow(n), SYN, tick(0), life()).unwrap();
    }
    answer(&sessions, flow(0), RST | ACK, 0);
    answer(&sessions, flow(0), RST | ACK, 0);
    answer(&sessions, flow(1), SYN | ACK, 0);
    answer(&sessions, flow(2), SYN | ACK, 0);
    assert_eq!(seen(&sessions), [(1, Seen::Refused), (1, Seen::Answered)]);
    ask(&sessions, client(2), ACK, 0);
    answer(&sessions, flow(2), RST, 0);
    assert_eq!(seen(&sessions), [], "a connection that is reset later says nothing of the backend");
}

#[test]
fn neither_udp_nor_what_a_reload_ends_tells_anything() {
    let sessions = Sessions::<u32>::new(100, [1; 16]);
    let udp = Flow { protocol: Protocol::Udp, ..flow(1) };
    sessions.insert(client(1), udp, 0, tick(0), life()).unwrap();
    sessions.insert(client(2), flow(2), SYN, tick(0), life()).unwrap();
    sessions.sweep(1 << 20, tick(0), life(), |_, backend| backend != 1);
    assert!(sessions.is_empty());
    sessions.insert(client(1), udp, 0, tick(0), life()).unwrap();
    sessions.sweep(1 << 20, tick(90), life(), |_, _| true);
    assert_eq!((seen(&sessions), sessions.len()), (vec![], 0));
}

#[test]
fn what_begins_without_a_syn_says_nothing_of_the_backend() {
    let sessions = Sessions::<u32>::new(100, [1; 16]);
    for n in 0..3 {
        sessions.insert(client(n), flow(n), ACK, tick(0), life()).unwrap();
    }
    answer(&sessions, flow(0), RST, 0);
    ask(&sessions, client(1), SYN, 4);
    sessions.sweep(1 << 20, tick(60), life(), |_, _| true);
    assert_eq!((seen(&sessions), sessions.len()), (vec![], 0), "a flood of bare ACKs ejects nobody");
}

#[test]
fn what_there_is_no_room_for_is_counted() {
    let sessions = Sessions::<u32>::new(1000, [1; 16]);
    for n in 0..200 {
        sessions.insert(client(n), flow(n), SYN, tick(0), life()).unwrap();
    }
    sessions.sweep(1 << 20, tick(60), life(), |_, _| true);
    let mut told = 0;
    let lost = sessions.take_seen(|_, _| told += 1);
    assert_eq!((told, lost, sessions.take_seen(|_, _| ())), (64, 136, 0));
}
