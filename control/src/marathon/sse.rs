//! An incremental decoder of a server-sent event stream (WHATWG HTML section 9.2), as far as Marathon's needs it.
//!
//! Bytes may come cut anywhere; lines end in LF, CR or CRLF. Memory is bounded whatever comes: of a line 64 KiB are kept,
//! and a line or an event above 16 MiB is an error after which the stream is to be closed. An event is a hint that
//! something changed, so of its data only the task's id and state are looked at, and only where the data was not cut.

use serde::Deserialize;

use crate::view::TaskState;

/// Octets kept of a line and of an event's data.
const KEPT_OCTETS: usize = 64 << 10;
/// Longest line, and longest data of one event, that is put up with, octets.
const MOST_OCTETS: usize = 16 << 20;
/// Longest event type shown.
const KIND_OCTETS: usize = 128;
/// Longest field of the data that is kept.
const FIELD_OCTETS: usize = 1024;

/// An event, as far as it matters.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct SseEvent {
    /// The `event` field; empty when there was none.
    pub kind: String,
    /// `taskId`, else `instanceId`, of the data.
    pub task: Option<String>,
    /// `taskStatus` of the data: Mesos's name of the state.
    pub status: Option<String>,
}

impl SseEvent {
    /// Whether tasks or apps may have changed. Types that nobody knows yet may mean anything.
    #[must_use]
    pub fn is_hint(&self) -> bool {
        let idle = [
            "event_stream_attached",
            "event_stream_detached",
            "subscribe_event",
            "unsubscribe_event",
            "framework_message_event",
        ];
        !idle.contains(&self.kind.as_str())
    }

    /// The Mesos task that Marathon says has come to its end.
    #[must_use]
    pub fn ended(&self) -> Option<&str> {
        let over = self.status.as_deref().is_some_and(|s| TaskState::read(s) == TaskState::Terminal);
        self.task.as_deref().filter(|_| over && self.kind == "status_update_event")
    }
}

/// The stream does not end its lines or events.
#[derive(Clone, Copy, PartialEq, Eq, Debug, thiserror::Error)]
#[error("the event stream holds a line or event of more than {MOST_OCTETS} octets")]
pub struct Endless;

/// The decoder's state between two reads.
#[derive(Debug, Default)]
pub struct Decoder {
    line: Vec<u8>,
    line_octets: usize,
    after_cr: bool,
    begun: bool,
    kind: String,
    data: Vec<u8>,
    data_octets: usize,
}

impl Decoder {
    /// Takes bytes in and gives the events that they complete.
    ///
    /// # Errors
    /// When a line or an event has no end; the decoder is of no use afterwards.
    pub fn feed(&mut self, bytes: &[u8]) -> Result<Vec<SseEvent>, Endless> {
        let mut events = Vec::new();
        let mut rest = bytes;
        if self.after_cr && rest.first() == Some(&b'\n') {
            rest = &rest[1..];
        }
        if !bytes.is_empty() {
            self.after_cr = false;
        }
        while let Some(end) = rest.iter().position(|b| matches!(b, b'\n' | b'\r')) {
            self.extend(&rest[..end])?;
            events.extend(self.end_of_line()?);
            let crlf = rest[end..].starts_with(b"\r\n");
            self.after_cr = rest[end..] == [b'\r'];
            rest = &rest[end + if crlf { 2 } else { 1 }..];
        }
        self.extend(rest)?;
        Ok(events)
    }

    fn extend(&mut self, part: &[u8]) -> Result<(), Endless> {
        self.line_octets += part.len();
        let room = KEPT_OCTETS.saturating_sub(self.line.len()).min(part.len());
        self.line.extend_from_slice(&part[..room]);
        if self.line_octets > MOST_OCTETS { Err(Endless) } else { Ok(()) }
    }

    fn end_of_line(&mut self) -> Result<Option<SseEvent>, Endless> {
        let mut line = std::mem::take(&mut self.line);
        let octets = std::mem::take(&mut self.line_octets);
        if !self.begun && line.starts_with(b"\xef\xbb\xbf") {
            line.drain(..3);
        }
        self.begun = true;
        if line.is_empty() {
            return Ok(self.dispatch());
        }
        let colon = line.iter().position(|b| *b == b':').unwrap_or(line.len());
        let value = line.get(colon + 1..).unwrap_or_default();
        let value = value.strip_prefix(b" ").unwrap_or(value);
        match &line[..colon] {
            b"event" => self.kind = String::from_utf8_lossy(&value[..value.len().min(KIND_OCTETS)]).into_owned(),
            b"data" => self.take_data(value, octets)?,
            // A comment (a line that begins with a colon), `id`, `retry`, and what nobody knows.
            _ => {}
        }
        Ok(None)
    }

    fn take_data(&mut self, value: &[u8], octets: usize) -> Result<(), Endless> {
        self.data_octets += octets;
        if !self.data.is_empty() && self.data.len() < KEPT_OCTETS {
            self.data.push(b'\n');
        }
        let room = KEPT_OCTETS.saturating_sub(self.data.len()).min(value.len());
        self.data.extend_from_slice(&value[..room]);
        if self.data_octets > MOST_OCTETS { Err(Endless) } else { Ok(()) }
    }

