use std::collections::{BTreeMap, BTreeSet};

use futures::{StreamExt, stream};
use k8s_openapi::apimachinery::pkg::apis::meta::v1::APIResource;
use kube::api::{DeleteParams, Patch, PatchParams, PostParams, PropagationPolicy};
use kube::core::{ApiResource, DynamicObject};
use kube::{Api, Client};
use serde_json::{Value, json};

use crate::{Error, merge};

/// Requests in flight at once: enough to hide the round trips, few enough to spare the handshakes.
const PARALLEL: usize = 16;

/// Where `kubectl apply` keeps what was declared; kept the same way, so that people can go on with
/// `kubectl apply` and removed fields are removed.
const LAST_APPLIED: &str = "kubectl.kubernetes.io/last-applied-configuration";

/// Whose the fields of applied objects are (`metadata.managedFields`).
const MANAGER: &str = "kilter";

/// What applying an object did.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Applied {
    /// It did not exist.
    Created,
    /// It was different.
    Configured,
    /// It was so already.
    Unchanged,
}

/// How the API serves a kind.
#[derive(Debug, Clone)]
pub struct Discovered {
    /// Group, version, kind and plural.
    pub resource: ApiResource,
    /// Whether its objects live in namespaces.
    pub namespaced: bool,
}

/// What the API serves, of the versions asked for.
#[derive(Debug, Clone, Default)]
pub struct Discovery {
    kinds: BTreeMap<(String, String), Discovered>,
}

impl Discovery {
    /// Asks the API about these `apiVersion`s. One that it does not serve has no kinds.
    pub async fn ask(client: &Client, versions: &BTreeSet<String>) -> Result<Self, Error> {
        let mut answers = stream::iter(versions.iter().cloned())
            .map(|version| async move { (resources(client, &version).await, version) })
            .buffer_unordered(PARALLEL);
        let mut kinds = BTreeMap::new();
        while let Some((answer, version)) = answers.next().await {
            for resource in answer?.into_iter().filter(|r| !r.name.contains('/')) {
                kinds.insert((version.clone(), resource.kind.clone()), discovered(&version, resource));
            }
        }
        Ok(Self { kinds })
    }

    /// How a kind is served.
    pub fn get(&self, api_version: &str, kind: &str) -> Option<&Discovered> {
        self.kinds.get(&(api_version.to_string(), kind.to_string()))
    }
}

async fn resources(client: &Client, version: &str) -> Result<Vec<APIResource>, Error> {
    let list = if version.contains('/') {
        client.list_api_group_resources(version).await
    } else {
        client.list_core_api_resources(version).await
    };
    match list.map_err(|e| Error::from_kube(format!("list the kinds of {version}"), e)) {
        Ok(list) => Ok(list.resources),
        Err(error) if error.is_not_found() => Ok(Vec::new()),
        Err(error) => Err(error),
    }
}

fn discovered(api_version: &str, resource: APIResource) -> Discovered {
    let (group, version) = api_version.split_once('/').unwrap_or(("", api_version));
    Discovered {
        resource: ApiResource {
            group: group.into(),
            version: version.into(),
            api_version: api_version.into(),
            kind: resource.kind,
            plural: resource.name,
        },
        namespaced: resource.namespaced,
    }
}

/// Creates or updates objects, all at once except that namespaces and definitions of kinds come
/// first. The outer error means that the API cannot be asked at all; the results are in the order
/// of the objects. Objects without a namespace, of kinds that have one, go to `default`.
pub async fn apply(client: &Client, objects: &[Value]) -> Result<Vec<Result<Applied, Error>>, Error> {
    let mut results: Vec<Option<Result<Applied, Error>>> = objects.iter().map(|_| None).collect();
    let (first, rest): (Vec<usize>, Vec<usize>) = (0..objects.len()).partition(|&i| comes_first(&objects[i]));
    for phase in [first, rest] {
        // Asked phase by phase: definitions of kinds in the first may serve the second.
        let discovery = Discovery::ask(client, &versions(phase.iter().map(|&i| &objects[i]))).await?;
        let discovery = &discovery;
        let mut outcomes = stream::iter(phase)
            .map(|i| async move { (i, apply_one(client, discovery, &objects[i]).await) })
            .buffer_unordered(PARALLEL);
        while let Some((i, outcome)) = outcomes.next().await {
            results[i] = Some(outcome);
        }
    }
    Ok(results.into_iter().flatten().collect())
}

/// Deletes objects, all at once, what they own in the background. One that does not exist is as
/// good as deleted.
pub async fn delete(client: &Client, objects: &[Value]) -> Result<Vec<Result<(), Error>>, Error> {
    let discovery = Discovery::ask(client, &versions(objects.iter())).await?;
    let discovery = &discovery;
    let outcomes = objects.iter().map(|object| async move {
        let target = Target::of(client, discovery, object)?;
        let params =
            DeleteParams { propagation_policy: Some(PropagationPolicy::Background), ..Default::default() };
        match target.api.delete(&target.name, &params).await.map_err(|e| target.error("delete", e)) {
            Err(error) if !error.is_not_found() => Err(error),
            _ => Ok(()),
        }
    });
    Ok(stream::iter(outcomes).buffered(PARALLEL).collect().await)
}

