use std::path::PathBuf;
use std::time::Instant;

use proptest::prelude::*;
use serde_json::Value;
use sluice_config::model::{Config, OverlayNetwork};

use super::desk::{Desk, DeskError, Wish};
use super::file::{File, LeasesError};
use super::token::Token;
use super::*;
use crate::fixture::golden;

fn config(text: &str) -> Config {
    sluice_config::parse(&format!("[[port]]\ninterface = \"eth0\"\n{text}"), "test").unwrap()
}

/// A VTEP subnet with 5 addresses beside our own and a network of 4 parts, of which one is ours and one an agent's.
const SMALL: &str = "[overlay]\nvtep = \"44.128.0.1/29\"\nleases = true\n\
    [[overlay.network]]\nname = \"dcos\"\nsubnet = \"9.0.0.0/22\"\nown = \"9.0.1.0/24\"\n\
    [[overlay.agent]]\nip = \"10.0.0.99\"\nvtep_ip = \"44.128.0.3\"\nsubnets = { dcos = \"9.0.2.0/24\" }\n";

fn pool(text: &str) -> Pool {
    Pool::of(&config(text), &[]).unwrap()
}

fn ip(last: u8) -> Ipv4Addr {
    Ipv4Addr::new(10, 0, 0, last)
}

fn dcos() -> Vec<String> {
    vec!["dcos".to_owned()]
}

#[test]
fn the_lowest_free_vtep_and_subnet_are_given_around_what_others_have() {
    let (mut leases, pool) = (Leases::default(), pool(SMALL));
    for last in [11, 12] {
        assert_eq!(leases.take(ip(last), &dcos(), &pool), Ok(true));
        assert_eq!(leases.take(ip(last), &dcos(), &pool), Ok(false), "a renewal changes nothing");
    }
    let places: Vec<String> =
        leases.leases.values().map(|l| format!("{} {} {}", l.vtep_ip, l.vtep_mac(), l.subnets["dcos"])).collect();
    assert_eq!(places, ["44.128.0.2 70:b3:d5:80:00:02 9.0.0.0/24", "44.128.0.4 70:b3:d5:80:00:04 9.0.3.0/24"]);
    let full = leases.take(ip(13), &dcos(), &pool).unwrap_err().to_string();
    assert!(full.contains("no /24 is free in 9.0.0.0/22 of network dcos") && full.contains("release"), "{full}");
    assert_eq!(leases.leases.len(), 2, "a refusal gives nothing, the VTEP neither");
    for last in 13..=14 {
        assert_eq!(leases.take(ip(last), &[], &pool), Ok(true));
    }
    assert_eq!(leases.take(ip(15), &[], &pool), Err(Refusal::NoVtep("44.128.0.0/29".parse().unwrap())));
    leases.release(ip(11)).unwrap();
    assert_eq!(leases.take(ip(16), &dcos(), &pool), Ok(true));
    assert_eq!(leases.leases[&ip(16)].subnets["dcos"].to_string(), "9.0.0.0/24");
}

#[test]
fn an_agent_that_leaves_keeps_its_place_and_one_that_others_place_gets_none() {
    let (mut leases, pool) = (Leases::default(), pool(SMALL));
    leases.take(ip(11), &dcos(), &pool).unwrap();
    let before = leases.leases[&ip(11)].clone();
    assert_eq!(leases.leave(ip(11)), Ok(true));
    assert_eq!(leases.leave(ip(11)), Ok(false));
    leases.take(ip(12), &dcos(), &pool).unwrap();
    assert_ne!(leases.leases[&ip(12)].vtep_ip, before.vtep_ip);
    assert_eq!(leases.take(ip(11), &dcos(), &pool), Ok(true));
    assert_eq!(leases.leases[&ip(11)], before);
    assert!(matches!(leases.take(ip(99), &dcos(), &pool), Err(Refusal::Elsewhere { .. })));
    assert!(matches!(leases.take(ip(13), &["lab".to_owned()], &pool), Err(Refusal::NoNetwork { .. })));
    assert_eq!(leases.leave(ip(13)), Err(Refusal::NoLease(ip(13))));
}

