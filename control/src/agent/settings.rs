//! The agent's own small file: one section, `[agent]`, whose keys `config/README.md` lists. It stands alone, because an agent
//! needs nothing else of Sluice's configuration and must not fail by a mistake in it.

use std::collections::BTreeMap;
use std::net::Ipv4Addr;
use std::path::{Path, PathBuf};

use ipnet::IpNet;
use serde::Deserialize;

/// Longest name of an interface, octets (IFNAMSIZ without the zero).
const NAME_MAX: usize = 15;

/// `[agent]`.
#[derive(Clone, PartialEq, Eq, Debug, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Settings {
    /// Where the Sluice nodes are.
    pub urls: Vec<String>,
    /// This agent's underlay address.
    pub address: Ipv4Addr,
    /// Networks that its containers may be in.
    #[serde(default = "dcos")]
    pub networks: Vec<String>,
    /// File with the word that Sluice wants to see.
    pub token_file: Option<PathBuf>,
    /// The VXLAN device.
    pub device: Option<String>,
    /// Bridge of each network in direct mode.
    #[serde(default)]
    pub bridges: BTreeMap<String, String>,
    /// Largest packet of a container.
    pub mtu: Option<u16>,
    /// Where CNI network configurations are.
    #[serde(default = "cni_folder")]
    pub cni_folder: PathBuf,
    /// `dataDir` of the plugin `host-local`.
    pub cni_state: Option<PathBuf>,
    /// Whether the agent's own processes are given routes to what Sluice serves.
    #[serde(default)]
    pub node_routes: bool,
    /// What lies outside the overlay and is reached through Sluice, by containers' own addresses.
    #[serde(default)]
    pub gateway_for: Vec<IpNet>,
    /// From one question to the next.
    #[serde(default = "refresh_seconds")]
    pub refresh_seconds: u64,
}

fn dcos() -> Vec<String> {
    vec!["dcos".to_owned()]
}

fn cni_folder() -> PathBuf {
    PathBuf::from("/etc/cni/net.d")
}

fn refresh_seconds() -> u64 {
    2
}

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct Document {
    agent: Settings,
}

/// What is wrong with the file.
#[derive(Debug, thiserror::Error)]
pub enum SettingsError {
    /// It cannot be read.
    #[error("{path}: {source}")]
    Read {
        /// The file.
        path: PathBuf,
        /// The system's word.
        source: std::io::Error,
    },
    /// It is not TOML, or has other keys.
    #[error("{path}: {source}")]
    Parse {
        /// The file.
        path: PathBuf,
        /// The parser's word, with the place.
        source: Box<toml::de::Error>,
    },
    /// A value that does not do.
    #[error("{path}: {what}")]
    Value {
        /// The file.
        path: PathBuf,
        /// Which, and what to write.
        what: String,
    },
}

impl Settings {
    /// Reads and checks the file.
    ///
    /// # Errors
    /// Says where, and what to write.
    pub fn load(path: &Path) -> Result<Self, SettingsError> {
        let text =
            std::fs::read_to_string(path).map_err(|source| SettingsError::Read { path: path.to_owned(), source })?;
        Self::parse(&text, path)
    }

    /// Checks a text; `path` is for messages.
    ///
    /// # Errors
    /// Says where, and what to write.
    pub fn parse(text: &str, path: &Path) -> Result<Self, SettingsError> {
        let document: Document = toml::from_str(text)
            .map_err(|source| SettingsError::Parse { path: path.to_owned(), source: Box::new(source) })?;
        match document.agent.wrong() {
            None => Ok(document.agent),
            Some(what) => Err(SettingsError::Value { path: path.to_owned(), what }),
        }
    }

