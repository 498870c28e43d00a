//! The few calls of libbpf that take descriptors: with them, nothing of the object has to be kept
//! after loading, and every error has the kernel's number.

use std::ffi::{CString, c_int, c_void};
use std::io;
use std::os::fd::{AsFd, AsRawFd, BorrowedFd, FromRawFd, OwnedFd};
use std::os::unix::ffi::OsStrExt;
use std::path::Path;

use crate::filter::{FILTER_HANDLE, FILTER_PREFERENCE};

/// libbpf 1.x returns the negated error number.
fn result(returned: c_int) -> io::Result<c_int> {
    if returned < 0 { Err(io::Error::from_raw_os_error(-returned)) } else { Ok(returned) }
}

fn descriptor(returned: c_int) -> io::Result<OwnedFd> {
    let fd = result(returned)?;
    // SAFETY: a call that succeeded has just made this descriptor, and nobody else has it.
    Ok(unsafe { OwnedFd::from_raw_fd(fd) })
}

fn c_path(path: &Path) -> io::Result<CString> {
    Ok(CString::new(path.as_os_str().as_bytes())?)
}

pub(crate) fn map_lookup(map: BorrowedFd<'_>, key: &[u8], value: &mut [u8]) -> io::Result<bool> {
    // SAFETY: the caller's slices have the map's key and value sizes (`Table` sees to it: they were
    // compared when it was made), and live during the call.
    let returned = unsafe {
        libbpf_sys::bpf_map_lookup_elem(map.as_raw_fd(), key.as_ptr().cast(), value.as_mut_ptr().cast())
    };
    found(returned)
}

pub(crate) fn map_update(map: BorrowedFd<'_>, key: &[u8], value: &[u8], flags: u64) -> io::Result<()> {
    // SAFETY: as in `map_lookup`; both slices are only read.
    let returned = unsafe {
        libbpf_sys::bpf_map_update_elem(map.as_raw_fd(), key.as_ptr().cast(), value.as_ptr().cast(), flags)
    };
    result(returned).map(drop)
}

pub(crate) fn map_delete(map: BorrowedFd<'_>, key: &[u8]) -> io::Result<bool> {
    // SAFETY: as in `map_lookup`.
    found(unsafe { libbpf_sys::bpf_map_delete_elem(map.as_raw_fd(), key.as_ptr().cast()) })
}

/// The key after `key`, or the first one.
pub(crate) fn map_next_key(map: BorrowedFd<'_>, key: Option<&[u8]>, next: &mut [u8]) -> io::Result<bool> {
    let key: *const c_void = key.map_or(std::ptr::null(), |key| key.as_ptr().cast());
    // SAFETY: as in `map_lookup`; a null key asks for the first one.
    found(unsafe { libbpf_sys::bpf_map_get_next_key(map.as_raw_fd(), key, next.as_mut_ptr().cast()) })
}

fn found(returned: c_int) -> io::Result<bool> {
    match result(returned) {
        Ok(_) => Ok(true),
        Err(error) if error.raw_os_error() == Some(libc::ENOENT) => Ok(false),
        Err(error) => Err(error),
    }
}

pub(crate) fn pin(object: BorrowedFd<'_>, path: &Path) -> io::Result<()> {
    let path = c_path(path)?;
    // SAFETY: the string is terminated and lives during the call.
    result(unsafe { libbpf_sys::bpf_obj_pin(object.as_raw_fd(), path.as_ptr()) }).map(drop)
}

pub(crate) fn open_pin(path: &Path) -> io::Result<OwnedFd> {
    let path = c_path(path)?;
    // SAFETY: the string is terminated and lives during the call.
    descriptor(unsafe { libbpf_sys::bpf_obj_get(path.as_ptr()) })
}

/// `target`: an interface index of the thread's network namespace, or a cgroup's descriptor.
pub(crate) fn link_create(program: BorrowedFd<'_>, target: i32, attach_type: u32) -> io::Result<OwnedFd> {
    // SAFETY: no options are passed, which is allowed; the rest are numbers.
    let returned =
        unsafe { libbpf_sys::bpf_link_create(program.as_raw_fd(), target, attach_type, std::ptr::null()) };
    descriptor(returned)
}

