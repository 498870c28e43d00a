//! Services at connect time, for sockets of the node's cgroup. The whole process moves into that
//! cgroup, so these tests have a program of their own and run one after the other.

mod common;

use std::collections::BTreeSet;
use std::io::ErrorKind;
use std::net::{IpAddr, Ipv4Addr, Ipv6Addr, SocketAddr, TcpListener, UdpSocket};

use common::*;
use kilter_datapath::{Datapath, DropReason};
use kilter_model::Protocol;
use kilter_services::{Backend, Flags, Frontend, FrontendRow, Plan, Write};

const SERVICE: IpAddr = IpAddr::V4(Ipv4Addr::new(10, 96, 0, 10));
const SERVICE6: IpAddr = IpAddr::V6(Ipv6Addr::new(0xfd00, 0x96, 0, 0, 0, 0, 0, 0x10));
/// [`SERVICE`] as sockets of IPv6 write it.
const MAPPED: Ipv6Addr = Ipv6Addr::new(0, 0, 0, 0, 0, 0xffff, 0x0a60, 10);

/// Makes `port` of [`SERVICE`], or of [`SERVICE6`] if that is what the backends are, stand for these
/// backends, under a new revision.
fn put_service(
    datapath: &mut Datapath,
    port: u16,
    protocol: Protocol,
    revision: u32,
    backends: &[(IpAddr, u16)],
) {
    let address = if backends.iter().any(|(address, _)| address.is_ipv6()) { SERVICE6 } else { SERVICE };
    let frontend = Frontend::inside(address, port, protocol);
    let mut plan = Plan::default();
    for (slot, (address, port)) in (0u32..).zip(backends) {
        let backend = Backend { address: *address, port: *port };
        plan.prepare.push(Write::PutBackend { revision, slot, backend });
    }
    let row = FrontendRow { revision, count: backends.len() as u32, flags: Flags::default(), affinity: 0, places: 0 };
    plan.switch.push(Write::PutFrontend { frontend, row });
    datapath.apply_services(&plan).unwrap();
}

#[test]
fn a_connection_goes_to_a_backend_and_shows_the_service() {
    let fabric = Fabric::new();
    let mut node = Node::new(&fabric, 1);
    let (a, b, c) = (node.pod(5), node.pod(6), node.pod(7));
    let _inside = Inside::of(&node);
    put_service(node.datapath(), 80, Protocol::Tcp, 1, &[(b.address, 8080), (c.address, 8081)]);
    let at_b = b.netns.run(|| TcpListener::bind((b.address, 8080))).unwrap().unwrap();
    let at_c = c.netns.run(|| TcpListener::bind((c.address, 8081))).unwrap().unwrap();
    let mut reached = BTreeSet::new();
    for _ in 0..64 {
        let stream = connect(&a.netns, SERVICE, 80, PATIENCE).unwrap();
        assert_eq!(stream.peer_addr().unwrap(), SocketAddr::from((SERVICE, 80)));
        for (name, listener) in [("b", &at_b), ("c", &at_c)] {
            listener.set_nonblocking(true).unwrap();
            if let Ok((server, peer)) = listener.accept() {
                reached.insert(name);
                assert_eq!(peer.ip(), a.address, "the backend sees the client");
                drop(server);
            }
        }
    }
    assert_eq!(reached, BTreeSet::from(["b", "c"]));
}

#[test]
fn without_backends_and_without_a_service_connections_are_refused() {
    let fabric = Fabric::new();
    let mut node = Node::new(&fabric, 1);
    let a = node.pod(5);
    let _inside = Inside::of(&node);
    put_service(node.datapath(), 80, Protocol::Tcp, 1, &[]);
    for (address, port) in [(SERVICE, 80), (SERVICE, 81), (SERVICE6, 80)] {
        let error = connect(&a.netns, address, port, PATIENCE).unwrap_err();
        assert_eq!(error.kind(), ErrorKind::ConnectionRefused, "{port}: {error}");
    }
    for (own, service) in a.both().into_iter().zip([SERVICE, SERVICE6]) {
        let error = udp(&a.netns, own, 0).send_to(b"x", (service, 53)).unwrap_err();
        assert_eq!(error.kind(), ErrorKind::ConnectionRefused);
    }
    // Nothing was sent, so nothing was dropped.
    assert_eq!(node.datapath().stats().unwrap().drops, Default::default());
}

