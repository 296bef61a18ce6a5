//! The state machine against a clock that the test turns.

use proptest::prelude::*;

use super::*;
use crate::fixture::task;

fn ms(n: u64) -> Duration {
    Duration::from_millis(n)
}

fn listing(ids: &[&str]) -> Box<Listing> {
    Box::new(Listing { tasks: ids.iter().map(|id| task(id).into()).collect(), ..Listing::default() })
}

/// A machine whose stream is open and which has published a listing of these tasks; the time is 1 s.
fn settled(ids: &[&str]) -> (Follow, Attempt) {
    let mut follow = Follow::new(1, 1);
    assert_eq!(follow.step(ms(0), Input::Tick), [Command::OpenStream(1, 0)]);
    assert_eq!(follow.step(ms(1), Input::StreamOpened(1)), [Command::List(2, 0)]);
    assert_eq!(follow.step(ms(2), Input::Listed(2, listing(ids))), [Command::Publish(listing(ids))]);
    assert_eq!(follow.step(ms(1000), Input::StreamBytes(1)), []);
    (follow, 1)
}

#[test]
fn it_subscribes_first_then_lists_then_listens() {
    let (follow, _) = settled(&["a"]);
    assert!(follow.status().streaming);
    assert_eq!(follow.status().published, 1);
}

#[test]
fn hints_are_gathered_until_quiet_but_no_longer_than_a_tenth_of_a_second() {
    let (mut follow, stream) = settled(&["a"]);
    assert_eq!(follow.step(ms(1000), Input::Hint(stream)), []);
    assert_eq!(follow.wake_at(), ms(1020));
    assert_eq!(follow.step(ms(1015), Input::Hint(stream)), []);
    assert_eq!(follow.step(ms(1020), Input::Tick), []);
    assert_eq!(follow.step(ms(1035), Input::Tick), [Command::List(3, 0)]);
    follow.step(ms(1036), Input::Listed(3, listing(&["a"])));
    let listed = (1100..1300).step_by(10).find(|t| !follow.step(ms(*t), Input::Hint(stream)).is_empty());
    assert_eq!(listed, Some(1200), "a storm of hints puts it off for 100 ms at most");
}

#[test]
fn a_hint_during_a_listing_brings_another_and_never_two_at_once() {
    let (mut follow, stream) = settled(&["a"]);
    follow.step(ms(1000), Input::Hint(stream));
    assert_eq!(follow.step(ms(1020), Input::Tick), [Command::List(3, 0)]);
    assert_eq!(follow.step(ms(1030), Input::Hint(stream)), []);
    assert_eq!(follow.step(ms(1200), Input::Tick), []);
    let commands = follow.step(ms(1201), Input::Listed(3, listing(&["a", "b"])));
    assert_eq!(commands, [Command::Publish(listing(&["a", "b"])), Command::List(4, 0)]);
}

/// Answers every listing until `until` as `says` has it at that time; each publication with its time.
fn answered<'a>(follow: &mut Follow, from: u64, until: u64, says: impl Fn(u64) -> &'a [&'a str]) -> Vec<(u64, String)> {
    answered_by(follow, from, until, |at| listing(says(at)))
}

fn answered_by(follow: &mut Follow, from: u64, until: u64, says: impl Fn(u64) -> Box<Listing>) -> Vec<(u64, String)> {
    let mut published = Vec::new();
    for at in from..until {
        let mut commands = follow.step(ms(at), Input::Tick);
        while let Some(command) = commands.pop() {
            match command {
                Command::List(attempt, _) => {
                    commands.extend(follow.step(ms(at), Input::Listed(attempt, says(at))));
                }
                Command::Publish(listing) => {
                    published.push((at, listing.tasks.iter().map(|t| t.id.as_str()).collect::<Vec<_>>().join(" ")));
                }
                Command::OpenStream(..) | Command::CloseStream | Command::AbandonList => {}
            }
        }
    }
    published
}

/// Ten tasks: the fewest that do not go at once.
const MANY: &[&str] = &["a", "b", "c", "d", "e", "f", "g", "h", "i", "j"];

