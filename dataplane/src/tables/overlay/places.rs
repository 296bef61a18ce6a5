//! Places: where each network's packets are counted.

use std::collections::BTreeMap;

use sluice_config::model::OverlayNetwork;

use super::Overlay;

/// Where a network's packets are counted ([`crate::counters::Counters::networks`]): the same as long as the process
/// lives, whatever networks come and go; those beyond the last place share that.
#[derive(Clone, PartialEq, Eq, Debug, Default)]
pub(super) struct Places(BTreeMap<String, u8>);

impl Places {
    pub(super) fn new(networks: &[OverlayNetwork], before: Option<&Overlay>) -> Self {
        let mut places = before.map_or_else(BTreeMap::new, |overlay| overlay.places.0.clone());
        for network in networks {
            let next = u8::try_from(places.len()).unwrap_or(u8::MAX);
            places.entry(network.name.clone()).or_insert(next);
        }
        Self(places)
    }

    pub(super) fn of(&self, network: &OverlayNetwork) -> u8 {
        self.0.get(&network.name).copied().unwrap_or(u8::MAX)
    }

    /// All that there ever were.
    pub(super) fn iter(&self) -> impl Iterator<Item = (&str, u8)> {
        self.0.iter().map(|(name, place)| (name.as_str(), *place))
    }
}
