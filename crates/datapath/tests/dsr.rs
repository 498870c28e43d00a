//! Direct server return: what arrives from outside goes on to the backend's node as it came, and the answer from
//! there to the client.

mod common;

use std::io::{ErrorKind, Read, Write as _};
use std::net::{IpAddr, SocketAddr, TcpStream};

use common::*;
use kilter_datapath::{DropReason, NodeRoute};
use kilter_model::{Direction, Protocol};
use kilter_netns::NetNs;
use kilter_policy::ClassId;
use kilter_services::Flags;
use kilter_testkit::TestNetNs;

const DSR: Flags = Flags { own_node: false, silent: false, restricted: false, retry: Some(false), dsr: true };
/// An address of a load balancer, by family.
const BALANCERS: [&str; 2] = ["192.0.2.7", "2001:db8:7::7"];

fn balancer(family: usize) -> IpAddr {
    BALANCERS[family].parse().unwrap()
}

/// Leads the nodes' port and the load balancer's address, on these nodes, to these backends.
fn lead<const N: usize>(nodes: [&mut Node; N], backends: &[(IpAddr, u16)], flags: Flags) {
    let family = usize::from(backends[0].0.is_ipv6());
    for node in nodes {
        for protocol in [Protocol::Tcp, Protocol::Udp] {
            put(node, any(backends[0].0), NODE_PORT, protocol, backends, flags);
            put(node, balancer(family), 443, protocol, backends, flags);
        }
    }
}

/// The network sends what is for the load balancer to this node.
fn enter(fabric: &Fabric, node: &Node, family: usize) {
    command(&fabric.netns, &format!("ip route replace {} via {}", BALANCERS[family], node.both()[family]));
}

/// Where clients ask: a port of node one, and the load balancer at node one.
fn ways(world: &World, family: usize) -> [(IpAddr, u16); 2] {
    enter(&world.fabric, &world.one, family);
    [(world.one.both()[family], NODE_PORT), (balancer(family), 443)]
}

/// A few bytes, both ways.
#[track_caller]
fn talk(client: &mut TcpStream, server: &mut TcpStream) {
    client.write_all(b"ping").unwrap();
    server.read_exact(&mut [0; 4]).unwrap();
    server.write_all(b"pong").unwrap();
    client.read_exact(&mut [0; 4]).unwrap();
}

/// How many rows a node has of connections that are sent on, and of others.
fn rows(node: &mut Node) -> (usize, usize) {
    let all = node.datapath().read_translations().unwrap();
    let sent_on = all.iter().filter(|row| row.sent_on).count();
    (sent_on, all.len() - sent_on)
}

#[test]
fn a_pod_of_another_node_sees_the_client_and_answers_it() {
    let mut world = World::new();
    for family in FAMILIES {
        let pod = world.far.both()[family];
        lead([&mut world.one, &mut world.two], &[(pod, 8080)], DSR);
        let listener = listen(&world.far.netns, pod, 8080);
        let before = [rows(&mut world.one), rows(&mut world.two)];
        for (at, port) in ways(&world, family) {
            let mut client = connect(&world.fabric.netns, at, port, PATIENCE).unwrap();
            let (mut server, peer) = accept(&listener);
            assert_eq!(peer, client.local_addr().unwrap());
            assert_eq!(client.peer_addr().unwrap(), SocketAddr::new(at, port));
            exchange(&mut client, &mut server);
        }
        let after = [rows(&mut world.one), rows(&mut world.two)];
        assert_eq!(after, [(before[0].0 + 2, 0), (0, before[1].1 + 4)]);
    }
    assert_eq!(world.one.datapath().sweep_flows().unwrap().translations, 4, "one row each, which no other is missing");
    assert_eq!(world.drops(), 0);
}

#[test]
fn large_datagrams_travel_in_fragments_both_ways() {
    let mut world = World::new();
    let sent: Vec<u8> = (0..8192u32).map(|i| (i / 7) as u8).collect();
    for family in FAMILIES {
        let pod = world.far.both()[family];
        lead([&mut world.one, &mut world.two], &[(pod, 5353)], DSR);
        let server = udp(&world.far.netns, pod, 5353);
        let mut buffer = vec![0; 10_000];
        for at in ways(&world, family).map(SocketAddr::from) {
            let client = connected_udp(&world.fabric.netns, OUTSIDES[family], at.ip(), at.port());
            for length in [1, 8192] {
                client.send(&sent[..length]).unwrap();
                let (got, from) = server.recv_from(&mut buffer).unwrap();
                assert!(buffer[..got] == sent[..length]);
                assert_eq!(from, client.local_addr().unwrap());
                server.send_to(&sent[..length], from).unwrap();
                assert_eq!(client.recv(&mut buffer).unwrap(), length);
            }
        }
    }
    assert_eq!(world.drops(), 0);
}

