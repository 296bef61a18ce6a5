//! The cluster of these tests: the lab's own, with a service for every mode in Sluice's file, the VIPs on the `lo` of
//! backends that answer clients themselves, IPv6 on the fabric, and servers on agents and containers.

use std::fs;
use std::net::{IpAddr, SocketAddr, TcpStream, UdpSocket};
use std::path::{Path, PathBuf};
use std::process::{Child, Output};
use std::time::Duration;

use sluice_lab::http::{get_unix, request_unix};
use sluice_lab::place::within;
use sluice_lab::{Lab, LabError, Options, Topology};

/// One VIP: HTTP at port 80 over all its backends, iperf3 at its own port on the first of them (its two connections
/// have to meet one server), and UDP where it says so.
#[derive(Debug)]
pub(crate) struct Service {
    pub(crate) mode: &'static str,
    pub(crate) vip: &'static str,
    /// Addresses of the backends.
    backends: &'static [&'static str],
    /// Where HTTP is on them.
    port: u16,
    network: &'static str,
    /// The host names of all that have to be seen to answer.
    pub(crate) hosts: &'static [&'static str],
    pub(crate) udp: bool,
}

const HOSTS: &[&str] = &["agent1", "agent2", "c1", "c2"];
const AGENTS: &[&str] = &["agent1", "agent2"];
const BOTH: &[&str] = &["10.0.0.11", "10.0.0.12"];
const BOTH6: &[&str] = &["[fd00:10::11]", "[fd00:10::12]"];
const CONTAINERS: &[&str] = &["9.0.1.2", "9.0.2.2"];

const fn underlay(mode: &'static str, vip: &'static str, backends: &'static [&'static str]) -> Service {
    Service { mode, vip, backends, port: 80, network: "", hosts: AGENTS, udp: false }
}

/// Every mode; both families where the lab has both: containers have IPv4 only. One GUE backend is behind IPv6.
pub(crate) const SERVICES: &[Service] = &[
    underlay("dsr-gue", "172.16.0.13", &["10.0.0.11", "[fd00:10::12]"]),
    Service { udp: true, ..underlay("nat", "172.16.0.10", BOTH) },
    Service { backends: CONTAINERS, network: "dcos", hosts: &["c1", "c2"], ..underlay("nat", "172.16.0.16", BOTH) },
    Service { port: 8080, udp: true, ..underlay("nat-preserve", "172.16.0.11", BOTH) },
    Service { udp: true, ..underlay("dsr-ipip", "172.16.0.12", BOTH) },
    underlay("dsr-mac", "172.16.0.14", BOTH),
    Service {
        backends: CONTAINERS,
        network: "dcos",
        hosts: &["c1", "c2"],
        ..underlay("dsr-vxlan", "172.16.0.15", BOTH)
    },
    underlay("nat", "[fd00:80::10]", BOTH6),
    underlay("dsr-ipip", "[fd00:80::12]", &["[fd00:10::11]", "10.0.0.12"]),
];

const IPERF3_PORT: u16 = 5201;
/// UDP echo, bound to the VIP on backends that answer as the VIP: a wildcard socket answers from another address.
pub(crate) const UDP_PORT: u16 = 82;

impl Service {
    pub(crate) fn ip(&self) -> IpAddr {
        self.vip.trim_matches(['[', ']']).parse().unwrap()
    }

    pub(crate) fn is_dsr(&self) -> bool {
        self.mode.starts_with("dsr-")
    }

    /// The address of the backend on this host.
    pub(crate) fn backend_on(&self, host: &str) -> &'static str {
        let n = self.hosts.iter().position(|h| *h == host).unwrap();
        self.backends[n].trim_matches(['[', ']'])
    }

    fn toml(&self) -> String {
        let section = |protocol: &str, port: u16, backends: &[&str], at: u16| {
            let Self { vip, mode, network, .. } = self;
            let backends = backends
                .iter()
                .map(|ip| format!("{{ address = \"{ip}:{at}\", network = \"{network}\" }}"))
                .collect::<Vec<_>>()
                .join(", ");
            format!(
                "[[service]]\nvip = \"{vip}:{port}\"\nprotocol = \"{protocol}\"\nmode = \"{mode}\"\nbackends = [{backends}]\n\n"
            )
        };
        let first = self.backends.get(..1).unwrap();
        let mut text = section("tcp", 80, self.backends, self.port);
        text += &section("tcp", IPERF3_PORT, first, IPERF3_PORT);
        if self.udp {
            text += &section("udp", UDP_PORT, self.backends, UDP_PORT);
        }
        text
    }
}

