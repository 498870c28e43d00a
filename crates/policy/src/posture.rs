use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;

use kilter_model::{
    Action, Cluster, ClusterNetworkPolicy, ClusterTier, Direction, NetworkPolicy, Peer, Pod, PolicyPort,
    PolicyRule, PortRange, PortSpec, Protocol,
};

use crate::rules::{Entry, NamedPort, Peers, Rules};
use crate::vocabulary::{NameId, Vocabulary};
use crate::{Decision, ProtocolClass, RuleId, Verdict};

/// The content of a posture. Per direction and protocol, in that order, ranges that are disjoint,
/// ascending and without a gap.
pub type Posture = BTreeMap<(Direction, ProtocolClass, PortRange), Arc<Rules>>;

/// The numbers that pods of the cluster give to named ports.
pub trait Numbers {
    /// All numbers that any pod gives to this name.
    fn numbers(&self, protocol: Protocol, name: &str) -> Vec<u16>;
}

/// A cluster's policies in the order in which they are asked.
pub struct Policies<'a> {
    cluster: &'a Cluster,
    /// By priority, then by name.
    admin: Vec<&'a ClusterNetworkPolicy>,
    baseline: Vec<&'a ClusterNetworkPolicy>,
}

impl<'a> Policies<'a> {
    /// The policies of a cluster.
    pub fn of(cluster: &'a Cluster) -> Self {
        let mut all: Vec<_> = cluster.cluster_policies().collect();
        all.sort_by_key(|it| (it.priority, &it.name));
        let (admin, baseline) = all.into_iter().partition(|it| it.tier == ClusterTier::Admin);
        Self { cluster, admin, baseline }
    }

    /// The cluster.
    pub fn cluster(&self) -> &'a Cluster {
        self.cluster
    }

    /// Whether there are cluster-scoped policies.
    pub fn any_cluster_policy(&self) -> bool {
        !self.admin.is_empty() || !self.baseline.is_empty()
    }

    /// The policies of a tier that are about a pod and have rules in a direction.
    fn of_tier(&self, tier: ClusterTier, pod: &Pod, direction: Direction) -> Vec<&'a ClusterNetworkPolicy> {
        let Some(namespace) = self.cluster.namespace(&pod.name.namespace) else { return Vec::new() };
        let policies = match tier {
            ClusterTier::Admin => &self.admin,
            ClusterTier::Baseline => &self.baseline,
        };
        let is_about = |it: &&&ClusterNetworkPolicy| {
            !it.rules(direction).is_empty()
                && it.subject.namespaces.matches(&namespace.labels)
                && it.subject.pods.matches(&pod.labels)
        };
        policies.iter().filter(is_about).copied().collect()
    }

    /// The NetworkPolicies that isolate a pod in one direction, by name.
    fn isolating(&self, pod: &Pod, direction: Direction) -> Vec<&'a NetworkPolicy> {
        self.cluster
            .policies_of(&pod.name.namespace)
            .filter(|policy| policy.rules(direction).is_some() && policy.pod_selector.matches(&pod.labels))
            .collect()
    }
}

/// Compiles what policies mean for `pod`. Also returns the port names that its egress rules ask
/// about, whether or not any pod has them: a pod that brings one changes the posture.
pub fn compile(
    vocabulary: &mut Vocabulary,
    policies: &Policies<'_>,
    pod: &Pod,
    numbers: &impl Numbers,
) -> (Posture, BTreeSet<NameId>) {
    let mut compilation = Compilation { vocabulary, numbers, names: BTreeSet::new() };
    let mut posture = Posture::new();
    for direction in [Direction::Ingress, Direction::Egress] {
        let tiers = compilation.tiers(policies, pod, direction);
        for protocol in ProtocolClass::ALL {
            compilation.protocol(&tiers, protocol, &mut posture);
        }
    }
    (merge_neighbours(posture), compilation.names)
}

/// The rules of one pod in one direction.
struct Tiers<'a> {
    direction: Direction,
    /// The pod, where its are the port names that count.
    destination: Option<&'a Pod>,
    admin: Vec<Rule<'a>>,
    lower: Vec<Rule<'a>>,
    default: Decision,
}

/// A rule, as far as that does not depend on ports.
struct Rule<'a> {
    id: RuleId,
    action: Action,
    peers: Peers,
    ports: Option<&'a [PolicyPort]>,
}

/// The ports of a rule; with the name where they depend on the peer.
type Ports = (PortRange, Option<NamedPort>);

struct Compilation<'a, N> {
    vocabulary: &'a mut Vocabulary,
    numbers: &'a N,
    names: BTreeSet<NameId>,
}