/// Swaps the program of a link: every packet runs either the old one or the new one.
pub(crate) fn link_update(link: BorrowedFd<'_>, program: BorrowedFd<'_>) -> io::Result<()> {
    // SAFETY: no options are passed, which is allowed; the rest are numbers.
    let returned =
        unsafe { libbpf_sys::bpf_link_update(link.as_raw_fd(), program.as_raw_fd(), std::ptr::null()) };
    result(returned).map(drop)
}

fn tc_hook(ifindex: u32, side: libbpf_sys::bpf_tc_attach_point) -> libbpf_sys::bpf_tc_hook {
    libbpf_sys::bpf_tc_hook {
        sz: size_of::<libbpf_sys::bpf_tc_hook>() as libbpf_sys::size_t,
        ifindex: ifindex as c_int,
        attach_point: side,
        ..Default::default()
    }
}

/// Adds the clsact qdisc to an interface of the thread's network namespace.
pub(crate) fn tc_create(ifindex: u32) -> io::Result<()> {
    let mut hook = tc_hook(ifindex, libbpf_sys::BPF_TC_INGRESS | libbpf_sys::BPF_TC_EGRESS);
    // SAFETY: the hook says its size, names no buffers, and lives during the call.
    result(unsafe { libbpf_sys::bpf_tc_hook_create(&mut hook) }).map(drop)
}

/// Sets the one filter of a side: each packet runs either the old program or the new one.
pub(crate) fn tc_attach(
    ifindex: u32,
    side: libbpf_sys::bpf_tc_attach_point,
    program: BorrowedFd<'_>,
) -> io::Result<()> {
    let hook = tc_hook(ifindex, side);
    let mut options = libbpf_sys::bpf_tc_opts {
        sz: size_of::<libbpf_sys::bpf_tc_opts>() as libbpf_sys::size_t,
        prog_fd: program.as_raw_fd(),
        flags: libbpf_sys::BPF_TC_F_REPLACE,
        handle: FILTER_HANDLE,
        priority: FILTER_PREFERENCE,
        ..Default::default()
    };
    // SAFETY: both structs say their size, name no buffers, and live during the call.
    result(unsafe { libbpf_sys::bpf_tc_attach(&hook, &mut options) }).map(drop)
}

/// The id of the program that [`tc_attach`] attached to a side; `None` where there is none.
pub(crate) fn tc_attached(ifindex: u32, side: libbpf_sys::bpf_tc_attach_point) -> io::Result<Option<u32>> {
    let hook = tc_hook(ifindex, side);
    let mut options = libbpf_sys::bpf_tc_opts {
        sz: size_of::<libbpf_sys::bpf_tc_opts>() as libbpf_sys::size_t,
        handle: FILTER_HANDLE,
        priority: FILTER_PREFERENCE,
        ..Default::default()
    };
    // SAFETY: both structs say their size, name no buffers, and live during the call.
    match result(unsafe { libbpf_sys::bpf_tc_query(&hook, &mut options) }) {
        Ok(_) => Ok(Some(options.prog_id)),
        // No filter, no clsact qdisc, no interface.
        Err(error) if matches!(error.raw_os_error(), Some(libc::ENOENT | libc::EINVAL | libc::ENODEV)) => {
            Ok(None)
        }
        Err(error) => Err(error),
    }
}

/// The id of a loaded program.
pub(crate) fn program_id(program: BorrowedFd<'_>) -> io::Result<u32> {
    program_info(program).map(|(info, _)| info.id)
}

