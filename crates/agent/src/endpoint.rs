//! A pod's link: names, addresses, and what is set on both ends.

use std::net::{IpAddr, Ipv4Addr};

use crate::ipam::Reservation;
use futures::try_join;
use ipnet::{IpNet, Ipv4Net};
use kilter_datapath::{Endpoint, GATEWAY_MAC};
use kilter_netlink::{Error, Mac, Neighbour, Netlink, Peer, Route, Veth, sysctl, sysctls_here};
use kilter_netns::NetNs;
use kilter_wire::cni::{CniResult, Dns, Interface, IpConfig, Route as CniRoute};

/// The next hop of every pod. Nobody has this address; a permanent neighbour answers for it.
pub const GATEWAY: Ipv4Addr = Ipv4Addr::new(169, 254, 1, 1);

/// How the names of host-side links begin, by which the agent finds its own.
pub const LINK_PREFIX: &str = "klt";

/// Name of the host side of a container's link: 14 bytes of the 15 allowed.
pub fn link_name(container: &str) -> String {
    format!("{LINK_PREFIX}{:011x}", fnv1a(container.as_bytes()) & 0xfff_ffff_ffff)
}

/// Hardware address of the pod's side: its IPv4 address within.
pub fn pod_mac(address: Ipv4Addr) -> Mac {
    let [a, b, c, d] = address.octets();
    [0x02, 0x6b, a, b, c, d]
}

/// A container's part of the data plane, behind the link with this index.
pub fn attached_by(reservation: &Reservation, link: u32) -> Endpoint {
    let addresses = [reservation.address.into()].into();
    Endpoint { ifindex: link, addresses, mac: pod_mac(reservation.address) }
}

/// FNV-1a, because link names must be the same in every version of this program.
fn fnv1a(bytes: &[u8]) -> u64 {
    bytes
        .iter()
        .fold(0xcbf2_9ce4_8422_2325, |hash, byte| (hash ^ u64::from(*byte)).wrapping_mul(0x0100_0000_01b3))
}

/// What a link is made from.
#[derive(Debug)]
pub struct Plan<'a> {
    /// Name on the host, [`link_name`].
    pub link: &'a str,
    /// Name in the pod, `CNI_IFNAME`.
    pub ifname: &'a str,
    /// The pod's address.
    pub address: Ipv4Addr,
    /// MTU of both ends.
    pub mtu: u32,
    /// The pod's namespace.
    pub namespace: &'a NetNs,
}

impl Plan<'_> {
    /// Makes the pair, both ends down, and returns the host side's index.
    pub async fn create(&self, node: &Netlink) -> Result<u32, Error> {
        let peer = Peer { name: self.ifname, mac: Some(pod_mac(self.address)), namespace: self.namespace };
        node.create_veth(&Veth { name: self.link, mac: Some(GATEWAY_MAC), mtu: self.mtu, peer }).await?;
        node.link_index(self.link).await
    }

    /// Sets up the pod's side. Nothing passes yet, because the host side is down.
    pub async fn configure_pod(&self) -> Result<(), Error> {
        let pod = Netlink::new(self.namespace)?;
        let (link, lo) = try_join!(pod.link_index(self.ifname), pod.link_index("lo"))?;
        if has_ipv6() {
            sysctl(self.namespace, &format!("net/ipv6/conf/{}/disable_ipv6", self.ifname), "1")?;
        }
        let (gateway, route) = (self.gateway_in_pod(link), self.route_in_pod(link));
        // Requests of one socket are served in order, so these need not wait for each other.
        try_join!(
            pod.set_up(lo),
            pod.add_address(link, host(self.address)),
            pod.set_up(link),
            pod.replace_neighbour(&gateway),
            pod.replace_route(&route),
        )?;
        Ok(())
    }

    /// Sets up the host side and opens it. The pod's rows must be in force.
    pub async fn open(&self, node: &Netlink, link: u32) -> Result<(), Error> {
        let key = |family, name| format!("net/{family}/conf/{}/{name}", self.link);
        let mut values = vec![
            (key("ipv4", "rp_filter"), "0"),
            (key("ipv4", "proxy_arp"), "0"),
            (key("ipv4", "forwarding"), "1"),
        ];
        if has_ipv6() {
            values.extend([(key("ipv6", "disable_ipv6"), "1"), (key("ipv6", "accept_ra"), "0")]);
        }
        let values: Vec<_> = values.iter().map(|(key, value)| (key.as_str(), *value)).collect();
        sysctls_here(&values)?;
        let (neighbour, route) = (self.pod_on_node(link), self.route_on_node(link));
        try_join!(node.set_up(link), node.replace_neighbour(&neighbour), node.replace_route(&route))?;
        Ok(())
    }

    /// The next hop, as the pod has to know it.
    pub fn gateway_in_pod(&self, link: u32) -> Neighbour {
        Neighbour { link, address: GATEWAY.into(), mac: GATEWAY_MAC }
    }

    /// The pod's way to everybody.
    pub fn route_in_pod(&self, link: u32) -> Route {
        Route::default_via(GATEWAY.into(), link)
    }

    /// The pod, as its node has to know it.
    pub fn pod_on_node(&self, link: u32) -> Neighbour {
        Neighbour { link, address: self.address.into(), mac: pod_mac(self.address) }
    }

    /// The node's way to the pod.
    pub fn route_on_node(&self, link: u32) -> Route {
        Route::on_link(host(self.address), link)
    }

    /// What the runtime is told.
    pub fn result(&self, version: &str, sandbox: &str) -> CniResult {
        let interface = |name: &str, mac, sandbox: &str| Interface {
            name: name.to_owned(),
            mac: mac_text(mac),
            mtu: Some(self.mtu),
            sandbox: sandbox.to_owned(),
        };
        let gateway = Some(IpAddr::V4(GATEWAY));
        CniResult {
            cni_version: version.to_owned(),
            interfaces: vec![
                interface(self.link, GATEWAY_MAC, ""),
                interface(self.ifname, pod_mac(self.address), sandbox),
            ],
            ips: vec![IpConfig { address: host(self.address).to_string(), gateway, interface: Some(1) }],
            routes: vec![CniRoute { dst: Ipv4Net::default().to_string(), gw: gateway }],
            dns: Dns::default(),
        }
    }
}

/// Whether the kernel speaks IPv6 at all; booted without, it has nothing to disable.
fn has_ipv6() -> bool {
    std::path::Path::new("/proc/sys/net/ipv6").exists()
}

/// An address as the block of itself alone.
pub fn host(address: Ipv4Addr) -> IpNet {
    IpNet::from(IpAddr::V4(address))
}

fn mac_text(mac: Mac) -> String {
    mac.map(|byte| format!("{byte:02x}")).join(":")
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn link_names_fit_and_never_change_between_versions() {
        assert_eq!(link_name("c0ffee"), link_name("c0ffee"));
        assert_ne!(link_name("c0ffee"), link_name("c0ffef"));
        assert_eq!(link_name("").len(), 14);
        assert_eq!(link_name(""), "kltce484222325");
    }

    #[test]
    fn a_pods_mac_holds_its_address() {
        assert_eq!(mac_text(pod_mac(Ipv4Addr::new(10, 244, 1, 7))), "02:6b:0a:f4:01:07");
    }
}
