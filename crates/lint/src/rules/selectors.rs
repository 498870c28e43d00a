//! KLT001 and KLT002: selectors of policies that match nothing, and what they were meant to match.

use std::collections::BTreeSet;
use std::sync::Arc;

use kilter_manifests::Object;
use kilter_model::{
    Cluster, Direction, Event, Labels, NamespacedName, NetworkPolicy, Operator, Peer, Pod, PolicyRule, Requirement,
    Selector,
};
use kilter_reach::Connection;
use kilter_reach::why::is_slip;

use super::cluster_selectors;
use crate::context::{Context, name, opened, title};
use crate::finding::{PEER_MATCHES_NOTHING, POLICY_SELECTS_NOTHING};
use crate::{Finding, Fix};

/// What was found, and the connections that do not work because of slips.
pub struct Found {
    pub findings: Vec<Finding>,
    pub broken: Vec<Connection>,
}

/// A finding, and how a slip behind it is put right.
pub(super) struct Slip {
    pub finding: Finding,
    pub mend: Option<Mend>,
}

/// One selector of one policy as it was meant.
pub(super) struct Mend {
    pub policy: Policy,
    /// Of this peer, else of the policy itself.
    pub at: Option<PeerAt>,
    pub selector: Selector,
}

/// Which policy.
#[derive(PartialEq, Eq)]
pub(super) enum Policy {
    /// A NetworkPolicy.
    Namespaced(NamespacedName),
    /// A ClusterNetworkPolicy.
    Cluster(Arc<str>),
}

/// Where a peer stands in its policy, as the model has it.
#[derive(Clone, Copy)]
pub(super) struct PeerAt {
    pub direction: Direction,
    pub rule: usize,
    pub peer: usize,
}

/// Puts all slips right at once, for one may hide another; a slip breaks what would not be opened
/// without its mending, and one of a cluster policy lets through what would not be refused.
pub fn check(context: &Context<'_>) -> Found {
    let mut slips = find(context);
    slips.extend(cluster_selectors::find(context));
    let mends: Vec<&Mend> = slips.iter().filter_map(|it| it.mend.as_ref()).collect();
    if mends.is_empty() {
        return Found { findings: slips.into_iter().map(|it| it.finding).collect(), broken: vec![] };
    }
    let whole = context.connections_of(&mended(context, &mends));
    let broken = opened(context.connections(), &whole);
    let effects: Vec<(Vec<String>, Vec<String>)> = mends
        .iter()
        .map(|left_out| {
            let others: Vec<&Mend> = mends.iter().filter(|it| !std::ptr::eq(**it, *left_out)).copied().collect();
            let without = context.connections_of(&mended(context, &others));
            let breaks = lines(&opened(&without, &whole));
            match left_out.policy {
                Policy::Cluster(_) => (breaks, lines(&opened(&whole, &without))),
                // That its pods are open is said once for all of them (KLT101).
                Policy::Namespaced(_) => (breaks, vec![]),
            }
        })
        .collect();
    let slipped = slips.iter_mut().filter(|it| it.mend.is_some());
    for (slip, (breaks, lets_through)) in slipped.zip(effects) {
        slip.finding.breaks = breaks;
        slip.finding.lets_through = lets_through;
    }
    Found { findings: slips.into_iter().map(|it| it.finding).collect(), broken }
}

fn lines(connections: &[Connection]) -> Vec<String> {
    connections.iter().map(ToString::to_string).collect()
}

/// The cluster with its policies as they were meant.
fn mended(context: &Context<'_>, mends: &[&Mend]) -> Cluster {
    let mut cluster = context.cluster.clone();
    for mend in mends {
        if let Some(event) = mend.event(&cluster) {
            cluster.apply(event);
        }
    }
    cluster
}

