//! Whatever a Mesos master may send: the fuzz targets' own questions, asked of samples, of the recorded files where they are
//! there, and of what is left when these are cut, doubled and broken.
#![allow(clippy::unwrap_used, clippy::panic, reason = "a test that cannot go on fails")]

use std::path::{Path, PathBuf};

use proptest::prelude::*;

#[path = "../../fuzz/src/mesos.rs"]
#[allow(unreachable_pub, reason = "it is public in the crate of the fuzz targets")]
mod ask;

/// One of everything that is read, and hostile on purpose.
const STATE: &str = include_str!("data/mesos-state.json");
const EVENTS: &str = include_str!("data/mesos-events.jsonl");

fn all(bytes: &[u8]) {
    ask::recordio(bytes);
    ask::state(bytes);
    ask::operator(bytes);
}

#[test]
fn the_samples_are_read_and_cut_anywhere_they_are_read_or_refused() {
    assert!(!sluice_control::mesos::state::read(STATE.as_bytes()).unwrap().tasks.is_empty());
    assert!(!sluice_control::mesos::files::read(EVENTS.as_bytes()).unwrap().tasks.is_empty());
    for sample in [STATE, EVENTS] {
        (0..sample.len()).step_by(7).for_each(|end| all(&sample.as_bytes()[..end]));
        all(sample.as_bytes());
    }
}

#[test]
fn the_recorded_files_are_read() {
    let folder = Path::new(env!("CARGO_MANIFEST_DIR")).join("../../shared");
    let folder = std::env::var_os("SLUICE_GOLDEN").map_or_else(|| folder.join("golden"), PathBuf::from);
    let mut read = 0;
    for part in ["mesos-dns", "mesos-operator-api/in", "../samples"] {
        let entries = std::fs::read_dir(folder.join(part));
        let wanted = |name: &str| part != "../samples" || name.starts_with("mesos");
        for entry in entries.into_iter().flatten().flatten().filter(|e| wanted(&e.file_name().to_string_lossy())) {
            all(&std::fs::read(entry.path()).unwrap());
            read += 1;
        }
    }
    if read == 0 {
        println!("skipped: {} is not there", folder.display());
    }
}

/// Breaks a text at one place.
#[derive(Clone, Debug)]
enum Break {
    Cut(usize, usize),
    Put(usize, u8),
    Twice(usize, usize),
    Null(usize),
    Swap(usize),
}

fn breaks() -> impl Strategy<Value = Vec<Break>> {
    let at = 0..8192_usize;
    let one = prop_oneof![
        (at.clone(), 1..64_usize).prop_map(|(at, n)| Break::Cut(at, n)),
        (at.clone(), any::<u8>()).prop_map(|(at, b)| Break::Put(at, b)),
        (at.clone(), 1..512_usize).prop_map(|(at, n)| Break::Twice(at, n)),
        at.clone().prop_map(Break::Null),
        at.prop_map(Break::Swap),
    ];
    proptest::collection::vec(one, 1..6)
}

/// Values that fields may have instead of their own: `Null` puts null, `Swap` a value of another kind.
fn broken(sample: &str, breaks: &[Break]) -> Vec<u8> {
    let mut bytes = sample.as_bytes().to_vec();
    for one in breaks {
        let length = bytes.len().max(1);
        let value_at = |at: usize, bytes: &[u8]| {
            let colon = bytes.iter().skip(at % length).position(|b| *b == b':').map(|n| at % length + n + 1)?;
            let end = bytes.iter().skip(colon).position(|b| matches!(b, b',' | b'}' | b']'))? + colon;
            Some(colon..end)
        };
        match *one {
            Break::Cut(at, n) => drop(bytes.drain(at % length..(at % length + n).min(bytes.len()))),
            Break::Put(at, byte) => bytes.insert(at % length, byte),
            Break::Twice(at, n) => {
                let part = bytes[at % length..(at % length + n).min(bytes.len())].to_vec();
                bytes.splice(at % length..at % length, part);
            }
            Break::Null(at) => drop(value_at(at, &bytes).map(|range| bytes.splice(range, *b"null").count())),
            Break::Swap(at) => drop(value_at(at, &bytes).map(|range| bytes.splice(range, *b"[{\"value\":7}]").count())),
        }
        if bytes.is_empty() {
            return bytes;
        }
    }
    bytes
}

proptest! {
    #[test]
    fn a_broken_sample_is_read_or_refused(breaks in breaks()) {
        all(&broken(STATE, &breaks));
        all(&broken(EVENTS, &breaks));
    }

    #[test]
    fn any_bytes_are_refused_or_read(bytes in proptest::collection::vec(any::<u8>(), 0..300)) {
        all(&bytes);
    }
}
