//! What other processes of Kilter ask a node process, over its control socket.
//!
//! A connection carries any number of requests, each answered by one [`Reply`], in order.
//! [`Request::Drops`] and [`Request::Opened`] turn the connection into a stream of [`Reply::Drop`] or
//! [`Reply::Opened`].

use std::net::{IpAddr, SocketAddr};

use serde::{Deserialize, Serialize};

use crate::loaded::Loaded;

/// A question to a node process.
#[derive(Debug, Clone, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub enum Request {
    /// How the node is.
    Status,
    /// Connect from inside pods (see [`Probe`]), all at once, and say what happened.
    Probe(Vec<Probe>),
    /// What the node's kernel holds, read back now.
    Loaded,
    /// Stream every refused packet from now on. The first reply is [`Reply::Following`].
    Drops,
    /// Stream every connection that is opened from now on. The first reply is [`Reply::Following`].
    Opened,
    /// The connections that the node tracks now.
    Flows,
    /// The refused packets of the recent past, oldest first.
    RecentDrops,
}

/// An answer of a node process.
#[derive(Debug, Clone, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub enum Reply {
    /// To [`Request::Status`].
    Status(Box<NodeStatus>),
    /// To [`Request::Probe`], in the order asked.
    Probed(Vec<Outcome>),
    /// To [`Request::Loaded`].
    Loaded(Box<Loaded>),
    /// [`Request::Drops`] or [`Request::Opened`] has begun.
    Following,
    /// A refused packet.
    Drop(Drop),
    /// A connection was opened.
    Opened(Opened),
    /// To [`Request::Flows`].
    Flows(Vec<Flow>),
    /// To [`Request::RecentDrops`].
    RecentDrops(Vec<Drop>),
    /// The request could not be served.
    Failed(String),
}

/// How a node is.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct NodeStatus {
    /// The node's name.
    pub node: String,
    /// Pods of this node that are wired, by `namespace/name`.
    pub pods: Vec<String>,
    /// The highest resourceVersion of each watched resource whose effect is in the kernel
    /// (`pods`, `namespaces`, `networkpolicies`, `clusternetworkpolicies`, `services`,
    /// `endpointslices`, `nodes`).
    pub applied: std::collections::BTreeMap<String, String>,
    /// Whether every watch has synced and the kernel holds what it should.
    pub ready: bool,
    /// Entries in each table of the data plane.
    pub tables: std::collections::BTreeMap<String, u64>,
    /// Connections that a Service's endpoint refused and another took, since the data plane was loaded.
    #[serde(default)]
    pub retried: u64,
    /// Dropped packets by reason, since the data plane was loaded.
    pub drops: std::collections::BTreeMap<String, u64>,
}

/// One connection to try from inside a pod's network namespace and this node's cgroup.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct Probe {
    /// UID of the pod to connect from; it must run on this node.
    pub from: String,
    /// Where to.
    pub to: SocketAddr,
    /// `TCP` or `UDP`.
    pub protocol: String,
    /// Give up after this long.
    pub timeout_ms: u64,
}

/// What became of a [`Probe`].
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct Outcome {
    /// The local address used, by which drop events are matched.
    pub local: Option<SocketAddr>,
    /// What happened.
    pub result: ProbeResult,
    /// From the first packet to the answer, microseconds.
    pub micros: u64,
}

/// The result of a [`Probe`].
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub enum ProbeResult {
    /// Somebody answered; the UID that the stand-in gave as its own, where it is one.
    Answered {
        /// `WHO` answer of a stand-in; `None` when the server is something else.
        pod: Option<String>,
    },
    /// Actively refused (RST, ICMP, or no backend).
    Refused,
    /// No answer in time.
    TimedOut,
    /// The probe itself could not be made.
    Failed(String),
}

/// A packet that the data plane refused.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct Drop {
    /// The node that refused it.
    pub node: String,
    /// Microseconds since the epoch.
    pub at: u64,
    /// `egress` or `ingress`: which side's policy, or which hook.
    pub direction: String,
    /// Source address and port (0 where the protocol has none).
    pub from: (IpAddr, u16),
    /// Destination address and port.
    pub to: (IpAddr, u16),
    /// `TCP`, `UDP`, `SCTP`, `ICMP` or the protocol's number.
    pub protocol: String,
    /// Why, in the words of `kilter flows` (`policy`, `spoofed source`, `no endpoint`...).
    pub reason: String,
    /// The rule or the isolation that decided, where policy did.
    pub rule: Option<String>,
}

/// A connection that a node tracks. One between pods of two nodes is tracked by both, each knowing
/// the rule of its own side.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct Flow {
    /// The node that tracks it.
    pub node: String,
    /// Who opened it: address and port (an ICMP echo has its identifier as both ports).
    pub from: (IpAddr, u16),
    /// Towards whom.
    pub to: (IpAddr, u16),
    /// As in [`Drop::protocol`].
    pub protocol: String,
    /// How far it is.
    pub state: FlowState,
    /// The rule that lets the opener out, where this node judged that.
    pub egress: Option<String>,
    /// The rule that lets it in, where this node judged that.
    pub ingress: Option<String>,
}

/// How far a connection is.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub enum FlowState {
    /// Only its opener has sent.
    Opening,
    /// Both ends have sent.
    Established,
    /// Policy allows it no longer.
    Revoked,
}

/// A connection that was opened and allowed.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct Opened {
    /// The node that saw it.
    pub node: String,
    /// Microseconds since the epoch.
    pub at: u64,
    /// Whose side judged last: `egress` or `ingress`.
    pub direction: String,
    /// Who opened it.
    pub from: (IpAddr, u16),
    /// Towards whom.
    pub to: (IpAddr, u16),
    /// As in [`Drop::protocol`].
    pub protocol: String,
    /// The rule that allows it; none where no policy applies.
    pub rule: Option<String>,
    /// The endpoint of the same Service that had refused it, where it was carried from there.
    #[serde(default)]
    pub refused_by: Option<(IpAddr, u16)>,
}

/// What a stand-in is asked (one line), and the prefix of its answer, which the pod's UID follows:
/// `KILTER-WHO 7\n` is answered `KILTER-IS <uid> 7\n`, over TCP and over UDP.
pub const WHO: &str = "KILTER-WHO";
/// See [`WHO`].
pub const IS: &str = "KILTER-IS";
