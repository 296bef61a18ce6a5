use std::net::IpAddr;

use proptest::prelude::*;
use serde_json::{Value, json};
use sluice_config::model::{Config, FailOpen, Service};

use super::*;
use crate::desire::{Claims, Serving, desire, serve};
use crate::fixture::{config, golden, golden_bytes, marathon, task};
use crate::health::combine::{Judge, Verdict};
use crate::mesos::{files, state};
use crate::offline::local_from_config;
use crate::view::{Event, share};

/// A state with one agent and the tasks of the framework `F`, each an id and its own fields.
fn facts(tasks: &[(&str, Value)]) -> Arc<Facts> {
    let task = |(id, more): &(&str, Value)| {
        let mut task = json!({ "id": id, "name": "web", "slave_id": "S1", "state": "TASK_RUNNING" });
        task.as_object_mut().unwrap().extend(more.as_object().unwrap().clone());
        task
    };
    let state = json!({
        "slaves": [{ "id": "S1", "hostname": "10.0.0.21", "pid": "slave(1)@10.0.0.21:5051" }],
        "frameworks": [{ "id": "F", "name": "marathon-user", "pid": "s@10.0.0.1:1", "tasks": tasks.iter().map(task).collect::<Vec<_>>() }],
    });
    Arc::new(state::read(state.to_string().as_bytes()).unwrap())
}

fn listing(tasks: Vec<Task>) -> Listing {
    let tasks = tasks.into_iter().map(Arc::new).collect();
    Listing { framework: Some("marathon".into()), framework_id: Some("F".into()), tasks, ..Listing::default() }
}

fn told(tasks: &[(&str, Value)]) -> Event {
    Event::Mesos { facts: facts(tasks), streaming: true }
}

fn polled(tasks: &[(&str, Value)]) -> Event {
    Event::Mesos { facts: facts(tasks), streaming: false }
}

fn heard(events: Vec<Event>) -> ClusterView {
    let mut view = ClusterView::default();
    events.into_iter().for_each(|event| view.apply(event));
    view
}

fn listed(tasks: Vec<Task>) -> Event {
    Event::Marathon { source: 0, listing: listing(tasks) }
}

/// Id and state of every task of a source.
fn states(view: &ClusterView, source: usize) -> Vec<(&str, TaskState)> {
    view.marathons.get(&source).into_iter().flat_map(|l| &l.tasks).map(|t| (t.id.as_str(), t.state)).collect()
}

use TaskState::{Killing, Running, Terminal};

#[test]
fn mesos_decides_who_is_there_and_where_and_marathon_adds_health_and_groups() {
    let mut known = task("web.1");
    known.health = Health::Unhealthy;
    known.groups = Arc::from(["club".to_owned()]);
    let network = json!({ "state": "TASK_KILLING", "statuses": [{ "state": "TASK_RUNNING", "timestamp": 1.0, "healthy": true,
        "container_status": { "network_infos": [{ "name": "dcos", "groups": ["more"], "ip_addresses": [{ "ip_address": "9.0.1.2" }] }] } }] });
    let view = heard(vec![listed(vec![known, task("web.2")]), told(&[("web.1", network), ("web.3", json!({}))])]);
    assert_eq!(states(&view, 0), [("web.1", Killing), ("web.2", Terminal), ("web.3", Running)]);
    let joined = &view.marathons[&0].tasks[0];
    assert_eq!((joined.health, joined.host.as_str(), joined.app.as_str()), (Health::Unhealthy, "10.0.0.21", "/web"));
    assert_eq!(joined.ips, ["9.0.1.2".parse::<IpAddr>().unwrap()]);
    assert_eq!(
        (joined.networks.as_slice(), joined.groups.to_vec()),
        (&["dcos".to_owned()][..], vec!["club".to_owned(), "more".to_owned()])
    );
    assert_eq!(view.marathons[&0].framework.as_deref(), Some("marathon-user"), "the framework's name is Mesos's");
    assert_eq!(view.marathons.len(), 1);
}

#[test]
fn a_task_has_one_app_whoever_tells_of_it_first() {
    let nested = ("app.1", json!({ "name": "app.group", "discovery": { "name": "app.group" } }));
    let view = heard(vec![listed(Vec::new()), told(&[nested])]);
    assert_eq!(view.marathons[&0].tasks[0].app, "/group/app");
}

