//! `policy.networking.k8s.io/v1alpha2` ClusterNetworkPolicy, as objects have it.
//!
//! Required fields are optional here, so that their absence is reported by [`crate::validate`] with
//! the words for it. Fields that this version does not know are left out in reading.

mod schema;

use k8s_openapi::apimachinery::pkg::apis::meta::v1::{LabelSelector, ObjectMeta};
use k8s_openapi::{ClusterResourceScope, Metadata, Resource};
use serde::{Deserialize, Deserializer, Serialize};
use serde_json::Value;

/// A cluster-wide policy.
#[derive(Debug, Clone, Default, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase", default)]
pub struct ClusterNetworkPolicy {
    pub(crate) api_version: String,
    pub(crate) kind: String,
    #[serde(deserialize_with = "or_default")]
    pub(crate) metadata: ObjectMeta,
    #[serde(deserialize_with = "or_default")]
    pub(crate) spec: Spec,
    #[serde(skip_serializing_if = "Option::is_none")]
    pub(crate) status: Option<Value>,
}

/// `spec`.
#[derive(Debug, Clone, Default, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase", default)]
pub(crate) struct Spec {
    pub(crate) tier: Option<String>,
    pub(crate) priority: Option<i32>,
    #[serde(deserialize_with = "or_default")]
    pub(crate) subject: Subject,
    #[serde(deserialize_with = "or_default")]
    pub(crate) ingress: Vec<IngressRule>,
    #[serde(deserialize_with = "or_default")]
    pub(crate) egress: Vec<EgressRule>,
}

/// `spec.subject`: exactly one of them.
#[derive(Debug, Clone, Default, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase", default)]
pub(crate) struct Subject {
    pub(crate) namespaces: Option<LabelSelector>,
    pub(crate) pods: Option<NamespacedPod>,
}

/// Pods of namespaces; an empty selector selects all. Only the one of namespaces may be left out.
#[derive(Debug, Clone, Default, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase", default)]
pub(crate) struct NamespacedPod {
    #[serde(deserialize_with = "or_default")]
    pub(crate) namespace_selector: LabelSelector,
    pub(crate) pod_selector: Option<LabelSelector>,
}

/// A rule of `spec.ingress`.
#[derive(Debug, Clone, Default, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase", default)]
pub(crate) struct IngressRule {
    pub(crate) name: Option<String>,
    pub(crate) action: Option<String>,
    #[serde(deserialize_with = "or_default")]
    pub(crate) from: Vec<IngressPeer>,
    pub(crate) protocols: Option<Vec<ProtocolMatch>>,
}

/// A rule of `spec.egress`.
#[derive(Debug, Clone, Default, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase", default)]
pub(crate) struct EgressRule {
    pub(crate) name: Option<String>,
    pub(crate) action: Option<String>,
    #[serde(deserialize_with = "or_default")]
    pub(crate) to: Vec<EgressPeer>,
    pub(crate) protocols: Option<Vec<ProtocolMatch>>,
}

/// Who may be at the other end: exactly one of them.
#[derive(Debug, Clone, Default, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase", default)]
pub(crate) struct IngressPeer {
    pub(crate) namespaces: Option<LabelSelector>,
    pub(crate) pods: Option<NamespacedPod>,
}

/// Who may be at the other end: exactly one of them.
#[derive(Debug, Clone, Default, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase", default)]
pub(crate) struct EgressPeer {
    pub(crate) namespaces: Option<LabelSelector>,
    pub(crate) pods: Option<NamespacedPod>,
    pub(crate) nodes: Option<LabelSelector>,
    pub(crate) networks: Option<Vec<String>>,
    pub(crate) domain_names: Option<Vec<String>>,
}

/// Protocol and ports: exactly one of them.
#[derive(Debug, Clone, Default, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase", default)]
pub(crate) struct ProtocolMatch {
    pub(crate) tcp: Option<Ports>,
    pub(crate) udp: Option<Ports>,
    pub(crate) sctp: Option<Ports>,
    pub(crate) destination_named_port: Option<String>,
}

/// The ports of one protocol.
#[derive(Debug, Clone, Default, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase", default)]
pub(crate) struct Ports {
    pub(crate) destination_port: Option<Port>,
}

/// One port, or a range: exactly one of them.
#[derive(Debug, Clone, Default, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase", default)]
pub(crate) struct Port {
    pub(crate) number: Option<i32>,
    pub(crate) range: Option<PortRange>,
}

/// `start` to `end`, both included.
#[derive(Debug, Clone, Default, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase", default)]
pub(crate) struct PortRange {
    pub(crate) start: i32,
    pub(crate) end: i32,
}

/// A field that may be `null`, which counts as absent.
fn or_default<'de, D: Deserializer<'de>, T: Default + Deserialize<'de>>(from: D) -> Result<T, D::Error> {
    Option::deserialize(from).map(Option::unwrap_or_default)
}

impl From<IngressPeer> for EgressPeer {
    fn from(peer: IngressPeer) -> Self {
        Self { namespaces: peer.namespaces, pods: peer.pods, ..Self::default() }
    }
}

impl ProtocolMatch {
    /// The protocols whose ports it gives by number.
    pub fn by_number(&self) -> impl Iterator<Item = (&'static str, &Ports)> {
        let all = [("tcp", &self.tcp), ("udp", &self.udp), ("sctp", &self.sctp)];
        all.into_iter().filter_map(|(name, ports)| Some((name, ports.as_ref()?)))
    }
}

impl Resource for ClusterNetworkPolicy {
    const API_VERSION: &'static str = "policy.networking.k8s.io/v1alpha2";
    const GROUP: &'static str = "policy.networking.k8s.io";
    const KIND: &'static str = "ClusterNetworkPolicy";
    const VERSION: &'static str = "v1alpha2";
    const URL_PATH_SEGMENT: &'static str = "clusternetworkpolicies";
    type Scope = ClusterResourceScope;
}

impl Metadata for ClusterNetworkPolicy {
    type Ty = ObjectMeta;

    fn metadata(&self) -> &ObjectMeta {
        &self.metadata
    }

    fn metadata_mut(&mut self) -> &mut ObjectMeta {
        &mut self.metadata
    }
}
