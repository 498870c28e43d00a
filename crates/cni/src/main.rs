//! `kilter-cni`, as a container runtime starts it.

#![forbid(unsafe_code)]

use std::io::{Read, Write};
use std::process::ExitCode;

use kilter_cni::run;

/// A configuration is a few hundred bytes; a runtime that sends more than this is broken.
const MAX_CONFIG: u64 = 1 << 20;

fn main() -> ExitCode {
    let mut input = Vec::new();
    // What cannot be read does not decode either, and that error is printed as the runtime expects it.
    let _ = std::io::stdin().lock().take(MAX_CONFIG).read_to_end(&mut input);
    let output = run(|name| std::env::var(name).ok(), &input);
    if let Some(json) = output.to_json() {
        // A runtime that closed its end has no use for the answer.
        let _ = writeln!(std::io::stdout().lock(), "{json}");
    }
    if output.failed() { ExitCode::FAILURE } else { ExitCode::SUCCESS }
}
