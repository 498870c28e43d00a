//! What of a cluster's policies does not do what it seems to say.

use std::collections::BTreeMap;

use kilter_model::{Cluster, ClusterNetworkPolicy, ClusterTier, Direction, Pod};

/// One sentence for each thing that its author should know: rules that are enforced as others than
/// are written, and ClusterNetworkPolicies whose order is undefined.
pub fn warnings(cluster: &Cluster) -> Vec<String> {
    let caveats = cluster.cluster_policies().flat_map(ClusterNetworkPolicy::caveats);
    caveats.chain(equal_priorities(cluster)).collect()
}

/// Policies of one tier and equal priority that can both match a connection.
fn equal_priorities(cluster: &Cluster) -> Vec<String> {
    let mut places: BTreeMap<(ClusterTier, u16), Vec<&ClusterNetworkPolicy>> = BTreeMap::new();
    for policy in cluster.cluster_policies() {
        places.entry((policy.tier, policy.priority)).or_default().push(policy);
    }
    let mut found = Vec::new();
    for ((tier, priority), policies) in places {
        for (place, one) in policies.iter().enumerate() {
            let Some(other) = policies[place + 1..].iter().find(|it| can_both_decide(cluster, one, it))
            else {
                continue;
            };
            found.push(format!(
                "{}: {} and {} ({}) are both of tier {tier} and priority {priority} and select a pod in common: \
                 which of them is asked first is undefined; Kilter asks them by name",
                one.origin,
                one.reference(),
                other.reference(),
                other.origin,
            ));
        }
    }
    found
}

fn can_both_decide(cluster: &Cluster, one: &ClusterNetworkPolicy, other: &ClusterNetworkPolicy) -> bool {
    let in_common = [Direction::Ingress, Direction::Egress]
        .into_iter()
        .any(|it| !one.rules(it).is_empty() && !other.rules(it).is_empty());
    in_common && cluster.pods().any(|pod| selects(cluster, one, pod) && selects(cluster, other, pod))
}

fn selects(cluster: &Cluster, policy: &ClusterNetworkPolicy, pod: &Pod) -> bool {
    let no_labels = Default::default();
    let labels = cluster.namespace(&pod.name.namespace).map_or(&no_labels, |it| &it.labels);
    !pod.host_network && policy.subject.namespaces.matches(labels) && policy.subject.pods.matches(&pod.labels)
}

#[cfg(test)]
mod tests {
    use super::*;
    use kilter_model::{Event, Origin};
    use kilter_objects::{expand, to_event};
    use serde_json::json;

    fn policy(name: &str, priority: u16, app: &str) -> serde_json::Value {
        json!({
            "apiVersion": "policy.networking.k8s.io/v1alpha2", "kind": "ClusterNetworkPolicy",
            "metadata": {"name": name},
            "spec": {"tier": "Admin", "priority": priority,
                "subject": {"pods": {"namespaceSelector": {}, "podSelector": {"matchLabels": {"app": app}}}},
                "egress": [{"action": "Accept", "to": [{"domainNames": ["example.com"]}]}]},
        })
    }

    #[test]
    fn what_is_not_enforced_and_what_is_ambiguous_is_said() {
        let pod = json!({"apiVersion": "v1", "kind": "Pod",
            "metadata": {"name": "a", "namespace": "x", "labels": {"app": "a"}}, "spec": {"containers": []}});
        let namespace = json!({"apiVersion": "v1", "kind": "Namespace", "metadata": {"name": "x"}});
        let objects = [
            policy("one", 5, "a"),
            policy("two", 5, "a"),
            policy("three", 5, "b"),
            policy("four", 6, "a"),
            namespace,
        ];
        let mut events: Vec<_> =
            objects.iter().filter_map(|it| to_event(it, Origin::Builtin).unwrap()).collect();
        events.extend(expand(&pod, Origin::Builtin).unwrap().into_iter().map(Event::Pod));
        let found = warnings(&Cluster::from_events(events));
        assert_eq!(found.iter().filter(|it| it.contains("not enforced")).count(), 4);
        let ambiguous: Vec<_> = found.iter().filter(|it| it.contains("undefined")).collect();
        assert_eq!(ambiguous.len(), 1);
        assert!(
            ambiguous[0].contains("ClusterNetworkPolicy one and ClusterNetworkPolicy two"),
            "{ambiguous:?}"
        );
    }
}
