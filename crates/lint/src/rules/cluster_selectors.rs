//! KLT001 and KLT002 for ClusterNetworkPolicy: subjects and peers that are no pod, in namespaces of which
//! the sources have pods.

use std::collections::BTreeSet;

use kilter_manifests::Object;
use kilter_model::{ClusterNetworkPolicy, ClusterRule, Direction, Peer, Pod, Selector};
use kilter_objects::value;
use serde_json::Value;

use super::selectors::{Mend, PeerAt, Policy, Slip, explain, fields, meant};
use crate::Finding;
use crate::context::{Context, title};
use crate::finding::{PEER_MATCHES_NOTHING, POLICY_SELECTS_NOTHING, Rule};

/// What selects nobody.
pub(super) fn find(context: &Context<'_>) -> Vec<Slip> {
    let mut found = vec![];
    for object in context.of_kind("ClusterNetworkPolicy") {
        let Some(policy) = context.cluster.cluster_policy(value::name(&object.value)) else { continue };
        let judged = Judged { context, object, policy };
        found.extend(judged.subject());
        for direction in [Direction::Ingress, Direction::Egress] {
            for (i, rule) in policy.rules(direction).iter().enumerate() {
                found.extend(judged.peers(rule, direction, i));
            }
        }
    }
    found
}

/// A policy that is looked at.
struct Judged<'a> {
    context: &'a Context<'a>,
    object: &'a Object,
    policy: &'a ClusterNetworkPolicy,
}

impl Judged<'_> {
    fn subject(&self) -> Option<Slip> {
        let subject = &self.policy.subject;
        let what = format!("{} selects no pod", title(&self.object.value));
        let pointer = "/spec/subject/pods/podSelector";
        self.nobody(&POLICY_SELECTS_NOTHING, pointer, None, (&subject.namespaces, &subject.pods), &what)
    }

    fn peers(&self, rule: &ClusterRule, direction: Direction, number: usize) -> Vec<Slip> {
        // One that fails closed is not about pods, whatever is written.
        if rule.caveat.is_some() {
            return vec![];
        }
        let (field, side) = fields(direction);
        let at = format!("/spec/{field}/{number}/{side}");
        let written =
            self.object.value.pointer(&at).and_then(Value::as_array).into_iter().flatten().enumerate();
        // The model has the peers in the order in which they are written, those of other kinds between them.
        let modelled = rule.matches.peers.iter().flatten().enumerate().filter_map(|(peer, it)| match it {
            Peer::Pods { namespaces: Some(namespaces), pods } if !pods.is_empty() => {
                Some((PeerAt { direction, rule: number, peer }, (namespaces, pods)))
            }
            _ => None,
        });
        let selecting = written.filter(|(_, peer)| {
            peer["pods"]["podSelector"].as_object().is_some_and(|it| it.values().any(|it| !is_empty(it)))
        });
        let what = format!("{} names a peer that is no pod", title(&self.object.value));
        selecting
            .zip(modelled)
            .filter_map(|((j, _), (peer, selectors))| {
                let pointer = format!("{at}/{j}/pods/podSelector");
                self.nobody(&PEER_MATCHES_NOTHING, &pointer, Some(peer), selectors, &what)
            })
            .collect()
    }

    /// A finding where the sources have pods in these namespaces, and none of them is meant.
    fn nobody(
        &self,
        rule: &'static Rule,
        pointer: &str,
        at: Option<PeerAt>,
        (namespaces, pods): (&Selector, &Selector),
        what: &str,
    ) -> Option<Slip> {
        let Judged { context, object, policy } = self;
        let within = |pod: &&Pod| {
            context.cluster.namespace(&pod.name.namespace).is_some_and(|it| namespaces.matches(&it.labels))
        };
        let candidates: Vec<&Pod> =
            context.cluster.pods().filter(|it| !it.host_network).filter(within).collect();
        if candidates.is_empty() || candidates.iter().any(|it| pods.matches(&it.labels)) {
            return None;
        }
        let places: BTreeSet<&str> = candidates.iter().map(|it| &*it.name.namespace).collect();
        let places = places.into_iter().collect::<Vec<_>>().join(", ");
        let message = format!("{what}: nothing in {places} has {pods}");
        let finding = Finding::new(rule, context.at(object, pointer), &title(&object.value), message);
        let (finding, selector) =
            explain(context, object, pointer, finding, meant(pods, candidates.into_iter()));
        let mend =
            selector.map(|selector| Mend { policy: Policy::Cluster(policy.name.clone()), at, selector });
        Some(Slip { finding, mend })
    }
}

fn is_empty(value: &Value) -> bool {
    value.as_object().is_none_or(serde_json::Map::is_empty) && value.as_array().is_none_or(Vec::is_empty)
}
