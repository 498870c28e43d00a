use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;

use kilter_model::{
    Cluster, Direction, NetworkPolicy, Pod, PolicyPort, PolicyRule, PortRange, PortSpec, Protocol,
};

use crate::vocabulary::{NameId, PeerId, Vocabulary};
use crate::{Decision, ProtocolClass, RuleId, Verdict};

/// What sets one peer address apart from another: the content of a class.
#[derive(Debug, Clone, Default, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Traits {
    /// What kind of address it is.
    pub kind: Kind,
    /// The peers in use that match it.
    pub peers: BTreeSet<PeerId>,
    /// The names in use that it gives to ports, and the ports.
    pub names: BTreeMap<NameId, u16>,
}

/// What kind of address it is. No NetworkPolicy tells the last two apart, but answers do.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum Kind {
    /// A pod's.
    Pod,
    /// In a pod block, but of no known pod.
    Unknown,
    /// Anything else.
    #[default]
    External,
}

/// Some of the peers of one rule, on the ports under consideration.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord, Hash)]
struct Entry {
    rule: RuleId,
    /// `None`: anyone.
    peers: Option<Vec<PeerId>>,
    /// Only peers that give this name to this port.
    name: Option<(NameId, u16)>,
}

/// The content of a set: who is allowed by what, and what holds for the others.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Rules {
    default: Decision,
    entries: Vec<Entry>,
}

impl Rules {
    /// What holds for peers that no entry matches.
    pub fn default_decision(&self) -> Decision {
        self.default
    }

    /// What holds for a peer.
    pub fn decide(&self, peer: &Traits) -> Decision {
        self.entries
            .iter()
            .find(|entry| entry.matches(peer))
            .map_or(self.default, |entry| Decision { verdict: Verdict::Allow, rule: entry.rule })
    }

    /// The rules that a decision of this set may name.
    pub fn rule_ids(&self) -> impl Iterator<Item = RuleId> {
        self.entries.iter().map(|entry| entry.rule).chain([self.default.rule])
    }

    /// The peers that it asks about.
    pub fn peers(&self) -> impl Iterator<Item = PeerId> {
        self.entries.iter().flat_map(|entry| entry.peers.iter().flatten().copied())
    }

    /// The port names that it asks about.
    pub fn names(&self) -> impl Iterator<Item = NameId> {
        self.entries.iter().filter_map(|entry| entry.name.map(|(name, _)| name))
    }

    /// The same with other ids for rules; `None` keeps an id.
    pub fn renamed(&self, rename: impl Fn(RuleId) -> Option<RuleId>) -> Self {
        let rename = |rule| rename(rule).unwrap_or(rule);
        let default = Decision { rule: rename(self.default.rule), ..self.default };
        let entries = self.entries.iter().map(|it| Entry { rule: rename(it.rule), ..it.clone() });
        Self { default, entries: entries.collect() }
    }

    fn new(default: Decision, entries: Vec<Entry>) -> Self {
        match entries.iter().find(|entry| entry.peers.is_none() && entry.name.is_none()) {
            // One rule that allows anyone makes the others superfluous.
            Some(any) => {
                Self { default: Decision { verdict: Verdict::Allow, rule: any.rule }, entries: Vec::new() }
            }
            None => Self { default, entries },
        }
    }
}

impl Entry {
    fn matches(&self, peer: &Traits) -> bool {
        self.name.is_none_or(|(name, port)| peer.names.get(&name) == Some(&port))
            && self.peers.as_ref().is_none_or(|wanted| wanted.iter().any(|it| peer.peers.contains(it)))
    }
}

/// The content of a posture. Per direction and protocol, in that order, ranges that are disjoint,
/// ascending and without a gap.
pub type Posture = BTreeMap<(Direction, ProtocolClass, PortRange), Arc<Rules>>;

/// The numbers that pods of the cluster give to named ports.
pub trait Numbers {
    /// All numbers that any pod gives to this name.
    fn numbers(&self, protocol: Protocol, name: &str) -> Vec<u16>;
}

