//! Connections that a Service's backend refuses are carried to another. The whole process moves into a node's
//! cgroup, so these tests have a program of their own and run one after the other.

mod common;

use std::io::{ErrorKind, Read};
use std::net::{IpAddr, Ipv4Addr, Ipv6Addr, SocketAddr, TcpStream};
use std::thread::JoinHandle;
use std::time::Duration;

use common::*;
use kilter_datapath::{DropReason, Event};
use kilter_model::{Direction, Protocol};
use kilter_services::{Backend, Flags, Frontend, FrontendRow, Plan, Write};

/// By family.
const SERVICES: [IpAddr; 2] = [
    IpAddr::V4(Ipv4Addr::new(10, 96, 0, 10)),
    IpAddr::V6(Ipv6Addr::new(0xfd00, 0x96, 0, 0, 0, 0, 0, 0x10)),
];
/// A backend is found twice in this many tries, or there is something wrong.
const TRIES: u32 = 64;

fn node(fabric: &Fabric) -> Node {
    Node::with(fabric, 1, |config| config.retry_refused = true)
}

/// A Service of both families at port 80 of [`SERVICES`], and its latest revision.
struct Service {
    backends: Vec<[IpAddr; 2]>,
    flags: Flags,
    revision: u32,
}

impl Service {
    fn of(pods: &[&Pod]) -> Self {
        Self { backends: pods.iter().map(|pod| pod.both()).collect(), flags: Flags::default(), revision: 0 }
    }

    /// Writes its rows anew: whoever refused is asked again.
    fn put(&mut self, node: &mut Node) {
        self.revision += 1;
        let mut plan = Plan::default();
        for family in FAMILIES {
            let revision = 2 * self.revision + family as u32;
            for (slot, address) in (0u32..).zip(self.backends.iter().map(|both| both[family])) {
                let backend = Backend { address, port: 8080 };
                plan.prepare.push(Write::PutBackend { revision, slot, backend });
            }
            let (count, flags) = (self.backends.len() as u32, self.flags);
            let row = FrontendRow { revision, count, flags, affinity: 0, places: 0 };
            let frontend = Frontend::inside(SERVICES[family], 80, Protocol::Tcp);
            plan.switch.push(Write::PutFrontend { frontend, row });
        }
        node.datapath().apply_services(&plan).unwrap();
    }
}

fn retried(node: &mut Node) -> u64 {
    node.datapath().stats().unwrap().retried
}

/// A connection that was carried, and its server's thread.
struct Carried {
    stream: TcpStream,
    server: JoinHandle<()>,
}

impl Carried {
    /// Its server has heard, too, when this returns.
    fn close(self) {
        drop(self.stream);
        self.server.join().unwrap();
    }
}

/// Connects until a connection was carried, with rows written anew each time; the others are closed.
#[track_caller]
fn carried(node: &mut Node, service: &mut Service, from: &Pod, server: &Pod, family: usize) -> Carried {
    let before = retried(node);
    for _ in 0..TRIES {
        service.put(node);
        let thread = serve(&server.netns, server.both()[family], 8080);
        let stream = connect(&from.netns, SERVICES[family], 80, PATIENCE).unwrap();
        if retried(node) > before {
            return Carried { stream, server: thread };
        }
        drop(stream);
        thread.join().unwrap();
    }
    panic!("no connection was refused in {TRIES} tries");
}

/// Each direction of what is translated leads back to the other; `prove` wants that, too.
#[track_caller]
fn assert_pairs(node: &mut Node) {
    node.datapath().sweep_flows().unwrap();
    let all = node.datapath().read_translations().unwrap();
    for it in &all {
        let turned = |(source, destination)| (destination, source);
        assert!(all.iter().any(|back| (back.from, back.to) == (turned(it.to), turned(it.from))), "{it:?} of {all:#?}");
    }
}

