//! Pods of two nodes through the tunnel, over nodes of either family, and what others send into it.

mod common;

use std::io::{ErrorKind, Read, Write as _};
use std::net::{IpAddr, SocketAddr, TcpListener};

use common::*;
use kilter_datapath::{DropReason, NodeRoute};
use kilter_model::Direction;
use kilter_netns::NetNs;
use kilter_testkit::Packet;

/// A node with a tunnel and a node at its other end.
fn nodes(fabric: &Fabric, family: usize) -> (Node, Node) {
    (Node::tunnelled(fabric, 1, family), Node::tunnelled(fabric, 2, family))
}

#[track_caller]
fn assert_no_drops(nodes: [&mut Node; 2]) {
    for node in nodes {
        assert_eq!(node.datapath().stats().unwrap().drops, Default::default());
    }
}

#[test]
fn tcp_icmp_and_large_udp_between_pods() {
    for family in FAMILIES {
        let fabric = Fabric::new();
        let (mut one, mut two) = nodes(&fabric, family);
        let (a, b) = (one.pod(5), two.pod(5));
        for (own, to) in a.both().into_iter().zip(b.both()) {
            assert_reaches(&a.netns, &b.netns, to, 80);
            assert_reaches(&b.netns, &a.netns, own, 80);
            assert!(ping(&a.netns, to, PATIENCE));
            let sent: Vec<u8> = (0..8192usize).map(|i| (i / 7) as u8).collect();
            let (there, here) = (udp(&b.netns, to, 5353), udp(&a.netns, own, 0));
            here.send_to(&sent, (to, 5353)).unwrap();
            let mut buffer = vec![0; 10_000];
            let (length, from) = there.recv_from(&mut buffer).unwrap();
            assert!(buffer[..length] == sent && from.ip() == own);
            there.send_to(&sent, from).unwrap();
            let (length, _) = here.recv_from(&mut buffer).unwrap();
            assert!(buffer[..length] == sent);
        }
        assert_no_drops([&mut one, &mut two]);
    }
}

/// What a pod sends leaves its node in VXLAN, and not beside it.
#[test]
fn the_fabric_sees_nothing_of_pods() {
    for family in FAMILIES {
        let fabric = Fabric::new();
        let (mut one, mut two) = nodes(&fabric, family);
        let (a, b) = (one.pod(5), two.pod(5));
        let pods = "table netdev t {\nchain c {\ntype filter hook ingress device \"n1\" priority 0;\n\
                    ip saddr 10.244.0.0/16 counter drop\nip6 saddr fd00:244::/32 counter drop\n}\n}\n";
        nft(&fabric.netns, pods);
        for to in b.both() {
            assert_reaches(&a.netns, &b.netns, to, 80);
        }
        for (address, to) in a.both().into_iter().zip(two.both()) {
            assert_reaches(&a.netns, &two.netns, to, 80);
            assert_reaches(&two.netns, &a.netns, address, 81);
        }
        assert_no_drops([&mut one, &mut two]);
    }
}

#[test]
fn nodes_and_the_other_nodes_pods_see_each_others_own_addresses() {
    for family in FAMILIES {
        let fabric = Fabric::new();
        let (mut one, mut two) = nodes(&fabric, family);
        let a = one.pod(5);
        masquerade(&one);
        for (own, node_ip) in a.both().into_iter().zip(two.both()) {
            let (server, client) = (udp(&two.netns, node_ip, 5000), udp(&a.netns, own, 0));
            client.send_to(b"hello", (node_ip, 5000)).unwrap();
            let (_, from) = server.recv_from(&mut [0; 8]).unwrap();
            assert_eq!(from.ip(), own);
            server.send_to(b"welcome", from).unwrap();
            assert_eq!(client.recv_from(&mut [0; 8]).unwrap().1, (node_ip, 5000).into());
            // And the other way, from whatever address the kernel chooses.
            let listener = a.netns.run(|| TcpListener::bind((own, 80))).unwrap().unwrap();
            connect(&two.netns, own, 80, PATIENCE).unwrap();
            assert_eq!(listener.accept().unwrap().1.ip(), node_ip);
        }
        assert_no_drops([&mut one, &mut two]);
    }
}

