//! Rows against a direct reading of the cluster, and against a reader who looks at any moment.

use std::collections::{BTreeMap, BTreeSet};
use std::net::IpAddr;

use kilter_model::{
    Change, Cluster, Endpoint, EndpointPort, EndpointSlice, Event, Exposure, Forwarding, Hints, Locality, NamespacedName, Node,
    Origin, Protocol, Routing, Service, ServicePort, ServiceType, TargetPort,
};
use kilter_services::{Backend, Compiler, Frontend, Plan, Tables, Weighted};
use proptest::collection::vec;
use proptest::prelude::*;
use proptest::sample::{select, subsequence};

const CLUSTER_IPS: [&str; 4] = ["10.96.0.1", "10.96.0.2", "10.96.0.3", "fd00:96::1"];
const ENDPOINTS: [&str; 8] = [
    "10.244.0.1",
    "10.244.0.2",
    "10.244.0.3",
    "fd00::1",
    "10.96.0.2",
    "127.0.0.1",
    "169.254.0.1",
    "::ffff:127.0.0.1",
];

fn name(name: &str) -> NamespacedName {
    NamespacedName::new("shop", name)
}

fn service(it: &str, cluster_ips: &[&str], ports: Vec<ServicePort>) -> Service {
    Service {
        name: name(it),
        service_type: ServiceType::ClusterIp,
        selector: None,
        cluster_ips: cluster_ips.iter().map(|it| it.parse().unwrap()).collect(),
        headless: false,
        ports,
        families: vec![],
        locality: Default::default(),
        exposure: Default::default(),
        retry_refused: None,
        forwarding: Default::default(),
        publish_not_ready: false,
        distribution: Default::default(),
        affinity: None,
        external_name: None,
        origin: Origin::Builtin,
    }
}

fn port(name: &str, protocol: Protocol, port: u16) -> ServicePort {
    ServicePort { name: name.into(), protocol, port, target: TargetPort::Number(port), node_port: None }
}

fn endpoint(address: &str, ready: bool, serving: bool, terminating: bool) -> Endpoint {
    let address = address.parse().unwrap();
    Endpoint { address, ready, serving, terminating, node: None, zone: None, hints: Default::default(), pod: None, hostname: None }
}

fn slice(
    it: &str,
    service: &str,
    ports: &[(&str, Protocol, u16)],
    endpoints: Vec<Endpoint>,
) -> EndpointSlice {
    let ports = ports.iter().map(|(name, protocol, port)| EndpointPort {
        name: (*name).into(),
        protocol: *protocol,
        port: *port,
    });
    EndpointSlice { name: name(it), service: name(service), ports: ports.collect(), endpoints }
}

fn backends(tables: &Tables, address: &str, port: u16, protocol: Protocol) -> Option<Vec<String>> {
    let frontend = Frontend::inside(address.parse().unwrap(), port, protocol);
    tables.backends_of(&frontend).map(|it| it.iter().map(ToString::to_string).collect())
}

fn compiled(events: impl IntoIterator<Item = Event>) -> Tables {
    let mut compiler = Compiler::new("here".into());
    compiler.update(&Cluster::from_events(events), &[]);
    compiler.tables().clone()
}

#[test]
fn each_port_leads_to_the_endpoints_of_its_name_and_protocol() {
    let tables = compiled([
        Event::Service(service(
            "dns",
            &["10.96.0.1"],
            vec![
                port("dns", Protocol::Udp, 53),
                port("dns-tcp", Protocol::Tcp, 53),
                port("x", Protocol::Sctp, 9),
            ],
        )),
        Event::EndpointSlice(slice(
            "dns-1",
            "dns",
            &[("dns", Protocol::Udp, 1053), ("dns-tcp", Protocol::Tcp, 2053)],
            vec![endpoint("10.244.0.2", true, true, false), endpoint("10.244.0.1", true, true, false)],
        )),
        Event::EndpointSlice(slice(
            "dns-2",
            "dns",
            &[("dns", Protocol::Udp, 3053)],
            vec![endpoint("10.244.0.3", true, true, false), endpoint("10.244.0.4", false, false, false)],
        )),
    ]);
    let of = |protocol| backends(&tables, "10.96.0.1", 53, protocol).unwrap();
    assert_eq!(of(Protocol::Udp), ["10.244.0.1:1053", "10.244.0.2:1053", "10.244.0.3:3053"]);
    assert_eq!(of(Protocol::Tcp), ["10.244.0.1:2053", "10.244.0.2:2053"]);
    assert_eq!(
        backends(&tables, "10.96.0.1", 9, Protocol::Sctp),
        Some(vec![]),
        "no backend: refuse, not pass"
    );
    assert_eq!(backends(&tables, "10.96.0.1", 80, Protocol::Tcp), None);
}

