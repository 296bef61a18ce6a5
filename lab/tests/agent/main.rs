//! `sluice agent` beside DC/OS-style agents, with real kernels, real CNI plugins and a real Sluice between them. Needs root,
//! the binary `sluice` beside `sluice-lab`, and Debian's `containernetworking-plugins`.
#![allow(clippy::unwrap_used, clippy::panic, reason = "a test that cannot go on fails")]

mod comeback;
mod direct;
mod gateway;
mod hub;
mod leases;
mod mtu;
mod networks;
mod ping;
mod policy;
mod six;
mod world;
