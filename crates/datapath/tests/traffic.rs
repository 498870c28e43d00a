//! Real packets between real sockets in namespaces, through the attached hooks.

mod common;

use std::io::{ErrorKind, Write as _};
use std::net::{IpAddr, TcpListener};

use common::*;
use kilter_datapath::DropReason;
use kilter_model::Direction;
use kilter_netns::NetNs;

#[test]
fn tcp_on_one_node() {
    let fabric = Fabric::new();
    let mut node = Node::new(&fabric, 1);
    let (a, b) = (node.pod(5), node.pod(6));
    for (a_address, b_address) in a.both().into_iter().zip(b.both()) {
        assert_reaches(&a.netns, &b.netns, b_address, 80);
        assert_reaches(&b.netns, &a.netns, a_address, 80);
    }
    assert_eq!(node.datapath().stats().unwrap().drops, Default::default());
}

#[test]
fn tcp_across_nodes() {
    let fabric = Fabric::new();
    let (mut one, mut two) = (Node::new(&fabric, 1), Node::new(&fabric, 2));
    let (a, b) = (one.pod(5), two.pod(5));
    for (a_address, b_address) in a.both().into_iter().zip(b.both()) {
        assert_reaches(&a.netns, &b.netns, b_address, 80);
        assert_reaches(&b.netns, &a.netns, a_address, 80);
    }
    assert_eq!(one.datapath().stats().unwrap().drops, Default::default());
    assert_eq!(two.datapath().stats().unwrap().drops, Default::default());
}

#[test]
fn a_denied_ingress_is_reported_by_the_senders_node_when_it_is_the_same() {
    let fabric = Fabric::new();
    let mut node = Node::new(&fabric, 1);
    let (a, b) = (node.pod(5), node.pod(6));
    node.posture(&b, NO_INGRESS);
    for (from, to) in a.both().into_iter().zip(b.both()) {
        let _server = TcpListenerIn::new(&b.netns, to, 80);
        let error = connect(&a.netns, to, 80, SILENCE).unwrap_err();
        assert_eq!(error.kind(), ErrorKind::TimedOut);
        assert_eq!(node.dropped(from, to), (DropReason::Policy, Direction::Ingress, Some(DENY)));
    }
    // The other way is open.
    assert_reaches(&b.netns, &a.netns, a.address, 81);
}

#[test]
fn each_side_is_judged_on_its_own_node() {
    let fabric = Fabric::new();
    let (mut one, mut two) = (Node::new(&fabric, 1), Node::new(&fabric, 2));
    let (a, b) = (one.pod(5), two.pod(5));
    for (from, to) in a.both().into_iter().zip(b.both()) {
        one.posture(&a, OPEN);
        two.posture(&b, NO_INGRESS);
        connect(&a.netns, to, 80, SILENCE).unwrap_err();
        assert_eq!(two.dropped(from, to), (DropReason::Policy, Direction::Ingress, Some(DENY)));
        two.posture(&b, OPEN);
        one.posture(&a, NO_EGRESS);
        connect(&a.netns, to, 80, SILENCE).unwrap_err();
        assert_eq!(one.dropped(from, to), (DropReason::Policy, Direction::Egress, Some(DENY)));
    }
}

#[test]
fn ports_and_classes_decide() {
    let fabric = Fabric::new();
    let (mut one, mut two) = (Node::new(&fabric, 1), Node::new(&fabric, 2));
    let (a, b) = (one.pod(5), two.pod(5));
    two.posture(&b, FRIENDS);
    connect(&a.netns, b.address, 80, SILENCE).unwrap_err();
    assert_eq!(two.dropped(a.address, b.address), (DropReason::Policy, Direction::Ingress, Some(DENY)));
    two.class(a.address, FRIEND);
    assert_reaches(&a.netns, &b.netns, b.address, 80);
    connect(&a.netns, b.address, 81, SILENCE).unwrap_err();
    assert_eq!(two.dropped(a.address, b.address), (DropReason::Policy, Direction::Ingress, Some(DENY)));
}

