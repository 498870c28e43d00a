//! Sockets of tests: made inside a namespace, used from outside.

use std::io::{Read, Write as _};
use std::net::{IpAddr, SocketAddr, TcpListener, TcpStream, UdpSocket};
use std::time::Duration;

use kilter_netns::NetNs;

use super::PATIENCE;

/// An echo server over TCP in a namespace; it ends with the first connection that does.
pub fn serve(netns: &NetNs, address: IpAddr, port: u16) -> std::thread::JoinHandle<()> {
    let listener = netns.run(|| TcpListener::bind((address, port))).unwrap().unwrap();
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
