//! `README.md` prints the schema, and the schema's defaults are what an absent key means.
#![allow(clippy::unwrap_used, clippy::panic, reason = "a test file")]

use std::fmt::Write;

use sluice_config::schema::{Absent, Key, Kind, SECTIONS, Section};

const BEGIN: &str = "<!-- reference: written by tests/reference.rs from src/schema.rs -->\n";

fn row(key: &Key) -> String {
    let default = match key.default {
        Absent::Required => "required".to_owned(),
        Absent::Value(value) => format!("`{value}`"),
        Absent::Words(words) => words.to_owned(),
    };
    format!(
        "| `{}` | {} | {default} | {} |\n",
        key.name,
        key.kind.noun().trim_start_matches("an ").trim_start_matches("a "),
        key.meaning
    )
}

fn table(section: &Section) -> String {
    let keys: String =
        section.keys.iter().filter(|key| key.kind != Kind::Section || section.path == "service").map(row).collect();
    format!(
        "\n### `{}`\n\n{}\n\n| key | type | default | meaning |\n|---|---|---|---|\n{keys}",
        section.header(),
        section.meaning
    )
}

/// With `SLUICE_BLESS=1` the reference is written anew.
#[test]
fn the_reference_in_the_readme_lists_every_key_with_its_default_and_meaning() {
    let path = concat!(env!("CARGO_MANIFEST_DIR"), "/README.md");
    let readme = std::fs::read_to_string(path).unwrap();
    let (before, printed) = readme.split_once(BEGIN).unwrap();
    let reference: String = SECTIONS.iter().map(table).collect();
    if std::env::var_os("SLUICE_BLESS").is_some() {
        std::fs::write(path, format!("{before}{BEGIN}{reference}")).unwrap();
    } else {
        assert!(
            printed == reference,
            "run SLUICE_BLESS=1 cargo test -p sluice-config --test reference, and read what changed"
        );
    }
}

/// What has to be written for a section to be good.
const NEEDED: &[(&str, &str, &str)] = &[
    ("port", "interface", "\"eth0\""),
    ("neighbour", "ip", "\"192.0.2.1\""),
    ("neighbour", "mac", "\"02:00:00:00:00:01\""),
    ("route", "prefix", "\"10.0.0.0/8\""),
    ("marathon", "urls", "[\"http://10.0.0.2:8080\"]"),
    ("service", "vip", "\"172.16.0.1:80\""),
    ("service.backends", "address", "\"10.0.0.11:31001\""),
    ("snat", "underlay", "[\"192.0.2.200\"]"),
    ("snat", "overlay", "[\"9.0.9.2\"]"),
    ("overlay", "vtep", "\"44.128.0.9/20\""),
    ("overlay.network", "name", "\"dcos\""),
    ("overlay.network", "subnet", "\"9.0.0.0/8\""),
    ("overlay.agent", "ip", "\"10.0.0.11\""),
    ("overlay.agent", "vtep_ip", "\"44.128.0.1\""),
];

/// `key = value` for what is needed and, if asked, for every default.
fn assignments(section: &Section, defaults: bool) -> Vec<String> {
    let needed = |key: &Key| {
        NEEDED.iter().find(|(path, name, _)| *path == section.path && *name == key.name).map(|(_, _, value)| *value)
    };
    let value = |key: &Key| match (needed(key), key.default) {
        (Some(value), _) => Some(value),
        (None, Absent::Value(value)) if defaults => Some(value),
        (None, Absent::Value(_) | Absent::Words(_)) => None,
        (None, Absent::Required) => panic!("{} needs {}", section.path, key.name),
    };
    section
        .keys
        .iter()
        .filter(|key| key.kind != Kind::Section)
        .filter_map(|key| Some(format!("{} = {}", key.name, value(key)?)))
        .collect()
}

fn file(defaults: bool) -> String {
    let mut text = String::new();
    for section in SECTIONS.iter().filter(|section| !["service.backends", "dns.zone"].contains(&section.path)) {
        writeln!(text, "{}\n{}", section.header(), assignments(section, defaults).join("\n")).unwrap();
        if section.path == "service" {
            let backend = SECTIONS.iter().find(|section| section.path == "service.backends").unwrap();
            writeln!(text, "backends = [{{ {} }}]", assignments(backend, defaults).join(", ")).unwrap();
        }
    }
    text
}

#[test]
fn writing_every_default_changes_nothing() {
    let parse = |text: &str| match sluice_config::parse(text, "defaults") {
        Ok(config) => format!("{config:#?}"),
        Err(errors) => panic!("{errors}"),
    };
    let (short, long) = (file(false), file(true));
    assert!(long.lines().count() > short.lines().count() + 50, "{long}");
    assert_eq!(parse(&short), parse(&long));
}
