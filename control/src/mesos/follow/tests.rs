//! The state machine against a clock that the test turns.

use std::collections::VecDeque;

use proptest::prelude::*;

use super::*;
use crate::mesos::state;

const PACE: Pace = Pace { refresh: Duration::from_secs(30), reregister: Duration::from_secs(600) };

fn ms(n: u64) -> Duration {
    Duration::from_millis(n)
}

fn s(n: u64) -> Duration {
    Duration::from_secs(n)
}

/// What a master says: its id, the agents that it has heard from, those that it waits for, and tasks, `id@agent`.
fn said(master: &str, agents: &[&str], recovered: &[&str], tasks: &[&str]) -> Box<Facts> {
    let agent = |id: &&str| serde_json::json!({ "id": id, "hostname": "10.0.0.1" });
    let task = |task: &&str| {
        let (id, agent) = task.split_once('@').unwrap();
        serde_json::json!({ "id": id, "slave_id": agent, "state": "TASK_RUNNING" })
    };
    let state = serde_json::json!({
        "id": master, "leader": "master@10.0.0.9:5050",
        "slaves": agents.iter().map(agent).collect::<Vec<_>>(),
        "recovered_slaves": recovered.iter().map(agent).collect::<Vec<_>>(),
        "frameworks": [{ "id": "F", "tasks": tasks.iter().map(task).collect::<Vec<_>>() }],
    });
    Box::new(state::read(state.to_string().as_bytes()).unwrap())
}

fn masters(urls: usize) -> Input {
    Input::Masters { masters: Vec::new(), urls, moved: true }
}

/// Ids of the tasks that a step makes known, `None` where it makes nothing known.
fn tasks(commands: &[Command]) -> Option<String> {
    let published = commands.iter().rev().find_map(|c| match c {
        Command::Publish(facts, _) => Some(facts),
        Command::OpenStream(..) | Command::CloseStream | Command::List(..) | Command::AbandonList | Command::Lost => {
            None
        }
    })?;
    let mut ids: Vec<&str> = published.tasks.iter().map(|t| t.id.as_str()).collect();
    ids.sort_unstable();
    Some(ids.join(" "))
}

/// A machine whose stream has said this; the time is 10 ms, the stream's attempt 1.
fn streaming(facts: Box<Facts>) -> Follow {
    let mut follow = Follow::new(PACE, 1);
    assert_eq!(follow.step(ms(0), Input::Tick), [], "it waits for masters");
    assert_eq!(follow.step(ms(0), masters(2)), [Command::OpenStream(1, 0)]);
    assert_eq!(follow.step(ms(5), Input::StreamOpened(1)), []);
    let told = follow.step(ms(10), Input::Whole(1, facts, Some(s(15))));
    assert!(matches!(told[..], [Command::Publish(_, true)]), "{told:?}");
    follow
}

/// Lets time pass until something is to be done.
fn next(follow: &mut Follow) -> (Duration, Vec<Command>) {
    for _ in 0..1000 {
        let at = follow.wake_at();
        let commands = follow.step(at, Input::Tick);
        if !commands.is_empty() {
            return (at, commands);
        }
    }
    panic!("nothing happens: {follow:?}");
}

#[test]
fn changes_are_made_known_as_they_come_and_what_is_no_change_is_not() {
    let mut follow = streaming(said("m1", &["S1"], &[], &["a@S1"]));
    let changed = |facts| Input::Changed(1, facts, 3);
    assert_eq!(tasks(&follow.step(ms(20), changed(said("m1", &["S1"], &[], &["a@S1", "b@S1"])))).unwrap(), "a b");
    assert_eq!(follow.step(ms(30), changed(said("m1", &["S1"], &[], &["a@S1", "b@S1"]))), []);
    assert_eq!(tasks(&follow.step(ms(40), changed(said("m1", &["S1"], &[], &["b@S1"])))).unwrap(), "b");
    let status = follow.status();
    assert_eq!((status.streaming, status.published, status.events, status.heard_at), (true, 3, 9, Some(ms(40))));
    assert_eq!(status.leader.unwrap().to_string(), "10.0.0.9:5050");
    assert_eq!(follow.step(ms(41), Input::Changed(7, said("m1", &[], &[], &[]), 1)), [], "of an older attempt");
}

#[test]
fn a_stream_that_misses_three_heartbeats_is_opened_again_at_the_next_master() {
    let mut follow = streaming(said("m1", &["S1"], &[], &["a@S1"]));
    follow.step(s(40), Input::StreamBytes(1));
    let (at, commands) = next(&mut follow);
    assert_eq!((at, &commands[..2]), (s(85), &[Command::CloseStream, Command::Lost][..]));
    assert!(follow.status().error.unwrap().1.contains("3 heartbeats"));
    let (at, commands) = next(&mut follow);
    assert!(at < s(86), "{at:?}");
    assert_eq!(commands, [Command::OpenStream(2, 1)]);
}

