use std::collections::{HashMap, HashSet, VecDeque};

use proptest::prelude::*;

use super::*;
use crate::wire::{ETHERNET, golden, long, word};

const SECOND: u64 = 1_000_000_000;
const LIMITS: Limits =
    Limits { datagrams: 64, waiting: 6, waiting_each: 3, known_for: 5 * SECOND, wait_for: 2 * SECOND };

fn datagram(id: u32) -> Datagram<u32> {
    Datagram { source: 0x0a00_0001, destination: 0x0a00_0002, id, protocol: 17 }
}

fn drain<A: Address, V: Copy>(table: &mut Fragments<A, V>) -> Vec<(u16, Option<V>)> {
    std::iter::from_fn(|| table.released()).collect()
}

#[test]
fn parts_are_told_apart_and_what_cannot_be_is_dropped() {
    use DropReason::{FragmentLength, FragmentTiny};
    let cases = [
        ("atomic", 6, 0, false, 3, Ok(Part::Whole)),
        ("first", 6, 0, true, 24, Ok(Part::First)),
        ("first of UDP", 17, 0, true, 8, Ok(Part::First)),
        ("last, of any length", 6, 3, false, 1, Ok(Part::Later)),
        ("tiny: TCP flags are in the second fragment", 6, 0, true, 16, Err(FragmentTiny)),
        ("overlaps the TCP flags (RFC 3128)", 6, 1, true, 64, Err(FragmentTiny)),
        ("overlaps the TCP checksum", 6, 2, false, 64, Err(FragmentTiny)),
        ("overlaps SCTP's checksum", 132, 1, true, 64, Err(FragmentTiny)),
        ("tiny SCTP", 132, 0, true, 8, Err(FragmentTiny)),
        ("not a multiple of 8", 17, 1, true, 9, Err(FragmentLength)),
        ("empty", 17, 1, false, 0, Err(FragmentLength)),
        ("ping of death", 1, 8189, false, 4, Err(FragmentLength)),
        ("the longest", 1, 8189, false, 3, Ok(Part::Later)),
    ];
    for (name, protocol, offset, more, octets, expected) in cases {
        assert_eq!(part(protocol, offset, more, octets, 20), expected, "{name}");
    }
}

#[test]
fn those_that_came_early_are_released_in_order_and_those_that_come_late_follow() {
    let mut table = Fragments::new(HashKey::new([7; 16]), LIMITS);
    let (first, second) = (table.later(datagram(1), Nanos(1)), table.later(datagram(1), Nanos(2)));
    let (Later::Hold(a), Later::Hold(b)) = (first, second) else { panic!("{first:?} {second:?}") };
    assert_eq!(drain(&mut table), []);
    table.first(datagram(1), "backend", Nanos(3));
    assert_eq!(table.later(datagram(1), Nanos(4)), Later::Follow("backend"));
    assert_eq!(drain(&mut table), [(a, Some("backend")), (b, Some("backend"))]);
    assert_eq!(table.holding(), 0);
    let other = Datagram { destination: 9, ..datagram(1) };
    assert!(matches!(table.later(other, Nanos(5)), Later::Hold(_)));
}

#[test]
fn room_is_bounded_per_datagram_and_in_all() {
    let mut table = Fragments::<_, u8>::new(HashKey::new([7; 16]), LIMITS);
    let full = Later::Drop(DropReason::FragmentsFull);
    let mut held = |id| table.later(datagram(id), Nanos(1)) != full;
    assert_eq!([held(1), held(1), held(1), held(1)], [true, true, true, false]);
    assert_eq!([held(2), held(2), held(3), held(4)], [true, true, true, false]);
    assert_eq!(table.holding(), 6);
}

#[test]
fn what_waits_too_long_is_given_up_and_a_verdict_is_forgotten() {
    let mut table = Fragments::new(HashKey::new([7; 16]), LIMITS);
    assert!(matches!(table.later(datagram(1), Nanos(0)), Later::Hold(_)));
    table.first(datagram(2), 22, Nanos(0));
    table.sweep(table.buckets(), Nanos(2 * SECOND - 1));
    assert_eq!(drain(&mut table).len(), 0);
    table.sweep(table.buckets(), Nanos(2 * SECOND));
    assert_eq!(drain(&mut table).iter().map(|r| r.1).collect::<Vec<_>>(), [None]);
    assert_eq!(table.later(datagram(2), Nanos(5 * SECOND - 1)), Later::Follow(22));
    assert!(matches!(table.later(datagram(2), Nanos(5 * SECOND)), Later::Hold(_)));
}

