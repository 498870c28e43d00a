use std::io::{self, Read, Write};
use std::net::{TcpListener, TcpStream};
use std::time::Instant;

use anyhow::{Context, Result};

use super::socket::{Processors, connect_tcp, finish, with_server};
use super::{PATIENCE, Target, warm_up};

/// Nanoseconds of each of `count` exchanges of one byte over one connection.
pub(super) fn keep_alive(target: &Target, count: usize) -> Result<Vec<u64>> {
    with_server(target, Processors::One, TcpListener::bind, echo, |to| {
        let mut stream = connect_tcp(to, PATIENCE).context("connect")?;
        stream.set_nodelay(true)?;
        for _ in 0..warm_up(count) {
            exchange(&mut stream)?;
        }
        let mut durations = Vec::with_capacity(count);
        for _ in 0..count {
            let start = Instant::now();
            exchange(&mut stream)?;
            durations.push(start.elapsed().as_nanos() as u64);
        }
        finish(&stream);
        Ok(durations)
    })
}

/// Nanoseconds of each of `count` connections that carry one exchange of one byte.
pub(super) fn new_connection(target: &Target, count: usize) -> Result<Vec<u64>> {
    with_server(target, Processors::One, TcpListener::bind, answer_once, |to| {
        for _ in 0..warm_up(count) {
            transaction(to)?;
        }
        let mut durations = Vec::with_capacity(count);
        for _ in 0..count {
            let start = Instant::now();
            transaction(to)?;
            durations.push(start.elapsed().as_nanos() as u64);
        }
        Ok(durations)
    })
}

fn transaction(to: std::net::SocketAddr) -> Result<()> {
    let mut stream = connect_tcp(to, PATIENCE).context("connect")?;
    exchange(&mut stream)?;
    // The server closes first, so that TIME_WAIT stays on its one port and ports do not run out here.
    stream.read(&mut [0])?;
    Ok(())
}

fn exchange(stream: &mut TcpStream) -> Result<()> {
    stream.write_all(&[1]).context("send")?;
    stream.read_exact(&mut [0]).context("receive")
}

/// Sends back every byte of one connection.
fn echo(listener: &TcpListener) -> io::Result<()> {
    let Some(mut stream) = accept(listener)? else { return Ok(()) };
    stream.set_nodelay(true)?;
    let mut byte = [0];
    while stream.read(&mut byte)? == 1 {
        stream.write_all(&byte)?;
    }
    Ok(())
}

/// Sends back one byte of every connection and closes it.
fn answer_once(listener: &TcpListener) -> io::Result<()> {
    while let Some(mut stream) = accept(listener)? {
        let mut byte = [0];
        if stream.read(&mut byte)? == 1 {
            stream.write_all(&byte)?;
        }
    }
    Ok(())
}

/// The next connection; `None` once the socket was shut down (`EINVAL`, see accept(2)).
pub(super) fn accept(listener: &TcpListener) -> io::Result<Option<TcpStream>> {
    match listener.accept() {
        Ok((stream, _)) => {
            stream.set_read_timeout(Some(PATIENCE))?;
            Ok(Some(stream))
        }
        Err(error) if error.kind() == io::ErrorKind::InvalidInput => Ok(None),
        Err(error) => Err(error),
    }
}