#[test]
fn without_a_stream_the_state_is_polled_and_with_one_it_is_not() {
    let mut follow = Follow::new(PACE, 1);
    let first = follow.step(ms(0), masters(1));
    let (mut polls, mut opened, mut at, mut commands) = (Vec::new(), 0, ms(0), first);
    while at < s(100) {
        for command in commands {
            match command {
                Command::List(attempt, 0) => {
                    polls.push(at);
                    let told = follow.step(at, Input::Listed(attempt, said("m1", &["S1"], &[], &["a@S1"])));
                    assert_eq!(told.iter().any(|c| matches!(c, Command::Publish(_, false))), polls.len() == 1);
                }
                Command::OpenStream(attempt, 0) => {
                    opened += 1;
                    follow.step(at, Input::StreamEnded(attempt, "status 404".into()));
                }
                Command::OpenStream(..) | Command::List(..) | Command::CloseStream => panic!("of another URL"),
                Command::AbandonList | Command::Publish(..) | Command::Lost => panic!("out of the blue"),
            }
        }
        (at, commands) = next(&mut follow);
    }
    assert_eq!(polls[0], ms(500));
    assert!(polls.windows(2).all(|p| (s(22)..=s(30)).contains(&(p[1] - p[0]))), "{polls:?}");
    assert!(opened > 20, "a stream is tried all the while: {opened}");
    let mut follow = streaming(said("m1", &["S1"], &[], &[]));
    for second in 1..1000 {
        assert_eq!(follow.step(s(second), Input::StreamBytes(1)), [], "{second}");
    }
}

#[test]
fn a_failover_takes_nothing_away_until_agents_are_back() {
    let mut follow = streaming(said("m1", &["S1", "S2", "S3"], &[], &["a@S1", "b@S2", "c@S3"]));
    follow.step(s(20), Input::StreamEnded(1, "cut".into()));
    let (at, commands) = next(&mut follow);
    let [Command::OpenStream(attempt, _)] = commands[..] else { panic!("{commands:?}") };
    follow.step(at, Input::StreamOpened(attempt));
    let told = follow.step(at, Input::Whole(attempt, said("m2", &[], &["S1", "S2", "S3"], &[]), None));
    assert_eq!(tasks(&told).unwrap(), "a b c");
    assert_eq!((follow.status().waiting, follow.status().held), (3, 1));
    let mut change = |second, facts| tasks(&follow.step(s(second), Input::Changed(attempt, facts, 1)));
    // S1 is back with another task; S2 is given up; S3 never comes.
    assert_eq!(change(30, said("m2", &["S1"], &["S2", "S3"], &["d@S1"])).unwrap(), "b c d");
    assert_eq!(change(40, said("m2", &["S1"], &["S3"], &["d@S1"])).unwrap(), "c d");
    for second in (60..=600).step_by(20) {
        assert_eq!(follow.step(s(second), Input::StreamBytes(attempt)), []);
    }
    let (at_end, commands) = next(&mut follow);
    assert_eq!((at_end, tasks(&commands).unwrap().as_str()), (at + s(600), "d"));
    assert_eq!(follow.status().waiting, 0);
}

#[test]
fn the_same_master_is_believed_at_once_when_the_stream_comes_back() {
    let mut follow = streaming(said("m1", &["S1", "S2"], &[], &["a@S1", "b@S2"]));
    follow.step(s(20), Input::StreamEnded(1, "cut".into()));
    let (at, _) = next(&mut follow);
    follow.step(at, Input::StreamOpened(2));
    let told = follow.step(at, Input::Whole(2, said("m1", &["S1"], &[], &["a@S1"]), None));
    assert_eq!(tasks(&told).unwrap(), "a");
    assert_eq!(follow.status().held, 0);
}

#[test]
fn a_task_that_cannot_be_read_this_time_stays_until_an_update_says_that_it_is_over() {
    let mut follow = streaming(said("m1", &["S1"], &[], &["a@S1", "b@S1"]));
    follow.step(s(20), Input::StreamEnded(1, "cut".into()));
    let (at, _) = next(&mut follow);
    follow.step(at, Input::StreamOpened(2));
    let mut broken = said("m1", &["S1"], &[], &["b@S1"]);
    broken.unread.tasks.insert("a".into());
    let told = follow.step(at, Input::Whole(2, broken, None));
    assert_eq!(tasks(&told).unwrap(), "a b");
    assert_eq!(tasks(&follow.step(at, Input::Changed(2, said("m1", &["S1"], &[], &["b@S1"]), 1))).unwrap(), "b");
}

