//! Ports of the node that pods want to themselves. Pure.

use std::net::IpAddr;

use k8s_openapi::api::core::v1::PodSpec;

/// A port of a node.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Claim {
    protocol: String,
    number: i32,
    /// At all of the node's addresses without one.
    address: Option<IpAddr>,
}

impl Claim {
    /// Whether two pods of one node cannot have both.
    pub(crate) fn clashes(&self, other: &Self) -> bool {
        let addresses = self.address.is_none() || other.address.is_none() || self.address == other.address;
        (&self.protocol, self.number) == (&other.protocol, other.number) && addresses
    }
}

/// The ports that a pod's containers claim, those of sidecars too. (Where a pod is on the node's network, each
/// of its ports has been defaulted to be one.)
pub(crate) fn claims(spec: &PodSpec) -> Vec<Claim> {
    let first = spec.init_containers.iter().flatten();
    let sidecars = first.filter(|container| container.restart_policy.as_deref() == Some("Always"));
    let ports = sidecars.chain(&spec.containers).flat_map(|container| container.ports.iter().flatten());
    let claim = |port: &k8s_openapi::api::core::v1::ContainerPort| {
        let address: Option<IpAddr> = port.host_ip.as_deref().and_then(|ip| ip.parse().ok());
        Some(Claim {
            protocol: port.protocol.clone().filter(|it| !it.is_empty()).unwrap_or_else(|| "TCP".into()),
            number: port.host_port.filter(|number| *number != 0)?,
            address: address.filter(|ip| !ip.is_unspecified()),
        })
    };
    ports.filter_map(claim).collect()
}
