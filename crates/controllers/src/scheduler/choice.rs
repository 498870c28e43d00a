//! The choice itself. Pure.

use std::collections::BTreeMap;
use std::fmt;
use std::sync::Arc;

use k8s_openapi::api::core::v1::{Node, Pod, PodSpec, Taint};
use kube::ResourceExt;

use super::affinity::Neighbours;
use super::load::Load;
use crate::host_ports;
use crate::cache::controller_uid;
use crate::node_fit;

/// Why a node will not do, in the words of Kubernetes.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord)]
pub(super) enum Misfit {
    NotSelected,
    Tainted(String),
    Unschedulable,
    Full,
    Ports,
    Neighbours,
}

impl fmt::Display for Misfit {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Misfit::NotSelected => f.write_str("node(s) didn't match Pod's node affinity/selector"),
            Misfit::Tainted(taint) => write!(f, "node(s) had untolerated taint {{{taint}}}"),
            Misfit::Unschedulable => f.write_str("node(s) were unschedulable"),
            Misfit::Full => f.write_str("Too many pods"),
            Misfit::Ports => f.write_str("node(s) didn't have free ports for the requested pod ports"),
            Misfit::Neighbours => f.write_str("node(s) didn't match pod affinity/anti-affinity rules"),
        }
    }
}

/// `0/3 nodes are available: 2 node(s) were unschedulable, ...`.
pub(super) fn explain(nodes: usize, misfits: &BTreeMap<Misfit, usize>) -> String {
    if misfits.is_empty() {
        return format!("0/{nodes} nodes are available: no node has registered yet.");
    }
    let reasons: Vec<String> = misfits.iter().map(|(why, count)| format!("{count} {why}")).collect();
    format!("0/{nodes} nodes are available: {}.", reasons.join(", "))
}

/// The best node for a pod, or why there is none, with the number of nodes for each reason.
/// `others` are all pods, asked for only where neighbours matter.
pub(super) fn choose(
    pod: &Pod,
    nodes: &[Arc<Node>],
    load: &Load,
    others: impl FnOnce() -> Vec<Arc<Pod>>,
) -> Result<String, BTreeMap<Misfit, usize>> {
    let spec = pod.spec.clone().unwrap_or_default();
    let neighbours = Neighbours::of(pod, &spec, nodes, load, others);
    let owner = controller_uid(pod);
    let ports = host_ports::claims(&spec);
    let mut misfits = BTreeMap::new();
    let mut best: Option<((usize, usize, String), String)> = None;
    for node in nodes {
        let name = node.name_any();
        let (all, of_owner) = load.on(&name, owner);
        let fit = fits(&spec, node, all, &neighbours);
        let fit = fit.and_then(|()| if load.has_free(&name, &ports) { Ok(()) } else { Err(Misfit::Ports) });
        if let Err(misfit) = fit {
            *misfits.entry(misfit).or_default() += 1;
            continue;
        }
        let score = (of_owner, all, name.clone());
        if best.as_ref().is_none_or(|(least, _)| score < *least) {
            best = Some((score, name));
        }
    }
    best.map(|(_, name)| name).ok_or(misfits)
}

fn fits(spec: &PodSpec, node: &Node, pods: usize, neighbours: &Neighbours) -> Result<(), Misfit> {
    if !node_fit::is_selected(spec, node) {
        return Err(Misfit::NotSelected);
    }
    let tolerations = spec.tolerations.as_deref().unwrap_or_default();
    if let Some(taint) = node_fit::repelled_by(tolerations, &taints(node)) {
        if taint.key == "node.kubernetes.io/unschedulable" {
            return Err(Misfit::Unschedulable);
        }
        let value = taint.value.as_deref().unwrap_or_default();
        return Err(Misfit::Tainted(format!("{}: {value}", taint.key)));
    }
    if capacity(node).is_some_and(|most| pods >= most) {
        return Err(Misfit::Full);
    }
    if neighbours.allow(node) { Ok(()) } else { Err(Misfit::Neighbours) }
}

/// A node's taints, and those that its state implies: where no node controller writes them, a node
/// that is cordoned or not ready must not get pods all the same.
fn taints(node: &Node) -> Vec<Taint> {
    let mut taints = node_fit::taints(node);
    let mut imply = |key: &str| {
        if !taints.iter().any(|t| t.key == key) {
            taints.push(Taint { key: key.into(), effect: "NoSchedule".into(), ..Default::default() });
        }
    };
    if node.spec.as_ref().and_then(|s| s.unschedulable) == Some(true) {
        imply("node.kubernetes.io/unschedulable");
    }
    let conditions = node.status.as_ref().and_then(|s| s.conditions.as_ref());
    if !conditions.into_iter().flatten().any(|c| c.type_ == "Ready" && c.status == "True") {
        imply("node.kubernetes.io/not-ready");
    }
    taints
}

/// The number of pods that a node takes, where it says so.
fn capacity(node: &Node) -> Option<usize> {
    node.status.as_ref()?.allocatable.as_ref()?.get("pods")?.0.parse().ok()
}

#[cfg(test)]
mod tests {
    use super::*;
    use serde_json::{Value, json};

    fn node(name: &str, more: Value) -> Arc<Node> {
        let mut value = json!({
            "metadata": {"name": name},
            "spec": {},
            "status": {"conditions": [{"type": "Ready", "status": "True"}]},
        });
        for (key, part) in more.as_object().unwrap() {
            value[key] = part.clone();
        }
        Arc::new(serde_json::from_value(value).unwrap())
    }

