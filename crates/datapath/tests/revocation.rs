//! Connections that policy ends while they live.

mod common;

use std::io::{ErrorKind, Read, Write as _};
use std::net::{IpAddr, TcpListener, TcpStream};

use common::*;
use kilter_datapath::{DropReason, Event};
use kilter_model::Direction;
use kilter_netns::NetNs;
use kilter_policy::ClassId;

/// Both ends of a connection that works.
struct Pair {
    client: TcpStream,
    server: TcpStream,
}

impl Pair {
    fn new(from: &NetNs, at: &NetNs, address: IpAddr) -> Self {
        let listener = at.run(|| TcpListener::bind((address, 80))).unwrap().unwrap();
        let client = connect(from, address, 80, PATIENCE).unwrap();
        let (server, _) = listener.accept().unwrap();
        server.set_read_timeout(Some(PATIENCE)).unwrap();
        let mut pair = Self { client, server };
        pair.client.write_all(b"ping").unwrap();
        pair.server.read_exact(&mut [0; 4]).unwrap();
        pair.server.write_all(b"pong").unwrap();
        pair.client.read_exact(&mut [0; 4]).unwrap();
        pair
    }

    /// One end sends; then both must learn that the connection is gone.
    #[track_caller]
    fn assert_reset_when(&mut self, send: impl FnOnce(&mut Self)) {
        send(self);
        for (name, end) in [("client", &mut self.client), ("server", &mut self.server)] {
            let error = end.read(&mut [0; 16]).expect_err(name);
            assert_eq!(error.kind(), ErrorKind::ConnectionReset, "{name}");
        }
    }
}

fn client_sends(pair: &mut Pair) {
    pair.client.write_all(b"more").unwrap();
}

fn server_sends(pair: &mut Pair) {
    // More than one segment, so that the packet that finds out is a large one.
    pair.server.write_all(&[7; 20_000]).unwrap();
}

/// Whichever end's packet finds out is reported: an acknowledgement may come first.
#[track_caller]
fn assert_revoked(node: &mut Node, one: IpAddr, other: IpAddr, direction: Direction) {
    node.event(|event| {
        let Event::Drop { from: f, to: t, reason, direction: d, rule, .. } = event else { return false };
        let mut ends = [f.ip(), t.ip()];
        ends.sort();
        let mut wanted = [one, other];
        wanted.sort();
        (ends, *reason, *d, *rule) == (wanted, DropReason::Revoked, direction, Some(DENY))
    });
}

#[test]
fn on_one_node_by_the_servers_posture() {
    let fabric = Fabric::new();
    let mut node = Node::new(&fabric, 1);
    let (a, b) = (node.pod(5), node.pod(6));
    for family in FAMILIES {
        let [from, to] = [a.both()[family], b.both()[family]];
        node.posture(&b, OPEN);
        let mut pair = Pair::new(&a.netns, &b.netns, to);
        node.posture(&b, NO_INGRESS);
        pair.assert_reset_when(client_sends);
        assert_revoked(&mut node, from, to, Direction::Ingress);
        assert_eq!(node.datapath().stats().unwrap().resets, 1 + family as u64);
    }
}

#[test]
fn on_one_node_when_the_server_speaks_first() {
    let fabric = Fabric::new();
    let mut node = Node::new(&fabric, 1);
    let (a, b) = (node.pod(5), node.pod(6));
    for family in FAMILIES {
        let [from, to] = [a.both()[family], b.both()[family]];
        node.posture(&a, OPEN);
        let mut pair = Pair::new(&a.netns, &b.netns, to);
        node.posture(&a, NO_EGRESS);
        pair.assert_reset_when(server_sends);
        assert_revoked(&mut node, to, from, Direction::Egress);
    }
}

#[test]
fn across_nodes_at_the_receiver() {
    let fabric = Fabric::new();
    let (mut one, mut two) = (Node::new(&fabric, 1), Node::new(&fabric, 2));
    let (a, b) = (one.pod(5), two.pod(5));
    for family in FAMILIES {
        let [from, to] = [a.both()[family], b.both()[family]];
        two.posture(&b, OPEN);
        let mut pair = Pair::new(&a.netns, &b.netns, to);
        two.posture(&b, NO_INGRESS);
        pair.assert_reset_when(client_sends);
        assert_revoked(&mut two, from, to, Direction::Ingress);
    }
}

