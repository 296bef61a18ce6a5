//! What the file says is what the configuration means, and what it leaves out is filled in as designed.
#![allow(clippy::unwrap_used, clippy::panic, reason = "a test file")]

use sluice_config::model::{Config, Empty, FailOpen, Idle, IpSource, Mode, Pace, Probe, Protocol, Role, Sharing};

fn parse(text: &str) -> Config {
    sluice_config::parse(text, "t.toml").unwrap_or_else(|errors| panic!("{errors}"))
}

const OVERLAY: &str =
    "[overlay]\nvtep = \"44.128.0.9/20\"\n[[overlay.network]]\nname = \"dcos\"\nsubnet = \"9.0.0.0/8\"\n";

#[test]
fn the_balancer_example_means_what_it_says() {
    let config = parse(include_str!("../examples/balancer.toml"));
    let [outside, cluster] = config.ports.as_slice() else { panic!("{:?}", config.ports) };
    assert_eq!((outside.name.as_str(), outside.interface.as_str(), outside.role), ("outside", "eth0", Role::Client));
    assert_eq!((outside.arp, cluster.arp, cluster.role.is_underlay()), (false, true, true));
    assert_eq!((config.workers.cores, config.workers.idle), (vec![2, 3], Idle::Spin));
    assert_eq!(config.marathons[0].urls, ["http://10.0.0.2:8080", "http://10.0.0.3:8080"]);
    assert_eq!(config.snat.ports, 1024..=65_535);
    assert_eq!(config.dns.ip_sources, [IpSource::Host, IpSource::NetInfo]);
    assert_eq!((config.timeouts.tcp_established, config.timeouts.udp), (1800, 60));
    assert_eq!((config.limits.sessions, config.limits.frames, config.limits.rings), (1_048_576, 16_384, 2048));
}

#[test]
fn the_replay_example_names_ports_by_index() {
    let config = parse(include_str!("../examples/replay.toml"));
    assert_eq!(
        config.neighbours.iter().map(|n| (n.ip.to_string(), n.port)).collect::<Vec<_>>(),
        [("192.0.2.1".to_owned(), 0), ("10.0.0.11".to_owned(), 1)]
    );
    assert_eq!(config.routes[1].prefix.to_string(), "10.1.0.0/16");
    assert_eq!((config.routes[1].via.unwrap().to_string(), config.routes[1].port), ("10.0.0.11".to_owned(), 1));
    assert!(config.host.is_none());
    assert_eq!(config.snat.ports, 1024..=2047);
}

#[test]
fn services_and_backends_are_sorted_and_weigh_one() {
    let backends = "backends = [{ address = \"10.0.0.2:80\", weight = 3 }, { address = \"10.0.0.1:80\" }]";
    let config = parse(&format!(
        "[snat]\nunderlay = [\"192.0.2.200\"]\n[[service]]\nvip = \"172.16.0.1:53\"\nprotocol = \"udp\"\n[[service]]\nvip = \"172.16.0.1:80\"\n{backends}"
    ));
    let [tcp, udp] = config.services.as_slice() else { panic!("{:?}", config.services) };
    assert_eq!((tcp.key.protocol, udp.key.protocol), (Protocol::Tcp, Protocol::Udp));
    let weights: Vec<_> = tcp.backends.iter().map(|b| (b.address.to_string(), b.weight)).collect();
    assert_eq!(weights, [("10.0.0.1:80".to_owned(), 1), ("10.0.0.2:80".to_owned(), 3)]);
}

#[test]
fn a_vteps_mac_is_the_oui_and_the_low_24_bits_of_its_address() {
    let overlay =
        parse(&format!("{OVERLAY}[[overlay.agent]]\nip = \"10.0.0.11\"\nvtep_ip = \"44.128.0.1\"")).overlay.unwrap();
    assert_eq!(overlay.vtep_mac.to_string(), "70:b3:d5:80:00:09");
    assert_eq!(overlay.agents[0].vtep_mac.to_string(), "70:b3:d5:80:00:01");
    assert_eq!((overlay.vni.get(), overlay.udp_port, overlay.networks[0].prefix), (1024, 64_000, 24));
}

