//! What was seen, as the table of docs/integration-matrix.md.

use std::collections::BTreeMap;
use std::fs::File;
use std::io::{Read as _, Seek as _, Write as _};

use super::rows::{BYS, By, Kind, NETS, Net, origins};

const PAGE: &str = concat!(env!("CARGO_MANIFEST_DIR"), "/../docs/integration-matrix.md");
const END: &str = "<!-- end -->";

/// Who asks an origin.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub(crate) enum Client {
    /// A task of this network, on the origin's agent or on another one.
    Task(Net, bool),
    Itself,
    Outside,
}

/// Everything that was asked, and whether it was answered as it should be.
#[derive(Debug, Default)]
pub(crate) struct Seen {
    cells: BTreeMap<(Kind, Net, Client), Vec<By>>,
    lines: Vec<Line>,
    wrong: Vec<String>,
}

/// One request to an origin of the matrix.
pub(crate) type Asked = ((Kind, Net, By), Client, Result<(), String>);

#[derive(Debug)]
struct Line {
    test: &'static str,
    what: &'static str,
    asked: usize,
    good: usize,
}

impl Seen {
    /// The matrix, as a table.
    pub(crate) fn matrix(&mut self, all: Vec<Asked>) {
        for ((kind, net, by), client, result) in all {
            let ways = self.cells.entry((kind, net, client)).or_default();
            match result {
                Ok(()) => ways.push(by),
                Err(said) => self.wrong.push(described((kind, net, by), client, &said)),
            }
        }
    }

    /// The matrix, as a line.
    pub(crate) fn matrix_in_short(&mut self, all: Vec<Asked>) {
        let all =
            all.into_iter().map(|(origin, client, result)| result.map_err(|said| described(origin, client, &said)));
        self.line("the matrix", "every request of the table above", all.collect());
    }

    /// Everything that one of the other tests asked.
    pub(crate) fn line(&mut self, test: &'static str, what: &'static str, results: Vec<Result<(), String>>) {
        let failed: Vec<String> = results.iter().filter_map(|result| result.clone().err()).collect();
        let (asked, good) = (results.len(), results.len() - failed.len());
        self.lines.push(Line { test, what, asked, good });
        self.wrong.extend(failed.into_iter().map(|said| format!("{test}, {what}: {said}")));
    }

    /// Fails if anything went wrong, or if a part of the page says something else; with `SLUICE_BLESS=1` that is written
    /// anew.
    pub(crate) fn judge(&self, part: &str) {
        let mut file = File::options().read(true).write(true).open(PAGE).unwrap();
        // The other part is another test's.
        file.lock().unwrap();
        let mut page = String::new();
        file.read_to_string(&mut page).unwrap();
        let begin = format!("<!-- {part}: written by lab/tests/matrix -->\n");
        let (before, rest) = page.split_once(&begin).unwrap();
        let (printed, after) = rest.split_once(END).unwrap();
        let seen = self.markdown();
        let bless = std::env::var_os("SLUICE_BLESS").is_some();
        if bless {
            file.rewind().unwrap();
            file.set_len(0).unwrap();
            write!(file, "{before}{begin}{seen}{END}{after}").unwrap();
        }
        assert!(self.wrong.is_empty(), "{} went wrong:\n{}", self.wrong.len(), self.wrong.join("\n"));
        let same = bless || printed == seen;
        assert!(same, "run SLUICE_BLESS=1 cargo test -p sluice-lab --test matrix, and read what changed:\n{seen}");
    }

    fn markdown(&self) -> String {
        let mut text = if self.cells.is_empty() { String::new() } else { self.table() };
        text += "\n| test | what was asked | as it should be |\n|---|---|---|\n";
        for Line { test, what, asked, good } in &self.lines {
            text += &format!("| {test} | {what} | {good} of {asked} |\n");
        }
        text + "\n"
    }

    fn table(&self) -> String {
        let columns: Vec<Client> = clients().collect();
        let heads: Vec<String> = columns.iter().map(|client| client.head()).collect();
        let mut text = format!("\n| origin | {} |\n|---|{}\n", heads.join(" | "), "---|".repeat(heads.len()));
        for (kind, net) in origins() {
            let cells = columns.iter().map(|client| self.ways(kind, net, *client));
            let cells = cells.collect::<Vec<_>>().join(" | ");
            text += &format!("| {} {} | {cells} |\n", kind.word().to_uppercase(), net.word());
        }
        text
    }

    fn ways(&self, kind: Kind, net: Net, client: Client) -> String {
        let mut ways = self.cells.get(&(kind, net, client)).cloned().unwrap_or_default();
        ways.sort();
        match ways.len() {
            0 => "**no**".to_owned(),
            all if all == BYS.len() => "both".to_owned(),
            _ => format!("**{} only**", ways[0].word()),
        }
    }
}

fn described((kind, net, by): (Kind, Net, By), client: Client, said: &str) -> String {
    format!("{kind:?} on {net:?} by {by:?} from {client:?}: {said}")
}

impl Client {
    fn head(self) -> String {
        match self {
            Self::Task(net, true) => format!("{}, same agent", net.word()),
            Self::Task(net, false) => format!("{}, other agent", net.word()),
            Self::Itself => "itself".to_owned(),
            Self::Outside => "outside".to_owned(),
        }
    }
}

fn clients() -> impl Iterator<Item = Client> {
    let tasks = NETS.into_iter().flat_map(|net| [true, false].map(|same| Client::Task(net, same)));
    tasks.chain([Client::Itself, Client::Outside])
}
