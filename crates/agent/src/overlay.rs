//! The VXLAN device to other nodes' pods, where the network between the nodes knows nothing of pods.

use std::net::IpAddr;

use anyhow::{Context, Result};
use kilter_model::{Family, Routing};
use kilter_netlink::{Link, Netlink, ipv6, sysctls_here};

/// The device's name.
pub(crate) const LINK: &str = "kilter-vxlan";
/// The port that Linux has always used; IANA's own (4789) is often taken by what the nodes run on.
pub(crate) const PORT: u16 = 8472;
/// The number of the cluster's network in the tunnel.
pub const VNI: u32 = 1;

/// The MTU of pods' links, on nodes with such an uplink and first address.
pub fn pod_mtu(uplink: u32, routing: Routing, nodes: Option<&IpAddr>) -> u32 {
    uplink.saturating_sub(nodes.map_or(0, |address| routing.overhead(Family::of(address))))
}

/// Makes the device what it must be, whatever there is of its name, and sets it up.
pub(crate) async fn prepare(netlink: &Netlink, mtu: u32) -> Result<Link> {
    match netlink.link(LINK).await? {
        Some(there) if there.vxlan_port == Some(PORT) => netlink.set_mtu(there.index, mtu).await?,
        Some(other) => {
            netlink.delete_link(other.index).await?;
            netlink.create_vxlan(LINK, PORT, mtu).await?;
        }
        None => netlink.create_vxlan(LINK, PORT, mtu).await?,
    }
    // Its packets come from pods' addresses, which the kernel's routes do not expect there.
    sysctls_here(&[(format!("net/ipv4/conf/{LINK}/rp_filter"), "0")])?;
    if ipv6::has_ipv6() {
        sysctls_here(&ipv6::node_side(LINK))?;
    }
    netlink.set_up(netlink.link_index(LINK).await?).await?;
    netlink.link(LINK).await?.with_context(|| format!("{LINK} is gone again; who removes it?"))
}

/// What the device must be, in the words of [`found`].
pub(crate) fn expected(mtu: u32) -> String {
    text(Some(PORT), mtu, true)
}

/// What the device is.
pub(crate) fn found(link: Option<&Link>) -> String {
    link.map_or_else(|| "missing".into(), |link| text(link.vxlan_port, link.mtu, link.up))
}

fn text(port: Option<u16>, mtu: u32, up: bool) -> String {
    let kind = port.map_or_else(|| "no external VXLAN".into(), |port| format!("external VXLAN, port {port}"));
    format!("{kind}, mtu {mtu}, {}", if up { "up" } else { "down" })
}
