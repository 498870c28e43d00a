//! Against the kernel, in namespaces made for each test. Fails without root, by design.

use std::collections::BTreeSet;
use std::io::{ErrorKind, Read, Write};
use std::net::{IpAddr, SocketAddr, TcpListener, TcpStream, UdpSocket};
use std::time::Duration;

use kilter_netlink::{
    Family, Impairment, Listening, Masquerade, Neighbour, Netlink, Peer, Refusal, Route, Veth, announce, ipv6, Talk, destroy_sockets,
    nftables, read_sysctl, settle, sysctl, sysctls,
};
use kilter_netns::NetNs;

/// How long a socket may wait for what must come at once.
const PATIENCE: Duration = Duration::from_secs(10);
const BRIDGE_MAC: [u8; 6] = [2, 0x6e, 10, 240, 0, 1];
const HOST_MAC: [u8; 6] = [2, 0x6b, 0x6c, 0x74, 0, 1];
const POD_MAC: [u8; 6] = [2, 0x6b, 10, 244, 1, 7];

fn ip(text: &str) -> IpAddr {
    text.parse().unwrap()
}

fn veth<'a>(name: &'a str, namespace: &'a NetNs) -> Veth<'a> {
    let peer = Peer { name: "eth0", mac: Some(POD_MAC), namespace };
    Veth { name, mac: Some(HOST_MAC), mtu: 1400, peer }
}

/// A node and a pod joined by a veth pair, as the agent does it.
async fn wired() -> (NetNs, NetNs, Netlink, Netlink) {
    let (node, pod) = (NetNs::create().unwrap(), NetNs::create().unwrap());
    let (outer, inner) = (Netlink::new(&node).unwrap(), Netlink::new(&pod).unwrap());
    outer.create_veth(&veth("klt0", &pod)).await.unwrap();
    (node, pod, outer, inner)
}

#[tokio::test]
async fn a_veth_pair_is_born_in_two_namespaces_down_and_complete() {
    let (_node, _pod, outer, inner) = wired().await;
    let host = outer.link("klt0").await.unwrap().unwrap();
    let peer = inner.link("eth0").await.unwrap().unwrap();
    assert_eq!((host.mac, host.mtu, host.up), (Some(HOST_MAC), 1400, false));
    assert_eq!((peer.mac, peer.mtu, peer.up), (Some(POD_MAC), 1400, false));
    assert_eq!(host.kind.as_deref(), Some("veth"));
    assert_eq!((host.peer, peer.peer), (Some(peer.index), Some(host.index)));
    assert!(outer.link("eth0").await.unwrap().is_none(), "the peer was never in the node's namespace");
}

#[tokio::test]
async fn a_pod_reaches_its_node_through_a_gateway_that_nobody_has() {
    let (node, pod, outer, inner) = wired().await;
    let (host, peer) = (outer.link_index("klt0").await.unwrap(), inner.link_index("eth0").await.unwrap());
    sysctls(&node, &[("net.ipv4.conf.klt0.rp_filter", "0"), ("net.ipv4.ip_forward", "1")]).unwrap();
    outer.add_address(outer.link_index("lo").await.unwrap(), "10.9.9.9/32".parse().unwrap()).await.unwrap();
    for (netlink, links) in [(&outer, ["lo", "klt0"]), (&inner, ["lo", "eth0"])] {
        for link in links {
            netlink.set_up(netlink.link_index(link).await.unwrap()).await.unwrap();
        }
    }
    inner.add_address(peer, "10.244.1.7/32".parse().unwrap()).await.unwrap();
    inner
        .replace_neighbour(&Neighbour { link: peer, address: ip("169.254.1.1"), mac: HOST_MAC })
        .await
        .unwrap();
    inner.replace_route(&Route::default_via(ip("169.254.1.1"), peer)).await.unwrap();
    outer
        .replace_neighbour(&Neighbour { link: host, address: ip("10.244.1.7"), mac: POD_MAC })
        .await
        .unwrap();
    outer.replace_route(&Route::on_link("10.244.1.7/32".parse().unwrap(), host)).await.unwrap();

    let listener = node.run(|| std::net::TcpListener::bind("10.9.9.9:7000").unwrap()).unwrap();
    let client = pod.run(|| std::net::TcpStream::connect("10.9.9.9:7000").unwrap()).unwrap();
    let (_, from) = listener.accept().unwrap();
    assert_eq!(from, client.local_addr().unwrap());
    assert_eq!(from.ip(), ip("10.244.1.7"));
}

