//! Kubernetes objects as the model sees them: the defaults and the traps.

use kilter_model::{
    Event, Forwarding, IpBlock, NetworkPolicy, Origin, Peer, Pod, PodPhase, PortRange, PortSpec, Protocol,
};
use kilter_objects::{to_event, to_gone_event};
use serde_json::{Value, json};

fn policy(spec: Value) -> Result<NetworkPolicy, String> {
    let object = json!({"apiVersion": "networking.k8s.io/v1", "kind": "NetworkPolicy",
                        "metadata": {"name": "p", "namespace": "shop"}, "spec": spec});
    match to_event(&object, Origin::Builtin) {
        Ok(Some(Event::NetworkPolicy(policy))) => Ok(policy),
        Ok(other) => panic!("{other:?}"),
        Err(error) => Err(error.to_string()),
    }
}

fn pod(object: Value) -> Pod {
    let mut object = object;
    object["apiVersion"] = "v1".into();
    object["kind"] = "Pod".into();
    match to_event(&object, Origin::Builtin) {
        Ok(Some(Event::Pod(pod))) => pod,
        other => panic!("{other:?}"),
    }
}

/// How many rules apply to each direction; `None` where the policy does not apply.
fn applies(spec: Value) -> (Option<usize>, Option<usize>) {
    let policy = policy(spec).unwrap();
    (policy.ingress.map(|r| r.len()), policy.egress.map(|r| r.len()))
}

#[test]
fn trap_1_policy_types_left_out() {
    assert_eq!(applies(json!({"podSelector": {}})), (Some(0), None));
    assert_eq!(applies(json!({"podSelector": {}, "policyTypes": null})), (Some(0), None));
    assert_eq!(applies(json!({"podSelector": {}, "policyTypes": []})), (Some(0), None));
    assert_eq!(applies(json!({"podSelector": {}, "egress": []})), (Some(0), None));
    assert_eq!(applies(json!({"podSelector": {}, "egress": [{}]})), (Some(0), Some(1)));
    assert_eq!(applies(json!({"podSelector": {}, "ingress": [{}]})), (Some(1), None));
    assert_eq!(
        applies(json!({"podSelector": {}, "policyTypes": ["Egress"], "ingress": [{}]})),
        (None, Some(0))
    );
}

#[test]
fn trap_2_null_and_empty_lists() {
    for none in [json!(null), json!([])] {
        let spec = json!({"podSelector": {}, "ingress": none});
        assert_eq!(applies(spec), (Some(0), None));
        let rule = policy(json!({"podSelector": {}, "ingress": [{"from": none, "ports": none}]})).unwrap();
        let rule = &rule.ingress.unwrap()[0];
        assert_eq!((&rule.peers, &rule.ports), (&None, &None));
    }
}

#[test]
fn trap_3_selectors_of_peers() {
    let spec = json!({"podSelector": {}, "ingress": [{"from": [
        {"podSelector": {"matchLabels": {"a": "b"}}},
        {"namespaceSelector": {}},
        {"namespaceSelector": {"matchLabels": {"c": "d"}}, "podSelector": {"matchLabels": {"a": "b"}}},
    ]}]});
    let peers = policy(spec).unwrap().ingress.unwrap()[0].peers.clone().unwrap();
    let text: Vec<_> = peers
        .iter()
        .map(|peer| match peer {
            Peer::Pods { namespaces, pods } => {
                (namespaces.as_ref().map(ToString::to_string), pods.to_string())
            }
            Peer::IpBlock(_) | Peer::Nodes(_) => unreachable!(),
        })
        .collect();
    let expected = [(None, "a=b"), (Some(""), ""), (Some("c=d"), "a=b")];
    let expected = expected.map(|(n, p): (Option<&str>, &str)| (n.map(str::to_owned), p.to_owned()));
    assert_eq!(text, expected);
}

#[test]
fn trap_5_ports() {
    let spec = json!({"podSelector": {}, "egress": [{"ports": [
        {}, {"port": 80}, {"protocol": "UDP"}, {"port": 80, "endPort": 90, "protocol": "SCTP"}, {"port": "http"},
    ]}]});
    let rules = policy(spec).unwrap().egress.unwrap();
    let ports: Vec<_> = rules[0].ports.iter().flatten().map(|p| (p.protocol, p.port.clone())).collect();
    let expected = [
        (Protocol::Tcp, PortSpec::Range(PortRange::ALL)),
        (Protocol::Tcp, PortSpec::Range(PortRange::single(80))),
        (Protocol::Udp, PortSpec::Range(PortRange::ALL)),
        (Protocol::Sctp, PortSpec::Range(PortRange { first: 80, last: 90 })),
        (Protocol::Tcp, PortSpec::Named("http".into())),
    ];
    assert_eq!(ports, expected);
}

