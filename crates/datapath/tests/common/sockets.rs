//! Sockets of tests: made inside a namespace, used from outside.

use std::io::{ErrorKind, Read, Write as _};
use std::net::{IpAddr, SocketAddr, TcpListener, TcpStream, UdpSocket};
use std::time::{Duration, Instant};

use kilter_netns::NetNs;
use nix::sys::socket::{setsockopt, sockopt};

use super::{PATIENCE, Pod, sysctl};

/// An echo server over TCP in a namespace; it ends with the first connection that does.
pub fn serve(netns: &NetNs, address: IpAddr, port: u16) -> std::thread::JoinHandle<()> {
    let listener = listen(netns, address, port);
    std::thread::spawn(move || {
        let Ok((mut stream, _)) = listener.accept() else { return };
        let mut buffer = [0; 65_536];
        while let Ok(read) = stream.read(&mut buffer) {
            if read == 0 || stream.write_all(&buffer[..read]).is_err() {
                return;
            }
        }
    })
}

/// A listener where another may just have ended: until it runs its own program, a child of some other test has a
/// copy of everything that was open.
#[track_caller]
fn listen(netns: &NetNs, address: IpAddr, port: u16) -> TcpListener {
    let deadline = Instant::now() + PATIENCE;
    loop {
        match netns.run(|| TcpListener::bind((address, port))).unwrap() {
            Err(error) if error.kind() == ErrorKind::AddrInUse && Instant::now() < deadline => {
                std::thread::sleep(Duration::from_millis(1));
            }
            bound => return bound.unwrap(),
        }
    }
}

pub fn connect(netns: &NetNs, to: IpAddr, port: u16, timeout: Duration) -> std::io::Result<TcpStream> {
    let to = SocketAddr::new(to, port);
    let stream = netns.run(|| TcpStream::connect_timeout(&to, timeout)).unwrap()?;
    stream.set_read_timeout(Some(PATIENCE))?;
    Ok(stream)
}

/// Sends and expects the same back.
#[track_caller]
pub fn echo(stream: &mut TcpStream, length: usize) {
    let sent: Vec<u8> = (0..length).map(|i| i as u8).collect();
    let mut back = vec![0; length];
    let mut writer = stream.try_clone().unwrap();
    std::thread::scope(|scope| {
        scope.spawn(|| writer.write_all(&sent).unwrap());
        stream.read_exact(&mut back).unwrap();
    });
    assert!(sent == back, "other bytes came back");
}

#[track_caller]
pub fn assert_reaches(from: &NetNs, server: &NetNs, to: IpAddr, port: u16) {
    let thread = serve(server, to, port);
    let mut stream = connect(from, to, port, PATIENCE).unwrap();
    echo(&mut stream, 10);
    echo(&mut stream, 300_000);
    drop(stream);
    thread.join().unwrap();
}

/// A UDP socket in a namespace, whose reads give up after [`PATIENCE`].
pub fn udp(netns: &NetNs, address: IpAddr, port: u16) -> UdpSocket {
    let socket = netns.run(|| UdpSocket::bind((address, port))).unwrap().unwrap();
    socket.set_read_timeout(Some(PATIENCE)).unwrap();
    socket
}

/// Whether an ICMP echo is answered within `timeout`.
#[track_caller]
pub fn ping(netns: &NetNs, to: IpAddr, timeout: Duration) -> bool {
    use nix::sys::socket::{AddressFamily, SockFlag, SockProtocol, SockType, socket};

    sysctl(netns, "ipv4/ping_group_range", "0 0");
    let (family, protocol, request) = match to {
        IpAddr::V4(_) => (AddressFamily::Inet, SockProtocol::Icmp, 8),
        IpAddr::V6(_) => (AddressFamily::Inet6, SockProtocol::IcmpV6, 128),
    };
    let made = netns.run(|| socket(family, SockType::Datagram, SockFlag::empty(), protocol));
    let socket = UdpSocket::from(made.unwrap().unwrap());
    socket.set_read_timeout(Some(timeout)).unwrap();
    // Code 0; the kernel fills in the checksum and the identifier.
    socket.send_to(&[request, 0, 0, 0, 0, 0, 0, 1], (to, 0)).unwrap();
    socket.recv(&mut [0; 64]).is_ok()
}

/// Sends to another node's pod with one hop left, which is told to be too few, and with two.
#[track_caller]
pub fn assert_life_ends(from: &Pod, own: IpAddr, server: &Pod, to: IpAddr) {
    let server = udp(&server.netns, to, 5000);
    let client = udp(&from.netns, own, 0);
    client.connect((to, 5000)).unwrap();
    assert_two_hops(&client, to, &server);
}

/// What is sent with one hop left is told to be too little, and arrives with two. `to` is whom the client is connected to.
#[track_caller]
pub fn assert_two_hops(client: &UdpSocket, to: IpAddr, server: &UdpSocket) {
    set_hops(client, to, 1);
    client.send(b"short").unwrap();
    // How a socket hears of "time exceeded" (ip(7), ipv6(7)).
    let error = receive(client, &mut [0; 8]).unwrap_err();
    assert_eq!(error.raw_os_error(), Some(nix::libc::EHOSTUNREACH), "{error}");
    set_hops(client, to, 2);
    client.send(b"enough").unwrap();
    let mut buffer = [0; 8];
    assert_eq!(receive(server, &mut buffer).unwrap(), 6, "{buffer:?}");
}

/// Signals that the whole process gets interrupt reads that have a time limit (signal(7)).
pub fn receive(socket: &UdpSocket, buffer: &mut [u8]) -> std::io::Result<usize> {
    loop {
        match socket.recv(buffer) {
            Err(error) if error.kind() == ErrorKind::Interrupted => {}
            received => return received,
        }
    }
}

/// How many hops what a socket sends lives; that they were too few it is told.
pub fn set_hops(socket: &UdpSocket, to: IpAddr, hops: u8) {
    if to.is_ipv4() {
        setsockopt(socket, sockopt::Ipv4RecvErr, &true).unwrap();
        setsockopt(socket, sockopt::Ipv4Ttl, &hops.into()).unwrap();
    } else {
        setsockopt(socket, sockopt::Ipv6RecvErr, &true).unwrap();
        setsockopt(socket, sockopt::Ipv6Ttl, &hops.into()).unwrap();
    }
}
