//! Exit codes, which are a contract.

use std::process::ExitCode;

use kilter_twin::{MachineError, SpecError, UsageError};

/// What a command came to.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Outcome {
    /// 0: clean.
    Clean,
    /// 1: a finding, a difference, a disagreement.
    Finding,
}

/// Bad input and usage.
const USAGE: u8 = 2;
/// This machine, or this user on it, cannot.
const MACHINE: u8 = 3;
/// It could not be finished.
const UNFINISHED: u8 = 4;

/// The exit code of a command; prints the error where it failed.
pub fn code(result: anyhow::Result<Outcome>) -> ExitCode {
    match result {
        Ok(Outcome::Clean) => ExitCode::SUCCESS,
        Ok(Outcome::Finding) => ExitCode::from(1),
        Err(error) => {
            eprintln!("error: {}", describe(&error));
            ExitCode::from(classify(&error))
        }
    }
}

/// The chain of causes on one line each, so that "what, where, why" reads from top to bottom.
fn describe(error: &anyhow::Error) -> String {
    let mut lines: Vec<String> = Vec::new();
    for cause in error.chain() {
        let text = cause.to_string();
        // A library that repeats its source in its own message says nothing new in the next line.
        if lines.last().is_none_or(|last| !last.ends_with(&text)) {
            lines.push(text);
        }
    }
    lines.join("\n  ")
}

fn classify(error: &anyhow::Error) -> u8 {
    for cause in error.chain() {
        let usage = cause.is::<SpecError>()
            || cause.is::<UsageError>()
            || cause.is::<kilter_manifests::Error>()
            || cause.is::<kilter_reach::why::NameError>()
            || matches!(cause.downcast_ref(), Some(kilter_cluster::Error::Kubeconfig { .. }));
        if usage {
            return USAGE;
        }
        if cause.is::<MachineError>() {
            return MACHINE;
        }
    }
    UNFINISHED
}
