use std::io;
use std::net::{IpAddr, Ipv4Addr, Ipv6Addr, SocketAddr};
use std::os::fd::{AsRawFd, OwnedFd};
use std::path::Path;

use kilter_model::Protocol;
use kilter_netns::NetNs;
use nix::sys::socket::{
    AddressFamily, Backlog, SockFlag, SockType, SockaddrStorage, listen, setsockopt, socket, sockopt,
};

/// A socket bound in a pod's namespace, not yet watched by the runtime.
#[derive(Debug)]
pub enum Socket {
    /// It listens.
    Tcp(std::net::TcpListener),
    /// It is bound.
    Udp(std::net::UdpSocket),
}

/// Binds sockets inside a network namespace; one result for each that was asked for, in order.
/// Blocks for as long as a thread takes to start.
pub fn open(
    netns: &Path,
    wanted: &[(Protocol, SocketAddr)],
) -> Result<Vec<io::Result<Socket>>, kilter_netns::Error> {
    NetNs::open(netns)?.run(|| wanted.iter().map(|(protocol, address)| bind(*protocol, *address)).collect())
}

fn bind(protocol: Protocol, address: SocketAddr) -> io::Result<Socket> {
    match protocol {
        Protocol::Tcp => {
            let listener = std::net::TcpListener::from(bound(SockType::Stream, address)?);
            // As many as the kernel allows (`somaxconn`): hundreds of probes come at once, and one
            // whose SYN finds the queue full waits a second. Listening again only sets the length.
            listen(&listener, Backlog::MAXALLOWABLE)?;
            listener.set_nonblocking(true)?;
            Ok(Socket::Tcp(listener))
        }
        Protocol::Udp => {
            let socket = std::net::UdpSocket::from(bound(SockType::Datagram, address)?);
            socket.set_nonblocking(true)?;
            Ok(Socket::Udp(socket))
        }
        Protocol::Sctp => Err(io::Error::new(io::ErrorKind::Unsupported, "stand-ins do not speak SCTP")),
    }
}

/// A socket at an address of one family: one of IPv6 leaves IPv4 to the socket beside it.
fn bound(kind: SockType, address: SocketAddr) -> io::Result<OwnedFd> {
    let family = if address.is_ipv4() { AddressFamily::Inet } else { AddressFamily::Inet6 };
    let socket = socket(family, kind, SockFlag::SOCK_CLOEXEC, None)?;
    if address.is_ipv6() {
        setsockopt(&socket, sockopt::Ipv6V6Only, &true)?;
    }
    if kind == SockType::Stream {
        // As the standard library does: the port of a stand-in that has just ended is free again.
        setsockopt(&socket, sockopt::ReuseAddr, &true)?;
    }
    nix::sys::socket::bind(socket.as_raw_fd(), &SockaddrStorage::from(address))?;
    Ok(socket)
}

/// The wildcard addresses of the families that a pod has: all its interfaces, loopback included.
pub fn wildcards(addresses: &[IpAddr]) -> Vec<IpAddr> {
    let mut families = Vec::new();
    if addresses.iter().any(IpAddr::is_ipv4) || addresses.is_empty() {
        families.push(IpAddr::V4(Ipv4Addr::UNSPECIFIED));
    }
    if addresses.iter().any(IpAddr::is_ipv6) {
        families.push(IpAddr::V6(Ipv6Addr::UNSPECIFIED));
    }
    families
}
