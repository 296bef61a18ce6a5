//! What DC/OS's own tests ask, beside what this one asks: nothing may be missing.

use std::collections::BTreeSet;
use std::path::{Path, PathBuf};

use serde_json::Value;

use super::rows::{By, Kind, Net, rows};
use super::{extras, names, networks, six};

/// The recorded matrix; `None`, with a sentence, where it is not there.
fn matrix() -> Option<Value> {
    let root = Path::new(env!("CARGO_MANIFEST_DIR"));
    let beside = [root.join("../../shared/golden"), root.join("../../../shared/golden")];
    let folder = std::env::var_os("SLUICE_GOLDEN").map(PathBuf::from);
    let folder = folder.or_else(|| beside.into_iter().find(|folder| folder.is_dir()));
    let file = folder.unwrap_or_default().join("integration-matrix.json");
    let text = std::fs::read(&file).ok();
    if text.is_none() {
        println!("skipped: {} is not there", file.display());
    }
    text.map(|text| serde_json::from_slice(&text).unwrap())
}

fn texts<'a>(of: &'a Value, pointer: &str) -> BTreeSet<&'a str> {
    of.as_array().unwrap().iter().map(|row| row.pointer(pointer).unwrap().as_str().unwrap()).collect()
}

#[test]
fn every_row_of_the_recorded_matrix_is_one_of_ours() {
    let Some(golden) = matrix() else { return };
    let net = |net: Net| if net == Net::User { "user(overlay)" } else { net.word() };
    let kind = |kind: Kind| kind.word().to_uppercase();
    let ours: BTreeSet<_> = rows()
        .iter()
        .map(|row| (kind(row.kind), net(row.origin), net(row.client), row.by == By::Name, row.same_agent))
        .collect();
    let theirs = golden["vip_matrix"].as_array().unwrap();
    let text = |row: &'_ Value, key: &str| row[key].as_str().unwrap().to_owned();
    let flag = |row: &Value, key: &str| row[key].as_bool().unwrap();
    let of_theirs: BTreeSet<_> = theirs
        .iter()
        .map(|row| {
            let nets = [text(row, "vip_network"), text(row, "client_network")];
            (text(row, "container"), nets, flag(row, "named_vip"), flag(row, "same_agent"))
        })
        .collect();
    let ours: BTreeSet<_> =
        ours.into_iter().map(|(k, a, b, named, same)| (k, [a.to_owned(), b.to_owned()], named, same)).collect();
    assert_eq!(ours, of_theirs);
    assert_eq!(theirs.len(), ours.len());
}

#[test]
fn every_other_test_of_the_recorded_matrix_is_one_of_ours() {
    let Some(golden) = matrix() else { return };
    let ours: BTreeSet<&str> =
        extras::TESTS.iter().chain(names::TESTS).chain(networks::TESTS).chain(six::TESTS).copied().collect();
    let theirs = ["vip_extra", "mesos_dns", "overlay"].map(|part| texts(&golden[part], "/test"));
    let missing: Vec<&str> = theirs.iter().flatten().copied().filter(|test| !ours.contains(test)).collect();
    assert!(missing.is_empty(), "{missing:?}");

    let fields = ["container", "network", "autoip", "agentip", "containerip"];
    let row = |row: &Value| fields.map(|field| row[field].as_str().unwrap().to_owned());
    let theirs: BTreeSet<_> = golden["service_discovery"].as_array().unwrap().iter().map(row).collect();
    assert_eq!(names::service_discovery().collect::<BTreeSet<_>>(), theirs);

    let theirs = &golden["admin_router"][0];
    let list = |key: &str| theirs[key].as_array().unwrap().clone();
    let theirs: BTreeSet<_> = list("networks")
        .iter()
        .flat_map(|net| {
            list("host_port").into_iter().map(move |port| (net.as_str().unwrap().to_owned(), port.as_u64().unwrap()))
        })
        .collect();
    assert_eq!(names::admin_router().map(|(net, port)| (net.to_owned(), port)).collect::<BTreeSet<_>>(), theirs);
}
