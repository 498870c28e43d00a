use k8s_openapi::api::apps::v1::Deployment;
use k8s_openapi::api::core::v1::{ConfigMap, Node, Pod, Service};
use kube::api::{Api, DeleteParams, ListParams, Patch, PatchParams, PostParams, Preconditions};
use kube::{Client, ResourceExt};
use serde_json::{Value, json};

use crate::common::Server;
use crate::{code, config_map, create, deployment, object, pod};

#[tokio::test]
async fn writes_conflict_and_halves_of_an_object_do_not_mix() {
    let server = Server::start();
    let deployments = Api::<Deployment>::default_namespaced(server.client().await);
    let post = PostParams::default();
    let first = create(&deployments, &deployment("web")).await;
    assert_eq!(code(&deployments.create(&post, &first.clone()).await.expect_err("again")), 400);
    assert_eq!(code(&deployments.create(&post, &deployment("web")).await.expect_err("again")), 409);

    let mut wanted = first.clone();
    wanted.spec.replicas = Some(5);
    wanted.status.get_or_insert_default().ready_replicas = Some(9);
    let second = deployments.replace("web", &post, &wanted).await.expect("replaced");
    assert_eq!(second.metadata.generation, Some(2));
    assert_eq!(second.status.as_ref().and_then(|s| s.ready_replicas), None);
    assert_eq!(code(&deployments.replace("web", &post, &wanted).await.expect_err("stale")), 409);

    let mut observed = second.clone();
    observed.spec.replicas = Some(1);
    observed.status.get_or_insert_default().ready_replicas = Some(3);
    let third = deployments.replace_status("web", &post, &observed).await.expect("replaced");
    assert_eq!((third.metadata.generation, third.spec.replicas), (Some(2), Some(5)));
    assert_eq!(third.status.as_ref().and_then(|s| s.ready_replicas), Some(3));

    // What changes nothing writes nothing.
    let same = Patch::Merge(json!({"spec": {"replicas": 5}}));
    let same = deployments.patch("web", &PatchParams::default(), &same).await.expect("patched");
    assert_eq!(same.resource_version(), third.resource_version());
    // A dry run neither.
    let dry = PatchParams { dry_run: true, ..PatchParams::default() };
    let patch = Patch::Merge(json!({"spec": {"replicas": 7}}));
    assert_eq!(deployments.patch("web", &dry, &patch).await.expect("patched").spec.replicas, Some(7));
    assert_eq!(deployments.get("web").await.expect("there").resource_version(), third.resource_version());

    let scale = deployments.get_scale("web").await.expect("a scale");
    assert_eq!(scale.status.and_then(|s| s.selector).as_deref(), Some("app=web"));
    let patch = Patch::Merge(json!({"spec": {"replicas": 0}}));
    deployments.patch_scale("web", &PatchParams::default(), &patch).await.expect("scaled");
    assert_eq!(deployments.get("web").await.expect("there").spec.replicas, Some(0));

    let immutable = Patch::Merge(json!({"spec": {"selector": {"matchLabels": {"app": "other"}}}}));
    let error = deployments.patch("web", &PatchParams::default(), &immutable).await.expect_err("immutable");
    assert_eq!(code(&error), 422);
}

#[tokio::test]
async fn every_patch_format_is_applied_and_others_are_refused() {
    let server = Server::start();
    let deployments = Api::<Deployment>::default_namespaced(server.client().await);
    create(&deployments, &deployment("web")).await;
    let params = PatchParams::default();
    let container = |extra: Value| json!({"spec": {"template": {"spec": {"containers": [extra]}}}});
    let sidecar = Patch::Strategic(container(json!({"name": "side", "image": "side:1"})));
    let both = deployments.patch("web", &params, &sidecar).await.expect("patched");
    let images = |d: &Deployment| -> Vec<String> {
        let spec = d.spec.template.spec.clone().expect("a pod spec");
        spec.containers.into_iter().filter_map(|c| c.image).collect()
    };
    let mut found = images(&both);
    found.sort();
    assert_eq!(found, ["shop/web:1", "side:1"]);
    let one = Patch::Merge(container(json!({"name": "main", "image": "x:2"})));
    assert_eq!(images(&deployments.patch("web", &params, &one).await.expect("patched")), ["x:2"]);

    let maps = Api::<ConfigMap>::default_namespaced(server.client().await);
    create(&maps, &config_map("m", json!({}))).await;
    let json_patch = |operations: Value| Patch::<()>::Json(object(operations));
    let patched =
        maps.patch("m", &params, &json_patch(json!([{"op": "add", "path": "/data/x", "value": "y"}]))).await;
    assert_eq!(patched.expect("patched").data.expect("data").get("x").map(String::as_str), Some("y"));
    let failed =
        maps.patch("m", &params, &json_patch(json!([{"op": "test", "path": "/data/x", "value": "z"}]))).await;
    assert_eq!(code(&failed.expect_err("a failed test")), 422);
    let missing = maps.patch("none", &params, &Patch::Merge(json!({}))).await.expect_err("missing");
    assert_eq!(code(&missing), 404);
}

