//! Starts a program of this machine inside a pod: in the pod's network, UTS, IPC and PID
//! namespaces, with a mount namespace of its own in which a few files are the pod's.

use std::collections::BTreeMap;
use std::fs::File;
use std::io;
use std::os::fd::{AsFd, AsRawFd, OwnedFd};
use std::path::Path;
use std::process::Stdio;

use nix::mount::{MsFlags, mount};
use nix::sched::{CloneFlags, setns, unshare};
use tokio::process::{Child, Command};

use super::channel::Size;
use crate::registry::View;
use crate::sandbox::Files;

/// A program to run.
#[derive(Debug)]
pub(super) struct Program {
    pub(super) command: Vec<String>,
    pub(super) environment: BTreeMap<String, String>,
    pub(super) stdin: bool,
    pub(super) tty: bool,
}

/// A program that runs.
#[derive(Debug)]
pub(super) struct Spawned {
    pub(super) child: Child,
    /// The near end of its terminal.
    pub(super) terminal: Option<OwnedFd>,
}

/// Starts the program. The namespaces are entered by a thread that ends here: its children are
/// born into them, and no other thread of this process is moved.
pub(super) fn spawn(program: Program, sandbox: &View) -> anyhow::Result<Spawned> {
    let runtime = tokio::runtime::Handle::current();
    std::thread::scope(|scope| {
        let thread = scope.spawn(|| {
            // The child is watched by the runtime.
            let _context = runtime.enter();
            enter(sandbox)?;
            start(program)
        });
        thread.join().unwrap_or_else(|panic| std::panic::resume_unwind(panic))
    })
}

fn enter(sandbox: &View) -> anyhow::Result<()> {
    use anyhow::Context;
    let open = |kind: &str| File::open(format!("/proc/{}/ns/{kind}", sandbox.pid));
    let kinds = [
        ("uts", CloneFlags::CLONE_NEWUTS),
        ("ipc", CloneFlags::CLONE_NEWIPC),
        ("pid", CloneFlags::CLONE_NEWPID),
    ];
    for (kind, flag) in kinds {
        let namespace = open(kind).context("the pod's sandbox has ended")?;
        setns(namespace.as_fd(), flag).with_context(|| format!("enter the pod's {kind} namespace"))?;
    }
    kilter_netns::NetNs::open(&sandbox.netns)?.set()?;
    // A mount namespace needs file system attributes of the thread's own.
    unshare(CloneFlags::CLONE_FS | CloneFlags::CLONE_NEWNS).context("make a mount namespace")?;
    let none = None::<&Path>;
    mount(none, "/", none, MsFlags::MS_REC | MsFlags::MS_PRIVATE, none).context("make mounts private")?;
    for (file, place) in Files::at(sandbox.dir.clone()).binds() {
        // A machine without the file cannot have it replaced; programs then see none, as before.
        if place.exists() {
            bind(&file, place).with_context(|| format!("put the pod's {} in place", place.display()))?;
        }
    }
    Ok(())
}

fn bind(file: &Path, place: &Path) -> nix::Result<()> {
    mount(Some(file), place, None::<&Path>, MsFlags::MS_BIND, None::<&Path>)
}

fn start(program: Program) -> anyhow::Result<Spawned> {
    use anyhow::Context;
    let (name, arguments) = program.command.split_first().context("no command was given")?;
    let mut command = Command::new(name);
    command.args(arguments).env_clear().envs(program.environment).current_dir("/").kill_on_drop(true);
    let terminal = if program.tty { Some(with_terminal(&mut command)?) } else { None };
    if !program.tty {
        command.stdin(if program.stdin { Stdio::piped() } else { Stdio::null() });
        command.stdout(Stdio::piped()).stderr(Stdio::piped());
    }
    let tty = program.tty;
    // SAFETY: between fork and exec only system calls are made, with constant arguments; nothing is
    // allocated and no lock is taken.
    unsafe {
        command.pre_exec(move || become_member(tty));
    }
    match command.spawn() {
        Ok(child) => Ok(Spawned { child, terminal }),
        Err(error) if error.kind() == io::ErrorKind::NotFound => Err(NotFound(name.clone()).into()),
        Err(error) => Err(error).with_context(|| format!("exec {name:?}")),
    }
}

/// The last steps, which only the child itself can take: it leads a session, so that it can be
/// ended with all that it starts, and its /proc shows the pod's processes.
fn become_member(tty: bool) -> io::Result<()> {
    nix::unistd::setsid()?;
    if tty {
        // SAFETY: TIOCSCTTY takes a number, and descriptor 0 is the terminal.
        unsafe { set_controlling_terminal(0, 0) }?;
    }
    let flags = MsFlags::MS_NOSUID | MsFlags::MS_NODEV | MsFlags::MS_NOEXEC;
    // Machines that hide parts of /proc refuse it; then the machine's shows through.
    let _ = mount(Some("proc"), "/proc", Some("proc"), flags, None::<&str>);
    Ok(())
}

/// There is no such program.
#[derive(Debug, thiserror::Error)]
#[error(
    "exec: {0:?}: executable file not found in $PATH (programs of this machine are run in place of the image's)"
)]
pub(super) struct NotFound(String);

nix::ioctl_write_int_bad!(set_controlling_terminal, libc::TIOCSCTTY);
nix::ioctl_write_ptr_bad!(set_terminal_size, libc::TIOCSWINSZ, libc::winsize);

/// Gives the command a new terminal; returns the near end.
fn with_terminal(command: &mut Command) -> io::Result<OwnedFd> {
    let pair = nix::pty::openpty(None, None)?;
    for near in [&pair.master, &pair.slave] {
        nix::fcntl::fcntl(near, nix::fcntl::FcntlArg::F_SETFD(nix::fcntl::FdFlag::FD_CLOEXEC))?;
    }
    command.stdin(pair.slave.try_clone()?).stdout(pair.slave.try_clone()?).stderr(pair.slave);
    Ok(pair.master)
}

/// Tells a terminal's programs its size.
pub(super) fn resize(terminal: &impl AsFd, size: Size) -> io::Result<()> {
    let size = libc::winsize { ws_row: size.height, ws_col: size.width, ws_xpixel: 0, ws_ypixel: 0 };
    // SAFETY: the descriptor is open for as long as it is borrowed, and TIOCSWINSZ reads a
    // `winsize`, which outlives the call.
    unsafe { set_terminal_size(terminal.as_fd().as_raw_fd(), &raw const size) }?;
    Ok(())
}