#[test]
fn a_lease_that_somebody_else_has_a_part_of_is_reported_and_not_renewed() {
    let mut leases = Leases::default();
    leases.take(ip(11), &dcos(), &pool(SMALL)).unwrap();
    let with = |other: &str| pool(&format!("{SMALL}[[overlay.agent]]\n{other}\n"));
    for (other, what) in [
        (
            "ip = \"10.0.0.98\"\nvtep_ip = \"44.128.0.2\"",
            "the VTEP address 44.128.0.2, which [[overlay.agent]] gives to 10.0.0.98",
        ),
        (
            "ip = \"10.0.0.98\"\nvtep_ip = \"44.128.0.6\"\nsubnets = { dcos = \"9.0.0.128/25\" }",
            "9.0.0.0/24, which overlaps",
        ),
    ] {
        let refused = leases.take(ip(11), &dcos(), &with(other)).unwrap_err().to_string();
        assert!(refused.contains(what) && refused.contains("sluice overlay release 10.0.0.11"), "{refused}");
    }
    let module = OverlayAgent {
        ip: ip(97),
        vtep_ip: Ipv4Addr::new(44, 128, 0, 2),
        vtep_mac: Mac::default(),
        subnets: BTreeMap::new(),
        subnets6: BTreeMap::new(),
    };
    let folder = Folder::new("conflict");
    let mut desk = folder.desk(pool(SMALL)).unwrap();
    desk.obey(ip(11), &Wish::Take(dcos()), Instant::now()).unwrap();
    assert_eq!(desk.settle(&config(SMALL), &[]).unwrap().agents.len(), 1);
    assert_eq!(desk.settle(&config(SMALL), &[]), None, "nothing has changed");
    let leased = desk.settle(&config(SMALL), &[module]).unwrap();
    assert!(leased.agents.is_empty() && leased.rejected[0].reason.contains("DC/OS's overlay module"), "{leased:?}");
    assert_eq!(desk.rows(Instant::now())[0].state, "conflict");
}

#[test]
fn a_network_that_is_taken_out_takes_no_agent_out_of_the_others_and_comes_back_as_it_was() {
    let with_lab = format!(
        "{SMALL}[[overlay.network]]\nname = \"lab\"\nsubnet = \"172.20.0.0/23\"\nprefix = 25\n\
         subnet6 = \"fd01:b::/64\"\nown6 = \"fd01:b::/80\"\n"
    );
    let both = vec!["dcos".to_owned(), "lab".to_owned()];
    let folder = Folder::new("gone");
    let mut desk = folder.desk(pool(&with_lab)).unwrap();
    let (before, _) = desk.obey(ip(11), &Wish::Take(both.clone()), Instant::now()).unwrap();
    assert_eq!((before.subnets.len(), before.subnets6.len()), (2, 1));
    let mut desk = folder.desk(pool(SMALL)).unwrap();
    let leased = desk.settle(&config(SMALL), &[]).unwrap();
    let (now, changed) = desk.obey(ip(11), &Wish::Take(dcos()), Instant::now()).unwrap();
    assert_eq!((now.subnets.keys().cloned().collect::<Vec<_>>(), now.subnets6.len(), changed), (dcos(), 0, false));
    assert_eq!(leased.rejected, []);
    assert_eq!(leased.agents, [now.agent(ip(11))]);
    assert_eq!(desk.lease(ip(11)), Some(now));
    let mut desk = folder.desk(pool(&with_lab)).unwrap();
    assert_eq!(desk.obey(ip(11), &Wish::Take(both), Instant::now()).unwrap(), (before, false));
}

#[test]
fn nothing_is_given_that_cannot_be_kept_and_a_broken_file_is_no_empty_one() {
    let mut desk = Desk::open(None, pool(SMALL)).unwrap();
    assert!(matches!(desk.obey(ip(11), &Wish::Take(dcos()), Instant::now()), Err(DeskError::NotKept)));
    assert!(desk.rows(Instant::now()).is_empty());
    let folder = Folder::new("broken");
    std::fs::write(folder.file().path, b"{\"leases\":").unwrap();
    assert!(matches!(folder.desk(pool(SMALL)), Err(LeasesError::Format { .. })));
    let twice = "{\"leases\":{\"10.0.0.1\":{\"vtep_ip\":\"44.128.0.2\",\"subnets\":{\"dcos\":\"9.0.0.0/23\"}},\
                 \"10.0.0.2\":{\"vtep_ip\":\"44.128.0.4\",\"subnets\":{\"dcos\":\"9.0.1.0/24\"}}}}";
    std::fs::write(folder.file().path, twice).unwrap();
    let said = folder.desk(pool(SMALL)).unwrap_err().to_string();
    assert!(said.contains("9.0.0.0/23 of 10.0.0.1 and 9.0.1.0/24 of 10.0.0.2 overlap"), "{said}");
}

