//! One node of a twin, in one process: the agent, cluster DNS and the pods.
//!
//! The process lives in the node's network namespace and was started in its cgroup; everything that
//! it opens or starts belongs to the node.

#![forbid(unsafe_code)]

mod config;
mod control;
mod dns;
mod updates;

use std::net::SocketAddr;
use std::sync::Arc;

use anyhow::{Context, Result};
use futures::future::BoxFuture;
use kilter_netns::NetNs;
use kilter_pods::{KubeletApi, Pods};
use rustls_pki_types::pem::PemObject;
use rustls_pki_types::{CertificateDer, PrivateKeyDer};
use serde_json::json;
use tokio::task::JoinHandle;

pub use config::Config;

/// The kubelet's own port.
const KUBELET_PORT: u16 = 10250;
/// How often a node looks whether the API has its status; the API and the network are one machine's.
const HEARTBEAT: std::time::Duration = std::time::Duration::from_secs(30);
/// How long a stand-in serves on after it was told to stop: long enough for its endpoint to have
/// left every Service, short enough that nobody waits for it.
const DRAIN: std::time::Duration = std::time::Duration::from_millis(200);
/// Flows that a node tracks before it refuses new ones.
const MAX_FLOWS: u32 = 1 << 17;

/// Moves the calling thread, and so every later one, into the node's network namespace.
pub fn enter(config: &Config) -> Result<()> {
    Ok(NetNs::open(&config.namespace)?.set()?)
}

/// Whether this kernel can carry the data plane.
pub fn check_kernel() -> Result<(), kilter_datapath::Error> {
    kilter_datapath::Datapath::check()
}

/// A node that runs.
pub struct Node {
    name: String,
    answers: Arc<control::Answers>,
    serving: JoinHandle<()>,
}

impl Node {
    /// Starts the node's parts, the network before the pods.
    pub fn start(config: Config) -> BoxFuture<'static, Result<Self>> {
        Box::pin(Self::begin(config))
    }

    async fn begin(config: Config) -> Result<Self> {
        kilter_cluster::install_crypto();
        let client = kilter_cluster::connect(&config.kubeconfig).await?;
        let zone = dns::zone(&config)?;
        let updates = updates::Shared::new(kilter_cluster::watch_as_node(client.clone(), &config.node), zone.clone());
        let agent = kilter_agent::Agent::start(agent_config(&config), updates).await.context("start the agent")?;
        let pods = Pods::start(pods_config(&config, client, zone)?).await.context("start the kubelet")?;
        let answers = Arc::new(control::Answers { agent, pods });
        let serving = control::serve(&config.control_socket(), Arc::clone(&answers))?;
        Ok(Self { name: config.node, answers, serving })
    }

    /// The node's name.
    pub fn name(&self) -> &str {
        &self.name
    }

    /// Stops serving. Sandboxes, links and rows stay: the next process of the node adopts them.
    pub async fn stop(self) -> Result<()> {
        self.serving.abort();
        self.answers.agent.shutdown().await;
        Ok(())
    }
}

fn agent_config(config: &Config) -> kilter_agent::Config {
    kilter_agent::Config {
        node: config.node.as_str().into(),
        addresses: config.addresses.clone(),
        uplink: config.uplink.clone(),
        routing: config.routing,
        pod_cidrs: config.pod_cidrs.clone(),
        cluster_pod_cidrs: config.cluster_pod_cidrs.clone(),
        service_cidrs: config.service_cidrs.clone(),
        lb_pools: config.lb_pools.clone(),
        cgroup: config.cgroup.clone(),
        pins: config.pins.clone(),
        ipam: config.directory.join("ipam"),
        socket: config.agent_socket(),
        // A twin shows what a cluster would do that asks for it; a Service's annotation can say no.
        retry_refused: true,
        max_flows: MAX_FLOWS,
    }
}

fn pods_config(config: &Config, client: kube::Client, zone: kilter_dns::Zone) -> Result<kilter_pods::Config> {
    let plugins = config.cni_plugin.parent().context("BUG: the CNI plugin has no directory")?;
    Ok(kilter_pods::Config {
        node: config.node.clone(),
        node_ips: config.addresses.clone(),
        pod_cidrs: config.pod_cidrs.clone(),
        labels: Default::default(),
        client,
        cgroup: config.cgroup.clone(),
        state_dir: config.directory.join("pods"),
        pause: config.pause.clone(),
        cni_bin: plugins.to_owned(),
        cni_conf: json!({
            "cniVersion": "1.1.0",
            "name": "kilter",
            "type": "kilter-cni",
            "agentSocket": config.agent_socket(),
        }),
        dns: kilter_pods::Dns {
            servers: config.dns_addresses.clone(),
            domain: config.cluster_domain.clone(),
        },
        kubelet_api: kubelet_api(config)?,
        authority: Some(kilter_pods::StandInAuthority {
            certificate: config.stand_in_certificate.clone(),
            key: std::fs::read_to_string(&config.stand_in_key)
                .with_context(|| format!("read {}", config.stand_in_key.display()))?,
        }),
        builtin: Some(dns::builtin(zone, config.upstream_dns.clone())),
        honour_initial_delay: config.honour_initial_delay,
        shutdown: DRAIN,
        heartbeat: HEARTBEAT,
    })
}

fn kubelet_api(config: &Config) -> Result<KubeletApi> {
    let (certificate, key) = (config.kubelet_certificate(), config.kubelet_key());
    let chain = CertificateDer::pem_file_iter(&certificate)
        .and_then(Iterator::collect)
        .with_context(|| format!("read {}", certificate.display()))?;
    let key = PrivateKeyDer::from_pem_file(&key).with_context(|| format!("read {}", key.display()))?;
    let primary = *config.addresses.first().context("the node has no address")?;
    Ok(KubeletApi {
        listen: SocketAddr::new(primary, KUBELET_PORT),
        token: config.kubelet_token.clone(),
        tls: Some((chain, key)),
    })
}