#[test]
fn terminating_endpoints_serve_only_when_nothing_is_ready() {
    let events = |ready| {
        [
            Event::Service(service("web", &["10.96.0.1"], vec![port("", Protocol::Tcp, 80)])),
            Event::EndpointSlice(slice(
                "web-1",
                "web",
                &[("", Protocol::Tcp, 8080)],
                vec![
                    endpoint("10.244.0.1", false, true, true),
                    endpoint("10.244.0.2", false, false, true),
                    endpoint("10.244.0.3", ready, ready, false),
                ],
            )),
        ]
    };
    let of = |ready| backends(&compiled(events(ready)), "10.96.0.1", 80, Protocol::Tcp).unwrap();
    assert_eq!(of(false), ["10.244.0.1:8080"]);
    assert_eq!(of(true), ["10.244.0.3:8080"]);
}

#[test]
fn clients_are_sent_to_endpoints_that_are_recommended_to_them() {
    let hints = |zone: &str, node: &str| Hints { zones: vec![zone.into()], nodes: vec![node.into()] };
    let of = |node_ready: bool, zone_ready: bool, zone: &str| {
        let here = Endpoint { hints: hints("z1", "here"), ..endpoint("10.244.0.1", node_ready, node_ready, false) };
        let near = Endpoint { hints: hints("z1", "near"), ..endpoint("10.244.0.2", zone_ready, zone_ready, false) };
        let far = Endpoint { hints: hints("z2", "far"), ..endpoint("10.244.0.3", true, true, false) };
        let labels = [(kilter_model::ZONE_LABEL.into(), zone.into())].into_iter().collect();
        let node = Node {
            name: "here".into(),
            labels,
            addresses: vec![],
            pod_cidrs: vec![],
            ready: true,
            origin: Origin::Builtin,
        };
        let tables = compiled([
            Event::Node(node),
            Event::Service(service("dns", &["10.96.0.1"], vec![port("", Protocol::Udp, 53)])),
            Event::EndpointSlice(slice("dns-1", "dns", &[("", Protocol::Udp, 53)], vec![here, near, far])),
        ]);
        backends(&tables, "10.96.0.1", 53, Protocol::Udp).unwrap().join(" ")
    };
    assert_eq!(of(true, true, "z1"), "10.244.0.1:53");
    assert_eq!(of(false, true, "z1"), "10.244.0.2:53", "its node has none: its zone");
    assert_eq!(of(false, false, "z1"), "10.244.0.3:53", "its zone has none: all");
    assert_eq!(of(false, true, "z2"), "10.244.0.3:53");
    assert_eq!(of(false, true, "z3"), "10.244.0.2:53 10.244.0.3:53");
}

