//! Addresses for which the node answers on the node network.

use std::collections::BTreeSet;
use std::net::IpAddr;

use ipnet::IpNet;

use crate::maps::Maps;
use crate::skel::types;
use crate::{Datapath, Result, rows};

impl Datapath {
    /// Makes these the addresses for which the node answers, under the hardware address of its uplink.
    pub fn set_announced(&mut self, addresses: &BTreeSet<IpAddr>, mac: [u8; 6]) -> Result<()> {
        let maps = self.maps();
        for address in read(maps)?.difference(addresses) {
            maps.announced.remove(&rows::prefix_key(IpNet::from(*address)))?;
        }
        let row = types::announced { mac, ..Default::default() };
        addresses.iter().try_for_each(|address| maps.announced.put(&rows::prefix_key(IpNet::from(*address)), &row))
    }

    /// The addresses for which the node answers.
    pub fn read_announced(&self) -> Result<BTreeSet<IpAddr>> {
        read(self.maps())
    }
}

fn read(maps: &Maps) -> Result<BTreeSet<IpAddr>> {
    let rows = maps.announced.rows()?.into_iter();
    Ok(rows.filter_map(|(key, _)| Some(rows::prefix_of(&key)?.addr())).collect())
}
