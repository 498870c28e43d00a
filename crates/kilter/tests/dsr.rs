//! Direct server return in a twin: a connection from the internet goes on when the node at which it enters is removed,
//! and its server sees the client all the time.

mod support;

use std::io::{BufRead, BufReader, Read, Write};
use std::net::TcpStream;
use std::time::Duration;

use kilter_netns::NetNs;
use kilter_testkit::wait_until;
use kilter_twin::Layout;
use serde_json::{Value, json};
use support::{Twin, describe};

const PATIENCE: Duration = Duration::from_secs(60);
const BALANCER: &str = "10.240.255.77";

/// A web server on one node; and one on two nodes, which a policy hides from everybody but the internet.
fn manifest() -> Value {
    let labels = |app: &str| json!({"app": app});
    let workload = |name: &str, replicas: u32, nodes: Value| {
        json!({"apiVersion": "apps/v1", "kind": "Deployment", "metadata": {"name": name, "namespace": "shop"},
            "spec": {"replicas": replicas, "selector": {"matchLabels": labels(name)},
                "template": {"metadata": {"labels": labels(name)}, "spec": {"nodeSelector": nodes,
                    "containers": [{"name": "c", "image": "x", "ports": [{"containerPort": 8080}]}]}}}})
    };
    let service = |name: &str, more: Value| {
        let mut spec = json!({"selector": labels(name), "ipFamilyPolicy": "PreferDualStack", "ports": [
            {"name": "tcp", "port": 80, "targetPort": 8080},
            {"name": "udp", "protocol": "UDP", "port": 80, "targetPort": 8080}]});
        spec.as_object_mut().unwrap().extend(more.as_object().unwrap().clone());
        let annotations = json!({"kilter.dev/forwarding": "dsr"});
        json!({"apiVersion": "v1", "kind": "Service",
            "metadata": {"name": name, "namespace": "shop", "annotations": annotations}, "spec": spec})
    };
    let policy = json!({"apiVersion": "networking.k8s.io/v1", "kind": "NetworkPolicy",
        "metadata": {"name": "guarded", "namespace": "shop"}, "spec": {"podSelector": {"matchLabels": labels("guarded")},
            "ingress": [{"from": [{"ipBlock": {"cidr": "198.51.100.0/24"}}, {"ipBlock": {"cidr": "2001:db8::/32"}}]}]}});
    json!({"apiVersion": "v1", "kind": "List", "items": [
        {"apiVersion": "v1", "kind": "Namespace", "metadata": {"name": "shop"}},
        workload("web", 1, json!({"kubernetes.io/hostname": "node-1"})), workload("guarded", 2, json!({})), policy,
        service("web", json!({"type": "LoadBalancer", "loadBalancerIP": BALANCER})),
        service("guarded", json!({"type": "NodePort"}))]})
}

/// A connection from the twin's internet over which one asks again and again.
struct Connection {
    stream: BufReader<TcpStream>,
}

impl Connection {
    fn open(twin: &Twin) -> Self {
        let internet = NetNs::open(Layout::new(&twin.name).internet()).unwrap();
        let stream = internet.run(|| TcpStream::connect((BALANCER, 80))).unwrap().unwrap();
        stream.set_read_timeout(Some(PATIENCE)).unwrap();
        Self { stream: BufReader::new(stream) }
    }

    fn client(&self) -> String {
        self.stream.get_ref().local_addr().unwrap().to_string()
    }

    /// Whom the server takes its client for.
    fn seen_as(&mut self) -> String {
        self.stream.get_mut().write_all(b"GET / HTTP/1.1\r\nHost: web\r\nAccept: application/json\r\n\r\n").unwrap();
        let mut length = 0;
        loop {
            let mut line = String::new();
            assert!(self.stream.read_line(&mut line).unwrap() > 0, "the connection has ended");
            let (name, value) = line.trim().split_once(':').unwrap_or_default();
            if name.eq_ignore_ascii_case("content-length") {
                length = value.trim().parse().unwrap();
            }
            if line.trim().is_empty() {
                break;
            }
        }
        let mut body = vec![0; length];
        self.stream.read_exact(&mut body).unwrap();
        let answer: Value = serde_json::from_slice(&body).unwrap();
        answer["client"].as_str().unwrap().to_owned()
    }
}

#[test]
fn a_connection_outlives_the_node_at_which_it_enters() {
    let twin = Twin::named("dsr");
    let source = tempfile::Builder::new().suffix(".json").tempfile().unwrap();
    std::fs::write(source.path(), manifest().to_string()).unwrap();
    let output = twin.kilter(&["up", "--ip-family", "dual", "-f", source.path().to_str().unwrap()]);
    assert!(output.status.success(), "kilter up: {}\n{}", describe(&output), twin.logs());
    wait_until(PATIENCE, "the load balancer answers", || twin.answers(BALANCER));

    // The one that answers leads to another node.
    let entry = twin.answering(BALANCER).expect("somebody answers");
    if entry == "node-1" {
        let there = json!({"spec": {"template": {"spec": {"nodeSelector": {"kubernetes.io/hostname": "node-2"}}}}});
        twin.kubectl(&["patch", "deployment/web", "-n", "shop", "-p", &there.to_string()]);
        twin.kubectl(&["rollout", "status", "-n", "shop", "deployment/web", "--timeout=60s"]);
    }
    // Whoever asks which node: the policy lets in the internet and no node.
    assert_eq!(twin.verify()["disagreements"], 0);

    let mut connection = Connection::open(&twin);
    let client = connection.client();
    assert!(client.starts_with("198.51.100.10:"), "{client}");
    assert_eq!(connection.seen_as(), client);
    twin.prove();
    let removed = twin.kilter(&["node", "remove", &entry]);
    assert!(removed.status.success(), "{}", describe(&removed));
    assert_eq!(connection.seen_as(), client);
    wait_until(PATIENCE, "another node answers", || {
        twin.answers(BALANCER) && twin.answering(BALANCER).is_some_and(|now| now != entry)
    });
    assert_eq!(connection.seen_as(), client);
    twin.kubectl(&["rollout", "status", "-n", "shop", "deployment/guarded", "--timeout=60s"]);
    assert_eq!(twin.verify()["disagreements"], 0);
    assert_eq!(connection.seen_as(), client);
}