/// A network behind the fabric, whose way there is narrower than it believes.
fn narrow_network(fabric: &Fabric) -> TestNetNs {
    let netns = TestNetNs::new("client");
    command(&netns, "ip link add eth0 type veth peer name narrow");
    command(&netns, &format!("ip link set narrow netns {}", fabric.netns.path().display()));
    sysctl(&netns, "ipv6/conf/eth0/accept_dad", "0");
    sysctl(&fabric.netns, "ipv4/ip_forward", "1");
    sysctl(&fabric.netns, "ipv6/conf/all/forwarding", "1");
    command(&netns, "ip link set eth0 up");
    command(&fabric.netns, "ip link set narrow up");
    for (own, gateway, length) in [("198.51.100.9", "198.51.100.1", 24), ("2001:db8:9::9", "2001:db8:9::1", 64)] {
        add_address(&fabric.netns, gateway.parse().unwrap(), "narrow");
        command(&fabric.netns, &format!("ip route replace {own} dev narrow mtu lock 1300"));
        let flag = if own.contains(':') { " nodad" } else { "" };
        command(&netns, &format!("ip addr add {own}/{length} dev eth0{flag}"));
        command(&netns, &format!("ip route add default via {gateway}"));
    }
    netns
}

#[test]
fn a_pod_learns_how_much_fits_the_way_to_its_client() {
    let mut world = World::new();
    let outside = narrow_network(&world.fabric);
    for family in FAMILIES {
        let pod = world.far.both()[family];
        lead([&mut world.one, &mut world.two], &[(pod, 80)], DSR);
        let listener = listen(&world.far.netns, pod, 80);
        for (at, port) in ways(&world, family) {
            let mut client = connect(&outside, at, port, PATIENCE).unwrap();
            let (mut server, peer) = accept(&listener);
            assert_eq!(peer, client.local_addr().unwrap());
            exchange(&mut client, &mut server);
            let line = format!("ip route get {}", peer.ip());
            let known = world.far.netns.run(|| std::process::Command::new("sh").args(["-c", &line]).output());
            let known = String::from_utf8(known.unwrap().unwrap().stdout).unwrap();
            assert!(known.contains("mtu 1300"), "{known}");
            command(&world.far.netns, "ip route flush cache");
            command(&world.far.netns, "ip -6 route flush cache");
        }
    }
    assert_eq!(world.drops(), 0);
}

#[test]
fn a_client_learns_that_a_hop_is_missing() {
    let mut world = World::new();
    for family in FAMILIES {
        let pod = world.far.both()[family];
        lead([&mut world.one, &mut world.two], &[(pod, 53)], DSR);
        let server = udp(&world.far.netns, pod, 53);
        let at = balancer(family);
        enter(&world.fabric, &world.one, family);
        let client = connected_udp(&world.fabric.netns, OUTSIDES[family], at, 443);
        assert_two_hops(&client, at, &server);
    }
}

#[test]
fn a_backend_that_is_a_node_sees_the_node_that_asks() {
    let mut world = World::new();
    for family in FAMILIES {
        let [at, node] = [&world.one, &world.two].map(|node| node.both()[family]);
        lead([&mut world.one, &mut world.two], &[(node, 8080)], DSR);
        let listener = listen(&world.two.netns, node, 8080);
        let mut client = connect(&world.fabric.netns, at, NODE_PORT, PATIENCE).unwrap();
        let (mut server, peer) = accept(&listener);
        assert_eq!(peer.ip(), at);
        exchange(&mut client, &mut server);
    }
    assert_eq!(rows(&mut world.one).0, 0);
}

/// A node takes nothing from beyond under its own addresses: its answers must come back by the node that was asked.
#[test]
fn nodes_and_their_pods_are_led_under_the_asked_nodes_address() {
    let mut world = World::new();
    let asking = world.asker();
    for family in FAMILIES {
        let (at, pod) = (world.one.both()[family], world.far.both()[family]);
        lead([&mut world.one, &mut world.two], &[(pod, 8080)], DSR);
        let listener = listen(&world.far.netns, pod, 8080);
        for netns in [&*world.two.netns, &*asking.netns] {
            let mut client = connect(netns, at, NODE_PORT, PATIENCE).unwrap();
            let (mut server, peer) = accept(&listener);
            assert_eq!(peer.ip(), at);
            exchange(&mut client, &mut server);
        }
    }
    assert_eq!(world.drops(), 0);
}