#[test]
fn a_socket_outside_the_cgroup_is_not_translated_and_its_packets_are_dropped() {
    let fabric = Fabric::new();
    let mut node = Node::new(&fabric, 1);
    let (a, b) = (node.pod(5), node.pod(6));
    put_service(node.datapath(), 80, Protocol::Tcp, 1, &[(b.address, 80)]);
    let made_outside = udp(&a.netns, a.address, 0);
    let _inside = Inside::of(&node);
    made_outside.send_to(b"x", (SERVICE, 53)).unwrap();
    assert_eq!(node.dropped(a.address, SERVICE).0, DropReason::NoService);
}

#[test]
fn datagrams_of_one_socket_to_several_services_come_back_from_each() {
    let fabric = Fabric::new();
    let mut node = Node::new(&fabric, 1);
    let (a, b) = (node.pod(5), node.pod(6));
    let _inside = Inside::of(&node);
    put_service(node.datapath(), 53, Protocol::Udp, 1, &[(b.address, 5353)]);
    put_service(node.datapath(), 54, Protocol::Udp, 2, &[(b.address, 5454)]);
    let first = udp(&b.netns, b.address, 5353);
    let second = udp(&b.netns, b.address, 5454);
    let client = udp(&a.netns, a.address, 0);
    let mut buffer = [0; 64];
    for (port, server) in [(53, &first), (54, &second), (53, &first)] {
        client.send_to(b"question", (SERVICE, port)).unwrap();
        let (_, from) = server.recv_from(&mut buffer).unwrap();
        assert_eq!(from.ip(), a.address);
        server.send_to(b"answer", from).unwrap();
        let (_, from) = client.recv_from(&mut buffer).unwrap();
        assert_eq!(from, SocketAddr::from((SERVICE, port)));
    }
    // Whoever is no Service shows his own address.
    client.send_to(b"direct", (b.address, 5454)).unwrap();
    let (_, from) = second.recv_from(&mut buffer).unwrap();
    drop(second);
    let third = udp(&b.netns, b.address, 5555);
    third.send_to(b"answer", from).unwrap();
    assert_eq!(client.recv_from(&mut buffer).unwrap().1, SocketAddr::from((b.address, 5555)));
}

#[test]
fn a_socket_stays_with_a_backend_until_the_service_changes() {
    let fabric = Fabric::new();
    let mut node = Node::new(&fabric, 1);
    let (a, b) = (node.pod(5), node.pod(6));
    let _inside = Inside::of(&node);
    let backends: Vec<_> = (0..8).map(|i| (b.address, 5300 + i)).collect();
    put_service(node.datapath(), 53, Protocol::Udp, 1, &backends);
    let servers: Vec<_> = backends.iter().map(|(address, port)| udp(&b.netns, *address, *port)).collect();
    let client = udp(&a.netns, a.address, 0);
    for _ in 0..8 {
        client.send_to(b"question", (SERVICE, 53)).unwrap();
    }
    let mut reached = 0;
    for server in &servers {
        server.set_nonblocking(true).unwrap();
        if server.recv(&mut [0; 16]).is_ok() {
            reached += 1;
        }
    }
    assert_eq!(reached, 1);
    put_service(node.datapath(), 53, Protocol::Udp, 2, &[(b.address, 5400)]);
    let moved = udp(&b.netns, b.address, 5400);
    client.send_to(b"question", (SERVICE, 53)).unwrap();
    moved.recv(&mut [0; 16]).unwrap();
}

#[test]
fn services_of_ipv6_have_backends_of_ipv6() {
    let fabric = Fabric::new();
    let mut node = Node::new(&fabric, 1);
    let (a, b) = (node.pod(5), node.pod(6));
    let _inside = Inside::of(&node);
    put_service(node.datapath(), 80, Protocol::Tcp, 1, &[(b.address6, 8080)]);
    put_service(node.datapath(), 53, Protocol::Udp, 2, &[(b.address6, 5353)]);
    let listener = b.netns.run(|| TcpListener::bind((b.address6, 8080))).unwrap().unwrap();
    let stream = connect(&a.netns, SERVICE6, 80, PATIENCE).unwrap();
    assert_eq!(stream.peer_addr().unwrap(), SocketAddr::from((SERVICE6, 80)));
    assert_eq!(listener.accept().unwrap().1.ip(), a.address6);
    let (client, server) = (udp(&a.netns, a.address6, 0), udp(&b.netns, b.address6, 5353));
    client.send_to(b"question", (SERVICE6, 53)).unwrap();
    let (_, from) = server.recv_from(&mut [0; 16]).unwrap();
    server.send_to(b"answer", from).unwrap();
    assert_eq!(client.recv_from(&mut [0; 16]).unwrap().1, SocketAddr::from((SERVICE6, 53)));
    // Untranslated, for it was made outside the cgroup: nobody has this address.
    drop(_inside);
    udp(&a.netns, a.address6, 0).send_to(b"x", (SERVICE6, 53)).unwrap();
    assert_eq!(node.dropped(a.address6, SERVICE6).0, DropReason::NoService);
}

