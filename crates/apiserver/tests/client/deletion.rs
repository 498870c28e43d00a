use k8s_openapi::api::apps::v1::{Deployment, ReplicaSet};
use k8s_openapi::api::core::v1::{ConfigMap, Namespace, Pod};
use kube::api::{Api, DeleteParams, ListParams, Patch, PatchParams, PostParams, PropagationPolicy};
use kube::{Client, ResourceExt};
use serde_json::{Value, json};

use crate::common::Server;
use crate::{code, config_map, create, deployment, gone, object, pod};

/// A deployment, its replica set and that one's pod.
async fn family(client: &Client) -> (Api<Deployment>, Api<ReplicaSet>, Api<Pod>, [String; 3]) {
    let deployments = Api::<Deployment>::default_namespaced(client.clone());
    let sets = Api::<ReplicaSet>::default_namespaced(client.clone());
    let pods = Api::<Pod>::default_namespaced(client.clone());
    let owner = |kind: &str, uid: &str| {
        json!([{"apiVersion": "apps/v1", "kind": kind, "name": "web", "uid": uid,
        "controller": true, "blockOwnerDeletion": true}])
    };
    let top = create(&deployments, &deployment("web")).await.uid().expect("a UID");
    let mut set: Value = serde_json::to_value(deployment("web")).expect("JSON");
    set["kind"] = "ReplicaSet".into();
    set["metadata"]["ownerReferences"] = owner("Deployment", &top);
    let set = create(&sets, &object(set)).await.uid().expect("a UID");
    let mut leaf = pod("web");
    leaf.metadata.owner_references = object(owner("ReplicaSet", &set));
    let leaf = create(&pods, &leaf).await.uid().expect("a UID");
    (deployments, sets, pods, [top, set, leaf])
}

#[tokio::test]
async fn dependents_go_with_their_owner_or_stay_as_asked() {
    let server = Server::start();
    let client = server.client().await;
    for policy in [PropagationPolicy::Background, PropagationPolicy::Foreground] {
        let (deployments, sets, pods, [top, set, leaf]) = family(&client).await;
        let params = DeleteParams { propagation_policy: Some(policy), ..DeleteParams::default() };
        deployments.delete("web", &params).await.expect("begun");
        gone(pods, "web", &leaf).await;
        gone(sets, "web", &set).await;
        gone(deployments, "web", &top).await;
    }
    let (deployments, sets, pods, [top, set, _]) = family(&client).await;
    let params =
        DeleteParams { propagation_policy: Some(PropagationPolicy::Orphan), ..DeleteParams::default() };
    deployments.delete("web", &params).await.expect("begun");
    gone(deployments, "web", &top).await;
    let orphan = sets.get("web").await.expect("it stays");
    assert_eq!((orphan.uid(), orphan.owner_references().len()), (Some(set), 0));
    pods.get("web").await.expect("it stays");
}

#[tokio::test]
async fn an_object_of_an_owner_that_never_was_is_collected() {
    let server = Server::start();
    let maps = Api::<ConfigMap>::default_namespaced(server.client().await);
    let mut stray = config_map("stray", json!({}));
    stray.metadata.owner_references = object(
        json!([{"apiVersion": "v1", "kind": "Pod", "name": "x", "uid": "00000000-0000-0000-0000-000000000000"}]),
    );
    let uid = create(&maps, &stray).await.uid().expect("a UID");
    gone(maps, "stray", &uid).await;
}

#[tokio::test]
async fn a_namespace_takes_its_contents_along() {
    let server = Server::start();
    let client = server.client().await;
    let namespaces = Api::<Namespace>::all(client.clone());
    let uid = create(&namespaces, &object(json!({"metadata": {"name": "shop"}}))).await.uid().expect("a UID");
    let maps = Api::<ConfigMap>::namespaced(client.clone(), "shop");
    let mut held = config_map("held", json!({}));
    held.metadata.finalizers = Some(vec!["kilter.dev/test".into()]);
    create(&maps, &held).await;
    create(&maps, &config_map("free", json!({}))).await;
    namespaces.delete("shop", &DeleteParams::default()).await.expect("begun");
    let phase = namespaces.get("shop").await.expect("it waits").status.and_then(|s| s.phase);
    assert_eq!(phase.as_deref(), Some("Terminating"));
    let refused =
        maps.create(&PostParams::default(), &config_map("late", json!({}))).await.expect_err("too late");
    assert_eq!(code(&refused), 403);
    let release = Patch::Merge(json!({"metadata": {"finalizers": null}}));
    maps.patch("held", &PatchParams::default(), &release).await.expect("released");
    gone(namespaces.clone(), "shop", &uid).await;
    let lasting = namespaces.delete("default", &DeleteParams::default()).await.expect_err("lasting");
    assert_eq!(code(&lasting), 403);
    let nowhere =
        maps.create(&PostParams::default(), &config_map("x", json!({}))).await.expect_err("nowhere");
    assert_eq!(code(&nowhere), 404);
}

#[tokio::test]
async fn a_collection_is_deleted_by_selection() {
    let server = Server::start();
    let maps = Api::<ConfigMap>::default_namespaced(server.client().await);
    for (name, app) in [("a", "web"), ("b", "web"), ("c", "db")] {
        create(&maps, &config_map(name, json!({"app": app}))).await;
    }
    maps.delete_collection(&DeleteParams::default(), &ListParams::default().labels("app=web"))
        .await
        .expect("deleted");
    let left = maps.list(&ListParams::default()).await.expect("listed").items;
    assert_eq!(left.iter().map(ResourceExt::name_any).collect::<Vec<_>>(), ["c"]);
}