/// A pod's link says more than the tunnel carries: it must learn that, and what may be cut up is.
#[test]
fn what_is_too_big_for_the_tunnel_is_told_to_the_sender() {
    for family in FAMILIES {
        let fabric = Fabric::new();
        let (mut one, mut two) = nodes(&fabric, family);
        let (a, b) = (one.pod(5), two.pod(5));
        for to in b.both() {
            let listener = b.netns.run(|| TcpListener::bind((to, 80))).unwrap().unwrap();
            let mut stream = connect(&a.netns, to, 80, PATIENCE).unwrap();
            let (mut accepted, _) = listener.accept().unwrap();
            let reader =
                std::thread::spawn(move || std::io::copy(&mut accepted, &mut std::io::sink()).unwrap());
            stream.write_all(&[7; 300_000]).unwrap();
            drop(stream);
            assert_eq!(reader.join().unwrap(), 300_000);
        }
        let (server, client) = (udp(&b.netns, b.address, 5000), udp(&a.netns, a.address, 0));
        client.send_to(&[1; 1_440], (b.address, 5000)).unwrap();
        assert_eq!(server.recv(&mut [0; 2_000]).unwrap(), 1_440);
        assert_no_drops([&mut one, &mut two]);
    }
}

/// The network between the nodes carries less than it says: the outer packet is cut up, or the sender
/// is told; either way it arrives.
#[test]
fn a_smaller_network_between_the_nodes_is_survived() {
    let fabric = Fabric::new();
    let (mut one, mut two) = nodes(&fabric, 0);
    let (a, b) = (one.pod(5), two.pod(5));
    for node in [&one, &two] {
        command(&node.netns, "ip link set eth0 mtu 1400");
    }
    for to in b.both() {
        assert_reaches(&a.netns, &b.netns, to, 80);
    }
}

#[test]
fn the_end_of_a_packets_life_is_told() {
    for family in FAMILIES {
        let fabric = Fabric::new();
        let (mut one, mut two) = nodes(&fabric, family);
        let (a, b) = (one.pod(5), two.pod(5));
        for (own, to) in a.both().into_iter().zip(b.both()) {
            assert_life_ends(&a, own, &b, to);
        }
        assert_no_drops([&mut one, &mut two]);
    }
}

#[test]
fn each_side_is_judged_on_its_own_node() {
    for family in FAMILIES {
        let fabric = Fabric::new();
        let (mut one, mut two) = nodes(&fabric, family);
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
}

/// Both ends of a connection that policy ends are reset, the far one through the tunnel.
#[test]
fn a_revoked_connection_is_reset_at_both_ends() {
    for family in FAMILIES {
        let fabric = Fabric::new();
        let (mut one, mut two) = nodes(&fabric, family);
        let (a, b) = (one.pod(5), two.pod(5));
        for to in b.both() {
            two.posture(&b, OPEN);
            let listener = b.netns.run(|| TcpListener::bind((to, 80))).unwrap().unwrap();
            let mut client = connect(&a.netns, to, 80, PATIENCE).unwrap();
            let (mut server, _) = listener.accept().unwrap();
            server.set_read_timeout(Some(PATIENCE)).unwrap();
            client.write_all(b"ping").unwrap();
            server.read_exact(&mut [0; 4]).unwrap();
            two.posture(&b, NO_INGRESS);
            client.write_all(b"more").unwrap();
            for end in [&mut client, &mut server] {
                assert_eq!(end.read(&mut [0; 16]).unwrap_err().kind(), ErrorKind::ConnectionReset);
            }
        }
    }
}

#[test]
fn connections_outlive_a_restart_of_the_agent() {
    let fabric = Fabric::new();
    let (mut one, mut two) = nodes(&fabric, 0);
    let (a, b) = (one.pod(5), two.pod(5));
    let server = serve(&b.netns, b.address, 80);
    let mut stream = connect(&a.netns, b.address, 80, PATIENCE).unwrap();
    echo(&mut stream, 10);
    one.reopen();
    two.reopen();
    echo(&mut stream, 100_000);
    drop(stream);
    server.join().unwrap();
    let hooks = one.netns.run(|| one.datapath.as_ref().unwrap().attachments()).unwrap().unwrap();
    let overlay = hooks.iter().find(|hook| hook.program == "from_overlay").unwrap();
    assert_eq!(overlay.faults(), []);
}

/// A node that is deleted from the API and comes back has another index; its flows find it again.
#[test]
fn connections_outlive_a_node_that_was_away() {
    let fabric = Fabric::new();
    let (mut one, mut two) = nodes(&fabric, 0);
    let (a, b) = (one.pod(5), two.pod(5));
    let server = serve(&b.netns, b.address, 80);
    let mut stream = connect(&a.netns, b.address, 80, PATIENCE).unwrap();
    echo(&mut stream, 10);
    let routes: Vec<NodeRoute> = one.datapath().read_routes().unwrap();
    one.datapath().set_routes(&[]).unwrap();
    stream.write_all(b"lost at first").unwrap();
    one.datapath().set_routes(&routes).unwrap();
    stream.read_exact(&mut [0; 13]).unwrap();
    echo(&mut stream, 100_000);
    drop(stream);
    server.join().unwrap();
}

/// Who sends into the tunnel from outside: the fabric, by any address that it gives itself.
struct Intruder<'a> {
    fabric: &'a Fabric,
    family: usize,
}