#[test]
fn an_empty_listing_takes_nothing_away_until_marathon_has_said_so_for_five_seconds() {
    let (mut follow, stream) = settled(MANY);
    follow.step(ms(1000), Input::Hint(stream));
    let published = answered(&mut follow, 1001, 30_000, |_| &[]);
    assert_eq!(published, [(6020, String::new())]);
    assert_eq!(follow.status().held, 1);
}

#[test]
fn a_marathon_that_is_empty_for_a_moment_loses_nothing() {
    let (mut follow, stream) = settled(MANY);
    follow.step(ms(1000), Input::Hint(stream));
    let published = answered(&mut follow, 1001, 30_000, |at| if at < 5900 { &[] } else { MANY });
    assert_eq!(published, [(6020, MANY.join(" "))]);
    follow.step(ms(30_000), Input::Hint(stream));
    let published = answered(&mut follow, 30_001, 50_000, |_| &[]);
    assert_eq!(published, [(35_020, String::new())], "the first doubt does not count for the second");
}

#[test]
fn a_marathon_that_has_just_come_back_must_say_it_for_ten_seconds() {
    let (mut follow, stream) = settled(&["a"]);
    follow.step(ms(1000), Input::StreamEnded(stream, "restarted".into()));
    let mut now = 1000;
    let (opened, list) = loop {
        now += 1;
        let mut commands = follow.step(ms(now), Input::Tick);
        if let Some(Command::OpenStream(attempt, _)) = commands.first() {
            let opened = follow.step(ms(now), Input::StreamOpened(*attempt));
            commands.extend(opened);
        }
        if let Some(Command::List(attempt, _)) = commands.last() {
            break (now, *attempt);
        }
    };
    assert!(follow.status().streaming);
    follow.step(ms(now + 1), Input::ListFailed(list, "not yet".into()));
    let published = answered(&mut follow, now + 2, 40_000, |_| &[]);
    assert_eq!(published.len(), 1, "{published:?}");
    assert!(published[0].0 >= opened + 10_000 && published[0].0 < opened + 11_000, "{published:?}");
}

#[test]
fn what_is_new_is_published_at_once_beside_what_seems_gone() {
    let (mut follow, stream) = settled(MANY);
    follow.step(ms(1000), Input::Hint(stream));
    let published = answered(&mut follow, 1001, 20_000, |_| &["k"]);
    assert_eq!(published, [(1020, MANY.join(" ") + " k"), (6020, "k".to_owned())]);
}

#[test]
fn up_to_half_of_the_tasks_go_at_once() {
    let all: Vec<String> = (10..30).map(|n| n.to_string()).collect();
    let all: Vec<&str> = all.iter().map(String::as_str).collect();
    let (mut follow, stream) = settled(&all);
    follow.step(ms(1000), Input::Hint(stream));
    assert_eq!(answered(&mut follow, 1001, 2000, |_| &all[10..]), [(1020, all[10..].join(" "))]);
}

#[test]
fn fewer_than_ten_tasks_go_at_once_be_they_all_that_there_are() {
    for all in [&MANY[..1], &MANY[..9]] {
        let (mut follow, stream) = settled(all);
        follow.step(ms(1000), Input::Hint(stream));
        assert_eq!(answered(&mut follow, 1001, 2000, |_| &[]), [(1020, String::new())]);
        assert_eq!(follow.status().held, 0);
    }
}

#[test]
fn a_task_that_an_event_said_has_ended_is_not_one_that_vanished() {
    let (mut follow, stream) = settled(MANY);
    MANY.iter().for_each(|id| drop(follow.step(ms(1000), Input::TaskEnded(stream, (*id).to_owned()))));
    assert_eq!(follow.step(ms(1000), Input::Hint(stream)), []);
    assert_eq!(answered(&mut follow, 1001, 2000, |_| &[]), [(1020, String::new())]);
    assert_eq!(follow.status().held, 0);
}