#[test]
fn connected_datagram_sockets_are_translated_once() {
    let fabric = Fabric::new();
    let mut node = Node::new(&fabric, 1);
    let (a, b) = (node.pod(5), node.pod(6));
    let _inside = Inside::of(&node);
    put_service(node.datapath(), 53, Protocol::Udp, 1, &[(b.address, 5353)]);
    let server = udp(&b.netns, b.address, 5353);
    let client = udp(&a.netns, a.address, 0);
    client.connect((SERVICE, 53)).unwrap();
    assert_eq!(client.peer_addr().unwrap(), SocketAddr::from((SERVICE, 53)));
    client.send(b"question").unwrap();
    let (_, from) = server.recv_from(&mut [0; 16]).unwrap();
    server.send_to(b"answer", from).unwrap();
    let (_, from) = client.recv_from(&mut [0; 16]).unwrap();
    assert_eq!(from, SocketAddr::from((SERVICE, 53)));
    // Connected to the backend itself, it shows the backend.
    client.connect((b.address, 5353)).unwrap();
    assert_eq!(client.peer_addr().unwrap(), SocketAddr::from((b.address, 5353)));
}

#[test]
fn addresses_in_mapped_form_are_the_same_services() {
    let fabric = Fabric::new();
    let mut node = Node::new(&fabric, 1);
    let (a, b) = (node.pod(5), node.pod(6));
    let _inside = Inside::of(&node);
    put_service(node.datapath(), 53, Protocol::Udp, 1, &[(b.address, 5353)]);
    put_service(node.datapath(), 80, Protocol::Tcp, 2, &[(b.address, 8080)]);
    let listener = b.netns.run(|| TcpListener::bind((b.address, 8080))).unwrap().unwrap();
    let mapped = SocketAddr::from((MAPPED, 80));
    let stream = a.netns.run(|| std::net::TcpStream::connect_timeout(&mapped, PATIENCE)).unwrap().unwrap();
    assert_eq!(stream.peer_addr().unwrap(), mapped);
    listener.accept().unwrap();
    let refused = SocketAddr::from((MAPPED, 81));
    let error =
        a.netns.run(|| std::net::TcpStream::connect_timeout(&refused, PATIENCE)).unwrap().unwrap_err();
    assert_eq!(error.kind(), ErrorKind::ConnectionRefused);

    let server = udp(&b.netns, b.address, 5353);
    let client = a.netns.run(|| UdpSocket::bind((Ipv6Addr::UNSPECIFIED, 0))).unwrap().unwrap();
    client.set_read_timeout(Some(PATIENCE)).unwrap();
    client.send_to(b"question", (MAPPED, 53)).unwrap();
    let (_, from) = server.recv_from(&mut [0; 16]).unwrap();
    server.send_to(b"answer", from).unwrap();
    assert_eq!(client.recv_from(&mut [0; 16]).unwrap().1, SocketAddr::from((MAPPED, 53)));
}

#[test]
fn service_rows_come_back_as_they_were_written() {
    let fabric = Fabric::new();
    let mut node = Node::new(&fabric, 1);
    let mut expected = kilter_services::Tables::default();
    let frontend = Frontend::inside(SERVICE, 53, Protocol::Udp);
    let backend = Backend { address: Ipv4Addr::new(10, 244, 1, 9).into(), port: 5353 };
    let plan = Plan {
        prepare: vec![
            Write::PutBackend { revision: 4, slot: 0, backend },
            Write::PutBackend { revision: 4, slot: 1, backend },
        ],
        switch: vec![Write::PutFrontend { frontend, row: FrontendRow { revision: 4, count: 2, flags: Flags { retry: Some(false), ..Flags::default() }, affinity: 0, places: 0 } }],
        retire: vec![],
    };
    plan.writes().for_each(|write| expected.apply(write));
    node.datapath().apply_services(&plan).unwrap();
    assert_eq!(node.datapath().read_services().unwrap(), expected);
    node.reopen();
    assert_eq!(node.datapath().read_services().unwrap(), expected);
    let gone = Plan {
        switch: vec![Write::DeleteFrontend { frontend }],
        retire: vec![
            Write::DeleteBackend { revision: 4, slot: 0 },
            Write::DeleteBackend { revision: 4, slot: 1 },
        ],
        ..Plan::default()
    };
    node.datapath().apply_services(&gone).unwrap();
    assert_eq!(node.datapath().read_services().unwrap(), Default::default());
}

