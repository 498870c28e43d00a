//! A generated cluster whose size is chosen, and whose shape is that of real ones: namespaces of
//! teams, each closed by default, DNS for all, and few openings for each workload.

use serde_json::{Value, json};

/// How large.
#[derive(Debug, Clone, Copy)]
pub struct Size {
    /// Namespaces, each of one team of ten.
    pub namespaces: usize,
    /// Workloads in each.
    pub workloads: usize,
    /// Pods of each workload.
    pub replicas: usize,
    /// NetworkPolicies in each namespace, at least 2.
    pub policies: usize,
    /// Ranges of ports in the rule that opens a workload to other teams.
    pub ports: usize,
}

impl Size {
    /// 100,000 pods of 10,000 workloads under 10,000 policies.
    pub const LARGE: Size = Size { namespaces: 1000, workloads: 10, replicas: 10, policies: 10, ports: 1 };

    /// So many workloads of one pod each, and as many policies.
    pub fn workloads(count: usize) -> Self {
        Self { namespaces: count.div_ceil(10), workloads: 10, replicas: 1, policies: 10, ports: 1 }
    }

    /// How many pods.
    pub fn pods(self) -> usize {
        self.namespaces * self.workloads * self.replicas
    }

    /// How many policies, those of the whole cluster included.
    pub fn all_policies(self) -> usize {
        self.namespaces * self.policies + cluster_policies().len()
    }
}

/// The nodes of a generated cluster; pods are spread over them in turn.
pub const PODS_OF_A_NODE: usize = 250;

/// Its objects, policies first, each made when it is asked for: all at once would be more memory
/// than what is measured.
pub fn objects(size: Size) -> impl Iterator<Item = Value> {
    let of_namespace = move |namespace: usize| {
        let itself = json!({
            "apiVersion": "v1", "kind": "Namespace",
            "metadata": {"name": name(namespace), "labels": {"team": format!("team-{}", namespace % 10)}},
        });
        std::iter::once(itself).chain((0..size.policies).map(move |it| policy(size, namespace, it)))
    };
    let namespaces = (0..size.namespaces).flat_map(of_namespace);
    cluster_policies().into_iter().chain(namespaces).chain((0..size.pods()).map(move |it| pod(size, it)))
}

fn name(namespace: usize) -> String {
    format!("ns-{namespace}")
}

/// A pod; its number says which.
pub fn pod(size: Size, number: usize) -> Value {
    let workload = number / size.replicas;
    let (namespace, app) = (workload / size.workloads, workload % size.workloads);
    let address = format!("10.{}.{}.{}", 64 + (number >> 16), (number >> 8) & 255, number & 255);
    json!({
        "apiVersion": "v1", "kind": "Pod",
        "metadata": {
            "namespace": name(namespace), "name": format!("app-{app}-{number}"), "uid": format!("uid-{number}"),
            "labels": {"app": format!("app-{app}"), "tier": format!("tier-{}", app % 3), "pod-template-hash": format!("{workload:x}")},
            "ownerReferences": [{"apiVersion": "apps/v1", "kind": "ReplicaSet", "controller": true,
                "name": format!("app-{app}-{workload:x}"), "uid": format!("owner-{workload}")}],
        },
        "spec": {"nodeName": format!("node-{}", number / PODS_OF_A_NODE), "containers": [{
            "name": "app", "image": "app",
            "ports": [{"name": "web", "containerPort": 8000 + app % 5}, {"name": "metrics", "containerPort": 9090}],
        }]},
        "status": {"phase": "Running", "podIP": address, "podIPs": [{"ip": address}]},
    })
}

/// The policies of a namespace: closed, DNS, and one opening for each of its workloads in turn.
pub fn policy(size: Size, namespace: usize, number: usize) -> Value {
    let app = number % size.workloads;
    let spec = match number {
        0 => json!({"podSelector": {}, "policyTypes": ["Ingress", "Egress"]}),
        1 => json!({"podSelector": {}, "policyTypes": ["Egress"], "egress": [{
            "to": [{"namespaceSelector": {"matchLabels": {"kubernetes.io/metadata.name": "kube-system"}},
                "podSelector": {"matchLabels": {"k8s-app": "kube-dns"}}}],
            "ports": [{"protocol": "UDP", "port": 53}, {"protocol": "TCP", "port": 53}]}]}),
        _ => {
            let next = format!("app-{}", (app + 1) % size.workloads);
            let team = format!("team-{}", (namespace + app) % 10);
            let ports: Vec<Value> = (0..size.ports)
                .map(|it| json!({"port": 8080 + 20 * it, "endPort": 8090 + 20 * it}))
                .collect();
            let block = format!("198.{}.{}.0/24", 18 + namespace % 2, (namespace / 2) % 256);
            json!({
                "podSelector": {"matchLabels": {"app": format!("app-{app}")}},
                "policyTypes": ["Ingress", "Egress"],
                "ingress": [
                    {"from": [{"podSelector": {"matchLabels": {"app": next}}}], "ports": [{"port": "web"}]},
                    {"from": [{"namespaceSelector": {"matchLabels": {"team": team}},
                        "podSelector": {"matchLabels": {"tier": "tier-0"}}}], "ports": ports},
                ],
                "egress": [
                    {"to": [{"podSelector": {}}]},
                    {"to": [{"ipBlock": {"cidr": block, "except": [block.replace(".0/24", ".128/25")]}}], "ports": [{"port": 443}]},
                ],
            })
        }
    };
    json!({
        "apiVersion": "networking.k8s.io/v1", "kind": "NetworkPolicy",
        "metadata": {"namespace": name(namespace), "name": format!("policy-{number}")},
        "spec": spec,
    })
}

/// What holds for the whole cluster: no instance metadata, monitoring everywhere, and a baseline.
fn cluster_policies() -> Vec<Value> {
    let policy = |name: &str, tier: &str, priority: u16, ingress: Value, egress: Value| {
        json!({
            "apiVersion": "policy.networking.k8s.io/v1alpha2", "kind": "ClusterNetworkPolicy",
            "metadata": {"name": name},
            "spec": {"tier": tier, "priority": priority, "subject": {"namespaces": {}}, "ingress": ingress, "egress": egress},
        })
    };
    let metrics = json!([{"destinationNamedPort": "metrics"}]);
    vec![
        policy(
            "no-metadata",
            "Admin",
            1,
            json!([]),
            json!([{"action": "Deny", "to": [{"networks": ["169.254.169.254/32"]}]}]),
        ),
        policy(
            "monitoring",
            "Admin",
            2,
            json!([{"action": "Accept", "from": [{"namespaces": {"matchLabels": {"team": "team-7"}}}], "protocols": metrics}]),
            json!([]),
        ),
        policy(
            "baseline",
            "Baseline",
            1,
            json!([{"action": "Deny", "from": [{"namespaces": {}}]}]),
            json!([]),
        ),
    ]
}
