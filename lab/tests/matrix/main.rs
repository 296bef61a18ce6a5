//! The integration matrix of DC/OS's own tests in the lab: every origin and every client of it is a task, every request is
//! `curl` from inside the client, and what was seen is the table of docs/integration-matrix.md. Needs root, the binary
//! `sluice` beside `sluice-lab`, and `curl`, `dig` and `containernetworking-plugins`.
#![allow(clippy::unwrap_used, clippy::panic, reason = "a test that cannot go on fails")]

mod apps;
mod cluster;
mod extras;
mod golden;
mod names;
mod rows;
mod table;
mod vips;

use cluster::{Cluster, three_agents};
use table::Seen;

#[test]
fn the_whole_matrix_is_run_and_the_documentation_says_what_was_seen() {
    let mut seen = Seen::default();
    let Some(()) = on_agents_as_dcos_sets_them_up(&mut seen) else { return };
    seen.judge();
}

/// One cluster, everything that runs in it deployed at once.
fn on_agents_as_dcos_sets_them_up(seen: &mut Seen) -> Option<()> {
    let cluster = Cluster::start(&three_agents(), |_| {})?;
    let all: Vec<apps::App> = vips::apps().into_iter().chain(extras::apps()).chain(names::apps()).collect();
    cluster.deploy(&all);
    vips::ask(&cluster, seen);
    extras::ask(&cluster, seen);
    names::ask(&cluster, seen);
    Some(())
}
