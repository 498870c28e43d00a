//! Load balancers of a twin, with packets: addresses on the node network, each of which one node answers for.

mod support;

use std::time::Duration;

use kilter_testkit::wait_until;
use serde_json::{Value, json};
use support::outside::text;
use support::{Twin, describe};

const PATIENCE: Duration = Duration::from_secs(60);

fn manifest() -> Value {
    let labels = |app: &str| json!({"app": app});
    let workload = |name: &str, replicas: u32| {
        json!({"apiVersion": "apps/v1", "kind": "Deployment", "metadata": {"name": name, "namespace": "shop"},
            "spec": {"replicas": replicas, "selector": {"matchLabels": labels(name)},
                "template": {"metadata": {"labels": labels(name)},
                    "spec": {"containers": [{"name": "c", "image": "x", "ports": [{"containerPort": 8080}]}]}}}})
    };
    let service = |name: &str, app: &str, more: Value| {
        let mut spec = json!({"type": "LoadBalancer", "selector": labels(app), "ipFamilyPolicy": "PreferDualStack",
            "allocateLoadBalancerNodePorts": false, "ports": [
                {"name": "tcp", "port": 80, "targetPort": 8080},
                {"name": "udp", "protocol": "UDP", "port": 80, "targetPort": 8080}]});
        spec.as_object_mut().unwrap().extend(more.as_object().unwrap().clone());
        json!({"apiVersion": "v1", "kind": "Service", "metadata": {"name": name, "namespace": "shop"}, "spec": spec})
    };
    json!({"apiVersion": "v1", "kind": "List", "items": [
        {"apiVersion": "v1", "kind": "Namespace", "metadata": {"name": "shop"}},
        workload("web", 4), workload("single", 1),
        service("web", "web", json!({"loadBalancerIP": "10.240.255.77"})),
        service("local", "single", json!({"externalTrafficPolicy": "Local"})),
        service("nobody", "nobody", json!({"ipFamilyPolicy": "SingleStack"})),
        service("foreign", "web", json!({"loadBalancerClass": "cloud.example/nlb"}))]})
}

/// Trials of load balancers, from the internet or from pods.
fn tried(report: &Value, from_internet: bool, protocol: &str, ipv6: bool) -> usize {
    let trials = report["judged"].as_array().unwrap().iter().map(|judged| &judged["trial"]);
    trials
        .filter(|trial| trial["target"].get("loadBalancer").is_some())
        .filter(|trial| (trial["fromName"]["name"] == "internet") == from_internet && trial["protocol"] == protocol)
        .filter(|trial| trial["to"].as_str().unwrap().starts_with('[') == ipv6)
        .count()
}

#[test]
fn load_balancers_have_addresses_on_the_node_network_and_survive_their_nodes() {
    let twin = Twin::named("balancers");
    let source = tempfile::Builder::new().suffix(".json").tempfile().unwrap();
    std::fs::write(source.path(), manifest().to_string()).unwrap();
    let output = twin.kilter(&["up", "--ip-family", "dual", "--nodes", "4", "-f", source.path().to_str().unwrap()]);
    assert!(output.status.success(), "kilter up: {}\n{}", describe(&output), twin.logs());
    let shown = || twin.kubectl(&["get", "svc", "-n", "shop", "--no-headers"]);
    wait_until(PATIENCE, "every load balancer of ours has its addresses", || shown().matches("<pending>").count() == 1);
    let external = |name: &str| {
        let all = shown();
        let line = all.lines().find(|line| line.starts_with(name)).unwrap().to_owned();
        line.split_whitespace().nth(3).unwrap().to_owned()
    };
    assert!(external("web").starts_with("10.240.255.77,fd00:240::ff"), "{}", shown());
    assert_eq!(external("foreign"), "<pending>");

    let report = twin.verify();
    assert_eq!(report["disagreements"], 0);
    for (protocol, ipv6) in [("TCP", false), ("TCP", true), ("UDP", false), ("UDP", true)] {
        assert_eq!(tried(&report, true, protocol, ipv6), if ipv6 { 2 } else { 3 }, "{protocol} {ipv6}");
        assert!(tried(&report, false, protocol, ipv6) > 0, "{protocol}");
    }
    twin.prove();

    // Nobody serves: refused at once, at a port that no Service has, too.
    for at in [external("nobody"), "10.240.255.77:81".to_owned()] {
        let refused = twin.inside("internet", &format!("curl -s --max-time 20 http://{at}/"));
        assert_eq!(refused.status.code(), Some(7), "{}", describe(&refused));
    }

    // Where an endpoint must be on the node, that node answers.
    let local = external("local").split(',').next().unwrap().to_owned();
    let single = ["get", "pods", "-n", "shop", "-l", "app=single", "-o", "jsonpath={.items[0].spec.nodeName}"];
    assert_eq!(twin.answering(&local), Some(twin.kubectl(&single)));

    // Load balancers beyond ours may ask each node whether to send packets there.
    let port = twin.kubectl(&["get", "svc", "-n", "shop", "local", "-o", "jsonpath={.spec.healthCheckNodePort}"]);
    let serving = twin.kubectl(&single);
    for number in 1..=4 {
        let code = if serving == format!("node-{number}") { "200" } else { "503" };
        let ask = format!("curl -s -o /dev/null -w '%{{http_code}}' http://10.240.0.{}:{port}/healthz", 10 + number);
        assert_eq!(text(&twin.inside("internet", &ask)), code, "node-{number}");
    }

    // Who is in no source range is dropped and named.
    let ranges = |ranges: Value| {
        let patch = json!({"spec": {"loadBalancerSourceRanges": ranges}}).to_string();
        twin.kubectl(&["patch", "svc", "-n", "shop", "web", "-p", &patch]);
    };
    ranges(json!(["203.0.113.0/24"]));
    wait_until(PATIENCE, "the internet is not served", || !twin.answers("10.240.255.77"));
    let drops = twin.kilter(&["flows", "--drops"]);
    assert!(text(&drops).contains("not in the Service's source ranges"), "{}", describe(&drops));
    ranges(json!(null));
    wait_until(PATIENCE, "the internet is served again", || twin.answers("10.240.255.77"));

    // The node that answers goes: another does, and the network knows.
    assert!(twin.answers("10.240.255.77"));
    let owner = twin.answering("10.240.255.77").expect("somebody answers");
    let removed = twin.kilter(&["node", "remove", &owner]);
    assert!(removed.status.success(), "{}", describe(&removed));
    wait_until(PATIENCE, "another node answers", || {
        twin.answers("10.240.255.77") && twin.answering("10.240.255.77").is_some_and(|now| now != owner)
    });
    // A pod that starts has its rows before the API knows its address.
    for workload in ["deployment/web", "deployment/single"] {
        twin.kubectl(&["rollout", "status", "-n", "shop", workload, "--timeout=60s"]);
    }
    twin.prove();
}