/// `server` serves, `refuser` does not: each connection succeeds, and shows the Service.
#[track_caller]
fn each_connection_arrives(node: &mut Node, from: &Pod, refuser: &Pod, server: &Pod) {
    let mut service = Service::of(&[refuser, server]);
    for family in FAMILIES {
        let mut carried = carried(node, &mut service, from, server, family);
        assert_eq!(carried.stream.peer_addr().unwrap(), SocketAddr::new(SERVICES[family], 80));
        echo(&mut carried.stream, 10);
        echo(&mut carried.stream, 300_000);
        let event = node.event(|event| matches!(event, Event::Retried { .. }));
        let Event::Retried { from: client, to, next, .. } = event else { unreachable!() };
        assert_eq!(client, SocketAddr::new(from.both()[family], carried.stream.local_addr().unwrap().port()));
        let at = |pod: &Pod| SocketAddr::new(pod.both()[family], 8080);
        assert_eq!((to, next), (at(refuser), at(server)));
        carried.close();
    }
    let drops: Vec<Event> = node.drain().into_iter().filter(|it| matches!(it, Event::Drop { .. })).collect();
    assert!(drops.is_empty(), "{drops:#?}");
    assert_pairs(node);
}

#[test]
fn a_refused_connection_goes_to_another_backend_of_the_node() {
    let fabric = Fabric::new();
    let mut node = node(&fabric);
    let (a, b, c) = (node.pod(5), node.pod(6), node.pod(7));
    let _inside = Inside::of(&node);
    each_connection_arrives(&mut node, &a, &b, &c);
}

#[test]
fn a_refused_connection_goes_to_a_backend_of_another_node_and_comes_from_there() {
    let fabric = Fabric::new();
    let (mut one, mut two) = (node(&fabric), Node::new(&fabric, 2));
    let (a, b) = (one.pod(5), one.pod(6));
    let (c, d) = (two.pod(5), two.pod(6));
    let _inside = Inside::of(&one);
    each_connection_arrives(&mut one, &a, &b, &c);
    each_connection_arrives(&mut one, &a, &c, &b);
    each_connection_arrives(&mut one, &a, &c, &d);
}

#[test]
fn a_refused_connection_is_carried_through_the_tunnel() {
    for family in FAMILIES {
        let fabric = Fabric::new();
        let tunnelled = |number| Node::tunnelled_with(&fabric, number, family, |config| config.retry_refused = true);
        let (mut one, mut two) = (tunnelled(1), tunnelled(2));
        let (a, b) = (one.pod(5), one.pod(6));
        let (c, d) = (two.pod(5), two.pod(6));
        for (node, pods) in [(&one, [&a, &b]), (&two, [&c, &d])] {
            pods.iter().for_each(|pod| pod.narrow(node, OVERLAY_MTU[family]));
        }
        let _inside = Inside::of(&one);
        each_connection_arrives(&mut one, &a, &b, &c);
        each_connection_arrives(&mut one, &a, &c, &b);
        each_connection_arrives(&mut one, &a, &c, &d);
    }
}

#[test]
fn who_refused_is_passed_over_until_its_row_is_written_again() {
    let fabric = Fabric::new();
    let mut node = node(&fabric);
    let (a, b, c) = (node.pod(5), node.pod(6), node.pod(7));
    let _inside = Inside::of(&node);
    let mut service = Service::of(&[&b, &c]);
    carried(&mut node, &mut service, &a, &c, 0).close();
    let once = retried(&mut node);
    for _ in 0..TRIES {
        let thread = serve(&c.netns, c.address, 8080);
        drop(connect(&a.netns, SERVICES[0], 80, PATIENCE).unwrap());
        thread.join().unwrap();
    }
    assert_eq!(retried(&mut node), once);
    carried(&mut node, &mut service, &a, &c, 0).close();
}

#[test]
fn where_all_refuse_the_client_is_refused_and_all_are_asked_again() {
    let fabric = Fabric::new();
    let (mut one, mut two) = (node(&fabric), Node::new(&fabric, 2));
    let (a, b, c, d) = (one.pod(5), one.pod(6), one.pod(7), two.pod(5));
    let _inside = Inside::of(&one);
    let mut service = Service::of(&[&b, &c, &d]);
    service.put(&mut one);
    for family in FAMILIES {
        let before = retried(&mut one);
        for _ in 0..3 {
            let error = connect(&a.netns, SERVICES[family], 80, PATIENCE).unwrap_err();
            assert_eq!(error.kind(), ErrorKind::ConnectionRefused);
        }
        assert_eq!(retried(&mut one) - before, 2, "the first asked all three, the others found them refusing");
        assert_pairs(&mut one);
        let backends = [(&b, &b), (&c, &c), (&d, &d)].map(|(pod, _)| (pod, serve(&pod.netns, pod.both()[family], 8080)));
        echo(&mut connect(&a.netns, SERVICES[family], 80, PATIENCE).unwrap(), 10);
        for (pod, thread) in backends {
            let _ = connect(&a.netns, pod.both()[family], 8080, PATIENCE);
            thread.join().unwrap();
        }
    }
}