#[test]
fn frameworks_that_no_marathon_speaks_for_have_sources_of_their_own_and_other_clusters_stay_alone() {
    let elsewhere = Listing { framework_id: Some("G".into()), tasks: vec![task("web.9").into()], ..Listing::default() };
    let view = heard(vec![Event::Marathon { source: 1, listing: elsewhere }, told(&[("web.1", json!({}))])]);
    assert_eq!(states(&view, 1), [("web.9", Running)]);
    assert_eq!(states(&view, MESOS), [("web.1", Running)]);
    assert_eq!(view.marathons[&MESOS].framework_host.as_deref(), Some("10.0.0.1"));
}

#[test]
fn while_mesos_does_not_stream_the_later_word_decides() {
    let both = || listed(vec![task("web.1"), task("web.2")]);
    let one = [("web.1", json!({}))];
    let view = heard(vec![both(), polled(&one)]);
    assert_eq!(states(&view, 0), [("web.1", Running), ("web.2", Terminal)]);
    let view = heard(vec![polled(&one), both()]);
    assert_eq!(states(&view, 0), [("web.1", Running), ("web.2", Running)]);
    let view = heard(vec![told(&one), both(), Event::MesosLost]);
    assert_eq!(states(&view, 0), [("web.1", Running), ("web.2", Terminal)], "the last facts stay");
    let view = heard(vec![told(&one), Event::MesosLost, listed(vec![task("web.2")])]);
    assert_eq!(states(&view, 0), [("web.2", Running)]);
}

#[test]
fn of_an_agent_that_a_new_master_waits_for_marathons_word_stands() {
    let mut held = Facts::clone(&facts(&[("old", json!({})), ("killed", json!({}))]));
    held.recovered.insert("S1".into());
    let on_s1 = |id: &str| Task { slave: Some("S1".into()), ..task(id) };
    let told = |facts: &Facts| Event::Mesos { facts: Arc::new(facts.clone()), streaming: true };
    let mut view = heard(vec![told(&held), listed(vec![on_s1("new"), on_s1("old"), task("elsewhere")])]);
    let expected = [("elsewhere", Terminal), ("new", Running), ("old", Running)];
    assert_eq!(states(&view, 0), expected);
    held.agents.insert("S2".into(), Arc::clone(&held.agents["S1"]));
    view.apply(told(&held));
    assert_eq!(states(&view, 0), expected, "another agent's coming says nothing of this one");
}

#[test]
fn what_mesos_could_not_be_read_of_stays_as_marathon_has_it() {
    let broken =
        json!({ "slaves": [], "frameworks": [{ "id": "F", "tasks": [{ "id": "web.1", "name": "n".repeat(5000) }] }] });
    let facts = Arc::new(state::read(broken.to_string().as_bytes()).unwrap());
    let view = heard(vec![listed(vec![task("web.1"), task("web.2")]), Event::Mesos { facts, streaming: true }]);
    assert_eq!(states(&view, 0), [("web.1", Running), ("web.2", Terminal)]);
}

#[test]
fn a_task_waits_for_its_agent_and_a_listing_that_is_as_it_was_is_the_same_one() {
    let lost = ("web.2", json!({ "slave_id": "S9" }));
    let mut view = heard(vec![told(&[("web.1", json!({})), lost.clone()])]);
    assert_eq!(states(&view, MESOS), [("web.1", Running)]);
    let before = Arc::clone(&view.marathons[&MESOS]);
    view.apply(told(&[("web.1", json!({})), lost]));
    assert!(Arc::ptr_eq(&before, &view.marathons[&MESOS]));
}

