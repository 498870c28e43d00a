use std::collections::BTreeMap;
use std::fmt;
use std::net::{IpAddr, SocketAddr};
use std::path::PathBuf;
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use futures::future::BoxFuture;
use ipnet::IpNet;
use rustls::pki_types::{CertificateDer, PrivateKeyDer};
use serde_json::Value;

use crate::sandbox::Dns;

/// What a node's pods need to know. Everything runs in the network namespace and the cgroup of
/// this process.
pub struct Config {
    /// The node's name.
    pub node: String,
    /// The node's addresses, the primary family's first.
    pub node_ips: Vec<IpAddr>,
    /// `spec.podCIDRs` of the node.
    pub pod_cidrs: Vec<IpNet>,
    /// Labels of the node besides the well-known ones.
    pub labels: BTreeMap<String, String>,
    /// The Kubernetes API.
    pub client: kube::Client,
    /// The node's cgroup, in which containers that run for real get their own.
    pub cgroup: PathBuf,
    /// Where sandboxes are recorded: `.../nodes/NODE/pods`.
    pub state_dir: PathBuf,
    /// The `kilter-pause` program.
    pub pause: PathBuf,
    /// The directory that holds the CNI plugins' programs (`CNI_PATH`).
    pub cni_bin: PathBuf,
    /// A CNI network configuration, or a list of plugins.
    pub cni_conf: Value,
    /// What resolvers inside pods are told.
    pub dns: Dns,
    /// The kubelet API.
    pub kubelet_api: KubeletApi,
    /// Who signs the certificates of stand-ins; `None` makes somebody whom nobody knows.
    pub authority: Option<StandInAuthority>,
    /// Serves pods whose annotation `kilter.dev/run` names something that this process does
    /// itself (`dns`).
    pub builtin: Option<Builtin>,
    /// Whether probes wait for `initialDelaySeconds`. It describes how long an image takes to
    /// start; a stand-in is there at once.
    pub honour_initial_delay: bool,
    /// How long a stand-in goes on serving after it was told to stop, within the pod's grace
    /// period: what lets endpoints leave their Services before connections are refused.
    pub shutdown: Duration,
    /// How often it is looked whether the node's status is still what was written.
    pub heartbeat: Duration,
}

/// How the kubelet API is served.
#[derive(Debug)]
pub struct KubeletApi {
    /// `NODE_IP:10250`.
    pub listen: SocketAddr,
    /// The bearer token that the API server shows.
    pub token: String,
    /// Certificate chain and key; `None` makes a self-signed one.
    pub tls: Option<(Vec<CertificateDer<'static>>, PrivateKeyDer<'static>)>,
}

/// Who signs the certificates of stand-ins (see [`standin::make_authority`](crate::standin::make_authority)).
#[derive(Debug)]
pub struct StandInAuthority {
    /// The file of its certificate, PEM: programs in pods are pointed to it by `SSL_CERT_FILE`.
    pub certificate: PathBuf,
    /// Its key, PEM.
    pub key: String,
}

/// A pod that the node process serves itself.
#[derive(Debug, Clone)]
pub struct BuiltinPod {
    /// `metadata.uid`.
    pub uid: Arc<str>,
    /// The pod's namespace.
    pub namespace: String,
    /// The pod's name.
    pub name: String,
    /// The pod's network namespace, in which the sockets are to be opened.
    pub netns: PathBuf,
    /// The pod's addresses.
    pub addresses: Vec<IpAddr>,
}

/// Stops a builtin server; must be done before the pod's namespace can go.
pub struct Stop(Mutex<BoxFuture<'static, ()>>);

impl Stop {
    /// From a future that resolves when the server has closed every socket that it had in the pod.
    pub fn new(stop: impl Future<Output = ()> + Send + 'static) -> Self {
        Self(Mutex::new(Box::pin(stop)))
    }

    /// Stops it.
    pub async fn stop(self) {
        let stop = self.0.into_inner().unwrap_or_else(PoisonError::into_inner);
        stop.await;
    }
}

impl fmt::Debug for Stop {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("Stop")
    }
}

type StartBuiltin = dyn Fn(BuiltinPod) -> BoxFuture<'static, anyhow::Result<Stop>> + Send + Sync;

/// Starts a server inside a pod's namespace; returns once its sockets are open.
#[derive(Clone)]
pub struct Builtin {
    name: &'static str,
    start: Arc<StartBuiltin>,
}

impl Builtin {
    /// A hook from a function, for pods that are annotated with this name.
    pub fn new<F>(name: &'static str, start: F) -> Self
    where
        F: Fn(BuiltinPod) -> BoxFuture<'static, anyhow::Result<Stop>> + Send + Sync + 'static,
    {
        Self { name, start: Arc::new(start) }
    }

    /// The annotation's value.
    pub fn name(&self) -> &'static str {
        self.name
    }

    /// Starts the server of a pod.
    pub async fn start(&self, pod: BuiltinPod) -> anyhow::Result<Stop> {
        (self.start)(pod).await
    }
}

impl fmt::Debug for Builtin {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("Builtin")
    }
}
