//! The overlay: who may talk to whom, and every way that packets take between containers and the rest.
#![allow(clippy::unwrap_used, clippy::panic, reason = "clippy knows only #[test] functions as tests")]

#[path = "../common/mod.rs"]
mod common;

mod gateway;
mod hub;
mod masquerade;
mod networks;
mod policy;
mod world;
