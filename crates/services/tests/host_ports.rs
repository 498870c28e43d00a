//! Ports of a node that lead to its pods.

use std::net::IpAddr;

use kilter_model::{
    Cluster, ContainerPort, Event, HostPort, Labels, NamespacedName, Node, Origin, Pod, PodPhase, Protocol,
    Service, ServicePort, ServiceType, TargetPort, WorkloadRef,
};
use kilter_services::{Compiler, Frontend, Tables};

const NODE: [&str; 2] = ["10.240.0.11", "fd00:240::11"];
const POD: [&str; 2] = ["10.244.0.5", "fd00:244::5"];

fn addresses(texts: [&str; 2]) -> Vec<IpAddr> {
    texts.map(|text| text.parse().unwrap()).into()
}

fn node(addresses: Vec<IpAddr>) -> Event {
    Event::Node(Node {
        name: "here".into(),
        labels: Labels::new(),
        addresses,
        pod_cidrs: vec![],
        ready: true,
        origin: Origin::Builtin,
    })
}

fn port(number: u16, protocol: Protocol, host: u16, at: Option<&str>) -> ContainerPort {
    let address = at.map(|at| at.parse().unwrap());
    ContainerPort { name: None, port: number, protocol, host: Some(HostPort { port: host, address }) }
}

fn pod(node: &str, ports: Vec<ContainerPort>) -> Pod {
    let name = NamespacedName::new("shop", "web");
    Pod {
        uid: "1".into(),
        name: name.clone(),
        labels: Labels::new(),
        node: Some(node.into()),
        addresses: addresses(POD),
        host_network: false,
        ports,
        owner: WorkloadRef { kind: "Pod".into(), name },
        phase: PodPhase::Running,
        ready: false,
        terminating: false,
        origin: Origin::Builtin,
    }
}

fn web() -> Pod {
    pod("here", vec![port(80, Protocol::Tcp, 8080, None), port(53, Protocol::Udp, 53, Some(NODE[0]))])
}

fn leads(tables: &Tables, at: &str, number: u16, protocol: Protocol) -> [Option<String>; 2] {
    let at: IpAddr = at.parse().unwrap();
    [Frontend::inside(at, number, protocol), Frontend::outside(at, number, protocol)].map(|frontend| {
        let backends = tables.backends_of(&frontend)?;
        Some(backends.iter().map(ToString::to_string).collect::<Vec<_>>().join(" "))
    })
}

fn both(text: &str) -> [Option<String>; 2] {
    [Some(text.to_owned()), Some(text.to_owned())]
}

fn compiled(events: Vec<Event>) -> Tables {
    let mut compiler = Compiler::new("here".into());
    compiler.update(&Cluster::from_events(events), &[]);
    compiler.tables().clone()
}

#[test]
fn a_port_of_the_node_leads_to_the_pod_in_each_family() {
    let tables = compiled(vec![node(addresses(NODE)), Event::Pod(web())]);
    assert_eq!(leads(&tables, "0.0.0.0", 8080, Protocol::Tcp), both("10.244.0.5:80"));
    assert_eq!(leads(&tables, "::", 8080, Protocol::Tcp), both("[fd00:244::5]:80"));
    assert_eq!(leads(&tables, NODE[0], 53, Protocol::Udp), both("10.244.0.5:53"));
    assert_eq!(tables.frontends.len(), 6, "the address has one family");
    let own_node: Vec<bool> = tables.frontends.values().map(|row| row.flags.own_node).collect();
    assert_eq!(own_node.iter().filter(|own| **own).count(), 2, "other nodes' ports are theirs");
}

#[test]
fn an_address_that_is_not_the_nodes_is_not_taken() {
    for at in ["198.51.100.1", "127.0.0.1", "10.240.0.12"] {
        let pod = pod("here", vec![port(80, Protocol::Tcp, 8080, Some(at))]);
        assert!(compiled(vec![node(addresses(NODE)), Event::Pod(pod)]).frontends.is_empty(), "{at}");
    }
    let elsewhere = pod("there", web().ports);
    let on_network = Pod { host_network: true, ..web() };
    for none in [elsewhere, on_network] {
        assert!(compiled(vec![node(addresses(NODE)), Event::Pod(none)]).frontends.is_empty());
    }
}

#[test]
fn rows_follow_the_pod_and_the_nodes_addresses() {
    let mut cluster = Cluster::from_events([node(vec![]), Event::Pod(Pod { addresses: vec![], ..web() })]);
    let mut compiler = Compiler::new("here".into());
    compiler.update(&cluster, &[]);
    assert!(compiler.tables().frontends.is_empty(), "no address yet");
    let mut rows_after = |event: Event| {
        let changes: Vec<_> = cluster.apply(event).into_iter().collect();
        compiler.update(&cluster, &changes);
        compiler.tables().frontends.len()
    };
    assert_eq!(rows_after(Event::Pod(web())), 4);
    assert_eq!(rows_after(node(addresses(NODE))), 6);
    assert_eq!(rows_after(node(addresses(NODE).split_off(1))), 4);
    assert_eq!(rows_after(Event::Pod(Pod { phase: PodPhase::Failed, ..web() })), 0);
    assert_eq!(rows_after(Event::Pod(web())), 4);
    assert_eq!(rows_after(Event::PodGone("1".into())), 0);
}

#[test]
fn a_services_port_of_all_nodes_comes_first() {
    let service = Service {
        name: NamespacedName::new("shop", "zz"),
        service_type: ServiceType::NodePort,
        selector: None,
        cluster_ips: vec!["10.96.0.1".parse().unwrap()],
        headless: false,
        ports: vec![ServicePort {
            name: "".into(),
            protocol: Protocol::Tcp,
            port: 80,
            target: TargetPort::Number(80),
            node_port: Some(8080),
        }],
        families: vec![],
        locality: Default::default(),
        exposure: Default::default(),
        distribution: Default::default(),
        affinity: Default::default(),
        retry_refused: None,
        forwarding: Default::default(),
        publish_not_ready: false,
        external_name: None,
        origin: Origin::Builtin,
    };
    let tables = compiled(vec![node(addresses(NODE)), Event::Pod(web()), Event::Service(service)]);
    assert_eq!(leads(&tables, "0.0.0.0", 8080, Protocol::Tcp), both(""));
    assert_eq!(leads(&tables, "::", 8080, Protocol::Tcp), both("[fd00:244::5]:80"));
}
