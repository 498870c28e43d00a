//! The fabric: the network that a twin's nodes are plugged into, and the nodes' namespaces.
//!
//! One bridge is the node subnet, of one family or both; the fabric's own addresses on it are the
//! nodes' gateways, and its route table holds each node's blocks of pod addresses, as the route table of
//! a VPC does. Where pods' packets travel in a tunnel it knows nothing of them.

use std::net::IpAddr;

use anyhow::{Context, Result};
use ipnet::IpNet;
use kilter_model::Routing;
use kilter_netlink::{Mac, Neighbour, Netlink, Peer, Route, Veth, mac_of, sysctls};
use kilter_netns::NetNs;

use crate::internet;
use crate::mounts::create_namespace;
use crate::paths::Layout;
use crate::spec::{NodePlan, TwinSpec};

/// The bridge that is the node subnet.
const BRIDGE: &str = "br0";
/// A node's link into the fabric.
pub const UPLINK: &str = "eth0";
/// The MTU of the node subnet, Ethernet's usual one, in bytes.
pub const MTU: u32 = 1500;

/// Makes the fabric's namespace with the node subnets in it.
pub async fn create_fabric(layout: &Layout, spec: &TwinSpec) -> Result<Fabric> {
    let namespace = create_namespace(&layout.fabric())?;
    forward(&namespace, &spec.node_subnets)?;
    let netlink = Netlink::new(&namespace)?;
    let loopback = netlink.link_index("lo").await?;
    netlink.set_up(loopback).await?;
    netlink.create_bridge(BRIDGE, mac(&spec.gateways())).await?;
    let bridge = netlink.link_index(BRIDGE).await?;
    for (net, addresses) in spec.node_subnets.iter().zip(spec.gateways().iter().zip(spec.api_addresses())) {
        for address in [*addresses.0, addresses.1] {
            netlink.add_address(bridge, IpNet::new(address, net.prefix_len())?).await?;
        }
    }
    netlink.set_up(bridge).await?;
    for pool in spec.lb_pools.iter().filter(|pool| !spec.node_subnets.iter().any(|net| net.contains(*pool))) {
        netlink.replace_route(&Route::on_link(pool.trunc(), bridge)).await?;
    }
    Ok(Fabric::new(netlink, bridge, spec))
}

/// Makes a namespace forward packets of the families that there are subnets of, and be silent in the
/// others. Who has which address is decided here, so nobody looks for duplicates or asks for routers.
pub(crate) fn forward(namespace: &NetNs, subnets: &[IpNet]) -> Result<()> {
    let ipv6 = subnets.iter().any(|net| net.addr().is_ipv6());
    let disabled = if ipv6 { "0" } else { "1" };
    let values = [
        ("net.ipv4.ip_forward", "1"),
        ("net.ipv4.conf.all.rp_filter", "0"),
        ("net.ipv4.conf.default.rp_filter", "0"),
        ("net.ipv6.conf.all.accept_dad", "0"),
        ("net.ipv6.conf.default.accept_dad", "0"),
        ("net.ipv6.conf.all.forwarding", "1"),
        ("net.ipv6.conf.all.disable_ipv6", disabled),
        ("net.ipv6.conf.default.disable_ipv6", disabled),
    ];
    Ok(sysctls(namespace, &values)?)
}

/// The hardware address of who has these addresses in the node subnet: nodes know each other before they meet.
fn mac(addresses: &[IpAddr]) -> Mac {
    mac_of(0x6e, addresses)
}

/// Who is where in the node subnet: the fabric itself, and the nodes that are planned.
fn places(spec: &TwinSpec) -> Vec<(IpAddr, Mac)> {
    let gateways = spec.gateways();
    let own = gateways.iter().copied().chain(spec.api_addresses()).map(|address| (address, mac(&gateways)));
    let nodes = spec.node_plans();
    let of_nodes = nodes.iter().flat_map(|node| node.addresses.iter().map(|address| (*address, mac(&node.addresses))));
    own.chain(of_nodes).collect()
}

