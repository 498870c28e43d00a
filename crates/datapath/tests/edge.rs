//! Services from outside: real sockets beyond the uplink, and packets that are translated on the way.

mod common;

use std::collections::BTreeSet;
use std::io::{ErrorKind, Read, Write as _};
use std::net::{IpAddr, SocketAddr, TcpListener};
use std::time::Instant;

use common::*;
use kilter_datapath::{DropReason, SERVICE_PORTS};
use kilter_model::{Direction, Protocol};
use kilter_policy::ClassId;
use kilter_services::Flags;

#[test]
fn a_node_port_leads_to_a_pod_of_the_node_which_sees_the_client() {
    for mut world in World::each() {
        for family in FAMILIES {
            let (at, pod) = (world.one.both()[family], world.near.both()[family]);
            expose(&mut world.one, &[(pod, 8080)]);
            let listener = listen(&world.near.netns, pod, 8080);
            let mut client = connect(&world.fabric.netns, at, NODE_PORT, PATIENCE).unwrap();
            let (mut server, peer) = accept(&listener);
            assert_eq!(peer, client.local_addr().unwrap(), "address and port are the client's own");
            assert_eq!(client.peer_addr().unwrap(), SocketAddr::new(at, NODE_PORT));
            exchange(&mut client, &mut server);
        }
        assert_eq!(world.drops(), 0);
    }
}

#[test]
fn a_node_port_leads_to_a_pod_of_another_node_which_sees_the_node() {
    for mut world in World::each() {
        for family in FAMILIES {
            let (at, pod) = (world.one.both()[family], world.far.both()[family]);
            expose(&mut world.one, &[(pod, 8080)]);
            let listener = listen(&world.far.netns, pod, 8080);
            let mut client = connect(&world.fabric.netns, at, NODE_PORT, PATIENCE).unwrap();
            let (mut server, peer) = accept(&listener);
            assert_eq!(peer.ip(), at);
            assert!((SERVICE_PORTS.0..=SERVICE_PORTS.1).contains(&peer.port()), "{peer}");
            exchange(&mut client, &mut server);
        }
        assert_eq!(world.drops(), 0);
    }
}

/// Other nodes' own sockets and pods ask, too, when connect() has left it to this node.
#[test]
fn other_nodes_and_their_pods_may_ask_for_a_node_port() {
    for mut world in World::each() {
        let asking = world.asker();
        for family in FAMILIES {
            let at = world.one.both()[family];
            for pod in [&world.near, &world.far] {
                let address = pod.both()[family];
                let (listener, datagrams) = (listen(&pod.netns, address, 8080), udp(&pod.netns, address, 8080));
                expose(&mut world.one, &[(address, 8080)]);
                let node = world.two.both()[family];
                // Datagrams of nodes must fit, where there is a tunnel.
                let from_node = if world.mtu < 1500 { 1_000 } else { 3_000 };
                let askers = [(&*world.two.netns, node, from_node), (&*asking.netns, asking.both()[family], 3_000)];
                for (netns, own, length) in askers {
                    let mut client = connect(netns, at, NODE_PORT, PATIENCE).unwrap();
                    exchange(&mut client, &mut accept(&listener).0);
                    let client = udp(netns, own, 0);
                    let (_, from) = repeat(&client, &vec![7; length], (at, NODE_PORT).into(), &datagrams, &mut [0; 4_000]);
                    datagrams.send_to(&[8; 3_000], from).unwrap();
                    let answer = client.recv_from(&mut [0; 4_000]);
                    let answer = answer.unwrap_or_else(|error| panic!("{own} from {address}: {error}"));
                    assert_eq!(answer, (3_000, (at, NODE_PORT).into()));
                }
            }
            for protocol in [Protocol::Tcp, Protocol::Udp] {
                put(&mut world.one, any(at), NODE_PORT, protocol, &[], Flags::default());
            }
            let askers = [(&*world.two.netns, world.two.both()), (&*world.far.netns, world.far.both())];
            for (netns, own) in askers.map(|(netns, both)| (netns, both[family])) {
                let error = connect(netns, at, NODE_PORT, PATIENCE).unwrap_err();
                assert_eq!(error.kind(), ErrorKind::ConnectionRefused);
                let client = connected_udp(netns, own, at, NODE_PORT);
                client.send(b"anybody?").unwrap();
                assert_eq!(client.recv(&mut [0; 8]).unwrap_err().kind(), ErrorKind::ConnectionRefused);
            }
        }
    }
}

