//! `curl`, `iperf3`, `wrk` and `hping3`, run on the client, each with its own idea of what went well.

use std::net::IpAddr;
use std::path::Path;
use std::process::Output;

use super::in_url;
use super::world::World;

pub(crate) struct Tools<'a> {
    world: &'a World,
}

impl<'a> Tools<'a> {
    /// Fails with a sentence where one is not installed.
    pub(crate) fn of(world: &'a World) -> Self {
        for tool in ["curl", "iperf3", "wrk", "hping3"] {
            let there = ["/usr/bin", "/usr/sbin", "/bin", "/usr/local/bin"];
            let there = there.iter().any(|folder| Path::new(folder).join(tool).exists());
            assert!(there, "`{tool}` is missing: `make setup` installs Debian's package {tool}");
        }
        Self { world }
    }

    /// What the servers said, each request on a connection of its own.
    pub(crate) fn curl(&self, url: &str) -> String {
        String::from_utf8_lossy(&self.curl_octets(url)).into_owned()
    }

    pub(crate) fn curl_octets(&self, url: &str) -> Vec<u8> {
        self.run(&["curl", "-sS", "-m", "20", "--connect-timeout", "5", "--fail-early", "-H", "Connection: close", url])
            .stdout
    }

    /// One connection for a second, towards the client where `reverse`.
    pub(crate) fn iperf3(&self, to: IpAddr, reverse: bool) {
        let to = to.to_string();
        let mut words = vec!["timeout", "15", "iperf3", "-c", &to, "-t", "1", "-J", "--connect-timeout", "5000"];
        words.extend(reverse.then_some("-R"));
        let said = self.run(&words).stdout;
        let said: serde_json::Value = serde_json::from_slice(&said).unwrap();
        let octets = said["end"]["sum_received"]["bytes"].as_u64().unwrap_or(0);
        println!("  iperf3{}: {:.0} Mbit/s", if reverse { " -R" } else { "" }, octets as f64 * 8.0 / 1e6);
        assert!(octets > 1_000_000, "iperf3 {words:?}: {said}");
    }

    /// Eight connections for a second.
    pub(crate) fn wrk(&self, to: IpAddr) {
        let url = format!("http://{}/", in_url(to));
        let said = text(&self.run(&["timeout", "15", "wrk", "-t1", "-c8", "-d1s", &url]));
        let requests = said.lines().find(|line| line.contains("requests in")).unwrap_or_default().trim();
        println!("  wrk: {requests}");
        assert!(!requests.is_empty() && !requests.starts_with("0 "), "{said}");
        assert!(!said.contains("Socket errors") && !said.contains("Non-2xx"), "{said}");
    }

    /// So many SYNs, ten thousand a second, from as many ports; how many were answered.
    pub(crate) fn hping3(&self, to: IpAddr, port: u16, count: u32) -> u32 {
        let (to, port, count) = (to.to_string(), port.to_string(), count.to_string());
        let words = ["timeout", "20", "hping3", "-q", "-n", "-S", "-p", &port, "-c", &count, "-i", "u100", &to];
        // Its status says whether anybody answered. It counts what it sent in a signal handler, and loses some.
        let said = text(&self.world.exec("client", &words));
        let counts = said.lines().find(|line| line.contains("packets received")).unwrap_or_else(|| panic!("{said}"));
        let answered = counts.split(", ").find_map(|part| part.strip_suffix(" packets received"));
        println!("  hping3 -p {port} -c {count}: {counts}");
        answered.unwrap().parse().unwrap()
    }

    fn run(&self, words: &[&str]) -> Output {
        let output = self.world.exec("client", words);
        let (status, dropped) = (output.status, || self.world.dropped());
        assert!(status.success(), "{words:?} ({status}): {}\ndropped: {:?}", text(&output), dropped());
        output
    }
}

fn text(output: &Output) -> String {
    String::from_utf8_lossy(&[output.stdout.as_slice(), &output.stderr].concat()).into_owned()
}