#[test]
fn clients_from_outside_are_sent_by_a_table_and_those_inside_by_chance() {
    let events = |count: u8| {
        let ports = vec![ServicePort { node_port: Some(30080), ..port("", Protocol::Tcp, 80) }];
        let endpoints = (1..=count).map(|i| endpoint(&format!("10.244.0.{i}"), true, true, false)).collect();
        [
            Event::Service(service("web", &["10.96.0.1"], ports)),
            Event::EndpointSlice(slice("web-1", "web", &[("", Protocol::Tcp, 80)], endpoints)),
        ]
    };
    let mut cluster = Cluster::from_events(events(3));
    let mut compiler = Compiler::new("here".into());
    compiler.update(&cluster, &[]);
    let outside = Frontend::outside([0, 0, 0, 0].into(), 30080, Protocol::Tcp);
    let table = |compiler: &Compiler| compiler.tables().table_of(&compiler.tables().frontends[&outside]);
    let all = compiler.tables().backends_of(&outside).unwrap();
    let all: Vec<Weighted> = all.into_iter().map(|backend| Weighted { backend, weight: 1 }).collect();
    assert_eq!(table(&compiler), kilter_services::maglev::table(&all));
    let inside = compiler.tables().frontends.iter().filter(|(it, _)| **it != outside);
    assert!(inside.clone().count() == 2 && inside.clone().all(|(_, row)| row.places == 0));
    let resumed = Compiler::resume("here".into(), compiler.tables().clone()).update(&cluster, &[]);
    assert!(resumed.is_empty(), "{resumed:?}");
    let [_, fewer] = events(1);
    let change = cluster.apply(fewer);
    compiler.update(&cluster, change.as_slice());
    assert!(compiler.tables().chunks.is_empty(), "one backend needs no table");
}

#[test]
fn an_external_ip_is_never_in_place_of_an_address_that_another_was_given() {
    let [mine, yours] = ["10.244.0.1", "10.244.0.2"];
    let taken: IpAddr = "192.0.2.1".parse().unwrap();
    let of = |name: &str, ip: &str, exposure: Exposure, endpoint_at: &str| {
        let ports = vec![port("", Protocol::Tcp, 80), port("other", Protocol::Tcp, 81)];
        let ports = if name == "a" { ports } else { ports[..1].to_vec() };
        [
            Event::Service(Service { exposure, ..service(name, &[ip], ports) }),
            Event::EndpointSlice(slice(
                &format!("{name}-1"),
                name,
                &[("", Protocol::Tcp, 80), ("other", Protocol::Tcp, 81)],
                vec![endpoint(endpoint_at, true, true, false)],
            )),
        ]
    };
    // By its name it would be the first.
    let guest = Exposure { external_ips: vec![taken, "10.96.0.2".parse().unwrap()], ..Exposure::default() };
    let balancer = Exposure { load_balancer: vec![taken], ..Exposure::default() };
    let mut cluster = Cluster::from_events(of("a", "10.96.0.1", guest, mine));
    let mut compiler = Compiler::new("here".into());
    compiler.update(&cluster, &[]);
    let at = |compiler: &Compiler, address: &str, number| backends(compiler.tables(), address, number, Protocol::Tcp);
    assert_eq!(at(&compiler, "192.0.2.1", 80), Some(vec![format!("{mine}:80")]));
    let changes: Vec<Change> = of("b", "10.96.0.2", balancer, yours).into_iter().filter_map(|it| cluster.apply(it)).collect();
    compiler.update(&cluster, &changes);
    for address in ["192.0.2.1", "10.96.0.2"] {
        assert_eq!(at(&compiler, address, 80), Some(vec![format!("{yours}:80")]), "{address}");
    }
    assert_eq!(at(&compiler, "192.0.2.1", 81), Some(vec![format!("{mine}:81")]), "a port that nobody else has");
    let gone = cluster.apply(Event::ServiceGone(name("b"))).unwrap();
    compiler.update(&cluster, &[gone]);
    assert_eq!(at(&compiler, "192.0.2.1", 80), Some(vec![format!("{mine}:80")]));
}

#[test]
fn a_slice_that_goes_over_to_another_service_changes_both() {
    let of = |service: &str| slice("one", service, &[("", Protocol::Tcp, 80)], vec![endpoint("10.244.0.1", true, true, false)]);
    let mut cluster = Cluster::from_events([
        Event::Service(service("a", &["10.96.0.1"], vec![port("", Protocol::Tcp, 80)])),
        Event::Service(service("b", &["10.96.0.2"], vec![port("", Protocol::Tcp, 80)])),
        Event::EndpointSlice(of("a")),
    ]);
    let mut compiler = Compiler::new("here".into());
    compiler.update(&cluster, &[]);
    let moved = cluster.apply(Event::EndpointSlice(of("b"))).unwrap();
    compiler.update(&cluster, &[moved]);
    assert_eq!(backends(compiler.tables(), "10.96.0.1", 80, Protocol::Tcp), Some(vec![]));
    assert_eq!(backends(compiler.tables(), "10.96.0.2", 80, Protocol::Tcp), Some(vec!["10.244.0.1:80".into()]));
}