#[test]
fn our_own_part_is_the_one_that_holds_the_snat_address() {
    let overlay = parse(&format!("{OVERLAY}[snat]\noverlay = [\"9.0.9.2\"]")).overlay.unwrap();
    assert_eq!(overlay.networks[0].own.unwrap().to_string(), "9.0.9.0/24");
}

#[test]
fn our_own_record_among_the_agents_gives_our_part_and_is_no_remote_agent() {
    let own = "[[overlay.agent]]\nip = \"10.0.0.9\"\nvtep_ip = \"44.128.0.9\"\nvtep_mac = \"02:00:00:00:00:09\"\nsubnets = { dcos = \"9.0.9.0/24\" }";
    let overlay = parse(&format!("{OVERLAY}{own}")).overlay.unwrap();
    assert_eq!(overlay.networks[0].own.unwrap().to_string(), "9.0.9.0/24");
    assert_eq!(overlay.underlay.unwrap().to_string(), "10.0.0.9");
    assert_eq!(overlay.vtep_mac.to_string(), "02:00:00:00:00:09");
    assert!(overlay.agents.is_empty());
}

#[test]
fn an_empty_listen_address_is_no_listener_and_a_disabled_host_port_is_none() {
    let config = parse("[api]\nlisten = \"\"\nsocket = \"/tmp/s\"\n[host]\nenabled = false");
    assert!(config.api.listen.is_none() && config.host.is_none());
    assert_eq!(config.api.socket.to_str(), Some("/tmp/s"));
}

#[test]
fn names_lose_their_final_dot_and_their_capitals() {
    let config = parse("[dns]\ndomain = \"Mesos.\"\nsoa_mname = \"NS1.mesos.\"");
    assert_eq!((config.dns.domain.as_str(), config.dns.soa_mname.as_str()), ("mesos", "ns1.mesos"));
}

#[test]
fn snat_ports_are_whole_blocks_dealt_to_the_workers_in_turn() {
    let snat = |ports: &str| parse(&format!("[snat]\nports = \"{ports}\"")).snat;
    let all = snat("1024-65535");
    assert_eq!((all.blocks(), all.ports_per_worker(1), all.ports_per_worker(2)), (1008, 64_512, 32_256));
    let odd = snat("1000-1151");
    assert_eq!((odd.blocks(), odd.ports_per_worker(2)), (2, 64));
    assert_eq!(odd.ports_per_worker(4), 0);
}

#[test]
fn of_a_marathons_urls_those_with_an_address_are_known_by_it() {
    let urls = "[\"http://10.0.0.2:8080/x\", \"https://10.0.0.3\", \"http://marathon.example:8080\"]";
    let config = parse(&format!("[snat]\nunderlay = [\"192.0.2.200\"]\n[[marathon]]\nurls = {urls}"));
    let found: Vec<_> = config.marathons[0].addresses().map(|ip| ip.to_string()).collect();
    assert_eq!(found, ["10.0.0.2", "10.0.0.3"]);
}

#[test]
fn a_services_check_takes_what_it_leaves_out_from_health_as_far_as_its_protocol_can_be_asked() {
    let health = "[health]\nkind = \"http\"\npath = \"/up\"\nrise = 4\nfail_open = false\n";
    let services = [
        ("1", "tcp", "interval_seconds = 9"),
        ("2", "tcp", "kind = \"tcp\", fail_open = true"),
        ("3", "udp", "fall = 7"),
        ("4", "sctp", "rise = 5"),
    ];
    let text: String = services
        .map(|(n, protocol, check)| {
            format!("[[service]]\nvip = \"172.16.0.{n}:80\"\nprotocol = \"{protocol}\"\nhealth = {{ {check} }}\n")
        })
        .concat();
    let config = parse(&format!("{health}{text}[[service]]\nvip = \"172.16.0.9:80\"\n"));
    let check = |ip: &str| config.services.iter().find(|s| s.key.ip.to_string() == ip).unwrap().health.clone();
    let http = check("172.16.0.1").unwrap();
    assert_eq!((http.probe, http.fail_open), (Probe::http("/up"), FailOpen::Never));
    assert_eq!(http.pace, Pace { interval_seconds: 9, rise: 4, ..Pace::default() });
    let tcp = check("172.16.0.2").unwrap();
    assert_eq!((tcp.probe, tcp.fail_open), (Probe::Tcp, FailOpen::All));
    let udp = check("172.16.0.3").unwrap();
    assert_eq!((udp.probe, udp.pace.fall), (Probe::Off, 7));
    let sctp = check("172.16.0.4").unwrap();
    assert_eq!((sctp.probe, sctp.pace.rise), (Probe::Off, 5));
    assert!(check("172.16.0.9").is_none(), "what says nothing is as in [health]");
}

