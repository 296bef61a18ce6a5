//! `up`, `down`, `exec`, `status`.

use std::io::Write as _;
use std::os::unix::process::CommandExt as _;
use std::process::ExitCode;

use anyhow::{Context as _, Result, bail};
use sluice_lab::demo::{self, DemoSettings};
use sluice_lab::marathon::Dialect;
use sluice_lab::state::LabState;
use sluice_lab::{Lab, Options, Topology, programs};

use super::Places;

#[derive(clap::Args)]
pub(super) struct Up {
    #[command(flatten)]
    places: Places,
    /// Which Marathon to emulate: 1.3 (keeps the old networking form) or 1.9 (converts it).
    #[arg(long, default_value = "1.3", value_parser = Dialect::parse)]
    marathon_version: Dialect,
    /// Start Sluice on its node too, and wait until it is ready.
    #[arg(long)]
    with_sluice: bool,
    /// Return at once and leave the lab up; `sluice-lab down` removes it.
    #[arg(long)]
    detach: bool,
}

impl Up {
    pub(super) fn run(self) -> Result<ExitCode> {
        super::guard::install()?;
        let topology = topology(&self.places)?;
        let mut lab = Lab::up(&topology, &Options::default())?;
        lab.start_marathons(self.marathon_version)?;
        if self.with_sluice {
            lab.start_sluice(&programs::find("sluice", self.places.sluice.as_deref())?)?;
        }
        say(&what_to_try(&lab));
        if self.detach {
            lab.detach();
            return Ok(ExitCode::SUCCESS);
        }
        stay()
    }
}

/// Until Ctrl-C or SIGTERM, which end this process and the lab with it (guard).
fn stay() -> ! {
    loop {
        std::thread::park();
    }
}

#[derive(clap::Args)]
pub(super) struct Demo {
    #[command(flatten)]
    places: Places,
    /// Which Marathon to emulate: 1.3 or 1.9.
    #[arg(long, default_value = "1.3", value_parser = Dialect::parse)]
    marathon_version: Dialect,
    /// Keep the lab and Sluice running afterwards, until Ctrl-C, and say what to try.
    #[arg(long)]
    keep: bool,
    /// With --keep: return, and leave them for `sluice-lab down`.
    #[arg(long, requires = "keep")]
    detach: bool,
}

impl Demo {
    pub(super) fn run(self) -> Result<ExitCode> {
        super::guard::install()?;
        let settings = DemoSettings {
            topology: topology(&self.places)?,
            dialect: self.marathon_version,
            sluice: programs::find("sluice", self.places.sluice.as_deref())?,
            own: programs::find("sluice-lab", None)?,
            keep: self.keep,
        };
        let board = demo::run(&settings, what_to_try)?;
        if self.keep && !self.detach {
            say("Ctrl-C removes it");
            stay();
        }
        Ok(if board.failures() == 0 { ExitCode::SUCCESS } else { ExitCode::FAILURE })
    }
}

pub(super) fn topology(places: &Places) -> Result<Topology> {
    Ok(places.topology.as_deref().map_or_else(Topology::built_in, Topology::load)?)
}

/// Ctrl-C or SIGTERM.
pub(super) async fn told_to_stop() -> Result<()> {
    let mut terminate = tokio::signal::unix::signal(tokio::signal::unix::SignalKind::terminate())?;
    tokio::select! {
        done = tokio::signal::ctrl_c() => done?,
        _ = terminate.recv() => {}
    }
    Ok(())
}

/// How to play with a lab that is up. Paths are whole: the binaries are seldom on anybody's PATH.
/// Prints a line; that nobody reads it any more must not end the lab.
fn say(line: &str) {
    let _ = writeln!(std::io::stdout(), "{line}");
}

pub(super) fn what_to_try(lab: &Lab) -> String {
    let id = lab.state().id();
    let master = lab.topology().master.address;
    let port = lab.topology().marathons.first().map_or(8080, |m| m.port);
    let path = |name: &str| programs::find(name, None).map_or_else(|_| name.to_owned(), |p| p.display().to_string());
    let (own, sluice) = (path("sluice-lab"), path("sluice"));
    let (config, socket) = (lab.sluice_config(), lab.sluice_socket());
    let (config, socket) = (config.display(), socket.display());
    let running = lab.sluice_socket().exists();
    let roles = lab.state().roles().join(" ");
    let start = format!("  $IN sluice -- {sluice} run -c {config}      # not running yet\n");
    let start = if running { "" } else { start.as_str() };
    format!(
        "lab {id} is up: {roles}
  IN='{own} exec --lab {id}'
{start}  $IN client -- curl http://172.16.0.1/                    # once minitwit is deployed
  $IN c1 -- curl http://minitwit.marathon.l4lb.thisdcos.directory/
  $IN client -- dig minitwit.marathon.mesos
  $IN client -- curl http://master.mesos:8123/v1/enumerate
  $IN client -- curl -X PUT -d '{{\"instances\": 4}}' http://{master}:{port}/v2/apps/minitwit
  $IN client -- curl -N http://{master}:{port}/v2/events
  $IN client -- {own} load --target 172.16.0.1:80 --rate 200 --seconds 5
  $IN sluice -- {sluice} show vips              # the socket is in $SLUICE_SOCKET there: {socket}
  $IN fabric -- tcpdump -ni br0 host 10.0.0.100 or port 64000
  {own} down {id}"
    )
}

pub(super) fn down(id: Option<String>, all: bool) -> Result<ExitCode> {
    let labs = if all { LabState::all() } else { vec![one(id)?] };
    for lab in labs {
        if let Some(owner) = lab.owner().filter(|_| all) {
            println!("lab {} is left to the process that made it ({owner}); name the lab to remove it", lab.id());
            continue;
        }
        lab.remove().with_context(|| format!("lab {}", lab.id()))?;
        println!("lab {} is removed", lab.id());
    }
    Ok(ExitCode::SUCCESS)
}

pub(super) fn exec(id: Option<String>, role: &str, words: &[String]) -> Result<ExitCode> {
    let lab = Lab::open(one(id)?)?;
    let (program, arguments) = words.split_first().context("no command: write it after `--`")?;
    // Only returns when the command could not be started.
    let error = lab.command(role, program)?.args(arguments).env("SLUICE_SOCKET", lab.sluice_socket()).exec();
    Err(error).context("cannot start nsenter (package util-linux)")
}

pub(super) fn status() -> ExitCode {
    for lab in LabState::all() {
        println!("{}  {}  {}", lab.id(), lab.folder().display(), lab.roles().join(" "));
    }
    ExitCode::SUCCESS
}

/// The lab of this id, or the only one there is.
fn one(id: Option<String>) -> Result<LabState> {
    if let Some(id) = id {
        return Ok(LabState::open(&id)?);
    }
    let mut labs = LabState::all();
    match (labs.pop(), labs.is_empty()) {
        (Some(lab), true) => Ok(lab),
        (Some(_), false) => bail!("there are several labs: say which (`sluice-lab status` lists them)"),
        (None, _) => bail!("there is no lab: `sluice-lab up` makes one"),
    }
}
