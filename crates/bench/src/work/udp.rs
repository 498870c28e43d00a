use std::io;
use std::net::{Ipv4Addr, Ipv6Addr, SocketAddr, UdpSocket};
use std::os::fd::AsRawFd;
use std::time::Instant;

use anyhow::{Context, Result};
use nix::sys::socket::{MsgFlags, SockaddrStorage, recvfrom, sendto};

use super::socket::{Processors, with_server};
use super::{PATIENCE, Target, warm_up};

/// Nanoseconds of each of `count` exchanges of one byte in datagrams.
pub(super) fn exchange(target: &Target, count: usize) -> Result<Vec<u64>> {
    with_server(target, Processors::One, UdpSocket::bind, echo, |to| {
        let socket = connect(to).context("connect")?;
        let once = || -> Result<()> {
            socket.send(&[1]).context("send")?;
            socket.recv(&mut [0]).context("receive")?;
            Ok(())
        };
        for _ in 0..warm_up(count) {
            once()?;
        }
        let mut durations = Vec::with_capacity(count);
        for _ in 0..count {
            let start = Instant::now();
            once()?;
            durations.push(start.elapsed().as_nanos() as u64);
        }
        Ok(durations)
    })
}

fn connect(to: SocketAddr) -> io::Result<UdpSocket> {
    let any = if to.is_ipv4() { Ipv4Addr::UNSPECIFIED.into() } else { Ipv6Addr::UNSPECIFIED.into() };
    let socket = UdpSocket::bind(SocketAddr::new(any, 0))?;
    socket.set_read_timeout(Some(PATIENCE))?;
    socket.connect(to)?;
    Ok(socket)
}

/// Sends every datagram back, until the socket is shut down: then there is an empty one from nobody,
/// on which the standard library's `recv_from` would panic.
fn echo(socket: &UdpSocket) -> io::Result<()> {
    let descriptor = socket.as_raw_fd();
    let mut byte = [0];
    loop {
        match recvfrom::<SockaddrStorage>(descriptor, &mut byte)? {
            (1.., Some(from)) => sendto(descriptor, &byte, &from, MsgFlags::empty())?,
            _ => return Ok(()),
        };
    }
}
