use std::path::Path;
use std::sync::Once;

use kube::config::{KubeConfigOptions, Kubeconfig, KubeconfigError};
use kube::{Client, Config};

use crate::Error;

/// Makes aws-lc-rs the process's TLS provider, once. Whoever builds a `ServerConfig` or
/// `ClientConfig` of rustls before `connect` calls this first.
pub fn install_crypto() {
    static ONCE: Once = Once::new();
    ONCE.call_once(|| {
        // An error means that somebody installed one already, which is as good.
        let _ = rustls::crypto::aws_lc_rs::default_provider().install_default();
    });
}

/// A client for the current context of a kubeconfig file.
///
/// Requests wait for one another nowhere: each watch holds a connection and the pool of the rest
/// is not limited.
pub async fn connect(kubeconfig: &Path) -> Result<Client, Error> {
    install_crypto();
    let path = kubeconfig.display().to_string();
    let file = Kubeconfig::read_from(kubeconfig);
    client(file, path, KubeConfigOptions::default()).await
}

/// A client for a context of the caller's own kubeconfig (`KUBECONFIG`, else `~/.kube/config`), the
/// current one where none is named.
pub async fn connect_context(context: Option<&str>) -> Result<Client, Error> {
    install_crypto();
    let path = std::env::var("KUBECONFIG").unwrap_or_else(|_| "~/.kube/config".into());
    let options = KubeConfigOptions { context: context.map(Into::into), ..KubeConfigOptions::default() };
    client(Kubeconfig::read(), path, options).await
}

async fn client(
    file: Result<Kubeconfig, KubeconfigError>,
    path: String,
    options: KubeConfigOptions,
) -> Result<Client, Error> {
    let failed = |source| Error::Kubeconfig { path: path.clone(), source };
    let config = Config::from_custom_kubeconfig(file.map_err(failed)?, &options).await.map_err(failed)?;
    Client::try_from(config).map_err(|error| Error::from_kube("make a client", error))
}
