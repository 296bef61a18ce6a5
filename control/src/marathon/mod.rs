//! Following Marathon: what it answers (`payload`), its event stream (`sse`), when to ask it (`follow`, a state machine
//! with no I/O), and the thin HTTP shell around that (`shell`).

pub mod fetch;
pub mod fetch_error;
pub mod follow;
pub mod hosts;
pub mod payload;
pub mod shell;
pub mod sse;

pub(crate) mod app;
pub(crate) mod complaints;
mod pod;
pub(crate) mod ports;
mod rollout;
pub(crate) mod text;
