//! Being told to stop.

use anyhow::{Context, Result};
use tokio::signal::unix::{Signal, SignalKind, signal};

/// SIGTERM and SIGINT, caught from the moment this is made.
pub struct Termination {
    term: Signal,
    int: Signal,
}

impl Termination {
    /// Catches both from now on. Must be called within a runtime.
    pub fn catch() -> Result<Self> {
        let catch = |kind| signal(kind).context("catch the signals that stop a process");
        Ok(Self { term: catch(SignalKind::terminate())?, int: catch(SignalKind::interrupt())? })
    }

    /// Completes when one of them has come.
    pub async fn wait(&mut self) {
        tokio::select! {
            _ = self.term.recv() => {}
            _ = self.int.recv() => {}
        }
    }
}
