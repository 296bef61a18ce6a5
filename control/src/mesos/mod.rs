//! Following Mesos: what a master answers (`state`, `operator`) read into one model (`facts`).
//!
//! A master speaks of itself in two ways: `/state`, one JSON document, and the operator API's event stream. Both are read
//! by the same code (`task`, `member`) because they differ in how ids, labels and resources are written and in nothing
//! else. One bad object never spoils another: what cannot be read is listed in [`facts::Facts::rejected`].

pub mod facts;
pub mod files;
pub mod follow;
pub mod operator;
pub mod overlay;
pub mod recordio;
pub mod shell;
pub mod state;

mod hold;
mod member;
mod read;
mod stream;
mod task;
mod zookeeper;
