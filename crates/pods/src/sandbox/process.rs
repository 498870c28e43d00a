use std::io;
use std::os::fd::OwnedFd;
use std::path::PathBuf;

use rustix::process::{Pid, PidfdFlags, Signal, WaitId, WaitIdOptions};
use tokio::io::Interest;
use tokio::io::unix::AsyncFd;

/// A pause process, held by a descriptor, so that a reused PID can never be mistaken for it.
#[derive(Debug)]
pub struct Process {
    pid: i32,
    start_time: u64,
    handle: AsyncFd<OwnedFd>,
}

impl Process {
    /// A child of this process that has not been waited for.
    pub(super) fn of_child(pid: u32) -> io::Result<Self> {
        let pid = i32::try_from(pid).map_err(io::Error::other)?;
        Ok(Self { pid, start_time: start_time(pid)?, handle: open(pid)? })
    }

    /// The process of an earlier run of the node, when it still lives: the same PID, and started
    /// at the same moment.
    pub fn adopt(pid: i32, started: u64) -> io::Result<Option<Self>> {
        let gone = |error: &io::Error| {
            error.kind() == io::ErrorKind::NotFound || error.raw_os_error() == Some(libc::ESRCH)
        };
        // The handle first: what is read after it is about the process that it holds.
        let handle = match open(pid) {
            Ok(handle) => handle,
            Err(error) if gone(&error) => return Ok(None),
            Err(error) => return Err(error),
        };
        match start_time(pid) {
            Ok(start_time) if start_time == started => Ok(Some(Self { pid, start_time, handle })),
            Ok(_) => Ok(None),
            Err(error) if gone(&error) => Ok(None),
            Err(error) => Err(error),
        }
    }

    /// Its PID, as this process sees it.
    pub fn pid(&self) -> i32 {
        self.pid
    }

    /// When it was started, in clock ticks since boot (proc(5), `stat` field 22).
    pub fn start_time(&self) -> u64 {
        self.start_time
    }

    /// The path of one of its namespaces: `net`, `uts`, `ipc`, `pid`.
    pub fn namespace(&self, kind: &str) -> PathBuf {
        PathBuf::from(format!("/proc/{}/ns/{kind}", self.pid))
    }

    /// Waits until it has ended, for whatever reason, and reaps it if it is our child.
    pub async fn ended(&self) {
        // An error means that the runtime is going down: nobody is left to wait.
        let _ = self.handle.readable().await;
        let _ = rustix::process::waitid(
            WaitId::PidFd(std::os::fd::AsFd::as_fd(self.handle.get_ref())),
            WaitIdOptions::EXITED | WaitIdOptions::NOHANG,
        );
    }

    /// Ends it and everything else in the pod's PID namespace, and waits until it is gone.
    pub async fn kill(&self) -> io::Result<()> {
        match rustix::process::pidfd_send_signal(self.handle.get_ref(), Signal::KILL) {
            Ok(()) | Err(rustix::io::Errno::SRCH) => {}
            Err(error) => return Err(error.into()),
        }
        self.ended().await;
        Ok(())
    }
}

fn open(pid: i32) -> io::Result<AsyncFd<OwnedFd>> {
    let pid = Pid::from_raw(pid).ok_or_else(|| io::Error::from(io::ErrorKind::NotFound))?;
    let handle = rustix::process::pidfd_open(pid, PidfdFlags::empty())?;
    // SAFETY: an `OwnedFd` keeps one descriptor open until it is dropped, which happens with the
    // `AsyncFd` that owns it.
    unsafe { AsyncFd::register_with_interest(handle, Interest::READABLE) }.map_err(io::Error::from)
}

fn start_time(pid: i32) -> io::Result<u64> {
    let stat = std::fs::read_to_string(format!("/proc/{pid}/stat"))?;
    parse_start_time(&stat).ok_or_else(|| io::Error::other(format!("/proc/{pid}/stat is malformed")))
}

/// Field 22; the second is the program's name in parentheses, which may hold anything.
fn parse_start_time(stat: &str) -> Option<u64> {
    let after_name = &stat[stat.rfind(')')? + 1..];
    after_name.split_ascii_whitespace().nth(19)?.parse().ok()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_name_with_spaces_and_parentheses_does_not_shift_the_fields() {
        let stat =
            "7 (a) b) S 1 7 7 0 -1 4194560 100 0 0 0 0 0 0 0 20 0 1 0 123456 2000 100 18446744073709551615";
        assert_eq!(parse_start_time(stat), Some(123_456));
        assert_eq!(parse_start_time("7 (x"), None);
    }

    #[tokio::test]
    async fn a_pid_started_at_another_moment_is_not_adopted() {
        let own = std::process::id() as i32;
        assert!(Process::adopt(own, 1).unwrap().is_none());
        let started = start_time(own).unwrap();
        assert_eq!(Process::adopt(own, started).unwrap().unwrap().pid(), own);
    }
}
