//! Every case of the corpus' policy truth tables, asked of both witnesses.

use std::net::{Ipv4Addr, Ipv6Addr};

use ipnet::Ipv4Net;
use kilter_model::{Cluster, Direction, Event, NamespacedName, Origin};
use kilter_policy::naive::{Party, Query, evaluate};
use kilter_policy::{Compiler, Config, ProtocolClass, Verdict};
use kilter_reach::interpreter::{self, Probe};
use kilter_testkit::truth_tables::{self, Point};
use serde_json::Value;

/// Points of the tables, and how many of them are a pod to itself: those are masked, because the
/// tables deny what Kubernetes always allows.
const POINTS: usize = 123_669;
const SELF_POINTS_DENIED: usize = 1_554;

/// The cluster of a step, every pod on the node `n`.
fn cluster(objects: Vec<Value>) -> Cluster {
    let event = |object: &Value| {
        let event = kilter_objects::to_event(object, Origin::Builtin);
        event.unwrap_or_else(|e| panic!("{e}: {object}")).unwrap()
    };
    Cluster::from_events(objects.iter().map(event))
}

fn verdict(allowed: bool) -> Verdict {
    if allowed { Verdict::Allow } else { Verdict::Deny }
}

fn expected(point: &Point) -> (Verdict, Verdict) {
    // A pod may always reach itself.
    let own = point.is_to_itself();
    (verdict(own || point.egress), verdict(own || point.ingress))
}

fn protocol(point: &Point) -> ProtocolClass {
    point.protocol.parse::<kilter_model::Protocol>().unwrap().into()
}

fn naive(point: &Point, cluster: &Cluster) -> (Verdict, Verdict) {
    let query = Query {
        from: Party::Pod(point.from.as_str().into()),
        to: Party::Pod(point.to.as_str().into()),
        protocol: protocol(point),
        port: point.port,
    };
    let answer = evaluate(cluster, &query);
    (answer.egress.verdict, answer.ingress.verdict)
}

fn interpreted(point: &Point, cluster: &Cluster, compiler: &Compiler) -> (Verdict, Verdict) {
    if point.is_to_itself() {
        // A pod to itself never leaves the pod.
        return (Verdict::Allow, Verdict::Allow);
    }
    let address = |uid: &str| cluster.pod(uid).unwrap().addresses[0];
    let side = |pod: &str, peer: &str, direction| {
        let (pod, peer) = (address(pod), address(peer));
        let probe = Probe { pod, peer, direction, protocol: protocol(point), port: point.port };
        interpreter::verdict(compiler.tables(), &probe)
    };
    (side(&point.from, &point.to, Direction::Egress), side(&point.to, &point.from, Direction::Ingress))
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
    let Some(cases) = truth_tables::cases() else { return };
    let (mut points, mut masked, mut wrong) = (0, 0, Vec::new());
    for case in &cases {
        let config = Config { node: "n".into(), pod_cidrs: vec![pod_cidr.parse().unwrap()] };
        let mut compiler = Compiler::new(config);
        let mut cluster_now = Cluster::default();
        for step in &case.steps {
            let objects = step.objects().map(|object| translated(&object)).collect();
            let changes = move_to(&mut cluster_now, cluster(objects));
            compiler.update(&cluster_now, &changes);
            for point in &step.points {
                points += 1;
                masked += usize::from(point.is_to_itself() && !(point.egress && point.ingress));
                let answers = [naive(point, &cluster_now), interpreted(point, &cluster_now, &compiler)];
                if answers != [expected(point); 2] {
                    wrong.push(format!("case {}: {point:?}: {answers:?}", case.number));
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
