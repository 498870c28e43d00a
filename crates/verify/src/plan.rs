//! What to try, and what the model says will happen.

use std::collections::{BTreeMap, BTreeSet};
use std::net::{IpAddr, SocketAddr};

use kilter_model::{Cluster, Family, Locality, NamespacedName, Pod, Protocol, Service, ServicePort, Uid};
use kilter_policy::Verdict;
use kilter_policy::naive::{Answer, Party, Query, evaluate};
use kilter_twin::internet;
use serde::Serialize;

/// One connection to try.
#[derive(Debug, Clone, Serialize)]
#[serde(rename_all = "camelCase")]
pub struct Trial {
    /// UID of the pod that connects.
    pub from: Uid,
    /// Its name, for people.
    pub from_name: NamespacedName,
    /// Its node, which is asked to connect.
    pub node: String,
    /// Whom it connects to.
    pub target: Target,
    /// The address it connects to.
    pub to: SocketAddr,
    /// By which protocol.
    pub protocol: Protocol,
    /// What the model says: one entry for each pod that may be at the other end.
    pub expected: Vec<Expected>,
}

/// Whom a trial connects to.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
#[serde(rename_all = "camelCase")]
pub enum Target {
    /// A pod, at its own address.
    Pod(NamespacedName),
    /// A Service, at its cluster IP.
    Service(NamespacedName),
    /// The server of the twin's internet.
    Internet,
}

/// What the model says about one pod that may be at the other end.
#[derive(Debug, Clone, Serialize)]
#[serde(rename_all = "camelCase")]
pub struct Expected {
    /// UID of the pod.
    pub pod: Uid,
    /// The pod's address and port, after Service translation.
    pub at: SocketAddr,
    /// The verdict with its reasons.
    pub answer: Answer,
    /// Whether the pod says who it is. DNS pods speak DNS only: they answer, and that is all that
    /// can be told of them.
    pub says_who: bool,
}

impl Trial {
    /// Whether some outcome of this trial is an answer.
    pub fn may_be_answered(&self) -> bool {
        self.expected.iter().any(|e| e.answer.verdict() == Verdict::Allow)
    }
}

/// Every pair of running pods on every port that either the pod or a Service declares, and every
/// pod to every Service.
pub fn plan(cluster: &Cluster) -> Vec<Trial> {
    let pods: Vec<&Pod> = cluster.pods().filter(|p| takes_part(p)).collect();
    let ports = listening_ports(cluster);
    let mut trials = Vec::new();
    for from in &pods {
        for to in &pods {
            for (protocol, port) in ports.get(&to.uid).into_iter().flatten() {
                let reachable = to.addresses.iter().filter(|address| has_family_of(from, address));
                let at = reachable.map(|address| SocketAddr::new(*address, *port));
                trials.extend(at.map(|at| pod_trial(cluster, from, to, *protocol, at)));
            }
        }
        for service in cluster.services() {
            for address in service.cluster_ips.iter().filter(|address| has_family_of(from, address)) {
                trials.extend(service_trials(cluster, from, service, *address));
            }
        }
        trials.extend(internet_trials(cluster, from));
    }
    trials
}

/// Whether a pod can speak to an address at all: one family cannot be reached from the other.
fn has_family_of(pod: &Pod, address: &IpAddr) -> bool {
    pod.addresses.iter().any(|own| own.is_ipv4() == address.is_ipv4())
}

/// The way out: the server of the twin's internet, in each family that the pod has.
fn internet_trials<'a>(cluster: &'a Cluster, from: &'a Pod) -> impl Iterator<Item = Trial> + 'a {
    let families = Family::ALL.into_iter().map(internet::server);
    families.filter(move |server| has_family_of(from, server)).map(move |server| {
        let (at, pod) = (SocketAddr::new(server, internet::HTTP), Uid::from(internet::NAME));
        let answer = evaluate(
            cluster,
            &Query {
                from: party(cluster, &from.uid, server.is_ipv4()),
                to: Party::Address(server),
                protocol: Protocol::Tcp.into(),
                port: at.port(),
            },
        );
        Trial {
            from: from.uid.clone(),
            from_name: from.name.clone(),
            node: from.node.as_deref().unwrap_or_default().to_owned(),
            target: Target::Internet,
            to: at,
            protocol: Protocol::Tcp,
            expected: vec![Expected { pod, at, answer, says_who: true }],
        }
    })
}

/// Pods with an address of their own that run and are ready. One that is on its way in or out
/// answers or not as it likes.
fn takes_part(pod: &Pod) -> bool {
    !pod.host_network && pod.ready && !pod.terminating && pod.node.is_some() && !pod.addresses.is_empty()
}