pub(crate) struct World {
    lab: Lab,
    processes: Vec<Child>,
}

impl World {
    /// `None`, with a sentence, where the workspace is not built.
    pub(crate) fn start() -> Option<Self> {
        Self::start_with("")
    }

    /// With more in Sluice's file.
    pub(crate) fn start_with(more: &str) -> Option<Self> {
        let own = PathBuf::from(env!("CARGO_BIN_EXE_sluice-lab"));
        let program = own.with_file_name("sluice");
        if !program.is_file() {
            println!("skipped: {} is not built (`cargo build --workspace`)", program.display());
            return None;
        }
        let mut topology = Topology::built_in().unwrap();
        topology.marathons.clear();
        topology.mesos = None;
        let lab = match Lab::up(&topology, &Options::default()) {
            Ok(lab) => lab,
            Err(LabError::NotRoot) => panic!("this test makes network namespaces: run it as root"),
            Err(error) => panic!("{error}"),
        };
        second_family(&lab);
        AGENTS.iter().zip(BOTH).for_each(|(agent, own)| way_of_replies(&lab, agent, own));
        for service in SERVICES.iter().filter(|service| service.is_dsr()) {
            own_vip(&lab, service);
        }
        let mut processes = serve(&lab, &own);
        configure(&lab, more);
        processes.push(lab.start_sluice(&program).unwrap_or_else(|error| panic!("{error}")));
        Some(Self { lab, processes })
    }

    pub(crate) fn stop(mut self) {
        self.lab.down().unwrap();
        for process in &mut self.processes {
            process.wait().unwrap();
        }
    }

    /// Ends a process that was started under this name.
    pub(crate) fn kill(&self, name: &str) {
        let all = fs::read_to_string(self.lab.state().file("processes")).unwrap();
        let line = all.lines().find(|line| line.ends_with(&format!(" {name}"))).unwrap();
        let pid = line.split(' ').next().unwrap().parse().unwrap();
        nix::sys::signal::kill(nix::unistd::Pid::from_raw(pid), nix::sys::signal::Signal::SIGKILL).unwrap();
    }

    pub(crate) fn exec(&self, role: &str, words: &[&str]) -> Output {
        self.lab.exec(role, words).unwrap()
    }

    /// A connection of the client's.
    pub(crate) fn tcp(&self, to: SocketAddr) -> TcpStream {
        let connected = || TcpStream::connect_timeout(&to, Duration::from_secs(5));
        self.as_client(connected).unwrap_or_else(|error| panic!("{to}: {error}"))
    }

    /// A socket of the client's, connected.
    pub(crate) fn udp(&self, to: SocketAddr) -> UdpSocket {
        let any = if to.is_ipv4() { "0.0.0.0:0" } else { "[::]:0" };
        let socket = self.as_client(|| UdpSocket::bind(any)).unwrap();
        socket.connect(to).unwrap();
        socket.set_read_timeout(Some(Duration::from_secs(2))).unwrap();
        socket
    }

    fn as_client<T: Send>(&self, work: impl FnOnce() -> std::io::Result<T> + Send) -> std::io::Result<T> {
        within(&self.lab.state().namespace("client"), work)?
    }

    /// Drains or undrains, and waits until the workers have the tables.
    pub(crate) fn order(&self, verb: &str, what: &str) {
        let body = format!("{{\"what\": \"{what}\"}}");
        let answer = request_unix("POST", &self.lab.sluice_socket(), &format!("/v1/{verb}"), &body).unwrap();
        assert_eq!(answer.status, 200, "{verb} {what}: {}", answer.body);
    }

    /// The sum of a metric over its labels.
    pub(crate) fn metric(&self, name: &str) -> u64 {
        self.metric_of(name, "")
    }

    /// Packets that Sluice answered itself, by what it answered.
    pub(crate) fn answers(&self, kind: &str) -> u64 {
        self.metric_of("sluice_answer_packets_total", &format!("kind=\"{kind}\""))
    }

    fn metric_of(&self, name: &str, label: &str) -> u64 {
        let text = get_unix(&self.lab.sluice_socket(), "/metrics").unwrap().body;
        let named = text.lines().filter(|line| line.split([' ', '{']).next() == Some(name) && line.contains(label));
        named.filter_map(|line| line.rsplit(' ').next()?.parse::<f64>().ok()).sum::<f64>() as u64
    }

    /// How many packets were dropped for a reason.
    pub(crate) fn drops(&self, reason: &str) -> u64 {
        let drops = self.show("drops");
        let row = drops["reasons"].as_array().unwrap().iter().find(|row| row["name"] == reason);
        row.unwrap_or_else(|| panic!("no reason `{reason}`"))["count"].as_u64().unwrap()
    }