#[test]
fn affinity_is_of_all_frontends_and_source_ranges_of_load_balancers_alone() {
    let exposure = Exposure {
        external_ips: vec!["192.0.2.1".parse().unwrap()],
        load_balancer: vec!["192.0.2.2".parse().unwrap()],
        source_ranges: vec!["198.51.100.7/24".parse().unwrap(), "2001:db8::/32".parse().unwrap()],
        ..Exposure::default()
    };
    let of = |exposure: Exposure, affinity| {
        let ports = vec![ServicePort { node_port: Some(30080), ..port("", Protocol::Tcp, 80) }];
        Event::Service(Service { exposure, affinity, ..service("web", &["10.96.0.1"], ports) })
    };
    let mut cluster = Cluster::from_events([of(exposure.clone(), Some(7))]);
    let mut compiler = Compiler::new("here".into());
    compiler.update(&cluster, &[]);
    assert_eq!(compiler.tables().frontends.len(), 7);
    for (frontend, row) in &compiler.tables().frontends {
        let is_balancer = frontend.address == "192.0.2.2".parse::<IpAddr>().unwrap();
        assert_eq!((row.flags.restricted, row.affinity), (is_balancer, 7), "{frontend}");
        let ranges: Vec<String> = compiler.tables().sources_of(row.revision).iter().map(ToString::to_string).collect();
        assert_eq!(ranges, if is_balancer { vec!["198.51.100.0/24", "2001:db8::/32"] } else { vec![] }, "{frontend}");
    }
    let change = cluster.apply(of(Exposure { source_ranges: vec![], ..exposure }, None));
    let plan = compiler.update(&cluster, change.as_slice());
    assert!(!plan.is_empty() && compiler.tables().sources.is_empty());
    assert!(compiler.tables().frontends.values().all(|row| !row.flags.restricted && row.affinity == 0));
    let resumed = Compiler::resume("here".into(), compiler.tables().clone()).update(&cluster, &[]);
    assert!(resumed.is_empty(), "{resumed:?}");
}

#[test]
fn a_node_that_moves_to_another_zone_is_served_by_that() {
    let node = |zone: &str| {
        let labels = [(kilter_model::ZONE_LABEL.into(), zone.into())].into_iter().collect();
        let (addresses, pod_cidrs) = (vec![], vec![]);
        Event::Node(Node { name: "here".into(), labels, addresses, pod_cidrs, ready: true, origin: Origin::Builtin })
    };
    let of_zone = |address: &str, zone: &str| Endpoint {
        hints: Hints { zones: vec![zone.into()], nodes: vec![] },
        ..endpoint(address, true, true, false)
    };
    let mut cluster = Cluster::from_events([
        node("z1"),
        Event::Service(service("dns", &["10.96.0.1"], vec![port("", Protocol::Udp, 53)])),
        Event::EndpointSlice(slice(
            "dns-1",
            "dns",
            &[("", Protocol::Udp, 53)],
            vec![of_zone("10.244.0.1", "z1"), of_zone("10.244.0.2", "z2")],
        )),
    ]);
    let mut compiler = Compiler::new("here".into());
    compiler.update(&cluster, &[]);
    assert_eq!(backends(compiler.tables(), "10.96.0.1", 53, Protocol::Udp).unwrap(), ["10.244.0.1:53"]);
    let change = cluster.apply(node("z2"));
    compiler.update(&cluster, change.as_slice());
    assert_eq!(backends(compiler.tables(), "10.96.0.1", 53, Protocol::Udp).unwrap(), ["10.244.0.2:53"]);
}