#[test]
fn what_lives_stays_with_its_backend_when_the_tables_change() {
    let mut world = World::new();
    for family in FAMILIES {
        let [near, far] = [&world.near, &world.far].map(|pod| pod.both()[family]);
        let listeners = [listen(&world.near.netns, near, 80), listen(&world.far.netns, far, 80)];
        let there = udp(&world.far.netns, far, 80);
        let both = [(near, 80), (far, 80)];
        for (at, port) in ways(&world, family) {
            lead([&mut world.one, &mut world.two], &both[1..], DSR);
            let mut client = connect(&world.fabric.netns, at, port, PATIENCE).unwrap();
            let (mut server, _) = accept(&listeners[1]);
            let datagrams = connected_udp(&world.fabric.netns, OUTSIDES[family], at, port);
            datagrams.send(b"one").unwrap();
            assert_eq!(there.recv(&mut [0; 8]).unwrap(), 3);
            talk(&mut client, &mut server);
            lead([&mut world.one, &mut world.two], &both, DSR);
            datagrams.send(b"more").unwrap();
            assert_eq!(there.recv(&mut [0; 8]).unwrap(), 4);
            lead([&mut world.one, &mut world.two], &both[..1], DSR);
            let mut another = connect(&world.fabric.netns, at, port, PATIENCE).unwrap();
            talk(&mut another, &mut accept(&listeners[0]).0);
            exchange(&mut client, &mut server);
        }
    }
    assert_eq!(world.drops(), 0);
}

/// Its node leads what it does not know by the tables: back here, where it was sent on. That ends it.
#[test]
fn a_connection_whose_backend_is_gone_ends_at_once() {
    let mut world = World::new();
    for family in FAMILIES {
        let near = world.near.both()[family];
        let (_listener, gone) = (listen(&world.near.netns, near, 80), world.two.pod(30 + family as u8));
        let listener = listen(&gone.netns, gone.both()[family], 80);
        for (number, (at, port)) in (0..).zip(ways(&world, family)) {
            lead([&mut world.one, &mut world.two], &[(gone.both()[family], 80)], DSR);
            if number > 0 {
                world.two.load(&gone);
            }
            let mut client = connect(&world.fabric.netns, at, port, PATIENCE).unwrap();
            let (mut server, _) = accept(&listener);
            talk(&mut client, &mut server);
            lead([&mut world.one, &mut world.two], &[(near, 80)], DSR);
            world.two.datapath().detach_pod(&gone.both().into()).unwrap();
            client.write_all(b"anybody?").unwrap();
            assert_eq!(client.read(&mut [0; 1]).unwrap_err().kind(), ErrorKind::ConnectionReset);
        }
    }
}

#[test]
fn policy_of_the_backends_node_judges_the_client() {
    let mut world = World::new();
    for family in FAMILIES {
        let (pod, client) = (world.far.both()[family], OUTSIDES[family]);
        lead([&mut world.one, &mut world.two], &[(pod, 80)], DSR);
        world.two.posture(&world.far, FRIENDS);
        let listener = listen(&world.far.netns, pod, 80);
        for (at, port) in ways(&world, family) {
            world.two.class(client, ClassId(1));
            world.two.forget_events();
            connect(&world.fabric.netns, at, port, SILENCE).unwrap_err();
            assert_eq!(world.two.dropped(client, pod), (DropReason::Policy, Direction::Ingress, Some(DENY)));
            world.two.class(client, FRIEND);
            let mut here = connect(&world.fabric.netns, at, port, PATIENCE).unwrap();
            let (mut there, _) = accept(&listener);
            talk(&mut here, &mut there);
            // What is allowed no longer is reset at both ends, by whichever packet comes next.
            world.two.class(client, ClassId(1));
            here.write_all(b"more").unwrap();
            for (name, end) in [("client", &mut here), ("server", &mut there)] {
                let error = end.read(&mut [0; 16]).expect_err(name);
                assert_eq!(error.kind(), ErrorKind::ConnectionReset, "{name}");
            }
        }
    }
}

/// Another node, which knows the ways to the pods and nodes of the world.
fn third(world: &World) -> Node {
    let mut three = Node::new(&world.fabric, 3);
    let mut routes = Vec::new();
    for (number, node) in [(1, &world.one), (2, &world.two)] {
        let blocks = [format!("10.244.{number}.0/24"), format!("fd00:244:{number}::/64")];
        for (block, next_hop) in blocks.iter().zip(node.both()) {
            routes.push(NodeRoute { prefix: block.parse().unwrap(), next_hop });
            routes.push(NodeRoute { prefix: next_hop.into(), next_hop });
        }
    }
    three.datapath().set_routes(&routes).unwrap();
    three
}

