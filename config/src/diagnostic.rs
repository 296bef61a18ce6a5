//! Diagnostics: a sentence about one place of the file, the line itself, and what to write instead.
//!
//! A diagnostic owns all that it shows, so it outlives the text. It shows as
//! ```text
//! sluice.toml:7:13: `interface` is empty
//!    7 | interface = ""
//!      |             ^^ write the name that `ip link` shows, for example "eth0"
//! ```

use std::collections::BTreeSet;
use std::fmt;
use std::ops::Range;

use crate::secret;

/// More errors than this are counted, not kept: a file of 16 MiB may hold a million of them.
pub const MOST_ERRORS: usize = 100;

/// The longest part of a line that is shown, in characters.
const WIDEST: usize = 120;

/// Whether a diagnostic stops the program.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Severity {
    /// The configuration is refused.
    Error,
    /// Worth saying; the configuration is used.
    Warning,
}

/// One finding about a configuration.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct Diagnostic {
    /// Error or warning.
    pub severity: Severity,
    /// The file's path, or what stands for it.
    pub origin: String,
    /// Where in the file; `None` when there is no text (the file cannot be read).
    pub place: Option<Place>,
    /// What is wrong: the value given and its key.
    pub sentence: String,
    /// What to write instead.
    pub remedy: String,
}

/// A part of one line.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct Place {
    /// Line number, from 1.
    pub line: usize,
    /// Column in characters, from 1.
    pub column: usize,
    /// The line (cut when long), control characters replaced by spaces.
    pub text: String,
    /// Where the underline starts in `text`, characters from 0.
    pub indent: usize,
    /// Characters underlined, at least 1.
    pub width: usize,
}

impl fmt::Display for Diagnostic {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let warning = match self.severity {
            Severity::Error => "",
            Severity::Warning => "warning: ",
        };
        let Some(place) = &self.place else {
            return write!(f, "{}: {warning}{}; {}", self.origin, self.sentence, self.remedy);
        };
        let Place { line, column, text, indent, width } = place;
        let gutter = line.to_string().len().max(4);
        writeln!(f, "{}:{line}:{column}: {warning}{}", self.origin, self.sentence)?;
        writeln!(f, "{line:>gutter$} | {text}")?;
        write!(f, "{:gutter$} | {:indent$}{} {}", "", "", "^".repeat(*width), self.remedy)
    }
}

/// Why a configuration is refused: every mistake, in the order of the file.
#[derive(Clone, PartialEq, Eq, Debug, Default)]
pub struct ConfigErrors {
    /// The mistakes, at most [`MOST_ERRORS`].
    pub errors: Vec<Diagnostic>,
    /// Mistakes beyond those.
    pub more: usize,
}

impl std::error::Error for ConfigErrors {}

impl fmt::Display for ConfigErrors {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        for (n, error) in self.errors.iter().enumerate() {
            let gap = if n == 0 { "" } else { "\n\n" };
            write!(f, "{gap}{error}")?;
        }
        match self.more {
            0 => Ok(()),
            n => write!(f, "\n\nand {n} more mistakes"),
        }
    }
}

/// A text and its name, which turns byte ranges into places.
#[derive(Clone, Debug)]
pub(crate) struct Source {
    pub(crate) origin: String,
    text: String,
    /// Byte offset of the start of each line.
    lines: Vec<usize>,
}

impl Source {
    pub(crate) fn new(origin: &str, text: &str) -> Self {
        let starts = text.bytes().enumerate().filter(|(_, b)| *b == b'\n').map(|(n, _)| n + 1);
        Self { origin: origin.to_owned(), text: text.to_owned(), lines: std::iter::once(0).chain(starts).collect() }
    }

    pub(crate) fn text(&self) -> &str {
        &self.text
    }

    /// Line number of a byte offset, from 1.
    pub(crate) fn line(&self, offset: usize) -> usize {
        self.lines.partition_point(|start| *start <= offset).max(1)
    }

    /// The first line of `span`, whatever the span is: it is clamped to the text.
    pub(crate) fn place(&self, span: &Range<usize>) -> Place {
        self.place_without(span, &(0..0))
    }

    /// As [`Source::place`], without the bytes of `secret`. What stands before the `@` of any URL is not shown anyway.
    fn place_without(&self, span: &Range<usize>, secret: &Range<usize>) -> Place {
        let start = floor(&self.text, span.start);
        let line = self.line(start);
        let from = self.lines.get(line - 1).copied().unwrap_or_default();
        let to = self.lines.get(line).map_or(self.text.len(), |next| next - 1);
        let whole = self.text.get(from..to).unwrap_or_default().trim_end_matches('\r');
        let before = self.text.get(from..start).map_or(0, |t| t.chars().count());
        let end = floor(&self.text, span.end).clamp(start, to.max(start));
        let width = self.text.get(start..end).map_or(0, |t| t.trim_end().chars().count());
        let known = secret.start.saturating_sub(from)..secret.end.saturating_sub(from);
        cut(&starred(whole, &known), line, before, width)
    }
}