/// The fabric, as far as nodes are plugged into it.
pub struct Fabric {
    netlink: Netlink,
    bridge: u32,
    subnets: Vec<IpNet>,
    gateways: Vec<IpAddr>,
    places: Vec<(IpAddr, Mac)>,
    routing: Routing,
}

impl Fabric {
    /// The fabric of a twin that runs.
    pub async fn open(layout: &Layout, spec: &TwinSpec) -> Result<Self> {
        let netlink = Netlink::new(&NetNs::open(layout.fabric())?)?;
        let bridge = netlink.link_index(BRIDGE).await?;
        Ok(Self::new(netlink, bridge, spec))
    }

    fn new(netlink: Netlink, bridge: u32, spec: &TwinSpec) -> Self {
        let (subnets, gateways) = (spec.node_subnets.clone(), spec.gateways());
        Self { netlink, bridge, subnets, gateways, places: places(spec), routing: spec.routing }
    }

    /// The fabric's routes to a node's pods.
    fn routes(&self, node: &NodePlan) -> impl Iterator<Item = Route> {
        let ways = node.pod_cidrs.iter().zip(&node.addresses).filter(|_| self.routing == Routing::Native);
        ways.map(|(block, address)| Route::via(*block, *address, self.bridge))
    }

    /// Unplugs a node, if it is plugged in, and forgets the way to its pods.
    pub async fn remove_node(&self, node: &NodePlan) -> Result<()> {
        for route in self.routes(node) {
            match self.netlink.delete_route(&route).await {
                Err(error) if !error.is_missing() => return Err(error.into()),
                _ => {}
            }
        }
        if let Some(port) = self.netlink.link(&node.name).await? {
            self.netlink.delete_link(port.index).await?;
        }
        Ok(())
    }

    /// Makes the internet's namespace and plugs it in.
    pub async fn add_internet(&self, layout: &Layout, spec: &TwinSpec) -> Result<()> {
        internet::create(layout, spec, &self.netlink).await.context("plug the internet into the fabric")
    }

    /// Makes a node's namespace and plugs it in.
    pub async fn add_node(&self, layout: &Layout, node: &NodePlan) -> Result<()> {
        let namespace = create_namespace(&layout.node_namespace(&node.name))?;
        self.plug(&namespace, node).await.with_context(|| format!("plug {} into the fabric", node.name))
    }

    async fn plug(&self, namespace: &NetNs, node: &NodePlan) -> Result<()> {
        forward(namespace, &self.subnets)?;
        let peer = Peer { name: UPLINK, mac: Some(mac(&node.addresses)), namespace };
        self.netlink.create_veth(&Veth { name: &node.name, mac: None, mtu: MTU, peer }).await?;
        let port = self.netlink.link_index(&node.name).await?;
        self.netlink.set_master(port, self.bridge).await?;

        let inside = Netlink::new(namespace)?;
        let loopback = inside.link_index("lo").await?;
        inside.set_up(loopback).await?;
        let uplink = inside.link_index(UPLINK).await?;
        for (address, net) in node.addresses.iter().zip(&self.subnets) {
            inside.add_address(uplink, IpNet::new(*address, net.prefix_len())?).await?;
        }
        inside.set_up(uplink).await?;
        self.meet(&inside, uplink, node).await?;
        self.netlink.set_up(port).await?;
        for gateway in &self.gateways {
            inside.replace_route(&Route::default_via(*gateway, uplink)).await?;
        }
        for route in self.routes(node) {
            self.netlink.replace_route(&route).await?;
        }
        Ok(())
    }

    /// Tells a node who else is where, for good. What a kernel looks up itself is limited to `gc_thresh3`, 1,024 for
    /// all namespaces together: so many that 33 nodes know each other.
    async fn meet(&self, inside: &Netlink, link: u32, node: &NodePlan) -> Result<()> {
        for &(address, mac) in self.places.iter().filter(|(address, _)| !node.addresses.contains(address)) {
            inside.replace_neighbour(&Neighbour { link, address, mac }).await?;
        }
        Ok(())
    }
}