#[test]
fn a_token_is_one_long_line_and_shown_whole() {
    let folder = Folder::new("token");
    let path = folder.0.join("token");
    for bad in ["", "short\n", "one line of words\n", "0123456789abcdef\n0123456789abcdef\n"] {
        std::fs::write(&path, bad).unwrap();
        assert!(Token::read("overlay.token_file", &path).is_err(), "{bad:?}");
    }
    std::fs::write(&path, "0123456789abcdef\n").unwrap();
    let token = Token::read("overlay.token_file", &path).unwrap();
    assert!(token.is_shown(b"Bearer 0123456789abcdef"));
    assert!(!token.is_shown(b"Bearer 0123456789abcdeF") && !token.is_shown(b"Bearer ") && !token.is_shown(b""));
    assert!(!format!("{token:?}").contains("0123"));
}

/// What the module gives in each recorded case, and what is given here.
#[test]
fn allocation_is_the_overlay_modules() {
    let Some(golden) = golden("overlay/allocation-and-node-config.json") else { return };
    for case in golden["cases"].as_array().unwrap() {
        let networks: Vec<OverlayNetwork> =
            case["config"]["overlays"].as_array().unwrap().iter().map(network).collect();
        let names: Vec<String> = networks.iter().map(|n| n.name.clone()).collect();
        let vtep = case["config"]["vtep_subnet"].as_str().unwrap().parse().unwrap();
        let pool = Pool { vtep, networks, places: Vec::new() };
        let mut leases = Leases::default();
        for agent in case["register_order"].as_array().unwrap() {
            leases.take(agent.as_str().unwrap().parse().unwrap(), &names, &pool).unwrap();
        }
        for agent in case["agents"].as_array().unwrap() {
            let lease = &leases.leases[&agent["ip"].as_str().unwrap().parse().unwrap()];
            for overlay in agent["overlays"].as_array().unwrap() {
                let vxlan = &overlay["backend"]["vxlan"];
                assert_eq!(vxlan["vtep_ip"], format!("{}/{}", lease.vtep_ip, vtep.prefix_len()));
                assert_eq!(vxlan["vtep_mac"], lease.vtep_mac().to_string());
                let name = overlay["info"]["name"].as_str().unwrap();
                if let Some(subnet) = overlay["subnet"].as_str() {
                    assert_eq!(lease.subnets[name].to_string(), subnet);
                }
                if let Some(subnet) = overlay["subnet6"].as_str() {
                    assert_eq!(lease.subnets6[name], subnet.parse().unwrap());
                }
            }
        }
    }
}

/// A recorded network; one of IPv6 alone has some IPv4 subnet, which is not compared.
fn network(overlay: &Value) -> OverlayNetwork {
    let text = |key: &str| overlay[key].as_str();
    let number = |key: &str, default: u8| overlay[key].as_u64().map_or(default, |n| n as u8);
    OverlayNetwork {
        name: text("name").unwrap().to_owned(),
        subnet: text("subnet").unwrap_or("172.31.0.0/16").parse().unwrap(),
        prefix: number("prefix", 24),
        subnet6: text("subnet6").map(|net| net.parse().unwrap()),
        prefix6: number("prefix6", 80),
        ..OverlayNetwork::default()
    }
}

/// A folder of the test's own.
struct Folder(PathBuf);

impl Folder {
    fn new(name: &str) -> Self {
        let folder = std::env::temp_dir().join(format!("sluice-leases-{name}-{}", std::process::id()));
        std::fs::create_dir_all(&folder).unwrap();
        Self(folder)
    }

    fn file(&self) -> File {
        File { path: self.0.join("leases.json") }
    }

    fn desk(&self, pool: Pool) -> Result<Desk, LeasesError> {
        Desk::open(Some(self.file()), pool)
    }
}

impl Drop for Folder {
    fn drop(&mut self) {
        let _ = std::fs::remove_dir_all(&self.0);
    }
}

/// One thing that happens to the desk.
#[derive(Clone, Debug)]
enum Step {
    Wish(u8, Wish),
    /// The process ends, however it does, and the next one opens the file.
    Restart,
    /// It ends while it writes: this share of the new file is there, beside the old one.
    Torn(u8),
    /// The file cannot be written.
    Full(u8, Wish),
}

fn step() -> impl Strategy<Value = Step> {
    let wish = prop_oneof![
        6 => prop_oneof![Just(dcos()), Just(Vec::new()), Just(vec!["dcos".to_owned(), "lab".to_owned()])].prop_map(Wish::Take),
        2 => Just(Wish::Leave),
        2 => Just(Wish::Release),
    ];
    let agent = 1..9_u8;
    prop_oneof![
        10 => (agent.clone(), wish.clone()).prop_map(|(agent, wish)| Step::Wish(agent, wish)),
        2 => Just(Step::Restart),
        1 => any::<u8>().prop_map(Step::Torn),
        1 => (agent, wish).prop_map(|(agent, wish)| Step::Full(agent, wish)),
    ]
}

