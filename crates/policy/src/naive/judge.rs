//! One side of a connection: the policies of one pod, tier by tier.

use kilter_model::{
    Action, Cluster, ClusterNetworkPolicy, ClusterRule, ClusterTier, Direction, IpBlock, NetworkPolicy, Peer,
    Pod, PolicyPort, PolicyRule, PortSpec, Selector,
};

use super::{End, Query, Side, allow};
use crate::{Missed, NearestMiss, Reason, Verdict};

/// A side, and whether it depends on an order that the specification leaves open.
pub struct Judged {
    pub side: Side,
    /// Policies of equal priority match and do not want the same (18).
    pub tied: bool,
}

/// What is asked of one pod's policies.
pub struct Judge<'a> {
    pub cluster: &'a Cluster,
    pub direction: Direction,
    /// The pod that is judged.
    pub pod: &'a Pod,
    /// The other end.
    pub peer: &'a End<'a>,
    /// The pod whose port names count.
    pub destination: Option<&'a Pod>,
    pub query: &'a Query,
}

/// How a rule and a connection relate. Of an address of the pod network that no known pod holds
/// it is not known which pod's it is.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
enum Match {
    No,
    Perhaps,
    Yes,
}

impl From<bool> for Match {
    fn from(matches: bool) -> Self {
        if matches { Match::Yes } else { Match::No }
    }
}

