//! The rule that would have allowed a connection but for one thing.

use std::fmt;

use kilter_model::{
    Action, Cluster, ClusterTier, Direction, IpBlock, Operator, Origin, Peer, Pod, PolicyPort, PolicyRef,
    PolicyRule, PortSpec, Requirement, Selector, Subject as PolicySubject, Tier,
};
use kilter_policy::Reason;
use kilter_policy::naive::{self, Party, Query};
use serde::Serialize;

/// A rule and the one thing for which it does not allow the connection.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord, Serialize)]
pub struct Near {
    /// The rule's policy.
    pub policy: PolicyRef,
    /// Which of the policy's rules in that direction, from 1.
    pub rule: u32,
    /// Where the rule was declared.
    pub origin: Origin,
    /// What it lacks.
    pub lacks: Lack,
}

/// What keeps a rule from matching.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord, Serialize)]
#[serde(tag = "lack", rename_all = "kebab-case")]
pub enum Lack {
    /// The policy does not select the pod whose side this is.
    Selected(Mismatch),
    /// The rule's podSelector does not match the peer.
    PeerLabel(Mismatch),
    /// The rule's namespaceSelector does not match the peer's namespace.
    NamespaceLabel(Mismatch),
    /// The rule is about pods of the policy's own namespace, having no namespaceSelector.
    OtherNamespace {
        /// The policy's.
        wants: String,
        /// The peer's.
        has: String,
    },
    /// The rule allows the peer on other ports.
    Port {
        /// Which.
        allows: String,
    },
}

/// A label that a selector wants otherwise.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord, Serialize)]
pub struct Mismatch {
    /// The requirement, as `kubectl -l` takes it.
    pub wants: String,
    /// `key=value`, or that the key is absent.
    pub has: String,
    /// Whose label.
    pub of: String,
    /// Whether one value looks like a slip of the other.
    pub slip: bool,
}

impl fmt::Display for Lack {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Lack::Selected(it) => {
                write!(f, "but the policy selects {}, and {} has {}", it.wants, it.of, it.has)
            }
            Lack::PeerLabel(it) => write!(f, "but for peers with {}, and {} has {}", it.wants, it.of, it.has),
            Lack::NamespaceLabel(it) => {
                write!(
                    f,
                    "but for peers of namespaces with {}, and namespace {} has {}",
                    it.wants, it.of, it.has
                )
            }
            Lack::OtherNamespace { wants, has } => {
                write!(f, "but for pods of its own namespace {wants} (no namespaceSelector), not of {has}")
            }
            Lack::Port { allows } => write!(f, "but on {allows}"),
        }
    }
}

impl fmt::Display for Near {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "rule {} of {} ({}) would allow it, {}", self.rule, self.policy, self.origin, self.lacks)
    }
}

/// For each side that denies because nothing allows: the nearest rule, if one is one thing away.
pub fn nearest(cluster: &Cluster, query: &Query, answer: &naive::Answer) -> [Option<Near>; 2] {
    let (from, to) = (pod(cluster, &query.from), pod(cluster, &query.to));
    let of = |side: &naive::Side, direction, pod: Option<&Pod>, peer: Option<&Pod>| {
        let (Some(pod), Some(peer)) = (pod, peer) else { return None };
        Ends { cluster, direction, pod, peer, destination: to?, query }.nearest(&side.reason)
    };
    [of(&answer.egress, Direction::Egress, from, to), of(&answer.ingress, Direction::Ingress, to, from)]
}

fn pod<'a>(cluster: &'a Cluster, party: &Party) -> Option<&'a Pod> {
    match party {
        Party::Pod(uid) => cluster.pod(uid),
        Party::Address(address) => naive::holder(cluster, *address),
        Party::Node(_) => None,
    }
}

struct Ends<'a> {
    cluster: &'a Cluster,
    direction: Direction,
    pod: &'a Pod,
    peer: &'a Pod,
    destination: &'a Pod,
    query: &'a Query,
}

