//! ClusterNetworkPolicy: tiers, priorities and actions, asked of the naive evaluator and read off
//! the compiled rows.

use crate::world::{
    World, any, block, cluster_policy, cluster_rule, named, nodes, pods_of, policy, port, ports, rule,
    selector,
};
use crate::{ALLOW, DENY, world};
use kilter_model::{Action, ClusterTier, PortRange, PortSpec, Protocol};
use kilter_policy::naive::{Party, Undefined};
use kilter_policy::{ProtocolClass, Reason};

use Action::{Accept, Deny, Pass};
use ClusterTier::{Admin, Baseline};

fn namespaces(labels: &[(&str, &str)]) -> kilter_model::Peer {
    pods_of(Some(selector(labels)), any())
}

fn everyone() -> kilter_model::Peer {
    pods_of(Some(any()), any())
}

#[test]
fn trap_18_pass_in_admin_leads_to_network_policy_or_else_to_baseline() {
    let mut world = world();
    let rules =
        vec![cluster_rule(Pass, vec![namespaces(&[("team", "blue")])]), cluster_rule(Deny, vec![everyone()])];
    world.cluster_policy(cluster_policy("admin", Admin, 5, rules, vec![]));
    assert_eq!((world.tcp("c", "a", 80), world.tcp("b", "a", 80)), (ALLOW, DENY), "nothing else says no");
    world.cluster_policy(cluster_policy(
        "base",
        Baseline,
        5,
        vec![cluster_rule(Deny, vec![everyone()])],
        vec![],
    ));
    assert_eq!(world.tcp("c", "a", 80), DENY, "passed on to Baseline");
    world.policy(policy("x", "p", any(), Some(vec![rule(Some(vec![everyone()]), None)]), None));
    assert_eq!((world.tcp("c", "a", 80), world.tcp("b", "a", 80)), (ALLOW, DENY), "a NetworkPolicy is final");
}

#[test]
fn trap_18_equal_priorities_are_ambiguous_and_said_to_be() {
    let mut world = world();
    let deny = || vec![cluster_rule(Deny, vec![everyone()])];
    let accept = || vec![cluster_rule(Accept, vec![everyone()])];
    let ask = |world: &World| {
        let answer = world.answer(Party::Pod("c".into()), Party::Pod("a".into()), ProtocolClass::Tcp, 80);
        (world.tcp("c", "a", 80), answer.undefined)
    };
    world.cluster_policy(cluster_policy("one", Admin, 5, deny(), vec![]));
    world.cluster_policy(cluster_policy("two", Admin, 5, accept(), vec![]));
    assert_eq!(ask(&world), (DENY, Some(Undefined::EqualPriority)));
    world.cluster_policy(cluster_policy("two", Admin, 5, deny(), vec![]));
    assert_eq!(ask(&world), (DENY, None), "both want the same");
    world.cluster_policy(cluster_policy("two", Admin, 4, accept(), vec![]));
    assert_eq!(ask(&world), (ALLOW, None), "the lower number first");
    world.cluster_policy(cluster_policy("two", Baseline, 5, accept(), vec![]));
    assert_eq!(ask(&world), (DENY, None), "another tier");
}

#[test]
fn the_first_rule_decides_and_admin_overrides_network_policy() {
    let mut world = world();
    let rules = vec![
        cluster_rule(Accept, vec![namespaces(&[("team", "blue")])]),
        cluster_rule(Deny, vec![everyone()]),
    ];
    world.cluster_policy(cluster_policy("admin", Admin, 5, rules, vec![]));
    world.policy(policy("x", "p", any(), Some(vec![]), None));
    assert_eq!((world.tcp("c", "a", 80), world.tcp("b", "a", 80)), (ALLOW, DENY));
    assert_eq!(world.tcp("8.8.8.8", "a", 80), DENY, "outside is nobody's pod: NetworkPolicy decides");
    let answer = world.answer(Party::Pod("b".into()), Party::Pod("a".into()), ProtocolClass::Tcp, 80);
    let text = answer.ingress.reason.to_string();
    assert_eq!(text, "denied by ingress rule 2 of ClusterNetworkPolicy admin (built in)");
}

