//! Random policies over the pods of one twin: whatever the rules say, packets do.

use std::time::Instant;

use kilter_model::{Cluster, Event, Labels};
use kilter_testkit::{manifests, random};
use proptest::prelude::*;
use proptest::strategy::ValueTree;
use proptest::test_runner::{Config, RngAlgorithm, TestRng, TestRunner};
use serde_json::{Value, json};

use crate::support::Twin;
use crate::support::session::Stage;
use crate::told;

/// How many random clusters (`KILTER_PACKET_CASES` says otherwise) and from which seed
/// (`KILTER_PACKET_SEED`).
const CASES: u64 = 40;
const SEED: u64 = 1;

/// The pods: namespace, and the port that each has by the name `web`.
const PODS: [(&str, u16); 7] =
    [("a", 80), ("a", 8080), ("a", 80), ("b", 80), ("b", 8080), ("c", 80), ("c", 79)];

#[test]
fn packets_agree_with_random_policies() {
    let twin = Twin::named("random");
    let directory = tempfile::tempdir().unwrap();
    let source = directory.path().join("pods.json");
    let list = json!({"apiVersion": "v1", "kind": "List", "items": ground(&Cluster::default())});
    std::fs::write(&source, list.to_string()).unwrap();
    twin.up(&[&source]);
    let (count, mut runner) = (from_environment("KILTER_PACKET_CASES", CASES), runner());
    let began = Instant::now();
    let runtime = tokio::runtime::Runtime::new().unwrap();
    let (mut tried, mut allowed, mut policies, mut refused) = (0, 0, 0, 0);
    let repeated = runtime.block_on(async {
        let mut stage = Stage::new(&twin).await;
        for case in 0..count {
            let cluster = cluster(&mut runner);
            let objects = objects(&cluster);
            policies += objects.len() - ground(&cluster).len();
            // Some random policies are none that the API takes (port 0, a peer of no kind).
            refused += stage.set(objects).await.len();
            let trials = stage.trials().await;
            tried += trials.len();
            allowed += trials.iter().filter(|trial| trial.may_be_answered()).count();
            let wrong = stage.disagreements(trials).await;
            assert!(wrong.is_empty(), "case {case}: {}\n{}", told(&wrong), manifests(&cluster));
            if case % 8 == 0 {
                twin.prove();
            }
        }
        stage.repeated
    });
    println!(
        "{count} clusters with {policies} policies ({refused} refused by the API): {tried} trials, {allowed} of \
         them allowed, {repeated} made twice, in {:.1} s",
        began.elapsed().as_secs_f64()
    );
    assert!(refused * 2 < policies, "most policies are in force");
    assert!(allowed * 10 > tried && allowed * 10 < tried * 9, "of both kinds there are many");
}

fn from_environment(name: &str, otherwise: u64) -> u64 {
    std::env::var(name).map_or(otherwise, |text| text.parse().expect("a number"))
}

fn runner() -> TestRunner {
    let mut seed = [0; 32];
    seed[..8].copy_from_slice(&from_environment("KILTER_PACKET_SEED", SEED).to_le_bytes());
    TestRunner::new_with_rng(Config::default(), TestRng::from_seed(RngAlgorithm::ChaCha, &seed))
}

fn cluster(runner: &mut TestRunner) -> Cluster {
    let events = prop::collection::vec(random::event(), 5..30).new_tree(runner).unwrap().current();
    Cluster::from_events(events.into_iter().filter(|event| !matches!(event, Event::Node(_))))
}

/// Namespaces and pods, with the labels that a random cluster gives them.
fn ground(cluster: &Cluster) -> Vec<Value> {
    let mut objects: Vec<Value> = ["a", "b", "c"].into_iter().map(|name| {
        let labels = cluster.namespaces().find(|it| &*it.name == name).map(|it| &it.labels);
        let metadata = json!({"name": name, "labels": plain(labels)});
        json!({"apiVersion": "v1", "kind": "Namespace", "metadata": metadata})
    }).collect();
    let random: Vec<&Labels> = cluster.pods().map(|it| &it.labels).collect();
    for (number, (namespace, web)) in PODS.into_iter().enumerate() {
        let labels = random.get(number % random.len().max(1)).copied();
        let metadata = json!({"namespace": namespace, "name": format!("pod-{number}"), "labels": plain(labels)});
        let ports = json!([
            {"name": "web", "containerPort": web},
            {"name": "dns", "containerPort": 53, "protocol": "UDP"},
            {"containerPort": 65535},
        ]);
        let containers = json!([{"name": "c", "image": "stand-in", "ports": ports}]);
        let spec = json!({"nodeName": format!("node-{}", 1 + number % 3), "containers": containers});
        objects.push(json!({"apiVersion": "v1", "kind": "Pod", "metadata": metadata, "spec": spec}));
    }
    objects
}

fn plain(labels: Option<&Labels>) -> Value {
    labels.into_iter().flatten().map(|(key, value)| (key.to_string(), json!(&**value))).collect::<serde_json::Map<_, _>>().into()
}

fn objects(cluster: &Cluster) -> Vec<Value> {
    let text = manifests(cluster);
    let all: Vec<Value> = serde_saphyr::from_multiple(&text).unwrap();
    let is_policy = |it: &Value| it["kind"].as_str().is_some_and(|kind| kind.ends_with("NetworkPolicy"));
    ground(cluster).into_iter().chain(all.into_iter().filter(is_policy)).collect()
}
