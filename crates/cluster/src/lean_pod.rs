use std::collections::BTreeMap;

use k8s_openapi::api::core::v1::{
    Container, ContainerPort, Pod, PodCondition, PodIP, PodSpec, PodStatus,
};
use k8s_openapi::apimachinery::pkg::apis::meta::v1::{ObjectMeta, OwnerReference, Time};
use kilter_model::Event;
use serde::{Deserialize, Deserializer};

use crate::lean::Lean;
use crate::resource::{Key, Watched};
use crate::Resource;

/// A pod of which only that is read which the model asks for. Every node watches every pod, and each is
/// written half a dozen times on its way to ready: reading all of it was what many nodes did most.
impl<'de> Deserialize<'de> for Lean<Pod> {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        Wire::deserialize(deserializer).map(|wire| Self(wire.into()))
    }
}

impl Watched for Pod {
    const RESOURCE: Resource = Resource::Pods;

    fn key(&self) -> Key {
        Key::Pod(self.metadata.uid.as_deref().unwrap_or_default().into())
    }

    fn event(&self, origin: kilter_model::Origin) -> Result<Option<Event>, kilter_objects::Error> {
        kilter_objects::pod(self, origin).map(|pod| Some(Event::Pod(pod)))
    }
}

/// What is read; every other field is passed over. As in the API, null is as good as absent.
#[derive(Deserialize)]
struct Wire {
    #[serde(default)]
    metadata: Meta,
    spec: Option<Spec>,
    status: Option<Status>,
}

/// Of an object's metadata what the model asks for.
#[derive(Deserialize, Default)]
#[serde(rename_all = "camelCase", default)]
pub(crate) struct Meta {
    name: Option<String>,
    namespace: Option<String>,
    uid: Option<String>,
    resource_version: Option<String>,
    labels: Option<BTreeMap<String, String>>,
    owner_references: Option<Vec<Owner>>,
    deletion_timestamp: Option<Time>,
}

#[derive(Deserialize)]
struct Owner {
    kind: String,
    name: String,
    controller: Option<bool>,
}

#[derive(Deserialize, Default)]
#[serde(rename_all = "camelCase", default)]
struct Spec {
    node_name: Option<String>,
    host_network: Option<bool>,
    containers: Option<Vec<Ports>>,
    init_containers: Option<Vec<Ports>>,
}

#[derive(Deserialize)]
#[serde(rename_all = "camelCase")]
struct Ports {
    name: String,
    restart_policy: Option<String>,
    ports: Option<Vec<ContainerPort>>,
}

#[derive(Deserialize, Default)]
#[serde(rename_all = "camelCase", default)]
struct Status {
    phase: Option<String>,
    #[serde(rename = "podIP")]
    pod_ip: Option<String>,
    #[serde(rename = "podIPs")]
    pod_ips: Option<Vec<PodIP>>,
    conditions: Option<Vec<Condition>>,
}

#[derive(Deserialize)]
struct Condition {
    #[serde(rename = "type")]
    kind: String,
    status: String,
}

impl From<Wire> for Pod {
    fn from(wire: Wire) -> Self {
        Pod {
            metadata: wire.metadata.into(),
            spec: wire.spec.map(Into::into),
            status: wire.status.map(Into::into),
        }
    }
}

impl From<Meta> for ObjectMeta {
    fn from(meta: Meta) -> Self {
        let owner = |owner: Owner| OwnerReference {
            kind: owner.kind,
            name: owner.name,
            controller: owner.controller,
            ..OwnerReference::default()
        };
        Self {
            name: meta.name,
            namespace: meta.namespace,
            uid: meta.uid,
            resource_version: meta.resource_version,
            labels: meta.labels,
            owner_references: meta.owner_references.map(|all| all.into_iter().map(owner).collect()),
            deletion_timestamp: meta.deletion_timestamp,
            ..Self::default()
        }
    }
}

impl From<Spec> for PodSpec {
    fn from(spec: Spec) -> Self {
        let containers = |all: Vec<Ports>| all.into_iter().map(Into::into).collect();
        Self {
            node_name: spec.node_name,
            host_network: spec.host_network,
            containers: spec.containers.map(containers).unwrap_or_default(),
            init_containers: spec.init_containers.map(containers),
            ..Self::default()
        }
    }
}

