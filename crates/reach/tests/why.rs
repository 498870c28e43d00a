//! `why`, asked of manifests: what people read is in `snapshots/`, what must hold is asserted.

use std::path::{Path, PathBuf};

use kilter_manifests::Source;
use kilter_model::{Cluster, Protocol};
use kilter_reach::why::{Answer, NameError, Question, Subject, find, split_port, why};
use kilter_reach::{End, Options, connections};

fn load(sources: &[PathBuf]) -> Cluster {
    let sources: Vec<Source> = sources.iter().cloned().map(Source::Path).collect();
    cluster(&sources)
}

fn text(yaml: &str) -> Cluster {
    cluster(&[Source::Text { name: "test.yaml".into(), text: yaml.into() }])
}

fn cluster(sources: &[Source]) -> Cluster {
    let loaded = kilter_manifests::load(sources, &kilter_manifests::Options::default()).unwrap();
    kilter_manifests::cluster(&loaded).unwrap()
}

fn shop() -> Cluster {
    // Relative, so that the paths in answers are the same everywhere.
    load(&[Path::new("../../examples/shop").to_owned()])
}

fn ask(cluster: &Cluster, from: &str, to: &str) -> Result<Answer, NameError> {
    let (subject, port) = split_port(to)?;
    let question = Question { from: find(cluster, from)?, to: find(cluster, subject)?, port };
    why(cluster, &Options::default(), &question)
}

#[test]
fn the_deciding_rules_are_named_with_their_lines() {
    let shop = shop();
    insta::assert_snapshot!("allowed", ask(&shop, "cart", "payments:9090").unwrap());
    insta::assert_snapshot!("port", ask(&shop, "cart", "payments:9").unwrap());
    insta::assert_snapshot!("peer", ask(&shop, "catalog", "svc/payments").unwrap());
    insta::assert_snapshot!("internet", ask(&shop, "payments", "internet:443").unwrap());
    insta::assert_snapshot!("from_outside", ask(&shop, "192.0.2.1", "storefront").unwrap());
}

#[test]
fn a_slip_in_a_selector_is_found_on_sock_shop() {
    let Some(corpus) = kilter_testkit::corpus("sock-shop") else { return };
    let root = corpus.join("deploy/kubernetes");
    let cluster = load(&[root.join("manifests"), root.join("manifests-policy")]);
    let answer = ask(&cluster, "front-end", "carts:80").unwrap();
    assert!(!answer.verdict().is_allow());
    let near = answer.cases[0].ingress.nearest.as_ref().expect("a nearest rule");
    assert_eq!(near.policy.name.to_string(), "sock-shop/cart-access");
    assert!(near.lacks.to_string().contains("name=cart,"), "{near}");
    let answer = ask(&cluster, "carts", "carts-db:27017").unwrap();
    let near = answer.cases[0].ingress.nearest.as_ref().expect("a nearest rule");
    assert_eq!(near.policy.name.to_string(), "sock-shop/carts-db-access");
    assert!(ask(&cluster, "front-end", "svc/catalogue").unwrap().verdict().is_allow());
}

/// Two pods, and ClusterNetworkPolicies about `db`: one accepts `wep`, another denies everybody.
fn tiers(accept: u16, deny: u16, tier: &str) -> Cluster {
    let pod = |name: &str| format!(
        "{{apiVersion: v1, kind: Pod, metadata: {{name: {name}, labels: {{app: {name}}}}}, spec: {{containers: [{{name: a, image: a}}]}}}}\n---\n"
    );
    let policy = |name: &str, priority: u16, rule: &str| format!(
        "{{apiVersion: policy.networking.k8s.io/v1alpha2, kind: ClusterNetworkPolicy, metadata: {{name: {name}}}, \
         spec: {{tier: {tier}, priority: {priority}, subject: {{pods: {{namespaceSelector: {{}}, podSelector: {{matchLabels: {{app: db}}}}}}}}, \
         ingress: [{rule}]}}}}\n---\n"
    );
    let wep = "{action: Accept, from: [{pods: {namespaceSelector: {}, podSelector: {matchLabels: {app: wep}}}}]}";
    let all = "{action: Deny, from: [{namespaces: {}}]}";
    text(&(pod("web") + &pod("db") + &policy("some", accept, wep) + &policy("none", deny, all)))
}

