//! Sluice's thinking half: what the sources say becomes what the packet path should do.
//!
//! The way of a fact is `bytes -> view::Event -> ClusterView::apply -> desire -> Desired`. Everything on it is a pure
//! function of its inputs: equal inputs give equal outputs, in any order of arrival. Threads, sockets and clocks live in
//! thin shells beside it: `marathon::shell`, `netlink`, `api`, and [`run`], which holds them together.

pub mod agent;
pub mod api;
mod back_off;
pub mod cli;
pub mod compile;
pub mod desire;
pub mod dns;
pub mod health;
mod json_file;
pub mod lease;
pub mod marathon;
pub mod mesos;
pub mod names;
pub mod netlink;
pub mod offline;
pub mod overlay_state;
pub mod rejected;
pub mod replay;
pub mod run;
mod running;
pub mod static_zones;
pub mod store;
pub mod view;

#[cfg(test)]
mod fixture;
