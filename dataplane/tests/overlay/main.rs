//! The overlay: who may talk to whom, and every way that packets take between containers and the rest.

#[path = "../common/mod.rs"]
mod common;

mod policy;
mod world;
