//! A model cluster as the manifests that make it, so that a failing random case can be kept,
//! applied and argued about.

use kilter_model::{
    Action, Cluster, ClusterNetworkPolicy, ClusterRule, IpBlock, Labels, Namespace, NetworkPolicy, Operator,
    Peer, Pod, PodPhase, PolicyPort, PolicyRule, PortRange, PortSpec, Selector,
};
use serde_json::{Value, json};

/// YAML documents of the namespaces, pods and policies of a cluster.
pub fn manifests(cluster: &Cluster) -> String {
    let namespaces = cluster.namespaces().map(namespace);
    let pods = cluster.pods().map(pod);
    let policies = cluster.policies().map(policy);
    let scoped = cluster.cluster_policies().map(cluster_policy);
    let all = namespaces.chain(pods).chain(policies).chain(scoped);
    let documents: Vec<String> = all.map(|it| yaml(&it)).collect();
    documents.join("---\n")
}

fn yaml(value: &Value) -> String {
    serde_saphyr::to_string(value).expect("JSON values are YAML")
}

fn labels(labels: &Labels) -> Value {
    labels
        .iter()
        .map(|(key, value)| (key.to_string(), json!(&**value)))
        .collect::<serde_json::Map<_, _>>()
        .into()
}

fn namespace(it: &Namespace) -> Value {
    json!({
        "apiVersion": "v1", "kind": "Namespace",
        "metadata": { "name": &*it.name, "labels": labels(&it.labels) },
    })
}

fn pod(it: &Pod) -> Value {
    let ports: Vec<_> = it
        .ports
        .iter()
        .map(|port| {
            json!({
                "name": port.name.as_deref(),
                "containerPort": port.port,
                "protocol": port.protocol.to_string(),
            })
        })
        .collect();
    let addresses: Vec<_> = it.addresses.iter().map(|address| json!({ "ip": address })).collect();
    json!({
        "apiVersion": "v1", "kind": "Pod",
        "metadata": {
            "namespace": &*it.name.namespace, "name": &*it.name.name, "uid": &*it.uid, "labels": labels(&it.labels),
        },
        "spec": {
            "nodeName": it.node.as_deref(), "hostNetwork": it.host_network,
            "containers": [{ "name": "c", "image": "stand-in", "ports": ports }],
        },
        "status": { "phase": phase(it.phase), "podIPs": addresses },
    })
}

fn phase(phase: PodPhase) -> &'static str {
    match phase {
        PodPhase::Pending => "Pending",
        PodPhase::Running => "Running",
        PodPhase::Succeeded => "Succeeded",
        PodPhase::Failed => "Failed",
    }
}

fn policy(it: &NetworkPolicy) -> Value {
    let rules = |rules: &Option<Vec<PolicyRule>>, peers: &str| {
        rules.as_ref().map(|rules| rules.iter().map(|rule| policy_rule(rule, peers)).collect::<Vec<_>>())
    };
    let mut types = Vec::new();
    types.extend(it.ingress.as_ref().map(|_| "Ingress"));
    types.extend(it.egress.as_ref().map(|_| "Egress"));
    json!({
        "apiVersion": "networking.k8s.io/v1", "kind": "NetworkPolicy",
        "metadata": { "namespace": &*it.name.namespace, "name": &*it.name.name },
        "spec": {
            "podSelector": selector(&it.pod_selector), "policyTypes": types,
            "ingress": rules(&it.ingress, "from"), "egress": rules(&it.egress, "to"),
        },
    })
}

fn policy_rule(rule: &PolicyRule, peers: &str) -> Value {
    let mut value = json!({});
    if let Some(list) = &rule.peers {
        value[peers] = list.iter().map(peer).collect();
    }
    if let Some(list) = &rule.ports {
        value["ports"] = list.iter().map(policy_port).collect();
    }
    value
}

fn peer(peer: &Peer) -> Value {
    match peer {
        Peer::Pods { namespaces: None, pods } => json!({ "podSelector": selector(pods) }),
        Peer::Pods { namespaces: Some(namespaces), pods } => {
            json!({ "namespaceSelector": selector(namespaces), "podSelector": selector(pods) })
        }
        Peer::IpBlock(IpBlock { cidr, except }) => json!({ "ipBlock": { "cidr": cidr, "except": except } }),
        Peer::Nodes(_) => unreachable!("a NetworkPolicy has no peer that is a node"),
    }
}

