//! Whatever is done to a good file, reading it gives a configuration or diagnostics that stay within it.
#![allow(clippy::unwrap_used, reason = "a test file")]

use std::net::IpAddr;

use proptest::prelude::*;
use proptest::sample::{Index, select};
use sluice_config::machine::Machine;

const EXAMPLES: [&str; 4] = [
    include_str!("../examples/static.toml"),
    include_str!("../examples/balancer.toml"),
    include_str!("../examples/overlay.toml"),
    include_str!("../examples/replay.toml"),
];

/// Pieces that mean something to a parser of TOML or of addresses.
const PIECES: [&str; 38] = [
    "\"",
    "'",
    "\"\"\"",
    "[",
    "]",
    "[[",
    "]]",
    "{",
    "}",
    "=",
    ",",
    ".",
    "-",
    "\n",
    "\r\n",
    "\0",
    "\u{feff}",
    "ä",
    "\u{1f600}",
    "0",
    "-1",
    "1e400",
    "inf",
    "18446744073709551616",
    "0x",
    "true",
    "0.0.0.0/0",
    "255.255.255.255/32",
    "::/0",
    "[::1]:80",
    "70:b3:d5:80:00:01",
    "port",
    "[[port]]\n",
    "[overlay]\n",
    "[[overlay.network]]\n",
    "1979-05-27",
    "\\u0000",
    "a.b.c = 1\n",
];

#[derive(Clone, Debug)]
enum Edit {
    Insert(Index, &'static str),
    Delete(Index, usize),
    Double(Index),
    Swap(Index, Index),
    Cut(Index),
}

fn edit() -> impl Strategy<Value = Edit> {
    prop_oneof![
        (any::<Index>(), select(&PIECES[..])).prop_map(|(at, piece)| Edit::Insert(at, piece)),
        (any::<Index>(), 1..24usize).prop_map(|(at, count)| Edit::Delete(at, count)),
        any::<Index>().prop_map(Edit::Double),
        (any::<Index>(), any::<Index>()).prop_map(|(a, b)| Edit::Swap(a, b)),
        any::<Index>().prop_map(Edit::Cut),
    ]
}

fn apply(text: &str, edit: &Edit) -> String {
    let chars: Vec<char> = text.chars().collect();
    let mut lines: Vec<&str> = text.split_inclusive('\n').collect();
    let line = |at: &Index| at.index(lines.len().max(1));
    let at = |at: &Index| at.index(chars.len() + 1);
    let join = |before: &[char], middle: &str, after: &[char]| {
        before.iter().collect::<String>() + middle + &after.iter().collect::<String>()
    };
    match edit {
        Edit::Insert(index, piece) => join(&chars[..at(index)], piece, &chars[at(index)..]),
        Edit::Delete(index, count) => join(&chars[..at(index)], "", &chars[(at(index) + count).min(chars.len())..]),
        Edit::Cut(index) => chars[..at(index)].iter().collect(),
        Edit::Double(_) | Edit::Swap(..) if lines.is_empty() => String::new(),
        Edit::Double(index) => {
            let n = line(index);
            lines.insert(n, lines[n]);
            lines.concat()
        }
        Edit::Swap(a, b) => {
            let (a, b) = (line(a), line(b));
            lines.swap(a, b);
            lines.concat()
        }
    }
}

struct Nothing;

impl Machine for Nothing {
    fn interfaces(&self) -> Vec<String> {
        vec!["eth0".to_owned()]
    }

    fn queues(&self, _: &str) -> Option<u32> {
        Some(1)
    }

    fn cores(&self) -> Vec<usize> {
        Vec::new()
    }

    fn addresses(&self) -> Vec<IpAddr> {
        Vec::new()
    }
}

fn diagnostics_stay_within(text: &str) {
    let errors = match sluice_config::parse_text(text, "t.toml") {
        Ok(loaded) => loaded.check_machine(&Nothing).err().unwrap_or_default(),
        Err(errors) => {
            assert!(!errors.errors.is_empty(), "refused without a reason: {text:?}");
            errors
        }
    };
    assert!(!errors.to_string().contains(|c: char| c.is_control() && c != '\n'), "{errors:?}");
    for place in errors.errors.iter().filter_map(|error| error.place.as_ref()) {
        assert!(place.line >= 1 && place.line <= text.split('\n').count(), "{place:?}");
        assert!(place.indent + place.width <= place.text.chars().count().max(place.indent + 1), "{place:?}");
    }
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 1500, failure_persistence: None, ..ProptestConfig::default() })]

    #[test]
    fn a_mutated_example_gives_a_configuration_or_diagnostics(example in 0..EXAMPLES.len(), edits in prop::collection::vec(edit(), 1..8)) {
        let text = edits.iter().fold(EXAMPLES[example].to_owned(), |text, edit| apply(&text, edit));
        diagnostics_stay_within(&text);
    }

    #[test]
    fn pieces_in_any_order_give_a_configuration_or_diagnostics(pieces in prop::collection::vec(select(&PIECES[..]), 0..40)) {
        diagnostics_stay_within(&pieces.concat());
    }
}

#[test]
fn an_example_cut_anywhere_gives_a_configuration_or_diagnostics() {
    for example in EXAMPLES {
        for (at, _) in example.char_indices() {
            diagnostics_stay_within(&example[..at]);
        }
    }
}

#[test]
fn a_name_with_a_control_character_is_not_printed_raw_where_it_is_the_nearest_one() {
    let text = EXAMPLES[2].replacen("name = \"dcos\"", "name = \"\\u0000dcos\"", 1);
    assert!(text.contains("\\u0000dcos"), "the example has no network called dcos");
    diagnostics_stay_within(&text);
}
