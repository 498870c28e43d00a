//! Handles to namespaces, and the only ways in: a guard for the current thread, or a thread of
//! its own.
//!
//! `ip netns exec` is never used: it remounts `/sys` and so hides bpffs and cgroups.

use std::fs::File;
use std::os::fd::{AsFd, AsRawFd, BorrowedFd};
use std::path::{Path, PathBuf};

use nix::libc;
use nix::sched::{CloneFlags, setns, unshare};

/// asm-generic/socket.h, since Linux 5.14.
const SO_NETNS_COOKIE: libc::c_int = 71;

/// Why a namespace could not be opened or entered.
#[derive(Debug, thiserror::Error)]
#[error("{action} network namespace {namespace}")]
pub struct Error {
    action: &'static str,
    namespace: String,
    source: std::io::Error,
}

/// An open network namespace. It lives at least as long as this handle.
#[derive(Debug)]
pub struct NetNs {
    file: File,
    path: PathBuf,
}

impl NetNs {
    /// Opens a namespace by path (`/proc/PID/ns/net`, or where it is bind-mounted).
    pub fn open(path: impl AsRef<Path>) -> Result<Self, Error> {
        let path = path.as_ref().to_path_buf();
        match File::open(&path) {
            Ok(file) => Ok(Self { file, path }),
            Err(source) => Err(Error { action: "open", namespace: path.display().to_string(), source }),
        }
    }

    /// The namespace of the calling thread, which need not be the process's first.
    pub fn current() -> Result<Self, Error> {
        Self::open("/proc/thread-self/ns/net")
    }

    /// A new, empty namespace; the calling thread stays where it is.
    pub fn create() -> Result<Self, Error> {
        std::thread::spawn(|| {
            unshare(CloneFlags::CLONE_NEWNET).map_err(|errno| Error {
                action: "create",
                namespace: "(new)".into(),
                source: errno.into(),
            })?;
            Self::current()
        })
        .join()
        .expect("BUG: the namespace thread panicked")
    }

    /// Where it was opened.
    pub fn path(&self) -> &Path {
        &self.path
    }

    /// Its inode, equal for two handles exactly when they are the same namespace.
    pub fn inode(&self) -> Result<u64, Error> {
        use std::os::unix::fs::MetadataExt;
        match self.file.metadata() {
            Ok(meta) => Ok(meta.ino()),
            Err(source) => Err(Error { action: "stat", namespace: self.path.display().to_string(), source }),
        }
    }

    /// By what the kernel's programs know it (`SO_NETNS_COOKIE`, socket(7)); never used again on this machine
    /// until it starts anew.
    pub fn cookie(&self) -> Result<u64, Error> {
        self.run(cookie_here)?.map_err(|source| Error {
            action: "ask for the cookie of",
            namespace: self.path.display().to_string(),
            source,
        })
    }

    /// Moves the calling thread in until the guard is dropped. Only on threads that run nothing
    /// else: never on an async runtime's worker across an await.
    pub fn enter(&self) -> Result<Guard, Error> {
        let back = Self::current()?;
        self.set()?;
        Ok(Guard { back, not_send: std::marker::PhantomData })
    }

    /// Moves the calling thread in for good.
    pub fn set(&self) -> Result<(), Error> {
        setns(self.file.as_fd(), CloneFlags::CLONE_NEWNET).map_err(|errno| Error {
            action: "enter",
            namespace: self.path.display().to_string(),
            source: errno.into(),
        })
    }

    /// Runs `work` inside, on a thread made for it.
    pub fn run<T: Send>(&self, work: impl FnOnce() -> T + Send) -> Result<T, Error> {
        std::thread::scope(|scope| {
            let thread = scope.spawn(|| self.set().map(|()| work()));
            thread.join().unwrap_or_else(|panic| std::panic::resume_unwind(panic))
        })
    }
}

/// The cookie of the calling thread's namespace.
#[allow(unsafe_code)]
fn cookie_here() -> std::io::Result<u64> {
    let socket = std::net::UdpSocket::bind("0.0.0.0:0")?;
    let (mut cookie, mut length) = (0u64, size_of::<u64>() as libc::socklen_t);
    // SAFETY: the kernel writes at most `length` bytes to `cookie`; both outlive the call.
    let asked = unsafe {
        libc::getsockopt(
            socket.as_raw_fd(),
            libc::SOL_SOCKET,
            SO_NETNS_COOKIE,
            (&raw mut cookie).cast(),
            &raw mut length,
        )
    };
    if asked < 0 { Err(std::io::Error::last_os_error()) } else { Ok(cookie) }
}

impl AsFd for NetNs {
    fn as_fd(&self) -> BorrowedFd<'_> {
        self.file.as_fd()
    }
}

/// Takes the thread back to where it was when dropped. `!Send`: a namespace belongs to a thread.
#[derive(Debug)]
pub struct Guard {
    back: NetNs,
    not_send: std::marker::PhantomData<*const ()>,
}

impl Drop for Guard {
    fn drop(&mut self) {
        // Going on in the wrong namespace would touch somebody else's network.
        self.back.set().expect("BUG: cannot return to the thread's own network namespace");
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_guard_returns_the_thread_where_it_was() {
        let outside = NetNs::current().unwrap().inode().unwrap();
        let new = NetNs::create().unwrap();
        assert_ne!(new.inode().unwrap(), outside);
        {
            let _guard = new.enter().unwrap();
            assert_eq!(NetNs::current().unwrap().inode().unwrap(), new.inode().unwrap());
        }
        assert_eq!(NetNs::current().unwrap().inode().unwrap(), outside);
    }

    #[test]
    fn run_works_inside_and_leaves_the_caller_alone() {
        let new = NetNs::create().unwrap();
        let inside = new.run(|| NetNs::current().unwrap().inode().unwrap()).unwrap();
        assert_eq!(inside, new.inode().unwrap());
        assert_ne!(NetNs::current().unwrap().inode().unwrap(), inside);
    }

    #[test]
    fn each_namespace_has_a_cookie_of_its_own() {
        let (one, two) = (NetNs::create().unwrap(), NetNs::create().unwrap());
        assert_ne!(one.cookie().unwrap(), two.cookie().unwrap());
        assert_eq!(one.cookie().unwrap(), one.cookie().unwrap());
    }

    #[test]
    fn a_missing_namespace_is_named() {
        let error = NetNs::open("/run/netns/kilter-no-such").unwrap_err();
        assert_eq!(error.to_string(), "open network namespace /run/netns/kilter-no-such");
    }
}