impl From<Ports> for Container {
    fn from(container: Ports) -> Self {
        Self {
            name: container.name,
            restart_policy: container.restart_policy,
            ports: container.ports,
            ..Self::default()
        }
    }
}

impl From<Status> for PodStatus {
    fn from(status: Status) -> Self {
        let condition =
            |it: Condition| PodCondition { type_: it.kind, status: it.status, ..PodCondition::default() };
        Self {
            phase: status.phase,
            pod_ip: status.pod_ip,
            pod_ips: status.pod_ips,
            conditions: status.conditions.map(|all| all.into_iter().map(condition).collect()),
            ..Self::default()
        }
    }
}

#[cfg(test)]
mod tests {
    use kilter_model::Origin;
    use serde_json::{Value, json};

    use super::*;

    /// Both ways of reading must say the same.
    fn same(object: Value) {
        let origin = || Origin::Api { resource_version: "7".into() };
        let whole: Pod = serde_json::from_value(object.clone()).unwrap();
        let lean: Lean<Pod> = serde_json::from_value(object.clone()).unwrap();
        let wanted = kilter_objects::pod(&whole, origin()).map_err(|error| error.to_string());
        assert_eq!(kilter_objects::pod(&lean.0, origin()).map_err(|error| error.to_string()), wanted, "{object}");
        assert_eq!(lean.0.metadata.resource_version, whole.metadata.resource_version);
    }

    fn full() -> Value {
        json!({
            "apiVersion": "v1", "kind": "Pod",
            "metadata": {
                "name": "web-6d4f-x", "namespace": "shop", "uid": "u-1", "resourceVersion": "7",
                "labels": {"app": "web", "pod-template-hash": "6d4f"},
                "annotations": {"k8s.v1.cni.cncf.io/networks": "x"},
                "ownerReferences": [{"apiVersion": "apps/v1", "kind": "ReplicaSet", "name": "web-6d4f",
                    "uid": "u-2", "controller": true}],
                "deletionTimestamp": "2026-01-02T03:04:05Z",
                "managedFields": [{"manager": "kubelet", "fieldsV1": {"f:status": {}}}],
            },
            "spec": {
                "nodeName": "node-1", "hostNetwork": true, "volumes": [{"name": "v", "emptyDir": {}}],
                "containers": [{"name": "main", "image": "web", "ports": [
                    {"name": "http", "containerPort": 8080, "hostPort": 80, "hostIP": "10.0.0.1"},
                    {"containerPort": 53, "protocol": "UDP"}]}],
                "initContainers": [
                    {"name": "once", "image": "i", "ports": [{"containerPort": 1}]},
                    {"name": "beside", "image": "i", "restartPolicy": "Always", "ports": [{"containerPort": 9}]}],
            },
            "status": {
                "phase": "Running", "podIP": "10.244.0.5", "podIPs": [{"ip": "10.244.0.5"}, {"ip": "fd00::5"}],
                "hostIP": "10.240.0.11",
                "conditions": [{"type": "Ready", "status": "True", "lastTransitionTime": "2026-01-02T03:04:05Z"}],
            },
        })
    }

    #[test]
    fn what_is_passed_over_makes_no_difference() {
        same(full());
        same(json!({"metadata": {"name": "a"}}));
        same(json!({"metadata": {"name": "a", "labels": null}, "spec": {"containers": []}, "status": {}}));
    }

    /// Whatever is taken away, and whatever is made invalid, is told alike.
    #[test]
    fn every_part_counts_as_it_does_in_the_whole_object() {
        let parts = [
            "/metadata/labels", "/metadata/ownerReferences", "/metadata/deletionTimestamp", "/metadata/uid",
            "/spec/nodeName", "/spec/hostNetwork", "/spec/initContainers", "/status/podIPs", "/status/podIP",
            "/status/phase", "/status/conditions", "/status",
        ];
        for part in parts {
            let mut object = full();
            *object.pointer_mut(part).unwrap() = Value::Null;
            same(object);
        }
        for (part, value) in [
            ("/spec/containers/0/ports/0/containerPort", json!(70_000)),
            ("/spec/containers/0/ports/0/protocol", json!("QUIC")),
            ("/status/podIPs/0/ip", json!("nonsense")),
        ] {
            let mut object = full();
            let (parent, key) = part.rsplit_once('/').unwrap();
            object.pointer_mut(parent).unwrap()[key] = value;
            same(object);
        }
    }
}
