use std::net::IpAddr;
use std::os::fd::{AsFd, AsRawFd};

use futures::TryStreamExt;
use kilter_netns::NetNs;
use rtnetlink::packet_route::link::{
    InfoData, InfoKind, InfoVeth, InfoVxlan, LinkAttribute, LinkFlags, LinkInfo, LinkMessage,
};
use rtnetlink::{LinkBridge, LinkMessageBuilder, LinkUnspec, LinkVeth, LinkVxlan};

use crate::{Error, Netlink};

/// A hardware address.
pub type Mac = [u8; 6];

/// The hardware address of who has these IP addresses: locally administered, of a kind of its own, and with the end of
/// the first address within, so that it is known to whoever knows that.
pub fn mac_of(kind: u8, addresses: &[IpAddr]) -> Mac {
    let [a, b, c, d] = match addresses.first() {
        Some(IpAddr::V4(v4)) => v4.octets(),
        Some(IpAddr::V6(v6)) => (u128::from(*v6) as u32).to_be_bytes(),
        None => [0; 4],
    };
    [0x02, kind, a, b, c, d]
}

/// A veth pair to be made: this end here, the peer in another namespace, in one message, so that no
/// name ever clashes and neither end is ever seen half made. Both ends are down.
#[derive(Debug)]
pub struct Veth<'a> {
    /// Name of this end, at most 15 bytes.
    pub name: &'a str,
    /// Hardware address of this end; the kernel's choice without.
    pub mac: Option<Mac>,
    /// MTU of both ends, bytes.
    pub mtu: u32,
    /// The other end.
    pub peer: Peer<'a>,
}

/// The other end of a [`Veth`].
#[derive(Debug)]
pub struct Peer<'a> {
    /// Its name there.
    pub name: &'a str,
    /// Its hardware address; the kernel's choice without.
    pub mac: Option<Mac>,
    /// Where it is made.
    pub namespace: &'a NetNs,
}

/// A link as the kernel lists it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Link {
    /// Interface index, unique in its namespace.
    pub index: u32,
    /// Name.
    pub name: String,
    /// `veth`, `bridge`...; `None` for `lo` and real devices.
    pub kind: Option<String>,
    /// Hardware address, where it has one of six bytes.
    pub mac: Option<Mac>,
    /// MTU in bytes.
    pub mtu: u32,
    /// Administratively up.
    pub up: bool,
    /// The bridge it is a port of.
    pub master: Option<u32>,
    /// Index of the veth peer in the peer's namespace.
    pub peer: Option<u32>,
    /// The UDP port of an external VXLAN device; see [`Netlink::create_vxlan`].
    pub vxlan_port: Option<u16>,
}

impl Netlink {
    /// Makes a veth pair; see [`Veth`].
    pub async fn create_veth(&self, veth: &Veth<'_>) -> Result<(), Error> {
        let peer = end(LinkMessageBuilder::<LinkUnspec>::new(), veth.peer.name, veth.peer.mac, veth.mtu)
            .setns_by_fd(veth.peer.namespace.as_fd().as_raw_fd())
            .build();
        let message = end(
            LinkMessageBuilder::<LinkVeth>::new_with_info_kind(InfoKind::Veth),
            veth.name,
            veth.mac,
            veth.mtu,
        )
        .set_info_data(InfoData::Veth(InfoVeth::Peer(peer)))
        .build();
        self.handle.link().add(message).execute().await.map_err(self.fail("create veth", veth.name))
    }

    /// Makes a bridge, down, without spanning tree. (Without a hardware address of its own it would have one of its
    /// ports', and another whenever they change.)
    pub async fn create_bridge(&self, name: &str, mac: Mac) -> Result<(), Error> {
        let message = LinkBridge::new(name).address(mac.into()).build();
        self.handle.link().add(message).execute().await.map_err(self.fail("create bridge", name))
    }

    /// Makes a VXLAN device, down, that learns nothing and asks nobody: each packet says itself where
    /// it goes ("external"), by its route or by what a program has written to it.
    pub async fn create_vxlan(&self, name: &str, port: u16, mtu: u32) -> Result<(), Error> {
        let device = LinkMessageBuilder::<LinkVxlan>::new(name).collect_metadata(true).port(port);
        let message = device.learning(false).mtu(mtu).arp(false).build();
        self.handle.link().add(message).execute().await.map_err(self.fail("create VXLAN device", name))
    }

    /// Sets a link's MTU, bytes.
    pub async fn set_mtu(&self, link: u32, mtu: u32) -> Result<(), Error> {
        self.set_link("set the MTU of", link, LinkUnspec::new_with_index(link).mtu(mtu).build()).await
    }

