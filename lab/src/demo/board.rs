//! What the demo shows while it goes, and the table at its end.

use std::time::{Duration, Instant};

use super::DemoError;

/// One line of the demo: what was to hold, and whether it did.
#[derive(Debug, Clone)]
pub struct Line {
    pub holds: bool,
    pub what: String,
    pub seen: String,
}

/// Everything seen so far. Lines are printed as they are judged.
#[derive(Debug)]
pub struct Board {
    began: Instant,
    lines: Vec<Line>,
    figures: Vec<(String, String)>,
}

impl Board {
    pub(super) fn new() -> Self {
        Self { began: Instant::now(), lines: Vec::new(), figures: Vec::new() }
    }

    /// What is being done, for those who watch.
    pub(super) fn doing(&self, what: &str) {
        println!("{}        {what}", self.stamp());
    }

    /// Judges one line: `Ok` with what was seen, or why it does not hold. A failure does not end the demo: the lines
    /// after it say more.
    pub(super) fn check(&mut self, what: &str, result: Result<String, DemoError>) {
        let (holds, seen) = match result {
            Ok(seen) => (true, seen),
            Err(error) => (false, error.to_string()),
        };
        let mark = if holds { "\u{1b}[32mok\u{1b}[0m    " } else { "\u{1b}[31mFAILED\u{1b}[0m" };
        println!("{}  {mark}  {what}: {seen}", self.stamp());
        self.lines.push(Line { holds, what: what.to_owned(), seen });
    }

    /// A figure for the table at the end.
    pub(super) fn figure(&mut self, name: &str, value: String) {
        self.figures.push((name.to_owned(), value));
    }

    fn stamp(&self) -> String {
        format!("{:6.2} s", self.began.elapsed().as_secs_f64())
    }

    /// How many lines did not hold.
    #[must_use]
    pub fn failures(&self) -> usize {
        self.lines.iter().filter(|line| !line.holds).count()
    }

    /// The lines, as they were judged.
    #[must_use]
    pub fn lines(&self) -> &[Line] {
        &self.lines
    }

    pub(super) fn print_table(&self) {
        let width = self.figures.iter().map(|(name, _)| name.len()).max().unwrap_or(0);
        println!("\nWhat was seen");
        for (name, value) in &self.figures {
            println!("  {name:<width$}  {value}");
        }
        println!(
            "\n{} of {} lines hold ({:.0} s)",
            self.lines.len() - self.failures(),
            self.lines.len(),
            self.began.elapsed().as_secs_f64()
        );
        for line in self.lines.iter().filter(|line| !line.holds) {
            println!("  does not hold: {}: {}", line.what, line.seen);
        }
    }
}

/// Milliseconds with one decimal place.
pub(super) fn millis(duration: Duration) -> String {
    format!("{:.1} ms", duration.as_secs_f64() * 1e3)
}
