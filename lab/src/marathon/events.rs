//! `/v2/events`: every subscriber has a queue of 1024 events and is cut off when it is full, as Marathon does since 1.8.
//!
//! Wire form, byte for byte as jetty's EventSourceServlet writes it: `event: TYPE CRLF data: JSON CRLF CRLF`, and a bare
//! CRLF as heartbeat.

use std::collections::BTreeSet;
use std::sync::{Mutex, PoisonError};

use bytes::Bytes;
use serde_json::{Map, Value};
use tokio::sync::mpsc;

/// Events that a slow consumer may be behind before it is disconnected.
const BUFFER: usize = 1024;

/// What was published, to whoever listens.
#[derive(Debug, Default)]
pub(crate) struct EventBus {
    subscribers: Mutex<Vec<Subscriber>>,
}

#[derive(Debug)]
struct Subscriber {
    /// Empty: all types.
    types: BTreeSet<String>,
    light_plans: bool,
    queue: mpsc::Sender<Bytes>,
}

impl EventBus {
    /// A new subscriber; the stream ends when it is too slow or the bus is closed.
    pub(crate) fn subscribe(&self, types: BTreeSet<String>, light_plans: bool) -> mpsc::Receiver<Bytes> {
        let (queue, events) = mpsc::channel(BUFFER);
        self.lock().push(Subscriber { types, light_plans, queue });
        events
    }

    /// Publishes one event: `fields`, `eventType` and `timestamp`.
    pub(crate) fn publish(&self, event_type: &str, mut fields: Map<String, Value>) {
        fields.insert("eventType".to_owned(), event_type.into());
        fields.insert("timestamp".to_owned(), super::clock::now().into());
        let whole = frame(event_type, &fields);
        let light = light_plan(&fields).map(|fields| frame(event_type, &fields));
        self.lock().retain(|subscriber| {
            let wanted = subscriber.types.is_empty() || subscriber.types.contains(event_type);
            let frame = light.as_ref().filter(|_| subscriber.light_plans).unwrap_or(&whole);
            !wanted || subscriber.queue.try_send(frame.clone()).is_ok()
        });
    }

    /// Bare CRLF to everybody; those that are gone are forgotten.
    pub(crate) fn heartbeat(&self) {
        self.lock().retain(|subscriber| subscriber.queue.try_send(Bytes::from_static(b"\r\n")).is_ok());
    }

    /// Ends every stream, as Marathon does when it loses leadership.
    pub(crate) fn close(&self) {
        self.lock().clear();
    }

    fn lock(&self) -> std::sync::MutexGuard<'_, Vec<Subscriber>> {
        self.subscribers.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

fn frame(event_type: &str, fields: &Map<String, Value>) -> Bytes {
    let data = Value::Object(fields.clone());
    Bytes::from(format!("event: {event_type}\r\ndata: {data}\r\n\r\n"))
}

/// `plan-format=light` leaves out the groups before and after the deployment.
fn light_plan(fields: &Map<String, Value>) -> Option<Map<String, Value>> {
    let mut fields = fields.clone();
    let plan = fields.get_mut("plan")?.as_object_mut()?;
    plan.remove("original");
    plan.remove("target");
    Some(fields)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_event_has_the_wire_form_of_jetty_and_its_type_filter_holds() {
        let bus = EventBus::default();
        let mut all = bus.subscribe(BTreeSet::new(), false);
        let mut some = bus.subscribe(BTreeSet::from(["app_terminated_event".to_owned()]), false);
        bus.publish("status_update_event", Map::new());
        let frame = String::from_utf8(all.try_recv().unwrap().to_vec()).unwrap();
        assert!(frame.starts_with("event: status_update_event\r\ndata: {\"eventType\""), "{frame}");
        assert!(frame.ends_with("}\r\n\r\n"));
        assert!(some.try_recv().is_err());
    }

    #[test]
    fn a_subscriber_that_is_1024_events_behind_is_cut_off() {
        let bus = EventBus::default();
        let mut slow = bus.subscribe(BTreeSet::new(), false);
        (0..BUFFER + 1).for_each(|_| bus.publish("x", Map::new()));
        (0..BUFFER).for_each(|_| drop(slow.try_recv().unwrap()));
        assert_eq!(slow.try_recv(), Err(mpsc::error::TryRecvError::Disconnected));
    }
}
