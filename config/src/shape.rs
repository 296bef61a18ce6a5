//! The shape of the file: syntax, unknown keys, types. What is wrong is reported and taken
//! away, so that serde, which stops at the first mistake, meets none.

use std::ops::Range;

use serde::Deserialize;
use toml::Spanned;
use toml::de::{DeTable, DeValue, Deserializer};

use crate::diagnostic::Findings;
use crate::file::File;
use crate::schema::{self, Key, Kind, Section};
use crate::twice;
use crate::words::{nearest, short};

/// The longest array. Bounds the work of the checks that compare elements.
const LONGEST: usize = 65_536;

/// Keys written twice whose first place is looked for.
const MOST_LOOKED_FOR: usize = 10;

/// What the text says. `None` after a syntax error: what follows one cannot be trusted.
pub(crate) fn read(found: &mut Findings<'_>) -> Option<File> {
    let source = found.source;
    let (mut table, errors) = DeTable::parse_recoverable(source.text());
    if !errors.is_empty() {
        syntax(&errors, found);
        return None;
    }
    let span = table.span();
    prune(table.get_mut(), &span, &schema::ROOT, found);
    match File::deserialize(Deserializer::from(table)) {
        Ok(file) => Some(file),
        Err(error) => {
            found.error(
                &error.span().unwrap_or_default(),
                error.message(),
                "write it as the reference in config/README.md has it",
            );
            None
        }
    }
}

/// One error a line: what follows on the same line is its echo.
fn syntax(errors: &[toml::de::Error], found: &mut Findings<'_>) {
    let mut last = 0;
    let mut looked_for = 0;
    for error in errors {
        let span = error.span().unwrap_or_else(|| found.source.text().len()..found.source.text().len());
        let line = found.source.line(span.start);
        if line != last {
            let (sentence, remedy) = match error.message() {
                // Each look for the first one reads the text up to the second anew: no more of it than is read by people.
                twice::DUPLICATE if looked_for < MOST_LOOKED_FOR => {
                    looked_for += 1;
                    twice::said(found.source, &span)
                }
                other => (format!("not TOML: {other}"), "see https://toml.io for the syntax".to_owned()),
            };
            found.error(&span, sentence, remedy);
        }
        last = line;
    }
}

fn prune(table: &mut DeTable<'_>, at: &Range<usize>, section: &Section, found: &mut Findings<'_>) {
    for (name, mut value) in std::mem::take(table) {
        match section.key(name.get_ref()) {
            Some(key) if fits(key, section, &mut value, found) => {
                table.insert(name, value);
            }
            Some(_) => found.took_from(at),
            None => {
                unknown(name.get_ref(), &name.span(), section, found);
                found.took_from(at);
            }
        }
    }
}

fn unknown(name: &str, span: &Range<usize>, section: &Section, found: &mut Findings<'_>) {
    if found.is_full() {
        return found.error(span, "unknown", "");
    }
    let names = || section.keys.iter().map(|key| key.name);
    let elsewhere = schema::SECTIONS.iter().find(|other| other.key(name).is_some());
    let remedy = match (nearest(name, names()), elsewhere) {
        (Some(near), _) => format!("did you mean `{near}`?"),
        (None, Some(other)) => format!("it belongs to {}", other.header()),
        (None, None) => format!("known here: {}", names().collect::<Vec<_>>().join(", ")),
    };
    let place = if section.path.is_empty() { "the top level".to_owned() } else { section.header() };
    found.error(span, format!("`{}` is not a key of {place}", short(name)), remedy);
}

fn quoted(name: &str) -> String {
    format!("`{name}`")
}

/// Whether the value has the type of its key; sections are pruned on the way.
fn fits(key: &Key, section: &Section, value: &mut Spanned<DeValue<'_>>, found: &mut Findings<'_>) -> bool {
    match key.kind {
        Kind::Section => {
            schema::section(&section.child(key.name)).is_some_and(|child| fits_section(child, value, found))
        }
        Kind::Texts => fits_list(key, Kind::Text, value, found),
        Kind::Integers => fits_list(key, Kind::Integer, value, found),
        Kind::Map => fits_map(key, value, found),
        Kind::Lists => fits_lists(key, value, found),
        kind @ (Kind::Text | Kind::Integer | Kind::Boolean) => fits_one(&quoted(key.name), kind, value, found),
    }
}

fn fits_one(name: &str, kind: Kind, value: &Spanned<DeValue<'_>>, found: &mut Findings<'_>) -> bool {
    let right = match value.get_ref() {
        DeValue::String(_) => kind == Kind::Text,
        DeValue::Boolean(_) => kind == Kind::Boolean,
        DeValue::Integer(number) if kind == Kind::Integer => {
            let small = i64::from_str_radix(number.as_str(), number.radix()).is_ok();
            if !small {
                found.error(&value.span(), format!("{name} is too large a number"), "write a smaller one");
                return false;
            }
            true
        }
        DeValue::Integer(_) | DeValue::Float(_) | DeValue::Datetime(_) | DeValue::Array(_) | DeValue::Table(_) => false,
    };
    if !right {
        wrong_type(name, kind, value, found);
    }
    right
}

