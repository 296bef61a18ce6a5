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
mod table;
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
    vips::ask(&cluster, &mut seen);
    extras::ask(&cluster, &mut seen);
    names::ask(&cluster, &mut seen);
    seen.judge("agents as DC/OS sets them up");
}

/// Another one, of agents that run `sluice agent`.
#[test]
fn more_networks_than_one_are_tried_and_the_documentation_says_what_was_seen() {
    let mut seen = Seen::default();
    if networks::ask(&mut seen).is_some() {
        seen.judge("agents by sluice agent");
    }
}