#[test]
fn where_a_discovery_port_is_reached_depends_on_scope_mapping_and_network() {
    let bridge = json!({ "docker": { "network": "BRIDGE", "port_mappings": [{ "host_port": 20560, "container_port": 8080, "protocol": "tcp" }] } });
    let plain_bridge = json!({ "docker": { "network": "BRIDGE" } });
    let dcos = json!({ "network_infos": [{ "name": "dcos" }] });
    let labels = |scope: &str| json!({ "labels": [{ "key": "network-scope", "value": scope }] });
    for (container, number, labels, expected) in [
        (&bridge, 20560, labels("host"), PortAt::Agent(20560)),
        (&bridge, 8080, Value::Null, PortAt::Agent(20560)),
        (&bridge, 20560, Value::Null, PortAt::Agent(20560)),
        (&plain_bridge, 31000, Value::Null, PortAt::Agent(31000)),
        (&plain_bridge, 8080, Value::Null, PortAt::Host(8080)),
        (&dcos, 8080, labels("container"), PortAt::Container(8080)),
        (&dcos, 31000, labels("host"), PortAt::Agent(31000)),
        (&dcos, 8080, Value::Null, PortAt::Host(8080)),
        (&Value::Null, 31000, Value::Null, PortAt::Host(31000)),
        (&Value::Null, 0, labels("container"), PortAt::Unallocated),
    ] {
        let discovery = json!({ "ports": { "ports": [{ "number": number, "protocol": "tcp", "labels": labels }] } });
        let task = json!({ "container": container, "discovery": discovery, "resources": { "ports": "[31000-31000]" } });
        let facts = facts(&[("t", task)]);
        assert_eq!(ports(&facts.tasks[0], &mut Vec::new())[0].at, expected, "{container} {number}");
    }
}

/// VIPs as dcos-net shows them: protocol, address, port, and each backend's address, port, weight and agent.
fn vips(services: &[Arc<Service>]) -> Vec<Value> {
    let backends = |s: &Service| {
        let one = |b: &sluice_config::model::Backend| json!([b.address.ip(), b.address.port(), b.weight, b.agent]);
        s.backends.iter().map(one).collect::<Vec<_>>()
    };
    let vip = |s: &Arc<Service>| json!([s.key.protocol.to_string(), s.key.ip, s.key.port, backends(s)]);
    sorted(services.iter().map(vip).collect())
}

fn sorted(mut all: Vec<Value>) -> Vec<Value> {
    all.sort_by_key(ToString::to_string);
    all
}

/// The configuration of the recording: DC/OS's built-in range; nobody who is unfit is used.
fn recorded(last: [u8; 4]) -> Config {
    let mut config = Config { marathons: vec![marathon("")], ..config() };
    config.vip.named = [11, 0, 0, 0].into()..=last.into();
    config.health.check.fail_open = FailOpen::Never;
    config
}

#[test]
fn every_recorded_stream_gives_the_vips_of_dcos_net() {
    for name in ["hello-overlay", "operator-api", "pod-tasks", "tcp-and-udp", "unhealthy", "vip-labels"] {
        let expected = golden(&format!("mesos-operator-api/expected/{name}.json"));
        let said = golden_bytes(&format!("mesos-operator-api/in/{name}.json"));
        let (Some(expected), Some(said)) = (expected, said) else { return };
        let view = heard(vec![Event::Mesos { facts: Arc::new(files::read(&said).unwrap()), streaming: true }]);
        let desired = |last| {
            let config = recorded(last);
            desire(&config, &view, &Claims::default(), &local_from_config(&config), [0; 16])
        };
        let (found, report) = desired([11, 255, 255, 254]);
        assert_eq!(report.rejected, [], "{name}");
        let one = |b: &Value| json!([b["ip"], b["port"], b["weight"], b["agent_ip"]]);
        let backends = |v: &Value| v["backends"].as_array().unwrap().iter().map(one).collect::<Vec<_>>();
        let vip = |v: &Value| json!([v["vip"]["protocol"], v["vip"]["ip"], v["vip"]["port"], backends(v)]);
        let wanted = expected["vips_resolved_max_254"].as_array().unwrap().iter().map(vip).collect();
        assert_eq!(vips(&found.shared.services), sorted(wanted), "{name}");
        let (_, report) = desired([11, 255, 255, 255]);
        let named = report.named.iter().map(|(dns, ip)| json!([format!("{dns}.l4lb.thisdcos.directory"), ip]));
        let wanted = expected["named_ips_max_11_255_255_255"].as_array().unwrap().iter();
        let wanted = wanted.map(|n| json!([n["dns"], n["ip"]]));
        assert_eq!(sorted(named.collect()), sorted(wanted.collect()), "{name}");
    }
}