#[test]
fn rules_of_cluster_policies_may_be_near() {
    for tier in ["Admin", "Baseline"] {
        let answer = ask(&tiers(1, 2, tier), "web", "db:5432").unwrap();
        let near = answer.cases[0].ingress.nearest.as_ref().expect("a nearest rule");
        assert_eq!(near.policy.to_string(), "ClusterNetworkPolicy some", "{near}");
        assert!(near.lacks.to_string().contains("app=wep,"), "{near}");
        let answer = ask(&tiers(2, 1, tier), "web", "db:5432").unwrap();
        assert_eq!(answer.cases[0].ingress.nearest, None, "it is not asked after the one that denies");
    }
}

const SMALL: &str = r#"
{apiVersion: v1, kind: Pod, metadata: {name: web, labels: {app: web}}, spec: {containers: [{name: a, image: a, ports: [{name: http, containerPort: 8080}]}]}}
---
{apiVersion: v1, kind: Pod, metadata: {name: host}, spec: {hostNetwork: true, containers: [{name: a, image: a}]}}
---
{apiVersion: v1, kind: Pod, metadata: {name: web, namespace: other, labels: {app: web}}, spec: {containers: [{name: a, image: a}]}}
---
{apiVersion: v1, kind: Service, metadata: {name: gone}, spec: {selector: {app: wep}, ports: [{port: 80}]}}
---
{apiVersion: v1, kind: Service, metadata: {name: wrong}, spec: {selector: {app: web}, ports: [{port: 80, targetPort: htpp}]}}
---
{apiVersion: networking.k8s.io/v1, kind: NetworkPolicy, metadata: {name: half}, spec: {podSelector: {matchLabels: {app: web}}, ingress: [{from: [{ipBlock: {cidr: 10.244.128.0/17}}]}]}}
"#;

#[test]
fn a_service_without_endpoints_says_why() {
    let cluster = text(SMALL);
    insta::assert_snapshot!("no_pods", ask(&cluster, "host", "svc/gone").unwrap());
    insta::assert_snapshot!("no_target", ask(&cluster, "host", "svc/wrong").unwrap());
    insta::assert_snapshot!("no_port", ask(&cluster, "host", "svc/gone:81").unwrap());
}

#[test]
fn an_address_that_is_not_known_yet_gives_both_answers() {
    let answer = ask(&text(SMALL), "other/web", "default/web:8080").unwrap();
    let verdicts: Vec<bool> = answer.cases.iter().map(|it| it.verdict.is_allow()).collect();
    assert_eq!(verdicts, [false, true], "{answer}");
    assert!(answer.cases.iter().all(|it| it.undefined.is_none()));
}

#[test]
fn what_the_specification_leaves_open_names_its_clause() {
    let answer = ask(&text(SMALL), "host", "default/web:8080").unwrap();
    assert!(
        answer.cases.iter().all(|it| it.undefined.as_deref().is_some_and(|it| it.contains("hostNetwork")))
    );
}

#[test]
fn names_that_say_nothing_are_errors_that_help() {
    let shop = shop();
    let near = find(&shop, "catalogue").unwrap_err().to_string();
    assert!(near.contains("did you mean") && near.contains("shop/catalog"), "{near}");
    let small = text(SMALL);
    let several = find(&small, "web").unwrap_err().to_string();
    assert!(several.contains("default/web[Pod]") && several.contains("other/web[Pod]"), "{several}");
    assert!(matches!(find(&small, "other/pod/web"), Ok(Subject::Pods { .. })));
    assert!(matches!(find(&small, "a/b/c/d"), Err(NameError::Malformed { .. })));
    assert!(find(&small, "node/x").is_err());
    assert!(ask(&small, "svc/gone", "other/web:1").unwrap_err().to_string().contains("opens no connections"));
    assert!(ask(&small, "other/web", "default/web:sql").unwrap_err().to_string().contains("http"));
}

