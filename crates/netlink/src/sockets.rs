//! Sockets by whom they talk to, and their end (`inet_diag` and its `SOCK_DESTROY`).

use std::collections::BTreeSet;
use std::io;
use std::net::{IpAddr, Ipv4Addr, Ipv6Addr, SocketAddr};
use std::os::fd::{AsRawFd, OwnedFd};

use kilter_netns::NetNs;
use nix::sys::socket::sockopt::ReceiveTimeout;
use nix::sys::socket::{
    AddressFamily, MsgFlags, SockFlag, SockProtocol, SockType, recv, send, setsockopt, socket,
};
use nix::sys::time::TimeVal;

use crate::Error;

/// IANA numbers of the protocols whose sockets can be closed.
const TCP: u8 = 6;
const UDP: u8 = 17;

/// linux/sock_diag.h.
const SOCK_DIAG_BY_FAMILY: u16 = 20;
const SOCK_DESTROY: u16 = 21;

/// linux/netlink.h.
const HEADER: usize = 16;
const ERROR: u16 = 2;
const DONE: u16 = 3;
const REQUEST: u16 = 1;
const ACKNOWLEDGE: u16 = 4;
const DUMP: u16 = 0x300;

/// `struct inet_diag_sockid`: ports, addresses, interface, cookie.
const ID: usize = 48;
/// Where it stands in `struct inet_diag_msg`.
const ID_AT: usize = HEADER + 4;

/// A connected datagram socket, as the kernel counts states.
const ESTABLISHED: u32 = 1 << 1;
/// Every state of TCP but TIME_WAIT (6), LISTEN (10) and the half-open request (12).
const CONNECTED: u32 = 0b1011_0011_1110;

/// Between whom a connected socket talks; one of IPv6 with mapped addresses counts as IPv4.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Talk {
    /// Its protocol by IANA number: 6 or 17.
    pub protocol: u8,
    /// Its own address.
    pub local: SocketAddr,
    /// Its peer's.
    pub remote: SocketAddr,
}

/// Ends the connected sockets of a namespace, of these protocols (6 or 17), of which that is wanted. Their owners
/// see `ECONNABORTED`. Returns how many.
///
/// # Errors
/// Where the namespace cannot be entered, or the kernel was built without `CONFIG_INET_DIAG_DESTROY`.
pub fn destroy_sockets(
    namespace: &NetNs,
    protocols: &BTreeSet<u8>,
    is_wanted: impl Fn(&Talk) -> bool + Sync,
) -> Result<usize, Error> {
    let work = || -> io::Result<usize> {
        let diag = Diag::open()?;
        let mut ended = 0;
        for protocol in [TCP, UDP].into_iter().filter(|it| protocols.contains(it)) {
            for family in [AddressFamily::Inet as u8, AddressFamily::Inet6 as u8] {
                for id in diag.list(family, protocol)? {
                    if is_wanted(&talk(protocol, family, &id)) {
                        ended += usize::from(diag.destroy(family, protocol, &id)?);
                    }
                }
            }
        }
        Ok(ended)
    };
    namespace.run(work).map_err(io::Error::other).and_then(|ended| ended).map_err(|source| {
        Error::new("end", "sockets".to_owned(), namespace.path().display().to_string(), source)
    })
}

/// The ends that an identity names.
fn talk(protocol: u8, family: u8, id: &[u8; ID]) -> Talk {
    Talk { protocol, local: end(family, &id[..2], &id[4..20]), remote: end(family, &id[2..4], &id[20..36]) }
}

fn end(family: u8, port: &[u8], address: &[u8]) -> SocketAddr {
    let port = u16::from_be_bytes(port.try_into().expect("BUG: 2 bytes are 2 bytes"));
    let address: [u8; 16] = address.try_into().expect("BUG: 16 bytes are 16 bytes");
    let ip: IpAddr = if family == AddressFamily::Inet as u8 {
        Ipv4Addr::new(address[0], address[1], address[2], address[3]).into()
    } else {
        Ipv6Addr::from(address).to_canonical()
    };
    SocketAddr::new(ip, port)
}