#[test]
fn what_policy_forbids_is_not_asked_and_the_client_is_refused() {
    let fabric = Fabric::new();
    let mut node = node(&fabric);
    let (a, b, c) = (node.pod(5), node.pod(6), node.pod(7));
    node.posture(&c, NO_INGRESS);
    let _inside = Inside::of(&node);
    let mut service = Service::of(&[&b, &c]);
    for family in FAMILIES {
        // Who asks the forbidden one first hears nothing.
        let refused = (0..TRIES).any(|_| {
            service.put(&mut node);
            node.forget_events();
            let error = connect(&a.netns, SERVICES[family], 80, Duration::from_millis(200)).unwrap_err();
            error.kind() == ErrorKind::ConnectionRefused
        });
        assert!(refused);
        let dropped = node.dropped(a.both()[family], c.both()[family]);
        assert_eq!(dropped, (DropReason::Policy, Direction::Ingress, Some(DENY)));
    }
    assert_eq!(retried(&mut node), 0);
}

#[test]
fn a_service_that_does_not_retry_is_left_alone() {
    let fabric = Fabric::new();
    let mut node = node(&fabric);
    let (a, b, c) = (node.pod(5), node.pod(6), node.pod(7));
    let _inside = Inside::of(&node);
    let mut service = Service { flags: Flags { retry: Some(false), ..Flags::default() }, ..Service::of(&[&b, &c]) };
    service.put(&mut node);
    let _listener = c.netns.run(|| std::net::TcpListener::bind((c.address, 8080))).unwrap().unwrap();
    let refused = (0..TRIES).any(|_| connect(&a.netns, SERVICES[0], 80, PATIENCE).is_err());
    assert!(refused && retried(&mut node) == 0);
}

#[test]
fn who_connects_to_a_backend_itself_is_refused_by_it() {
    let fabric = Fabric::new();
    let mut node = node(&fabric);
    let (a, b, c) = (node.pod(5), node.pod(6), node.pod(7));
    let _inside = Inside::of(&node);
    Service::of(&[&b, &c]).put(&mut node);
    let error = connect(&a.netns, b.address, 8080, PATIENCE).unwrap_err();
    assert_eq!((error.kind(), retried(&mut node)), (ErrorKind::ConnectionRefused, 0));
}

/// The one that refused may be deleted, as it often is soon.
#[test]
fn a_carried_connection_outlives_the_pod_that_refused_it() {
    let fabric = Fabric::new();
    let mut node = node(&fabric);
    let (a, b, c) = (node.pod(5), node.pod(6), node.pod(7));
    let _inside = Inside::of(&node);
    let mut service = Service::of(&[&b, &c]);
    let mut all = FAMILIES.map(|family| carried(&mut node, &mut service, &a, &c, family));
    node.datapath().detach_pod(&b.both().into()).unwrap();
    node.datapath().sweep_flows().unwrap();
    all.iter_mut().for_each(|it| echo(&mut it.stream, 100_000));
    node.reopen();
    all.iter_mut().for_each(|it| echo(&mut it.stream, 100_000));
}

#[test]
fn a_carried_connection_is_reset_at_both_ends_when_policy_ends_it() {
    let fabric = Fabric::new();
    let (mut one, mut two) = (node(&fabric), Node::new(&fabric, 2));
    let (a, b, c, d) = (one.pod(5), one.pod(6), one.pod(7), two.pod(5));
    let _inside = Inside::of(&one);
    for server in [&c, &d] {
        for family in FAMILIES {
            one.posture(&a, OPEN);
            let Carried { mut stream, server } = carried(&mut one, &mut Service::of(&[&b, server]), &a, server, family);
            echo(&mut stream, 10);
            one.posture(&a, NO_EGRESS);
            std::io::Write::write_all(&mut stream, b"more").unwrap();
            let error = stream.read(&mut [0; 10]).unwrap_err();
            assert_eq!(error.kind(), ErrorKind::ConnectionReset, "{error}");
            server.join().unwrap();
        }
    }
}
