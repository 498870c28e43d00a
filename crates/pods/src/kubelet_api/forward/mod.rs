//! `kubectl port-forward`: connections into a pod's network namespace, several in one connection
//! of the client. The client speaks SPDY/3.1, directly or inside a WebSocket (KEP-4006), or the
//! older channels of `v4.channel.k8s.io`.

mod channels;
mod session;
mod spdy;

use std::io;
use std::net::{Ipv4Addr, Ipv6Addr, SocketAddr};
use std::path::PathBuf;
use std::sync::Arc;

use axum::body::Body;
use axum::extract::ws::rejection::WebSocketUpgradeRejection;
use axum::extract::ws::{Message, WebSocket, WebSocketUpgrade};
use axum::extract::{Path, RawQuery, Request, State};
use axum::http::{HeaderValue, StatusCode, header};
use axum::response::Response;
use bytes::Bytes;
use futures::{SinkExt, StreamExt};
use hyper_util::rt::TokioIo;
use kilter_netns::NetNs;
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::{TcpSocket, TcpStream};
use tokio::sync::mpsc;

use super::{Refused, query};
use crate::sync::Shared;

/// SPDY inside a WebSocket, and plain channels.
const TUNNEL: &str = "SPDY/3.1+portforward.k8s.io";
const CHANNELS: &str = "v4.channel.k8s.io";
/// What is spoken over SPDY.
const PROTOCOL: &str = "portforward.k8s.io";
/// Bytes on their way between a WebSocket and what is inside it.
const PIPE: usize = 64 << 10;
/// Bytes read from a connection at once.
const CHUNK: usize = 16 << 10;

/// A pod's network, for connections to its own ports.
#[derive(Debug, Clone)]
struct Pod {
    netns: PathBuf,
    name: String,
}

impl Pod {
    /// Connects to a port on the pod's loopback: IPv4, then IPv6.
    async fn connect(&self, port: u16) -> Result<TcpStream, String> {
        let path = self.netns.clone();
        let sockets = tokio::task::spawn_blocking(move || {
            NetNs::open(&path)?.run(|| (TcpSocket::new_v4(), TcpSocket::new_v6()))
        });
        let failed = |why: &dyn std::fmt::Display| {
            format!("error forwarding port {port} to pod {}: {why}", self.name)
        };
        let (four, six) = sockets.await.map_err(|e| failed(&e))?.map_err(|e| failed(&e))?;
        let attempt = async |socket: io::Result<TcpSocket>, to: SocketAddr| socket?.connect(to).await;
        match attempt(four, (Ipv4Addr::LOCALHOST, port).into()).await {
            Ok(connected) => Ok(connected),
            Err(first) => attempt(six, (Ipv6Addr::LOCALHOST, port).into()).await.map_err(|_| {
                failed(&format_args!("failed to connect to localhost:{port} inside the pod: {first}"))
            }),
        }
    }
}

/// `GET` or `POST /portForward/{namespace}/{pod}`.
pub(super) async fn serve(
    State(shared): State<Arc<Shared>>,
    Path((namespace, name)): Path<(String, String)>,
    RawQuery(query): RawQuery,
    upgrade: Result<WebSocketUpgrade, WebSocketUpgradeRejection>,
    request: Request,
) -> Result<Response, Refused> {
    let entry = shared.registry.find(&namespace, &name).ok_or_else(|| {
        let what = format!("pod {namespace}/{name} does not run on node {}", shared.config.node);
        Refused(StatusCode::NOT_FOUND, what)
    })?;
    let Some(sandbox) = entry.sandbox.as_ref() else {
        let what = format!("unable to forward port because pod {namespace}/{name} is not running");
        return Err(Refused(StatusCode::BAD_REQUEST, what));
    };
    let pod = Pod { netns: sandbox.netns.clone(), name: format!("{namespace}/{name}") };
    let Ok(upgrade) = upgrade else { return over_spdy(pod, request) };
    let ports = ports(query.as_deref())?;
    Ok(upgrade.protocols([TUNNEL, CHANNELS]).on_upgrade(async move |socket| {
        match socket.protocol().and_then(|p| p.to_str().ok()) {
            Some(CHANNELS) => channels::run(socket, &pod, &ports).await,
            _ => tunnel(socket, pod).await,
        }
    }))
}