/// Ports at which each pod's stand-in listens: those it declares, and those that Services send to.
fn listening_ports(cluster: &Cluster) -> BTreeMap<Uid, BTreeSet<(Protocol, u16)>> {
    let mut ports: BTreeMap<Uid, BTreeSet<_>> = BTreeMap::new();
    for pod in cluster.pods() {
        ports.entry(pod.uid.clone()).or_default().extend(pod.ports.iter().map(|p| (p.protocol, p.port)));
    }
    for slice in cluster.slices() {
        for pod in slice.endpoints.iter().filter_map(|e| e.pod.clone()) {
            ports.entry(pod).or_default().extend(slice.ports.iter().map(|p| (p.protocol, p.port)));
        }
    }
    for (pod, set) in &mut ports {
        let dns = cluster.pod(pod).is_some_and(is_dns);
        set.retain(|(protocol, _)| can_be_tried(*protocol, dns));
    }
    ports
}

/// SCTP has no sockets in the kernels that twins run on (the model's answer for it is tested packet
/// by packet elsewhere), and a DNS server answers nothing but DNS over TCP.
fn can_be_tried(protocol: Protocol, dns: bool) -> bool {
    match protocol {
        Protocol::Udp => true,
        Protocol::Tcp => !dns,
        Protocol::Sctp => false,
    }
}

fn is_dns(pod: &Pod) -> bool {
    pod.owner == kilter_twin::dns_workload()
}

fn pod_trial(cluster: &Cluster, from: &Pod, to: &Pod, protocol: Protocol, at: SocketAddr) -> Trial {
    Trial {
        from: from.uid.clone(),
        from_name: from.name.clone(),
        node: from.node.as_deref().unwrap_or_default().to_owned(),
        target: Target::Pod(to.name.clone()),
        to: at,
        protocol,
        expected: vec![expect(cluster, from, &to.uid, at, protocol)],
    }
}

fn service_trials(cluster: &Cluster, from: &Pod, service: &Service, ip: IpAddr) -> Vec<Trial> {
    service.ports.iter().filter_map(|port| {
        let backends = backends(cluster, service, port, from.node.as_deref(), ip);
        // Endpoints that are not pods of this cluster (the API's own) are not stand-ins.
        if backends.iter().any(|(pod, _)| pod.is_none()) {
            return None;
        }
        let dns = backends.iter().any(|(pod, _)| pod.as_ref().and_then(|p| cluster.pod(p)).is_some_and(is_dns));
        if !can_be_tried(port.protocol, dns) {
            return None;
        }
        let expected = backends
            .into_iter()
            .filter_map(|(pod, at)| Some(expect(cluster, from, &pod?, at, port.protocol)))
            .collect();
        Some(Trial {
            from: from.uid.clone(),
            from_name: from.name.clone(),
            node: from.node.as_deref().unwrap_or_default().to_owned(),
            target: Target::Service(service.name.clone()),
            to: SocketAddr::new(ip, port.port),
            protocol: port.protocol,
            expected,
        })
    })
    .collect()
}

/// The ready endpoints behind a Service's port at one of its addresses, for clients of a node.
fn backends(
    cluster: &Cluster,
    service: &Service,
    port: &ServicePort,
    node: Option<&str>,
    ip: IpAddr,
) -> BTreeSet<(Option<Uid>, SocketAddr)> {
    let (mut all, mut own) = (BTreeSet::new(), BTreeSet::new());
    for slice in cluster.slices_of(&service.name) {
        for at in slice.ports.iter().filter(|p| p.name == port.name && p.protocol == port.protocol) {
            for endpoint in slice.endpoints.iter().filter(|e| e.ready && e.address.is_ipv4() == ip.is_ipv4()) {
                let backend = (endpoint.pod.clone(), SocketAddr::new(endpoint.address, at.port));
                if endpoint.node.as_deref() == node {
                    own.insert(backend.clone());
                }
                all.insert(backend);
            }
        }
    }
    match service.locality {
        Locality::OnlyNode => own,
        Locality::PreferNode if !own.is_empty() => own,
        _ => all,
    }
}

/// A pod as the end of a connection of one family: where it has an address of each, address blocks tell
/// the two apart. (Otherwise by name, which costs no search.)
fn party(cluster: &Cluster, pod: &Uid, ipv4: bool) -> Party {
    let addresses = cluster.pod(pod).map_or(&[][..], |pod| &pod.addresses);
    let of_family = addresses.iter().find(|address| address.is_ipv4() == ipv4);
    match (addresses.len(), of_family) {
        (2.., Some(address)) => Party::Address(*address),
        _ => Party::Pod(pod.clone()),
    }
}

fn expect(cluster: &Cluster, from: &Pod, to: &Uid, at: SocketAddr, protocol: Protocol) -> Expected {
    let query = Query {
        from: party(cluster, &from.uid, at.is_ipv4()),
        to: party(cluster, to, at.is_ipv4()),
        protocol: protocol.into(),
        port: at.port(),
    };
    let says_who = !cluster.pod(to).is_some_and(is_dns);
    Expected { pod: to.clone(), at, answer: evaluate(cluster, &query), says_who }
}

