//! What the server adds to objects, or refuses, beyond their own validity.

mod allocations;
mod families;
mod leftovers;
mod node_ports;
mod service;
mod strategy;

pub use service::Services;
pub use strategy::{prepare_create, prepare_status, prepare_update};
