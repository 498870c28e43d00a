//! The obviously right evaluator: one connection, asked of the rules directly.
//!
//! Nothing here is fast or clever. The numbers in comments are those of the traps that the tests
//! in `tests/traps.rs` are named after.

mod judge;

use std::net::IpAddr;
use std::sync::Arc;

use ipnet::IpNet;
use kilter_model::{Cluster, Direction, Node, Pod, Uid};
use serde::{Deserialize, Serialize};

use crate::{ProtocolClass, Reason, Verdict};
use judge::{Judge, Judged};

/// One end of a connection.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
pub enum Party {
    /// A pod, at its first address; one with `host_network` is treated as its node.
    Pod(Uid),
    /// An address: the pod or node that holds it, or else something outside.
    Address(IpAddr),
    /// A node by name, at its first address.
    Node(Arc<str>),
}

/// A connection that somebody wants to open, after Service translation.
#[derive(Debug, Clone, PartialEq, Eq, Hash, Serialize, Deserialize)]
pub struct Query {
    /// Who opens it.
    pub from: Party,
    /// To whom.
    pub to: Party,
    /// By which protocol.
    pub protocol: ProtocolClass,
    /// The destination port; 0 for [`ProtocolClass::Other`].
    pub port: u16,
}

/// What one end's policies say.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Side {
    /// Whether they permit it.
    pub verdict: Verdict,
    /// Why.
    pub reason: Reason,
}

/// What Kubernetes leaves open; the verdict beside it is Kilter's choice.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum Undefined {
    /// ClusterNetworkPolicies of one tier and equal priority match and want different things; they
    /// are asked by name.
    EqualPriority,
    /// A hostNetwork pod is involved; it is treated as its node.
    HostNetwork,
    /// A pod opens a connection to its own node; policy is enforced.
    OwnNode,
    /// Not TCP, UDP or SCTP; only rules without ports allow it.
    OtherProtocol,
}

/// Both sides of a connection.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Answer {
    /// At the source.
    pub egress: Side,
    /// At the destination.
    pub ingress: Side,
    /// Set where the specification does not say.
    pub undefined: Option<Undefined>,
}

impl Answer {
    /// Allowed only if both sides allow it.
    pub fn verdict(&self) -> Verdict {
        self.egress.verdict.and(self.ingress.verdict)
    }
}

/// Decides one connection. A pod that the cluster does not know, or that has ended, is nobody: no
/// selector and no block matches it, and no policy judges it.
pub fn evaluate(cluster: &Cluster, query: &Query) -> Answer {
    evaluate_within(cluster, &[], query)
}

/// As [`evaluate`], for a pod network of these blocks: an address in them that no known pod holds
/// may be any pod's. Every rule that denies pods may match it, no rule that accepts pods does.
pub fn evaluate_within(cluster: &Cluster, pod_cidrs: &[IpNet], query: &Query) -> Answer {
    let from = End::of(cluster, pod_cidrs, &query.from);
    let to = End::of(cluster, pod_cidrs, &query.to);
    let (egress, ingress) = match (from.pod, to.pod) {
        // 13: a pod to its own address.
        (Some(a), Some(b)) if a.uid == b.uid => (plain(Reason::Itself), plain(Reason::Itself)),
        _ => (egress(cluster, &from, &to, query), ingress(cluster, &from, &to, query)),
    };
    let tied = egress.tied || ingress.tied;
    let undefined = tied.then_some(Undefined::EqualPriority).or_else(|| undefined(&from, &to, query));
    Answer { egress: egress.side, ingress: ingress.side, undefined }
}

/// The pod that holds an address. Where two claim it, one that is not terminating wins, then the
/// lower UID, so that the answer does not depend on the order of events.
pub fn holder(cluster: &Cluster, address: IpAddr) -> Option<&Pod> {
    cluster
        .pods()
        .filter(|pod| !pod.host_network && pod.owns_addresses() && pod.addresses.contains(&address))
        .min_by_key(|pod| (pod.terminating, pod.uid.clone()))
}

/// One end, found in the cluster.
#[derive(Default)]
struct End<'a> {
    /// The pod, unless there is none or it has no identity of its own (12).
    pod: Option<&'a Pod>,
    /// The node, where the end is a node itself.
    node: Option<Arc<str>>,
    address: Option<IpAddr>,
    host_network: bool,
    /// In a block of pod addresses, but of no known pod.
    unknown: bool,
}

impl<'a> End<'a> {
    fn of(cluster: &'a Cluster, pod_cidrs: &[IpNet], party: &Party) -> Self {
        match party {
            Party::Pod(uid) => cluster.pod(uid).map(|pod| Self::pod(cluster, pod)).unwrap_or_default(),
            Party::Node(name) => cluster.node(name).map(Self::node).unwrap_or_default(),
            Party::Address(address) => match (holder(cluster, *address), node_at(cluster, *address)) {
                (Some(pod), _) => Self { pod: Some(pod), address: Some(*address), ..Self::default() },
                (None, node) => Self {
                    node: node.map(|n| n.name.clone()),
                    address: Some(*address),
                    unknown: pod_cidrs.iter().any(|it| it.contains(address)),
                    ..Self::default()
                },
            },
        }
    }

    fn pod(cluster: &'a Cluster, pod: &'a Pod) -> Self {
        let address = pod.addresses.first().copied();
        if !pod.owns_addresses() {
            return Self::default();
        }
        if !pod.host_network {
            return Self { pod: Some(pod), address, ..Self::default() };
        }
        let node = pod.node.as_ref().and_then(|name| cluster.node(name));
        let address = address.or_else(|| node.and_then(|n| n.addresses.first().copied()));
        Self { node: pod.node.clone(), address, host_network: true, ..Self::default() }
    }

    fn node(node: &'a Node) -> Self {
        Self { node: Some(node.name.clone()), address: node.addresses.first().copied(), ..Self::default() }
    }
}

fn node_at(cluster: &Cluster, address: IpAddr) -> Option<&Node> {
    cluster.nodes().find(|node| node.addresses.contains(&address))
}

fn allow(reason: Reason) -> Side {
    Side { verdict: Verdict::Allow, reason }
}

fn plain(reason: Reason) -> Judged {
    Judged { side: allow(reason), tied: false }
}

fn egress(cluster: &Cluster, from: &End<'_>, to: &End<'_>, query: &Query) -> Judged {
    let direction = Direction::Egress;
    match from.pod {
        None => plain(Reason::NotAPod),
        Some(pod) => Judge { cluster, direction, pod, peer: to, destination: to.pod, query }.judge(),
    }
}

fn ingress(cluster: &Cluster, from: &End<'_>, to: &End<'_>, query: &Query) -> Judged {
    let direction = Direction::Ingress;
    match to.pod {
        None => plain(Reason::NotAPod),
        // 11: hence probes work.
        Some(pod) if from.pod.is_none() && from.node.is_some() && from.node == pod.node => {
            plain(Reason::OwnNode)
        }
        Some(pod) => Judge { cluster, direction, pod, peer: from, destination: Some(pod), query }.judge(),
    }
}

fn undefined(from: &End<'_>, to: &End<'_>, query: &Query) -> Option<Undefined> {
    if from.host_network || to.host_network {
        return Some(Undefined::HostNetwork);
    }
    if from.pod.is_some_and(|pod| to.node.is_some() && to.node == pod.node) {
        return Some(Undefined::OwnNode);
    }
    (query.protocol == ProtocolClass::Other).then_some(Undefined::OtherProtocol)
}
