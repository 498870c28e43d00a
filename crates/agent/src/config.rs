use std::net::Ipv4Addr;
use std::path::PathBuf;
use std::sync::Arc;

use ipnet::Ipv4Net;

/// What an agent must know about its node. The process must be in the node's network namespace.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Config {
    /// The node's name in the API.
    pub node: Arc<str>,
    /// The node's address on the uplink.
    pub address: Ipv4Addr,
    /// Name of the link that leads to the other nodes.
    pub uplink: String,
    /// The block that this node's pods get their addresses from.
    pub pod_cidr: Ipv4Net,
    /// The blocks of all pods of the cluster.
    pub cluster_pod_cidrs: Vec<Ipv4Net>,
    /// The block of the Services' cluster IPs.
    pub service_cidr: Ipv4Net,
    /// The node's cgroup (v2).
    pub cgroup: PathBuf,
    /// This node's directory on a bpffs.
    pub pins: PathBuf,
    /// Where address reservations are kept.
    pub ipam: PathBuf,
    /// Where the CNI plugin asks.
    pub socket: PathBuf,
    /// How many flows the data plane tracks before it refuses new ones.
    pub max_flows: u32,
}
