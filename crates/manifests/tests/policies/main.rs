//! Bad policies: every fault is an error or a warning that names file, line and field; none panics,
//! and no rule is silently taken for another.

mod through;

use proptest::prelude::*;
use serde_json::{Value, json};
use through::through;

/// A policy of each kind that says everything that one can say, and the pods it is about.
fn objects() -> Vec<Value> {
    let selector = json!({"matchLabels": {"app": "a"}, "matchExpressions": [
        {"key": "tier", "operator": "NotIn", "values": ["x"]}, {"key": "old", "operator": "DoesNotExist"}]});
    vec![
        json!({"apiVersion": "v1", "kind": "Pod", "metadata": {"name": "a", "namespace": "shop", "labels": {"app": "a"}},
            "spec": {"nodeName": "n", "containers": [{"name": "c", "image": "i", "ports": [{"name": "web", "containerPort": 80}]}]},
            "status": {"phase": "Running", "podIPs": [{"ip": "10.244.0.5"}]}}),
        json!({"apiVersion": "networking.k8s.io/v1", "kind": "NetworkPolicy", "metadata": {"name": "p", "namespace": "shop"},
            "spec": {"podSelector": selector, "policyTypes": ["Ingress", "Egress"],
                "ingress": [{"from": [{"podSelector": selector, "namespaceSelector": selector},
                    {"ipBlock": {"cidr": "10.0.0.0/8", "except": ["10.1.0.0/16", "10.2.0.0/16"]}}],
                    "ports": [{"protocol": "TCP", "port": 80, "endPort": 90}, {"port": "web"}]}],
                "egress": [{"to": [{"namespaceSelector": {}}], "ports": [{"protocol": "UDP", "port": 53}]}]}}),
        json!({"apiVersion": "policy.networking.k8s.io/v1alpha2", "kind": "ClusterNetworkPolicy", "metadata": {"name": "c"},
            "spec": {"tier": "Admin", "priority": 7,
                "subject": {"pods": {"namespaceSelector": selector, "podSelector": {}}},
                "ingress": [{"name": "in", "action": "Pass", "from": [{"namespaces": selector}],
                    "protocols": [{"destinationNamedPort": "web"}]}],
                "egress": [{"action": "Deny", "to": [{"networks": ["10.0.0.0/8"]}, {"nodes": selector},
                    {"pods": {"namespaceSelector": {}, "podSelector": selector}}],
                    "protocols": [{"tcp": {"destinationPort": {"number": 80}}},
                        {"sctp": {"destinationPort": {"range": {"start": 1, "end": 9}}}}]}]}}),
    ]
}

fn text(objects: &[Value]) -> String {
    objects.iter().map(Value::to_string).collect::<Vec<_>>().join("\n---\n")
}

/// The keys of an object whose names mean something, as JSON pointers.
fn keys(value: &Value, at: &str, found: &mut Vec<String>) {
    match value {
        Value::Object(fields) => {
            for (key, value) in fields {
                let here = format!("{at}/{key}");
                found.push(here.clone());
                // Their keys are labels of anybody's choice.
                if !["matchLabels", "labels"].contains(&key.as_str()) {
                    keys(value, &here, found);
                }
            }
        }
        Value::Array(items) => {
            for (i, item) in items.iter().enumerate() {
                keys(item, &format!("{at}/{i}"), found);
            }
        }
        _ => {}
    }
}

/// What is said of a text: errors, or warnings, or nothing.
fn said(text: &str) -> String {
    match through(text) {
        Err(error) => error.to_string(),
        Ok((loaded, _)) => loaded.warnings.iter().map(ToString::to_string).collect::<Vec<_>>().join("\n"),
    }
}

#[test]
fn what_is_right_is_loaded_without_a_word() {
    assert_eq!(said(&text(&objects())), "");
}

