//! Ends sockets that talk to a backend which is gone: nothing would ever answer them.
//!
//! A socket keeps the backend that it was given when it connected, wherever its Service leads today. The
//! kernel lists and ends sockets one namespace at a time, which takes longer than a change may, so this
//! has a thread of its own.

use std::collections::BTreeSet;
use std::net::SocketAddr;
use std::sync::mpsc::Receiver;

use kilter_netlink::destroy_sockets;
use kilter_netns::NetNs;
use kilter_services::Remote;

use crate::command::chain;

/// What is to be closed.
#[derive(Debug)]
pub struct Closing {
    /// Towards whom.
    pub remotes: BTreeSet<Remote>,
    /// The namespaces of this node's pods.
    pub namespaces: BTreeSet<String>,
}

/// Works until nobody can hand it anything any more. `node` is the namespace of the node itself.
pub fn run(node: &NetNs, closings: &Receiver<Closing>) {
    for Closing { remotes, namespaces } in closings {
        let remotes: BTreeSet<(u8, SocketAddr)> = remotes
            .iter()
            .map(|(protocol, backend)| (protocol.number(), SocketAddr::new(backend.address, backend.port)))
            .collect();
        let mut ended = close(node, &remotes);
        for path in namespaces {
            // A pod that has gone meanwhile has no sockets.
            ended += NetNs::open(path).map_or(0, |pod| close(&pod, &remotes));
        }
        tracing::debug!(backends = remotes.len(), sockets = ended, "sockets of backends that are gone");
    }
}

fn close(namespace: &NetNs, remotes: &BTreeSet<(u8, SocketAddr)>) -> usize {
    destroy_sockets(namespace, remotes).unwrap_or_else(|error| {
        tracing::error!(error = %chain(&error), "sockets may go on talking to a backend that is gone");
        0
    })
}
