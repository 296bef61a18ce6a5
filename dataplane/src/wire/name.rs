//! Domain names on the wire (RFC 1035 section 3.1): labels behind their lengths, ended by a zero octet.
//!
//! The packet path reads a name eight octets at a time: the first zero octet ends it, and a mask lower-cases it. That
//! a name so read is well formed is proven only by its being equal to a stored one; whoever finds no equal must
//! [`walk`] it.

use arrayvec::ArrayVec;

/// Longest name, length octets and the final zero included (RFC 1035 section 2.3.4).
pub const NAME_MAX: usize = 255;
/// Longest label.
pub const LABEL_MAX: usize = 63;
/// Most labels of a name, the root's excepted: each takes two octets or more.
pub const LABELS_MAX: usize = 127;

const ONES: u64 = 0x0101_0101_0101_0101;
const HIGH: u64 = 0x8080_8080_8080_8080;

/// Why a text is no domain name.
#[derive(Clone, Copy, PartialEq, Eq, Debug, thiserror::Error)]
pub enum BadName {
    /// The text is empty: the root itself is never served.
    #[error("it is empty")]
    Empty,
    /// Two dots in a row, or one at an end.
    #[error("it has an empty label; write one dot between labels and none at the ends")]
    EmptyLabel,
    /// A label above 63 octets.
    #[error("a label has {0} octets; 63 are the most (RFC 1035 section 2.3.4)")]
    LongLabel(usize),
    /// More than 255 octets on the wire.
    #[error("it has {0} octets on the wire; 255 are the most (RFC 1035 section 2.3.4)")]
    LongName(usize),
    /// A zero octet, which ends names here.
    #[error("it holds a zero octet")]
    Zero,
}

/// The wire form of an absolute name written without its final dot, ASCII letters lower-cased; octets are taken as
/// they are, without escapes.
///
/// # Errors
/// When it is not a name that can be served.
pub fn from_text(text: &str) -> Result<Vec<u8>, BadName> {
    if text.is_empty() {
        return Err(BadName::Empty);
    }
    let octets = text.len() + 2;
    if octets > NAME_MAX {
        return Err(BadName::LongName(octets));
    }
    let mut wire = Vec::with_capacity(octets);
    for label in text.split('.') {
        match label.len() {
            0 => return Err(BadName::EmptyLabel),
            1..=LABEL_MAX => {}
            long => return Err(BadName::LongLabel(long)),
        }
        if label.contains('\0') {
            return Err(BadName::Zero);
        }
        wire.push(label.len() as u8);
        wire.extend(label.bytes().map(|octet| octet.to_ascii_lowercase()));
    }
    wire.push(0);
    Ok(wire)
}

/// The text of a wire name, with the final dot; dots, backslashes and unprintable octets inside labels are escaped
/// (RFC 1035 section 5.1).
#[must_use]
pub fn to_text(wire: &[u8]) -> String {
    let mut text = String::new();
    for label in labels(wire) {
        for octet in label {
            match octet {
                b'.' | b'\\' => text.extend(['\\', char::from(*octet)]),
                b'!'..=b'~' => text.push(char::from(*octet)),
                _ => text.push_str(&format!("\\{octet:03}")),
            }
        }
        text.push('.');
    }
    if text.is_empty() { ".".to_owned() } else { text }
}

/// Labels of a well-formed wire name, without the root's.
fn labels(wire: &[u8]) -> impl Iterator<Item = &[u8]> {
    let mut rest = wire;
    std::iter::from_fn(move || {
        let (len, after) = rest.split_first()?;
        let label = after.get(..usize::from(*len)).filter(|l| !l.is_empty())?;
        rest = &after[label.len()..];
        Some(label)
    })
}

/// Octets of the name that `bytes` begins with, its zero included; `None` unless it is well formed and uncompressed.
#[must_use]
pub fn walk(bytes: &[u8]) -> Option<usize> {
    let mut at = 0;
    // Every label takes two octets or more, so the bound ends this.
    while at < NAME_MAX {
        match usize::from(*bytes.get(at)?) {
            0 => return Some(at + 1),
            len @ 1..=LABEL_MAX => at += 1 + len,
            _ => return None,
        }
    }
    None
}

/// Offsets of the labels of a name that [`walk`] accepted.
#[must_use]
pub fn label_offsets(wire: &[u8]) -> ArrayVec<u8, LABELS_MAX> {
    let mut offsets = ArrayVec::new();
    let mut at = 0usize;
    for label in labels(wire) {
        if offsets.try_push(at as u8).is_err() {
            break;
        }
        at += 1 + label.len();
    }
    offsets
}

/// Octets in which a name is read: the longest, in whole words.
pub const WINDOW: usize = NAME_MAX.next_multiple_of(8);

/// The octets that a name is read in; zeros behind the end of `bytes`, if it is so near.
#[must_use]
pub fn window(bytes: &[u8]) -> [u8; WINDOW] {
    let mut window = [0; WINDOW];
    window.iter_mut().zip(bytes).for_each(|(to, from)| *to = *from);
    window
}

/// Octets up to and with the first zero, where a well-formed name ends, and the words that they are, the last of which
/// `each` sees with zeros behind the name; `None` if there is no zero.
#[inline(always)]
pub fn read(window: &[u8; WINDOW], mut each: impl FnMut(u64)) -> Option<usize> {
    let mut at = 0;
    for word in window.as_chunks::<8>().0 {
        let word = u64::from_le_bytes(*word);
        let zeros = word.wrapping_sub(ONES) & !word & HIGH;
        if zeros != 0 {
            // The lowest bit set is that of the first zero, whatever follows.
            let bits = zeros.trailing_zeros() + 1;
            each(word & (u64::MAX >> (64 - bits)));
            return Some(at + bits as usize / 8);
        }
        each(word);
        at += 8;
    }
    None
}

