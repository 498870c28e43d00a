use std::net::SocketAddr;

use crate::Result;
use crate::loader::address;
use crate::maps::Maps;
use crate::skel::types;

/// One direction of a connection that is translated per packet.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Translation {
    /// The IP protocol number.
    pub protocol: u8,
    /// Source and destination of its packets as they come.
    pub from: (SocketAddr, SocketAddr),
    /// Source and destination as they go on.
    pub to: (SocketAddr, SocketAddr),
    /// Its packets go on as they come, to the node of the pod in `to`. Then it is the connection's only direction.
    pub sent_on: bool,
}

const SENT_ON: u8 = types::flow_state::FLOW_SENT_ON.0 as u8;

pub(crate) fn read(maps: &Maps) -> Result<Vec<Translation>> {
    let row = |(key, row): (types::tuple, types::nat)| Translation {
        protocol: key.protocol,
        from: ends(&key),
        to: ends(&row.to),
        sent_on: row.state & SENT_ON != 0,
    };
    Ok(maps.nat.rows()?.into_iter().map(row).collect())
}

fn ends(tuple: &types::tuple) -> (SocketAddr, SocketAddr) {
    (
        SocketAddr::new(address(tuple.source), u16::from_be(tuple.source_port)),
        SocketAddr::new(address(tuple.destination), u16::from_be(tuple.destination_port)),
    )
}
