//! Which backends take new flows: a backend does when nobody who judges it calls it unfit.
//!
//! | judge | what it goes by | where |
//! |---|---|---|
//! | Marathon | its health checks, whether the task is being killed, and its deployments | [`crate::view`], `upgrade` |
//! | probe | our own TCP, HTTP and UDP probes | [`rounds`], [`standing`], [`shell`] |
//! | passive | handshakes that the packet path saw fail | [`ejection`] |
//! | drain | an operator's word | [`drains`], [`orders`] |
//!
//! [`combine`] joins them, service by service; [`chronicle`] says since when. All of it is pure, with time as an argument;
//! sockets and clocks are in [`shell`] and [`probe`] alone. [`Judgements`] is what `desire` is given.

use std::collections::BTreeMap;
use std::sync::Arc;

use sluice_dataplane::tables::ids::BackendKey;
use sluice_dataplane::time::Nanos;

pub mod chronicle;
pub mod combine;
pub mod drains;
pub mod ejection;
pub mod orders;
pub mod paths;
pub mod probe;
pub mod rounds;
pub mod shell;
pub mod standing;
pub mod target;

mod upgrade;

use drains::Drained;
use standing::Standing;
use target::Target;

/// What is known of backends beside the sources' word.
#[derive(Clone, PartialEq, Eq, Debug, Default)]
pub struct Judgements {
    /// What our own probes say; a target that is not there was not heard of yet.
    pub probes: Arc<BTreeMap<Target, Standing>>,
    /// Backends that the packet path has seen fail, and since when.
    pub ejected: BTreeMap<BackendKey, Nanos>,
    /// What an operator drains, sorted.
    pub drained: Vec<Drained>,
}
