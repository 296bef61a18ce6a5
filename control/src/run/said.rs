//! What the log says of publications: each trouble once, until it is another one.

use std::collections::BTreeSet;
use std::sync::Arc;

use sluice_dataplane::tables::Tables;
use tokio::time::Instant;

use crate::api::observed::{Observed, Published};
use crate::desire::Report;
use crate::rejected::Rejected;

/// How many of a list are named in one line.
const NAMED: usize = 5;

/// What was said last.
#[derive(Debug, Default)]
pub struct Said {
    /// What kept tables from being published whole.
    complaint: String,
    /// What of the configuration is not served.
    unserved: BTreeSet<Rejected>,
    /// Services and backends without a number.
    left_out: Box<[String]>,
}

impl Said {
    /// Remembers and tells what was published.
    pub fn published(&mut self, tables: &Arc<Tables>, report: Arc<Report>, observed: &Observed, started: Instant) {
        self.left_out(&tables.left_out);
        let shared = &tables.desired.shared;
        tracing::info!(
            generation = tables.generation,
            services = shared.services.len(),
            backends = shared.services.iter().map(|s| s.backends.len()).sum::<usize>(),
            rejected = report.rejected.len(),
            "published"
        );
        observed.note(Published { tables: Arc::clone(tables), report }, started.elapsed());
    }

    /// What the configuration itself asks for and does not get.
    pub fn unserved(&mut self, report: &Report) {
        let unserved: BTreeSet<Rejected> = report.of_configuration().cloned().collect();
        for Rejected { label, value, reason, .. } in unserved.difference(&self.unserved) {
            tracing::warn!(%value, %reason, "this {label} of the configuration is not served");
        }
        self.unserved = unserved;
    }

    fn left_out(&mut self, now: &[String]) {
        if *self.left_out == *now {
            return;
        }
        if now.is_empty() {
            tracing::info!("no service and no backend is left out any more");
        } else {
            let first = now.iter().take(NAMED).map(String::as_str).collect::<Vec<_>>().join("; ");
            tracing::warn!(count = now.len(), %first, "services and backends are left out");
        }
        self.left_out = now.into();
    }

    /// Says what keeps tables from being made or the node from following them.
    pub fn complain(&mut self, complaint: String) {
        if complaint != self.complaint {
            tracing::error!(error = %complaint, "tables were not published whole; what was published before stays");
            self.complaint = complaint;
        }
    }

    /// Nothing is to be complained of any longer.
    pub fn content(&mut self) {
        self.complaint.clear();
    }
}
