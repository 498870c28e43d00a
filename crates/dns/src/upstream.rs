use std::io;
use std::net::{SocketAddr, TcpStream, UdpSocket};
use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::time::Duration;

use hickory_proto::op::Message;
use kilter_netns::NetNs;
use tokio::time::timeout;

use crate::message::question;
use crate::stream;

/// How long one server may take. Resolvers ask again after 5 s (resolv.conf(5), `timeout`), so two
/// servers fit.
const PATIENCE: Duration = Duration::from_secs(2);

/// Larger than any reply over UDP.
const DATAGRAM: usize = 65_535;

/// Resolvers for names outside the cluster. The one that answered last is asked first, the others in
/// order until one answers: a dead one costs its patience once, not with every name.
///
/// Each question goes out from a socket of its own, opened inside the given namespace, so that
/// policy sees the DNS pod as the sender and the random port guards against forged answers.
#[derive(Debug, Clone)]
pub struct Upstream {
    servers: Arc<[SocketAddr]>,
    netns: Arc<NetNs>,
    /// Whose turn it is, in `servers`.
    first: Arc<AtomicUsize>,
}

/// Whether an answer is about the name, and not about the server: neither SERVFAIL nor REFUSED.
fn is_final(answer: &[u8]) -> bool {
    answer.get(3).is_some_and(|flags| !matches!(flags & 0x0f, 2 | 5))
}

impl Upstream {
    /// Asks these servers from inside `netns`.
    pub fn new(servers: impl Into<Arc<[SocketAddr]>>, netns: Arc<NetNs>) -> Self {
        Self { servers: servers.into(), netns, first: Arc::default() }
    }

    /// Passes the bytes of a query on and returns the bytes of the answer, under the asker's id.
    pub(crate) async fn forward(&self, query: &[u8], tcp: bool) -> io::Result<Vec<u8>> {
        let Some((asker, rest)) = query.split_first_chunk::<2>() else {
            return Err(io::ErrorKind::InvalidInput.into());
        };
        let own = Message::query().metadata.id.to_be_bytes();
        let mut answer = self.ask(&[&own, rest].concat(), tcp).await?;
        if let Some(id) = answer.first_chunk_mut::<2>() {
            *id = *asker;
        }
        Ok(answer)
    }

    /// Asks a question of our own.
    pub(crate) async fn resolve(&self, query: hickory_proto::op::Query) -> io::Result<Message> {
        let bytes = question(query).to_vec().map_err(io::Error::other)?;
        let answer = Message::from_vec(&self.ask(&bytes, false).await?).map_err(io::Error::other)?;
        if !answer.metadata.truncation {
            return Ok(answer);
        }
        Message::from_vec(&self.ask(&bytes, true).await?).map_err(io::Error::other)
    }

    async fn ask(&self, query: &[u8], tcp: bool) -> io::Result<Vec<u8>> {
        let mut last = Err(io::ErrorKind::NotConnected.into());
        let first = self.first.load(Ordering::Relaxed);
        for turn in (0..self.servers.len()).map(|i| (first + i) % self.servers.len()) {
            let server = self.servers[turn];
            let attempt = async {
                if tcp { self.ask_tcp(server, query).await } else { self.ask_udp(server, query).await }
            };
            match timeout(PATIENCE, attempt).await {
                Ok(Ok(answer)) if is_final(&answer) => {
                    self.first.store(turn, Ordering::Relaxed);
                    return Ok(answer);
                }
                // Somebody who cannot resolve says so; another may be able to.
                Ok(Ok(answer)) => last = Ok(answer),
                Ok(Err(error)) => last = last.or(Err(error)),
                Err(_) => last = last.or_else(|_: io::Error| Err(io::ErrorKind::TimedOut.into())),
            }
        }
        last
    }

    async fn ask_udp(&self, server: SocketAddr, query: &[u8]) -> io::Result<Vec<u8>> {
        let any = if server.is_ipv4() { "0.0.0.0:0" } else { "[::]:0" };
        let open = move || {
            let socket = UdpSocket::bind(any)?;
            socket.connect(server)?;
            socket.set_nonblocking(true)?;
            Ok(socket)
        };
        let socket = tokio::net::UdpSocket::from_std(self.inside(open).await?)?;
        socket.send(query).await?;
        let mut buffer = vec![0; DATAGRAM];
        loop {
            let length = socket.recv(&mut buffer).await?;
            // Whatever does not bear our id is late, or forged.
            if buffer.get(..2) == query.get(..2) {
                buffer.truncate(length);
                return Ok(buffer);
            }
        }
    }

    async fn ask_tcp(&self, server: SocketAddr, query: &[u8]) -> io::Result<Vec<u8>> {
        let open = move || {
            let socket = TcpStream::connect_timeout(&server, PATIENCE)?;
            socket.set_nonblocking(true)?;
            Ok(socket)
        };
        let mut socket = tokio::net::TcpStream::from_std(self.inside(open).await?)?;
        stream::write(&mut socket, query).await?;
        stream::read(&mut socket).await?.ok_or_else(|| io::ErrorKind::UnexpectedEof.into())
    }

    /// Opens a socket inside the namespace, off the runtime's workers.
    async fn inside<T: Send + 'static>(
        &self,
        open: impl FnOnce() -> io::Result<T> + Send + 'static,
    ) -> io::Result<T> {
        let netns = self.netns.clone();
        let opened = tokio::task::spawn_blocking(move || netns.run(open)).await;
        opened.map_err(io::Error::other)?.map_err(io::Error::other)?
    }
}
