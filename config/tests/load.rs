//! Files that cannot be read, and the machine that a configuration does not fit.
#![allow(clippy::unwrap_used, reason = "a test file")]

use std::net::IpAddr;
use std::path::PathBuf;

use sluice_config::machine::Machine;

/// A folder of this test alone, removed with it.
struct Folder(PathBuf);

impl Folder {
    fn new(name: &str) -> Self {
        let path = std::env::temp_dir().join(format!("sluice-config-{name}-{}", std::process::id()));
        std::fs::create_dir_all(&path).unwrap();
        Self(path)
    }

    fn file(&self, content: &[u8]) -> PathBuf {
        let path = self.0.join("t.toml");
        std::fs::write(&path, content).unwrap();
        path
    }

    fn error(&self, content: &[u8]) -> String {
        let path = self.file(content);
        let shown = sluice_config::load(&path).unwrap_err().to_string();
        shown.replace(&path.display().to_string(), "t.toml")
    }
}

impl Drop for Folder {
    fn drop(&mut self) {
        let _ = std::fs::remove_dir_all(&self.0);
    }
}

#[test]
fn a_file_that_cannot_be_read_says_why() {
    let missing = sluice_config::load("/nonexistent/sluice.toml".as_ref()).unwrap_err().to_string();
    assert_eq!(
        missing,
        "/nonexistent/sluice.toml: cannot be read: No such file or directory (os error 2); give a file that exists and may be read"
    );
    let folder = sluice_config::load("/".as_ref()).unwrap_err().to_string();
    assert_eq!(folder, "/: cannot be read: Is a directory (os error 21); give a file that exists and may be read");
}

#[test]
fn octets_that_are_not_utf8_are_shown_where_they_are() {
    let folder = Folder::new("utf8");
    let expected = "t.toml:3:12: the octet 0xe4 is not UTF-8\n   3 | domain = \"m\u{fffd}sos\"\n     |            ^ save the file as UTF-8";
    assert_eq!(folder.error(b"# fine\n[dns]\ndomain = \"m\xe4sos\"\n"), expected);
}

#[test]
fn a_file_of_more_than_16_mib_is_not_read_to_its_end() {
    let folder = Folder::new("big");
    assert_eq!(folder.error(&vec![b'#'; (16 << 20) + 1]), "t.toml: is larger than 16 MiB; is this the TOML file?");
    assert!(sluice_config::load(&folder.file(&vec![b'#'; 16 << 20])).is_ok());
}

#[test]
fn a_file_of_a_million_mistakes_shows_a_hundred_and_counts_the_others() {
    let text: String = (0..50_000).map(|n| format!("[x{n}]\n")).collect();
    let errors = sluice_config::parse(&text, "t.toml").unwrap_err();
    assert_eq!((errors.errors.len(), errors.more), (100, 49_900));
    assert!(errors.to_string().ends_with("\n\nand 49900 more mistakes"));
}

/// A machine with two interfaces and four cores.
struct Fake;

impl Machine for Fake {
    fn interfaces(&self) -> Vec<String> {
        vec!["enp1s0".to_owned(), "lo".to_owned()]
    }

    fn queues(&self, interface: &str) -> Option<u32> {
        (interface == "enp1s0").then_some(2)
    }

    fn cores(&self) -> Vec<usize> {
        vec![0, 1, 2, 3]
    }

    fn addresses(&self) -> Vec<IpAddr> {
        vec!["127.0.0.1".parse().unwrap(), "192.0.2.9".parse().unwrap()]
    }
}

fn on_the_machine(toml: &str) -> String {
    let loaded = sluice_config::parse_text(toml, "t.toml").unwrap();
    loaded.check_machine(&Fake).map_or_else(|errors| errors.to_string(), |()| "fits".to_owned())
}

#[test]
fn an_interface_that_the_machine_does_not_have_is_named_with_those_it_has() {
    let expected = "t.toml:2:13: there is no interface enp1s1\n   2 | interface = \"enp1s1\"\n     |             ^^^^^^^^ did you mean \"enp1s0\"?";
    assert_eq!(on_the_machine("[[port]]\ninterface = \"enp1s1\""), expected);
    let expected = "t.toml:2:8: there is no interface eth9\n   2 | name = \"eth9\"\n     |        ^^^^^^ this machine has enp1s0, lo";
    assert_eq!(on_the_machine("[[port]]\nname = \"eth9\""), expected);
}

#[test]
fn a_queue_that_the_interface_does_not_have_is_underlined() {
    let expected = "t.toml:3:14: enp1s0 has no receive queue 2\n   3 | queues = [1, 2]\n     |              ^ write `queues = [0, 1]`, or try `ethtool -L enp1s0 combined 3`";
    assert_eq!(on_the_machine("[[port]]\ninterface = \"enp1s0\"\nqueues = [1, 2]"), expected);
    assert_eq!(on_the_machine("[[port]]\ninterface = \"enp1s0\""), "fits");
}

#[test]
fn a_core_that_is_not_online_is_underlined() {
    let expected = "t.toml:4:13: `cores` has 4, and this machine has no such core online\n   4 | cores = [0, 4]\n     |             ^ write some of 0, 1, 2, 3";
    assert_eq!(on_the_machine("[[port]]\ninterface = \"enp1s0\"\n[workers]\ncores = [0, 4]"), expected);
}

#[test]
fn an_address_that_the_kernel_owns_is_neither_a_snat_address_nor_a_vip() {
    let text = "[[port]]\ninterface = \"enp1s0\"\n[snat]\nunderlay = [\"192.0.2.9\"]";
    let expected = "t.toml:4:13: `snat.underlay` has 192.0.2.9, which this machine's kernel owns\n   4 | underlay = [\"192.0.2.9\"]\n     |             ^^^^^^^^^^^ remove it with `ip addr del`, or write another: the kernel would answer for 192.0.2.9";
    assert_eq!(on_the_machine(text), expected);
    let text = "[[port]]\ninterface = \"enp1s0\"\n[[service]]\nvip = \"192.0.2.9:80\"";
    assert!(
        on_the_machine(text).starts_with("t.toml:4:7: `service.vip` has 192.0.2.9, which this machine's kernel owns\n")
    );
}

#[test]
fn a_resolver_is_another_machine_or_is_reached_at_a_loopback_address_or_another_port() {
    let with = |resolver: &str| {
        let dns = format!("[dns]\nexternal = true\nresolvers = [\"{resolver}\"]");
        on_the_machine(&format!("[[port]]\ninterface = \"enp1s0\"\n{dns}"))
    };
    let expected = "t.toml:5:14: `resolvers` has 192.0.2.9, which this machine's kernel owns\n";
    assert!(with("192.0.2.9").starts_with(expected), "{}", with("192.0.2.9"));
    for good in ["127.0.0.1", "192.0.2.9:5353", "192.0.2.10"] {
        assert_eq!(with(good), "fits", "{good}");
    }
}

#[test]
fn a_machine_needs_a_port() {
    assert!(on_the_machine("").starts_with("t.toml:1:1: there is no [[port]]\n"));
}
