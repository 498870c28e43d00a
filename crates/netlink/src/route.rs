use std::net::IpAddr;

use futures::TryStreamExt;
use ipnet::{IpNet, Ipv4Net, Ipv6Net};
use rtnetlink::RouteMessageBuilder;
use rtnetlink::packet_route::AddressFamily;
use rtnetlink::packet_route::route::{
    RouteIp6Tunnel, RouteIp6TunnelFlags, RouteIpTunnel, RouteLwEnCapType, RouteLwTunnelEncap,
};
use rtnetlink::packet_route::route::{
    RouteAddress, RouteAttribute, RouteFlags, RouteHeader, RouteMessage, RouteProtocol, RouteScope, RouteType,
};

use crate::{Error, Netlink};

/// The routing protocol number (RTPROT) of every route that Kilter sets, by which it finds its own
/// again. The kernel gives it no meaning (`rtnetlink(7)`: above RTPROT_STATIC the user decides).
pub const ROUTE_PROTOCOL: u8 = 107;

/// A unicast route of the main table.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord)]
pub struct Route {
    /// Where to; `0.0.0.0/0` and `::/0` are the default routes.
    pub destination: IpNet,
    /// The next hop; without one the destination is on the link.
    pub via: Option<IpAddr>,
    /// Index of the link to leave by.
    pub link: u32,
    /// The next hop is on the link whatever the link's own addresses say.
    pub onlink: bool,
    /// What it leads through, where the link is an external VXLAN device.
    pub tunnel: Option<Tunnel>,
}

/// Where a tunnel leads.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub struct Tunnel {
    /// The address of the other end.
    pub to: IpAddr,
    /// The number of the network in it.
    pub id: u32,
}

/// A destination of the main table that is refused.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord)]
pub struct Refusal {
    /// What is refused.
    pub destination: IpNet,
    /// How, in the words of `ip route`: `unreachable`, `blackhole`, `prohibit`, `throw`.
    pub kind: &'static str,
}

impl Route {
    /// A route to what is on the link itself (scope link).
    pub fn on_link(destination: IpNet, link: u32) -> Self {
        Self { destination, via: None, link, onlink: false, tunnel: None }
    }

    /// A route through a next hop.
    pub fn via(destination: IpNet, via: IpAddr, link: u32) -> Self {
        Self { destination, via: Some(via), link, onlink: false, tunnel: None }
    }

    /// A route through a tunnel, by an external device.
    pub fn tunnelled(destination: IpNet, tunnel: Tunnel, link: u32) -> Self {
        Self { tunnel: Some(tunnel), ..Self::on_link(destination, link) }
    }

    /// The default route of the next hop's family, through a next hop on the link.
    pub fn default_via(via: IpAddr, link: u32) -> Self {
        let destination = match via {
            IpAddr::V4(_) => Ipv4Net::default().into(),
            IpAddr::V6(_) => Ipv6Net::default().into(),
        };
        Self { destination, via: Some(via), link, onlink: true, tunnel: None }
    }

    fn message(&self) -> RouteMessage {
        let scope = if self.via.is_some() { RouteScope::Universe } else { RouteScope::Link };
        let mut message = match (self.destination, self.via) {
            (IpNet::V4(net), via) => {
                let mut builder = RouteMessageBuilder::<std::net::Ipv4Addr>::new()
                    .destination_prefix(net.network(), net.prefix_len());
                if let Some(IpAddr::V4(via)) = via {
                    builder = builder.gateway(via);
                }
                builder.output_interface(self.link).build()
            }
            (IpNet::V6(net), via) => {
                let mut builder = RouteMessageBuilder::<std::net::Ipv6Addr>::new()
                    .destination_prefix(net.network(), net.prefix_len());
                if let Some(IpAddr::V6(via)) = via {
                    builder = builder.gateway(via);
                }
                builder.output_interface(self.link).build()
            }
        };
        message.header.protocol = RouteProtocol::Other(ROUTE_PROTOCOL);
        message.header.scope = scope;
        message.header.kind = RouteType::Unicast;
        message.attributes.extend(self.tunnel.iter().flat_map(Tunnel::attributes));
        if self.onlink {
            message.header.flags |= RouteFlags::Onlink;
        }
        message
    }
}

impl Tunnel {
    fn attributes(&self) -> [RouteAttribute; 2] {
        let id = self.id.into();
        let (kind, encap) = match self.to {
            IpAddr::V4(to) => {
                let parts = [RouteIpTunnel::Id(id), RouteIpTunnel::Destination(to)];
                (RouteLwEnCapType::Ip, parts.map(RouteLwTunnelEncap::Ip).to_vec())
            }
            // Over IPv6 a UDP header without a checksum is refused (RFC 8200, 8.1).
            IpAddr::V6(to) => {
                let sum = RouteIp6Tunnel::Flags(RouteIp6TunnelFlags::Checksum);
                let parts = [RouteIp6Tunnel::Id(id), RouteIp6Tunnel::Destination(to), sum];
                (RouteLwEnCapType::Ip6, parts.map(RouteLwTunnelEncap::Ip6).to_vec())
            }
        };
        [RouteAttribute::EncapType(kind), RouteAttribute::Encap(encap)]
    }

