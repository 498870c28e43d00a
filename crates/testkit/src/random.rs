//! Small random clusters in which everything that policy can tell apart occurs, and collides.
//!
//! Shared by all tests that ask random questions, so that their seeds mean the same everywhere.

mod cluster_policy;

use std::net::IpAddr;

use ipnet::IpNet;
use kilter_model::{
    ContainerPort, Event, IpBlock, Labels, Namespace, NamespacedName, NetworkPolicy, Operator, Origin, Peer,
    Pod, PodPhase, PolicyPort, PolicyRule, PortRange, PortSpec, Protocol, Requirement, Selector, WorkloadRef,
};
use proptest::collection::{btree_map, btree_set, vec};
use proptest::option;
use proptest::prelude::*;
use proptest::sample::{select, subsequence};

/// The node whose rows are compiled, and another.
pub const NODES: [&str; 2] = ["n1", "n2"];
/// Their addresses.
pub const NODE_ADDRESSES: [&str; 2] = ["10.240.0.11", "10.240.0.12"];
/// Addresses that pods may hold.
pub const POD_ADDRESSES: [&str; 6] =
    ["10.244.0.1", "10.244.0.2", "10.244.0.3", "10.244.0.5", "10.244.1.1", "fd00::1"];
/// Addresses that no pod holds: in the pod block, at the edges of blocks, nodes, outside.
pub const OTHER_ADDRESSES: [&str; 9] = [
    "10.244.0.4",
    "10.244.9.9",
    "10.1.2.3",
    "10.240.0.11",
    "10.240.0.12",
    "192.168.1.1",
    "8.8.8.8",
    "fd00::9",
    "2001:db8::1",
];
/// Where rules may change their mind.
pub const PORTS: [u16; 6] = [0, 53, 79, 80, 8080, 65535];

const NAMESPACES: [&str; 3] = ["a", "b", "c"];
const BLOCKS: [&str; 9] = [
    "0.0.0.0/0",
    "10.0.0.0/8",
    "10.244.0.0/16",
    "10.244.0.0/24",
    "10.244.0.0/30",
    "10.244.0.3/32",
    "10.240.0.8/29",
    "::/0",
    "fd00::/64",
];

fn address(text: &str) -> IpAddr {
    text.parse().unwrap()
}

fn labels() -> impl Strategy<Value = Labels> {
    btree_map(select(vec!["app", "tier"]), select(vec!["x", "y"]), 0..=2)
        .prop_map(|it| it.into_iter().map(|(k, v)| (k.into(), v.into())).collect())
}

fn selector() -> impl Strategy<Value = Selector> {
    let values =
        || btree_set(select(vec!["x", "y"]), 1..=2).prop_map(|it| it.into_iter().map(Into::into).collect());
    let operator = prop_oneof![
        4 => values().prop_map(Operator::In),
        2 => values().prop_map(Operator::NotIn),
        1 => Just(Operator::Exists),
        1 => Just(Operator::DoesNotExist),
    ];
    let requirement = (select(vec!["app", "tier"]), operator)
        .prop_map(|(key, operator)| Requirement { key: key.into(), operator });
    prop_oneof![1 => Just(Selector::default()), 3 => vec(requirement, 1..=2).prop_map(Selector::new)]
}

fn block() -> impl Strategy<Value = IpBlock> {
    (select(BLOCKS.to_vec()), subsequence(BLOCKS.to_vec(), 0..=2)).prop_map(|(cidr, except)| {
        let cidr: IpNet = cidr.parse().unwrap();
        let except: Vec<IpNet> = except.into_iter().map(|it| it.parse().unwrap()).collect();
        IpBlock {
            cidr,
            except: except.into_iter().filter(|hole| cidr != *hole && cidr.contains(hole)).collect(),
        }
    })
}

fn peer() -> impl Strategy<Value = Peer> {
    prop_oneof![
        3 => (option::of(selector()), selector()).prop_map(|(namespaces, pods)| Peer::Pods { namespaces, pods }),
        2 => block().prop_map(Peer::IpBlock),
    ]
}

fn protocol() -> impl Strategy<Value = Protocol> {
    prop_oneof![3 => Just(Protocol::Tcp), 1 => Just(Protocol::Udp), 1 => Just(Protocol::Sctp)]
}

fn policy_port() -> impl Strategy<Value = PolicyPort> {
    let range = (select(PORTS.to_vec()), select(PORTS.to_vec()))
        .prop_map(|(a, b)| PortSpec::Range(PortRange { first: a.min(b), last: a.max(b) }));
    let port = prop_oneof![
        1 => Just(PortSpec::Range(PortRange::ALL)),
        3 => select(PORTS.to_vec()).prop_map(|port| PortSpec::Range(PortRange::single(port))),
        2 => range,
        3 => select(vec!["web", "dns"]).prop_map(|name| PortSpec::Named(name.into())),
    ];
    (protocol(), port).prop_map(|(protocol, port)| PolicyPort { protocol, port })
}