fn comes_first(object: &Value) -> bool {
    matches!(object["kind"].as_str(), Some("Namespace" | "CustomResourceDefinition"))
}

fn versions<'a>(objects: impl Iterator<Item = &'a Value>) -> BTreeSet<String> {
    objects.filter_map(|object| object["apiVersion"].as_str()).map(str::to_string).collect()
}

/// One object's place in the API.
struct Target {
    api: Api<DynamicObject>,
    name: String,
    what: String,
}

impl Target {
    fn of(client: &Client, discovery: &Discovery, object: &Value) -> Result<Self, Error> {
        let text = |pointer: &str| object.pointer(pointer).and_then(Value::as_str).filter(|s| !s.is_empty());
        let namespace = text("/metadata/namespace");
        let what = format!(
            "{} {}",
            text("/kind").unwrap_or("object"),
            [namespace, Some(text("/metadata/name").unwrap_or("(no name)"))]
                .into_iter()
                .flatten()
                .collect::<Vec<_>>()
                .join("/")
        );
        let need = |pointer: &str, field| {
            text(pointer).ok_or_else(|| Error::Incomplete { what: what.clone(), field })
        };
        let api_version = need("/apiVersion", "apiVersion")?;
        let kind = need("/kind", "kind")?;
        let name = need("/metadata/name", "metadata.name")?;
        let served = discovery.get(api_version, kind).ok_or_else(|| Error::UnknownKind {
            what: what.clone(),
            api_version: api_version.into(),
            kind: kind.into(),
        })?;
        let api = if served.namespaced {
            Api::namespaced_with(client.clone(), namespace.unwrap_or("default"), &served.resource)
        } else {
            Api::all_with(client.clone(), &served.resource)
        };
        Ok(Self { api, name: name.to_string(), what })
    }

    fn error(&self, verb: &str, error: kube::Error) -> Error {
        Error::from_kube(format!("{verb} {}", self.what), error)
    }
}

async fn apply_one(client: &Client, discovery: &Discovery, object: &Value) -> Result<Applied, Error> {
    let target = Target::of(client, discovery, object)?;
    let declared = with_record(object);
    let body = typed(&declared).map_err(|e| target.error("create", e))?;
    let params = PostParams { field_manager: Some(MANAGER.into()), ..Default::default() };
    match target.api.create(&params, &body).await.map_err(|e| target.error("create", e)) {
        Ok(_) => Ok(Applied::Created),
        Err(error) if error.is_already_exists() => update(&target, &declared, object).await,
        Err(error) => Err(error),
    }
}

async fn update(target: &Target, declared: &Value, object: &Value) -> Result<Applied, Error> {
    let live = target.api.get(&target.name).await.map_err(|e| target.error("read", e))?;
    let before = live.metadata.annotations.as_ref().and_then(|a| a.get(LAST_APPLIED));
    let before: Option<Value> = before.and_then(|text| serde_json::from_str(text).ok());
    // The record itself is declared too, but is no part of what it records.
    let mut patch = merge::patch(before.as_ref(), object);
    patch["metadata"]["annotations"][LAST_APPLIED] =
        declared["metadata"]["annotations"][LAST_APPLIED].clone();
    let params = PatchParams { field_manager: Some(MANAGER.into()), ..Default::default() };
    let patched = target.api.patch(&target.name, &params, &Patch::Merge(&patch)).await;
    let patched = patched.map_err(|e| target.error("update", e))?;
    let same = patched.metadata.resource_version == live.metadata.resource_version;
    Ok(if same { Applied::Unchanged } else { Applied::Configured })
}

/// The object with itself as its last applied configuration.
fn with_record(object: &Value) -> Value {
    let mut declared = object.clone();
    let metadata = &mut declared["metadata"];
    if !metadata["annotations"].is_object() {
        metadata["annotations"] = json!({});
    }
    metadata["annotations"][LAST_APPLIED] = format!("{object}\n").into();
    declared
}

fn typed(object: &Value) -> Result<DynamicObject, kube::Error> {
    serde_json::from_value(object.clone()).map_err(kube::Error::SerdeError)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_record_is_what_was_declared_and_not_itself() {
        let declared = with_record(&json!({"kind": "ConfigMap", "metadata": {"name": "a"}}));
        let record = declared["metadata"]["annotations"][LAST_APPLIED].as_str().unwrap();
        assert_eq!(
            serde_json::from_str::<Value>(record).unwrap(),
            json!({"kind": "ConfigMap", "metadata": {"name": "a"}})
        );
    }

    #[test]
    fn a_served_kind_knows_its_group_and_scope() {
        let resource = APIResource {
            name: "deployments".into(),
            kind: "Deployment".into(),
            namespaced: true,
            ..Default::default()
        };
        let found = discovered("apps/v1", resource);
        assert_eq!((found.resource.group.as_str(), found.resource.plural.as_str()), ("apps", "deployments"));
        assert!(found.namespaced);
    }
}
