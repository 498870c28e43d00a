//! What to try, and what the model says will happen.

use std::collections::{BTreeMap, BTreeSet};
use std::net::{IpAddr, SocketAddr};
use std::sync::Arc;

use kilter_model::{
    Cluster, Family, Hints, Locality, NamespacedName, Node, Pod, Protocol, Routing, Service, ServicePort, Uid,
};
use kilter_policy::Verdict;
use kilter_policy::naive::{Answer, Party, Query, evaluate};
use kilter_twin::internet;
use serde::Serialize;

/// One connection to try.
#[derive(Debug, Clone, Serialize)]
#[serde(rename_all = "camelCase")]
pub struct Trial {
    /// UID of the pod that connects, or the twin's internet.
    pub from: Uid,
    /// Its name, for people.
    pub from_name: NamespacedName,
    /// Its node, which is asked to connect; the internet connects by itself.
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
    /// A Service, at its port of a node.
    #[serde(rename_all = "camelCase")]
    NodePort {
        /// The Service.
        service: NamespacedName,
        /// The node whose address is asked.
        node: Arc<str>,
    },
    /// A Service, at an address of its load balancer; from outside by the node that answers for it.
    LoadBalancer(NamespacedName),
    /// A pod, at its port of its node.
    #[serde(rename_all = "camelCase")]
    HostPort {
        /// The pod.
        pod: NamespacedName,
        /// Its node.
        node: Arc<str>,
    },
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
    /// The address that the pod sees instead of the client's: the node's on the way.
    pub seen_as: Option<IpAddr>,
}

impl Trial {
    /// Whether some outcome of this trial is an answer.
    pub fn may_be_answered(&self) -> bool {
        self.expected.iter().any(|e| e.answer.verdict() == Verdict::Allow)
    }
}

/// Every pair of running pods on every port that either the pod or a Service declares, every pod to every
/// Service, and the internet to every node port, load balancer and `hostPort`.
pub fn plan(cluster: &Cluster, routing: Routing) -> Vec<Trial> {
    plan_sample(cluster, routing, None)
}

/// The same of so many pods alone, to each other and to as many Services: evenly spread over the lists,
/// so that an unchanged cluster gives the same sample.
pub fn plan_sample(cluster: &Cluster, routing: Routing, sample: Option<usize>) -> Vec<Trial> {
    let pods = spread(cluster.pods().filter(|p| takes_part(p)).collect(), sample);
    let services: Vec<&Service> = spread(cluster.services().collect(), sample);
    let ports = listening_ports(cluster);
    let mut trials = Vec::new();
    for from in &pods {
        for to in &pods {
            trials.extend(host_port_trials(cluster, from, to));
            for (protocol, port) in ports.get(&to.uid).into_iter().flatten() {
                let reachable = to.addresses.iter().filter(|address| has_family_of(from, address));
                let at = reachable.map(|address| SocketAddr::new(*address, *port));
                trials.extend(at.map(|at| pod_trial(cluster, from, to, *protocol, at)));
            }
        }
        for service in &services {
            for address in service.cluster_ips.iter().filter(|address| has_family_of(from, address)) {
                trials.extend(service_trials(cluster, from, service, *address));
            }
            trials.extend(node_port_trials(cluster, from, service));
            trials.extend(load_balancer_trials(cluster, from, service));
        }
        trials.extend(internet_trials(cluster, from));
    }
    trials.extend(outside_trials(cluster, routing));
    trials.extend(pods.iter().flat_map(|to| outside_host_port_trials(cluster, to)));
    trials
}

/// So many, evenly spread.
fn spread<T>(all: Vec<T>, count: Option<usize>) -> Vec<T> {
    let length = all.len();
    let count = count.map_or(length, |count| count.min(length));
    let share = |index: usize| index * count / length;
    let chosen = all.into_iter().enumerate().filter(|(index, _)| share(*index) != share(index + 1));
    chosen.map(|(_, it)| it).collect()
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
            expected: vec![Expected { pod, at, answer, says_who: true, seen_as: None }],
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
    let target = || Target::Service(service.name.clone());
    let at = |port: &ServicePort| SocketAddr::new(ip, port.port);
    let trials = service.ports.iter().map(|port| {
        let backends = backends(cluster, service, port, ip.is_ipv4());
        let chosen = near(cluster, backends, service.locality, from.node.as_deref());
        inside_trial(cluster, from, port.protocol, at(port), chosen, target())
    });
    trials.flatten().collect()
}

