//! Every file under `examples/` is a good configuration.
#![allow(clippy::unwrap_used, clippy::panic, reason = "a test file")]

use std::path::PathBuf;

fn examples() -> Vec<PathBuf> {
    let folder = PathBuf::from(env!("CARGO_MANIFEST_DIR")).join("examples");
    let mut all: Vec<_> = std::fs::read_dir(folder).unwrap().map(|entry| entry.unwrap().path()).collect();
    all.sort();
    all
}

#[test]
fn every_example_loads_without_a_warning() {
    assert_eq!(examples().len(), 5);
    for path in examples() {
        match sluice_config::load_file(&path) {
            Ok(loaded) => assert_eq!(loaded.warnings, [], "{}", path.display()),
            Err(errors) => panic!("{errors}"),
        }
    }
}

#[test]
fn an_empty_file_is_a_configuration_without_ports_or_services() {
    let config = sluice_config::parse("", "empty").unwrap();
    assert!(config.ports.is_empty() && config.services.is_empty() && config.overlay.is_none());
    assert_eq!(config.host.unwrap().interface, "sluice0");
}
