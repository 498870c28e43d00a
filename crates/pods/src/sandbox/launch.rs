use std::io;
use std::path::Path;
use std::process::{Command, Stdio};

use nix::sched::{CloneFlags, unshare};

use super::Process;

/// How a pause process is started.
#[derive(Debug, Clone, Copy)]
pub struct Launch<'a> {
    /// The `kilter-pause` program.
    pub program: &'a Path,
    /// Where this node keeps its pods' state: the first argument, by which strays are found.
    pub state_dir: &'a Path,
    /// The pod, for people: the second argument.
    pub title: &'a str,
    /// `hostname` inside.
    pub hostname: &'a str,
    /// Whether the pod shares its node's network namespace.
    pub host_network: bool,
    /// Sysctls of its namespaces, name and value.
    pub sysctls: &'a [(String, String)],
}

/// Why a sandbox could not be made.
#[derive(Debug, thiserror::Error)]
pub enum LaunchError {
    /// The kernel refused a namespace.
    #[error("make the pod's namespaces (is this process root, and user.max_net_namespaces large enough?)")]
    Namespaces(#[source] io::Error),
    /// The new namespace could not be prepared.
    #[error("{1} in the pod's new namespaces")]
    Prepare(#[source] io::Error, &'static str),
    /// A sysctl was refused by the kernel.
    #[error("set sysctl {1} in the pod's new namespaces")]
    Sysctl(#[source] io::Error, String),
    /// The program could not be started.
    #[error("start {1}")]
    Start(#[source] io::Error, String),
    /// The program ended at once.
    #[error("the pause process ended as soon as it was started")]
    Ended(#[source] io::Error),
}

/// Starts a pause process in new namespaces; they are ready when this returns. Blocks for about a
/// millisecond; needs a Tokio runtime's context to watch the process afterwards.
///
/// The namespaces are made on a thread that ends here, and the child is born into them: so there
/// is nothing to hand-shake, and the thread's own change of namespaces harms nobody.
pub fn launch(request: Launch<'_>) -> Result<Process, LaunchError> {
    let pid = std::thread::scope(|scope| {
        let thread = scope.spawn(|| launch_here(request));
        thread.join().unwrap_or_else(|panic| std::panic::resume_unwind(panic))
    })?;
    Process::of_child(pid).map_err(LaunchError::Ended)
}

fn launch_here(request: Launch<'_>) -> Result<u32, LaunchError> {
    let mut flags = CloneFlags::CLONE_NEWIPC | CloneFlags::CLONE_NEWUTS | CloneFlags::CLONE_NEWPID;
    if !request.host_network {
        flags |= CloneFlags::CLONE_NEWNET;
    }
    unshare(flags).map_err(|errno| LaunchError::Namespaces(errno.into()))?;
    nix::unistd::sethostname(request.hostname)
        .map_err(|errno| LaunchError::Prepare(errno.into(), "set the hostname"))?;
    if !request.host_network {
        loopback_up().map_err(|error| LaunchError::Prepare(error, "bring up the loopback interface"))?;
    }
    for (name, value) in request.sysctls {
        // These files show the namespaces of the thread that looks.
        std::fs::write(format!("/proc/sys/{}", name.replace('.', "/")), value)
            .map_err(|error| LaunchError::Sysctl(error, format!("{name}={value}")))?;
    }
    let child = Command::new(request.program)
        .arg(request.state_dir)
        .arg(request.title)
        .env_clear()
        .current_dir("/")
        .stdin(Stdio::null())
        .stdout(Stdio::null())
        .stderr(Stdio::null())
        .spawn()
        .map_err(|error| LaunchError::Start(error, request.program.display().to_string()))?;
    Ok(child.id())
}

nix::ioctl_write_ptr_bad!(set_interface_flags, libc::SIOCSIFFLAGS, libc::ifreq);

/// Brings `lo` up in the calling thread's network namespace: a container runtime's duty, done
/// with the one system call it takes rather than with a netlink connection a pod.
fn loopback_up() -> io::Result<()> {
    use std::os::fd::AsRawFd;
    let socket = std::net::UdpSocket::bind("0.0.0.0:0")?;
    // SAFETY: `ifreq` is plain data, for which all zeroes are a value.
    let mut request: libc::ifreq = unsafe { std::mem::zeroed() };
    for (to, from) in request.ifr_name.iter_mut().zip(b"lo") {
        *to = *from as libc::c_char;
    }
    request.ifr_ifru.ifru_flags = (libc::IFF_UP | libc::IFF_RUNNING) as libc::c_short;
    // SAFETY: the request outlives the call, and SIOCSIFFLAGS reads an `ifreq`.
    unsafe { set_interface_flags(socket.as_raw_fd(), &raw const request) }?;
    Ok(())
}