impl Ends<'_> {
    /// A slip comes before a port, a port before another's label. Only rules that are asked can be
    /// near: none of a NetworkPolicy where a ClusterNetworkPolicy has denied, none of tier Baseline
    /// where a NetworkPolicy has.
    fn nearest(&self, reason: &Reason) -> Option<Near> {
        let mut all = self.of_tier(ClusterTier::Admin, reason);
        match reason {
            Reason::Isolated { .. } => all.extend(self.of_network_policies()),
            Reason::Denied { policy, .. } if policy.tier == Tier::Baseline => {
                all.extend(self.of_tier(ClusterTier::Baseline, reason));
            }
            Reason::Denied { .. } => {}
            _ => return None,
        }
        all.into_iter().min().map(|(_, near)| near)
    }

    fn of_network_policies(&self) -> Vec<(u8, Near)> {
        let mut all = Vec::new();
        for policy in self.cluster.policies_of(&self.pod.name.namespace) {
            for (number, rule) in (1..).zip(policy.rules(self.direction).unwrap_or_default()) {
                let selected = mismatches(&policy.pod_selector, self.pod);
                let selected = selected.into_iter().map(Lack::Selected).collect();
                let Some(lacks) = self.lacks(selected, rule, Some(&policy.name.namespace)) else { continue };
                all.extend(near(policy.reference(), number, rule, &lacks));
            }
        }
        all
    }

    /// Rules that accept, of one tier, down to the one that decides.
    fn of_tier(&self, tier: ClusterTier, reason: &Reason) -> Vec<(u8, Near)> {
        let mut policies: Vec<_> = self.cluster.cluster_policies().filter(|it| it.tier == tier).collect();
        policies.sort_by_key(|it| (it.priority, it.name.clone()));
        let mut all = Vec::new();
        for policy in policies {
            for (number, rule) in (1..).zip(policy.rules(self.direction)) {
                if matches!(reason, Reason::Denied { policy: by, rule, .. } if *by == policy.reference() && *rule == number) {
                    return all;
                }
                let selected = self.unselected(&policy.subject);
                let Some(lacks) = self.lacks(selected, &rule.matches, None) else { continue };
                if lacks.is_empty() {
                    // It leaves the connection to the next tier.
                    return all;
                }
                if rule.action == Action::Accept && rule.caveat.is_none() {
                    all.extend(near(policy.reference(), number, &rule.matches, &lacks));
                }
            }
        }
        all
    }

    /// Why a ClusterNetworkPolicy is not about this pod.
    fn unselected(&self, subject: &PolicySubject) -> Vec<Lack> {
        let namespace = self.namespace_mismatches(&subject.namespaces, &self.pod.name.namespace).into_iter();
        namespace.chain(mismatches(&subject.pods, self.pod)).map(Lack::Selected).collect()
    }

    /// All for which a rule does not match; `None` where it is about no pods.
    fn lacks(&self, selected: Vec<Lack>, rule: &PolicyRule, own_namespace: Option<&str>) -> Option<Vec<Lack>> {
        let mut lacks = selected;
        if !self.port_matches(rule) {
            lacks.push(Lack::Port { allows: ports_text(rule, self.destination) });
        }
        if let Some(peers) = &rule.peers {
            let mut options: Vec<Vec<Lack>> =
                peers.iter().filter_map(|it| self.peer_lacks(own_namespace, it)).collect();
            options.sort_by_key(Vec::len);
            lacks.extend(options.into_iter().next()?);
        }
        Some(lacks)
    }

    fn port_matches(&self, rule: &PolicyRule) -> bool {
        let matches = |it: &PolicyPort| {
            self.query.protocol == it.protocol.into()
                && match &it.port {
                    PortSpec::Range(range) => range.contains(self.query.port),
                    PortSpec::Named(name) => {
                        self.destination.named_port(name, it.protocol) == Some(self.query.port)
                    }
                }
        };
        rule.ports.as_ref().is_none_or(|ports| ports.iter().any(matches))
    }

    /// `None` for a block that the pod is not in: a pod is not meant by one.
    fn peer_lacks(&self, own_namespace: Option<&str>, peer: &Peer) -> Option<Vec<Lack>> {
        let (namespaces, pods) = match peer {
            Peer::Pods { namespaces, pods } => (namespaces, pods),
            Peer::IpBlock(block) => return self.is_in(block).then(Vec::new),
            Peer::Nodes(_) => return None,
        };
        let mut lacks: Vec<Lack> = mismatches(pods, self.peer).into_iter().map(Lack::PeerLabel).collect();
        let namespace = &self.peer.name.namespace;
        match (namespaces, own_namespace) {
            (None, Some(own)) if **namespace != *own => {
                lacks.push(Lack::OtherNamespace { wants: own.to_owned(), has: namespace.to_string() });
            }
            (None, _) => {}
            (Some(selector), _) => {
                lacks.extend(self.namespace_mismatches(selector, namespace).into_iter().map(|mut it| {
                    it.of = namespace.to_string();
                    Lack::NamespaceLabel(it)
                }));
            }
        }
        Some(lacks)
    }

    fn is_in(&self, block: &IpBlock) -> bool {
        let within = |address| block.cidr.contains(address) && !block.except.iter().any(|it| it.contains(address));
        self.peer.addresses.iter().any(within)
    }

    /// The requirements that a namespace does not meet.
    fn namespace_mismatches(&self, selector: &Selector, namespace: &str) -> Vec<Mismatch> {
        let labels = self.cluster.namespace(namespace).map(|it| it.labels.clone()).unwrap_or_default();
        let failed = selector.requirements().iter().filter(|it| !it.matches(&labels));
        let value = |it: &Requirement| labels.get(&it.key).cloned();
        failed.map(|it| mismatch(it, value(it).as_deref(), format!("namespace {namespace}"))).collect()
    }
}

