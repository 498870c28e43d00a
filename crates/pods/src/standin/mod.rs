//! Stand-ins: what answers on a pod's ports in place of images that cannot be run here.
//!
//! All pods of a node are served by tasks of the node process. Only the sockets are the pod's:
//! they are opened by a thread that has entered its network namespace.

mod authority;
mod behaviour;
mod failures;
mod grpc;
mod http;
mod open;
mod paced;
mod ports;
mod reflection;
mod server;
mod sniff;
mod tcp;
pub(crate) mod tls;
mod udp;

pub use authority::{Authority, make_authority};
pub use behaviour::Behaviour;
pub use failures::{Failures, PROBE_HEADER};
pub use ports::{Clash, Port, Ports, resolve as resolve_port};
pub use server::{PodServer, StandIns};

use std::net::IpAddr;
use std::sync::Arc;

/// Who a stand-in says it is.
#[derive(Debug, Clone)]
pub struct Identity {
    /// `metadata.uid`.
    pub uid: Arc<str>,
    /// The pod's namespace.
    pub namespace: Arc<str>,
    /// The pod's name.
    pub name: Arc<str>,
    /// Its node.
    pub node: Arc<str>,
    /// Its addresses.
    pub addresses: Vec<IpAddr>,
}