    /// Makes a link a port of a bridge.
    pub async fn set_master(&self, link: u32, bridge: u32) -> Result<(), Error> {
        let message = LinkUnspec::new_with_index(link).controller(bridge).build();
        self.set_link("add to the bridge", link, message).await
    }

    /// Sets a link up.
    pub async fn set_up(&self, link: u32) -> Result<(), Error> {
        self.set_link("set up", link, LinkUnspec::new_with_index(link).up().build()).await
    }

    /// Sets a link down.
    pub async fn set_down(&self, link: u32) -> Result<(), Error> {
        self.set_link("set down", link, LinkUnspec::new_with_index(link).down().build()).await
    }

    /// Puts a link in a group, so that many can be deleted with one message.
    pub async fn set_group(&self, link: u32, group: u32) -> Result<(), Error> {
        self.set_link("set the group of", link, LinkUnspec::new_with_index(link).link_group(group).build())
            .await
    }

    async fn set_link(&self, operation: &'static str, link: u32, message: LinkMessage) -> Result<(), Error> {
        self.handle.link().set(message).execute().await.map_err(self.fail(operation, format!("link {link}")))
    }

    /// Deletes a link; both ends of a veth pair go. Costs about 16 ms in the kernel.
    pub async fn delete_link(&self, link: u32) -> Result<(), Error> {
        self.handle.link().del(link).execute().await.map_err(self.fail("delete", format!("link {link}")))
    }

    /// Deletes all links of a group at once: the kernel waits once, not once per link.
    pub async fn delete_group(&self, group: u32) -> Result<(), Error> {
        let message = LinkMessageBuilder::<LinkUnspec>::new().link_group(group).build();
        self.handle
            .link()
            .del_with_message(message)
            .execute()
            .await
            .map_err(self.fail("delete", format!("link group {group}")))
    }

    /// A link by name, if there is one.
    pub async fn link(&self, name: &str) -> Result<Option<Link>, Error> {
        let found = self.handle.link().get().match_name(name).execute().try_next().await;
        match found.map_err(self.fail("look up link", name)) {
            Ok(message) => Ok(message.map(link)),
            Err(error) if error.is_missing() => Ok(None),
            Err(error) => Err(error),
        }
    }

    /// The index of a link that must exist.
    pub async fn link_index(&self, name: &str) -> Result<u32, Error> {
        let missing =
            || Error::new("find link", name, self.namespace.clone(), std::io::ErrorKind::NotFound.into());
        self.link(name).await?.map(|link| link.index).ok_or_else(missing)
    }

    /// All links, by index.
    pub async fn links(&self) -> Result<Vec<Link>, Error> {
        let stream = self.handle.link().get().execute().map_ok(link);
        stream.try_collect().await.map_err(self.fail("list", "links"))
    }
}

fn end<T>(builder: LinkMessageBuilder<T>, name: &str, mac: Option<Mac>, mtu: u32) -> LinkMessageBuilder<T> {
    let builder = builder.name(name).mtu(mtu);
    match mac {
        Some(mac) => builder.address(mac.to_vec()),
        None => builder,
    }
}

fn link(message: LinkMessage) -> Link {
    let mut link = Link {
        index: message.header.index,
        name: String::new(),
        kind: None,
        mac: None,
        mtu: 0,
        up: message.header.flags.contains(LinkFlags::Up),
        master: None,
        peer: None,
        vxlan_port: None,
    };
    for attribute in message.attributes {
        match attribute {
            LinkAttribute::IfName(name) => link.name = name,
            LinkAttribute::Address(bytes) => link.mac = bytes.try_into().ok(),
            LinkAttribute::Mtu(mtu) => link.mtu = mtu,
            LinkAttribute::Controller(master) => link.master = Some(master),
            LinkAttribute::Link(peer) => link.peer = Some(peer),
            LinkAttribute::LinkInfo(infos) => {
                for info in infos {
                    match info {
                        LinkInfo::Kind(kind) => link.kind = Some(kind.to_string()),
                        LinkInfo::Data(InfoData::Vxlan(data)) => link.vxlan_port = external_port(&data),
                        _ => {}
                    }
                }
            }
            _ => {}
        }
    }
    link
}

/// The port of a VXLAN device that takes the way of each packet from the packet.
fn external_port(data: &[InfoVxlan]) -> Option<u16> {
    let external = data.iter().any(|it| matches!(it, InfoVxlan::CollectMetadata(true)));
    let port = data.iter().find_map(|it| match it {
        InfoVxlan::Port(port) => Some(*port),
        _ => None,
    });
    port.filter(|_| external)
}
