//! A key or table that stands twice in the text: which it is, where it stood first, and what to do about it.
//!
//! The parser tells where the second stands and keeps silent about the first, so what precedes the second is read anew.

use std::ops::Range;

use toml::de::{DeTable, DeValue};

use crate::diagnostic::Source;
use crate::schema;
use crate::words::short;

/// The parser's word for both.
pub(crate) const DUPLICATE: &str = "duplicate key";

/// A sentence and a remedy about the key at `span`, which something before it has already.
pub(crate) fn said(source: &Source, span: &Range<usize>) -> (String, String) {
    let text = source.text();
    let start = text.get(..span.start).and_then(|t| t.rfind('\n')).map_or(0, |at| at + 1);
    let line = text.get(start..).unwrap_or_default().lines().next().unwrap_or_default();
    let before = text.get(..start).unwrap_or_default();
    let header = line.trim_start().starts_with('[');
    let path =
        if header { path(line) } else { path(&format!("{} = 0", text.get(start..span.end).unwrap_or_default())) };
    let name = path.last().map_or_else(|| text.get(span.clone()).unwrap_or_default().trim(), String::as_str);
    let shown = if header { format!("[{}]", path.join(".")) } else { name.to_owned() };
    let first = first(before, &path, header).map(|at| format!("line {} has it already: ", source.line(at)));
    let many = schema::SECTIONS.iter().find(|s| header && s.many && s.path == path.join("."));
    let remedy = match many {
        Some(section) => format!("write {} for each", section.header()),
        None if header => "put all keys of the table there".to_owned(),
        None => "keep one of the two".to_owned(),
    };
    (format!("`{}` is written twice", short(&shown)), format!("{}{remedy}", first.unwrap_or_default()))
}

/// The keys of a text of one header or one value, from the outermost; none where it is neither.
fn path(line: &str) -> Vec<String> {
    let (table, errors) = DeTable::parse_recoverable(line);
    let mut path = Vec::new();
    let mut inside = Some(table.get_ref());
    while let Some((name, value)) = inside.filter(|_| errors.is_empty()).and_then(|table| table.iter().next()) {
        path.push(name.get_ref().to_string());
        inside = last_table(value.get_ref());
    }
    path
}

/// Where the last key of `path` stands in `before`: from the top for a header, else in the table that was begun last.
fn first(before: &str, path: &[String], header: bool) -> Option<usize> {
    let (table, _) = DeTable::parse_recoverable(before);
    let root = table.get_ref();
    let mut inside = Some(if header { root } else { begun_last(before, root).map_or(root, |(_, table)| table) });
    let mut at = None;
    for name in path {
        let (key, value) = inside?.get_key_value(name.as_str())?;
        at = Some(key.span().start);
        inside = last_table(value.get_ref());
    }
    at
}

/// A table, or the last of an array of tables: what keys that follow are added to.
fn last_table<'a, 'i>(value: &'a DeValue<'i>) -> Option<&'a DeTable<'i>> {
    match value {
        DeValue::Table(table) => Some(table),
        DeValue::Array(array) => array.iter().last().and_then(|element| last_table(element.get_ref())),
        DeValue::String(_) | DeValue::Integer(_) | DeValue::Float(_) | DeValue::Boolean(_) | DeValue::Datetime(_) => {
            None
        }
    }
}

/// The table under the last header below `table`, and where that header stands.
fn begun_last<'a, 'i>(text: &str, table: &'a DeTable<'i>) -> Option<(usize, &'a DeTable<'i>)> {
    let of_value = |value: &'a toml::Spanned<DeValue<'i>>| {
        let element = value.get_ref().as_array().and_then(|array| array.iter().last()).unwrap_or(value);
        let (below, element) = (last_table(element.get_ref())?, element.span().start);
        let own = text.get(element..).filter(|t| t.starts_with('[')).map(|_| (element, below));
        own.into_iter().chain(begun_last(text, below)).max_by_key(|(at, _)| *at)
    };
    table.iter().filter_map(|(_, value)| of_value(value)).max_by_key(|(at, _)| *at)
}