/// An address for each number.
fn many(number: u32) -> IpAddr {
    Ipv4Addr::from_bits(0x0a60_8000 + number).into()
}

#[test]
fn tables_grow_under_traffic() {
    let fabric = Fabric::new();
    let mut node = Node::new(&fabric, 1);
    let (a, b) = (node.pod(5), node.pod(6));
    let _inside = Inside::of(&node);
    put_service(node.datapath(), 80, Protocol::Tcp, 1, &[(b.address, 80)]);
    let server = serve(&b.netns, b.address, 80);
    let mut stream = connect(&a.netns, SERVICE, 80, PATIENCE).unwrap();
    echo(&mut stream, 10);
    let mut plan = Plan::default();
    for revision in 2..=5_000u32 {
        let frontend = Frontend::inside(many(revision), 80, Protocol::Tcp);
        plan.switch.push(Write::PutFrontend { frontend, row: FrontendRow { revision, count: 2, flags: Flags::default(), affinity: 0, places: 0 } });
        for slot in 0..2 {
            let backend = Backend { address: b.address, port: 80 };
            plan.prepare.push(Write::PutBackend { revision, slot, backend });
        }
    }
    let netns = kilter_netns::NetNs::open(node.netns.path()).unwrap();
    let datapath = node.datapath();
    netns.run(|| datapath.apply_services(&plan)).unwrap().unwrap();
    assert_eq!(datapath.stats().unwrap().tables["frontends"], 5_000);
    assert_eq!(datapath.stats().unwrap().tables["backends"], 9_999);
    // Old connections go on; old and new Services are there, also for the next agent.
    echo(&mut stream, 10);
    drop(stream);
    server.join().unwrap();
    node.reopen();
    assert_eq!(node.datapath().stats().unwrap().tables["frontends"], 5_000);
    for service in [SERVICE, many(4_999)] {
        let server = serve(&b.netns, b.address, 80);
        echo(&mut connect(&a.netns, service, 80, PATIENCE).unwrap(), 10);
        server.join().unwrap();
    }
}

#[test]
fn ports_of_nodes_are_translated_where_they_are_this_nodes_affair() {
    let fabric = Fabric::new();
    let mut node = Node::new(&fabric, 1);
    let (a, b) = (node.pod(5), node.pod(6));
    let _inside = Inside::of(&node);
    let other_nodes = ["10.240.0.12", "fd00:240::12"];
    for (family, other) in FAMILIES.into_iter().zip(other_nodes) {
        let (own, to) = (node.both()[family], b.both()[family]);
        let any: IpAddr = if to.is_ipv4() { [0, 0, 0, 0].into() } else { [0u16; 8].into() };
        let put = |node: &mut Node, port, own_node| {
            let revision = u32::from(port) + 10 * family as u32;
            let mut plan = Plan::default();
            plan.prepare.push(Write::PutBackend { revision, slot: 0, backend: Backend { address: to, port: 80 } });
            let row = FrontendRow { revision, count: 1, flags: Flags { own_node, ..Flags::default() }, affinity: 0, places: 0 };
            plan.switch.push(Write::PutFrontend { frontend: Frontend::inside(any, port, Protocol::Tcp), row });
            node.datapath().apply_services(&plan).unwrap();
        };
        put(&mut node, 30_080, false);
        put(&mut node, 30_081, true);
        for (at, port) in [(own, 30_080), (other.parse().unwrap(), 30_080), (own, 30_081)] {
            let listener = b.netns.run(|| TcpListener::bind((to, 80))).unwrap().unwrap();
            for client in [&a.netns, &node.netns] {
                let stream = connect(client, at, port, PATIENCE).unwrap();
                assert_eq!(stream.peer_addr().unwrap(), SocketAddr::from((at, port)));
                listener.accept().unwrap();
            }
        }
        // No node's address: neither those of pods, nor none at all, which means the program's own loopback.
        let server = b.netns.run(|| TcpListener::bind((to, 30_080))).unwrap().unwrap();
        connect(&a.netns, to, 30_080, PATIENCE).unwrap();
        server.accept().unwrap();
        let error = connect(&a.netns, any, 30_080, PATIENCE).unwrap_err();
        assert_eq!(error.kind(), ErrorKind::ConnectionRefused);
        // Which of its endpoints another node chooses is its own affair: the packet goes there.
        connect(&a.netns, other.parse().unwrap(), 30_081, SILENCE).unwrap_err();
        let flows = node.datapath().read_flows().unwrap();
        assert!(flows.iter().any(|flow| flow.to == SocketAddr::new(other.parse().unwrap(), 30_081)), "{flows:?}");
    }
}