    fn pod(name: &str, owner: &str, spec: Value) -> Pod {
        let mut spec = spec;
        spec["containers"] = json!([]);
        let owner = json!([{"apiVersion": "apps/v1", "kind": "ReplicaSet", "name": owner, "uid": owner, "controller": true}]);
        let meta = json!({"name": name, "namespace": "shop", "uid": name, "ownerReferences": owner, "labels": {"app": "web"}});
        serde_json::from_value(json!({"metadata": meta, "spec": spec})).unwrap()
    }

    fn place_all(pods: &[Pod], nodes: &[Arc<Node>]) -> Vec<String> {
        let mut load = Load::default();
        let place = |pod: &Pod| {
            let chosen = choose(pod, nodes, &load, Vec::new).unwrap();
            load.place(pod, &chosen);
            chosen
        };
        pods.iter().map(place).collect()
    }

    #[test]
    fn pods_of_one_owner_spread_and_so_do_single_ones() {
        let nodes: Vec<_> = ["a", "b", "c"].map(|n| node(n, json!({}))).into();
        let of_one: Vec<_> = (0..4).map(|i| pod(&format!("p{i}"), "web", json!({}))).collect();
        assert_eq!(place_all(&of_one, &nodes), ["a", "b", "c", "a"]);
        let of_many: Vec<_> = (0..4).map(|i| pod(&format!("p{i}"), &format!("o{i}"), json!({}))).collect();
        assert_eq!(place_all(&of_many, &nodes), ["a", "b", "c", "a"]);
    }

    #[test]
    fn the_reasons_are_counted_and_named() {
        let nodes = [
            node("a", json!({"spec": {"unschedulable": true}})),
            node("b", json!({"spec": {"taints": [{"key": "gpu", "value": "yes", "effect": "NoSchedule"}]}})),
            node("c", json!({"status": {}})),
            node("d", json!({"metadata": {"name": "d", "labels": {"kubernetes.io/os": "windows"}}})),
            node(
                "e",
                json!({"status": {"allocatable": {"pods": "0"}, "conditions": [{"type": "Ready", "status": "True"}]}}),
            ),
        ];
        let misfits = choose(
            &pod("p", "o", json!({"nodeSelector": {"kubernetes.io/os": "linux"}})),
            &nodes,
            &Load::default(),
            Vec::new,
        );
        assert_eq!(
            explain(nodes.len(), &misfits.unwrap_err()),
            "0/5 nodes are available: 1 node(s) didn't match Pod's node affinity/selector, \
             1 node(s) had untolerated taint {gpu: yes}, \
             1 node(s) had untolerated taint {node.kubernetes.io/not-ready: }, \
             1 node(s) were unschedulable, 1 Too many pods."
        );
        assert_eq!(explain(0, &BTreeMap::new()), "0/0 nodes are available: no node has registered yet.");
    }

    #[test]
    fn a_port_of_a_node_is_given_once() {
        let nodes: Vec<_> = ["a", "b"].map(|n| node(n, json!({}))).into();
        let claims = |name: &str, port: Value| {
            let mut pod = pod(name, name, json!({}));
            let container = json!({"name": "c", "ports": [port]});
            pod.spec.as_mut().unwrap().containers = vec![serde_json::from_value(container).unwrap()];
            pod
        };
        let web = |name: &str| claims(name, json!({"containerPort": 80, "hostPort": 8080}));
        let mut load = Load::default();
        for (name, expected) in [("p1", "a"), ("p2", "b")] {
            let pod = web(name);
            assert_eq!(choose(&pod, &nodes, &load, Vec::new), Ok(expected.into()));
            load.place(&pod, expected);
        }
        let none = choose(&web("p3"), &nodes, &load, Vec::new).unwrap_err();
        assert_eq!(
            explain(2, &none),
            "0/2 nodes are available: 2 node(s) didn't have free ports for the requested pod ports."
        );
        let at_one = json!({"containerPort": 80, "hostPort": 8080, "hostIP": "10.240.0.11"});
        assert!(choose(&claims("p4", at_one), &nodes, &load, Vec::new).is_err(), "all addresses are that one too");
        let udp = json!({"containerPort": 80, "hostPort": 8080, "protocol": "UDP"});
        assert!(choose(&claims("p5", udp), &nodes, &load, Vec::new).is_ok());
        load.remove("p1");
        assert_eq!(choose(&web("p3"), &nodes, &load, Vec::new), Ok("a".into()));
    }

    #[test]
    fn neighbours_are_sought_and_avoided() {
        let nodes: Vec<_> = ["a", "b"].map(|n| node(n, json!({}))).into();
        let mut there = pod("there", "web", json!({}));
        there.spec.as_mut().unwrap().node_name = Some("a".into());
        let others = || vec![Arc::new(there.clone())];
        let term = json!({
            "labelSelector": {"matchLabels": {"app": "web"}},
            "topologyKey": "kubernetes.io/hostname",
        });
        let required = json!({"requiredDuringSchedulingIgnoredDuringExecution": [term]});
        let mut load = Load::default();
        load.saw(&there);
        let avoids = pod("p", "o", json!({"affinity": {"podAntiAffinity": required}}));
        assert_eq!(choose(&avoids, &nodes, &load, others), Ok("b".into()));
        let seeks = pod("p", "o", json!({"affinity": {"podAffinity": required}}));
        assert_eq!(choose(&seeks, &nodes, &load, others), Ok("a".into()));
        assert_eq!(choose(&seeks, &nodes, &load, Vec::new), Ok("b".into()), "the first of its kind");
        let full = choose(&avoids, &nodes[..1], &load, others).unwrap_err();
        assert_eq!(full, BTreeMap::from([(Misfit::Neighbours, 1)]));
    }
}
