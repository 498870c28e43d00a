//! The shapes of the kinds, from their generated types.

use k8s_openapi::api::{apps, autoscaling, batch, coordination, core, discovery, networking, policy, rbac};
use k8s_openapi::api::{scheduling, storage};
use k8s_openapi::serde::{Serialize, de::DeserializeOwned};
use serde_json::Value;

use crate::FieldError;
use crate::value::typed;

/// Fields of an object that its kind does not have, as paths; what strict field validation
/// refuses. A field that is `null` is not reported, for it says nothing, nor is `status`. Empty for kinds unknown here
/// and for objects that do not have their kind's shape (which [`crate::validate`] reports).
pub fn unknown_fields(object: &Value) -> Vec<String> {
    let Some(Ok(known)) = round_trip(object) else { return vec![] };
    let mut found = vec![];
    missing(object, &known, "", &mut found);
    // Written by the cluster and shown by it; some kinds had one once (NetworkPolicy).
    found.retain(|field| field != "status");
    found
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
    let kind = crate::kinds::of(object)?;
    let through = match (kind.group, kind.version, kind.kind) {
        ("", "v1", "Namespace") => through::<core::v1::Namespace>,
        ("", "v1", "Node") => through::<core::v1::Node>,
        ("", "v1", "Pod") => through::<core::v1::Pod>,
        ("", "v1", "Service") => through::<core::v1::Service>,
        ("", "v1", "Event") => through::<core::v1::Event>,
        ("", "v1", "ConfigMap") => through::<core::v1::ConfigMap>,
        ("", "v1", "Endpoints") => through::<core::v1::Endpoints>,
        ("", "v1", "LimitRange") => through::<core::v1::LimitRange>,
        ("", "v1", "PersistentVolume") => through::<core::v1::PersistentVolume>,
        ("", "v1", "PersistentVolumeClaim") => through::<core::v1::PersistentVolumeClaim>,
        ("", "v1", "ReplicationController") => through::<core::v1::ReplicationController>,
        ("", "v1", "ResourceQuota") => through::<core::v1::ResourceQuota>,
        ("", "v1", "Secret") => through::<core::v1::Secret>,
        ("", "v1", "ServiceAccount") => through::<core::v1::ServiceAccount>,
        ("apps", "v1", "Deployment") => through::<apps::v1::Deployment>,
        ("apps", "v1", "ReplicaSet") => through::<apps::v1::ReplicaSet>,
        ("apps", "v1", "StatefulSet") => through::<apps::v1::StatefulSet>,
        ("apps", "v1", "DaemonSet") => through::<apps::v1::DaemonSet>,
        ("apps", "v1", "ControllerRevision") => through::<apps::v1::ControllerRevision>,
        ("batch", "v1", "Job") => through::<batch::v1::Job>,
        ("batch", "v1", "CronJob") => through::<batch::v1::CronJob>,
        ("networking.k8s.io", "v1", "NetworkPolicy") => through::<networking::v1::NetworkPolicy>,
        ("networking.k8s.io", "v1", "Ingress") => through::<networking::v1::Ingress>,
        ("networking.k8s.io", "v1", "IngressClass") => through::<networking::v1::IngressClass>,
        ("discovery.k8s.io", "v1", "EndpointSlice") => through::<discovery::v1::EndpointSlice>,
        ("policy", "v1", "PodDisruptionBudget") => through::<policy::v1::PodDisruptionBudget>,
        ("autoscaling", "v1", _) => through::<autoscaling::v1::HorizontalPodAutoscaler>,
        ("autoscaling", "v2", _) => through::<autoscaling::v2::HorizontalPodAutoscaler>,
        ("rbac.authorization.k8s.io", "v1", "Role") => through::<rbac::v1::Role>,
        ("rbac.authorization.k8s.io", "v1", "RoleBinding") => through::<rbac::v1::RoleBinding>,
        ("rbac.authorization.k8s.io", "v1", "ClusterRole") => through::<rbac::v1::ClusterRole>,
        ("rbac.authorization.k8s.io", "v1", "ClusterRoleBinding") => through::<rbac::v1::ClusterRoleBinding>,
        ("coordination.k8s.io", "v1", "Lease") => through::<coordination::v1::Lease>,
        ("scheduling.k8s.io", "v1", "PriorityClass") => through::<scheduling::v1::PriorityClass>,
        ("storage.k8s.io", "v1", "StorageClass") => through::<storage::v1::StorageClass>,
        _ => return None,
    };
    Some(through(object))
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
