use std::fs::File;
use std::io;
use std::os::fd::{AsFd, OwnedFd};
use std::path::{Path, PathBuf};
use std::sync::Arc;

use anyhow::Context;
use nix::fcntl::{OFlag, openat};
use nix::mount::{MsFlags, mount};
use nix::sched::{CloneFlags, setns, unshare};
use nix::sys::stat::Mode;

use super::root::Root;
use crate::sandbox::Files;

/// Where in a pod programs run.
#[derive(Debug, Clone)]
pub struct Place {
    /// The pause process, whose namespaces are the pod's.
    pub pause: i32,
    /// The pod's network namespace.
    pub netns: PathBuf,
    /// The directory of the pod's files.
    pub files: PathBuf,
    /// The container whose files and processes are seen; without one, the machine's files.
    pub container: Option<Arc<Entered>>,
    /// The cgroup that programs are started in, if not the node's.
    pub cgroup: Option<PathBuf>,
}

/// What a container that runs for real has to itself. Held open, so that a reused process number
/// is never taken for it.
#[derive(Debug)]
pub struct Entered {
    mounts: OwnedFd,
    pids: OwnedFd,
}

/// The calling thread's own namespaces, as they will be: looked up before its files change.
pub(super) struct Own(File);

impl Own {
    pub(super) fn look() -> io::Result<Self> {
        File::open("/proc/thread-self/ns").map(Self)
    }

    /// Those that the thread's first child was born into. Asked of the thread, since a program may
    /// have ended already, and the dead have no namespaces.
    pub(super) fn entered(&self) -> nix::Result<Entered> {
        let open = |kind: &str| openat(&self.0, kind, OFlag::O_RDONLY | OFlag::O_CLOEXEC, Mode::empty());
        Ok(Entered { mounts: open("mnt")?, pids: open("pid_for_children")? })
    }
}

impl Place {
    /// Moves the calling thread to where `kubectl exec` and probes run their programs. The thread
    /// must end afterwards.
    pub(super) fn enter(&self) -> anyhow::Result<()> {
        self.enter_pod()?;
        match &self.container {
            Some(container) => {
                setns(container.pids.as_fd(), CloneFlags::CLONE_NEWPID).context("enter the container's pid namespace")?;
                unshare(CloneFlags::CLONE_FS)?;
                setns(container.mounts.as_fd(), CloneFlags::CLONE_NEWNS).context("enter the container's mounts")
            }
            None => {
                self.enter_pids()?;
                own_mounts()?;
                for (file, place) in Files::at(self.files.clone()).binds() {
                    // A machine without the file cannot have it replaced; programs then see none.
                    if place.exists() {
                        bind(&file, place).with_context(|| format!("put the pod's {} in place", place.display()))?;
                    }
                }
                Ok(())
            }
        }
    }

    /// Moves the calling thread to where a new container starts: files of its own, and processes
    /// of its own unless the pod shares them.
    pub(super) fn enter_new(&self, root: &Root) -> anyhow::Result<()> {
        self.enter_pod()?;
        match root.shares_pids {
            true => self.enter_pids()?,
            false => unshare(CloneFlags::CLONE_NEWPID).context("make a pid namespace")?,
        }
        own_mounts()?;
        root.make(&Files::at(self.files.clone()))
    }

    fn enter_pod(&self) -> anyhow::Result<()> {
        for (kind, flag) in [("uts", CloneFlags::CLONE_NEWUTS), ("ipc", CloneFlags::CLONE_NEWIPC)] {
            setns(self.open(kind)?.as_fd(), flag).with_context(|| format!("enter the pod's {kind} namespace"))?;
        }
        Ok(kilter_netns::NetNs::open(&self.netns)?.set()?)
    }

    fn enter_pids(&self) -> anyhow::Result<()> {
        setns(self.open("pid")?.as_fd(), CloneFlags::CLONE_NEWPID).context("enter the pod's pid namespace")
    }

    fn open(&self, kind: &str) -> anyhow::Result<File> {
        File::open(format!("/proc/{}/ns/{kind}", self.pause)).context("the pod's sandbox has ended")
    }
}

/// A mount namespace from which nothing reaches the machine's.
fn own_mounts() -> anyhow::Result<()> {
    // A mount namespace needs file system attributes of the thread's own.
    unshare(CloneFlags::CLONE_FS | CloneFlags::CLONE_NEWNS).context("make a mount namespace")?;
    let none = None::<&Path>;
    mount(none, "/", none, MsFlags::MS_REC | MsFlags::MS_PRIVATE, none).context("make mounts private")
}

/// Puts a file or directory in another's place.
pub(super) fn bind(from: &Path, at: &Path) -> nix::Result<()> {
    mount(Some(from), at, None::<&Path>, MsFlags::MS_BIND | MsFlags::MS_REC, None::<&Path>)
}
