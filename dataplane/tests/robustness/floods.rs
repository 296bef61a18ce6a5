//! Rows 27 to 35 and 65: too much of something, and tables that change under it.

use sluice_dataplane::sessions::{Client, Flow, Lifetimes, SYN, Sessions};
use sluice_dataplane::time::Nanos;

use super::*;

/// Sessions that a machine's worker has room for (`common::Machine`).
const ROOM: usize = 4096;

fn source(n: u32) -> String {
    std::net::Ipv4Addr::from_bits(0x2e00_0000 + n).to_string()
}

/// Establishes `count` connections of clients numbered from `first`; what each packet becomes.
fn establish(machine: &mut Machine, first: u32, count: u32) -> Vec<(u32, Ends)> {
    (first..first + count)
        .map(|n| {
            machine.pass(0, tcp((&source(n), 5000), (VIP, 80), "S"));
            (n, ends(&machine.pass(0, tcp((&source(n), 5000), (VIP, 80), "A"))))
        })
        .collect()
}

type Ends = ((String, u16), (String, u16));

fn unchanged(machine: &mut Machine, established: &[(u32, Ends)]) {
    for (n, expected) in established {
        assert_eq!(ends(&machine.pass(0, tcp((&source(*n), 5000), (VIP, 80), "A"))), *expected, "client {n}");
    }
}

#[test]
fn row_27_a_syn_flood_of_ten_times_the_table_moves_no_established_connection() {
    let mut machine = Machine::new(desired(1));
    let established = establish(&mut machine, 0, 1000);
    let mut sent = 0;
    for burst in 0..10 * ROOM as u32 / 256 {
        let flood: Vec<_> =
            (0..256).map(|n| tcp((&source(1_000_000 + burst * 256 + n), 5000), (VIP, 80), "S")).collect();
        sent += flood.len();
        machine.feed(0, 0, &flood);
    }
    assert_eq!(sent, 10 * ROOM);
    unchanged(&mut machine, &established);
    assert!(machine.total(|c| c.sessions_evicted.get()) > 8 * ROOM as u64, "half-open ones give way to each other");
    assert!(machine.total(|c| c.sessions.get()) <= ROOM as u64);
    // An honest client gets through in the middle of it.
    establish(&mut machine, 2_000_000, 1);
}

#[test]
fn row_28_a_table_full_of_established_connections_refuses_newcomers_alone() {
    let mut machine = Machine::new(quiet(desired(1)));
    let mut established = vec![];
    for n in 0..ROOM as u32 + 500 {
        if machine.feed(0, 0, &[tcp((&source(n), 5000), (VIP, 80), "S")]).is_empty() {
            continue;
        }
        established.push((n, ends(&machine.pass(0, tcp((&source(n), 5000), (VIP, 80), "A")))));
    }
    assert_eq!(established.len(), ROOM, "every place is used");
    assert_eq!((machine.drops(DropReason::SessionsFull), machine.total(|c| c.dropped())), (500, 500));
    unchanged(&mut machine, &established[..500]);
    all_refused(&mut machine, 0, &[tcp((&source(9_000_000), 5000), (VIP, 80), "S")], DropReason::SessionsFull);
}

fn client(n: u32) -> Client {
    Client { ip: 0x2e00_0000 + n, port: 5000, service: 1 }
}

#[test]
fn row_29_clients_that_meet_in_one_bucket_under_one_key_are_spread_by_another() {
    const BUCKETS: u64 = 1024;
    let known = Sessions::<u32>::new(64, [1; 16]);
    let meeting: Vec<u32> =
        (0..1_000_000).filter(|n| known.expect_client(client(*n)).is_multiple_of(BUCKETS)).collect();
    assert!(meeting.len() > 800, "{} of a million meet", meeting.len());
    let ours = Sessions::<u32>::new(BUCKETS as usize * 4, [2; 16]);
    let mut loads = vec![0; BUCKETS as usize];
    let life = Lifetimes::from(Timeouts::default());
    let now = Nanos::from_seconds(1).tick();
    for (number, n) in meeting.iter().enumerate() {
        loads[(ours.expect_client(client(*n)) % BUCKETS) as usize] += 1;
        let flow = Flow { backend: 1, snat: 0, port: 1024 + number as u16, protocol: Protocol::Tcp };
        assert_eq!(ours.insert(client(*n), flow, SYN, now, life), Ok(()));
    }
    assert_eq!((ours.len(), ours.evicted()), (meeting.len(), 0));
    assert!(*loads.iter().max().unwrap() <= 8, "a thousand balls in a thousand bins: {:?}", loads.iter().max());
}