/// Node ports, asked by a pod at the addresses of its own node and of one other. Another node's choice under
/// `externalTrafficPolicy: Local` is tried from outside.
fn node_port_trials(cluster: &Cluster, from: &Pod, service: &Service) -> Vec<Trial> {
    let is_own = |node: &&Node| from.node.as_ref() == Some(&node.name);
    let other = cluster.nodes().find(|node| !is_own(node)).filter(|_| !service.exposure.only_local);
    let nodes: Vec<&Node> = cluster.nodes().find(is_own).into_iter().chain(other).collect();
    let mut trials = Vec::new();
    for (port, number) in service.ports.iter().filter_map(|port| Some((port, port.node_port?))) {
        for (node, address) in nodes.iter().flat_map(|node| node.addresses.iter().map(move |it| (node, *it))) {
            if has_family_of(from, &address) && has_cluster_ip_of(service, address) {
                let all = backends(cluster, service, port, address.is_ipv4());
                let backends = near(cluster, all, Locality::Anywhere, from.node.as_deref());
                let target = Target::NodePort { service: service.name.clone(), node: node.name.clone() };
                let at = SocketAddr::new(address, number);
                trials.extend(inside_trial(cluster, from, port.protocol, at, backends, target));
            }
        }
    }
    trials
}

/// Addresses of load balancers, asked by a pod: its own node leads it to an endpoint, wherever the address is.
fn load_balancer_trials(cluster: &Cluster, from: &Pod, service: &Service) -> Vec<Trial> {
    let mut trials = Vec::new();
    for address in service.exposure.load_balancer.iter().filter(|address| has_family_of(from, address)) {
        let own = from.addresses.iter().find(|own| own.is_ipv4() == address.is_ipv4());
        let admitted = own.is_some_and(|own| admits(service, *own));
        for port in &service.ports {
            let all = backends(cluster, service, port, address.is_ipv4());
            // A socket whose address is in none of the ranges is refused as if nobody served.
            let all = if admitted { all } else { BTreeSet::new() };
            let backends = near(cluster, all, Locality::Anywhere, from.node.as_deref());
            let (at, target) = (SocketAddr::new(*address, port.port), Target::LoadBalancer(service.name.clone()));
            trials.extend(inside_trial(cluster, from, port.protocol, at, backends, target));
        }
    }
    trials
}

/// Whether a load balancer serves a client (`loadBalancerSourceRanges`).
fn admits(service: &Service, client: IpAddr) -> bool {
    let ranges = &service.exposure.source_ranges;
    ranges.is_empty() || ranges.iter().any(|range| range.contains(&client))
}

fn has_cluster_ip_of(service: &Service, address: IpAddr) -> bool {
    service.cluster_ips.iter().any(|ip| ip.is_ipv4() == address.is_ipv4())
}

/// A pod's connection that its own socket has translated, so that its address is what backends see.
fn inside_trial(
    cluster: &Cluster,
    from: &Pod,
    protocol: Protocol,
    to: SocketAddr,
    backends: BTreeSet<Backend>,
    target: Target,
) -> Option<Trial> {
    if !can_all_be_tried(cluster, protocol, &backends) {
        return None;
    }
    let expected = backends.into_iter().filter_map(|it| Some(expect(cluster, from, &it.pod?, it.at, protocol)));
    Some(Trial {
        from: from.uid.clone(),
        from_name: from.name.clone(),
        node: from.node.as_deref().unwrap_or_default().to_owned(),
        target,
        to,
        protocol,
        expected: expected.collect(),
    })
}

/// Endpoints that are not pods of this cluster (the API's own) are not stand-ins; those of a node's own
/// network have no address of their own.
fn can_all_be_tried(cluster: &Cluster, protocol: Protocol, backends: &BTreeSet<Backend>) -> bool {
    let pod = |it: &Backend| it.pod.as_ref().and_then(|pod| cluster.pod(pod)).filter(|pod| !pod.host_network);
    backends.iter().all(|it| pod(it).is_some())
        && can_be_tried(protocol, backends.iter().filter_map(pod).any(is_dns))
}