#[test]
fn baseline_acts_only_where_no_network_policy_selects_the_pod_in_that_direction() {
    let mut world = world();
    let deny = || vec![cluster_rule(Deny, vec![everyone()])];
    world.cluster_policy(cluster_policy("base", Baseline, 5, deny(), deny()));
    assert_eq!(world.tcp("c", "a", 80), DENY);
    world.policy(policy("x", "p", any(), Some(vec![rule(None, None)]), None));
    world.policy(policy("y", "p", any(), None, Some(vec![rule(None, None)])));
    assert_eq!(world.tcp("c", "a", 80), ALLOW);
    assert_eq!(world.tcp("a", "c", 80), DENY, "neither says anything of the other direction");
}

#[test]
fn policies_without_rules_in_a_direction_leave_it_alone() {
    let mut world = world();
    world.cluster_policy(cluster_policy("empty", Admin, 0, vec![], vec![]));
    let answer = world.answer(Party::Pod("c".into()), Party::Pod("a".into()), ProtocolClass::Tcp, 80);
    assert_eq!(answer.ingress.reason.to_string(), "no policy selects the pod for ingress");
    world.cluster_policy(cluster_policy(
        "empty",
        Admin,
        0,
        vec![cluster_rule(Pass, vec![everyone()])],
        vec![],
    ));
    let answer = world.answer(Party::Pod("c".into()), Party::Pod("a".into()), ProtocolClass::Tcp, 80);
    assert!(matches!(answer.ingress.reason, Reason::Unmatched { .. }));
}

#[test]
fn the_subject_follows_the_labels_of_its_namespace() {
    let mut world = world();
    let mut red = cluster_policy("red", Admin, 0, vec![cluster_rule(Deny, vec![everyone()])], vec![]);
    red.subject.namespaces = selector(&[("team", "red")]);
    red.subject.pods = selector(&[("app", "a")]);
    world.cluster_policy(red);
    assert_eq!((world.tcp("c", "a", 80), world.tcp("c", "b", 80)), (DENY, ALLOW));
    world.namespace("x", &[("team", "green")]);
    assert_eq!(world.tcp("c", "a", 80), ALLOW);
    world.namespace("x", &[("team", "red")]);
    assert_eq!(world.tcp("c", "a", 80), DENY);
}

#[test]
fn nodes_are_matched_by_address_and_networks_match_pods_too() {
    let mut world = world();
    world.node("n2", &[("zone", "z")], "10.240.0.12");
    let rules = vec![
        cluster_rule(Accept, vec![nodes(&[("zone", "z")])]),
        cluster_rule(Accept, vec![block("10.244.1.0/24", &[])]),
        cluster_rule(Deny, vec![block("0.0.0.0/0", &[])]),
    ];
    world.cluster_policy(cluster_policy("out", Admin, 0, vec![], rules));
    let asked = ["10.240.0.12", "10.240.0.11", "c", "b", "8.8.8.8"].map(|to| world.tcp("a", to, 80));
    assert_eq!(asked, [ALLOW, DENY, ALLOW, DENY, DENY]);
    for protocol in ProtocolClass::ALL {
        assert_eq!(world.ask("a", "8.8.8.8", protocol, 0), DENY, "{protocol}: networks match all of it");
    }
    world.node("n2", &[], "10.240.0.12");
    assert_eq!(world.tcp("a", "10.240.0.12", 80), DENY, "it no longer has the label");
    world.node("n2", &[("zone", "z")], "10.240.0.99");
    assert_eq!((world.tcp("a", "10.240.0.12", 80), world.tcp("a", "10.240.0.99", 80)), (DENY, ALLOW));
}

#[test]
fn a_named_port_counts_in_every_protocol_that_the_destination_gives_it_in() {
    let mut world = world();
    world.ports("b", &[("web", Protocol::Tcp, 80), ("web", Protocol::Udp, 53)]);
    let mut deny = cluster_rule(Deny, vec![everyone()]);
    deny.matches.ports = ports(Protocol::ALL.map(|it| named(it, "web")).to_vec());
    world.cluster_policy(cluster_policy("p", Admin, 0, vec![], vec![deny]));
    assert_eq!((world.tcp("a", "b", 80), world.tcp("a", "b", 53)), (DENY, ALLOW));
    assert_eq!(world.ask("a", "b", ProtocolClass::Udp, 53), DENY);
    assert_eq!(world.tcp("a", "c", 80), ALLOW, "that pod has no such port");
}

