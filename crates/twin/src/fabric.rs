//! The fabric: the network that a twin's nodes are plugged into, and the nodes' namespaces.
//!
//! One bridge is the node subnet; the fabric's own address on it is the nodes' gateway, and its
//! route table holds each node's block of pod addresses, as the route table of a VPC does.

use std::net::IpAddr;

use anyhow::{Context, Result};
use ipnet::{IpNet, Ipv4Net};
use kilter_netlink::{Netlink, Peer, Route, Veth, sysctls};
use kilter_netns::NetNs;

use crate::mounts::create_namespace;
use crate::paths::Layout;
use crate::spec::{NodePlan, TwinSpec};

/// The bridge that is the node subnet.
const BRIDGE: &str = "br0";
/// A node's link into the fabric.
pub const UPLINK: &str = "eth0";
/// Ethernet's usual MTU; native routing needs no less.
const MTU: u32 = 1500;

/// Makes the fabric's namespace with the node subnet in it.
pub async fn create_fabric(layout: &Layout, spec: &TwinSpec) -> Result<Fabric> {
    let namespace = create_namespace(&layout.fabric())?;
    sysctls(&namespace, &[("net.ipv4.ip_forward", "1"), ("net.ipv6.conf.all.disable_ipv6", "1")])?;
    let netlink = Netlink::new(&namespace)?;
    let loopback = netlink.link_index("lo").await?;
    netlink.set_up(loopback).await?;
    netlink.create_bridge(BRIDGE).await?;
    let bridge = netlink.link_index(BRIDGE).await?;
    let prefix = spec.node_subnet.prefix_len();
    for address in [spec.gateway(), spec.api_address()] {
        netlink.add_address(bridge, IpNet::new(address.into(), prefix)?).await?;
    }
    netlink.set_up(bridge).await?;
    Ok(Fabric { netlink, bridge, prefix, gateway: spec.gateway().into() })
}

/// The fabric, as far as nodes are plugged into it.
pub struct Fabric {
    netlink: Netlink,
    bridge: u32,
    prefix: u8,
    gateway: IpAddr,
}

impl Fabric {
    /// Makes a node's namespace and plugs it in.
    pub async fn add_node(&self, layout: &Layout, node: &NodePlan) -> Result<()> {
        let namespace = create_namespace(&layout.node_namespace(&node.name))?;
        self.plug(&namespace, node).await.with_context(|| format!("plug {} into the fabric", node.name))
    }

    async fn plug(&self, namespace: &NetNs, node: &NodePlan) -> Result<()> {
        sysctls(
            namespace,
            &[
                ("net.ipv4.ip_forward", "1"),
                ("net.ipv4.conf.all.rp_filter", "0"),
                ("net.ipv4.conf.default.rp_filter", "0"),
                ("net.ipv6.conf.all.disable_ipv6", "1"),
                ("net.ipv6.conf.default.disable_ipv6", "1"),
            ],
        )?;
        let peer = Peer { name: UPLINK, mac: None, namespace };
        self.netlink.create_veth(&Veth { name: &node.name, mac: None, mtu: MTU, peer }).await?;
        let port = self.netlink.link_index(&node.name).await?;
        self.netlink.set_master(port, self.bridge).await?;

        let inside = Netlink::new(namespace)?;
        let loopback = inside.link_index("lo").await?;
        inside.set_up(loopback).await?;
        let uplink = inside.link_index(UPLINK).await?;
        inside.add_address(uplink, IpNet::new(node.address.into(), self.prefix)?).await?;
        inside.set_up(uplink).await?;
        self.netlink.set_up(port).await?;
        inside.replace_route(&Route::default_via(self.gateway, uplink)).await?;
        self.route(node.pod_cidr, node).await
    }

    async fn route(&self, block: Ipv4Net, node: &NodePlan) -> Result<()> {
        Ok(self.netlink.replace_route(&Route::via(block.into(), node.address.into(), self.bridge)).await?)
    }
}
