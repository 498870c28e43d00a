//! What is expected to run, and how much of it does.

use std::collections::BTreeMap;

use kilter_model::{Cluster, NamespacedName, Pod, PodPhase, WorkloadRef};
use serde::Serialize;
use serde_json::Value;

/// How many ready pods each workload should have.
#[derive(Debug, Clone, Default)]
pub struct Readiness {
    wanted: BTreeMap<WorkloadRef, usize>,
}

/// A workload and how far it is.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
#[serde(rename_all = "camelCase")]
pub struct WorkloadState {
    /// `namespace/name`.
    pub name: String,
    /// Its kind.
    pub kind: String,
    /// Pods that should be ready.
    pub wanted: usize,
    /// Pods that are.
    pub ready: usize,
    /// Pods that exist.
    pub pods: usize,
}

impl WorkloadState {
    /// Whether as many pods are ready as should be.
    pub fn is_ready(&self) -> bool {
        self.ready >= self.wanted
    }
}

impl Readiness {
    /// What these objects ask for, on so many nodes.
    pub fn of(objects: &[Value], nodes: usize) -> Self {
        let mut wanted = BTreeMap::new();
        for object in objects {
            let Some(count) = replicas(object, nodes) else { continue };
            let text = |value: &Value| value.as_str().unwrap_or_default().to_owned();
            let namespace = match text(&object["metadata"]["namespace"]) {
                empty if empty.is_empty() => "default".to_owned(),
                given => given,
            };
            let name = NamespacedName::new(namespace, text(&object["metadata"]["name"]));
            wanted.insert(WorkloadRef { kind: text(&object["kind"]).into(), name }, count);
        }
        Self { wanted }
    }

    /// Every workload with its pods in this cluster, in order of name.
    pub fn judge(&self, cluster: &Cluster) -> Vec<WorkloadState> {
        let mut pods: BTreeMap<&WorkloadRef, Vec<&Pod>> = BTreeMap::new();
        for pod in cluster.pods().filter(|p| !p.terminating) {
            pods.entry(&pod.owner).or_default().push(pod);
        }
        self.wanted
            .iter()
            .map(|(workload, wanted)| {
                let pods = pods.get(workload).map_or(&[][..], Vec::as_slice);
                WorkloadState {
                    name: workload.name.to_string(),
                    kind: workload.kind.to_string(),
                    wanted: *wanted,
                    ready: pods.iter().filter(|p| p.ready || p.phase == PodPhase::Succeeded).count(),
                    pods: pods.len(),
                }
            })
            .collect()
    }
}

fn replicas(object: &Value, nodes: usize) -> Option<usize> {
    let asked = || object["spec"]["replicas"].as_u64().map_or(1, |n| n as usize);
    match object["kind"].as_str()? {
        "Deployment" | "StatefulSet" | "ReplicaSet" => Some(asked()),
        "DaemonSet" => Some(nodes),
        "Pod" => Some(1),
        _ => None,
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use serde_json::json;

    #[test]
    fn each_kind_asks_for_its_own_number_of_pods() {
        let named = |kind: &str, spec: Value| json!({"kind": kind, "metadata": {"name": kind}, "spec": spec});
        let objects = [
            named("Deployment", json!({"replicas": 2})),
            named("StatefulSet", json!({})),
            named("DaemonSet", json!({})),
            named("Service", json!({})),
        ];
        let states = Readiness::of(&objects, 3).judge(&Cluster::default());
        let wanted: Vec<_> = states.iter().map(|s| (s.kind.as_str(), s.wanted, s.ready)).collect();
        assert_eq!(wanted, [("DaemonSet", 3, 0), ("Deployment", 2, 0), ("StatefulSet", 1, 0)]);
    }
}
