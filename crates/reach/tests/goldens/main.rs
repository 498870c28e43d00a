//! The corpus' expected connection lists: every case of the kinds that the model holds is equal line
//! by line, or stands in `docs/policy-differences.md` with the clause that makes the difference.

mod admin;

use std::collections::BTreeSet;
use std::path::{Path, PathBuf};

use kilter_model::{Cluster, Event, Origin};
use kilter_objects::{expand, list_items, to_event};
use kilter_reach::{Options, connections};
use serde_json::Value;

/// Kinds that are no Kubernetes API of networking: secondary networks, virtual machines, OpenShift's
/// routes. A case with one of them is counted, not compared.
const OTHER_KINDS: [&str; 7] = [
    "ClusterUserDefinedNetwork",
    "MultiNetworkPolicy",
    "NetworkAttachmentDefinition",
    "Route",
    "UserDefinedNetwork",
    "VirtualMachine",
    "VirtualMachineInstance",
];

fn files(folder: &Path) -> Vec<PathBuf> {
    let mut found = Vec::new();
    for entry in std::fs::read_dir(folder).unwrap() {
        let path = entry.unwrap().path();
        if path.is_dir() {
            found.extend(files(&path));
        } else if path.extension().is_some_and(|it| ["yaml", "yml", "json"].iter().any(|ext| it == *ext)) {
            found.push(path);
        }
    }
    found.sort();
    found
}

/// The objects of a case, lists taken apart. What no API server gives out, but some cases have, is
/// put right: items of a typed list that do not repeat their kind, owners without a kind, one UID
/// for several pods.
fn objects(folder: &Path) -> Vec<Value> {
    let mut todo = Vec::new();
    for file in files(folder) {
        let text = std::fs::read_to_string(&file).unwrap();
        let documents: Vec<Value> =
            serde_saphyr::from_multiple(&text).unwrap_or_else(|e| panic!("{}: {e}", file.display()));
        todo.extend(documents);
    }
    let mut objects = Vec::new();
    while let Some(mut object) = todo.pop() {
        let kind = object["kind"].as_str().unwrap_or_default().trim_end_matches("List").to_owned();
        if let Some(items) = list_items(&object) {
            for mut item in items.iter().cloned() {
                if !kind.is_empty() && item.get("kind").is_none() {
                    item["kind"] = kind.as_str().into();
                    item["apiVersion"] = object["apiVersion"].clone();
                }
                todo.push(item);
            }
            continue;
        }
        let owners = object.pointer_mut("/metadata/ownerReferences").and_then(Value::as_array_mut);
        for owner in owners.into_iter().flatten().filter(|it| it.get("kind").is_none()) {
            owner["kind"] = "Pod".into();
        }
        if let Some(metadata) = object.get_mut("metadata").and_then(Value::as_object_mut) {
            metadata.remove("uid");
        }
        objects.push(admin::as_cluster_policy(object));
    }
    objects
}

fn cluster(objects: &[Value]) -> Cluster {
    let mut events = Vec::new();
    for object in objects {
        let failed = |e| panic!("{e}: {object}");
        let pods = expand(object, Origin::Builtin).unwrap_or_else(failed);
        if pods.is_empty() {
            events.extend(to_event(object, Origin::Builtin).unwrap_or_else(|e| panic!("{e}: {object}")));
        } else {
            events.extend(pods.into_iter().map(Event::Pod));
        }
    }
    Cluster::from_events(events)
}

/// The cases that the project's list of differences names, by the reason that each table is about.
fn differences(reason: &str) -> BTreeSet<String> {
    let text = include_str!("../../../../docs/policy-differences.md");
    let section = text.split("\n## ").find(|it| it.starts_with(reason)).unwrap_or_default();
    let rows = section.lines().filter_map(|line| line.strip_prefix("| `")?.split('`').next());
    rows.map(str::to_owned).collect()
}

#[test]
fn connections_equal_the_expected_lists() {
    let Some(folder) = kilter_testkit::corpus("policy-goldens") else { return };
    let (mut exact, mut out_of_scope, mut wrong) = (0, 0, Vec::new());
    let mut host_network = BTreeSet::new();
    for expected in files_in(&folder.join("expected/connections")) {
        let case = expected.file_stem().unwrap().to_str().unwrap().to_owned();
        let mut objects = objects(&folder.join("input").join(&case));
        if objects.iter().any(|it| it["kind"].as_str().is_some_and(|kind| OTHER_KINDS.contains(&kind))) {
            out_of_scope += 1;
            continue;
        }
        let text = std::fs::read_to_string(&expected).unwrap();
        let theirs: BTreeSet<String> = text.lines().filter(|it| !it.is_empty()).map(str::to_owned).collect();
        if ours(&objects) == theirs {
            exact += 1;
            continue;
        }
        objects.iter_mut().for_each(forget_host_network);
        let ours = ours(&objects);
        if ours == theirs {
            host_network.insert(case);
            continue;
        }
        let mut lines = vec![format!("{case}:")];
        lines.extend(ours.difference(&theirs).take(12).map(|it| format!("  only ours:   {it}")));
        lines.extend(theirs.difference(&ours).take(12).map(|it| format!("  only theirs: {it}")));
        wrong.push(lines.join("\n"));
    }
    assert!(wrong.is_empty(), "{exact} exact, {} wrong:\n{}", wrong.len(), wrong.join("\n"));
    assert_eq!(host_network, differences("hostNetwork"));
    assert_eq!((exact, out_of_scope), (48, 18));
}

fn ours(objects: &[Value]) -> BTreeSet<String> {
    // That tool's choice: a block never matches a pod.
    let options = Options { ip_blocks_match_pods: false, ..Options::default() };
    connections(&cluster(objects), &options).iter().map(ToString::to_string).collect()
}

fn forget_host_network(object: &mut Value) {
    for spec in ["/spec", "/spec/template/spec"] {
        if let Some(spec) = object.pointer_mut(spec).and_then(Value::as_object_mut) {
            spec.remove("hostNetwork");
        }
    }
}

fn files_in(folder: &Path) -> Vec<PathBuf> {
    let mut found: Vec<PathBuf> = std::fs::read_dir(folder).unwrap().map(|it| it.unwrap().path()).collect();
    found.sort();
    found
}
