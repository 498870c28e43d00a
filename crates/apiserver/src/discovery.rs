//! Discovery documents: the published list, in the two forms that clients ask for.

use http::{HeaderMap, StatusCode};
use serde_json::{Value, json};

use crate::custom::Catalogue;
use crate::negotiate::{self, Discovery};
use crate::resources::Resource;
use crate::respond::{self, Answer};
use crate::status::Status;

const VERBS: [&str; 8] = ["create", "delete", "deletecollection", "get", "list", "patch", "update", "watch"];
const AGGREGATED: &str = "application/json;g=apidiscovery.k8s.io;v=v2;as=APIGroupDiscoveryList";

/// A subresource as discovery lists it.
struct Sub {
    name: &'static str,
    api: (&'static str, &'static str),
    kind: &'static str,
    verbs: &'static [&'static str],
}

fn subresources(resource: &Resource) -> Vec<Sub> {
    let kind = resource.kind;
    let own =
        resource.subresources.iter().map(|s| Sub { name: s.name, api: s.api, kind: s.kind, verbs: s.verbs });
    let half: &[&str] = &["get", "patch", "update"];
    let status = kind.status.then(|| Sub {
        name: "status",
        api: (kind.group, kind.version),
        kind: kind.kind,
        verbs: half,
    });
    let scale =
        kind.scale.then_some(Sub { name: "scale", api: ("autoscaling", "v1"), kind: "Scale", verbs: half });
    own.chain(scale).chain(status).collect()
}

fn group_versions(served: &Catalogue) -> Vec<(&'static str, &'static str)> {
    let mut found: Vec<(&str, &str)> = Vec::new();
    for resource in served.all() {
        let it = (resource.kind.group, resource.kind.version);
        if !found.contains(&it) {
            found.push(it);
        }
    }
    found
}

fn group_version(group: &str, version: &str) -> String {
    if group.is_empty() { version.to_owned() } else { format!("{group}/{version}") }
}

fn resources_of(served: &Catalogue, group: &str, version: &str) -> Vec<&'static Resource> {
    served.all().into_iter().filter(|r| r.kind.group == group && r.kind.version == version).collect()
}

/// The names that stand for several resources (`kubectl get all`).
fn categories(resource: &Resource) -> Vec<String> {
    match &resource.custom {
        Some(custom) => custom.now().categories.clone(),
        None if resource.kind.in_all => vec!["all".to_owned()],
        None => vec![],
    }
}

/// `/api`.
pub fn core(served: &Catalogue, headers: &HeaderMap) -> Result<Answer, Status> {
    match negotiate::discovery(headers)? {
        Discovery::Aggregated => Ok(aggregated(served, |group| group.is_empty())),
        Discovery::Legacy => Ok(respond::json(
            StatusCode::OK,
            &json!({"kind": "APIVersions", "versions": ["v1"], "serverAddressByClientCIDRs": []}),
        )),
    }
}

/// `/apis`.
pub fn groups(served: &Catalogue, headers: &HeaderMap) -> Result<Answer, Status> {
    match negotiate::discovery(headers)? {
        Discovery::Aggregated => Ok(aggregated(served, |group| !group.is_empty())),
        Discovery::Legacy => {
            let groups: Vec<Value> = named_groups(served).into_iter().map(|group| group_value(served, group)).collect();
            Ok(respond::json(
                StatusCode::OK,
                &json!({"kind": "APIGroupList", "apiVersion": "v1", "groups": groups}),
            ))
        }
    }
}

fn named_groups(served: &Catalogue) -> Vec<&'static str> {
    let mut found = Vec::new();
    for (group, _) in group_versions(served) {
        if !group.is_empty() && !found.contains(&group) {
            found.push(group);
        }
    }
    found
}

fn group_value(served: &Catalogue, group: &str) -> Value {
    let versions: Vec<Value> = group_versions(served)
        .into_iter()
        .filter(|(g, _)| *g == group)
        .map(|(g, v)| json!({"groupVersion": group_version(g, v), "version": v}))
        .collect();
    json!({"name": group, "versions": versions, "preferredVersion": versions[0]})
}

