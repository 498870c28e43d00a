//! The schema of ClusterNetworkPolicy, as its CustomResourceDefinition has it.

use std::borrow::Cow;

use k8s_openapi::apimachinery::pkg::apis::meta::v1::{LabelSelector, ObjectMeta};
use k8s_openapi::schemars::{JsonSchema, Schema, SchemaGenerator};
use serde_json::{Value, json};

use super::ClusterNetworkPolicy;

impl JsonSchema for ClusterNetworkPolicy {
    fn schema_name() -> Cow<'static, str> {
        "io.k8s.networking.policy.v1alpha2.ClusterNetworkPolicy".into()
    }

    fn json_schema(generator: &mut SchemaGenerator) -> Schema {
        let metadata = generator.subschema_for::<ObjectMeta>().to_value();
        let selector = generator.subschema_for::<LabelSelector>().to_value();
        let schema = json!({
            "description": "A network policy of the whole cluster.",
            "type": "object",
            "properties": {
                "apiVersion": text("The version of this schema."),
                "kind": text("ClusterNetworkPolicy."),
                "metadata": metadata,
                "spec": spec(&selector),
                "status": {"description": "What implementations report.", "type": "object"},
            },
            "required": ["metadata", "spec"],
        });
        Schema::try_from(schema).unwrap_or_default()
    }
}

fn text(description: &str) -> Value {
    json!({"description": description, "type": "string"})
}

fn number(description: &str, least: u32, most: u32) -> Value {
    json!({"description": description, "type": "integer", "format": "int32", "minimum": least, "maximum": most})
}

fn described(schema: &Value, description: &str) -> Value {
    json!({"description": description, "allOf": [schema]})
}

fn spec(selector: &Value) -> Value {
    let mut tier = text("When the policy is asked: Admin before NetworkPolicy, Baseline after it.");
    tier["enum"] = json!(["Admin", "Baseline"]);
    json!({
        "description": "What the policy says.",
        "type": "object",
        "properties": {
            "tier": tier,
            "priority": number("The place in the tier; the lowest is asked first.", 0, 1000),
            "subject": {
                "description": "The pods that the policy is about: exactly one of these.",
                "type": "object",
                "properties": {
                    "namespaces": described(selector, "All pods of these namespaces."),
                    "pods": pods(selector),
                },
            },
            "ingress": rules(selector, "from", &[]),
            "egress": rules(selector, "to", &["nodes", "networks", "domainNames"]),
        },
        "required": ["tier", "priority", "subject"],
    })
}

fn pods(selector: &Value) -> Value {
    json!({
        "description": "Pods with these labels, in namespaces with these labels.",
        "type": "object",
        "properties": {
            "namespaceSelector": described(selector, "Of the namespaces; the empty one selects all."),
            "podSelector": described(selector, "Of the pods; the empty one selects all."),
        },
        "required": ["podSelector"],
    })
}

/// Rules of one direction; `more` are peers that only this direction has.
fn rules(selector: &Value, side: &str, more: &[&str]) -> Value {
    let mut action = text("What the rule does with what it matches; Pass leaves it to the next tier.");
    action["enum"] = json!(["Accept", "Deny", "Pass"]);
    let mut peer = json!({
        "type": "object",
        "properties": {
            "namespaces": described(selector, "All pods of these namespaces."),
            "pods": pods(selector),
        },
    });
    for field in more {
        peer["properties"][field] = match *field {
            "nodes" => described(selector, "The addresses of these nodes."),
            "networks" => set("CIDR blocks; they match pods, too."),
            _ => set("Domain names, for Accept only; not enforced yet."),
        };
    }
    json!({
        "description": "Rules; the first that matches decides.",
        "type": "array",
        "maxItems": 25,
        "items": {
            "type": "object",
            "properties": {
                "name": text("What answers call the rule."),
                "action": action,
                side: {"description": "The other ends, any of them.", "type": "array", "minItems": 1, "maxItems": 25, "items": peer},
                "protocols": protocols(),
            },
            "required": ["action", side],
        },
    })
}

fn set(description: &str) -> Value {
    json!({
        "description": description, "type": "array", "minItems": 1, "maxItems": 25,
        "items": {"type": "string"}, "x-kubernetes-list-type": "set",
    })
}

fn protocols() -> Value {
    let port = json!({
        "description": "One port or a range.",
        "type": "object",
        "properties": {
            "number": number("The port.", 1, 65535),
            "range": {
                "description": "From start to end, both included.",
                "type": "object",
                "properties": {"start": number("The first port.", 1, 65535), "end": number("The last port.", 1, 65535)},
                "required": ["start", "end"],
            },
        },
    });
    let ports = json!({
        "description": "Ports of this protocol.",
        "type": "object",
        "properties": {"destinationPort": port},
    });
    json!({
        "description": "Protocols and ports, any of them; none means everything.",
        "type": "array",
        "minItems": 1,
        "maxItems": 25,
        "items": {
            "type": "object",
            "properties": {
                "tcp": ports, "udp": ports, "sctp": ports,
                "destinationNamedPort": text("A named port of the destination pod."),
            },
        },
    })
}
