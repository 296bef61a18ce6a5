//! A configuration and tables for the namespaces of `lab`.

use super::*;

pub(crate) fn config(queues: &[u32], mode: XdpMode) -> Config {
    let port = ConfigPort {
        name: "front".to_owned(),
        interface: "s0".to_owned(),
        queues: queues.to_vec(),
        mode,
        mac: None,
        addresses: Vec::new(),
        addresses6: Vec::new(),
        role: Role::Both,
        mtu: None,
        arp: true,
    };
    Config {
        ports: vec![port],
        workers: Workers { cores: Vec::new(), idle: Idle::Adaptive },
        neighbours: Vec::new(),
        routes: Vec::new(),
        marathons: Vec::new(),
        mesos: None,
        vip: Vip {
            named: Ipv4Addr::new(11, 0, 0, 0)..=Ipv4Addr::new(11, 255, 255, 255),
            named6: "fd01:c::".parse().unwrap()..="fd01:c::ffff".parse().unwrap(),
            mode: Mode::Nat,
            sharing: Sharing::Union,
            empty: sluice_config::model::Empty::Reset,
            second_chance: false,
            store: None,
            hash_key_file: None,
        },
        services: Vec::new(),
        snat: Snat {
            underlay: Vec::new(),
            underlay6: Vec::new(),
            overlay: Vec::new(),
            overlay6: vec![],
            ports: 1024..=65535,
            quota: None,
        },
        dns: dns(),
        overlay: None,
        api: Api { listen: None, socket: "/run/sluice.sock".into() },
        limits: Limits {
            sessions: 1024,
            masquerade: 64,
            frames: FRAMES,
            rings: RING,
            handover: 64,
            services: 16,
            backends: 16,
            answers: AnswerRates::default(),
        },
        timeouts: Timeouts::default(),
        health: sluice_config::model::Health::default(),
        host: None,
    }
}

pub(crate) fn dns() -> Dns {
    Dns {
        addresses: Vec::new(),
        domain: "mesos".to_owned(),
        ttl: 60,
        dcos_ttl: 5,
        negative_ttl: 5,
        soa_mname: "ns1.mesos".to_owned(),
        soa_rname: "root.ns1.mesos".to_owned(),
        soa_refresh: 60,
        soa_retry: 600,
        soa_expire: 86400,
        edns_max: 1232,
        truncate_bit: true,
        recurse: true,
        external: false,
        resolvers: Vec::new(),
        zone_resolvers: std::collections::BTreeMap::new(),
        ip_sources: Vec::new(),
        enforce_rfc952: false,
        addresses6: Vec::new(),
        health: sluice_config::model::DnsHealth::Prefer,
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

/// Tables in which `addresses` are SNAT addresses, which are steered like VIPs.
pub(crate) fn tables(addresses: &[Ipv4Addr]) -> Arc<Tables> {
    compile(desired(addresses))
}

pub(crate) fn compile(desired: Desired) -> Arc<Tables> {
    let mut ids = Ids::new(16, 16, 0);
    Arc::new(Tables::compile(&Arc::new(desired), &mut ids, Nanos(0), None).unwrap())
}

pub(crate) fn desired(snat: &[Ipv4Addr]) -> Desired {
    let mut desired = Desired::default();
    desired.local.snat_underlay = snat.to_vec();
    desired.local.snat_ports = (1024, 65535);
    desired.local.workers = 2;
    desired.local.ports = vec![LocalPort {
        name: "front".to_owned(),
        mac: Mac(OUR_MAC),
        addresses: Vec::new(),
        addresses6: Vec::new(),
        mtu: 1500,
        role: Role::Both,
        arp: true,
    }];
    desired
}

/// A UDP service on the VIP, port 7, whose backend is the client's port 5001.
pub(crate) fn balanced() -> Desired {
    let client = Ipv4Addr::new(10, 9, 0, 2);
    let mut desired = desired(&[Ipv4Addr::new(10, 9, 0, 102)]);
    desired.local.neighbours = vec![Neighbour { ip: client.into(), mac: Mac(CLIENT_MAC), port: 0 }];
    desired.local.routes = vec![Route { prefix: "10.9.0.0/24".parse().unwrap(), via: None, port: 0 }];
    let backend = Backend {
        address: (client, 5001).into(),
        network: None,
        weight: 1,
        agent: None,
        task: None,
        groups: Vec::new(),
    };
    let key = VipKey { protocol: Protocol::Udp, ip: VIP.into(), port: 7 };
    desired.shared.services = vec![Service::plain(key, vec![backend])].into();
    desired
}
