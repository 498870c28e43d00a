use std::collections::{BTreeMap, BTreeSet};
use std::net::IpAddr;
use std::sync::Arc;

use k8s_openapi::api::core::v1 as core;
use k8s_openapi::api::discovery::v1 as discovery;
use k8s_openapi::apimachinery::pkg::apis::meta::v1::{ObjectMeta, OwnerReference};
use kilter_model::{
    Distribution, Endpoint, EndpointPort, EndpointSlice, Family, Hints, NamespacedName, Pod, Service, Uid,
};

use super::{ports_at, selects};

/// Endpoints per slice: what the Kubernetes controller puts into one at most.
const MAX_ENDPOINTS: usize = 100;

/// Who manages the slices that [`to_k8s`] makes.
pub const MANAGED_BY: &str = "endpointslice-controller.k8s.io";

/// A pod that may stand behind a Service, with what the model does not carry.
#[derive(Debug, Clone)]
pub struct Subject<'a> {
    /// The pod.
    pub pod: &'a Pod,
    /// `spec.hostname`, where `spec.subdomain` names this Service: a DNS name of its own.
    pub hostname: Option<Arc<str>>,
    /// The zone of its node.
    pub zone: Option<Arc<str>>,
}

impl<'a> From<&'a Pod> for Subject<'a> {
    fn from(pod: &'a Pod) -> Self {
        Self { pod, hostname: None, zone: None }
    }
}

/// Endpoints of one address family that serve the same ports.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Slice {
    /// A name that does not change while ports and family do not: `SERVICE-HASH`, `-N` beyond the
    /// first hundred endpoints.
    pub name: NamespacedName,
    /// The family of the addresses.
    pub family: Family,
    /// The ports, resolved.
    pub ports: Vec<EndpointPort>,
    /// The endpoints by pod, sorted by address, with the pod's name.
    pub endpoints: Vec<(Endpoint, NamespacedName)>,
}

/// The slices of a Service: its pods that have an address, grouped by family and by the ports they
/// serve. Sorted, and equal for equal input in any order. A Service with a selector but without
/// pods has no slices.
pub fn slices<'a>(service: &Service, pods: impl IntoIterator<Item = Subject<'a>>) -> Vec<Slice> {
    let mut groups: BTreeMap<(Family, Vec<EndpointPort>), Vec<(Endpoint, NamespacedName)>> = BTreeMap::new();
    for subject in pods {
        if !selects(service, subject.pod) {
            continue;
        }
        let ports = ports_at(service, subject.pod);
        for family in families(service) {
            let Some(address) = subject.pod.addresses.iter().copied().find(|a| Family::of(a) == family)
            else {
                continue;
            };
            let entry = (endpoint(service, &subject, address), subject.pod.name.clone());
            groups.entry((family, ports.clone())).or_default().push(entry);
        }
    }
    groups
        .into_iter()
        .flat_map(|((family, ports), endpoints)| split(service, family, ports, endpoints))
        .collect()
}

/// The families that a Service serves: those it says, those of its addresses, or both where it says
/// nothing, as in a file that no cluster has seen.
fn families(service: &Service) -> BTreeSet<Family> {
    let named = service.families.iter().copied();
    let families: BTreeSet<Family> = named.chain(service.cluster_ips.iter().map(Family::of)).collect();
    if families.is_empty() { Family::ALL.into() } else { families }
}

fn endpoint(service: &Service, subject: &Subject<'_>, address: IpAddr) -> Endpoint {
    let pod = subject.pod;
    Endpoint {
        address,
        ready: service.publish_not_ready || (pod.ready && !pod.terminating),
        serving: pod.ready,
        terminating: pod.terminating,
        node: pod.node.clone(),
        zone: subject.zone.clone(),
        hints: hints(service.distribution, subject),
        pod: Some(pod.uid.clone()),
        hostname: subject.hostname.clone(),
    }
}

/// Each endpoint is recommended to the clients around it, as far as it is known where it is; what clients do
/// without such an endpoint around them is theirs to decide (KEP-4444).
fn hints(distribution: Distribution, subject: &Subject<'_>) -> Hints {
    let zones = || subject.zone.iter().cloned().collect();
    let nodes = || subject.pod.node.iter().cloned().collect();
    match distribution {
        Distribution::Even => Hints::default(),
        Distribution::SameZone => Hints { zones: zones(), nodes: Vec::new() },
        Distribution::SameNode => Hints { zones: zones(), nodes: nodes() },
    }
}

fn split(
    service: &Service,
    family: Family,
    ports: Vec<EndpointPort>,
    mut endpoints: Vec<(Endpoint, NamespacedName)>,
) -> Vec<Slice> {
    endpoints.sort();
    let base = format!("{}-{}", service.name.name, suffix(family, &ports));
    let chunks = endpoints.chunks(MAX_ENDPOINTS).enumerate();
    chunks
        .map(|(i, chunk)| Slice {
            name: NamespacedName::new(
                service.name.namespace.clone(),
                if i == 0 { base.clone() } else { format!("{base}-{i}") },
            ),
            family,
            ports: ports.clone(),
            endpoints: chunk.to_vec(),
        })
        .collect()
}

