//! Sockets in the right namespace, and the two threads around them.

use std::io;
use std::net::{Shutdown, SocketAddr, TcpStream};
use std::os::fd::{AsFd, AsRawFd};
use std::thread;
use std::time::Duration;

use anyhow::{Context, Result, bail};
use nix::errno::Errno;
use nix::sys::socket::sockopt::{ReceiveTimeout, SendTimeout};
use nix::sys::socket::{AddressFamily, SockFlag, SockType, SockaddrStorage, connect, setsockopt, socket};
use nix::sys::time::TimeVal;

use super::Target;
use crate::place::{self, processors};

/// Where the two threads run.
pub(super) enum Processors {
    /// Both on the same one.
    One,
    /// On different ones, where there are two.
    Two,
}

/// Opens the server's socket in its namespace, serves it on a thread of its own while `client`
/// runs on another, and wakes the server by shutting its socket down when the client is done.
pub(super) fn with_server<S, T>(
    target: &Target,
    on: Processors,
    open: impl FnOnce(SocketAddr) -> io::Result<S> + Send,
    serve: impl FnOnce(&S) -> io::Result<()> + Send,
    client: impl FnOnce(SocketAddr) -> Result<T> + Send,
) -> Result<T>
where
    S: AsFd + Send + Sync,
    T: Send,
{
    let address = target.server_addr;
    let server = target.server_netns.run(|| open(address))?;
    let server = server.with_context(|| format!("the benchmark's server cannot listen at {address}"))?;
    let all = processors()?;
    // The first processor is where interrupts usually go.
    let (Some(first), Some(last)) = (all.first(), all.last()) else { bail!("no processor to run on") };
    let (client_on, server_on) = match on {
        Processors::One => (*last, *last),
        Processors::Two => (*last, *first),
    };
    let (result, served) = thread::scope(|scope| {
        let serving = scope.spawn(|| place::pin(server_on).and_then(|()| Ok(serve(&server)?)));
        let asking = scope.spawn(|| {
            place::pin(client_on)?;
            target.client_netns.set()?;
            client(target.connect_to)
        });
        let result = asking.join();
        close(&server);
        (result, serving.join())
    });
    let result = result.expect("BUG: the client thread panicked");
    // When both fail, the server's end is the consequence: its client went away.
    let value = result.with_context(|| format!("measure {} through {}", address, target.connect_to))?;
    served.expect("BUG: the server thread panicked").context("the benchmark's server failed")?;
    Ok(value)
}

/// Wakes whoever waits in `accept` or `recv`. For a datagram socket without a peer the kernel does
/// it and reports ENOTCONN all the same.
fn close(socket: &impl AsFd) {
    let _ = nix::sys::socket::shutdown(socket.as_fd().as_raw_fd(), nix::sys::socket::Shutdown::Both);
}

/// A TCP connection that fails after `patience` instead of waiting for minutes.
pub(crate) fn connect_tcp(to: SocketAddr, patience: Duration) -> io::Result<TcpStream> {
    let family = if to.is_ipv4() { AddressFamily::Inet } else { AddressFamily::Inet6 };
    let fd = socket(family, SockType::Stream, SockFlag::SOCK_CLOEXEC, None)?;
    let limit = TimeVal::new(patience.as_secs() as i64, patience.subsec_micros().into());
    setsockopt(&fd, SendTimeout, &limit)?;
    setsockopt(&fd, ReceiveTimeout, &limit)?;
    match connect(fd.as_raw_fd(), &SockaddrStorage::from(to)) {
        Ok(()) => Ok(TcpStream::from(fd)),
        // What a blocking connect says when SO_SNDTIMEO runs out (socket(7)).
        Err(Errno::EINPROGRESS) => Err(io::ErrorKind::TimedOut.into()),
        Err(errno) => Err(errno.into()),
    }
}

/// Tells the peer that nothing more comes.
pub(super) fn finish(stream: &TcpStream) {
    let _ = stream.shutdown(Shutdown::Both);
}
