//! Bind mounts of namespaces and the twin's BPF file system.

use std::fs;
use std::os::fd::{AsFd, AsRawFd};
use std::path::{Path, PathBuf};

use anyhow::{Context, Result};
use kilter_netns::NetNs;
use nix::mount::{MntFlags, MsFlags, mount, umount2};

/// Makes a network namespace and keeps it alive by a bind mount.
pub fn create_namespace(at: &Path) -> Result<NetNs> {
    let namespace = NetNs::create()?;
    fs::write(at, "").with_context(|| format!("make {}", at.display()))?;
    let source = format!("/proc/self/fd/{}", namespace.as_fd().as_raw_fd());
    mount(Some(source.as_str()), at, None::<&str>, MsFlags::MS_BIND, None::<&str>)
        .with_context(|| format!("keep the network namespace at {}", at.display()))?;
    NetNs::open(at).map_err(Into::into)
}

/// Mounts a BPF file system of the twin's own: everything it pins goes with this one mount.
pub fn mount_bpf(at: &Path) -> Result<()> {
    fs::create_dir_all(at)?;
    mount(Some("bpf"), at, Some("bpf"), MsFlags::empty(), Some("mode=0700"))
        .with_context(|| format!("mount a BPF file system at {}", at.display()))
}

/// Unmounts whatever is mounted below a directory, deepest first.
pub fn unmount_below(root: &Path) -> Result<()> {
    for point in mounts_below(root)?.iter().rev() {
        umount2(point, MntFlags::MNT_DETACH).with_context(|| format!("unmount {}", point.display()))?;
    }
    Ok(())
}

/// Mount points below a directory, in the order in which they were made.
pub fn mounts_below(root: &Path) -> Result<Vec<PathBuf>> {
    let mounts = fs::read_to_string("/proc/self/mountinfo").context("read /proc/self/mountinfo")?;
    Ok(mounts
        .lines()
        .filter_map(|line| line.split(' ').nth(4))
        .map(PathBuf::from)
        .filter(|point| point.starts_with(root))
        .collect())
}