/// A listener that nobody accepts from.
struct TcpListenerIn {
    _listener: TcpListener,
}

impl TcpListenerIn {
    fn new(netns: &NetNs, address: IpAddr, port: u16) -> Self {
        Self { _listener: netns.run(|| TcpListener::bind((address, port))).unwrap().unwrap() }
    }
}

#[test]
fn udp_of_8_kb_travels_in_fragments() {
    let fabric = Fabric::new();
    let (mut one, mut two) = (Node::new(&fabric, 1), Node::new(&fabric, 2));
    let (a, b, c) = (one.pod(5), one.pod(6), two.pod(5));
    let sent: Vec<u8> = (0..8192usize).map(|i| (i / 7) as u8).collect();
    for (server, family) in [(&b, 0), (&c, 0), (&b, 1), (&c, 1)] {
        let (own, to) = (a.both()[family], server.both()[family]);
        let there = udp(&server.netns, to, 5353);
        let here = udp(&a.netns, own, 0);
        here.send_to(&sent, (to, 5353)).unwrap();
        let mut buffer = vec![0; 10_000];
        let (length, from) = there.recv_from(&mut buffer).unwrap();
        assert!(buffer[..length] == sent);
        there.send_to(&sent, from).unwrap();
        let (length, _) = here.recv_from(&mut buffer).unwrap();
        assert!(buffer[..length] == sent);
    }
    assert_eq!(one.datapath().stats().unwrap().drops, Default::default());
    assert_eq!(two.datapath().stats().unwrap().drops, Default::default());
}

#[test]
fn what_is_too_big_for_the_way_is_told_to_the_sender() {
    let fabric = Fabric::new();
    let (mut one, mut two) = (Node::new(&fabric, 1), Node::new(&fabric, 2));
    let (a, b) = (one.pod(5), two.pod(5));
    command(&one.netns, "ip link set eth0 mtu 1300");
    // The pod's link says 1500: its first large packets do not fit, and it must learn that. (Large
    // ones the other way would be lost on the test's own bridge.)
    for to in b.both() {
        let listener = b.netns.run(|| TcpListener::bind((to, 80))).unwrap().unwrap();
        let mut stream = connect(&a.netns, to, 80, PATIENCE).unwrap();
        let (mut accepted, _) = listener.accept().unwrap();
        let reader = std::thread::spawn(move || std::io::copy(&mut accepted, &mut std::io::sink()).unwrap());
        stream.write_all(&[7; 300_000]).unwrap();
        drop(stream);
        assert_eq!(reader.join().unwrap(), 300_000);
    }
    let server = udp(&b.netns, b.address, 5000);
    let client = udp(&a.netns, a.address, 0);
    // What may be cut up is cut up on the way.
    client.send_to(&[1; 1_400], (b.address, 5000)).unwrap();
    assert_eq!(server.recv(&mut [0; 2_000]).unwrap(), 1_400);
    assert_eq!(one.datapath().stats().unwrap().drops, Default::default());
}

#[test]
fn the_end_of_a_packets_life_is_told() {
    let fabric = Fabric::new();
    let (mut one, mut two) = (Node::new(&fabric, 1), Node::new(&fabric, 2));
    let (a, b) = (one.pod(5), two.pod(5));
    for (own, to) in a.both().into_iter().zip(b.both()) {
        assert_life_ends(&a, own, &b, to);
    }
    assert_eq!(one.datapath().stats().unwrap().drops, Default::default());
}

