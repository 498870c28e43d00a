//! The protocols between Kilter's processes, as plain serde types and blocking line framing.
//!
//! * [`cni`]: what a container runtime and a CNI plugin say to each other (CNI 1.1).
//! * [`plugin`]: what the thin plugin asks the node's agent.
//! * [`control`]: what `up`, `status`, `verify`, `prove` and `bench` ask a node process.
//! * [`loaded`]: what a node's kernel holds, for `prove`.
//!
//! Every message between Kilter's own processes is one line of JSON over a Unix socket.

#![forbid(unsafe_code)]

pub mod cni;
pub mod control;
mod line;
pub mod loaded;
pub mod plugin;

pub use line::{LineError, MAX_LINE, decode, encode, read_message, write_message};
