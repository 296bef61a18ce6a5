//! The stages of a turn. Each is a straight loop over the burst, or over what [`express`] has left of it; what one finds
//! out is in [`crate::burst::Packet`].
//! A stage sees packets, tables, its worker's state and `now`; never a port, a clock, a log or a lock.

pub mod admission;
pub mod balance;
pub mod classify;
pub mod decap;
pub mod dns;
pub mod egress;
pub mod encap;
pub mod express;
pub(crate) mod fit;
pub mod follow;
pub mod fragment;
pub mod hub;
pub mod icmp_error;
pub mod isolate;
pub mod masquerade;
pub mod parse;
pub mod probe;
pub mod refuse;
pub mod reply;
pub mod seeker;