/// Compiles what the policies of `cluster` mean for `pod`. Also returns the port names that its
/// egress rules ask about, whether or not any pod has them: a pod that brings one changes the
/// posture.
pub fn compile(
    vocabulary: &mut Vocabulary,
    cluster: &Cluster,
    pod: &Pod,
    numbers: &impl Numbers,
) -> (Posture, BTreeSet<NameId>) {
    let mut names = BTreeSet::new();
    let mut posture = Posture::new();
    for direction in [Direction::Ingress, Direction::Egress] {
        let policies = isolating(cluster, pod, direction);
        let default = default(vocabulary, direction, &policies);
        for protocol in ProtocolClass::ALL {
            let mut pieces = Vec::new();
            for policy in &policies {
                for (number, rule) in (1..).zip(rules(policy, direction)) {
                    let id = vocabulary.rule(policy, direction, number);
                    let peers = rule.peers.as_ref().map(|peers| {
                        let ids: BTreeSet<_> = peers.iter().map(|it| vocabulary.peer(policy, it)).collect();
                        ids.into_iter().collect::<Vec<_>>()
                    });
                    let destination = (direction == Direction::Ingress).then_some(pod);
                    for (ports, name) in ports(vocabulary, rule, protocol, destination, numbers, &mut names) {
                        pieces.push((ports, Entry { rule: id, peers: peers.clone(), name }));
                    }
                }
            }
            for (ports, entries) in intervals(&pieces) {
                posture.insert((direction, protocol, ports), Arc::new(Rules::new(default, entries)));
            }
        }
    }
    (merge_neighbours(posture), names)
}

/// The policies that isolate a pod in one direction, by name.
fn isolating<'a>(cluster: &'a Cluster, pod: &Pod, direction: Direction) -> Vec<&'a NetworkPolicy> {
    cluster
        .policies_of(&pod.name.namespace)
        .filter(|policy| match direction {
            Direction::Ingress => policy.ingress.is_some(),
            Direction::Egress => policy.egress.is_some(),
        })
        .filter(|policy| policy.pod_selector.matches(&pod.labels))
        .collect()
}

fn rules(policy: &NetworkPolicy, direction: Direction) -> &[PolicyRule] {
    match direction {
        Direction::Ingress => policy.ingress.as_deref().unwrap_or_default(),
        Direction::Egress => policy.egress.as_deref().unwrap_or_default(),
    }
}

fn default(vocabulary: &mut Vocabulary, direction: Direction, policies: &[&NetworkPolicy]) -> Decision {
    if policies.is_empty() {
        Decision { verdict: Verdict::Allow, rule: vocabulary.not_isolated(direction) }
    } else {
        Decision { verdict: Verdict::Deny, rule: vocabulary.isolated(direction, policies) }
    }
}

/// The ports of one protocol that a rule speaks of; with the name where the port depends on the
/// peer. `destination` is the judged pod, where that is the one whose port names count.
fn ports(
    vocabulary: &mut Vocabulary,
    rule: &PolicyRule,
    protocol: ProtocolClass,
    destination: Option<&Pod>,
    numbers: &impl Numbers,
    names: &mut BTreeSet<NameId>,
) -> Vec<(PortRange, Option<(NameId, u16)>)> {
    let Some(ports) = &rule.ports else { return vec![(PortRange::ALL, None)] };
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
                let id = vocabulary.name(*wanted, name);
                names.insert(id);
                let all = numbers.numbers(*wanted, name);
                found.extend(all.into_iter().map(|n| (PortRange::single(n), Some((id, n)))));
            }
        }
    }
    found
}

/// Cuts all ports into ranges on which the same pieces apply.
fn intervals(pieces: &[(PortRange, Entry)]) -> Vec<(PortRange, Vec<Entry>)> {
    let mut starts = BTreeSet::from([0u32]);
    for (range, _) in pieces {
        starts.insert(u32::from(range.first));
        starts.insert(u32::from(range.last) + 1);
    }
    starts.remove(&(u32::from(u16::MAX) + 1));
    let starts: Vec<u16> = starts.into_iter().filter_map(|it| u16::try_from(it).ok()).collect();
    let lasts = starts.iter().skip(1).map(|next| next - 1).chain([u16::MAX]);
    starts
        .iter()
        .zip(lasts)
        .map(|(&first, last)| {
            let here = pieces.iter().filter(|(range, _)| range.contains(first));
            let mut entries: Vec<Entry> = here.map(|(_, entry)| entry.clone()).collect();
            entries.dedup();
            (PortRange { first, last }, entries)
        })
        .collect()
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
