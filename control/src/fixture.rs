//! What the tests share: a configuration, a task, and the recorded answers of the original programs where they are there.

use std::net::{Ipv4Addr, Ipv6Addr};
use std::path::{Path, PathBuf};
use std::sync::Arc;

use serde_json::Value;
use sluice_config::model::{
    AnswerRates, Api, Config, Dns, DnsHealth, Empty, Gateway, Health as HealthSection, IpSource, Isolation, Limits,
    Mac, Marathon, Mode, Overlay, OverlayNetwork, Port, Role, Sharing, Snat, Timeouts, Vip, Vni, Workers, XdpMode,
};

use crate::view::{Health, Rollout, Task, TaskState};

/// A file below the golden folder; `None`, with a sentence, where that is absent.
pub(crate) fn golden_bytes(path: &str) -> Option<Vec<u8>> {
    let beside = Path::new(env!("CARGO_MANIFEST_DIR")).join("../../shared/golden");
    let worktree = Path::new(env!("CARGO_MANIFEST_DIR")).join("../../../shared/golden");
    let beside = if beside.exists() { beside } else { worktree };
    let folder = std::env::var_os("SLUICE_GOLDEN").map_or(beside, PathBuf::from);
    match std::fs::read(folder.join(path)) {
        Ok(bytes) => Some(bytes),
        Err(error) => {
            println!("skipped: {path} is not in {} ({error})", folder.display());
            None
        }
    }
}

pub(crate) fn golden(path: &str) -> Option<Value> {
    golden_bytes(path).map(|bytes| serde_json::from_slice(&bytes).unwrap())
}

pub(crate) fn task(id: &str) -> Task {
    Task {
        id: id.to_owned(),
        app: "/web".to_owned(),
        name: "web".to_owned(),
        slave: Some("f-S1".to_owned()),
        host: "10.0.0.11".to_owned(),
        state: TaskState::Running,
        health: Health::Unchecked,
        rollout: Rollout::None,
        ips: Vec::new(),
        ports: Vec::new(),
        networks: Vec::new(),
        groups: Arc::from([]),
        labels: Arc::default(),
    }
}

/// One Marathon, the network `dcos`, DNS on 192.0.2.53; the defaults of design.md section 8 otherwise.
pub(crate) fn config() -> Config {
    Config {
        ports: vec![Port {
            name: "lan".into(),
            interface: "eth0".into(),
            queues: vec![0, 1],
            mode: XdpMode::Auto,
            mac: Some(Mac([2, 0, 0, 0, 0, 1])),
            addresses: vec!["192.0.2.10/24".parse().unwrap()],
            addresses6: Vec::new(),
            role: Role::Both,
            mtu: None,
            arp: true,
        }],
        workers: Workers::default(),
        neighbours: Vec::new(),
        routes: Vec::new(),
        marathons: vec![marathon("")],
        mesos: None,
        vip: Vip {
            named: Ipv4Addr::new(11, 0, 0, 0)..=Ipv4Addr::new(11, 255, 255, 255),
            named6: "fd01:c::".parse::<Ipv6Addr>().unwrap()..="fd01:c::ffff:ffff:ffff:ffff".parse().unwrap(),
            mode: Mode::Nat,
            sharing: Sharing::Union,
            empty: Empty::Reset,
            second_chance: false,
            store: None,
            hash_key_file: None,
        },
        services: Vec::new(),
        snat: Snat {
            underlay: vec![Ipv4Addr::new(192, 0, 2, 11)],
            underlay6: Vec::new(),
            overlay: vec![Ipv4Addr::new(9, 0, 9, 2)],
            overlay6: Vec::new(),
            ports: 1024..=65535,
            quota: None,
        },
        dns: dns(),
        overlay: Some(overlay()),
        api: Api { listen: None, socket: "/run/sluice.sock".into() },
        limits: Limits {
            sessions: 1024,
            masquerade: 1024,
            frames: 1024,
            rings: 64,
            handover: 64,
            services: 10_000,
            backends: 100_000,
            answers: AnswerRates::default(),
        },
        timeouts: Timeouts::default(),
        health: HealthSection::default(),
        host: None,
    }
}

pub(crate) fn marathon(framework: &str) -> Marathon {
    Marathon {
        urls: vec!["http://127.0.0.1:8080".into()],
        framework: framework.into(),
        user: None,
        password_file: None,
        token_file: None,
        ca_file: None,
    }
}

fn dns() -> Dns {
    Dns {
        addresses: vec![Ipv4Addr::new(192, 0, 2, 53)],
        domain: "mesos".into(),
        ttl: 60,
        dcos_ttl: 5,
        negative_ttl: 5,
        soa_mname: "ns1.mesos".into(),
        soa_rname: "root.ns1.mesos".into(),
        soa_refresh: 60,
        soa_retry: 600,
        soa_expire: 86400,
        edns_max: 1232,
        truncate_bit: true,
        recurse: true,
        external: false,
        resolvers: Vec::new(),
        zone_resolvers: std::collections::BTreeMap::new(),
        ip_sources: vec![IpSource::Host, IpSource::NetInfo],
        enforce_rfc952: false,
        addresses6: Vec::new(),
        health: DnsHealth::Prefer,
        compat: false,
        srv_weight: 1,
        enumeration: true,
        cluster_id: String::new(),
        trusted: Vec::new(),
        responses_per_second: 200,
        cookie_secret_file: None,
        nsid: String::new(),
        zones: Vec::new(),
    }
}

fn overlay() -> Overlay {
    Overlay {
        vni: Vni::new(1024).unwrap(),
        udp_port: 64000,
        vtep: "44.128.0.9/20".parse().unwrap(),
        vtep_mac: Mac([0x70, 0xb3, 0xd5, 0x80, 0, 9]),
        underlay: None,
        mtu: None,
        leases: None,
        gateway: Gateway::Off,
        networks: vec![OverlayNetwork {
            name: "dcos".into(),
            subnet: "9.0.0.0/8".parse().unwrap(),
            prefix: 24,
            own: Some("9.0.9.0/24".parse().unwrap()),
            isolation: Isolation::Enforced,
            ..OverlayNetwork::default()
        }],
        agents: Vec::new(),
    }
}