#[test]
fn clients_are_sent_to_their_own_node_where_the_service_says_so() {
    let of = |locality, own_ready: bool| {
        let service =
            Service { locality, ..service("dns", &["10.96.0.1"], vec![port("", Protocol::Udp, 53)]) };
        let own =
            Endpoint { node: Some("here".into()), ..endpoint("10.244.0.1", own_ready, own_ready, false) };
        let other = Endpoint { node: Some("there".into()), ..endpoint("10.244.0.2", true, true, false) };
        let slice = slice("dns-1", "dns", &[("", Protocol::Udp, 53)], vec![own, other]);
        let tables = compiled([Event::Service(service), Event::EndpointSlice(slice)]);
        backends(&tables, "10.96.0.1", 53, Protocol::Udp).unwrap().join(" ")
    };
    assert_eq!(of(Locality::Anywhere, true), "10.244.0.1:53 10.244.0.2:53");
    assert_eq!(of(Locality::OnlyNode, true), "10.244.0.1:53");
    assert_eq!(of(Locality::OnlyNode, false), "", "nobody else may serve");
}

/// A Service with a node port, an external address and one of a load balancer, and endpoints on two nodes.
fn exposed(only_local: bool, endpoints: Vec<Endpoint>) -> Tables {
    let mut web = service("web", &["10.96.0.1"], vec![port("", Protocol::Tcp, 80)]);
    web.service_type = ServiceType::LoadBalancer;
    web.ports[0].node_port = Some(30_080);
    web.exposure.external_ips = vec!["192.0.2.1".parse().unwrap()];
    web.exposure.load_balancer = vec!["10.240.100.1".parse().unwrap()];
    web.exposure.only_local = only_local;
    web.locality = Locality::OnlyNode;
    let slice = slice("web-1", "web", &[("", Protocol::Tcp, 8080)], endpoints);
    compiled([Event::Service(web), Event::EndpointSlice(slice)])
}

/// Every frontend with its backends, as text.
fn text(tables: &Tables) -> Vec<String> {
    let row = |(frontend, row): (&Frontend, &kilter_services::FrontendRow)| {
        let backends: Vec<String> = tables.backends_of(frontend).unwrap().iter().map(ToString::to_string).collect();
        format!("{frontend} [{}] -> {}", row.flags, backends.join(" "))
    };
    tables.frontends.iter().map(row).collect()
}

fn on(node: &str, endpoint: Endpoint) -> Endpoint {
    Endpoint { node: Some(node.into()), ..endpoint }
}

#[test]
fn a_service_is_reached_at_every_address_that_it_is_exposed_at() {
    let (near, far) =
        (on("here", endpoint("10.244.0.1", true, true, false)), on("there", endpoint("10.244.0.2", true, true, false)));
    let both = "10.244.0.1:8080 10.244.0.2:8080";
    assert_eq!(
        text(&exposed(false, vec![near.clone(), far.clone()])),
        [
            format!("node port 30080 of IPv4/TCP [] -> {both}"),
            format!("node port 30080 of IPv4/TCP from outside [] -> {both}"),
            "10.96.0.1:80/TCP [] -> 10.244.0.1:8080".to_owned(),
            format!("10.240.100.1:80/TCP [] -> {both}"),
            format!("10.240.100.1:80/TCP from outside [] -> {both}"),
            format!("192.0.2.1:80/TCP [] -> {both}"),
            format!("192.0.2.1:80/TCP from outside [] -> {both}"),
        ]
    );
    let outside = |tables: &Tables| text(tables).into_iter().filter(|it| it.contains("outside")).collect::<Vec<_>>();
    let all = |to: &str| {
        ["node port 30080 of IPv4", "10.240.100.1:80", "192.0.2.1:80"].map(|at| format!("{at}/TCP from outside {to}"))
    };
    let only_local = exposed(true, vec![near, far.clone()]);
    assert_eq!(outside(&only_local), all("[] -> 10.244.0.1:8080"));
    assert_eq!(text(&only_local)[0], format!("node port 30080 of IPv4/TCP [own node only] -> {both}"));
    assert_eq!(outside(&exposed(true, vec![far])), all("[silent] -> "), "another node has one");
    assert_eq!(outside(&exposed(true, vec![])), all("[] -> "), "nobody has one: refuse");
    // KEP-1669: the last one of this node serves until it is gone, although another node has a ready one.
    let ending = on("here", endpoint("10.244.0.1", false, true, true));
    let far = on("there", endpoint("10.244.0.2", true, true, false));
    assert_eq!(outside(&exposed(true, vec![ending, far])), all("[] -> 10.244.0.1:8080"));
}