fn wrong_type(name: &str, kind: Kind, value: &Spanned<DeValue<'_>>, found: &mut Findings<'_>) {
    let given = match value.get_ref() {
        DeValue::String(_) => "a string",
        DeValue::Integer(_) => "an integer",
        DeValue::Float(_) => "a number with a fraction",
        DeValue::Boolean(_) => "true or false",
        DeValue::Datetime(_) => "a date",
        DeValue::Array(_) => "an array",
        DeValue::Table(_) => "a table",
    };
    let example = match kind {
        Kind::Text => "in double quotes",
        Kind::Integer => "without quotes, for example 1",
        Kind::Boolean => "without quotes",
        Kind::Texts => "for example [\"10.0.0.1\"]",
        Kind::Integers => "for example [0, 1]",
        Kind::Map => "for example {dcos = \"9.0.1.0/24\"}",
        Kind::Lists => "for example {corp = [\"10.0.0.53\"]}",
        Kind::Section => "under a header of its own",
    };
    found.error(&value.span(), format!("{name} is {given}"), format!("write {}, {example}", kind.noun()));
}

fn fits_list(key: &Key, kind: Kind, value: &Spanned<DeValue<'_>>, found: &mut Findings<'_>) -> bool {
    let DeValue::Array(array) = value.get_ref() else {
        wrong_type(&quoted(key.name), key.kind, value, found);
        return false;
    };
    if array.len() > LONGEST {
        too_long(key.name, &value.span(), array.len(), found);
        return false;
    }
    let each = format!("an element of `{}`", key.name);
    array.iter().filter(|element| !fits_one(&each, kind, element, found)).count() == 0
}

fn too_long(name: &str, span: &Range<usize>, length: usize, found: &mut Findings<'_>) {
    found.error(span, format!("`{name}` has {length} elements"), format!("write at most {LONGEST}"));
}

fn fits_map(key: &Key, value: &Spanned<DeValue<'_>>, found: &mut Findings<'_>) -> bool {
    let DeValue::Table(table) = value.get_ref() else {
        wrong_type(&quoted(key.name), key.kind, value, found);
        return false;
    };
    table.iter().filter(|(name, value)| !fits_one(&quoted(&short(name.get_ref())), Kind::Text, value, found)).count()
        == 0
}

/// As [`fits_map`], and a value may be an array; a string becomes an array of itself.
fn fits_lists(key: &Key, value: &mut Spanned<DeValue<'_>>, found: &mut Findings<'_>) -> bool {
    let DeValue::Table(table) = value.get_mut() else {
        wrong_type(&quoted(key.name), key.kind, value, found);
        return false;
    };
    let mut fits = true;
    for (name, value) in table.iter_mut() {
        let name = quoted(&short(name.get_ref()));
        if let DeValue::Array(array) = value.get_ref() {
            let each = format!("an element of {name}");
            fits &= array.iter().filter(|element| !fits_one(&each, Kind::Text, element, found)).count() == 0;
        } else {
            fits &= fits_one(&name, Kind::Text, value, found);
            let one = value.clone();
            *value.get_mut() = DeValue::Array(std::iter::once(one).collect());
        }
    }
    fits
}

fn fits_section(section: &Section, value: &mut Spanned<DeValue<'_>>, found: &mut Findings<'_>) -> bool {
    let span = value.span();
    match value.get_mut() {
        DeValue::Table(table) if !section.many => {
            prune(table, &span, section, found);
            true
        }
        DeValue::Array(array) if section.many => fits_tables(section, array, &span, found),
        DeValue::Table(_) | DeValue::Array(_) => {
            let name = section.path;
            let count = if section.many { "may be repeated" } else { "stands once" };
            found.error(&span, format!("`{name}` {count}"), format!("write {}", section.header()));
            false
        }
        DeValue::String(_) | DeValue::Integer(_) | DeValue::Float(_) | DeValue::Boolean(_) | DeValue::Datetime(_) => {
            found.error(
                &span,
                format!("`{}` is not a table", section.path),
                format!("write {} on a line of its own", section.header()),
            );
            false
        }
    }
}

fn fits_tables(
    section: &Section,
    array: &mut toml::de::DeArray<'_>,
    at: &Range<usize>,
    found: &mut Findings<'_>,
) -> bool {
    if array.len() > LONGEST {
        too_long(section.path, at, array.len(), found);
        return false;
    }
    let mut right = true;
    for element in array.iter_mut() {
        let span = element.span();
        if let DeValue::Table(table) = element.get_mut() {
            prune(table, &span, section, found);
        } else {
            let keys: Vec<_> = section.keys.iter().take(2).map(|key| format!("{} = ...", key.name)).collect();
            found.error(
                &span,
                format!("an element of `{}` is not a table", section.path),
                format!("write {{{}}}", keys.join(", ")),
            );
            right = false;
        }
    }
    right
}
