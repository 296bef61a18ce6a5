//! `sluice agent`: a Mesos agent's place in Sluice's overlay, without AF_XDP and without a thread of its own for packets.
//!
//! It asks a Sluice node for its lease and the map of the overlay ([`ask`]), plans what the kernel and CNI shall have
//! ([`plan`]), and makes it so ([`kernel`], [`cni`], [`masquerade`], [`guard`]), again whenever the map changes. When it ends, or is
//! killed, everything stays: containers keep their ways, and the next start finds them as they are. `--down` takes it
//! away.

use std::io;
use std::os::unix::net::UnixListener;
use std::path::PathBuf;
use std::time::Duration;

use tokio::signal::unix::{SignalKind, signal};
use tokio::task::block_in_place;
use tokio::time::{Instant, sleep};

pub mod ask;
pub mod cni;
pub mod guard;
pub mod kernel;
pub mod masquerade;
pub mod plan;
pub mod settings;

use ask::{AskError, Sluice};
use kernel::Kernel;
use plan::{Plan, PlanError};
use settings::Settings;

use crate::lease::Lease;
use crate::lease::map::Map;
use crate::lease::token::{Token, TokenError};
use crate::netlink::NetlinkError;
use crate::run::alone::hold;

/// What nobody changed is looked at again after this: somebody else may have.
const LOOK_AGAIN: Duration = Duration::from_secs(30);

