use std::net::IpAddr;
use std::sync::Arc;

use ipnet::IpNet;
use serde::{Deserialize, Serialize};

use crate::{Labels, NamespacedName, Origin, Protocol, Uid, WorkloadRef};

/// A namespace. `labels` always hold `kubernetes.io/metadata.name`.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Namespace {
    /// Its name.
    pub name: Arc<str>,
    /// Its labels.
    pub labels: Labels,
    /// Where it was declared.
    pub origin: Origin,
}

/// A node of the cluster.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Node {
    /// Its name.
    pub name: Arc<str>,
    /// Its labels.
    pub labels: Labels,
    /// `status.addresses` that are IP addresses; the internal ones first.
    pub addresses: Vec<IpAddr>,
    /// `spec.podCIDRs`: the blocks its pods' addresses come from.
    pub pod_cidrs: Vec<IpNet>,
    /// Whether its Ready condition is True.
    pub ready: bool,
    /// Where it was declared.
    pub origin: Origin,
}

/// The label of a node that says in which zone it is.
pub const ZONE_LABEL: &str = "topology.kubernetes.io/zone";

impl Node {
    /// The zone that it is in, where it says so.
    pub fn zone(&self) -> Option<&Arc<str>> {
        self.labels.get(ZONE_LABEL).filter(|zone| !zone.is_empty())
    }
}

/// A pod, as far as the network is concerned.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Pod {
    /// `metadata.uid`.
    pub uid: Uid,
    /// Namespace and name.
    pub name: NamespacedName,
    /// Its labels.
    pub labels: Labels,
    /// `spec.nodeName`, once scheduled.
    pub node: Option<Arc<str>>,
    /// `status.podIPs`; empty until assigned and in static analysis.
    pub addresses: Vec<IpAddr>,
    /// Whether it shares its node's network namespace. Such a pod has no identity in policy.
    pub host_network: bool,
    /// Ports its containers declare, sidecar containers included.
    pub ports: Vec<ContainerPort>,
    /// What owns it.
    pub owner: WorkloadRef,
    /// How far it is. A Succeeded or Failed pod owns no address.
    pub phase: PodPhase,
    /// The Ready condition.
    pub ready: bool,
    /// Whether `metadata.deletionTimestamp` is set.
    pub terminating: bool,
    /// Where it was declared.
    pub origin: Origin,
}

/// `status.phase`.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
pub enum PodPhase {
    /// Not all containers run yet.
    Pending,
    /// At least one container runs.
    Running,
    /// All containers ended well and will not restart.
    Succeeded,
    /// All containers ended, one of them badly.
    Failed,
}

/// A port that a container declares.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
pub struct ContainerPort {
    /// Its name, by which policies and Services may refer to it.
    pub name: Option<Arc<str>>,
    /// The port, 1 to 65535.
    pub port: u16,
    /// Its protocol.
    pub protocol: Protocol,
    /// `hostPort`: the port of the pod's node that leads here.
    pub host: Option<HostPort>,
}

/// A port of a node that leads to a container.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
pub struct HostPort {
    /// The port, 1 to 65535.
    pub port: u16,
    /// At this address of the node only (`hostIP`); at all of them where there is none.
    pub address: Option<IpAddr>,
}

impl Pod {
    /// Whether the pod holds its addresses: one that has ended does not (its address may already
    /// be another's).
    pub fn owns_addresses(&self) -> bool {
        !matches!(self.phase, PodPhase::Succeeded | PodPhase::Failed)
    }

    /// The number of a named port of this pod; name and protocol must agree
    /// (networking/v1 `NetworkPolicyPort.port`).
    pub fn named_port(&self, name: &str, protocol: Protocol) -> Option<u16> {
        self.ports.iter().find(|p| p.protocol == protocol && p.name.as_deref() == Some(name)).map(|p| p.port)
    }
}