#[test]
fn what_is_sent_on_as_it_came_is_chosen_alike_on_every_node() {
    let recommended = |address: &str, node: &str| {
        let hints = Hints { nodes: vec![node.into()], zones: vec![] };
        Endpoint { hints, ..on(node, endpoint(address, true, true, false)) }
    };
    let endpoints = vec![recommended("10.244.0.1", "here"), recommended("10.244.0.2", "there")];
    let of = |routing, change: fn(&mut Service)| {
        let mut web = service("web", &["10.96.0.1"], vec![port("", Protocol::Tcp, 80)]);
        web.ports[0].node_port = Some(30_080);
        web.forwarding = Forwarding::Dsr;
        web.retry_refused = Some(true);
        change(&mut web);
        let slice = slice("web-1", "web", &[("", Protocol::Tcp, 8080)], endpoints.clone());
        let mut compiler = Compiler::new("here".into()).routed(routing);
        compiler.update(&Cluster::from_events([Event::Service(web), Event::EndpointSlice(slice)]), &[]);
        text(compiler.tables())
    };
    let (near, retries) = ("-> 10.244.0.1:8080", "refused connections are retried");
    let outside = "refused connections are not retried, sent on as they came] -> 10.244.0.1:8080 10.244.0.2:8080";
    assert_eq!(
        of(Routing::Native, |_| {}),
        [
            format!("node port 30080 of IPv4/TCP [{retries}] {near}"),
            format!("node port 30080 of IPv4/TCP from outside [{outside}"),
            format!("10.96.0.1:80/TCP [{retries}] {near}"),
        ]
    );
    let plain = of(Routing::Native, |web| web.forwarding = Forwarding::Snat);
    assert_eq!(plain[1], format!("node port 30080 of IPv4/TCP from outside [{retries}] {near}"));
    assert_eq!(of(Routing::Vxlan, |_| {}), plain, "the tunnel's ends know nodes and pods alone");
    assert_eq!(of(Routing::Native, |web| web.affinity = Some(7)), plain, "each node remembers by itself");
    assert_eq!(of(Routing::Native, |web| web.exposure.only_local = true)[1], plain[1], "nothing is sent on");
}

#[test]
fn headless_and_external_services_have_no_frontend() {
    let mut headless = service("db", &["10.96.0.1"], vec![port("", Protocol::Tcp, 80)]);
    headless.headless = true;
    headless.exposure.external_ips = vec!["192.0.2.1".parse().unwrap()];
    let mut external = service("mail", &["10.96.0.2"], vec![port("", Protocol::Tcp, 80)]);
    external.service_type = ServiceType::ExternalName;
    assert_eq!(compiled([Event::Service(headless), Event::Service(external)]), Tables::default());
}

#[test]
fn of_two_services_with_one_address_the_first_by_name_has_it_until_it_goes() {
    let event = |it: &str, target| {
        [
            Event::Service(service(it, &["10.96.0.1"], vec![port("", Protocol::Tcp, 80)])),
            Event::EndpointSlice(slice(
                &format!("{it}-1"),
                it,
                &[("", Protocol::Tcp, target)],
                vec![endpoint("10.244.0.1", true, true, false)],
            )),
        ]
    };
    let mut cluster = Cluster::from_events(event("b", 2).into_iter().chain(event("a", 1)));
    let mut compiler = Compiler::new("here".into());
    compiler.update(&cluster, &[]);
    let of = |tables: &Tables| backends(tables, "10.96.0.1", 80, Protocol::Tcp);
    assert_eq!(of(compiler.tables()), Some(vec!["10.244.0.1:1".to_owned()]));
    let change = cluster.apply(Event::ServiceGone(name("a"))).unwrap();
    compiler.update(&cluster, &[change]);
    assert_eq!(of(compiler.tables()), Some(vec!["10.244.0.1:2".to_owned()]));
}

