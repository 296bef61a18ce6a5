//! What Sluice costs: the packet path measured in memory, with nothing switched off, and on a veth pair.
//!
//! The benches, the allocation test and `sluice-bench` share one world ([`world`]: tables of 100 backends a service,
//! overlay, groups and names), its packets ([`traffic`]) and a machine that is fed by hand ([`rig`]).

pub mod calibration;
pub mod hub;
pub mod maglev;
pub mod names;
pub mod paths;
pub mod pipeline;
pub mod report;
pub mod rig;
pub mod scene;
pub mod traffic;
pub mod veth;
pub mod world;
