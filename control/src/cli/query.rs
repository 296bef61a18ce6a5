//! `sluice query`: what is said to a question, and with `--explain` why.

use serde_json::Value;

use super::ask::Running;
use super::show::{all, joined, list, text};
use super::table::Table;
use super::{answer, answer_json};

#[derive(Debug, clap::Args)]
pub(super) struct Query {
    /// The name.
    name: String,
    /// The type: A, AAAA, SRV, TXT, PTR, CNAME, MX, NS, SOA, ANY, or TYPE and its number.
    #[arg(default_value = "A")]
    r#type: String,
    /// Say where the answer comes from (task, source, health), and why something is missing.
    #[arg(long)]
    explain: bool,
    /// Print JSON; the schema is stable.
    #[arg(long)]
    json: bool,
    #[command(flatten)]
    running: Running,
}

impl Query {
    pub(super) fn run(&self) -> anyhow::Result<()> {
        // Of what a name may hold nothing else has a meaning in a path.
        let name: String = self.name.chars().filter(|c| !c.is_whitespace() && !"/?#%".contains(*c)).collect();
        let document = self.running.ask(&format!("/v1/explain/{name}/{}", self.r#type))?;
        let document: Value = serde_json::from_slice(&document)?;
        if self.json { answer_json(&document) } else { answer(&shown(&document, self.explain)) }
    }
}

fn shown(document: &Value, explain: bool) -> String {
    let lines =
        |key: &str| list(document, key).iter().filter_map(Value::as_str).map(|l| format!("{l}\n")).collect::<String>();
    let mut said = format!("{} {}: {}\n", text(document, "name"), text(document, "type"), text(document, "rcode"));
    said += &lines("answers");
    if !explain {
        return said;
    }
    said += &lines("beside");
    if !list(document, "tasks").is_empty() {
        let mut table = Table::new(&["TASK", "FRAMEWORK", "SOURCE", "HEALTH", "ANSWERED", "GIVES"]);
        for task in all(document.get("tasks").unwrap_or(&Value::Null)) {
            let column = |key| text(task, key);
            let answered = column("answered");
            table.row([
                column("task"),
                column("framework"),
                column("source"),
                column("health"),
                answered,
                joined(task, "gives"),
            ]);
        }
        said += &table.finish("no tasks");
    }
    said + &lines("remarks")
}
