use k8s_openapi::api::core::v1::{Node, NodeStatus, Pod, PodStatus};
use kube::api::{DeleteParams, Patch, PatchParams, Preconditions};
use kube::{Api, Client};
use serde_json::json;

use crate::Error;

/// Sets the given parts of a pod's status; lists are replaced whole. The UID guards against
/// writing the status of a dead pod to its successor of the same name (a conflict).
pub async fn patch_pod_status(
    client: &Client,
    namespace: &str,
    name: &str,
    uid: &str,
    status: &PodStatus,
) -> Result<Pod, Error> {
    let api: Api<Pod> = Api::namespaced(client.clone(), namespace);
    let patch = json!({"metadata": {"uid": uid}, "status": status});
    api.patch_status(name, &PatchParams::default(), &Patch::Merge(&patch))
        .await
        .map_err(|e| Error::from_kube(format!("update status of pod {namespace}/{name}"), e))
}

/// Sets the given parts of a node's status; lists are replaced whole.
pub async fn patch_node_status(client: &Client, name: &str, status: &NodeStatus) -> Result<Node, Error> {
    let api: Api<Node> = Api::all(client.clone());
    api.patch_status(name, &PatchParams::default(), &Patch::Merge(&json!({"status": status})))
        .await
        .map_err(|e| Error::from_kube(format!("update status of node {name}"), e))
}

/// Tells the API that a pod being deleted has ended, so that it goes away (a deletion without
/// grace, of this very pod). A pod that is gone already is as good.
pub async fn confirm_deleted(client: &Client, namespace: &str, name: &str, uid: &str) -> Result<(), Error> {
    let api: Api<Pod> = Api::namespaced(client.clone(), namespace);
    let params = DeleteParams {
        grace_period_seconds: Some(0),
        preconditions: Some(Preconditions { uid: Some(uid.into()), resource_version: None }),
        ..Default::default()
    };
    let what = format!("finish deletion of pod {namespace}/{name}");
    match api.delete(name, &params).await.map_err(|e| Error::from_kube(what, e)) {
        // A conflict says that the name is another pod's by now.
        Err(error) if !error.is_not_found() && !error.is_conflict() => Err(error),
        _ => Ok(()),
    }
}