    fn read(encap: &[RouteLwTunnelEncap]) -> Option<Self> {
        let (mut to, mut id) = (None, None);
        for part in encap {
            match part {
                RouteLwTunnelEncap::Ip(RouteIpTunnel::Destination(address)) => to = Some((*address).into()),
                RouteLwTunnelEncap::Ip(RouteIpTunnel::Id(number)) => id = Some(*number),
                RouteLwTunnelEncap::Ip6(RouteIp6Tunnel::Destination(address)) => to = Some((*address).into()),
                RouteLwTunnelEncap::Ip6(RouteIp6Tunnel::Id(number)) => id = Some(*number),
                _ => {}
            }
        }
        Some(Self { to: to?, id: id?.try_into().ok()? })
    }
}

impl Netlink {
    /// Sets a route, in place of one to the same destination.
    pub async fn replace_route(&self, route: &Route) -> Result<(), Error> {
        let failed = self.fail("set the route to", route.destination.to_string());
        self.handle.route().add(route.message()).replace().execute().await.map_err(failed)
    }

    /// Makes packets to a destination for which there is no longer prefix fail with "host unreachable",
    /// instead of following the default route.
    pub async fn replace_unreachable(&self, destination: IpNet) -> Result<(), Error> {
        let mut message = Route::on_link(destination, 0).message();
        message.attributes.retain(|attribute| !matches!(attribute, RouteAttribute::Oif(_)));
        message.header.kind = RouteType::Unreachable;
        message.header.scope = RouteScope::Universe;
        let failed = self.fail("make unreachable", destination.to_string());
        self.handle.route().add(message).replace().execute().await.map_err(failed)
    }

    /// Deletes a route of Kilter's.
    pub async fn delete_route(&self, route: &Route) -> Result<(), Error> {
        let failed = self.fail("delete the route to", route.destination.to_string());
        self.handle.route().del(route.message()).execute().await.map_err(failed)
    }

    /// The unicast routes of the main table, both families; with `own`, only those Kilter set.
    pub async fn routes(&self, own: bool) -> Result<Vec<Route>, Error> {
        let unicast = self.main_table().await?.into_iter().filter(|it| it.header.kind == RouteType::Unicast);
        let is_own = |it: &RouteMessage| it.header.protocol == RouteProtocol::Other(ROUTE_PROTOCOL);
        Ok(unicast.filter(|it| !own || is_own(it)).filter_map(route).collect())
    }

    /// What the main table refuses, whoever said so, both families.
    pub async fn refusals(&self) -> Result<Vec<Refusal>, Error> {
        let all = self.main_table().await?.into_iter();
        let refused = all.filter_map(|message| {
            let kind = match message.header.kind {
                RouteType::Unreachable => "unreachable",
                RouteType::BlackHole => "blackhole",
                RouteType::Prohibit => "prohibit",
                RouteType::Throw => "throw",
                _ => return None,
            };
            Some(Refusal { destination: destination(&message)?, kind })
        });
        Ok(refused.collect())
    }

    async fn main_table(&self) -> Result<Vec<RouteMessage>, Error> {
        let mut all = Vec::new();
        for family in [AddressFamily::Inet, AddressFamily::Inet6] {
            let mut query = RouteMessage::default();
            query.header.address_family = family;
            let stream = self.handle.route().get(query).execute();
            let listed: Vec<RouteMessage> = stream.try_collect().await.map_err(self.fail("list", "routes"))?;
            all.extend(listed.into_iter().filter(|it| it.header.table == RouteHeader::RT_TABLE_MAIN));
        }
        Ok(all)
    }
}

/// Without the attribute, everything.
fn destination(message: &RouteMessage) -> Option<IpNet> {
    let named = message.attributes.iter().find_map(|attribute| match attribute {
        RouteAttribute::Destination(address) => to_ip(address.clone()),
        _ => None,
    });
    let all: IpAddr = match message.header.address_family {
        AddressFamily::Inet => std::net::Ipv4Addr::UNSPECIFIED.into(),
        _ => std::net::Ipv6Addr::UNSPECIFIED.into(),
    };
    IpNet::new(named.unwrap_or(all), message.header.destination_prefix_length).ok()
}

fn route(message: RouteMessage) -> Option<Route> {
    let destination = destination(&message)?;
    let (mut via, mut link, mut tunnel) = (None, None, None);
    for attribute in message.attributes {
        match attribute {
            RouteAttribute::Gateway(address) => via = to_ip(address),
            RouteAttribute::Oif(index) => link = Some(index),
            RouteAttribute::Encap(encap) => tunnel = Tunnel::read(&encap),
            _ => {}
        }
    }
    let onlink = message.header.flags.contains(RouteFlags::Onlink);
    Some(Route { destination, via, link: link?, onlink, tunnel })
}

fn to_ip(address: RouteAddress) -> Option<IpAddr> {
    match address {
        RouteAddress::Inet(ip) => Some(ip.into()),
        RouteAddress::Inet6(ip) => Some(ip.into()),
        _ => None,
    }
}
