//! Services from outside a twin, with packets: from its internet, from pods, and without endpoints.

mod support;

use std::process::{Command, Output};

use serde_json::{Value, json};
use support::{Twin, describe};

/// A web server on each of three nodes, whose Service has a node port, and one that only nodes with a pod of
/// it serve. A policy lets in the internet and one client, and not the other client.
fn manifest() -> Value {
    let labels = |app: &str| json!({"app": app});
    let container = |name: &str| json!({"name": name, "image": name, "ports": [{"containerPort": 8080}]});
    let workload = |kind: &str, name: &str, replicas: Option<u32>| {
        json!({"apiVersion": "apps/v1", "kind": kind, "metadata": {"name": name, "namespace": "shop"},
            "spec": {"replicas": replicas, "selector": {"matchLabels": labels(name)},
                "template": {"metadata": {"labels": labels(name)}, "spec": {"containers": [container(name)]}}}})
    };
    let service = |name: &str, app: &str, node_port: u16, policy: &str| {
        json!({"apiVersion": "v1", "kind": "Service", "metadata": {"name": name, "namespace": "shop"},
            "spec": {"type": "NodePort", "externalTrafficPolicy": policy, "selector": labels(app),
                "ipFamilyPolicy": "PreferDualStack", "ports": [
                    {"name": "tcp", "port": 80, "targetPort": 8080, "nodePort": node_port},
                    {"name": "udp", "protocol": "UDP", "port": 80, "targetPort": 8080, "nodePort": node_port}]}})
    };
    let policy = json!({"apiVersion": "networking.k8s.io/v1", "kind": "NetworkPolicy",
        "metadata": {"name": "guarded", "namespace": "shop"},
        "spec": {"podSelector": {"matchLabels": labels("guarded")}, "ingress": [
            {"from": [{"ipBlock": {"cidr": "198.51.100.0/24"}}, {"ipBlock": {"cidr": "2001:db8::/32"}},
                {"podSelector": {"matchLabels": labels("web")}}]}]}});
    json!({"apiVersion": "v1", "kind": "List", "items": [
        {"apiVersion": "v1", "kind": "Namespace", "metadata": {"name": "shop"}},
        workload("DaemonSet", "web", None), workload("Deployment", "single", Some(1)),
        workload("Deployment", "guarded", Some(2)), policy,
        service("web", "web", 30080, "Cluster"), service("single", "single", 30081, "Cluster"),
        service("local", "single", 30082, "Local"), service("guarded", "guarded", 30083, "Cluster"),
        service("nobody", "nobody", 30084, "Cluster"), service("nobody-local", "nobody", 30085, "Local")]})
}

/// Runs a command in the twin's internet.
fn outside(twin: &Twin, words: &[&str]) -> Output {
    let netns = format!("--net=/run/kilter/{}/ns/internet", twin.name);
    Command::new("nsenter").arg(netns).args(words).output().expect("nsenter runs")
}

/// How many trials were made from the internet, and from pods, to node ports over this protocol and family.
fn tried(report: &Value, from_internet: bool, protocol: &str, ipv6: bool) -> usize {
    let trials = report["judged"].as_array().unwrap().iter().map(|judged| &judged["trial"]);
    let to_node_ports = trials.filter(|trial| trial["target"].get("nodePort").is_some());
    to_node_ports
        .filter(|trial| (trial["fromName"]["name"] == "internet") == from_internet && trial["protocol"] == protocol)
        .filter(|trial| trial["to"].as_str().unwrap().starts_with('[') == ipv6)
        .count()
}

#[test]
fn node_ports_answer_from_everywhere_as_the_model_says() {
    node_ports_answer("edge", "native");
}

#[test]
fn node_ports_answer_through_the_tunnel_too() {
    node_ports_answer("edge-vxlan", "vxlan");
}

fn node_ports_answer(name: &str, routing: &str) {
    let twin = Twin::named(name);
    let source = tempfile::Builder::new().suffix(".json").tempfile().unwrap();
    std::fs::write(source.path(), manifest().to_string()).unwrap();
    let path = source.path().to_str().unwrap();
    let output = twin.kilter(&["up", "--ip-family", "dual", "--routing", routing, "-f", path]);
    assert!(output.status.success(), "kilter up: {}\n{}", describe(&output), twin.logs());
    let report = twin.verify();
    assert_eq!(report["disagreements"], 0);
    for (protocol, ipv6) in [("TCP", false), ("TCP", true), ("UDP", false), ("UDP", true)] {
        // Five Services at three nodes, and the one that only one node serves.
        assert_eq!(tried(&report, true, protocol, ipv6), 5 * 3 + 1, "{protocol}");
        assert!(tried(&report, false, protocol, ipv6) > 0, "{protocol}");
    }
    // Nobody there: refused at once, long before a connection would time out.
    for at in ["http://10.240.0.11:30084/", "http://[fd00:240::11]:30085/"] {
        let refused = outside(&twin, &["curl", "-sg", "--max-time", "20", at]);
        assert_eq!(refused.status.code(), Some(7), "{}", describe(&refused));
    }
    // Another node has one: dropped, counted and named.
    let single = twin.kubectl(&["get", "pods", "-n", "shop", "-l", "app=single", "-o", "jsonpath={.items[0].spec.nodeName}"]);
    let node = if single == "node-1" { 2 } else { 1 };
    let silent = outside(&twin, &["curl", "-s", "--max-time", "2", &format!("http://10.240.0.1{node}:30082/")]);
    assert_eq!(silent.status.code(), Some(28), "{}", describe(&silent));
    let drops = twin.kilter(&["flows", "--drops", "-o", "json"]);
    let text = String::from_utf8_lossy(&drops.stdout).into_owned();
    assert!(text.contains("no endpoint of the Service"), "{}", describe(&drops));
}
