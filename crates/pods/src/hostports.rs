//! Ports of the node that pods claim. Pure.

use std::net::IpAddr;

use k8s_openapi::api::core::v1::Pod;
use kilter_model::Protocol;
use kube::ResourceExt;

/// A port of the node that a container wants to itself.
#[derive(Debug, Clone, PartialEq, Eq)]
struct Claim {
    protocol: Protocol,
    number: i32,
    /// On all of the node's addresses without one.
    address: Option<IpAddr>,
    container: String,
}

/// What two pods of one node both claim, one sentence each, from the first one's side.
pub fn conflicts(pod: &Pod, other: &Pod) -> Vec<String> {
    let (own, theirs) = (claims(pod), claims(other));
    let name = format!("{}/{}", other.namespace().unwrap_or_default(), other.name_any());
    let clash = |claim: &Claim| {
        let taken = theirs.iter().find(|taken| overlap(claim, taken))?;
        Some(format!(
            "port {}/{} of the node is claimed by container {:?} of this pod and by container {:?} of pod {name}: \
             only one of them can have it; give one another hostPort, or keep them on different nodes (podAntiAffinity)",
            claim.number, claim.protocol, claim.container, taken.container
        ))
    };
    own.iter().filter_map(clash).collect()
}

fn overlap(a: &Claim, b: &Claim) -> bool {
    let addresses = match (a.address, b.address) {
        (Some(a), Some(b)) => a == b,
        _ => true,
    };
    (a.protocol, a.number) == (b.protocol, b.number) && addresses
}

/// A `hostPort`; on the node's network, every container port.
fn claims(pod: &Pod) -> Vec<Claim> {
    let Some(spec) = &pod.spec else { return Vec::new() };
    let host_network = spec.host_network == Some(true);
    let sidecars = spec.init_containers.iter().flatten();
    let containers =
        sidecars.filter(|it| it.restart_policy.as_deref() == Some("Always")).chain(&spec.containers);
    let mut claims = Vec::new();
    for container in containers {
        for port in container.ports.iter().flatten() {
            let number = port.host_port.filter(|port| *port != 0);
            let Some(number) = number.or(host_network.then_some(port.container_port)) else { continue };
            claims.push(Claim {
                protocol: port.protocol.as_deref().and_then(|it| it.parse().ok()).unwrap_or(Protocol::Tcp),
                number,
                address: port.host_ip.as_deref().and_then(|ip| ip.parse().ok()).filter(|ip: &IpAddr| !ip.is_unspecified()),
                container: container.name.clone(),
            });
        }
    }
    claims
}

#[cfg(test)]
mod tests {
    use super::*;
    use serde_json::{Value, json};

    fn pod(host_network: bool, ports: Value) -> Pod {
        serde_json::from_value(json!({"metadata": {"name": "b", "namespace": "shop"},
            "spec": {"hostNetwork": host_network, "containers": [{"name": "c", "ports": ports}]}}))
        .unwrap()
    }

    #[test]
    fn a_port_of_the_node_belongs_to_one_pod() {
        let table = [
            (false, json!([{"containerPort": 80, "hostPort": 8080}]), true),
            (false, json!([{"containerPort": 8080}]), false),
            (false, json!([{"containerPort": 80, "hostPort": 8080, "protocol": "UDP"}]), false),
            (false, json!([{"containerPort": 80, "hostPort": 8080, "hostIP": "192.0.2.1"}]), true),
            (true, json!([{"containerPort": 8080}]), true),
            (true, json!([{"containerPort": 80}]), false),
        ];
        let first = pod(false, json!([{"containerPort": 8080, "hostPort": 8080}]));
        for (host_network, ports, expected) in table {
            let found = conflicts(&first, &pod(host_network, ports.clone()));
            assert_eq!(!found.is_empty(), expected, "{ports} {found:?}");
        }
        let elsewhere = pod(false, json!([{"containerPort": 1, "hostPort": 8080, "hostIP": "192.0.2.2"}]));
        let here = pod(false, json!([{"containerPort": 1, "hostPort": 8080, "hostIP": "192.0.2.1"}]));
        assert!(conflicts(&here, &elsewhere).is_empty());
        assert!(conflicts(&first, &first)[0].contains("of this pod and by container \"c\" of pod shop/b"));
    }
}
