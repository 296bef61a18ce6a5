//! The recorded vectors of NAT and ICMP, where they are there. They are read in place and never copied.

use std::path::{Path, PathBuf};

use serde_json::Value;

/// Frame in and frame out of the vector `name`; `None`, with a sentence, where the file is absent.
pub(crate) fn vector(name: &str) -> Option<(Vec<u8>, Vec<u8>)> {
    let [beside, worktree] =
        ["../../shared/golden", "../../../shared/golden"].map(|up| Path::new(env!("CARGO_MANIFEST_DIR")).join(up));
    let beside = if beside.exists() { beside } else { worktree };
    let file = std::env::var_os("SLUICE_GOLDEN").map_or(beside, PathBuf::from).join("nat-icmp-fragments.json");
    let Ok(text) = std::fs::read(&file) else {
        println!("skipped: {} is not there", file.display());
        return None;
    };
    let vectors: Vec<Value> = serde_json::from_slice(&text).unwrap();
    let vector = vectors.iter().find(|v| v["name"] == name).unwrap();
    let frame = |key: &str| base64(vector[key].as_str().unwrap_or_default());
    Some((frame("in_b64"), frame("expected_b64")))
}

/// RFC 4648 section 4.
fn base64(text: &str) -> Vec<u8> {
    let alphabet = |octet: u8| match octet {
        b'A'..=b'Z' => u32::from(octet - b'A'),
        b'a'..=b'z' => u32::from(octet - b'a') + 26,
        b'0'..=b'9' => u32::from(octet - b'0') + 52,
        b'+' => 62,
        _ => 63,
    };
    let digits: Vec<_> = text.bytes().filter(|octet| *octet != b'=').map(alphabet).collect();
    let quad = |digits: &[u32]| {
        let bits = digits.iter().enumerate().fold(0, |bits, (place, digit)| bits | digit << (26 - 6 * place));
        bits.to_be_bytes().into_iter().take(digits.len() * 3 / 4).collect::<Vec<_>>()
    };
    digits.chunks(4).flat_map(quad).collect()
}

#[test]
fn recorded_tcp_packets_are_translated_to_the_octet() {
    use super::{End, ip4};
    let end = |ip: [u8; 4], port| End { ip: u32::from_be_bytes(ip), port };
    let client = end([110, 0, 11, 1], 22330);
    let (vip, backend) = (end([172, 16, 10, 1], 80), end([192, 168, 0, 1], 22331));
    // The reply was recorded where replies are not forwarded, so its TTL stayed.
    for (name, source, destination, forwarded) in
        [("nat_reply_revdnat", vip, client, false), ("dnat_forward_syn", client, backend, true)]
    {
        let Some((frame, expected)) = vector(name) else { return };
        let (mut ip, mut expected) = (frame[super::ETHERNET..].to_vec(), expected[super::ETHERNET..].to_vec());
        if !forwarded {
            ip4::decrement_ttl(&mut expected);
        }
        ip4::translate(&mut ip, ip4::HEADER, ip4::TCP, source, destination);
        assert_eq!(ip, expected, "{name}");
    }
}
