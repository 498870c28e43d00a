use std::io;
use std::net::{SocketAddr, TcpListener, UdpSocket};
use std::sync::Arc;
use std::time::Duration;

use hickory_proto::op::ResponseCode;
use hickory_proto::rr::{Name, RecordType};
use kilter_netns::NetNs;
use tokio::sync::Semaphore;
use tokio::task::JoinSet;
use tokio::time::timeout;

use crate::message::{MAX_TCP, Reply, Step, asked, consider};
use crate::zone::Answer;
use crate::{Identity, Outside, Upstream, Zone, stream};

/// Queries being forwarded, and TCP connections, at once; beyond, they are refused (SERVFAIL, or
/// closed) at once instead of piling up.
const MAX_FORWARDED: usize = 256;
const MAX_CONNECTIONS: usize = 128;

/// How long a TCP connection may be idle (RFC 7766 asks for a few seconds).
const IDLE: Duration = Duration::from_secs(10);

/// Larger than any query.
const DATAGRAM: usize = 4096;

/// A server's two sockets, not yet served.
#[derive(Debug)]
pub struct Sockets {
    /// Queries by datagram.
    pub udp: UdpSocket,
    /// Queries by connection, on the same address.
    pub tcp: TcpListener,
}

impl Sockets {
    /// Opens both inside a network namespace, on a thread of its own. Port 0 gives both the same
    /// free port.
    pub fn open(netns: &NetNs, address: SocketAddr) -> io::Result<Self> {
        netns
            .run(|| {
                let tcp = TcpListener::bind(address)?;
                let udp = UdpSocket::bind(tcp.local_addr()?)?;
                Ok(Self { udp, tcp })
            })
            .map_err(io::Error::other)?
    }
}

/// A running server. It ends when this is dropped; [`Server::stop`] also waits for the sockets to
/// be closed, without which the namespace they are in lives on.
#[derive(Debug)]
pub struct Server {
    tasks: JoinSet<()>,
    address: SocketAddr,
}

impl Server {
    /// Where it listens.
    pub fn address(&self) -> SocketAddr {
        self.address
    }

    /// Ends it; when this returns its sockets are closed.
    pub async fn stop(mut self) {
        self.tasks.shutdown().await;
    }
}

/// Where answers come from.
#[derive(Debug, Clone)]
pub enum Source {
    /// A cluster's names.
    Cluster(Zone),
    /// The names of a twin's internet.
    Outside(Outside),
}

impl Source {
    pub(crate) fn answer(&self, name: &Name, kind: RecordType) -> Answer {
        match self {
            Source::Cluster(zone) => zone.answer(name, kind),
            Source::Outside(outside) => outside.answer(name, kind),
        }
    }
}

impl From<Zone> for Source {
    fn from(zone: Zone) -> Self {
        Source::Cluster(zone)
    }
}

impl From<Outside> for Source {
    fn from(outside: Outside) -> Self {
        Source::Outside(outside)
    }
}

/// Answers queries on `sockets` from `source`, as the server that `identity` names. Must be called
/// within a runtime.
pub fn serve(
    sockets: Sockets,
    source: impl Into<Source>,
    upstream: Option<Upstream>,
    identity: Identity,
) -> io::Result<Server> {
    let address = sockets.udp.local_addr()?;
    sockets.udp.set_nonblocking(true)?;
    sockets.tcp.set_nonblocking(true)?;
    let udp = tokio::net::UdpSocket::from_std(sockets.udp)?;
    let tcp = tokio::net::TcpListener::from_std(sockets.tcp)?;
    let (identity, forwards) = (Arc::new(identity), Arc::new(Semaphore::new(MAX_FORWARDED)));
    let responder = Responder { source: source.into(), upstream, identity, forwards };
    let mut tasks = JoinSet::new();
    tasks.spawn(serve_udp(udp, responder.clone()));
    tasks.spawn(serve_tcp(tcp, responder));
    Ok(Server { tasks, address })
}

