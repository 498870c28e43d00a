//! The vocabulary of Kilter and the state of one cluster.
//!
//! Everything here is plain data: no I/O, no Kubernetes types, no clocks. `objects` translates
//! Kubernetes objects into these types; `policy`, `services` and `reach` decide with them.

#![forbid(unsafe_code)]

mod cluster;
mod cluster_policy;
mod family;
mod ingress;
mod labels;
mod names;
mod origin;
mod policy;
mod ports;
mod routing;
mod topology;
mod traffic;

pub use cluster::{Change, Cluster, Event};
pub use cluster_policy::{Action, Caveat, ClusterNetworkPolicy, ClusterRule, ClusterTier, Subject};
pub use family::Family;
pub use ingress::{Ingress, IngressBackend, ServicePortRef};
pub use labels::{Labels, Operator, Requirement, Selector};
pub use names::{Direction, NamespacedName, Uid, WorkloadRef};
pub use origin::Origin;
pub use policy::{IpBlock, NetworkPolicy, Peer, PolicyPort, PolicyRef, PolicyRule, PortSpec, Tier};
pub use ports::{PortRange, PortSet, Protocol};
pub use routing::Routing;
pub use topology::{ContainerPort, HostPort, Namespace, Node, Pod, PodPhase, ZONE_LABEL};
pub use traffic::{
    Distribution, Endpoint, EndpointPort, EndpointSlice, Exposure, FORWARDING, Forwarding, Hints, LOAD_BALANCER_CLASS,
    Locality, RETRY_REFUSED, Service, ServicePort, ServiceType, TargetPort,
};
