//! One test for each numbered point at which policy is commonly got wrong. The numbers are those of
//! `docs/policy-semantics.md`. The tests of what is not about rules alone are where their packets are (9:
//! Services, 10: source NAT, 14: replies, 17: start-up order); 18 is in `tiers`.
//!
//! Each connection is asked of the naive evaluator and read off the compiled rows.

mod tiers;
mod world;

use kilter_model::{Operator, PodPhase, PortRange, PortSpec, Protocol};
use kilter_policy::naive::{Party, Undefined};
use kilter_policy::{Missed, ProtocolClass, Reason, Verdict};
use world::{World, any, block, named, pods_of, policy, port, ports, requirement, rule, selector};

const ALLOW: Verdict = Verdict::Allow;
const DENY: Verdict = Verdict::Deny;

/// Pods `a` and `b` of namespace x (team red), `c` of namespace y (blue), all on node n1 but `c`.
fn world() -> World {
    let mut world = World::new();
    world.namespace("x", &[("team", "red")]);
    world.namespace("y", &[("team", "blue")]);
    world.pod("x", "a", &[("app", "a")], "n1", "10.244.0.1");
    world.pod("x", "b", &[("app", "b")], "n1", "10.244.0.2");
    world.pod("y", "c", &[("app", "c")], "n2", "10.244.1.1");
    world
}

#[test]
fn trap_1_a_policy_isolates_only_the_directions_it_applies_to() {
    let mut world = world();
    world.policy(policy("x", "only-ingress", selector(&[("app", "a")]), Some(vec![]), None));
    assert_eq!(world.tcp("b", "a", 80), DENY);
    assert_eq!(world.tcp("a", "b", 80), ALLOW);
}

#[test]
fn trap_2_no_rules_deny_all_and_an_empty_rule_allows_all() {
    let mut world = world();
    world.policy(policy("x", "p", any(), Some(vec![]), None));
    assert_eq!(world.tcp("c", "a", 80), DENY);
    world.policy(policy("x", "p", any(), Some(vec![rule(None, None)]), None));
    for protocol in ProtocolClass::ALL {
        assert_eq!(world.ask("c", "a", protocol, 0), ALLOW, "{protocol}");
    }
    assert_eq!(world.tcp("8.8.8.8", "a", 80), ALLOW);
}

#[test]
fn trap_3_selectors_in_one_peer_are_joined_and_peers_are_alternatives() {
    let mut world = world();
    let peers = |peers| Some(vec![rule(Some(peers), None)]);
    // No namespace selector: the policy's own namespace.
    world.policy(policy("x", "p", any(), peers(vec![pods_of(None, any())]), None));
    assert_eq!((world.tcp("b", "a", 80), world.tcp("c", "a", 80)), (ALLOW, DENY));
    // The empty one: all namespaces.
    world.policy(policy("x", "p", any(), peers(vec![pods_of(Some(any()), any())]), None));
    assert_eq!((world.tcp("b", "a", 80), world.tcp("c", "a", 80)), (ALLOW, ALLOW));
    assert_eq!(world.tcp("8.8.8.8", "a", 80), DENY, "an address is not a pod");
    // Both in one peer: and.
    let both = pods_of(Some(selector(&[("team", "blue")])), selector(&[("app", "b")]));
    world.policy(policy("x", "p", any(), peers(vec![both]), None));
    assert_eq!((world.tcp("b", "a", 80), world.tcp("c", "a", 80)), (DENY, DENY));
    // In two peers: or.
    let either =
        vec![pods_of(Some(selector(&[("team", "blue")])), any()), pods_of(None, selector(&[("app", "b")]))];
    world.policy(policy("x", "p", any(), peers(either), None));
    assert_eq!((world.tcp("b", "a", 80), world.tcp("c", "a", 80)), (ALLOW, ALLOW));
}

#[test]
fn trap_4_not_in_and_does_not_exist_match_a_missing_key() {
    let mut world = world();
    for operator in [Operator::NotIn(["gold".into()].into()), Operator::DoesNotExist] {
        let peer = pods_of(None, requirement("tier", operator));
        world.policy(policy("x", "p", any(), Some(vec![rule(Some(vec![peer]), None)]), None));
        assert_eq!(world.tcp("b", "a", 80), ALLOW);
    }
}