#[test]
fn blocks_are_read_as_kubernetes_reads_them() {
    let block = |cidr: &str, except: Value| {
        let spec =
            json!({"podSelector": {}, "egress": [{"to": [{"ipBlock": {"cidr": cidr, "except": except}}]}]});
        policy(spec).map(|p| match p.egress.unwrap()[0].peers.clone().unwrap().remove(0) {
            Peer::IpBlock(IpBlock { cidr, except }) => format!("{cidr} but {except:?}"),
            Peer::Pods { .. } | Peer::Nodes(_) => unreachable!(),
        })
    };
    assert_eq!(block("10.1.2.3/8", json!(null)).unwrap(), "10.0.0.0/8 but []");
    assert_eq!(block("010.0.0.0/08", json!(["10.1.0.0/16"])).unwrap(), "10.0.0.0/8 but [10.1.0.0/16]");
    assert_eq!(block("fd00::1/8", json!([])).unwrap(), "fd00::/8 but []");
    for bad in ["10.0.0.0", "10.0.0.0/33", "10.0.0/8", "10.0.0.256/8", "", "x/8", "10.0.0.0/", "10.0.0.0/+8", "+10.0.0.0/8"] {
        let error = block(bad, json!(null)).unwrap_err();
        assert_eq!(
            error,
            format!("NetworkPolicy shop/p: spec.egress[0].to[0].ipBlock.cidr: {bad:?} is not a CIDR")
        );
    }
}

/// A peer of a newer API must not open the pod.
#[test]
fn an_unknown_peer_matches_nothing() {
    let spec = json!({"podSelector": {}, "ingress": [{"from": [{"fromTheFuture": {}}]}, {}]});
    let rules = policy(spec).unwrap().ingress.unwrap();
    assert_eq!(rules.len(), 2, "answers name rules by number");
    assert_eq!(rules[0].peers, Some(vec![]), "nobody");
    assert_eq!(rules[1].peers, None, "anyone");
}

#[test]
fn what_a_policy_cannot_mean_is_an_error() {
    for (spec, expected) in [
        (
            json!({"podSelector": {"matchExpressions": [{"key": "a", "operator": "Is"}]}}),
            "spec.podSelector.matchExpressions[0].operator",
        ),
        (
            json!({"podSelector": {"matchExpressions": [{"key": "a", "operator": "In"}]}}),
            "spec.podSelector.matchExpressions[0].values",
        ),
        (json!({"podSelector": {}, "ingress": [{"ports": [{"port": 0}]}]}), "spec.ingress[0].ports[0].port"),
        (
            json!({"podSelector": {}, "ingress": [{"ports": [{"port": 70000}]}]}),
            "spec.ingress[0].ports[0].port",
        ),
        (
            json!({"podSelector": {}, "ingress": [{"ports": [{"port": 80, "endPort": 79}]}]}),
            "spec.ingress[0].ports[0].endPort",
        ),
        (
            json!({"podSelector": {}, "ingress": [{"ports": [{"endPort": 79}]}]}),
            "spec.ingress[0].ports[0].endPort",
        ),
        (
            json!({"podSelector": {}, "ingress": [{"ports": [{"port": 80, "protocol": "ICMP"}]}]}),
            "spec.ingress[0].ports[0].protocol",
        ),
        (
            json!({"podSelector": {}, "ingress": [{"ports": [{"port": true}]}]}),
            "spec.ingress[0].ports[0].port",
        ),
    ] {
        let error = policy(spec).unwrap_err();
        assert!(error.starts_with(&format!("NetworkPolicy shop/p: {expected}: ")), "{error}");
    }
}

