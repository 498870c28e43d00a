//! ClusterNetworkPolicy: what is read, what is refused, and what fails closed.

use kilter_model::{
    Action, Caveat, ClusterNetworkPolicy, ClusterTier, Event, Origin, Peer, PortRange, PortSpec,
};
use kilter_objects::{to_event, to_gone_event, unknown_fields, validate};
use serde_json::{Value, json};

fn object(spec: Value) -> Value {
    json!({
        "apiVersion": "policy.networking.k8s.io/v1alpha2",
        "kind": "ClusterNetworkPolicy",
        "metadata": {"name": "p"},
        "spec": spec,
    })
}

/// A policy of one egress rule.
fn egress(rule: Value) -> Value {
    object(json!({"tier": "Admin", "priority": 10, "subject": {"namespaces": {}}, "egress": [rule]}))
}

fn read(object: &Value) -> ClusterNetworkPolicy {
    assert_eq!(validate(object), []);
    match to_event(object, Origin::Builtin) {
        Ok(Some(Event::ClusterNetworkPolicy(policy))) => policy,
        other => panic!("{other:?}"),
    }
}

#[test]
fn everything_that_a_policy_can_say_is_read() {
    let policy = read(&object(json!({
        "tier": "Baseline",
        "priority": 1000,
        "subject": {"pods": {"namespaceSelector": {"matchLabels": {"a": "b"}}, "podSelector": {}}},
        "ingress": [{"name": "in", "action": "Deny", "from": [{"namespaces": {}}], "protocols": null}],
        "egress": [{
            "action": "Accept",
            "to": [{"nodes": {"matchLabels": {"c": "d"}}}, {"networks": ["10.0.0.1/8", "fd00::/8"]}],
            "protocols": [
                {"tcp": {"destinationPort": {"number": 80}}},
                {"udp": {"destinationPort": {"range": {"start": 53, "end": 60}}}},
            ],
        }, {
            "action": "Pass",
            "to": [{"pods": {"namespaceSelector": {}, "podSelector": {"matchLabels": {"e": "f"}}}}],
            "protocols": [{"destinationNamedPort": "web"}],
        }],
    })));
    assert_eq!((policy.tier, policy.priority), (ClusterTier::Baseline, 1000));
    assert_eq!(
        (policy.subject.namespaces.to_string(), policy.subject.pods.to_string()),
        ("a=b".into(), "".into())
    );
    let [deny] = policy.ingress.as_slice() else { panic!() };
    assert_eq!((deny.name.as_deref(), deny.action), (Some("in"), Action::Deny));
    assert_eq!(deny.matches.ports, None);
    let [accept, pass] = policy.egress.as_slice() else { panic!() };
    let peers = accept.matches.peers.as_deref().unwrap();
    assert!(matches!(peers, [Peer::Nodes(_), Peer::IpBlock(a), Peer::IpBlock(b)]
        if a.cidr.to_string() == "10.0.0.0/8" && b.cidr.to_string() == "fd00::/8"));
    let ports: Vec<_> = accept.matches.ports.iter().flatten().map(|it| it.port.clone()).collect();
    assert_eq!(
        ports,
        [PortSpec::Range(PortRange::single(80)), PortSpec::Range(PortRange { first: 53, last: 60 })]
    );
    assert_eq!(pass.action, Action::Pass);
    assert_eq!(pass.matches.ports.as_ref().map(Vec::len), Some(3), "a name counts in every protocol");
    assert!(policy.caveats().is_empty());
}

#[test]
fn what_is_not_known_fails_closed_and_is_reported() {
    let rule = |action: &str, peer: Value| json!({"action": action, "to": [{"namespaces": {}}, peer]});
    let unknown = |action: &str| {
        let object = egress(rule(action, json!({"fromTheFuture": {}})));
        assert_eq!(unknown_fields(&object), ["spec.egress[0].to[1].fromTheFuture"]);
        let Ok(Some(Event::ClusterNetworkPolicy(it))) = to_event(&object, Origin::Builtin) else { panic!() };
        it.egress[0].clone()
    };
    let accept = unknown("Accept");
    assert_eq!((accept.action, accept.matches.peers), (Action::Accept, Some(vec![])), "it accepts nobody");
    for action in ["Deny", "Pass"] {
        let closed = unknown(action);
        assert_eq!((closed.action, &closed.matches.peers), (Action::Deny, &None), "{action}: it denies all");
        assert_eq!((closed.matches.ports, closed.caveat), (None, Some(Caveat::Unknown)));
    }
    let mut object = egress(rule("Accept", json!({"namespaces": {}})));
    object["spec"]["egress"][0]["protocols"] = json!([{"icmp": {}}]);
    let Ok(Some(Event::ClusterNetworkPolicy(it))) = to_event(&object, Origin::Builtin) else { panic!() };
    assert_eq!(it.egress[0].matches.peers, Some(vec![]), "nor is an unknown protocol any protocol");

    let policy = read(&egress(rule("Accept", json!({"domainNames": ["*.example.com"]}))));
    assert_eq!(policy.egress[0].matches.peers, Some(vec![]));
    assert_eq!(
        policy.caveats(),
        [
            "built in: ClusterNetworkPolicy p: egress rule 1: domainNames are not enforced yet (*.example.com); \
          it accepts nothing"
        ]
    );
}