#[test]
fn a_flood_of_later_fragments_pushes_out_no_verdict() {
    let limits = Limits { datagrams: 4, waiting: 100, ..LIMITS };
    let mut table = Fragments::new(HashKey::new([7; 16]), limits);
    table.first(datagram(1), 1, Nanos(0));
    for id in 2..100_000 {
        let _ = table.later(datagram(id), Nanos(u64::from(id)));
        drain(&mut table);
    }
    assert_eq!(table.later(datagram(1), Nanos(SECOND)), Later::Follow(1));
    for id in 0..10 {
        table.first(datagram(id), id, Nanos(SECOND));
    }
    assert_eq!(table.later(datagram(9), Nanos(SECOND)), Later::Follow(9), "the newest verdict is remembered");
    assert_eq!(table.holding(), drain(&mut table).len());
}

#[test]
fn nothing_waits_where_nothing_may() {
    for limits in [Limits { waiting: 0, ..LIMITS }, Limits { waiting_each: 0, ..LIMITS }] {
        let mut table = Fragments::new(HashKey::default(), limits);
        assert_eq!(table.later(datagram(1), Nanos(0)), Later::Drop(DropReason::FragmentsFull));
        table.first(datagram(1), 1, Nanos(0));
        assert_eq!(table.later(datagram(1), Nanos(0)), Later::Follow(1));
    }
}

#[test]
fn recorded_fragments_of_one_datagram_follow_the_first() {
    let mut table = Fragments::new(HashKey::new([7; 16]), LIMITS);
    for (name, expected) in
        [("ipfrag_first", Part::First), ("ipfrag_middle", Part::Later), ("ipfrag_last", Part::Later)]
    {
        let Some((frame, _)) = golden::vector(name) else { return };
        let ip = &frame[ETHERNET..];
        let (fragment, octets) = (word(ip, 6), usize::from(word(ip, 2)) - 20);
        let part = part(ip[9], fragment & 0x1fff, fragment & 0x2000 != 0, octets, 20).unwrap();
        assert_eq!(part, expected, "{name}");
        let (source, destination) = (long(ip, 12), long(ip, 16));
        let datagram = Datagram { source, destination, id: u32::from(word(ip, 4)), protocol: ip[9] };
        match part {
            Part::First => table.first(datagram, "the backend", Nanos(1)),
            Part::Later => assert_eq!(table.later(datagram, Nanos(1)), Later::Follow("the backend"), "{name}"),
            Part::Whole => panic!("{name} is a fragment"),
        }
    }
}

#[derive(Clone, Debug)]
enum Event {
    First(u8),
    Later(u8),
    Sweep,
    Pass(u64),
}

fn events() -> impl Strategy<Value = Vec<Event>> {
    let event = prop_oneof![
        3 => (0u8..8).prop_map(Event::First),
        6 => (0u8..8).prop_map(Event::Later),
        1 => Just(Event::Sweep),
        2 => (1..SECOND).prop_map(Event::Pass),
    ];
    prop::collection::vec(event, 0..200)
}

/// What a datagram is in the model: until when, its verdict, who waits.
type Known = (u64, Option<usize>, VecDeque<u16>);

/// The table, slowly: no buckets, no numbers of places but those that the table gave away.
#[derive(Default)]
struct Model {
    known: HashMap<u8, Known>,
    released: Vec<(u16, Option<usize>)>,
}

impl Model {
    fn forget(&mut self, now: u64) {
        let late: Vec<u8> = self.known.iter().filter(|(_, known)| known.0 <= now).map(|(id, _)| *id).collect();
        for id in late {
            let (_, _, waiting) = self.known.remove(&id).unwrap();
            self.released.extend(waiting.into_iter().map(|place| (place, None)));
        }
    }

