//! Services: which addresses stand for which endpoints, as rows that a kernel can look up.
//!
//! A frontend (address, port, protocol, and whether clients are inside or outside) names a revision and a count; (revision, slot) names a
//! backend. A frontend whose backends change gets a new revision, written in full before the
//! frontend moves to it, so that no reader sees half of each. Pure: no I/O, no clock.

#![forbid(unsafe_code)]

mod compiler;
mod announce;
mod departures;
mod index;
pub mod maglev;
mod nearness;
mod rows;
mod select;
mod tables;
mod weight;

pub use announce::{Announcements, owner};
pub use compiler::Compiler;
pub use departures::{Departures, Remote};
pub use tables::{Backend, CHUNK, Flags, Frontend, FrontendRow, Plan, Scope, Tables, Write};
pub use weight::{HEAVIEST, WEIGHT_LABEL, Weighted};
