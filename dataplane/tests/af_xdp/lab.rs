//! Namespaces and the veth pairs between them, removed when dropped.

use super::*;

/// Two namespaces: `ours` with `s0`, `s1`..., and the client's with their peers `c0`, `c1`...
pub(crate) struct Lab {
    pub(crate) ours: String,
    pub(crate) client: String,
}

impl Lab {
    /// `None` without root. Afterwards this thread is in our namespace.
    pub(crate) fn new(queues: u32, links: u32, mtu: u32) -> Option<Self> {
        static NUMBER: AtomicU32 = AtomicU32::new(0);
        // SAFETY: no precondition.
        if unsafe { libc::geteuid() } != 0 {
            println!("skipped: needs root");
            return None;
        }
        let number = NUMBER.fetch_add(1, Ordering::Relaxed);
        let name = |side: &str| format!("sluice-xsk-{}-{number}-{side}", std::process::id());
        let lab = Self { ours: name("ours"), client: name("client") };
        let (o, c) = (&lab.ours, &lab.client);
        run(&format!("ip netns add {o}"));
        run(&format!("ip netns add {c}"));
        for i in 0..links {
            let q = format!("numrxqueues {queues} numtxqueues {queues}");
            run(&format!("ip link add s{i} netns {o} mtu {mtu} {q} type veth peer name c{i} netns {c} mtu {mtu} {q}"));
            run(&format!("ip -n {o} link set s{i} address 02:00:00:00:0{i}:01 up"));
            run(&format!("ip -n {c} link set c{i} address 02:00:00:00:0{i}:02 up"));
            run(&format!("ip netns exec {o} ethtool -K s{i} rxvlan off"));
            // A local stack leaves checksums unfinished otherwise, and the echo would return them so.
            run(&format!("ip netns exec {c} ethtool -K c{i} tx off"));
            run(&format!("ip -n {c} addr add 10.{}.0.2/24 dev c{i}", 9 - i));
            run(&format!("ip -n {c} neigh add 10.{}.0.100 lladdr 02:00:00:00:0{i}:01 dev c{i}", 9 - i));
        }
        lab.enter(&lab.ours);
        Some(lab)
    }

    pub(crate) fn enter(&self, name: &str) {
        let namespace = File::open(format!("/run/netns/{name}")).unwrap();
        // SAFETY: the descriptor is open; only this thread moves.
        assert_eq!(unsafe { libc::setns(namespace.as_raw_fd(), libc::CLONE_NEWNET) }, 0);
    }

    /// A socket of the client's.
    pub(crate) fn socket(&self, address: &str) -> UdpSocket {
        self.enter(&self.client);
        let socket = UdpSocket::bind(address).unwrap();
        self.enter(&self.ours);
        socket.set_read_timeout(Some(Duration::from_millis(500))).unwrap();
        socket
    }

    /// Fails if a program stays attached. Not at once: a child that another test has just forked holds copies of this
    /// process's descriptors, the link's among them, until its exec.
    pub(crate) fn expect_no_program(&self) {
        let left = (0..100).all(|_| {
            std::thread::sleep(Duration::from_millis(5));
            self.show().contains("xdp")
        });
        assert!(!left, "{}", self.show());
    }

    pub(crate) fn show(&self) -> String {
        let out = Command::new("ip").args(["-n", &self.ours, "link", "show", "s0"]).output().unwrap();
        String::from_utf8_lossy(&out.stdout).into_owned()
    }
}

impl Drop for Lab {
    fn drop(&mut self) {
        for name in [&self.ours, &self.client] {
            let _ = Command::new("ip").args(["netns", "del", name]).status();
        }
    }
}

pub(crate) fn run(command: &str) {
    let mut words = command.split_whitespace();
    let out = Command::new(words.next().unwrap()).args(words).output().unwrap();
    assert!(out.status.success(), "{command}: {}", String::from_utf8_lossy(&out.stderr));
}
