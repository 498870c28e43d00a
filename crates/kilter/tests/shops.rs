//! The main job: real shops run, and every verdict of the model is checked with packets.

mod support;

use std::path::PathBuf;

use kilter_testkit::corpus;
use serde_json::Value;
use support::{Twin, example};

fn sock_shop() -> Option<[PathBuf; 2]> {
    let root = corpus("sock-shop")?.join("deploy/kubernetes");
    Some([root.join("manifests"), root.join("manifests-policy")])
}

fn online_boutique() -> Option<[PathBuf; 2]> {
    let root = corpus("online-boutique")?;
    Some([root.join("release/kubernetes-manifests.yaml"), root.join("kustomize/components/network-policies")])
}

/// Trials from one workload's pod to another's.
fn trials<'a>(report: &'a Value, from: &str, to: &str) -> Vec<&'a Value> {
    let found: Vec<_> = report["judged"]
        .as_array()
        .expect("judged trials")
        .iter()
        .filter(|j| {
            let (source, target) = (&j["trial"]["fromName"]["name"], &j["trial"]["target"]["pod"]["name"]);
            workload(source) == Some(from) && workload(target) == Some(to)
        })
        .collect();
    assert!(!found.is_empty(), "{from} -> {to} was tried");
    found
}

/// The Deployment of a pod: its name without the ReplicaSet's and the pod's own suffix.
fn workload(pod: &Value) -> Option<&str> {
    pod.as_str()?.rsplitn(3, '-').nth(2)
}

fn refused(trial: &Value) -> bool {
    trial["drop"]["rule"].is_string()
}

fn answered(trial: &Value) -> bool {
    trial["outcome"]["result"].get("answered").is_some()
}

#[test]
fn sock_shop_runs_and_is_broken_exactly_where_its_policies_break_it() {
    let Some([manifests, policies]) = sock_shop() else { return };
    let twin = Twin::named("sock-shop");
    let up = twin.up(&[&manifests, &policies]);
    assert_eq!(up["refused"], serde_json::json!([]));
    assert_eq!(up["nodes"], 3);

    let report = twin.verify();
    assert_eq!(report["disagreements"], 0);
    // cart-access selects name=cart, and the pods are name=carts: nobody may reach the carts.
    for (from, to) in [("front-end", "carts"), ("orders", "carts"), ("carts", "carts-db")] {
        assert!(trials(&report, from, to).into_iter().all(refused), "{from} -> {to} is broken live as well");
    }
    for (from, to) in [("front-end", "catalogue"), ("user", "user-db")] {
        assert!(trials(&report, from, to).into_iter().any(answered), "{from} -> {to} works");
    }
}

#[test]
fn online_boutique_runs_and_packets_agree_with_the_model() {
    let Some([manifests, policies]) = online_boutique() else { return };
    let twin = Twin::named("boutique");
    let up = twin.up(&[&manifests, &policies]);
    assert_eq!(up["refused"], serde_json::json!([]));
    assert_eq!(up["workloads"].as_array().map(Vec::len), Some(13), "12 workloads and DNS");

    let report = twin.verify();
    assert_eq!(report["disagreements"], 0);
    assert!(trials(&report, "cartservice", "redis-cart").into_iter().all(answered));
    assert!(trials(&report, "frontend", "redis-cart").into_iter().all(refused));
}

#[test]
fn a_policy_that_changes_changes_live_traffic() {
    let twin = Twin::named("change");
    twin.up(&[&example("shop")]);
    let before = twin.verify();
    assert_eq!(before["disagreements"], 0);
    assert!(trials(&before, "cart", "payments").into_iter().all(answered));

    twin.kubectl(&["apply", "-f", example("shop-change").to_str().unwrap()]);
    let after = twin.verify();
    assert_eq!(after["disagreements"], 0);
    assert!(trials(&after, "cart", "payments").into_iter().all(refused));
    assert!(trials(&after, "checkout", "payments").into_iter().all(answered), "the others go on");
}
