//! Requests to the API whose errors say what was asked.

use std::fmt::Debug;

use k8s_openapi::NamespaceResourceScope;
use kilter_cluster::Error;
use kube::api::{DeleteParams, Patch, PatchParams, PostParams, Preconditions, PropagationPolicy};
use kube::{Api, Client, Resource, ResourceExt};
use serde::Serialize;
use serde::de::DeserializeOwned;
use serde_json::Value;

/// An object of a namespaced kind.
pub(crate) trait Object:
    Resource<DynamicType = (), Scope = NamespaceResourceScope> + Serialize + DeserializeOwned + Clone + Debug
{
}

impl<K> Object for K where
    K: Resource<DynamicType = (), Scope = NamespaceResourceScope>
        + Serialize
        + DeserializeOwned
        + Clone
        + Debug
{
}

/// `verb Kind namespace/name`.
fn what<K: Object>(verb: &str, object: &K) -> String {
    format!("{verb} {} {}/{}", K::kind(&()), object.namespace().unwrap_or_default(), object.name_any())
}

fn api<K: Object>(client: &Client, object: &K) -> Api<K> {
    Api::namespaced(client.clone(), &object.namespace().unwrap_or_default())
}

/// Creates an object.
pub(crate) async fn create<K: Object>(client: &Client, object: &K) -> Result<K, Error> {
    let result = api(client, object).create(&PostParams::default(), object).await;
    result.map_err(|e| Error::from_kube(what("create", object), e))
}

/// Replaces an object that was read; a conflict if it has changed since.
pub(crate) async fn replace<K: Object>(client: &Client, object: &K) -> Result<K, Error> {
    let result = api(client, object).replace(&object.name_any(), &PostParams::default(), object).await;
    result.map_err(|e| Error::from_kube(what("update", object), e))
}

/// Merges into an object, as long as it is the one that was read and not a namesake.
pub(crate) async fn merge<K: Object>(client: &Client, object: &K, mut patch: Value) -> Result<K, Error> {
    patch["metadata"]["uid"] = object.uid().into();
    let result =
        api(client, object).patch(&object.name_any(), &PatchParams::default(), &Patch::Merge(patch)).await;
    result.map_err(|e| Error::from_kube(what("update", object), e))
}

/// Merges into the status of an object, as long as it is the one that was read.
pub(crate) async fn merge_status<K: Object>(
    client: &Client,
    object: &K,
    status: impl Serialize,
) -> Result<K, Error> {
    let patch = serde_json::json!({"metadata": {"uid": object.uid()}, "status": status});
    let params = PatchParams::default();
    let result = api(client, object).patch_status(&object.name_any(), &params, &Patch::Merge(patch)).await;
    result.map_err(|e| Error::from_kube(what("update status of", object), e))
}

/// Merges into the status of an object, as long as nothing has changed since it was read.
pub(crate) async fn merge_status_as_read<K: Object>(
    client: &Client,
    object: &K,
    status: impl Serialize,
) -> Result<K, Error> {
    let metadata = serde_json::json!({"uid": object.uid(), "resourceVersion": object.resource_version()});
    let patch = Patch::Merge(serde_json::json!({"metadata": metadata, "status": status}));
    let result = api(client, object).patch_status(&object.name_any(), &PatchParams::default(), &patch).await;
    result.map_err(|e| Error::from_kube(what("update status of", object), e))
}

/// Deletes an object, what it owns in the background, as long as it is the one that was read.
/// `grace` in seconds, where it is not the object's own. `false`: it was gone already.
pub(crate) async fn delete<K: Object>(
    client: &Client,
    object: &K,
    grace: Option<u32>,
) -> Result<bool, Error> {
    let params = DeleteParams {
        grace_period_seconds: grace,
        propagation_policy: Some(PropagationPolicy::Background),
        preconditions: Some(Preconditions { uid: object.uid(), resource_version: None }),
        ..Default::default()
    };
    let result = api(client, object).delete(&object.name_any(), &params).await;
    match result.map_err(|e| Error::from_kube(what("delete", object), e)) {
        // A conflict: the name belongs to another object by now.
        Err(error) if error.is_not_found() || error.is_conflict() => Ok(false),
        result => result.map(|_| true),
    }
}
