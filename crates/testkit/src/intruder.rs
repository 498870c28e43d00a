//! Programs of nobody in particular at the hooks of the data plane, as another tool might attach them.

use std::fs::File;
use std::os::fd::{AsRawFd, FromRawFd, OwnedFd};
use std::path::Path;

use crate::bpf::bpf;

// linux/bpf.h: enum bpf_cmd, bpf_prog_type, bpf_attach_type, and flags of BPF_PROG_ATTACH.
const PROG_LOAD: u32 = 5;
const PROG_ATTACH: u32 = 8;
const SCHED_CLS: u32 = 3;
const CGROUP_SOCK_ADDR: u32 = 18;
const INET4_CONNECT: u32 = 10;
const TCX_INGRESS: u32 = 46;
const ALLOW_MULTI: u32 = 2;
const BEFORE: u32 = 8;
/// Lets the next program of the hook decide.
const TCX_NEXT: i32 = -1;
/// Permits the call of a socket.
const PERMIT: i32 = 1;

/// A program named `intruder` that changes nothing. It stays where it was put until that hook's
/// interface or cgroup goes, or [`Intruder::remove`] is called.
pub struct Intruder {
    attached: [u32; 4],
    _target: Option<File>,
    _program: OwnedFd,
}

impl Intruder {
    /// First of those that see what an interface of the thread's network namespace receives.
    ///
    /// # Panics
    /// Without the rights, or on a kernel without tcx.
    pub fn at_ingress(ifindex: u32) -> Self {
        let program = load(SCHED_CLS, 0, TCX_NEXT);
        Self::attach(ifindex, None, program, TCX_INGRESS, BEFORE)
    }

    /// At the connections of IPv4 of a cgroup, beside the programs that are there.
    ///
    /// # Panics
    /// Without the rights, or where there is no such cgroup.
    pub fn at_connections(cgroup: &Path) -> Self {
        let program = load(CGROUP_SOCK_ADDR, INET4_CONNECT, PERMIT);
        let target = File::open(cgroup).unwrap_or_else(|error| panic!("open {}: {error}", cgroup.display()));
        Self::attach(target.as_raw_fd() as u32, Some(target), program, INET4_CONNECT, ALLOW_MULTI)
    }

    fn attach(target: u32, file: Option<File>, program: OwnedFd, hook: u32, flags: u32) -> Self {
        // struct { target, attach_bpf_fd, attach_type, attach_flags, ... }
        let attached = [target, program.as_raw_fd() as u32, hook, 0];
        let mut attribute = [0; 8];
        attribute[..4].copy_from_slice(&attached);
        attribute[3] = flags;
        bpf(PROG_ATTACH, &mut attribute).expect("attach the intruder");
        Self { attached, _target: file, _program: program }
    }

    /// Takes it away. An interface's must be removed in the namespace where it was put.
    ///
    /// # Panics
    /// When it is not there any more.
    pub fn remove(self) {
        const PROG_DETACH: u32 = 9;
        let mut attribute = [0; 8];
        attribute[..4].copy_from_slice(&self.attached);
        bpf(PROG_DETACH, &mut attribute).expect("detach the intruder");
    }
}

/// `r0 = value; exit`.
fn load(kind: u32, hook: u32, value: i32) -> OwnedFd {
    let instructions: [u64; 2] = [0xb7 | (value as u32 as u64) << 32, 0x95];
    let license = c"GPL";
    let mut attribute = [0u32; 18];
    attribute[..2].copy_from_slice(&[kind, instructions.len() as u32]);
    for (at, pointer) in [(2, instructions.as_ptr() as u64), (4, license.as_ptr() as u64)] {
        attribute[at] = pointer as u32;
        attribute[at + 1] = (pointer >> 32) as u32;
    }
    // After the log's three, the kernel version and the flags: a name of 16 bytes, an interface, the hook.
    for (word, bytes) in attribute[12..16].iter_mut().zip(b"intruder\0\0\0\0\0\0\0\0".chunks(4)) {
        *word = u32::from_ne_bytes(bytes.try_into().expect("BUG: four bytes"));
    }
    attribute[17] = hook;
    let raw = bpf(PROG_LOAD, &mut attribute).expect("load the intruder (are you root?)");
    // SAFETY: the call succeeded, so `raw` is a new descriptor that nobody else owns.
    unsafe { OwnedFd::from_raw_fd(raw) }
}
