//! What the server adds to objects, or refuses, beyond their own validity.

mod allocations;
mod immutable;
mod service;
mod strategy;

pub use immutable::changed;
pub use service::Services;
pub use strategy::{prepare_create, prepare_status, prepare_update};
