//! The pod sandbox: one pause process that holds the pod's namespaces, its record on disk, and
//! the files that programs inside the pod see as theirs.

mod files;
mod launch;
mod process;
mod record;
mod resolver;
mod stray;
mod sysctls;

pub use files::Files;
pub use launch::{Launch, LaunchError, launch};
pub use process::Process;
pub use record::{Record, Records};
pub use resolver::Dns;
pub use stray::kill_strays;
pub use sysctls::sysctls;

use std::path::PathBuf;

/// A pod's namespaces, held by a living pause process.
#[derive(Debug)]
pub struct Sandbox {
    /// What is on disk about it.
    pub record: Record,
    /// The pause process.
    pub process: Process,
}

impl Sandbox {
    /// The network namespace of the pod's containers. For a pod on its node's network it is this
    /// process's own.
    pub fn netns(&self) -> PathBuf {
        match self.record.host_network {
            true => PathBuf::from(format!("/proc/{}/ns/net", std::process::id())),
            false => self.process.namespace("net"),
        }
    }
}