#[test]
fn connections_live_on_when_their_address_moves_to_another_node() {
    let mut world = World::new();
    let mut three = third(&world);
    let pods: Vec<Pod> = (20..24).map(|last| world.two.pod(last)).collect();
    for family in FAMILIES {
        let at = balancer(family);
        let backends: Vec<_> = pods.iter().chain([&world.far, &world.near]).map(|pod| (pod.both()[family], 80)).collect();
        for node in [&mut world.one, &mut world.two, &mut three] {
            put_table(node, at, 443, &backends, DSR);
        }
        let mut listeners = Vec::new();
        for pod in pods.iter().chain([&world.far, &world.near]) {
            let listener = listen(&pod.netns, pod.both()[family], 80);
            listener.set_nonblocking(true).unwrap();
            listeners.push(listener);
        }
        enter(&world.fabric, &world.one, family);
        let mut clients = Vec::new();
        for _ in 0..16 {
            let client = connect(&world.fabric.netns, at, 443, PATIENCE).unwrap();
            let accepted = listeners.iter().find_map(|listener| listener.accept().ok());
            let (server, peer) = accepted.expect("somebody answers");
            assert_eq!(peer, client.local_addr().unwrap());
            server.set_nonblocking(false).unwrap();
            server.set_read_timeout(Some(PATIENCE)).unwrap();
            clients.push((client, server));
        }
        let (near, _) = rows(&mut world.one);
        assert!(near > 0, "somebody is served by another node");
        // To a third node, to the backends' own, and back; some pods are of the node that the address leaves.
        for node in [&three, &world.two, &world.one, &three] {
            enter(&world.fabric, node, family);
            clients.iter_mut().for_each(|(client, server)| talk(client, server));
        }
        // The first that the next node hears of a connection is its end.
        for (index, (client, mut server)) in clients.into_iter().enumerate() {
            let node = if index % 2 == 0 { &world.one } else { &world.two };
            enter(&world.fabric, node, family);
            set_linger(&client);
            drop(client);
            assert_eq!(server.read(&mut [0; 1]).unwrap_err().kind(), ErrorKind::ConnectionReset);
        }
    }
    assert_eq!(world.drops(), 0);
    assert!(three.datapath().stats().unwrap().drops.is_empty());
}

/// Its end is a reset.
fn set_linger(stream: &TcpStream) {
    use nix::sys::socket::{setsockopt, sockopt};
    setsockopt(stream, sockopt::Linger, &nix::libc::linger { l_onoff: 1, l_linger: 0 }).unwrap();
}

/// Frames to node one's address come to node two.
fn mislead(world: &World, family: usize) {
    let mac = link_address(&world.two.netns);
    let at = world.one.both()[family];
    command(&world.fabric.netns, &format!("ip neigh replace {at} lladdr {mac} dev br0 nud permanent"));
}

fn link_address(netns: &NetNs) -> String {
    let shown = netns.run(|| std::process::Command::new("ip").args(["-o", "link", "show", "eth0"]).output());
    let shown = String::from_utf8(shown.unwrap().unwrap().stdout).unwrap();
    shown.split_whitespace().skip_while(|word| *word != "link/ether").nth(1).unwrap().to_owned()
}

#[test]
fn another_nodes_port_is_served_where_packets_are_sent_on_and_nowhere_else() {
    let mut world = World::new();
    for family in FAMILIES {
        let (at, pod) = (world.one.both()[family], world.far.both()[family]);
        mislead(&world, family);
        let listener = listen(&world.far.netns, pod, 80);
        lead([&mut world.two], &[(pod, 80)], Flags::default());
        // It is the stack's: node one gets it, and serves nothing.
        let before = rows(&mut world.two);
        connect(&world.fabric.netns, at, NODE_PORT, SILENCE).unwrap_err();
        assert_eq!(rows(&mut world.two), before);
        lead([&mut world.two], &[(pod, 80)], DSR);
        let mut client = connect(&world.fabric.netns, at, NODE_PORT, PATIENCE).unwrap();
        let (mut server, peer) = accept(&listener);
        assert_eq!(peer, client.local_addr().unwrap());
        exchange(&mut client, &mut server);
        // What is the node's own stays its own.
        assert_reaches(&world.fabric.netns, &world.two.netns, world.two.both()[family], 22);
    }
}

#[test]
fn through_a_tunnel_nothing_is_sent_on_as_it_came() {
    for family in FAMILIES {
        let mut world = World::tunnelled(family);
        let (at, pod) = (world.one.both()[family], world.far.both()[family]);
        lead([&mut world.one, &mut world.two], &[(pod, 8080)], DSR);
        let listener = listen(&world.far.netns, pod, 8080);
        let mut client = connect(&world.fabric.netns, at, NODE_PORT, PATIENCE).unwrap();
        let (mut server, peer) = accept(&listener);
        assert_eq!(peer.ip(), at);
        exchange(&mut client, &mut server);
        assert_eq!(rows(&mut world.one).0, 0);
    }
}
