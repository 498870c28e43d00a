use std::net::SocketAddr;
use std::sync::Arc;
use std::time::Duration;

use anyhow::Context;
use hyper_util::rt::{TokioExecutor, TokioIo};
use hyper_util::server::conn::auto;
use hyper_util::service::TowerToHyperService;
use tokio::net::{TcpListener, TcpStream};
use tokio_rustls::TlsAcceptor;

use crate::standin::tls;
use crate::sync::Shared;

/// A client that has not finished its TLS handshake by then is let go.
const HANDSHAKE: Duration = Duration::from_secs(10);

/// The kubelet API's socket.
#[derive(Debug)]
pub struct Listener {
    listener: TcpListener,
    tls: Arc<rustls::ServerConfig>,
    address: SocketAddr,
}

/// Opens it.
pub async fn listen(shared: &Shared) -> anyhow::Result<Listener> {
    let config = &shared.config;
    let api = &config.kubelet_api;
    let tls = match &api.tls {
        Some((chain, key)) => tls::server_config(chain.clone(), key.clone_key())?,
        None => tls::self_signed(std::iter::once(config.node.clone()).chain(config.node_ips.iter().map(ToString::to_string)).collect())?,
    };
    let listener = TcpListener::bind(api.listen).await;
    let listener = listener.with_context(|| format!("listen on {} for the kubelet API", api.listen))?;
    let address = listener.local_addr().context("read the kubelet API's address")?;
    Ok(Listener { listener, tls, address })
}

impl Listener {
    /// Where it listens.
    pub fn address(&self) -> SocketAddr {
        self.address
    }

    /// Serves for ever; connections end with the task that runs this.
    pub async fn serve(self, shared: Arc<Shared>) {
        let router = super::router(shared);
        let acceptor = TlsAcceptor::from(self.tls);
        let mut connections = tokio::task::JoinSet::new();
        loop {
            tokio::select! {
                accepted = self.listener.accept() => match accepted {
                    Ok((stream, _)) => {
                        connections.spawn(connection(stream, acceptor.clone(), router.clone()));
                    }
                    Err(error) => {
                        tracing::warn!(%error, "accept a connection of the kubelet API");
                        tokio::time::sleep(Duration::from_millis(50)).await;
                    }
                },
                Some(_) = connections.join_next() => {}
            }
        }
    }
}

async fn connection(stream: TcpStream, acceptor: TlsAcceptor, router: axum::Router) {
    let Ok(Ok(stream)) = tokio::time::timeout(HANDSHAKE, acceptor.accept(stream)).await else { return };
    let service = TowerToHyperService::new(router);
    let served = auto::Builder::new(TokioExecutor::new());
    if let Err(error) = served.serve_connection_with_upgrades(TokioIo::new(stream), service).await {
        tracing::debug!(error, "a connection of the kubelet API ended");
    }
}
