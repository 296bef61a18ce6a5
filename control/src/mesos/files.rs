//! What the operator API said, in a file: RecordIO as it came, JSON lines, a JSON list, or one answer to `GET_STATE`.

use serde_json::value::RawValue;

use super::facts::Facts;
use super::operator::{EventError, Ledger};
use super::recordio::{Decoder, RecordError};
use crate::marathon::text::readable;

/// A file that cannot be read to its end.
#[derive(Debug, thiserror::Error)]
pub enum FileError {
    /// RecordIO that is broken.
    #[error(transparent)]
    Record(#[from] RecordError),
    /// RecordIO that ends inside a record.
    #[error("the last record is cut")]
    Cut,
    /// A message that is none.
    #[error("message {number}: {source}")]
    Message {
        /// Which one, from 1.
        number: usize,
        /// Why.
        source: EventError,
    },
    /// Nothing at all.
    #[error("there is no message in it")]
    Empty,
}

/// What is known after all messages of the file.
///
/// # Errors
/// When a part of it is no message.
pub fn read(body: &[u8]) -> Result<Facts, FileError> {
    let messages = if body.first().is_some_and(u8::is_ascii_digit) { records(body)? } else { documents(body)? };
    if messages.is_empty() {
        return Err(FileError::Empty);
    }
    let mut ledger = Ledger::default();
    for (index, message) in messages.iter().enumerate() {
        ledger.apply(message).map_err(|source| FileError::Message { number: index + 1, source })?;
    }
    Ok(ledger.facts())
}

fn records(body: &[u8]) -> Result<Vec<Vec<u8>>, FileError> {
    let mut decoder = Decoder::new(usize::MAX);
    let records = decoder.feed(body)?;
    if decoder.is_between_records() { Ok(records) } else { Err(FileError::Cut) }
}

/// One JSON document after the other; a list counts as its elements.
fn documents(body: &[u8]) -> Result<Vec<Vec<u8>>, FileError> {
    let text = readable(body);
    let mut messages: Vec<Vec<u8>> = Vec::new();
    for document in serde_json::Deserializer::from_str(&text).into_iter::<&RawValue>() {
        let refused =
            |source: serde_json::Error| FileError::Message { number: messages.len() + 1, source: source.into() };
        let document = document.map_err(refused)?.get();
        if document.starts_with('[') {
            let elements: Vec<&RawValue> = serde_json::from_str(document).map_err(refused)?;
            messages.extend(elements.iter().map(|e| e.get().as_bytes().to_vec()));
        } else {
            messages.push(document.as_bytes().to_vec());
        }
    }
    Ok(messages)
}

#[cfg(test)]
mod tests {
    use super::*;

    const ADDED: &str =
        r#"{"type":"FRAMEWORK_ADDED","framework_added":{"framework":{"framework_info":{"id":{"value":"F"}}}}}"#;
    const BEAT: &str = r#"{"type":"HEARTBEAT"}"#;

    #[test]
    fn every_form_says_the_same() {
        let recordio = format!("{}\n{ADDED}{}\n{BEAT}", ADDED.len(), BEAT.len());
        let (lines, list, spread) =
            (format!("{ADDED}\n{BEAT}\n"), format!(" [{ADDED},\n{BEAT}]"), ADDED.replace(',', ",\n "));
        let expected = read(lines.as_bytes()).unwrap();
        assert_eq!(expected.frameworks.len(), 1);
        for form in [recordio, list, spread] {
            assert_eq!(read(form.as_bytes()).unwrap(), expected, "{form}");
        }
    }

    #[test]
    fn a_broken_file_says_where() {
        let error = |text: &str| read(text.as_bytes()).unwrap_err().to_string();
        assert!(error(&format!("{BEAT}\n{{}}")).starts_with("message 2: no type"));
        assert!(error(&format!("{BEAT}\n{{")).starts_with("message 2: not the JSON"));
        assert_eq!(error("20\n{\"type\""), "the last record is cut");
        assert_eq!(error(""), "there is no message in it");
    }
}
