use std::net::IpAddr;
use std::sync::Arc;

use ipnet::IpNet;
use serde::{Deserialize, Serialize};

use crate::{Family, NamespacedName, Origin, Protocol, Routing, Selector, Uid};

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
    /// `trafficDistribution`: for which clients its endpoints are meant.
    pub distribution: Distribution,
    /// `sessionAffinity: ClientIP`: so many seconds (1 to 86,400) after its last connection a client that comes
    /// back is sent to the endpoint that it had; `None`: to any.
    pub affinity: Option<u32>,
    /// Annotation [`RETRY_REFUSED`]: whether a connection that one of its endpoints refuses is carried to another;
    /// `None`: as the node does by default.
    pub retry_refused: Option<bool>,
    /// Annotation [`FORWARDING`]: how packets from outside get to endpoints of other nodes.
    pub forwarding: Forwarding,
    /// How it is reached from outside.
    pub exposure: Exposure,
    /// Whether DNS and endpoints publish pods that are not ready.
    pub publish_not_ready: bool,
    /// `spec.externalName`, for type ExternalName.
    pub external_name: Option<Arc<str>>,
    /// Where it was declared.
    pub origin: Origin,
}

/// The annotation of Services behind [`Service::retry_refused`]: `"true"` or `"false"`.
pub const RETRY_REFUSED: &str = "kilter.dev/retry-refused";

/// The annotation of Services behind [`Service::forwarding`]: `snat` or `dsr`.
pub const FORWARDING: &str = "kilter.dev/forwarding";

/// How packets from outside get from the node at which they arrive to an endpoint of another.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum Forwarding {
    /// Under that node's own address: answers come back this way.
    #[default]
    Snat,
    /// As they came (direct server return): the endpoint sees its client, and its node answers.
    Dsr,
}

impl Service {
    /// Whether packets from outside are sent on to endpoints of other nodes as they came. It is not enough to ask for
    /// it: see [`Service::dsr_obstacle`].
    pub fn is_dsr(&self, routing: Routing) -> bool {
        self.forwarding == Forwarding::Dsr && !self.exposure.only_local && self.dsr_obstacle(routing).is_none()
    }

    /// Why packets cannot be sent on as they came, whoever asks for it: all nodes must choose alike, and the next one
    /// must see who sent them.
    pub fn dsr_obstacle(&self, routing: Routing) -> Option<&'static str> {
        match (routing, self.affinity) {
            (Routing::Vxlan, _) => Some("packets between nodes are tunnelled"),
            (Routing::Native, Some(_)) => Some("each node remembers by itself which client had which endpoint (sessionAffinity)"),
            (Routing::Native, None) => None,
        }
    }
}

/// How a Service is reached at addresses that are not the cluster's own, beside its node ports.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Exposure {
    /// `spec.externalIPs`: addresses that somebody else has routed to the nodes.
    pub external_ips: Vec<IpAddr>,
    /// `status.loadBalancer.ingress`: addresses at which packets arrive as they were sent (`ipMode: VIP`).
    pub load_balancer: Vec<IpAddr>,
    /// `spec.loadBalancerClass`: who is to provide the load balancer's addresses; `None`: whoever does by default.
    pub load_balancer_class: Option<Arc<str>>,
    /// `externalTrafficPolicy: Local`: only endpoints of the node at which a client arrives, which then
    /// see its address.
    pub only_local: bool,
    /// `spec.healthCheckNodePort`: where a node says whether it has endpoints, where that matters.
    pub health_check_port: Option<u16>,
    /// `spec.loadBalancerSourceRanges`: who may use the load balancer's addresses; empty: everybody.
    pub source_ranges: Vec<IpNet>,
}

/// The `spec.loadBalancerClass` of load balancers that are addresses of the node network, for which nodes
/// answer. It is also the class of those that name none.
pub const LOAD_BALANCER_CLASS: &str = "kilter.dev/node-network";

impl Exposure {
    /// Whether nodes are to answer for the load balancer's addresses.
    pub fn is_on_node_network(&self) -> bool {
        self.load_balancer_class.as_deref().is_none_or(|class| class == LOAD_BALANCER_CLASS)
    }

    /// All its addresses.
    pub fn addresses(&self) -> impl Iterator<Item = IpAddr> {
        self.external_ips.iter().chain(&self.load_balancer).copied()
    }
}

/// Whether clients inside may use endpoints of other nodes (`internalTrafficPolicy`).
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
pub enum Locality {
    /// They may.
    #[default]
    Anywhere,
    /// Those of their own node only (`Local`).
    OnlyNode,
}

/// `spec.trafficDistribution` (KEP-4444, KEP-3015): for whom endpoints are recommended, in [`Hints`].
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
pub enum Distribution {
    /// For everybody.
    #[default]
    Even,
    /// For clients of the same zone (`PreferSameZone`, and its older name `PreferClose`).
    SameZone,
    /// For clients of the same node, or else of the same zone (`PreferSameNode`).
    SameNode,
}

/// For whom an endpoint is recommended (`EndpointSlice.endpoints[].hints`); empty: it does not say.
#[derive(Debug, Clone, Default, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
pub struct Hints {
    /// Zones of its clients (`forZones`).
    pub zones: Vec<Arc<str>>,
    /// Nodes of its clients (`forNodes`).
    pub nodes: Vec<Arc<str>>,
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
    /// The zone of that node.
    pub zone: Option<Arc<str>>,
    /// For whom it is recommended.
    pub hints: Hints,
    /// `targetRef.uid` where the endpoint is a pod.
    pub pod: Option<Uid>,
    /// `hostname`, for DNS names of single pods.
    pub hostname: Option<Arc<str>>,
}
