//! Numbers for services and backends: control's registry.
//!
//! A service keeps its 16-bit and a backend its 24-bit number for life. A number that was let go rests for longer than
//! any session can live before another owner gets it, so a session entry never changes its meaning; the same owner gets
//! it back at once.

use std::collections::{BTreeMap, VecDeque};
use std::net::SocketAddr;

use sluice_config::model::{Protocol, VipKey};

use crate::time::Nanos;

/// What a backend is known by: sessions towards one address, port and protocol share SNAT ports.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Debug)]
pub struct BackendKey {
    /// Address and port.
    pub address: SocketAddr,
    /// Transport protocol.
    pub protocol: Protocol,
}

/// There are more services or backends than `[limits]` has numbers for.
#[derive(Clone, Copy, PartialEq, Eq, Debug, thiserror::Error)]
#[error("no number left for another {what}: limits.{what}s is {limit}")]
pub struct NoNumber {
    /// `service` or `backend`.
    pub what: &'static str,
    /// The limit.
    pub limit: usize,
}

/// The registry.
#[derive(Clone, Debug)]
pub struct Ids {
    services: Numbers<VipKey>,
    backends: Numbers<BackendKey>,
}

#[derive(Clone, Debug)]
struct Numbers<K> {
    what: &'static str,
    limit: usize,
    rest: u64,
    by_key: BTreeMap<K, u32>,
    /// Let go, and when.
    resting: BTreeMap<K, (Nanos, u32)>,
    /// The same, oldest first; entries whose owner has come back are stale.
    oldest: VecDeque<(Nanos, K)>,
    /// Never used so far from here on. 0 is never used: an empty session slot is all zeros.
    fresh: u32,
}

impl Ids {
    /// A registry with room for `services` (at most 65,534) and `backends` (at most 2^24 - 2), whose numbers rest for
    /// `rest_seconds` before they are used again.
    #[must_use]
    pub fn new(services: usize, backends: usize, rest_seconds: u64) -> Self {
        let rest = Nanos::from_seconds(rest_seconds).0;
        Self {
            services: Numbers::new("service", services.min(65_534), rest),
            backends: Numbers::new("backend", backends.min((1 << 24) - 2), rest),
        }
    }

    /// The service's number, given now if it has none.
    ///
    /// # Errors
    /// When all numbers are taken or resting.
    pub fn service(&mut self, key: VipKey, now: Nanos) -> Result<u16, NoNumber> {
        self.services.number(key, now).map(|n| n as u16)
    }

    /// The backend's number, given now if it has none.
    ///
    /// # Errors
    /// When all numbers are taken or resting.
    pub fn backend(&mut self, key: BackendKey, now: Nanos) -> Result<u32, NoNumber> {
        self.backends.number(key, now)
    }

    /// Lets go of the numbers of these owners; those that have none are passed over.
    pub fn let_go(
        &mut self,
        now: Nanos,
        services: impl IntoIterator<Item = VipKey>,
        backends: impl IntoIterator<Item = BackendKey>,
    ) {
        self.services.let_go(now, services);
        self.backends.let_go(now, backends);
    }

    /// Lets go of every number whose owner `keep_*` does not want any more.
    pub fn retain(
        &mut self,
        now: Nanos,
        keep_service: impl Fn(&VipKey) -> bool,
        keep_backend: impl Fn(&BackendKey) -> bool,
    ) {
        self.services.retain(now, keep_service);
        self.backends.retain(now, keep_backend);
    }
}

impl<K: Ord + Copy> Numbers<K> {
    fn new(what: &'static str, limit: usize, rest: u64) -> Self {
        Self { what, limit, rest, by_key: BTreeMap::new(), resting: BTreeMap::new(), oldest: VecDeque::new(), fresh: 1 }
    }

    fn number(&mut self, key: K, now: Nanos) -> Result<u32, NoNumber> {
        if let Some(number) = self.by_key.get(&key) {
            return Ok(*number);
        }
        let number = match self.resting.remove(&key) {
            Some((_, number)) => number,
            None => self.unused(now).ok_or(NoNumber { what: self.what, limit: self.limit })?,
        };
        self.by_key.insert(key, number);
        Ok(number)
    }

    /// A number that nobody has: one that has rested long enough, else a fresh one.
    fn unused(&mut self, now: Nanos) -> Option<u32> {
        while let Some((since, key)) = self.oldest.front().copied() {
            let stale = self.resting.get(&key).is_none_or(|(let_go, _)| *let_go != since);
            if !stale && now.0 < since.0 + self.rest {
                break;
            }
            self.oldest.pop_front();
            if !stale {
                return self.resting.remove(&key).map(|(_, number)| number);
            }
        }
        if self.fresh as usize > self.limit {
            return None;
        }
        self.fresh += 1;
        Some(self.fresh - 1)
    }

    fn retain(&mut self, now: Nanos, keep: impl Fn(&K) -> bool) {
        let (resting, oldest) = (&mut self.resting, &mut self.oldest);
        self.by_key.retain(|key, number| {
            let kept = keep(key);
            if !kept {
                resting.insert(*key, (now, *number));
                oldest.push_back((now, *key));
            }
            kept
        });
        self.tidy();
    }

    fn let_go(&mut self, now: Nanos, owners: impl IntoIterator<Item = K>) {
        for key in owners {
            if let Some(number) = self.by_key.remove(&key) {
                self.resting.insert(key, (now, number));
                self.oldest.push_back((now, key));
            }
        }
        self.tidy();
    }

    /// Owners that come and go leave stale entries behind: as many as live ones at most.
    fn tidy(&mut self) {
        let (resting, oldest) = (&self.resting, &mut self.oldest);
        if oldest.len() > 2 * resting.len() {
            oldest.retain(|(since, key)| resting.get(key).is_some_and(|(let_go, _)| let_go == since));
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn key(port: u16) -> VipKey {
        VipKey { protocol: Protocol::Tcp, ip: "11.0.0.1".parse().unwrap(), port }
    }

    #[test]
    fn a_number_is_kept_for_life_and_rests_before_it_is_used_again() {
        let mut ids = Ids::new(2, 2, 100);
        let at = Nanos::from_seconds;
        assert_eq!(ids.service(key(1), at(0)), Ok(1));
        assert_eq!(ids.service(key(2), at(0)), Ok(2));
        assert_eq!(ids.service(key(1), at(1)), Ok(1));
        ids.retain(at(10), |k| *k != key(1), |_| true);
        assert!(ids.service(key(3), at(109)).is_err());
        assert_eq!(ids.service(key(3), at(110)), Ok(1));
        assert_eq!(ids.service(key(2), at(110)), Ok(2));
    }

    #[test]
    fn an_owner_that_comes_back_gets_its_number_back_at_once() {
        let mut ids = Ids::new(2, 2, 100);
        let at = Nanos::from_seconds;
        for second in 0..50 {
            assert_eq!(ids.service(key(1), at(second)), Ok(1));
            assert_eq!(ids.service(key(2), at(second)), Ok(2));
            match second % 2 {
                0 => ids.retain(at(second), |k| *k == key(2), |_| true),
                _ => ids.let_go(at(second), [key(1), key(9)], []),
            }
        }
        assert!(ids.services.oldest.len() <= 2);
        assert!(ids.service(key(3), at(60)).is_err());
        assert_eq!(ids.service(key(3), at(200)), Ok(1));
        assert!(ids.service(key(1), at(200)).is_err());
    }
}
