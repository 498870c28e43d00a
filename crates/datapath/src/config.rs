use std::collections::BTreeSet;
use std::net::IpAddr;
use std::path::PathBuf;

use ipnet::IpNet;

/// What the data plane of one node must know when it is opened.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Config {
    /// A directory of this node alone on a bpffs. Made when it is missing.
    pub pin_dir: PathBuf,
    /// The node's name, for messages.
    pub node_name: String,
    /// The node's own addresses, of either family. At most 8. The first is its end of the overlay.
    pub node_ips: Vec<IpAddr>,
    /// The interface that leads to the other nodes.
    pub uplink_ifindex: u32,
    /// The way to other nodes' pods, where the network between the nodes knows nothing of pods.
    pub overlay: Option<Overlay>,
    /// The blocks that this node's pods have their addresses from. At most 8.
    pub pod_cidrs: Vec<IpNet>,
    /// The blocks of all pods of the cluster: what lies in them and has no route is dropped, what
    /// lies outside of them leaves through the stack, marked. At most 8.
    pub cluster_pod_cidrs: Vec<IpNet>,
    /// The blocks of the Services' cluster IPs. At most 8.
    pub service_cidrs: Vec<IpNet>,
    /// Ports of the node's addresses, first and last, that replies to masqueraded connections arrive at:
    /// never a Service's.
    pub masquerade_ports: (u16, u16),
    /// The node's cgroup (v2): sockets created in it, or below, are translated.
    pub cgroup: PathBuf,
    /// Whether a connection that a Service's backend refuses is carried to another, where the Service says nothing
    /// about it.
    pub retry_refused: bool,
    /// How many flows the node tracks before it refuses new ones. Adopted tables keep the size
    /// that they were made with.
    pub max_flows: u32,
}

/// A tunnel to the other nodes' pods.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Overlay {
    /// The VXLAN device, which takes the way of each packet from the packet ("external").
    pub ifindex: u32,
    /// The number of this cluster's network in it.
    pub vni: u32,
    /// The port of UDP that it is on: no Service can be there.
    pub port: u16,
}

/// A pod's link.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Endpoint {
    /// The host side of its veth pair.
    pub ifindex: u32,
    /// The pod's addresses, of either family.
    pub addresses: BTreeSet<IpAddr>,
    /// The MAC address of the pod's side.
    pub mac: [u8; 6],
}

/// Where another node is, or its pods are.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct NodeRoute {
    /// A pod block of the node, or an address of its own.
    pub prefix: IpNet,
    /// The node's address, a neighbour on the uplink. To a block of IPv6 it must be one of IPv6. With an
    /// overlay it is the node's end of it, for both families.
    pub next_hop: IpAddr,
}
