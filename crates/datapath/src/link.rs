//! Attaching programs by links that are pinned, so that they outlive the process, and that take a
//! new program in place of the old one without a packet in between.

use std::fs::File;
use std::io;
use std::os::fd::{AsFd, AsRawFd, BorrowedFd};
use std::os::unix::fs::MetadataExt;
use std::path::Path;

use libbpf_rs::query::{LinkInfo, LinkTypeInfo};

use crate::pins::Pins;
use crate::{Error, Result, sys};

/// What a program is attached to.
#[derive(Debug)]
pub(crate) enum Target {
    /// An interface of the thread's network namespace.
    Interface(u32),
    /// A cgroup (v2), and its id.
    Cgroup(File, u64),
}

impl Target {
    pub(crate) fn cgroup(path: &Path) -> Result<Self> {
        let opened = File::open(path).and_then(|dir| {
            let id = dir.metadata()?.ino();
            Ok(Self::Cgroup(dir, id))
        });
        opened.map_err(|e| Pins::error("open cgroup", path, e))
    }

    pub(crate) fn raw(&self) -> i32 {
        match self {
            Self::Interface(ifindex) => *ifindex as i32,
            Self::Cgroup(dir, _) => dir.as_raw_fd(),
        }
    }

    fn is_of(&self, info: &LinkInfo) -> bool {
        match (self, &info.info) {
            (Self::Interface(ifindex), LinkTypeInfo::Tcx(tcx)) => tcx.ifindex == *ifindex,
            (Self::Cgroup(_, id), LinkTypeInfo::Cgroup(cgroup)) => cgroup.cgroup_id == *id,
            _ => false,
        }
    }
}

impl std::fmt::Display for Target {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        match self {
            Self::Interface(ifindex) => write!(f, "interface {ifindex}"),
            Self::Cgroup(_, id) => write!(f, "cgroup {id}"),
        }
    }
}

/// A hook: a program and the number of where it goes (`enum bpf_attach_type`).
#[derive(Debug, Clone, Copy)]
pub(crate) struct Hook {
    pub(crate) program: &'static str,
    pub(crate) attach_type: u32,
}

/// Makes sure that `hook` at `target` runs `program`, by the link that is or will be pinned at `pin`.
pub(crate) fn ensure(pin: &Path, hook: Hook, program: BorrowedFd<'_>, target: &Target) -> Result<()> {
    if adopt(pin, program, target)? {
        return Ok(());
    }
    let attach = |source| Error::Attach { program: hook.program, target: target.to_string(), source };
    let link = sys::link_create(program, target.raw(), hook.attach_type).map_err(attach)?;
    sys::pin(link.as_fd(), pin).map_err(|e| Pins::error("pin a link at", pin, e))
}

/// Gives a pinned link this program if it is still attached to `target`; otherwise removes the pin
/// and returns `false`.
fn adopt(pin: &Path, program: BorrowedFd<'_>, target: &Target) -> Result<bool> {
    let link = match sys::open_pin(pin) {
        Ok(link) => link,
        Err(error) if error.kind() == io::ErrorKind::NotFound => return Ok(false),
        Err(error) => return Err(Pins::error("open", pin, error)),
    };
    let usable = LinkInfo::from_fd(link.as_fd()).is_ok_and(|info| target.is_of(&info));
    if usable && sys::link_update(link.as_fd(), program).is_ok() {
        return Ok(true);
    }
    Pins::remove(pin)?;
    Ok(false)
}