fn cluster_policy(it: &ClusterNetworkPolicy) -> Value {
    let rules = |rules: &[ClusterRule], peers: &str| {
        rules.iter().map(|rule| cluster_rule(rule, peers)).collect::<Vec<_>>()
    };
    let subject = &it.subject;
    json!({
        "apiVersion": "policy.networking.k8s.io/v1alpha2", "kind": "ClusterNetworkPolicy",
        "metadata": { "name": &*it.name },
        "spec": {
            "tier": it.tier.to_string(), "priority": it.priority,
            "subject": { "pods": namespaced_pods(&subject.namespaces, &subject.pods) },
            "ingress": rules(&it.ingress, "from"), "egress": rules(&it.egress, "to"),
        },
    })
}

/// A peer that the API does not know stands for what fails closed.
fn cluster_rule(rule: &ClusterRule, side: &str) -> Value {
    let action = match rule.action {
        Action::Accept => "Accept",
        Action::Deny => "Deny",
        Action::Pass => "Pass",
    };
    let peers: Vec<_> = match rule.matches.peers.as_deref() {
        None | Some([]) => vec![json!({ "unknown": {} })],
        Some(peers) => peers.iter().map(cluster_peer).collect(),
    };
    let mut value = json!({ "action": action, side: peers });
    if let Some(list) = &rule.matches.ports {
        value["protocols"] = list.iter().map(cluster_port).collect();
    }
    value
}

fn cluster_peer(peer: &Peer) -> Value {
    match peer {
        Peer::Pods { namespaces, pods } => {
            json!({ "pods": namespaced_pods(&namespaces.clone().unwrap_or_default(), pods) })
        }
        Peer::IpBlock(IpBlock { cidr, .. }) => json!({ "networks": [cidr] }),
        Peer::Nodes(nodes) => json!({ "nodes": selector(nodes) }),
    }
}

fn namespaced_pods(namespaces: &Selector, pods: &Selector) -> Value {
    json!({ "namespaceSelector": selector(namespaces), "podSelector": selector(pods) })
}

fn cluster_port(port: &PolicyPort) -> Value {
    let in_protocol = |ports: Value| {
        let protocol = port.protocol.to_string().to_lowercase();
        json!({ protocol: { "destinationPort": ports } })
    };
    match &port.port {
        PortSpec::Named(name) => json!({ "destinationNamedPort": &**name }),
        PortSpec::Range(PortRange { first, last }) if first == last => {
            in_protocol(json!({ "number": first }))
        }
        PortSpec::Range(PortRange { first, last }) => {
            in_protocol(json!({ "range": { "start": first.max(&1), "end": last } }))
        }
    }
}

fn policy_port(port: &PolicyPort) -> Value {
    let mut value = json!({ "protocol": port.protocol.to_string() });
    match &port.port {
        PortSpec::Range(PortRange::ALL) => {}
        PortSpec::Named(name) => value["port"] = json!(&**name),
        PortSpec::Range(PortRange { first, last }) => {
            value["port"] = json!(first);
            if last != first {
                value["endPort"] = json!(last);
            }
        }
    }
    value
}

fn selector(selector: &Selector) -> Value {
    let expressions: Vec<_> = selector
        .requirements()
        .iter()
        .map(|requirement| {
            let (operator, values) = match &requirement.operator {
                Operator::In(values) => ("In", Some(values)),
                Operator::NotIn(values) => ("NotIn", Some(values)),
                Operator::Exists => ("Exists", None),
                Operator::DoesNotExist => ("DoesNotExist", None),
            };
            let values = values.map(|values| values.iter().map(|it| it.to_string()).collect::<Vec<_>>());
            json!({ "key": &*requirement.key, "operator": operator, "values": values })
        })
        .collect();
    if expressions.is_empty() { json!({}) } else { json!({ "matchExpressions": expressions }) }
}