#[test]
fn row_30_another_key_gives_other_hashes() {
    let [one, same, other] = [[1; 16], [1; 16], [2; 16]].map(|key| Sessions::<u32>::new(64, key));
    let hashes = |sessions: &Sessions| (0..100).map(|n| sessions.expect_client(client(n))).collect::<Vec<_>>();
    assert_eq!(hashes(&one), hashes(&same));
    assert!(hashes(&one).iter().zip(hashes(&other)).all(|(a, b)| *a != b));
}

/// 64 SNAT ports towards each of two backends.
fn few_ports() -> Desired {
    let mut desired = desired(1);
    desired.local.snat_ports = (1024, 1024 + 63);
    desired
}

#[test]
fn row_31_a_client_that_takes_all_ports_is_refused_and_others_are_served() {
    let mut machine = Machine::new(quiet(few_ports()));
    let mut greedy = vec![];
    for port in 5000..5400 {
        let left = machine.feed(0, 0, &[tcp((CLIENT, port), (VIP, 80), "S")]);
        for (_, packet) in left {
            greedy.push((port, ends(&packet)));
            machine.pass(0, tcp((CLIENT, port), (VIP, 80), "A"));
        }
    }
    let refused = machine.drops(DropReason::SnatQuota);
    assert_eq!((refused + greedy.len() as u64, machine.total(|c| c.dropped())), (400, refused));
    assert!(refused > 200 && greedy.len() < 128, "{refused} refused, {} served", greedy.len());
    // Whoever comes later finds what was kept back: of each backend's 64 ports at least 8, less what the client had of
    // them before it held its share.
    let served = (0..8).filter(|n| !machine.feed(0, 0, &[tcp((&source(*n), 5000), (VIP, 80), "S")]).is_empty()).count();
    assert_eq!(served, 8);
    let had = greedy.len();
    for (port, expected) in greedy {
        assert_eq!(ends(&machine.pass(0, tcp((CLIENT, port), (VIP, 80), "A"))), expected);
    }
    // Whose quota is larger than all ports gets them all.
    let mut desired = quiet(few_ports());
    desired.local.snat_quota = Some(1000);
    let mut machine = Machine::new(desired);
    let sent = (5000..5400).filter(|port| !machine.feed(0, 0, &[tcp((CLIENT, *port), (VIP, 80), "S")]).is_empty());
    let sent: Vec<u16> = sent.collect();
    assert_eq!((sent.len() > had, machine.drops(DropReason::SnatQuota)), (true, 0), "{}", sent.len());
    // The client is told at once where the operator wants that.
    let mut machine = Machine::new(few_ports());
    let mut resets = 0;
    for port in 5000..5400 {
        let answer = machine.pass(0, tcp((CLIENT, port), (VIP, 80), "S"));
        if ends(&answer).0.0 == VIP && answer[47] == 0x14 {
            resets += 1;
        } else {
            machine.pass(0, tcp((CLIENT, port), (VIP, 80), "A"));
        }
    }
    assert_eq!((resets, machine.total(|c| c.dropped())), (refused, 0));
}