#[test]
fn across_nodes_at_the_sender() {
    let fabric = Fabric::new();
    let (mut one, mut two) = (Node::new(&fabric, 1), Node::new(&fabric, 2));
    let (a, b) = (one.pod(5), two.pod(5));
    for family in FAMILIES {
        let [from, to] = [a.both()[family], b.both()[family]];
        one.posture(&a, OPEN);
        two.posture(&b, OPEN);
        let mut pair = Pair::new(&a.netns, &b.netns, to);
        one.posture(&a, NO_EGRESS);
        pair.assert_reset_when(client_sends);
        assert_revoked(&mut one, from, to, Direction::Egress);
        let mut pair = Pair::new(&b.netns, &a.netns, from);
        two.posture(&b, NO_EGRESS);
        // The packet that finds out is the other end's, on its way back in.
        pair.assert_reset_when(server_sends);
        assert_revoked(&mut two, from, to, Direction::Egress);
    }
}

#[test]
fn by_a_peer_that_changes_its_class() {
    let fabric = Fabric::new();
    let (mut one, mut two) = (Node::new(&fabric, 1), Node::new(&fabric, 2));
    let (a, b) = (one.pod(5), two.pod(5));
    two.posture(&b, FRIENDS);
    for (family, other) in [(0, "10.244.1.200"), (1, "fd00:244:1::200")] {
        let [from, to] = [a.both()[family], b.both()[family]];
        two.class(from, FRIEND);
        let mut pair = Pair::new(&a.netns, &b.netns, to);
        // Something else changes: this connection is not concerned.
        two.class(other.parse().unwrap(), FRIEND);
        client_sends(&mut pair);
        pair.server.read_exact(&mut [0; 4]).unwrap();
        two.class(from, ClassId(1));
        pair.assert_reset_when(client_sends);
        assert_revoked(&mut two, from, to, Direction::Ingress);
    }
}

#[test]
fn with_the_outside_behind_masquerade() {
    let fabric = Fabric::new();
    for (number, send) in [(1, client_sends as fn(&mut Pair)), (2, server_sends)] {
        let mut node = Node::new(&fabric, number);
        masquerade(&node);
        let a = node.pod(5);
        for outside in OUTSIDES {
            node.posture(&a, OPEN);
            let mut pair = Pair::new(&a.netns, &fabric.netns, outside);
            node.posture(&a, NO_EGRESS);
            pair.assert_reset_when(send);
        }
    }
}

#[test]
fn with_a_socket_of_the_own_node() {
    let fabric = Fabric::new();
    let mut node = Node::new(&fabric, 1);
    let a = node.pod(5);
    for family in FAMILIES {
        let [own, node_ip] = [a.both()[family], node.both()[family]];
        node.posture(&a, OPEN);
        let mut pair = Pair::new(&a.netns, &node.netns, node_ip);
        node.posture(&a, NO_EGRESS);
        pair.assert_reset_when(server_sends);
        assert_revoked(&mut node, node_ip, own, Direction::Egress);
    }
}

#[test]
fn a_permission_that_comes_back_revives_what_was_not_reset() {
    let fabric = Fabric::new();
    let mut node = Node::new(&fabric, 1);
    let (a, b) = (node.pod(5), node.pod(6));
    let (here, there) = (udp(&a.netns, a.address, 0), udp(&b.netns, b.address, 5000));
    here.send_to(b"one", (b.address, 5000)).unwrap();
    there.recv_from(&mut [0; 8]).unwrap();
    node.posture(&b, NO_INGRESS);
    here.send_to(b"two", (b.address, 5000)).unwrap();
    assert_revoked(&mut node, a.address, b.address, Direction::Ingress);
    node.posture(&b, OPEN);
    here.send_to(b"three", (b.address, 5000)).unwrap();
    let mut buffer = [0; 8];
    let (length, from) = there.recv_from(&mut buffer).unwrap();
    assert_eq!((&buffer[..length], from.ip()), (&b"three"[..], a.address));
    // The reply of a flow that a posture forbids to open goes through.
    node.posture(&b, NO_EGRESS);
    there.send_to(b"four", from).unwrap();
    here.recv_from(&mut buffer).unwrap();
}