#[test]
fn a_service_has_what_vip_says_unless_it_says_otherwise() {
    let config = parse(
        r#"
        [vip]
        mode = "dsr-ipip"
        sharing = "owner"
        empty = "drop"
        second_chance = true
        store = "/var/lib/sluice/vips.json"
        [[service]]
        vip = "[2001:db8::1]:80"
        backends = [{ address = "10.0.0.11:80" }, { address = "[2001:db8:1::11]:80" }]
        [[service]]
        vip = "172.16.0.1:5060"
        protocol = "sctp"
        mode = "nat-preserve"
        empty = "reset"
        new_per_second = 100
        sessions = 5000
        allow = ["10.0.0.0/8", "172.16.0.0/12"]
        deny = ["10.66.0.0/16"]
        maglev_size = 65537
        health = { kind = "off" }
        backends = [{ address = "10.0.0.11:5061" }]
        "#,
    );
    assert_eq!((config.vip.sharing, config.vip.second_chance), (Sharing::Owner, true));
    assert_eq!(config.vip.store.unwrap().to_str(), Some("/var/lib/sluice/vips.json"));
    let [web, sip] = config.services.as_slice() else { panic!("{:?}", config.services) };
    assert_eq!(
        (web.key.to_string().as_str(), web.mode, web.empty),
        ("[2001:db8::1]:80/tcp", Mode::DsrIpip, Empty::Drop)
    );
    assert_eq!((web.backends.len(), web.maglev_size, web.admission.sessions), (2, None, None));
    assert_eq!((sip.key.protocol, sip.mode, sip.empty), (Protocol::Sctp, Mode::NatPreserve, Empty::Reset));
    assert_eq!(
        (sip.admission.new_per_second, sip.admission.sessions, sip.maglev_size),
        (Some(100), Some(5000), Some(65537))
    );
    assert_eq!((web.health.as_ref(), sip.health.as_ref().map(|h| &h.probe)), (None, Some(&Probe::Off)));
    let shown = |nets: &[ipnet::IpNet]| nets.iter().map(ToString::to_string).collect::<Vec<_>>();
    assert_eq!(shown(&sip.admission.allow), ["10.0.0.0/8", "172.16.0.0/12"]);
    assert_eq!(shown(&sip.admission.deny), ["10.66.0.0/16"]);
}

#[test]
fn addresses_of_both_families_are_written_mixed_and_kept_apart() {
    let config = parse(
        r#"
        [[port]]
        name = "lan"
        addresses = ["2001:db8::10/64", "192.0.2.10/24", "fe80::10/64"]
        [[port]]
        name = "wan"
        addresses = ["fe80::10/64"]
        [[neighbour]]
        ip = "fe80::1"
        mac = "02:00:00:00:00:01"
        port = "wan"
        [[route]]
        prefix = "::/0"
        via = "fe80::1"
        port = "wan"
        [snat]
        underlay = ["192.0.2.200", "2001:db8::200", "192.0.2.201"]
        "#,
    );
    assert_eq!((config.ports[0].addresses.len(), config.ports[0].addresses6.len()), (1, 2));
    assert_eq!(config.neighbours[0].ip.to_string(), "fe80::1");
    assert_eq!((config.routes[0].prefix.to_string().as_str(), config.routes[0].port), ("::/0", 1));
    assert_eq!((config.snat.underlay.len(), config.snat.underlay6.len()), (2, 1));
}
