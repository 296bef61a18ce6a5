//! A DC/OS-style cluster on one machine: network namespaces, the kernel's own bridge, router and VXLAN, Marathon's API
//! and tasks that are real processes.
//!
//! [`Lab::up`] makes one and removes it when it is dropped; whatever it makes is named after its id and recorded in
//! `/tmp/sluice-lab-<id>/` first, so that `sluice-lab down` removes it even after SIGKILL. Nothing outside is touched.

pub mod cluster;
pub mod decap;
pub mod demo;
pub mod http;
pub mod load;
pub mod marathon;
pub mod mesos;
pub mod node_config;
pub mod place;
mod processes;
pub mod programs;
pub mod shell;
pub mod state;
pub mod topology;
pub mod web_task;
mod wiring;

pub use cluster::{Lab, LabError, Options};
pub use topology::Topology;
