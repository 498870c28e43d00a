use std::io::{self, Read, Write};
use std::net::{SocketAddr, TcpListener, TcpStream};
use std::sync::mpsc;
use std::thread;
use std::time::{Duration, Instant};

use anyhow::{Context, Result};

use super::socket::{Processors, connect_tcp, finish, with_server};
use super::tcp::accept;
use super::{PATIENCE, Target};

/// What one `write` or `read` moves at most, bytes.
const CHUNK: usize = 128 << 10;

/// Gbit/s that arrive while a client pushes for `period` into so many connections, from when all of them
/// are there to the last byte.
pub(super) fn transfer(target: &Target, period: Duration, streams: usize) -> Result<f64> {
    let (received, result) = mpsc::sync_channel(1);
    let swallow = |listener: &TcpListener| {
        let rate = receive_all(listener, streams)?;
        // Nobody listens any more when the client has failed; its error is the one that is told.
        let _ = received.send(rate);
        Ok(())
    };
    with_server(target, Processors::Two, TcpListener::bind, swallow, move |to| {
        // Threads of this one: in its namespace, and on its processor.
        thread::scope(|scope| {
            let pushing: Vec<_> = (0..streams).map(|_| scope.spawn(move || push(to, period))).collect();
            pushing.into_iter().try_for_each(|it| it.join().expect("BUG: a client thread panicked"))
        })?;
        result.recv_timeout(PATIENCE).context("the server did not say how much arrived")
    })
}

fn push(to: SocketAddr, period: Duration) -> Result<()> {
    let mut stream = connect_tcp(to, PATIENCE).context("connect")?;
    let chunk = vec![0; CHUNK];
    let end = Instant::now() + period;
    while Instant::now() < end {
        stream.write_all(&chunk).context("send")?;
    }
    finish(&stream);
    Ok(())
}

fn receive_all(listener: &TcpListener, streams: usize) -> io::Result<f64> {
    let mut accepted = Vec::with_capacity(streams);
    for _ in 0..streams {
        let Some(stream) = accept(listener)? else { return Ok(0.0) };
        accepted.push(stream);
    }
    let start = Instant::now();
    let bytes = thread::scope(|scope| {
        let receiving: Vec<_> = accepted.into_iter().map(|stream| scope.spawn(|| receive(stream))).collect();
        receiving.into_iter().map(|it| it.join().expect("BUG: a server thread panicked")).sum::<io::Result<u64>>()
    })?;
    let seconds = start.elapsed().as_secs_f64();
    Ok(if seconds == 0.0 { 0.0 } else { bytes as f64 * 8.0 / seconds / 1e9 })
}

fn receive(mut stream: TcpStream) -> io::Result<u64> {
    let mut buffer = vec![0; CHUNK];
    let mut bytes = 0;
    loop {
        match stream.read(&mut buffer)? {
            0 => return Ok(bytes),
            more => bytes += more as u64,
        }
    }
}