#[test]
fn datagrams_stay_with_their_backend_and_large_ones_travel_in_fragments() {
    for mut world in World::each() {
        let sent: Vec<u8> = (0..8192u32).map(|i| (i / 7) as u8).collect();
        for family in FAMILIES {
            for near in [true, false] {
                let pod = if near { &world.near } else { &world.far };
                let (at, address) = (world.one.both()[family], pod.both()[family]);
                let server = udp(&pod.netns, address, 5353);
                expose(&mut world.one, &[(address, 5353)]);
                let client = udp(&world.fabric.netns, OUTSIDES[family], 0);
                let mut buffer = vec![0; 10_000];
                for length in [1, 8192] {
                    // Of a datagram that does not fit the tunnel the client is told; the next one does.
                    let (got, from) = repeat(&client, &sent[..length], (at, NODE_PORT).into(), &server, &mut buffer);
                    assert!(buffer[..got] == sent[..length]);
                    let expected = if near { client.local_addr().unwrap().ip() } else { at };
                    assert_eq!(from.ip(), expected);
                    server.send_to(&sent[..length], from).unwrap();
                    let (got, from) = client.recv_from(&mut buffer).unwrap();
                    assert!(buffer[..got] == sent[..length]);
                    assert_eq!(from, SocketAddr::new(at, NODE_PORT));
                }
            }
        }
        assert_eq!(world.drops(), 0);
    }
}

#[test]
fn an_address_from_outside_is_a_service_too() {
    let mut world = World::new();
    for (family, external) in FAMILIES.into_iter().zip(["192.0.2.7", "2001:db8:7::7"]) {
        let at: IpAddr = external.parse().unwrap();
        let (via, near, far) = (world.one.both()[family], world.near.both()[family], world.far.both()[family]);
        command(&world.fabric.netns, &format!("ip route add {external} via {via}"));
        for (pod, netns) in [(near, &world.near.netns), (far, &world.far.netns)] {
            put(&mut world.one, at, 443, Protocol::Tcp, &[(pod, 8443)], Flags::default());
            let listener = listen(netns, pod, 8443);
            let mut client = connect(&world.fabric.netns, at, 443, PATIENCE).unwrap();
            exchange(&mut client, &mut accept(&listener).0);
        }
    }
    assert_eq!(world.drops(), 0);
}

#[test]
fn all_backends_serve() {
    let mut world = World::new();
    let (near, far) = (world.near.address, world.far.address);
    expose(&mut world.one, &[(near, 80), (far, 80)]);
    let listeners = [listen(&world.near.netns, near, 80), listen(&world.far.netns, far, 80)];
    let mut served = BTreeSet::new();
    let deadline = Instant::now() + PATIENCE;
    while served.len() < 2 {
        assert!(Instant::now() < deadline, "only {served:?}");
        let client = connect(&world.fabric.netns, world.one.both()[0], NODE_PORT, PATIENCE).unwrap();
        let before = served.len();
        while served.len() == before {
            for (index, listener) in listeners.iter().enumerate() {
                listener.set_nonblocking(true).unwrap();
                if listener.accept().is_ok() {
                    served.insert(index);
                }
            }
            if client.peer_addr().is_ok() && served.len() == before {
                break;
            }
        }
    }
}