#[tokio::test]
async fn the_first_packet_of_a_pod_is_not_lost_though_its_end_was_up_before_its_peer() {
    let gateway = ip("169.254.1.1");
    // Left to the kernel, a good part of so many would be.
    for _ in 0..40 {
        let (node, pod, outer, inner) = wired().await;
        let (host, peer) = (outer.link_index("klt0").await.unwrap(), inner.link_index("eth0").await.unwrap());
        outer.add_address(host, "169.254.1.1/32".parse().unwrap()).await.unwrap();
        inner.add_address(peer, "10.244.1.7/32".parse().unwrap()).await.unwrap();
        inner.set_up(peer).await.unwrap();
        inner.replace_neighbour(&Neighbour { link: peer, address: gateway, mac: HOST_MAC }).await.unwrap();
        inner.replace_route(&Route::default_via(gateway, peer)).await.unwrap();
        let receiver = node.run(|| std::net::UdpSocket::bind("0.0.0.0:7000").unwrap()).unwrap();
        let sender = pod.run(|| std::net::UdpSocket::bind("0.0.0.0:0").unwrap()).unwrap();
        sysctl(&node, "net.ipv4.conf.klt0.rp_filter", "0").unwrap();
        sysctl(&node, "net.ipv4.conf.all.rp_filter", "0").unwrap();
        outer.set_up(host).await.unwrap();
        outer.replace_route(&Route::on_link("10.244.1.7/32".parse().unwrap(), host)).await.unwrap();
        settle(&pod, "eth0").unwrap();
        sender.send_to(b"first", "169.254.1.1:7000").unwrap();
        receiver.set_read_timeout(Some(std::time::Duration::from_secs(5))).unwrap();
        let mut buffer = [0; 16];
        let (length, _) = receiver.recv_from(&mut buffer).expect("the first packet arrives");
        assert_eq!(&buffer[..length], b"first");
    }
}

#[tokio::test]
async fn routes_neighbours_and_addresses_are_listed_as_they_were_set_and_can_be_set_twice() {
    let (_node, _pod, outer, _inner) = wired().await;
    let link = outer.link_index("klt0").await.unwrap();
    let lo = outer.link_index("lo").await.unwrap();
    outer.set_up(link).await.unwrap();
    let routes = [
        Route::on_link("10.244.1.7/32".parse().unwrap(), link),
        Route { onlink: true, ..Route::via("10.244.2.0/24".parse().unwrap(), ip("10.240.0.12"), link) },
        Route::default_via(ip("10.240.0.1"), link),
    ];
    let neighbour = Neighbour { link, address: ip("10.244.1.7"), mac: POD_MAC };
    for _twice in 0..2 {
        // First: a namespace without any address accepts no next hop (it has no local table yet).
        outer.add_address(lo, "10.9.9.9/32".parse().unwrap()).await.unwrap();
        for route in &routes {
            outer.replace_route(route).await.unwrap();
        }
        outer.replace_neighbour(&neighbour).await.unwrap();
    }
    let mut listed = outer.routes(true).await.unwrap();
    listed.sort_by_key(|r| std::cmp::Reverse(r.destination.prefix_len()));
    assert_eq!(listed, routes);
    assert_eq!(outer.neighbours().await.unwrap(), [neighbour]);
    assert!(outer.addresses().await.unwrap().contains(&(lo, "10.9.9.9/32".parse().unwrap())));

    outer.delete_route(&routes[1]).await.unwrap();
    assert!(outer.delete_route(&routes[1]).await.unwrap_err().is_missing());
    outer.delete_address(lo, "10.9.9.9/32".parse().unwrap()).await.unwrap();
    assert_eq!(outer.routes(true).await.unwrap().len(), 2);
    assert!(!outer.addresses().await.unwrap().iter().any(|(_, net)| net.addr() == ip("10.9.9.9")));
}

