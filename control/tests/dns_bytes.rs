//! Whatever may be asked, and whatever an operator may write: the fuzz targets' own questions, asked of samples, and of what
//! is left when these are cut and broken.
#![allow(clippy::unwrap_used, clippy::panic, reason = "a test that cannot go on fails")]

use proptest::prelude::*;

#[path = "../../fuzz/src/dns.rs"]
#[allow(unreachable_pub, reason = "it is public in the crate of the fuzz targets")]
mod ask;

/// Queries behind an octet that says how much of an answer may be sent.
fn queries() -> Vec<Vec<u8>> {
    let names: [&[u8]; 8] = [
        b"\x03ns1\x04corp\0",
        b"\x03www\x05mesos\0",
        b"\x04loop\x04corp\0",
        b"\x04_sip\x04_udp\x05mesos\0",
        b"\x01q\x04wild\x04corp\0",
        b"\x04long\x04corp\0",
        b"\x02nx\x01b\x01c\x04corp\0",
        b"\x03org\0",
    ];
    let cookie = b"\0\0\x29\x10\0\0\0\0\0\0\x10\0\x0a\0\x08abcdefgh\0\x03\0\0";
    let mut all = Vec::new();
    for name in names {
        for rtype in [1, 5, 6, 16, 28, 33, 255] {
            for opt in [&[][..], b"\0\0\x29\x04\xd0\0\0\0\0\0\0", cookie] {
                let header = [0, 0, 9, 1, 0, 0, 1, 0, 0, 0, 0, 0, u8::from(!opt.is_empty())];
                all.push([&header[..], name, &[0, rtype, 0, 1], opt].concat());
            }
        }
    }
    all
}

#[test]
fn queries_cut_anywhere_are_answered_as_they_may_be() {
    for mut query in queries() {
        for limit in 0..4 {
            query[0] = limit;
            (0..=query.len()).step_by(5).for_each(|end| ask::query(&query[..end]));
            ask::query(&query);
        }
    }
}

#[test]
fn a_master_file_cut_anywhere_is_served_as_far_as_it_is_read() {
    let (zone, refused) = ask::zone("corp", ask::ZONE);
    assert_eq!((zone.records.len(), refused), (26, 1), "{zone:?}");
    let text = ask::ZONE.as_bytes();
    (0..text.len()).step_by(11).for_each(|end| ask::master_file(&text[..end]));
    ask::master_file(text);
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(128))]
    #[test]
    fn broken_queries_likewise(
        which in any::<prop::sample::Index>(),
        changes in prop::collection::vec((any::<prop::sample::Index>(), any::<u8>()), 1..5),
    ) {
        let mut query = which.get(&queries()).clone();
        for (at, octet) in changes {
            let at = at.index(query.len());
            query[at] = octet;
        }
        ask::query(&query);
    }

    #[test]
    fn broken_master_files_likewise(
        changes in prop::collection::vec((any::<prop::sample::Index>(), prop::sample::select(&b"@ \n\t().;\"\\$*0a\xff"[..])), 1..8),
        cut in any::<prop::sample::Index>(),
    ) {
        let mut text = ask::ZONE.as_bytes().to_vec();
        for (at, octet) in changes {
            let at = at.index(text.len());
            text[at] = octet;
        }
        text.truncate(cut.index(text.len()) + 1);
        ask::master_file(&text);
    }
}
