//! What is served after a change, told from what was served before and made as a whole, is one.

use std::net::SocketAddr;

use sluice_dataplane::tables::ids::BackendKey;
use sluice_dataplane::time::Nanos;

use super::*;
use crate::health::Judgements;
use crate::health::drains::{Drained, What};
use crate::health::standing::{Failure, Standing};
use crate::health::target;

/// One app of a small cluster in which apps, addresses and names meet all the time.
#[derive(Clone, Debug)]
struct Odd {
    id: usize,
    /// Which labels it has.
    labels: Vec<usize>,
    /// Host, state, port and age of each task.
    tasks: Vec<(usize, usize, u16, usize)>,
    deploying: bool,
    networking: usize,
    grouped: bool,
    probed: bool,
}

/// What somebody else than the sources says before the next listing.
#[derive(Clone, Debug)]
enum Word {
    Nothing,
    Forgotten,
    Ejected(usize, u16),
    Drained(What, bool),
    /// Of what is probed, the one of this number.
    Probed(usize, bool),
}

fn word() -> impl Strategy<Value = Word> {
    let place = |host: usize, port| SocketAddr::new([10, 0, 0, 11 + host as u8].into(), port);
    let port = 31000..31003_u16;
    let task = (0..6_usize, 0..3_usize).prop_map(|(app, n)| format!("t{app}.{n}"));
    let backend = (0..2_usize, port.clone(), task.clone())
        .prop_map(move |(host, port, task)| What::Backend { address: place(host, port), task: Some(task) });
    let agent = (0..2_u8).prop_map(|n| What::Agent { ip: [10, 0, 0, 11 + n].into() });
    let what = prop_oneof![task.prop_map(|id| What::Task { id }), agent, backend];
    prop_oneof![
        6 => Just(Word::Nothing),
        1 => Just(Word::Forgotten),
        1 => (0..2_usize, port).prop_map(|(host, port)| Word::Ejected(host, port)),
        1 => (what, any::<bool>()).prop_map(|(what, over)| Word::Drained(what, over)),
        2 => (0..8_usize, any::<bool>()).prop_map(|(n, fit)| Word::Probed(n, fit)),
    ]
}

impl Word {
    fn say(self, judgements: &mut Judgements, desired: &Desired) {
        match self {
            Self::Nothing => {}
            Self::Forgotten => *judgements = Judgements::default(),
            Self::Ejected(host, port) => {
                let address = SocketAddr::new([10, 0, 0, 11 + host as u8].into(), port);
                let since = Nanos(judgements.ejected.len() as u64);
                judgements.ejected.insert(BackendKey { address, protocol: Protocol::Tcp }, since);
            }
            Self::Drained(what, over) => {
                judgements.drained.retain(|d| d.what != what);
                judgements.drained.push(Drained { what, over });
                judgements.drained.sort();
            }
            Self::Probed(n, fit) => {
                let standing = if fit { Standing::Fit } else { Standing::Unfit(Failure::Refused) };
                let target = target::wanted(desired, target::Carried::default()).into_keys().nth(n);
                Arc::make_mut(&mut judgements.probes).extend(target.map(|target| (target, standing)));
            }
        }
    }
}

const LABELS: [&str; 12] = [
    "minitwit:80",
    "minitwit:81",
    "web:80",
    "/web:80",
    "172.16.0.1:80",
    "172.16.0.2:80",
    "10.0.0.12:80",
    "9.0.1.3:80",
    "11.45.193.125:80",
    "fd00::80:80",
    "no port",
    "172.16.0.3:80",
];
const VERSIONS: [&str; 2] = ["2024-05-01T10:00:00.000Z", "2024-05-01T11:00:00.000Z"];
const STATES: [&str; 3] = ["TASK_RUNNING", "TASK_KILLING", "TASK_STAGING"];
const HOSTS: [&str; 6] = ["10.0.0.11", "10.0.0.12", "172.16.0.1", "agent.example", "2001:db8:a::1", "11.45.193.125"];

impl Odd {
    fn json(&self) -> Value {
        let task = |(n, (host, state, port, age)): (usize, &(usize, usize, u16, usize))| {
            json!({ "id": format!("t{}.{n}", self.id), "host": HOSTS[*host], "ports": [port],
                "state": STATES[*state], "version": VERSIONS[*age],
                "ipAddresses": [{ "ipAddress": format!("9.0.1.{}", self.id + 2) }] })
        };
        let labels: serde_json::Map<_, _> =
            self.labels.iter().enumerate().map(|(n, l)| (format!("VIP_{n}"), LABELS[*l].into())).collect();
        let networks = [
            json!({ "mode": "container/bridge" }),
            json!({ "mode": "container", "name": "dcos" }),
            json!({ "mode": "host" }),
        ];
        let mapping = json!({ "containerPort": 80, "labels": labels });
        let mut own = json!({});
        if self.grouped {
            own["SLUICE_GROUPS"] = "club".into();
        }
        if self.probed {
            own["SLUICE_HEALTH"] = "tcp".into();
        }
        let deployments = if self.deploying { json!([{ "id": "d" }]) } else { json!([]) };
        json!({ "id": format!("/app-{}", self.id), "networks": networks[self.networking..=self.networking], "labels": own,
            "version": VERSIONS[1], "deployments": deployments,
            "container": { "portMappings": [mapping.clone()] }, "portDefinitions": [mapping],
            "tasks": self.tasks.iter().enumerate().map(task).collect::<Vec<_>>() })
    }
}