impl Judge<'_> {
    /// Admin before NetworkPolicy before Baseline.
    pub fn judge(&self) -> Judged {
        let lower = |judge: &Self| match judge.network_policies() {
            Some(side) => Judged { side, tied: false },
            None => judge.tier(ClusterTier::Baseline, |judge| judge.default()),
        };
        self.tier(ClusterTier::Admin, lower)
    }

    /// The first rule that matches decides, by priority and then by its place; a Pass leaves it to
    /// `next`. What matches perhaps is refused if it may be refused, and never accepted for it.
    fn tier(&self, tier: ClusterTier, next: impl Fn(&Self) -> Judged) -> Judged {
        let policies = self.cluster_policies(tier);
        for (place, policy) in policies.iter().enumerate() {
            for (number, rule) in (1..).zip(policy.rules(self.direction)) {
                let matches = self.matches("", &rule.matches);
                let tied = || self.is_tied(policy, rule.action, &policies[place + 1..]);
                match (matches, rule.action) {
                    (Match::No, _) | (Match::Perhaps, Action::Accept) => {}
                    (_, Action::Deny) => {
                        let side = Side { verdict: Verdict::Deny, reason: self.reason(policy, number, rule) };
                        return Judged { side, tied: tied() };
                    }
                    (Match::Yes, Action::Accept) => {
                        return Judged { side: allow(self.reason(policy, number, rule)), tied: tied() };
                    }
                    (Match::Yes, Action::Pass) => {
                        let passed = next(self);
                        return Judged { tied: passed.tied || tied(), ..passed };
                    }
                    (Match::Perhaps, Action::Pass) => {
                        let passed = next(self);
                        if passed.side.verdict == Verdict::Deny {
                            return passed;
                        }
                    }
                }
            }
        }
        next(self)
    }

    /// The policies of a tier that are about this pod, by priority, then by name.
    fn cluster_policies(&self, tier: ClusterTier) -> Vec<&ClusterNetworkPolicy> {
        let mut policies: Vec<_> =
            self.cluster.cluster_policies().filter(|it| it.tier == tier && self.is_subject(it)).collect();
        policies.sort_by_key(|it| (it.priority, it.name.clone()));
        policies
    }

    fn is_subject(&self, policy: &ClusterNetworkPolicy) -> bool {
        let namespace = self.cluster.namespace(&self.pod.name.namespace);
        namespace.is_some_and(|it| policy.subject.namespaces.matches(&it.labels))
            && policy.subject.pods.matches(&self.pod.labels)
    }

    /// Whether a policy of the same priority would decide otherwise.
    fn is_tied(
        &self,
        policy: &ClusterNetworkPolicy,
        action: Action,
        later: &[&ClusterNetworkPolicy],
    ) -> bool {
        let first_match = |it: &&ClusterNetworkPolicy| {
            let rules = it.rules(self.direction).iter();
            rules.clone().find(|rule| self.matches("", &rule.matches) == Match::Yes).map(|it| it.action)
        };
        let same = later.iter().take_while(|it| it.priority == policy.priority);
        same.filter_map(first_match).any(|it| it != action)
    }

    fn reason(&self, policy: &ClusterNetworkPolicy, rule: u32, of: &ClusterRule) -> Reason {
        let (policy, direction, origin) = (policy.reference(), self.direction, of.matches.origin.clone());
        match of.action {
            Action::Deny => Reason::Denied { policy, direction, rule, origin },
            Action::Accept | Action::Pass => Reason::Allowed { policy, direction, rule, origin },
        }
    }

    /// Everything is permitted that no policy refuses.
    fn default(&self) -> Judged {
        let direction = self.direction;
        let about = |it: &ClusterNetworkPolicy| !it.rules(direction).is_empty() && self.is_subject(it);
        let reason = if self.cluster.cluster_policies().any(about) {
            Reason::Unmatched { direction }
        } else {
            Reason::NotIsolated { direction }
        };
        Judged { side: allow(reason), tied: false }
    }

    /// What NetworkPolicy says; `None` if none selects the pod in this direction.
    fn network_policies(&self) -> Option<Side> {
        let mut policies = Vec::new();
        let mut nearest: Option<NearestMiss> = None;
        let direction = self.direction;
        for policy in self.cluster.policies().filter(|policy| selects(policy, self.pod)) {
            // 1: a policy isolates only the directions that it applies to.
            let Some(rules) = policy.rules(direction) else { continue };
            for (number, rule) in (1..).zip(rules) {
                let peer = self.peer_match(&policy.name.namespace, rule) == Match::Yes;
                let port = self.port_match(rule) == Match::Yes;
                let (policy, rule, origin) = (policy.reference(), number, rule.origin.clone());
                let missed = match (peer, port) {
                    (true, true) => return Some(allow(Reason::Allowed { policy, direction, rule, origin })),
                    (true, false) => Missed::Port,
                    (false, true) => Missed::Peer,
                    (false, false) => continue,
                };
                if nearest.as_ref().is_none_or(|it| it.missed > missed) {
                    nearest = Some(NearestMiss { policy, rule, origin, missed });
                }
            }
            policies.push(policy.reference());
        }
        (!policies.is_empty()).then(|| Side {
            verdict: Verdict::Deny,
            reason: Reason::Isolated { direction, policies, nearest },
        })
    }

    fn matches(&self, namespace: &str, rule: &PolicyRule) -> Match {
        self.peer_match(namespace, rule).min(self.port_match(rule))
    }

    /// 2: no peers means anyone. 7: each block subtracts only from itself.
    fn peer_match(&self, namespace: &str, rule: &PolicyRule) -> Match {
        let Some(peers) = &rule.peers else { return Match::Yes };
        peers.iter().map(|it| self.one_peer_match(namespace, it)).max().unwrap_or(Match::No)
    }

    fn one_peer_match(&self, namespace: &str, wanted: &Peer) -> Match {
        match wanted {
            // 8: blocks match the addresses of pods too.
            Peer::IpBlock(block) => self.peer.address.is_some_and(|it| in_block(block, it)).into(),
            Peer::Nodes(selector) => self.is_node(selector).into(),
            Peer::Pods { .. } if self.peer.unknown => Match::Perhaps,
            // 3: both selectors must match; without a namespace selector, the policy's own namespace.
            Peer::Pods { namespaces, pods } => self
                .peer
                .pod
                .is_some_and(|pod| {
                    let namespace_matches = match namespaces {
                        None => *pod.name.namespace == *namespace,
                        Some(selector) => self
                            .cluster
                            .namespace(&pod.name.namespace)
                            .is_some_and(|it| selector.matches(&it.labels)),
                    };
                    namespace_matches && pods.matches(&pod.labels)
                })
                .into(),
        }
    }

    /// Whether the peer is a node, by its address or, where it has none, by its name.
    fn is_node(&self, selector: &Selector) -> bool {
        self.cluster.nodes().filter(|it| selector.matches(&it.labels)).any(|node| match self.peer.address {
            Some(address) => node.addresses.contains(&address),
            None => self.peer.node.as_ref() == Some(&node.name),
        })
    }

    /// 2: no ports means everything, also what has no ports.
    fn port_match(&self, rule: &PolicyRule) -> Match {
        let Some(ports) = &rule.ports else { return Match::Yes };
        ports.iter().map(|it| self.one_port_match(it)).max().unwrap_or(Match::No)
    }

    fn one_port_match(&self, wanted: &PolicyPort) -> Match {
        if self.query.protocol != wanted.protocol.into() {
            return Match::No;
        }
        match (&wanted.port, self.destination) {
            (PortSpec::Range(range), _) => range.contains(self.query.port).into(),
            // 6: per destination pod, name and protocol agreeing.
            (PortSpec::Named(name), Some(pod)) => {
                (pod.named_port(name, wanted.protocol) == Some(self.query.port)).into()
            }
            (PortSpec::Named(_), None) if self.peer.unknown => Match::Perhaps,
            (PortSpec::Named(_), None) => Match::No,
        }
    }
}

/// 3: the empty selector selects all pods of the policy's namespace.
fn selects(policy: &NetworkPolicy, pod: &Pod) -> bool {
    policy.name.namespace == pod.name.namespace && policy.pod_selector.matches(&pod.labels)
}

fn in_block(block: &IpBlock, address: std::net::IpAddr) -> bool {
    block.cidr.contains(&address) && !block.except.iter().any(|hole| hole.contains(&address))
}
