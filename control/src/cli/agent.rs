//! `sluice agent` and `sluice overlay`.

use std::net::Ipv4Addr;
use std::path::PathBuf;

use serde_json::Value;

use super::ask::Running;
use super::show::text;
use super::{answer, answer_json};
use crate::agent::{self, settings::Settings};
use crate::lease::map::Ask;

#[derive(Debug, clap::Args)]
pub(super) struct Agent {
    /// The agent's own file, with its section [agent].
    #[arg(short, long, value_name = "FILE", default_value = "/etc/sluice/agent.toml")]
    config: PathBuf,
    /// Take this agent out of the overlay and remove all that was made here; its place stays its own.
    #[arg(long, conflicts_with = "print")]
    down: bool,
    /// Change nothing: print the resolv.conf and routes that a node needs, and what would be done here.
    #[arg(long)]
    print: bool,
}

impl Agent {
    pub(super) fn run(&self) -> anyhow::Result<()> {
        let settings = Settings::load(&self.config)?;
        let runtime = tokio::runtime::Builder::new_multi_thread().worker_threads(1).enable_all().build()?;
        let done = runtime.block_on(async {
            match (self.down, self.print) {
                (true, _) => agent::down(settings).await.map(|()| String::new()),
                (_, true) => agent::print(&settings).await,
                _ => agent::run(settings).await.map(|()| String::new()),
            }
        });
        runtime.shutdown_timeout(std::time::Duration::from_secs(1));
        answer(&done?)
    }
}

#[derive(Debug, clap::Args)]
pub(super) struct Overlay {
    #[command(subcommand)]
    what: What,
}

#[derive(Debug, clap::Subcommand)]
enum What {
    /// End an agent's lease: its VTEP address and subnets are the next one's who asks.
    ///
    /// For agents that are gone for good. One that still runs gets a new place at its next question.
    Release {
        /// The agent's underlay address (`sluice show leases` lists them).
        agent: Ipv4Addr,
        /// Print JSON.
        #[arg(long)]
        json: bool,
        #[command(flatten)]
        running: Running,
    },
}

impl Overlay {
    pub(super) fn run(&self) -> anyhow::Result<()> {
        let What::Release { agent, json, running } = &self.what;
        let ask = Ask { agent: *agent, networks: Vec::new(), version: None };
        let lease: Value = serde_json::from_slice(&running.order("/v1/overlay/release", &ask)?)?;
        if *json {
            return answer_json(&lease);
        }
        answer(&format!("{agent} has no lease any more; {} and its subnets are free\n", text(&lease, "vtep_ip")))
    }
}
