//! Names as Mesos-DNS makes them (facts/dcos.md A.2), checked against what the original gave for 857 texts.
//!
//! Pure text functions; the result is lower case and of `[a-z0-9-]` and dots only. An empty result means that nothing
//! of the text may stand in a name.

use sha1::{Digest as _, Sha1};

/// Longest DNS label, octets (RFC 1035 section 2.3.4).
pub const LABEL_OCTETS: usize = 63;
/// Longest name in text without the final dot, octets (RFC 1035 section 2.3.4 less length octets and root).
pub const NAME_OCTETS: usize = 253;

/// Which label rule holds (`dns.enforce_rfc952`).
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum LabelRule {
    /// 63 characters, no hyphen first.
    Rfc1123,
    /// 24 characters, a letter first.
    Rfc952,
}

impl LabelRule {
    fn max(self) -> usize {
        match self {
            Self::Rfc1123 => LABEL_OCTETS,
            Self::Rfc952 => 24,
        }
    }

    fn may_not_begin(self, c: char) -> bool {
        match self {
            Self::Rfc1123 => c == '-',
            Self::Rfc952 => c == '-' || c.is_ascii_digit(),
        }
    }
}

/// The whole text as one label: dots and underscores become hyphens, what cannot stand in a label is dropped.
#[must_use]
pub fn label(text: &str, rule: LabelRule) -> String {
    let mapped: String = text.chars().filter_map(in_label).collect();
    let begun = mapped.trim_start_matches(|c| rule.may_not_begin(c));
    let (head, rest) = begun.split_at(begun.len().min(rule.max()));
    let mut out = head.trim_end_matches('-').to_owned();
    if out.len() < head.len() {
        // The original fills the room of stripped hyphens from what it had cut off, and does not look at its end again.
        let room = rule.max() - out.len();
        out.extend(rest.trim_start_matches('-').chars().take(room));
    }
    out
}

fn in_label(c: char) -> Option<char> {
    match c {
        'A'..='Z' => Some(c.to_ascii_lowercase()),
        'a'..='z' | '0'..='9' => Some(c),
        '-' | '.' | '_' => Some('-'),
        _ => None,
    }
}

/// The text as a dotted name: each part a label, empty parts dropped.
#[must_use]
pub fn fragment(text: &str, rule: LabelRule) -> String {
    let parts: Vec<String> = text.split('.').map(|part| label(part, rule)).filter(|l| !l.is_empty()).collect();
    parts.join(".")
}

/// The five characters that set a task's name apart: zbase32 of the SHA-1 of its id, cut.
#[must_use]
pub fn hash5(task_id: &str) -> String {
    const ALPHABET: &[u8; 32] = b"ybndrfg8ejkmcpqxot1uwisza345h769";
    let digest = Sha1::digest(task_id.as_bytes());
    let bits = digest.iter().take(4).fold(0u32, |bits, octet| bits << 8 | u32::from(*octet));
    (0..5).map(|i| ALPHABET[(bits >> (27 - 5 * i) & 31) as usize] as char).collect()
}

/// The last part of an agent id: `...-S3` gives `s3`.
#[must_use]
pub fn slave_tail(slave_id: &str) -> String {
    slave_id.rsplit('-').next().unwrap_or_default().to_lowercase()
}

/// `name-hash5-tail`, with the name shortened where the original would make a label that no answer can carry.
#[must_use]
pub fn canonical(name: &str, task_id: &str, slave_id: &str) -> String {
    let tail = label(&slave_tail(slave_id), LabelRule::Rfc1123);
    let suffix = format!("-{}-{}", hash5(task_id), tail.get(..32).unwrap_or(&tail));
    let last = name.rfind('.').map_or(0, |dot| dot + 1);
    let room = LABEL_OCTETS.saturating_sub(suffix.len());
    let end = name.len().min(last + room);
    format!("{}{suffix}", name.get(..end).unwrap_or(name))
}

/// An app or pod path as a name: `/group/app` gives `app.group`.
#[must_use]
pub fn reversed_path(id: &str) -> String {
    let mut parts: Vec<&str> = id.split('/').filter(|part| !part.is_empty()).collect();
    parts.reverse();
    parts.join(".")
}

/// Whether a lower-case name can stand in a zone: labels of 1 to 63 octets, 253 in all.
#[must_use]
pub fn is_servable(name: &str) -> bool {
    name.len() <= NAME_OCTETS && name.split('.').all(|l| (1..=LABEL_OCTETS).contains(&l.len()))
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::fixture::golden;

    #[test]
    fn every_recorded_label_fragment_and_hash_comes_out_alike() {
        let Some(vectors) = golden("mesos-dns/label-vectors.json") else { return };
        let vectors = vectors.as_array().unwrap();
        assert!(vectors.len() > 200);
        for v in vectors {
            let text = v["in"].as_str().unwrap();
            assert_eq!(label(text, LabelRule::Rfc1123), v["rfc1123"].as_str().unwrap(), "{text:?}");
            assert_eq!(label(text, LabelRule::Rfc952), v["rfc952"].as_str().unwrap(), "{text:?}");
            assert_eq!(fragment(text, LabelRule::Rfc1123), v["frag1123"].as_str().unwrap(), "{text:?}");
            assert_eq!(fragment(text, LabelRule::Rfc952), v["frag952"].as_str().unwrap(), "{text:?}");
            assert_eq!(hash5(text), v["hash5"].as_str().unwrap(), "{text:?}");
        }
    }

    #[test]
    fn a_path_becomes_a_name_from_the_inside_out() {
        assert_eq!(reversed_path("/group/app"), "app.group");
        assert_eq!(reversed_path("minitwit"), "minitwit");
        assert_eq!(reversed_path("/"), "");
    }

    #[test]
    fn a_canonical_name_never_has_a_label_that_no_answer_can_carry() {
        assert!(canonical("web", "web.1", "x-S3").starts_with("web-"));
        assert!(canonical("web", "web.1", "x-S3").ends_with("-s3"));
        assert!(is_servable(&canonical(&"n".repeat(63), "t", "x-S12")));
        assert!(is_servable(&canonical(&"n".repeat(63), "t", &"9".repeat(500))));
    }
}
