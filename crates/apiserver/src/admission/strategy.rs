//! What each kind gets when it is created, and which half of it an update may touch.

use serde_json::{Map, Value, json};

use super::leftovers::drop_leftovers;
use crate::resources::Resource;

/// Resets what clients do not decide about a new object and fills in what the server decides.
pub fn prepare_create(resource: &Resource, value: &mut Value) {
    let kind = resource.kind;
    if resource.custom.is_some() {
        if kind.status && let Some(value) = value.as_object_mut() {
            value.remove("status");
        }
        return;
    }
    match (kind.group, kind.kind) {
        // A kubelet registers its node with its status.
        ("", "Node") => return,
        ("", "Pod") => {
            value["status"] = json!({"phase": "Pending", "qosClass": qos_class(value)});
            service_account(value);
        }
        ("", "Namespace") => {
            value["status"] = json!({"phase": "Active"});
            if let Some(spec) = object_at(value, "spec") {
                spec.insert("finalizers".into(), json!(["kubernetes"]));
            }
            label_with_name(value);
        }
        ("", "PersistentVolume" | "PersistentVolumeClaim") => value["status"] = json!({"phase": "Pending"}),
        ("", "Service") | ("networking.k8s.io", "Ingress") => value["status"] = json!({"loadBalancer": {}}),
        ("autoscaling", _) => value["status"] = json!({"desiredReplicas": 0, "currentMetrics": null}),
        ("policy", "PodDisruptionBudget") => {
            value["status"] =
                json!({"currentHealthy": 0, "desiredHealthy": 0, "disruptionsAllowed": 0, "expectedPods": 0});
        }
        ("apps", "ReplicaSet" | "StatefulSet") | ("", "ReplicationController") => {
            value["status"] = json!({"replicas": 0})
        }
        ("apps", "DaemonSet") => {
            value["status"] = json!({"currentNumberScheduled": 0, "desiredNumberScheduled": 0,
                "numberMisscheduled": 0, "numberReady": 0});
        }
        ("batch", "Job") => {
            value["status"] = json!({});
            job_labels(value);
        }
        _ if kind.status => value["status"] = json!({}),
        _ => {}
    }
}

/// An update of the object proper: the status stays as it was.
pub fn prepare_update(resource: &Resource, before: &Value, value: &mut Value) {
    if resource.kind.status {
        keep(value, before, "status");
    }
    if resource.kind.kind == "Service" && resource.custom.is_none() {
        drop_leftovers(before, value);
    }
    if resource.kind.kind == "Namespace" {
        keep(value, before, "spec");
        label_with_name(value);
    }
}

/// An update of the status: all else stays as it was, except labels and annotations.
pub fn prepare_status(before: &Value, value: &mut Value) {
    let fields: Vec<String> = value.as_object().into_iter().flatten().map(|(k, _)| k.clone()).collect();
    let old: Vec<String> = before.as_object().into_iter().flatten().map(|(k, _)| k.clone()).collect();
    for field in fields.into_iter().chain(old).filter(|f| f != "status" && f != "metadata") {
        keep(value, before, &field);
    }
    value["metadata"]["ownerReferences"] = before["metadata"]["ownerReferences"].clone();
    crate::meta::metadata(value).retain(|_, v| !v.is_null());
}

fn keep(value: &mut Value, before: &Value, field: &str) {
    let Some(map) = value.as_object_mut() else { return };
    match before.get(field) {
        Some(old) => map.insert(field.to_owned(), old.clone()),
        None => map.remove(field),
    };
}

/// A field that is an object, or can become one. What has another shape is left for validation to
/// refuse: this is before it.
fn object_at<'a>(value: &'a mut Value, field: &str) -> Option<&'a mut Map<String, Value>> {
    let found = value.as_object_mut()?.entry(field).or_insert_with(|| Value::Object(Map::new()));
    found.as_object_mut()
}

