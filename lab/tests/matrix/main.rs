//! The integration matrix of DC/OS's own tests in the lab: every origin and every client of it is a task, every request is
//! `curl` from inside the client, and what was seen is the table of docs/integration-matrix.md. Needs root, the binary
//! `sluice` beside `sluice-lab`, and `curl`, `dig` and `containernetworking-plugins`.
#![allow(clippy::unwrap_used, clippy::panic, reason = "a test that cannot go on fails")]

mod apps;
mod cluster;
mod extras;
mod golden;
mod names;
mod networks;
mod rows;
mod six;
mod table;
mod tasks;
mod vips;

use cluster::{Cluster, three_agents};
use table::Seen;

/// One cluster of agents as DC/OS sets them up; everything that runs in it is deployed at once.
#[test]
fn the_matrix_is_run_and_the_documentation_says_what_was_seen() {
    let Some(cluster) = Cluster::start(&three_agents(), |_| {}) else { return };
    let all: Vec<apps::App> = vips::apps().into_iter().chain(extras::apps()).chain(names::apps()).collect();
    cluster.deploy(&all);
    let mut seen = Seen::default();
    seen.matrix(vips::ask(&cluster));
    extras::ask(&cluster, &mut seen);
    names::ask(&cluster, &mut seen);
    seen.judge("agents as DC/OS sets them up");
}

/// The matrix once more where agents run `sluice agent`, and where everything between containers goes through Sluice.
#[test]
fn the_matrix_is_run_in_hub_mode_and_the_documentation_says_what_was_seen() {
    let mut topology = networks::topology();
    topology.overlay.hub = true;
    let Some(cluster) = Cluster::start(&topology, |_| {}) else { return };
    let _agents = ["agent1", "agent2"].map(|agent| cluster.start_agent(agent));
    cluster.deploy(&vips::apps());
    networks::await_routes(&cluster, "44");
    let mut seen = Seen::default();
    seen.matrix_in_short(vips::ask(&cluster));
    seen.judge("agents by sluice agent, in hub mode");
}

/// Another one, of agents that run `sluice agent`.
#[test]
fn more_networks_than_one_are_tried_and_the_documentation_says_what_was_seen() {
    let mut seen = Seen::default();
    if networks::ask(&mut seen).is_some() {
        seen.judge("agents by sluice agent");
    }
}
