//! The dependency policy of `deny.toml`, checked with `cargo metadata`: what `cargo deny check bans licenses sources`
//! would say, on machines where cargo-deny is not installed. Nothing is fetched: `--offline --locked`.

#![allow(clippy::unwrap_used, reason = "a test that cannot go on stops")]

use std::collections::{BTreeMap, BTreeSet};
use std::path::Path;
use std::process::Command;

use serde_json::Value;

#[test]
fn every_crate_comes_from_crates_io_or_this_workspace() {
    let allowed = strings(&policy()["sources"]["allow-registry"]);
    for package in &packages() {
        if let Some(source) = &package.source {
            let registry = source.trim_start_matches("registry+");
            assert!(
                allowed.iter().any(|a| a == registry),
                "{} comes from {source}; use a crates.io release",
                package.name
            );
        }
    }
}

#[test]
fn every_licence_is_on_the_list() {
    let allowed = strings(&policy()["licenses"]["allow"]).into_iter().collect::<BTreeSet<_>>();
    for Package { name, licence, .. } in &packages() {
        assert!(permits(licence, &allowed), "{name}: licence {licence:?} is not made of those that deny.toml allows");
    }
}

#[test]
fn two_versions_of_a_crate_are_listed_with_whoever_holds_the_older() {
    let mut versions = BTreeMap::<_, BTreeSet<_>>::new();
    for package in packages() {
        versions.entry(package.name).or_default().insert(package.version);
    }
    let found = versions.iter().filter(|(_, all)| all.len() > 1).flat_map(|(name, all)| {
        let newest = all.iter().max_by_key(|v| numbers(v)).map(|v| line(name, v));
        all.iter().map(|v| line(name, v)).filter(move |entry| Some(entry) != newest.as_ref()).collect::<Vec<_>>()
    });
    let found = found.collect::<BTreeSet<_>>();
    let listed = tables(&policy()["bans"]["skip"]).map(|t| text(&t["crate"])).collect::<BTreeSet<_>>();
    assert_eq!(
        found, listed,
        "left: in Cargo.lock, right: bans.skip of deny.toml; unify the versions or correct the list"
    );
}

#[test]
fn tokio_reaches_neither_config_nor_dataplane() {
    let graph = edges();
    for root in ["sluice-config", "sluice-dataplane"] {
        let mut reached = BTreeSet::new();
        let mut next = vec![root.to_owned()];
        while let Some(name) = next.pop() {
            if reached.insert(name.clone()) {
                next.extend(graph.get(&name).into_iter().flatten().cloned());
            }
        }
        assert!(reached.len() > 3, "the dependency graph of {root} was not read");
        for banned in ["tokio", "hyper", "reqwest", "axum"] {
            assert!(!reached.contains(banned), "{root} depends on {banned}; move that code to control");
        }
    }
}

#[test]
fn only_the_listed_crates_depend_on_tokio_directly() {
    let policy = policy();
    let ban = tables(&policy["bans"]["deny"]).find(|t| text(&t["crate"]) == "tokio").unwrap();
    let wrappers = strings(&ban["wrappers"]);
    for (name, dependencies) in edges() {
        let direct = dependencies.contains("tokio");
        assert!(!direct || wrappers.contains(&name), "{name} depends on tokio; see bans.deny in deny.toml");
    }
}

#[test]
fn a_licence_expression_passes_when_one_choice_is_allowed_whole() {
    let allowed = ["MIT", "ISC"].map(str::to_owned).into();
    for (expression, passes) in [
        ("MIT", true),
        ("Apache-2.0/MIT", true),
        ("Apache-2.0 WITH LLVM-exception OR Apache-2.0 OR MIT", true),
        ("MIT AND ISC", true),
        ("MIT AND GPL-2.0", false),
        ("(GPL-2.0 OR MIT) AND ISC", true),
        ("(GPL-2.0 OR MIT) AND LGPL-2.1", false),
        ("GPL-2.0", false),
        ("", false),
    ] {
        assert_eq!(permits(expression, &allowed), passes, "{expression:?}");
    }
}

struct Package {
    name: String,
    version: String,
    licence: String,
    source: Option<String>,
}

fn root() -> &'static Path {
    Path::new(env!("CARGO_MANIFEST_DIR")).parent().unwrap()
}

fn policy() -> toml::Table {
    std::fs::read_to_string(root().join("deny.toml")).unwrap().parse().unwrap()
}

