//! Listening, TLS and the life of the server.

use std::net::SocketAddr;
use std::sync::Arc;
use std::time::Duration;

use hyper::service::service_fn;
use hyper_util::rt::{TokioExecutor, TokioIo, TokioTimer};
use hyper_util::server::conn::auto;
use tokio::net::{TcpListener, TcpStream};
use tokio::sync::Semaphore;
use tokio_rustls::TlsAcceptor;
use tokio_util::sync::CancellationToken;
use tokio_util::task::TaskTracker;

use crate::admission::Services;
use crate::api::Api;
use crate::auth::Tokens;
use crate::config::Config;
use crate::kubelet::KubeletClient;
use crate::registry::Registry;
use crate::status::Status;
use crate::store::Store;
use crate::{bootstrap, custom, gc, handlers, namespaces};

/// How long a client may take for the TLS handshake.
const HANDSHAKE: Duration = Duration::from_secs(10);
/// How long a connection may be idle, or take to send the head of a request.
const IDLE: Duration = Duration::from_secs(90);
/// How large the head of a request may be: a URL with selectors, a token, and room.
const HEAD: usize = 64 * 1024;
/// How many headers a request may have.
const HEADERS: usize = 100;
/// How much of its answers a stream holds for a client that does not read.
const SEND: usize = 64 * 1024;
/// How long connections may take to end when the server does.
const FAREWELL: Duration = Duration::from_secs(2);
/// How many connections are held at once; more wait to be accepted.
const CONNECTIONS: usize = 16_384;
/// Requests at once on one HTTP/2 connection.
const STREAMS: u32 = 250;

