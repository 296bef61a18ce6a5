//! Every service mode through the whole turn: what leaves, octet by octet; books and frames checked after every step.
#![allow(clippy::unwrap_used, clippy::panic, reason = "clippy knows only #[test] functions as tests")]

mod bounds;
#[path = "../common/mod.rs"]
mod common;
mod direct;
mod errors;
mod express;
mod fit;
mod hairpin;
mod preserve;
mod probes;
mod tables;
mod world;
