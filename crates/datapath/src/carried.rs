//! Connections of pods that a backend refused and another has.

use std::collections::BTreeMap;
use std::net::{IpAddr, SocketAddr};

use crate::loader::address;
use crate::{Datapath, Result};

impl Datapath {
    /// The connections of this node's pods that were carried to another backend: by both ends as the pod's socket
    /// knows them, whom it really talks to.
    pub fn carried(&self) -> Result<BTreeMap<(SocketAddr, SocketAddr), SocketAddr>> {
        let mut found = BTreeMap::new();
        // All other translations are of clients outside, and may be many.
        if self.stats()?.retried == 0 {
            return Ok(found);
        }
        let is_own = |ip: &IpAddr| self.endpoints.values().any(|pod| pod.addresses.contains(ip));
        for (key, row) in self.maps.nat.rows()?.into_iter().filter(|(_, row)| row.reply == 0) {
            let end = |at, port| SocketAddr::new(address(at), u16::from_be(port));
            let client = end(key.source, key.source_port);
            if is_own(&client.ip()) {
                let known = (client, end(key.destination, key.destination_port));
                found.insert(known, end(row.to.destination, row.to.destination_port));
            }
        }
        Ok(found)
    }
}
