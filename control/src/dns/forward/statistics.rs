//! What the forwarder counts.

use std::sync::atomic::{AtomicU64, Ordering::Relaxed};

/// What the forwarder counts.
#[derive(Debug, Default)]
pub struct Statistics {
    /// Clients' questions that it took.
    pub questions: AtomicU64,
    /// Of them, answered out of the cache.
    pub cached: AtomicU64,
    /// Of them, answered out of the cache beyond their TTL, because nobody else answered.
    pub stale: AtomicU64,
    /// Of them, added to one that was on its way.
    pub shared: AtomicU64,
    /// Of them, answered SERVFAIL.
    pub failed: AtomicU64,
    /// Of them, not asked because too many were on their way.
    pub over_limit: AtomicU64,
    /// Questions that came back from a resolver, refused.
    pub loops: AtomicU64,
    /// Queries to resolvers.
    pub queries: AtomicU64,
    /// Of them, repeated over TCP.
    pub over_tcp: AtomicU64,
    /// Of them, without an answer that could be used.
    pub upstream_failures: AtomicU64,
    /// Datagrams from a resolver's address that are not the answer.
    pub ignored: AtomicU64,
}

impl Statistics {
    /// Everything with its name, for metrics and `show`.
    #[must_use]
    pub fn all(&self) -> [(&'static str, u64); 11] {
        [
            ("questions", &self.questions),
            ("cached", &self.cached),
            ("stale", &self.stale),
            ("shared", &self.shared),
            ("failed", &self.failed),
            ("over_limit", &self.over_limit),
            ("loops", &self.loops),
            ("queries", &self.queries),
            ("over_tcp", &self.over_tcp),
            ("upstream_failures", &self.upstream_failures),
            ("replies_ignored", &self.ignored),
        ]
        .map(|(name, counter)| (name, counter.load(Relaxed)))
    }
}
