use std::sync::Arc;

use anyhow::Context;
use rustls::pki_types::{CertificateDer, PrivateKeyDer, PrivatePkcs8KeyDer};
use rustls::server::{ResolvesServerCert, WantsServerCert};

/// A TLS server with a certificate of its own for these names and addresses: enough for the kubelet API,
/// which the API server reaches with a token.
pub fn self_signed(names: Vec<String>) -> anyhow::Result<Arc<rustls::ServerConfig>> {
    let made = rcgen::generate_simple_self_signed(names).context("make a certificate")?;
    let key = PrivateKeyDer::Pkcs8(PrivatePkcs8KeyDer::from(made.signing_key.serialize_der()));
    server_config(vec![made.cert.der().clone()], key)
}

/// A TLS server with this certificate chain and key.
pub fn server_config(
    chain: Vec<CertificateDer<'static>>,
    key: PrivateKeyDer<'static>,
) -> anyhow::Result<Arc<rustls::ServerConfig>> {
    let config = builder()?.with_single_cert(chain, key).context("use the certificate and its key")?;
    Ok(Arc::new(config))
}

/// A TLS server that chooses its certificate by what the client asks for.
pub(super) fn choosing(certificates: Arc<dyn ResolvesServerCert>) -> anyhow::Result<Arc<rustls::ServerConfig>> {
    Ok(Arc::new(builder()?.with_cert_resolver(certificates)))
}

fn builder() -> anyhow::Result<rustls::ConfigBuilder<rustls::ServerConfig, WantsServerCert>> {
    let provider = Arc::new(rustls::crypto::aws_lc_rs::default_provider());
    let builder = rustls::ServerConfig::builder_with_provider(provider)
        .with_safe_default_protocol_versions()
        .context("choose TLS versions")?;
    Ok(builder.with_no_client_auth())
}