/// Node ports and addresses of load balancers, asked by the twin's internet.
fn outside_trials(cluster: &Cluster, routing: Routing) -> Vec<Trial> {
    let mut trials = Vec::new();
    for service in cluster.services() {
        let balanced = Balanced { service, dsr: service.is_dsr(routing) };
        for (port, number) in service.ports.iter().filter_map(|port| Some((port, port.node_port?))) {
            for node in cluster.nodes() {
                for address in node.addresses.iter().filter(|address| has_cluster_ip_of(service, **address)) {
                    let to = SocketAddr::new(*address, number);
                    let target = Target::NodePort { service: service.name.clone(), node: node.name.clone() };
                    trials.extend(outside_trial(cluster, &balanced, port, node, to, target));
                }
            }
        }
        let answered = service.exposure.load_balancer.iter().filter_map(|address| {
            let owner = kilter_services::owner(cluster, service, *address)?;
            Some((*address, cluster.node(&owner)?))
        });
        // What is dropped without an answer has no model to compare with.
        let family = |address: &IpAddr| if address.is_ipv4() { Family::V4 } else { Family::V6 };
        let admitted = |address: &IpAddr| admits(service, internet::server(family(address)));
        for (address, node) in answered.filter(|(address, _)| admitted(address)) {
            for port in &service.ports {
                let (to, target) = (SocketAddr::new(address, port.port), Target::LoadBalancer(service.name.clone()));
                trials.extend(outside_trial(cluster, &balanced, port, node, to, target));
            }
        }
    }
    trials
}

/// A Service, as clients outside have it.
struct Balanced<'a> {
    service: &'a Service,
    /// Whether packets are sent on to other nodes as they came.
    dsr: bool,
}

/// What arrives at `node`: a pod there sees the client, one elsewhere that node, unless packets are sent on as they
/// came; all nodes choose alike then, whatever is recommended to them.
fn outside_trial(
    cluster: &Cluster,
    Balanced { service, dsr }: &Balanced<'_>,
    port: &ServicePort,
    node: &Node,
    to: SocketAddr,
    target: Target,
) -> Option<Trial> {
    let family = if to.is_ipv4() { Family::V4 } else { Family::V6 };
    let via = node.addresses.iter().copied().find(|address| address.is_ipv4() == to.is_ipv4())?;
    let all = backends(cluster, service, port, to.is_ipv4());
    let locality = if service.exposure.only_local { Locality::OnlyNode } else { Locality::Anywhere };
    let chosen = if *dsr { all.clone() } else { near(cluster, all.clone(), locality, Some(&node.name)) };
    // Without an endpoint here, but with some elsewhere, silence is right; it has no model to compare with.
    if (chosen.is_empty() && !all.is_empty()) || !can_all_be_tried(cluster, port.protocol, &chosen) {
        return None;
    }
    let expected = chosen.into_iter().filter_map(|it| {
        let seen_as = (it.node.as_ref() != Some(&node.name) && !dsr).then_some(via);
        let from = Party::Address(seen_as.unwrap_or_else(|| internet::server(family)));
        Some(Expected { seen_as, ..expect_from(cluster, from, &it.pod?, it.at, port.protocol) })
    });
    Some(Trial {
        from: internet::NAME.into(),
        from_name: NamespacedName::new("", internet::NAME),
        node: internet::NAME.to_owned(),
        target,
        to,
        protocol: port.protocol,
        expected: expected.collect(),
    })
}

/// The ways to a pod by ports of its node: where to ask, by what, and where that leads.
fn host_ports<'a>(cluster: &'a Cluster, to: &'a Pod) -> impl Iterator<Item = (SocketAddr, Protocol, SocketAddr)> + 'a {
    let node = to.node.as_deref().and_then(|node| cluster.node(node));
    let addresses = node.into_iter().flat_map(|node| node.addresses.iter().copied());
    let dns = is_dns(to);
    addresses.flat_map(move |address| {
        let own = to.addresses.iter().find(move |own| own.is_ipv4() == address.is_ipv4());
        own.into_iter().flat_map(move |own| {
            let ports = to.ports.iter().filter(move |port| can_be_tried(port.protocol, dns));
            ports.filter_map(move |port| {
                let host = port.host.filter(|host| host.address.is_none_or(|only| only == address))?;
                Some((SocketAddr::new(address, host.port), port.protocol, SocketAddr::new(*own, port.port)))
            })
        })
    })
}

fn host_port(to: &Pod) -> Target {
    Target::HostPort { pod: to.name.clone(), node: to.node.clone().unwrap_or_default() }
}

/// A `hostPort`, asked by a pod. A socket of the pod's node is translated; packets from other nodes are there,
/// after the client's side has judged them by the node's address: where that may refuse what the pod's own
/// address would allow, or the other way, there is no one answer to compare with.
fn host_port_trials(cluster: &Cluster, from: &Pod, to: &Pod) -> Vec<Trial> {
    let near = from.node == to.node;
    let ways = host_ports(cluster, to).filter(|(at, ..)| has_family_of(from, &at.ip()));
    let trials = ways.filter_map(|(at, protocol, leads)| {
        let expected = expect(cluster, from, &to.uid, leads, protocol);
        let leaves = Query {
            from: party(cluster, &from.uid, at.is_ipv4()),
            to: Party::Address(at.ip()),
            protocol: protocol.into(),
            port: at.port(),
        };
        let allowed = |answer: &Answer| answer.verdict() == Verdict::Allow;
        (near || (allowed(&expected.answer) && allowed(&evaluate(cluster, &leaves)))).then(|| Trial {
            from: from.uid.clone(),
            from_name: from.name.clone(),
            node: from.node.as_deref().unwrap_or_default().to_owned(),
            target: host_port(to),
            to: at,
            protocol,
            expected: vec![expected],
        })
    });
    trials.collect()
}