#[tokio::test]
async fn what_nobody_holds_is_unreachable_and_a_longer_prefix_wins() {
    let (node, _pod, outer, _inner) = wired().await;
    let (link, lo) = (outer.link_index("klt0").await.unwrap(), outer.link_index("lo").await.unwrap());
    outer.add_address(lo, "10.240.0.11/32".parse().unwrap()).await.unwrap();
    outer.set_up(lo).await.unwrap();
    outer.set_up(link).await.unwrap();
    for _twice in 0..2 {
        outer.replace_unreachable("10.244.1.0/24".parse().unwrap()).await.unwrap();
    }
    outer.replace_route(&Route::on_link("10.244.1.7/32".parse().unwrap(), link)).await.unwrap();
    let send = |to: &str| {
        let socket = node.run(|| std::net::UdpSocket::bind("0.0.0.0:0").unwrap()).unwrap();
        socket.connect(to).map_err(|error| error.kind())
    };
    assert_eq!(send("10.244.1.8:7000"), Err(std::io::ErrorKind::HostUnreachable));
    assert_eq!(send("10.244.1.7:7000"), Ok(()));
    assert_eq!(outer.routes(true).await.unwrap().len(), 1, "it is no route to anywhere");
    let refused = Refusal { destination: "10.244.1.0/24".parse().unwrap(), kind: "unreachable" };
    assert_eq!(outer.refusals().await.unwrap(), [refused]);
}

#[tokio::test]
async fn a_bridge_takes_ports_and_a_group_of_links_goes_at_once() {
    let (_node, pod, outer, _inner) = wired().await;
    let second = NetNs::create().unwrap();
    outer.create_veth(&veth("klt1", &second)).await.unwrap();
    outer.create_bridge("br0", BRIDGE_MAC).await.unwrap();
    let bridge = outer.link_index("br0").await.unwrap();
    for name in ["klt0", "klt1"] {
        let link = outer.link_index(name).await.unwrap();
        outer.set_master(link, bridge).await.unwrap();
        assert_eq!(outer.link(name).await.unwrap().unwrap().master, Some(bridge));
        let mac = outer.link("br0").await.unwrap().unwrap().mac;
        assert_eq!(mac, Some(BRIDGE_MAC), "it stays, whoever becomes a port");
        outer.set_group(link, 77).await.unwrap();
    }
    outer.delete_group(77).await.unwrap();
    let left: Vec<_> = outer.links().await.unwrap().into_iter().map(|link| link.name).collect();
    assert_eq!(left, ["lo", "br0"]);
    assert!(Netlink::new(&pod).unwrap().link("eth0").await.unwrap().is_none());
}

#[tokio::test]
async fn errors_name_the_operation_the_object_and_the_namespace() {
    let (node, pod, outer, _inner) = wired().await;
    let namespace = node.path().display().to_string();
    let error = outer.create_veth(&veth("klt0", &pod)).await.unwrap_err();
    assert_eq!(error.to_string(), format!("cannot create veth klt0 in network namespace {namespace}"));
    assert!(error.is_exists());
    let error = outer.link_index("nope").await.unwrap_err();
    assert_eq!(error.to_string(), format!("cannot find link nope in network namespace {namespace}"));
    assert!(outer.delete_link(4711).await.unwrap_err().is_missing());
    let error = sysctl(&node, "net.ipv4.nope", "1").unwrap_err();
    assert_eq!(
        error.to_string(),
        format!("cannot set sysctl net.ipv4.nope=1 in network namespace {namespace}")
    );
}

