//! Questions over a whole model: the rows as the kernel reads them, and every permitted connection.

#![forbid(unsafe_code)]

pub mod connections;
pub mod interpreter;

pub use connections::{Connection, End, Options, Range, connections, port_text};