    /// Every reason with what it counted, for messages.
    pub(crate) fn dropped(&self) -> Vec<String> {
        let drops = self.show("drops");
        let rows = drops["reasons"].as_array().unwrap().iter().filter(|row| row["count"] != 0);
        rows.map(|row| format!("{} {}", row["name"], row["count"])).collect()
    }

    pub(crate) fn show(&self, subject: &str) -> serde_json::Value {
        let answer = get_unix(&self.lab.sluice_socket(), &format!("/v1/show/{subject}")).unwrap();
        serde_json::from_str(&answer.body).unwrap()
    }

    /// The VIP's packets were counted: nothing went to the backends without us.
    pub(crate) fn packets_went_by(&self, service: &Service) {
        let vips = self.show("vips");
        let of_vip = vips.as_array().unwrap().iter().filter(|v| v["ip"].as_str() == Some(&service.ip().to_string()));
        let packets: u64 = of_vip.map(|v| v["packets"].as_u64().unwrap()).sum();
        assert!(packets > 1000, "{service:?}: {packets} packets");
    }

    /// At rest, every packet that came went somewhere.
    pub(crate) fn the_books_balance(&self) {
        let mut last = serde_json::Value::Null;
        for _ in 0..100 {
            last = self.show("workers");
            let workers = last.as_array().unwrap();
            let balanced = workers.iter().all(|worker| worker["books"]["balanced"] == true);
            if balanced && workers.iter().any(|worker| worker["books"]["rx"].as_u64() > Some(0)) {
                assert_eq!(self.drops("undecided"), 0);
                return;
            }
            std::thread::sleep(Duration::from_millis(20));
        }
        panic!("the books do not balance: {last:#}");
    }

    /// What the client's kernel says of segments that came out of order.
    pub(crate) fn out_of_order(&self) -> u64 {
        let said = self.exec("client", &["ss", "-Htin", "state", "established"]);
        let said = String::from_utf8_lossy(&said.stdout).into_owned();
        let fields = said.split_whitespace().filter_map(|word| word.split_once(':'));
        let disorder = fields.filter(|(name, _)| ["rcv_ooopack", "reord_seen"].contains(name));
        disorder.filter_map(|(_, count)| count.parse::<u64>().ok()).sum()
    }
}

/// Sluice's file: IPv6 on its port, a SNAT address of that family, and the services.
fn configure(lab: &Lab, more: &str) {
    let path = lab.sluice_config();
    let text = fs::read_to_string(&path).unwrap();
    let text = text
        .replace("addresses = [\"10.0.0.9/24\"]", "addresses = [\"10.0.0.9/24\", \"fd00:10::9/64\"]")
        .replace("underlay = [\"10.0.0.100\"]", "underlay = [\"10.0.0.100\", \"fd00:10::100\"]");
    assert_eq!(text.matches("fd00").count(), 2, "the lab writes another file than this test knows: {text}");
    let services: String = SERVICES.iter().map(Service::toml).collect();
    fs::write(path, text + "\n" + &second_family_of_sluice(lab) + &services + more).unwrap();
}

/// Where IPv6 leads, from the file: known at the first packet, whatever of it Sluice hears from the kernel.
fn second_family_of_sluice(lab: &Lab) -> String {
    let mut text =
        "[[route]]\nprefix = \"fd00:10::/64\"\n[[route]]\nprefix = \"::/0\"\nvia = \"fd00:10::1\"\n".to_owned();
    let ends = [("fabric", "br0", "fd00:10::1"), ("agent1", "eth0", "fd00:10::11"), ("agent2", "eth0", "fd00:10::12")];
    for (role, device, ip) in ends {
        let mac = lab.exec(role, &["cat", &format!("/sys/class/net/{device}/address")]).unwrap().stdout;
        let mac = String::from_utf8(mac).unwrap();
        text += &format!("[[neighbour]]\nip = \"{ip}\"\nmac = \"{}\"\n", mac.trim());
    }
    text + "\n"
}