    fn wrong(&self) -> Option<String> {
        if self.urls.is_empty() {
            return Some(
                "`urls` is empty: write where a Sluice node's `api.listen` is, [\"http://10.0.0.9:8123\"]".into(),
            );
        }
        let plain = |url: &&String| !url.starts_with("http://");
        if let Some(url) = self.urls.iter().find(plain) {
            return Some(format!(
                "`urls` has {}: Sluice's API speaks plain HTTP, write http://...",
                crate::rejected::shown(url)
            ));
        }
        if self.address.is_unspecified() || self.address.is_loopback() || self.address.is_multicast() {
            return Some(format!("`address` is {}: write the one that other agents know this one by", self.address));
        }
        if self.networks.is_empty() {
            return Some("`networks` is empty: write at least one, [\"dcos\"]".into());
        }
        let names = self.device.iter().chain(self.bridges.values()).cloned();
        let names: Vec<String> = names.chain(self.networks.iter().map(|network| self.bridge(network))).collect();
        if let Some(name) = names.iter().find(|name| !is_interface(name)) {
            return Some(format!(
                "`{}` is no name of an interface: write 1 to {NAME_MAX} letters, digits, `-`, `_` or `.` as `device`, or under `bridges`",
                crate::rejected::shown(name)
            ));
        }
        if self.mtu.is_some_and(|mtu| !(552..=15_950).contains(&mtu)) {
            return Some("`mtu` is not 552 to 15950".into());
        }
        if let Some(net) = self.gateway_for.iter().find(|net| net.trunc() != **net) {
            return Some(format!("`gateway_for` has {net}, with bits behind its length: write {}", net.trunc()));
        }
        (!(1..=60).contains(&self.refresh_seconds)).then(|| "`refresh_seconds` is not 1 to 60".into())
    }

    /// The bridge of a network: as DC/OS names it, unless the file says otherwise.
    #[must_use]
    pub fn bridge(&self, network: &str) -> String {
        self.bridges.get(network).cloned().unwrap_or_else(|| format!("m-{network}"))
    }

    /// The VXLAN device, as DC/OS names it unless the file says otherwise.
    #[must_use]
    pub fn device(&self, vni: u32) -> String {
        self.device.clone().unwrap_or_else(|| format!("vtep{vni}"))
    }
}

fn is_interface(name: &str) -> bool {
    let good = |c: char| c.is_ascii_alphanumeric() || "-_.".contains(c);
    (1..=NAME_MAX).contains(&name.len()) && name.chars().all(good) && name != "." && name != ".."
}

#[cfg(test)]
mod tests {
    use super::*;

    const README: &str = include_str!("../../../config/README.md");

    #[test]
    fn the_readme_has_an_example_that_loads_and_every_key() {
        let (_, section) = README.split_once("## The agent's own file").unwrap();
        let section = section.split_once("\n## ").map_or(section, |(section, _)| section);
        let (_, example) = section.split_once("```toml\n").unwrap();
        parse(example.split_once("```").unwrap().0).unwrap();
        let keys: Vec<&str> = section.lines().filter_map(|line| line.strip_prefix("| `")?.split('`').next()).collect();
        // serde says which keys it would have taken.
        let said = parse(&format!("{GOOD}no_such_key = 1\n")).unwrap_err();
        let (_, known) = said.split_once("expected one of ").unwrap();
        let known: Vec<&str> = known.trim().split(", ").map(|key| key.trim_matches('`')).collect();
        assert_eq!(keys, known);
    }

    fn parse(text: &str) -> Result<Settings, String> {
        Settings::parse(text, Path::new("agent.toml")).map_err(|error| error.to_string())
    }

    const GOOD: &str = "[agent]\nurls = [\"http://10.0.0.9:8123\"]\naddress = \"10.0.0.11\"\n";

    #[test]
    fn two_keys_are_enough_and_the_rest_is_as_in_dcos() {
        let settings = parse(GOOD).unwrap();
        assert_eq!((settings.device(1024), settings.bridge("dcos")), ("vtep1024".into(), "m-dcos".into()));
        assert_eq!(settings.networks, ["dcos"]);
    }

    #[test]
    fn a_mistake_is_told_with_its_place_and_remedy() {
        for (text, said) in [
            ("", "agent"),
            ("[agent]\nurls = []\naddress = \"10.0.0.11\"\n", "`urls` is empty"),
            ("[agent]\nurls = [\"https://x\"]\naddress = \"10.0.0.11\"\n", "plain HTTP"),
            ("[agent]\nurls = [\"http://x\"]\naddress = \"0.0.0.0\"\n", "`address` is 0.0.0.0"),
            (&format!("{GOOD}bridge = 1\n"), "line 4"),
            (&format!("{GOOD}networks = [\"a-network-of-a-long-name\"]\n"), "`m-a-network-of-a-long-name` is no name"),
            (&format!("{GOOD}mtu = 100\n"), "`mtu`"),
            (&format!("{GOOD}refresh_seconds = 0\n"), "`refresh_seconds`"),
            (&format!("{GOOD}gateway_for = [\"10.0.0.1/8\"]\n"), "write 10.0.0.0/8"),
            (&format!("{GOOD}gateway_for = [\"everything\"]\n"), "line 4"),
        ] {
            let error = parse(text).unwrap_err();
            assert!(error.contains("agent.toml") && error.contains(said), "{error}");
        }
    }
}
