//! One `up` or `down` of a twin at a time.

use std::fs::{self, File, OpenOptions};
use std::time::{Duration, Instant};

use anyhow::{Context, Result, bail};
use nix::errno::Errno;
use nix::fcntl::{Flock, FlockArg};

use crate::paths::{Layout, ROOT};

/// How long a lock is waited for.
const PATIENCE: Duration = Duration::from_secs(2);

/// Held while a twin is brought up or down; the kernel releases it when its holder dies.
pub struct Lock {
    _held: Flock<File>,
    path: std::path::PathBuf,
}

impl Lock {
    /// Takes the lock, or says who is in the way. Waits a moment first: a child of a process that
    /// was killed holds it from its fork to its exec.
    pub fn take(layout: &Layout) -> Result<Self> {
        use std::os::unix::fs::DirBuilderExt;
        fs::DirBuilder::new()
            .recursive(true)
            .mode(0o700)
            .create(ROOT)
            .with_context(|| format!("make {ROOT}"))?;
        let path = layout.lock();
        let file = OpenOptions::new()
            .create(true)
            .truncate(false)
            .write(true)
            .open(&path)
            .with_context(|| format!("open {}", path.display()))?;
        let deadline = Instant::now() + PATIENCE;
        let mut file = file;
        loop {
            file = match Flock::lock(file, FlockArg::LockExclusiveNonblock) {
                Ok(held) => return Ok(Self { _held: held, path }),
                Err((file, Errno::EWOULDBLOCK)) if Instant::now() < deadline => file,
                Err((_, Errno::EWOULDBLOCK)) => bail!(
                    "another kilter is bringing twin {} up or down at this moment; wait for it",
                    layout.name()
                ),
                Err((_, errno)) => return Err(errno).context(format!("lock {}", path.display())),
            };
            std::thread::park_timeout(Duration::from_millis(10));
        }
    }

    /// Removes the lock file too, and the common directory where it was the last in it.
    pub fn remove(self) {
        // While still held: nobody can hold a lock on a file that is about to vanish.
        let _ = fs::remove_file(&self.path);
        let _ = fs::remove_dir(ROOT);
    }
}
