//! Who the masters are, of ZooKeeper: below the node that `[mesos] zk` names each has a sequence node, `json.info_N`, whose
//! data is its MasterInfo; the lowest leads.
//!
//! The node's children are watched. A ZooKeeper that is away, or a node that is empty or garbage, takes no master away.

use std::time::Duration;

use serde_json::Value;
use sluice_config::model::ZooKeeper;
use tokio::sync::mpsc;
use zookeeper_client::{Client, Error, OneshotWatcher};

use super::facts::Endpoint;
use super::operator::master_info;
use crate::back_off::BackOff;
use crate::marathon::text::readable;

/// Masters with the URL that each is asked at; the leading one first.
pub(super) type Members = Vec<(Endpoint, String)>;

/// What was found.
#[derive(Clone, PartialEq, Eq, Debug)]
pub(super) enum News {
    /// Masters, at least one.
    Masters(Members),
    /// None; a sentence why.
    Failed(String),
}

/// A session outlives a server that restarts and no longer.
const SESSION: Duration = Duration::from_secs(10);
/// How long one question may take.
const ANSWER: Duration = Duration::from_secs(15);
/// Most masters, and longest data of one, octets.
const MASTERS: usize = 64;
const DATA_OCTETS: usize = 64 << 10;
/// What a master's node is called, before its sequence number.
const NODE: &str = "json.info_";

/// Why masters are not known.
#[derive(Debug, thiserror::Error)]
enum ZkError {
    #[error("ZooKeeper {zk}: {source}")]
    Client { zk: String, source: Error },
    #[error("ZooKeeper {zk}: there is no node {path}: is the path of [mesos] zk right, and has a master registered?")]
    NoNode { zk: String, path: String },
    #[error("ZooKeeper {zk}: user and password of [mesos] zk may not read {path}")]
    Forbidden { zk: String, path: String },
    #[error("ZooKeeper {zk}: no answer within {} s", ANSWER.as_secs())]
    Slow { zk: String },
    #[error("ZooKeeper {zk}: no master is registered below {path}")]
    NoMaster { zk: String, path: String },
}

/// Tells of the masters, now and at every change, until nobody listens.
pub(super) async fn follow(zk: ZooKeeper, https: bool, seed: u64, news: mpsc::Sender<News>) {
    let mut back_off = BackOff::new(seed);
    let mut failures = 0;
    while !news.is_closed() {
        let error = match connect(&zk).await {
            Ok(client) => watch(&client, &zk, https, &news, &mut failures).await,
            Err(error) => error,
        };
        let _ = news.send(News::Failed(error.to_string())).await;
        failures += 1;
        tokio::time::sleep(back_off.after(failures)).await;
    }
}

async fn connect(zk: &ZooKeeper) -> Result<Client, ZkError> {
    let mut connector = Client::connector().with_session_timeout(SESSION).with_fail_eagerly();
    if let Some(digest) = &zk.digest {
        connector = connector.with_auth("digest", digest.as_bytes());
    }
    let servers = zk.servers.join(",");
    in_time(zk, connector.connect(&servers)).await
}

/// Watches until the session is of no use any more.
async fn watch(client: &Client, zk: &ZooKeeper, https: bool, news: &mpsc::Sender<News>, failures: &mut u32) -> ZkError {
    loop {
        let (mut members, changed) = match members(client, zk, https).await {
            Ok(found) => found,
            Err(error) => return error,
        };
        *failures = 0;
        let found = if members.is_empty() {
            News::Failed(ZkError::NoMaster { zk: zk.to_string(), path: zk.path.clone() }.to_string())
        } else {
            News::Masters(std::mem::take(&mut members))
        };
        if news.send(found).await.is_err() {
            return ZkError::Slow { zk: zk.to_string() };
        }
        // It comes with every change of the children, and when the session ends; asking again tells which.
        changed.changed().await;
    }
}

/// The masters, and what says that they are others.
async fn members(client: &Client, zk: &ZooKeeper, https: bool) -> Result<(Members, OneshotWatcher), ZkError> {
    let (children, changed) = in_time(zk, client.list_and_watch_children(&zk.path)).await?;
    let mut members = Members::new();
    for child in in_sequence(children) {
        match in_time(zk, client.get_data(&format!("{}/{child}", zk.path))).await {
            Ok((data, _)) => members.extend(member(&data, https)),
            // It went since.
            Err(ZkError::NoNode { .. }) => {}
            Err(error) => return Err(error),
        }
    }
    Ok((members, changed))
}

/// The masters' nodes among the children, the one of the lowest sequence number first.
fn in_sequence(children: Vec<String>) -> Vec<String> {
    let number = |name: &str| name.strip_prefix(NODE)?.parse::<i64>().ok();
    let mut nodes: Vec<(i64, String)> = children.into_iter().filter_map(|name| Some((number(&name)?, name))).collect();
    nodes.sort();
    nodes.into_iter().take(MASTERS).map(|(_, name)| name).collect()
}

/// One master of its node's data: by name where certificates are compared with it.
fn member(data: &[u8], https: bool) -> Option<(Endpoint, String)> {
    let info: Value = serde_json::from_str(&readable(data.get(..DATA_OCTETS).unwrap_or(data))).ok()?;
    let (Some(endpoint), _) = master_info(&info) else { return None };
    let named = [&info["address"]["hostname"], &info["hostname"]];
    let name = named.into_iter().find_map(|n| n.as_str().filter(|n| !n.is_empty() && n.len() < 256));
    let asked = match name.filter(|_| https) {
        Some(name) => Endpoint { host: name.to_owned(), port: endpoint.port },
        None => endpoint.clone(),
    };
    let scheme = if https { "https" } else { "http" };
    Some((endpoint, format!("{scheme}://{asked}")))
}

async fn in_time<T>(zk: &ZooKeeper, answer: impl Future<Output = Result<T, Error>>) -> Result<T, ZkError> {
    let (shown, path) = (zk.to_string(), zk.path.clone());
    match tokio::time::timeout(ANSWER, answer).await {
        Err(_) => Err(ZkError::Slow { zk: shown }),
        Ok(Ok(answer)) => Ok(answer),
        Ok(Err(Error::NoNode)) => Err(ZkError::NoNode { zk: shown, path }),
        Ok(Err(Error::NoAuth | Error::AuthFailed)) => Err(ZkError::Forbidden { zk: shown, path }),
        Ok(Err(source)) => Err(ZkError::Client { zk: shown, source }),
    }
}

#[cfg(test)]
mod tests;