#[test]
fn a_change_touches_only_its_own_frontends() {
    let web = |it: &str, ip: &str| Event::Service(service(it, &[ip], vec![port("", Protocol::Tcp, 80)]));
    let mut cluster = Cluster::from_events([web("a", "10.96.0.1"), web("b", "10.96.0.2")]);
    let mut compiler = Compiler::new("here".into());
    compiler.update(&cluster, &[]);
    let endpoints = vec![endpoint("10.244.0.1", true, true, false)];
    let event = Event::EndpointSlice(slice("a-1", "a", &[("", Protocol::Tcp, 8080)], endpoints));
    let change = cluster.apply(event).unwrap();
    let plan = compiler.update(&cluster, &[change]);
    assert_eq!(plan.writes().count(), 2, "one backend and one frontend: {plan:?}");
}

fn is_own(endpoint: &Endpoint) -> bool {
    endpoint.node.as_deref() == Some("here")
}

/// What the rows should say, read off the cluster without any index.
fn expected(cluster: &Cluster) -> BTreeMap<Frontend, Vec<Backend>> {
    let is_service =
        |address: IpAddr| cluster.services().any(|it| !it.headless && it.cluster_ips.contains(&address));
    let mut all = BTreeMap::new();
    for service in cluster.services().filter(|it| !it.headless) {
        for &address in &service.cluster_ips {
            for port in &service.ports {
                let found = |wanted: fn(&Endpoint) -> bool| {
                    let mut found = BTreeSet::new();
                    for slice in cluster.slices().filter(|it| it.service == service.name) {
                        for it in slice
                            .ports
                            .iter()
                            .filter(|it| it.name == port.name && it.protocol == port.protocol)
                        {
                            for endpoint in slice.endpoints.iter().filter(|it| wanted(it)) {
                                let bad = ["127.0.0.1", "169.254.0.1", "::ffff:127.0.0.1"];
                                let is_bad =
                                    bad.iter().any(|it| endpoint.address == it.parse::<IpAddr>().unwrap());
                                let same_family = endpoint.address.is_ipv4() == address.is_ipv4();
                                if !is_bad && same_family && !is_service(endpoint.address) {
                                    found.insert(Backend { address: endpoint.address, port: it.port });
                                }
                            }
                        }
                    }
                    found.into_iter().collect::<Vec<_>>()
                };
                let either =
                    |ready: Vec<Backend>, terminating| if ready.is_empty() { terminating } else { ready };
                let anywhere =
                    either(found(|it| it.ready), found(|it| !it.ready && it.serving && it.terminating));
                let own = either(
                    found(|it| it.ready && is_own(it)),
                    found(|it| !it.ready && it.serving && it.terminating && is_own(it)),
                );
                let backends = match service.locality {
                    Locality::Anywhere => anywhere,
                    Locality::OnlyNode => own,
                };
                let frontend = Frontend::inside(address, port.port, port.protocol);
                all.entry(frontend).or_insert(backends);
            }
        }
    }
    all
}

fn content(tables: &Tables) -> BTreeMap<Frontend, Vec<Backend>> {
    tables.frontends.keys().map(|it| (*it, tables.backends_of(it).unwrap())).collect()
}

/// A reader at any moment finds each frontend as before or as after, and in full; a reader who
/// read a frontend before it moved still finds all its backends until `retire` begins.
fn check_plan(tables: &mut Tables, plan: &Plan) -> Result<(), TestCaseError> {
    let (before, old) = (tables.clone(), content(tables));
    let mut end = tables.clone();
    plan.writes().for_each(|write| end.apply(write));
    let new = content(&end);
    let safe = plan.prepare.len() + plan.switch.len();
    for (number, write) in plan.writes().enumerate() {
        tables.apply(write);
        for (frontend, row) in &tables.frontends {
            let now = tables.backends_of(frontend).unwrap();
            prop_assert_eq!(now.len(), row.count as usize, "torn after {:?}", write);
            prop_assert!(old.get(frontend) == Some(&now) || new.get(frontend) == Some(&now));
        }
        for frontend in old.keys().filter(|it| new.contains_key(it)) {
            prop_assert!(tables.frontends.contains_key(frontend), "gone after {:?}", write);
        }
        if number < safe {
            for row in before.frontends.values() {
                let found =
                    (0..row.count).filter(|slot| tables.backends.contains_key(&(row.revision, *slot)));
                prop_assert_eq!(found.count(), row.count as usize);
            }
        }
    }
    let used: BTreeSet<u32> = tables.frontends.values().map(|row| row.revision).collect();
    prop_assert_eq!(used.len(), tables.frontends.len(), "a revision belongs to one frontend");
    prop_assert!(tables.backends.keys().all(|(revision, _)| used.contains(revision)));
    Ok(())
}