/// The nearest character boundary at or below `offset`.
fn floor(text: &str, offset: usize) -> usize {
    let mut at = offset.min(text.len());
    while !text.is_char_boundary(at) {
        at -= 1;
    }
    at
}

/// The line with stars, as many as there were characters, in place of a secret and of the users in its URLs.
fn starred(line: &str, secret: &Range<usize>) -> String {
    let users = secret::users(line);
    let hidden = |at: usize| secret.contains(&at) || users.iter().any(|user| user.contains(&at));
    line.char_indices().map(|(at, c)| if hidden(at) { '*' } else { c }).collect()
}

fn cut(line: &str, number: usize, before: usize, width: usize) -> Place {
    let printable = |c: char| if c.is_control() { ' ' } else { c };
    let length = line.chars().count();
    let skip = if length > WIDEST { before.saturating_sub(WIDEST / 2) } else { 0 };
    let text: String = line.chars().skip(skip).take(WIDEST).map(printable).collect();
    let indent = (before - skip).min(text.chars().count());
    let width = width.clamp(1, (text.chars().count() - indent).max(1));
    Place { line: number, column: before + 1, text, indent, width }
}

/// Where findings are gathered while a file is read.
#[derive(Debug)]
pub(crate) struct Findings<'s> {
    pub(crate) source: &'s Source,
    errors: Vec<(usize, Diagnostic)>,
    warnings: Vec<(usize, Diagnostic)>,
    more: usize,
    /// Places of the tables of which something was taken away because it was wrong.
    incomplete: BTreeSet<(usize, usize)>,
}

impl<'s> Findings<'s> {
    pub(crate) fn new(source: &'s Source) -> Self {
        Self { source, errors: Vec::new(), warnings: Vec::new(), more: 0, incomplete: BTreeSet::new() }
    }

    pub(crate) fn error(&mut self, span: &Range<usize>, sentence: impl Into<String>, remedy: impl Into<String>) {
        if self.is_full() {
            self.more += 1;
            return;
        }
        let found = self.diagnostic(Severity::Error, span, sentence.into(), remedy.into());
        self.errors.push((span.start, found));
    }

    /// An error at a text that holds a secret: of that text nothing before its last `@` is shown.
    pub(crate) fn error_at_secret(&mut self, span: &Range<usize>, sentence: String, remedy: &str) {
        self.error(span, sentence, remedy);
        let text = self.source.text().get(span.clone()).unwrap_or_default();
        let start = span.start + text.find("://").map_or(0, |at| at + 3);
        let secret = start..text.rfind('@').map_or(span.end, |at| span.start + at);
        if let Some((_, last)) = self.errors.last_mut().filter(|(at, _)| *at == span.start) {
            last.place = Some(self.source.place_without(span, &secret));
        }
    }

    /// Whether further errors are only counted, so that their remedies need not be looked for.
    pub(crate) fn is_full(&self) -> bool {
        self.errors.len() == MOST_ERRORS
    }

    pub(crate) fn warning(&mut self, span: &Range<usize>, sentence: impl Into<String>, remedy: impl Into<String>) {
        if self.warnings.len() < MOST_ERRORS {
            let found = self.diagnostic(Severity::Warning, span, sentence.into(), remedy.into());
            self.warnings.push((span.start, found));
        }
    }

    fn diagnostic(&self, severity: Severity, span: &Range<usize>, sentence: String, remedy: String) -> Diagnostic {
        let place = Some(self.source.place(span));
        let (sentence, remedy) = (printable(&sentence), printable(&remedy));
        Diagnostic { severity, origin: self.source.origin.clone(), place, sentence, remedy }
    }

    /// Something of the table at `span` was taken away: what now is missing there was already reported.
    pub(crate) fn took_from(&mut self, span: &Range<usize>) {
        self.incomplete.insert((span.start, span.end));
    }

    pub(crate) fn is_complete(&self, span: &Range<usize>) -> bool {
        !self.incomplete.contains(&(span.start, span.end))
    }

    /// The warnings when there is no error, both in the order of the file.
    pub(crate) fn finish(self) -> Result<Vec<Diagnostic>, ConfigErrors> {
        if self.errors.is_empty() { Ok(in_order(self.warnings)) } else { Err(self.into_errors()) }
    }

    pub(crate) fn into_errors(self) -> ConfigErrors {
        ConfigErrors { errors: in_order(self.errors), more: self.more }
    }
}

/// Sentences and remedies quote what the file says, other names of it included, and go to a terminal.
fn printable(text: &str) -> String {
    let mut shown = String::with_capacity(text.len());
    for c in text.chars() {
        if c.is_control() && c != '\n' {
            shown.extend(c.escape_default());
        } else {
            shown.push(c);
        }
    }
    shown
}

fn in_order(mut list: Vec<(usize, Diagnostic)>) -> Vec<Diagnostic> {
    list.sort_by_key(|(at, _)| *at);
    list.into_iter().map(|(_, diagnostic)| diagnostic).collect()
}
