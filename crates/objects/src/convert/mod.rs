//! Kubernetes objects to the model's vocabulary.

mod cluster_policy;
mod context;
mod ingress;
mod labels;
mod pod;
mod policy;
mod topology;
mod traffic;

pub use cluster_policy::cluster_network_policy;
pub(crate) use context::Context;
pub use ingress::ingress;
pub(crate) use labels::labels;
pub use labels::selector;
pub use pod::{owner, pod, pod_ports};
pub use policy::network_policy;
pub(crate) use policy::parse_cidr;
pub use topology::{namespace, node};
pub use traffic::{endpoint_slice, forwarding, service};

use k8s_openapi::api::core::v1 as core;
use k8s_openapi::api::discovery::v1 as discovery;
use k8s_openapi::api::networking::v1 as networking;
use kilter_model::{Event, NamespacedName, Origin};
use serde_json::Value;

use crate::value::{kind, name, namespace as namespace_of, typed_object};
use crate::{Error, api};

/// The event "this object is so", for the kinds that the model knows; `None` for all others.
///
/// # Errors
/// When the object does not have its kind's shape, or a field has no meaning (a CIDR that is none).
pub fn to_event(object: &Value, origin: Origin) -> Result<Option<Event>, Error> {
    Ok(match model_kind(object) {
        Some(ModelKind::Namespace) => {
            Some(Event::Namespace(namespace(&typed_object::<core::Namespace>(object)?, origin)))
        }
        Some(ModelKind::Node) => Some(Event::Node(node(&typed_object::<core::Node>(object)?, origin)?)),
        Some(ModelKind::Pod) => Some(Event::Pod(pod(&typed_object::<core::Pod>(object)?, origin)?)),
        Some(ModelKind::NetworkPolicy) => Some(Event::NetworkPolicy(network_policy(
            &typed_object::<networking::NetworkPolicy>(object)?,
            origin,
        )?)),
        Some(ModelKind::ClusterNetworkPolicy) => Some(Event::ClusterNetworkPolicy(cluster_network_policy(
            &typed_object::<api::ClusterNetworkPolicy>(object)?,
            origin,
        )?)),
        Some(ModelKind::Service) => {
            Some(Event::Service(service(&typed_object::<core::Service>(object)?, origin)?))
        }
        Some(ModelKind::Ingress) => {
            Some(Event::Ingress(ingress(&typed_object::<networking::Ingress>(object)?, origin)?))
        }
        Some(ModelKind::EndpointSlice) => {
            endpoint_slice(&typed_object::<discovery::EndpointSlice>(object)?)?.map(Event::EndpointSlice)
        }
        None => None,
    })
}

/// The event "this object is gone", for the kinds that the model knows.
pub fn to_gone_event(object: &Value) -> Option<Event> {
    let full_name = || NamespacedName::new(namespace_of(object), name(object));
    Some(match model_kind(object)? {
        ModelKind::Namespace => Event::NamespaceGone(name(object).into()),
        ModelKind::Node => Event::NodeGone(name(object).into()),
        ModelKind::Pod => Event::PodGone(match object.pointer("/metadata/uid").and_then(Value::as_str) {
            Some(uid) => uid.into(),
            None => static_uid("Pod", &full_name()),
        }),
        ModelKind::NetworkPolicy => Event::NetworkPolicyGone(full_name()),
        ModelKind::ClusterNetworkPolicy => Event::ClusterNetworkPolicyGone(name(object).into()),
        ModelKind::Service => Event::ServiceGone(full_name()),
        ModelKind::Ingress => Event::IngressGone(full_name()),
        ModelKind::EndpointSlice => Event::EndpointSliceGone(full_name()),
    })
}

/// The UID of something that no API has given one: equal for equal kind, namespace and name.
pub fn static_uid(kind: &str, name: &NamespacedName) -> kilter_model::Uid {
    format!("static:{kind}/{name}").into()
}

enum ModelKind {
    Namespace,
    Node,
    Pod,
    NetworkPolicy,
    ClusterNetworkPolicy,
    Service,
    Ingress,
    EndpointSlice,
}

fn model_kind(object: &Value) -> Option<ModelKind> {
    let group = object.get("apiVersion").and_then(Value::as_str).unwrap_or_default();
    Some(match (group, kind(object)) {
        ("v1", "Namespace") => ModelKind::Namespace,
        ("v1", "Node") => ModelKind::Node,
        ("v1", "Pod") => ModelKind::Pod,
        ("v1", "Service") => ModelKind::Service,
        ("networking.k8s.io/v1", "NetworkPolicy") => ModelKind::NetworkPolicy,
        ("networking.k8s.io/v1", "Ingress") => ModelKind::Ingress,
        ("policy.networking.k8s.io/v1alpha2", "ClusterNetworkPolicy") => ModelKind::ClusterNetworkPolicy,
        ("discovery.k8s.io/v1", "EndpointSlice") => ModelKind::EndpointSlice,
        _ => return None,
    })
}