/// Every namespace can be selected by its name.
fn label_with_name(namespace: &mut Value) {
    let name = namespace["metadata"]["name"].clone();
    if let Some(labels) = object_at(&mut namespace["metadata"], "labels") {
        labels.insert("kubernetes.io/metadata.name".into(), name);
    }
}

/// A Job selects its pods by its UID, unless it says otherwise (`manualSelector`).
fn job_labels(job: &mut Value) {
    if job["spec"]["manualSelector"] == true {
        return;
    }
    let (uid, name) = (job["metadata"]["uid"].clone(), job["metadata"]["name"].clone());
    let Some(spec) = object_at(job, "spec") else { return };
    spec.insert("selector".into(), json!({"matchLabels": {"batch.kubernetes.io/controller-uid": uid}}));
    let Some(metadata) = spec.get_mut("template").and_then(|template| object_at(template, "metadata")) else {
        return;
    };
    let labels = metadata.entry("labels").or_insert_with(|| Value::Object(Map::new()));
    let Some(labels) = labels.as_object_mut() else { return };
    for (key, value) in [("controller-uid", &uid), ("job-name", &name)] {
        labels.insert(key.into(), value.clone());
        labels.insert(format!("batch.kubernetes.io/{key}"), value.clone());
    }
}

fn service_account(pod: &mut Value) {
    let Some(spec) = object_at(pod, "spec") else { return };
    let given = ["serviceAccountName", "serviceAccount"].into_iter().filter_map(|k| spec.get(k)?.as_str());
    let name = given.map(str::to_owned).find(|n| !n.is_empty()).unwrap_or_else(|| "default".to_owned());
    spec.insert("serviceAccountName".into(), name.as_str().into());
    spec.insert("serviceAccount".into(), name.into());
}

/// `status.qosClass`: Guaranteed where every container's limits of CPU and memory are set and equal
/// its requests, BestEffort where nobody says anything.
fn qos_class(pod: &Value) -> &'static str {
    let spec = &pod["spec"];
    let containers =
        ["containers", "initContainers"].map(|k| spec[k].as_array().map(Vec::as_slice).unwrap_or_default());
    let containers: Vec<&Value> = containers.into_iter().flatten().collect();
    let of = |c: &Value, which: &str| -> Map<String, Value> {
        let all = c["resources"][which].as_object().into_iter().flatten();
        all.filter(|(k, _)| matches!(k.as_str(), "cpu" | "memory"))
            .map(|(k, v)| (k.clone(), v.clone()))
            .collect()
    };
    if containers.iter().all(|c| of(c, "limits").is_empty() && of(c, "requests").is_empty()) {
        return "BestEffort";
    }
    let guaranteed = containers.iter().all(|c| {
        let (limits, requests) = (of(c, "limits"), of(c, "requests"));
        limits.len() == 2 && requests.iter().all(|(k, v)| limits.get(k) == Some(v))
    });
    if guaranteed { "Guaranteed" } else { "Burstable" }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn quality_of_service_follows_requests_and_limits() {
        let pod = |resources: Value| json!({"spec": {"containers": [{"resources": resources}]}});
        let both = json!({"cpu": "1", "memory": "1Gi"});
        assert_eq!(qos_class(&pod(json!({}))), "BestEffort");
        assert_eq!(qos_class(&pod(json!({"requests": {"cpu": "1"}}))), "Burstable");
        assert_eq!(qos_class(&pod(json!({"limits": both}))), "Guaranteed");
        assert_eq!(qos_class(&pod(json!({"limits": both, "requests": {"cpu": "500m"}}))), "Burstable");
    }

    #[test]
    fn a_status_update_touches_nothing_wanted() {
        let before = json!({"metadata": {"name": "x"}, "spec": {"a": 1}, "status": {}});
        let mut value = json!({"metadata": {"name": "x", "ownerReferences": [{}]}, "spec": {"a": 2}, "data": 1, "status": {"b": 1}});
        prepare_status(&before, &mut value);
        assert_eq!(value, json!({"metadata": {"name": "x"}, "spec": {"a": 1}, "status": {"b": 1}}));
    }
}