#[test]
fn of_those_that_are_gone_only_those_without_a_word_are_kept() {
    let all: Vec<String> = (10..40).map(|n| n.to_string()).collect();
    let all: Vec<&str> = all.iter().map(String::as_str).collect();
    let (mut follow, stream) = settled(&all);
    all[..5].iter().for_each(|id| drop(follow.step(ms(1000), Input::TaskEnded(stream, (*id).to_owned()))));
    follow.step(ms(1000), Input::TaskEnded(stream + 1, "39".into()));
    follow.step(ms(1000), Input::Hint(stream));
    let published = answered(&mut follow, 1001, 20_000, |_| &[]);
    assert_eq!(published, [(1020, all[5..].join(" ")), (6020, String::new())], "39's word came on another stream");
}

#[test]
fn a_word_of_the_end_is_no_more_than_a_word() {
    let (mut follow, stream) = settled(&["a", "b"]);
    follow.step(ms(1000), Input::TaskEnded(stream, "a".into()));
    follow.step(ms(1000), Input::Hint(stream));
    assert_eq!(answered(&mut follow, 1001, 2000, |_| &["a", "b"]), [(1020, "a b".to_owned())], "listed is there");
    follow.step(ms(2000), Input::TaskEnded(stream, "b".into()));
    follow.step(ms(2000), Input::Hint(stream));
    let published = answered_by(&mut follow, 2001, 3000, |_| {
        let mut answer = listing(&[]);
        answer.unreadable.app(None);
        answer
    });
    assert_eq!(published, [(2020, String::new())], "both have ended, whatever could not be read");
}

#[test]
fn what_cannot_be_read_stays_as_it_was() {
    type Says = fn(&mut crate::view::Unreadable);
    let cases: [(Says, &str); 4] = [
        (|u| u.app(Some("/app/a")), "a c"),
        (|u| u.tasks.extend(["b".to_owned()]), "b c"),
        (|u| u.app(None), "a b c"),
        (|u| u.app(Some("/app/never-seen")), "c"),
    ];
    for (says, expected) in cases {
        let (mut follow, stream) = settled(&["a", "b", "c", "d", "e"]);
        let mut first = listing(&["a", "b", "c"]);
        first.tasks.iter_mut().for_each(|t| Arc::make_mut(t).app = format!("/app/{}", t.id));
        follow.step(ms(1000), Input::Hint(stream));
        follow.step(ms(1020), Input::Tick);
        follow.step(ms(1021), Input::Listed(3, first));
        follow.step(ms(1100), Input::Hint(stream));
        let published = answered_by(&mut follow, 1101, 30_000, |_| {
            let mut answer = listing(&["c"]);
            says(&mut answer.unreadable);
            answer
        });
        assert_eq!(published.last().unwrap().1, expected);
    }
}

#[test]
fn what_is_listed_again_as_it_was_is_the_allocation_that_it_was() {
    let (mut follow, stream) = settled(&["a", "b", "c"]);
    follow.step(ms(1000), Input::Hint(stream));
    follow.step(ms(1020), Input::Tick);
    let mut first = listing(&["a", "b", "c"]);
    first.idle = vec![Arc::new(task("/idle"))];
    let [Command::Publish(first)] = &follow.step(ms(1021), Input::Listed(3, first))[..] else { panic!("no listing") };
    follow.step(ms(1100), Input::Hint(stream));
    follow.step(ms(1120), Input::Tick);
    let mut second = listing(&["a", "b", "d"]);
    second.idle = vec![Arc::new(task("/idle"))];
    Arc::make_mut(&mut second.tasks[1]).health = crate::view::Health::Unhealthy;
    let [Command::Publish(second)] = &follow.step(ms(1121), Input::Listed(4, second))[..] else { panic!("no listing") };
    let same: Vec<bool> = first.tasks.iter().zip(&second.tasks).map(|(a, b)| Arc::ptr_eq(a, b)).collect();
    assert_eq!(same, [true, false, false]);
    assert!(Arc::ptr_eq(&first.idle[0], &second.idle[0]));
}

