//! What must hold of bytes from outside, each for a target of the same name.

pub mod dns;
pub mod mesos;