#[tokio::test]
async fn sysctls_are_those_of_the_namespace() {
    let (a, b) = (NetNs::create().unwrap(), NetNs::create().unwrap());
    sysctl(&a, "net/ipv4/ip_local_reserved_ports", "30000-32767").unwrap();
    assert_eq!(read_sysctl(&a, "net/ipv4/ip_local_reserved_ports").unwrap(), "30000-32767");
    assert_eq!(read_sysctl(&b, "net/ipv4/ip_local_reserved_ports").unwrap(), "");
    let long = "30000-32767,40000-59999,61000-65535";
    sysctl(&b, "net/ipv4/ip_local_reserved_ports", long).unwrap();
    assert_eq!(read_sysctl(&b, "net/ipv4/ip_local_reserved_ports").unwrap(), long, "all of it, at once");
}

#[test]
fn masquerade_is_replaced_listed_and_deleted_whole() {
    let namespace = NetNs::create().unwrap();
    for (family, table) in [(Family::V4, "ip kilter"), (Family::V6, "ip6 kilter")] {
        assert_eq!(Masquerade::current(&namespace, family).unwrap(), None);
        let mut wanted = Masquerade { family, mark: 0x6b6c_0001, link: "eth0".into(), ports: (40000, 49999) };
        wanted.replace(&namespace).unwrap();
        wanted.ports = (50000, 59999);
        wanted.replace(&namespace).unwrap();
        assert_eq!(nftables(&namespace).unwrap(), [table]);
        assert_eq!(Masquerade::current(&namespace, family).unwrap(), Some(wanted));
        Masquerade::delete(&namespace, family).unwrap();
        Masquerade::delete(&namespace, family).unwrap();
        assert_eq!(nftables(&namespace).unwrap(), Vec::<String>::new());
    }
}

/// Two machines on a wire: what carries the mark leaves with the link's address and a port of the
/// range, what does not carry it leaves as it is.
#[tokio::test]
async fn only_marked_packets_are_masqueraded() {
    let (node, outside, outer, inner) = wired().await;
    let (link, peer) = (outer.link_index("klt0").await.unwrap(), inner.link_index("eth0").await.unwrap());
    let lo = outer.link_index("lo").await.unwrap();
    sysctls(&node, &ipv6::pod_side("klt0")).unwrap();
    sysctls(&outside, &ipv6::pod_side("eth0")).unwrap();
    for address in ["10.240.0.11/24", "fd00:240::11/64"] {
        outer.add_address(link, address.parse().unwrap()).await.unwrap();
    }
    for address in ["10.244.1.7/32", "fd00:244:1::7/128"] {
        outer.add_address(lo, address.parse().unwrap()).await.unwrap();
    }
    for address in ["10.240.0.1/24", "fd00:240::1/64"] {
        inner.add_address(peer, address.parse().unwrap()).await.unwrap();
    }
    outer.set_up(outer.link_index("lo").await.unwrap()).await.unwrap();
    outer.set_up(link).await.unwrap();
    inner.set_up(peer).await.unwrap();
    for (family, own, node_ip, server) in [
        (Family::V4, "10.244.1.7", "10.240.0.11", "10.240.0.1:7000"),
        (Family::V6, "fd00:244:1::7", "fd00:240::11", "[fd00:240::1]:7000"),
    ] {
        Masquerade { family, mark: 77, link: "klt0".into(), ports: (40000, 40099) }.replace(&node).unwrap();
        let listener = outside.run(|| std::net::UdpSocket::bind(server).unwrap()).unwrap();
        listener.set_read_timeout(Some(std::time::Duration::from_secs(5))).unwrap();
        let seen_as = |port: u16, mark: u32| {
            let send = || {
                let client = std::net::UdpSocket::bind((ip(own), port)).unwrap();
                nix::sys::socket::setsockopt(&client, nix::sys::socket::sockopt::Mark, &mark).unwrap();
                client.send_to(b"hello", server).unwrap();
            };
            node.run(send).unwrap();
            listener.recv_from(&mut [0; 16]).unwrap().1
        };
        assert_eq!(seen_as(5000, 0), (ip(own), 5000).into());
        assert_eq!(seen_as(5001, 78), (ip(own), 5001).into());
        let mapped = seen_as(5002, 77);
        assert_eq!(mapped.ip(), ip(node_ip));
        assert!((40000..40100).contains(&mapped.port()), "{mapped}");
    }
}

