//! Whether a pod may run on a node, going by selectors, affinity and taints.

use std::collections::BTreeMap;

use k8s_openapi::api::core::v1::{
    Node, NodeSelectorRequirement, NodeSelectorTerm, PodSpec, Taint, Toleration,
};
use kube::ResourceExt;

/// Labels under their older names, and where the newer one is.
const ALIASES: [(&str, &str); 2] =
    [("beta.kubernetes.io/os", "kubernetes.io/os"), ("beta.kubernetes.io/arch", "kubernetes.io/arch")];

/// A node's label. Those that every kubelet sets are there even if this one has not.
pub(crate) fn label(node: &Node, key: &str) -> Option<String> {
    if let Some(value) = node.labels().get(key) {
        return Some(value.clone());
    }
    if let Some((_, newer)) = ALIASES.iter().find(|(older, _)| *older == key) {
        return label(node, newer);
    }
    match key {
        "kubernetes.io/hostname" => Some(node.name_any()),
        "kubernetes.io/os" => Some("linux".into()),
        "kubernetes.io/arch" => Some(
            match std::env::consts::ARCH {
                "x86_64" => "amd64",
                "aarch64" => "arm64",
                other => other,
            }
            .into(),
        ),
        _ => None,
    }
}

/// Whether the node is one that the pod asks for: `nodeSelector` and required node affinity.
pub(crate) fn is_selected(spec: &PodSpec, node: &Node) -> bool {
    let wanted: Option<&BTreeMap<String, String>> = spec.node_selector.as_ref();
    let by_labels = wanted.into_iter().flatten().all(|(key, value)| label(node, key).as_ref() == Some(value));
    let affinity = spec.affinity.as_ref().and_then(|a| a.node_affinity.as_ref());
    let required = affinity.and_then(|a| a.required_during_scheduling_ignored_during_execution.as_ref());
    by_labels && required.is_none_or(|r| r.node_selector_terms.iter().any(|term| matches(term, node)))
}

fn matches(term: &NodeSelectorTerm, node: &Node) -> bool {
    let labels = term.match_expressions.as_deref().unwrap_or_default();
    let fields = term.match_fields.as_deref().unwrap_or_default();
    // A term without requirements selects nothing (core/v1 NodeSelectorTerm).
    let says_something = !labels.is_empty() || !fields.is_empty();
    let field = |r: &NodeSelectorRequirement| (r.key == "metadata.name").then(|| node.name_any());
    says_something
        && labels.iter().all(|r| holds(r, label(node, &r.key)))
        && fields.iter().all(|r| holds(r, field(r)))
}

fn holds(requirement: &NodeSelectorRequirement, value: Option<String>) -> bool {
    let values = requirement.values.as_deref().unwrap_or_default();
    let number = |text: &str| text.parse::<i64>().ok();
    let compare = |ordering| match (value.as_deref().and_then(number), values.first().and_then(|v| number(v)))
    {
        (Some(has), Some(bound)) => has.cmp(&bound) == ordering,
        _ => false,
    };
    match requirement.operator.as_str() {
        "In" => value.is_some_and(|v| values.contains(&v)),
        "NotIn" => value.is_none_or(|v| !values.contains(&v)),
        "Exists" => value.is_some(),
        "DoesNotExist" => value.is_none(),
        "Gt" => compare(std::cmp::Ordering::Greater),
        "Lt" => compare(std::cmp::Ordering::Less),
        _ => false,
    }
}

/// The first taint that keeps pods with these tolerations off a node.
pub(crate) fn repelled_by(tolerations: &[Toleration], taints: &[Taint]) -> Option<Taint> {
    let repels = |taint: &&Taint| {
        matches!(taint.effect.as_str(), "NoSchedule" | "NoExecute")
            && !tolerations.iter().any(|t| tolerates(t, taint))
    };
    taints.iter().find(repels).cloned()
}

