//! Cases of the corpus as clusters.

use std::path::{Path, PathBuf};

use kilter_model::{Cluster, Event, Origin};
use kilter_objects::{expand, list_items, to_event};
use serde_json::Value;

use crate::admin::as_cluster_policy;

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
pub fn objects(folder: &Path) -> Vec<Value> {
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
        objects.push(as_cluster_policy(object));
    }
    objects
}

pub fn cluster(objects: &[Value]) -> Cluster {
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

/// Makes a hostNetwork pod one like others.
pub fn forget_host_network(object: &mut Value) {
    for spec in ["/spec", "/spec/template/spec"] {
        if let Some(spec) = object.pointer_mut(spec).and_then(Value::as_object_mut) {
            spec.remove("hostNetwork");
        }
    }
}
