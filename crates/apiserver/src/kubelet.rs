//! The way to kubelets: logs and exec are served there and passed through here.

use std::net::IpAddr;
use std::sync::Arc;
use std::time::Duration;

use bytes::Bytes;
use http::header::{AUTHORIZATION, HOST};
use http::{Method, Request, Response};
use http_body_util::{BodyExt, Empty};
use hyper::body::Incoming;
use hyper_util::rt::TokioIo;
use rustls::ClientConfig;
use rustls::client::danger::{HandshakeSignatureValid, ServerCertVerified, ServerCertVerifier};
use rustls_pki_types::{CertificateDer, ServerName, UnixTime};
use serde_json::Value;
use tokio::net::TcpStream;
use tokio_rustls::TlsConnector;

use crate::config::Kubelet;
use crate::status::Status;

/// How long a kubelet may take to accept a connection and begin to answer.
const PATIENCE: Duration = Duration::from_secs(15);

/// Where a kubelet is.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Address {
    /// The node's InternalIP.
    pub ip: IpAddr,
    /// `status.daemonEndpoints.kubeletEndpoint.Port`.
    pub port: u16,
}

impl Address {
    /// From a Node; `None` where it has not said where its kubelet is.
    pub fn of(node: &Value) -> Option<Self> {
        let addresses = node["status"]["addresses"].as_array()?;
        let internal = addresses.iter().find(|a| a["type"] == "InternalIP")?;
        let port = node["status"]["daemonEndpoints"]["kubeletEndpoint"]["Port"].as_u64()?;
        Some(Self { ip: internal["address"].as_str()?.parse().ok()?, port: u16::try_from(port).ok()? })
    }
}

/// Talks to kubelets.
pub struct KubeletClient {
    tls: TlsConnector,
    authorization: String,
}

impl KubeletClient {
    /// A client with this trust and token.
    ///
    /// # Errors
    /// A CA that is none.
    pub fn new(config: &Kubelet) -> Result<Self, rustls::Error> {
        let provider = Arc::new(rustls::crypto::aws_lc_rs::default_provider());
        let builder =
            ClientConfig::builder_with_provider(provider.clone()).with_safe_default_protocol_versions()?;
        let tls = match &config.ca {
            Some(ca) => {
                let mut roots = rustls::RootCertStore::empty();
                roots.add(ca.clone())?;
                builder.with_root_certificates(roots).with_no_client_auth()
            }
            None => builder
                .dangerous()
                .with_custom_certificate_verifier(Arc::new(AnyCertificate(provider)))
                .with_no_client_auth(),
        };
        Ok(Self { tls: TlsConnector::from(Arc::new(tls)), authorization: format!("Bearer {}", config.token) })
    }

    /// Sends a request without a body, with these headers besides.
    ///
    /// # Errors
    /// 503 where the kubelet cannot be reached or does not begin to answer.
    pub async fn send(
        &self,
        to: Address,
        path: &str,
        method: Method,
        headers: &[(http::HeaderName, http::HeaderValue)],
    ) -> Result<Response<Incoming>, Status> {
        let mut request = Request::builder()
            .method(method)
            .uri(path)
            .header(HOST, format!("{}:{}", to.ip, to.port))
            .header(AUTHORIZATION, &self.authorization);
        for (name, value) in headers {
            request = request.header(name, value);
        }
        let request = request.body(Empty::<Bytes>::new()).map_err(|e| Status::internal(e.to_string()))?;
        let answer = tokio::time::timeout(PATIENCE, self.exchange(to, request)).await;
        let unreachable = |why: String| {
            Status::unavailable(format!("the kubelet at {}:{} cannot be reached: {why}", to.ip, to.port))
        };
        match answer {
            Err(_) => Err(unreachable("it did not answer in time".to_owned())),
            Ok(Err(error)) => Err(unreachable(error.to_string())),
            Ok(Ok(answer)) => Ok(answer),
        }
    }

    async fn exchange(
        &self,
        to: Address,
        request: Request<Empty<Bytes>>,
    ) -> Result<Response<Incoming>, Box<dyn std::error::Error + Send + Sync>> {
        let tcp = TcpStream::connect((to.ip, to.port)).await?;
        tcp.set_nodelay(true)?;
        let tls = self.tls.connect(ServerName::IpAddress(to.ip.into()), tcp).await?;
        let (mut sender, connection) = hyper::client::conn::http1::handshake(TokioIo::new(tls)).await?;
        // Ends when the answer's body, or the upgraded connection, is dropped.
        tokio::spawn(async move {
            if let Err(error) = connection.with_upgrades().await {
                tracing::debug!(%error, "a kubelet connection ended");
            }
        });
        Ok(sender.send_request(request).await?)
    }
}

/// A kubelet's refusal, as a Status with its words.
pub async fn refusal(answer: Response<Incoming>) -> Status {
    const MOST: usize = 4096;
    let code = answer.status();
    let body = http_body_util::Limited::new(answer.into_body(), MOST).collect().await;
    let text = body.map(|b| String::from_utf8_lossy(&b.to_bytes()).trim().to_owned()).unwrap_or_default();
    let message = if text.is_empty() { format!("the kubelet answered {code}") } else { text };
    Status::from_upstream(code, message)
}

/// Accepts any certificate, as kube-apiserver does when it is given no CA for kubelets.
#[derive(Debug)]
struct AnyCertificate(Arc<rustls::crypto::CryptoProvider>);

impl ServerCertVerifier for AnyCertificate {
    fn verify_server_cert(
        &self,
        _end_entity: &CertificateDer<'_>,
        _intermediates: &[CertificateDer<'_>],
        _server_name: &ServerName<'_>,
        _ocsp: &[u8],
        _now: UnixTime,
    ) -> Result<ServerCertVerified, rustls::Error> {
        Ok(ServerCertVerified::assertion())
    }

    fn verify_tls12_signature(
        &self,
        message: &[u8],
        cert: &CertificateDer<'_>,
        dss: &rustls::DigitallySignedStruct,
    ) -> Result<HandshakeSignatureValid, rustls::Error> {
        rustls::crypto::verify_tls12_signature(message, cert, dss, &self.0.signature_verification_algorithms)
    }

    fn verify_tls13_signature(
        &self,
        message: &[u8],
        cert: &CertificateDer<'_>,
        dss: &rustls::DigitallySignedStruct,
    ) -> Result<HandshakeSignatureValid, rustls::Error> {
        rustls::crypto::verify_tls13_signature(message, cert, dss, &self.0.signature_verification_algorithms)
    }

    fn supported_verify_schemes(&self) -> Vec<rustls::SignatureScheme> {
        self.0.signature_verification_algorithms.supported_schemes()
    }
}
