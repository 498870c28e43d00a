//! Objects that every cluster has before its own: cluster DNS.

use kilter_model::{NamespacedName, WorkloadRef};
use serde_json::{Value, json};

use crate::spec::TwinSpec;

/// The namespace of cluster services.
const NAMESPACE: &str = "kube-system";
/// The DaemonSet that gives each node a DNS pod.
const DNS_DAEMONSET: &str = "kilter-dns";

/// The workload that DNS pods belong to.
pub fn dns_workload() -> WorkloadRef {
    WorkloadRef { kind: "DaemonSet".into(), name: NamespacedName::new(NAMESPACE, DNS_DAEMONSET) }
}

/// The objects of cluster DNS.
///
/// DNS runs as pods with the label `k8s-app: kube-dns`, because that is what egress rules in the
/// field select; and one on each node, so that one node's failure is no one else's.
pub fn objects(spec: &TwinSpec) -> Vec<Value> {
    vec![dns_service(spec), dns_daemonset()]
}

fn dns_service(spec: &TwinSpec) -> Value {
    json!({
        "apiVersion": "v1",
        "kind": "Service",
        "metadata": {
            "name": "kube-dns",
            "namespace": NAMESPACE,
            "labels": {"k8s-app": "kube-dns", "kubernetes.io/name": "CoreDNS"},
        },
        "spec": {
            "clusterIPs": spec.dns_service_ips(),
            "ipFamilyPolicy": "PreferDualStack",
            "selector": {"k8s-app": "kube-dns"},
            // A node asks its own; only where that is not ready does it ask the others.
            "trafficDistribution": "PreferSameNode",
            "ports": [
                {"name": "dns", "port": 53, "protocol": "UDP"},
                {"name": "dns-tcp", "port": 53, "protocol": "TCP"},
            ],
        },
    })
}

fn dns_daemonset() -> Value {
    json!({
        "apiVersion": "apps/v1",
        "kind": "DaemonSet",
        "metadata": {"name": DNS_DAEMONSET, "namespace": NAMESPACE, "labels": {"k8s-app": "kube-dns"}},
        "spec": {
            "selector": {"matchLabels": {"k8s-app": "kube-dns"}},
            "template": {
                "metadata": {
                    "labels": {"k8s-app": "kube-dns"},
                    "annotations": {"kilter.dev/run": "dns"},
                },
                "spec": {
                    "tolerations": [{"operator": "Exists"}],
                    "containers": [{
                        "name": "dns",
                        "image": "kilter.dev/dns",
                        "readinessProbe": {"tcpSocket": {"port": 53}, "periodSeconds": 2},
                        "ports": [
                            {"name": "dns", "containerPort": 53, "protocol": "UDP"},
                            {"name": "dns-tcp", "containerPort": 53, "protocol": "TCP"},
                        ],
                    }],
                },
            },
        },
    })
}
