//! Which node answers for which address of a load balancer.

use std::collections::BTreeMap;
use std::net::IpAddr;
use std::sync::Arc;

use kilter_model::{
    Cluster, Endpoint, EndpointSlice, Event, Exposure, NamespacedName, Node, Origin, Service, ServiceType,
};
use kilter_services::{Announcements, owner};

fn node(name: &str, ready: bool) -> Node {
    Node {
        name: name.into(),
        labels: Default::default(),
        addresses: vec!["10.240.0.11".parse().unwrap()],
        pod_cidrs: vec![],
        ready,
        origin: Origin::Builtin,
    }
}

fn balancer(name: &str, address: &str, only_local: bool) -> Service {
    Service {
        name: NamespacedName::new("shop", name),
        service_type: ServiceType::LoadBalancer,
        selector: None,
        cluster_ips: vec![],
        headless: false,
        ports: vec![],
        families: vec![],
        locality: Default::default(),
        distribution: Default::default(),
        affinity: None,
        exposure: Exposure { load_balancer: vec![address.parse().unwrap()], only_local, ..Default::default() },
        retry_refused: None,
        forwarding: Default::default(),
        publish_not_ready: false,
        external_name: None,
        origin: Origin::Builtin,
    }
}

fn endpoint(node: &str, ready: bool, terminating: bool) -> Endpoint {
    Endpoint {
        address: [10, 244, 0, 9].into(),
        ready,
        serving: true,
        terminating,
        node: Some(node.into()),
        zone: None,
        hints: Default::default(),
        pod: None,
        hostname: None,
    }
}

fn slice(service: &str, endpoints: Vec<Endpoint>) -> Event {
    let name = NamespacedName::new("shop", service);
    Event::EndpointSlice(EndpointSlice { name: name.clone(), service: name, ports: vec![], endpoints })
}

fn nodes(count: usize) -> Vec<Event> {
    (0..count).map(|i| Event::Node(node(&format!("node-{i}"), true))).collect()
}

fn address(number: usize) -> String {
    format!("192.0.2.{number}")
}

fn owners(cluster: &Cluster) -> BTreeMap<IpAddr, Option<Arc<str>>> {
    let all = cluster.services().flat_map(|it| it.exposure.load_balancer.iter().map(move |address| (it, *address)));
    all.map(|(service, address)| (address, owner(cluster, service, address))).collect()
}

#[test]
fn addresses_are_spread_and_only_those_of_a_node_that_goes_move() {
    let services = (0..200).map(|i| Event::Service(balancer(&format!("s{i}"), &address(i), false)));
    let mut cluster = Cluster::from_events(nodes(5).into_iter().chain(services));
    let before = owners(&cluster);
    let mut counts: BTreeMap<_, u32> = BTreeMap::new();
    before.values().for_each(|owner| *counts.entry(owner.clone().unwrap()).or_default() += 1);
    assert!(counts.len() == 5 && counts.values().all(|count| (20..=60).contains(count)), "{counts:?}");
    cluster.apply(Event::Node(node("node-2", false)));
    for (address, owner) in owners(&cluster) {
        let was = before[&address].clone().unwrap();
        assert!(if &*was == "node-2" { owner != Some(was) } else { owner == Some(was) }, "{address}");
    }
    cluster.apply(Event::Node(node("node-2", true)));
    assert_eq!(owners(&cluster), before);
}

#[test]
fn of_a_local_service_only_nodes_with_an_endpoint_answer() {
    let local = |endpoints| {
        let mut cluster = Cluster::from_events(nodes(4));
        cluster.apply(Event::Service(balancer("web", "192.0.2.1", true)));
        cluster.apply(slice("web", endpoints));
        owner(&cluster, cluster.services().next().unwrap(), "192.0.2.1".parse().unwrap()).unwrap().to_string()
    };
    for node in ["node-0", "node-1", "node-2", "node-3"] {
        assert_eq!(local(vec![endpoint(node, true, false)]), node);
        assert_eq!(local(vec![endpoint(node, false, true)]), node, "it goes, and nobody else serves");
        assert_ne!(local(vec![endpoint(node, false, true), endpoint("node-9", true, false)]), "node-9", "not a node");
    }
    assert!(local(vec![]).starts_with("node-"), "somebody has to refuse");
}

#[test]
fn a_node_without_the_family_or_excluded_by_its_label_answers_for_nothing() {
    let mut excluded = node("node-1", true);
    excluded.labels = [("node.kubernetes.io/exclude-from-external-load-balancers".into(), "".into())].into();
    let cluster = Cluster::from_events([
        Event::Node(excluded),
        Event::Service(balancer("web", "192.0.2.1", false)),
        Event::Service(balancer("six", "2001:db8::1", false)),
    ]);
    assert!(owners(&cluster).values().all(Option::is_none));
}

#[test]
fn each_address_has_one_node_that_answers_and_it_follows_what_happens() {
    let pools = vec!["192.0.2.0/24".parse().unwrap()];
    let mut cluster = Cluster::from_events(nodes(3));
    let mut views: Vec<Announcements> =
        (0..3).map(|i| Announcements::new(format!("node-{i}").into(), pools.clone())).collect();
    let mut foreign = balancer("foreign", "192.0.2.250", false);
    foreign.exposure.load_balancer_class = Some("cloud.example/nlb".into());
    let events = [
        Event::Service(balancer("a", "192.0.2.1", false)),
        Event::Service(balancer("b", "192.0.2.2", true)),
        Event::Service(foreign),
        Event::Service(balancer("outside", "203.0.113.1", false)),
        slice("b", vec![endpoint("node-1", true, false)]),
        Event::Node(node("node-1", false)),
        Event::Node(node("node-1", true)),
        Event::Service(balancer("a", "192.0.2.3", false)),
        Event::ServiceGone(NamespacedName::new("shop", "b")),
        Event::NodeGone("node-2".into()),
    ];
    for event in events {
        let changes: Vec<_> = cluster.apply(event.clone()).into_iter().collect();
        let mut all: Vec<IpAddr> = Vec::new();
        for view in &mut views {
            view.update(&cluster, &changes);
            all.extend(view.owned());
        }
        all.sort();
        let wanted: Vec<IpAddr> = owners(&cluster)
            .into_keys()
            .filter(|it| pools[0].contains(it) && *it != "192.0.2.250".parse::<IpAddr>().unwrap())
            .collect();
        assert_eq!(all, wanted, "after {event:?}");
    }
}
