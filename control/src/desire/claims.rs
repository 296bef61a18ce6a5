//! Claims of VIPs: which name has which address, and which app has a VIP that is not shared; kept across restarts.
//!
//! A claim stands as long as it has a backend and for 24 hours after, so that a deployment that stops everything and
//! starts again finds what it had. Time is seconds since the Unix epoch and always an argument. Claims are kept by
//! [`crate::store::Store`]; nothing here reads or writes.

use std::collections::BTreeMap;
use std::net::{Ipv4Addr, Ipv6Addr};

use serde::{Deserialize, Serialize};

/// How long a claim without a backend is kept, seconds.
pub const IDLE_SECONDS: u64 = 24 * 3600;
/// Most claims of a kind kept; the longest idle go first.
pub const CLAIMS_MAX: usize = 100_000;

/// What was given out.
#[derive(Clone, PartialEq, Eq, Debug, Default, Serialize, Deserialize)]
pub struct Claims {
    /// IPv4 addresses by name with its framework (`minitwit.marathon`).
    pub named: BTreeMap<String, Claim<Ipv4Addr>>,
    /// IPv6 addresses, likewise.
    #[serde(default)]
    pub named6: BTreeMap<String, Claim<Ipv6Addr>>,
    /// Apps by the VIP that they have (`172.16.0.1:80/tcp`), where VIPs are not shared.
    #[serde(default)]
    pub owners: BTreeMap<String, Claim<Owner>>,
}

/// One claim.
#[derive(Clone, Copy, PartialEq, Eq, Debug, Serialize, Deserialize)]
pub struct Claim<T> {
    /// What is claimed, or by whom.
    #[serde(alias = "ip")]
    pub holds: T,
    /// Since when, seconds since the epoch: of two claims that cannot both stand the elder does.
    #[serde(default)]
    pub first_seen: u64,
    /// Since when it has no backend, seconds since the epoch; `None` while it has one.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub idle_since: Option<u64>,
}

/// An app, of which each framework has its own.
#[derive(Clone, PartialEq, Eq, PartialOrd, Ord, Debug, Serialize, Deserialize)]
pub struct Owner {
    /// App or pod id.
    pub app: String,
    /// Framework name.
    pub framework: String,
}

/// What is in use now ([`super::Report::in_use`]).
#[derive(Clone, Copy, Debug)]
pub struct InUse<'a> {
    /// IPv4 addresses by name.
    pub named: &'a BTreeMap<String, Ipv4Addr>,
    /// IPv6 addresses by name.
    pub named6: &'a BTreeMap<String, Ipv6Addr>,
    /// Apps by the VIP that they have.
    pub owners: &'a BTreeMap<String, Owner>,
}

impl Claims {
    /// The addresses of these names, and nothing else.
    pub(super) fn only<'a>(&self, names: impl Iterator<Item = &'a String> + Clone) -> Self {
        Self {
            named: names.clone().filter_map(|n| Some((n.clone(), *self.named.get(n)?))).collect(),
            named6: names.filter_map(|n| Some((n.clone(), *self.named6.get(n)?))).collect(),
            owners: BTreeMap::new(),
        }
    }

    /// Takes in what was put in place at `now`; whether anything is different from before. Unchanged claims cost a
    /// look-up each and no copy.
    pub fn settle(&mut self, in_use: InUse<'_>, now: u64) -> bool {
        let named = settle(&mut self.named, in_use.named, now);
        let named6 = settle(&mut self.named6, in_use.named6, now);
        let owners = settle(&mut self.owners, in_use.owners, now);
        named || named6 || owners
    }
}