/// What `cargo metadata` says of the packages that are built on Linux.
fn metadata() -> Value {
    let arguments = ["metadata", "--format-version=1", "--locked", "--offline"];
    let platform = ["--filter-platform=x86_64-unknown-linux-gnu"];
    let output = Command::new(env!("CARGO")).args(arguments).args(platform).current_dir(root()).output().unwrap();
    assert!(output.status.success(), "{}", String::from_utf8_lossy(&output.stderr));
    serde_json::from_slice(&output.stdout).unwrap()
}

fn packages() -> Vec<Package> {
    let metadata = metadata();
    let built = array(&metadata["resolve"]["nodes"]).iter().map(|n| &n["id"]).collect::<Vec<_>>();
    let all = array(&metadata["packages"]).iter().filter(|p| built.contains(&&p["id"]));
    let field = |p: &Value, key: &str| p[key].as_str().unwrap_or_default().to_owned();
    all.map(|p| Package {
        name: field(p, "name"),
        version: field(p, "version"),
        licence: field(p, "license"),
        source: p["source"].as_str().map(str::to_owned),
    })
    .collect()
}

/// Who depends on whom, by package name, over normal, build and development dependencies alike.
fn edges() -> BTreeMap<String, BTreeSet<String>> {
    let metadata = metadata();
    let named = |p: &Value| (p["id"].to_string(), p["name"].as_str().unwrap_or_default().to_owned());
    let names = array(&metadata["packages"]).iter().map(named).collect::<BTreeMap<_, _>>();
    let mut graph = BTreeMap::<String, BTreeSet<String>>::new();
    for node in array(&metadata["resolve"]["nodes"]) {
        let dependencies = array(&node["deps"]).iter().map(|d| names[&d["pkg"].to_string()].clone());
        graph.entry(names[&node["id"].to_string()].clone()).or_default().extend(dependencies);
    }
    graph
}

/// Whether an SPDX expression can be met by `allowed` alone. `A/B` is the old spelling of `A OR B`.
fn permits(expression: &str, allowed: &BTreeSet<String>) -> bool {
    let spaced = expression.replace('(', " ( ").replace(')', " ) ").replace('/', " OR ");
    let mut words = spaced.split_whitespace().peekable();
    any_of(&mut words, allowed)
}

type Words<'a> = std::iter::Peekable<std::str::SplitWhitespace<'a>>;

fn any_of(words: &mut Words<'_>, allowed: &BTreeSet<String>) -> bool {
    let mut passes = all_of(words, allowed);
    while words.next_if_eq(&"OR").is_some() {
        passes |= all_of(words, allowed);
    }
    passes
}

fn all_of(words: &mut Words<'_>, allowed: &BTreeSet<String>) -> bool {
    let mut passes = one(words, allowed);
    while words.next_if_eq(&"AND").is_some() {
        passes &= one(words, allowed);
    }
    passes
}

fn one(words: &mut Words<'_>, allowed: &BTreeSet<String>) -> bool {
    if words.next_if_eq(&"(").is_some() {
        let passes = any_of(words, allowed);
        return words.next() == Some(")") && passes;
    }
    let Some(licence) = words.next() else { return false };
    // An exception is another licence: it has to be listed whole.
    let exception = words.next_if_eq(&"WITH").and_then(|_| words.next());
    exception.map_or_else(|| allowed.contains(licence), |e| allowed.contains(&format!("{licence} WITH {e}")))
}

/// `name@1` or `name@0.3`: the part of a version that Cargo holds incompatible, as deny.toml writes it.
fn line(name: &str, version: &str) -> String {
    let parts = numbers(version);
    let kept = if parts[0] == 0 { 2 } else { 1 };
    format!("{name}@{}", parts[..kept].iter().map(u64::to_string).collect::<Vec<_>>().join("."))
}

fn numbers(version: &str) -> Vec<u64> {
    version.split(['.', '-', '+']).map_while(|part| part.parse().ok()).collect()
}

fn array(value: &Value) -> &[Value] {
    value.as_array().map_or(&[], Vec::as_slice)
}

fn tables(value: &toml::Value) -> impl Iterator<Item = &toml::Table> {
    value.as_array().into_iter().flatten().filter_map(toml::Value::as_table)
}

fn strings(value: &toml::Value) -> Vec<String> {
    value.as_array().into_iter().flatten().map(text).collect()
}

fn text(value: &toml::Value) -> String {
    value.as_str().unwrap_or_default().to_owned()
}
