//! Questions over a whole model: the rows as the kernel reads them, and every permitted connection.

#![forbid(unsafe_code)]

pub mod connections;
pub mod diff;
pub mod format;
pub mod interpreter;
mod warnings;
pub mod why;

pub use connections::{Connection, End, Options, Pairs, Permitted, Range, connections, pairs, port_text};
pub use warnings::warnings;
