//! `sluice replay`: the very same workers and tables over captures, with no network and no privileges.
//!
//! Tables come from the configuration and from what the sources said in files, exactly as `compile` reads them. Without
//! `vip.hash_key_file` the hash key is all zeros, so that equal inputs give equal outputs.

use std::collections::BTreeMap;
use std::path::{Path, PathBuf};
use std::sync::Arc;

use serde::Serialize;
use sluice_config::model::{Config, Snat};
use sluice_dataplane::io::pcap::{self, Captured};
use sluice_dataplane::replay::{Outcome, Sizes, replay};
use sluice_dataplane::tables::Tables;
use sluice_dataplane::tables::ids::Ids;
use sluice_dataplane::time::Nanos;
use sluice_dataplane::verdict::DropReason;

use crate::compile::{CompileError, CompileInputs, view_from_inputs};
use crate::desire::{Claims, desire};
use crate::health::paths::Paths;
use crate::health::target::Carried;
use crate::offline::local_from_config;
use crate::rejected::Rejected;
use crate::run::hash_key;

mod files;

use files::Files;

/// Sessions per worker at most: a capture has few, and room for a card's full table would take longer to clear than
/// the replay itself.
const MOST_SESSIONS: usize = 65_536;

/// What to replay, and where to.
#[derive(Clone, Debug, Default)]
pub struct Wanted {
    /// What the sources said.
    pub inputs: CompileInputs,
    /// What each port (index) receives.
    pub incoming: Vec<(usize, PathBuf)>,
    /// Where each port's (index) packets go.
    pub outgoing: Vec<(usize, PathBuf)>,
    /// Where the node's own packets go.
    pub host: Option<PathBuf>,
    /// Where the counters go.
    pub counters: Option<PathBuf>,
    /// Workers.
    pub workers: usize,
}

