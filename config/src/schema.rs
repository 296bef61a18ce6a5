//! Every section and key of the file: type, default and meaning. `README.md` prints these tables and `file.rs` holds
//! the same keys; tests compare all three, and compare the defaults with what an empty file means.

/// A table of the file, or each of an array of tables.
#[derive(Debug)]
pub struct Section {
    /// Dotted path: `overlay.network`.
    pub path: &'static str,
    /// Whether it may be repeated, as `[[path]]` (or as an array of inline tables).
    pub many: bool,
    /// What it is for.
    pub meaning: &'static str,
    /// Its keys.
    pub keys: &'static [Key],
}

/// A key of a section.
#[derive(Debug)]
pub struct Key {
    /// Its name.
    pub name: &'static str,
    /// Its type.
    pub kind: Kind,
    /// What holds when it is absent.
    pub default: Absent,
    /// What it means, with units.
    pub meaning: &'static str,
}

/// The type of a value.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Kind {
    /// A string.
    Text,
    /// An integer.
    Integer,
    /// `true` or `false`.
    Boolean,
    /// An array of strings.
    Texts,
    /// An array of integers.
    Integers,
    /// A table whose keys are free and whose values are strings.
    Map,
    /// A table whose keys are free and whose values are strings or arrays of strings.
    Lists,
    /// The section of that path below this one, or an array of it.
    Section,
}

