//! The test's own process in a node's cgroup, so that its sockets are translated.

use std::path::PathBuf;
use std::sync::{Mutex, MutexGuard, PoisonError};

use kilter_testkit::cgroup2_root;

use super::Node;

/// This process is in a node's cgroup until this is dropped.
pub struct Inside {
    before: PathBuf,
    _alone: MutexGuard<'static, ()>,
}

impl Inside {
    pub fn of(node: &Node) -> Self {
        static ALONE: Mutex<()> = Mutex::new(());
        let alone = ALONE.lock().unwrap_or_else(PoisonError::into_inner);
        let own = std::fs::read_to_string("/proc/self/cgroup").unwrap();
        let path = own.lines().find_map(|line| line.strip_prefix("0::/")).unwrap();
        move_to(&node.config.cgroup);
        Self { before: cgroup2_root().join(path), _alone: alone }
    }
}

impl Drop for Inside {
    fn drop(&mut self) {
        move_to(&self.before);
    }
}

fn move_to(cgroup: &std::path::Path) {
    let procs = cgroup.join("cgroup.procs");
    std::fs::write(&procs, std::process::id().to_string())
        .unwrap_or_else(|error| panic!("write {}: {error}", procs.display()));
}