#[test]
fn a_task_that_is_being_killed_is_not_one_that_vanished() {
    let (mut follow, stream) = settled(&["a", "b"]);
    follow.step(ms(1000), Input::Hint(stream));
    follow.step(ms(1020), Input::Tick);
    let mut killed = listing(&["a", "b"]);
    killed.tasks.iter_mut().for_each(|t| Arc::make_mut(t).state = crate::view::TaskState::Killing);
    assert_eq!(follow.step(ms(1021), Input::Listed(3, killed.clone())), [Command::Publish(killed)]);
    follow.step(ms(1100), Input::Hint(stream));
    follow.step(ms(1120), Input::Tick);
    assert_eq!(follow.step(ms(1121), Input::Listed(4, listing(&[]))), [Command::Publish(listing(&[]))], "at once");
}

#[test]
fn a_failed_listing_publishes_nothing_and_is_tried_again() {
    let (mut follow, stream) = settled(&["a"]);
    follow.step(ms(1000), Input::Hint(stream));
    follow.step(ms(1020), Input::Tick);
    assert_eq!(follow.step(ms(1021), Input::ListFailed(3, "cut".into())), []);
    assert_eq!(follow.status().list_errors, 1);
    let again = follow.wake_at();
    assert!(again > ms(1071) && again <= ms(1221), "{again:?}");
    assert_eq!(follow.step(again, Input::Tick), [Command::List(4, 0)]);
}

#[test]
fn a_silent_stream_is_closed_and_the_next_url_is_tried() {
    let mut follow = Follow::new(2, 1);
    follow.step(ms(0), Input::Tick);
    follow.step(ms(1), Input::StreamOpened(1));
    follow.step(ms(2), Input::Listed(2, listing(&["a"])));
    let mut now = follow.wake_at();
    let mut lists = 3;
    while now < ms(60_001) {
        for command in follow.step(now, Input::Tick) {
            if let Command::List(attempt, 0) = command {
                follow.step(now, Input::Listed(attempt, listing(&["a"])));
                lists += 1;
            }
        }
        now = follow.wake_at();
    }
    assert_eq!(follow.step(ms(60_001), Input::Tick)[0], Command::CloseStream);
    assert!(!follow.status().streaming && follow.status().url == 1);
    let again = follow.wake_at();
    let commands = follow.step(again, Input::Tick);
    assert!(matches!(commands[..], [Command::OpenStream(_, 1), Command::List(_, 1)]), "{commands:?}");
    assert!(lists <= 5);
}

#[test]
fn heartbeats_keep_a_stream_alive() {
    let (mut follow, stream) = settled(&["a"]);
    for second in 1..600 {
        follow.step(ms(second * 1000), Input::StreamBytes(stream));
    }
    assert!(follow.status().streaming);
}

#[test]
fn back_off_grows_to_five_seconds_and_differs_by_seed() {
    let times = |seed| {
        let mut follow = Follow::new(1, seed);
        let mut at = Vec::new();
        let mut now = Duration::ZERO;
        for _ in 0..20 {
            for command in follow.step(now, Input::Tick) {
                if let Command::OpenStream(attempt, _) = command {
                    at.push(now);
                    follow.step(now, Input::StreamEnded(attempt, "refused".into()));
                }
                if let Command::List(attempt, _) = command {
                    follow.step(now, Input::ListFailed(attempt, "refused".into()));
                }
            }
            now = follow.wake_at();
        }
        at
    };
    let (one, two) = (times(1), times(2));
    assert_ne!(one, two);
    for pair in one.windows(2).skip(8) {
        let gap = pair[1] - pair[0];
        assert!((Duration::from_millis(2500)..=Duration::from_secs(5)).contains(&gap), "{gap:?}");
    }
}

#[test]
fn news_of_an_attempt_that_was_given_up_changes_nothing() {
    let (mut follow, _) = settled(&["a"]);
    for stale in
        [Input::Hint(99), Input::StreamEnded(99, "x".into()), Input::Listed(99, listing(&[])), Input::StreamOpened(99)]
    {
        assert_eq!(follow.step(ms(1001), stale), []);
    }
    assert!(follow.status().streaming);
}

