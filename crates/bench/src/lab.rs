//! Scratch networks for the peers: nodes on a bridge and pods behind them, wired as Kilter wires
//! its own (one veth pair and one /32 route a pod), with the kernel alone to carry the packets.
//!
//! No namespace has a name: when the last handle closes, the kernel takes down all that is inside.

use std::net::{IpAddr, Ipv4Addr};
use std::sync::Arc;

use anyhow::{Context, Result};
use ipnet::{IpNet, Ipv4Net};
use kilter_netlink::{Mac, Neighbour, Netlink, Peer, Route, Veth, mac_of, sysctls};
use kilter_netns::NetNs;
use tokio::runtime::Runtime;

/// MTU of every link, bytes.
const MTU: u32 = 1500;
/// The next hop of every pod; no interface has it.
const GATEWAY: Ipv4Addr = Ipv4Addr::new(169, 254, 1, 1);
/// The hardware address of every node-side end of a pod's link.
const GATEWAY_MAC: Mac = [0x02, 0x6b, 0x62, 0, 0, 1];

/// A bridge with nodes on it.
pub struct Lab {
    runtime: Runtime,
    /// Held so that the bridge stays; nobody looks inside.
    _fabric: NetNs,
    bridge: Netlink,
    bridge_index: u32,
    nodes: Vec<Node>,
}

/// A node with pods.
struct Node {
    netns: Arc<NetNs>,
    netlink: Netlink,
    uplink: u32,
    pods: u8,
}

/// A pod of a [`Lab`].
pub struct Pod {
    /// Its namespace.
    pub netns: Arc<NetNs>,
    /// Its address.
    pub address: Ipv4Addr,
}

impl Lab {
    /// An empty one.
    pub fn new() -> Result<Self> {
        let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build()?;
        let fabric = namespace(&[("net.ipv6.conf.all.disable_ipv6", "1")])?;
        let (bridge, bridge_index) = runtime
            .block_on(async {
                let bridge = Netlink::new(&fabric)?;
                bridge.create_bridge("br0", [2, 0, 0, 0, 1, 0]).await?;
                let index = bridge.link_index("br0").await?;
                bridge.set_up(index).await?;
                anyhow::Ok((bridge, index))
            })
            .context("make a bridge for the peers")?;
        Ok(Self { runtime, _fabric: fabric, bridge, bridge_index, nodes: Vec::new() })
    }

    /// Adds a node that routes to all nodes before it, and they to it. Returns its number.
    pub fn add_node(&mut self) -> Result<usize> {
        let number = self.nodes.len();
        let netns = namespace(&[
            ("net.ipv6.conf.all.disable_ipv6", "1"),
            ("net.ipv6.conf.default.disable_ipv6", "1"),
            ("net.ipv4.ip_forward", "1"),
            ("net.ipv4.conf.all.rp_filter", "0"),
            ("net.ipv4.conf.default.rp_filter", "0"),
        ])?;
        let node = self.runtime.block_on(self.plug(netns, number)).context("plug a node into the bridge")?;
        self.nodes.push(node);
        Ok(number)
    }

    async fn plug(&self, netns: NetNs, number: usize) -> Result<Node> {
        let name = format!("node{number}");
        let peer = Peer { name: "eth0", mac: None, namespace: &netns };
        self.bridge.create_veth(&Veth { name: &name, mac: None, mtu: MTU, peer }).await?;
        let port = self.bridge.link_index(&name).await?;
        self.bridge.set_master(port, self.bridge_index).await?;
        self.bridge.set_up(port).await?;
        let netlink = Netlink::new(&netns)?;
        let loopback = netlink.link_index("lo").await?;
        netlink.set_up(loopback).await?;
        let uplink = netlink.link_index("eth0").await?;
        netlink.add_address(uplink, IpNet::new(node_address(number).into(), 24)?).await?;
        netlink.set_up(uplink).await?;
        for (other, node) in self.nodes.iter().enumerate() {
            let there = Route::via(block(other)?.into(), node_address(other).into(), uplink);
            netlink.replace_route(&there).await?;
            let back = Route::via(block(number)?.into(), node_address(number).into(), node.uplink);
            node.netlink.replace_route(&back).await?;
        }
        Ok(Node { netns: Arc::new(netns), netlink, uplink, pods: 0 })
    }

    /// A node's namespace.
    pub fn node(&self, number: usize) -> &Arc<NetNs> {
        &self.nodes[number].netns
    }

    /// Adds a pod to a node.
    pub fn add_pod(&mut self, node: usize) -> Result<Pod> {
        self.nodes[node].pods += 1;
        let pod = Pod {
            netns: Arc::new(namespace(&[("net.ipv6.conf.all.disable_ipv6", "1")])?),
            address: pod_address(node, self.nodes[node].pods + 1),
        };
        self.runtime.block_on(wire(&self.nodes[node], &pod)).context("wire a pod")?;
        Ok(pod)
    }
}

async fn wire(node: &Node, pod: &Pod) -> Result<()> {
    let name = format!("pod{}", pod.address.octets()[3]);
    let (address, gateway) = (IpAddr::from(pod.address), IpAddr::from(GATEWAY));
    let mac = pod_mac(pod.address);
    let peer = Peer { name: "eth0", mac: Some(mac), namespace: &pod.netns };
    node.netlink.create_veth(&Veth { name: &name, mac: Some(GATEWAY_MAC), mtu: MTU, peer }).await?;
    let outside = node.netlink.link_index(&name).await?;
    let netlink = Netlink::new(&pod.netns)?;
    let loopback = netlink.link_index("lo").await?;
    netlink.set_up(loopback).await?;
    let inside = netlink.link_index("eth0").await?;
    netlink.add_address(inside, IpNet::from(address)).await?;
    netlink.set_up(inside).await?;
    node.netlink.set_up(outside).await?;
    netlink.replace_neighbour(&Neighbour { link: inside, address: gateway, mac: GATEWAY_MAC }).await?;
    netlink.replace_route(&Route::default_via(gateway, inside)).await?;
    node.netlink.replace_neighbour(&Neighbour { link: outside, address, mac }).await?;
    Ok(node.netlink.replace_route(&Route::on_link(IpNet::from(address), outside)).await?)
}

/// A new namespace with these sysctls.
fn namespace(values: &[(&str, &str)]) -> Result<NetNs> {
    let netns = NetNs::create().context("make a network namespace (this needs root)")?;
    sysctls(&netns, values)?;
    Ok(netns)
}

fn node_address(node: usize) -> Ipv4Addr {
    Ipv4Addr::new(10, 250, 0, node as u8 + 11)
}

/// The addresses of a node's pods.
fn block(node: usize) -> Result<Ipv4Net> {
    Ok(Ipv4Net::new(pod_address(node, 0), 24)?)
}

fn pod_address(node: usize, host: u8) -> Ipv4Addr {
    Ipv4Addr::new(10, 251, node as u8, host)
}

fn pod_mac(address: Ipv4Addr) -> Mac {
    mac_of(0x6b, &[address.into()])
}