/// What must be so after every step: the slow and obvious half of the model is the map of promises.
fn check(desk: &Desk, promised: &BTreeMap<Ipv4Addr, Lease>, pool: &Pool) {
    assert_eq!(desk.rows(Instant::now()).len(), promised.len());
    for (agent, lease) in promised {
        assert_eq!(desk.lease(*agent).as_ref(), Some(lease), "what was promised holds");
        assert_eq!(pool.conflict(lease), None);
        for (other, with) in promised.iter().filter(|(other, _)| *other != agent) {
            assert_ne!(lease.vtep_ip, with.vtep_ip, "{agent} {other}");
            for (a, b) in lease.all_subnets().flat_map(|a| with.all_subnets().map(move |b| (a, b))) {
                assert!(!a.contains(&b) && !b.contains(&a), "{agent} {other}");
            }
        }
    }
}

/// As many as the environment asks for; each writes files and waits for the disk, so few by themselves.
fn cases() -> u32 {
    std::env::var("PROPTEST_CASES").ok().and_then(|text| text.parse().ok()).unwrap_or(48)
}

proptest! {
    // PROPTEST_CASES=30000 is ten minutes.
    #![proptest_config(ProptestConfig::with_cases(cases()))]
    #[test]
    fn leases_churn_and_no_address_is_ever_in_two_places(steps in prop::collection::vec(step(), 1..60)) {
        static CASE: std::sync::atomic::AtomicU32 = std::sync::atomic::AtomicU32::new(0);
        let folder = Folder::new(&format!("model-{}", CASE.fetch_add(1, std::sync::atomic::Ordering::Relaxed)));
        let text = format!("{SMALL}[[overlay.network]]\nname = \"lab\"\nsubnet = \"172.20.0.0/23\"\nprefix = 25\n\
             subnet6 = \"fd01:b::/64\"\nprefix6 = 66\nown6 = \"fd01:b:0:0:4000::/66\"\n");
        let pool = pool(&text);
        let mut desk = folder.desk(pool.clone()).unwrap();
        let mut promised: BTreeMap<Ipv4Addr, Lease> = BTreeMap::new();
        for step in steps {
            match step {
                Step::Wish(agent, wish) => {
                    let agent = ip(agent);
                    match (desk.obey(agent, &wish, Instant::now()), &wish) {
                        (Ok((lease, _)), Wish::Take(networks)) => {
                            if let Some(before) = promised.get(&agent) {
                                prop_assert_eq!(before.vtep_ip, lease.vtep_ip);
                                prop_assert!(before.subnets.iter().all(|(name, net)| lease.subnets[name] == *net));
                            }
                            prop_assert!(pool.is_whole(&lease, networks) && !lease.left);
                            promised.insert(agent, lease);
                        }
                        (Ok((lease, _)), Wish::Leave) => drop(promised.insert(agent, lease)),
                        (Ok(_), Wish::Release) => prop_assert!(promised.remove(&agent).is_some()),
                        (Err(DeskError::Refused(Refusal::NoLease(_))), _) => prop_assert!(!promised.contains_key(&agent)),
                        (Err(DeskError::Refused(Refusal::NoVtep(_) | Refusal::NoSubnet { .. })), _) => {}
                        (Err(error), _) => prop_assert!(false, "{error}"),
                    }
                }
                Step::Restart => desk = folder.desk(pool.clone()).unwrap(),
                Step::Torn(share) => {
                    let whole = std::fs::read(folder.file().path).unwrap_or_default();
                    let part = whole.len() * usize::from(share) / 255;
                    std::fs::write(folder.0.join("leases.json.new"), &whole[..part]).unwrap();
                    desk = folder.desk(pool.clone()).unwrap();
                }
                Step::Full(agent, wish) => {
                    // A folder in its place: nothing can be written beside the old file.
                    let beside = folder.0.join("leases.json.new");
                    let _ = std::fs::remove_file(&beside);
                    std::fs::create_dir(&beside).unwrap();
                    if let Ok((_, changed)) = desk.obey(ip(agent), &wish, Instant::now()) {
                        prop_assert!(!changed);
                    }
                    std::fs::remove_dir(&beside).unwrap();
                }
            }
            check(&desk, &promised, &pool);
        }
    }
}