/// Bound at once, answered at once: no detection of duplicates, and no address that the link gives
/// itself on the node's side.
#[tokio::test]
async fn a_pod_has_ipv6_from_the_moment_it_is_wired() {
    let (node, pod, outer, inner) = wired().await;
    let (host, peer) = (outer.link_index("klt0").await.unwrap(), inner.link_index("eth0").await.unwrap());
    sysctls(&node, &ipv6::node_side("klt0")).unwrap();
    sysctls(&node, &[ipv6::forwarding()]).unwrap();
    sysctls(&pod, &ipv6::pod_side("eth0")).unwrap();
    let (lo, gateway) = (outer.link_index("lo").await.unwrap(), ip("fe80::1"));
    outer.add_address(lo, "fd00:9::9/128".parse().unwrap()).await.unwrap();
    outer.set_up(lo).await.unwrap();
    inner.add_address(peer, "fd00:244:1::7/128".parse().unwrap()).await.unwrap();
    inner.set_up(peer).await.unwrap();
    outer.set_up(host).await.unwrap();
    for _twice in 0..2 {
        inner.replace_neighbour(&Neighbour { link: peer, address: gateway, mac: HOST_MAC }).await.unwrap();
        inner.replace_route(&Route::default_via(gateway, peer)).await.unwrap();
        let neighbour = Neighbour { link: host, address: ip("fd00:244:1::7"), mac: POD_MAC };
        outer.replace_neighbour(&neighbour).await.unwrap();
        outer.replace_unreachable("fd00:244:1::/64".parse().unwrap()).await.unwrap();
        outer.replace_route(&Route::on_link("fd00:244:1::7/128".parse().unwrap(), host)).await.unwrap();
    }
    let listener = node.run(|| std::net::TcpListener::bind("[fd00:9::9]:7000").unwrap()).unwrap();
    let client = pod.run(|| std::net::TcpStream::connect("[fd00:9::9]:7000").unwrap()).unwrap();
    let (_, from) = listener.accept().unwrap();
    assert_eq!((from, from.ip()), (client.local_addr().unwrap(), ip("fd00:244:1::7")));
    assert!(!outer.addresses().await.unwrap().iter().any(|(link, _)| *link == host));
}

/// A host plugged into a bridge, with the address of its interface.
struct Plugged {
    namespace: NetNs,
    address: IpAddr,
    mac: [u8; 6],
}

async fn plugged(netlink: &Netlink, bridge: u32, number: u8) -> Plugged {
    let namespace = NetNs::create().unwrap();
    let (name, mac) = (format!("port{number}"), [2, 0, 0, 0, 0, number]);
    let peer = Peer { name: "eth0", mac: Some(mac), namespace: &namespace };
    netlink.create_veth(&Veth { name: &name, mac: None, mtu: 1500, peer }).await.unwrap();
    let port = netlink.link_index(&name).await.unwrap();
    netlink.set_master(port, bridge).await.unwrap();
    netlink.set_up(port).await.unwrap();
    let inside = Netlink::new(&namespace).unwrap();
    let eth0 = inside.link_index("eth0").await.unwrap();
    let address = IpAddr::from([10, 77, 0, number]);
    inside.add_address(eth0, ipnet::IpNet::new(address, 24).unwrap()).await.unwrap();
    inside.set_up(eth0).await.unwrap();
    for other in 1..=3 {
        let neighbour = Neighbour {
            link: eth0,
            address: IpAddr::from([10, 77, 0, other]),
            mac: [2, 0, 0, 0, 0, other],
        };
        inside.replace_neighbour(&neighbour).await.unwrap();
    }
    Plugged { namespace, address, mac }
}

