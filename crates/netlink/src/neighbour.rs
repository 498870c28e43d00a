use std::net::IpAddr;

use futures::TryStreamExt;
use rtnetlink::packet_route::neighbour::{
    NeighbourAddress, NeighbourAttribute, NeighbourMessage, NeighbourState,
};

use crate::{Error, Mac, Netlink};

/// A permanent neighbour. Permanent ones are exempt from `gc_thresh3`, one limit for all namespaces.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord)]
pub struct Neighbour {
    /// The link it is on.
    pub link: u32,
    /// Its address.
    pub address: IpAddr,
    /// Its hardware address.
    pub mac: Mac,
}

impl Netlink {
    /// Sets a permanent neighbour, in place of any entry for its address.
    pub async fn replace_neighbour(&self, neighbour: &Neighbour) -> Result<(), Error> {
        let Neighbour { link, address, mac } = neighbour;
        let failed = self.fail("set the neighbour", format!("{address} on link {link}"));
        let request = self.handle.neighbours().add(*link, *address).link_layer_address(mac);
        request.state(NeighbourState::Permanent).replace().execute().await.map_err(failed)
    }

    /// All permanent neighbours, both families.
    pub async fn neighbours(&self) -> Result<Vec<Neighbour>, Error> {
        let stream = self.handle.neighbours().get().execute();
        let all: Vec<NeighbourMessage> =
            stream.try_collect().await.map_err(self.fail("list", "neighbours"))?;
        Ok(all
            .into_iter()
            .filter(|m| m.header.state == NeighbourState::Permanent)
            .filter_map(neighbour)
            .collect())
    }
}

fn neighbour(message: NeighbourMessage) -> Option<Neighbour> {
    let (mut address, mut mac) = (None, None);
    for attribute in message.attributes {
        match attribute {
            NeighbourAttribute::Destination(NeighbourAddress::Inet(ip)) => address = Some(IpAddr::V4(ip)),
            NeighbourAttribute::Destination(NeighbourAddress::Inet6(ip)) => address = Some(IpAddr::V6(ip)),
            NeighbourAttribute::LinkLayerAddress(bytes) => mac = bytes.try_into().ok(),
            _ => {}
        }
    }
    Some(Neighbour { link: message.header.ifindex, address: address?, mac: mac? })
}
