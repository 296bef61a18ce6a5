//! `sluice drain` and `sluice undrain`.

use std::fmt::Write as _;

use serde_json::Value;

use super::ask::Running;
use super::show::{list, text};
use super::{answer, answer_json};
use crate::health::orders::{Asked, TIMEOUT_MAX_SECONDS, TIMEOUT_SECONDS};
use crate::rejected::shown;

/// Who is meant.
#[derive(Debug, clap::Args)]
struct Who {
    /// A backend (IP:PORT), a task id, or an agent (its IP, host name or id).
    #[arg(value_name = "BACKEND|AGENT")]
    what: String,
    /// Print JSON.
    #[arg(long)]
    json: bool,
    #[command(flatten)]
    running: Running,
}

#[derive(Debug, clap::Args)]
pub(super) struct Drain {
    #[command(flatten)]
    who: Who,
    /// How long flows that are there are kept, at most a week; then they end. 0 ends them now.
    #[arg(long, value_name = "SECONDS", default_value_t = TIMEOUT_SECONDS,
        value_parser = clap::value_parser!(u64).range(0..=TIMEOUT_MAX_SECONDS))]
    timeout: u64,
}

#[derive(Debug, clap::Args)]
pub(super) struct Undrain {
    #[command(flatten)]
    who: Who,
}

impl Drain {
    pub(super) fn run(&self) -> anyhow::Result<()> {
        let said = format!("takes no new flows; those that are there end in {} s", self.timeout);
        self.who.order("/v1/drain", Some(self.timeout), &said)
    }
}

impl Undrain {
    pub(super) fn run(&self) -> anyhow::Result<()> {
        self.who.order("/v1/undrain", None, "is drained no longer")
    }
}

impl Who {
    fn order(&self, path: &str, timeout_seconds: Option<u64>, said: &str) -> anyhow::Result<()> {
        let asked = Asked { what: self.what.clone(), timeout_seconds };
        let done: Value = serde_json::from_slice(&self.running.order(path, &asked)?)?;
        if self.json {
            return answer_json(&done);
        }
        let mut out = format!("{} {said}\n", text(&done, "what"));
        for backend in list(&done, "backends").iter().filter_map(Value::as_str) {
            let _ = writeln!(out, "  {}", shown(backend));
        }
        if done.get("kept").and_then(Value::as_bool) == Some(false) {
            out.push_str("it will be forgotten when sluice stops: there is no state folder (`sluice run --state`)\n");
        }
        answer(&out)
    }
}