#[test]
fn icmp_echo_is_a_flow_of_its_opener() {
    let fabric = Fabric::new();
    let (mut one, mut two) = (Node::new(&fabric, 1), Node::new(&fabric, 2));
    let (a, b, c) = (one.pod(5), one.pod(6), two.pod(5));
    for family in FAMILIES {
        let [from, near, far] = [&a, &b, &c].map(|pod| pod.both()[family]);
        two.posture(&c, OPEN);
        assert!(ping(&a.netns, near, PATIENCE));
        assert!(ping(&a.netns, far, PATIENCE));
        two.posture(&c, NO_EGRESS);
        assert!(ping(&a.netns, far, PATIENCE), "a reply needs no permission");
        assert!(!ping(&c.netns, from, SILENCE));
        assert_eq!(two.dropped(far, from), (DropReason::Policy, Direction::Egress, Some(DENY)));
    }
}

#[test]
fn sockets_of_the_own_node_reach_a_pod_and_get_answers() {
    let fabric = Fabric::new();
    let mut node = Node::new(&fabric, 1);
    let a = node.pod(5);
    node.posture(&a, NO_INGRESS);
    for address in a.both() {
        assert_reaches(&node.netns, &a.netns, address, 80);
        assert!(ping(&node.netns, address, PATIENCE));
    }
}

#[test]
fn a_pod_reaches_its_own_node_when_egress_allows() {
    let fabric = Fabric::new();
    let mut node = Node::new(&fabric, 1);
    let a = node.pod(5);
    for (own, node_ip) in a.both().into_iter().zip(node.both()) {
        node.posture(&a, OPEN);
        assert_reaches(&a.netns, &node.netns, node_ip, 80);
        node.posture(&a, NO_EGRESS);
        connect(&a.netns, node_ip, 80, SILENCE).unwrap_err();
        assert_eq!(node.dropped(own, node_ip), (DropReason::Policy, Direction::Egress, Some(DENY)));
    }
}

/// Masquerading is for what leaves the cluster: a node that asks who is there must see the pod.
#[test]
fn a_pod_speaks_to_another_node_under_its_own_address() {
    let fabric = Fabric::new();
    let (mut one, two) = (Node::new(&fabric, 1), Node::new(&fabric, 2));
    let a = one.pod(5);
    masquerade(&one);
    for (own, node_ip) in a.both().into_iter().zip(two.both()) {
        let server = udp(&two.netns, node_ip, 5000);
        let client = udp(&a.netns, own, 0);
        client.send_to(b"hello", (node_ip, 5000)).unwrap();
        let (_, from) = server.recv_from(&mut [0; 8]).unwrap();
        assert_eq!(from.ip(), own);
        server.send_to(b"welcome", from).unwrap();
        assert_eq!(client.recv_from(&mut [0; 8]).unwrap().1, (node_ip, 5000).into());
        assert_reaches(&a.netns, &two.netns, node_ip, 80);
    }
    assert_eq!(one.datapath().stats().unwrap().drops, Default::default());
}

#[test]
fn another_nodes_sockets_are_judged_like_anybody() {
    let fabric = Fabric::new();
    let (mut one, two) = (Node::new(&fabric, 1), Node::new(&fabric, 2));
    let a = one.pod(5);
    let expected = (DropReason::Policy, Direction::Ingress, Some(DENY));
    for (node_ip, to) in two.both().into_iter().zip(a.both()) {
        one.posture(&a, OPEN);
        assert_reaches(&two.netns, &a.netns, to, 80);
        one.posture(&a, NO_INGRESS);
        connect(&two.netns, to, 80, SILENCE).unwrap_err();
        assert_eq!(one.dropped(node_ip, to), expected);
    }
}

