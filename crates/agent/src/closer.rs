//! Ends sockets that talk to a backend which is gone: nothing would ever answer them.
//!
//! A socket keeps the backend that it was given when it connected, wherever its Service leads today. The
//! kernel lists and ends sockets one namespace at a time, which takes longer than a change may, so this
//! has a thread of its own.

use std::collections::{BTreeMap, BTreeSet};
use std::net::SocketAddr;
use std::sync::mpsc::Receiver;

use kilter_netlink::{Talk, destroy_sockets};
use kilter_netns::NetNs;
use kilter_services::Remote;

use crate::command::chain;

/// The protocol of connections that can be carried, by its IANA number.
const TCP: u8 = 6;

/// What is to be closed.
#[derive(Debug)]
pub struct Closing {
    /// Towards whom.
    pub remotes: BTreeSet<Remote>,
    /// By both ends of connections that were carried from one backend to another, whom they really talk to.
    pub carried: BTreeMap<(SocketAddr, SocketAddr), SocketAddr>,
    /// The namespaces of this node's pods.
    pub namespaces: BTreeSet<String>,
}

/// Works until nobody can hand it anything any more. `node` is the namespace of the node itself.
pub fn run(node: &NetNs, closings: &Receiver<Closing>) {
    for Closing { remotes, carried, namespaces } in closings {
        let remotes: BTreeSet<(u8, SocketAddr)> = remotes
            .iter()
            .map(|(protocol, backend)| (protocol.number(), SocketAddr::new(backend.address, backend.port)))
            .collect();
        let talks_to_nobody = |it: &Talk| {
            let backend = carried.get(&(it.local, it.remote)).filter(|_| it.protocol == TCP).unwrap_or(&it.remote);
            remotes.contains(&(it.protocol, *backend))
        };
        let protocols = remotes.iter().map(|(protocol, _)| *protocol).collect();
        let close = |namespace: &NetNs| close(namespace, &protocols, talks_to_nobody);
        let mut ended = close(node);
        for path in namespaces {
            // A pod that has gone meanwhile has no sockets.
            ended += NetNs::open(path).map_or(0, |pod| close(&pod));
        }
        tracing::debug!(backends = remotes.len(), sockets = ended, "sockets of backends that are gone");
    }
}

fn close(namespace: &NetNs, protocols: &BTreeSet<u8>, is_wanted: impl Fn(&Talk) -> bool + Sync) -> usize {
    destroy_sockets(namespace, protocols, is_wanted).unwrap_or_else(|error| {
        tracing::error!(error = %chain(&error), "sockets may go on talking to a backend that is gone");
        0
    })
}
