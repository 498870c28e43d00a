//! What the node's own namespace must be like, whatever its pods are.

use std::collections::BTreeSet;

use anyhow::{Context, Result};
use ipnet::IpNet;
use kilter_datapath::{EGRESS_MARK, SERVICE_PORTS};
use kilter_netlink::{Family, Link, Masquerade, Netlink, Setting, ipv6, read_sysctl, sysctls_here};
use kilter_netns::NetNs;

/// Source ports that masquerading hands out. Four parties hand out ports on a node; their ranges are
/// disjoint: this one, translated connections of Services (`SERVICE_PORTS`), NodePorts, and local sockets
/// (the rest of `ip_local_port_range`).
pub const MASQUERADE_PORTS: (u16, u16) = (40_000, 59_999);

/// The default `--service-node-port-range` of Kubernetes.
const NODE_PORTS: (u16, u16) = (30_000, 32_767);

const RESERVED_PORTS: &str = "net/ipv4/ip_local_reserved_ports";

/// Sets forwarding, filters, reserved ports, source NAT and the fate of unused pod addresses.
/// Idempotent. Returns the uplink.
pub async fn prepare(netlink: &Netlink, uplink: &str, pod_cidrs: &[IpNet]) -> Result<Link> {
    let namespace = NetNs::current()?;
    let link = netlink
        .link(uplink)
        .await?
        .with_context(|| format!("this node has no link {uplink}; name its uplink in the configuration"))?;
    let values = sysctls(uplink, pod_cidrs);
    sysctls_here(&values.iter().map(|(key, value)| (key.as_str(), *value)).collect::<Vec<_>>())?;
    reserve_ports(&namespace)?;
    for family in families(pod_cidrs) {
        Masquerade { family, mark: EGRESS_MARK, link: uplink.to_owned(), ports: MASQUERADE_PORTS }
            .replace(&namespace)?;
    }
    // A packet to an address that no pod holds must not follow the default route out and back.
    for block in pod_cidrs {
        netlink.replace_unreachable(block.trunc()).await?;
    }
    Ok(link)
}

/// Those that pods have addresses of.
pub fn families(blocks: &[IpNet]) -> BTreeSet<Family> {
    let family = |block: &IpNet| if block.addr().is_ipv4() { Family::V4 } else { Family::V6 };
    blocks.iter().map(family).collect()
}

/// The sysctls that a node's namespace must have.
pub fn sysctls(uplink: &str, pod_cidrs: &[IpNet]) -> Vec<Setting> {
    let ipv6 = families(pod_cidrs).contains(&Family::V6).then(ipv6::forwarding);
    let ipv4 = [
        ("net/ipv4/ip_forward".to_owned(), "1"),
        // The kernel takes the stricter of `all` and the link's own.
        ("net/ipv4/conf/all/rp_filter".to_owned(), "0"),
        (format!("net/ipv4/conf/{uplink}/rp_filter"), "0"),
    ];
    ipv4.into_iter().chain(ipv6).collect()
}

/// Adds to what the machine's owner reserved; the kernel merges what overlaps.
fn reserve_ports(namespace: &NetNs) -> Result<()> {
    let ranges = [NODE_PORTS, MASQUERADE_PORTS, SERVICE_PORTS];
    let ours = ranges.map(|(first, last)| format!("{first}-{last}")).join(",");
    let all = match read_sysctl(namespace, RESERVED_PORTS)? {
        already if already.is_empty() => ours,
        already => format!("{already},{ours}"),
    };
    Ok(sysctls_here(&[(RESERVED_PORTS, all.as_str())])?)
}