/// A key that is misspelt never goes unnoticed, wherever it stands.
#[test]
fn every_key_that_is_misspelt_is_reported() {
    let right = objects();
    let mut tried = 0;
    for (number, object) in right.iter().enumerate() {
        let mut all = Vec::new();
        keys(object, "", &mut all);
        for pointer in all.iter().filter(|it| !it.starts_with("/status") && !it.ends_with("apiVersion")) {
            let (parent, key) = pointer.rsplit_once('/').unwrap();
            let mut wrong = right.clone();
            let fields = wrong[number].pointer_mut(parent).and_then(Value::as_object_mut).unwrap();
            let value = fields.remove(key).unwrap();
            fields.insert(format!("{key}x"), value);
            assert_ne!(said(&text(&wrong)), "", "{pointer} misspelt");
            tried += 1;
        }
    }
    assert!(tried > 80, "{tried}");
}

/// Nor does a value of another type.
#[test]
fn every_value_of_another_type_is_reported() {
    let right = objects();
    for (number, object) in right.iter().enumerate() {
        let mut all = Vec::new();
        keys(object, "", &mut all);
        for pointer in all.iter().filter(|it| !it.starts_with("/status")) {
            for other in [json!(true), json!(1.5), json!({"x": [1]}), json!([[]])] {
                let mut wrong = right.clone();
                *wrong[number].pointer_mut(pointer).unwrap() = other.clone();
                assert_ne!(said(&text(&wrong)), "", "{pointer} as {other}");
            }
        }
    }
}

#[test]
fn bad_policies_are_refused_by_file_line_and_field() {
    let policy = |spec: &str| {
        format!(
            "# a comment\napiVersion: networking.k8s.io/v1\nkind: NetworkPolicy\nmetadata: {{name: p, namespace: shop}}\nspec: {spec}\n"
        )
    };
    let cluster_policy = |spec: &str| {
        format!(
            "apiVersion: policy.networking.k8s.io/v1alpha2\nkind: ClusterNetworkPolicy\nmetadata: {{name: c}}\nspec: {spec}\n"
        )
    };
    let all = "tier: Admin, priority: 1, subject: {namespaces: {}}";
    let cases = [
        policy("{podSelector: {matchExpressions: [{key: app, operator: Is}]}}"),
        policy("{podSelector: {matchExpressions: [{key: app, operator: In}]}}"),
        policy("{podSelector: {matchExpressions: [{key: app, operator: Exists, values: [a]}]}}"),
        policy("{podSelector: {matchLabels: {\"a b\": c}}}"),
        policy("{podSelector: {}, ingress: [{from: [{ipBlock: {cidr: 10.0.0.0/33}}]}]}"),
        policy(
            "{podSelector: {}, ingress: [{from: [{ipBlock: {cidr: 10.0.0.0/8, except: [11.0.0.0/16]}}]}]}",
        ),
        policy(
            "{podSelector: {}, ingress: [{from: [{ipBlock: {cidr: 10.0.0.0/8, except: ['fd00::/16']}}]}]}",
        ),
        policy("{podSelector: {}, ingress: [{from: [{ipBlock: {cidr: 10.0.0.0/8}, podSelector: {}}]}]}"),
        policy("{podSelector: {}, ingress: [{from: [{}]}]}"),
        policy("{podSelector: {}, egress: [{ports: [{port: 90, endPort: 80}]}]}"),
        policy("{podSelector: {}, egress: [{ports: [{port: http, endPort: 80}]}]}"),
        policy("{podSelector: {}, egress: [{ports: [{port: 70000}]}]}"),
        policy("{podSelector: {}, egress: [{ports: [{port: 80, protocol: ICMP}]}]}"),
        policy("{podSelector: {}, policyTypes: [Inbound]}"),
        policy("{podSelector: {}, ingres: []}"),
        policy("{podSelector: {}, ingress: {from: []}}"),
        cluster_policy("{tier: Cluster, priority: 1, subject: {namespaces: {}}}"),
        cluster_policy("{tier: Admin, priority: 1001, subject: {namespaces: {}}}"),
        cluster_policy("{tier: Admin, priority: 1}"),
        cluster_policy(&format!("{{{all}, egress: [{{action: Allow, to: [{{namespaces: {{}}}}]}}]}}")),
        cluster_policy(&format!("{{{all}, egress: [{{action: Deny, to: [{{from: future}}]}}]}}")),
        cluster_policy(&format!(
            "{{{all}, egress: [{{action: Deny, to: [{{networks: [10.0.0.0/8]}}], protocols: [{{destinationNamedPort: web}}]}}]}}"
        )),
        cluster_policy(&format!(
            "{{{all}, egress: [{{action: Deny, to: [{{namespaces: {{}}}}], protocols: [{{tcp: {{destinationPort: {{range: {{start: 9, end: 1}}}}}}}}]}}]}}"
        )),
        cluster_policy(&format!("{{{all}, egress: [{{action: Deny, to: [{{pods: {{namespaceSelector: {{}}}}}}]}}]}}")),
        cluster_policy(&format!("{{{all}, egress: [{{action: Deny, to: []}}]}}")),
        cluster_policy(&format!("{{{all}, egress: [{{action: Deny, to: [{{nodes: {{}}, namespaces: {{}}}}]}}]}}")),
        cluster_policy(&format!("{{{all}, egress: [{{action: Deny, to: [{{networks: [10.0.0.0/8, 10.0.0.0/8]}}]}}]}}")),
        cluster_policy(&format!("{{{all}, egress: [{{action: Accept, to: [{{domainNames: ['a.*.org']}}]}}]}}")),
        cluster_policy(&format!("{{{all}, ingress: [{{action: Deny, from: [{{networks: [10.0.0.0/8]}}]}}]}}")),
        cluster_policy(&format!("{{{all}, ingress: [{}]}}", ["{action: Deny, from: [{namespaces: {}}]}"; 26].join(", "))),
    ];
    let report: Vec<String> = cases
        .iter()
        .map(|it| {
            format!("{}\n    {}", it.lines().last().unwrap_or_default(), said(it).replace('\n', "\n    "))
        })
        .collect();
    for (case, line) in cases.iter().zip(&report) {
        assert!(line.contains("x.yaml:"), "{case}");
    }
    insta::assert_snapshot!(report.join("\n"));
}