#[test]
fn trap_5_protocol_and_port_have_defaults_and_ranges_are_inclusive() {
    let mut world = world();
    let range = PortSpec::Range(PortRange { first: 80, last: 90 });
    let only = |port| Some(vec![rule(None, ports(vec![port]))]);
    world.policy(policy("x", "p", any(), only(port(Protocol::Tcp, range)), None));
    let verdicts = [79, 80, 90, 91].map(|port| world.tcp("b", "a", port));
    assert_eq!(verdicts, [DENY, ALLOW, ALLOW, DENY]);
    // No port: all ports of that protocol, and of no other.
    world.policy(policy("x", "p", any(), only(port(Protocol::Udp, PortSpec::Range(PortRange::ALL))), None));
    assert_eq!(world.ask("b", "a", ProtocolClass::Udp, 65535), ALLOW);
    assert_eq!(world.tcp("b", "a", 80), DENY);
}

#[test]
fn trap_6_a_named_port_is_resolved_at_each_destination_pod() {
    let mut world = world();
    world.ports("a", &[("web", Protocol::Tcp, 8080)]);
    world.ports("b", &[("web", Protocol::Tcp, 9090), ("web-udp", Protocol::Udp, 53)]);
    let web = || Some(vec![rule(None, ports(vec![named(Protocol::Tcp, "web")]))]);
    world.policy(policy("x", "p", any(), web(), None));
    assert_eq!((world.tcp("c", "a", 8080), world.tcp("c", "a", 9090)), (ALLOW, DENY));
    assert_eq!((world.tcp("c", "b", 8080), world.tcp("c", "b", 9090)), (DENY, ALLOW));
    // On egress likewise, and an address has no named ports.
    world.policy(policy("x", "p", any(), None, web()));
    assert_eq!((world.tcp("a", "b", 8080), world.tcp("a", "b", 9090)), (DENY, ALLOW));
    assert_eq!(world.tcp("a", "8.8.8.8", 8080), DENY);
    // Name and protocol must agree, and a name that nobody has allows nothing.
    for port in [named(Protocol::Udp, "web"), named(Protocol::Tcp, "nothing")] {
        world.policy(policy("x", "p", any(), Some(vec![rule(None, ports(vec![port]))]), None));
        assert_eq!(world.tcp("c", "a", 8080), DENY);
        assert_eq!(world.ask("c", "a", ProtocolClass::Udp, 8080), DENY);
    }
}

#[test]
fn trap_7_an_exception_subtracts_from_its_own_block_only() {
    let mut world = world();
    let holed = block("203.0.113.0/24", &["203.0.113.128/25"]);
    world.policy(policy("x", "p", any(), None, Some(vec![rule(Some(vec![holed.clone()]), None)])));
    assert_eq!((world.tcp("a", "203.0.113.1", 80), world.tcp("a", "203.0.113.200", 80)), (ALLOW, DENY));
    let refill = block("203.0.113.192/26", &[]);
    world.policy(policy("x", "p", any(), None, Some(vec![rule(Some(vec![holed, refill]), None)])));
    assert_eq!((world.tcp("a", "203.0.113.200", 80), world.tcp("a", "203.0.113.129", 80)), (ALLOW, DENY));
}

#[test]
fn trap_8_blocks_match_the_addresses_of_pods() {
    let mut world = world();
    let rules = || Some(vec![rule(Some(vec![block("10.244.1.0/24", &[])]), None)]);
    world.policy(policy("x", "p", any(), rules(), rules()));
    assert_eq!((world.tcp("a", "c", 80), world.tcp("c", "a", 80)), (ALLOW, ALLOW));
    assert_eq!(world.tcp("a", "b", 80), DENY);
    // An address in the pod block that no pod holds is matched by blocks and by nothing else.
    assert_eq!(world.tcp("10.244.1.99", "a", 80), ALLOW);
    let pods = Some(vec![rule(Some(vec![pods_of(Some(any()), any())]), None)]);
    world.policy(policy("x", "p", any(), pods, None));
    assert_eq!((world.tcp("10.244.1.99", "a", 80), world.tcp("c", "a", 80)), (DENY, ALLOW));
}

