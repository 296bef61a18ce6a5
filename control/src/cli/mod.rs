//! The command line of `sluice`: what was typed, and which function does it.
//!
//! Exit codes: 0 done; 1 the answer is no (the configuration is wrong, the node is not reachable, something failed),
//! with the reason on standard error; 2 the command line itself is wrong. What was asked for goes to standard output,
//! everything else to standard error.

use std::io::Write as _;
use std::path::PathBuf;
use std::process::ExitCode;

use clap::{Args, Parser, Subcommand, ValueEnum};

mod agent;
mod ask;
mod check;
mod drain;
mod explain;
mod judged;
mod logs;
mod members;
mod offline;
mod query;
mod show;
mod sister;
mod table;

const AFTER_HELP: &str = "\
Exit codes: 0 done; 1 the answer is no, with the reason on standard error; 2 the command line is wrong.

A first look:  sluice check -c /etc/sluice/sluice.toml && sluice run -c /etc/sluice/sluice.toml
               sluice show vips";

/// The packet appliance of a DC/OS-style cluster: load balancer, overlay gateway and DNS over AF_XDP.
#[derive(Debug, Parser)]
#[command(name = "sluice", version, after_help = AFTER_HELP, max_term_width = 100)]
struct Cli {
    /// How log lines look.
    #[arg(long, global = true, value_enum, default_value = "text", value_name = "FORMAT")]
    log_format: LogFormat,
    /// Which log lines: error, warn, info, debug, trace, or directives like `sluice_control::netlink=debug`.
    /// The environment variable RUST_LOG says the same and gives way to this.
    #[arg(long, global = true, value_name = "LEVEL")]
    log_level: Option<String>,
    #[command(subcommand)]
    command: Command,
}

/// `--log-format`.
#[derive(Clone, Copy, PartialEq, Eq, Debug, ValueEnum)]
enum LogFormat {
    /// For people.
    Text,
    /// One JSON object a line.
    Json,
}

#[derive(Debug, Subcommand)]
enum Command {
    /// Serve: take the packets, follow Marathon, until SIGTERM or SIGINT.
    ///
    /// Needs CAP_NET_ADMIN, CAP_NET_RAW, CAP_BPF and CAP_IPC_LOCK (or root). Ends with 0 after a signal, with every
    /// program, route and interface that it made taken away again.
    Run {
        #[command(flatten)]
        config: ConfigFile,
        /// Folder of what outlives the process: addresses of named VIPs, drains. Where it cannot be made, nothing is kept, and
        /// the log says so.
        #[arg(long, value_name = "FOLDER", env = "STATE_DIRECTORY", default_value = "/var/lib/sluice")]
        state: PathBuf,
    },
    /// Say whether a configuration is right, as loading does, and what it can carry.
    Check(check::Check),
    /// Ask the running Sluice on this node.
    Show(show::Show),
    /// Ask the running Sluice for a name, and with --explain where the answer comes from.
    Query(query::Query),
    /// Say whether one may talk to another, and by which rule; no packet is sent.
    Explain(explain::Explain),
    /// Give a backend, a task or all of an agent no new flows, keep the old ones until a time-out, then end them.
    ///
    /// Holds across restarts, until `undrain`. What is drained: `sluice show drains`.
    Drain(drain::Drain),
    /// Take a drain back: new flows go there again.
    Undrain(drain::Undrain),
    /// Keep this Mesos agent in Sluice's overlay: VXLAN, routes and CNI networks, in step with the others.
    ///
    /// Needs CAP_NET_ADMIN (or root) and `nft`, no AF_XDP. When it ends everything stays, and a restart disturbs nothing;
    /// --down takes it away.
    Agent(agent::Agent),
    /// Change who has which place in the overlay.
    Overlay(agent::Overlay),
    /// Send captures through the packet path, without privileges or network.
    ///
    /// The very same workers and tables as `run` has, over pcap or pcapng files. Packets of all --in files merge by
    /// their timestamps, which are also the clock.
    Replay(offline::Replay),
    /// Say what Sluice makes of answers of Marathon and the overlay's master, without network.
    Compile(offline::Compile),
    /// Say which names Sluice makes of the same answers, without network.
    Zone(offline::Zone),
    /// Measure this machine (the program sluice-bench beside this one).
    Bench(sister::Arguments),
    /// A whole cluster in network namespaces (the program sluice-lab beside this one).
    Lab(sister::Arguments),
}