/// `/apis/GROUP`.
///
/// # Errors
/// 404.
pub fn group(served: &Catalogue, name: &str) -> Result<Answer, Status> {
    if !named_groups(served).contains(&name) {
        return Err(Status::unknown_path());
    }
    let mut value = group_value(served, name);
    value["kind"] = "APIGroup".into();
    value["apiVersion"] = "v1".into();
    Ok(respond::json(StatusCode::OK, &value))
}

/// `/api/v1`, `/apis/GROUP/VERSION`.
///
/// # Errors
/// 404.
pub fn resources(served: &Catalogue, group: &str, version: &str) -> Result<Answer, Status> {
    let mut list = Vec::new();
    for resource in resources_of(served, group, version) {
        let kind = resource.kind;
        let mut entry = json!({"name": kind.plural, "singularName": kind.singular, "namespaced": kind.namespaced,
            "kind": kind.kind, "verbs": VERBS, "storageVersionHash": format!("{}.{}", kind.group, kind.kind)});
        if !kind.short_names.is_empty() {
            entry["shortNames"] = json!(kind.short_names);
        }
        if !categories(resource).is_empty() {
            entry["categories"] = json!(categories(resource));
        }
        list.push(entry);
        for sub in subresources(resource) {
            let mut entry = json!({"name": format!("{}/{}", kind.plural, sub.name), "singularName": "",
                "namespaced": kind.namespaced, "kind": sub.kind, "verbs": sub.verbs});
            if sub.api != (group, version) {
                entry["group"] = sub.api.0.into();
                entry["version"] = sub.api.1.into();
            }
            list.push(entry);
        }
    }
    if list.is_empty() {
        return Err(Status::unknown_path());
    }
    let value = json!({"kind": "APIResourceList", "apiVersion": "v1",
        "groupVersion": group_version(group, version), "resources": list});
    Ok(respond::json(StatusCode::OK, &value))
}

fn aggregated(served: &Catalogue, wanted: impl Fn(&str) -> bool) -> Answer {
    let mut groups: Vec<Value> = Vec::new();
    for (group, version) in group_versions(served).into_iter().filter(|(g, _)| wanted(g)) {
        let resources: Vec<Value> = resources_of(served, group, version).into_iter().map(aggregated_resource).collect();
        let version = json!({"version": version, "resources": resources, "freshness": "Current"});
        match groups.iter_mut().find(|g| g["metadata"]["name"] == group) {
            Some(found) => found["versions"].as_array_mut().map(|v| v.push(version)).unwrap_or_default(),
            None => groups.push(json!({"metadata": {"name": group}, "versions": [version]})),
        }
    }
    let value = json!({"kind": "APIGroupDiscoveryList", "apiVersion": "apidiscovery.k8s.io/v2",
        "metadata": {}, "items": groups});
    let mut answer = respond::json(StatusCode::OK, &value);
    answer.headers_mut().insert(http::header::CONTENT_TYPE, http::HeaderValue::from_static(AGGREGATED));
    answer
}

fn aggregated_resource(resource: &Resource) -> Value {
    let kind = resource.kind;
    let gvk = |(group, version): (&str, &str), kind: &str| json!({"group": group, "version": version, "kind": kind});
    let mut entry = json!({
        "resource": kind.plural,
        "responseKind": gvk((kind.group, kind.version), kind.kind),
        "scope": if kind.namespaced { "Namespaced" } else { "Cluster" },
        "singularResource": kind.singular,
        "verbs": VERBS,
    });
    if !kind.short_names.is_empty() {
        entry["shortNames"] = json!(kind.short_names);
    }
    if !categories(resource).is_empty() {
        entry["categories"] = json!(categories(resource));
    }
    let subs: Vec<Value> = subresources(resource)
        .into_iter()
        .map(|s| json!({"subresource": s.name, "responseKind": gvk(s.api, s.kind), "verbs": s.verbs}))
        .collect();
    if !subs.is_empty() {
        entry["subresources"] = subs.into();
    }
    entry
}
