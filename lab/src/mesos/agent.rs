//! The Mesos agents' own API on port 5051, of which there is the overlay module's part. One process serves all of them, each
//! from within its namespace.

use std::io;
use std::net::SocketAddr;

use axum::routing::get;
use axum::{Json, Router};
use tokio::net::TcpListener;
use tokio::task::JoinHandle;

use super::overlay;
use crate::place;
use crate::state::LabState;
use crate::topology::{Member, Topology};

const PORT: u16 = 5051;

/// Serves `/overlay-agent/overlay` of every agent that has the overlay module, until aborted. An agent that another master's
/// process serves already is left to it.
pub(super) fn serve_all(state: &LabState, topology: &Topology) -> io::Result<Vec<JoinHandle<()>>> {
    let mut jobs = Vec::new();
    for member in topology.members().iter().filter(|m| topology.agents.iter().any(|a| a.name == m.name)) {
        if topology.has_lease(&member.name) {
            continue;
        }
        match listen(state, member) {
            Ok(listener) => jobs.push(tokio::spawn(serve(listener, overlay::own(topology, member)))),
            Err(error) if error.kind() == io::ErrorKind::AddrInUse => {}
            Err(error) => return Err(error),
        }
    }
    Ok(jobs)
}

fn listen(state: &LabState, member: &Member) -> io::Result<TcpListener> {
    let at = SocketAddr::from((member.address, PORT));
    let listener = place::within(&state.namespace(&member.name), || std::net::TcpListener::bind(at))??;
    listener.set_nonblocking(true)?;
    TcpListener::from_std(listener)
}

async fn serve(listener: TcpListener, told: serde_json::Value) {
    let router = Router::new().route("/overlay-agent/overlay", get(async move || Json(told)));
    if let Err(error) = axum::serve(listener, router).await {
        tracing::error!(%error, "an agent's API has ended");
    }
}
