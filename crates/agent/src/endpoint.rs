//! A pod's link: names, addresses, and what is set on both ends.

use std::net::{IpAddr, Ipv4Addr, Ipv6Addr};

use futures::future::try_join_all;
use futures::try_join;
use ipnet::IpNet;
use kilter_datapath::{Endpoint, GATEWAY_MAC};
use kilter_netlink::{
    Error, Mac, Neighbour, Netlink, Peer, Route, Setting, Veth, ipv6, mac_of, settle, sysctls,
    sysctls_here,
};
use kilter_netns::NetNs;
use kilter_wire::cni::{CniResult, Dns, Interface, IpConfig, Route as CniRoute};

use crate::ipam::Reservation;

/// How the names of host-side links begin, by which the agent finds its own.
pub const LINK_PREFIX: &str = "klt";

/// Name of the host side of a container's link: 14 bytes of the 15 allowed.
pub fn link_name(container: &str) -> String {
    format!("{LINK_PREFIX}{:011x}", fnv1a(container.as_bytes()) & 0xfff_ffff_ffff)
}

/// Hardware address of the pod's side.
pub fn pod_mac(addresses: &[IpAddr]) -> Mac {
    mac_of(0x6b, addresses)
}

/// What the data plane is told of a container whose link on the node has this index.
pub fn endpoint(reservation: &Reservation, ifindex: u32) -> Endpoint {
    let mac = pod_mac(&reservation.addresses);
    Endpoint { ifindex, addresses: reservation.addresses.iter().copied().collect(), mac }
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
    /// The pod's addresses.
    pub addresses: &'a [IpAddr],
    /// MTU of both ends.
    pub mtu: u32,
    /// The pod's namespace.
    pub namespace: &'a NetNs,
}

impl Plan<'_> {
    /// Makes the pair, both ends down, and returns the host side's index.
    pub async fn create(&self, node: &Netlink) -> Result<u32, Error> {
        let peer = Peer { name: self.ifname, mac: Some(pod_mac(self.addresses)), namespace: self.namespace };
        node.create_veth(&Veth { name: self.link, mac: Some(GATEWAY_MAC), mtu: self.mtu, peer }).await?;
        node.link_index(self.link).await
    }

    /// Sets up the pod's side. Nothing passes yet, because the host side is down.
    pub async fn configure_pod(&self) -> Result<(), Error> {
        let pod = Netlink::new(self.namespace)?;
        let (link, lo) = try_join!(pod.link_index(self.ifname), pod.link_index("lo"))?;
        let speaking = ipv6::pod_side(self.ifname);
        sysctls(self.namespace, &ipv6_settings(self.ifname, self.speaks_ipv6(), speaking))?;
        let (gateways, routes) = (self.gateways_in_pod(link), self.routes_in_pod(link));
        // Requests of one socket are served in order, so these need not wait for each other.
        try_join!(
            pod.set_up(lo),
            try_join_all(self.addresses.iter().map(|address| pod.add_address(link, host(*address)))),
            pod.set_up(link),
            try_join_all(gateways.iter().map(|gateway| pod.replace_neighbour(gateway))),
            try_join_all(routes.iter().map(|route| pod.replace_route(route))),
        )?;
        Ok(())
    }

    /// Sets up the host side and opens it. The pod's rows must be in force.
    pub async fn open(&self, node: &Netlink, link: u32) -> Result<(), Error> {
        sysctls_here(&settings_on_node(self.link, self.speaks_ipv6()))?;
        let (neighbours, routes) = (self.pod_on_node(link), self.routes_on_node(link));
        try_join!(
            node.set_up(link),
            try_join_all(neighbours.iter().map(|neighbour| node.replace_neighbour(neighbour))),
            try_join_all(routes.iter().map(|route| node.replace_route(route))),
        )?;
        // The pod's end was up first: without this its first answers could be lost.
        settle(self.namespace, self.ifname)
    }

    /// The next hops, as the pod has to know them.
    pub fn gateways_in_pod(&self, link: u32) -> Vec<Neighbour> {
        let known = |address| Neighbour { link, address: gateway(address), mac: GATEWAY_MAC };
        self.addresses.iter().map(known).collect()
    }

    /// The pod's ways to everybody.
    pub fn routes_in_pod(&self, link: u32) -> Vec<Route> {
        self.addresses.iter().map(|address| Route::default_via(gateway(address), link)).collect()
    }

    /// The pod, as its node has to know it.
    pub fn pod_on_node(&self, link: u32) -> Vec<Neighbour> {
        let mac = pod_mac(self.addresses);
        self.addresses.iter().map(|address| Neighbour { link, address: *address, mac }).collect()
    }

    /// The node's ways to the pod.
    pub fn routes_on_node(&self, link: u32) -> Vec<Route> {
        self.addresses.iter().map(|address| Route::on_link(host(*address), link)).collect()
    }

    fn speaks_ipv6(&self) -> bool {
        self.addresses.iter().any(IpAddr::is_ipv6)
    }

    /// What the runtime is told.
    pub fn result(&self, version: &str, sandbox: &str) -> CniResult {
        let interface = |name: &str, mac, sandbox: &str| Interface {
            name: name.to_owned(),
            mac: mac_text(mac),
            mtu: Some(self.mtu),
            sandbox: sandbox.to_owned(),
        };
        let address = |address: &IpAddr| IpConfig {
            address: host(*address).to_string(),
            gateway: Some(gateway(address)),
            interface: Some(1),
        };
        let route = |route: Route| CniRoute { dst: route.destination.to_string(), gw: route.via };
        CniResult {
            cni_version: version.to_owned(),
            interfaces: vec![
                interface(self.link, GATEWAY_MAC, ""),
                interface(self.ifname, pod_mac(self.addresses), sandbox),
            ],
            ips: self.addresses.iter().map(address).collect(),
            routes: self.routes_in_pod(0).into_iter().map(route).collect(),
            dns: Dns::default(),
        }
    }
}

