//! Twins of IPv6 and of both families: every verdict is checked with packets of each family, and the
//! internet sees the fabric's address of the family that was used.

mod support;

use serde_json::Value;
use support::{Twin, describe, example};

/// A pod that nothing restricts, and one that may only speak to other pods.
const CLIENTS: &str = "
apiVersion: v1
kind: Namespace
metadata: {name: shop}
---
apiVersion: v1
kind: Pod
metadata: {name: client, namespace: shop}
spec: {containers: [{name: client, image: client}]}
---
apiVersion: v1
kind: Pod
metadata: {name: guarded, namespace: shop, labels: {app: guarded}}
spec: {containers: [{name: guarded, image: guarded}]}
---
apiVersion: networking.k8s.io/v1
kind: NetworkPolicy
metadata: {name: inside-only, namespace: shop}
spec:
  podSelector: {matchLabels: {app: guarded}}
  policyTypes: [Egress]
  egress: [{to: [{namespaceSelector: {}}]}]
";

fn up(name: &str, family: &str) -> Twin {
    let twin = Twin::named(name);
    let shop = example("shop");
    let output = twin.kilter(&["up", "-o", "json", "--ip-family", family, "-f", shop.to_str().unwrap()]);
    assert!(output.status.success(), "kilter up: {}\n{}", describe(&output), twin.logs());
    twin
}

/// How many trials of one family were made to what.
fn tried(report: &Value, kind: &str, ipv6: bool) -> usize {
    let trials = report["judged"].as_array().unwrap().iter().map(|judged| &judged["trial"]);
    let of_kind = trials.filter(|trial| trial["target"] == kind || trial["target"].get(kind).is_some());
    of_kind.filter(|trial| trial["to"].as_str().unwrap().starts_with('[') == ipv6).count()
}

/// Whom a server outside sees when a pod of the shop asks it.
fn seen_as(twin: &Twin, pod: &str, url: &str) -> String {
    let said = twin.kubectl(&["exec", "-n", "shop", pod, "--", "curl", "-sg", "--max-time", "5", url]);
    let answer: Value = serde_json::from_str(&said).unwrap_or_else(|error| panic!("{error}: {said}"));
    answer["client"].as_str().unwrap().rsplit_once(':').unwrap().0.to_owned()
}

#[test]
fn a_twin_of_both_families_agrees_with_the_model_in_both() {
    let twin = up("dual", "dual");
    let report = twin.verify();
    assert_eq!(report["disagreements"], 0);
    assert_eq!(tried(&report, "pod", true), tried(&report, "pod", false));
    assert!(tried(&report, "pod", true) > 0 && tried(&report, "service", true) > 0);
    assert!(tried(&report, "internet", true) > 0 && tried(&report, "internet", false) > 0);

    let ips = twin.kubectl(&["get", "pods", "-n", "shop", "-o", "jsonpath={.items[0].status.podIPs[*].ip}"]);
    let (first, second) = ips.split_once(' ').unwrap();
    assert!(first.starts_with("10.244.") && second.starts_with("fd00:244:"), "{ips}");
}

#[test]
fn a_twin_of_ipv6_alone_works_as_one_of_ipv4() {
    let twin = up("six", "ipv6");
    let report = twin.verify();
    assert_eq!(report["disagreements"], 0);
    assert_eq!(tried(&report, "pod", false) + tried(&report, "service", false), 0);
    assert!(tried(&report, "pod", true) > 0 && tried(&report, "service", true) > 0);
}

#[test]
fn the_internet_sees_the_fabrics_address_and_its_names_resolve() {
    let twin = Twin::named("internet");
    let manifest = tempfile::Builder::new().suffix(".yaml").tempfile().unwrap();
    std::fs::write(manifest.path(), CLIENTS).unwrap();
    let output = twin.kilter(&["up", "--ip-family", "dual", "-f", manifest.path().to_str().unwrap()]);
    assert!(output.status.success(), "kilter up: {}\n{}", describe(&output), twin.logs());
    assert_eq!(seen_as(&twin, "client", "http://198.51.100.10/"), "198.51.100.1");
    assert_eq!(seen_as(&twin, "client", "http://[2001:db8::10]/"), "[2001:db8::1]");
    // RFC 6724: a unique local address does not suit a global one, so IPv4 is preferred.
    assert_eq!(seen_as(&twin, "client", "http://www.example.com/"), "198.51.100.1");
    let refused = twin.try_kubectl(&["exec", "-n", "shop", "guarded", "--", "curl", "-s", "--max-time", "2", "http://198.51.100.10/"]);
    assert!(!refused.status.success(), "its policy forbids what is outside");
}
