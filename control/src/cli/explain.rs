//! `sluice explain`: whether one may talk to another, and by which rule; no packet is sent.

use serde_json::Value;

use super::ask::Running;
use super::show::{all, text};
use super::table::Table;
use super::{answer, answer_json};

#[derive(Debug, clap::Args)]
pub(super) struct Explain {
    /// Who sends: a task by its id or name, or an address.
    #[arg(long)]
    from: String,
    /// Who receives: the same, or a VIP's address and port.
    #[arg(long, value_name = "TO[:PORT]")]
    to: String,
    /// Print JSON; the schema is stable.
    #[arg(long)]
    json: bool,
    #[command(flatten)]
    running: Running,
}

impl Explain {
    pub(super) fn run(&self) -> anyhow::Result<()> {
        // Of what ids and addresses may hold nothing else has a meaning in a path.
        let plain =
            |text: &str| text.chars().filter(|c| !c.is_whitespace() && !"/?#%".contains(*c)).collect::<String>();
        let document = self.running.ask(&format!("/v1/policy/{}/{}", plain(&self.from), plain(&self.to)))?;
        let document: Value = serde_json::from_slice(&document)?;
        if self.json { answer_json(&document) } else { answer(&shown(&document)) }
    }
}

fn shown(document: &Value) -> String {
    let mut table = Table::new(&["FROM", "IS", "TO", "IS", "VERDICT", "RULE"]);
    for pair in all(document) {
        let [from, party, to, other, rule] =
            ["from", "from_party", "to", "to_party", "rule"].map(|key| text(pair, key));
        let allowed = pair.get("allowed").and_then(Value::as_bool).unwrap_or(false);
        table.row([from, party, to, other, if allowed { "allowed" } else { "denied" }.to_owned(), rule]);
    }
    table.finish("nobody to ask about")
}