#[test]
fn what_the_definition_refuses_is_refused_by_field() {
    let good = json!({"action": "Deny", "to": [{"namespaces": {}}]});
    let with = |path: &str, value: Value| {
        let mut object = egress(good.clone());
        let (parent, key) = path.rsplit_once('/').unwrap();
        object.pointer_mut(parent).unwrap()[key] = value;
        object
    };
    let port = |port: Value| json!([{"tcp": {"destinationPort": port}}]);
    let many = |one: Value| Value::from(vec![one; 26]);
    for (object, field) in [
        (with("/spec/tier", json!("Cluster")), "spec.tier"),
        (with("/spec/tier", Value::Null), "spec.tier"),
        (with("/spec/priority", json!(1001)), "spec.priority"),
        (with("/spec/priority", json!(-1)), "spec.priority"),
        (with("/spec/priority", json!("high")), "spec.priority"),
        (with("/spec/subject", json!({})), "spec.subject"),
        (
            with(
                "/spec/subject",
                json!({"namespaces": {}, "pods": {"namespaceSelector": {}, "podSelector": {}}}),
            ),
            "spec.subject",
        ),
        (
            with(
                "/spec/subject",
                json!({"namespaces": {"matchExpressions": [{"key": "a", "operator": "Is"}]}}),
            ),
            "spec.subject.namespaces.matchExpressions[0].operator",
        ),
        (with("/spec/egress", many(good.clone())), "spec.egress"),
        (with("/spec/egress/0/action", json!("Allow")), "spec.egress[0].action"),
        (with("/spec/egress/0/name", json!("x".repeat(101))), "spec.egress[0].name"),
        (with("/spec/egress/0/to", json!([])), "spec.egress[0].to"),
        (with("/spec/egress/0/to", many(json!({"namespaces": {}}))), "spec.egress[0].to"),
        (with("/spec/egress/0/to", json!([{}])), "spec.egress[0].to[0]"),
        (with("/spec/egress/0/to", json!([{"nodes": {}, "namespaces": {}}])), "spec.egress[0].to[0]"),
        (with("/spec/egress/0/to", json!([{"networks": ["10.0.0.0"]}])), "spec.egress[0].to[0].networks[0]"),
        (
            with("/spec/egress/0/to", json!([{"networks": ["10.0.0.0/8", "10.0.0.0/8"]}])),
            "spec.egress[0].to[0].networks[1]",
        ),
        (
            with("/spec/egress/0/to", json!([{"domainNames": ["a.*.com"]}])),
            "spec.egress[0].to[0].domainNames[0]",
        ),
        (with("/spec/egress/0/protocols", json!([{}])), "spec.egress[0].protocols[0]"),
        (
            with("/spec/egress/0/protocols", json!([{"tcp": {}}])),
            "spec.egress[0].protocols[0].tcp.destinationPort",
        ),
        (
            with("/spec/egress/0/protocols", port(json!({"number": 0}))),
            "spec.egress[0].protocols[0].tcp.destinationPort.number",
        ),
        (
            with("/spec/egress/0/protocols", port(json!({"number": 70000}))),
            "spec.egress[0].protocols[0].tcp.destinationPort.number",
        ),
        (
            with("/spec/egress/0/protocols", port(json!({}))),
            "spec.egress[0].protocols[0].tcp.destinationPort",
        ),
        (
            with("/spec/egress/0/protocols", port(json!({"range": {"start": 9, "end": 9}}))),
            "spec.egress[0].protocols[0].tcp.destinationPort.range",
        ),
    ] {
        let faults = validate(&object);
        assert!(faults.iter().any(|it| it.field == field), "{field}: {faults:?}");
    }
    let mut named = egress(json!({"action": "Deny", "to": [{"networks": ["10.0.0.0/8"]}]}));
    named["spec"]["egress"][0]["protocols"] = json!([{"destinationNamedPort": "web"}]);
    assert_eq!(validate(&named)[0].field, "spec.egress[0].protocols");
}

#[test]
fn a_policy_that_is_gone_is_known_by_its_name() {
    assert_eq!(to_gone_event(&object(json!({}))), Some(Event::ClusterNetworkPolicyGone("p".into())));
}

/// Validation refuses both; this is what a watch of an API that did not would bring.
#[test]
fn without_a_selector_of_pods_a_peer_fails_closed_and_a_subject_is_an_error() {
    let pods = json!([{"pods": {"namespaceSelector": {}}}]);
    let rule = |action: &str| {
        let policy = to_event(&egress(json!({"action": action, "to": pods})), Origin::Builtin);
        let Ok(Some(Event::ClusterNetworkPolicy(policy))) = policy else { panic!("{policy:?}") };
        (policy.egress[0].action, policy.egress[0].matches.peers.clone(), policy.egress[0].caveat.clone())
    };
    assert_eq!(rule("Accept"), (Action::Accept, Some(vec![]), Some(Caveat::Unknown)));
    assert_eq!(rule("Pass"), (Action::Deny, None, Some(Caveat::Unknown)));
    let subject = json!({"tier": "Admin", "priority": 1, "subject": {"pods": {"namespaceSelector": {}}}});
    let error = to_event(&object(subject), Origin::Builtin).unwrap_err().to_string();
    assert!(error.contains("spec.subject.pods.podSelector") && error.contains("required"), "{error}");
}