/// What the kernel says about a program, and the ids of its maps (of which ours have some 20).
pub(crate) fn program_info(program: BorrowedFd<'_>) -> io::Result<(libbpf_sys::bpf_prog_info, Vec<u32>)> {
    let mut maps = vec![0u32; 64];
    let mut info = libbpf_sys::bpf_prog_info {
        nr_map_ids: maps.len() as u32,
        map_ids: maps.as_mut_ptr() as u64,
        ..Default::default()
    };
    let mut size = size_of::<libbpf_sys::bpf_prog_info>() as u32;
    // SAFETY: the kernel writes at most `size` bytes of the struct, and at most `nr_map_ids` numbers to
    // the one buffer that it names; both live during the call.
    result(unsafe { libbpf_sys::bpf_prog_get_info_by_fd(program.as_raw_fd(), &mut info, &mut size) })?;
    maps.truncate(info.nr_map_ids as usize);
    // The pointer is of no use to anybody any more.
    info.map_ids = 0;
    Ok((info, maps))
}

/// Opens a program by its id.
pub(crate) fn program_by_id(id: u32) -> io::Result<OwnedFd> {
    // SAFETY: takes and returns numbers.
    descriptor(unsafe { libbpf_sys::bpf_prog_get_fd_by_id(id) })
}

/// The bytes of a map if it is one of constants: an array that nobody can write any more.
pub(crate) fn constants_of(map: u32) -> io::Result<Option<Vec<u8>>> {
    // SAFETY: takes and returns numbers.
    let map = descriptor(unsafe { libbpf_sys::bpf_map_get_fd_by_id(map) })?;
    let mut info = libbpf_sys::bpf_map_info::default();
    let mut size = size_of::<libbpf_sys::bpf_map_info>() as u32;
    // SAFETY: the kernel writes at most `size` bytes of a struct that asks for no further buffers.
    result(unsafe { libbpf_sys::bpf_map_get_info_by_fd(map.as_raw_fd(), &mut info, &mut size) })?;
    if info.map_flags & libbpf_sys::BPF_F_RDONLY_PROG == 0 {
        return Ok(None);
    }
    let mut bytes = vec![0; info.value_size as usize];
    map_lookup(map.as_fd(), &0u32.to_ne_bytes(), &mut bytes)?;
    Ok(Some(bytes))
}

/// The ids of the programs at a hook, in the order in which they run. `target`: as for
/// [`link_create`]. More than 64 nobody has.
pub(crate) fn query(target: i32, attach_type: u32, flags: u32) -> io::Result<Vec<u32>> {
    let mut ids = vec![0u32; 64];
    let mut options = libbpf_sys::bpf_prog_query_opts {
        sz: size_of::<libbpf_sys::bpf_prog_query_opts>() as libbpf_sys::size_t,
        query_flags: flags,
        prog_ids: ids.as_mut_ptr(),
        __bindgen_anon_1: libbpf_sys::bpf_prog_query_opts__bindgen_ty_1 { count: ids.len() as u32 },
        ..Default::default()
    };
    // SAFETY: the options say their size, and the one buffer that they name has room for `count` ids;
    // both live during the call.
    result(unsafe { libbpf_sys::bpf_prog_query_opts(target, attach_type, &mut options) })?;
    // SAFETY: both fields of the union are the same number.
    ids.truncate(unsafe { options.__bindgen_anon_1.count } as usize);
    Ok(ids)
}

/// Whether the thread's network namespace has an interface of this index.
pub(crate) fn has_interface(ifindex: u32) -> bool {
    let mut name = [0; libc::IF_NAMESIZE];
    // SAFETY: the buffer has the size that if_indextoname(3) asks for.
    !unsafe { libc::if_indextoname(ifindex, name.as_mut_ptr()) }.is_null()
}

/// Runs a program with `context` as its argument, which it may change.
pub(crate) fn run(program: BorrowedFd<'_>, context: &mut [u8]) -> io::Result<u32> {
    let mut options = libbpf_sys::bpf_test_run_opts {
        sz: size_of::<libbpf_sys::bpf_test_run_opts>() as libbpf_sys::size_t,
        ctx_in: context.as_ptr().cast(),
        ctx_size_in: context.len() as u32,
        ..Default::default()
    };
    // SAFETY: the options say their size, and the only buffer they name is `context` with its length.
    // For programs of type syscall the kernel writes the context back into that buffer.
    result(unsafe { libbpf_sys::bpf_prog_test_run_opts(program.as_raw_fd(), &mut options) })?;
    Ok(options.retval)
}