#[test]
fn trap_9_rules_and_ports_count_at_the_backend() {
    let mut world = world();
    // `c:8080` is behind the Service 10.96.0.10:80, which is translated before policy is asked.
    let to = |peer, number| {
        let only = ports(vec![port(Protocol::Tcp, PortSpec::Range(PortRange::single(number)))]);
        Some(vec![rule(Some(vec![peer]), only)])
    };
    world.policy(policy("x", "p", any(), None, to(block("10.96.0.10/32", &[]), 80)));
    assert_eq!(world.tcp("a", "c", 8080), DENY, "the Service's address and port mean nothing");
    world.policy(policy("x", "p", any(), None, to(pods_of(Some(any()), any()), 80)));
    assert_eq!(world.tcp("a", "c", 8080), DENY, "nor does its port alone");
    world.policy(policy("x", "p", any(), None, to(pods_of(Some(any()), any()), 8080)));
    assert_eq!(world.tcp("a", "c", 8080), ALLOW);
}

#[test]
fn trap_11_a_pods_own_node_may_always_reach_it() {
    let mut world = world();
    world.policy(policy("x", "p", any(), Some(vec![]), Some(vec![])));
    let answer = world.answer(Party::Node("n1".into()), Party::Pod("a".into()), ProtocolClass::Tcp, 80);
    assert_eq!((answer.verdict(), answer.ingress.reason), (ALLOW, Reason::OwnNode));
    assert_eq!(world.tcp("10.240.0.12", "a", 80), DENY, "another node is an address like any other");
    // Towards its own node the page contradicts itself: policy is enforced, and it is said.
    let answer = world.answer(Party::Pod("a".into()), Party::Node("n1".into()), ProtocolClass::Tcp, 80);
    assert_eq!((answer.verdict(), answer.undefined), (DENY, Some(Undefined::OwnNode)));
}

#[test]
fn trap_12_a_host_network_pod_is_its_node_in_every_way() {
    let mut world = world();
    world.pod("x", "h", &[("app", "a")], "n2", "10.240.0.12");
    world.host_network("h");
    world.policy(policy(
        "x",
        "p",
        any(),
        Some(vec![rule(Some(vec![pods_of(None, any())]), None)]),
        Some(vec![]),
    ));
    let answer = world.answer(Party::Pod("h".into()), Party::Pod("a".into()), ProtocolClass::Tcp, 80);
    assert_eq!(answer.ingress.verdict, DENY, "selectors do not match it");
    assert_eq!(answer.egress.verdict, ALLOW, "and policies do not select it");
    assert_eq!(answer.undefined, Some(Undefined::HostNetwork));
    assert_eq!(world.tcp("10.240.0.12", "a", 80), DENY);
    let node = Some(vec![rule(Some(vec![block("10.240.0.12/32", &[])]), None)]);
    world.policy(policy("x", "p", any(), node, None));
    assert_eq!(world.tcp("h", "a", 80), ALLOW);
    assert_eq!(world.tcp("10.240.0.12", "a", 80), ALLOW);
}

#[test]
fn trap_13_a_pod_may_always_reach_its_own_address() {
    let mut world = world();
    world.policy(policy("x", "p", any(), Some(vec![]), Some(vec![])));
    let answer = world.answer(
        Party::Pod("a".into()),
        Party::Address("10.244.0.1".parse().unwrap()),
        ProtocolClass::Tcp,
        80,
    );
    assert_eq!((answer.verdict(), answer.ingress.reason), (ALLOW, Reason::Itself));
}

#[test]
fn trap_15_what_has_no_ports_is_allowed_by_rules_without_ports_only_and_that_is_said() {
    let mut world = world();
    let tcp = || port(Protocol::Tcp, PortSpec::Range(PortRange::ALL));
    world.policy(policy("x", "p", any(), Some(vec![rule(None, ports(vec![tcp()]))]), None));
    let answer = world.answer(Party::Pod("c".into()), Party::Pod("a".into()), ProtocolClass::Other, 0);
    assert_eq!((answer.verdict(), answer.undefined), (DENY, Some(Undefined::OtherProtocol)));
    assert_eq!(world.ask("c", "a", ProtocolClass::Other, 0), DENY);
}

#[test]
fn trap_16_a_rule_for_sctp_isolates_tcp_and_udp() {
    let mut world = world();
    let sctp = port(Protocol::Sctp, PortSpec::Range(PortRange::single(80)));
    world.policy(policy("x", "p", any(), Some(vec![rule(None, ports(vec![sctp]))]), None));
    assert_eq!(world.ask("b", "a", ProtocolClass::Sctp, 80), ALLOW);
    assert_eq!((world.tcp("b", "a", 80), world.ask("b", "a", ProtocolClass::Udp, 80)), (DENY, DENY));
}