#[test]
fn no_label_gets_the_address_of_a_master_or_of_an_agent() {
    let label = |vip: &str| json!({ "labels": [{ "key": "VIP_0", "value": vip }] });
    let port = |vip: &str| json!({ "discovery": { "ports": { "ports": [{ "number": 80, "protocol": "tcp", "labels": label(vip) }] } } });
    let mut facts = Facts::clone(&facts(&[("a", port("10.0.0.21:80")), ("b", port("10.0.9.9:80"))]));
    facts.leader = facts::Endpoint::read("10.0.9.9:5050");
    let view = heard(vec![Event::Mesos { facts: Arc::new(facts), streaming: true }]);
    let config = config();
    let (_, report) = desire(&config, &view, &Claims::default(), &local_from_config(&config), [0; 16]);
    let reasons: Vec<&str> = report.rejected.iter().map(|r| r.reason.as_str()).collect();
    let expected = [
        "10.0.0.21 is an agent's address: no VIP may have it",
        "10.0.9.9 is a Mesos master's address: no VIP may have it",
    ];
    assert_eq!(reasons, expected);
}

#[test]
fn who_judges_a_task_that_only_mesos_tells_of_is_mesos() {
    let Some(said) = golden_bytes("mesos-operator-api/in/unhealthy.json") else { return };
    let view = heard(vec![Event::Mesos { facts: Arc::new(files::read(&said).unwrap()), streaming: true }]);
    let config = recorded([11, 255, 255, 255]);
    let (_, report) = desire(&config, &view, &Claims::default(), &local_from_config(&config), [0; 16]);
    let judged: Vec<_> = report.judged.values().flat_map(|j| &j.opinions).map(|o| (o.judge, o.verdict)).collect();
    assert_eq!(judged, [(Judge::Mesos, Verdict::Unknown)], "its check has not spoken");
}

/// A state of two agents and two frameworks with some of six tasks, which share VIPs.
fn some_state(agents: usize, tasks: &[usize]) -> Event {
    let agent = |n: usize| json!({ "id": format!("S{n}"), "hostname": format!("10.0.0.2{n}") });
    let task = |n: &usize| {
        let vip = ["web:80", "10.0.0.21:80", "172.16.0.1:80", "odd"][n % 4];
        let label = json!({ "labels": [{ "key": "VIP_0", "value": vip }] });
        let ports = json!([{ "number": 31000 + n / 3, "protocol": "tcp", "labels": label }]);
        json!({ "id": format!("t.{n}"), "name": format!("app{}", n % 3), "slave_id": format!("S{}", n % 2),
            "state": "TASK_RUNNING", "discovery": { "ports": { "ports": ports } } })
    };
    let of = |framework: usize| tasks.iter().filter(move |n| *n % 2 == framework).map(task).collect::<Vec<_>>();
    let state = json!({
        "slaves": (0..agents).map(agent).collect::<Vec<_>>(),
        "frameworks": [{ "id": "F", "name": "one", "tasks": of(0) }, { "id": "G", "name": "two", "tasks": of(1) }],
    });
    Event::Mesos { facts: Arc::new(state::read(state.to_string().as_bytes()).unwrap()), streaming: true }
}

/// Something that one of the sources says.
#[derive(Clone, Debug)]
enum Word {
    Mesos { tasks: Vec<(usize, usize)>, streaming: bool, recovered: bool },
    Marathon { source: usize, tasks: Vec<usize>, twice: bool },
    Lost,
}

fn word() -> impl Strategy<Value = Word> {
    let some = || proptest::collection::btree_set(0..8_usize, 0..6);
    let mesos = (proptest::collection::btree_map(0..8_usize, 0..3_usize, 0..8), any::<bool>(), any::<bool>());
    let marathon = (0..2_usize, some(), any::<bool>());
    prop_oneof![
        3 => mesos.prop_map(|(tasks, streaming, recovered)| Word::Mesos { tasks: tasks.into_iter().collect(), streaming, recovered }),
        3 => marathon.prop_map(|(source, tasks, twice)| Word::Marathon { source, tasks: tasks.into_iter().collect(), twice }),
        1 => Just(Word::Lost),
    ]
}