#[test]
fn without_a_backend_clients_are_refused_at_once_unless_another_node_may_serve() {
    let mut world = World::new();
    for family in FAMILIES {
        let at = world.one.both()[family];
        for protocol in [Protocol::Tcp, Protocol::Udp] {
            put(&mut world.one, any(at), NODE_PORT, protocol, &[], Flags::default());
        }
        let error = connect(&world.fabric.netns, at, NODE_PORT, PATIENCE).unwrap_err();
        assert_eq!(error.kind(), ErrorKind::ConnectionRefused);
        let client = connected_udp(&world.fabric.netns, OUTSIDES[family], at, NODE_PORT);
        client.send(&[7; 1_400]).unwrap();
        assert_eq!(client.recv(&mut [0; 8]).unwrap_err().kind(), ErrorKind::ConnectionRefused);
        let (reason, ..) = world.one.dropped(OUTSIDES[family], at);
        assert_eq!(reason, DropReason::NoBackend);
        let silent = Flags { silent: true, ..Flags::default() };
        put(&mut world.one, any(at), NODE_PORT, Protocol::Tcp, &[], silent);
        world.one.forget_events();
        let error = connect(&world.fabric.netns, at, NODE_PORT, SILENCE).unwrap_err();
        assert_eq!(error.kind(), ErrorKind::TimedOut);
        assert_eq!(world.one.dropped(OUTSIDES[family], at).0, DropReason::NoBackend);
    }
}

#[test]
fn a_port_that_nobody_listens_at_is_told_through_the_translation() {
    for mut world in World::each() {
        for family in FAMILIES {
            for pod in [world.near.both()[family], world.far.both()[family]] {
                let at = world.one.both()[family];
                expose(&mut world.one, &[(pod, 9)]);
                let error = connect(&world.fabric.netns, at, NODE_PORT, PATIENCE).unwrap_err();
                assert_eq!(error.kind(), ErrorKind::ConnectionRefused);
                // The pod's ICMP error quotes what it received; the client must find its own socket.
                let client = connected_udp(&world.fabric.netns, OUTSIDES[family], at, NODE_PORT);
                client.send(b"anybody?").unwrap();
                assert_eq!(client.recv(&mut [0; 8]).unwrap_err().kind(), ErrorKind::ConnectionRefused, "{pod}");
            }
        }
        assert_eq!(world.drops(), 0);
    }
}

#[test]
fn policy_judges_the_client_that_is_true_and_ends_what_it_allowed() {
    for mut world in World::each() {
        for family in FAMILIES {
            let (at, pod) = (world.one.both()[family], world.near.both()[family]);
            let client = OUTSIDES[family];
            expose(&mut world.one, &[(pod, 80)]);
            world.one.posture(&world.near, FRIENDS);
            world.one.class(client, ClassId(1));
            connect(&world.fabric.netns, at, NODE_PORT, SILENCE).unwrap_err();
            assert_eq!(world.one.dropped(client, pod), (DropReason::Policy, Direction::Ingress, Some(DENY)));
            world.one.class(client, FRIEND);
            let listener = listen(&world.near.netns, pod, 80);
            for client_first in [true, false] {
                world.one.class(client, FRIEND);
                let mut here = connect(&world.fabric.netns, at, NODE_PORT, PATIENCE).unwrap();
                let (mut there, _) = accept(&listener);
                here.write_all(b"ping").unwrap();
                there.read_exact(&mut [0; 4]).unwrap();
                there.write_all(b"pong").unwrap();
                here.read_exact(&mut [0; 4]).unwrap();
                world.one.class(client, ClassId(1));
                if client_first { here.write_all(b"more").unwrap() } else { there.write_all(&[7; 20_000]).unwrap() }
                for (name, end) in [("client", &mut here), ("server", &mut there)] {
                    let error = end.read(&mut [0; 16]).expect_err(name);
                    assert_eq!(error.kind(), ErrorKind::ConnectionReset, "{name}");
                }
            }
        }
    }
}

#[test]
fn a_client_learns_how_much_fits() {
    let mut world = World::new();
    // What clients send fits their own links, and not the one towards the pod.
    command(&world.one.netns, "ip link set p5 mtu 1300");
    for family in FAMILIES {
        let (at, pod) = (world.one.both()[family], world.near.both()[family]);
        expose(&mut world.one, &[(pod, 80)]);
        let listener = listen(&world.near.netns, pod, 80);
        let mut client = connect(&world.fabric.netns, at, NODE_PORT, PATIENCE).unwrap();
        let (mut server, _) = accept(&listener);
        let reader = std::thread::spawn(move || std::io::copy(&mut server, &mut std::io::sink()).unwrap());
        client.write_all(&[7; 300_000]).unwrap();
        drop(client);
        assert_eq!(reader.join().unwrap(), 300_000);
    }
}

