use std::sync::Arc;

use hickory_proto::op::ResponseCode::{NXDomain, NoError};
use hickory_proto::rr::{Name, RecordType};
use kilter_model::{
    Change, Cluster, Endpoint, EndpointPort, EndpointSlice, Event, Namespace, NamespacedName, Origin,
    Protocol, Service, ServicePort, ServiceType, TargetPort,
};

use super::*;

fn service(name: &str, cluster_ip: Option<&str>) -> Service {
    Service {
        name: NamespacedName::new("shop", name),
        service_type: ServiceType::ClusterIp,
        selector: None,
        cluster_ips: cluster_ip.map(|ip| ip.parse().unwrap()).into_iter().collect(),
        headless: cluster_ip.is_none(),
        ports: vec![ServicePort {
            name: "http".into(),
            protocol: Protocol::Tcp,
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
    }
}

fn external(name: &str, target: &str) -> Service {
    Service {
        service_type: ServiceType::ExternalName,
        external_name: Some(target.into()),
        headless: false,
        ..service(name, None)
    }
}

fn endpoint(address: &str, ready: bool, hostname: Option<&str>) -> Endpoint {
    Endpoint {
        zone: None,
        hints: Default::default(),
        address: address.parse().unwrap(),
        ready,
        serving: ready,
        terminating: false,
        node: None,
        pod: None,
        hostname: hostname.map(Arc::from),
    }
}

fn slice(service: &str, endpoints: Vec<Endpoint>) -> EndpointSlice {
    EndpointSlice {
        name: NamespacedName::new("shop", format!("{service}-1")),
        service: NamespacedName::new("shop", service),
        ports: vec![EndpointPort { name: "http".into(), protocol: Protocol::Tcp, port: 8080 }],
        endpoints,
    }
}

fn shop() -> (Zone, Cluster) {
    let cluster = Cluster::from_events([
        Event::Namespace(Namespace {
            name: "shop".into(),
            labels: Default::default(),
            origin: Origin::Builtin,
        }),
        Event::Service(service("web", Some("10.96.0.7"))),
        Event::Service(service("db", None)),
        Event::Service(service("empty", None)),
        Event::Service(external("pay", "pay.example.com")),
        Event::Service(external("alias", "web.shop.svc.cluster.local")),
        Event::Service(external("loop", "loop.shop.svc.cluster.local")),
        Event::EndpointSlice(slice(
            "db",
            vec![
                endpoint("10.244.0.1", true, Some("db-0")),
                endpoint("10.244.0.2", false, Some("db-1")),
                endpoint("10.244.0.3", true, None),
            ],
        )),
        Event::EndpointSlice(slice("empty", vec![endpoint("10.244.0.9", false, None)])),
    ]);
    let networks = vec!["10.244.0.0/16".parse().unwrap(), "10.96.0.0/16".parse().unwrap()];
    let zone = Zone::new(Config { networks, ..Config::default() }).unwrap();
    zone.replace(&cluster);
    (zone, cluster)
}

/// The answer in a line: records as `TYPE data`, or the negative code.
fn ask(zone: &Zone, name: &str, kind: RecordType) -> String {
    let mut name = Name::from_ascii(name).unwrap();
    name.set_fqdn(true);
    match zone.answer(&name, kind) {
        Answer::Records { answers, onward, .. } => {
            let mut text: Vec<_> =
                answers.iter().map(|r| format!("{} {}", r.record_type(), r.data)).collect();
            text.extend(onward.map(|name| format!("then {name}")));
            text.join("; ")
        }
        Answer::Negative { code, answers, authority } => {
            assert_eq!(authority.record_type(), RecordType::SOA);
            let aliases: String =
                answers.iter().map(|r| format!("{} {}; ", r.record_type(), r.data)).collect();
            format!(
                "{aliases}{}",
                if code == NXDomain {
                    "no such name"
                } else if code == NoError {
                    "no data"
                } else {
                    "failure"
                }
            )
        }
        Answer::Elsewhere => "elsewhere".into(),
        Answer::NotReady => "not ready".into(),
    }
}

use RecordType::{A, AAAA, ANY, CNAME, NS, PTR, SOA, SRV, TXT};

#[test]
fn a_service_with_an_address_has_that_address_and_names_its_ports() {
    let (zone, _) = shop();
    assert_eq!(ask(&zone, "web.shop.svc.cluster.local", A), "A 10.96.0.7");
    assert_eq!(ask(&zone, "web.shop.svc.cluster.local", ANY), "A 10.96.0.7");
    assert_eq!(
        ask(&zone, "_http._tcp.web.shop.svc.cluster.local", SRV),
        "SRV 0 100 80 web.shop.svc.cluster.local."
    );
    assert_eq!(ask(&zone, "7.0.96.10.in-addr.arpa", PTR), "PTR web.shop.svc.cluster.local.");
}

#[test]
fn case_does_not_matter_and_is_given_back_as_asked() {
    let (zone, _) = shop();
    let name = Name::from_ascii("WEB.Shop.SVC.cluster.LOCAL.").unwrap();
    let Answer::Records { answers, .. } = zone.answer(&name, A) else { panic!("no records") };
    assert!(answers[0].name.eq_case(&name));
}

#[test]
fn no_data_where_something_exists_and_no_such_name_where_nothing_does() {
    let (zone, _) = shop();
    for exists in [
        "web.shop.svc.cluster.local",
        "_http._tcp.web.shop.svc.cluster.local",
        "_tcp.web.shop.svc.cluster.local",
        "shop.svc.cluster.local",
        "svc.cluster.local",
        "pod.cluster.local",
        "shop.pod.cluster.local",
        "cluster.local",
        "dns-version.cluster.local",
    ] {
        assert_eq!(ask(&zone, exists, AAAA), "no data", "{exists}");
    }
    for missing in [
        "nothing.shop.svc.cluster.local",
        "host.web.shop.svc.cluster.local",
        "_udp.web.shop.svc.cluster.local",
        "_http._udp.web.shop.svc.cluster.local",
        "http.tcp.web.shop.svc.cluster.local",
        "a._http._tcp.web.shop.svc.cluster.local",
        "nowhere.svc.cluster.local",
        "other.cluster.local",
        "x.nowhere.pod.cluster.local",
        "web.shop.cluster.local",
    ] {
        assert_eq!(ask(&zone, missing, A), "no such name", "{missing}");
    }
}

#[test]
fn a_headless_service_has_its_ready_endpoints() {
    let (zone, _) = shop();
    assert_eq!(ask(&zone, "db.shop.svc.cluster.local", A), "A 10.244.0.1; A 10.244.0.3");
    assert_eq!(ask(&zone, "db-0.db.shop.svc.cluster.local", A), "A 10.244.0.1");
    assert_eq!(ask(&zone, "db-1.db.shop.svc.cluster.local", A), "no such name");
    assert_eq!(ask(&zone, "10-244-0-3.db.shop.svc.cluster.local", A), "A 10.244.0.3");
    assert_eq!(
        ask(&zone, "_http._tcp.db.shop.svc.cluster.local", SRV),
        "SRV 0 100 8080 10-244-0-3.db.shop.svc.cluster.local.; SRV 0 100 8080 db-0.db.shop.svc.cluster.local."
    );
    assert_eq!(ask(&zone, "1.0.244.10.in-addr.arpa", PTR), "PTR db-0.db.shop.svc.cluster.local.");
    assert_eq!(ask(&zone, "empty.shop.svc.cluster.local", A), "no such name", "section 2.4.1");
}

#[test]
fn srv_answers_carry_the_addresses_of_their_targets() {
    let (zone, _) = shop();
    let name = Name::from_ascii("_http._tcp.db.shop.svc.cluster.local.").unwrap();
    let Answer::Records { additionals, .. } = zone.answer(&name, SRV) else { panic!("no records") };
    let found: Vec<_> = additionals.iter().map(|r| r.data.to_string()).collect();
    assert_eq!(found, ["10.244.0.3", "10.244.0.1"]);
}

#[test]
fn publish_not_ready_publishes_all() {
    let (zone, mut cluster) = shop();
    let all = Service { publish_not_ready: true, ..service("db", None) };
    let change = cluster.apply(Event::Service(all)).unwrap();
    zone.update(&cluster, &[change]);
    assert_eq!(ask(&zone, "db-1.db.shop.svc.cluster.local", A), "A 10.244.0.2");
}

#[test]
fn an_external_name_is_an_alias_followed_as_far_as_the_cluster_knows() {
    let (zone, _) = shop();
    assert_eq!(ask(&zone, "pay.shop.svc.cluster.local", A), "CNAME pay.example.com.; then pay.example.com.");
    assert_eq!(ask(&zone, "pay.shop.svc.cluster.local", CNAME), "CNAME pay.example.com.");
    assert_eq!(
        ask(&zone, "alias.shop.svc.cluster.local", A),
        "CNAME web.shop.svc.cluster.local.; A 10.96.0.7"
    );
    assert!(ask(&zone, "alias.shop.svc.cluster.local", AAAA).ends_with("; no data"));
    assert!(ask(&zone, "loop.shop.svc.cluster.local", A).ends_with("failure"));
}

#[test]
fn names_of_others_are_elsewhere_and_own_reverse_names_are_not() {
    let (zone, _) = shop();
    for name in
        ["example.com", "xcluster.local", "local", ".", "8.8.8.8.in-addr.arpa", "0.244.10.in-addr.arpa"]
    {
        assert_eq!(ask(&zone, name, A), "elsewhere", "{name}");
    }
    assert_eq!(ask(&zone, "77.0.244.10.in-addr.arpa", PTR), "no such name");
}

#[test]
fn the_apex_and_the_version_and_pods_by_address() {
    let (zone, _) = shop();
    assert!(ask(&zone, "cluster.local", SOA).starts_with("SOA kube-dns.kube-system.svc.cluster.local."));
    assert_eq!(ask(&zone, "cluster.local", NS), "NS kube-dns.kube-system.svc.cluster.local.");
    assert_eq!(ask(&zone, "dns-version.cluster.local", TXT), "TXT 1.1.0");
    assert_eq!(ask(&zone, "10-244-0-1.shop.pod.cluster.local", A), "A 10.244.0.1");
    assert_eq!(ask(&zone, "fd00--1.shop.pod.cluster.local", AAAA), "AAAA fd00::1");
    assert_eq!(ask(&zone, "10-244-0-256.shop.pod.cluster.local", A), "no such name");
}

#[test]
fn changes_are_followed_and_leave_nothing_behind() {
    let (zone, mut cluster) = shop();
    let mut feed = |event| {
        let change = cluster.apply(event).unwrap();
        zone.update(&cluster, &[change]);
    };
    feed(Event::Service(service("web", Some("10.96.0.8"))));
    feed(Event::EndpointSliceGone(NamespacedName::new("shop", "db-1")));
    assert_eq!(ask(&zone, "web.shop.svc.cluster.local", A), "A 10.96.0.8");
    assert_eq!(ask(&zone, "7.0.96.10.in-addr.arpa", PTR), "no such name");
    assert_eq!(ask(&zone, "8.0.96.10.in-addr.arpa", PTR), "PTR web.shop.svc.cluster.local.");
    assert_eq!(ask(&zone, "db.shop.svc.cluster.local", A), "no such name");
    let gone: Vec<Event> = ["web", "db", "empty", "pay", "alias", "loop"]
        .map(|name| Event::ServiceGone(NamespacedName::new("shop", name)))
        .into();
    gone.into_iter().for_each(&mut feed);
    feed(Event::NamespaceGone("shop".into()));
    assert_eq!(ask(&zone, "shop.svc.cluster.local", A), "no such name");
    assert!(zone.read().reverse.is_empty() && zone.read().services.is_empty());
}

#[test]
fn before_the_first_sync_nothing_is_said_not_to_exist() {
    let zone = Zone::new(Config::default()).unwrap();
    assert_eq!(ask(&zone, "web.shop.svc.cluster.local", A), "not ready");
    assert_eq!(ask(&zone, "example.com", A), "elsewhere");
    zone.update(&Cluster::default(), &[Change::Service(NamespacedName::new("shop", "web"))]);
    zone.set_synced();
    assert_eq!(ask(&zone, "web.shop.svc.cluster.local", A), "no such name");
}

#[test]
fn another_domain_and_one_that_is_none() {
    let zone = Zone::new(Config { domain: "Example.Internal.".into(), networks: vec![] }).unwrap();
    zone.replace(&Cluster::from_events([Event::Service(service("web", Some("10.96.0.7")))]));
    assert_eq!(ask(&zone, "web.shop.svc.example.internal", A), "A 10.96.0.7");
    for domain in ["", ".", "a..b"] {
        assert!(Zone::new(Config { domain: domain.into(), networks: vec![] }).is_err(), "{domain:?}");
    }
}