/// What holds when a key is absent.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Absent {
    /// It must be given.
    Required,
    /// This value, in TOML.
    Value(&'static str),
    /// Something that TOML cannot say, in words.
    Words(&'static str),
}

use Absent::{Required, Value, Words};
use Kind::{Boolean, Integer, Integers, Lists, Map, Text, Texts};

const fn key(name: &'static str, kind: Kind, default: Absent, meaning: &'static str) -> Key {
    Key { name, kind, default, meaning }
}

const fn below(name: &'static str, meaning: &'static str) -> Key {
    Key { name, kind: Kind::Section, default: Words("none"), meaning }
}

/// What `service.health` leaves out.
const AS_IN_HEALTH: Absent = Words("as in `[health]`");

/// The top level: only sections. Its path is empty.
pub static ROOT: Section = Section {
    path: "",
    many: false,
    meaning: "the file",
    keys: &[
        below("port", "packet ports"),
        below("workers", "worker threads"),
        below("neighbour", "fixed neighbours"),
        below("route", "fixed routes"),
        below("marathon", "Marathons to follow"),
        below("mesos", "Mesos"),
        below("vip", "virtual addresses"),
        below("service", "static services"),
        below("snat", "source addresses of `nat`"),
        below("dns", "names"),
        below("overlay", "the VXLAN overlay"),
        below("host", "the host port"),
        below("api", "metrics, health and `sluice show`"),
        below("timeouts", "idle sessions"),
        below("health", "what judges backends"),
        below("limits", "bounds of everything that grows"),
    ],
};

/// All sections but the top level, in the order of the reference.
pub static SECTIONS: &[Section] = &[
    Section {
        path: "port",
        many: true,
        meaning: "A packet port: a network card, or a file in `replay`. `run` needs at least one.",
        keys: &[
            key(
                "name",
                Text,
                Words("`interface`"),
                "Name in routes, neighbours, counters and `replay --in NAME=FILE`.",
            ),
            key("interface", Text, Words("`name`"), "Kernel interface that carries it."),
            key("queues", Integers, Value("[0, 1]"), "Receive queues, one worker each; as many on every port."),
            key("mode", Text, Value("\"auto\""), "AF_XDP mode: `auto`, `zerocopy`, `copy` or `skb`."),
            key("mac", Text, Words("the interface's"), "Our MAC on it, for `replay` and tests."),
            key(
                "addresses",
                Texts,
                Words("the interface's"),
                "Our IPv4 and IPv6 addresses with prefix length, for `replay` and tests.",
            ),
            key(
                "role",
                Text,
                Value("\"both\""),
                "Expected traffic: `client` (VXLAN is refused), `underlay` (agents) or `both`.",
            ),
            key("mtu", Integer, Words("the interface's"), "Largest IP packet, octets, 576 to 16000."),
            key(
                "arp",
                Text,
                Value("\"answer\""),
                "Whether ARP for VIPs and our other addresses is answered here: `answer` or `off` (VIPs routed by BGP).",
            ),
        ],
    },
    Section {
        path: "workers",
        many: false,
        meaning: "Worker threads: one per queue.",
        keys: &[
            key(
                "cores",
                Integers,
                Value("[]"),
                "Core of each worker, as many as queues; empty leaves placement to the kernel.",
            ),
            key(
                "idle",
                Text,
                Value("\"adaptive\""),
                "What a worker does without packets: `adaptive` polls 50 us, then sleeps; `spin` never sleeps.",
            ),
        ],
    },
    Section {
        path: "neighbour",
        many: true,
        meaning: "A fixed neighbour, for `replay` and tests; live ones come from the kernel.",
        keys: &[
            key("ip", Text, Required, "Its address."),
            key("mac", Text, Required, "Its MAC."),
            key("port", Text, Words("the only port"), "Name of the port that it is on."),
        ],
    },
    Section {
        path: "route",
        many: true,
        meaning: "A fixed route, for `replay` and tests; live ones come from the kernel.",
        keys: &[
            key("prefix", Text, Required, "Destination; `0.0.0.0/0` and `::/0` are everything."),
            key("via", Text, Words("on link"), "Gateway, of the prefix's family."),
            key("port", Text, Words("the only port"), "Name of the port that it leaves by."),
        ],
    },
    Section {
        path: "marathon",
        many: true,
        meaning: "A Marathon whose tasks are followed.",
        keys: &[
            key("urls", Texts, Required, "Base URLs of its members, tried in turn."),
            key("framework", Text, Value("\"\""), "Framework name when `/v2/info` does not say; empty is `marathon`."),
            key("user", Text, Words("none"), "HTTP basic user; needs `password_file`."),
            key("password_file", Text, Words("none"), "File with the HTTP basic password."),
            key("token_file", Text, Words("none"), "File with a token, sent as `Authorization: token=...`."),
            key("ca_file", Text, Words("the system's"), "PEM file of the certificate authority for https."),
        ],
    },
    Section {
        path: "mesos",
        many: false,
        meaning: "Mesos as a source: tasks of all frameworks and, where there is an [overlay], its agents (`/overlay-master/state`). Without `masters` and `zk` it is not asked.",
        keys: &[
            key(
                "masters",
                Texts,
                Value("[]"),
                "Its masters, base URLs or `host:port`; the leading one is found among them.",
            ),
            key(
                "zk",
                Text,
                Value("\"\""),
                "Or the ZooKeeper that names them: `zk://user:password@host:port,host:port/mesos`.",
            ),
            key(
                "https",
                Boolean,
                Value("false"),
                "Whether masters that ZooKeeper names, and those without a scheme, speak TLS.",
            ),
            key(
                "refresh_seconds",
                Integer,
                Value("30"),
                "Seconds between polls where there is no event stream; with one, `/state` is not polled. Of the overlay module always.",
            ),
            key(
                "reregister_seconds",
                Integer,
                Value("600"),
                "How long tasks of agents that a new leading master has not heard from are kept.",
            ),
            key(
                "state_octets",
                Integer,
                Value("134217728"),
                "Longest answer and longest record of the event stream: a longer one is refused and what is known kept.",
            ),
            key("user", Text, Words("none"), "HTTP basic user (Mesos's principal); needs `password_file`."),
            key("password_file", Text, Words("none"), "File with the HTTP basic password (Mesos's secret)."),
            key("token_file", Text, Words("none"), "File with a token, sent as `Authorization: token=...`."),
            key("ca_file", Text, Words("the system's"), "PEM file of the certificate authority for https."),
            key("cert_file", Text, Words("none"), "PEM file of the certificate that we show; needs `key_file`."),
            key("key_file", Text, Words("none"), "PEM file of its key."),
        ],
    },
    Section {
        path: "vip",
        many: false,
        meaning: "Virtual addresses. `min` and `max`, never a prefix: the algorithm takes the value modulo their difference.",
        keys: &[
            key("named_min", Text, Value("\"11.0.0.0\""), "First IPv4 address of named VIPs."),
            key("named_max", Text, Value("\"11.255.255.255\""), "Last IPv4 address of named VIPs."),
            key("named6_min", Text, Value("\"fd01:c::\""), "First IPv6 address of named VIPs."),
            key("named6_max", Text, Value("\"fd01:c::ffff:ffff:ffff:ffff\""), "Last IPv6 address of named VIPs."),
            key(
                "mode",
                Text,
                Value("\"nat\""),
                "How packets of services that say nothing reach backends, see `service.mode`; a label is `SLUICE_MODE`.",
            ),
            key(
                "sharing",
                Text,
                Value("\"union\""),
                "Equal claims of two apps: `union` unites their backends, `owner` refuses whoever comes second.",
            ),
            key(
                "empty",
                Text,
                Value("\"reset\""),
                "What a service without backends answers: `reset` (TCP reset, SCTP abort, else ICMP port unreachable) or `drop`.",
            ),
            key(
                "second_chance",
                Boolean,
                Value("false"),
                "Whether the middle of a flow without a session goes by the tables before: for flows of another node.",
            ),
            key(
                "store",
                Text,
                Words("claims.json in the folder of `--state`"),
                "File that keeps the claims of VIPs across restarts.",
            ),
            key("hash_key_file", Text, Words("a random key"), "File with the 16-octet hash key that all nodes share."),
        ],
    },
    Section {
        path: "service",
        many: true,
        meaning: "A static service.",
        keys: &[
            key("vip", Text, Required, "Virtual address and port, `172.16.0.1:80` or `[2001:db8::1]:80`."),
            key("protocol", Text, Value("\"tcp\""), "`tcp`, `udp` or `sctp`."),
            key(
                "mode",
                Text,
                Words("`vip.mode`"),
                "How packets reach backends: `nat`, `nat-preserve`, `dsr-ipip`, `dsr-gue`, `dsr-vxlan` or `dsr-mac`.",
            ),
            key("empty", Text, Words("`vip.empty`"), "What it answers without backends: `reset` or `drop`."),
            key(
                "new_per_second",
                Integer,
                Words("no bound"),
                "New flows a second over all workers, 1 to 4294967295; each has an equal part.",
            ),
            key(
                "sessions",
                Integer,
                Words("no bound"),
                "Sessions at once over all workers, 1 to 4294967295; each has an equal part, rounded up, which `sluice check` tells.",
            ),
            key("allow", Texts, Value("[]"), "Prefixes of sources that may use it; none is everybody."),
            key("deny", Texts, Value("[]"), "Prefixes of sources that may not, whatever `allow` says."),
            key(
                "maglev_size",
                Integer,
                Words("by the number of backends"),
                "Entries of its Maglev table: 4093 (to 40 backends), 65537 (to 655) or 655373.",
            ),
            Key {
                name: "health",
                kind: Kind::Section,
                default: Words("as in `[health]`"),
                meaning: "How its backends are probed, as an inline table: `{kind = \"http\", path = \"/ready\"}`.",
            },
            Key { name: "backends", kind: Kind::Section, default: Value("[]"), meaning: "Its real servers." },
        ],
    },
    Section {
        path: "service.health",
        many: false,
        meaning: "How the backends of a static service are probed, where that differs from `[health]`.",
        keys: &[
            key("kind", Text, AS_IN_HEALTH, "`off`, `tcp`, `http` or `udp`; it has to fit the service's protocol."),
            key("path", Text, AS_IN_HEALTH, "What an HTTP probe asks for."),
            key("status", Text, AS_IN_HEALTH, "Statuses of HTTP that are well."),
            key("payload", Text, AS_IN_HEALTH, "What a UDP probe carries."),
            key("interval_seconds", Integer, AS_IN_HEALTH, "From one probe to the next, 1 to 3600."),
            key("timeout_seconds", Integer, AS_IN_HEALTH, "How long a probe may take, at most the interval."),
            key("rise", Integer, AS_IN_HEALTH, "Successes in a row that make an unfit backend fit, 1 to 255."),
            key("fall", Integer, AS_IN_HEALTH, "Failures in a row that make a fit backend unfit, 1 to 255."),
            key("fail_open", Boolean, AS_IN_HEALTH, "Whether all backends are used where all are judged unfit."),
        ],
    },
    Section {
        path: "service.backends",
        many: true,
        meaning: "A real server of a static service, as an inline table: `{address = \"10.0.0.11:31001\"}`.",
        keys: &[
            key("address", Text, Required, "Address and port, of the VIP's family but for `dsr-ipip` and `dsr-gue`."),
            key("weight", Integer, Value("1"), "Share of new flows, 0 to 1000; 0 keeps old flows only."),
            key("network", Text, Value("\"\""), "Overlay network that the address lies in; empty is the underlay."),
        ],
    },
    Section {
        path: "snat",
        many: false,
        meaning: "Source addresses of `nat`: replies of backends come back to them.",
        keys: &[
            key(
                "underlay",
                Texts,
                Value("[]"),
                "IPv4 and IPv6 addresses towards underlay backends, routed to this node.",
            ),
            key(
                "overlay",
                Texts,
                Value("[]"),
                "Addresses towards overlay backends, inside our own part of a network; networks with a VNI or a port of their own need one each.",
            ),
            key(
                "ports",
                Text,
                Value("\"1024-65535\""),
                "Ports used on each address: for each worker a block of 64 at least, which begins at a multiple of 64.",
            ),
            key(
                "quota",
                Integer,
                Words("an eighth of `ports`"),
                "Ports that a client may hold and still get one of the last eighth; each worker has an equal part, rounded up.",
            ),
        ],
    },
    Section {
        path: "dns",
        many: false,
        meaning: "Names, as Mesos-DNS and DC/OS answer them.",
        keys: &[
            key(
                "addresses",
                Texts,
                Value("[]"),
                "IPv4 and IPv6 addresses that are answered on; none switches DNS off.",
            ),
            key("domain", Text, Value("\"mesos\""), "The Mesos domain."),
            key("ttl", Integer, Value("60"), "TTL of records under `domain`, seconds."),
            key("dcos_ttl", Integer, Value("5"), "TTL of the DC/OS zones, seconds."),
            key("negative_ttl", Integer, Value("5"), "TTL of \"does not exist\", seconds."),
            key(
                "health",
                Text,
                Value("\"prefer\""),
                "Whether unhealthy tasks are answered: `prefer` while there are no healthy ones, `require` never, `ignore` always.",
            ),
            key(
                "compat",
                Text,
                Value("\"none\""),
                "`mesos-dns`: answers under `domain` are Mesos-DNS's, quirks included, and `health`, `ttl`, `negative_ttl` and `ip_sources` are its own unless given.",
            ),
            key(
                "ip_sources",
                Texts,
                Value("[\"host\", \"netinfo\"]"),
                "Where a task's address comes from, first that has one: `host`, `netinfo`, `mesos`, `docker`.",
            ),
            key(
                "enforce_rfc952",
                Boolean,
                Value("false"),
                "Labels of 24 characters that begin with a letter, instead of RFC 1123's.",
            ),
            key("soa_mname", Text, Value("\"ns1.mesos\""), "SOA MNAME of `domain`."),
            key("soa_rname", Text, Value("\"root.ns1.mesos\""), "SOA RNAME of `domain`."),
            key("soa_refresh", Integer, Value("60"), "SOA REFRESH, seconds."),
            key("soa_retry", Integer, Value("600"), "SOA RETRY, seconds."),
            key("soa_expire", Integer, Value("86400"), "SOA EXPIRE, seconds."),
            key("srv_weight", Integer, Value("1"), "Weight in SRV records."),
            key("truncate_bit", Boolean, Value("true"), "Whether TC is set on answers that were cut."),
            key("recurse", Boolean, Value("true"), "Whether RA is set in answers."),
            key(
                "external",
                Boolean,
                Value("false"),
                "Whether names that no zone here answers for are asked of `resolvers`, for `trusted` sources; else they are REFUSED.",
            ),
            key(
                "resolvers",
                Texts,
                Value("[]"),
                "Whom foreign names are asked of, first that answers: `ip`, `ip:port` or `[ipv6]:port`. `external = true` needs one: there is no other.",
            ),
            key(
                "zone_resolvers",
                Lists,
                Value("{}"),
                "Whom names below a suffix are asked of, `{ \"corp.example\" = [\"10.0.0.53\"] }`, whether or not `external` is set; the longest suffix counts.",
            ),
            key("enumeration", Boolean, Value("true"), "Whether the HTTP API lists all records."),
            key("cluster_id", Text, Value("\"\""), "Crypto id of the cluster in DC/OS names."),
            key(
                "trusted",
                Texts,
                Value("[]"),
                "Prefixes whose addresses are believed: long answers at any rate, and foreign names. None: private and link-local addresses, and the overlay.",
            ),
            key(
                "responses_per_second",
                Integer,
                Value("200"),
                "Answers to one prefix (/24, /56) that is not trusted and shows no cookie; every second one beyond is cut, the others are dropped.",
            ),
            key("edns_max", Integer, Value("1232"), "Largest UDP answer offered by EDNS, octets, 512 to 4096."),
            key(
                "cookie_secret_file",
                Text,
                Words("a random secret"),
                "File of one or two lines of 32 hexadecimal digits: the first makes DNS cookies, both are taken. Equal on all nodes.",
            ),
            key("nsid", Text, Value("\"\""), "Name of this server in NSID, at most 128 octets."),
            below("zone", "zones of your own"),
        ],
    },
    Section {
        path: "dns.zone",
        many: true,
        meaning: "A zone of your own. Records that are not served (other types, DNSSEC, delegations, names outside the zone, a CNAME beside other data) and a file that cannot be read leave the rest as it is; `sluice check` and `sluice zone` list them.",
        keys: &[
            key("name", Text, Required, "Its apex; one of the zones that Sluice makes takes further records."),
            key("file", Text, Words("none"), "Master file (RFC 1035 section 5)."),
            key("records", Texts, Value("[]"), "Records as in a master file, with or beside one."),
        ],
    },
    Section {
        path: "overlay",
        many: false,
        meaning: "The VXLAN overlay, and our own place in it. Absent: no overlay.",
        keys: &[
            key("vni", Integer, Value("1024"), "VXLAN network identifier, 1 to 16777215."),
            key("port", Integer, Value("64000"), "Outer UDP port."),
            key(
                "vtep",
                Text,
                Required,
                "Our VTEP's address with the prefix length of the VTEP subnet, `44.128.0.9/20`.",
            ),
            key("vtep_mac", Text, Words("70:b3:d5 and the low 24 bits of the VTEP's address"), "Our VTEP's MAC."),
            key(
                "underlay",
                Text,
                Words("the first address of the first underlay port"),
                "Our VTEP's outer address. Nodes that only serve networks in hub mode, with no `snat.overlay` and no `host.addresses`, may share one (anycast) with `vtep` and `vtep_mac`: nothing of a packet between containers is remembered.",
            ),
            key("mtu", Integer, Words("the underlay's less 50"), "Largest inner packet, octets, 552 to 15950."),
            key(
                "leases",
                Boolean,
                Value("false"),
                "Whether agents that run `sluice agent` get their places here, over `api.listen`: for clusters without DC/OS's overlay module.",
            ),
            key("lease_store", Text, Words("leases.json in the folder of `--state`"), "File that keeps the leases."),
            key(
                "token_file",
                Text,
                Words("agents are known by their addresses alone"),
                "File with the one line that agents must show for a lease, at least 16 octets.",
            ),
            key(
                "gateway",
                Text,
                Value("\"off\""),
                "`routed`: between overlay and underlay packets are passed on both ways as they are; `masqueraded`: the same, but what containers begin leaves with an address of `snat.underlay`; `off`: what is for the overlay is left to the kernel's routes, and what containers send out of it here is dropped.",
            ),
            below("network", "overlay networks"),
            below("agent", "agents that are known without asking"),
        ],
    },
    Section {
        path: "overlay.network",
        many: true,
        meaning: "A network of containers.",
        keys: &[
            key("name", Text, Required, "Name, as apps say it."),
            key("subnet", Text, Required, "All its container addresses, `9.0.0.0/8`."),
            key("prefix", Integer, Value("24"), "Prefix length of each agent's part."),
            key(
                "own",
                Text,
                Words("our entry among the agents, else the part that holds `snat.overlay`"),
                "Our own part.",
            ),
            key("subnet6", Text, Words("none"), "All its containers' IPv6 addresses, `fd01:b::/64`."),
            key("prefix6", Integer, Value("80"), "Prefix length of each agent's IPv6 part."),
            key("own6", Text, Words("the part that holds an IPv6 address of `snat.overlay`"), "Our own IPv6 part."),
            key("vni", Integer, Words("the overlay's"), "Its VXLAN network identifier, 1 to 16777215."),
            key("port", Integer, Words("the overlay's"), "Its outer UDP port."),
            key(
                "mtu",
                Integer,
                Words("the overlay's"),
                "Largest inner packet, octets, 552 to the overlay's; 1280 at least with IPv6. Networks with one VNI and port share the least.",
            ),
            key(
                "mode",
                Text,
                Value("\"direct\""),
                "`direct`: agents send to each other; `hub`: those that run `sluice agent` send everything here.",
            ),
            key("isolation", Text, Value("\"enforced\""), "Whether groups are `enforced` or the network is `open`."),
            key("underlay_allow", Texts, Value("[]"), "Underlay prefixes that may reach containers that have groups."),
        ],
    },
    Section {
        path: "overlay.agent",
        many: true,
        meaning: "An agent's place in the overlay, where Mesos does not say it: with [mesos], the overlay module of the leading master is asked as often as `mesos.refresh_seconds` says, and where both speak of one agent this holds. The entry with our own `vtep_ip` gives our own part.",
        keys: &[
            key("ip", Text, Required, "Its underlay address."),
            key("vtep_ip", Text, Required, "Its VTEP's address."),
            key("vtep_mac", Text, Words("70:b3:d5 and the low 24 bits of `vtep_ip`"), "Its VTEP's MAC."),
            key("subnets", Map, Value("{}"), "Its part of each network, `{dcos = \"9.0.1.0/24\"}`."),
            key("subnets6", Map, Value("{}"), "The same of IPv6, `{dcos6 = \"fd01:b:0:0:1::/80\"}`."),
        ],
    },
    Section {
        path: "host",
        many: false,
        meaning: "The veth pair between Sluice and the node's own kernel.",
        keys: &[
            key("enabled", Boolean, Value("true"), "Whether it is made."),
            key("interface", Text, Value("\"sluice0\""), "The kernel's end, which carries addresses and routes."),
            key("peer", Text, Value("\"sluice0x\""), "Sluice's end."),
            key(
                "addresses",
                Texts,
                Value("[]"),
                "The kernel's overlay addresses with prefix length, of either family, in our own part of a network (`own`, `own6`).",
            ),
        ],
    },
    Section {
        path: "api",
        many: false,
        meaning: "Metrics, health and `sluice show`.",
        keys: &[
            key("listen", Text, Value("\"0.0.0.0:8123\""), "TCP address of metrics and health; empty is none."),
            key("socket", Text, Value("\"/run/sluice.sock\""), "Unix socket that `sluice show` asks."),
        ],
    },
    Section {
        path: "timeouts",
        many: false,
        meaning: "How long an idle session is kept, and a SNAT port after it, seconds, 1 to 3600.",
        keys: &[
            key("tcp_half_open", Integer, Value("10"), "TCP before the handshake is complete."),
            key("tcp_established", Integer, Value("900"), "TCP established."),
            key("tcp_closing", Integer, Value("30"), "TCP after a FIN or RST."),
            key("udp", Integer, Value("60"), "UDP."),
            key("sctp", Integer, Value("120"), "SCTP."),
            key(
                "snat_rest",
                Integer,
                Value("60"),
                "SNAT port after a TCP connection's last packet, before another one to that backend gets it; 0: at once.",
            ),
        ],
    },
    Section {
        path: "health",
        many: false,
        meaning: "What judges backends: our own probes, and failures that the packet path sees. A label `SLUICE_HEALTH` (`off`, `tcp`, `udp`, `http:/path`) goes before `kind` and `path`.",
        keys: &[
            key(
                "kind",
                Text,
                Value("\"off\""),
                "`off`; `tcp` and `http` for all TCP services, `udp` for all UDP services that say nothing.",
            ),
            key("path", Text, Value("\"/\""), "What an HTTP probe asks for (GET)."),
            key("status", Text, Value("\"200-399\""), "Statuses of HTTP that are well: a range or one of 100 to 599."),
            key(
                "payload",
                Text,
                Value("\"sluice\""),
                "What a UDP probe carries, 512 octets at most; any answer is well.",
            ),
            key("interval_seconds", Integer, Value("5"), "From one probe of a backend to the next, 1 to 3600."),
            key("timeout_seconds", Integer, Value("2"), "How long a probe may take, at most the interval."),
            key("rise", Integer, Value("2"), "Successes in a row that make an unfit backend fit, 1 to 255."),
            key("fall", Integer, Value("3"), "Failures in a row that make a fit backend unfit, 1 to 255."),
            key(
                "fail_open",
                Boolean,
                Value("true"),
                "Whether all backends are used where all are judged unfit; drained ones never.",
            ),
            key("parallel", Integer, Value("128"), "Probes on their way at once, 1 to 4096."),
            key(
                "eject_failures",
                Integer,
                Value("5"),
                "Failures in a row, seen by the packet path, that eject a backend, 1 to 255.",
            ),
            key("eject_seconds", Integer, Value("30"), "For how long, 1 to 3600."),
            key(
                "eject_percent",
                Integer,
                Value("30"),
                "Share of a service's backends ejected at once, at least one of several; 0 ejects none.",
            ),
            key(
                "upgrade_percent",
                Integer,
                Value("25"),
                "While Marathon deploys an app: share of its fit tasks that must be new before old ones drain, 0 (one) to 100.",
            ),
            key(
                "probe_range",
                Text,
                Value("\"198.18.0.0/15\""),
                "Addresses that probes of DSR backends are sent to on the host port; nobody else may use them.",
            ),
            key("probe_range6", Text, Value("\"2001:2::/48\""), "The same for VIPs of IPv6."),
        ],
    },
    Section {
        path: "limits",
        many: false,
        meaning: "Bounds of everything that grows. Memory is taken at start.",
        keys: &[
            key("sessions", Integer, Value("262144"), "Sessions per worker, 64 to 67108864."),
            key(
                "masquerade",
                Integer,
                Value("65536"),
                "With `overlay.gateway = \"masqueraded\"`: masqueraded flows per worker, and as many that begin outside, 64 to 16777216.",
            ),
            key("frames", Integer, Value("8192"), "Frames per worker, 256 to 1048576."),
            key("rings", Integer, Value("2048"), "Entries of each AF_XDP ring, a power of two, 64 to 32768."),
            key("handover", Integer, Value("1024"), "Slots of each hand-over ring, a power of two, 64 to 65536."),
            key("services", Integer, Value("4096"), "Services at once, 1 to 65534."),
            key("backends", Integer, Value("16384"), "Backends at once, 1 to 1048576."),
            key(
                "echo_per_second",
                Integer,
                Value("10000"),
                "Echo replies of VIPs, 0 to 4294967295; like the next two over all workers, each of which has an equal part.",
            ),
            key(
                "errors_per_second",
                Integer,
                Value("1000"),
                "ICMP errors that Sluice makes (time exceeded, too big, port unreachable); 0 is none.",
            ),
            key(
                "resets_per_second",
                Integer,
                Value("10000"),
                "TCP resets and SCTP aborts that Sluice makes for services that cannot serve; 0 is none.",
            ),
        ],
    },
];

/// The section of a dotted path; empty is the top level.
#[must_use]
pub fn section(path: &str) -> Option<&'static Section> {
    if path.is_empty() { Some(&ROOT) } else { SECTIONS.iter().find(|s| s.path == path) }
}

impl Section {
    /// The key of that name.
    #[must_use]
    pub fn key(&self, name: &str) -> Option<&'static Key> {
        self.keys.iter().find(|k| k.name == name)
    }

    /// How it is written: `[path]` or `[[path]]`.
    #[must_use]
    pub fn header(&self) -> String {
        if self.many { format!("[[{}]]", self.path) } else { format!("[{}]", self.path) }
    }

    /// The path of a section below this one.
    #[must_use]
    pub fn child(&self, name: &str) -> String {
        if self.path.is_empty() { name.to_owned() } else { format!("{}.{name}", self.path) }
    }
}

impl Kind {
    /// How people call it, with its article.
    #[must_use]
    pub fn noun(self) -> &'static str {
        match self {
            Self::Text => "a string",
            Self::Integer => "an integer",
            Self::Boolean => "true or false",
            Self::Texts => "an array of strings",
            Self::Integers => "an array of integers",
            Self::Map => "a table of strings",
            Self::Lists => "a table of arrays of strings",
            Self::Section => "a table",
        }
    }
}