fn rules() -> impl Strategy<Value = Option<Vec<PolicyRule>>> {
    let rule = (option::weighted(0.8, vec(peer(), 1..=2)), option::weighted(0.7, vec(policy_port(), 1..=2)))
        .prop_map(|(peers, ports)| PolicyRule { peers, ports, origin: Origin::Builtin });
    option::weighted(0.75, vec(rule, 0..=2))
}

fn policy() -> impl Strategy<Value = NetworkPolicy> {
    (select(NAMESPACES.to_vec()), select(vec!["p", "q", "r"]), selector(), rules(), rules()).prop_map(
        |(namespace, name, pod_selector, ingress, egress)| NetworkPolicy {
            name: NamespacedName::new(namespace, name),
            pod_selector,
            ingress,
            egress,
            origin: Origin::Builtin,
        },
    )
}

fn pod() -> impl Strategy<Value = Pod> {
    let ports = vec((option::of(select(vec!["web", "dns"])), select(PORTS[1..].to_vec()), protocol()), 0..=2);
    let state = (
        select(vec![
            PodPhase::Running,
            PodPhase::Running,
            PodPhase::Pending,
            PodPhase::Succeeded,
            PodPhase::Failed,
        ]),
        proptest::bool::weighted(0.2),
        proptest::bool::weighted(0.1),
    );
    (
        (select(NAMESPACES.to_vec()), 0..6usize),
        labels(),
        option::weighted(0.9, select(NODES.to_vec())),
        subsequence(POD_ADDRESSES.to_vec(), 0..=2),
        ports,
        state,
    )
        .prop_map(
            |((namespace, number), labels, node, addresses, ports, (phase, terminating, host_network))| {
                let name = NamespacedName::new(namespace, format!("pod-{number}"));
                Pod {
                    uid: format!("uid-{number}").into(),
                    owner: WorkloadRef { kind: "Pod".into(), name: name.clone() },
                    name,
                    labels,
                    node: node.map(Into::into),
                    addresses: addresses.into_iter().map(address).collect(),
                    host_network,
                    ports: ports
                        .into_iter()
                        .map(|(name, port, protocol)| ContainerPort {
                            name: name.map(Into::into),
                            port,
                            protocol,
                            host: None,
                        })
                        .collect(),
                    phase,
                    ready: true,
                    terminating,
                    origin: Origin::Builtin,
                }
            },
        )
}

/// Pods of the first node that run and hold one of these addresses each, unless others claim it.
pub fn pods_at(addresses: &[IpAddr]) -> impl Strategy<Value = Vec<Event>> + use<> {
    let addresses = addresses.to_vec();
    vec(pod(), addresses.len()).prop_map(move |pods| {
        let placed = pods.into_iter().zip(&addresses).enumerate().map(|(number, (pod, address))| Pod {
            uid: format!("uid-placed-{number}").into(),
            node: Some(NODES[0].into()),
            addresses: vec![*address],
            host_network: false,
            phase: PodPhase::Running,
            ..pod
        });
        placed.map(Event::Pod).collect()
    })
}

fn namespace() -> impl Strategy<Value = Namespace> {
    (select(NAMESPACES.to_vec()), labels()).prop_map(|(name, mut labels)| {
        labels.insert("kubernetes.io/metadata.name".into(), name.into());
        Namespace { name: name.into(), labels, origin: Origin::Builtin }
    })
}

/// Both nodes.
pub fn nodes() -> Vec<Event> {
    let node = |(name, address)| Event::Node(cluster_policy::node(name, Labels::new(), vec![address]));
    NODES.into_iter().zip(NODE_ADDRESSES).map(node).collect()
}

/// Something that happens.
pub fn event() -> impl Strategy<Value = Event> {
    prop_oneof![
        6 => pod().prop_map(Event::Pod),
        1 => (0..6usize).prop_map(|number| Event::PodGone(format!("uid-{number}").into())),
        6 => policy().prop_map(Event::NetworkPolicy),
        1 => (select(NAMESPACES.to_vec()), select(vec!["p", "q", "r"]))
            .prop_map(|(namespace, name)| Event::NetworkPolicyGone(NamespacedName::new(namespace, name))),
        3 => namespace().prop_map(Event::Namespace),
        1 => select(NAMESPACES.to_vec()).prop_map(|name| Event::NamespaceGone(name.into())),
        5 => cluster_policy::event(),
    ]
}

/// All addresses worth asking about.
pub fn addresses() -> Vec<IpAddr> {
    POD_ADDRESSES.into_iter().chain(OTHER_ADDRESSES).map(address).collect()
}