#[test]
fn datagrams_leave_a_backend_that_is_gone_and_connections_do_not() {
    let mut world = World::new();
    let (at, near, far) = (world.one.both()[0], world.near.address, world.far.address);
    let (here, there) = (udp(&world.near.netns, near, 53), udp(&world.far.netns, far, 53));
    expose(&mut world.one, &[(near, 53)]);
    let listener = listen(&world.near.netns, near, 53);
    let mut connection = connect(&world.fabric.netns, at, NODE_PORT, PATIENCE).unwrap();
    let (mut served, _) = accept(&listener);
    let client = connected_udp(&world.fabric.netns, OUTSIDES[0], at, NODE_PORT);
    let mut buffer = [0; 16];
    client.send(b"one").unwrap();
    assert_eq!(here.recv(&mut buffer).unwrap(), 3);
    // Another revision with the same backend among others: it stays.
    expose(&mut world.one, &[(far, 53), (near, 53)]);
    client.send(b"two").unwrap();
    assert_eq!(here.recv(&mut buffer).unwrap(), 3);
    expose(&mut world.one, &[(far, 53)]);
    client.send(b"three").unwrap();
    let (length, from) = there.recv_from(&mut buffer).unwrap();
    assert_eq!(length, 5);
    there.send_to(b"back", from).unwrap();
    assert_eq!(client.recv(&mut buffer).unwrap(), 4);
    exchange(&mut connection, &mut served);
}

#[test]
fn ports_are_used_again_and_an_end_is_forgotten() {
    let mut world = World::new();
    let (at, far) = (world.one.both()[0], world.far.address);
    expose(&mut world.one, &[(far, 80)]);
    let listener = listen(&world.far.netns, far, 80);
    // A client with one port, again and again: each SYN after an end begins anew.
    for _ in 0..3 {
        let mut client = connect_from(&world.fabric.netns, 40_404, SocketAddr::new(at, NODE_PORT));
        let (mut server, _) = accept(&listener);
        exchange(&mut client, &mut server);
    }
    assert_eq!(world.one.datapath().sweep_flows().unwrap().translations, 2, "one connection, two directions");
    expose(&mut world.one, &[(world.near.address, 80)]);
    let near = listen(&world.near.netns, world.near.address, 80);
    let mut client = connect(&world.fabric.netns, at, NODE_PORT, PATIENCE).unwrap();
    exchange(&mut client, &mut accept(&near).0);
    assert_eq!(world.one.datapath().sweep_flows().unwrap().translations, 4);
    world.one.datapath().detach_pod(&world.near.both().into()).unwrap();
    assert_eq!(world.one.datapath().sweep_flows().unwrap().translations, 2, "those of the pod are gone with it");
}

#[test]
fn what_is_the_nodes_own_stays_its_own() {
    let mut world = World::new();
    expose(&mut world.one, &[(world.near.address, 80)]);
    for family in FAMILIES {
        let at = world.one.both()[family];
        assert_reaches(&world.fabric.netns, &world.one.netns, at, 22);
        let server = udp(&world.one.netns, at, 5000);
        let client = udp(&world.fabric.netns, OUTSIDES[family], 0);
        client.send_to(&[7; 8_000], (at, 5000)).unwrap();
        assert_eq!(server.recv(&mut [0; 10_000]).unwrap(), 8_000);
        let error = connect(&world.fabric.netns, at, NODE_PORT + 1, PATIENCE).unwrap_err();
        assert_eq!(error.kind(), ErrorKind::ConnectionRefused);
    }
    assert_eq!(world.drops(), 0);
}

