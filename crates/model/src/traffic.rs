use std::net::IpAddr;
use std::sync::Arc;

use ipnet::IpNet;
use serde::{Deserialize, Serialize};

use crate::{Family, NamespacedName, Origin, Protocol, Selector, Uid};

/// A Service, as far as the network is concerned.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Service {
    /// Namespace and name.
    pub name: NamespacedName,
    /// What kind of Service it is.
    pub service_type: ServiceType,
    /// The pods behind it; `None` where somebody else writes its endpoints.
    pub selector: Option<Selector>,
    /// `spec.clusterIPs` that are addresses; empty for headless Services and until allocated.
    pub cluster_ips: Vec<IpAddr>,
    /// Whether `clusterIP: None`.
    pub headless: bool,
    /// Its ports.
    pub ports: Vec<ServicePort>,
    /// `spec.ipFamilies`, the first one's address before the other's; empty until allocated.
    pub families: Vec<Family>,
    /// Which endpoints clients of a node are sent to.
    pub locality: Locality,
    /// How it is reached from outside.
    pub exposure: Exposure,
    /// Whether DNS and endpoints publish pods that are not ready.
    pub publish_not_ready: bool,
    /// `spec.externalName`, for type ExternalName.
    pub external_name: Option<Arc<str>>,
    /// Where it was declared.
    pub origin: Origin,
}

/// How a Service is reached at addresses that are not the cluster's own, beside its node ports.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Exposure {
    /// `spec.externalIPs`: addresses that somebody else has routed to the nodes.
    pub external_ips: Vec<IpAddr>,
    /// `status.loadBalancer.ingress`: addresses at which packets arrive as they were sent (`ipMode: VIP`).
    pub load_balancer: Vec<IpAddr>,
    /// `externalTrafficPolicy: Local`: only endpoints of the node at which a client arrives, which then
    /// see its address.
    pub only_local: bool,
    /// `spec.loadBalancerSourceRanges`: who may use the load balancer's addresses; empty: everybody.
    pub source_ranges: Vec<IpNet>,
}

impl Exposure {
    /// All its addresses.
    pub fn addresses(&self) -> impl Iterator<Item = IpAddr> {
        self.external_ips.iter().chain(&self.load_balancer).copied()
    }
}

/// Whether it matters for a client's choice of endpoint that both are on one node.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
pub enum Locality {
    /// It does not.
    #[default]
    Anywhere,
    /// Those of its own node, and all where it has none (`trafficDistribution: PreferSameNode`).
    PreferNode,
    /// Those of its own node only (`internalTrafficPolicy: Local`).
    OnlyNode,
}

/// `spec.type`.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
pub enum ServiceType {
    /// Reachable at its cluster IP.
    ClusterIp,
    /// Also at a port of every node.
    NodePort,
    /// Also at an address of a load balancer.
    LoadBalancer,
    /// A CNAME.
    ExternalName,
}

/// One port of a Service.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
pub struct ServicePort {
    /// Its name; empty where the Service has a single, unnamed port.
    pub name: Arc<str>,
    /// Its protocol.
    pub protocol: Protocol,
    /// The port at the cluster IP.
    pub port: u16,
    /// The port at the pods.
    pub target: TargetPort,
    /// The port at the nodes, for NodePort and LoadBalancer.
    pub node_port: Option<u16>,
}

/// `targetPort`.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
pub enum TargetPort {
    /// This number, at every pod.
    Number(u16),
    /// The container port of this name and the Service port's protocol, pod by pod.
    Name(Arc<str>),
}

/// A slice of a Service's endpoints (`discovery.k8s.io/v1`).
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct EndpointSlice {
    /// Namespace and name of the slice.
    pub name: NamespacedName,
    /// The Service it belongs to (label `kubernetes.io/service-name`).
    pub service: NamespacedName,
    /// Ports that every endpoint of the slice serves.
    pub ports: Vec<EndpointPort>,
    /// The endpoints.
    pub endpoints: Vec<Endpoint>,
}

/// A port of an endpoint slice; its name joins it to the Service's port.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
pub struct EndpointPort {
    /// The Service port's name.
    pub name: Arc<str>,
    /// Its protocol.
    pub protocol: Protocol,
    /// The number at the endpoint.
    pub port: u16,
}

/// One endpoint and its conditions.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
pub struct Endpoint {
    /// Its first address (the API says that consumers use only that one).
    pub address: IpAddr,
    /// May receive new connections.
    pub ready: bool,
    /// Still answers, whether or not it is going away.
    pub serving: bool,
    /// Is going away.
    pub terminating: bool,
    /// The node it runs on.
    pub node: Option<Arc<str>>,
    /// `targetRef.uid` where the endpoint is a pod.
    pub pod: Option<Uid>,
    /// `hostname`, for DNS names of single pods.
    pub hostname: Option<Arc<str>>,
}
