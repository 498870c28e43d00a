//! The shapes of the kinds, from their generated types.

use k8s_openapi::api::{apps, autoscaling, batch, coordination, core, discovery, networking, policy, rbac};
use k8s_openapi::api::{events, scheduling, storage};
use k8s_openapi::apiextensions_apiserver::pkg::apis::apiextensions;
use k8s_openapi::schemars::{JsonSchema, Schema, SchemaGenerator};
use k8s_openapi::serde::{Serialize, de::DeserializeOwned};
use serde_json::Value;

use crate::kinds::{Handling, Kind};
use crate::value::typed;
use crate::{FieldError, api};

/// The newer version of Event, which client libraries write; the embedded API keeps it as core
/// Events.
pub static EVENT_VIEW: Kind = Kind {
    group: "events.k8s.io",
    version: "v1",
    kind: "Event",
    plural: "events",
    singular: "event",
    short_names: &["ev"],
    namespaced: true,
    status: false,
    scale: false,
    in_all: false,
    handling: Handling::Acts,
};

/// Fields of an object that its kind does not have, as paths; what strict field validation
/// refuses. A field that is `null` is not reported, for it says nothing, nor is `status`. Empty for kinds unknown here
/// and for objects that do not have their kind's shape (which [`crate::validate`] reports).
pub fn unknown_fields(object: &Value) -> Vec<String> {
    fit(object).unwrap_or_default()
}

/// Whether an object has its kind's shape, and which of its fields its kind does not have, as
/// [`unknown_fields`] names them.
///
/// # Errors
/// The first field whose value has another type than the kind's.
pub fn fit(object: &Value) -> Result<Vec<String>, FieldError> {
    let Some(known) = round_trip(object) else { return Ok(vec![]) };
    let mut found = vec![];
    missing(object, &known?, "", &mut found);
    // Written by the cluster and shown by it; some kinds had one once (NetworkPolicy).
    found.retain(|field| field != "status");
    Ok(found)
}

/// What is wrong with an object's shape, if anything.
pub(crate) fn misfit(object: &Value) -> Option<FieldError> {
    round_trip(object)?.err()
}

/// The keys of `given` that `known` lacks, at any depth.
fn missing(given: &Value, known: &Value, path: &str, found: &mut Vec<String>) {
    match (given, known) {
        (Value::Object(given), Value::Object(known)) => {
            for (key, value) in given {
                let at = if path.is_empty() { key.clone() } else { format!("{path}.{key}") };
                match known.get(key) {
                    Some(known) => missing(value, known, &at, found),
                    None if value.is_null() => {}
                    None => found.push(at),
                }
            }
        }
        (Value::Array(given), Value::Array(known)) => {
            for (i, (given, known)) in given.iter().zip(known).enumerate() {
                missing(given, known, &format!("{path}[{i}]"), found);
            }
        }
        _ => {}
    }
}

/// An object read as its kind's type and written again; `None` for kinds unknown here.
fn round_trip(object: &Value) -> Option<Result<Value, FieldError>> {
    Some((of(crate::kinds::of(object)?)?.through)(object))
}

/// What a generated type can do for its kind.
pub(crate) struct Shape {
    /// Reads an object as the type and writes it again.
    through: fn(&Value) -> Result<Value, FieldError>,
    /// Describes the type.
    pub(crate) schema: fn(&mut SchemaGenerator) -> Schema,
}

const fn shape<T: Serialize + DeserializeOwned + JsonSchema>() -> Shape {
    Shape { through: through::<T>, schema: SchemaGenerator::subschema_for::<T> }
}