/// The octets of a name of which it is known how long it is, as [`read`] shows them.
#[inline]
pub fn words(wire: &[u8]) -> impl Iterator<Item = u64> + '_ {
    (0..wire.len()).step_by(8).map(move |at| word_at(wire, at))
}

/// Whether a name is `lowered`, in whichever case.
#[must_use]
#[inline(always)]
pub fn is(name: &[u8], lowered: &[u8]) -> bool {
    let (Some(last), Some(lowered_last)) = (name.last_chunk::<8>(), lowered.last_chunk::<8>()) else {
        return is_slowly(name, lowered);
    };
    let differ = |one: &[u8; 8], other: &[u8; 8]| u64::from_le_bytes(*one) ^ u64::from_le_bytes(*other);
    // The last eight octets, of which the words before may have told some.
    let words = name.as_chunks().0.iter().zip(lowered.as_chunks().0);
    let different = words.fold(differ(last, lowered_last), |so_far, (one, other)| so_far | differ(one, other));
    match different {
        0 => name.len() == lowered.len(),
        case if case & !(ONES * 0x20) == 0 => is_slowly(name, lowered),
        _ => false,
    }
}

/// The same, octet for octet.
#[inline(never)]
fn is_slowly(name: &[u8], lowered: &[u8]) -> bool {
    name.eq_ignore_ascii_case(lowered)
}

/// Eight octets from `at`, zeros past the end.
#[inline(always)]
fn word_at(bytes: &[u8], at: usize) -> u64 {
    let rest = bytes.get(at..).unwrap_or_default();
    match rest.first_chunk::<8>() {
        Some(eight) => u64::from_le_bytes(*eight),
        None => rest.iter().rev().fold(0, |word, octet| word << 8 | u64::from(*octet)),
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    #[test]
    fn text_that_is_no_name_is_refused_with_its_reason() {
        assert_eq!(from_text(""), Err(BadName::Empty));
        assert_eq!(from_text("a..b"), Err(BadName::EmptyLabel));
        assert_eq!(from_text("a."), Err(BadName::EmptyLabel));
        assert_eq!(from_text(&"x".repeat(64)), Err(BadName::LongLabel(64)));
        assert_eq!(from_text(&["x"; 128].join(".")), Err(BadName::LongName(257)));
        assert_eq!(from_text("a\0b"), Err(BadName::Zero));
        assert_eq!(from_text(&["x"; 127].join(".")).unwrap().len(), NAME_MAX);
    }

    #[test]
    fn unprintable_octets_are_escaped() {
        assert_eq!(to_text(b"\x04a.\\\x07\x01b\0"), "a\\.\\\\\\007.b.");
        assert_eq!(to_text(&[0]), ".");
    }

    #[test]
    fn names_that_a_question_cannot_hold_are_not_walked() {
        for bad in [&b""[..], b"\x01", b"\x01a", b"\xc0\x0c", b"\x40a\0", b"\x80\0", b"\x41a\0", b"\x3fabc\0"] {
            assert_eq!(walk(bad), None, "{bad:?}");
        }
        let name = |labels| [[1, b'a'].repeat(labels), vec![0]].concat();
        assert_eq!(walk(&name(127)), Some(255));
        assert_eq!(walk(&name(128)), None);
    }

    proptest! {
        #[test]
        fn reading_by_words_is_reading_by_octets(bytes in prop::collection::vec(any::<u8>(), 0..300)) {
            let zero = bytes.iter().take(WINDOW).position(|o| *o == 0).map(|at| at + 1);
            let mut seen = Vec::new();
            let len = read(&window(&bytes), |word| seen.extend(word.to_le_bytes()));
            prop_assert_eq!(len, zero.or_else(|| (bytes.len() < WINDOW).then_some(bytes.len() + 1)));
            let mut expected = bytes.clone();
            expected.truncate(len.unwrap_or(WINDOW));
            expected.resize(len.unwrap_or(WINDOW).next_multiple_of(8), 0);
            prop_assert_eq!(&seen, &expected);
            if let Some(name) = zero.and_then(|len| bytes.get(..len)) {
                let again: Vec<u8> = words(name).flat_map(u64::to_le_bytes).collect();
                prop_assert_eq!(seen, again);
            }
        }

        #[test]
        fn a_name_is_itself_in_either_case_and_nothing_else(
            name in prop::collection::vec(prop::sample::select(&b"abz@[_-09\x01\x02`{\xc1\xe1"[..]), 0..40),
            upper in any::<u64>(), behind in prop::collection::vec(any::<u8>(), 0..2),
            change in prop::option::of((any::<prop::sample::Index>(), any::<u8>())),
        ) {
            let lowered = name.to_ascii_lowercase();
            let mut asked = name.clone();
            for (at, octet) in asked.iter_mut().enumerate() {
                if upper >> (at % 64) & 1 == 1 {
                    octet.make_ascii_uppercase();
                }
            }
            if let Some((at, octet)) = change.filter(|_| !asked.is_empty()) {
                let at = at.index(asked.len());
                asked[at] ^= octet;
            }
            asked.extend(behind);
            let same = asked.eq_ignore_ascii_case(&name);
            prop_assert_eq!(is(&asked, &lowered), same);
        }

        #[test]
        fn text_and_wire_are_two_forms_of_one_name(text in "[a-z0-9_-]{1,20}(\\.[a-z0-9_-]{1,20}){0,6}") {
            let wire = from_text(&text).unwrap();
            prop_assert_eq!(walk(&wire), Some(wire.len()));
            prop_assert_eq!(label_offsets(&wire).len(), text.split('.').count());
            prop_assert_eq!(to_text(&wire), format!("{text}."));
        }
    }
}
