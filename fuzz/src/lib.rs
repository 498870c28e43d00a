//! What is fuzzed: functions that take any bytes, and panic where Kilter is wrong.
//!
//! The fuzzer calls them (`fuzz_targets/`), and so does an ordinary test with seeds that it mangles
//! (`crates/reach/tests/fuzz.rs`). README.md says how to run either.

mod compile;
mod text;
mod wire;

pub use compile::compile;
pub use text::{cidrs, kustomize, manifests, selectors};
pub use wire::{cni, wire};