impl Mend {
    /// The policy as it was meant, of a cluster in which others may be put right already.
    fn event(&self, cluster: &Cluster) -> Option<Event> {
        match &self.policy {
            Policy::Namespaced(name) => {
                let mut policy = cluster.policy(name)?.clone();
                match &self.at {
                    None => policy.pod_selector = self.selector.clone(),
                    Some(at) => {
                        let rules = match at.direction {
                            Direction::Ingress => &mut policy.ingress,
                            Direction::Egress => &mut policy.egress,
                        };
                        self.set_peer(rules.as_mut()?.get_mut(at.rule)?, at);
                    }
                }
                Some(Event::NetworkPolicy(policy))
            }
            Policy::Cluster(name) => {
                let mut policy = cluster.cluster_policy(name)?.clone();
                match &self.at {
                    None => policy.subject.pods = self.selector.clone(),
                    Some(at) => {
                        let rules = match at.direction {
                            Direction::Ingress => &mut policy.ingress,
                            Direction::Egress => &mut policy.egress,
                        };
                        self.set_peer(&mut rules.get_mut(at.rule)?.matches, at);
                    }
                }
                Some(Event::ClusterNetworkPolicy(policy))
            }
        }
    }

    fn set_peer(&self, rule: &mut PolicyRule, at: &PeerAt) {
        if let Some(Peer::Pods { pods, .. }) = rule.peers.as_mut().and_then(|it| it.get_mut(at.peer)) {
            *pods = self.selector.clone();
        }
    }
}

fn find(context: &Context<'_>) -> Vec<Slip> {
    let mut found = vec![];
    for object in context.of_kind("NetworkPolicy") {
        let Some(policy) = context.cluster.policy(&name(&object.value)) else { continue };
        // A namespace whose workloads are not among the sources proves nothing.
        if context.pods_of(&policy.name.namespace).next().is_none() {
            continue;
        }
        found.extend(subject(context, object, policy));
        for direction in [Direction::Ingress, Direction::Egress] {
            for (i, rule) in policy.rules(direction).unwrap_or_default().iter().enumerate() {
                for (j, peer) in rule.peers.iter().flatten().enumerate() {
                    let at = PeerAt { direction, rule: i, peer: j };
                    found.extend(peer_of(context, object, policy, &at, peer));
                }
            }
        }
    }
    found
}

fn subject(context: &Context<'_>, object: &Object, policy: &NetworkPolicy) -> Option<Slip> {
    let namespace = &policy.name.namespace;
    let mut pods = context.pods_of(namespace);
    if pods.any(|it| policy.pod_selector.matches(&it.labels)) {
        return None;
    }
    let message = format!(
        "{} selects no pod: nothing in {namespace} has {}",
        title(&object.value),
        policy.pod_selector
    );
    let pointer = "/spec/podSelector";
    let finding =
        Finding::new(&POLICY_SELECTS_NOTHING, context.at(object, pointer), &title(&object.value), message);
    let near = meant(&policy.pod_selector, context.pods_of(namespace));
    let (finding, selector) = explain(context, object, pointer, finding, near);
    Some(Slip { finding, mend: mend(policy, None, selector) })
}

fn peer_of(
    context: &Context<'_>,
    object: &Object,
    policy: &NetworkPolicy,
    at: &PeerAt,
    peer: &Peer,
) -> Option<Slip> {
    let Peer::Pods { namespaces, pods } = peer else { return None };
    let candidates: Vec<&Pod> =
        context.cluster.pods().filter(|it| in_namespaces(context, policy, namespaces.as_ref(), it)).collect();
    if candidates.is_empty() || candidates.iter().any(|it| pods.matches(&it.labels)) {
        return None;
    }
    let places: BTreeSet<&str> = candidates.iter().map(|it| &*it.name.namespace).collect();
    let places = places.into_iter().collect::<Vec<_>>().join(", ");
    let message = format!(
        "{} names a peer that is no pod: nothing in {places} has {pods} ({} rule {})",
        title(&object.value),
        at.direction,
        at.rule + 1
    );
    let (field, side) = fields(at.direction);
    let pointer = format!("/spec/{field}/{}/{side}/{}/podSelector", at.rule, at.peer);
    let place = context.at(object, &pointer);
    let finding = Finding::new(&PEER_MATCHES_NOTHING, place, &title(&object.value), message);
    let near = meant(pods, candidates.into_iter());
    let (finding, selector) = explain(context, object, &pointer, finding, near);
    Some(Slip { finding, mend: mend(policy, Some(*at), selector) })
}

