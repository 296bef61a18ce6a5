//! `sluice replay`, `sluice compile` and `sluice zone`: the same questions to files (design.md section 9).

use std::path::PathBuf;

use super::{ConfigFile, answer, answer_json, show};
use crate::compile::{CompileInputs, compile_json, zone_rows};
use crate::replay::{self, Replayed};

/// What the sources said, in files.
#[derive(Debug, clap::Args)]
struct Inputs {
    /// Marathon's answer to /v2/apps?embed=apps.tasks.
    #[arg(long, value_name = "FILE")]
    marathon_apps: Option<PathBuf>,
    /// Marathon's answer to /v2/info.
    #[arg(long, value_name = "FILE")]
    marathon_info: Option<PathBuf>,
    /// Marathon's answer to /v2/pods::status, or one pod's status.
    #[arg(long, value_name = "FILE")]
    marathon_pods: Option<PathBuf>,
    /// The Mesos master's answer to /state.
    #[arg(long, value_name = "FILE")]
    mesos_state: Option<PathBuf>,
    /// The Mesos operator API's events: RecordIO, JSON lines, or one GET_STATE.
    #[arg(long, value_name = "FILE")]
    operator_api: Option<PathBuf>,
    /// The overlay master's answer to /overlay-master/state.
    #[arg(long, value_name = "FILE")]
    overlay_state: Option<PathBuf>,
}

impl Inputs {
    fn files(&self) -> CompileInputs {
        CompileInputs {
            marathon_apps: self.marathon_apps.clone(),
            marathon_info: self.marathon_info.clone(),
            marathon_pods: self.marathon_pods.clone(),
            overlay_state: self.overlay_state.clone(),
            mesos_state: self.mesos_state.clone(),
            operator_api: self.operator_api.clone(),
        }
    }
}

#[derive(Debug, clap::Args)]
pub(super) struct Compile {
    #[command(flatten)]
    config: ConfigFile,
    #[command(flatten)]
    inputs: Inputs,
    /// Print JSON: vips, rejected, networks, policy.
    #[arg(long)]
    json: bool,
}

impl Compile {
    pub(super) fn run(&self) -> anyhow::Result<()> {
        let config = sluice_config::load(&self.config.config)?;
        let document = compile_json(&config, &self.inputs.files())?;
        if self.json {
            return answer_json(&document);
        }
        let vips = document.get("vips").map(show::compiled).unwrap_or_default();
        answer(&format!("{vips}\n{}", show::rejected(&document)))
    }
}

#[derive(Debug, clap::Args)]
pub(super) struct Zone {
    #[command(flatten)]
    config: ConfigFile,
    #[command(flatten)]
    inputs: Inputs,
    /// Show names that are others' too: thisdcos.global, dclb.thisdcos.directory, the cluster's id.
    #[arg(long)]
    aliases: bool,
    /// Print JSON: rows of name, type, ttl, values.
    #[arg(long)]
    json: bool,
}

impl Zone {
    pub(super) fn run(&self) -> anyhow::Result<()> {
        let config = sluice_config::load(&self.config.config)?;
        if !config.dns.is_on() {
            tracing::warn!("no names are served: dns.addresses is empty");
        }
        for sentence in crate::static_zones::left_out(&config) {
            tracing::warn!("not served: {sentence}");
        }
        let rows = zone_rows(&config, &self.inputs.files(), self.aliases)?;
        if self.json { answer_json(&rows) } else { answer(&show::zone(&serde_json::to_value(&rows)?)) }
    }
}

#[derive(Debug, clap::Args)]
pub(super) struct Replay {
    #[command(flatten)]
    config: ConfigFile,
    #[command(flatten)]
    inputs: Inputs,
    /// What a port receives: pcap or pcapng, Ethernet. PORT is a name of the configuration, by default its first; `host`
    /// is what the node's own kernel sends.
    #[arg(long = "in", value_name = "[PORT=]FILE", required = true)]
    incoming: Vec<String>,
    /// Where to write what a port sends (pcap).
    #[arg(long = "out", value_name = "[PORT=]FILE")]
    outgoing: Vec<String>,
    /// Where to write what the node's own kernel would get (pcap).
    #[arg(long, value_name = "FILE")]
    host: Option<PathBuf>,
    /// How many workers; packets go to them by a symmetric hash of their addresses and ports.
    #[arg(long, value_name = "N", default_value_t = 1, value_parser = clap::value_parser!(u8).range(1..))]
    workers: u8,
    /// Where to write the counters (JSON); standard output by default.
    #[arg(long, value_name = "FILE")]
    counters: Option<PathBuf>,
}

impl Replay {
    pub(super) fn run(&self) -> anyhow::Result<()> {
        let config = sluice_config::load(&self.config.config)?;
        let wanted = replay::Wanted {
            inputs: self.inputs.files(),
            incoming: replay::named(&config, &self.incoming, "--in")?,
            outgoing: replay::named(&config, &self.outgoing, "--out")?,
            host: self.host.clone(),
            counters: self.counters.clone(),
            workers: usize::from(self.workers),
        };
        let Replayed { counters } = replay::run(&config, &wanted)?;
        if self.counters.is_some() { Ok(()) } else { answer_json(&counters) }
    }
}