/// Five letters from family and ports (FNV-1a), in the alphabet that Kubernetes uses for suffixes.
fn suffix(family: Family, ports: &[EndpointPort]) -> String {
    const ALPHABET: &[u8; 27] = b"bcdfghjklmnpqrstvwxz2456789";
    let text: String = ports.iter().map(|p| format!("{}/{}/{};", p.name, p.protocol, p.port)).collect();
    let seed = 0xcbf2_9ce4_8422_2325 ^ u64::from(family == Family::V6);
    let mut hash =
        text.bytes().fold(seed, |hash: u64, byte| (hash ^ u64::from(byte)).wrapping_mul(0x0100_0000_01b3));
    let mut letters = String::new();
    for _ in 0..5 {
        letters.push(char::from(ALPHABET[(hash % 27) as usize]));
        hash /= 27;
    }
    letters
}

/// Slices as the model has them.
pub fn to_model(service: &Service, slices: Vec<Slice>) -> Vec<EndpointSlice> {
    let convert = |slice: Slice| EndpointSlice {
        name: slice.name,
        service: service.name.clone(),
        ports: slice.ports,
        endpoints: slice.endpoints.into_iter().map(|(endpoint, _)| endpoint).collect(),
    };
    slices.into_iter().map(convert).collect()
}

/// Slices as the API has them, owned by the Service, whose `metadata` gives labels and owner.
pub fn to_k8s(service: &core::Service, slices: Vec<Slice>) -> Vec<discovery::EndpointSlice> {
    slices.into_iter().map(|slice| api_slice(service, slice)).collect()
}

fn api_slice(service: &core::Service, slice: Slice) -> discovery::EndpointSlice {
    let ports = slice.ports.iter().map(|p| discovery::EndpointPort {
        name: Some(p.name.to_string()),
        protocol: Some(p.protocol.to_string()),
        port: Some(p.port.into()),
        app_protocol: app_protocol(service, &p.name),
    });
    discovery::EndpointSlice {
        metadata: metadata(service, &slice.name),
        address_type: slice.family.name().into(),
        ports: Some(ports.collect()),
        endpoints: Some(slice.endpoints.into_iter().map(|(e, pod)| api_endpoint(e, &pod)).collect()),
    }
}

fn app_protocol(service: &core::Service, port: &str) -> Option<String> {
    let ports = service.spec.as_ref()?.ports.as_ref()?;
    ports.iter().find(|p| p.name.as_deref().unwrap_or_default() == port)?.app_protocol.clone()
}

fn metadata(service: &core::Service, name: &NamespacedName) -> ObjectMeta {
    let service_name = service.metadata.name.clone().unwrap_or_default();
    // As the Kubernetes controller does: the Service's own labels, then those that say whose it is.
    let mut labels = service.metadata.labels.clone().unwrap_or_default();
    labels.insert("kubernetes.io/service-name".into(), service_name.clone());
    labels.insert("endpointslice.kubernetes.io/managed-by".into(), MANAGED_BY.into());
    let cluster_ip = service.spec.as_ref().and_then(|s| s.cluster_ip.as_deref());
    if cluster_ip == Some("None") {
        labels.insert("service.kubernetes.io/headless".into(), String::new());
    }
    ObjectMeta {
        name: Some(name.name.to_string()),
        namespace: Some(name.namespace.to_string()),
        labels: Some(labels),
        owner_references: service.metadata.uid.clone().map(|uid| {
            vec![OwnerReference {
                api_version: "v1".into(),
                kind: "Service".into(),
                name: service_name,
                uid,
                controller: Some(true),
                block_owner_deletion: Some(true),
            }]
        }),
        ..Default::default()
    }
}

fn api_endpoint(endpoint: Endpoint, pod: &NamespacedName) -> discovery::Endpoint {
    discovery::Endpoint {
        addresses: vec![endpoint.address.to_string()],
        conditions: Some(discovery::EndpointConditions {
            ready: Some(endpoint.ready),
            serving: Some(endpoint.serving),
            terminating: Some(endpoint.terminating),
        }),
        hostname: endpoint.hostname.map(|h| h.to_string()),
        node_name: endpoint.node.map(|n| n.to_string()),
        zone: endpoint.zone.map(|z| z.to_string()),
        hints: api_hints(endpoint.hints),
        target_ref: endpoint.pod.map(|uid: Uid| core::ObjectReference {
            kind: Some("Pod".into()),
            name: Some(pod.name.to_string()),
            namespace: Some(pod.namespace.to_string()),
            uid: Some(uid.to_string()),
            ..Default::default()
        }),
        ..Default::default()
    }
}

fn api_hints(hints: Hints) -> Option<discovery::EndpointHints> {
    let zones = hints.zones.iter().map(|name| discovery::ForZone { name: name.to_string() });
    let nodes = hints.nodes.iter().map(|name| discovery::ForNode { name: name.to_string() });
    let (zones, nodes) = (zones.collect::<Vec<_>>(), nodes.collect::<Vec<_>>());
    let some = |empty: bool| (!empty).then_some(());
    let hints = discovery::EndpointHints {
        for_zones: some(zones.is_empty()).map(|()| zones),
        for_nodes: some(nodes.is_empty()).map(|()| nodes),
    };
    (hints != discovery::EndpointHints::default()).then_some(hints)
}
