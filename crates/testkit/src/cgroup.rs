use std::fs;
use std::io::ErrorKind;
use std::path::{Path, PathBuf};
use std::process;
use std::sync::atomic::{AtomicU32, Ordering};
use std::time::Duration;

use crate::mounts::cgroup2_root;
use crate::wait::find_within;

/// How long processes that end may take to leave it.
const DEADLINE: Duration = Duration::from_secs(20);

/// A cgroup of its own, removed when dropped, with the empty ones below it.
pub struct TestCgroup(pub PathBuf);

impl TestCgroup {
    /// `label` says whose it is, to whoever finds it after a crash.
    ///
    /// # Panics
    /// Without root, or without a cgroup2 file system.
    pub fn new(label: &str) -> Self {
        static NEXT: AtomicU32 = AtomicU32::new(0);
        let number = NEXT.fetch_add(1, Ordering::Relaxed);
        let path = cgroup2_root().join(format!("kilter-test-{label}-{}-{number}", process::id()));
        fs::create_dir(&path).unwrap_or_else(|error| panic!("make cgroup {} (are you root?): {error}", path.display()));
        Self(path)
    }
}

impl Drop for TestCgroup {
    fn drop(&mut self) {
        // What another test starts while this process is in it is in it, too, until it ends.
        let removed = find_within(DEADLINE, || remove_tree(&self.0).then_some(()));
        if removed.is_none() {
            // A test that fails must show its own message, so nothing here panics.
            eprintln!("left behind: cgroup {}", self.0.display());
        }
    }
}

/// Whether it is gone.
fn remove_tree(group: &Path) -> bool {
    for entry in fs::read_dir(group).into_iter().flatten().flatten() {
        if entry.path().is_dir() {
            remove_tree(&entry.path());
        }
    }
    match fs::remove_dir(group) {
        Ok(()) => true,
        Err(error) => error.kind() == ErrorKind::NotFound,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn it_goes_when_the_last_process_has_left_it() {
        let group = TestCgroup::new("testkit");
        let path = group.0.clone();
        let join = format!("echo $$ > {}/cgroup.procs && echo in && read line", path.display());
        let mut command = process::Command::new("sh");
        command.args(["-c", &join]).stdin(process::Stdio::piped()).stdout(process::Stdio::piped());
        let mut child = command.spawn().unwrap();
        let mut said = [0; 3];
        std::io::Read::read_exact(child.stdout.as_mut().unwrap(), &mut said).unwrap();
        assert!(fs::remove_dir(&path).is_err(), "somebody is in it");
        let dropping = std::thread::spawn(move || drop(group));
        drop(child.stdin.take());
        child.wait().unwrap();
        dropping.join().unwrap();
        assert!(!path.exists());
    }
}
