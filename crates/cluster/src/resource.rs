use std::fmt;
use std::sync::Arc;

use k8s_openapi::api::core::v1 as core;
use k8s_openapi::api::discovery::v1 as discovery;
use k8s_openapi::api::networking::v1 as networking;
use kilter_model::{self as model, Event, NamespacedName, Origin};
use kube::ResourceExt;

/// The kinds that Kilter's decisions rest on.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum Resource {
    /// `v1` pods.
    Pods,
    /// `v1` namespaces.
    Namespaces,
    /// `v1` nodes.
    Nodes,
    /// `networking.k8s.io/v1` networkpolicies.
    NetworkPolicies,
    /// `policy.networking.k8s.io/v1alpha2` clusternetworkpolicies.
    ClusterNetworkPolicies,
    /// `v1` services.
    Services,
    /// `discovery.k8s.io/v1` endpointslices.
    EndpointSlices,
}

impl Resource {
    /// All of them.
    pub const ALL: [Resource; 7] = [
        Resource::Pods,
        Resource::Namespaces,
        Resource::Nodes,
        Resource::NetworkPolicies,
        Resource::ClusterNetworkPolicies,
        Resource::Services,
        Resource::EndpointSlices,
    ];

    /// Whether it says what is refused: one that cannot be understood must not count as absent.
    pub const fn is_policy(self) -> bool {
        matches!(self, Resource::NetworkPolicies | Resource::ClusterNetworkPolicies)
    }

    /// Whether an API may not have it: its CustomResourceDefinition is installed apart.
    pub const fn is_optional(self) -> bool {
        matches!(self, Resource::ClusterNetworkPolicies)
    }

    /// Its name in the API, as in URLs and in `wire::control::NodeStatus::applied`.
    pub const fn name(self) -> &'static str {
        match self {
            Resource::Pods => "pods",
            Resource::Namespaces => "namespaces",
            Resource::Nodes => "nodes",
            Resource::NetworkPolicies => "networkpolicies",
            Resource::ClusterNetworkPolicies => "clusternetworkpolicies",
            Resource::Services => "services",
            Resource::EndpointSlices => "endpointslices",
        }
    }
}

impl fmt::Display for Resource {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.name())
    }
}

/// A kind that is watched and translated into the model.
pub(crate) trait Watched: kube::Resource<DynamicType = ()> {
    /// Which of the kinds it is.
    const RESOURCE: Resource;

    /// What tells one object of the kind from another: a pod that is deleted and made anew under
    /// its old name is another pod, which for the other kinds makes no difference.
    fn key(&self) -> Key;

    /// The object as it is; `None` where the model has no use for it (a slice of no Service).
    fn event(&self, origin: Origin) -> Result<Option<Event>, kilter_objects::Error>;
}

/// See [`Watched::key`].
#[derive(Debug, Clone, PartialEq, Eq, Hash)]
pub(crate) enum Key {
    Pod(model::Uid),
    Namespace(Arc<str>),
    Node(Arc<str>),
    NetworkPolicy(NamespacedName),
    ClusterNetworkPolicy(Arc<str>),
    Service(NamespacedName),
    EndpointSlice(NamespacedName),
}

impl Key {
    /// That the object is gone.
    pub(crate) fn gone(self) -> Event {
        match self {
            Key::Pod(uid) => Event::PodGone(uid),
            Key::Namespace(name) => Event::NamespaceGone(name),
            Key::Node(name) => Event::NodeGone(name),
            Key::NetworkPolicy(name) => Event::NetworkPolicyGone(name),
            Key::ClusterNetworkPolicy(name) => Event::ClusterNetworkPolicyGone(name),
            Key::Service(name) => Event::ServiceGone(name),
            Key::EndpointSlice(name) => Event::EndpointSliceGone(name),
        }
    }
}

/// Where an object read from the API was declared.
pub(crate) fn origin(object: &impl kube::Resource) -> Origin {
    Origin::Api { resource_version: object.resource_version().unwrap_or_default().into() }
}

fn name(object: &impl kube::Resource) -> Arc<str> {
    object.name_any().into()
}

fn namespaced(object: &impl kube::Resource) -> NamespacedName {
    NamespacedName::new(object.namespace().unwrap_or_default(), object.name_any())
}

impl Watched for core::Namespace {
    const RESOURCE: Resource = Resource::Namespaces;

    fn key(&self) -> Key {
        Key::Namespace(name(self))
    }

    fn event(&self, origin: Origin) -> Result<Option<Event>, kilter_objects::Error> {
        Ok(Some(Event::Namespace(kilter_objects::namespace(self, origin))))
    }
}

impl Watched for core::Node {
    const RESOURCE: Resource = Resource::Nodes;

    fn key(&self) -> Key {
        Key::Node(name(self))
    }

    fn event(&self, origin: Origin) -> Result<Option<Event>, kilter_objects::Error> {
        kilter_objects::node(self, origin).map(|it| Some(Event::Node(it)))
    }
}

impl Watched for networking::NetworkPolicy {
    const RESOURCE: Resource = Resource::NetworkPolicies;

    fn key(&self) -> Key {
        Key::NetworkPolicy(namespaced(self))
    }

    fn event(&self, origin: Origin) -> Result<Option<Event>, kilter_objects::Error> {
        kilter_objects::network_policy(self, origin).map(|it| Some(Event::NetworkPolicy(it)))
    }
}

impl Watched for kilter_objects::ClusterNetworkPolicy {
    const RESOURCE: Resource = Resource::ClusterNetworkPolicies;

    fn key(&self) -> Key {
        Key::ClusterNetworkPolicy(name(self))
    }

    fn event(&self, origin: Origin) -> Result<Option<Event>, kilter_objects::Error> {
        kilter_objects::cluster_network_policy(self, origin).map(|it| Some(Event::ClusterNetworkPolicy(it)))
    }
}

impl Watched for core::Service {
    const RESOURCE: Resource = Resource::Services;

    fn key(&self) -> Key {
        Key::Service(namespaced(self))
    }

    fn event(&self, origin: Origin) -> Result<Option<Event>, kilter_objects::Error> {
        kilter_objects::service(self, origin).map(|it| Some(Event::Service(it)))
    }
}

impl Watched for discovery::EndpointSlice {
    const RESOURCE: Resource = Resource::EndpointSlices;

    fn key(&self) -> Key {
        Key::EndpointSlice(namespaced(self))
    }

    fn event(&self, _: Origin) -> Result<Option<Event>, kilter_objects::Error> {
        Ok(kilter_objects::endpoint_slice(self)?.map(Event::EndpointSlice))
    }
}
