//! The obviously right evaluator: one connection, asked of the rules directly.
//!
//! Nothing here is fast or clever. The numbers in comments are those of the traps that the tests
//! in `tests/traps.rs` are named after.

use std::net::IpAddr;
use std::sync::Arc;

use kilter_model::{
    Cluster, Direction, NetworkPolicy, Node, Peer, Pod, PolicyPort, PolicyRef, PolicyRule, PortSpec, Tier,
    Uid,
};
use serde::{Deserialize, Serialize};

use crate::{Missed, NearestMiss, ProtocolClass, Reason, Verdict};

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
    let from = End::of(cluster, &query.from);
    let to = End::of(cluster, &query.to);
    let (egress, ingress) = match (from.pod, to.pod) {
        // 13: a pod to its own address.
        (Some(a), Some(b)) if a.uid == b.uid => (allow(Reason::Itself), allow(Reason::Itself)),
        _ => (egress(cluster, &from, &to, query), ingress(cluster, &from, &to, query)),
    };
    Answer { egress, ingress, undefined: undefined(&from, &to, query) }
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
}

impl<'a> End<'a> {
    fn of(cluster: &'a Cluster, party: &Party) -> Self {
        match party {
            Party::Pod(uid) => cluster.pod(uid).map(|pod| Self::pod(cluster, pod)).unwrap_or_default(),
            Party::Node(name) => cluster.node(name).map(Self::node).unwrap_or_default(),
            Party::Address(address) => match (holder(cluster, *address), node_at(cluster, *address)) {
                (Some(pod), _) => Self { pod: Some(pod), address: Some(*address), ..Self::default() },
                (None, node) => {
                    Self { node: node.map(|n| n.name.clone()), address: Some(*address), ..Self::default() }
                }
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
        Self { pod: None, node: pod.node.clone(), address, host_network: true }
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

fn egress(cluster: &Cluster, from: &End<'_>, to: &End<'_>, query: &Query) -> Side {
    match from.pod {
        None => allow(Reason::NotAPod),
        Some(pod) => judge(cluster, Direction::Egress, pod, to, to.pod, query),
    }
}

fn ingress(cluster: &Cluster, from: &End<'_>, to: &End<'_>, query: &Query) -> Side {
    match to.pod {
        None => allow(Reason::NotAPod),
        // 11: hence probes work.
        Some(pod) if from.pod.is_none() && from.node.is_some() && from.node == pod.node => {
            allow(Reason::OwnNode)
        }
        Some(pod) => judge(cluster, Direction::Ingress, pod, from, Some(pod), query),
    }
}

/// What the policies that select `pod` say of `peer` at the other end. `destination` resolves
/// named ports.
fn judge(
    cluster: &Cluster,
    direction: Direction,
    pod: &Pod,
    peer: &End<'_>,
    destination: Option<&Pod>,
    query: &Query,
) -> Side {
    let mut policies = Vec::new();
    let mut nearest: Option<NearestMiss> = None;
    for policy in cluster.policies().filter(|policy| selects(policy, pod)) {
        let Some(rules) = rules(policy, direction) else { continue };
        let this = PolicyRef { tier: Tier::NetworkPolicy, name: policy.name.clone() };
        for (number, rule) in (1..).zip(rules) {
            let peer_matches = rule_matches_peer(cluster, policy, rule, peer);
            let port_matches = rule_matches_port(rule, destination, query);
            let (policy, rule, origin) = (this.clone(), number, rule.origin.clone());
            let missed = match (peer_matches, port_matches) {
                (true, true) => return allow(Reason::Allowed { policy, direction, rule, origin }),
                (true, false) => Missed::Port,
                (false, true) => Missed::Peer,
                (false, false) => continue,
            };
            if nearest.as_ref().is_none_or(|it| it.missed > missed) {
                nearest = Some(NearestMiss { policy, rule, origin, missed });
            }
        }
        policies.push(this);
    }
    if policies.is_empty() {
        return allow(Reason::NotIsolated { direction });
    }
    Side { verdict: Verdict::Deny, reason: Reason::Isolated { direction, policies, nearest } }
}

/// 3: the empty selector selects all pods of the policy's namespace.
fn selects(policy: &NetworkPolicy, pod: &Pod) -> bool {
    policy.name.namespace == pod.name.namespace && policy.pod_selector.matches(&pod.labels)
}

/// 1: a policy isolates only the directions that it applies to.
fn rules(policy: &NetworkPolicy, direction: Direction) -> Option<&Vec<PolicyRule>> {
    match direction {
        Direction::Ingress => policy.ingress.as_ref(),
        Direction::Egress => policy.egress.as_ref(),
    }
}

/// 2: no peers means anyone. 7: each block subtracts only from itself.
fn rule_matches_peer(cluster: &Cluster, policy: &NetworkPolicy, rule: &PolicyRule, peer: &End<'_>) -> bool {
    rule.peers.as_ref().is_none_or(|peers| peers.iter().any(|it| peer_matches(cluster, policy, it, peer)))
}

fn peer_matches(cluster: &Cluster, policy: &NetworkPolicy, wanted: &Peer, peer: &End<'_>) -> bool {
    match wanted {
        // 8: blocks match the addresses of pods too.
        Peer::IpBlock(block) => peer.address.is_some_and(|address| {
            block.cidr.contains(&address) && !block.except.iter().any(|hole| hole.contains(&address))
        }),
        // 3: both selectors must match; without a namespace selector, the policy's own namespace.
        Peer::Pods { namespaces, pods } => peer.pod.is_some_and(|pod| {
            let namespace_matches = match namespaces {
                None => pod.name.namespace == policy.name.namespace,
                Some(selector) => {
                    cluster.namespace(&pod.name.namespace).is_some_and(|it| selector.matches(&it.labels))
                }
            };
            namespace_matches && pods.matches(&pod.labels)
        }),
    }
}

/// 2: no ports means everything, also what has no ports.
fn rule_matches_port(rule: &PolicyRule, destination: Option<&Pod>, query: &Query) -> bool {
    rule.ports.as_ref().is_none_or(|ports| ports.iter().any(|it| port_matches(it, destination, query)))
}

fn port_matches(wanted: &PolicyPort, destination: Option<&Pod>, query: &Query) -> bool {
    query.protocol == wanted.protocol.into()
        && match &wanted.port {
            PortSpec::Range(range) => range.contains(query.port),
            // 6: per destination pod, name and protocol agreeing.
            PortSpec::Named(name) => {
                destination.and_then(|pod| pod.named_port(name, wanted.protocol)) == Some(query.port)
            }
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