    fn first(&mut self, id: u8, verdict: usize, now: u64) {
        let (_, _, waiting) = self.known.remove(&id).unwrap_or_default();
        self.released.extend(waiting.into_iter().map(|place| (place, Some(verdict))));
        self.known.insert(id, (now + LIMITS.known_for, Some(verdict), VecDeque::new()));
    }

    fn later(&mut self, id: u8, now: u64, got: Later<usize>) -> Later<usize> {
        let waiting: usize = self.known.values().map(|known| known.2.len()).sum();
        let known = self.known.get(&id).cloned().unwrap_or((now + LIMITS.wait_for, None, VecDeque::new()));
        if let Some(verdict) = known.1 {
            return Later::Follow(verdict);
        }
        let room = waiting < usize::from(LIMITS.waiting) && known.2.len() < usize::from(LIMITS.waiting_each);
        match got {
            Later::Hold(place) if room => {
                self.known.entry(id).or_insert(known).2.push_back(place);
                got
            }
            // There is room in every bucket for what the test does, so this fails it.
            _ if room => Later::Hold(NONE),
            Later::Follow(_) | Later::Hold(_) | Later::Drop(_) => Later::Drop(DropReason::FragmentsFull),
        }
    }
}

proptest! {
    #[test]
    fn the_table_is_the_slow_model(events in events()) {
        let mut table = Fragments::new(HashKey::new([3; 16]), LIMITS);
        let (mut model, mut now) = (Model::default(), 1);
        for (number, event) in events.iter().enumerate() {
            table.sweep(table.buckets(), Nanos(now));
            model.forget(now);
            match event {
                Event::First(id) => {
                    table.first(datagram(u32::from(*id)), number, Nanos(now));
                    model.first(*id, number, now);
                }
                Event::Later(id) => {
                    // Fetch first: the model does not count what is released but not fetched.
                    model.released.sort_unstable();
                    let mut got = drain(&mut table);
                    got.sort_unstable();
                    prop_assert_eq!(&got, &std::mem::take(&mut model.released));
                    let got = table.later(datagram(u32::from(*id)), Nanos(now));
                    prop_assert_eq!(got, model.later(*id, now, got));
                }
                Event::Sweep => {}
                Event::Pass(nanos) => now += nanos,
            }
        }
        model.released.sort_unstable();
        let mut got = drain(&mut table);
        got.sort_unstable();
        prop_assert_eq!(got, model.released);
        prop_assert_eq!(table.holding(), model.known.values().map(|known| known.2.len()).sum::<usize>());
    }

    #[test]
    fn however_small_the_table_each_place_comes_back_once_and_no_verdict_is_anothers(events in events()) {
        let limits = Limits { datagrams: 1, waiting: 4, ..LIMITS };
        let mut table = Fragments::new(HashKey::new([3; 16]), limits);
        let (mut held, mut latest, mut now) = (HashMap::new(), HashMap::new(), 0);
        for (number, event) in events.iter().enumerate() {
            match event {
                Event::First(id) => {
                    table.first(Datagram { source: 1u128 << 80, destination: 2, id: u32::from(*id), protocol: 6 }, number, Nanos(now));
                    latest.insert(*id, number);
                }
                Event::Later(id) => {
                    match table.later(Datagram { source: 1u128 << 80, destination: 2, id: u32::from(*id), protocol: 6 }, Nanos(now)) {
                        Later::Follow(verdict) => prop_assert_eq!(Some(&verdict), latest.get(id)),
                        Later::Hold(place) => prop_assert_eq!(held.insert(place, *id), None),
                        Later::Drop(_) => {}
                    }
                }
                Event::Sweep => table.sweep(1, Nanos(now)),
                Event::Pass(nanos) => now += nanos,
            }
            for (place, verdict) in drain(&mut table) {
                let id = held.remove(&place);
                prop_assert!(id.is_some());
                prop_assert!(verdict.is_none_or(|verdict| latest.get(&id.unwrap()) == Some(&verdict)));
            }
            prop_assert_eq!(table.holding(), held.len());
        }
        table.sweep(table.buckets(), Nanos(now + 10 * SECOND));
        let rest: HashSet<u16> = drain(&mut table).into_iter().map(|(place, _)| place).collect();
        prop_assert_eq!(rest, held.into_keys().collect::<HashSet<_>>());
    }
}
