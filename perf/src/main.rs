//! `sluice-bench`: what the packet path costs.

use std::process::ExitCode;
use std::time::Duration;

use anyhow::{Result, bail};
use clap::{Args, Parser, Subcommand};
use sluice_perf::maglev::{fill, fills};
use sluice_perf::paths::{MOST_SESSIONS, Path};
use sluice_perf::pipeline::{calibrate, measure};
use sluice_perf::report::Row;
use sluice_perf::veth::{self, Ratio, Settings, Subject};

/// Measures Sluice's packet path.
#[derive(Parser)]
#[command(name = "sluice-bench", version)]
struct Arguments {
    #[command(subcommand)]
    what: What,
}

#[derive(Subcommand)]
enum What {
    /// Nanoseconds per packet in memory, by path and sessions; everything on, 100 backends.
    Pipeline(Pipeline),
    /// Packets per CPU second on a veth pair, beside a plain AF_XDP echo. Needs root.
    Veth(Veth),
    /// DNS answers on a veth pair, beside Knot DNS in XDP mode. Needs root and knotd (`make bench-dns` installs it).
    Dns(Dns),
}

#[derive(Args)]
struct Dns {
    /// Print JSON instead of text.
    #[arg(long)]
    json: bool,
    /// Pairs of runs.
    #[arg(long, default_value_t = 5, value_parser = clap::value_parser!(u32).range(1..=101))]
    pairs: u32,
    /// Length of a run, milliseconds.
    #[arg(long, default_value_t = 2000, value_parser = clap::value_parser!(u64).range(100..=60_000))]
    run_ms: u64,
}

impl Dns {
    fn run(&self) -> Result<()> {
        let settings = Settings { pairs: self.pairs, run: Duration::from_millis(self.run_ms), flows: 1024 };
        let answers = veth::dns::measure(&settings)?;
        match self.json {
            true => println!("{}", serde_json::to_string_pretty(&answers)?),
            false => println!("{}", answers.text()),
        }
        Ok(())
    }
}

#[derive(Args)]
struct Pipeline {
    /// Print a JSON array instead of a table.
    #[arg(long)]
    json: bool,
    /// Only these paths (perf/README.md has their names), or calibration, maglev-65537, maglev-655373.
    #[arg(long, value_delimiter = ',')]
    paths: Vec<String>,
    /// Sessions instead of the curve 1, 1024, 16384, 131072, 1048576, 4194304.
    #[arg(long, value_delimiter = ',', value_parser = clap::value_parser!(u32).range(1..=MOST_SESSIONS as i64))]
    sessions: Vec<u32>,
    /// Runs of each row.
    #[arg(long, default_value_t = 11, value_parser = clap::value_parser!(u32).range(1..=1001))]
    runs: u32,
}

#[derive(Args)]
struct Veth {
    /// Print a JSON array instead of a table.
    #[arg(long)]
    json: bool,
    /// What to measure: echo (beside itself: how much chance there is in it), nat, dsr-ipip.
    #[arg(long, value_delimiter = ',', default_values = ["nat", "dsr-ipip"])]
    subjects: Vec<Subject>,
    /// Pairs of runs of each.
    #[arg(long, default_value_t = 9, value_parser = clap::value_parser!(u32).range(1..=101))]
    pairs: u32,
    /// Length of a run, milliseconds.
    #[arg(long, default_value_t = 1000, value_parser = clap::value_parser!(u64).range(100..=60_000))]
    run_ms: u64,
    /// Flows, a power of two.
    #[arg(long, default_value_t = 1024)]
    flows: u32,
}

fn main() -> ExitCode {
    let ran = match Arguments::parse().what {
        What::Pipeline(pipeline) => pipeline.run(),
        What::Veth(veth) => veth.run(),
        What::Dns(dns) => dns.run(),
    };
    match ran {
        Ok(()) => ExitCode::SUCCESS,
        Err(error) => {
            eprintln!("sluice-bench: {error:#}");
            ExitCode::FAILURE
        }
    }
}

impl Veth {
    fn run(&self) -> Result<()> {
        let settings = Settings { pairs: self.pairs, run: Duration::from_millis(self.run_ms), flows: self.flows };
        let mut ratios = Vec::new();
        if !self.json {
            println!("{}", Ratio::head());
        }
        for subject in &self.subjects {
            let ratio = veth::measure(*subject, &settings)?;
            if !self.json {
                println!("{}", ratio.line());
            }
            ratios.push(ratio);
        }
        if self.json {
            println!("{}", serde_json::to_string_pretty(&ratios)?);
        }
        Ok(())
    }
}

impl Pipeline {
    fn run(&self) -> Result<()> {
        self.refuse_unknown_paths()?;
        let mut rows = Vec::new();
        if !self.json {
            println!("{}", Row::head());
        }
        if self.wants("calibration") {
            self.report(&mut rows, calibrate(self.runs));
        }
        for (name, size) in fills() {
            if self.wants(name) {
                self.report(&mut rows, fill(name, size, self.runs));
            }
        }
        for path in Path::ALL.into_iter().filter(|p| self.wants(p.name())) {
            for sessions in self.sessions_of(path) {
                let row = measure(path, sessions, self.runs)?;
                self.report(&mut rows, row);
            }
        }
        if self.json {
            println!("{}", serde_json::to_string_pretty(&rows)?);
        }
        Ok(())
    }

    fn refuse_unknown_paths(&self) -> Result<()> {
        let known: Vec<_> =
            Path::ALL.iter().map(|p| p.name()).chain(fills().map(|(name, _)| name)).chain(["calibration"]).collect();
        match self.paths.iter().find(|p| !known.contains(&p.as_str())) {
            Some(unknown) => bail!("--paths {unknown}: there is no such path; the paths are {}", known.join(", ")),
            None => Ok(()),
        }
    }

    fn wants(&self, path: &str) -> bool {
        self.paths.is_empty() || self.paths.iter().any(|p| p == path)
    }

    /// The curve, or what was asked for; paths without sessions have one row.
    fn sessions_of(&self, path: Path) -> Vec<u32> {
        let curve = path.curve();
        if self.sessions.is_empty() || curve == [0] { curve.to_vec() } else { self.sessions.clone() }
    }

    fn report(&self, rows: &mut Vec<Row>, row: Row) {
        if !self.json {
            println!("{}", row.line());
        }
        rows.push(row);
    }
}
