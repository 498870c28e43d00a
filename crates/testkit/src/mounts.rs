use std::path::{Path, PathBuf};
use std::sync::Once;
use std::sync::atomic::{AtomicU32, Ordering};

use nix::mount::{MntFlags, MsFlags, mount, umount2};

/// A directory of this process, removed with what is in it when dropped.
///
/// Mounts inside are detached first, so that no file system is emptied by mistake.
#[derive(Debug)]
pub struct TempDir {
    path: PathBuf,
}

impl TempDir {
    /// A new directory under `/tmp`; `label` makes it recognisable.
    #[track_caller]
    pub fn new(label: &str) -> Self {
        static NEXT: AtomicU32 = AtomicU32::new(0);
        static SWEPT: Once = Once::new();
        SWEPT.call_once(sweep);
        let number = NEXT.fetch_add(1, Ordering::Relaxed);
        let path = std::env::temp_dir().join(format!("{PREFIX}{label}-{}-{number}", std::process::id()));
        std::fs::create_dir(&path).unwrap_or_else(|error| panic!("make {}: {error}", path.display()));
        Self { path }
    }

    /// Where it is.
    pub fn path(&self) -> &Path {
        &self.path
    }
}

impl Drop for TempDir {
    fn drop(&mut self) {
        // A test that fails must show its own message, so nothing here panics.
        if let Err(error) = remove(&self.path) {
            eprintln!("left behind: {}: {error}", self.path.display());
        }
    }
}

/// How the name of every [`TempDir`] begins; label, process and number follow.
const PREFIX: &str = "kilter-test-";

/// Detaches what is mounted below, then removes the directory.
fn remove(path: &Path) -> std::io::Result<()> {
    for mount_point in mount_points().into_iter().rev().filter(|point| point.starts_with(path)) {
        umount2(&mount_point, MntFlags::MNT_DETACH)?;
    }
    std::fs::remove_dir_all(path)
}

/// Removes what tests that were killed have left: no destructor ran for them.
fn sweep() {
    let Ok(entries) = std::fs::read_dir(std::env::temp_dir()) else { return };
    for path in entries.flatten().map(|entry| entry.path()).filter(|path| path.is_dir()) {
        let name = path.file_name().unwrap_or_default().to_string_lossy();
        if owner(&name).is_some_and(|owner| !Path::new("/proc").join(owner).exists()) {
            // Another process may be sweeping the same leftovers.
            let _ = remove(&path);
        }
    }
}

/// The process that made a directory of this name.
fn owner(name: &str) -> Option<&str> {
    let (front, number) = name.strip_prefix(PREFIX)?.rsplit_once('-')?;
    let (_, process) = front.rsplit_once('-')?;
    let digits = |text: &str| !text.is_empty() && text.bytes().all(|byte| byte.is_ascii_digit());
    (digits(number) && digits(process)).then_some(process)
}

/// A bpffs of this test alone; unmounting it on drop drops every pin.
#[derive(Debug)]
pub struct BpfFs {
    dir: TempDir,
}

impl BpfFs {
    /// Mounts one in a new directory. Needs root.
    #[track_caller]
    pub fn mount() -> Self {
        let dir = TempDir::new("bpffs");
        mount(Some("kilter-test"), dir.path(), Some("bpf"), MsFlags::empty(), Some("mode=0700"))
            .unwrap_or_else(|error| {
                panic!("mount a bpffs on {} (are you root?): {error}", dir.path().display())
            });
        Self { dir }
    }

    /// Where it is mounted.
    pub fn path(&self) -> &Path {
        self.dir.path()
    }
}

/// Where the unified cgroup hierarchy is mounted, from this process's mount table.
#[track_caller]
pub fn cgroup2_root() -> PathBuf {
    let table = mountinfo();
    let found = table.iter().find(|mount| mount.kind == "cgroup2").map(|mount| mount.point.clone());
    found.expect("no cgroup2 file system is mounted; mount one: mount -t cgroup2 none /sys/fs/cgroup/unified")
}

/// One line of `/proc/self/mountinfo` (proc(5)).
pub(crate) struct Mount {
    pub(crate) point: PathBuf,
    pub(crate) kind: String,
}

/// The mount table, in the order in which things were mounted.
pub(crate) fn mountinfo() -> Vec<Mount> {
    let table = std::fs::read_to_string("/proc/self/mountinfo").expect("read /proc/self/mountinfo");
    table.lines().filter_map(parse_mount).collect()
}

fn mount_points() -> Vec<PathBuf> {
    mountinfo().into_iter().map(|mount| mount.point).collect()
}

/// Fields before ` - ` are numbered, with optional ones at the end; the type comes right after.
fn parse_mount(line: &str) -> Option<Mount> {
    let (front, back) = line.split_once(" - ")?;
    let point = front.split(' ').nth(4)?;
    let kind = back.split(' ').next()?;
    Some(Mount { point: unescape(point).into(), kind: kind.into() })
}

/// mountinfo writes space, tab, newline and backslash as three octal digits.
fn unescape(text: &str) -> String {
    text.replace("\\040", " ").replace("\\011", "\t").replace("\\012", "\n").replace("\\134", "\\")
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_mount_line_with_optional_fields_is_read() {
        let line =
            "36 35 98:0 /mnt1 /mnt\\040two rw,noatime master:1 shared:2 - cgroup2 none rw,errors=continue";
        let mount = parse_mount(line).unwrap();
        assert_eq!((mount.point.to_str(), mount.kind.as_str()), (Some("/mnt two"), "cgroup2"));
        assert!(parse_mount("no separator").is_none());
    }

    #[test]
    fn only_directories_of_this_form_have_an_owner() {
        assert_eq!(owner("kilter-test-netns-22056-14"), Some("22056"));
        assert_eq!(owner("kilter-test-two-words-7-0"), Some("7"));
        for other in ["kilter-test-nft-22056", "kilter-test-netns-x-1", "tmp-netns-1-1"] {
            assert_eq!(owner(other), None, "{other}");
        }
    }

    #[test]
    fn what_a_killed_test_left_is_swept() {
        let mut killed = std::process::Command::new("true").spawn().unwrap();
        killed.wait().unwrap();
        let left = std::env::temp_dir().join(format!("{PREFIX}swept-{}-0", killed.id()));
        std::fs::create_dir_all(left.join("inside")).unwrap();
        sweep();
        assert!(!left.exists());
    }

    #[test]
    fn a_bpffs_goes_away_with_its_guard() {
        let path = {
            let bpffs = BpfFs::mount();
            assert!(mount_points().iter().any(|point| point == bpffs.path()));
            bpffs.path().to_path_buf()
        };
        assert!(!mount_points().contains(&path));
        assert!(!path.exists());
    }

    #[test]
    fn the_unified_hierarchy_has_controllers_listed() {
        assert!(cgroup2_root().join("cgroup.procs").exists());
    }
}
