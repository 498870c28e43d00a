//! Programs of this machine that run inside a pod: containers that are run for real, and what
//! `kubectl exec`, probes and lifecycle hooks execute.

mod capture;
mod interior;
mod place;
mod root;
mod start;

pub use capture::RunError;
pub use interior::Interior;
pub use place::Place;
pub use root::{Mount, Root};
pub use start::{NotFound, Program, Spawned, exit_code, resize, spawn, spawn_container};

/// The size of a terminal in characters.
#[derive(Debug, Clone, Copy, PartialEq, Eq, serde::Deserialize)]
#[serde(rename_all = "PascalCase")]
pub struct Size {
    /// Columns.
    pub width: u16,
    /// Rows.
    pub height: u16,
}
