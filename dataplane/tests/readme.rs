//! `README.md` tells the path of a packet: its list is the code's.

/// The steps of `Worker::turn`, in order: every `stage::run(` and `self.step(` between its braces.
fn steps_in_code() -> Vec<&'static str> {
    let source = include_str!("../src/worker.rs");
    let turn = source.split("pub fn turn(").nth(1).unwrap_or_default();
    let turn = turn.split("\n    }\n").next().unwrap_or_default();
    turn.lines().filter_map(step).collect()
}

fn step(line: &'static str) -> Option<&'static str> {
    let code = line.trim();
    // What a step says is kept: `let received = `.
    let code = code.split_once(" = ").map_or(code, |(_, code)| code);
    let stage = code.split_once("::run(").map(|(stage, _)| stage);
    let method = code.strip_prefix("self.").and_then(|rest| rest.split_once('(')).map(|(method, _)| method);
    stage.or(method).filter(|name| name.chars().all(|c| c.is_ascii_lowercase() || c == '_'))
}

/// The first column of the first table.
fn steps_in_readme() -> Vec<&'static str> {
    let table = include_str!("../README.md").lines().skip_while(|l| !l.starts_with("| step")).skip(2);
    let rows = table.take_while(|l| l.starts_with('|'));
    rows.filter_map(|row| row.strip_prefix("| `")?.split_once('`')).map(|(name, _)| name).collect()
}

#[test]
fn the_readme_lists_the_steps_of_a_turn_in_their_order() {
    let code = steps_in_code();
    assert!(code.len() > 8 && code.contains(&"parse"), "the steps of Worker::turn were not found: {code:?}");
    assert_eq!(steps_in_readme(), code, "left: dataplane/README.md, right: Worker::turn");
}

#[test]
fn every_module_that_the_readme_names_exists() {
    let rows = include_str!("../README.md").lines().skip_while(|l| !l.starts_with("| module")).skip(2);
    for row in rows.take_while(|l| l.starts_with('|')) {
        let names = row.split('|').nth(1).unwrap_or_default().split('`').skip(1).step_by(2);
        for name in names {
            let root = std::path::Path::new(env!("CARGO_MANIFEST_DIR"));
            let places = [root.join(name), root.join("src").join(name), root.join(format!("src/{name}.rs"))];
            assert!(places.iter().any(|p| p.exists()), "{name} is named in dataplane/README.md and is nowhere");
        }
    }
}
