use std::borrow::Cow;
use std::collections::BTreeMap;

use k8s_openapi::api::core::v1::{Service, ServiceSpec, ServiceStatus};
use k8s_openapi::api::discovery::v1::{Endpoint, EndpointPort, EndpointSlice};
use k8s_openapi::apimachinery::pkg::apis::meta::v1::ObjectMeta;
use kilter_model::{Event, Origin};
use serde::{Deserialize, Deserializer};

use crate::Resource;
use crate::lean_pod::Meta;
use crate::resource::{Key, Watched};

/// An object of which only what is asked for is read: a Service or an endpoint slice without most of its
/// metadata, a pod without more than that. Every node reads all of them, and who has managed which field since
/// when is more than the rest of an object.
#[derive(Debug, Clone)]
pub struct Lean<K>(pub(crate) K);

impl<K> Lean<K> {
    /// The object, whose metadata lack managed fields and more.
    pub fn into_inner(self) -> K {
        self.0
    }
}

impl<K: kube::Resource<DynamicType = ()>> kube::Resource for Lean<K> {
    type DynamicType = ();
    type Scope = K::Scope;

    fn kind(_: &()) -> Cow<'_, str> {
        K::kind(&())
    }

    fn group(_: &()) -> Cow<'_, str> {
        K::group(&())
    }

    fn version(_: &()) -> Cow<'_, str> {
        K::version(&())
    }

    fn plural(_: &()) -> Cow<'_, str> {
        K::plural(&())
    }

    fn meta(&self) -> &ObjectMeta {
        self.0.meta()
    }

    fn meta_mut(&mut self) -> &mut ObjectMeta {
        self.0.meta_mut()
    }
}

impl<K: Watched> Watched for Lean<K> {
    const RESOURCE: Resource = K::RESOURCE;

    fn key(&self) -> Key {
        self.0.key()
    }

    fn event(&self, origin: Origin) -> Result<Option<Event>, kilter_objects::Error> {
        self.0.event(origin)
    }
}

/// Of a Service's metadata what somebody asks for: its annotations say how it is balanced, its labels nothing.
#[derive(Deserialize, Default)]
#[serde(rename_all = "camelCase", default)]
struct ServiceMeta {
    name: Option<String>,
    namespace: Option<String>,
    uid: Option<String>,
    resource_version: Option<String>,
    annotations: Option<BTreeMap<String, String>>,
}

impl<'de> Deserialize<'de> for Lean<Service> {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        #[derive(Deserialize)]
        struct Wire {
            #[serde(default)]
            metadata: ServiceMeta,
            spec: Option<ServiceSpec>,
            status: Option<ServiceStatus>,
        }
        let Wire { metadata: meta, spec, status } = Wire::deserialize(deserializer)?;
        let metadata = ObjectMeta {
            name: meta.name,
            namespace: meta.namespace,
            uid: meta.uid,
            resource_version: meta.resource_version,
            annotations: meta.annotations,
            ..ObjectMeta::default()
        };
        Ok(Self(Service { metadata, spec, status }))
    }
}

impl<'de> Deserialize<'de> for Lean<EndpointSlice> {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        #[derive(Deserialize)]
        #[serde(rename_all = "camelCase")]
        struct Wire {
            #[serde(default)]
            metadata: Meta,
            #[serde(default)]
            address_type: String,
            endpoints: Option<Vec<Endpoint>>,
            ports: Option<Vec<EndpointPort>>,
        }
        let Wire { metadata, address_type, endpoints, ports } = Wire::deserialize(deserializer)?;
        Ok(Self(EndpointSlice { metadata: metadata.into(), address_type, endpoints, ports }))
    }
}

#[cfg(test)]
mod tests {
    use kube::Resource as _;
    use serde_json::{Value, json};

    use super::*;

    /// Both ways of reading must say the same.
    fn same<K: Watched + Clone + serde::de::DeserializeOwned>(object: Value)
    where
        Lean<K>: serde::de::DeserializeOwned,
    {
        let origin = || Origin::Api { resource_version: "7".into() };
        let whole: K = serde_json::from_value(object.clone()).unwrap();
        let lean: Lean<K> = serde_json::from_value(object.clone()).unwrap();
        let text = |event: Result<Option<Event>, kilter_objects::Error>| event.map_err(|error| error.to_string());
        assert_eq!(text(lean.event(origin())), text(whole.event(origin())), "{object}");
        assert_eq!(lean.key(), whole.key());
        assert_eq!(lean.meta().resource_version, whole.meta().resource_version);
    }

    #[test]
    fn what_is_left_out_makes_no_difference() {
        let metadata = json!({
            "name": "web", "namespace": "shop", "uid": "1", "resourceVersion": "12", "generation": 3,
            "labels": {"kubernetes.io/service-name": "web", "a": "b"}, "annotations": {"c": "d", kilter_model::RETRY_REFUSED: "true"},
            "managedFields": [{"manager": "kubectl", "operation": "Update", "fieldsV1": {"f:spec": {}}}],
        });
        same::<Service>(json!({
            "apiVersion": "v1", "kind": "Service", "metadata": metadata,
            "spec": {"type": "LoadBalancer", "clusterIP": "10.96.0.7", "clusterIPs": ["10.96.0.7"],
                "selector": {"app": "web"}, "sessionAffinity": "ClientIP", "externalTrafficPolicy": "Local",
                "loadBalancerSourceRanges": ["192.0.2.0/24"], "healthCheckNodePort": 30001,
                "ports": [{"name": "http", "port": 80, "targetPort": "web", "nodePort": 30080, "protocol": "TCP"}]},
            "status": {"loadBalancer": {"ingress": [{"ip": "192.0.2.1", "ipMode": "VIP"}]}},
        }));
        same::<Service>(json!({"metadata": metadata, "spec": {"ports": [{"port": 0}]}}));
        same::<Service>(json!({"metadata": {"name": "x"}, "spec": null}));
        let slice = |endpoints: Value| {
            json!({"metadata": metadata, "addressType": "IPv4", "endpoints": endpoints,
                "ports": [{"name": "http", "port": 8080, "protocol": "TCP"}]})
        };
        same::<EndpointSlice>(slice(json!([{"addresses": ["10.244.0.2"], "conditions": {"ready": true},
            "nodeName": "node-1", "zone": "z", "hints": {"forZones": [{"name": "z"}]},
            "targetRef": {"kind": "Pod", "name": "web-0", "namespace": "shop", "uid": "2"}}])));
        same::<EndpointSlice>(slice(json!(null)));
        same::<EndpointSlice>(slice(json!([{"addresses": ["nonsense"]}])));
    }
}