#[test]
fn a_load_balancer_drops_clients_outside_its_ranges_and_names_them() {
    let mut world = World::new();
    for (family, external) in FAMILIES.into_iter().zip(["192.0.2.7", "2001:db8:7::7"]) {
        let at: IpAddr = external.parse().unwrap();
        let (via, pod) = (world.one.both()[family], world.near.both()[family]);
        command(&world.fabric.netns, &format!("ip route add {external} via {via}"));
        put(&mut world.one, at, 443, Protocol::Tcp, &[(pod, 8443)], Flags::default());
        let others = [["10.240.0.64/26", "10.240.1.0/24"], ["fd00:240::f:0/112", "fd00:241::/32"]][family];
        amend(&mut world.one, at, 443, &others, |row| row.flags.restricted = true);
        world.one.forget_events();
        let error = connect(&world.fabric.netns, at, 443, SILENCE).unwrap_err();
        assert_eq!(error.kind(), ErrorKind::TimedOut);
        assert_eq!(world.one.dropped(OUTSIDES[family], at).0, DropReason::SourceRange);
        let own = [["10.240.0.0/28"], ["fd00:240::/120"]][family];
        amend(&mut world.one, at, 443, &own, |_| {});
        let listener = listen(&world.near.netns, pod, 8443);
        let mut client = connect(&world.fabric.netns, at, 443, PATIENCE).unwrap();
        exchange(&mut client, &mut accept(&listener).0);
    }
}

/// Who of both pods of the world answers a client in the fabric, at a port that it leads to both.
struct Affinity<'a> {
    world: &'a mut World,
    at: IpAddr,
    pods: [IpAddr; 2],
    listeners: [TcpListener; 2],
}

impl<'a> Affinity<'a> {
    fn new(world: &'a mut World, family: usize) -> Self {
        let at = world.one.both()[family];
        let pods = [world.near.both()[family], world.far.both()[family]];
        let listeners = [listen(&world.near.netns, pods[0], 80), listen(&world.far.netns, pods[1], 80)];
        listeners.iter().for_each(|listener| listener.set_nonblocking(true).unwrap());
        Self { world, at, pods, listeners }
    }

    /// Leads the port to the pods of these numbers, for clients that are remembered for so many seconds.
    fn lead_to(&mut self, pods: &[usize], seconds: u32) {
        let backends: Vec<_> = pods.iter().map(|&pod| (self.pods[pod], 80)).collect();
        put(&mut self.world.one, any(self.at), NODE_PORT, Protocol::Tcp, &backends, Flags::default());
        amend(&mut self.world.one, any(self.at), NODE_PORT, &[], |row| row.affinity = seconds);
    }

    /// The number of the pod that a new connection reaches.
    fn reached(&self) -> usize {
        let _client = connect(&self.world.fabric.netns, self.at, NODE_PORT, PATIENCE).unwrap();
        self.listeners.iter().position(|listener| listener.accept().is_ok()).expect("somebody answers")
    }
}

#[test]
fn a_client_outside_with_affinity_comes_back_to_its_backend_near_or_far() {
    let mut world = World::new();
    for family in FAMILIES {
        let mut client = Affinity::new(&mut world, family);
        client.lead_to(&[0, 1], 60);
        let first = client.reached();
        for order in [[1, 0], [0, 1]].iter().cycle().take(8) {
            client.lead_to(order, 60);
            assert_eq!(client.reached(), first);
        }
        client.lead_to(&[1 - first], 60);
        assert_eq!(client.reached(), 1 - first, "its backend is gone");
        client.lead_to(&[0, 1], 60);
        assert_eq!(client.reached(), 1 - first, "it stays where it went");
    }
}

#[test]
fn a_client_is_forgotten_when_it_has_not_come_back_for_so_many_seconds() {
    let mut world = World::new();
    let mut client = Affinity::new(&mut world, 0);
    client.lead_to(&[0, 1], 60);
    let first = client.reached();
    // Who comes anew is sent to the other now.
    client.lead_to(&[1, 0], 1);
    assert_eq!(client.reached(), first, "it came back within the minute");
    let since = std::time::Instant::now();
    kilter_testkit::wait_until(PATIENCE, "more than a second has passed", || since.elapsed().as_millis() > 1_100);
    assert_eq!(client.reached(), 1 - first, "nobody remembers it");
}

