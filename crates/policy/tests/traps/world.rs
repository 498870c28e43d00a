//! A small cluster that tests change and ask. Each answer is read off both evaluators, which must
//! agree, whatever has happened so far.

use std::net::IpAddr;

use ipnet::IpNet;
use kilter_model::{
    Action, Change, Cluster, ClusterNetworkPolicy, ClusterRule, ClusterTier, ContainerPort, Event, IpBlock,
    Labels, Namespace, NamespacedName, NetworkPolicy, Node, Operator, Origin, Peer, Pod, PodPhase,
    PolicyPort, PolicyRule, PortSpec, Protocol, Requirement, Selector, Subject, WorkloadRef,
};
use kilter_policy::naive::{Answer, Party, Query, evaluate_within};
use kilter_policy::{Compiler, Config, ProtocolClass, Reason, Verdict};

/// Two nodes, n1 (10.240.0.11) and n2 (10.240.0.12), each with a compiler that follows.
pub struct World {
    cluster: Cluster,
    compilers: [Compiler; 2],
}

impl World {
    pub fn new() -> Self {
        let compilers =
            ["n1", "n2"].map(|node| Compiler::new(Config { node: node.into(), pod_cidrs: pod_cidrs() }));
        let mut world = Self { cluster: Cluster::default(), compilers };
        for (name, address) in [("n1", "10.240.0.11"), ("n2", "10.240.0.12")] {
            world.node(name, &[], address);
        }
        world
    }

    pub fn namespace(&mut self, name: &str, labels: &[(&str, &str)]) {
        self.apply(Event::Namespace(Namespace {
            name: name.into(),
            labels: pairs(labels),
            origin: Origin::Builtin,
        }));
    }

    /// A running pod whose UID is its name.
    pub fn pod(&mut self, namespace: &str, name: &str, labels: &[(&str, &str)], node: &str, address: &str) {
        let full = NamespacedName::new(namespace, name);
        self.apply(Event::Pod(Pod {
            uid: name.into(),
            owner: WorkloadRef { kind: "Pod".into(), name: full.clone() },
            name: full,
            labels: pairs(labels),
            node: Some(node.into()),
            addresses: vec![address.parse().unwrap()],
            host_network: false,
            ports: vec![],
            phase: PodPhase::Running,
            ready: true,
            terminating: false,
            origin: Origin::Builtin,
        }));
    }

    pub fn policy(&mut self, policy: NetworkPolicy) {
        self.apply(Event::NetworkPolicy(policy));
    }

    pub fn cluster_policy(&mut self, policy: ClusterNetworkPolicy) {
        self.apply(Event::ClusterNetworkPolicy(policy));
    }

    pub fn node(&mut self, name: &str, labels: &[(&str, &str)], address: &str) {
        self.apply(Event::Node(Node {
            name: name.into(),
            labels: pairs(labels),
            addresses: vec![address.parse().unwrap()],
            pod_cidrs: vec![],
            ready: true,
            origin: Origin::Builtin,
        }));
    }

    pub fn ports(&mut self, pod: &str, ports: &[(&str, Protocol, u16)]) {
        let ports = ports.iter().map(|(name, protocol, port)| ContainerPort {
            name: Some((*name).into()),
            port: *port,
            protocol: *protocol,
            host: None,
        });
        let ports = ports.collect();
        self.change(pod, |pod| pod.ports = ports);
    }

    pub fn host_network(&mut self, pod: &str) {
        self.change(pod, |pod| pod.host_network = true);
    }

    pub fn terminating(&mut self, pod: &str) {
        self.change(pod, |pod| pod.terminating = true);
    }

    pub fn phase(&mut self, pod: &str, phase: PodPhase) {
        self.change(pod, |pod| {
            pod.phase = phase;
            pod.terminating = false;
        });
    }

    /// Asks the naive evaluator.
    pub fn answer(&self, from: Party, to: Party, protocol: ProtocolClass, port: u16) -> Answer {
        evaluate_within(&self.cluster, &pod_cidrs(), &Query { from, to, protocol, port })
    }

