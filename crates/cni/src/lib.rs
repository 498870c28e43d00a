//! The CNI plugin: checks what the runtime said, asks the node's agent, prints its answer.
//!
//! It is started once a pod, so it holds no runtime, opens one socket and exits. What it knows about
//! networks is nothing; the agent does the work, because only the agent knows what policy is in force.

#![forbid(unsafe_code)]

mod agent;
mod configuration;
mod invocation;
mod previous;
mod print;
mod version;

use kilter_wire::cni::{CniError, CniResult, code};
use serde_json::Value;

use invocation::{Action, Invocation};

/// What the plugin has to say.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Output {
    /// Nothing: DEL, CHECK, GC or STATUS succeeded.
    Nothing,
    /// The result of VERSION, in the version asked for.
    Versions(String),
    /// The result of ADD, and that of the plugin before in the chain.
    Result(CniResult, Option<Value>),
    /// It failed.
    Error(CniError),
}

/// Does what the environment and standard input say. `variable` reads an environment variable.
pub fn run(variable: impl Fn(&str) -> Option<String>, input: &[u8]) -> Output {
    match invocation::read(variable, input) {
        Ok(Invocation { action: Action::Version, config }) => Output::Versions(config.cni_version),
        Ok(Invocation { action: Action::Ask(request), .. }) => agent::ask(&request),
        Err(error) => Output::Error(error),
    }
}

impl Output {
    /// What goes to standard output (SPEC, section 5), if anything.
    pub fn to_json(&self) -> Option<String> {
        match self {
            Output::Nothing => None,
            Output::Versions(version) => Some(print::versions(version)),
            Output::Result(result, previous) => Some(print::result(result, previous.as_ref())),
            Output::Error(error) => Some(print::error(error)),
        }
    }

    /// Whether the plugin failed and exits with 1.
    pub fn failed(&self) -> bool {
        matches!(self, Output::Error(_))
    }
}

/// An error in the version that the configuration asked for, where it is known.
fn error(version: &str, code: u32, msg: impl Into<String>, details: impl Into<String>) -> CniError {
    let cni_version = version::known_or_current(version);
    CniError { cni_version, code, msg: msg.into(), details: details.into() }
}

/// [`error`] for a variable of the environment; the message must name it (SPEC, "Error").
fn environment_error(version: &str, msg: impl Into<String>, details: impl Into<String>) -> CniError {
    error(version, code::INVALID_ENVIRONMENT, msg, details)
}
