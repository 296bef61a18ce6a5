//! Services of a few backends, and what becomes of each.

use std::net::IpAddr;
use std::sync::Arc;

use proptest::prelude::*;
use sluice_config::model::{HealthCheck, Mode, Protocol, VipKey};

use super::super::drains::What;
use super::super::standing::Failure;
use super::*;
use crate::fixture::config;

/// 10.0.0.N:80, of a task of its own.
pub(in crate::health) fn backend(n: u8) -> Backend {
    Backend {
        address: ([10, 0, 0, n], 80).into(),
        network: None,
        weight: 1,
        agent: Some(IpAddr::from([10, 0, 1, n])),
        task: Some(format!("web.{n}")),
        groups: Vec::new(),
    }
}

/// 172.16.0.N:80, not probed.
pub(in crate::health) fn service(n: u8, backends: Vec<Backend>) -> Service {
    Service::plain(VipKey { protocol: Protocol::Tcp, ip: [172, 16, 0, n].into(), port: 80 }, backends)
}

fn probed(probe: Probe, fail_open: FailOpen) -> Service {
    Service { health: Some(HealthCheck { probe, fail_open, ..HealthCheck::default() }), ..service(1, Vec::new()) }
}

fn bounds(carried: Carried) -> Bounds {
    Bounds { carried, ..Bounds::of(&config()) }
}

/// Judges backends with these healths; a letter each: `u`nchecked, `?` unknown, `h`ealthy, `s`ick, `k`illed.
fn judge(service: &Service, healths: &str, judgements: &Judgements) -> Vec<Judged> {
    let backends: Vec<Backend> = (1..=healths.len() as u8).map(backend).collect();
    let heard = backends.iter().zip(healths.chars()).map(|(backend, letter)| {
        let health = match letter {
            'u' | 'k' => Health::Unchecked,
            '?' => Health::Unknown,
            'h' => Health::Healthy,
            _ => Health::Unhealthy,
        };
        let (rollout, source) = (Rollout::None, Judge::Marathon);
        Heard { backend, running: letter != 'k', health, rollout, app: None, source }
    });
    combine(service, &heard.collect::<Vec<_>>(), judgements, bounds(Carried::default()))
}

fn states(judged: &[Judged]) -> Vec<&'static str> {
    judged.iter().map(|j| j.state.name()).collect()
}

fn said(judged: &Judged) -> Vec<String> {
    judged.opinions.iter().map(|o| format!("{} {}: {}", o.judge.name(), o.verdict.name(), o.reason)).collect()
}

/// Probes that found these backends so.
fn probes(service: &Service, standings: &[(u8, Standing)]) -> Judgements {
    let all = standings
        .iter()
        .map(|(n, standing)| (Target::of(service, &backend(*n), Carried::default()).unwrap(), *standing));
    Judgements { probes: Arc::new(all.collect()), ..Judgements::default() }
}

#[test]
fn what_marathon_says_alone() {
    let plain = service(1, Vec::new());
    for (healths, expected) in [
        ("uu", vec!["active", "active"]),
        ("hs?", vec!["active", "unfit", "unfit"]),
        ("ss", vec!["fail-open", "fail-open"]),
        ("sk", vec!["fail-open", "draining"]),
        ("k", vec!["draining"]),
        ("", vec![]),
    ] {
        assert_eq!(states(&judge(&plain, healths, &Judgements::default())), expected, "{healths}");
    }
    let never = probed(Probe::Off, FailOpen::Never);
    assert_eq!(states(&judge(&never, "ss", &Judgements::default())), ["unfit", "unfit"]);
}

#[test]
fn one_no_is_enough_and_who_said_it_is_told() {
    let service = probed(Probe::Tcp, FailOpen::All);
    let judgements = probes(&service, &[(1, Standing::Fit), (2, Standing::Unfit(Failure::Refused))]);
    let judged = judge(&service, "hhh", &judgements);
    assert_eq!(states(&judged), ["active", "unfit", "active"]);
    assert_eq!(said(&judged[1]), ["marathon fit: healthy", "probe unfit: tcp: refused"]);
    assert_eq!(said(&judged[2])[1], "probe unknown: tcp: no result yet");
    let sick = judge(&service, "sss", &judgements);
    assert_eq!(states(&sick), ["fail-open"; 3]);
    assert!(said(&sick[0]).last().unwrap().starts_with("fail-open fit"));
}

