//! `[mesos]`.

use std::fmt;
use std::net::Ipv4Addr;
use std::path::PathBuf;

/// A Mesos to follow, by a list of its masters or by their ZooKeeper.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct Mesos {
    /// Where its masters are.
    pub masters: Masters,
    /// Seconds between two listings while nothing changes, and between polls where no event stream can be had.
    pub refresh_seconds: u64,
    /// How long tasks of agents that a new leading master has not heard from yet are kept, seconds.
    pub reregister_seconds: u64,
    /// Longest answer and longest record of the event stream, octets.
    pub state_octets: usize,
    /// How it is asked.
    pub access: Access,
}

/// Where masters are.
#[derive(Clone, PartialEq, Eq, Debug)]
pub enum Masters {
    /// Base URLs, without the final slash.
    Listed(Vec<String>),
    /// ZooKeeper knows; masters are asked by https where that is set.
    ZooKeeper {
        /// Where that is.
        zk: ZooKeeper,
        /// Whether masters speak TLS.
        https: bool,
    },
}

/// `zk://[user:password@]host:port,host:port/path`.
#[derive(Clone, PartialEq, Eq)]
pub struct ZooKeeper {
    /// `host:port`, IPv6 in brackets.
    pub servers: Vec<String>,
    /// The node below which masters are, with its first slash and without its last.
    pub path: String,
    /// `user:password` for the scheme `digest`.
    pub digest: Option<String>,
}

/// How a source is asked over HTTP. Of `user` with `password_file`, and `token_file`, one at most is there.
#[derive(Clone, PartialEq, Eq, Debug, Default)]
pub struct Access {
    /// HTTP basic user (Mesos: principal), with `password_file`.
    pub user: Option<String>,
    /// File that holds the basic password (Mesos: secret).
    pub password_file: Option<PathBuf>,
    /// File that holds a token, sent as `Authorization: token=...`.
    pub token_file: Option<PathBuf>,
    /// Extra CA certificate (PEM) to trust for https.
    pub ca_file: Option<PathBuf>,
    /// Certificate chain (PEM) that we show, with `key_file`.
    pub cert_file: Option<PathBuf>,
    /// Its key (PEM).
    pub key_file: Option<PathBuf>,
}

impl Mesos {
    /// The listed masters that are IPv4 addresses: no VIP may be one of them.
    pub fn addresses(&self) -> impl Iterator<Item = Ipv4Addr> {
        let listed = match &self.masters {
            Masters::Listed(urls) => urls.as_slice(),
            Masters::ZooKeeper { .. } => &[],
        };
        listed.iter().filter_map(|url| super::url_address(url))
    }
}

/// The password is not shown.
impl fmt::Debug for ZooKeeper {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let user = if self.digest.is_some() { "***@" } else { "" };
        write!(f, "zk://{user}{}{}", self.servers.join(","), self.path)
    }
}

impl fmt::Display for ZooKeeper {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        fmt::Debug::fmt(self, f)
    }
}
