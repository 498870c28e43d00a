//! Every case of the corpus' policy truth tables, asked of both witnesses.

use std::io::Read;
use std::net::{Ipv4Addr, Ipv6Addr};

use flate2::read::GzDecoder;
use ipnet::Ipv4Net;
use kilter_model::{Cluster, Direction, Event, Namespace, NamespacedName, Origin};
use kilter_policy::naive::{Party, Query, evaluate};
use kilter_policy::{Compiler, Config, ProtocolClass, Verdict};
use kilter_reach::interpreter::{self, Probe};
use serde_json::Value;

/// Points of the tables, and how many of them are a pod to itself: those are masked, because the
/// tables deny what Kubernetes always allows.
const POINTS: usize = 123_669;
const SELF_POINTS_DENIED: usize = 1_554;

fn text<'a>(value: &'a Value, key: &str) -> &'a str {
    value[key].as_str().unwrap_or_else(|| panic!("no {key} in {value}"))
}

/// The cluster of a step, every pod on the node `n`.
fn cluster(step: &Value) -> Cluster {
    let mut events = Vec::new();
    for (name, labels) in step["namespaces"].as_object().unwrap() {
        let mut labels: kilter_model::Labels = labels
            .as_object()
            .unwrap()
            .iter()
            .map(|(k, v)| (k.as_str().into(), v.as_str().unwrap().into()))
            .collect();
        labels.insert("kubernetes.io/metadata.name".into(), name.as_str().into());
        events.push(Event::Namespace(Namespace {
            name: name.as_str().into(),
            labels,
            origin: Origin::Builtin,
        }));
    }
    let pods = step["pods"].as_array().unwrap().iter().map(pod_object);
    for object in pods.chain(step["policies"].as_array().into_iter().flatten().cloned()) {
        let event = kilter_objects::to_event(&object, Origin::Builtin);
        events.push(event.unwrap_or_else(|e| panic!("{e}: {object}")).unwrap());
    }
    Cluster::from_events(events)
}

/// A pod of the tables as Kubernetes would give it.
fn pod_object(pod: &Value) -> Value {
    serde_json::json!({
        "apiVersion": "v1",
        "kind": "Pod",
        "metadata": {
            "namespace": pod["namespace"],
            "name": pod["name"],
            "labels": pod["labels"],
            "uid": format!("{}/{}", text(pod, "namespace"), text(pod, "name")),
        },
        "spec": { "nodeName": "n", "containers": [{ "name": "c", "ports": pod["ports"] }] },
        "status": { "phase": "Running", "podIP": pod["ip"], "podIPs": [{ "ip": pod["ip"] }] },
    })
}

struct Point {
    from: String,
    to: String,
    protocol: ProtocolClass,
    port: u16,
    egress: Verdict,
    ingress: Verdict,
}

impl Point {
    fn of(result: &Value) -> Self {
        let verdict = |key| if text(result, key) == "." { Verdict::Allow } else { Verdict::Deny };
        let (protocol, port) = text(result, "port").split_once('/').unwrap();
        Self {
            from: text(result, "from").to_owned(),
            to: text(result, "to").to_owned(),
            protocol: protocol.parse::<kilter_model::Protocol>().unwrap().into(),
            port: port.parse().unwrap(),
            egress: verdict("egress"),
            ingress: verdict("ingress"),
        }
    }

    fn expected(&self) -> (Verdict, Verdict) {
        if self.from == self.to { (Verdict::Allow, Verdict::Allow) } else { (self.egress, self.ingress) }
    }

    fn naive(&self, cluster: &Cluster) -> (Verdict, Verdict) {
        let answer = evaluate(
            cluster,
            &Query {
                from: Party::Pod(self.from.as_str().into()),
                to: Party::Pod(self.to.as_str().into()),
                protocol: self.protocol,
                port: self.port,
            },
        );
        (answer.egress.verdict, answer.ingress.verdict)
    }

    fn interpreted(&self, cluster: &Cluster, compiler: &Compiler) -> (Verdict, Verdict) {
        let address = |uid: &str| cluster.pod(uid).unwrap().addresses[0];
        let side = |pod: &str, peer: &str, direction| {
            let probe = Probe {
                pod: address(pod),
                peer: address(peer),
                direction,
                protocol: self.protocol,
                port: self.port,
            };
            interpreter::verdict(compiler.tables(), &probe)
        };
        if self.from == self.to {
            // A pod to itself never leaves the pod.
            return (Verdict::Allow, Verdict::Allow);
        }
        (side(&self.from, &self.to, Direction::Egress), side(&self.to, &self.from, Direction::Ingress))
    }
}

