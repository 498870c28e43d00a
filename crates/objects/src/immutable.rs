//! What an update may not change, kind by kind.

use serde_json::Value;

use crate::FieldError;
use crate::kinds::{self, Kind};

/// Fields that keep the value they were created with.
fn fixed(kind: &Kind) -> &'static [&'static str] {
    match (kind.group, kind.kind) {
        ("apps", "Deployment" | "ReplicaSet" | "DaemonSet") => &["spec.selector"],
        ("batch", "Job") => &["spec.selector", "spec.template", "spec.completionMode"],
        ("discovery.k8s.io", "EndpointSlice") => &["addressType"],
        ("networking.k8s.io", "IngressClass") => &["spec.controller"],
        ("rbac.authorization.k8s.io", "RoleBinding" | "ClusterRoleBinding") => &["roleRef"],
        ("", "Secret") => &["type"],
        ("scheduling.k8s.io", _) => &["value", "preemptionPolicy"],
        ("storage.k8s.io", _) => &["provisioner", "parameters", "reclaimPolicy", "volumeBindingMode"],
        ("apps", "ControllerRevision") => &["data"],
        ("apiextensions.k8s.io", _) => {
            &["spec.group", "spec.scope", "spec.names.kind", "spec.names.plural"]
        }
        _ => &[],
    }
}

/// Why an object may not become another; empty where it may, and for kinds unknown here. Both are
/// defaulted.
pub fn changed(before: &Value, after: &Value) -> Vec<FieldError> {
    let Some(kind) = kinds::of(after) else { return vec![] };
    let mut causes: Vec<FieldError> = fixed(kind)
        .iter()
        .filter(|path| at(before, path) != at(after, path))
        .map(|path| {
            FieldError::new(*path, format!("Invalid value: {}: field is immutable", at(after, path)))
        })
        .collect();
    match (kind.group, kind.kind) {
        ("", "Pod") => causes.extend(pod(before, after)),
        ("", "Node") => causes.extend(node(before, after)),
        ("", "Service") => causes.extend(service(before, after)),
        ("apps", "StatefulSet") => causes.extend(stateful_set(before, after)),
        ("", "ConfigMap" | "Secret") if before["immutable"] == true => {
            for field in ["immutable", "data", "binaryData", "stringData"] {
                if before[field] != after[field] {
                    causes.push(forbidden(field, "field is immutable when `immutable` is set"));
                }
            }
        }
        _ => {}
    }
    causes
}

fn forbidden(field: &str, why: &str) -> FieldError {
    FieldError::new(field, format!("Forbidden: {why}"))
}

fn at<'a>(value: &'a Value, path: &str) -> &'a Value {
    path.split('.').fold(value, |v, step| &v[step])
}

/// Who balances stays who balances, while anybody does.
fn service(before: &Value, after: &Value) -> Vec<FieldError> {
    let is_balanced = |service: &Value| service["spec"]["type"] == "LoadBalancer";
    let is_local = |service: &Value| service["spec"]["externalTrafficPolicy"] == "Local";
    let both = is_balanced(before) && is_balanced(after);
    let checked = both && is_local(before) && is_local(after) && !after["spec"]["healthCheckNodePort"].is_null();
    let fixed = [("loadBalancerClass", both), ("healthCheckNodePort", checked)];
    let changed = fixed.into_iter().filter(|(field, fixed)| *fixed && before["spec"][field] != after["spec"][field]);
    let refused = |(field, _): (&str, bool)| {
        let why = format!("Invalid value: {}: may not change once set", after["spec"][field]);
        FieldError::new(format!("spec.{field}"), why)
    };
    changed.map(refused).collect()
}

/// Of a pod's spec only images, deadlines, grace and additional tolerations may change.
fn pod(before: &Value, after: &Value) -> Option<FieldError> {
    let wanted = |pod: &Value, images: &Value| {
        let mut spec = pod["spec"].clone();
        for list in ["containers", "initContainers"] {
            for (i, container) in spec[list].as_array_mut().into_iter().flatten().enumerate() {
                container["image"] = images["spec"][list][i]["image"].clone();
            }
        }
        for free in ["activeDeadlineSeconds", "terminationGracePeriodSeconds", "tolerations"] {
            if let Some(spec) = spec.as_object_mut() {
                spec.remove(free);
            }
        }
        spec
    };
    (wanted(before, before) != wanted(after, before)).then(|| {
        forbidden(
            "spec",
            "pod updates may not change fields other than `spec.containers[*].image`,`spec.initContainers[*].image`,\
             `spec.activeDeadlineSeconds`,`spec.tolerations` (only additions to existing tolerations),\
             `spec.terminationGracePeriodSeconds` (allow it to be set to 1 if it was previously negative)",
        )
    })
}