#[test]
fn row_32_a_port_is_not_used_again_while_its_backend_may_remember_it() {
    let mut machine = Machine::new(quiet(few_ports()));
    let mut closed = vec![];
    for (_, (snat, (address, port))) in establish(&mut machine, 0, 60) {
        machine.pass(0, tcp((&address, port), (&snat.0, snat.1), "FA"));
        closed.push((snat, (address, port)));
    }
    // Sessions that are closing end after 30 seconds; their ports rest for a minute from the last packet.
    machine.now = Nanos::from_seconds(1 + 40);
    machine.workers[0].expire_all(machine.now);
    let mut served = 0;
    for n in 1000..1200 {
        let left = machine.feed(0, 0, &[tcp((&source(n), 5000), (VIP, 80), "S")]);
        for (_, packet) in left {
            assert!(!closed.contains(&ends(&packet)), "{:?} again", ends(&packet));
            machine.pass(0, tcp((&source(n), 5000), (VIP, 80), "A"));
            served += 1;
        }
    }
    assert_eq!(served, 128 - 60);
    machine.now = Nanos::from_seconds(1 + 70);
    machine.workers[0].expire_all(machine.now);
    let mut again = 0;
    for n in 2000..2200 {
        again += machine.feed(0, 0, &[tcp((&source(n), 5000), (VIP, 80), "S")]).len();
    }
    assert_eq!(again, 60);
}

#[test]
fn row_34_an_echo_flood_is_answered_at_its_rate_one_for_one_and_no_longer_than_asked() {
    let mut slow = desired(1);
    slow.local.answers.echo = 100;
    let mut machine = Machine::new(slow);
    let (mut asked, mut answered) = (0, 0);
    // 20,000 in two seconds.
    for _ in 0..200 {
        let flood = vec![ping(CLIENT, VIP); 100];
        let left = machine.feed(0, 0, &flood);
        assert!(left.iter().all(|(port, packet)| *port == 0 && packet.len() == flood[0].len()));
        (asked, answered) = (asked + flood.len(), answered + left.len());
        machine.now = Nanos(machine.now.0 + 10_000_000);
    }
    assert!((200..=211).contains(&answered), "{answered} of {asked}");
    assert_eq!(machine.drops(DropReason::EchoLimited) as usize, asked - answered);
}

#[test]
fn row_35_a_sender_that_believes_what_it_is_told_gets_through() {
    let mut machine = Machine::new(desired(1));
    let sized = |size: usize| {
        let mut packet = tcp((CLIENT, 5000), (NAMED, 80), "S");
        packet.resize(14 + size, 0);
        edited(&packet, 16, &(size as u16).to_be_bytes())
    };
    let told = machine.pass(0, edited(&sized(1500), 20, &[0x40]));
    assert_eq!(told[34..36], [3, 4], "fragmentation needed");
    let mtu = u16::from_be_bytes([told[40], told[41]]);
    assert_eq!((mtu, &told[26..30]), (1450, &ip(NAMED).octets()[..]));
    let there = machine.pass(0, edited(&sized(usize::from(mtu)), 20, &[0x40]));
    assert_eq!(there.len(), 14 + 1500, "the outer packet fills the underlay's MTU");
    assert_eq!(machine.total(|c| c.dropped()), 0);
}

#[test]
fn row_65_thousands_of_table_changes_under_load_lose_and_move_no_established_connection() {
    const SWAPS: u32 = if cfg!(debug_assertions) { 1000 } else { 10_000 };
    let mut machine = Machine::new(desired(1));
    let established = establish(&mut machine, 0, 200);
    for swap in 0..SWAPS {
        let mut changed = desired(1);
        let backends = &mut changed.shared.services[1].backends;
        for n in 0..swap % 7 {
            backends.push(backend(&format!("10.0.0.12:{}", 32000 + (swap + n) % 20), None));
        }
        // Now and then one drains; a draining backend keeps what it has.
        backends[swap as usize % 2].weight = u16::from(swap % 3 != 0);
        backends.sort();
        machine.publish(changed);
        let some = established.iter().skip(swap as usize % 50).step_by(50);
        let burst: Vec<_> = some.clone().map(|(n, _)| tcp((&source(*n), 5000), (VIP, 80), "A")).collect();
        let left = machine.feed(0, 0, &burst);
        let seen: Vec<_> = left.iter().map(|(_, packet)| ends(packet)).collect();
        let expected: Vec<_> = some.map(|(_, ends)| ends.clone()).collect();
        assert_eq!(seen, expected, "lost, moved or reordered at change {swap}");
    }
    unchanged(&mut machine, &established);
    assert_eq!((machine.total(|c| c.dropped()), machine.tables.left_out.len()), (0, 0));
    assert!(machine.tables.backends.len() < 64, "numbers are used again: {}", machine.tables.backends.len());
}
