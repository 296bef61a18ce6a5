//! Sessions whose far end is part of their key.

use super::*;

fn talk(container: u32, far: u32, far_port: u16) -> Client<Talk<u32>> {
    Client { ip: Talk { container: u32::nth(container), far: u32::nth(far), far_port }, port: 5000, service: 6 }
}

/// What a reply from the far end alone tells.
fn from_far(far: u32, far_port: u16) -> Talk<u32> {
    Talk { container: 0, far: u32::nth(far), far_port }
}

#[test]
fn one_port_of_ours_serves_as_many_far_ends_as_there_are() {
    let sessions = Sessions::<Talk<u32>>::new(2000, [1; 16]);
    for n in 0..1000 {
        sessions.insert(talk(1, n / 2, n as u16 % 2), flow(1), SYN, tick(0), life()).unwrap();
    }
    for n in 0..1000 {
        let (far, port) = (n / 2, n as u16 % 2);
        assert_eq!(answer_to(&sessions, from_far(far, port), flow(1), ACK, 0), Some(talk(1, far, port)));
    }
    assert_eq!(answer_to(&sessions, from_far(1, 2), flow(1), ACK, 0), None, "another port of a far end");
    assert_eq!(answer_to(&sessions, from_far(500, 0), flow(1), ACK, 0), None, "somebody else");
    assert_eq!(answer_to(&sessions, from_far(1, 0), flow(2), ACK, 0), None, "another port of ours");
    let again = sessions.insert(talk(2, 7, 1), flow(1), SYN, tick(0), life());
    assert_eq!(again, Err(Refused::Taken), "two containers to one far end");
}

#[test]
fn a_port_rests_towards_the_far_end_that_may_remember_it() {
    let sessions = Sessions::<Talk<u32>>::new(100, [1; 16]);
    for far in [7, 8] {
        sessions.insert(talk(1, far, 80), flow(1), SYN, tick(0), life()).unwrap();
        ask(&sessions, talk(1, far, 80), ACK, 0);
    }
    sessions.remove(talk(1, 7, 80));
    assert_eq!(answer_to(&sessions, from_far(7, 80), flow(1), ACK, 0), None);
    assert_eq!(answer_to(&sessions, from_far(8, 80), flow(1), ACK, 0), Some(talk(1, 8, 80)));
    assert_eq!(sessions.insert(talk(2, 7, 80), flow(1), SYN, tick(30), life()), Err(Refused::Taken));
    sessions.insert(talk(2, 9, 80), flow(1), SYN, tick(30), life()).unwrap();
    sessions.insert(talk(2, 7, 80), flow(1), SYN, tick(70), life()).unwrap();
}

#[test]
fn nothing_is_told_of_handshakes_and_a_container_holds_its_ports() {
    let sessions = Sessions::<Talk<u32>>::new(100, [1; 16]);
    for far in 0..10 {
        sessions.insert(talk(1, far, 80), flow(far), SYN, tick(0), life()).unwrap();
        assert!(answer_to(&sessions, from_far(far, 80), flow(far), RST, 0).is_some());
    }
    assert_eq!(sessions.ports_held(talk(1, 99, 1).ip), 10);
    sessions.sweep(usize::MAX, tick(500), life(), |_, _| true);
    assert_eq!((sessions.len(), sessions.ports_held(talk(1, 99, 1).ip)), (0, 0));
    assert_eq!(sessions.take_seen(|_, _| panic!("told")), 0);
}
