//! What was asked for and not done, with the reason: every label, app or task that is not honoured ends up in a list of
//! these, never in silence. Texts from outside are escaped and cut when they enter one, so a list can be shown anywhere.

use std::fmt::Write as _;

use serde::Serialize;

/// Longest text of a [`Rejected`] in characters, escapes not counted.
const SHOWN_CHARACTERS: usize = 256;

/// One thing that was not honoured.
#[derive(Clone, PartialEq, Eq, PartialOrd, Ord, Debug, Serialize)]
pub struct Rejected {
    /// Task id; the app or pod id where no task has it; empty for things of the configuration.
    pub task: String,
    /// Label key, field of the payload, or key of the configuration.
    pub label: String,
    /// What it said.
    pub value: String,
    /// Why it does not hold, and what to write instead.
    pub reason: String,
}

impl Rejected {
    /// Escapes and cuts the three texts that come from outside.
    #[must_use]
    pub fn new(task: &str, label: &str, value: &str, reason: impl Into<String>) -> Self {
        Self { task: shown(task), label: shown(label), value: shown(value), reason: reason.into() }
    }
}

/// `text` as it may be shown: control and direction-changing characters (U+200E, U+202A and their like) become
/// `\u{..}`, and what is beyond 256 characters becomes an ellipsis.
#[must_use]
pub fn shown(text: &str) -> String {
    let mut out = String::new();
    for (seen, c) in text.chars().enumerate() {
        if seen == SHOWN_CHARACTERS {
            out.push('…');
            break;
        }
        if c.is_control() || changes_direction(c) {
            let _ = write!(out, "{}", c.escape_unicode());
        } else {
            out.push(c);
        }
    }
    out
}

fn changes_direction(c: char) -> bool {
    matches!(c, '\u{61c}' | '\u{200b}'..='\u{200f}' | '\u{2028}'..='\u{202e}' | '\u{2066}'..='\u{2069}' | '\u{feff}')
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_hostile_text_is_shown_escaped_and_cut() {
        assert_eq!(shown("a\0b\u{202e}c\n"), "a\\u{0}b\\u{202e}c\\u{a}");
        assert_eq!(shown("/web:80 <b>é"), "/web:80 <b>é");
        let long = shown(&"x".repeat(10_000_000));
        assert_eq!(long.chars().count(), SHOWN_CHARACTERS + 1);
    }
}