impl<N: Numbers> Compilation<'_, N> {
    fn tiers<'a>(&mut self, policies: &Policies<'a>, pod: &'a Pod, direction: Direction) -> Tiers<'a> {
        let admin = policies.of_tier(ClusterTier::Admin, pod, direction);
        let isolating = policies.isolating(pod, direction);
        let baseline = match isolating.as_slice() {
            [] => policies.of_tier(ClusterTier::Baseline, pod, direction),
            _ => Vec::new(),
        };
        let (verdict, rule) = if !isolating.is_empty() {
            (Verdict::Deny, self.vocabulary.isolated(direction, &isolating))
        } else if admin.is_empty() && baseline.is_empty() {
            (Verdict::Allow, self.vocabulary.not_isolated(direction))
        } else {
            (Verdict::Allow, self.vocabulary.unmatched(direction))
        };
        let mut lower = self.cluster_rules(&baseline, direction);
        lower.extend(self.network_rules(&isolating, direction));
        Tiers {
            direction,
            destination: (direction == Direction::Ingress).then_some(pod),
            admin: self.cluster_rules(&admin, direction),
            lower,
            default: Decision { verdict, rule },
        }
    }

    fn cluster_rules<'a>(
        &mut self,
        policies: &[&'a ClusterNetworkPolicy],
        direction: Direction,
    ) -> Vec<Rule<'a>> {
        let mut rules = Vec::new();
        for policy in policies {
            for (number, rule) in (1..).zip(policy.rules(direction)) {
                rules.push(Rule {
                    id: self.vocabulary.cluster_rule(policy, direction, number, rule),
                    action: rule.action,
                    peers: self.peers("", &rule.matches),
                    ports: rule.matches.ports.as_deref(),
                });
            }
        }
        rules
    }

    fn network_rules<'a>(&mut self, policies: &[&'a NetworkPolicy], direction: Direction) -> Vec<Rule<'a>> {
        let mut rules = Vec::new();
        for policy in policies {
            for (number, rule) in (1..).zip(policy.rules(direction).unwrap_or_default()) {
                rules.push(Rule {
                    id: self.vocabulary.rule(policy, direction, number, rule),
                    action: Action::Accept,
                    peers: self.peers(&policy.name.namespace, rule),
                    ports: rule.ports.as_deref(),
                });
            }
        }
        // One rule that allows anyone anything makes the others superfluous: none of them denies.
        let is_open = |it: &Rule<'_>| it.peers == Peers::Anyone && it.ports.is_none();
        match rules.iter().position(is_open) {
            Some(open) => vec![rules.swap_remove(open)],
            None => rules,
        }
    }

    fn peers(&mut self, namespace: &str, rule: &PolicyRule) -> Peers {
        let Some(peers) = &rule.peers else { return Peers::Anyone };
        let ids: BTreeSet<_> = peers.iter().map(|it| self.vocabulary.peer(namespace, it)).collect();
        let pods = peers.iter().any(|it| matches!(it, Peer::Pods { .. }));
        Peers::Some { ids: ids.into_iter().collect(), pods }
    }

    /// Adds the ranges of one protocol to a posture.
    fn protocol(&mut self, tiers: &Tiers<'_>, protocol: ProtocolClass, posture: &mut Posture) {
        let admin = self.pieces(&tiers.admin, protocol, tiers.destination);
        let lower = self.pieces(&tiers.lower, protocol, tiers.destination);
        for ports in intervals(admin.iter().chain(&lower).map(|(range, _)| *range)) {
            let here = |pieces: &[(PortRange, Entry)]| {
                let pieces = pieces.iter().filter(|(range, _)| range.contains(ports.first));
                let mut entries: Vec<Entry> = pieces.map(|(_, entry)| entry.clone()).collect();
                entries.dedup();
                entries
            };
            let rules = Rules::new(tiers.default, here(&admin), here(&lower));
            posture.insert((tiers.direction, protocol, ports), Arc::new(rules));
        }
    }

    fn pieces(
        &mut self,
        rules: &[Rule<'_>],
        protocol: ProtocolClass,
        destination: Option<&Pod>,
    ) -> Vec<(PortRange, Entry)> {
        let mut pieces = Vec::new();
        for rule in rules {
            for (ports, name) in self.ports(rule, protocol, destination) {
                let entry = Entry { rule: rule.id, action: rule.action, peers: rule.peers.clone(), name };
                pieces.push((ports, entry));
            }
        }
        pieces
    }

    /// The ports of one protocol that a rule speaks of.
    fn ports(&mut self, rule: &Rule<'_>, protocol: ProtocolClass, destination: Option<&Pod>) -> Vec<Ports> {
        let Some(ports) = rule.ports else { return vec![(PortRange::ALL, None)] };
        let mut found = Vec::new();
        for PolicyPort { protocol: wanted, port } in ports {
            if protocol != ProtocolClass::from(*wanted) {
                continue;
            }
            match (port, destination) {
                (PortSpec::Range(range), _) => found.push((*range, None)),
                (PortSpec::Named(name), Some(pod)) => {
                    found.extend(pod.named_port(name, *wanted).map(|n| (PortRange::single(n), None)));
                }
                (PortSpec::Named(name), None) => {
                    let id = self.vocabulary.name(*wanted, name);
                    self.names.insert(id);
                    let named = |port| Some(NamedPort { name: id, port });
                    let all = self.numbers.numbers(*wanted, name);
                    found.extend(all.into_iter().map(|n| (PortRange::single(n), named(Some(n)))));
                    if rule.action != Action::Accept {
                        found.push((PortRange::ALL, named(None)));
                    }
                }
            }
        }
        found
    }
}

/// Cuts all ports into ranges on which the same of these apply.
fn intervals(ranges: impl Iterator<Item = PortRange>) -> Vec<PortRange> {
    let mut starts = BTreeSet::from([0]);
    for range in ranges {
        starts.insert(range.first);
        starts.extend(range.last.checked_add(1));
    }
    let lasts = starts.iter().skip(1).map(|next| next - 1).chain([u16::MAX]);
    starts.iter().zip(lasts).map(|(&first, last)| PortRange { first, last }).collect()
}

/// Joins neighbouring ranges with equal rules, and shares equal rules.
fn merge_neighbours(posture: Posture) -> Posture {
    let mut merged: Vec<((Direction, ProtocolClass, PortRange), Arc<Rules>)> = Vec::new();
    for ((direction, protocol, range), rules) in posture {
        match merged.last_mut() {
            Some(((d, p, before), same)) if *d == direction && *p == protocol && *same == rules => {
                before.last = range.last;
            }
            _ => merged.push(((direction, protocol, range), rules)),
        }
    }
    merged.into_iter().collect()
}
