//! The data plane of one node: loads `bpf/`, encodes rows, writes differences, reads back, pins and
//! attaches. Nothing else names libbpf.
//!
//! Everything happens in the network namespace of the calling thread, which must be the node's.
//! Maps and links are pinned under [`Config::pin_dir`]: dropping a [`Datapath`] changes nothing for
//! the packets, and opening another one adopts what is pinned and replaces the programs in place.

mod announced;
mod attachments;
mod carried;
mod check;
mod config;
mod datapath;
mod error;
mod event;
mod filter;
mod flows;
mod generations;
mod link;
mod loader;
mod maps;
mod namespaces;
mod pins;
mod policy;
mod ranges;
mod reason;
mod routes;
mod rows;
mod services;
mod skel;
mod stats;
mod sys;
mod table;
mod translations;

#[cfg(test)]
#[path = "../tests/common/mod.rs"]
mod common;
#[cfg(test)]
mod fixtures;
#[cfg(test)]
mod witnesses;

// The nodes that tests wire use this crate by its name, as any other program does.
#[cfg(test)]
extern crate self as kilter_datapath;

pub use attachments::{Attachment, Fault, Place, Program};
pub use config::{Config, Endpoint, NodeRoute, Overlay};
pub use datapath::Datapath;
pub use error::{Error, Result};
pub use event::{Event, EventSource};
pub use filter::{FILTER_HANDLE, FILTER_PREFERENCE};
pub use flows::{End, Flow};
pub use reason::DropReason;
pub use stats::{Stats, Sweep};
pub use translations::Translation;

/// The mark of packets that a pod sent to an address outside the cluster. They, and nothing else,
/// are to be masqueraded where they leave the node.
pub const EGRESS_MARK: u32 = 0x6b74_0001;

/// Source ports that the programs give to translated connections, first and last. Beyond those that Linux
/// gives to sockets by default; reserve them, and hand them out to nobody else.
pub const SERVICE_PORTS: (u16, u16) = (61_000, 65_535);

/// The MAC address that a pod's gateway must have: the host side of every pod link.
pub const GATEWAY_MAC: [u8; 6] = [0x02, 0x6b, 0x6c, 0x74, 0x00, 0x01];