/// `-c FILE`.
#[derive(Debug, Args)]
struct ConfigFile {
    /// The configuration file.
    #[arg(short, long, value_name = "FILE", default_value = "/etc/sluice/sluice.toml")]
    config: PathBuf,
}

/// Runs what was typed.
pub fn main() -> ExitCode {
    let cli = Cli::parse();
    logs::begin(cli.log_format, cli.log_level.as_deref());
    let done = match cli.command {
        Command::Run { config, state } => serve(&config, state),
        Command::Check(check) => return check.run(),
        Command::Show(show) => show.run(),
        Command::Query(query) => query.run(),
        Command::Explain(explain) => explain.run(),
        Command::Drain(drain) => drain.run(),
        Command::Undrain(undrain) => undrain.run(),
        Command::Agent(agent) => agent.run(),
        Command::Overlay(overlay) => overlay.run(),
        Command::Replay(replay) => replay.run(),
        Command::Compile(compile) => compile.run(),
        Command::Zone(zone) => zone.run(),
        Command::Bench(arguments) => sister::exec("sluice-bench", &arguments),
        Command::Lab(arguments) => sister::exec("sluice-lab", &arguments),
    };
    match done {
        Ok(()) => ExitCode::SUCCESS,
        Err(error) => {
            complain(&with_causes(&error));
            ExitCode::FAILURE
        }
    }
}

fn serve(file: &ConfigFile, state: PathBuf) -> anyhow::Result<()> {
    let loaded = sluice_config::load_file(&file.config)?;
    loaded.check_machine(&sluice_config::Linux)?;
    for warning in &loaded.warnings {
        tracing::warn!("{warning}");
    }
    let runtime = tokio::runtime::Builder::new_multi_thread().worker_threads(2).enable_all().build()?;
    let done = runtime.block_on(crate::run::run(loaded.config, crate::run::Options { state }));
    // A blocked look-up must not hold the process up.
    runtime.shutdown_timeout(std::time::Duration::from_secs(1));
    Ok(done?)
}

/// Says why not. Nobody reading it any more is no reason to fail differently.
fn complain(text: &str) {
    let _ = writeln!(std::io::stderr(), "sluice: {text}");
}

/// An error and its causes, each once: most of ours name their cause in their own words.
fn with_causes(error: &anyhow::Error) -> String {
    error.chain().map(ToString::to_string).fold(String::new(), |said, cause| match said.as_str() {
        "" => cause,
        before if before.contains(&cause) => said,
        _ => format!("{said}: {cause}"),
    })
}

/// Gives the answer. A reader that went away (`| head`) is no failure.
fn answer(text: &str) -> anyhow::Result<()> {
    let mut out = std::io::stdout().lock();
    match out.write_all(text.as_bytes()).and_then(|()| out.flush()) {
        Err(error) if error.kind() != std::io::ErrorKind::BrokenPipe => Err(error.into()),
        _ => Ok(()),
    }
}

fn answer_json(value: &impl serde::Serialize) -> anyhow::Result<()> {
    answer(&(serde_json::to_string_pretty(value)? + "\n"))
}

#[cfg(test)]
mod tests {
    use clap::CommandFactory as _;

    #[test]
    fn a_cause_that_its_error_names_already_is_said_once() {
        #[derive(Debug, thiserror::Error)]
        #[error("/no/such: {source}")]
        struct Naming {
            source: std::io::Error,
        }
        let source = || std::io::Error::from_raw_os_error(2);
        let named = anyhow::Error::from(Naming { source: source() });
        assert_eq!(super::with_causes(&named), "/no/such: No such file or directory (os error 2)");
        let beside = anyhow::Error::from(source()).context("the counters");
        assert_eq!(super::with_causes(&beside), "the counters: No such file or directory (os error 2)");
    }

    #[test]
    fn the_command_line_is_consistent() {
        super::Cli::command().debug_assert();
    }
}