fn odd() -> impl Strategy<Value = Odd> {
    let labels = proptest::collection::vec(0..LABELS.len(), 0..4);
    let tasks = proptest::collection::vec((0..HOSTS.len(), 0..3_usize, 31000..31003_u16, 0..2_usize), 0..3);
    let own = (proptest::bool::weighted(0.2), any::<bool>(), any::<bool>());
    (0..6_usize, labels, tasks, 0..3_usize, own).prop_map(
        |(id, labels, tasks, networking, (grouped, probed, deploying))| Odd {
            id,
            labels,
            tasks,
            networking,
            grouped,
            probed,
            deploying,
        },
    )
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(256))]
    #[test]
    fn one_app_after_the_other_gives_what_all_at_once_give(
        steps in proptest::collection::vec((0..2_usize, odd(), word()), 1..16),
        fixed_too in any::<bool>(),
    ) {
        let mut case = with_two();
        if fixed_too {
            case.config.services = vec![fixed("172.16.0.1:80", "10.0.0.99:8080"), fixed("172.16.0.9:80", "10.0.0.12:1")];
        }
        let local = local_from_config(&case.config);
        let mut serving = Serving::default();
        let mut apps: [BTreeMap<usize, Odd>; 2] = Default::default();
        let mut known = Desired::default();
        for (source, app, word) in steps {
            word.say(&mut case.view.health, &known);
            apps[source].insert(app.id, app);
            case.list(source, apps[source].values().map(Odd::json).collect());
            let (desired, report) = serving.serve(&case.config, &case.view, &case.claims, &local, [7; 16]);
            let (whole, of_whole) = serve(&case.config, &case.view, &case.claims, &local, [7; 16]);
            prop_assert_eq!(&desired.shared.services, &whole.shared.services);
            prop_assert_eq!(&desired.shared.containers, &whole.shared.containers);
            prop_assert_eq!(&report, &of_whole);
            case.claims.settle(report.in_use(), 1);
            known = desired;
        }
    }
}

/// Two Marathons, and source addresses of both families.
fn with_two() -> Case {
    let mut case = Case::of(json!([]));
    case.config.marathons.push(marathon("other"));
    case.config.snat.underlay6 = vec!["2001:db8::11".parse().unwrap()];
    case.list(1, json!([]));
    case
}

#[test]
fn services_of_other_apps_are_the_same_allocation_after_a_change() {
    let apps =
        |tasks| json!([bridge("/a", json!({ "VIP_0": "a:80" }), 1), bridge("/b", json!({ "VIP_0": "b:80" }), tasks)]);
    let mut case = Case::of(apps(1));
    let local = local_from_config(&case.config);
    let mut serving = Serving::default();
    let mut serve = |case: &mut Case, apps| {
        case.list(0, apps);
        let (desired, report) = serving.serve(&case.config, &case.view, &case.claims, &local, [7; 16]);
        case.claims.settle(report.in_use(), 1);
        desired.shared.services
    };
    let before = serve(&mut case, apps(1));
    let after = serve(&mut case, apps(2));
    let same: Vec<bool> = before.iter().zip(&after).map(|(a, b)| Arc::ptr_eq(a, b)).collect();
    assert_eq!(same.iter().filter(|same| **same).count(), 1, "{before:?} {after:?}");
    let renamed = json!([bridge("/a", json!({ "VIP_0": "a:80" }), 1), bridge("/c", json!({ "VIP_0": "c:80" }), 1)]);
    let third = serve(&mut case, renamed);
    let kept = third.iter().filter(|s| after.iter().any(|a| Arc::ptr_eq(a, s))).count();
    assert_eq!((third.len(), kept), (2, 1), "one app for another: the rest stays");
}

#[test]
fn a_change_of_one_app_is_patched_while_judgements_stay_and_another_judgement_makes_everything() {
    let app =
        |id: &str, tasks| bridge(id, json!({ "VIP_0": format!("{}:80", &id[1..]), "SLUICE_HEALTH": "tcp" }), tasks);
    let mut case = Case::of(json!([app("/a", 2), app("/b", 2)]));
    let local = local_from_config(&case.config);
    let mut serving = Serving::default();
    let mut serve = |case: &mut Case| {
        serving.tidy();
        let (desired, report) = serving.serve(&case.config, &case.view, &case.claims, &local, [7; 16]);
        assert_eq!(report, serve(&case.config, &case.view, &case.claims, &local, [7; 16]).1);
        case.claims.settle(report.in_use(), 1);
        (desired.shared.services, report, !serving.over.is_empty())
    };
    let (before, ..) = serve(&mut case);
    case.view.health.drained = vec![Drained { what: What::Task { id: "a.1".into() }, over: true }];
    let (drained, report, patched) = serve(&mut case);
    assert_eq!((report.removed.len(), report.judged.len(), patched), (1, 4, false));
    let kept = drained.iter().filter(|s| before.iter().any(|b| Arc::ptr_eq(b, s))).count();
    assert_eq!(kept, 1, "what nobody judges otherwise stays");
    case.list(0, json!([app("/a", 2), app("/b", 3)]));
    let (_, report, patched) = serve(&mut case);
    assert_eq!((report.removed.len(), report.judged.len(), patched), (1, 5, true));
    case.list(0, json!([app("/a", 1), app("/b", 3)]));
    let (_, report, patched) = serve(&mut case);
    assert_eq!((report.removed.len(), report.judged.len(), patched), (0, 4, true));
    case.list(0, json!([app("/a", 2), app("/b", 3)]));
    let (_, report, patched) = serve(&mut case);
    assert_eq!((report.removed.len(), report.judged.len(), patched), (1, 5, true));
}