#[test]
fn a_new_leader_in_zookeeper_is_turned_to_at_once() {
    let mut follow = streaming(said("m1", &["S1"], &[], &["a@S1"]));
    let leader = Endpoint::read("10.0.0.8:5050").unwrap();
    let moved = Input::Masters { masters: vec![leader.clone()], urls: 3, moved: true };
    let commands = follow.step(s(5), moved);
    assert_eq!(commands[..2], [Command::CloseStream, Command::Lost]);
    assert_eq!(commands[3], Command::OpenStream(2, 0));
    let Command::Publish(facts, false) = &commands[2] else { panic!("{commands:?}") };
    assert_eq!(facts.masters.as_slice(), std::slice::from_ref(&leader));
    let joined = Input::Masters { masters: vec![leader.clone(), leader], urls: 3, moved: false };
    assert_eq!(follow.step(ms(5100), joined).len(), 1, "another standby is made known and nothing else");
    follow.step(ms(5200), Input::NoMasters("zookeeper is away".into()));
    assert_eq!(tasks(&follow.step(ms(5300), Input::Tick)), None, "and its loss takes nothing away");
}

#[test]
fn a_master_that_does_not_answer_is_given_up_in_time_and_the_next_one_asked() {
    let mut follow = Follow::new(PACE, 1);
    follow.step(ms(0), masters(3));
    let mut asked = Vec::new();
    while follow.wake_at() < s(400) {
        let (_, commands) = next(&mut follow);
        asked.extend(commands.iter().filter_map(|c| if let Command::List(_, url) = c { Some(*url) } else { None }));
    }
    assert_eq!(asked[..3], [0, 1, 2]);
    assert!(follow.status().list_errors >= 3 && follow.status().stream_errors > 20, "{:?}", follow.status());
    assert!(follow.status().error.is_some());
}

/// Something that happens to a follower.
#[derive(Clone, Debug)]
enum Happens {
    Passes(u64),
    Cut,
    Changes(Vec<usize>),
    Fails,
    Moves,
}

proptest! {
    /// However streams are cut, polls fail and masters move while the masters' word is one set of tasks, that set is what is
    /// known once anybody has said anything, and time always goes on.
    #[test]
    fn nothing_but_a_masters_word_takes_a_task_away(happens in proptest::collection::vec(prop_oneof![
        (1u64..20_000).prop_map(Happens::Passes), Just(Happens::Cut), Just(Happens::Fails), Just(Happens::Moves),
        proptest::collection::vec(0usize..5, 0..4).prop_map(Happens::Changes),
    ], 1..40), seed: u64) {
        let names = |ids: &[usize]| ids.iter().map(|n| format!("{n}@S1")).collect::<Vec<_>>();
        let state = |ids: &[usize]| {
            let tasks = names(ids);
            said("m1", &["S1"], &[], &tasks.iter().map(String::as_str).collect::<Vec<_>>())
        };
        let mut follow = Follow::new(PACE, seed);
        let (mut now, mut truth, mut stream, mut known) = (Duration::ZERO, vec![1, 2, 3], None, None);
        let mut queue: VecDeque<Command> = follow.step(now, masters(2)).into();
        for one in happens {
            let mut fails = false;
            match one {
                Happens::Passes(n) => now += ms(n),
                Happens::Cut => queue.extend(stream.take().into_iter().flat_map(|a| follow.step(now, Input::StreamEnded(a, String::new())))),
                Happens::Changes(mut ids) => {
                    ids.sort_unstable();
                    ids.dedup();
                    truth = ids;
                    queue.extend(stream.into_iter().flat_map(|a| follow.step(now, Input::Changed(a, state(&truth), 1))));
                }
                Happens::Fails => fails = true,
                Happens::Moves => queue.extend(follow.step(now, Input::Masters { masters: Vec::new(), urls: 2, moved: true })),
            }
            queue.extend(follow.step(now, Input::Tick));
            let mut turns = 0;
            while let Some(command) = queue.pop_front() {
                turns += 1;
                prop_assert!(turns < 1000, "it spins");
                let more = match command {
                    Command::OpenStream(a, _) if fails => follow.step(now, Input::StreamEnded(a, String::new())),
                    Command::OpenStream(a, _) => {
                        stream = Some(a);
                        follow.step(now, Input::StreamOpened(a)).into_iter().chain(follow.step(now, Input::Whole(a, state(&truth), None))).collect()
                    }
                    Command::List(a, _) if fails => follow.step(now, Input::ListFailed(a, String::new())),
                    Command::List(a, _) => follow.step(now, Input::Listed(a, state(&truth))),
                    Command::CloseStream => { stream = None; Vec::new() }
                    Command::Publish(facts, _) => { known = Some(facts); Vec::new() }
                    Command::AbandonList | Command::Lost => Vec::new(),
                };
                queue.extend(more);
            }
            prop_assert!(follow.wake_at() > now, "it wakes in the past: {follow:?}");
            if stream.is_some() {
                prop_assert_eq!(known.as_ref().map(|f: &Arc<Facts>| f.tasks.len()), Some(truth.len()));
            }
        }
    }
}
