use kilter_model::{
    Action, ClusterNetworkPolicy, ClusterRule, ClusterTier, Event, Labels, Node, Origin, Peer, PolicyRule,
    Selector, Subject,
};
use proptest::collection::vec;
use proptest::option;
use proptest::prelude::*;
use proptest::sample::{select, subsequence};

use super::{NODE_ADDRESSES, NODES, address, block, labels, policy_port, selector};

const NAMES: [&str; 4] = ["k", "l", "m", "n"];

/// Of namespaces and of pods. Often everybody, so that policies meet on the same packets, and which of
/// them is asked first matters.
fn whom() -> impl Strategy<Value = (Selector, Selector)> {
    prop_oneof![1 => Just((Selector::default(), Selector::default())), 2 => (selector(), selector())]
}

fn peer() -> impl Strategy<Value = Peer> {
    prop_oneof![
        3 => whom()
            .prop_map(|(namespaces, pods)| Peer::Pods { namespaces: Some(namespaces), pods }),
        2 => block().prop_map(Peer::IpBlock),
        1 => selector().prop_map(Peer::Nodes),
    ]
}

fn rules() -> impl Strategy<Value = Vec<ClusterRule>> {
    let parts = (
        select(vec![Action::Accept, Action::Deny, Action::Pass]),
        vec(peer(), 0..=2),
        option::weighted(0.5, vec(policy_port(), 1..=2)),
    );
    let rule = parts.prop_map(|(action, peers, ports)| {
        let origin = Origin::Builtin;
        // No peer that is known: what accepts matches nobody, what does not denies everything.
        let (action, matches) = match (action, peers.is_empty()) {
            (Action::Deny | Action::Pass, true) => {
                (Action::Deny, PolicyRule { peers: None, ports: None, origin })
            }
            (action, _) => (action, PolicyRule { peers: Some(peers), ports, origin }),
        };
        ClusterRule { name: None, action, matches, caveat: None }
    });
    vec(rule, 0..=3)
}

fn policy() -> impl Strategy<Value = ClusterNetworkPolicy> {
    let tier = select(vec![ClusterTier::Admin, ClusterTier::Baseline]);
    (select(NAMES.to_vec()), tier, 0..3u16, whom(), rules(), rules()).prop_map(
        |(name, tier, priority, (namespaces, pods), ingress, egress)| ClusterNetworkPolicy {
            name: name.into(),
            tier,
            priority,
            subject: Subject { namespaces, pods },
            ingress,
            egress,
            origin: Origin::Builtin,
        },
    )
}

/// A node at some of the nodes' addresses.
pub fn node(name: &str, labels: Labels, addresses: Vec<&str>) -> Node {
    Node {
        name: name.into(),
        labels,
        addresses: addresses.into_iter().map(address).collect(),
        pod_cidrs: vec![],
        ready: true,
        origin: Origin::Builtin,
    }
}

/// Something that happens to cluster-scoped policies, or to the nodes that they name.
pub fn event() -> impl Strategy<Value = Event> {
    let changed = (select(NODES.to_vec()), labels(), subsequence(NODE_ADDRESSES.to_vec(), 0..=2));
    prop_oneof![
        6 => policy().prop_map(Event::ClusterNetworkPolicy),
        1 => select(NAMES.to_vec()).prop_map(|it| Event::ClusterNetworkPolicyGone(it.into())),
        1 => changed.prop_map(|(name, labels, addresses)| Event::Node(node(name, labels, addresses))),
    ]
}
