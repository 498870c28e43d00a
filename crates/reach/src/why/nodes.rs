//! Ports of nodes that lead to pods.

use std::net::IpAddr;

use kilter_model::{Cluster, NamespacedName, Pod, Protocol, Uid};

/// Where a port of a node leads. A node port is asked before a `hostPort` of the same number, as on the node.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Way {
    /// To a Service's port, by its `nodePort`.
    Service { name: NamespacedName, port: u16 },
    /// To a pod of that node, by its `hostPort`.
    Pod { uid: Uid, port: u16 },
}

/// What the port of this node leads to, at one of its addresses or at any.
pub fn way(cluster: &Cluster, node: &str, at: Option<IpAddr>, protocol: Protocol, number: u16) -> Option<Way> {
    service(cluster, protocol, number).or_else(|| pod(cluster, node, at, protocol, number))
}

fn service(cluster: &Cluster, protocol: Protocol, number: u16) -> Option<Way> {
    cluster.services().find_map(|service| {
        let port = service.ports.iter().find(|it| it.node_port == Some(number) && it.protocol == protocol)?;
        Some(Way::Service { name: service.name.clone(), port: port.port })
    })
}

fn pod(cluster: &Cluster, node: &str, at: Option<IpAddr>, protocol: Protocol, number: u16) -> Option<Way> {
    let here = |pod: &&Pod| pod.node.as_deref() == Some(node) && !pod.host_network && pod.owns_addresses();
    cluster.pods().filter(here).find_map(|pod| {
        let port = pod.ports.iter().find(|port| {
            let leads = |host: kilter_model::HostPort| {
                host.port == number && (at.is_none() || host.address.is_none() || host.address == at)
            };
            port.protocol == protocol && port.host.is_some_and(leads)
        })?;
        Some(Way::Pod { uid: pod.uid.clone(), port: port.port })
    })
}