/// How many of `count` datagrams arrive. The last one is followed by nothing, so silence ends the count.
fn arrive(from: &Plugged, to: &Plugged, count: usize) -> usize {
    let receiver = to.namespace.run(|| std::net::UdpSocket::bind((to.address, 0)).unwrap()).unwrap();
    receiver.set_read_timeout(Some(std::time::Duration::from_millis(200))).unwrap();
    let sender = from.namespace.run(|| std::net::UdpSocket::bind((from.address, 0)).unwrap()).unwrap();
    let target = receiver.local_addr().unwrap();
    let mut arrived = 0;
    for _ in 0..count {
        sender.send_to(b"x", target).unwrap();
    }
    while arrived < count && receiver.recv(&mut [0; 8]).is_ok() {
        arrived += 1;
    }
    arrived
}

#[tokio::test]
async fn a_bridge_loses_what_it_is_told_to_lose_and_heals() {
    let fabric = NetNs::create().unwrap();
    let netlink = Netlink::new(&fabric).unwrap();
    netlink.create_bridge("br0", BRIDGE_MAC).await.unwrap();
    let bridge = netlink.link_index("br0").await.unwrap();
    netlink.set_up(bridge).await.unwrap();
    let mut hosts = Vec::new();
    for number in 1..=3 {
        hosts.push(plugged(&netlink, bridge, number).await);
    }
    let [a, b, c] = &hosts[..] else { unreachable!() };
    assert_eq!((arrive(a, b, 20), arrive(a, c, 20)), (20, 20));

    let cut = Impairment { from: a.mac, to: Some(b.mac), percent: 100 };
    Impairment::replace_all(&fabric, &[cut]).unwrap();
    assert_eq!((arrive(a, b, 20), arrive(b, a, 20), arrive(a, c, 20)), (0, 0, 20), "only that pair is cut");

    let lossy = Impairment { from: a.mac, to: None, percent: 50 };
    Impairment::replace_all(&fabric, &[lossy]).unwrap();
    let arrived = arrive(a, c, 200);
    assert!((50..150).contains(&arrived), "{arrived} of 200 arrived at a loss of one half");
    assert_eq!(arrive(b, c, 20), 20, "others lose nothing");

    Impairment::replace_all(&fabric, &[]).unwrap();
    assert_eq!(arrive(a, b, 20), 20);
    assert!(nftables(&fabric).unwrap().is_empty());
}

/// A namespace whose loopback works.
async fn with_loopback() -> NetNs {
    let namespace = NetNs::create().unwrap();
    let netlink = Netlink::new(&namespace).unwrap();
    netlink.set_up(netlink.link_index("lo").await.unwrap()).await.unwrap();
    namespace
}

#[tokio::test]
async fn sockets_end_by_whom_they_talk_to_and_others_stay() {
    let namespace = with_loopback().await;
    namespace
        .run(|| {
            let server = TcpListener::bind("[::]:0").unwrap();
            let datagrams = [UdpSocket::bind("127.0.0.1:0").unwrap(), UdpSocket::bind("[::1]:0").unwrap()];
            let port = server.local_addr().unwrap().port();
            let client = |to: &str| {
                let client = TcpStream::connect(format!("{to}:{port}")).unwrap();
                client.set_read_timeout(Some(PATIENCE)).unwrap();
                client
            };
            let mut streams = ["127.0.0.1", "[::1]", "[::ffff:127.0.0.1]", "127.0.0.2"].map(client);
            let talks = |own: &str, to: &UdpSocket| {
                let client = UdpSocket::bind(own).unwrap();
                client.connect(to.local_addr().unwrap()).unwrap();
                client.set_read_timeout(Some(PATIENCE)).unwrap();
                client
            };
            let sockets = [talks("127.0.0.1:0", &datagrams[0]), talks("[::1]:0", &datagrams[1])];

            let remotes = BTreeSet::from([
                (6, SocketAddr::new(ip("127.0.0.1"), port)),
                (6, SocketAddr::new(ip("::1"), port)),
                (17, datagrams[0].local_addr().unwrap()),
            ]);
            // Two streams, one of them to a mapped address, and one datagram socket; a third is spared by its own address.
            let spared = streams[0].local_addr().unwrap();
            let end = || {
                let is_wanted = |it: &Talk| remotes.contains(&(it.protocol, it.remote)) && it.local != spared;
                destroy_sockets(&namespace, &BTreeSet::from([6, 17]), is_wanted).unwrap()
            };
            assert_eq!(end(), 3);
            for stream in &mut streams[1..3] {
                let error = stream.read(&mut [0]).unwrap_err();
                assert_eq!(error.kind(), ErrorKind::ConnectionAborted, "{stream:?}");
            }
            assert_eq!(sockets[0].recv(&mut [0]).unwrap_err().kind(), ErrorKind::ConnectionAborted);
            streams[0].write_all(b"x").unwrap();
            streams[3].write_all(b"x").unwrap();
            sockets[1].send(b"x").unwrap();
            assert_eq!(datagrams[1].recv(&mut [0]).unwrap(), 1);
            assert_eq!(end(), 0, "none is left");
        })
        .unwrap();
}

