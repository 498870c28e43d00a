//! One module a command.

pub mod bench;
pub mod chaos;
pub mod completion;
pub mod connections;
pub mod diff;
pub mod down;
pub mod flows;
pub mod lint;
pub mod list;
pub mod node;
pub mod prove;
pub mod run;
pub mod sources;
pub mod status;
pub mod target;
pub mod up;
pub mod verify;
pub mod watch;
pub mod why;

use anyhow::{Context, Result};
use serde::Serialize;

/// A runtime for commands that talk to an API: one thread is plenty.
fn runtime() -> Result<tokio::runtime::Runtime> {
    tokio::runtime::Builder::new_current_thread().enable_all().build().context("start a runtime")
}

fn print_json(value: &impl Serialize) -> Result<()> {
    print(&format!("{}\n", serde_json::to_string_pretty(value)?))
}

/// Writes an answer to standard output. A reader that has gone (`| head`) has read enough.
fn print(text: &str) -> Result<()> {
    crate::out::write(format_args!("{text}")).context("write to standard output")
}
