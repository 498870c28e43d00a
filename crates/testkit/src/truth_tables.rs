//! The corpus' policy truth tables: clusters, policies, and who may then reach whom.

use std::io::Read;

use flate2::read::GzDecoder;
use serde_json::{Value, json};

/// What is applied one step after another, and asked after each.
#[derive(Debug)]
pub struct Case {
    /// Its number.
    pub number: u64,
    /// What it is about.
    pub description: String,
    /// What is there in turn.
    pub steps: Vec<Step>,
}

/// One state of the cluster, whole.
#[derive(Debug)]
pub struct Step {
    /// Namespaces, as Kubernetes has them.
    pub namespaces: Vec<Value>,
    /// Pods that run, all on the node `n`, with their addresses. Their UIDs are `namespace/name`.
    pub pods: Vec<Value>,
    /// NetworkPolicies.
    pub policies: Vec<Value>,
    /// The table.
    pub points: Vec<Point>,
}

/// Whether one pod may connect to another.
#[derive(Debug)]
pub struct Point {
    /// Who connects: `namespace/name`.
    pub from: String,
    /// To whom.
    pub to: String,
    /// `TCP`, `UDP` or `SCTP`.
    pub protocol: String,
    /// At which port.
    pub port: u16,
    /// Whether the policies of the one who connects let it.
    pub egress: bool,
    /// Whether the policies of the other do.
    pub ingress: bool,
}

impl Step {
    /// All objects.
    pub fn objects(&self) -> impl Iterator<Item = Value> + '_ {
        self.namespaces.iter().chain(&self.pods).chain(&self.policies).cloned()
    }
}

impl Point {
    /// The tables deny some pods what Kubernetes always allows: to reach themselves.
    pub fn is_to_itself(&self) -> bool {
        self.from == self.to
    }
}

/// All cases, or `None` after saying that the corpus is absent (see [`crate::corpus`]).
#[track_caller]
pub fn cases() -> Option<Vec<Case>> {
    let file = std::fs::File::open(crate::corpus("policy-truth-tables")?.join("cases.json.gz"));
    let mut json = String::new();
    GzDecoder::new(file.expect("the cases can be opened")).read_to_string(&mut json).expect("they are text");
    let cases: Vec<Value> = serde_json::from_str(&json).expect("they are JSON");
    assert_eq!(cases.len(), 230, "all cases are there");
    Some(cases.iter().map(case).collect())
}

fn list<'a>(value: &'a Value, key: &str) -> impl Iterator<Item = &'a Value> + use<'a> {
    value[key].as_array().into_iter().flatten()
}

fn text<'a>(value: &'a Value, key: &str) -> &'a str {
    value[key].as_str().unwrap_or_else(|| panic!("no {key} in {value}"))
}

fn case(case: &Value) -> Case {
    Case {
        number: case["n"].as_u64().expect("a case has a number"),
        description: text(case, "description").to_owned(),
        steps: list(case, "steps").map(step).collect(),
    }
}

fn step(step: &Value) -> Step {
    let namespaces = step["namespaces"].as_object().into_iter().flatten().map(namespace).collect();
    let pods = list(step, "pods").map(pod).collect();
    let policies = list(step, "policies").cloned().collect();
    Step { namespaces, pods, policies, points: list(step, "results").map(point).collect() }
}

fn namespace((name, labels): (&String, &Value)) -> Value {
    let mut labels = labels.clone();
    labels["kubernetes.io/metadata.name"] = name.as_str().into();
    json!({"apiVersion": "v1", "kind": "Namespace", "metadata": {"name": name, "labels": labels}})
}

fn pod(pod: &Value) -> Value {
    json!({
        "apiVersion": "v1",
        "kind": "Pod",
        "metadata": {
            "namespace": pod["namespace"],
            "name": pod["name"],
            "labels": pod["labels"],
            "uid": format!("{}/{}", text(pod, "namespace"), text(pod, "name")),
        },
        "spec": { "nodeName": "n", "containers": [{ "name": "c", "image": "stand-in", "ports": pod["ports"] }] },
        "status": { "phase": "Running", "podIP": pod["ip"], "podIPs": [{ "ip": pod["ip"] }] },
    })
}

fn point(result: &Value) -> Point {
    let allowed = |key| text(result, key) == ".";
    let (protocol, port) = text(result, "port").split_once('/').expect("PROTOCOL/PORT");
    Point {
        from: text(result, "from").to_owned(),
        to: text(result, "to").to_owned(),
        protocol: protocol.to_owned(),
        port: port.parse().expect("a port"),
        egress: allowed("egress"),
        ingress: allowed("ingress"),
    }
}
