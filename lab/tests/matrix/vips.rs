//! VIPs between every kind and network of origin and client: the matrix itself, clients outside, and origins that ask
//! themselves.

use super::apps::App;
use super::cluster::{AGENTS, Cluster, From, in_parallel};
use super::rows::{BYS, By, KINDS, Kind, NETS, Net, origins, rows};
use super::table::{Asked, Client};
use super::tasks::Task;

/// All origins are here; clients too, and on the next.
const AGENT: &str = AGENTS[0];
const OTHER_AGENT: &str = AGENTS[1];
const FIRST_PORT: u16 = 7001;

fn number(kind: Kind, net: Net) -> u16 {
    origins().zip(0..).find(|(origin, _)| *origin == (kind, net)).map(|(_, number)| number).unwrap()
}

/// An origin has the one VIP that its rows speak of.
pub(crate) fn origin(kind: Kind, net: Net, by: By) -> App {
    let name = format!("origin-{}-{}-{}", kind.word(), net.word(), by.word());
    let label = match by {
        By::Name => format!("/{name}:{}", FIRST_PORT + number(kind, net)),
        By::Address => address(kind, net, by),
    };
    App::new(name, kind, net).on(AGENT).vip(&label)
}

/// What a client asks for.
fn address(kind: Kind, net: Net, by: By) -> String {
    let (number, port) = (number(kind, net), FIRST_PORT + number(kind, net));
    match by {
        By::Name => format!("{}.marathon.l4lb.thisdcos.directory:{port}", origin(kind, net, by).name),
        By::Address => format!("198.51.100.{}:{port}", 129 + number),
    }
}

/// All VIPs that have no name.
pub(crate) fn addresses() -> impl Iterator<Item = String> {
    origins().map(|(kind, net)| address(kind, net, By::Address).split(':').next().unwrap().to_owned())
}

pub(crate) fn client(kind: Kind, net: Net, same_agent: bool) -> App {
    let (place, agent) = if same_agent { ("same", AGENT) } else { ("other", OTHER_AGENT) };
    App::new(format!("client-{}-{}-{place}", kind.word(), net.word()), kind, net).on(agent)
}

/// Every origin of the matrix.
fn all_origins() -> impl Iterator<Item = (Kind, Net, By)> {
    origins().flat_map(|(kind, net)| BYS.map(|by| (kind, net, by)))
}

pub(crate) fn apps() -> Vec<App> {
    let clients = KINDS.into_iter().flat_map(|kind| NETS.map(|net| [true, false].map(|same| client(kind, net, same))));
    all_origins().map(|(kind, net, by)| origin(kind, net, by)).chain(clients.flatten()).collect()
}

/// Asks everything, and gives what came of each.
pub(crate) fn ask(cluster: &Cluster) -> Vec<Asked> {
    let origins: Vec<(Kind, Net, By)> = all_origins().collect();
    cluster.await_vips(&origins.iter().map(|(kind, net, by)| address(*kind, *net, *by)).collect::<Vec<_>>());
    let mut requests = Vec::new();
    for row in rows() {
        requests.push(Request {
            origin: (row.kind, row.origin, row.by),
            to: cluster.task(&origin(row.kind, row.origin, row.by)),
            client: Client::Task(row.client, row.same_agent),
            from: Some(cluster.task(&client(row.kind, row.client, row.same_agent))),
        });
    }
    for (kind, net, by) in origins {
        let to = cluster.task(&origin(kind, net, by));
        let (from, origin) = (Some(to.clone()), (kind, net, by));
        requests.push(Request { origin, to: to.clone(), client: Client::Itself, from });
        requests.push(Request { origin, to, client: Client::Outside, from: None });
    }
    let results = in_parallel(&requests, |request| {
        let (kind, net, by) = request.origin;
        let from = request.from.as_ref().map_or(From::Role("client"), From::Task);
        cluster.is_answered_by(&request.to, from, &address(kind, net, by))
    });
    requests.iter().zip(results).map(|(request, result)| (request.origin, request.client, result)).collect()
}

struct Request {
    origin: (Kind, Net, By),
    to: Task,
    client: Client,
    from: Option<Task>,
}