/// The same with every address and block in IPv6: the IPv4 ones lie in one /96, and what was all
/// addresses is all addresses.
fn in_ipv6(value: &Value) -> Value {
    match value {
        Value::String(text) => match (text.parse::<Ipv4Addr>(), text.parse::<Ipv4Net>()) {
            (Ok(address), _) => embedded(address).to_string().into(),
            (_, Ok(block)) if block.prefix_len() == 0 => "::/0".into(),
            (_, Ok(block)) => format!("{}/{}", embedded(block.addr()), 96 + block.prefix_len()).into(),
            _ => value.clone(),
        },
        Value::Array(items) => items.iter().map(in_ipv6).collect(),
        Value::Object(fields) => fields.iter().map(|(key, it)| (key.clone(), in_ipv6(it))).collect(),
        other => other.clone(),
    }
}

fn embedded(address: Ipv4Addr) -> Ipv6Addr {
    Ipv6Addr::from((0xfd00_u128 << 112) | u128::from(u32::from(address)))
}

#[test]
fn both_witnesses_agree_with_every_point() {
    agree_with_every_point("192.168.0.0/16", Clone::clone);
}

#[test]
fn both_witnesses_agree_with_every_point_in_ipv6() {
    agree_with_every_point("fd00::c0a8:0/112", in_ipv6);
}

/// Asks both witnesses for all points of all cases, each step first translated.
fn agree_with_every_point(pod_cidr: &str, translated: impl Fn(&Value) -> Value) {
    let Some(folder) = kilter_testkit::corpus("policy-truth-tables") else { return };
    let file = std::fs::File::open(folder.join("cases.json.gz")).unwrap();
    let mut json = String::new();
    GzDecoder::new(file).read_to_string(&mut json).unwrap();
    let cases: Vec<Value> = serde_json::from_str(&json).unwrap();
    assert_eq!(cases.len(), 230);

    let (mut points, mut masked, mut wrong) = (0, 0, Vec::new());
    for case in &cases {
        let config = Config { node: "n".into(), pod_cidrs: vec![pod_cidr.parse().unwrap()] };
        let mut compiler = Compiler::new(config);
        let mut cluster_now = Cluster::default();
        for step in case["steps"].as_array().unwrap() {
            let results = step["results"].as_array().unwrap();
            let without_results = step.as_object().unwrap().iter().filter(|(key, _)| *key != "results");
            let step: Value = without_results.map(|(key, it)| (key.clone(), translated(it))).collect();
            let changes = move_to(&mut cluster_now, cluster(&step));
            compiler.update(&cluster_now, &changes);
            for result in results {
                let point = Point::of(result);
                points += 1;
                let denied = !point.egress.and(point.ingress).is_allow();
                masked += usize::from(point.from == point.to && denied);
                let answers = [point.naive(&cluster_now), point.interpreted(&cluster_now, &compiler)];
                if answers != [point.expected(); 2] {
                    wrong.push(format!("case {}: {result}: {answers:?}", case["n"]));
                }
            }
        }
    }
    assert!(
        wrong.is_empty(),
        "{} of {points} points wrong:\n{}",
        wrong.len(),
        wrong[..wrong.len().min(10)].join("\n")
    );
    assert_eq!((points, masked), (POINTS, SELF_POINTS_DENIED));
}

/// Brings a cluster to another state by events, and collects what they changed.
fn move_to(cluster: &mut Cluster, goal: Cluster) -> Vec<kilter_model::Change> {
    let gone_pods = cluster.pods().map(|it| it.uid.clone()).filter(|uid| goal.pod(uid).is_none());
    let gone_policies: Vec<NamespacedName> =
        cluster.policies().map(|it| it.name.clone()).filter(|name| goal.policy(name).is_none()).collect();
    let gone_namespaces: Vec<_> = cluster
        .namespaces()
        .map(|it| it.name.clone())
        .filter(|name| goal.namespace(name).is_none())
        .collect();
    let mut events: Vec<Event> = gone_pods.map(Event::PodGone).collect();
    events.extend(gone_policies.into_iter().map(Event::NetworkPolicyGone));
    events.extend(gone_namespaces.into_iter().map(Event::NamespaceGone));
    events.extend(goal.namespaces().cloned().map(Event::Namespace));
    events.extend(goal.pods().cloned().map(Event::Pod));
    events.extend(goal.policies().cloned().map(Event::NetworkPolicy));
    let changes = events.into_iter().filter_map(|event| cluster.apply(event)).collect();
    assert_eq!(*cluster, goal);
    changes
}