fn tolerates(toleration: &Toleration, taint: &Taint) -> bool {
    let text = |field: &Option<String>| field.clone().filter(|s| !s.is_empty());
    let effect = text(&toleration.effect).is_none_or(|effect| effect == taint.effect);
    let key = text(&toleration.key);
    let exists = toleration.operator.as_deref() == Some("Exists");
    let same_value =
        toleration.value.as_deref().unwrap_or_default() == taint.value.as_deref().unwrap_or_default();
    match key {
        // An empty key with Exists tolerates everything.
        None => effect && exists,
        Some(key) => effect && key == taint.key && (exists || same_value),
    }
}

/// A node's own taints.
pub(crate) fn taints(node: &Node) -> Vec<Taint> {
    node.spec.as_ref().and_then(|s| s.taints.clone()).unwrap_or_default()
}

#[cfg(test)]
mod tests {
    use super::*;
    use serde_json::{Value, json};

    fn node(labels: Value) -> Node {
        serde_json::from_value(json!({"metadata": {"name": "node-1", "labels": labels}})).unwrap()
    }

    fn spec(value: Value) -> PodSpec {
        let mut value = value;
        value["containers"] = json!([]);
        serde_json::from_value(value).unwrap()
    }

    fn affinity(expression: Value) -> PodSpec {
        let terms = json!([{"matchExpressions": [expression]}]);
        let required =
            json!({"requiredDuringSchedulingIgnoredDuringExecution": {"nodeSelectorTerms": terms}});
        spec(json!({"affinity": {"nodeAffinity": required}}))
    }

    #[test]
    fn labels_that_every_node_has_are_there_under_both_names() {
        let selector = spec(json!({"nodeSelector": {"beta.kubernetes.io/os": "linux"}}));
        assert!(is_selected(&selector, &node(json!({}))));
        assert!(!is_selected(&selector, &node(json!({"kubernetes.io/os": "windows"}))));
        assert!(!is_selected(&spec(json!({"nodeSelector": {"disk": "ssd"}})), &node(json!({}))));
    }

    #[test]
    fn affinity_knows_all_operators() {
        let with = node(json!({"cores": "8"}));
        let case = |operator: &str, values: Value, expected: bool| {
            let spec = affinity(json!({"key": "cores", "operator": operator, "values": values}));
            assert_eq!(is_selected(&spec, &with), expected, "{operator}");
        };
        case("In", json!(["4", "8"]), true);
        case("NotIn", json!(["8"]), false);
        case("Exists", json!([]), true);
        case("DoesNotExist", json!([]), false);
        case("Gt", json!(["4"]), true);
        case("Lt", json!(["4"]), false);
        case("Other", json!(["8"]), false);
        assert!(!is_selected(&affinity(json!({"key": "gpu", "operator": "Gt", "values": ["1"]})), &with));
    }

    #[test]
    fn a_taint_repels_whoever_does_not_tolerate_it() {
        let taint = |effect: &str| {
            vec![Taint {
                key: "k".into(),
                value: Some("v".into()),
                effect: effect.into(),
                ..Default::default()
            }]
        };
        let toleration = |value: Value| vec![serde_json::from_value::<Toleration>(value).unwrap()];
        assert!(repelled_by(&[], &taint("NoSchedule")).is_some());
        assert!(repelled_by(&[], &taint("PreferNoSchedule")).is_none());
        assert!(repelled_by(&toleration(json!({"operator": "Exists"})), &taint("NoExecute")).is_none());
        assert!(repelled_by(&toleration(json!({"key": "k", "value": "v"})), &taint("NoSchedule")).is_none());
        assert!(repelled_by(&toleration(json!({"key": "k", "value": "w"})), &taint("NoSchedule")).is_some());
        let wrong_effect = json!({"key": "k", "operator": "Exists", "effect": "NoExecute"});
        assert!(repelled_by(&toleration(wrong_effect), &taint("NoSchedule")).is_some());
    }
}