fn in_namespaces(
    context: &Context<'_>,
    policy: &NetworkPolicy,
    wanted: Option<&Selector>,
    pod: &Pod,
) -> bool {
    match wanted {
        None => pod.name.namespace == policy.name.namespace,
        Some(wanted) => {
            context.cluster.namespace(&pod.name.namespace).is_some_and(|it| wanted.matches(&it.labels))
        }
    }
}

/// The fields that hold a direction's rules, and a rule's peers.
pub(super) fn fields(direction: Direction) -> (&'static str, &'static str) {
    match direction {
        Direction::Ingress => ("ingress", "from"),
        Direction::Egress => ("egress", "to"),
    }
}

/// A selector with one value put right, and whom it then matches.
pub(super) struct Near {
    selector: Selector,
    key: Arc<str>,
    old: Arc<str>,
    new: Arc<str>,
    whom: String,
}

/// The only pods that a slip in one value can have meant; none where there are several candidates.
pub(super) fn meant<'p>(selector: &Selector, pods: impl Iterator<Item = &'p Pod>) -> Option<Near> {
    let mut found: Vec<Near> = vec![];
    for pod in pods {
        let Some(near) = put_right(selector, &pod.labels, pod.owner.to_string()) else { continue };
        if found.iter().all(|it| it.selector != near.selector) {
            found.push(near);
        }
    }
    if found.len() == 1 { found.pop() } else { None }
}

fn put_right(selector: &Selector, labels: &Labels, whom: String) -> Option<Near> {
    let failed: Vec<&Requirement> = selector.requirements().iter().filter(|it| !it.matches(labels)).collect();
    let [Requirement { key, operator: Operator::In(values) }] = failed.as_slice() else { return None };
    let value = labels.get(key)?;
    let old = values.iter().find(|it| is_slip(it, value))?.clone();
    let mut right: BTreeSet<Arc<str>> = values.clone();
    right.remove(&old);
    right.insert(value.clone());
    let mended = Requirement { key: key.clone(), operator: Operator::In(right) };
    let others = selector.requirements().iter().filter(|it| it.key != *key).cloned();
    let selector = Selector::new(others.chain([mended]));
    Some(Near { selector, key: key.clone(), old, new: value.clone(), whom })
}

fn mend(policy: &NetworkPolicy, at: Option<PeerAt>, selector: Option<Selector>) -> Option<Mend> {
    Some(Mend { policy: Policy::Namespaced(policy.name.clone()), at, selector: selector? })
}

/// Says what was meant, where that is certain, and hands back the selector that says so.
pub(super) fn explain(
    context: &Context<'_>,
    object: &Object,
    pointer: &str,
    mut finding: Finding,
    near: Option<Near>,
) -> (Finding, Option<Selector>) {
    let Some(Near { selector, key, old, new, whom }) = near else { return (finding, None) };
    finding.message += &format!("; {whom} has {key}={new}");
    let field = format!("{pointer}/matchLabels/{}", key.replace('~', "~0").replace('/', "~1"));
    let in_labels = object.value.pointer(&field).is_some();
    let (origin, separator) = if in_labels {
        (context.at(object, &field), ": ")
    } else {
        (context.at(object, &format!("{pointer}/matchExpressions")), " in ")
    };
    finding.fix = Some(Fix::Replace {
        origin,
        old: format!("{key}{separator}{old}"),
        new: format!("{key}{separator}{new}"),
    });
    (finding, Some(selector))
}
