//! Which backends are gone for good after a change.

use kilter_model::{
    Change, Cluster, Endpoint, EndpointPort, EndpointSlice, Event, Labels, NamespacedName, Origin, Pod, PodPhase,
    Protocol, Service, ServicePort, ServiceType, TargetPort, WorkloadRef,
};
use kilter_services::{Backend, Departures, Frontend, FrontendRow, Tables, Write};

/// Service `shop/NAME` over `protocol`, and its endpoints: pods by the last byte of their address.
fn service(name: &str, protocol: Protocol, pods: &[u8]) -> [Event; 2] {
    let named = NamespacedName::new("shop", name);
    let service = Service {
        name: named.clone(),
        service_type: ServiceType::ClusterIp,
        selector: None,
        cluster_ips: vec![],
        headless: false,
        ports: vec![ServicePort {
            name: "".into(),
            protocol,
            port: 80,
            target: TargetPort::Number(8080),
            node_port: None,
        }],
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
    let endpoint = |pod: &u8| Endpoint {
        address: [10, 244, 1, *pod].into(),
        ready: true,
        serving: true,
        terminating: false,
        node: None,
        pod: Some(format!("pod-{pod}").into()),
        zone: None,
        hints: Default::default(),
        hostname: None,
    };
    let slice = EndpointSlice {
        name: NamespacedName::new("shop", format!("{name}-1")),
        service: named,
        ports: vec![EndpointPort { name: "".into(), protocol, port: 8080 }],
        endpoints: pods.iter().map(endpoint).collect(),
    };
    [Event::Service(service), Event::EndpointSlice(slice)]
}

fn pod(number: u8, phase: PodPhase) -> Event {
    let name = NamespacedName::new("shop", format!("pod-{number}"));
    Event::Pod(Pod {
        uid: format!("pod-{number}").into(),
        name: name.clone(),
        labels: Labels::new(),
        node: None,
        addresses: vec![[10, 244, 1, number].into()],
        host_network: false,
        ports: vec![],
        owner: WorkloadRef { kind: "Pod".into(), name },
        phase,
        ready: true,
        terminating: false,
        origin: Origin::Builtin,
    })
}

struct Seen {
    cluster: Cluster,
    departures: Departures,
}

impl Seen {
    fn new(events: impl IntoIterator<Item = Event>) -> Self {
        let mut seen = Self { cluster: Cluster::default(), departures: Departures::resume(&Tables::default()) };
        assert_eq!(seen.after(events), [] as [String; 0], "nothing went before");
        seen
    }

    /// What has gone after these events, as `PROTOCOL ADDRESS:PORT`.
    fn after(&mut self, events: impl IntoIterator<Item = Event>) -> Vec<String> {
        let changes: Vec<Change> = events.into_iter().flat_map(|event| self.cluster.apply(event)).collect();
        let gone = self.departures.update(&self.cluster, &changes);
        gone.iter().map(|(protocol, backend)| format!("{protocol} {backend}")).collect()
    }
}

#[test]
fn datagrams_lose_a_backend_when_its_last_service_does() {
    let pods = [1, 2].map(|number| pod(number, PodPhase::Running));
    let (web, dns) = (service("web", Protocol::Udp, &[1, 2]), service("dns", Protocol::Udp, &[2]));
    let mut seen = Seen::new(pods.into_iter().chain(web).chain(dns));
    assert_eq!(seen.after(service("web", Protocol::Udp, &[2])), ["UDP 10.244.1.1:8080"]);
    assert_eq!(seen.after(service("web", Protocol::Udp, &[])), [] as [String; 0], "dns leads there still");
    let gone = Event::ServiceGone(NamespacedName::new("shop", "dns"));
    assert_eq!(seen.after([gone]), ["UDP 10.244.1.2:8080"]);
}

#[test]
fn a_connection_lives_as_long_as_the_pod_whichever_is_told_first() {
    let everything = || {
        let pods = [1, 2].map(|number| pod(number, PodPhase::Running));
        Seen::new(pods.into_iter().chain(service("web", Protocol::Tcp, &[1, 2])))
    };
    let mut seen = everything();
    assert_eq!(seen.after(service("web", Protocol::Tcp, &[2])), [] as [String; 0], "the pod is there still");
    assert_eq!(seen.after([pod(1, PodPhase::Succeeded)]), ["TCP 10.244.1.1:8080"]);
    assert_eq!(seen.after([Event::PodGone("pod-1".into())]), [] as [String; 0], "told once");

    let mut seen = everything();
    assert_eq!(seen.after([Event::PodGone("pod-1".into())]), [] as [String; 0], "the Service leads there still");
    assert_eq!(seen.after(service("web", Protocol::Tcp, &[2])), ["TCP 10.244.1.1:8080"]);
}

#[test]
fn what_moves_from_one_service_to_another_stays() {
    let web = service("web", Protocol::Udp, &[1]);
    let mut seen = Seen::new([pod(1, PodPhase::Running)].into_iter().chain(web));
    let moved = service("web", Protocol::Udp, &[]).into_iter().chain(service("new", Protocol::Udp, &[1]));
    assert_eq!(seen.after(moved), [] as [String; 0]);
}

#[test]
fn what_went_while_nobody_looked_is_found_by_the_rows() {
    let mut loaded = Tables::default();
    for (revision, protocol) in [(1, Protocol::Tcp), (2, Protocol::Udp)] {
        for slot in 0..3 {
            let backend = Backend { address: [10, 244, 1, slot as u8 + 1].into(), port: 8080 };
            loaded.apply(&Write::PutBackend { revision, slot, backend });
        }
        let frontend = Frontend::inside([10, 96, 0, 10].into(), 80, protocol);
        loaded.apply(&Write::PutFrontend { frontend, row: FrontendRow { revision, count: 3, flags: Default::default(), affinity: 0, places: 0 } });
    }
    let mut cluster = Cluster::default();
    // Pod 1 serves still, pod 2 only lives, pod 3 is gone.
    let tcp = service("web", Protocol::Tcp, &[1]);
    let udp = service("log", Protocol::Udp, &[1]);
    let pods = [1, 2].map(|number| pod(number, PodPhase::Running));
    for event in pods.into_iter().chain(tcp).chain(udp) {
        cluster.apply(event);
    }
    let gone = Departures::resume(&loaded).update(&cluster, &[]);
    let gone: Vec<String> = gone.iter().map(|(protocol, backend)| format!("{protocol} {backend}")).collect();
    assert_eq!(gone, ["TCP 10.244.1.3:8080", "UDP 10.244.1.2:8080", "UDP 10.244.1.3:8080"]);
}