/// A Marathon that the test makes misbehave.
struct World {
    tasks: Vec<String>,
    stream: Option<Attempt>,
    opening: Option<Attempt>,
    list: Option<Attempt>,
    published: Option<Vec<String>>,
    lists: Vec<Duration>,
}

impl World {
    fn does(&mut self, now: Duration, commands: Vec<Command>) {
        for command in commands {
            match command {
                Command::OpenStream(attempt, _) => (self.opening, self.stream) = (Some(attempt), None),
                Command::CloseStream => (self.opening, self.stream) = (None, None),
                Command::List(attempt, _) => {
                    assert!(self.list.is_none(), "two listings at once");
                    self.list = Some(attempt);
                    self.lists.push(now);
                }
                Command::AbandonList => self.list = None,
                Command::Publish(listing) => {
                    self.published = Some(listing.tasks.iter().map(|t| t.id.clone()).collect())
                }
            }
        }
    }

    fn answer(&self) -> Box<Listing> {
        listing(&self.tasks.iter().map(String::as_str).collect::<Vec<_>>())
    }

    /// One thing happens; `kind` says which.
    fn happens(&mut self, kind: u8, number: u8, follow: &mut Follow, now: Duration) {
        let input = match kind {
            0 => self.opening.take().map(|a| {
                self.stream = Some(a);
                Input::StreamOpened(a)
            }),
            1 => self.opening.take().or_else(|| self.stream.take()).map(|a| Input::StreamEnded(a, "cut".into())),
            2 => self.stream.map(Input::Hint),
            3 => self.stream.map(Input::StreamBytes),
            4 => self.list.take().map(|a| Input::Listed(a, self.answer())),
            5 => self.list.take().map(|a| Input::ListFailed(a, "cut".into())),
            // A lie: nothing at all.
            6 => self.list.take().map(|a| Input::Listed(a, listing(&[]))),
            // Half a lie: nothing that could be read.
            12 => self.list.take().map(|a| {
                let mut answer = listing(&[]);
                answer.unreadable.nameless = true;
                Input::Listed(a, answer)
            }),
            7 => Some(Input::Hint(u64::MAX - u64::from(number))),
            8 => Some(Input::Listed(u64::MAX - u64::from(number), listing(&["ghost"]))),
            13 => self.stream.map(|a| Input::TaskEnded(a, format!("t{}.{}", number % 7, number / 7))),
            _ => {
                self.tasks = (0..number % 25).map(|n| format!("t{n}.{}", number / 7)).collect();
                self.stream.filter(|_| number.is_multiple_of(2)).map(Input::Hint)
            }
        };
        let commands = follow.step(now, input.unwrap_or(Input::Tick));
        self.does(now, commands);
    }
}

proptest! {
    #[test]
    fn after_any_mishap_what_is_published_is_what_marathon_says(
        mishaps in proptest::collection::vec((0u8..15, any::<u8>(), 0u64..400), 0..200),
        urls in 1usize..4, seed: u64,
    ) {
        let mut world = World { tasks: vec!["a".into()], stream: None, opening: None, list: None, published: None, lists: Vec::new() };
        let mut follow = Follow::new(urls, seed);
        let mut now = Duration::ZERO;
        for (kind, number, wait) in mishaps {
            let until = now + ms(wait);
            while follow.wake_at() < until && follow.wake_at() > now {
                now = follow.wake_at();
                let commands = follow.step(now, Input::Tick);
                world.does(now, commands);
            }
            now = until;
            world.happens(kind, number, &mut follow, now);
        }
        // From here on Marathon behaves, and sends no event any more: events that were lost stay lost.
        let end = now + Duration::from_secs(200);
        while now < end {
            now = follow.wake_at().max(now + ms(1));
            for kind in [3, 0, 4] {
                world.happens(kind, 0, &mut follow, now);
            }
        }
        prop_assert_eq!(world.published, Some(world.tasks));
        prop_assert!(follow.status().streaming);
        for pair in world.lists.windows(2) {
            prop_assert!(pair[1] - pair[0] >= BETWEEN_LISTINGS);
        }
    }
}