/// [`SERVICE`] of this revision, whose row says more.
fn put_row(datapath: &mut Datapath, backends: &[(IpAddr, u16)], ranges: &[&str], row: FrontendRow) {
    let revision = row.revision;
    let mut plan = Plan::default();
    for (slot, (address, port)) in (0u32..).zip(backends) {
        plan.prepare.push(Write::PutBackend { revision, slot, backend: Backend { address: *address, port: *port } });
    }
    plan.prepare.extend(ranges.iter().map(|range| Write::PutSource { revision, range: range.parse().unwrap() }));
    let address = if backends[0].0.is_ipv6() { SERVICE6 } else { SERVICE };
    plan.switch.push(Write::PutFrontend { frontend: Frontend::inside(address, 80, Protocol::Tcp), row });
    datapath.apply_services(&plan).unwrap();
}

#[test]
fn a_client_with_affinity_stays_with_its_backend_until_that_is_gone() {
    let fabric = Fabric::new();
    let mut node = Node::new(&fabric, 1);
    let clients = [node.pod(5), node.pod(6)];
    let servers: Vec<Pod> = (10..18).map(|last| node.pod(last)).collect();
    let _inside = Inside::of(&node);
    let mut all: Vec<(IpAddr, u16)> = servers.iter().map(|pod| (pod.address, 8080)).collect();
    let listen = |pod: &Pod| pod.netns.run(|| TcpListener::bind((pod.address, 8080))).unwrap().unwrap();
    let listeners: Vec<TcpListener> = servers.iter().map(listen).collect();
    let row = |revision, count| FrontendRow { revision, count, flags: Flags::default(), affinity: 60, places: 0 };
    put_row(node.datapath(), &all, &[], row(1, 8));
    // Which of the servers answers.
    let reach = |client: &Pod| {
        let stream = connect(&client.netns, SERVICE, 80, PATIENCE).unwrap();
        let at = listeners.iter().position(|listener| {
            listener.set_nonblocking(true).unwrap();
            listener.accept().is_ok()
        });
        drop(stream);
        servers[at.expect("somebody answers")].address
    };
    for client in &clients {
        let first = reach(client);
        for revision in 2..6 {
            // Whatever else changes, in whatever order.
            all.reverse();
            put_row(node.datapath(), &all, &[], row(revision, 8));
            assert_eq!(reach(client), first);
        }
        let others: Vec<_> = all.iter().copied().filter(|(address, _)| *address != first).collect();
        put_row(node.datapath(), &others, &[], row(6, 7));
        let next = reach(client);
        assert_ne!(next, first);
        put_row(node.datapath(), &all, &[], row(7, 8));
        assert_eq!(reach(client), next, "it stays where it went");
    }
}

#[test]
fn what_is_for_some_clients_only_refuses_others_by_their_addresses() {
    let fabric = Fabric::new();
    let mut node = Node::new(&fabric, 1);
    let (friend, other, server) = (node.pod(5), node.pod(6), node.pod(7));
    let _inside = Inside::of(&node);
    let flags = Flags { restricted: true, ..Flags::default() };
    for family in FAMILIES {
        let (at, service) = (server.both()[family], [SERVICE, SERVICE6][family]);
        let _listener = server.netns.run(|| TcpListener::bind((at, 80))).unwrap().unwrap();
        let ranges = [format!("{}/{}", friend.both()[family], [32, 128][family])];
        let row = FrontendRow { revision: 1 + family as u32, count: 1, flags, affinity: 0, places: 0 };
        put_row(node.datapath(), &[(at, 80)], &ranges.each_ref().map(String::as_str), row);
        let refused = |client: &Pod| connect(&client.netns, service, 80, PATIENCE).unwrap_err().kind();
        // Until it is known whose a namespace is, it is nobody's.
        node.datapath().know_namespace(other.netns.cookie().unwrap(), &other.both()).unwrap();
        assert_eq!(refused(&friend), ErrorKind::ConnectionRefused);
        node.datapath().know_namespace(friend.netns.cookie().unwrap(), &friend.both()).unwrap();
        connect(&friend.netns, service, 80, PATIENCE).unwrap();
        node.forget_events();
        assert_eq!(refused(&other), ErrorKind::ConnectionRefused);
        assert_eq!(node.dropped(other.both()[family], service).0, DropReason::SourceRange);
        node.reopen();
        connect(&friend.netns, service, 80, PATIENCE).unwrap();
        node.datapath().detach_pod(&friend.both().into()).unwrap();
        assert_eq!(refused(&friend), ErrorKind::ConnectionRefused, "it is nobody's again");
        node.load(&friend);
    }
}
