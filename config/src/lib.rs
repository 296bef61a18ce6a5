//! Sluice's vocabulary: what the TOML file says and what it means. No threads, sockets or clock.
//!
//! [`load()`] reads one TOML file: `shape` (unknown keys, types) -> `file` (what the TOML says) -> `check` ->
//! [`model`] (what it means). Every mistake is reported, each with its place, the line and what to write instead.
//! What only the machine knows (interfaces, queues, cores) is asked through [`machine::Machine`].
#![warn(missing_docs)]

mod check;
pub mod diagnostic;
mod file;
pub mod load;
pub mod machine;
pub mod model;
pub mod reach;
pub mod schema;
mod secret;
mod shape;
mod twice;
mod words;

pub use diagnostic::{ConfigErrors, Diagnostic, Severity};
pub use load::{Loaded, load, load_file, parse, parse_text};
pub use machine::{Linux, Machine};
pub use words::nearest;
