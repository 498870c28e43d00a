//! What the kernel of a node holds, read back: rows by what they say, whatever their bytes are.

use std::collections::{BTreeMap, BTreeSet};
use std::net::{IpAddr, SocketAddr};

use serde::{Deserialize, Serialize};

/// Everything that `prove` compares, read from the kernel when it was asked for.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct Loaded {
    /// The node's name.
    pub node: String,
    /// As in [`crate::control::NodeStatus::applied`], when reading began.
    pub applied: BTreeMap<String, String>,
    /// Policy rows.
    pub policy: Policy,
    /// What the agent says its rule ids stand for; only told to people, never compared.
    pub rules: BTreeMap<u32, String>,
    /// Service rows.
    pub frontends: Vec<Frontend>,
    /// Addresses of load balancers for which the node answers.
    #[serde(default)]
    pub announced: Vec<IpAddr>,
    /// Routes of the data plane to other nodes' pods.
    pub routes: Vec<Route>,
    /// Pods' links as the data plane has them.
    pub endpoints: Vec<Endpoint>,
    /// Connections whose verdict is cached.
    pub flows: Vec<Flow>,
    /// Both directions of connections that are translated per packet.
    #[serde(default)]
    pub translations: Vec<Translation>,
    /// The node's links that are pods'.
    pub links: Vec<Link>,
    /// Permanent neighbours on these links.
    pub neighbours: Vec<Neighbour>,
    /// Its pods' network namespaces, as they are.
    #[serde(default)]
    pub sandboxes: Vec<Sandbox>,
    /// Whose the sockets of a network namespace are, by its cookie, as the data plane has it.
    #[serde(default)]
    pub namespaces: BTreeMap<u64, BTreeSet<IpAddr>>,
    /// The kernel's own routes into the pod network.
    pub kernel_routes: Vec<Route>,
    /// Destinations in the pod network that the kernel refuses.
    #[serde(default)]
    pub refusals: Vec<Refusal>,
    /// Settings of the node's namespace, by their name: sysctls, the masquerade rule and the rules
    /// that say which table of routes is asked.
    pub settings: BTreeMap<String, String>,
    /// Programs at hooks that are not as they should be, in words.
    pub hooks: Vec<String>,
    /// How many hooks were looked at.
    pub hooks_checked: u64,
}

/// Policy rows.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Policy {
    /// Prefixes (address and length) and the class of what lies in them.
    pub classes: Vec<(IpAddr, u8, u32)>,
    /// Addresses of pods and their postures.
    pub postures: Vec<(IpAddr, u32)>,
    /// Which set judges which ports.
    pub intervals: Vec<Interval>,
    /// The sets.
    pub sets: Vec<Set>,
}

/// Which set judges these ports.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
pub struct Interval {
    /// Of the pod that is judged.
    pub posture: u32,
    /// Whether that pod is the destination.
    pub ingress: bool,
    /// IP protocol, 0 for all that have no ports.
    pub protocol: u8,
    /// First and last port.
    pub ports: (u16, u16),
    /// The set.
    pub set: u32,
}

/// A default decision with exceptions by class.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Set {
    /// Its id.
    pub id: u32,
    /// For classes without an exception.
    pub default: Decision,
    /// For these classes.
    pub exceptions: Vec<(u32, Decision)>,
}

/// A verdict and the id of its rule.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
pub struct Decision {
    /// The verdict.
    pub allow: bool,
    /// The rule's id on this node.
    pub rule: u32,
}

/// An address at which a Service is reached.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Frontend {
    /// Address and port.
    pub at: SocketAddr,
    /// IP protocol.
    pub protocol: u8,
    /// Whether it is for packets from elsewhere, not for sockets of the node.
    pub outside: bool,
    /// What is special about it, in words; empty: nothing.
    pub flags: String,
    /// For how many seconds clients stay with their backend; 0: not at all.
    #[serde(default)]
    pub affinity: u32,
    /// Which of its backends each place of its table leads to; empty: it has none.
    #[serde(default)]
    pub table: Vec<u32>,
    /// The clients that it serves, by address and prefix length, where it does not serve all.
    #[serde(default)]
    pub sources: Vec<(IpAddr, u8)>,
    /// How many backends its row promises.
    pub count: u32,
    /// The backends that are there.
    pub backends: Vec<SocketAddr>,
}

/// A route into the pod network.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize)]
pub struct Route {
    /// Address and prefix length of the destination.
    pub to: (IpAddr, u8),
    /// The next hop, unless it is on the link.
    pub via: Option<IpAddr>,
    /// Index of the link, for routes of the kernel.
    pub link: Option<u32>,
    /// The number of the network in the tunnel, where the next hop is the other end of one.
    #[serde(default)]
    pub tunnel: Option<u32>,
}

/// A destination that the kernel's routes refuse.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize)]
pub struct Refusal {
    /// Address and prefix length of the destination.
    pub to: (IpAddr, u8),
    /// How, in the words of `ip route`: `unreachable`, `blackhole`, `prohibit`, `throw`.
    pub kind: String,
}

/// A pod's link, as the data plane has it.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
pub struct Endpoint {
    /// The pod's address.
    pub address: IpAddr,
    /// Index of the host side.
    pub link: u32,
    /// Hardware address of the pod's side.
    pub mac: [u8; 6],
}

/// A link of the node that leads to a pod.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Link {
    /// Its index.
    pub index: u32,
    /// Its name.
    pub name: String,
    /// Administratively up.
    pub up: bool,
    /// MTU in bytes.
    pub mtu: u32,
    /// Its hardware address, where it has one.
    pub mac: Option<[u8; 6]>,
    /// Its own sysctls, by their names with `*` for the link.
    pub settings: BTreeMap<String, String>,
}

/// The network namespace of a pod.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Sandbox {
    /// The pod's addresses.
    pub addresses: BTreeSet<IpAddr>,
    /// By what the kernel's programs know it; none where it is gone.
    pub cookie: Option<u64>,
    /// What was made in it for the pod and is not there as it was, in words.
    pub missing: Vec<String>,
}

/// Under which hardware address the kernel knows an address on a pod's link, for good.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
pub struct Neighbour {
    /// The address.
    pub address: IpAddr,
    /// Index of the link.
    pub link: u32,
    /// The hardware address.
    pub mac: [u8; 6],
}

/// A connection whose verdict is cached.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
pub struct Flow {
    /// Who opened it.
    pub from: SocketAddr,
    /// Towards whom.
    pub to: SocketAddr,
    /// IP protocol.
    pub protocol: u8,
    /// Whether the opener's egress is judged on this node.
    pub egress: bool,
    /// Whether the other's ingress is judged on this node.
    pub ingress: bool,
    /// Whether packets pass.
    pub allowed: bool,
    /// Whether the next packet is decided by this entry, without asking policy again.
    pub current: bool,
}

/// One direction of a connection that is translated per packet.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize)]
pub struct Translation {
    /// IP protocol.
    pub protocol: u8,
    /// Source and destination of its packets as they come.
    pub from: (SocketAddr, SocketAddr),
    /// Source and destination as they go on.
    pub to: (SocketAddr, SocketAddr),
    /// Its packets go on as they come, to the node of the pod in `to`. Then it is the connection's only direction.
    pub sent_on: bool,
}
