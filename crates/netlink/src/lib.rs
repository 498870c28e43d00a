//! Links, addresses, routes, neighbours, nftables and sysctls of one network namespace.
//!
//! Nothing else in Kilter opens a netlink socket, and nothing shells out to `ip`, `nft` or `sysctl`.
//! A [`Netlink`] is bound to the namespace it was made for: its socket was opened inside, so it works
//! from any thread afterwards.

#![deny(unsafe_code)]

mod address;
mod announce;
mod carrier;
mod delay;
mod error;
mod filter;
mod handle;
mod impair;
pub mod ipv6;
mod link;
mod masquerade;
mod neighbour;
mod nft;
mod route;
mod rule;
mod source_nat;
mod sockets;
mod sysctl;

pub use announce::{Listening, announce};
pub use carrier::settle;
pub use error::Error;
pub use filter::Filter;
pub use handle::Netlink;
pub use impair::Impairment;
pub use link::{Link, Mac, Peer, Veth, mac_of};
pub use masquerade::{Family, Masquerade};
pub use neighbour::Neighbour;
pub use nft::tables as nftables;
pub use sockets::{Talk, destroy_sockets};
pub use source_nat::SourceNat;
pub use route::{ROUTE_PROTOCOL, Refusal, Route, Tunnel};
pub use sysctl::{Setting, read_sysctl, read_sysctls, sysctl, sysctls, sysctls_here};