#[tokio::test]
async fn an_announcement_tells_neighbours_that_knew_an_address_elsewhere() {
    let (node, other, outer, inner) = wired().await;
    let (link, peer) = (outer.link_index("klt0").await.unwrap(), inner.link_index("eth0").await.unwrap());
    // Without this an entry is not changed in its first second, lest two that answer take turns.
    sysctls(&other, &[("net.ipv4.neigh.eth0.locktime", "0"), ("net.ipv6.conf.eth0.accept_dad", "0")]).unwrap();
    for (netlink, link) in [(&inner, peer), (&outer, link)] {
        netlink.set_up(link).await.unwrap();
    }
    settle(&node, "klt0").unwrap();
    inner.add_address(peer, "192.0.2.1/24".parse().unwrap()).await.unwrap();
    inner.add_address(peer, "2001:db8::1/64".parse().unwrap()).await.unwrap();
    let run = |line: String| {
        let output = other.run(|| std::process::Command::new("sh").args(["-c", &line]).output()).unwrap().unwrap();
        String::from_utf8(output.stdout).unwrap()
    };
    for address in [ip("192.0.2.7"), ip("2001:db8::7")] {
        run(format!("ip neigh replace {address} dev eth0 lladdr 02:00:00:00:00:99 nud reachable"));
        let deadline = std::time::Instant::now() + PATIENCE;
        while !run(format!("ip neigh show {address}")).contains("02:6b:6c:74:00:01") {
            assert!(std::time::Instant::now() < deadline, "{}", run("ip neigh show".into()));
            node.run(|| announce(link, HOST_MAC, address)).unwrap().unwrap();
        }
    }
    assert!(node.run(|| announce(4_000, HOST_MAC, ip("192.0.2.7"))).unwrap().is_err());
}

#[tokio::test]
async fn a_link_listens_for_questions_about_the_addresses_it_is_told() {
    let (node, _other, outer, _inner) = wired().await;
    let link = outer.link_index("klt0").await.unwrap();
    outer.set_up(link).await.unwrap();
    let joined = || {
        let read = || std::fs::read_to_string("/proc/thread-self/net/igmp6");
        let text = node.run(read).unwrap().unwrap();
        let of_link = text.lines().filter(|line| line.contains("klt0"));
        of_link.filter_map(|line| line.split_whitespace().nth(2)).map(str::to_owned).collect::<BTreeSet<_>>()
    };
    let before = joined();
    let mut listening = node.run(|| Listening::new(link)).unwrap().unwrap();
    listening.set(&[ip("2001:db8::12:3456"), ip("192.0.2.7")]).unwrap();
    let now = joined();
    let group = "ff0200000000000000000001ff123456".to_owned();
    assert_eq!(now.difference(&before).collect::<Vec<_>>(), [&group]);
    listening.set(&[ip("2001:db8::77")]).unwrap();
    assert!(!joined().contains(&group) && joined().contains("ff0200000000000000000001ff000077"));
    drop(listening);
    assert_eq!(joined(), before);
}
