use std::sync::Arc;

use bytes::Bytes;
use kilter_model::{Labels, NamespacedName, Uid};
use serde_json::Value;

use crate::resources::Resource;

/// One state of one object: its bytes as they are sent, and what selectors and the garbage
/// collector ask for, so that neither parses.
#[derive(Debug)]
pub struct Object {
    /// Namespace (empty for cluster-scoped kinds) and name.
    pub key: NamespacedName,
    /// `metadata.uid`.
    pub uid: Uid,
    /// `metadata.resourceVersion`.
    pub revision: u64,
    /// The object as JSON.
    pub json: Bytes,
    /// `metadata.labels`.
    pub labels: Labels,
    /// Whether `metadata.deletionTimestamp` is set.
    pub deleting: bool,
    /// UIDs in `metadata.ownerReferences`.
    pub(crate) owners: Box<[Uid]>,
    /// Values of the resource's selectable fields, in its order; empty where absent.
    pub(crate) fields: Box<[Arc<str>]>,
}

impl Object {
    /// Takes a state in, under a revision of its own.
    pub(crate) fn new(resource: &Resource, mut value: Value, revision: u64) -> Self {
        value["metadata"]["resourceVersion"] = revision.to_string().into();
        Self::index(resource, &value, revision)
    }

    /// A state that is not stored: the answer to a dry run.
    pub(crate) fn unsaved(resource: &Resource, value: Value) -> Self {
        Self::index(resource, &value, 0)
    }

    fn index(resource: &Resource, value: &Value, revision: u64) -> Self {
        let metadata = &value["metadata"];
        let text = |key: &str| metadata[key].as_str().unwrap_or_default();
        let labels = metadata["labels"].as_object().into_iter().flatten();
        let owners = metadata["ownerReferences"].as_array().into_iter().flatten();
        Self {
            key: NamespacedName::new(text("namespace"), text("name")),
            uid: text("uid").into(),
            revision,
            labels: labels.map(|(k, v)| (k.as_str().into(), v.as_str().unwrap_or_default().into())).collect(),
            deleting: metadata["deletionTimestamp"].is_string(),
            owners: owners.filter_map(|o| o["uid"].as_str()).map(Uid::from).collect(),
            fields: resource.fields.iter().map(|path| field(value, path)).collect(),
            json: serde_json::to_vec(value).expect("a JSON value is always writable").into(),
        }
    }

    /// The object, parsed.
    pub fn value(&self) -> Value {
        serde_json::from_slice(&self.json).expect("the store keeps only JSON it has written")
    }
}

/// A field's value as field selectors compare it. Booleans are `true` and `false`, as in Kubernetes.
fn field(value: &Value, path: &str) -> Arc<str> {
    let mut found = value;
    for step in path.split('.') {
        found = &found[step];
    }
    match found {
        Value::String(s) => s.as_str().into(),
        Value::Null if path == "spec.unschedulable" || path == "spec.hostNetwork" => "false".into(),
        Value::Null if path == "status.replicas" || path == "status.successful" => "0".into(),
        Value::Null => "".into(),
        other => other.to_string().into(),
    }
}