    fn dispatch(&mut self) -> Option<SseEvent> {
        let kind = std::mem::take(&mut self.kind);
        let data = std::mem::take(&mut self.data);
        self.data_octets = 0;
        // Marathon's heartbeat is an empty line with nothing before it.
        (!kind.is_empty() || !data.is_empty()).then(|| event(kind, &data))
    }
}

#[derive(Deserialize)]
#[serde(rename_all = "camelCase")]
struct Data {
    task_id: Option<String>,
    instance_id: Option<String>,
    task_status: Option<String>,
}

fn event(kind: String, data: &[u8]) -> SseEvent {
    let short = |text: &String| text.len() <= FIELD_OCTETS;
    match serde_json::from_slice::<Data>(data) {
        Ok(data) => SseEvent {
            kind,
            task: data.task_id.or(data.instance_id).filter(short),
            status: data.task_status.filter(short),
        },
        Err(_) => SseEvent { kind, task: None, status: None },
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    const STREAM: &str = "\u{feff}: hello\r\nevent: status_update_event\r\ndata: {\"taskId\":\"web.1\",\"x\":\"\u{e9}\"}\r\n\r\n\r\n\
        event:api_post_event\ndata:{\ndata: }\n\nid: 7\nretry: 5\n\nnonsense\nevent: e\rdata: {\"instanceId\":\"i\"}\r\r";

    fn expected() -> Vec<SseEvent> {
        let event = |kind: &str, task: Option<&str>| SseEvent {
            kind: kind.into(),
            task: task.map(str::to_owned),
            status: None,
        };
        vec![event("status_update_event", Some("web.1")), event("api_post_event", None), event("e", Some("i"))]
    }

    #[test]
    fn a_stream_gives_its_events_wherever_it_is_cut() {
        let bytes = STREAM.as_bytes();
        for cut in 0..=bytes.len() {
            let mut decoder = Decoder::default();
            let mut got = decoder.feed(&bytes[..cut]).unwrap();
            got.extend(decoder.feed(&[]).unwrap());
            got.extend(decoder.feed(&bytes[cut..]).unwrap());
            assert_eq!(got, expected(), "cut at {cut}");
        }
    }

    #[test]
    fn an_endless_line_is_an_error_and_takes_bounded_memory() {
        let mut decoder = Decoder::default();
        let chunk = vec![b'x'; 1 << 20];
        let fed = (0..64).take_while(|_| decoder.feed(&chunk).is_ok()).count();
        assert_eq!(fed, MOST_OCTETS >> 20);
        assert!(decoder.line.capacity() <= 2 * KEPT_OCTETS);
    }

    #[test]
    fn an_endless_event_is_an_error_and_takes_bounded_memory() {
        let mut decoder = Decoder::default();
        let chunk = "data: 0123456789\n".repeat(10_000);
        let fed = (0..1000).take_while(|_| decoder.feed(chunk.as_bytes()).is_ok()).count();
        assert!(fed < 150 && decoder.data.capacity() <= 4 * KEPT_OCTETS, "{fed} {}", decoder.data.capacity());
    }

    #[test]
    fn a_long_event_is_still_a_hint() {
        let mut decoder = Decoder::default();
        let event = format!("event: deployment_info\ndata: {{\"plan\":\"{}\"}}\n\n", "x".repeat(5 << 20));
        assert_eq!(
            decoder.feed(event.as_bytes()).unwrap(),
            [SseEvent { kind: "deployment_info".into(), task: None, status: None }]
        );
    }

    #[test]
    fn only_the_last_word_on_a_task_says_that_it_has_ended() {
        let ended = |kind: &str, state: &str| {
            let data = format!("event: {kind}\ndata: {{\"taskId\":\"web.1\",\"taskStatus\":\"{state}\"}}\n\n");
            let events = Decoder::default().feed(data.as_bytes()).unwrap();
            events[0].ended().map(str::to_owned)
        };
        for state in ["FINISHED", "FAILED", "KILLED", "LOST", "ERROR", "DROPPED", "GONE", "GONE_BY_OPERATOR"] {
            assert_eq!(ended("status_update_event", &format!("TASK_{state}")).as_deref(), Some("web.1"), "{state}");
        }
        for state in ["RUNNING", "KILLING", "STAGING", "UNREACHABLE", ""] {
            assert_eq!(ended("status_update_event", &format!("TASK_{state}")), None, "{state}");
        }
        assert_eq!(ended("instance_changed_event", "TASK_FAILED"), None);
    }

    proptest! {
        #[test]
        fn cuts_at_any_places_change_nothing(cuts in proptest::collection::vec(0usize..200, 0..12)) {
            let bytes = STREAM.as_bytes();
            let mut cuts: Vec<usize> = cuts.into_iter().map(|c| c.min(bytes.len())).chain([0, bytes.len()]).collect();
            cuts.sort_unstable();
            let mut decoder = Decoder::default();
            let mut got = Vec::new();
            for pair in cuts.windows(2) {
                got.extend(decoder.feed(&bytes[pair[0]..pair[1]]).unwrap());
            }
            prop_assert_eq!(got, expected());
        }

        #[test]
        fn no_bytes_do_harm(bytes in proptest::collection::vec(any::<u8>(), 0..300)) {
            let _ = Decoder::default().feed(&bytes);
        }
    }
}
