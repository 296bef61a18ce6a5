//! What must hold of any bytes that a Mesos master may send. Run by the fuzz targets, and over samples and their mutations by
//! `control/tests/mesos_bytes.rs`.

use std::mem::discriminant;
use std::sync::Arc;

use sluice_control::mesos::facts::Facts;
use sluice_control::mesos::files;
use sluice_control::mesos::recordio::Decoder;
use sluice_control::mesos::state;
use sluice_control::view::{ClusterView, Event};

/// Longest record, octets.
const LIMIT: usize = 4096;

/// A stream means the same however it is cut, holds no record that is too long, and nothing that was not sent.
pub fn recordio(bytes: &[u8]) {
    let (first, rest) = bytes.split_first().map_or((1, bytes), |(first, rest)| (usize::from(*first).max(1), rest));
    let mut whole = Decoder::new(LIMIT);
    let at_once = whole.feed(rest);
    let mut cut = Decoder::new(LIMIT);
    let mut records = Vec::new();
    let mut failed = None;
    for part in rest.chunks(first) {
        match cut.feed(part) {
            Ok(found) => records.extend(found),
            Err(error) => {
                failed = Some(error);
                break;
            }
        }
    }
    assert!(records.iter().all(|record| record.len() <= LIMIT));
    assert!(records.iter().map(Vec::len).sum::<usize>() <= rest.len());
    match (at_once, failed) {
        (Ok(expected), None) => {
            assert_eq!(records, expected);
            assert_eq!(whole.is_between_records(), cut.is_between_records());
        }
        // How much of what is no length is shown depends on the cut.
        (Err(expected), Some(error)) => assert_eq!(discriminant(&error), discriminant(&expected)),
        (at_once, failed) => panic!("{at_once:?} at once, {failed:?} in parts"),
    }
}

/// A state is read or refused, alike each time.
pub fn state(bytes: &[u8]) {
    if let Ok(facts) = state::read(bytes) {
        assert_eq!(Some(&facts), state::read(bytes).ok().as_ref());
        sound(facts);
    }
}

/// So is whatever the operator API says.
pub fn operator(bytes: &[u8]) {
    if let Ok(facts) = files::read(bytes) {
        sound(facts);
    }
}

/// What was read is bounded, and good for everything that is made of it.
fn sound(facts: Facts) {
    assert!(facts.rejected.len() <= 10_000);
    assert!(facts.rejected.iter().all(|r| r.value.chars().count() < 4096));
    assert!(facts.tasks.iter().all(|t| t.id.len() <= 1024 && t.name.len() <= 4096 && !t.id.is_empty()));
    for task in &facts.tasks {
        assert!(task.ips().len() <= 4096 * 4096 && task.discovery_name().len() <= 4096);
    }
    drop(facts.host_names());
    let mut view = ClusterView::default();
    view.apply(Event::Mesos { facts: Arc::new(facts), streaming: true });
    let once = view.clone();
    let again = Event::Mesos { facts: view.mesos.clone().unwrap_or_default(), streaming: true };
    view.apply(again);
    assert_eq!(view, once, "saying it again changes nothing");
}