/// Why a server did not start.
#[derive(Debug, thiserror::Error)]
pub enum StartError {
    /// The certificate, the key or the kubelets' CA cannot be used.
    #[error("the TLS configuration cannot be used")]
    Tls(#[from] rustls::Error),
    /// A listener cannot be used.
    #[error("a listener cannot be used")]
    Listener(#[from] std::io::Error),
    /// Services could not get addresses.
    #[error("service_cidrs is empty; give a range of addresses for Services")]
    NoServiceRange,
    /// The journal cannot be used.
    #[error("the journal cannot be used")]
    Journal(#[source] std::io::Error),
    /// The objects that every cluster has could not be made.
    #[error("the first objects could not be made")]
    Bootstrap(#[from] Status),
}

/// The server.
pub struct ApiServer;

/// A running server. Dropping it stops the server without waiting.
#[derive(Debug)]
pub struct Handle {
    /// Its objects.
    pub store: Arc<Store>,
    /// Where it listens.
    pub addresses: Vec<SocketAddr>,
    stop: CancellationToken,
    tasks: TaskTracker,
}

impl Handle {
    /// Stops and waits until every connection has ended, or has had its time to.
    pub async fn shutdown(self) {
        self.stop.cancel();
        self.tasks.close();
        self.tasks.wait().await;
    }

    /// Ends when the server does.
    pub async fn stopped(&self) {
        self.stop.cancelled().await;
    }
}

impl Drop for Handle {
    fn drop(&mut self) {
        self.stop.cancel();
    }
}

impl ApiServer {
    /// Makes the first objects and serves. Must be called within a tokio runtime.
    ///
    /// # Errors
    /// TLS material or listeners that cannot be used.
    pub fn start(config: Config) -> Result<Handle, StartError> {
        let acceptor = acceptor(&config)?;
        let kubelet = KubeletClient::new(&config.kubelet)?;
        let store = match &config.journal {
            Some(path) => Store::open(config.history, path).map_err(StartError::Journal)?,
            None => Store::new(config.history),
        };
        let store = Arc::new(store);
        let registry = Arc::new(Registry::new(store.clone(), Services::new(config.service_cidrs.clone())));
        registry.adopt_services();
        let cluster_ip = config.service_cidrs.first().map(first_address);
        let cluster_ip = cluster_ip.ok_or(StartError::NoServiceRange)?;
        bootstrap::run(&registry, cluster_ip, config.advertise)?;
        let listeners = config.listeners.into_iter().map(adopt).collect::<Result<Vec<_>, _>>()?;
        let addresses = listeners.iter().map(TcpListener::local_addr).collect::<Result<Vec<_>, _>>()?;

        let (stop, tasks) = (CancellationToken::new(), TaskTracker::new());
        tasks.spawn(gc::run(registry.clone(), stop.clone()));
        tasks.spawn(namespaces::run(registry.clone(), stop.clone()));
        tasks.spawn(custom::run(registry.clone(), stop.clone()));
        tasks.spawn(bootstrap::keep(registry.clone(), cluster_ip, config.advertise, stop.clone()));
        let api = Arc::new(Api { registry, tokens: Tokens::new(config.tokens), kubelet, stop: stop.clone() });
        let places = Arc::new(Semaphore::new(CONNECTIONS));
        for listener in listeners {
            tasks.spawn(accept(listener, acceptor.clone(), api.clone(), places.clone(), tasks.clone()));
        }
        Ok(Handle { store, addresses, stop, tasks })
    }
}

/// The first address of the range is the `kubernetes` Service's.
fn first_address(range: &ipnet::IpNet) -> std::net::IpAddr {
    match range.network() {
        std::net::IpAddr::V4(v4) => std::net::Ipv4Addr::from(u32::from(v4).saturating_add(1)).into(),
        std::net::IpAddr::V6(v6) => std::net::Ipv6Addr::from(u128::from(v6).saturating_add(1)).into(),
    }
}

fn adopt(listener: std::net::TcpListener) -> std::io::Result<TcpListener> {
    listener.set_nonblocking(true)?;
    TcpListener::from_std(listener)
}

fn acceptor(config: &Config) -> Result<TlsAcceptor, rustls::Error> {
    let provider = Arc::new(rustls::crypto::aws_lc_rs::default_provider());
    let mut tls = rustls::ServerConfig::builder_with_provider(provider)
        .with_safe_default_protocol_versions()?
        .with_no_client_auth()
        .with_single_cert(config.certificates.clone(), config.key.clone_key())?;
    tls.alpn_protocols = vec![b"h2".to_vec(), b"http/1.1".to_vec()];
    Ok(TlsAcceptor::from(Arc::new(tls)))
}

async fn accept(
    listener: TcpListener,
    acceptor: TlsAcceptor,
    api: Arc<Api>,
    places: Arc<Semaphore>,
    tasks: TaskTracker,
) {
    loop {
        let Ok(place) = places.clone().acquire_owned().await else { return };
        let accepted = tokio::select! {
            accepted = listener.accept() => accepted,
            () = api.stop.cancelled() => return,
        };
        match accepted {
            Ok((tcp, peer)) => {
                let (acceptor, api) = (acceptor.clone(), api.clone());
                tasks.spawn(async move {
                    if let Err(error) = serve(tcp, acceptor, api).await {
                        tracing::debug!(%peer, %error, "a connection ended");
                    }
                    drop(place);
                });
            }
            Err(error) => {
                // Out of descriptors, mostly: give those that are open time to end.
                tracing::warn!(%error, "cannot accept a connection");
                tokio::time::sleep(Duration::from_millis(100)).await;
            }
        }
    }
}

async fn serve(
    tcp: TcpStream,
    acceptor: TlsAcceptor,
    api: Arc<Api>,
) -> Result<(), Box<dyn std::error::Error + Send + Sync>> {
    tcp.set_nodelay(true)?;
    let stop = api.stop.clone();
    let tls = tokio::select! {
        tls = tokio::time::timeout(HANDSHAKE, acceptor.accept(tcp)) => tls??,
        () = stop.cancelled() => return Ok(()),
    };
    let service = service_fn(move |request| {
        let api = api.clone();
        async move { Ok::<_, std::convert::Infallible>(handlers::handle(api, request).await) }
    });
    let mut builder = auto::Builder::new(TokioExecutor::new());
    builder.http1().timer(TokioTimer::new()).header_read_timeout(IDLE).max_headers(HEADERS).max_buf_size(HEAD);
    let mut http2 = builder.http2();
    http2.timer(TokioTimer::new()).max_concurrent_streams(STREAMS).max_header_list_size(HEAD as u32);
    http2.keep_alive_interval(IDLE).max_send_buf_size(SEND);
    let connection = builder.serve_connection_with_upgrades(TokioIo::new(tls), service);
    let mut connection = std::pin::pin!(connection);
    tokio::select! {
        ended = connection.as_mut() => return ended,
        () = stop.cancelled() => connection.as_mut().graceful_shutdown(),
    }
    tokio::time::timeout(FAREWELL, connection).await.unwrap_or(Ok(()))
}