fn settle<T: Clone + PartialEq>(claims: &mut BTreeMap<String, Claim<T>>, used: &BTreeMap<String, T>, now: u64) -> bool {
    let mut changed = false;
    claims.retain(|name, claim| {
        if used.contains_key(name) {
            return true;
        }
        changed |= claim.idle_since.is_none();
        let since = *claim.idle_since.get_or_insert(now);
        // A clock that was set back makes a claim live longer, never shorter.
        let stands = now.saturating_sub(since) < IDLE_SECONDS;
        changed |= !stands;
        stands
    });
    for (name, holds) in used {
        match claims.get_mut(name) {
            Some(claim) if claim.holds == *holds => changed |= claim.idle_since.take().is_some(),
            Some(_) | None => {
                claims.insert(name.clone(), Claim { holds: holds.clone(), first_seen: now, idle_since: None });
                changed = true;
            }
        }
    }
    bound(claims);
    changed
}

fn bound<T>(claims: &mut BTreeMap<String, Claim<T>>) {
    let beyond = claims.len().saturating_sub(CLAIMS_MAX);
    if beyond == 0 {
        return;
    }
    let mut idle: Vec<(u64, String)> = claims.iter().filter_map(|(n, c)| Some((c.idle_since?, n.clone()))).collect();
    idle.sort();
    for (_, name) in idle.into_iter().take(beyond) {
        claims.remove(&name);
    }
}

#[cfg(test)]
pub(crate) mod tests {
    use super::*;

    /// Claims of IPv4 addresses that were in use at `now`.
    pub(crate) fn claimed(names: &[(&str, [u8; 4])], now: u64) -> Claims {
        let mut claims = Claims::default();
        put(&mut claims, names, now);
        claims
    }

    fn put(claims: &mut Claims, names: &[(&str, [u8; 4])], now: u64) -> bool {
        let named = names.iter().map(|(n, ip)| ((*n).to_owned(), Ipv4Addr::from(*ip))).collect();
        claims.settle(InUse { named: &named, named6: &BTreeMap::new(), owners: &BTreeMap::new() }, now)
    }

    #[test]
    fn a_claim_without_a_backend_is_kept_for_a_day_and_no_longer() {
        let one = [("a.m", [11, 0, 0, 1])];
        let mut claims = claimed(&one, 1_000);
        assert_eq!(claims.named["a.m"], Claim { holds: [11, 0, 0, 1].into(), first_seen: 1_000, idle_since: None });
        assert!(!put(&mut claims, &one, 1_500), "nothing changed");
        assert!(put(&mut claims, &[], 2_000));
        assert_eq!(claims.named["a.m"].idle_since, Some(2_000));
        assert!(!put(&mut claims, &[], 2_000 + IDLE_SECONDS - 1), "it stands, and is idle since the same moment");
        let mut gone = claims.clone();
        assert!(put(&mut gone, &[], 2_000 + IDLE_SECONDS));
        assert!(gone.named.is_empty());
        assert!(put(&mut claims, &one, 3_000));
        assert_eq!((claims.named["a.m"].idle_since, claims.named["a.m"].first_seen), (None, 1_000));
        assert!(put(&mut claims, &[("a.m", [11, 0, 0, 2])], 4_000));
        assert_eq!(claims.named["a.m"].first_seen, 4_000, "another address is another claim");
    }

    #[test]
    fn a_clock_set_back_takes_no_claim_away() {
        let mut idle = claimed(&[("a.m", [11, 0, 0, 1])], 9_000);
        put(&mut idle, &[], 9_000);
        put(&mut idle, &[], 5);
        assert_eq!(idle.named.len(), 1);
    }

    #[test]
    fn the_longest_idle_of_too_many_claims_goes_first() {
        let mut claims = claimed(&[("old.m", [11, 0, 0, 1])], 1);
        put(&mut claims, &[("newer.m", [11, 0, 0, 2])], 2);
        let many: BTreeMap<String, Ipv4Addr> =
            (0..CLAIMS_MAX as u32 - 1).map(|n| (format!("n{n}.m"), Ipv4Addr::from(n))).collect();
        claims.settle(InUse { named: &many, named6: &BTreeMap::new(), owners: &BTreeMap::new() }, 3);
        assert_eq!(claims.named.len(), CLAIMS_MAX);
        assert!(claims.named.contains_key("newer.m") && !claims.named.contains_key("old.m"));
    }
}
