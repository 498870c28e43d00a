use std::path::{Path, PathBuf};

use anyhow::Context;
use nix::mount::{MntFlags, MsFlags, mount, umount2};

use super::place::bind;
use crate::sandbox::Files;

/// The files that a container sees: this machine's, copied when written to, so that nothing that
/// the container does to them stays; with its volumes in place.
#[derive(Debug, Clone)]
pub struct Root {
    /// An empty directory of its own.
    pub dir: PathBuf,
    /// Its volumes.
    pub mounts: Vec<Mount>,
    /// Where it starts; made if it does not exist.
    pub working_dir: PathBuf,
    /// Whether it sees the processes of the pod's other containers (`shareProcessNamespace`).
    pub shares_pids: bool,
    /// `securityContext.readOnlyRootFilesystem`.
    pub read_only: bool,
}

/// A volume in a container.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Mount {
    /// Where in the container.
    pub at: PathBuf,
    /// What on this machine.
    pub from: PathBuf,
    /// Whether the container may not write to it.
    pub read_only: bool,
}

impl Root {
    /// Makes it the root of the calling thread, which has a mount namespace of its own.
    pub(super) fn make(&self, files: &Files) -> anyhow::Result<()> {
        let root = self.overlay()?;
        for place in top_mounts(&self.dir)? {
            let at = inside(&root, &place);
            bind(&place, &at).with_context(|| format!("show {} to the container", place.display()))?;
        }
        for (file, place) in files.binds() {
            put(&file, &inside(&root, place)).with_context(|| format!("put the pod's {} in place", place.display()))?;
        }
        for volume in &self.mounts {
            volume.mount(&root).with_context(|| format!("mount a volume at {}", volume.at.display()))?;
        }
        let start = inside(&root, &self.working_dir);
        std::fs::create_dir_all(&start).with_context(|| format!("make workingDir {}", self.working_dir.display()))?;
        if self.read_only {
            read_only(&root).context("make the root file system read-only")?;
        }
        // The old root is mounted over the new one, and taken away (pivot_root(2)).
        nix::unistd::chdir(&root)?;
        nix::unistd::pivot_root(".", ".").context("change the root")?;
        umount2(".", MntFlags::MNT_DETACH).context("leave the machine's root")?;
        Ok(nix::unistd::chdir(Path::new("/"))?)
    }

    /// Lays a memory file system over the machine's root. It goes with the mount namespace.
    fn overlay(&self) -> anyhow::Result<PathBuf> {
        std::fs::create_dir_all(&self.dir).context("make the container's directory")?;
        let none = None::<&str>;
        mount(Some("kilter"), &self.dir, Some("tmpfs"), MsFlags::empty(), Some("mode=755"))
            .context("mount memory for what the container writes")?;
        let [upper, work, root] = ["upper", "work", "root"].map(|name| self.dir.join(name));
        for dir in [&upper, &work, &root] {
            std::fs::create_dir(dir)?;
        }
        let options = format!("lowerdir=/,upperdir={},workdir={}", upper.display(), work.display());
        mount(Some("kilter"), &root, Some("overlay"), MsFlags::empty(), Some(options.as_str()))
            .context("lay the container's files over this machine's (does the kernel have overlayfs?)")?;
        mount(none, &root, none, MsFlags::MS_PRIVATE, none)?;
        Ok(root)
    }
}

impl Mount {
    fn mount(&self, root: &Path) -> anyhow::Result<()> {
        let at = inside(root, &self.at);
        put(&self.from, &at)?;
        if self.read_only {
            read_only(&at)?;
        }
        Ok(())
    }
}

/// Binds a file or directory, making the place for it.
fn put(from: &Path, at: &Path) -> anyhow::Result<()> {
    let is_dir = std::fs::metadata(from).with_context(|| format!("look at {}", from.display()))?.is_dir();
    if is_dir {
        std::fs::create_dir_all(at)?;
    } else if !at.exists() {
        at.parent().map_or(Ok(()), std::fs::create_dir_all)?;
        std::fs::File::create(at)?;
    }
    Ok(bind(from, at)?)
}

fn read_only(at: &Path) -> nix::Result<()> {
    let none = None::<&Path>;
    mount(none, at, none, MsFlags::MS_REMOUNT | MsFlags::MS_BIND | MsFlags::MS_RDONLY, none)
}

fn inside(root: &Path, path: &Path) -> PathBuf {
    root.join(path.strip_prefix("/").unwrap_or(path))
}

/// What is mounted on this machine besides its root, without what lies under that, and without
/// the container's own memory.
fn top_mounts(own: &Path) -> anyhow::Result<Vec<PathBuf>> {
    let mounts = std::fs::read_to_string("/proc/self/mountinfo").context("read /proc/self/mountinfo")?;
    Ok(topmost(&mounts, own))
}

fn topmost(mounts: &str, own: &Path) -> Vec<PathBuf> {
    // proc(5): field 5 is the mount point, with spaces and the like as octal escapes.
    let points = mounts.lines().filter_map(|line| line.split(' ').nth(4)).filter(|point| !point.contains('\\'));
    let mut points: Vec<PathBuf> = points.map(PathBuf::from).filter(|point| point != Path::new("/")).collect();
    points.retain(|point| !point.starts_with(own) && !own.starts_with(point));
    points.sort();
    points.dedup_by(|point, before| point.starts_with(before));
    points
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_the_topmost_mounts_are_shown_and_none_of_the_containers_own() {
        let mounts = "22 1 8:1 / / rw - ext4 x rw\n23 22 0:5 / /dev rw - devtmpfs x rw\n\
            24 23 0:6 / /dev/pts rw - devpts x rw\n25 22 0:7 / /proc rw - proc x rw\n\
            26 22 0:8 / /run/kilter/t/pods/u/web rw - tmpfs x rw\n27 22 0:9 / /device rw - tmpfs x rw\n\
            28 22 0:9 / /with\\040space rw - tmpfs x rw\n";
        let found = topmost(mounts, Path::new("/run/kilter/t/pods/u/web"));
        assert_eq!(found, ["/dev", "/device", "/proc"].map(PathBuf::from));
    }
}
