//! Where a measuring thread runs: its processor, and the process's cgroup.

use std::fs;
use std::path::{Path, PathBuf};

use anyhow::{Context, Result, bail};
use nix::sched::{CpuSet, sched_getaffinity, sched_setaffinity};
use nix::unistd::Pid;

/// The processors this process may use, in ascending order.
pub fn processors() -> Result<Vec<usize>> {
    let allowed = sched_getaffinity(Pid::from_raw(0)).context("read the processor mask")?;
    Ok((0..CpuSet::count()).filter(|cpu| allowed.is_set(*cpu).unwrap_or(false)).collect())
}

/// Binds the calling thread to one processor for the rest of its life.
pub fn pin(processor: usize) -> Result<()> {
    let mut only = CpuSet::new();
    only.set(processor)?;
    sched_setaffinity(Pid::from_raw(0), &only)
        .with_context(|| format!("pin a thread to processor {processor}"))
}

/// This process as a member of another cgroup, until dropped.
///
/// A thread cannot move alone (cgroup-v2.rst, "Threads": a domain's processes move whole), and a
/// socket keeps the cgroup that its process was in when it was made. So the whole process moves.
#[derive(Debug)]
pub struct Membership {
    back: PathBuf,
}

impl Membership {
    /// Moves this process into `cgroup`, a directory of the unified hierarchy.
    pub fn join(cgroup: &Path) -> Result<Self> {
        let back = own_cgroup(cgroup)?;
        enter(cgroup)?;
        Ok(Self { back })
    }
}

impl Drop for Membership {
    fn drop(&mut self) {
        if let Err(error) = enter(&self.back) {
            eprintln!("bench: this process stays in a cgroup that is not its own: {error:#}");
        }
    }
}

fn enter(cgroup: &Path) -> Result<()> {
    let members = cgroup.join("cgroup.procs");
    fs::write(&members, "0").with_context(|| format!("join the cgroup: write {}", members.display()))
}

/// The directory of this process's cgroup, in the hierarchy that `member` lies in.
fn own_cgroup(member: &Path) -> Result<PathBuf> {
    let table = fs::read_to_string("/proc/self/cgroup").context("read /proc/self/cgroup")?;
    let Some(own) = table.lines().find_map(|line| line.strip_prefix("0::/")) else {
        bail!("this process is in no cgroup of the unified hierarchy (no `0::` line in /proc/self/cgroup)");
    };
    // The root is the highest directory that is a cgroup; above it is another file system.
    let is_cgroup = |path: &&Path| path.join("cgroup.procs").exists();
    let Some(root) = member.ancestors().take_while(is_cgroup).last() else {
        bail!("{} is not a cgroup (no cgroup.procs in it)", member.display());
    };
    Ok(root.join(own))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_pinned_thread_may_use_one_processor_only() {
        let last = *processors().unwrap().last().unwrap();
        let seen = std::thread::spawn(move || pin(last).and_then(|()| processors())).join().unwrap().unwrap();
        assert_eq!(seen, [last]);
    }

    #[test]
    fn the_process_returns_to_its_own_cgroup() {
        let root = kilter_testkit::cgroup2_root();
        let line = || fs::read_to_string("/proc/self/cgroup").unwrap().lines().last().unwrap().to_owned();
        let before = line();
        let other = root.join(format!("kilter-bench-test-{}", std::process::id()));
        fs::create_dir(&other).unwrap();
        let inside = Membership::join(&other).map(|_membership| line());
        let after = line();
        fs::remove_dir(&other).unwrap();
        assert!(inside.unwrap().ends_with(other.file_name().unwrap().to_str().unwrap()));
        assert_eq!(after, before);
    }

    #[test]
    fn a_directory_that_is_no_cgroup_is_refused() {
        let error = Membership::join(Path::new("/tmp")).unwrap_err().to_string();
        assert_eq!(error, "/tmp is not a cgroup (no cgroup.procs in it)");
    }
}
