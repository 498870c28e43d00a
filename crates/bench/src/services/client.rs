//! One question to a Service.

use std::io::{self, Read, Write};
use std::net::{SocketAddr, TcpStream};
use std::time::Duration;

use anyhow::{Context, Result};
use nix::sys::socket::sockopt::Linger;
use nix::sys::socket::setsockopt;

use crate::work::{PATIENCE, connect_tcp};

/// Who answers a new connection, which leaves nothing behind: thousands a second would use up the ports.
pub(super) fn ask(to: SocketAddr) -> Result<u8> {
    ask_within(to, PATIENCE).with_context(|| format!("connect to {to}"))
}

/// The same, by a client of little patience.
pub(super) fn ask_within(to: SocketAddr, patience: Duration) -> io::Result<u8> {
    let mut stream = reach_within(to, patience)?;
    let mut who = [0];
    stream.write_all(&[1])?;
    stream.read_exact(&mut who)?;
    Ok(who[0])
}

/// A connection that somebody has accepted, which leaves nothing behind when it is closed.
pub(super) fn reach_within(to: SocketAddr, patience: Duration) -> io::Result<TcpStream> {
    let stream = connect_tcp(to, patience)?;
    setsockopt(&stream, Linger, &nix::libc::linger { l_onoff: 1, l_linger: 0 })?;
    Ok(stream)
}
