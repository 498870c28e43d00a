//! Control groups of containers that run for real: how everything in one is found and ended.

use std::io;
use std::path::{Path, PathBuf};
use std::time::Duration;

/// How soon it is looked again whether killed processes are gone, and how long at most.
const AGAIN: Duration = Duration::from_millis(5);
const PATIENCE: Duration = Duration::from_secs(5);

/// A cgroup below the node's; made when a program is first started in it.
#[derive(Debug, Clone)]
pub struct Cgroup {
    path: PathBuf,
}

impl Cgroup {
    /// Where all pods' are, in the cgroup of a node.
    pub fn pods(node: &Path) -> Self {
        Self { path: node.join("pods") }
    }

    /// One below this one.
    pub fn child(&self, name: &str) -> Self {
        Self { path: self.path.join(name) }
    }

    /// Its directory.
    pub fn path(&self) -> &Path {
        &self.path
    }

    /// Ends every process in it and below it, and removes it.
    pub async fn kill(&self) {
        match std::fs::write(self.path.join("cgroup.kill"), "1") {
            Err(error) if error.kind() == io::ErrorKind::NotFound => return,
            Err(error) => tracing::warn!(cgroup = %self.path.display(), %error, "kill a cgroup"),
            Ok(()) => {}
        }
        let started = tokio::time::Instant::now();
        while let Err(error) = remove(&self.path) {
            if started.elapsed() > PATIENCE {
                tracing::warn!(cgroup = %self.path.display(), %error, "remove a cgroup");
                return;
            }
            tokio::time::sleep(AGAIN).await;
        }
    }
}

fn remove(group: &Path) -> io::Result<()> {
    let entries = match std::fs::read_dir(group) {
        Err(error) if error.kind() == io::ErrorKind::NotFound => return Ok(()),
        entries => entries?,
    };
    for entry in entries {
        let entry = entry?;
        if entry.file_type()?.is_dir() {
            remove(&entry.path())?;
        }
    }
    std::fs::remove_dir(group)
}
