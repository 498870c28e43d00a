//! One module a command.

pub mod bench;
pub mod chaos;
pub mod completion;
pub mod connections;
pub mod diff;
pub mod down;
pub mod flows;
pub mod list;
pub mod run;
pub mod sources;
pub mod status;
pub mod target;
pub mod up;
pub mod verify;
pub mod why;

use anyhow::{Context, Result};
use serde::Serialize;

/// A runtime for commands that talk to an API: one thread is plenty.
fn runtime() -> Result<tokio::runtime::Runtime> {
    tokio::runtime::Builder::new_current_thread().enable_all().build().context("start a runtime")
}

fn print_json(value: &impl Serialize) -> Result<()> {
    println!("{}", serde_json::to_string_pretty(value)?);
    Ok(())
}