#[test]
fn packets_to_the_outside_are_marked_and_nothing_else_is() {
    let fabric = Fabric::new();
    let (mut one, mut two) = (Node::new(&fabric, 1), Node::new(&fabric, 2));
    let (a, b) = (one.pod(5), two.pod(5));
    masquerade(&one);

    // Whoever answers sees the node, since nobody out there knows pods.
    for family in FAMILIES {
        let [own, other, outside] = [a.both()[family], b.both()[family], OUTSIDES[family]];
        let server = udp(&fabric.netns, outside, 5000);
        let client = udp(&a.netns, own, 0);
        client.send_to(b"hello", (outside, 5000)).unwrap();
        let mut buffer = [0; 16];
        let (_, from) = server.recv_from(&mut buffer).unwrap();
        assert_eq!(from.ip(), one.both()[family]);
        server.send_to(b"welcome", from).unwrap();
        assert_eq!(client.recv_from(&mut buffer).unwrap().1, (outside, 5000).into());
        assert_reaches(&a.netns, &fabric.netns, outside, 81);
        // A pod of another node sees the pod.
        let server = udp(&b.netns, other, 5000);
        client.send_to(b"hello", (other, 5000)).unwrap();
        assert_eq!(server.recv_from(&mut buffer).unwrap().1.ip(), own);
    }
}

#[test]
fn a_pod_cannot_send_as_somebody_else() {
    let fabric = Fabric::new();
    let mut node = Node::new(&fabric, 1);
    let (a, b) = (node.pod(5), node.pod(6));
    for (other, to) in [("10.244.1.77", b.address), ("fd00:244:1::77", b.address6)] {
        let other = other.parse().unwrap();
        add_address(&a.netns, other, "eth0");
        udp(&a.netns, other, 0).send_to(b"I am another", (to, 9)).unwrap();
        assert_eq!(node.dropped(other, to).0, DropReason::SourceAddress);
    }
    // As b, towards b's own friend: the flow table must not help either.
    command(&a.netns, &format!("ip addr add {}/32 dev eth0", b.address));
    let server = udp(&fabric.netns, OUTSIDE, 9);
    let real = udp(&b.netns, b.address, 4444);
    real.send_to(b"first", (OUTSIDE, 9)).unwrap();
    let mut buffer = [0; 16];
    server.recv_from(&mut buffer).unwrap();
    let fake = udp(&a.netns, b.address, 4444);
    fake.send_to(b"second", (OUTSIDE, 9)).unwrap();
    assert_eq!(node.dropped(b.address, OUTSIDE).0, DropReason::SourceAddress);
    // Or with the wrong MAC address.
    command(&b.netns, "ip link set eth0 address 02:00:00:00:00:99");
    // The kernel forgets even permanent neighbours then, and ARP would be dropped without an event.
    let gateway = mac(kilter_datapath::GATEWAY_MAC);
    command(&b.netns, &format!("ip neigh replace 169.254.1.1 lladdr {gateway} nud permanent dev eth0"));
    real.send_to(b"third", (OUTSIDE, 9)).unwrap();
    assert_eq!(node.dropped(b.address, OUTSIDE).0, DropReason::SourceMac);
}

#[test]
fn trap_17_nothing_enters_or_leaves_a_pod_before_its_rows_are_loaded() {
    let fabric = Fabric::new();
    let mut node = Node::new(&fabric, 1);
    let a = node.pod(5);
    let b = node.wire(6);
    connect(&a.netns, b.address, 80, SILENCE).unwrap_err();
    assert_eq!(node.dropped(a.address, b.address).0, DropReason::NoEndpoint);
    let netns = NetNs::open(node.netns.path()).unwrap();
    let datapath = node.datapath();
    netns.run(|| datapath.attach_pod(b.endpoint())).unwrap().unwrap();
    connect(&a.netns, b.address, 80, SILENCE).unwrap_err();
    assert_eq!(node.dropped(a.address, b.address).0, DropReason::NotLoaded);
    for (from, to) in b.both().into_iter().zip(a.both()) {
        connect(&b.netns, to, 80, SILENCE).unwrap_err();
        assert_eq!(node.dropped(from, to).0, DropReason::NotLoaded);
    }
    // The node's own sockets do reach it: they always may.
    assert_reaches(&node.netns, &b.netns, b.address, 80);
}

