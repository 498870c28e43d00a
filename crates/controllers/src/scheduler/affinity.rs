//! Required affinity and anti-affinity to other pods. What pods already placed would rather not
//! have beside them is not asked: only the pod at hand speaks.

use std::collections::HashSet;
use std::sync::Arc;

use k8s_openapi::api::core::v1::{Node, Pod, PodAffinityTerm, PodSpec};
use kilter_model::{Labels, Selector};
use kube::ResourceExt;

use super::load::Load;
use crate::{node_fit, pods};

/// What a pod asks of its neighbours, worked out against the pods there are.
pub(super) struct Neighbours {
    rules: Vec<Rule>,
}

struct Rule {
    topology_key: String,
    /// Values of the key where a matching pod runs.
    domains: HashSet<String>,
    /// Whether to run there, or anywhere else.
    together: bool,
}

impl Neighbours {
    pub(super) fn of(
        pod: &Pod,
        spec: &PodSpec,
        nodes: &[Arc<Node>],
        load: &Load,
        others: impl FnOnce() -> Vec<Arc<Pod>>,
    ) -> Self {
        let terms = terms(spec);
        if terms.is_empty() {
            return Self { rules: Vec::new() };
        }
        let others = others();
        let rule = |(term, together)| Rule::of(pod, term, together, nodes, load, &others);
        Self { rules: terms.into_iter().filter_map(rule).collect() }
    }

    pub(super) fn allow(&self, node: &Node) -> bool {
        self.rules.iter().all(|rule| {
            let here =
                node_fit::label(node, &rule.topology_key).is_some_and(|value| rule.domains.contains(&value));
            here == rule.together
        })
    }
}

/// The required terms, and whether they seek.
fn terms(spec: &PodSpec) -> Vec<(&PodAffinityTerm, bool)> {
    let Some(affinity) = &spec.affinity else { return Vec::new() };
    let with = affinity.pod_affinity.as_ref();
    let with = with.and_then(|a| a.required_during_scheduling_ignored_during_execution.as_ref());
    let without = affinity.pod_anti_affinity.as_ref();
    let without = without.and_then(|a| a.required_during_scheduling_ignored_during_execution.as_ref());
    let with = with.into_iter().flatten().map(|term| (term, true));
    with.chain(without.into_iter().flatten().map(|term| (term, false))).collect()
}

impl Rule {
    /// `None` where there is nothing to ask: a pod that seeks its own kind and is the first of it.
    fn of(
        pod: &Pod,
        term: &PodAffinityTerm,
        together: bool,
        nodes: &[Arc<Node>],
        load: &Load,
        others: &[Arc<Pod>],
    ) -> Option<Self> {
        // A selector that is missing selects nothing; one that is wrong was refused by the API.
        let selector = term.label_selector.as_ref().and_then(|s| kilter_objects::selector(s).ok());
        let matches = |other: &Pod| {
            in_scope(term, pod, other)
                && selector.as_ref().is_some_and(|s| selected(s, other))
                && pods::is_active(other)
        };
        let neighbours: Vec<&Arc<Pod>> =
            others.iter().filter(|o| o.uid() != pod.uid() && matches(o)).collect();
        if together && neighbours.is_empty() && matches(pod) {
            return None;
        }
        let names: HashSet<&str> = neighbours.iter().filter_map(|other| load.node_of(other)).collect();
        let there = nodes.iter().filter(|node| names.contains(node.name_any().as_str()));
        let domains = there.filter_map(|node| node_fit::label(node, &term.topology_key)).collect();
        Some(Self { topology_key: term.topology_key.clone(), domains, together })
    }
}

/// Whether a pod is in a namespace that the term looks at: those it lists, or the pod's own. A
/// namespace selector is taken to select all.
fn in_scope(term: &PodAffinityTerm, pod: &Pod, other: &Pod) -> bool {
    let listed = term.namespaces.as_deref().unwrap_or_default();
    let namespace = other.namespace().unwrap_or_default();
    let own = listed.is_empty() && pod.namespace().unwrap_or_default() == namespace;
    term.namespace_selector.is_some() || own || listed.contains(&namespace)
}

fn selected(selector: &Selector, pod: &Pod) -> bool {
    let labels: Labels = pod.labels().iter().map(|(k, v)| (k.as_str().into(), v.as_str().into())).collect();
    selector.matches(&labels)
}
