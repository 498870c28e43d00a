use std::net::Ipv4Addr;
use std::path::PathBuf;

use ipnet::Ipv4Net;
use serde::{Deserialize, Serialize};

/// What a node process is started with.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Config {
    /// The node's name.
    pub node: String,
    /// Its address in the node subnet.
    pub address: Ipv4Addr,
    /// The link that carries its traffic with other nodes.
    pub uplink: String,
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
    /// The CNI plugin.
    pub cni_plugin: PathBuf,
    /// The pause program.
    pub pause: PathBuf,
    /// Its pods' addresses.
    pub pod_cidr: Ipv4Net,
    /// All pods' addresses.
    pub cluster_pod_cidr: Ipv4Net,
    /// All Services' addresses.
    pub service_cidr: Ipv4Net,
    /// The cluster IP of DNS, for pods' resolv.conf.
    pub dns_address: Ipv4Addr,
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