/// The type behind a kind; `None` for kinds that have none here.
pub(crate) fn of(kind: &Kind) -> Option<Shape> {
    Some(match (kind.group, kind.version, kind.kind) {
        ("", "v1", "Namespace") => shape::<core::v1::Namespace>(),
        ("", "v1", "Node") => shape::<core::v1::Node>(),
        ("", "v1", "Pod") => shape::<core::v1::Pod>(),
        ("", "v1", "Service") => shape::<core::v1::Service>(),
        ("", "v1", "Event") => shape::<core::v1::Event>(),
        ("", "v1", "ConfigMap") => shape::<core::v1::ConfigMap>(),
        ("", "v1", "Endpoints") => shape::<core::v1::Endpoints>(),
        ("", "v1", "LimitRange") => shape::<core::v1::LimitRange>(),
        ("", "v1", "PersistentVolume") => shape::<core::v1::PersistentVolume>(),
        ("", "v1", "PersistentVolumeClaim") => shape::<core::v1::PersistentVolumeClaim>(),
        ("", "v1", "ReplicationController") => shape::<core::v1::ReplicationController>(),
        ("", "v1", "ResourceQuota") => shape::<core::v1::ResourceQuota>(),
        ("", "v1", "Secret") => shape::<core::v1::Secret>(),
        ("", "v1", "ServiceAccount") => shape::<core::v1::ServiceAccount>(),
        ("apps", "v1", "Deployment") => shape::<apps::v1::Deployment>(),
        ("apps", "v1", "ReplicaSet") => shape::<apps::v1::ReplicaSet>(),
        ("apps", "v1", "StatefulSet") => shape::<apps::v1::StatefulSet>(),
        ("apps", "v1", "DaemonSet") => shape::<apps::v1::DaemonSet>(),
        ("apps", "v1", "ControllerRevision") => shape::<apps::v1::ControllerRevision>(),
        ("batch", "v1", "Job") => shape::<batch::v1::Job>(),
        ("batch", "v1", "CronJob") => shape::<batch::v1::CronJob>(),
        ("networking.k8s.io", "v1", "NetworkPolicy") => shape::<networking::v1::NetworkPolicy>(),
        ("networking.k8s.io", "v1", "Ingress") => shape::<networking::v1::Ingress>(),
        ("networking.k8s.io", "v1", "IngressClass") => shape::<networking::v1::IngressClass>(),
        ("discovery.k8s.io", "v1", "EndpointSlice") => shape::<discovery::v1::EndpointSlice>(),
        ("policy", "v1", "PodDisruptionBudget") => shape::<policy::v1::PodDisruptionBudget>(),
        ("autoscaling", "v1", _) => shape::<autoscaling::v1::HorizontalPodAutoscaler>(),
        ("autoscaling", "v2", _) => shape::<autoscaling::v2::HorizontalPodAutoscaler>(),
        ("rbac.authorization.k8s.io", "v1", "Role") => shape::<rbac::v1::Role>(),
        ("rbac.authorization.k8s.io", "v1", "RoleBinding") => shape::<rbac::v1::RoleBinding>(),
        ("rbac.authorization.k8s.io", "v1", "ClusterRole") => shape::<rbac::v1::ClusterRole>(),
        ("rbac.authorization.k8s.io", "v1", "ClusterRoleBinding") => shape::<rbac::v1::ClusterRoleBinding>(),
        ("coordination.k8s.io", "v1", "Lease") => shape::<coordination::v1::Lease>(),
        ("scheduling.k8s.io", "v1", "PriorityClass") => shape::<scheduling::v1::PriorityClass>(),
        ("storage.k8s.io", "v1", "StorageClass") => shape::<storage::v1::StorageClass>(),
        ("apiextensions.k8s.io", "v1", "CustomResourceDefinition") => {
            shape::<apiextensions::v1::CustomResourceDefinition>()
        }
        ("policy.networking.k8s.io", "v1alpha2", "ClusterNetworkPolicy") => shape::<api::ClusterNetworkPolicy>(),
        ("events.k8s.io", "v1", "Event") => shape::<events::v1::Event>(),
        _ => return None,
    })
}

fn through<T: Serialize + DeserializeOwned>(object: &Value) -> Result<Value, FieldError> {
    let typed: T = typed(object)?;
    serde_json::to_value(&typed).map_err(|e| FieldError::new("", e.to_string()))
}

#[cfg(test)]
mod tests {
    use super::*;
    use serde_json::json;

    #[test]
    fn every_kind_has_a_shape() {
        for kind in crate::kinds::KINDS {
            let object =
                json!({"apiVersion": kind.api_version(), "kind": kind.kind, "metadata": {"name": "x"}});
            assert!(round_trip(&object).is_some(), "{kind:?}");
        }
    }

    #[test]
    fn unknown_fields_are_named_by_path() {
        let object = json!({
            "apiVersion": "apps/v1", "kind": "Deployment", "metadata": {"name": "x", "labls": {}},
            "spec": {"template": {"spec": {"containers": [{"name": "a"}, {"name": "b", "prots": []}]}},
                     "minReadySeconds": null, "strategy": null},
        });
        assert_eq!(unknown_fields(&object), ["metadata.labls", "spec.template.spec.containers[1].prots"]);
    }
}
