//! Weights of endpoints, which their pods' labels say.

use std::collections::BTreeMap;
use std::net::IpAddr;

use kilter_model::{
    Cluster, Endpoint, EndpointPort, EndpointSlice, Event, Labels, NamespacedName, Origin, Pod, PodPhase, Protocol,
    Service, ServicePort, ServiceType, TargetPort, WorkloadRef,
};
use kilter_services::{Compiler, Frontend, WEIGHT_LABEL};

const AT: [u8; 4] = [10, 96, 0, 1];
const NODE_PORT: u16 = 30080;

fn name(name: &str) -> NamespacedName {
    NamespacedName::new("shop", name)
}

fn pod(number: u8, weight: Option<&str>) -> Event {
    let labels: Labels = weight.into_iter().map(|weight| (WEIGHT_LABEL.into(), weight.into())).collect();
    let name = name(&format!("web-{number}"));
    Event::Pod(Pod {
        uid: number.to_string().into(),
        name: name.clone(),
        labels,
        node: Some("there".into()),
        addresses: vec![[10, 244, 0, number].into()],
        host_network: false,
        ports: vec![],
        owner: WorkloadRef { kind: "Pod".into(), name },
        phase: PodPhase::Running,
        ready: true,
        terminating: false,
        origin: Origin::Builtin,
    })
}

fn web(endpoints: u8) -> [Event; 2] {
    let port = ServicePort {
        name: "".into(),
        protocol: Protocol::Tcp,
        port: 80,
        target: TargetPort::Number(80),
        node_port: Some(NODE_PORT),
    };
    let service = Service {
        name: name("web"),
        service_type: ServiceType::NodePort,
        selector: None,
        cluster_ips: vec![AT.into()],
        headless: false,
        ports: vec![port],
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
    };
    let endpoint = |number: u8| Endpoint {
        address: [10, 244, 0, number].into(),
        ready: true,
        serving: true,
        terminating: false,
        node: None,
        zone: None,
        hints: Default::default(),
        pod: Some(number.to_string().into()),
        hostname: None,
    };
    let slice = EndpointSlice {
        name: name("web-1"),
        service: name("web"),
        ports: vec![EndpointPort { name: "".into(), protocol: Protocol::Tcp, port: 80 }],
        endpoints: (1..=endpoints).map(endpoint).collect(),
    };
    [Event::Service(service), Event::EndpointSlice(slice)]
}

/// How many slots inside, and places outside, lead to each address.
fn shares(compiler: &Compiler) -> [BTreeMap<IpAddr, usize>; 2] {
    let tables = compiler.tables();
    let inside = Frontend::inside(AT.into(), 80, Protocol::Tcp);
    let outside = Frontend::outside([0, 0, 0, 0].into(), NODE_PORT, Protocol::Tcp);
    let mut counts = [BTreeMap::new(), BTreeMap::new()];
    let slots = tables.backends_of(&inside).unwrap();
    slots.iter().for_each(|it| *counts[0].entry(it.address).or_default() += 1);
    let backends = tables.backends_of(&outside).unwrap();
    let table = tables.table_of(&tables.frontends[&outside]);
    table.iter().for_each(|slot| *counts[1].entry(backends[*slot as usize].address).or_default() += 1);
    counts
}

fn address(number: u8) -> IpAddr {
    [10, 244, 0, number].into()
}

#[test]
fn a_pod_gets_what_its_label_says_and_one_without_a_unit() {
    for (said, weight) in [(None, 1), (Some("3"), 3), (Some("0"), 1), (Some("101"), 1), (Some("x"), 1), (Some("-2"), 1)] {
        let cluster = Cluster::from_events(web(2).into_iter().chain([pod(1, said), pod(2, None)]));
        let mut compiler = Compiler::new("here".into());
        compiler.update(&cluster, &[]);
        let [inside, outside] = shares(&compiler);
        assert_eq!(inside, BTreeMap::from([(address(1), weight), (address(2), 1)]), "{said:?}");
        let (heavy, light) = (outside[&address(1)] as f64, outside[&address(2)] as f64);
        let ratio = heavy / light / weight as f64;
        assert!((0.9..1.1).contains(&ratio), "{said:?}: {heavy} to {light}");
        assert!(Compiler::resume("here".into(), compiler.tables().clone()).update(&cluster, &[]).is_empty());
    }
}

#[test]
fn a_weight_is_followed_when_the_label_changes_and_when_the_pod_is_seen_after_its_endpoint() {
    let mut cluster = Cluster::from_events(web(2));
    let mut compiler = Compiler::new("here".into());
    compiler.update(&cluster, &[]);
    assert_eq!(shares(&compiler)[0], BTreeMap::from([(address(1), 1), (address(2), 1)]));
    for (event, weight) in [
        (pod(1, Some("9")), 9),
        (pod(1, Some("4")), 4),
        (pod(1, None), 1),
        (pod(1, Some("2")), 2),
        (Event::PodGone("1".into()), 1),
    ] {
        let change = cluster.apply(event).unwrap();
        assert!(!compiler.update(&cluster, &[change]).is_empty());
        assert_eq!(shares(&compiler)[0], BTreeMap::from([(address(1), weight), (address(2), 1)]));
    }
    let [other, _] = [pod(2, None), pod(3, Some("7"))].map(|event| cluster.apply(event).unwrap());
    assert!(compiler.update(&cluster, &[other]).is_empty(), "what weighs as before changes nothing");
}
