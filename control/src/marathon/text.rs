//! The text of an answer, whatever stands in it: what is no text becomes U+FFFD, so that it spoils nothing beside it.

use std::borrow::Cow;

/// `body` as text that a JSON parser takes: octets that are not UTF-8, and escapes that are half of a surrogate pair
/// (RFC 8259 section 8.2), are U+FFFD. Nothing is copied where there are none.
pub(crate) fn readable(body: &[u8]) -> Cow<'_, str> {
    match String::from_utf8_lossy(body) {
        Cow::Borrowed(text) => without_halves(text),
        Cow::Owned(text) => match without_halves(&text) {
            Cow::Borrowed(_) => Cow::Owned(text),
            Cow::Owned(mended) => Cow::Owned(mended),
        },
    }
}

fn without_halves(text: &str) -> Cow<'_, str> {
    const ESCAPE: usize = "\\ud800".len();
    let mut mended = String::new();
    let (mut copied, mut at) = (0, 0);
    while let Some(found) = text.get(at..).and_then(|rest| rest.find('\\')) {
        at += found;
        match (unit(text, at), unit(text, at + ESCAPE)) {
            (Some(0xd800..=0xdbff), Some(0xdc00..=0xdfff)) => at += 2 * ESCAPE,
            (Some(0xd800..=0xdfff), _) => {
                mended.push_str(text.get(copied..at).unwrap_or_default());
                mended.push('\u{fffd}');
                at += ESCAPE;
                copied = at;
            }
            (Some(_), _) => at += ESCAPE,
            // The escaped character may itself be a backslash.
            (None, _) => at += 1 + text.get(at + 1..).and_then(|t| t.chars().next()).map_or(0, char::len_utf8),
        }
    }
    if copied == 0 {
        return Cow::Borrowed(text);
    }
    mended.push_str(text.get(copied..).unwrap_or_default());
    Cow::Owned(mended)
}

/// The UTF-16 code unit of the escape at `at`, if one is there.
fn unit(text: &str, at: usize) -> Option<u32> {
    let digits = text.get(at..at + 6)?.strip_prefix("\\u")?;
    digits.bytes().all(|b| b.is_ascii_hexdigit()).then(|| u32::from_str_radix(digits, 16).ok()).flatten()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn halves_of_surrogate_pairs_and_stray_octets_become_the_replacement_character() {
        for (body, expected) in [
            (&br#""\ud800""#[..], "\"\u{fffd}\""),
            (br#""a\udc00b\uD83D""#, "\"a\u{fffd}b\u{fffd}\""),
            (br#""\ud83d\ude00\ud83dx""#, "\"\\ud83d\\ude00\u{fffd}x\""),
            (br#""\ud83d\ud83d\ude00""#, "\"\u{fffd}\\ud83d\\ude00\""),
            (br#""\\ud800 \u00e9""#, "\"\\\\ud800 \\u00e9\""),
            (b"\"\xff\\ud800\"", "\"\u{fffd}\u{fffd}\""),
            (b"\\", "\\"),
            ("\\é\\ud800".as_bytes(), "\\é\u{fffd}"),
            (b"\\ud80", "\\ud80"),
            (b"", ""),
        ] {
            assert_eq!(readable(body), expected, "{}", body.escape_ascii());
        }
        assert!(matches!(readable(br#"{"a":"\n\ud83d\ude00"}"#), Cow::Borrowed(_)));
    }
}
