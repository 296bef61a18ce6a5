//! Single values: text -> MAC, number, choice (addresses are `address.rs`'s). Each takes its key's name for the sentence, reports
//! what is wrong, and gives `None` (or the default) so that the rest of the file is checked too.

use std::ops::{Range, RangeInclusive};

use toml::Spanned;

use crate::diagnostic::Findings;
use crate::file::{List, Value};
use crate::model::Mac;
use crate::words::{nearest, short};

/// The value of a key that must be given.
pub(super) fn required<'a, T>(
    section: &str,
    key: &str,
    value: &'a Value<T>,
    at: &Range<usize>,
    example: &str,
    found: &mut Findings<'_>,
) -> Option<&'a Spanned<T>> {
    if value.is_none() && found.is_complete(at) {
        found.error(at, format!("`{key}` is missing from {section}"), format!("add `{key} = {example}`"));
    }
    value.as_ref()
}

/// Elements of a list that may be absent.
pub(super) fn each<T>(list: &List<T>) -> &[Spanned<T>] {
    list.as_ref().map_or(&[], |list| list.get_ref())
}

/// Where a key's value stands, or else the table that it could stand in.
pub(super) fn place<T>(value: &Value<T>, table: &Range<usize>) -> Range<usize> {
    value.as_ref().map_or_else(|| table.clone(), Spanned::span)
}

pub(super) fn text(value: &Value<String>, default: &str) -> String {
    value.as_ref().map_or_else(|| default.to_owned(), |v| v.get_ref().clone())
}

pub(super) fn flag(value: &Value<bool>, default: bool) -> bool {
    value.as_ref().map_or(default, |v| *v.get_ref())
}

/// A string that may be absent but not empty.
pub(super) fn filled(key: &str, value: &Value<String>, example: &str, found: &mut Findings<'_>) -> Option<String> {
    let value = value.as_ref()?;
    if value.get_ref().is_empty() {
        found.error(&value.span(), format!("`{key}` is empty"), format!("write {example}"));
    }
    Some(value.get_ref().clone())
}

/// An integer within bounds.
pub(super) fn number<T: TryFrom<i64>>(
    key: &str,
    value: &Value<i64>,
    default: T,
    bounds: RangeInclusive<i64>,
    found: &mut Findings<'_>,
) -> T {
    let Some(value) = value else { return default };
    within(key, value, bounds, found).unwrap_or(default)
}

/// As [`number`], of a value that is there.
pub(super) fn within<T: TryFrom<i64>>(
    key: &str,
    value: &Spanned<i64>,
    bounds: RangeInclusive<i64>,
    found: &mut Findings<'_>,
) -> Option<T> {
    let given = *value.get_ref();
    let fits = if bounds.contains(&given) { T::try_from(given).ok() } else { None };
    if fits.is_none() {
        let (least, most) = bounds.into_inner();
        let side = if given < least { "too small" } else { "too large" };
        found.error(&value.span(), format!("`{key}` is {given}, {side}"), format!("write {least} to {most}"));
    }
    fits
}

/// One of a few words.
pub(super) fn choice<T: Copy>(
    key: &str,
    value: &Value<String>,
    default: T,
    words: &[(&str, T)],
    found: &mut Findings<'_>,
) -> T {
    let Some(value) = value else { return default };
    one_of(key, value, words, found).unwrap_or(default)
}

/// As [`choice`], of a value that is there.
pub(super) fn one_of<T: Copy>(
    key: &str,
    value: &Spanned<String>,
    words: &[(&str, T)],
    found: &mut Findings<'_>,
) -> Option<T> {
    let given = value.get_ref().as_str();
    let meant = words.iter().find(|(word, _)| *word == given).map(|(_, meant)| *meant);
    if meant.is_none() {
        let all: Vec<_> = words.iter().map(|(word, _)| format!("\"{word}\"")).collect();
        let remedy = nearest(given, words.iter().map(|(word, _)| *word))
            .map_or_else(|| format!("write {}", all.join(" or ")), |near| format!("did you mean \"{near}\"?"));
        found.error(&value.span(), format!("`{key}` is \"{}\"", short(given)), remedy);
    }
    meant
}

/// A MAC that one interface can have.
pub(super) fn mac(key: &str, value: &Spanned<String>, found: &mut Findings<'_>) -> Option<Mac> {
    let given = value.get_ref();
    let Ok(mac) = given.parse::<Mac>() else {
        found.error(
            &value.span(),
            format!("`{key}` has \"{}\", which is not a MAC address", short(given)),
            "write six octets like \"02:00:00:00:00:01\"",
        );
        return None;
    };
    if mac.is_group() || mac == Mac::default() {
        let kind = if mac.is_group() { "a group address" } else { "no address" };
        found.error(
            &value.span(),
            format!("`{key}` has {mac}, {kind}"),
            "write the MAC of one interface, for example \"02:00:00:00:00:01\"",
        );
        return None;
    }
    Some(mac)
}