/// Why there is no replay.
#[derive(Debug, thiserror::Error)]
pub enum ReplayError {
    /// An argument names a port that is not configured.
    #[error("{flag} {given}: there is no port `{name}`; the configuration has {known}")]
    NoPort {
        /// The flag.
        flag: &'static str,
        /// Its value.
        given: String,
        /// The port.
        name: String,
        /// The ports there are.
        known: String,
    },
    /// The configuration has no ports at all.
    #[error("{flag}: the configuration has no [[port]]; add one with `name`, `mac` and `addresses`")]
    NoPorts {
        /// The flag.
        flag: &'static str,
    },
    /// A worker would have no SNAT ports.
    #[error(
        "--workers {workers}: `snat.ports` has {blocks} whole block(s) of 64, and each worker needs one: write fewer \
         workers, or at least {needed} ports"
    )]
    FewPorts {
        /// The workers asked for.
        workers: usize,
        /// The blocks there are.
        blocks: usize,
        /// Ports needed.
        needed: usize,
    },
    /// A source's file.
    #[error(transparent)]
    Inputs(#[from] CompileError),
    /// A capture.
    #[error(transparent)]
    Capture(#[from] pcap::CaptureError),
    /// The tables.
    #[error(transparent)]
    Tables(#[from] sluice_dataplane::tables::CompileError),
    /// A file that is written.
    #[error("{path}: cannot be written: {source}")]
    Write {
        /// The file.
        path: PathBuf,
        /// The system's word.
        source: std::io::Error,
    },
    /// The kernel's word.
    #[error("cannot make a worker: {0}")]
    Worker(#[from] std::io::Error),
}

/// What came of it.
#[derive(Clone, PartialEq, Debug)]
pub struct Replayed {
    /// Over all workers.
    pub counters: CounterFile,
}

/// `--counters`.
#[derive(Clone, PartialEq, Eq, Debug, Serialize)]
pub struct CounterFile {
    /// Packets received.
    pub rx: u64,
    /// Packets sent.
    pub tx: u64,
    /// Packets for the node's own kernel.
    pub host: u64,
    /// Packets dropped, by reason, zeros included.
    pub drops: BTreeMap<&'static str, u64>,
}

/// The host port's name in [`named`]: what comes in there is the node's own kernel's.
const HOST: &str = "host";

/// `[PORT=]FILE` arguments: the port's index (by default the first) and the file. `host` is the host port, unless another
/// has that name. A name before `=` that is no port is an error unless the whole argument is an existing file.
///
/// # Errors
/// When a port is not there.
pub fn named(config: &Config, given: &[String], flag: &'static str) -> Result<Vec<(usize, PathBuf)>, ReplayError> {
    given.iter().map(|given| one_named(config, given, flag)).collect()
}

fn one_named(config: &Config, given: &str, flag: &'static str) -> Result<(usize, PathBuf), ReplayError> {
    if config.ports.is_empty() {
        return Err(ReplayError::NoPorts { flag });
    }
    let Some((name, file)) = given.split_once('=').filter(|(name, _)| !name.contains('/')) else {
        return Ok((0, given.into()));
    };
    let host = || (name == HOST && config.host.is_some()).then_some(config.ports.len());
    match config.ports.iter().position(|p| p.name == name).or_else(host) {
        Some(port) => Ok((port, file.into())),
        None if Path::new(given).exists() => Ok((0, given.into())),
        None => Err(ReplayError::NoPort {
            flag,
            given: given.into(),
            name: name.into(),
            known: config.ports.iter().map(|p| p.name.as_str()).collect::<Vec<_>>().join(", "),
        }),
    }
}

/// Replays, and writes what was sent.
///
/// # Errors
/// Whatever stands in the way; no file is there then that was not there before, and none is changed. (A file that is no
/// regular one, like /dev/stdout, takes what it is given at once.)
pub fn run(config: &Config, wanted: &Wanted) -> Result<Replayed, ReplayError> {
    let tables = tables(config, wanted)?;
    let mut packets = Vec::new();
    for (port, file) in &wanted.incoming {
        packets.extend(pcap::read(file)?.into_iter().map(|packet| (*port, packet)));
    }
    let limits = config.limits;
    let sizes = Sizes {
        sessions: limits.sessions.min(MOST_SESSIONS),
        masquerade: limits.masquerade.min(MOST_SESSIONS),
        handover: limits.handover,
        services: limits.services + 1,
        backends: limits.backends + 1,
    };
    let outcome = replay(&tables, packets, wanted.workers, sizes)?;
    let counters = counters(&outcome);
    write(&outcome, &counters, wanted, tables.local.host.map(|(port, _)| usize::from(port)))?;
    Ok(Replayed { counters })
}

fn tables(config: &Config, wanted: &Wanted) -> Result<Arc<Tables>, ReplayError> {
    let view = view_from_inputs(config, &wanted.inputs)?;
    let mut local = local_from_config(config);
    // The SNAT ports are dealt to the workers that there are.
    local.workers = wanted.workers;
    if config.snat.blocks() < wanted.workers {
        let (blocks, workers) = (config.snat.blocks(), wanted.workers);
        return Err(ReplayError::FewPorts { workers, blocks, needed: workers * usize::from(Snat::BLOCK) });
    }
    let key = hash_key::read(config).unwrap_or_else(|error| {
        tracing::warn!(%error, "the hash key is all zeros here: another backend may be chosen than on the node");
        None
    });
    let key = key.unwrap_or_default();
    let (mut desired, report) = desire(config, &view, &Claims::default(), &local, key);
    // As a node that begins has them.
    let ranges = (config.health.probe_range, config.health.probe_range6);
    desired.local.probes = Paths::default().settle(&desired.shared.services, ranges, Carried::of(config));
    for Rejected { label, value, reason, .. } in report.of_configuration() {
        tracing::warn!(%value, %reason, "this {label} of the configuration is not served");
    }
    let mut ids = Ids::new(config.limits.services, config.limits.backends, 0);
    Ok(Arc::new(Tables::compile(&Arc::new(desired), &mut ids, Nanos::default(), None)?))
}

fn write(outcome: &Outcome, counters: &CounterFile, wanted: &Wanted, host: Option<usize>) -> Result<(), ReplayError> {
    let sent = |port: usize| outcome.sent.get(port).map_or(&[] as &[Captured], Vec::as_slice);
    let mut files = Files::default();
    for (port, file) in &wanted.outgoing {
        files.write(file, |at| Ok(pcap::write(at, sent(*port))?))?;
    }
    if let Some(file) = &wanted.host {
        files.write(file, |at| Ok(pcap::write(at, host.map_or(&[], sent))?))?;
    }
    if let Some(file) = &wanted.counters {
        let text = serde_json::to_string_pretty(counters).map_err(std::io::Error::from);
        let written = |at: &Path| text.and_then(|text| std::fs::write(at, text + "\n"));
        files.write(file, |at| written(at).map_err(|source| ReplayError::Write { path: at.into(), source }))?;
    }
    files.put_in_place()
}

fn counters(outcome: &Outcome) -> CounterFile {
    CounterFile {
        rx: outcome.total(|c| c.rx.get()),
        tx: outcome.total(|c| c.tx.get()),
        host: outcome.total(|c| c.host.get()),
        drops: DropReason::ALL.iter().map(|r| (r.name(), outcome.drops(*r))).collect(),
    }
}