#[test]
fn pods() {
    let it = pod(json!({
        "metadata": {"name": "web-5d8f-abcde", "namespace": "shop", "uid": "u1", "labels": {"pod-template-hash": "5d8f"},
                     "ownerReferences": [{"apiVersion": "apps/v1", "kind": "ReplicaSet", "name": "web-5d8f", "uid": "r", "controller": true}]},
        "spec": {"nodeName": "node-1", "hostNetwork": true, "containers": [
                     {"name": "a", "ports": [{"containerPort": 80, "name": "http"}, {"containerPort": 53, "protocol": "UDP"}]}],
                 "initContainers": [
                     {"name": "before", "ports": [{"containerPort": 1}]},
                     {"name": "beside", "restartPolicy": "Always", "ports": [{"containerPort": 90, "name": "metrics"}]}]},
        "status": {"phase": "Running", "podIP": "10.0.0.1", "podIPs": [{"ip": "10.0.0.1"}, {"ip": "fd00::1"}],
                   "conditions": [{"type": "Ready", "status": "True"}]},
    }));
    assert_eq!(it.owner.to_string(), "shop/web[Deployment]");
    assert_eq!((&*it.uid, it.node.as_deref(), it.host_network), ("u1", Some("node-1"), true));
    assert_eq!(it.addresses, ["10.0.0.1".parse::<std::net::IpAddr>().unwrap(), "fd00::1".parse().unwrap()]);
    assert_eq!((it.phase, it.ready, it.terminating), (PodPhase::Running, true, false));
    let ports: Vec<_> = it.ports.iter().map(|p| (p.port, p.protocol, p.name.as_deref())).collect();
    assert_eq!(
        ports,
        [(80, Protocol::Tcp, Some("http")), (53, Protocol::Udp, None), (90, Protocol::Tcp, Some("metrics"))]
    );
}

#[test]
fn owners() {
    let owner = |name: &str, labels: Value, references: Value| {
        pod(json!({"metadata": {"name": name, "labels": labels, "ownerReferences": references}}))
            .owner
            .to_string()
    };
    let by = |kind: &str, name: &str| json!([{"apiVersion": "x/v1", "kind": kind, "name": name, "uid": "u", "controller": true}]);
    let hash = json!({"pod-template-hash": "5d8f"});
    assert_eq!(owner("x", json!({}), json!(null)), "default/x[Pod]");
    assert_eq!(owner("x", json!({}), by("StatefulSet", "db")), "default/db[StatefulSet]");
    assert_eq!(owner("x", hash.clone(), by("ReplicaSet", "my-web-5d8f")), "default/my-web[Deployment]");
    assert_eq!(owner("x", hash.clone(), by("ReplicaSet", "web")), "default/web[ReplicaSet]");
    assert_eq!(owner("x", hash, by("ReplicaSet", "-5d8f")), "default/-5d8f[ReplicaSet]");
    assert_eq!(owner("x", json!({}), by("ReplicaSet", "web-5d8f")), "default/web-5d8f[ReplicaSet]");
    assert_eq!(owner("x", json!({}), by("Node", "node-1")), "default/x[Pod]");
}

#[test]
fn phases() {
    let phase = |phase: Value| pod(json!({"metadata": {"name": "x"}, "status": {"phase": phase}})).phase;
    for (given, expected) in [
        (json!(null), PodPhase::Pending),
        (json!("Running"), PodPhase::Running),
        (json!("Unknown"), PodPhase::Running),
        (json!("Succeeded"), PodPhase::Succeeded),
        (json!("Failed"), PodPhase::Failed),
    ] {
        assert_eq!(phase(given.clone()), expected, "{given}");
    }
}

#[test]
fn namespaces_carry_their_name_as_a_label() {
    let object =
        json!({"apiVersion": "v1", "kind": "Namespace", "metadata": {"name": "shop", "labels": {"a": "b"}}});
    let Ok(Some(Event::Namespace(it))) = to_event(&object, Origin::Builtin) else { panic!() };
    let labels: Vec<_> = it.labels.iter().map(|(k, v)| format!("{k}={v}")).collect();
    assert_eq!(labels, ["a=b", "kubernetes.io/metadata.name=shop"]);
}

#[test]
fn nodes_list_internal_addresses_first() {
    let object = json!({"apiVersion": "v1", "kind": "Node", "metadata": {"name": "n"},
        "spec": {"podCIDR": "10.244.1.0/24", "podCIDRs": ["10.244.1.0/24", "fd00:1::/64"]},
        "status": {"addresses": [{"type": "Hostname", "address": "n"}, {"type": "ExternalIP", "address": "1.2.3.4"},
                                 {"type": "InternalIP", "address": "10.0.0.1"}],
                   "conditions": [{"type": "Ready", "status": "True"}]}});
    let Ok(Some(Event::Node(it))) = to_event(&object, Origin::Builtin) else { panic!() };
    assert_eq!(it.addresses.iter().map(ToString::to_string).collect::<Vec<_>>(), ["10.0.0.1", "1.2.3.4"]);
    assert_eq!(
        it.pod_cidrs.iter().map(ToString::to_string).collect::<Vec<_>>(),
        ["10.244.1.0/24", "fd00:1::/64"]
    );
    assert!(it.ready);
}

