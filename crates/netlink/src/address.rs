use std::net::IpAddr;

use futures::TryStreamExt;
use ipnet::IpNet;
use rtnetlink::packet_route::address::{AddressAttribute, AddressFlags, AddressMessage};

use crate::{Error, Netlink};

impl Netlink {
    /// Gives a link an address, without duplicate address detection: DAD keeps `bind` failing for 2 s.
    /// An address that is there already stays.
    pub async fn add_address(&self, link: u32, address: IpNet) -> Result<(), Error> {
        let mut request = self.handle.address().add(link, address.addr(), address.prefix_len()).replace();
        if address.addr().is_ipv6() {
            request.message_mut().attributes.push(AddressAttribute::Flags(AddressFlags::Nodad));
        }
        request.execute().await.map_err(self.fail("add address", format!("{address} to link {link}")))
    }

    /// Takes an address from a link.
    pub async fn delete_address(&self, link: u32, address: IpNet) -> Result<(), Error> {
        let wanted = |m: &AddressMessage| m.header.index == link && to_net(m) == Some(address);
        let stream = self.handle.address().get().set_link_index_filter(link).execute();
        let all: Vec<_> =
            stream.try_collect().await.map_err(self.fail("list addresses of", format!("link {link}")))?;
        for message in all.into_iter().filter(wanted) {
            let failed = self.fail("delete address", format!("{address} from link {link}"));
            self.handle.address().del(message).execute().await.map_err(failed)?;
        }
        Ok(())
    }

    /// All addresses of all links, with the links' indexes.
    pub async fn addresses(&self) -> Result<Vec<(u32, IpNet)>, Error> {
        let stream = self.handle.address().get().execute();
        let all: Vec<AddressMessage> = stream.try_collect().await.map_err(self.fail("list", "addresses"))?;
        Ok(all.iter().filter_map(|m| Some((m.header.index, to_net(m)?))).collect())
    }
}

/// The link's own address; `Local` differs from `Address` on point-to-point links only.
fn to_net(message: &AddressMessage) -> Option<IpNet> {
    let find = |local: bool| {
        message.attributes.iter().find_map(|a| match a {
            AddressAttribute::Local(ip) if local => Some(*ip),
            AddressAttribute::Address(ip) if !local => Some(*ip),
            _ => None,
        })
    };
    let ip: IpAddr = find(true).or_else(|| find(false))?;
    IpNet::new(ip, message.header.prefix_len).ok()
}