/// Two computations of one thing: the list of all connections, and each asked for by itself.
#[test]
fn why_agrees_with_the_list_of_connections() {
    let shop = shop();
    let listed = connections(&shop, &Options::default());
    let names: Vec<String> = shop.pods().map(|it| it.owner.name.to_string()).collect();
    for from in &names {
        for to in names.iter().filter(|it| *it != from) {
            let list = listed.iter().find(|it| {
                matches!((&it.from, &it.to), (End::Workload(a), End::Workload(b))
                    if a.name.to_string() == *from && b.name.to_string() == *to)
            });
            for (protocol, port) in [(Protocol::Tcp, 8080), (Protocol::Tcp, 5432), (Protocol::Udp, 8125)] {
                let answer = ask(&shop, from, &format!("{to}:{port}/{protocol}")).unwrap();
                let expected = list.is_some_and(|it| it.ports.contains(protocol, port));
                assert_eq!(
                    answer.verdict().is_allow(),
                    expected,
                    "{from} => {to} {protocol} {port}\n{answer}"
                );
            }
        }
    }
}

const NODES: &str = r#"
{apiVersion: v1, kind: Node, metadata: {name: n1}, status: {addresses: [{type: InternalIP, address: 10.240.0.11}]}}
---
{apiVersion: v1, kind: Node, metadata: {name: n2}, status: {addresses: [{type: InternalIP, address: 10.240.0.12}]}}
---
{apiVersion: v1, kind: Pod, metadata: {name: web, labels: {app: web}}, spec: {nodeName: n1, containers: [{name: a, image: a, ports: [{containerPort: 8080, hostPort: 8000}]}]}}
---
{apiVersion: v1, kind: Pod, metadata: {name: far}, spec: {nodeName: n2, containers: [{name: a, image: a}]}}
---
{apiVersion: v1, kind: Service, metadata: {name: web}, spec: {type: NodePort, externalIPs: [192.0.2.80], selector: {app: web}, ports: [{port: 80, targetPort: 8080, nodePort: 30080}]}}
---
{apiVersion: networking.k8s.io/v1, kind: NetworkPolicy, metadata: {name: web}, spec: {podSelector: {matchLabels: {app: web}}, ingress: [{from: [{ipBlock: {cidr: 198.51.100.0/24}}]}]}}
"#;

#[test]
fn a_port_of_a_node_is_what_it_leads_to() {
    let cluster = text(NODES);
    let asked = |from: &str, to: &str| {
        let answer = ask(&cluster, from, to).unwrap();
        let ways: Vec<_> = answer.cases.iter().map(|it| it.via.clone().unwrap_or_default()).collect();
        (ways, answer.verdict().is_allow())
    };
    let (at_node, host) = ("port 30080 of node/n1, svc/default/web port 80", "port 8000 of node/n1");
    assert_eq!(asked("198.51.100.7", "node/n1:30080"), (vec![at_node.into()], true));
    assert_eq!(asked("203.0.113.7", "node/n1:30080"), (vec![at_node.into()], false));
    assert_eq!(asked("203.0.113.7", "10.240.0.12:30080").0, ["port 30080 of 10.240.0.12, svc/default/web port 80"]);
    assert_eq!(asked("203.0.113.7", "192.0.2.80:80"), (vec!["svc/default/web port 80".into()], false));
    assert_eq!(asked("198.51.100.7", "node/n1:8000"), (vec![host.into()], true));
    assert_eq!(asked("203.0.113.7", "node/n1:8000"), (vec![host.into()], false));
    assert_eq!(asked("far", "node/n1:8000"), (vec![host.into(), String::new()], false));
    assert_eq!(asked("203.0.113.7", "node/n2:8000"), (vec![String::new()], true), "nothing leads on there");
}
