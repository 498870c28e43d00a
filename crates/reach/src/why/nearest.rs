//! The rule that would have allowed a connection but for one thing.

use std::fmt;

use kilter_model::{
    Cluster, Direction, NetworkPolicy, Operator, Origin, Peer, Pod, PolicyPort, PolicyRef, PolicyRule,
    PortSpec, Requirement, Selector, Tier,
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
        let (Reason::Isolated { .. }, Some(pod), Some(peer)) = (&side.reason, pod, peer) else { return None };
        let ends = Ends { cluster, direction, pod, peer, destination: to?, query };
        ends.nearest()
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
    /// A slip comes before a port, a port before another's label.
    fn nearest(&self) -> Option<Near> {
        let mut all = Vec::new();
        for policy in self.cluster.policies_of(&self.pod.name.namespace) {
            let rules = match self.direction {
                Direction::Ingress => &policy.ingress,
                Direction::Egress => &policy.egress,
            };
            for (number, rule) in (1..).zip(rules.iter().flatten()) {
                let Some((distance, lacks)) = self.single_lack(policy, rule) else { continue };
                let policy = PolicyRef { tier: Tier::NetworkPolicy, name: policy.name.clone() };
                all.push((distance, Near { policy, rule: number, origin: rule.origin.clone(), lacks }));
            }
        }
        all.into_iter().min().map(|(_, near)| near)
    }

    /// The only thing for which a rule does not match, and how grave it is.
    fn single_lack(&self, policy: &NetworkPolicy, rule: &PolicyRule) -> Option<(u8, Lack)> {
        let selected = mismatches(&policy.pod_selector, self.pod);
        let mut lacks: Vec<Lack> = selected.into_iter().map(Lack::Selected).collect();
        if !self.port_matches(rule) {
            lacks.push(Lack::Port { allows: ports_text(rule, self.destination) });
        }
        if let Some(peers) = &rule.peers {
            let mut options: Vec<Vec<Lack>> =
                peers.iter().filter_map(|it| self.peer_lacks(policy, it)).collect();
            options.sort_by_key(Vec::len);
            lacks.extend(options.into_iter().next()?);
        }
        let [lack] = lacks.as_slice() else { return None };
        Some((distance(lack), lack.clone()))
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

    /// `None` for a block: a pod is not meant by one.
    fn peer_lacks(&self, policy: &NetworkPolicy, peer: &Peer) -> Option<Vec<Lack>> {
        let Peer::Pods { namespaces, pods } = peer else { return None };
        let mut lacks: Vec<Lack> = mismatches(pods, self.peer).into_iter().map(Lack::PeerLabel).collect();
        let namespace = &self.peer.name.namespace;
        match namespaces {
            None if *namespace != policy.name.namespace => lacks.push(Lack::OtherNamespace {
                wants: policy.name.namespace.to_string(),
                has: namespace.to_string(),
            }),
            None => {}
            Some(selector) => {
                let labels =
                    self.cluster.namespace(namespace).map(|it| it.labels.clone()).unwrap_or_default();
                let failed = selector.requirements().iter().filter(|it| !it.matches(&labels));
                lacks.extend(failed.map(|it| {
                    let value = labels.get(&it.key).map(|it| &**it);
                    Lack::NamespaceLabel(mismatch(it, value, namespace.to_string()))
                }));
            }
        }
        Some(lacks)
    }
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
