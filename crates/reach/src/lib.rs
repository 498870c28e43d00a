//! Questions over a whole model: the rows as the kernel reads them, whether two sets of rows decide
//! every packet alike, and every permitted connection.

#![forbid(unsafe_code)]

pub mod connections;
pub mod diff;
pub mod equality;
pub mod format;
pub mod interpreter;
pub mod proof;
pub mod rows;
mod warnings;
pub mod why;

pub use connections::{Connection, End, Options, Pairs, Permitted, Range, connections, pairs, port_text};
pub use warnings::warnings;
