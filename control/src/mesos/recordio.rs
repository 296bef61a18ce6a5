//! RecordIO, the framing of Mesos's event streams: the length of a record in decimal, a line feed, the record; and again.
//!
//! Bytes may come cut anywhere. Memory is bounded by what has come and by the limit: a length above it is an error at once,
//! and so is one that does not end. Nothing is set aside because a length promises it.

/// Digits of the longest length that is read: more is none that a limit allows.
const DIGITS: usize = 12;

/// A stream that is not, or is no longer, RecordIO: it is to be closed.
#[derive(Clone, PartialEq, Eq, Debug, thiserror::Error)]
pub enum RecordError {
    /// Too long a record.
    #[error(
        "a record of {octets} octets; the most that is read is {limit} ([mesos] state_octets): what was known before is kept"
    )]
    TooLong {
        /// As it says.
        octets: u64,
        /// The limit.
        limit: usize,
    },
    /// A length that is none.
    #[error("no RecordIO: {0:?} stands where the length of a record should be")]
    NoLength(String),
}

/// The decoder's state between two reads.
#[derive(Debug)]
pub struct Decoder {
    limit: usize,
    /// Digits of the length, while that is read.
    digits: Vec<u8>,
    /// Length of the record that has begun.
    wanted: Option<usize>,
    record: Vec<u8>,
}

impl Decoder {
    /// Takes records of at most `limit` octets.
    #[must_use]
    pub fn new(limit: usize) -> Self {
        Self { limit, digits: Vec::new(), wanted: None, record: Vec::new() }
    }

    /// Takes bytes in and gives the records that they complete.
    ///
    /// # Errors
    /// When a length is none or too long; the decoder is of no use afterwards.
    pub fn feed(&mut self, bytes: &[u8]) -> Result<Vec<Vec<u8>>, RecordError> {
        let mut records = Vec::new();
        let mut rest = bytes;
        while !rest.is_empty() {
            let Some(wanted) = self.wanted else {
                rest = self.length(rest)?;
                continue;
            };
            let (part, after) = rest.split_at(rest.len().min(wanted - self.record.len()));
            self.record.extend_from_slice(part);
            rest = after;
            if self.record.len() == wanted {
                self.wanted = None;
                records.push(std::mem::take(&mut self.record));
            }
        }
        Ok(records)
    }

    /// Whether the stream may end here.
    #[must_use]
    pub fn is_between_records(&self) -> bool {
        self.wanted.is_none() && self.digits.is_empty()
    }

    /// Reads what there is of a length. A record of no octets is none.
    fn length<'a>(&mut self, bytes: &'a [u8]) -> Result<&'a [u8], RecordError> {
        let room = (DIGITS + 1 - self.digits.len()).min(bytes.len());
        let (head, rest) = match bytes[..room].iter().position(|b| *b == b'\n') {
            Some(end) => (&bytes[..end], Some(&bytes[end + 1..])),
            None => (&bytes[..room], None),
        };
        self.digits.extend_from_slice(head);
        let text = String::from_utf8_lossy(&self.digits);
        if self.digits.len() > DIGITS || !self.digits.iter().all(u8::is_ascii_digit) {
            return Err(RecordError::NoLength(crate::rejected::shown(&text)));
        }
        let Some(rest) = rest else { return Ok(&[]) };
        let octets: u64 = text.parse().map_err(|_| RecordError::NoLength(crate::rejected::shown(&text)))?;
        self.digits.clear();
        match usize::try_from(octets) {
            Ok(0) => {}
            Ok(wanted) if wanted <= self.limit => self.wanted = Some(wanted),
            Ok(_) | Err(_) => return Err(RecordError::TooLong { octets, limit: self.limit }),
        }
        Ok(rest)
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    fn decoded(bytes: &[u8], cut: usize) -> Result<Vec<Vec<u8>>, RecordError> {
        let mut decoder = Decoder::new(1000);
        let mut all = Vec::new();
        for part in bytes.chunks(cut.max(1)) {
            all.extend(decoder.feed(part)?);
            assert!(decoder.record.capacity() <= 2000, "bounded by what came");
        }
        Ok(all)
    }

    proptest! {
        #[test]
        fn records_come_out_whole_wherever_the_stream_is_cut(
            records in proptest::collection::vec(proptest::collection::vec(any::<u8>(), 1..50), 0..8), cut in 1usize..60
        ) {
            let stream: Vec<u8> = records.iter().flat_map(|r| [r.len().to_string().as_bytes(), b"\n", r].concat()).collect();
            prop_assert_eq!(decoded(&stream, cut).unwrap(), records);
        }

        #[test]
        fn any_bytes_give_the_same_however_they_are_cut(bytes in proptest::collection::vec(any::<u8>(), 0..200), cut in 1usize..20) {
            prop_assert_eq!(decoded(&bytes, cut).is_err(), decoded(&bytes, 200).is_err());
        }
    }

    #[test]
    fn a_record_without_end_is_refused_by_its_length_alone() {
        assert_eq!(decoded(b"5000000000\n{", 4), Err(RecordError::TooLong { octets: 5_000_000_000, limit: 1000 }));
        assert!(decoded(b"1001\n", 1).unwrap_err().to_string().contains("state_octets"));
        let endless = [b'1'; 100];
        assert_eq!(decoded(&endless, 7), Err(RecordError::NoLength("1".repeat(13))));
        for odd in ["HTTP/1.1", "\n", "-5\n", "5 \n", "{\"type\":"] {
            assert!(matches!(decoded(odd.as_bytes(), 3), Err(RecordError::NoLength(_))), "{odd}");
        }
        assert_eq!(decoded(b"0\n1\nx", 1).unwrap(), [b"x"]);
    }

    #[test]
    fn where_a_stream_may_end_is_known() {
        let mut decoder = Decoder::new(10);
        for (part, between) in
            [(&b"3"[..], false), (b"\n", false), (b"ab", false), (b"c", true), (b"", true), (b"1", false)]
        {
            decoder.feed(part).unwrap();
            assert_eq!(decoder.is_between_records(), between);
        }
    }
}