#[test]
fn whether_a_probe_goes_in_its_services_encapsulation_is_told() {
    let service = Service { mode: Mode::DsrIpip, ..probed(Probe::Tcp, FailOpen::All) };
    let judged = judge(&service, "u", &probes(&service, &[(1, Standing::Fit)]));
    let [said_it] = said(&judged[0]).try_into().unwrap();
    assert!(said_it.starts_with("probe fit: tcp at its own address") && said_it.ends_with("unknown: answers"));
    let carried = Carried { v4: true, v6: false };
    let target = Target::of(&service, &backend(1), carried).unwrap();
    let found = Judgements { probes: Arc::new([(target, Standing::Fit)].into()), ..Judgements::default() };
    let only = backend(1);
    let (health, rollout, source) = (Health::Unchecked, Rollout::None, Judge::Marathon);
    let heard = Heard { backend: &only, running: true, health, rollout, app: None, source };
    let judged = combine(&service, &[heard], &found, bounds(carried));
    assert_eq!(said(&judged[0]), ["probe fit: tcp as the VIP, in dsr-ipip: answers"]);
}

#[test]
fn a_drain_goes_before_everything_and_never_opens() {
    let drained = |what, over| Drained { what, over };
    let judgements = Judgements {
        drained: vec![
            drained(What::Task { id: "web.1".into() }, false),
            drained(What::Agent { ip: [10, 0, 1, 2].into() }, true),
        ],
        ..Judgements::default()
    };
    let plain = service(1, Vec::new());
    let judged = judge(&plain, "hhs", &judgements);
    assert_eq!(states(&judged), ["draining", "removed", "fail-open"], "the one that is left is used, sick or not");
    assert_eq!(said(&judged[0]), ["marathon fit: healthy", "drain unfit: drained as task web.1"]);
    assert_eq!(states(&judge(&plain, "hh", &judgements)), ["draining", "removed"]);
}

#[test]
fn no_more_than_a_share_is_ejected_and_the_first_ones_are() {
    let ejected = |n: u8, since| {
        (BackendKey { address: backend(n).address, protocol: Protocol::Tcp }, Nanos::from_seconds(since))
    };
    let plain = service(1, Vec::new());
    let of =
        |list: Vec<(BackendKey, Nanos)>| Judgements { ejected: list.into_iter().collect(), ..Judgements::default() };
    let two = of(vec![ejected(1, 9), ejected(3, 5)]);
    let judged = judge(&plain, "uuu", &two);
    assert_eq!(states(&judged), ["active", "active", "unfit"]);
    assert_eq!(said(&judged[0]), ["passive overruled: failed too, but health.eject_percent = 30 is reached"]);
    assert_eq!(
        states(&judge(&plain, "uuuuuuu", &two)),
        ["unfit", "active", "unfit", "active", "active", "active", "active"]
    );
    assert_eq!(states(&judge(&plain, "u", &of(vec![ejected(1, 1)]))), ["active"], "never the only one");
    let udp = Service { key: VipKey { protocol: Protocol::Udp, ..plain.key }, ..plain };
    assert_eq!(states(&judge(&udp, "uuu", &two)), ["active"; 3], "another protocol is another backend");
}

proptest! {
    #[test]
    fn somebody_is_always_used_where_somebody_could_be_and_never_a_drained_one(
        healths in "[u?hsk]{0,8}", drained in prop::collection::btree_set(1u8..9, 0..8), unfit in prop::collection::btree_set(1u8..9, 0..8),
    ) {
        let service = probed(Probe::Tcp, FailOpen::All);
        let unfit: Vec<(u8, Standing)> = unfit.iter().map(|n| (*n, Standing::Unfit(Failure::TimedOut))).collect();
        let drains = drained.iter().map(|n| Drained { what: What::Task { id: format!("web.{n}") }, over: n % 2 == 0 });
        let judgements = Judgements { drained: drains.collect(), ..probes(&service, &unfit) };
        let judged = judge(&service, &healths, &judgements);
        let could = healths.chars().zip(1u8..).any(|(letter, n)| letter != 'k' && !drained.contains(&n));
        prop_assert_eq!(judged.iter().any(|j| j.state.takes_new_flows()), could);
        for (judged, n) in judged.iter().zip(1u8..) {
            prop_assert!(!(drained.contains(&n) && judged.state.takes_new_flows()));
        }
        let open = judged.iter().any(|j| j.state == State::FailOpen);
        prop_assert!(!(open && judged.iter().any(|j| j.state == State::Active)), "open, and somebody is fit");
    }
}