/// The rule, where it lacks one thing, and how grave that is.
fn near(policy: PolicyRef, number: u32, rule: &PolicyRule, lacks: &[Lack]) -> Option<(u8, Near)> {
    let [lack] = lacks else { return None };
    let (origin, lacks) = (rule.origin.clone(), lack.clone());
    Some((distance(lack), Near { policy, rule: number, origin, lacks }))
}

fn distance(lack: &Lack) -> u8 {
    match lack {
        Lack::Selected(it) | Lack::PeerLabel(it) | Lack::NamespaceLabel(it) if it.slip => 0,
        Lack::Port { .. } => 1,
        Lack::OtherNamespace { .. } => 2,
        Lack::NamespaceLabel(_) => 3,
        Lack::PeerLabel(_) => 4,
        Lack::Selected(_) => 5,
    }
}

/// The requirements that a pod does not meet.
pub fn mismatches(selector: &Selector, pod: &Pod) -> Vec<Mismatch> {
    let failed = selector.requirements().iter().filter(|it| !it.matches(&pod.labels));
    failed.map(|it| mismatch(it, pod.labels.get(&it.key).map(|it| &**it), pod.owner.to_string())).collect()
}

fn mismatch(requirement: &Requirement, value: Option<&str>, of: String) -> Mismatch {
    let key = &requirement.key;
    let slip = match (&requirement.operator, value) {
        (Operator::In(wanted), Some(value)) => wanted.iter().any(|it| is_slip(it, value)),
        _ => false,
    };
    Mismatch {
        wants: Selector::new([requirement.clone()]).to_string(),
        has: value.map_or_else(|| format!("no label {key}"), |value| format!("{key}={value}")),
        of,
        slip,
    }
}

/// Whether two names differ by about as much as a slip of the keyboard or of the plural.
pub fn is_slip(a: &str, b: &str) -> bool {
    let shorter = a.chars().count().min(b.chars().count());
    a != b && shorter >= 3 && strsim::damerau_levenshtein(a, b) <= (shorter / 5).max(1)
}

fn ports_text(rule: &PolicyRule, destination: &Pod) -> String {
    let one = |it: &PolicyPort| match &it.port {
        PortSpec::Range(range) if *range == kilter_model::PortRange::ALL => {
            format!("any {} port", it.protocol)
        }
        PortSpec::Range(range) => format!("{} {range}", it.protocol),
        PortSpec::Named(name) => match destination.named_port(name, it.protocol) {
            Some(number) => format!("{} {name} ({number})", it.protocol),
            None => format!("{} {name}, which {} does not declare", it.protocol, destination.owner),
        },
    };
    rule.ports.iter().flatten().map(one).collect::<Vec<_>>().join(", ")
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_slip_is_a_letter_or_two_and_never_another_word() {
        assert!(is_slip("cart", "carts") && is_slip("paymnets", "payments"));
        assert!(!is_slip("carts", "carts") && !is_slip("user", "orders") && !is_slip("a", "b"));
        assert!(!is_slip("web-1", "db-1"));
    }
}
