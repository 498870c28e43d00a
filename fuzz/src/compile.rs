//! The compiler of policies against the rules asked directly.

use std::net::IpAddr;

use ipnet::IpNet;
use kilter_model::{Cluster, Direction, Event};
use kilter_policy::naive::{Party, Query, evaluate_within, holder};
use kilter_policy::{Compiler, Config, ProtocolClass, Reason, Tables};
use kilter_reach::interpreter::{Probe, verdict};
use kilter_testkit::random as generate;
use proptest::collection::vec;
use proptest::strategy::{Strategy, ValueTree};
use proptest::test_runner::{Config as Settings, RngAlgorithm, TestRng, TestRunner};

/// Bytes choose what happens in a cluster; after each batch the rows, kept in step, must decide
/// every connection as the rules do.
pub fn compile(bytes: &[u8]) {
    let Some(batches) = batches(bytes) else { return };
    let mut cluster = Cluster::from_events(generate::nodes());
    let mut compiler = Compiler::new(Config { node: generate::NODES[0].into(), pod_cidrs: pod_cidrs() });
    let mut written = Tables::default();
    for batch in batches {
        let changes: Vec<_> = batch.into_iter().filter_map(|event| cluster.apply(event)).collect();
        let plan = compiler.update(&cluster, &changes);
        plan.writes().for_each(|write| written.apply(write));
    }
    check(&cluster, &written);
}

/// The first 32 bytes are the seed of the generator that all random tests share.
fn batches(bytes: &[u8]) -> Option<Vec<Vec<Event>>> {
    let mut seed = [0; 32];
    seed.iter_mut().zip(bytes).for_each(|(to, from)| *to = *from);
    let rng = TestRng::from_seed(RngAlgorithm::ChaCha, &seed);
    let mut runner =
        TestRunner::new_with_rng(Settings { failure_persistence: None, ..Settings::default() }, rng);
    let tree = vec(vec(generate::event(), 1..4), 1..8).new_tree(&mut runner).ok()?;
    Some(tree.current())
}

fn check(cluster: &Cluster, tables: &Tables) {
    let is_local =
        |it: &IpAddr| holder(cluster, *it).is_some_and(|pod| pod.node.as_deref() == Some(generate::NODES[0]));
    for pod in generate::addresses().into_iter().filter(is_local) {
        for peer in generate::addresses() {
            for direction in [Direction::Ingress, Direction::Egress] {
                for protocol in ProtocolClass::ALL {
                    for port in generate::PORTS {
                        ask(cluster, tables, &Probe { pod, peer, direction, protocol, port });
                    }
                }
            }
        }
    }
}

fn ask(cluster: &Cluster, tables: &Tables, probe: &Probe) {
    let (pod, peer) = (Party::Address(probe.pod), Party::Address(probe.peer));
    let is_source = probe.direction == Direction::Egress;
    let (from, to) = if is_source { (pod, peer) } else { (peer, pod) };
    let answer = evaluate_within(
        cluster,
        &pod_cidrs(),
        &Query { from, to, protocol: probe.protocol, port: probe.port },
    );
    let side = if is_source { answer.egress } else { answer.ingress };
    // Rows are not asked within one pod, nor about the own node.
    if !matches!(side.reason, Reason::Itself | Reason::OwnNode) {
        assert_eq!(verdict(tables, probe), side.verdict, "{probe:?}: {}", side.reason);
    }
}

fn pod_cidrs() -> Vec<IpNet> {
    ["10.244.0.0/16", "fd00::/48"].into_iter().filter_map(|it| it.parse().ok()).collect()
}
