//! The one-place mailbox by which a worker gets its tables: the latest wins.
//!
//! The publisher keeps a reference to every snapshot until all workers have let go ([`Publisher::publish`] collects
//! them), so a worker never frees a table between packets.

use std::sync::Arc;

use crossbeam::queue::ArrayQueue;

use crate::tables::Tables;

/// A worker's place for the newest tables.
#[derive(Clone, Debug)]
pub struct Mailbox(Arc<ArrayQueue<Arc<Tables>>>);

impl Default for Mailbox {
    fn default() -> Self {
        Self(Arc::new(ArrayQueue::new(1)))
    }
}

impl Mailbox {
    /// The newest tables, once. ~6 ns when there is nothing new (facts/platform.md).
    #[must_use]
    #[inline]
    pub fn latest(&self) -> Option<Arc<Tables>> {
        self.0.pop()
    }

    /// Whether something waits.
    #[must_use]
    pub fn is_empty(&self) -> bool {
        self.0.is_empty()
    }

    fn put(&self, tables: Arc<Tables>) {
        drop(self.0.force_push(tables));
    }
}

/// Hands snapshots to all workers and frees those that nobody uses any more.
#[derive(Debug, Default)]
pub struct Publisher {
    mailboxes: Vec<Mailbox>,
    live: Vec<Arc<Tables>>,
}

impl Publisher {
    /// For these workers.
    #[must_use]
    pub fn new(mailboxes: Vec<Mailbox>) -> Self {
        Self { mailboxes, live: Vec::new() }
    }

    /// Publishes to every worker; frees snapshots that every worker has let go.
    pub fn publish(&mut self, tables: &Arc<Tables>) {
        self.live.push(Arc::clone(tables));
        for mailbox in &self.mailboxes {
            mailbox.put(Arc::clone(tables));
        }
        self.collect();
    }

    /// Frees snapshots that every worker has let go; the newest is always kept.
    pub fn collect(&mut self) {
        let Some(newest) = self.live.last().map(Arc::as_ptr) else { return };
        self.live.retain(|t| Arc::strong_count(t) > 1 || std::ptr::eq(Arc::as_ptr(t), newest));
    }

    /// Snapshots still held by anyone.
    #[must_use]
    pub fn live(&self) -> usize {
        self.live.len()
    }
}
