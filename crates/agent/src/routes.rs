//! Routes to the other nodes' pods: for the data plane, and the same in the kernel for what takes the
//! stack (the node's own connections).

use std::collections::BTreeSet;

use ipnet::{IpNet, Ipv4Net};
use kilter_datapath::NodeRoute;
use kilter_model::Cluster;
use kilter_netlink::{Error, Netlink, Route};
use std::net::IpAddr;

/// A route for each IPv4 block of each other node, through its first IPv4 address. A block that two
/// nodes claim is nobody's: packets must not go where the pod may not be.
pub fn wanted(cluster: &Cluster, own_node: &str) -> BTreeSet<NodeRoute> {
    let mut routes = BTreeSet::new();
    let mut doubled: BTreeSet<Ipv4Net> = BTreeSet::new();
    for node in cluster.nodes().filter(|node| &*node.name != own_node) {
        let next_hop = node.addresses.iter().find_map(|address| match address {
            IpAddr::V4(v4) => Some(*v4),
            IpAddr::V6(_) => None,
        });
        let blocks = node.pod_cidrs.iter().filter_map(|block| match block {
            IpNet::V4(v4) => Some(v4.trunc()),
            IpNet::V6(_) => None,
        });
        for (prefix, next_hop) in blocks.zip(std::iter::repeat(next_hop)) {
            let Some(next_hop) = next_hop else { continue };
            if routes.iter().any(|route: &NodeRoute| route.prefix == prefix) {
                tracing::error!(%prefix, node = %node.name, "two nodes claim one pod block; neither gets a route");
                doubled.insert(prefix);
            }
            routes.insert(NodeRoute { prefix, next_hop });
        }
    }
    routes.retain(|route| !doubled.contains(&route.prefix));
    routes
}

/// Makes the kernel's routes through the uplink these, and no others of Kilter's.
pub async fn apply(netlink: &Netlink, uplink: u32, wanted: &BTreeSet<NodeRoute>) -> Result<(), Error> {
    let wanted: BTreeSet<Route> =
        wanted.iter().map(|r| Route::via(r.prefix.into(), r.next_hop.into(), uplink)).collect();
    let own = netlink.routes(true).await?.into_iter();
    let present: BTreeSet<Route> = own.filter(|route| route.link == uplink && route.via.is_some()).collect();
    for route in wanted.difference(&present) {
        netlink.replace_route(route).await?;
    }
    let destinations: BTreeSet<IpNet> = wanted.iter().map(|route| route.destination).collect();
    for route in present.iter().filter(|route| !destinations.contains(&route.destination)) {
        match netlink.delete_route(route).await {
            Err(error) if !error.is_missing() => return Err(error),
            _ => {}
        }
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use kilter_model::{Event, Labels, Node, Origin};

    use super::*;

    fn node(name: &str, address: &str, block: &str) -> Event {
        Event::Node(Node {
            name: name.into(),
            labels: Labels::new(),
            addresses: vec!["fd00::1".parse().unwrap(), address.parse().unwrap()],
            pod_cidrs: vec![block.parse().unwrap(), "fd00:1::/64".parse().unwrap()],
            ready: true,
            origin: Origin::Builtin,
        })
    }

    fn text(cluster: &Cluster) -> Vec<String> {
        wanted(cluster, "a").iter().map(|r| format!("{} via {}", r.prefix, r.next_hop)).collect()
    }

    #[test]
    fn every_other_node_gets_a_route_and_a_doubled_block_none() {
        let mut cluster = Cluster::from_events([
            node("a", "10.240.0.11", "10.244.0.0/24"),
            node("b", "10.240.0.12", "10.244.1.0/24"),
            node("c", "10.240.0.13", "10.244.2.0/24"),
        ]);
        assert_eq!(text(&cluster), ["10.244.1.0/24 via 10.240.0.12", "10.244.2.0/24 via 10.240.0.13"]);
        cluster.apply(node("c", "10.240.0.13", "10.244.1.0/24"));
        assert_eq!(text(&cluster), Vec::<String>::new());
    }
}
