//! Workloads to the pods they make, for static analysis.

use k8s_openapi::api::core::v1 as core;
use k8s_openapi::apimachinery::pkg::apis::meta::v1::ObjectMeta;
use kilter_model::{NamespacedName, Origin, Pod, PodPhase};
use serde_json::Value;

use crate::Error;
use crate::convert::{self, static_uid};
use crate::value::{kind, typed_object};

/// Where each kind of workload keeps its pod template.
const TEMPLATES: &[(&str, &str, &str)] = &[
    ("apps/v1", "Deployment", "/spec/template"),
    ("apps/v1", "ReplicaSet", "/spec/template"),
    ("apps/v1", "StatefulSet", "/spec/template"),
    ("apps/v1", "DaemonSet", "/spec/template"),
    ("batch/v1", "Job", "/spec/template"),
    ("batch/v1", "CronJob", "/spec/jobTemplate/spec/template"),
    ("v1", "ReplicationController", "/spec/template"),
];

/// The JSON pointer of the pod template in objects of this kind; `None` for kinds without one.
/// A Pod is its own template: the empty pointer.
pub fn pod_template_pointer(api_version: &str, kind: &str) -> Option<&'static str> {
    if (api_version, kind) == ("v1", "Pod") {
        return Some("");
    }
    TEMPLATES.iter().find(|(a, k, _)| (*a, *k) == (api_version, kind)).map(|(_, _, pointer)| *pointer)
}

/// The pod template (`metadata` and `spec`) of a workload object; a Pod is its own.
pub fn pod_template(object: &Value) -> Option<&Value> {
    object.pointer(pointer_of(object)?)
}

/// As [`pod_template`], to change it.
pub fn pod_template_mut(object: &mut Value) -> Option<&mut Value> {
    let pointer = pointer_of(object)?;
    object.pointer_mut(pointer)
}

fn pointer_of(object: &Value) -> Option<&'static str> {
    pod_template_pointer(object.get("apiVersion")?.as_str()?, kind(object))
}

/// One representative pod per workload: running, ready, without address or node, since no cluster
/// has placed it. A workload scaled to zero has one as well: what it may reach does not depend on
/// how many there are now. A List yields the pods of its items; what makes no pods yields none.
///
/// # Errors
/// A pod template that does not have the shape of one.
pub fn expand(object: &Value, origin: Origin) -> Result<Vec<Pod>, Error> {
    if let Some(items) = list_items(object) {
        let mut pods = vec![];
        for item in items {
            pods.extend(expand(&item, origin.clone())?);
        }
        return Ok(pods);
    }
    let Some(template) = pod_template(object) else { return Ok(vec![]) };
    if kind(object) == "Pod" {
        return Ok(vec![settled(convert::pod(&typed_object::<core::Pod>(object)?, origin)?)]);
    }
    let metadata = typed_object::<Named>(object)?.metadata;
    representative(object, template, metadata, origin).map(|pod| vec![pod])
}

/// The items of a List; `None` when the object is none. Items of a list of one kind (`PodList`)
/// may leave out what they are, which is then filled in.
pub fn list_items(object: &Value) -> Option<Vec<Value>> {
    let item_kind = kind(object).strip_suffix("List")?;
    let mut items = object.get("items")?.as_array()?.clone();
    if !item_kind.is_empty() {
        for item in items.iter_mut().filter_map(Value::as_object_mut) {
            for (field, value) in [("apiVersion", &object["apiVersion"]), ("kind", &item_kind.into())] {
                item.entry(field).or_insert_with(|| value.clone());
            }
        }
    }
    Some(items)
}

#[derive(serde::Deserialize)]
struct Named {
    #[serde(default)]
    metadata: ObjectMeta,
}

fn representative(
    object: &Value,
    template: &Value,
    metadata: ObjectMeta,
    origin: Origin,
) -> Result<Pod, Error> {
    let own_kind = kind(object);
    let owner = convert::owner(&metadata, own_kind);
    let mut pod = template_as_pod(own_kind, template, &metadata)?;
    add_controller_labels(own_kind, &mut pod.metadata);
    let mut model = settled(convert::pod(&pod, origin)?);
    model.uid = static_uid(own_kind, &model.name);
    model.owner = owner;
    Ok(model)
}

/// A template as the pod it would make, under the workload's name.
fn template_as_pod(own_kind: &str, template: &Value, metadata: &ObjectMeta) -> Result<core::Pod, Error> {
    let pod = serde_json::json!({
        "apiVersion": "v1",
        "kind": "Pod",
        "metadata": {
            "name": metadata.name,
            "namespace": metadata.namespace,
            "labels": template.pointer("/metadata/labels"),
        },
        "spec": template.get("spec"),
    });
    typed_object(&pod).map_err(|e| Error {
        kind: own_kind.to_owned(),
        field: format!("template.{}", e.field),
        ..e
    })
}

/// The labels that controllers add and that can be known in advance, since policies select by them.
fn add_controller_labels(kind: &str, metadata: &mut ObjectMeta) {
    let Some(name) = metadata.name.clone() else { return };
    if kind == "Job" {
        let labels = metadata.labels.get_or_insert_default();
        for key in ["job-name", "batch.kubernetes.io/job-name"] {
            labels.entry(key.into()).or_insert_with(|| name.clone());
        }
    }
}

fn settled(mut pod: Pod) -> Pod {
    if pod.phase == PodPhase::Pending {
        pod.phase = PodPhase::Running;
    }
    pod.ready = true;
    pod
}

/// The name and kind by which a workload object is known in answers.
pub fn workload(object: &Value) -> Option<(String, NamespacedName)> {
    pod_template(object)?;
    let namespace = match crate::value::namespace(object) {
        "" => "default",
        namespace => namespace,
    };
    Some((kind(object).to_owned(), NamespacedName::new(namespace, crate::value::name(object))))
}