/// The ports that a client of the channels wants; those of SPDY name them later.
fn ports(query: Option<&str>) -> Result<Vec<u16>, Refused> {
    let pairs = query::pairs(query);
    let asked = pairs.iter().filter(|(key, _)| key == "ports").flat_map(|(_, value)| value.split(','));
    let read = |text: &str| match text.parse() {
        Ok(port @ 1..) => Ok(port),
        _ => Err(Refused(StatusCode::BAD_REQUEST, format!("ports: {text:?} is no port"))),
    };
    asked.map(read).collect()
}

/// A connection that is upgraded to SPDY itself.
fn over_spdy(pod: Pod, mut request: Request) -> Result<Response, Refused> {
    let asks = |name: header::HeaderName, what: &str| {
        let value = request.headers().get(name).and_then(|v| v.to_str().ok()).unwrap_or_default();
        value.split(',').any(|part| part.trim().eq_ignore_ascii_case(what))
    };
    let version = header::HeaderName::from_static("x-stream-protocol-version");
    if !asks(header::UPGRADE, "SPDY/3.1") || !asks(version.clone(), PROTOCOL) {
        let what = "port-forward is served over WebSocket or SPDY/3.1 (portforward.k8s.io) only";
        return Err(Refused(StatusCode::UPGRADE_REQUIRED, what.into()));
    }
    let upgraded = hyper::upgrade::on(&mut request);
    tokio::spawn(async move {
        match upgraded.await {
            Ok(connection) => session::run(TokioIo::new(connection), pod).await,
            Err(error) => tracing::debug!(%error, "upgrade a connection to SPDY"),
        }
    });
    let mut response = Response::new(Body::empty());
    *response.status_mut() = StatusCode::SWITCHING_PROTOCOLS;
    for (name, value) in
        [(header::UPGRADE, "SPDY/3.1"), (header::CONNECTION, "Upgrade"), (version, PROTOCOL)]
    {
        response.headers_mut().insert(name, HeaderValue::from_static(value));
    }
    Ok(response)
}

/// Carries a client's pieces into the pod, and what the pod says, wrapped, to the client, until the pod
/// has nothing more to say.
async fn carry<T>(
    connection: TcpStream,
    mut input: mpsc::Receiver<Bytes>,
    answers: &mpsc::Sender<T>,
    wrap: impl Fn(&[u8]) -> T,
) {
    let (mut reader, mut writer) = connection.into_split();
    let inward = async {
        while let Some(piece) = input.recv().await {
            if writer.write_all(&piece).await.is_err() {
                return;
            }
        }
        // What is refused here is closed already.
        let _ = writer.shutdown().await;
    };
    let outward = async {
        let mut buffer = vec![0; CHUNK];
        while let Ok(length @ 1..) = reader.read(&mut buffer).await {
            if answers.send(wrap(&buffer[..length])).await.is_err() {
                return;
            }
        }
    };
    let mut outward = std::pin::pin!(outward);
    tokio::select! {
        () = &mut outward => {}
        () = inward => outward.await,
    }
}

/// SPDY whose bytes are the messages of a WebSocket.
async fn tunnel(socket: WebSocket, pod: Pod) {
    let (mut sink, mut messages) = socket.split();
    let (near, far) = tokio::io::duplex(PIPE);
    let (mut from_session, mut to_session) = tokio::io::split(far);
    let inward = async {
        while let Some(Ok(message)) = messages.next().await {
            match message {
                Message::Binary(data) if to_session.write_all(&data).await.is_ok() => {}
                Message::Ping(_) | Message::Pong(_) => {}
                _ => break,
            }
        }
    };
    let outward = async {
        let mut buffer = vec![0; CHUNK];
        while let Ok(length @ 1..) = from_session.read(&mut buffer).await {
            let data = Bytes::copy_from_slice(&buffer[..length]);
            if sink.send(Message::Binary(data)).await.is_err() {
                break;
            }
        }
    };
    // Whichever ends first, the others have nobody left to talk to.
    tokio::select! {
        () = inward => {}
        () = outward => {}
        () = session::run(near, pod) => {}
    }
}