/// A socket to ask about sockets, in the namespace of the thread that opened it.
struct Diag(OwnedFd);

impl Diag {
    fn open() -> io::Result<Self> {
        let fd = socket(
            AddressFamily::Netlink,
            SockType::Raw,
            SockFlag::SOCK_CLOEXEC,
            SockProtocol::NetlinkSockDiag,
        )?;
        // The kernel answers at once; should it not, nobody waits for ever.
        setsockopt(&fd, ReceiveTimeout, &TimeVal::new(5, 0))?;
        Ok(Self(fd))
    }

    /// The identities of all connected sockets of a family and protocol.
    fn list(&self, family: u8, protocol: u8) -> io::Result<Vec<[u8; ID]>> {
        let states = if protocol == TCP { CONNECTED } else { ESTABLISHED };
        self.ask(SOCK_DIAG_BY_FAMILY, REQUEST | DUMP, family, protocol, states, &[0; ID])?;
        let mut found = Vec::new();
        let mut buffer = vec![0; 64 << 10];
        loop {
            let length = recv(self.0.as_raw_fd(), &mut buffer, MsgFlags::empty())?;
            for message in messages(&buffer[..length]) {
                match kind(message) {
                    DONE => return Ok(found),
                    ERROR => {
                        refusal(message)?;
                        return Ok(found);
                    }
                    _ => found.extend(identity(message)),
                }
            }
        }
    }

    /// Ends one socket; false where it has ended by itself.
    fn destroy(&self, family: u8, protocol: u8, id: &[u8; ID]) -> io::Result<bool> {
        self.ask(SOCK_DESTROY, REQUEST | ACKNOWLEDGE, family, protocol, u32::MAX, id)?;
        let mut buffer = [0; 1024];
        let length = recv(self.0.as_raw_fd(), &mut buffer, MsgFlags::empty())?;
        for message in messages(&buffer[..length]) {
            match refusal(message) {
                Err(error) if error.raw_os_error() == Some(nix::libc::ENOENT) => return Ok(false),
                other => other?,
            }
        }
        Ok(true)
    }

    /// Sends a `struct inet_diag_req_v2`.
    fn ask(&self, kind: u16, flags: u16, family: u8, protocol: u8, states: u32, id: &[u8; ID]) -> io::Result<()> {
        let mut message = Vec::with_capacity(HEADER + 8 + ID);
        message.extend(((HEADER + 8 + ID) as u32).to_ne_bytes());
        message.extend(kind.to_ne_bytes());
        message.extend(flags.to_ne_bytes());
        message.extend([0; 8]);
        message.extend([family, protocol, 0, 0]);
        message.extend(states.to_ne_bytes());
        message.extend(id);
        send(self.0.as_raw_fd(), &message, MsgFlags::empty())?;
        Ok(())
    }
}

/// The messages in what was received, each with its header.
fn messages(mut received: &[u8]) -> impl Iterator<Item = &[u8]> {
    std::iter::from_fn(move || {
        let length = u32::from_ne_bytes(received.get(..4)?.try_into().ok()?) as usize;
        let message = received.get(..length).filter(|message| message.len() >= HEADER)?;
        received = received.get(length.next_multiple_of(4)..).unwrap_or_default();
        Some(message)
    })
}

/// Whose socket a `struct inet_diag_msg` is about.
fn identity(message: &[u8]) -> Option<[u8; ID]> {
    message.get(ID_AT..ID_AT + ID)?.try_into().ok()
}

fn kind(message: &[u8]) -> u16 {
    u16::from_ne_bytes([message[4], message[5]])
}

/// The error that a message carries; 0 acknowledges.
fn refusal(message: &[u8]) -> io::Result<()> {
    let code = message.get(HEADER..HEADER + 4).and_then(|code| code.try_into().ok()).map_or(0, i32::from_ne_bytes);
    match (kind(message), code) {
        (ERROR, code) if code != 0 => Err(io::Error::from_raw_os_error(-code)),
        _ => Ok(()),
    }
}
