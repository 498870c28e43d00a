use std::net::IpAddr;
use std::path::PathBuf;
use std::sync::Arc;

use ipnet::IpNet;
use kilter_model::Routing;

/// What an agent must know about its node. The process must be in the node's network namespace.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Config {
    /// The node's name in the API.
    pub node: Arc<str>,
    /// The node's addresses on the uplink, at most one of each family.
    pub addresses: Vec<IpAddr>,
    /// Name of the link that leads to the other nodes.
    pub uplink: String,
    /// How its pods' packets travel to other nodes. In a tunnel they do between the first addresses.
    pub routing: Routing,
    /// The blocks that this node's pods get their addresses from: one address of each family, from
    /// the first block of it that has one (`node.spec.podCIDRs`).
    pub pod_cidrs: Vec<IpNet>,
    /// The blocks of all pods of the cluster.
    pub cluster_pod_cidrs: Vec<IpNet>,
    /// The blocks of the Services' cluster IPs.
    pub service_cidrs: Vec<IpNet>,
    /// Where load balancers' addresses come from that nodes answer for, each for some.
    pub lb_pools: Vec<IpNet>,
    /// The node's cgroup (v2).
    pub cgroup: PathBuf,
    /// This node's directory on a bpffs.
    pub pins: PathBuf,
    /// Where address reservations are kept.
    pub ipam: PathBuf,
    /// Where the CNI plugin asks.
    pub socket: PathBuf,
    /// Whether a connection that a Service's endpoint refuses is carried to another, where the Service's annotation
    /// does not say.
    pub retry_refused: bool,
    /// How many flows the data plane tracks before it refuses new ones.
    pub max_flows: u32,
}