/// Why the agent does not do what it should.
#[derive(Debug, thiserror::Error)]
pub enum AgentError {
    /// Another one runs.
    #[error("another `sluice agent` runs in this network namespace; stop it first")]
    Another,
    /// No socket to keep another one away.
    #[error("cannot make the abstract unix socket @{NAME}, which keeps a second agent away: {0}")]
    Alone(#[source] io::Error),
    /// Signals.
    #[error("cannot wait for signals: {0}")]
    Signals(#[source] io::Error),
    /// The token.
    #[error(transparent)]
    Token(#[from] TokenError),
    /// Sluice.
    #[error(transparent)]
    Ask(#[from] AskError),
    /// Lease and map.
    #[error(transparent)]
    Plan(#[from] PlanError),
    /// The kernel.
    #[error(transparent)]
    Netlink(#[from] NetlinkError),
    /// nftables.
    #[error("{0}")]
    Nft(String),
    /// A CNI configuration.
    #[error("{path}: {source}")]
    File {
        /// Which.
        path: PathBuf,
        /// The system's word.
        source: io::Error,
    },
    /// A file that somebody else wrote.
    #[error("{0} is not an agent's of Sluice: move it away, or write another `cni_folder`")]
    ForeignFile(PathBuf),
}

/// The abstract socket that an agent holds.
const NAME: &str = "sluice-agent";

/// Sees to it that no other agent changes this network namespace meanwhile.
fn alone() -> Result<UnixListener, AgentError> {
    hold(NAME).map_err(AgentError::Alone)?.ok_or(AgentError::Another)
}

fn sluice(settings: &Settings) -> Result<Sluice, AgentError> {
    let token = settings.token_file.as_deref().map(|path| Token::read("agent.token_file", path)).transpose()?;
    Ok(Sluice::new(settings, token))
}

/// Keeps this agent in the overlay until SIGTERM or SIGINT, and leaves everything as it is then.
///
/// # Errors
/// What stands in the way from the start; what comes later is logged, and tried again.
pub async fn run(settings: Settings) -> Result<(), AgentError> {
    let mut terminate = signal(SignalKind::terminate()).map_err(AgentError::Signals)?;
    let mut interrupt = signal(SignalKind::interrupt()).map_err(AgentError::Signals)?;
    let _alone = alone()?;
    let sluice = sluice(&settings)?;
    let pause = Duration::from_secs(settings.refresh_seconds);
    let mut agent = Agent { kernel: Kernel::connect()?, settings, known: None, done: None, said: String::new() };
    loop {
        agent.turn(&sluice).await;
        tokio::select! {
            _ = terminate.recv() => break,
            _ = interrupt.recv() => break,
            () = sleep(pause) => {}
        }
    }
    tracing::info!("ended; containers keep their network (`sluice agent --down` takes it away)");
    Ok(())
}

/// Takes this agent out of the overlay: nobody sends to it any more, and nothing of it is left here. The lease stays.
///
/// # Errors
/// What could not be taken away.
pub async fn down(settings: Settings) -> Result<(), AgentError> {
    let _alone = alone()?;
    if let Err(error) = sluice(&settings)?.leave().await {
        tracing::warn!(%error, "the others go on sending to this agent");
    }
    block_in_place(|| cni::remove_others(&settings.cni_folder, |_| false))?;
    let bridges: Vec<String> = settings.networks.iter().map(|network| settings.bridge(network)).collect();
    Kernel::connect()?.down(&bridges).await?;
    block_in_place(masquerade::remove)
}

/// What a node needs, and what would be done here; nothing is.
///
/// # Errors
/// When Sluice does not tell.
pub async fn print(settings: &Settings) -> Result<String, AgentError> {
    let told = sluice(settings)?.map().await?;
    let Some(map) = told.map else { return Ok(String::new()) };
    let here = match told.lease {
        Some(lease) => format!("# this agent, {}\n{}", settings.address, Plan::of(settings, &lease, &map)?.commands()),
        None => format!("# this agent, {}, has no lease yet\n", settings.address),
    };
    Ok(plan::for_nodes(&map) + &here)
}

/// An agent that runs.
struct Agent {
    settings: Settings,
    kernel: Kernel,
    /// The map that was told last, with its version, and the lease.
    known: Option<(String, Map, Lease)>,
    /// The plan that was carried out last, and when.
    done: Option<(Plan, Instant)>,
    /// The complaint that was logged last.
    said: String,
}

impl Agent {
    /// Asks once, and makes everything as it is told.
    async fn turn(&mut self, sluice: &Sluice) {
        let done = match self.ask(sluice).await {
            Ok(()) => self.settle().await,
            Err(error) => Err(error),
        };
        let said = done.err().map(|error| error.to_string()).unwrap_or_default();
        if said != self.said {
            match said.is_empty() {
                true => tracing::info!("all is well again"),
                false => tracing::error!(error = %said, "what is there stays as it is; it is tried again"),
            }
            self.said = said;
        }
    }

    async fn ask(&mut self, sluice: &Sluice) -> Result<(), AgentError> {
        let version = self.known.as_ref().map(|(version, ..)| version.as_str());
        let told = sluice.lease(version).await?;
        let known = self.known.take();
        let map = told.map.or_else(|| known.map(|(_, map, _)| map));
        if let (Some(map), Some(lease)) = (map, told.lease) {
            self.known = Some((told.version, map, lease));
        }
        Ok(())
    }

    async fn settle(&mut self) -> Result<(), AgentError> {
        let Some((version, map, lease)) = &self.known else { return Ok(()) };
        let plan = Plan::of(&self.settings, lease, map)?;
        if self.done.as_ref().is_some_and(|(done, at)| *done == plan && at.elapsed() < LOOK_AGAIN) {
            return Ok(());
        }
        // What is exempted from masquerade comes before the routes that make use of it. Whoever reloads the node's own rules
        // flushes ours, which the kernel does not tell.
        block_in_place(|| masquerade::apply(&plan.nftables))?;
        let changes = self.kernel.settle(&plan).await?;
        block_in_place(|| self.configure_cni(&plan))?;
        if changes > 0 {
            let members = map.members.len();
            tracing::info!(%version, vtep = %lease.vtep_ip, members, changes, "the overlay is as Sluice has it");
        }
        self.done = Some((plan, Instant::now()));
        Ok(())
    }

    fn configure_cni(&self, plan: &Plan) -> Result<(), AgentError> {
        for (path, text) in &plan.cni {
            cni::write(path, text)?;
        }
        cni::remove_others(&self.settings.cni_folder, |path| plan.cni.contains_key(path))
    }
}