impl Intruder<'_> {
    /// One VXLAN packet, as RFC 7348 has it, from `source` to node one.
    fn sends(&self, source: IpAddr, vni: u32, inner: &Packet) {
        let inner = inner.build();
        let header = [[8, 0, 0, 0], (vni << 8).to_be_bytes()].concat();
        let node = SocketAddr::new(["10.240.0.11", "fd00:240::b"][self.family].parse().unwrap(), 8472);
        // The test's nodes have the decimal number for their last group.
        let node = if self.family == 1 { "[fd00:240::11]:8472".parse().unwrap() } else { node };
        udp(&self.fabric.netns, source, 0).send_to(&[header, inner].concat(), node).unwrap();
    }
}

/// Waits until a node has counted `count` drops for a reason.
#[track_caller]
fn assert_counted(node: &mut Node, reason: DropReason, count: u64) {
    let deadline = std::time::Instant::now() + PATIENCE;
    loop {
        let drops = node.datapath().stats().unwrap().drops;
        if drops.get(&reason).copied().unwrap_or_default() == count {
            return;
        }
        assert!(std::time::Instant::now() < deadline, "{reason:?} {count} times, not {drops:?}");
        std::thread::sleep(std::time::Duration::from_millis(10));
    }
}

#[test]
fn what_others_send_into_the_tunnel_is_dropped_and_counted() {
    for family in FAMILIES {
        let fabric = Fabric::new();
        let mut one = Node::tunnelled(&fabric, 1, family);
        let (a, other) = (one.pod(5), one.pod(6));
        // Node two is not there; the fabric speaks for it where a case says so.
        let two: IpAddr = ["10.240.0.12", "fd00:240::12"][family].parse().unwrap();
        command(&fabric.netns, &format!("ip addr add {two} dev br0{}", [" ", " nodad"][family].trim_end()));
        let intruder = Intruder { fabric: &fabric, family };
        let outside = OUTSIDES[family];
        for (number, own) in a.both().into_iter().enumerate() {
            let [pod, node] = [["10.244.2.5", "10.240.0.12"], ["fd00:244:2::5", "fd00:240::12"]][number];
            let socket = |address: &str, port| SocketAddr::new(address.parse().unwrap(), port).to_string();
            let packet = |from: &str, to: IpAddr| {
                let to = SocketAddr::new(to, 5000).to_string();
                // Any addresses do in an inner Ethernet header.
                Packet::udp(&socket(from, 4000), &to).macs([2; 6], [4; 6]).payload([7; 9])
            };
            let server = udp(&a.netns, own, 5000);
            intruder.sends(two, VNI, &packet(pod, own));
            let (_, from) = server.recv_from(&mut [0; 16]).unwrap();
            assert_eq!(from.ip().to_string(), pod, "from the pod's own node it arrives");

            let count = number as u64;
            // The flow of that packet is known; a new one and a node's are not.
            intruder.sends(outside, VNI, &packet(pod, own));
            assert_counted(&mut one, DropReason::WrongPath, 1 + count);
            let fresh = Packet::udp(&socket(pod, 4001), &SocketAddr::new(own, 5000).to_string());
            intruder.sends(outside, VNI, &fresh);
            intruder.sends(outside, VNI, &packet(node, own));
            intruder.sends(outside, VNI, &packet(node, one.both()[number]));
            intruder.sends(outside, VNI, &packet(&OUTSIDES[number].to_string(), own));
            intruder.sends(two, VNI + 1, &fresh);
            assert_counted(&mut one, DropReason::Tunnel, 5 * (1 + count));
            intruder.sends(two, VNI, &packet(&other.both()[number].to_string(), own));
            intruder.sends(two, VNI, &packet(&one.both()[number].to_string(), own));
            assert_counted(&mut one, DropReason::SourceAddress, 2 * (1 + count));
            // We are no transit.
            intruder.sends(two, VNI, &packet(pod, OUTSIDES[number]));
            assert_counted(&mut one, DropReason::NoRoute, 1 + count);
            assert!(one.drain().iter().all(|event| !format!("{event:?}").contains("Malformed")));
            server.set_nonblocking(true).unwrap();
            assert_eq!(server.recv(&mut [0; 16]).unwrap_err().kind(), ErrorKind::WouldBlock);
        }
    }
}

