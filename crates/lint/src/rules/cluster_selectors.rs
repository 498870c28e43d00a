//! KLT001 and KLT002 for ClusterNetworkPolicy: subjects and peers that are no pod, in namespaces of which
//! the sources have pods. (Which connections a slip breaks is left open: other tiers decide, too.)

use std::collections::BTreeSet;

use kilter_manifests::Object;
use kilter_model::{ClusterNetworkPolicy, ClusterRule, Direction, Peer, Pod, Selector};
use kilter_objects::value;
use serde_json::Value;

use super::selectors::{explain, meant};
use crate::Finding;
use crate::context::{Context, title};
use crate::finding::{PEER_MATCHES_NOTHING, POLICY_SELECTS_NOTHING, Rule};

pub fn check(context: &Context<'_>) -> Vec<Finding> {
    let mut found = vec![];
    for object in context.of_kind("ClusterNetworkPolicy") {
        let Some(policy) = context.cluster.cluster_policy(value::name(&object.value)) else { continue };
        found.extend(subject(context, object, policy));
        for (direction, field, side) in [(Direction::Ingress, "ingress", "from"), (Direction::Egress, "egress", "to")] {
            for (i, rule) in policy.rules(direction).iter().enumerate() {
                let at = format!("/spec/{field}/{i}/{side}");
                found.extend(peers(context, object, rule, &at));
            }
        }
    }
    found
}

fn subject(context: &Context<'_>, object: &Object, policy: &ClusterNetworkPolicy) -> Option<Finding> {
    let subject = &policy.subject;
    let what = format!("{} selects no pod", title(&object.value));
    nobody(context, object, &POLICY_SELECTS_NOTHING, "/spec/subject/pods/podSelector", (&subject.namespaces, &subject.pods), &what)
}

fn peers(context: &Context<'_>, object: &Object, rule: &ClusterRule, at: &str) -> Vec<Finding> {
    // One that fails closed is not about pods, whatever is written.
    if rule.caveat.is_some() {
        return vec![];
    }
    let written = object.value.pointer(at).and_then(Value::as_array).into_iter().flatten().enumerate();
    let of_pods = written.filter(|(_, peer)| peer.get("pods").is_some());
    // The model has the peers in the order in which they are written, those of other kinds between them.
    let modelled = rule.matches.peers.iter().flatten().filter_map(|peer| match peer {
        Peer::Pods { namespaces: Some(namespaces), pods } if !pods.is_empty() => Some((namespaces, pods)),
        _ => None,
    });
    let selecting = of_pods.filter(|(_, peer)| {
        peer["pods"]["podSelector"].as_object().is_some_and(|it| it.values().any(|it| !is_empty(it)))
    });
    let what = format!("{} names a peer that is no pod", title(&object.value));
    let one = |((j, _), selectors): ((usize, &Value), (&Selector, &Selector))| {
        let pointer = format!("{at}/{j}/pods/podSelector");
        nobody(context, object, &PEER_MATCHES_NOTHING, &pointer, selectors, &what)
    };
    selecting.zip(modelled).filter_map(one).collect()
}

fn is_empty(value: &Value) -> bool {
    value.as_object().is_none_or(serde_json::Map::is_empty) && value.as_array().is_none_or(Vec::is_empty)
}

/// A finding where the sources have pods in these namespaces, and none of them is meant.
fn nobody(
    context: &Context<'_>,
    object: &Object,
    rule: &'static Rule,
    pointer: &str,
    (namespaces, pods): (&Selector, &Selector),
    what: &str,
) -> Option<Finding> {
    let within = |pod: &&Pod| {
        context.cluster.namespace(&pod.name.namespace).is_some_and(|it| namespaces.matches(&it.labels))
    };
    let candidates: Vec<&Pod> = context.cluster.pods().filter(|it| !it.host_network).filter(within).collect();
    if candidates.is_empty() || candidates.iter().any(|it| pods.matches(&it.labels)) {
        return None;
    }
    let places: BTreeSet<&str> = candidates.iter().map(|it| &*it.name.namespace).collect();
    let places = places.into_iter().collect::<Vec<_>>().join(", ");
    let message = format!("{what}: nothing in {places} has {pods}");
    let finding = Finding::new(rule, context.at(object, pointer), &title(&object.value), message);
    Some(explain(context, object, pointer, finding, meant(pods, candidates.into_iter())).0)
}
