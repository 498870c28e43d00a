//! The corpus' expected connection lists, as far as they are about NetworkPolicy alone.

use std::collections::BTreeSet;
use std::path::{Path, PathBuf};

use kilter_model::{Cluster, Event, Origin};
use kilter_objects::{expand, list_items, to_event};
use kilter_reach::{Options, connections};
use serde_json::Value;

/// Kinds that this model does not hold. A case with one of them is counted, not compared.
const OTHER_KINDS: [&str; 11] = [
    "AdminNetworkPolicy",
    "BaselineAdminNetworkPolicy",
    "ClusterUserDefinedNetwork",
    "Ingress",
    "MultiNetworkPolicy",
    "NetworkAttachmentDefinition",
    "Route",
    "UserDefinedNetwork",
    "VirtualMachine",
    "VirtualMachineInstance",
    "ClusterNetworkPolicy",
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

/// The objects of a case, lists taken apart.
fn objects(folder: &Path) -> Vec<Value> {
    let mut todo = Vec::new();
    for file in files(folder) {
        let text = std::fs::read_to_string(&file).unwrap();
        let documents: Vec<Value> =
            serde_saphyr::from_multiple(&text).unwrap_or_else(|e| panic!("{}: {e}", file.display()));
        todo.extend(documents);
    }
    let mut objects = Vec::new();
    while let Some(object) = todo.pop() {
        match list_items(&object) {
            Some(items) => todo.extend(items.iter().cloned()),
            None => objects.push(object),
        }
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

#[test]
fn connections_equal_the_expected_lists() {
    let Some(folder) = kilter_testkit::corpus("policy-goldens") else { return };
    // That tool's choice: a block never matches a pod.
    let options = Options { ip_blocks_match_pods: false, ..Options::default() };
    let (mut exact, mut out_of_scope, mut different) = (0, 0, Vec::new());
    for expected in files_named(&folder.join("expected/connections")) {
        let case = expected.file_stem().unwrap().to_str().unwrap().to_owned();
        let objects = objects(&folder.join("input").join(&case));
        if objects.iter().any(|it| it["kind"].as_str().is_some_and(|kind| OTHER_KINDS.contains(&kind))) {
            out_of_scope += 1;
            continue;
        }
        let ours: BTreeSet<String> =
            connections(&cluster(&objects), &options).iter().map(ToString::to_string).collect();
        let text = std::fs::read_to_string(&expected).unwrap();
        let theirs: BTreeSet<String> = text.lines().filter(|it| !it.is_empty()).map(str::to_owned).collect();
        if ours == theirs {
            exact += 1;
            continue;
        }
        let mut lines = vec![format!("{case}:")];
        lines.extend(ours.difference(&theirs).take(12).map(|it| format!("  only ours:   {it}")));
        lines.extend(theirs.difference(&ours).take(12).map(|it| format!("  only theirs: {it}")));
        different.push(lines.join("\n"));
    }
    eprintln!("{exact} exact, {} different, {out_of_scope} out of scope", different.len());
    assert!(different.is_empty(), "{}", different.join("\n"));
}

fn files_named(folder: &Path) -> Vec<PathBuf> {
    let mut found: Vec<PathBuf> = std::fs::read_dir(folder).unwrap().map(|it| it.unwrap().path()).collect();
    found.sort();
    found
}
