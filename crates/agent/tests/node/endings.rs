//! Sockets of clients when their backend goes.

use std::io::ErrorKind;
use std::net::UdpSocket;

use kilter_model::{Event, Protocol};

use crate::world::{PATIENCE, Wired, World, namespace, pod, service};

/// The same over UDP.
fn over_udp(events: [Event; 2]) -> [Event; 2] {
    events.map(|event| match event {
        Event::Service(mut service) => {
            service.ports[0].protocol = Protocol::Udp;
            Event::Service(service)
        }
        Event::EndpointSlice(mut slice) => {
            slice.ports[0].protocol = Protocol::Udp;
            Event::EndpointSlice(slice)
        }
        other => other,
    })
}

/// The Service's endpoint is this pod, as a slice says it.
fn leads_to(events: [Event; 2], name: &str) -> [Event; 2] {
    events.map(|event| match event {
        Event::EndpointSlice(mut slice) => {
            slice.endpoints[0].pod = Some(format!("uid-{name}").into());
            Event::EndpointSlice(slice)
        }
        other => other,
    })
}

fn datagrams(from: &Wired, to: &Wired, port: u16) -> UdpSocket {
    let socket = from.netns.run(|| UdpSocket::bind((from.address, 0)).unwrap()).unwrap();
    socket.connect((to.address, port)).unwrap();
    socket.set_read_timeout(Some(PATIENCE)).unwrap();
    socket
}

#[test]
fn a_datagram_socket_ends_with_its_backend_and_others_stay() {
    let mut world = World::new("datagrams");
    world.apply([namespace("shop"), pod("a"), pod("b"), pod("c")]);
    let (a, b, c) = (world.add("a"), world.add("b"), world.add("c"));
    let serve = |pod: &Wired, port| pod.netns.run(|| UdpSocket::bind((pod.address, port)).unwrap()).unwrap();
    let _servers = [serve(&b, 53), serve(&b, 54), serve(&c, 53)];
    world.apply(over_udp(service("dns", &[(b.address, 53), (c.address, 53)])));
    let (to_b, to_c) = (datagrams(&a, &b, 53), datagrams(&a, &c, 53));
    let to_other_port = datagrams(&a, &b, 54);

    world.apply(over_udp(service("dns", &[(c.address, 53)])));
    assert_eq!(to_b.recv(&mut [0]).unwrap_err().kind(), ErrorKind::ConnectionAborted);
    for socket in [&to_c, &to_other_port] {
        socket.send(b"x").expect("nothing happened to it");
    }

    // What goes while no agent looks is found by the next one.
    world.stop();
    world.start_unsynced();
    world.tell([namespace("shop"), pod("a"), pod("b"), pod("c")]);
    let [gone, _] = over_udp(service("dns", &[]));
    world.tell([gone]);
    world.send(kilter_cluster::Resource::ALL.map(kilter_cluster::Update::Synced).into());
    assert_eq!(to_c.recv(&mut [0]).unwrap_err().kind(), ErrorKind::ConnectionAborted);
}

#[test]
fn a_connection_outlives_its_service_but_not_its_pod() {
    let mut world = World::new("connections");
    world.apply([namespace("shop"), pod("a"), pod("b")]);
    let (a, b) = (world.add("a"), world.add("b"));
    world.apply(leads_to(service("web", &[(b.address, 8080)]), "b"));
    let listener = b.listen(8080);
    let stream = a.connect((b.address, 8080)).unwrap();
    let (server, _) = listener.accept().unwrap();
    stream.set_read_timeout(Some(PATIENCE)).unwrap();

    let [_, slice] = service("web", &[]);
    world.apply([slice]);
    std::io::Write::write_all(&mut &server, b"x").unwrap();
    assert_eq!(std::io::Read::read(&mut &stream, &mut [0]).unwrap(), 1, "it serves on");

    world.tell([Event::PodGone("uid-b".into())]);
    let error = std::io::Read::read(&mut &stream, &mut [0]).unwrap_err();
    assert_eq!(error.kind(), ErrorKind::ConnectionAborted);
}
