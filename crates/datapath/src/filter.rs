//! Attaching programs to pod links as tc filters.
//!
//! A tcx link would do as well, but attaching one waits for an RCU grace period under the lock of
//! all links (`tcx_entry_sync` in the kernel): some 16 ms for each of a pod's two hooks, one pod
//! after the other. A filter of a clsact qdisc takes tens of microseconds, belongs to the interface
//! (so it outlives this process without a pin, and goes with the link), and is replaced in place.

use std::io;
use std::os::fd::BorrowedFd;

use crate::{Error, Result, sys};

/// Of all filters of a side of a link, those of the least preference are asked first.
pub const FILTER_PREFERENCE: u32 = 1;
/// The number of the data plane's filter among those of its preference.
pub const FILTER_HANDLE: u32 = 1;

/// A program and the side of the interface on which it runs.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Filter {
    pub(crate) program: &'static str,
    pub(crate) side: libbpf_sys::bpf_tc_attach_point,
}

/// Gives an interface the place for hooks, unless it has one.
pub(crate) fn prepare(ifindex: u32) -> Result<()> {
    match sys::tc_create(ifindex) {
        Err(error) if error.kind() != io::ErrorKind::AlreadyExists => {
            Err(Error::Attach { program: "clsact", target: target(ifindex), source: error })
        }
        _ => Ok(()),
    }
}

/// Makes the interface run `program`, in place of the one that it may run already.
pub(crate) fn attach(ifindex: u32, filter: Filter, program: BorrowedFd<'_>) -> Result<()> {
    sys::tc_attach(ifindex, filter.side, program).map_err(|source| Error::Attach {
        program: filter.program,
        target: target(ifindex),
        source,
    })
}

/// Whether the interface runs `program`.
pub(crate) fn is_attached(ifindex: u32, filter: Filter, program: BorrowedFd<'_>) -> Result<bool> {
    let attached = sys::tc_attached(ifindex, filter.side)
        .and_then(|id| Ok(id.is_some() && id == Some(sys::program_id(program)?)));
    attached.map_err(|source| Error::Attach { program: filter.program, target: target(ifindex), source })
}

/// Whether an interface of this index is there.
pub(crate) fn exists(ifindex: u32) -> bool {
    sys::has_interface(ifindex)
}

fn target(ifindex: u32) -> String {
    format!("interface {ifindex}")
}
