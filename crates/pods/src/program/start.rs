//! Starts a program: on a thread that enters the pod's namespaces and ends, so that the program is
//! born into them and no other thread of this process is moved.

use std::collections::BTreeMap;
use std::fs::File;
use std::io::{self, Write};
use std::os::fd::{AsFd, AsRawFd, OwnedFd};
use std::os::unix::process::ExitStatusExt;
use std::path::PathBuf;
use std::process::{ExitStatus, Stdio};

use anyhow::Context;
use nix::mount::{MsFlags, mount};
use tokio::process::{Child, Command};

use super::Size;
use super::place::{Entered, Own, Place};
use super::root::Root;

/// A program to run.
#[derive(Debug, Clone)]
pub struct Program {
    /// Its name or path, and its arguments.
    pub command: Vec<String>,
    /// All of its environment.
    pub environment: BTreeMap<String, String>,
    /// Where it starts.
    pub working_dir: PathBuf,
    /// User and group, if not root.
    pub user: Option<(u32, u32)>,
    /// Whether it gets input.
    pub stdin: bool,
    /// Whether it gets a terminal.
    pub tty: bool,
}

/// A program that runs.
#[derive(Debug)]
pub struct Spawned {
    /// It; dropping this kills it.
    pub child: Child,
    /// The near end of its terminal.
    pub terminal: Option<OwnedFd>,
}

/// Starts a program in a pod or in a container of it.
pub fn spawn(program: Program, place: &Place) -> anyhow::Result<Spawned> {
    let join = join(place)?;
    on_a_thread(|| {
        place.enter()?;
        // A container's /proc is there already.
        start(program, join, place.container.is_none())
    })
}

/// Starts the first program of a container, with files and processes of its own.
pub fn spawn_container(program: Program, place: &Place, root: &Root) -> anyhow::Result<(Spawned, Entered)> {
    let join = join(place)?;
    on_a_thread(|| {
        let own = Own::look()?;
        place.enter_new(root)?;
        let spawned = start(program, join, true)?;
        let entered = own.entered().context("look at the container's namespaces")?;
        Ok((spawned, entered))
    })
}

/// The file that takes a process into the place's cgroup.
fn join(place: &Place) -> anyhow::Result<Option<File>> {
    let Some(cgroup) = &place.cgroup else { return Ok(None) };
    std::fs::create_dir_all(cgroup).with_context(|| format!("make cgroup {}", cgroup.display()))?;
    let file = File::options().write(true).open(cgroup.join("cgroup.procs"));
    Ok(Some(file.with_context(|| format!("join cgroup {}", cgroup.display()))?))
}

fn on_a_thread<T: Send>(task: impl FnOnce() -> anyhow::Result<T> + Send) -> anyhow::Result<T> {
    let runtime = tokio::runtime::Handle::current();
    std::thread::scope(|scope| {
        let thread = scope.spawn(|| {
            // The child is watched by the runtime.
            let _context = runtime.enter();
            task()
        });
        thread.join().unwrap_or_else(|panic| std::panic::resume_unwind(panic))
    })
}

fn start(program: Program, cgroup: Option<File>, mount_proc: bool) -> anyhow::Result<Spawned> {
    let (name, arguments) = program.command.split_first().context("no command was given")?;
    anyhow::ensure!(
        program.working_dir.is_dir(),
        "the working directory {} does not exist",
        program.working_dir.display()
    );
    let mut command = Command::new(name);
    command.args(arguments).env_clear().envs(program.environment).current_dir(program.working_dir).kill_on_drop(true);
    let terminal = if program.tty { Some(with_terminal(&mut command)?) } else { None };
    if !program.tty {
        command.stdin(if program.stdin { Stdio::piped() } else { Stdio::null() });
        command.stdout(Stdio::piped()).stderr(Stdio::piped());
    }
    let (tty, user) = (program.tty, program.user);
    // SAFETY: between fork and exec only system calls are made, with constant arguments; nothing is
    // allocated and no lock is taken.
    unsafe {
        command.pre_exec(move || become_member(tty, user, cgroup.as_ref(), mount_proc));
    }
    match command.spawn() {
        Ok(child) => Ok(Spawned { child, terminal }),
        Err(error) if error.kind() == io::ErrorKind::NotFound => Err(NotFound(name.clone()).into()),
        Err(error) => Err(error).with_context(|| format!("exec {name:?}")),
    }
}

/// The exit code of a program; 128 and the signal's number for a signal, as shells have it.
pub fn exit_code(status: ExitStatus) -> i32 {
    status.code().or_else(|| status.signal().map(|signal| 128 + signal)).unwrap_or(-1)
}

/// The last steps, which only the child itself can take: it leads a session, so that it can be
/// ended with all that it starts, and its /proc shows the processes that are its to see.
fn become_member(tty: bool, user: Option<(u32, u32)>, mut cgroup: Option<&File>, mount_proc: bool) -> io::Result<()> {
    nix::unistd::setsid()?;
    if let Some(procs) = &mut cgroup {
        // Zero is the writer itself (cgroups(7)).
        procs.write_all(b"0")?;
    }
    if tty {
        // SAFETY: TIOCSCTTY takes a number, and descriptor 0 is the terminal.
        unsafe { set_controlling_terminal(0, 0) }?;
    }
    if mount_proc {
        let flags = MsFlags::MS_NOSUID | MsFlags::MS_NODEV | MsFlags::MS_NOEXEC;
        // Machines that hide parts of /proc refuse it; then the machine's shows through.
        let _ = mount(Some("proc"), "/proc", Some("proc"), flags, None::<&str>);
    }
    if let Some((user, group)) = user {
        nix::unistd::setgroups(&[])?;
        nix::unistd::setgid(group.into())?;
        nix::unistd::setuid(user.into())?;
    }
    Ok(())
}

/// There is no such program.
#[derive(Debug, thiserror::Error)]
#[error(
    "exec: {0:?}: executable file not found in $PATH (programs of this machine are run in place of the image's)"
)]
pub struct NotFound(String);

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
pub fn resize(terminal: &impl AsFd, size: Size) -> io::Result<()> {
    let size = libc::winsize { ws_row: size.height, ws_col: size.width, ws_xpixel: 0, ws_ypixel: 0 };
    // SAFETY: the descriptor is open for as long as it is borrowed, and TIOCSWINSZ reads a
    // `winsize`, which outlives the call.
    unsafe { set_terminal_size(terminal.as_fd().as_raw_fd(), &raw const size) }?;
    Ok(())
}
