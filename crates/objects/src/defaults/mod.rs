//! The defaults that the Kubernetes API server would fill in (the `SetDefaults_*` rules of each
//! kind), for objects as JSON.

mod pod;
mod quantities;
mod service;
mod workload;

use serde_json::{Map, Value, json};

use crate::kinds;

type Fields = Map<String, Value>;

/// Fills in what the API server would, for the kinds that matter to the network; other kinds are
/// left as they are. Fields that are `null` count as absent and go. Idempotent.
///
/// Left to whoever stores the object: what needs state (cluster IPs, node ports, UIDs, times).
pub fn default(object: &mut Value) {
    let Some(kind) = kinds::of(object) else { return };
    if let ("", "Service" | "ReplicationController") = (kind.group, kind.kind)
        && let Some(selector) = object.pointer_mut("/spec/selector")
    {
        empty_for_null(selector);
    }
    drop_nulls(object);
    let Some(fields) = object.as_object_mut() else { return };
    match (kind.group, kind.kind) {
        ("", "Pod") => {
            if let Some(spec) = child(fields, "spec") {
                set(spec, "enableServiceLinks", true);
                pod::requests_from_limits(spec);
                pod::spec(spec);
            }
        }
        ("", "Namespace") => namespace(fields),
        ("", "Service") => service::service(fields),
        ("", "Secret") => set(fields, "type", "Opaque"),
        ("", "ReplicationController") => workload::replication_controller(fields),
        ("apps", "Deployment") => workload::deployment(fields),
        ("apps", "ReplicaSet") => workload::replica_set(fields),
        ("apps", "StatefulSet") => workload::stateful_set(fields),
        ("apps", "DaemonSet") => workload::daemon_set(fields),
        ("batch", "Job") => workload::job(fields),
        ("batch", "CronJob") => workload::cron_job(fields),
        ("networking.k8s.io", "NetworkPolicy") => network_policy(fields),
        ("discovery.k8s.io", "EndpointSlice") => {
            for port in children(fields, "ports") {
                set(port, "name", "");
                set(port, "protocol", "TCP");
            }
        }
        ("apiextensions.k8s.io", _) => definition(fields),
        (_, name) => quantities::stored(name, fields),
    }
}

/// The label by which policies select a namespace by name (the API server's own default).
fn namespace(fields: &mut Fields) {
    let Some(name) = fields.get("metadata").and_then(|m| m.get("name")).and_then(Value::as_str) else {
        return;
    };
    let name = name.to_owned();
    let Some(metadata) = child(fields, "metadata") else { return };
    if let Some(labels) = made(metadata, "labels") {
        labels.insert("kubernetes.io/metadata.name".into(), name.into());
    }
}

/// The names that follow from others, and the conversion that is none.
fn definition(fields: &mut Fields) {
    let Some(spec) = child(fields, "spec") else { return };
    set(spec, "conversion", json!({"strategy": "None"}));
    let Some(names) = child(spec, "names") else { return };
    let kind = text(names, "kind").to_owned();
    if !kind.is_empty() {
        set(names, "singular", kind.to_lowercase());
        set(names, "listKind", format!("{kind}List"));
    }
}

/// Without `policyTypes`: ingress always, egress only if there are egress rules.
fn network_policy(fields: &mut Fields) {
    let Some(spec) = made(fields, "spec") else { return };
    for side in ["ingress", "egress"] {
        for rule in children(spec, side) {
            for port in children(rule, "ports") {
                set(port, "protocol", "TCP");
            }
        }
    }
    // What is no list is left for validation to refuse.
    let absent = match spec.get("policyTypes") {
        None => true,
        Some(types) => types.as_array().is_some_and(Vec::is_empty),
    };
    if absent {
        let egress = spec.get("egress").and_then(Value::as_array).is_some_and(|rules| !rules.is_empty());
        spec.insert(
            "policyTypes".into(),
            if egress { json!(["Ingress", "Egress"]) } else { json!(["Ingress"]) },
        );
    }
    set(spec, "podSelector", json!({}));
}

/// Fields whose keys are anybody's and whose values are texts.
const TEXTS: [&str; 4] = ["annotations", "labels", "matchLabels", "nodeSelector"];

/// The API reads `null` among texts as the empty one. Were it dropped, a selector would match more.
fn empty_for_null(texts: &mut Value) {
    for text in texts.as_object_mut().into_iter().flat_map(Map::values_mut).filter(|it| it.is_null()) {
        *text = "".into();
    }
}

fn drop_nulls(value: &mut Value) {
    match value {
        Value::Object(fields) => {
            fields
                .iter_mut()
                .filter(|(key, _)| TEXTS.contains(&key.as_str()))
                .for_each(|(_, it)| empty_for_null(it));
            fields.retain(|_, v| !v.is_null());
            fields.values_mut().for_each(drop_nulls);
        }
        Value::Array(items) => items.iter_mut().for_each(drop_nulls),
        _ => {}
    }
}

/// Sets a field that is absent.
fn set(fields: &mut Fields, key: &str, value: impl Into<Value>) {
    if !fields.contains_key(key) {
        fields.insert(key.to_owned(), value.into());
    }
}

/// A field that is an object.
fn child<'a>(fields: &'a mut Fields, key: &str) -> Option<&'a mut Fields> {
    fields.get_mut(key)?.as_object_mut()
}

/// A field that is an object, made when absent; `None` when it is something else.
fn made<'a>(fields: &'a mut Fields, key: &str) -> Option<&'a mut Fields> {
    set(fields, key, json!({}));
    child(fields, key)
}

/// The objects in a field that is a list.
fn children<'a>(fields: &'a mut Fields, key: &str) -> impl Iterator<Item = &'a mut Fields> {
    fields.get_mut(key).and_then(Value::as_array_mut).into_iter().flatten().filter_map(Value::as_object_mut)
}

fn text<'a>(fields: &'a Fields, key: &str) -> &'a str {
    fields.get(key).and_then(Value::as_str).unwrap_or_default()
}