fn event() -> impl Strategy<Value = Event> {
    let names = || select(vec!["a", "b", "c"]);
    let ports = || {
        subsequence(
            vec![("", Protocol::Tcp, 80), ("dns", Protocol::Udp, 53), ("s", Protocol::Sctp, 9)],
            0..=2,
        )
    };
    let locality = select(vec![Locality::Anywhere, Locality::OnlyNode]);
    let new_service =
        (names(), subsequence(CLUSTER_IPS.to_vec(), 0..=2), ports(), proptest::bool::weighted(0.1), locality)
            .prop_map(|(it, ips, ports, headless, locality)| {
                let mut service =
                    service(it, &ips, ports.into_iter().map(|(n, p, number)| port(n, p, number)).collect());
                service.headless = headless;
                service.locality = locality;
                Event::Service(service)
            });
    let node = || select(vec![None, Some("here"), Some("there")]);
    let new_endpoint = (select(ENDPOINTS.to_vec()), any::<bool>(), any::<bool>(), any::<bool>(), node())
        .prop_map(|(address, ready, serving, terminating, node)| Endpoint {
            node: node.map(Into::into),
            ..endpoint(address, ready, serving, terminating)
        });
    let new_slice =
        (0..2, names(), ports(), vec(new_endpoint, 0..4)).prop_map(|(number, it, ports, endpoints)| {
            Event::EndpointSlice(slice(&format!("{it}-{number}"), it, &ports, endpoints))
        });
    prop_oneof![
        3 => new_service,
        1 => names().prop_map(|it| Event::ServiceGone(name(it))),
        5 => new_slice,
        1 => (0..2, names()).prop_map(|(number, it)| Event::EndpointSliceGone(name(&format!("{it}-{number}")))),
    ]
}

fn apply(cluster: &mut Cluster, events: Vec<Event>) -> Vec<Change> {
    events.into_iter().filter_map(|event| cluster.apply(event)).collect()
}

proptest! {
    #![proptest_config(ProptestConfig { failure_persistence: None, ..ProptestConfig::with_cases(1000) })]

    #[test]
    fn no_reader_sees_half_of_each(batches in vec(vec(event(), 1..5), 1..10)) {
        let (mut cluster, mut compiler, mut tables) = (Cluster::default(), Compiler::new("here".into()), Tables::default());
        for batch in batches {
            let changes = apply(&mut cluster, batch);
            let plan = compiler.update(&cluster, &changes);
            check_plan(&mut tables, &plan)?;
            prop_assert_eq!(&tables, compiler.tables());
            prop_assert_eq!(content(&tables), expected(&cluster));
            prop_assert!(compiler.update(&cluster, &changes).is_empty());
        }
    }

    #[test]
    fn rows_that_are_found_and_right_stay(before in vec(event(), 1..20), more in vec(event(), 0..5)) {
        let mut cluster = Cluster::from_events(before);
        let mut tables = compiled_from(&cluster);
        prop_assert!(Compiler::resume("here".into(), tables.clone()).update(&cluster, &[]).is_empty());
        apply(&mut cluster, more);
        let mut compiler = Compiler::resume("here".into(), tables.clone());
        let plan = compiler.update(&cluster, &[]);
        check_plan(&mut tables, &plan)?;
        prop_assert_eq!(content(&tables), expected(&cluster));
    }
}

fn compiled_from(cluster: &Cluster) -> Tables {
    let mut compiler = Compiler::new("here".into());
    compiler.update(cluster, &[]);
    compiler.tables().clone()
}