#[test]
fn every_node_sends_a_client_to_the_same_backend_and_few_move_when_one_goes() {
    let mut world = World::new();
    let at: IpAddr = "192.0.2.7".parse().unwrap();
    let pods: Vec<Pod> = (20..28).map(|last| world.one.pod(last)).collect();
    let listeners: Vec<TcpListener> = pods.iter().map(|pod| listen(&pod.netns, pod.address, 80)).collect();
    listeners.iter().for_each(|listener| listener.set_nonblocking(true).unwrap());
    let backends: Vec<(IpAddr, u16)> = pods.iter().map(|pod| (pod.address, 80)).collect();
    let serve = |world: &mut World, via: usize, backends: &[(IpAddr, u16)]| -> Vec<usize> {
        let node = if via == 0 { &mut world.one } else { &mut world.two };
        put_table(node, at, 443, backends, Flags::default());
        let next_hop = node.both()[0];
        command(&world.fabric.netns, &format!("ip route replace {at} via {next_hop}"));
        let reach = |port: u16| {
            let _client = connect_from(&world.fabric.netns, port, SocketAddr::new(at, 443));
            listeners.iter().position(|listener| listener.accept().is_ok()).expect("somebody answers")
        };
        (20_000..20_048).map(reach).collect()
    };
    let first = serve(&mut world, 0, &backends);
    assert!(first.iter().collect::<BTreeSet<_>>().len() > 4, "{first:?}");
    assert_eq!(serve(&mut world, 1, &backends), first, "another node");
    let rest: Vec<_> = backends.iter().copied().filter(|it| *it != backends[first[0]]).collect();
    let after = serve(&mut world, 1, &rest);
    let stayed = first.iter().zip(&after).filter(|(a, b)| a == b).count();
    let gone = first.iter().filter(|it| **it == first[0]).count();
    assert!(stayed + gone >= 40, "of 48 clients {gone} lost their backend, and {stayed} kept it");
}

fn retried(node: &mut Node) -> u64 {
    node.datapath().stats().unwrap().retried
}

/// Connects from outside until `refuser` was asked first, with rows written anew each time: `server` answers.
#[track_caller]
fn carried(world: &mut World, family: usize, refuser: &Pod, server: &Pod) {
    let at = world.one.both()[family];
    let backends = [refuser, server].map(|pod| (pod.both()[family], 8080));
    let listener = listen(&server.netns, backends[1].0, 8080);
    let before = retried(&mut world.one);
    for _ in 0..64 {
        let flags = Flags { retry: Some(true), ..Flags::default() };
        put(&mut world.one, any(at), NODE_PORT, Protocol::Tcp, &backends, flags);
        let mut client = connect(&world.fabric.netns, at, NODE_PORT, PATIENCE).unwrap();
        exchange(&mut client, &mut accept(&listener).0);
        if retried(&mut world.one) > before {
            return;
        }
    }
    panic!("no connection was refused");
}

#[test]
fn a_connection_from_outside_that_is_refused_goes_to_another_backend() {
    for mut world in World::each() {
        let (one, two) = (world.one.pod(6), world.asker());
        one.narrow(&world.one, world.mtu);
        let (near, far) = (world.one.pod(7), world.two.pod(7));
        for family in FAMILIES {
            for (refuser, server) in [(&near, &one), (&near, &two), (&far, &one), (&far, &two)] {
                carried(&mut world, family, refuser, server);
            }
            let at = world.one.both()[family];
            let all = [&near, &far, &one].map(|pod| (pod.both()[family], 8080));
            let flags = Flags { retry: Some(true), ..Flags::default() };
            put(&mut world.one, any(at), NODE_PORT, Protocol::Tcp, &all, flags);
            let before = retried(&mut world.one);
            let error = connect(&world.fabric.netns, at, NODE_PORT, PATIENCE).unwrap_err();
            assert_eq!(error.kind(), ErrorKind::ConnectionRefused);
            assert_eq!(retried(&mut world.one) - before, 2, "each was asked");
        }
        assert_eq!(world.drops(), 0);
    }
}
