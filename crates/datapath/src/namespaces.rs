//! Which addresses the sockets of a network namespace have: the hooks see its cookie before a socket has any.

use std::collections::{BTreeMap, BTreeSet};
use std::net::IpAddr;

use crate::loader::{address, wire};
use crate::maps::Maps;
use crate::skel::types;
use crate::{Datapath, Result};

/// The cookie of each address's namespace.
#[derive(Debug, Default)]
pub(crate) struct Namespaces(BTreeMap<IpAddr, u64>);

impl Namespaces {
    pub(crate) fn read(maps: &Maps) -> Result<Self> {
        let rows = rows(maps)?.into_iter();
        Ok(Self(rows.flat_map(|(cookie, own)| own.into_iter().map(move |address| (address, cookie))).collect()))
    }

    /// Forgets the namespace that has these addresses.
    pub(crate) fn forget(&mut self, maps: &Maps, addresses: impl IntoIterator<Item = IpAddr>) -> Result<()> {
        for address in addresses {
            if let Some(cookie) = self.0.remove(&address) {
                maps.namespaces.remove(&cookie)?;
                self.0.retain(|_, other| *other != cookie);
            }
        }
        Ok(())
    }
}

fn rows(maps: &Maps) -> Result<BTreeMap<u64, BTreeSet<IpAddr>>> {
    let own = |row: types::namespace| row.own.into_iter().filter(|it| it.half != [0; 2]).map(address).collect();
    Ok(maps.namespaces.rows()?.into_iter().map(|(cookie, row)| (cookie, own(row))).collect())
}

impl Datapath {
    /// Whose the sockets of each known namespace are, by its cookie, read back from the kernel.
    pub fn read_namespaces(&self) -> Result<BTreeMap<u64, BTreeSet<IpAddr>>> {
        rows(&self.maps)
    }

    /// Says whose the sockets of a namespace are, by its cookie (`SO_NETNS_COOKIE`): at most one address of each
    /// family. Sockets of a namespace that is not known may not use what is for some clients only.
    pub fn know_namespace(&mut self, cookie: u64, addresses: &[IpAddr]) -> Result<()> {
        self.namespaces.forget(&self.maps, addresses.iter().copied())?;
        let of_family = |ipv4: bool| addresses.iter().find(|it| it.is_ipv4() == ipv4);
        let own = [true, false].map(|ipv4| of_family(ipv4).map_or_else(Default::default, |it| wire(*it)));
        self.maps.namespaces.put(&cookie, &types::namespace { own })?;
        self.namespaces.0.extend(addresses.iter().map(|address| (*address, cookie)));
        Ok(())
    }
}
