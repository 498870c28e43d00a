//! The one thing about links that netlink cannot do: wait for their queues.

use std::io;
use std::net::UdpSocket;
use std::os::fd::AsRawFd;

use kilter_netns::NetNs;
use nix::libc;

use crate::Error;

/// Has a link's queue take packets, where its peer came up after it.
///
/// The kernel notes a carrier that comes up, and activates the queue later, on a worker that waits
/// for the lock over all links (`net/core/link_watch.c`); until then every packet sent is dropped
/// without a trace, and what a TCP peer notices is a second's silence. To ask for the state of the
/// carrier through ethtool catches up on that at once.
pub fn settle(namespace: &NetNs, link: &str) -> Result<(), Error> {
    let asked = namespace.run(|| ask(link)).map_err(io::Error::other).and_then(|asked| asked);
    asked.map_err(|source| {
        Error::new("see the carrier of", format!("link {link}"), namespace.path().display().to_string(), source)
    })
}

/// `ETHTOOL_GLINK` of linux/ethtool.h.
const GET_LINK: u32 = 0x0000_000a;

/// `struct ethtool_value`.
#[repr(C)]
struct Value {
    command: u32,
    data: u32,
}

nix::ioctl_readwrite_bad!(ethtool, libc::SIOCETHTOOL, libc::ifreq);

#[allow(unsafe_code)]
fn ask(link: &str) -> io::Result<()> {
    let socket = UdpSocket::bind("0.0.0.0:0")?;
    let mut value = Value { command: GET_LINK, data: 0 };
    // SAFETY: `ifreq` is plain data, for which all zeroes are a value.
    let mut request: libc::ifreq = unsafe { std::mem::zeroed() };
    // The last byte stays zero: the kernel reads a C string.
    for (to, from) in request.ifr_name[..libc::IFNAMSIZ - 1].iter_mut().zip(link.bytes()) {
        *to = from as libc::c_char;
    }
    request.ifr_ifru.ifru_data = (&raw mut value).cast();
    // SAFETY: request and value outlive the call; for this command the kernel reads and writes one
    // `ethtool_value` at the pointer.
    unsafe { ethtool(socket.as_raw_fd(), &raw mut request) }?;
    Ok(())
}
