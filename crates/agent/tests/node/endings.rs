//! Sockets of clients when their backend goes.

use std::io::{ErrorKind, Read, Write};
use std::net::{TcpListener, TcpStream, UdpSocket};
use std::process::{Child, Stdio};

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

/// The Service's endpoints are these pods, as a slice says it.
fn leads_to(events: [Event; 2], names: &[&str]) -> [Event; 2] {
    events.map(|event| match event {
        Event::EndpointSlice(mut slice) => {
            for (endpoint, name) in slice.endpoints.iter_mut().zip(names) {
                endpoint.pod = Some(format!("uid-{name}").into());
            }
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
    world.apply(leads_to(service("web", &[(b.address, 8080)]), &["b"]));
    let listener = b.listen(8080);
    let stream = a.connect((b.address, 8080)).unwrap();
    let (server, _) = listener.accept().unwrap();
    stream.set_read_timeout(Some(PATIENCE)).unwrap();

    let [_, slice] = service("web", &[]);
    world.apply([slice]);
    (&server).write_all(b"x").unwrap();
    assert_eq!((&stream).read(&mut [0]).unwrap(), 1, "it serves on");

    world.tell([Event::PodGone("uid-b".into())]);
    let error = (&stream).read(&mut [0]).unwrap_err();
    assert_eq!(error.kind(), ErrorKind::ConnectionAborted);
}

/// A client of the Service whose connection pod b refused and `listener` has.
fn carried(world: &mut World, a: &Wired, web: impl Fn() -> [Event; 2], listener: &TcpListener) -> (Child, TcpStream) {
    let retried = |world: &World| world.block_on(world.agent().status()).retried;
    let before = retried(world);
    for _ in 0..64 {
        let mut client = world.client(a, "10.96.0.10:80").stdout(Stdio::piped()).stderr(Stdio::piped()).spawn().unwrap();
        let (server, _) = listener.accept().unwrap();
        if retried(world) > before {
            return (client, server);
        }
        client.kill().unwrap();
        client.wait().unwrap();
        let [service, _] = web();
        world.apply([Event::ServiceGone(kilter_model::NamespacedName::new("shop", "web"))]);
        world.apply([service]);
    }
    panic!("no connection was refused");
}

#[test]
fn a_carried_connection_outlives_the_pod_that_refused_it_but_not_the_one_that_has_it() {
    let mut world = World::new("carried");
    world.apply([namespace("shop"), pod("a"), pod("b"), pod("c")]);
    let (a, b, c) = (world.add("a"), world.add("b"), world.add("c"));
    let web = || leads_to(service("web", &[(b.address, 8080), (c.address, 8080)]), &["b", "c"]);
    world.apply(web());
    let listener = c.listen(8080);
    let (mut client, mut server) = carried(&mut world, &a, web, &listener);

    let at_b = b.listen(8080);
    let mut to_b = a.connect((b.address, 8080)).unwrap();
    let _server = at_b.accept().unwrap();
    to_b.set_read_timeout(Some(PATIENCE)).unwrap();
    let [_, slice] = leads_to(service("web", &[(c.address, 8080)]), &["c"]);
    world.apply([slice]);
    world.tell([Event::PodGone("uid-b".into())]);
    assert_eq!(to_b.read(&mut [0]).unwrap_err().kind(), ErrorKind::ConnectionAborted);
    server.write_all(b"x").unwrap();
    assert_eq!(client.stdout.as_mut().unwrap().read(&mut [0]).unwrap(), 1, "whoever has it serves on");

    let [_, slice] = service("web", &[]);
    world.apply([slice]);
    world.tell([Event::PodGone("uid-c".into())]);
    let output = client.wait_with_output().unwrap();
    let said = String::from_utf8(output.stderr).unwrap();
    assert!(!output.status.success() && said.contains("connection abort"), "{said}");
}
