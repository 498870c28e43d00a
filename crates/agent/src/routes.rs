//! Routes to the other nodes' pods: for the data plane, and the same in the kernel for what takes the
//! stack (the node's own connections).

use std::collections::BTreeSet;

use ipnet::IpNet;
use kilter_datapath::NodeRoute;
use kilter_model::{Cluster, Routing};
use kilter_netlink::{Error, Netlink, Route, Tunnel};
use std::net::IpAddr;

use crate::overlay::VNI;

/// A route for each block of each other node, through its first address of that family, or of any
/// where a tunnel leads there. A block that
/// two nodes claim is nobody's: packets must not go where the pod may not be.
pub fn wanted(cluster: &Cluster, own_node: &str, routing: Routing) -> BTreeSet<NodeRoute> {
    let mut routes = BTreeSet::new();
    let mut doubled: BTreeSet<IpNet> = BTreeSet::new();
    for node in cluster.nodes().filter(|node| &*node.name != own_node) {
        for prefix in node.pod_cidrs.iter().map(IpNet::trunc) {
            let leads = |address: &&IpAddr| {
                routing == Routing::Vxlan || address.is_ipv4() == prefix.addr().is_ipv4()
            };
            let Some(next_hop) = node.addresses.iter().find(leads).copied() else { continue };
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

/// What the data plane alone must know: that other nodes' addresses are inside. Its pods then speak to
/// them under their own addresses; the kernel finds the way by itself.
pub fn to_nodes(cluster: &Cluster, own_node: &str, routing: Routing) -> BTreeSet<NodeRoute> {
    let others = cluster.nodes().filter(|node| &*node.name != own_node);
    let routes = others.flat_map(|node| {
        let first = node.addresses.first().copied().filter(|_| routing == Routing::Vxlan);
        let route = move |address: &IpAddr| NodeRoute {
            prefix: (*address).into(),
            next_hop: first.unwrap_or(*address),
        };
        node.addresses.iter().map(route)
    });
    routes.collect()
}

/// Makes the kernel's routes by `link`, the uplink or the tunnel's device, these and no others of
/// Kilter's.
pub async fn apply(
    netlink: &Netlink,
    link: u32,
    routing: Routing,
    wanted: &BTreeSet<NodeRoute>,
) -> Result<(), Error> {
    let route = |wanted: &NodeRoute| match routing {
        Routing::Native => Route::via(wanted.prefix, wanted.next_hop, link),
        Routing::Vxlan => Route::tunnelled(wanted.prefix, Tunnel { to: wanted.next_hop, id: VNI }, link),
    };
    let wanted: BTreeSet<Route> = wanted.iter().map(route).collect();
    let own = netlink.routes(true).await?.into_iter();
    // The way out is no pod block: whoever plugged the node in has set it, and in a twin that is Kilter.
    let leads_on = |route: &Route| route.via.is_some() || route.tunnel.is_some();
    let is_block = |route: &Route| route.destination.prefix_len() > 0;
    let present: BTreeSet<Route> =
        own.filter(|route| route.link == link && leads_on(route) && is_block(route)).collect();
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

    fn node(name: &str, number: u8, block: &str) -> Event {
        let (v4, v6) = (format!("10.240.0.{number}"), format!("fd00:240::{number}"));
        Event::Node(Node {
            name: name.into(),
            labels: Labels::new(),
            addresses: vec![v6.parse().unwrap(), v4.parse().unwrap()],
            pod_cidrs: vec![block.parse().unwrap(), format!("fd00:244:{number}::/64").parse().unwrap()],
            ready: true,
            origin: Origin::Builtin,
        })
    }

    fn text(cluster: &Cluster) -> Vec<String> {
        wanted(cluster, "a", Routing::Native).iter().map(|r| format!("{} via {}", r.prefix, r.next_hop)).collect()
    }

    #[test]
    fn every_other_node_gets_a_route_and_a_doubled_block_none() {
        let mut cluster = Cluster::from_events([
            node("a", 11, "10.244.0.0/24"),
            node("b", 12, "10.244.1.0/24"),
            node("c", 13, "10.244.2.0/24"),
        ]);
        let over_ipv6 = ["fd00:244:12::/64 via fd00:240::12", "fd00:244:13::/64 via fd00:240::13"];
        let over_ipv4 = ["10.244.1.0/24 via 10.240.0.12", "10.244.2.0/24 via 10.240.0.13"];
        assert_eq!(text(&cluster), [over_ipv4, over_ipv6].concat());
        let nodes: Vec<_> = to_nodes(&cluster, "a", Routing::Native).iter().map(|r| r.prefix.to_string()).collect();
        assert_eq!(nodes, ["10.240.0.12/32", "10.240.0.13/32", "fd00:240::12/128", "fd00:240::13/128"]);
        cluster.apply(node("c", 13, "10.244.1.0/24"));
        assert_eq!(text(&cluster), over_ipv6);
    }

    #[test]
    fn a_tunnel_leads_to_the_first_address_whatever_its_family() {
        let cluster = Cluster::from_events([node("a", 11, "10.244.0.0/24"), node("b", 12, "10.244.1.0/24")]);
        let blocks = wanted(&cluster, "a", Routing::Vxlan);
        let text: Vec<_> = blocks.iter().map(|r| format!("{} via {}", r.prefix, r.next_hop)).collect();
        assert_eq!(text, ["10.244.1.0/24 via fd00:240::12", "fd00:244:12::/64 via fd00:240::12"]);
        let nodes: Vec<_> = to_nodes(&cluster, "a", Routing::Vxlan).iter().map(|r| r.next_hop).collect();
        assert_eq!(nodes, ["fd00:240::12".parse::<IpAddr>().unwrap(); 2]);
    }
}
