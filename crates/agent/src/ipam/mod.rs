//! Addresses of this node's pods: who holds which, since when, and when a freed one may be used again.
//!
//! [`Blocks`] decide and know no files and no clock; [`Store`] keeps them on disk, one small file a
//! container, so that ADD writes a few hundred bytes however many pods there are.

mod blocks;
mod pool;
mod store;
mod usage;

use std::net::{IpAddr, Ipv4Addr, Ipv6Addr};

use ipnet::IpNet;
use kilter_model::Uid;
use serde::{Deserialize, Serialize};

pub use blocks::{Blocks, Exhausted};
pub use pool::{Pool, PoolError};
pub use store::{Store, StoreError};

/// Milliseconds since the epoch. Wall time, because quarantine outlives the process; a clock that is
/// set back makes it longer, never shorter than what had passed.
pub type Millis = u64;

/// A container's claim on an address.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct Reservation {
    /// `CNI_CONTAINERID`.
    pub container: String,
    /// Its addresses, one of each family, in the order of `status.podIPs`.
    pub addresses: Vec<IpAddr>,
    /// The pod's UID.
    pub uid: Uid,
    /// The pod's name, `namespace/name`, for people.
    pub pod: String,
    /// The network's name in the configuration: GC is about one network.
    pub network: String,
    /// The pod's side of its link, `CNI_IFNAME`.
    pub ifname: String,
    /// `CNI_NETNS`, where the pod's sockets are; empty in records of older versions.
    #[serde(default)]
    pub netns: String,
    /// The host side of its link.
    pub link: String,
    /// When it was made: of two containers of one pod, the later one holds the pod's identity.
    pub since: Millis,
}

/// How far a container is. What it was last in survives a restart.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum Stage {
    /// ADD is under way; the runtime has no answer yet, so a restart undoes it.
    Wiring,
    /// ADD has succeeded.
    Wired,
    /// Cut off; its link still has to go. A restart finishes that.
    Leaving,
}

/// An address as a number, in which those of a block follow each other.
fn number_of(address: IpAddr) -> u128 {
    match address {
        IpAddr::V4(v4) => u32::from(v4).into(),
        IpAddr::V6(v6) => v6.into(),
    }
}

/// The address of a number, in the family of a block that covers it.
fn address_at(number: u128, block: IpNet) -> IpAddr {
    match block {
        IpNet::V4(_) => Ipv4Addr::from(number as u32).into(),
        IpNet::V6(_) => Ipv6Addr::from(number).into(),
    }
}
