//! `[mesos]`.

use toml::Spanned;

use super::claims::{Claims, Owner};
use super::{marathon, value};
use crate::diagnostic::Findings;
use crate::file::{self, Value};
use crate::model::{self, Access, Masters, Mesos, ZooKeeper};
use crate::secret::without_user;
use crate::words::short;

/// Masters of one cluster are three or five.
const MOST: usize = 64;
/// What an answer may take, octets; the default holds some 60,000 tasks.
const STATE_OCTETS: i64 = 128 << 20;

pub(super) fn mesos(at: Option<&Spanned<file::Mesos>>, claims: &mut Claims, found: &mut Findings<'_>) -> Option<Mesos> {
    let at = at?;
    let file = at.get_ref();
    let https = value::flag(&file.https, false);
    let masters = masters(file, https, claims, found);
    let mesos = Mesos {
        // What is good of the rest is checked all the same.
        masters: masters.clone().unwrap_or_else(|| Masters::Listed(Vec::new())),
        refresh_seconds: value::number("refresh_seconds", &file.refresh_seconds, 30, 1..=3600, found),
        reregister_seconds: value::number("reregister_seconds", &file.reregister_seconds, 600, 0..=86_400, found),
        state_octets: value::number(
            "state_octets",
            &file.state_octets,
            STATE_OCTETS as usize,
            1 << 20..=1 << 32,
            found,
        ),
        access: access(file, found),
    };
    masters.map(|_| mesos)
}

fn masters(file: &file::Mesos, https: bool, claims: &mut Claims, found: &mut Findings<'_>) -> Option<Masters> {
    let listed = file.masters.as_ref().filter(|list| !list.get_ref().is_empty());
    let zk = file.zk.as_ref().filter(|zk| !zk.get_ref().is_empty());
    match (listed, zk) {
        (Some(_), Some(zk)) => {
            let remedy = "keep one of the two: ZooKeeper knows all masters";
            found.error(&zk.span(), "`zk` is there beside `masters`", remedy);
            None
        }
        (None, None) => None,
        (Some(list), None) => {
            if list.get_ref().len() > MOST {
                found.error(&list.span(), format!("{} masters", list.get_ref().len()), format!("write at most {MOST}"));
            }
            let urls = list.get_ref().iter().take(MOST).filter_map(|at| master(at, https, claims, found)).collect();
            Some(Masters::Listed(urls))
        }
        (None, Some(zk)) => Some(Masters::ZooKeeper { zk: zookeeper(zk, found)?, https }),
    }
}

/// A base URL; `host:port`, as Mesos-DNS has it, is one too.
fn master(at: &Spanned<String>, https: bool, claims: &mut Claims, found: &mut Findings<'_>) -> Option<String> {
    let bare = !at.get_ref().contains("://");
    let scheme = if https { "https" } else { "http" };
    let whole = if bare { format!("{scheme}://{}", at.get_ref()) } else { at.get_ref().clone() };
    let url = marathon::url("masters", "http://10.0.0.2:5050", &Spanned::new(at.span(), whole), found)?;
    if bare && url_port(&url).is_none() {
        let sentence = format!("`masters` has \"{}\", which has no port", short(at.get_ref()));
        found.error(&at.span(), sentence, "write it like \"10.0.0.2:5050\"");
        return None;
    }
    if let Some(ip) = model::url_address(&url) {
        claims.once(Owner::Master, ip, "mesos.masters", &at.span());
    }
    Some(url)
}

fn url_port(url: &str) -> Option<&str> {
    let (_, authority) = url.split_once("://")?;
    authority.rsplit_once(':').map(|(_, port)| port).filter(|port| !port.ends_with(']'))
}

/// `zk://[user:password@]host:port,.../path`.
fn zookeeper(at: &Spanned<String>, found: &mut Findings<'_>) -> Option<ZooKeeper> {
    let given = at.get_ref().as_str();
    match read_zookeeper(given) {
        Ok(zk) => Some(zk),
        Err(wrong) => {
            let sentence = format!("`zk` is \"{}\", which {wrong}", short(&without_user(given)));
            let remedy = "write it like \"zk://10.0.0.2:2181,10.0.0.3:2181/mesos\"";
            if given.contains('@') {
                found.error_at_secret(&at.span(), sentence, remedy);
            } else {
                found.error(&at.span(), sentence, remedy);
            }
            None
        }
    }
}

fn read_zookeeper(given: &str) -> Result<ZooKeeper, &'static str> {
    let rest = given.strip_prefix("zk://").ok_or("does not begin with zk://")?;
    let (digest, rest) = rest.rsplit_once('@').map_or((None, rest), |(user, rest)| (Some(user), rest));
    if digest.is_some_and(|d| d.split_once(':').is_none_or(|(user, _)| user.is_empty())) {
        return Err("has no user:password before its @");
    }
    let (servers, path) = rest.split_once('/').ok_or("has no path")?;
    let path = path.trim_end_matches('/');
    if path.is_empty() {
        return Err("has no path");
    }
    if path.split('/').any(|part| matches!(part, "" | "." | "..")) || path.chars().any(|c| c.is_control() || c == ' ') {
        return Err("has a path that ZooKeeper does not take");
    }
    let servers: Vec<String> = servers.split(',').map(str::to_owned).collect();
    let is_server = |server: &String| {
        let host_and_port = server.rsplit_once(':');
        host_and_port.is_some_and(|(host, port)| {
            let bracketed = host.starts_with('[') && host.ends_with(']');
            let plain = !host.is_empty() && !host.contains([':', '/', ' ', '[', ']']);
            (bracketed || plain) && port.parse::<u16>().is_ok_and(|port| port != 0)
        })
    };
    if servers.is_empty() || servers.len() > MOST || !servers.iter().all(is_server) {
        return Err("has a server that is not host:port");
    }
    Ok(ZooKeeper { servers, path: format!("/{path}"), digest: digest.map(str::to_owned) })
}

fn access(file: &file::Mesos, found: &mut Findings<'_>) -> Access {
    marathon::credentials((&file.user, &file.password_file, &file.token_file), found);
    pair(("cert_file", &file.cert_file), ("key_file", &file.key_file), found);
    Access {
        user: value::filled("user", &file.user, "a principal's name", found),
        password_file: marathon::path("password_file", &file.password_file, found),
        token_file: marathon::path("token_file", &file.token_file, found),
        ca_file: marathon::path("ca_file", &file.ca_file, found),
        cert_file: marathon::path("cert_file", &file.cert_file, found),
        key_file: marathon::path("key_file", &file.key_file, found),
    }
}

/// Two keys of which neither is of use alone.
fn pair((a, of_a): (&str, &Value<String>), (b, of_b): (&str, &Value<String>), found: &mut Findings<'_>) {
    let alone = match (of_a, of_b) {
        (Some(at), None) => Some((at, a, b)),
        (None, Some(at)) => Some((at, b, a)),
        (Some(_), Some(_)) | (None, None) => None,
    };
    if let Some((at, here, missing)) = alone {
        let sentence = format!("`{here}` is there without `{missing}`");
        found.error(&at.span(), sentence, format!("add `{missing} = \"/etc/sluice/mesos.pem\"`"));
    }
}
