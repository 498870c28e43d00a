//! AdminNetworkPolicy and BaselineAdminNetworkPolicy (`v1alpha1`) as ClusterNetworkPolicy
//! (`v1alpha2`), which came in their place: the tier is a field, Allow is called Accept, and ports
//! are told by protocol.

use serde_json::{Map, Value, json};

/// The object in the newer API; others as they are.
pub fn as_cluster_policy(object: Value) -> Value {
    let tier = match object["kind"].as_str() {
        Some("AdminNetworkPolicy") => "Admin",
        Some("BaselineAdminNetworkPolicy") => "Baseline",
        _ => return object,
    };
    let spec = &object["spec"];
    // Both kinds may have an object of one name.
    let name = format!("{}-{}", tier.to_lowercase(), object["metadata"]["name"].as_str().unwrap_or_default());
    json!({
        "apiVersion": "policy.networking.k8s.io/v1alpha2",
        "kind": "ClusterNetworkPolicy",
        "metadata": {"name": name},
        "spec": {
            "tier": tier,
            "priority": spec.get("priority").cloned().unwrap_or(0.into()),
            "subject": selecting(&spec["subject"]),
            "ingress": rules(&spec["ingress"], "from"),
            "egress": rules(&spec["egress"], "to"),
        },
    })
}

fn rules(rules: &Value, side: &str) -> Value {
    rules.as_array().into_iter().flatten().map(|it| rule(it, side)).collect()
}

fn rule(rule: &Value, side: &str) -> Value {
    let action = match rule["action"].as_str() {
        Some("Allow") => "Accept",
        other => other.unwrap_or_default(),
    };
    let mut new = Map::from_iter([
        ("name".to_owned(), rule["name"].clone()),
        ("action".to_owned(), action.into()),
        (side.to_owned(), rule[side].as_array().into_iter().flatten().map(selecting).collect()),
    ]);
    if let Some(ports) = rule["ports"].as_array() {
        new.insert("protocols".to_owned(), ports.iter().map(port).collect());
    }
    new.into()
}

/// A subject or peer. In the older API's types a selector of pods that is left out selects all; the newer one
/// wants it to be written.
fn selecting(whom: &Value) -> Value {
    let mut whom = whom.clone();
    if let Some(pods) = whom.get_mut("pods").and_then(Value::as_object_mut) {
        let selector = pods.entry("podSelector").or_insert(Value::Null);
        if selector.is_null() {
            *selector = json!({});
        }
    }
    whom
}

fn port(port: &Value) -> Value {
    let in_protocol = |of: &Value, ports: Value| {
        let protocol = of["protocol"].as_str().unwrap_or("TCP").to_lowercase();
        json!({protocol: {"destinationPort": ports}})
    };
    match (&port["portNumber"], &port["portRange"], &port["namedPort"]) {
        (number @ Value::Object(_), _, _) => in_protocol(number, json!({"number": number["port"]})),
        (_, range @ Value::Object(_), _) => {
            in_protocol(range, json!({"range": {"start": range["start"], "end": range["end"]}}))
        }
        (_, _, name) => json!({"destinationNamedPort": name}),
    }
}
