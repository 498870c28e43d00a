use std::net::Ipv4Addr;
use std::path::PathBuf;

use ipnet::Ipv4Net;

/// What the data plane of one node must know when it is opened.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Config {
    /// A directory of this node alone on a bpffs. Made when it is missing.
    pub pin_dir: PathBuf,
    /// The node's name, for messages.
    pub node_name: String,
    /// The node's address on the uplink.
    pub node_ip: Ipv4Addr,
    /// The interface that leads to the other nodes.
    pub uplink_ifindex: u32,
    /// The block that this node's pods have their addresses from.
    pub pod_cidr: Ipv4Net,
    /// The blocks of all pods of the cluster: what lies in them and has no route is dropped, what
    /// lies outside of them leaves through the stack, marked. At most 8.
    pub cluster_pod_cidrs: Vec<Ipv4Net>,
    /// The block of the Services' cluster IPs.
    pub service_cidr: Ipv4Net,
    /// The node's cgroup (v2): sockets created in it, or below, are translated.
    pub cgroup: PathBuf,
    /// How many flows the node tracks before it refuses new ones. Adopted tables keep the size
    /// that they were made with.
    pub max_flows: u32,
}

/// A pod's link.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Endpoint {
    /// The pod's address.
    pub address: Ipv4Addr,
    /// The host side of its veth pair.
    pub ifindex: u32,
    /// The MAC address of the pod's side.
    pub mac: [u8; 6],
}

/// Where the pods of another node are.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct NodeRoute {
    /// The node's pod block.
    pub prefix: Ipv4Net,
    /// The node's address, a neighbour on the uplink.
    pub next_hop: Ipv4Addr,
}
