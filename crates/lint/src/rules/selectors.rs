//! KLT001 and KLT002: selectors of NetworkPolicies that match nothing, and what they were meant to match.

use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;

use kilter_manifests::Object;
use kilter_model::{
    Labels, NamespacedName, NetworkPolicy, Operator, Peer, Pod, PolicyRule, Requirement, Selector,
};
use kilter_reach::Connection;
use kilter_reach::why::is_slip;

use crate::context::{Context, name, opened, title};
use crate::finding::{PEER_MATCHES_NOTHING, POLICY_SELECTS_NOTHING};
use crate::{Finding, Fix};

/// What was found, and the connections that do not work because of slips.
pub struct Found {
    pub findings: Vec<Finding>,
    pub broken: Vec<Connection>,
}

/// A finding, and how a slip behind it is put right.
struct Slip {
    finding: Finding,
    mend: Option<Mend>,
}

/// One selector of one policy as it was meant.
struct Mend {
    policy: NamespacedName,
    /// Of this peer, else of the policy itself.
    at: Option<PeerAt>,
    selector: Selector,
}

/// Puts all slips right at once, for one may hide another; a slip breaks what would not be opened
/// without its mending.
pub fn check(context: &Context<'_>) -> Found {
    let mut slips = find(context);
    let mends: Vec<&Mend> = slips.iter().filter_map(|it| it.mend.as_ref()).collect();
    if mends.is_empty() {
        return Found { findings: slips.into_iter().map(|it| it.finding).collect(), broken: vec![] };
    }
    let whole = context.connections_with(mended(context, &mends));
    let broken = opened(context.connections(), &whole);
    let breaks: Vec<Vec<String>> = (0..mends.len())
        .map(|left_out| {
            let others: Vec<&Mend> =
                mends.iter().enumerate().filter(|(i, _)| *i != left_out).map(|(_, it)| *it).collect();
            let without = context.connections_with(mended(context, &others));
            opened(&without, &whole).iter().map(ToString::to_string).collect()
        })
        .collect();
    let slipped = slips.iter_mut().filter(|it| it.mend.is_some());
    slipped.zip(breaks).for_each(|(slip, breaks)| slip.finding.breaks = breaks);
    Found { findings: slips.into_iter().map(|it| it.finding).collect(), broken }
}

/// The policies that these mends change.
fn mended(context: &Context<'_>, mends: &[&Mend]) -> Vec<NetworkPolicy> {
    let mut changed: BTreeMap<&NamespacedName, NetworkPolicy> = BTreeMap::new();
    for mend in mends {
        let Some(policy) = context.cluster.policy(&mend.policy) else { continue };
        let policy = changed.entry(&mend.policy).or_insert_with(|| policy.clone());
        match &mend.at {
            None => policy.pod_selector = mend.selector.clone(),
            Some(at) => set_peer(policy, at, &mend.selector),
        }
    }
    changed.into_values().collect()
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
        for (field, side, rules) in [("ingress", "from", &policy.ingress), ("egress", "to", &policy.egress)] {
            for (i, rule) in rules.iter().flatten().enumerate() {
                for (j, peer) in rule.peers.iter().flatten().enumerate() {
                    let at = PeerAt { field, side, rule: i, peer: j };
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

/// Where a peer stands in its policy.
#[derive(Clone, Copy)]
struct PeerAt {
    field: &'static str,
    side: &'static str,
    rule: usize,
    peer: usize,
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
        at.field,
        at.rule + 1
    );
    let pointer = format!("/spec/{}/{}/{}/{}/podSelector", at.field, at.rule, at.side, at.peer);
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

fn set_peer(policy: &mut NetworkPolicy, at: &PeerAt, selector: &Selector) {
    let rules = if at.field == "ingress" { &mut policy.ingress } else { &mut policy.egress };
    let rule: Option<&mut PolicyRule> = rules.as_mut().and_then(|it| it.get_mut(at.rule));
    let peer = rule.and_then(|it| it.peers.as_mut()).and_then(|it| it.get_mut(at.peer));
    if let Some(Peer::Pods { pods, .. }) = peer {
        *pods = selector.clone();
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
    Some(Mend { policy: policy.name.clone(), at, selector: selector? })
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
