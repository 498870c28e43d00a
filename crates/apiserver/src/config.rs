use std::net::{SocketAddr, TcpListener};
use std::path::PathBuf;

use ipnet::IpNet;
use rustls_pki_types::{CertificateDer, PrivateKeyDer};

use crate::auth::Token;

/// What a server needs to start.
pub struct Config {
    /// Where to listen. Bound by the caller, who may bind each in another network namespace.
    pub listeners: Vec<TcpListener>,
    /// The certificate chain that it shows, its own first.
    pub certificates: Vec<CertificateDer<'static>>,
    /// The key of the first certificate.
    pub key: PrivateKeyDer<'static>,
    /// Who may come in. Every token may do everything: a twin has one owner.
    pub tokens: Vec<Token>,
    /// Where Services get their cluster IPs, a range of each family that the cluster has; the first
    /// one's is the default family, and its first address the `kubernetes` Service's.
    pub service_cidrs: Vec<IpNet>,
    /// Where pods reach this server: the endpoint of the `kubernetes` Service.
    pub advertise: SocketAddr,
    /// How to talk to kubelets, for logs and exec.
    pub kubelet: Kubelet,
    /// The file in which every write is kept, so that a server that was killed goes on where it was;
    /// `None` keeps the state in memory only.
    pub journal: Option<PathBuf>,
    /// How many changes per resource a watcher may fall behind before it must list again.
    pub history: usize,
}

/// How to talk to kubelets.
pub struct Kubelet {
    /// The CA of their certificates; `None` accepts any certificate, as kube-apiserver does without
    /// `--kubelet-certificate-authority`.
    pub ca: Option<CertificateDer<'static>>,
    /// The bearer token that they know.
    pub token: String,
}

impl Config {
    /// A sensible depth of history: some seconds of the busiest resource of a large twin.
    pub const HISTORY: usize = 8192;
}