/// The same, asked by the twin's internet.
fn outside_host_port_trials<'a>(cluster: &'a Cluster, to: &'a Pod) -> impl Iterator<Item = Trial> + 'a {
    host_ports(cluster, to).map(move |(at, protocol, leads)| {
        let family = if at.is_ipv4() { Family::V4 } else { Family::V6 };
        let client = Party::Address(internet::server(family));
        Trial {
            from: internet::NAME.into(),
            from_name: NamespacedName::new("", internet::NAME),
            node: internet::NAME.to_owned(),
            target: host_port(to),
            to: at,
            protocol,
            expected: vec![expect_from(cluster, client, &to.uid, leads, protocol)],
        }
    })
}

/// An endpoint of a Service's port.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord)]
struct Backend {
    pod: Option<Uid>,
    at: SocketAddr,
    node: Option<Arc<str>>,
    hints: Hints,
}

/// The ready endpoints behind a Service's port, of one family.
fn backends(cluster: &Cluster, service: &Service, port: &ServicePort, ipv4: bool) -> BTreeSet<Backend> {
    let mut all = BTreeSet::new();
    for slice in cluster.slices_of(&service.name) {
        for at in slice.ports.iter().filter(|p| p.name == port.name && p.protocol == port.protocol) {
            let ready = slice.endpoints.iter().filter(|e| e.ready && e.address.is_ipv4() == ipv4);
            all.extend(ready.map(|it| Backend {
                pod: it.pod.clone(),
                at: SocketAddr::new(it.address, at.port),
                node: it.node.clone(),
                hints: it.hints.clone(),
            }));
        }
    }
    all
}

/// Those to which clients of a node are sent.
fn near(cluster: &Cluster, all: BTreeSet<Backend>, locality: Locality, node: Option<&str>) -> BTreeSet<Backend> {
    match locality {
        Locality::OnlyNode => all.into_iter().filter(|it| it.node.as_deref() == node).collect(),
        Locality::Anywhere => {
            let zone = node.and_then(|node| cluster.node(node)?.zone());
            let by_node = recommended(&all, |it| &it.hints.nodes, node);
            let by_zone = || recommended(&all, |it| &it.hints.zones, zone.map(|zone| &**zone));
            by_node.or_else(by_zone).unwrap_or(all)
        }
    }
}

/// Those that are recommended to one node or zone, where each is recommended to some.
fn recommended(
    all: &BTreeSet<Backend>,
    to: impl Fn(&Backend) -> &Vec<Arc<str>>,
    name: Option<&str>,
) -> Option<BTreeSet<Backend>> {
    let name = name?;
    let all_say = all.iter().all(|it| !to(it).is_empty());
    let ours: BTreeSet<Backend> = all.iter().filter(|it| to(it).iter().any(|it| **it == *name)).cloned().collect();
    (all_say && !ours.is_empty()).then_some(ours)
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
    expect_from(cluster, party(cluster, &from.uid, at.is_ipv4()), to, at, protocol)
}

fn expect_from(cluster: &Cluster, from: Party, to: &Uid, at: SocketAddr, protocol: Protocol) -> Expected {
    let to_party = party(cluster, to, at.is_ipv4());
    let query = Query { from, to: to_party, protocol: protocol.into(), port: at.port() };
    let says_who = !cluster.pod(to).is_some_and(is_dns);
    Expected { pod: to.clone(), at, answer: evaluate(cluster, &query), says_who, seen_as: None }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_sample_is_spread_evenly_and_never_larger_than_what_there_is() {
        let all = || (0..10).collect::<Vec<_>>();
        assert_eq!(spread(all(), None), all());
        assert_eq!(spread(all(), Some(5)), [1, 3, 5, 7, 9]);
        assert_eq!(spread(all(), Some(3)).len(), 3);
        assert_eq!(spread(all(), Some(99)), all());
        assert_eq!(spread(all(), Some(0)).len(), 0);
        assert_eq!(spread(Vec::<u8>::new(), Some(3)).len(), 0);
    }
}
