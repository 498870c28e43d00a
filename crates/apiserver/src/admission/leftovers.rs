//! Fields that only some types of Service have, when a Service changes its type.

use serde_json::Value;

use super::node_ports::{self, has_health_check};
use super::service::kind;

/// A Service that was given fields for its type, and becomes of a type without them, loses those that its
/// owner left as they were; what its owner has just written stays, and is refused later.
pub fn drop_leftovers(before: &Value, service: &mut Value) {
    let was_balanced = kind(before) == "LoadBalancer" && kind(service) != "LoadBalancer";
    let was_outside = is_outside(before) && !is_outside(service);
    let gone = [
        ("allocateLoadBalancerNodePorts", was_balanced),
        ("loadBalancerClass", was_balanced),
        ("loadBalancerSourceRanges", was_balanced),
        ("externalTrafficPolicy", was_outside),
        ("healthCheckNodePort", has_health_check(before) && !has_health_check(service)),
    ];
    node_ports::drop_leftovers(before, service);
    // This is before validation.
    let Some(spec) = service.get_mut("spec").and_then(Value::as_object_mut) else { return };
    for (field, _) in gone.into_iter().filter(|(_, gone)| *gone) {
        if spec.get(field) == before["spec"].get(field) {
            spec.remove(field);
        }
    }
}

/// Whether clients from outside reach a Service by itself.
fn is_outside(service: &Value) -> bool {
    let has_external_ips = service["spec"]["externalIPs"].as_array().is_some_and(|list| !list.is_empty());
    match kind(service) {
        "NodePort" | "LoadBalancer" => true,
        "ClusterIP" => has_external_ips,
        _ => false,
    }
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    #[test]
    fn a_former_load_balancer_keeps_only_what_was_written_anew() {
        let before = json!({"spec": {"type": "LoadBalancer", "loadBalancerClass": "a/b",
            "allocateLoadBalancerNodePorts": true, "externalTrafficPolicy": "Local"}});
        let mut after = before.clone();
        after["spec"]["type"] = "NodePort".into();
        after["spec"]["loadBalancerClass"] = "c/d".into();
        drop_leftovers(&before, &mut after);
        assert_eq!(after["spec"], json!({"type": "NodePort", "loadBalancerClass": "c/d", "externalTrafficPolicy": "Local"}));
        let mut inside = before.clone();
        inside["spec"]["type"] = "ClusterIP".into();
        drop_leftovers(&before, &mut inside);
        assert_eq!(inside["spec"], json!({"type": "ClusterIP"}));
    }
}
