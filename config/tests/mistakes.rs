//! Each kind of mistake gives exactly this diagnostic: the cases are in `mistakes.txt`, so that one more adds no code.
#![allow(clippy::unwrap_used, reason = "a test file")]

const CASES: &str = include_str!("mistakes.txt");

/// A case: `=== sentence`, the TOML, `---`, the diagnostics.
fn cases() -> Vec<[&'static str; 3]> {
    let parts = CASES.split("\n=== ").map(|case| case.trim_start_matches("=== "));
    let split = |case: &'static str| {
        let (sentence, rest) = case.split_once('\n').unwrap();
        let (toml, expected) = rest.split_once("\n---\n").unwrap();
        [sentence, toml, expected.trim_end()]
    };
    parts.map(split).collect()
}

fn shown(toml: &str) -> String {
    match sluice_config::parse_text(toml, "t.toml") {
        Ok(loaded) => loaded.warnings.iter().map(|w| format!("{w}\n\n")).collect::<String>().trim_end().to_owned(),
        Err(errors) => errors.to_string(),
    }
}

/// With `SLUICE_BLESS=1` the file is written anew, to be read before it is committed.
#[test]
fn each_kind_of_mistake_gives_exactly_its_diagnostic() {
    if std::env::var_os("SLUICE_BLESS").is_some() {
        let all: String = cases()
            .iter()
            .map(|[sentence, toml, _]| format!("=== {sentence}\n{toml}\n---\n{}\n\n", shown(toml)))
            .collect();
        let path = concat!(env!("CARGO_MANIFEST_DIR"), "/tests/mistakes.txt");
        std::fs::write(path, format!("{}\n", all.trim_end())).unwrap();
        return;
    }
    for [sentence, toml, expected] in cases() {
        assert_eq!(shown(toml), expected, "\n{sentence}\n\nfound:\n{}\n", shown(toml));
    }
}

#[test]
fn every_case_has_its_own_sentence_and_finds_something() {
    let mut sentences: Vec<_> = cases().iter().map(|[sentence, _, _]| *sentence).collect();
    assert!(cases().iter().all(|[_, _, expected]| expected.starts_with("t.toml:")));
    sentences.sort_unstable();
    let before = sentences.len();
    sentences.dedup();
    assert_eq!(sentences.len(), before);
}