fn node(before: &Value, after: &Value) -> Option<FieldError> {
    let (old, new) = (&before["spec"]["podCIDR"], &after["spec"]["podCIDR"]);
    let assigned = old.as_str().is_some_and(|s| !s.is_empty());
    (assigned && old != new).then(|| {
        forbidden("spec.podCIDRs", "node updates may not change podCIDR except from \"\" to valid")
    })
}

fn stateful_set(before: &Value, after: &Value) -> Option<FieldError> {
    const FREE: [&str; 8] = [
        "replicas",
        "ordinals",
        "template",
        "updateStrategy",
        "revisionHistoryLimit",
        "persistentVolumeClaimRetentionPolicy",
        "minReadySeconds",
        "volumeClaimTemplates",
    ];
    let keys = [before, after].map(|v| v["spec"].as_object().into_iter().flatten().map(|(k, _)| k.as_str()));
    let changed =
        keys.into_iter().flatten().any(|k| !FREE.contains(&k) && before["spec"][k] != after["spec"][k]);
    let claims = claims(before) != claims(after);
    (changed || claims).then(|| {
        forbidden(
            "spec",
            "updates to statefulset spec for fields other than 'replicas', 'ordinals', 'template', 'updateStrategy', \
             'revisionHistoryLimit', 'persistentVolumeClaimRetentionPolicy' and 'minReadySeconds' are forbidden",
        )
    })
}

/// Claim templates as they were asked for: names and specs.
fn claims(set: &Value) -> Vec<(&Value, &Value)> {
    let all = set["spec"]["volumeClaimTemplates"].as_array().into_iter().flatten();
    all.map(|c| (&c["metadata"]["name"], &c["spec"])).collect()
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    /// The fields that may not change so, in an object of this kind.
    fn fields((api_version, kind): (&str, &str), before: Value, after: Value) -> Vec<String> {
        let of_kind = |mut value: Value| {
            value["apiVersion"] = api_version.into();
            value["kind"] = kind.into();
            value
        };
        changed(&of_kind(before), &of_kind(after)).into_iter().map(|c| c.field).collect()
    }

    #[test]
    fn selectors_and_types_stay() {
        const DEPLOYMENT: (&str, &str) = ("apps/v1", "Deployment");
        let deployment = |app: &str, replicas: u32| json!({"spec": {"selector": {"matchLabels": {"app": app}}, "replicas": replicas}});
        assert_eq!(fields(DEPLOYMENT, deployment("a", 1), deployment("b", 1)), ["spec.selector"]);
        assert!(fields(DEPLOYMENT, deployment("a", 1), deployment("a", 2)).is_empty());
        assert_eq!(fields(("v1", "Secret"), json!({"type": "a"}), json!({"type": "b"})), ["type"]);
        let frozen = json!({"immutable": true, "data": {"a": "1"}});
        assert_eq!(fields(("v1", "ConfigMap"), frozen, json!({"immutable": true})), ["data"]);
    }

    #[test]
    fn of_a_pod_the_image_may_change_and_the_node_may_not() {
        const POD: (&str, &str) = ("v1", "Pod");
        let pod = |image: &str, node: &str| json!({"spec": {"containers": [{"name": "a", "image": image}], "nodeName": node}});
        assert!(fields(POD, pod("a", "n"), pod("b", "n")).is_empty());
        assert_eq!(fields(POD, pod("a", "n"), pod("a", "m")), ["spec"]);
    }

    #[test]
    fn a_stateful_set_keeps_its_service_and_claims() {
        const SET: (&str, &str) = ("apps/v1", "StatefulSet");
        let set = |service: &str, size: &str| {
            json!({"spec": {"serviceName": service, "replicas": 1,
            "volumeClaimTemplates": [{"metadata": {"name": "data"}, "spec": {"size": size}}]}})
        };
        assert!(fields(SET, set("db", "1Gi"), set("db", "1Gi")).is_empty());
        assert_eq!(fields(SET, set("db", "1Gi"), set("dbs", "1Gi")), ["spec"]);
        assert_eq!(fields(SET, set("db", "1Gi"), set("db", "2Gi")), ["spec"]);
    }
}
