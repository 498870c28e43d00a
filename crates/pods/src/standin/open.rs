use std::io;
use std::net::{IpAddr, Ipv4Addr, Ipv6Addr, SocketAddr};
use std::path::Path;

use kilter_model::Protocol;
use kilter_netns::NetNs;

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
            let listener = std::net::TcpListener::bind(address)?;
            // As many as the kernel allows (`somaxconn`): hundreds of probes come at once, and one
            // whose SYN finds the queue full waits a second. Listening again only sets the length.
            nix::sys::socket::listen(&listener, nix::sys::socket::Backlog::MAXALLOWABLE)?;
            listener.set_nonblocking(true)?;
            Ok(Socket::Tcp(listener))
        }
        Protocol::Udp => {
            let socket = std::net::UdpSocket::bind(address)?;
            socket.set_nonblocking(true)?;
            Ok(Socket::Udp(socket))
        }
        Protocol::Sctp => Err(io::Error::new(io::ErrorKind::Unsupported, "stand-ins do not speak SCTP")),
    }
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
