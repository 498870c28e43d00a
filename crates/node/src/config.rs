use std::net::{IpAddr, SocketAddr};
use std::path::PathBuf;

use ipnet::IpNet;
use kilter_model::Routing;
use serde::{Deserialize, Serialize};

/// What a node process is started with.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Config {
    /// The node's name.
    pub node: String,
    /// Its addresses in the node subnets, the primary family's first, here and below.
    pub addresses: Vec<IpAddr>,
    /// The link that carries its traffic with other nodes.
    pub uplink: String,
    /// How its pods' packets travel to other nodes.
    #[serde(default)]
    pub routing: Routing,
    /// Its network namespace.
    pub namespace: PathBuf,
    /// Its cgroup, in which this process was started.
    pub cgroup: PathBuf,
    /// Its directory: sockets, address records, container state.
    pub directory: PathBuf,
    /// Where its BPF maps and links are pinned.
    pub pins: PathBuf,
    /// How to reach the API.
    pub kubeconfig: PathBuf,
    /// The token that callers of the kubelet's API must show.
    pub kubelet_token: String,
    /// The certificate of those who sign for stand-ins, PEM; programs in pods trust it.
    pub stand_in_certificate: PathBuf,
    /// Their key, PEM.
    pub stand_in_key: PathBuf,
    /// The CNI plugin.
    pub cni_plugin: PathBuf,
    /// The pause program.
    pub pause: PathBuf,
    /// Its pods' addresses.
    pub pod_cidrs: Vec<IpNet>,
    /// All pods' addresses.
    pub cluster_pod_cidrs: Vec<IpNet>,
    /// All Services' addresses.
    pub service_cidrs: Vec<IpNet>,
    /// Where load balancers' addresses come from that nodes answer for.
    #[serde(default)]
    pub lb_pools: Vec<IpNet>,
    /// The cluster IPs of DNS, for pods' resolv.conf.
    pub dns_addresses: Vec<IpAddr>,
    /// Where DNS asks for names outside the cluster.
    #[serde(default)]
    pub upstream_dns: Vec<SocketAddr>,
    /// The domain of Service names.
    pub cluster_domain: String,
    /// Wait out the probes' `initialDelaySeconds` even though a stand-in starts at once.
    pub honour_initial_delay: bool,
}

impl Config {
    /// The certificate of the kubelet's API, PEM.
    pub fn kubelet_certificate(&self) -> PathBuf {
        self.directory.join("kubelet.crt")
    }

    /// The key of the kubelet's API, PEM.
    pub fn kubelet_key(&self) -> PathBuf {
        self.directory.join("kubelet.key")
    }

    /// Where the agent serves the CNI plugin.
    pub fn agent_socket(&self) -> PathBuf {
        self.directory.join("agent.sock")
    }

    /// Where the node answers `status`, `verify` and `bench`.
    pub fn control_socket(&self) -> PathBuf {
        self.directory.join("control.sock")
    }
}
