use std::io::{self, Read, Write};
use std::net::TcpListener;
use std::sync::mpsc;
use std::time::{Duration, Instant};

use anyhow::{Context, Result};

use super::socket::{Processors, connect_tcp, finish, with_server};
use super::tcp::accept;
use super::{PATIENCE, Target};

/// What one `write` or `read` moves at most, bytes.
const CHUNK: usize = 128 << 10;

/// Gbit/s that arrive while a client pushes for `period`, from the first byte to the last.
pub(super) fn transfer(target: &Target, period: Duration) -> Result<f64> {
    let (received, result) = mpsc::sync_channel(1);
    let swallow = |listener: &TcpListener| {
        let rate = receive(listener)?;
        // Nobody listens any more when the client has failed; its error is the one that is told.
        let _ = received.send(rate);
        Ok(())
    };
    with_server(target, Processors::Two, TcpListener::bind, swallow, move |to| {
        let mut stream = connect_tcp(to).context("connect")?;
        let chunk = vec![0; CHUNK];
        let end = Instant::now() + period;
        while Instant::now() < end {
            stream.write_all(&chunk).context("send")?;
        }
        finish(&stream);
        result.recv_timeout(PATIENCE).context("the server did not say how much arrived")
    })
}

fn receive(listener: &TcpListener) -> io::Result<f64> {
    let Some(mut stream) = accept(listener)? else { return Ok(0.0) };
    let mut buffer = vec![0; CHUNK];
    let first = stream.read(&mut buffer)?;
    let start = Instant::now();
    let mut bytes = 0u64;
    loop {
        match stream.read(&mut buffer)? {
            0 => break,
            more => bytes += more as u64,
        }
    }
    let seconds = start.elapsed().as_secs_f64();
    Ok(if first == 0 || seconds == 0.0 { 0.0 } else { bytes as f64 * 8.0 / seconds / 1e9 })
}
