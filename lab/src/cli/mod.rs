//! The command line: one sub-command per thing that one may want of a lab.

mod guard;
mod labs;
mod parts;

use std::path::PathBuf;
use std::process::ExitCode;

use anyhow::Result;
use clap::{Parser, Subcommand};

/// A DC/OS-style cluster on one machine: network namespaces, Marathon's API, tasks that are real processes.
#[derive(Parser)]
#[command(name = "sluice-lab", version)]
struct Arguments {
    #[command(subcommand)]
    what: What,
}

#[derive(Subcommand)]
enum What {
    /// Bring a lab up and stay until Ctrl-C.
    Up(labs::Up),
    /// Remove one lab, or all labs whose makers are gone.
    Down {
        /// The lab's id (`sluice-lab status` lists them).
        id: Option<String>,
        #[arg(long)]
        all: bool,
    },
    /// Run a command in a node or container of a lab.
    Exec {
        /// client, sluice, fabric, master, an agent (agent1) or a container (c1).
        role: String,
        /// The lab's id; may be left out while there is one lab only.
        #[arg(long)]
        lab: Option<String>,
        #[arg(last = true, required = true)]
        command: Vec<String>,
    },
    /// List the labs of this machine.
    Status,
    /// Marathon's API alone: with --lab on that lab's agents, else with tasks on the loopback address.
    Marathon(parts::Marathon),
    /// A Mesos master that knows what these Marathons run.
    Mesos(parts::Mesos),
    /// The web server that runs in place of a Docker image (TCP, and UDP echo on the same ports).
    Task(parts::Task),
    /// Unwrap IP in IP and GUE for this network namespace, as a backend of dsr-ipip or dsr-gue has to.
    Decap,
    /// One packet through everything, each line checked: about a minute.
    Demo(labs::Demo),
    /// Make HTTP requests at a steady rate, each on a connection of its own, and count what is lost.
    Load(parts::Load),
}

/// What `--topology` and the sister binaries' places are called everywhere.
#[derive(clap::Args, Clone, Default)]
struct Places {
    /// A topology file (examples: lab/topologies); the built-in one has two agents.
    #[arg(long)]
    topology: Option<PathBuf>,
    /// The `sluice` binary; else SLUICE, else the one beside this binary.
    #[arg(long)]
    sluice: Option<PathBuf>,
}

/// Reads the arguments and does what they say.
pub(crate) fn run() -> Result<ExitCode> {
    let arguments = Arguments::parse();
    tracing_subscriber::fmt()
        .with_writer(std::io::stderr)
        .with_env_filter(
            tracing_subscriber::EnvFilter::try_from_default_env()
                .unwrap_or_else(|_| tracing_subscriber::EnvFilter::new("info")),
        )
        .init();
    match arguments.what {
        What::Up(up) => up.run(),
        What::Down { id, all } => labs::down(id, all),
        What::Exec { role, lab, command } => labs::exec(lab, &role, &command),
        What::Status => Ok(labs::status()),
        What::Marathon(marathon) => marathon.run(),
        What::Mesos(mesos) => mesos.run(),
        What::Task(task) => task.run(),
        What::Decap => parts::decap(),
        What::Demo(demo) => demo.run(),
        What::Load(load) => load.run(),
    }
}