/// What is set on the node's side of a link whose pod speaks IPv6, or does not.
pub fn settings_on_node(link: &str, speaks_ipv6: bool) -> Vec<Setting> {
    let ipv4 = [("rp_filter", "0"), ("proxy_arp", "0"), ("forwarding", "1")];
    let ipv4 = ipv4.map(|(name, value)| (format!("net/ipv4/conf/{link}/{name}"), value));
    ipv4.into_iter().chain(ipv6_settings(link, speaks_ipv6, ipv6::node_side(link))).collect()
}

/// These settings of one end where the pod speaks IPv6; else silence, where the kernel knows how to
/// speak it at all.
fn ipv6_settings(link: &str, speaks: bool, speaking: impl IntoIterator<Item = Setting>) -> Vec<Setting> {
    match (ipv6::has_ipv6(), speaks) {
        (false, _) => Vec::new(),
        (true, true) => speaking.into_iter().collect(),
        (true, false) => vec![(format!("net/ipv6/conf/{link}/disable_ipv6"), "1")],
    }
}

/// The next hop of a pod's address. Nobody has it; a permanent neighbour answers for it.
fn gateway(of: &IpAddr) -> IpAddr {
    match of {
        IpAddr::V4(_) => Ipv4Addr::new(169, 254, 1, 1).into(),
        IpAddr::V6(_) => Ipv6Addr::new(0xfe80, 0, 0, 0, 0, 0, 0, 1).into(),
    }
}

/// An address as the block of itself alone.
pub fn host(address: IpAddr) -> IpNet {
    IpNet::from(address)
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
        let mac = |addresses: &[&str]| {
            mac_text(pod_mac(&addresses.iter().map(|a| a.parse().unwrap()).collect::<Vec<_>>()))
        };
        assert_eq!(mac(&["10.244.1.7", "fd00::9"]), "02:6b:0a:f4:01:07");
        assert_eq!(mac(&["fd00:244:1::1:7"]), "02:6b:00:01:00:07");
    }
}