/// What both transports share.
#[derive(Clone)]
struct Responder {
    source: Source,
    upstream: Option<Upstream>,
    identity: Arc<Identity>,
    forwards: Arc<Semaphore>,
}

impl Responder {
    /// Goes on with what the zone alone cannot answer, and returns the bytes of the reply.
    async fn finish(&self, step: Step, query: &[u8], tcp: bool) -> Option<Vec<u8>> {
        let (reply, target) = match step {
            Step::Ignore => return None,
            Step::Reply(reply) => return encode(*reply, tcp),
            Step::Forward(reply) => (reply, None),
            Step::Onward(reply, target) => (reply, Some(target)),
        };
        let Some(upstream) = &self.upstream else {
            let alias = target.is_some();
            return encode(*if alias { reply } else { reply.with_code(ResponseCode::Refused) }, tcp);
        };
        let Ok(_permit) = self.forwards.try_acquire() else {
            return encode(*reply.with_code(ResponseCode::ServFail), tcp);
        };
        let name = asked(&reply.message).map(ToString::to_string);
        let answer = match target {
            None => upstream.forward(query, tcp).await.map(Some),
            Some(target) => match upstream.resolve(target).await {
                Ok(message) => return encode(*reply.continue_with(message), tcp),
                Err(error) => Err(error),
            },
        };
        answer.unwrap_or_else(|error| {
            tracing::debug!(?name, %error, "no upstream answered");
            encode(*reply.with_code(ResponseCode::ServFail), tcp)
        })
    }
}

fn encode(reply: Reply, tcp: bool) -> Option<Vec<u8>> {
    let limit = if tcp { MAX_TCP } else { reply.udp_limit };
    reply.encode(limit)
}

async fn serve_udp(socket: tokio::net::UdpSocket, responder: Responder) {
    let socket = Arc::new(socket);
    let mut forwarded = JoinSet::new();
    let mut buffer = vec![0; DATAGRAM];
    loop {
        while forwarded.try_join_next().is_some() {}
        // Errors here are those of earlier replies (a port that was closed meanwhile).
        let Ok((length, from)) = socket.recv_from(&mut buffer).await else { continue };
        let query = &buffer[..length];
        match consider(&responder.source, &responder.identity, query) {
            Step::Reply(reply) => send(&socket, encode(*reply, false), from).await,
            Step::Ignore => {}
            step => {
                let (socket, responder, query) = (socket.clone(), responder.clone(), query.to_vec());
                forwarded.spawn(async move {
                    let reply = responder.finish(step, &query, false).await;
                    send(&socket, reply, from).await;
                });
            }
        }
    }
}

async fn send(socket: &tokio::net::UdpSocket, reply: Option<Vec<u8>>, to: SocketAddr) {
    if let Some(reply) = reply
        && let Err(error) = socket.send_to(&reply, to).await
    {
        tracing::debug!(%to, %error, "reply not sent");
    }
}

async fn serve_tcp(listener: tokio::net::TcpListener, responder: Responder) {
    let mut connections = JoinSet::new();
    loop {
        while connections.try_join_next().is_some() {}
        match listener.accept().await {
            Ok((connection, _)) if connections.len() < MAX_CONNECTIONS => {
                connections.spawn(serve_connection(connection, responder.clone()));
            }
            Ok(_) => tracing::warn!("connection closed: {MAX_CONNECTIONS} are open already"),
            Err(error) => {
                tracing::warn!(%error, "cannot accept connections");
                // Out of file descriptors, most likely: the next attempt would fail at once too.
                tokio::time::sleep(Duration::from_millis(100)).await;
            }
        }
    }
}

/// One connection: queries one after another, until the client ends it or says nothing.
async fn serve_connection(mut connection: tokio::net::TcpStream, responder: Responder) {
    while let Ok(Ok(Some(query))) = timeout(IDLE, stream::read(&mut connection)).await {
        let step = consider(&responder.source, &responder.identity, &query);
        let Some(reply) = responder.finish(step, &query, true).await else { return };
        if !matches!(timeout(IDLE, stream::write(&mut connection, &reply)).await, Ok(Ok(()))) {
            return;
        }
    }
}