/// Past the tunnel nobody comes whom it leads to: not even who has the next node's address.
#[test]
fn pods_of_other_nodes_do_not_come_beside_the_tunnel() {
    let fabric = Fabric::new();
    let mut one = Node::tunnelled(&fabric, 1, 0);
    let a = one.pod(5);
    for (number, own) in a.both().into_iter().enumerate() {
        for fake in [["10.244.2.5", "10.244.7.5"], ["fd00:244:2::5", "fd00:244:7::5"]][number] {
            command(&fabric.netns, &format!("ip addr add {fake} dev br0 {}", ["", "nodad"][number]).trim_end().to_owned());
            let via = one.both()[number];
            command(&fabric.netns, &format!("ip route replace {own} via {via}"));
            let fake: IpAddr = fake.parse().unwrap();
            udp(&fabric.netns, fake, 0).send_to(b"hello", (own, 5000)).unwrap();
            assert_eq!(one.dropped(fake, own).0, DropReason::Tunnel);
        }
        // Who is of no node may come, as policy has it.
        let server = udp(&a.netns, own, 5001);
        udp(&fabric.netns, OUTSIDES[number], 0).send_to(b"hello", (own, 5001)).unwrap();
        assert_eq!(server.recv_from(&mut [0; 8]).unwrap().1.ip(), OUTSIDES[number]);
    }
}

/// A pod that writes VXLAN itself, to whichever node, is not its node.
#[test]
fn a_pod_cannot_speak_for_its_node() {
    let fabric = Fabric::new();
    let (mut one, mut two) = nodes(&fabric, 0);
    let (a, b) = (one.pod(5), two.pod(5));
    let inner = Packet::udp("10.244.1.9:4000", "10.244.2.5:5000").payload([7; 9]).build();
    let forged = [&[8, 0, 0, 0, 0, 0, 1, 0][..], &inner].concat();
    let server = udp(&b.netns, b.address, 5000);
    udp(&a.netns, a.address, 0).send_to(&forged, (two.both()[0], 8472)).unwrap();
    assert_counted(&mut two, DropReason::Tunnel, 1);
    server.set_nonblocking(true).unwrap();
    assert_eq!(server.recv(&mut [0; 16]).unwrap_err().kind(), ErrorKind::WouldBlock);
    let _ = &mut one;
}

#[track_caller]
fn nft(netns: &NetNs, rules: &str) {
    let dir = kilter_testkit::TempDir::new("nft");
    let file = dir.path().join("rules");
    std::fs::write(&file, rules).unwrap();
    command(netns, &format!("nft -f {}", file.display()));
}
