//! Questions over a whole model: the rows as the kernel reads them, and every permitted connection.

#![forbid(unsafe_code)]

pub mod interpreter;
