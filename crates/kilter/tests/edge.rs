//! Services from outside a twin, with packets: from its internet, from pods, and without endpoints.

mod support;

use std::process::{Command, Output};
use std::time::Duration;

use kilter_testkit::wait_until;
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
    // Ports of nodes that lead to one pod: on each node, at one node's address of IPv4 alone, and one to clash at.
    let mut web = workload("DaemonSet", "web", None);
    web["spec"]["template"]["spec"]["containers"][0]["ports"] = json!([
        {"containerPort": 8080, "hostPort": 9080}, {"containerPort": 8080, "hostPort": 9080, "protocol": "UDP"}]);
    let mut pinned = workload("Deployment", "pinned", Some(1));
    pinned["spec"]["template"]["spec"]["nodeSelector"] = json!({"kubernetes.io/hostname": "node-1"});
    pinned["spec"]["template"]["spec"]["containers"][0]["ports"] =
        json!([{"containerPort": 8080, "hostPort": 9081, "hostIP": "10.240.0.11"}]);
    let mut clash = workload("Deployment", "clash", Some(1));
    clash["spec"]["template"]["spec"]["containers"][0]["ports"] = json!([{"containerPort": 8080, "hostPort": 9082}]);
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
        web, pinned, clash, workload("Deployment", "single", Some(1)),
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

/// How many trials were made from the internet, and from pods, to such ports over this protocol and family.
fn tried(report: &Value, target: &str, from_internet: bool, protocol: &str, ipv6: bool) -> usize {
    let trials = report["judged"].as_array().unwrap().iter().map(|judged| &judged["trial"]);
    let to_node_ports = trials.filter(|trial| trial["target"].get(target).is_some());
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
        assert_eq!(tried(&report, "nodePort", true, protocol, ipv6), 5 * 3 + 1, "{protocol}");
        assert!(tried(&report, "nodePort", false, protocol, ipv6) > 0, "{protocol}");
        // One at each node; of TCP also the one to clash at, and the one that has an address of IPv4.
        let only_tcp = if protocol == "TCP" { 1 + usize::from(!ipv6) } else { 0 };
        assert_eq!(tried(&report, "hostPort", true, protocol, ipv6), 3 + only_tcp, "{protocol}");
        assert!(tried(&report, "hostPort", false, protocol, ipv6) > 0, "{protocol}");
    }
    let not_there = outside(&twin, &["curl", "-sg", "--max-time", "20", "http://[fd00:240::11]:9081/"]);
    assert_eq!(not_there.status.code(), Some(7), "hostIP is of IPv4: {}", describe(&not_there));
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
    // Each node has one of its ports to give.
    twin.kubectl(&["scale", "-n", "shop", "deployment/clash", "--replicas", "4"]);
    let why = "0/3 nodes are available: 3 node(s) didn't have free ports for the requested pod ports.";
    wait_until(Duration::from_secs(60), why, || {
        let message = "jsonpath={.items[*].status.conditions[?(@.reason=='Unschedulable')].message}";
        twin.kubectl(&["get", "pods", "-n", "shop", "-l", "app=clash", "-o", message]) == why
    });
    twin.kubectl(&["scale", "-n", "shop", "deployment/clash", "--replicas", "3"]);
    twin.kubectl(&["rollout", "status", "-n", "shop", "deployment/clash", "--timeout", "60s"]);
    assert_eq!(twin.verify()["disagreements"], 0);
}
