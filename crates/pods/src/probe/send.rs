use std::net::IpAddr;
use std::sync::Arc;
use std::time::Duration;

use rustls::pki_types::ServerName;
use tokio_rustls::TlsConnector;

use super::spec::{Handler, HttpGet, Kind, ProbeSpec};
use super::{dial, grpc, http};
use crate::standin::{Failures, PROBE_HEADER};

/// gRPC's `SERVING` (health.proto).
const SERVING: u8 = 1;

/// What one attempt found.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Outcome {
    /// The container is well.
    Success,
    /// It is not; why, in the kubelet's words.
    Failure(String),
    /// The probe could not be made; says nothing about the container.
    Error(String),
}

/// Sends probes from this process's network namespace.
#[derive(Debug, Clone)]
pub struct Prober {
    tls: Arc<rustls::ClientConfig>,
}

impl Prober {
    /// A prober; it needs nothing but a TLS configuration.
    pub fn new() -> anyhow::Result<Self> {
        Ok(Self { tls: dial::unverified()? })
    }

    /// One attempt.
    pub async fn probe(&self, spec: &ProbeSpec, pod: IpAddr, failures: Failures) -> Outcome {
        match &spec.handler {
            Handler::Exec if failures.probe(spec.kind.word()) => {
                Outcome::Failure("the stand-in was told to fail by the annotation kilter.dev/fail".into())
            }
            Handler::Exec => Outcome::Success,
            Handler::Tcp { port: Err(bad), .. } | Handler::Grpc { port: Err(bad), .. } => {
                Outcome::Error(bad.clone())
            }
            Handler::Tcp { host, port: Ok(port) } => tcp(host.as_deref(), pod, *port, spec.timeout).await,
            Handler::Grpc { port: Ok(port), service } => grpc_check(pod, *port, service, spec).await,
            Handler::Http(get) => match &get.port {
                Err(bad) => Outcome::Error(bad.clone()),
                Ok(port) => self.http(get, pod, *port, spec).await,
            },
        }
    }

    async fn http(&self, get: &HttpGet, pod: IpAddr, port: u16, spec: &ProbeSpec) -> Outcome {
        let authority = dial::authority(get.host.as_deref(), pod, port);
        let scheme = if get.tls { "https" } else { "http" };
        let what = format!("Get \"{scheme}://{authority}{}\"", get.path);
        let attempt = self.status_of(get, pod, port, &authority, spec.kind);
        match tokio::time::timeout(spec.timeout, attempt).await {
            Ok(Ok(200..400)) => Outcome::Success,
            Ok(Ok(status)) => Outcome::Failure(format!("HTTP probe failed with statuscode: {status}")),
            Ok(Err(error)) => Outcome::Failure(format!("{what}: {error:#}")),
            Err(_) => Outcome::Failure(format!("{what}: context deadline exceeded")),
        }
    }

    async fn status_of(
        &self,
        get: &HttpGet,
        pod: IpAddr,
        port: u16,
        authority: &str,
        kind: Kind,
    ) -> anyhow::Result<u16> {
        let headers = marked(&get.headers, kind);
        let stream = match dial::tcp(get.host.as_deref(), pod, port).await {
            Ok(stream) => stream,
            Err(error) => anyhow::bail!("dial tcp {authority}: connect: {}", lower(&error)),
        };
        if !get.tls {
            return http::get(stream, authority, &get.path, &headers).await;
        }
        let name = match &get.host {
            Some(host) => ServerName::try_from(host.clone())?,
            None => ServerName::from(pod),
        };
        let stream = TlsConnector::from(self.tls.clone()).connect(name, stream).await?;
        http::get(stream, authority, &get.path, &headers).await
    }
}

/// The probe's headers and the one that tells a stand-in which probe this is.
fn marked(headers: &[(String, String)], kind: Kind) -> Vec<(String, String)> {
    let mark = (PROBE_HEADER.to_owned(), kind.word().to_owned());
    headers.iter().cloned().chain([mark]).collect()
}

async fn tcp(host: Option<&str>, pod: IpAddr, port: u16, timeout: Duration) -> Outcome {
    let authority = dial::authority(host, pod, port);
    match tokio::time::timeout(timeout, dial::tcp(host, pod, port)).await {
        Ok(Ok(_)) => Outcome::Success,
        Ok(Err(error)) => Outcome::Failure(format!("dial tcp {authority}: connect: {}", lower(&error))),
        Err(_) => Outcome::Failure(format!("dial tcp {authority}: i/o timeout")),
    }
}

async fn grpc_check(pod: IpAddr, port: u16, service: &str, spec: &ProbeSpec) -> Outcome {
    let authority = dial::authority(None, pod, port);
    let attempt = async {
        let stream = dial::tcp(None, pod, port).await?;
        grpc::check(stream, &authority, service, spec.kind.word()).await
    };
    match tokio::time::timeout(spec.timeout, attempt).await {
        Ok(Ok(SERVING)) => Outcome::Success,
        Ok(Ok(status)) => {
            Outcome::Failure(format!("service unhealthy (responded with {:?})", status_name(status)))
        }
        Ok(Err(error)) => Outcome::Failure(format!("grpc health check of {authority}: {error:#}")),
        Err(_) => {
            let seconds = spec.timeout.as_secs();
            Outcome::Failure(format!("timeout: health rpc of {authority} did not complete within {seconds}s"))
        }
    }
}

fn status_name(status: u8) -> &'static str {
    match status {
        2 => "NOT_SERVING",
        3 => "SERVICE_UNKNOWN",
        _ => "UNKNOWN",
    }
}

/// The kernel's words without the number that Rust adds.
fn lower(error: &std::io::Error) -> String {
    match error.kind() {
        std::io::ErrorKind::ConnectionRefused => "connection refused".into(),
        std::io::ErrorKind::HostUnreachable => "no route to host".into(),
        std::io::ErrorKind::NetworkUnreachable => "network is unreachable".into(),
        std::io::ErrorKind::TimedOut => "connection timed out".into(),
        _ => error.to_string(),
    }
}
