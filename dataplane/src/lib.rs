//! Sluice's packet path: workers, stages, tables and ports. `README.md` beside this crate tells the path of a packet.
//!
//! No tokio, HTTP or Marathon here, and no clock: time is an argument of [`worker::Worker::turn`]. What crosses to
//! and from the control half is [`tables::Tables`] (down), [`counters::Counters`] and [`event::Event`] (up).
#![warn(missing_docs)]

pub mod address;
pub mod burst;
pub mod counters;
pub mod datagrams;
pub mod event;
pub mod family;
pub mod fragments;
pub mod frame;
pub mod idle;
pub mod io;
pub mod launch;
pub mod limiter;
pub mod mailbox;
pub mod probing;
pub mod replay;
pub mod ring;
pub mod sessions;
pub mod stage;
pub mod tables;
pub mod time;
pub mod verdict;
pub mod wake;
pub mod wire;
pub mod worker;