#[test]
fn a_pod_that_is_detached_is_cut_off_and_its_flows_are_gone() {
    let fabric = Fabric::new();
    let mut node = Node::new(&fabric, 1);
    let (a, b) = (node.pod(5), node.pod(6));
    // It ends with the test: no last packet reaches it.
    let _server = serve(&b.netns, b.address, 80);
    let mut stream = connect(&a.netns, b.address, 80, PATIENCE).unwrap();
    echo(&mut stream, 10);
    assert_eq!(node.datapath().read_flows().unwrap().len(), 1);
    node.datapath().detach_pod(&b.both().into()).unwrap();
    assert!(node.datapath().read_flows().unwrap().is_empty());
    stream.write_all(b"are you there?").unwrap();
    assert_eq!(node.dropped(a.address, b.address).0, DropReason::NoEndpoint);
    connect(&b.netns, a.address, 80, SILENCE).unwrap_err();
    assert_eq!(node.dropped(b.address, a.address).0, DropReason::SourceAddress);
    // Nothing of a pod is pinned: its hooks go with its link.
    let version = std::fs::read_dir(&node.config.pin_dir).unwrap().next().unwrap().unwrap();
    let pinned = std::fs::read_dir(version.path().join("links")).unwrap();
    let pinned: Vec<_> = pinned.map(|entry| entry.unwrap().file_name().into_string().unwrap()).collect();
    assert!(pinned.iter().any(|name| name == "from_uplink"), "{pinned:?}");
    assert!(!pinned.iter().any(|name| name.contains("pod")), "{pinned:?}");
}

#[test]
fn a_pod_that_forgot_its_gateway_asks_and_is_answered() {
    let fabric = Fabric::new();
    let mut node = Node::new(&fabric, 1);
    let (a, b) = (node.pod(5), node.pod(6));
    for (gateway, to) in [("169.254.1.1", b.address), ("fe80::1", b.address6)] {
        command(&a.netns, &format!("ip neigh del {gateway} dev eth0"));
        assert_reaches(&a.netns, &b.netns, to, 80);
    }
    assert_eq!(node.datapath().stats().unwrap().drops, Default::default());
}

#[test]
fn one_of_a_pods_addresses_can_go_and_come() {
    let fabric = Fabric::new();
    let mut node = Node::new(&fabric, 1);
    let (a, b) = (node.pod(5), node.pod(6));
    node.datapath().detach_pod(&[a.address6].into()).unwrap();
    connect(&a.netns, b.address6, 80, SILENCE).unwrap_err();
    assert_eq!(node.dropped(a.address6, b.address6).0, DropReason::SourceAddress);
    assert_reaches(&a.netns, &b.netns, b.address, 80);
    node.load(&a);
    assert_reaches(&a.netns, &b.netns, b.address6, 80);
    // Its addresses on another link: they are that pod's from now on, and only its.
    let moved = kilter_datapath::Endpoint { ifindex: b.ifindex, ..a.endpoint() };
    let netns = NetNs::open(node.netns.path()).unwrap();
    let datapath = node.datapath();
    netns.run(|| datapath.attach_pod(moved.clone())).unwrap().unwrap();
    assert_eq!(datapath.endpoints().unwrap(), [moved]);
}

#[test]
fn connections_outlive_a_restart_of_the_agent() {
    let fabric = Fabric::new();
    let (mut one, mut two) = (Node::new(&fabric, 1), Node::new(&fabric, 2));
    let (a, b) = (one.pod(5), two.pod(5));
    let server = serve(&b.netns, b.address, 80);
    let mut stream = connect(&a.netns, b.address, 80, PATIENCE).unwrap();
    echo(&mut stream, 10);
    let rows = one.datapath().read_policy().unwrap();
    let flows = one.datapath().read_flows().unwrap();
    one.reopen();
    two.reopen();
    echo(&mut stream, 100_000);
    assert_eq!(one.datapath().read_policy().unwrap(), rows);
    assert_eq!(one.datapath().read_flows().unwrap(), flows);
    assert_eq!(one.datapath().endpoints().unwrap().len(), 1);
    drop(stream);
    server.join().unwrap();
    assert_reaches(&b.netns, &a.netns, a.address, 82);
}
