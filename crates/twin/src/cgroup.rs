//! The twin's control groups: one tree, so that one write ends every process of a twin.

use std::fs;
use std::io;
use std::os::fd::AsFd;
use std::path::{Path, PathBuf};
use std::time::{Duration, Instant};

use anyhow::{Context, Result, bail};
use nix::poll::{PollFd, PollFlags, PollTimeout, poll};

/// How long killed processes may take to be gone.
const KILL_LIMIT: Duration = Duration::from_secs(20);

/// The cgroups of one twin.
#[derive(Debug, Clone)]
pub struct CgroupTree {
    root: PathBuf,
}

impl CgroupTree {
    /// The tree of the twin of this name, whether or not it exists yet.
    pub fn of(twin: &str) -> Result<Self> {
        Ok(Self { root: mount_point()?.join("kilter").join(twin) })
    }

    /// The cgroup of one process group of the twin (`control`, or a node's name).
    pub fn group(&self, name: &str) -> PathBuf {
        self.root.join(name)
    }

    /// Makes a group.
    pub fn create(&self, name: &str) -> Result<PathBuf> {
        let path = self.group(name);
        fs::create_dir_all(&path).with_context(|| format!("make cgroup {}", path.display()))?;
        Ok(path)
    }

    /// Whether any process of the twin is alive.
    pub fn is_populated(&self) -> bool {
        populated(&self.root).unwrap_or(false)
    }

    /// The processes of one group and of the groups below it.
    pub fn processes(&self, name: &str) -> Result<Vec<i32>> {
        let mut found = Vec::new();
        processes_below(&self.group(name), &mut found)
            .with_context(|| format!("list the processes of {}", self.group(name).display()))?;
        Ok(found)
    }

    /// Kills every process in the tree and waits until the kernel has reaped them all.
    pub fn kill(&self) -> Result<()> {
        kill(&self.root)
    }

    /// Kills every process of one group and waits until the kernel has reaped them all.
    pub fn kill_group(&self, name: &str) -> Result<()> {
        kill(&self.group(name))
    }

    /// Removes one (empty) group; it need not be there.
    pub fn remove_group(&self, name: &str) -> Result<()> {
        let group = self.group(name);
        remove_tree(&group).with_context(|| format!("remove cgroup {}", group.display()))
    }

    /// Removes the (empty) tree, and the common parent where it was the last.
    pub fn remove(&self) -> Result<()> {
        remove_tree(&self.root).with_context(|| format!("remove cgroup {}", self.root.display()))?;
        if let Some(parent) = self.root.parent() {
            // Not empty: another twin lives there.
            let _ = fs::remove_dir(parent);
        }
        Ok(())
    }
}

/// Where cgroup2 is mounted; on a hybrid layout that is not `/sys/fs/cgroup`.
pub fn mount_point() -> Result<PathBuf> {
    let mounts = fs::read_to_string("/proc/self/mountinfo").context("read /proc/self/mountinfo")?;
    for line in mounts.lines() {
        // mountinfo(5): fields before " - " are per mount, after it the file system type.
        if let Some((mount, file_system)) = line.split_once(" - ")
            && file_system.starts_with("cgroup2 ")
            && let Some(point) = mount.split(' ').nth(4)
        {
            return Ok(PathBuf::from(point));
        }
    }
    bail!("no cgroup2 file system is mounted; mount one: mkdir -p /sys/fs/cgroup/unified && mount -t cgroup2 none /sys/fs/cgroup/unified")
}

fn populated(group: &Path) -> io::Result<bool> {
    Ok(fs::read_to_string(group.join("cgroup.events"))?.lines().any(|l| l == "populated 1"))
}

fn kill(group: &Path) -> Result<()> {
    match fs::write(group.join("cgroup.kill"), "1") {
        Ok(()) => wait_until_empty(group),
        Err(error) if error.kind() == io::ErrorKind::NotFound => Ok(()),
        Err(error) => Err(error).context(format!("kill the processes of {}", group.display())),
    }
}

fn wait_until_empty(group: &Path) -> Result<()> {
    let deadline = Instant::now() + KILL_LIMIT;
    let events = fs::File::open(group.join("cgroup.events"))?;
    while populated(group).unwrap_or(false) {
        let left = deadline.saturating_duration_since(Instant::now());
        if left.is_zero() {
            bail!("processes in {} survive SIGKILL for {} s (stuck in the kernel?)", group.display(), KILL_LIMIT.as_secs());
        }
        // cgroup.events raises POLLPRI when it changes; the bound covers a change between read and poll.
        let mut fds = [PollFd::new(events.as_fd(), PollFlags::POLLPRI)];
        poll(&mut fds, PollTimeout::try_from(left.min(Duration::from_millis(20)))?)?;
    }
    Ok(())
}

fn processes_below(group: &Path, found: &mut Vec<i32>) -> io::Result<()> {
    let listed = fs::read_to_string(group.join("cgroup.procs"))?;
    found.extend(listed.lines().filter_map(|pid| pid.parse::<i32>().ok()));
    for entry in fs::read_dir(group)? {
        let entry = entry?;
        if entry.file_type()?.is_dir() {
            processes_below(&entry.path(), found)?;
        }
    }
    Ok(())
}

fn remove_tree(group: &Path) -> io::Result<()> {
    let entries = match fs::read_dir(group) {
        Ok(entries) => entries,
        Err(error) if error.kind() == io::ErrorKind::NotFound => return Ok(()),
        Err(error) => return Err(error),
    };
    for entry in entries {
        let entry = entry?;
        if entry.file_type()?.is_dir() {
            remove_tree(&entry.path())?;
        }
    }
    fs::remove_dir(group)
}