/// In a pod block, but of no known pod: every Deny may match it, no Accept of pods does.
#[test]
fn an_unknown_address_is_refused_where_any_pod_might_be() {
    const UNKNOWN: &str = "10.244.9.9";
    let mut world = world();
    let blue = || vec![namespaces(&[("team", "blue")])];
    world.cluster_policy(cluster_policy("p", Admin, 0, vec![cluster_rule(Deny, blue())], vec![]));
    assert_eq!((world.tcp(UNKNOWN, "a", 80), world.tcp("b", "a", 80)), (DENY, ALLOW));
    assert_eq!(world.tcp("8.8.8.8", "a", 80), ALLOW, "outside there are no pods");
    // An Accept of pods before a Deny of addresses does not help it, an Accept of its address does.
    let all = || cluster_rule(Deny, vec![block("0.0.0.0/0", &[])]);
    let out = |rules| cluster_policy("p", Admin, 0, vec![], rules);
    world.cluster_policy(out(vec![cluster_rule(Accept, blue()), all()]));
    assert_eq!((world.tcp("a", UNKNOWN, 80), world.tcp("a", "c", 80)), (DENY, ALLOW));
    world.cluster_policy(out(vec![cluster_rule(Accept, vec![block("10.244.9.0/24", &[])]), all()]));
    assert_eq!(world.tcp("a", UNKNOWN, 80), ALLOW);
    // A Pass of pods may or may not match it: the worse of both holds.
    world.cluster_policy(out(vec![
        cluster_rule(Pass, blue()),
        cluster_rule(Accept, vec![block("0.0.0.0/0", &[])]),
    ]));
    assert_eq!(world.tcp("a", UNKNOWN, 80), ALLOW);
    world.policy(policy("x", "closed", any(), None, Some(vec![])));
    assert_eq!(world.tcp("a", UNKNOWN, 80), DENY);
    // And it may give any port any name.
    let mut named_port = cluster_rule(Deny, vec![everyone()]);
    named_port.matches.ports = ports(vec![named(Protocol::Tcp, "web")]);
    let mut world = crate::world();
    world.cluster_policy(out(vec![named_port]));
    assert_eq!((world.tcp("a", UNKNOWN, 4711), world.tcp("a", "c", 4711)), (DENY, ALLOW));
    assert_eq!(world.ask("a", UNKNOWN, ProtocolClass::Udp, 4711), ALLOW);
}

#[test]
fn host_network_pods_are_neither_subject_nor_pod_peers() {
    let mut world = world();
    world.pod("x", "h", &[("app", "a")], "n2", "10.240.0.12");
    world.host_network("h");
    let deny = || vec![cluster_rule(Deny, vec![everyone()])];
    world.cluster_policy(cluster_policy("p", Admin, 0, deny(), deny()));
    assert_eq!((world.tcp("h", "a", 80), world.tcp("a", "h", 80)), (ALLOW, ALLOW));
    assert_eq!(world.tcp("b", "a", 80), DENY);
}

#[test]
fn ranges_and_protocols_of_a_rule_are_its_own() {
    let mut world = world();
    let mut deny = cluster_rule(Deny, vec![everyone()]);
    deny.matches.ports = ports(vec![port(Protocol::Udp, PortSpec::Range(PortRange { first: 50, last: 60 }))]);
    let accept = cluster_rule(Accept, vec![everyone()]);
    world.cluster_policy(cluster_policy("p", Admin, 0, vec![deny, accept], vec![]));
    world.policy(policy("x", "closed", any(), Some(vec![]), None));
    let udp = [49, 50, 60, 61].map(|port| world.ask("c", "a", ProtocolClass::Udp, port));
    assert_eq!(udp, [ALLOW, DENY, DENY, ALLOW]);
    assert_eq!(world.tcp("c", "a", 55), ALLOW);
}