#[test]
fn services() {
    let service = |spec: Value| {
        let object = json!({"apiVersion": "v1", "kind": "Service", "metadata": {"name": "s"}, "spec": spec});
        match to_event(&object, Origin::Builtin) {
            Ok(Some(Event::Service(it))) => it,
            other => panic!("{other:?}"),
        }
    };
    let plain = service(
        json!({"selector": {}, "clusterIP": "10.96.0.9", "ports": [{"port": 80}, {"port": 81, "targetPort": 0}, {"port": 82, "targetPort": "x"}]}),
    );
    assert_eq!(plain.selector, None, "an empty selector is none");
    assert_eq!(plain.cluster_ips.len(), 1);
    let targets: Vec<_> = plain.ports.iter().map(|p| format!("{:?}", p.target)).collect();
    assert_eq!(targets, ["Number(80)", "Number(81)", "Name(\"x\")"]);
    let headless = service(json!({"clusterIP": "None", "clusterIPs": ["None"], "selector": {"a": "b"}}));
    assert!(headless.headless && headless.cluster_ips.is_empty() && headless.selector.is_some());
}

#[test]
fn a_service_says_whether_refused_connections_are_retried() {
    let service = |annotations: Value| {
        let object = json!({"apiVersion": "v1", "kind": "Service", "metadata": {"name": "s", "annotations": annotations}});
        to_event(&object, Origin::Builtin)
    };
    for (text, wanted) in [("true", true), ("false", false)] {
        let Ok(Some(Event::Service(it))) = service(json!({"kilter.dev/retry-refused": text})) else { panic!() };
        assert_eq!(it.retry_refused, Some(wanted));
    }
    let Ok(Some(Event::Service(silent))) = service(json!({"other": "true"})) else { panic!() };
    assert_eq!(silent.retry_refused, None);
    let error = service(json!({"kilter.dev/retry-refused": "yes"})).unwrap_err().to_string();
    assert!(error.contains("kilter.dev/retry-refused: \"yes\" is neither true nor false"), "{error}");
}

#[test]
fn a_service_says_how_packets_from_outside_are_sent_on() {
    let service = |annotations: Value| {
        let object = json!({"apiVersion": "v1", "kind": "Service", "metadata": {"name": "s", "annotations": annotations}});
        let Ok(Some(Event::Service(it))) = to_event(&object, Origin::Builtin) else { panic!() };
        it.forwarding
    };
    assert_eq!(service(json!({"kilter.dev/forwarding": "dsr"})), Forwarding::Dsr);
    for other in [json!({}), json!({"kilter.dev/forwarding": "snat"}), json!({"kilter.dev/forwarding": "DSR"})] {
        assert_eq!(service(other), Forwarding::Snat);
    }
}

#[test]
fn slices() {
    let slice = |labels: Value, address_type: &str| {
        let object = json!({"apiVersion": "discovery.k8s.io/v1", "kind": "EndpointSlice",
            "metadata": {"name": "s-1", "namespace": "shop", "labels": labels}, "addressType": address_type,
            "ports": [{"name": "http", "port": 8080}, {"name": "all"}],
            "endpoints": [{"addresses": ["10.0.0.1", "10.0.0.2"]},
                          {"addresses": ["10.0.0.3"], "conditions": {"ready": false, "terminating": true}}]});
        to_event(&object, Origin::Builtin)
    };
    assert_eq!(slice(json!({}), "IPv4").unwrap(), None, "belongs to no Service");
    let Ok(Some(Event::EndpointSlice(it))) = slice(json!({"kubernetes.io/service-name": "s"}), "IPv4") else {
        panic!()
    };
    assert_eq!(it.ports.len(), 1, "a port without a number is left out");
    let conditions: Vec<_> = it.endpoints.iter().map(|e| (e.ready, e.serving, e.terminating)).collect();
    assert_eq!(conditions, [(true, true, false), (false, false, true)]);
    let Ok(Some(Event::EndpointSlice(names))) = slice(json!({"kubernetes.io/service-name": "s"}), "FQDN")
    else {
        panic!()
    };
    assert!(names.endpoints.is_empty());
}

#[test]
fn other_kinds_are_no_events_and_gone_events_name_the_object() {
    assert_eq!(
        to_event(&json!({"apiVersion": "apps/v1", "kind": "Deployment"}), Origin::Builtin).unwrap(),
        None
    );
    assert_eq!(
        to_event(&json!({"apiVersion": "example.org/v1", "kind": "Pod"}), Origin::Builtin).unwrap(),
        None
    );
    assert_eq!(to_event(&json!(null), Origin::Builtin).unwrap(), None);
    let gone = json!({"apiVersion": "v1", "kind": "Pod", "metadata": {"name": "x", "uid": "u"}});
    assert_eq!(to_gone_event(&gone), Some(Event::PodGone("u".into())));
}