/// IPv6 beside IPv4, on the same links.
fn second_family(lab: &Lab) {
    for role in ["fabric", "client", "sluice", "agent1", "agent2"] {
        // While a link-local address is being tried (a second), hosts do not ask for others, and a SYN-ACK waits: the client
        // repeats its SYN, with another hash, by which a veth chooses another queue, and that is another worker.
        let all = "for dad in /proc/sys/net/ipv6/conf/*/accept_dad; do echo 0 > $dad; done";
        assert!(lab.exec(role, &["sh", "-c", all]).unwrap().status.success(), "{role}: {all}");
        run(lab, role, "sysctl -q -w net.ipv6.conf.default.disable_ipv6=0 net.ipv6.conf.all.disable_ipv6=0");
    }
    run(lab, "fabric", "sysctl -q -w net.ipv6.conf.all.forwarding=1");
    run(lab, "fabric", "ip addr add fd00:10::1/64 dev br0 nodad");
    run(lab, "fabric", "ip addr add fd00:c::1/64 dev client nodad");
    run(lab, "fabric", "ip route add fd00:80::/64 via fd00:10::9");
    run(lab, "client", "ip addr add fd00:c::10/64 dev eth0 nodad");
    run(lab, "client", "ip route add default via fd00:c::1");
    for (role, address) in [("sluice", "fd00:10::9"), ("agent1", "fd00:10::11"), ("agent2", "fd00:10::12")] {
        run(lab, role, &format!("ip addr add {address}/64 dev eth0 nodad"));
        run(lab, role, "ip route add default via fd00:10::1");
    }
}

/// `nat-preserve` replies, which have the agent's own address, go by Sluice; what has a VIP for its source goes straight
/// to the client, and asks for segments that have room for an outer header (52 octets at most: GUE over IPv6).
fn way_of_replies(lab: &Lab, agent: &str, own: &str) {
    run(lab, agent, "ip route add 192.0.2.0/24 via 10.0.0.1 advmss 1408");
    run(lab, agent, "ip route add fd00:c::/64 via fd00:10::1 advmss 1388");
    run(lab, agent, "ip route add 192.0.2.0/24 via 10.0.0.9 table 77");
    run(lab, agent, &format!("ip rule add from {own} to 192.0.2.0/24 lookup 77"));
    // A VIP is nobody's to ask for on the link, nor to ask as.
    run(lab, agent, "sysctl -q -w net.ipv4.conf.all.arp_ignore=1 net.ipv4.conf.all.arp_announce=2");
}

/// The VIP becomes an address of every host that answers as it, never to be chosen as a source.
fn own_vip(lab: &Lab, service: &Service) {
    let (vip, length) = (service.ip(), if service.ip().is_ipv4() { 32 } else { 128 });
    let tail = if vip.is_ipv4() { "" } else { " nodad preferred_lft 0" };
    for host in service.hosts {
        run(lab, host, &format!("ip addr add {vip}/{length} dev lo{tail}"));
    }
    if service.mode == "dsr-vxlan" {
        // What comes out of the agent's VXLAN device is for the container, wherever VIPs lead otherwise.
        for (agent, container) in AGENTS.iter().zip(CONTAINERS) {
            run(lab, agent, &format!("ip route add {vip}/{length} via {container}"));
        }
    }
}

/// HTTP everywhere, UDP echo on the agents' own addresses and on VIPs, iperf3, and who unwraps.
fn serve(lab: &Lab, program: &Path) -> Vec<Child> {
    let mut servers = Vec::new();
    let mut start = |role: &str, name: &str, program: &Path, arguments: &[&str]| {
        servers.push(lab.start(role, &format!("{name}-{role}"), program, arguments).unwrap());
    };
    for role in HOSTS {
        start(role, "task", program, &["task", "--bind", "::", "--port", "80", "--port", "8080"]);
        start(role, "iperf3", Path::new("iperf3"), &["-s"]);
    }
    for (agent, own) in AGENTS.iter().zip(BOTH) {
        start(agent, "decap", program, &["decap"]);
        let of_vips = SERVICES.iter().filter(|service| service.udp && service.is_dsr()).map(|service| service.vip);
        for address in of_vips.chain([*own]) {
            let task = ["task", "--bind", address, "--port", &UDP_PORT.to_string()];
            start(agent, &format!("udp-{address}"), program, &task);
        }
    }
    let listening = |role: &str| {
        let said = lab.exec(role, &["ss", "-Hltn"]).unwrap();
        let said = String::from_utf8_lossy(&said.stdout).into_owned();
        [":80 ", ":8080 ", ":5201 "].iter().all(|port| said.contains(port))
    };
    for role in HOSTS {
        let came = (0..100).any(|_| {
            listening(role) || {
                std::thread::sleep(Duration::from_millis(50));
                false
            }
        });
        assert!(came, "the servers on {role} do not listen; is Debian's package iperf3 installed (`make setup`)?");
    }
    servers
}

fn run(lab: &Lab, role: &str, line: &str) {
    let words: Vec<&str> = line.split(' ').collect();
    let output = lab.exec(role, &words).unwrap();
    assert!(output.status.success(), "{role}: {line}: {}", String::from_utf8_lossy(&output.stderr));
}