/// What a word is, given what is known: tasks that are as they were are the same allocations.
fn spoken(word: Word, view: &ClusterView) -> Event {
    let before = view.mesos.as_deref();
    match word {
        Word::Lost => Event::MesosLost,
        Word::Marathon { source, tasks, twice } => {
            let id = if source == 0 { "F" } else { "elsewhere" };
            let mut all: Vec<Task> = tasks.iter().map(|n| task(&format!("web.{n}"))).collect();
            all.extend(
                tasks.first().filter(|_| twice).map(|n| Task { app: "/twin".into(), ..task(&format!("web.{n}")) }),
            );
            if let Some(last) = all.last_mut().filter(|_| tasks.len() % 2 == 0) {
                last.health = Health::Unhealthy;
            }
            let mut listing = Listing { framework_id: Some(id.into()), ..listing(all) };
            listing.tasks.sort();
            if let Some(said) = view.said.get(&source) {
                share(&mut listing.tasks, &said.listing.tasks);
            }
            Event::Marathon { source, listing }
        }
        Word::Mesos { tasks, streaming, recovered } => {
            let kind = |kind: usize| match kind {
                0 => json!({ "state": "TASK_KILLING" }),
                1 => {
                    json!({ "discovery": { "ports": { "ports": [{ "number": 80, "protocol": "sctp", "labels": { "labels": [
                    { "key": "VIP_0", "value": "a:80" }] } }] } } })
                }
                _ => json!({}),
            };
            let named: Vec<(String, Value)> = tasks.iter().map(|(n, of)| (format!("web.{n}"), kind(*of))).collect();
            let named: Vec<(&str, Value)> = named.iter().map(|(id, of)| (id.as_str(), of.clone())).collect();
            let mut facts = Facts::clone(&facts(&named));
            for task in &mut facts.tasks {
                let known = before.and_then(|before| before.tasks.iter().find(|known| *known == task));
                *task = known.map_or_else(|| Arc::clone(task), Arc::clone);
            }
            facts.recovered.extend(recovered.then(|| "f-S1".to_owned()));
            Event::Mesos { facts: Arc::new(facts), streaming }
        }
    }
}

proptest! {
    /// What is kept of the join before is what a join of everything gives.
    #[test]
    fn a_join_after_a_change_is_the_join_of_the_whole(words in proptest::collection::vec(word(), 1..12)) {
        let mut view = ClusterView::default();
        for word in words {
            let event = spoken(word, &view);
            view.apply(event);
            let whole = join(&ClusterView { past: None, ..view.clone() }).0;
            prop_assert_eq!(&view.marathons, &whole);
        }
    }

    /// What is told from what was served before is what is made as a whole.
    #[test]
    fn changes_of_mesos_are_served_as_the_whole_would_be(
        words in proptest::collection::vec((0usize..3, proptest::collection::btree_set(0usize..12, 0..6)), 1..6)
    ) {
        let (config, mut view, mut serving) = (config(), ClusterView::default(), Serving::default());
        let (local, mut claims) = (local_from_config(&config), Claims::default());
        for (agents, tasks) in words {
            view.apply(some_state(agents, &tasks.into_iter().collect::<Vec<_>>()));
            let whole = serve(&config, &view, &claims, &local, [0; 16]);
            let told = serving.serve(&config, &view, &claims, &local, [0; 16]);
            prop_assert_eq!(&told.0.shared.services, &whole.0.shared.services);
            prop_assert_eq!(&told.1, &whole.1);
            claims.settle(told.1.in_use(), 0);
        }
    }

    /// With a stream the view depends on what each source said last, not on whose word came first.
    #[test]
    fn any_order_of_two_sources_gives_one_view(first in 0usize..8, second in 0usize..8, swap: bool) {
        let some = |set: usize| (0..3).filter(move |n| set >> n & 1 == 1).map(|n| format!("web.{n}"));
        let mesos: Vec<String> = some(first).collect();
        let mesos: Vec<(&str, Value)> = mesos.iter().map(|id| (id.as_str(), json!({}))).collect();
        let marathon = listed(some(second).map(|id| task(&id)).collect());
        let (a, b) = (told(&mesos), marathon);
        let view = if swap { heard(vec![b, a]) } else { heard(vec![a, b]) };
        let serving: Vec<&str> = view.marathons.get(&0).into_iter().flat_map(|l| l.running()).collect();
        let expected: Vec<String> = some(first).collect();
        prop_assert_eq!(serving, expected);
    }
}
