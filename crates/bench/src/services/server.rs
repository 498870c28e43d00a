//! The servers behind the measured Services: whoever asks them learns who they are. Each is a process
//! of its own, since the ends of ten thousand connections are more files than one may have.

use std::io::{self, BufRead, BufReader, Read};
use std::net::{Ipv4Addr, SocketAddr, TcpListener};
use std::path::Path;
use std::process::{Child, Command, Stdio};

use anyhow::{Context, Result, ensure};
use kilter_netns::NetNs;
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::TcpStream;

use crate::datapath::PORT;

/// A running server; ends when dropped.
pub(super) struct Server {
    process: Child,
}

impl Server {
    /// Starts this very program again, which listens in a pod's namespace and answers `who`.
    pub(super) fn start(netns: &NetNs, who: u8) -> Result<Self> {
        let program = std::env::current_exe().context("find this program's own file")?;
        let mut command = Command::new(program);
        command.args(["bench", "server", "--who", &who.to_string(), "--netns"]).arg(netns.path());
        let process = command.stdin(Stdio::piped()).stdout(Stdio::piped()).spawn();
        let mut server = Self { process: process.context("start a server for the benchmark")? };
        let said = server.process.stdout.take().map(BufReader::new).and_then(|out| out.lines().next());
        ensure!(matches!(said, Some(Ok(line)) if line == READY), "the benchmark's server did not start");
        Ok(server)
    }
}

impl Drop for Server {
    fn drop(&mut self) {
        drop(self.process.stdin.take());
        let _ = self.process.wait();
    }
}

/// What a server says when it listens.
const READY: &str = "ready";

/// Answers every byte of every connection with `who`, until standard input ends: that it does with the
/// benchmark, however that ends.
pub fn serve(netns: &Path, who: u8) -> Result<()> {
    let address = SocketAddr::from((Ipv4Addr::UNSPECIFIED, PORT));
    let listener = NetNs::open(netns)?.run(|| TcpListener::bind(address))?;
    let listener = listener.with_context(|| format!("the benchmark's server cannot listen at {address}"))?;
    listener.set_nonblocking(true)?;
    println!("{READY}");
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build()?;
    runtime.block_on(async {
        let end = tokio::task::spawn_blocking(|| io::stdin().read_to_end(&mut Vec::new()));
        tokio::select! {
            served = answer_all(listener, who) => served.context("the benchmark's server failed"),
            _ = end => Ok(()),
        }
    })
}

/// Sockets that a listener accepts are of its namespace, so this may run anywhere.
async fn answer_all(listener: TcpListener, who: u8) -> io::Result<()> {
    let listener = tokio::net::TcpListener::from_std(listener)?;
    loop {
        let (stream, _) = listener.accept().await?;
        // A client that goes away in the midst has its own end to tell of it.
        tokio::spawn(async move { answer(stream, who).await.ok() });
    }
}

async fn answer(mut stream: TcpStream, who: u8) -> io::Result<()> {
    stream.set_nodelay(true)?;
    let mut byte = [0];
    while stream.read(&mut byte).await? == 1 {
        stream.write_all(&[who]).await?;
    }
    Ok(())
}
