//! Text to objects to rows: `cargo +nightly fuzz run manifests`. The same way is taken by
//! `crates/manifests/tests/policies` with random texts, on stable and in CI.

#![no_main]

use libfuzzer_sys::fuzz_target;

#[path = "../../crates/manifests/tests/policies/through.rs"]
mod through;

fuzz_target!(|text: &str| {
    let _ = through::through(text);
});