#[tokio::test]
async fn services_get_addresses_and_give_them_back() {
    let server = Server::start();
    let services = Api::<Service>::default_namespaced(server.client().await);
    let service = |name: &str, ip: Value| -> Service {
        object(json!({"metadata": {"name": name}, "spec": {"clusterIP": ip, "ports": [{"port": 80}]}}))
    };
    let ip = |s: Service| s.spec.and_then(|s| s.cluster_ip).expect("an address");
    assert_eq!(ip(create(&services, &service("dns", json!("10.96.0.10"))).await), "10.96.0.10");
    let taken = services.create(&PostParams::default(), &service("other", json!("10.96.0.10"))).await;
    let taken = taken.expect_err("taken");
    assert_eq!(code(&taken), 422);
    assert!(taken.to_string().contains("provided IP is already allocated"), "{taken}");
    services.delete("dns", &DeleteParams::default()).await.expect("deleted");
    assert_eq!(ip(create(&services, &service("other", json!("10.96.0.10"))).await), "10.96.0.10");
    assert!(ip(create(&services, &service("any", Value::Null)).await).starts_with("10.96."));
}

#[tokio::test]
async fn finalizers_hold_an_object_and_generated_names_differ() {
    let server = Server::start();
    let maps = Api::<ConfigMap>::default_namespaced(server.client().await);
    let held: ConfigMap = object(json!({"metadata": {"name": "held", "finalizers": ["kilter.dev/test"]}}));
    create(&maps, &held).await;
    maps.delete("held", &DeleteParams::default()).await.expect("begun");
    let mut held = maps.get("held").await.expect("still there");
    assert!(held.metadata.deletion_timestamp.is_some());
    held.metadata.finalizers = Some(vec!["kilter.dev/test".into(), "kilter.dev/late".into()]);
    let late = maps.replace("held", &PostParams::default(), &held).await.expect_err("too late");
    assert_eq!(code(&late), 422);
    let release = Patch::Merge(json!({"metadata": {"finalizers": null}}));
    maps.patch("held", &PatchParams::default(), &release).await.expect("released");
    assert_eq!(code(&maps.get("held").await.expect_err("gone")), 404);

    let generated: ConfigMap = object(json!({"metadata": {"generateName": "run-"}}));
    let (a, b) = (create(&maps, &generated).await.name_any(), create(&maps, &generated).await.name_any());
    assert!(a.starts_with("run-") && a.len() == 9 && a != b, "{a} {b}");
}

async fn node(client: &Client, name: &str) -> Node {
    let nodes = Api::<Node>::all(client.clone());
    create(&nodes, &object(json!({"metadata": {"name": name}, "status": {"capacity": {"pods": "110"}}})))
        .await
}

#[tokio::test]
async fn a_pod_is_bound_once_and_leaves_when_its_kubelet_lets_it() {
    let server = Server::start();
    let client = server.client().await;
    node(&client, "node-1").await;
    let pods = Api::<Pod>::default_namespaced(client.clone());
    let first = create(&pods, &pod("web")).await;
    assert_eq!(first.status.as_ref().and_then(|s| s.phase.as_deref()), Some("Pending"));
    assert_eq!(first.spec.as_ref().and_then(|s| s.service_account_name.as_deref()), Some("default"));
    let mut spec = first.clone();
    spec.spec.as_mut().expect("a spec").node_name = Some("node-1".into());
    assert_eq!(
        code(&pods.replace("web", &PostParams::default(), &spec).await.expect_err("not this way")),
        422
    );

    let binding = |node: &str| json!({"target": {"kind": "Node", "name": node}});
    let bind = async |node: &str| {
        let _: Value =
            pods.create_subresource("binding", "web", &PostParams::default(), &binding(node)).await?;
        Ok::<_, kube::Error>(())
    };
    bind("node-1").await.expect("bound");
    assert_eq!(code(&bind("node-2").await.expect_err("bound already")), 409);
    let on_node = ListParams::default().fields("spec.nodeName=node-1,status.phase!=Failed");
    assert_eq!(pods.list(&on_node).await.expect("listed").items.len(), 1);

    let asked = pods
        .delete("web", &DeleteParams::default().grace_period(7))
        .await
        .expect("begun")
        .left()
        .expect("a pod");
    assert_eq!(asked.metadata.deletion_grace_period_seconds, Some(7));
    assert!(pods.get("web").await.expect("still there").metadata.deletion_timestamp.is_some());
    let wrong = DeleteParams {
        preconditions: Some(Preconditions { uid: Some("other".into()), resource_version: None }),
        ..DeleteParams::default().grace_period(0)
    };
    assert_eq!(code(&pods.delete("web", &wrong).await.expect_err("another pod")), 409);
    pods.delete("web", &DeleteParams::default().grace_period(0)).await.expect("gone");
    assert_eq!(code(&pods.get("web").await.expect_err("gone")), 404);
}