    /// Asks both evaluators; ends are pods by name, or addresses.
    pub fn ask(&self, from: &str, to: &str, protocol: ProtocolClass, port: u16) -> Verdict {
        let answer = self.answer(party(from), party(to), protocol, port);
        let (source, destination) = (self.address(from), self.address(to));
        for compiler in &self.compilers {
            let tables = compiler.tables();
            let sides = [
                (source, destination, kilter_model::Direction::Egress, &answer.egress),
                (destination, source, kilter_model::Direction::Ingress, &answer.ingress),
            ];
            for (pod, peer, direction, side) in sides {
                let Some(posture) = tables.postures.get(&pod) else { continue };
                if matches!(side.reason, Reason::Itself | Reason::OwnNode) {
                    continue;
                }
                let mut classes: Vec<_> =
                    tables.classes.iter().filter(|(it, _)| it.contains(&peer)).collect();
                classes.sort_by_key(|(prefix, _)| prefix.prefix_len());
                let class = *classes.last().unwrap().1;
                let (_, set) = tables
                    .intervals
                    .iter()
                    .find(|(it, _)| {
                        it.posture == *posture
                            && it.direction == direction
                            && it.protocol == protocol
                            && it.ports.contains(port)
                    })
                    .unwrap();
                let compiled = tables.sets[set].decide(class);
                assert_eq!(
                    compiled.verdict, side.verdict,
                    "{from} -> {to} {protocol} {port}: {}",
                    side.reason
                );
                assert!(tables.rules.contains_key(&compiled.rule));
            }
        }
        answer.verdict()
    }

    pub fn tcp(&self, from: &str, to: &str, port: u16) -> Verdict {
        self.ask(from, to, ProtocolClass::Tcp, port)
    }

    fn address(&self, end: &str) -> IpAddr {
        end.parse().unwrap_or_else(|_| self.cluster.pod(end).unwrap().addresses[0])
    }

    fn change(&mut self, pod: &str, change: impl FnOnce(&mut Pod)) {
        let mut pod = self.cluster.pod(pod).unwrap().clone();
        change(&mut pod);
        self.apply(Event::Pod(pod));
    }

    fn apply(&mut self, event: Event) {
        let changes: Vec<Change> = self.cluster.apply(event).into_iter().collect();
        for compiler in &mut self.compilers {
            compiler.update(&self.cluster, &changes);
        }
    }
}

fn pod_cidrs() -> Vec<IpNet> {
    vec!["10.244.0.0/16".parse().unwrap()]
}

fn party(end: &str) -> Party {
    end.parse().map_or_else(|_| Party::Pod(end.into()), Party::Address)
}

fn pairs(labels: &[(&str, &str)]) -> Labels {
    labels.iter().map(|(key, value)| ((*key).into(), (*value).into())).collect()
}

pub fn policy(
    namespace: &str,
    name: &str,
    pod_selector: Selector,
    ingress: Option<Vec<PolicyRule>>,
    egress: Option<Vec<PolicyRule>>,
) -> NetworkPolicy {
    NetworkPolicy {
        name: NamespacedName::new(namespace, name),
        pod_selector,
        ingress,
        egress,
        origin: Origin::Builtin,
    }
}

pub fn rule(peers: Option<Vec<Peer>>, ports: Option<Vec<PolicyPort>>) -> PolicyRule {
    PolicyRule { peers, ports, origin: Origin::Builtin }
}

/// A policy that is about every pod.
pub fn cluster_policy(
    name: &str,
    tier: ClusterTier,
    priority: u16,
    ingress: Vec<ClusterRule>,
    egress: Vec<ClusterRule>,
) -> ClusterNetworkPolicy {
    let subject = Subject { namespaces: any(), pods: any() };
    ClusterNetworkPolicy {
        name: name.into(),
        tier,
        priority,
        subject,
        ingress,
        egress,
        origin: Origin::Builtin,
    }
}

pub fn cluster_rule(action: Action, peers: Vec<Peer>) -> ClusterRule {
    ClusterRule { name: None, action, matches: rule(Some(peers), None), caveat: None }
}

pub fn nodes(labels: &[(&str, &str)]) -> Peer {
    Peer::Nodes(selector(labels))
}

pub fn pods_of(namespaces: Option<Selector>, pods: Selector) -> Peer {
    Peer::Pods { namespaces, pods }
}

pub fn block(cidr: &str, except: &[&str]) -> Peer {
    let except = except.iter().map(|it| it.parse().unwrap()).collect();
    Peer::IpBlock(IpBlock { cidr: cidr.parse().unwrap(), except })
}

pub fn any() -> Selector {
    Selector::default()
}

pub fn selector(labels: &[(&str, &str)]) -> Selector {
    Selector::from_labels(labels.iter().copied())
}

pub fn requirement(key: &str, operator: Operator) -> Selector {
    Selector::new([Requirement { key: key.into(), operator }])
}

pub fn ports(ports: Vec<PolicyPort>) -> Option<Vec<PolicyPort>> {
    Some(ports)
}

pub fn port(protocol: Protocol, port: PortSpec) -> PolicyPort {
    PolicyPort { protocol, port }
}

pub fn named(protocol: Protocol, name: &str) -> PolicyPort {
    port(protocol, PortSpec::Named(name.into()))
}
