//! Holds a pod's namespaces. It is process 1 of the pod: what programs that were exec'd into the
//! pod leave behind is reaped here while it lives, and killed by the kernel when it ends.
//!
//! Its arguments are not read: they say, to whoever looks at the machine's processes, which twin
//! and which pod it belongs to, and let a restarted node find the ones that it has no record of.

use nix::errno::Errno;
use nix::sys::signal::{SigSet, Signal};
use nix::sys::wait::{WaitPidFlag, WaitStatus, waitpid};

fn main() {
    close_inherited();
    // A process group of its own: a signal typed at a terminal must not reach it.
    let _ = nix::unistd::setsid();
    let awaited: SigSet = [Signal::SIGTERM, Signal::SIGINT, Signal::SIGCHLD].into_iter().collect();
    // Process 1 of a PID namespace ignores signals without a handler, so they are waited for.
    if awaited.thread_block().is_err() {
        return;
    }
    while let Ok(signal) = awaited.wait() {
        if signal != Signal::SIGCHLD {
            return;
        }
        reap();
    }
}

/// Takes the exit status of every child that has ended, so that none stays as a zombie.
fn reap() {
    loop {
        match waitpid(None, Some(WaitPidFlag::WNOHANG)) {
            Ok(WaitStatus::StillAlive) | Err(Errno::ECHILD) => return,
            Ok(_) | Err(_) => {}
        }
    }
}

/// A descriptor that slipped through an exec would keep a socket or a namespace of the node alive.
fn close_inherited() {
    // SAFETY: nothing in this process holds a descriptor above the standard three: it is the first
    // thing that `main` does, and the runtime opens none.
    unsafe { libc::close_range(3, libc::c_uint::MAX, 0) };
}