/// Pieces of policies in any order and indentation.
fn pieces() -> impl Strategy<Value = String> {
    let word = "(apiVersion|kind|metadata|name|namespace|spec|podSelector|matchLabels|matchExpressions|key|operator\
                |values|ingress|egress|from|to|ports|port|endPort|protocol|ipBlock|cidr|except|policyTypes|tier|priority\
                |subject|namespaces|pods|action|networks|nodes|domainNames|protocols|tcp|destinationPort|range|start|end)";
    let value = "( networking.k8s.io/v1| NetworkPolicy| ClusterNetworkPolicy| policy.networking.k8s.io/v1alpha2| p| \\{\\}\
                 | \\[\\]| 80| 70000| -1| TCP| 10.0.0.0/8| ::/0| Admin| Deny| Pass| In| null| \"\"| \\[a, b\\]|)";
    let line = ("( ){0,8}", "(- )?", word, value)
        .prop_map(|(indent, dash, word, value)| format!("{indent}{dash}{word}:{value}\n"));
    prop::collection::vec(line, 0..30).prop_map(|it| it.concat())
}

/// A right text with some of it changed.
fn mutated() -> impl Strategy<Value = String> {
    let whole = text(&objects());
    let edits = prop::collection::vec((0..whole.len(), 0..12usize, "[ -~]{0,6}"), 1..4);
    edits.prop_map(move |edits| {
        let mut bytes = whole.clone().into_bytes();
        for (at, length, new) in edits {
            let at = at.min(bytes.len());
            let end = (at + length).min(bytes.len());
            bytes.splice(at..end, new.into_bytes());
        }
        String::from_utf8_lossy(&bytes).into_owned()
    })
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 1500, failure_persistence: None, ..ProptestConfig::default() })]

    #[test]
    fn no_text_panics(text in prop_oneof![pieces(), mutated()]) {
        if let Err(error) = through(&text) {
            prop_assert!(!error.to_string().is_empty());
        }
    }
}