#[test]
fn a_pod_that_has_ended_holds_no_address() {
    let mut world = world();
    world.policy(policy("x", "p", any(), Some(vec![rule(Some(vec![pods_of(None, any())]), None)]), None));
    assert_eq!(world.tcp("10.244.0.2", "a", 80), ALLOW);
    world.phase("b", PodPhase::Succeeded);
    assert_eq!(world.tcp("10.244.0.2", "a", 80), DENY, "only blocks match its address now");
}

#[test]
fn of_two_pods_with_one_address_the_one_that_stays_has_it() {
    let mut world = world();
    world.pod("y", "b2", &[("app", "c")], "n2", "10.244.0.2");
    world.policy(policy("x", "p", any(), Some(vec![rule(Some(vec![pods_of(None, any())]), None)]), None));
    world.terminating("b2");
    assert_eq!(world.tcp("10.244.0.2", "a", 80), ALLOW);
    world.terminating("b");
    assert_eq!(world.tcp("10.244.0.2", "a", 80), ALLOW, "both go: the lower UID");
    world.phase("b2", PodPhase::Running);
    assert_eq!(world.tcp("10.244.0.2", "a", 80), DENY, "only `b` goes");
}

#[test]
fn a_namespace_that_is_not_known_is_matched_by_no_namespace_selector() {
    let mut world = world();
    world.pod("z", "d", &[("app", "d")], "n2", "10.244.1.4");
    world.policy(policy(
        "x",
        "p",
        any(),
        Some(vec![rule(Some(vec![pods_of(Some(any()), any())]), None)]),
        None,
    ));
    assert_eq!(world.tcp("d", "a", 80), DENY);
    world.namespace("z", &[]);
    assert_eq!(world.tcp("d", "a", 80), ALLOW);
}

#[test]
fn a_denial_names_the_policies_and_the_nearest_rule() {
    let mut world = world();
    let web = || ports(vec![port(Protocol::Tcp, PortSpec::Range(PortRange::single(80)))]);
    let from_y = rule(Some(vec![pods_of(Some(selector(&[("team", "blue")])), any())]), web());
    let from_b = rule(Some(vec![pods_of(None, selector(&[("app", "b")]))]), web());
    world.policy(policy("x", "open", any(), Some(vec![from_y, from_b]), None));
    world.policy(policy("x", "closed", any(), Some(vec![]), None));
    let ask = |from: &str, port| {
        let answer = world.answer(Party::Pod(from.into()), Party::Pod("a".into()), ProtocolClass::Tcp, port);
        answer.ingress.reason
    };
    assert!(matches!(ask("b", 80), Reason::Allowed { rule: 2, .. }));
    let Reason::Isolated { policies, nearest: Some(nearest), .. } = ask("b", 81) else { panic!() };
    assert_eq!(
        policies.iter().map(ToString::to_string).collect::<Vec<_>>(),
        ["NetworkPolicy x/closed", "NetworkPolicy x/open"]
    );
    assert_eq!((nearest.rule, nearest.missed), (2, Missed::Port));
    assert_eq!(
        ask("b", 81).to_string(),
        "isolated for ingress by NetworkPolicy x/closed, NetworkPolicy x/open, and no rule allows it; \
         rule 2 of NetworkPolicy x/open (built in) allows this peer on other ports"
    );
}

#[test]
fn every_test_that_the_list_of_semantics_names_exists() {
    let list = include_str!("../../../../docs/policy-semantics.md");
    let root = std::path::Path::new(env!("CARGO_MANIFEST_DIR")).join("..");
    let mut sources = String::new();
    let mut folders = vec![root];
    while let Some(folder) = folders.pop() {
        for entry in std::fs::read_dir(&folder).unwrap() {
            let path = entry.unwrap().path();
            if path.is_dir() {
                folders.push(path);
            } else if path.extension().is_some_and(|it| it == "rs") {
                sources.push_str(&std::fs::read_to_string(path).unwrap());
            }
        }
    }
    let names = list.split('`').skip(1).step_by(2).filter(|it| it.contains('_') && !it.contains(['/', ' ']));
    let missing: Vec<_> = names.filter(|name| !sources.contains(&format!("fn {name}("))).collect();
    assert!(missing.is_empty(), "docs/policy-semantics.md names tests that are not there: {missing:?}");
    for trap in 1..=18 {
        assert!(list.contains(&format!("\n| {trap} | ")), "trap {trap} is not in the list");
        assert!(sources.contains(&format!("fn trap_{trap}_")), "no test is named after trap {trap}");
    }
}
