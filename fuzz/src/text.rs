//! What people write.

use ipnet::IpNet;
use kilter_manifests::{Loaded, Options, Source, cluster, load};
use kilter_model::{Cluster, Labels, Peer};
use kilter_policy::{Compiler, Config};
use kilter_reach::{Options as Assumptions, connections};
use serde_json::{Value, json};

/// A manifest, all the way to rows and answers.
pub fn manifests(bytes: &[u8]) {
    let Ok(text) = std::str::from_utf8(bytes) else { return };
    let source = Source::Text { name: "x.yaml".into(), text: text.to_owned() };
    if let Some(cluster) = loaded(&[source]) {
        answer(&cluster);
    }
}

/// A kustomization: files with a line `=== NAME` before each.
pub fn kustomize(bytes: &[u8]) {
    let Ok(text) = std::str::from_utf8(bytes) else { return };
    let Ok(folder) = tempfile::tempdir() else { return };
    let mut files = text.split("=== ").skip(1);
    // Names as they are would lead out of the folder.
    let is_name = |it: &str| {
        !it.is_empty()
            && it.bytes().all(|b| b.is_ascii_alphanumeric() || b"._-".contains(&b))
            && !it.starts_with('.')
    };
    while let Some((name, text)) = files.next().and_then(|it| it.split_once('\n')) {
        if is_name(name) && std::fs::write(folder.path().join(name), text).is_err() {
            return;
        }
    }
    loaded(&[Source::Path(folder.path().to_owned())]);
}

/// A selector: what is taken matches as its parts do.
pub fn selectors(bytes: &[u8]) {
    let Ok(text) = std::str::from_utf8(bytes) else { return };
    let (first, rest) = text.split_once('\n').unwrap_or((text, ""));
    let Ok(selector) = serde_json::from_str::<Value>(first) else { return };
    let labels: Labels = rest
        .lines()
        .filter_map(|it| it.split_once('='))
        .map(|(key, value)| (key.into(), value.into()))
        .collect();
    let policy = json!({"podSelector": selector, "policyTypes": ["Ingress"]});
    let Some(policy) = network_policy(policy) else { return };
    let by_parts = policy.pod_selector.requirements().iter().all(|it| it.matches(&labels));
    assert_eq!(policy.pod_selector.matches(&labels), by_parts);
    assert!(!policy.pod_selector.is_empty() || policy.pod_selector.matches(&labels));
}

/// A block with holes, one a line: what is taken is what was written, and its holes are inside it.
pub fn cidrs(bytes: &[u8]) {
    let Ok(text) = std::str::from_utf8(bytes) else { return };
    let mut lines = text.lines();
    let Some(cidr) = lines.next() else { return };
    let except: Vec<&str> = lines.collect();
    let block = json!({"cidr": cidr, "except": except});
    let policy =
        json!({"podSelector": {}, "policyTypes": ["Egress"], "egress": [{"to": [{"ipBlock": block}]}]});
    let Some(policy) = network_policy(policy) else { return };
    let peer = policy.egress.as_deref().and_then(|it| it.first()?.peers.as_deref()?.first());
    let Some(Peer::IpBlock(block)) = peer else { panic!("{policy:?} has lost its block") };
    // Kubernetes takes leading zeros, as decimal.
    if let Ok(plain) = cidr.parse::<IpNet>() {
        assert_eq!(block.cidr.trunc(), plain.trunc(), "{cidr:?} was read as {}", block.cidr);
    }
    assert!(!cidr.contains(['+', '-', ' ']), "{cidr:?} was read as {}", block.cidr);
    assert_eq!(block.except.len(), except.len(), "a hole is lost");
    for hole in &block.except {
        assert!(block.cidr.contains(hole) && block.cidr.trunc() != hole.trunc(), "{hole} of {}", block.cidr);
    }
    let mut cluster = Cluster::default();
    cluster.apply(kilter_model::Event::NetworkPolicy(policy));
    answer(&cluster);
}

/// What sources say, unless they are refused; a refusal says something.
fn loaded(sources: &[Source]) -> Option<Cluster> {
    let loaded: Loaded = match load(sources, &Options::default()) {
        Ok(loaded) => loaded,
        Err(error) => {
            assert!(!error.to_string().is_empty());
            return None;
        }
    };
    loaded.warnings.iter().for_each(|it| assert!(!it.to_string().is_empty()));
    match cluster(&loaded) {
        Ok(cluster) => Some(cluster),
        Err(error) => {
            assert!(!error.to_string().is_empty());
            None
        }
    }
}

/// Every answer that needs nothing but the cluster.
fn answer(cluster: &Cluster) {
    let pod_cidrs: Vec<IpNet> = vec![ipnet::Ipv4Net::new_assert([10, 244, 0, 0].into(), 16).into()];
    // Static pods are on no node: those of a fuzzed text may be on `n`.
    for node in ["", "n"] {
        Compiler::new(Config { node: node.into(), pod_cidrs: pod_cidrs.clone() }).update(cluster, &[]);
    }
    connections(cluster, &Assumptions { pod_cidrs, ..Assumptions::default() });
}

/// A policy, if the API would take it.
fn network_policy(spec: Value) -> Option<kilter_model::NetworkPolicy> {
    let object = json!({"apiVersion": "networking.k8s.io/v1", "kind": "NetworkPolicy",
        "metadata": {"name": "p", "namespace": "shop"}, "spec": spec});
    let is_valid = kilter_objects::validate(&object).is_empty();
    match kilter_objects::to_event(&object, kilter_model::Origin::Builtin) {
        // What the API refuses never comes this far.
        Ok(Some(kilter_model::Event::NetworkPolicy(policy))) => Some(policy).filter(|_| is_valid),
        Ok(_) => None,
        Err(error) => {
            assert!(!is_valid, "valid, but refused: {error}: {object}");
            None
        }
    }
}
