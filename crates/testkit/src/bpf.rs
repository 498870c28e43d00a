//! Ids and names of what is loaded into the kernel's BPF subsystem, by `bpf(2)` itself: a witness
//! must not depend on the library that it watches.

use std::os::fd::{AsRawFd, FromRawFd, OwnedFd};

/// A kind of BPF object with an id (linux/bpf.h, `enum bpf_cmd`).
#[derive(Clone, Copy)]
pub(crate) enum Kind {
    Program,
    Map,
    Link,
}

impl Kind {
    /// (`*_GET_NEXT_ID`, `*_GET_FD_BY_ID`, offset of the name in `*_info`).
    const fn commands(self) -> (u32, u32, Option<usize>) {
        match self {
            Self::Program => (11, 13, Some(64)),
            Self::Map => (12, 14, Some(24)),
            Self::Link => (31, 30, None),
        }
    }

    const fn word(self) -> &'static str {
        match self {
            Self::Program => "program",
            Self::Map => "map",
            Self::Link => "link",
        }
    }
}

const OBJ_GET_INFO_BY_FD: u32 = 15;
/// `BPF_OBJ_NAME_LEN`.
const NAME: usize = 16;
/// Enough for every `*_info` up to the name.
const INFO: usize = 128;

/// `program 12 from_pod`, one for each object of `kind` that is loaded now. Needs root.
pub(crate) fn loaded(kind: Kind) -> Vec<String> {
    let (next_id, _, _) = kind.commands();
    let mut found = Vec::new();
    let mut id = 0u32;
    loop {
        // struct { start_id, next_id, open_flags }
        let mut attribute = [id, 0, 0];
        match bpf(next_id, &mut attribute) {
            Ok(_) => id = attribute[1],
            Err(error) if error.raw_os_error() == Some(libc::ENOENT) => return found,
            Err(error) => panic!("list BPF {}s (are you root?): {error}", kind.word()),
        }
        // An object that goes away between the two calls is not there any more.
        if let Ok(name) = name(kind, id) {
            found.push(format!("{} {id} {name}", kind.word()).trim_end().to_owned());
        }
    }
}

fn name(kind: Kind, id: u32) -> std::io::Result<String> {
    let (_, fd_by_id, offset) = kind.commands();
    let raw = bpf(fd_by_id, &mut [id, 0, 0])?;
    // SAFETY: the call succeeded, so `raw` is a new descriptor that nobody else owns.
    let object = unsafe { OwnedFd::from_raw_fd(raw) };
    let Some(offset) = offset else { return Ok(String::new()) };
    let mut info = [0u8; INFO];
    let address = info.as_mut_ptr() as u64;
    // struct { bpf_fd, info_len, info (64 bits) }
    let mut attribute = [object.as_raw_fd() as u32, INFO as u32, address as u32, (address >> 32) as u32];
    bpf(OBJ_GET_INFO_BY_FD, &mut attribute)?;
    let name = &info[offset..offset + NAME];
    let end = name.iter().position(|byte| *byte == 0).unwrap_or(NAME);
    Ok(String::from_utf8_lossy(&name[..end]).into_owned())
}

pub(crate) fn bpf<const N: usize>(command: u32, attribute: &mut [u32; N]) -> std::io::Result<i32> {
    // SAFETY: `attribute` is a live array whose size in bytes is passed; commands used in this crate write
    // only into it and, for OBJ_GET_INFO_BY_FD, into the buffer whose address and length it holds; what
    // else it points to is only read, and lives during the call.
    let result = unsafe {
        libc::syscall(libc::SYS_bpf, command, attribute.as_mut_ptr(), size_of::<[u32; N]>() as libc::c_uint)
    };
    if result < 0 { Err(std::io::Error::last_os_error()) } else { Ok(result as i32) }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_map_is_listed_by_name_while_it_is_open() {
        let listed = || loaded(Kind::Map).iter().any(|line| line.ends_with(" kilter_witness"));
        // struct { type: array, key_size, value_size, max_entries, flags, inner_fd, numa_node, name }
        let mut attribute = [2, 4, 4, 1, 0, 0, 0, 0, 0, 0, 0];
        for (word, bytes) in attribute[7..].iter_mut().zip(b"kilter_witness\0\0".chunks(4)) {
            *word = u32::from_ne_bytes(bytes.try_into().unwrap());
        }
        let raw = bpf(0, &mut attribute).unwrap();
        // SAFETY: the call succeeded, so `raw` is a new descriptor that nobody else owns.
        let map = unsafe { OwnedFd::from_raw_fd(raw) };
        assert!(listed());
        drop(map);
        crate::wait_until(std::time::Duration::from_secs(10), "the map is freed", || !listed());
    }
}
