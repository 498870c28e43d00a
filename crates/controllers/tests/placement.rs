//! The scheduler, the pods of lost nodes and the endpoints of Services, against the embedded API.

mod common;

use common::{NOT_READY, World, by_node, workload};
use k8s_openapi::api::apps::v1::{DaemonSet, Deployment};
use k8s_openapi::api::core::v1::{Event, Node, Pod, Service};
use k8s_openapi::api::discovery::v1::EndpointSlice;
use kube::api::{DeleteParams, Patch, PatchParams};
use kube::{Api, ResourceExt};
use serde_json::{Value, json};

async fn patch_node(world: &World, name: &str, patch: Value) {
    let api: Api<Node> = Api::all(world.client.clone());
    api.patch(name, &PatchParams::default(), &Patch::Merge(patch)).await.unwrap();
}

fn pod(name: &str, node_selector: Value) -> Value {
    let spec = json!({"containers": [{"name": "c", "image": "i"}], "nodeSelector": node_selector});
    json!({"metadata": {"name": name, "labels": {"app": name}}, "spec": spec})
}

#[tokio::test(flavor = "multi_thread")]
async fn twelve_deployments_are_scheduled_at_once() {
    let world = World::new(3).await;
    let create = (0..12).map(|i| world.create::<Deployment>(workload(&format!("app-{i}"), 1, json!({}))));
    futures::future::join_all(create).await;
    let pods = world
        .eventually("twelve pods with nodes", async || {
            let pods = world.list::<Pod>("").await;
            let bound = pods.iter().filter(|p| p.spec.as_ref().unwrap().node_name.is_some()).count();
            (bound == 12).then_some(pods)
        })
        .await;
    assert_eq!(by_node(&pods).into_values().collect::<Vec<_>>(), [4, 4, 4]);
    world.stop().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_pod_without_a_node_says_why_and_gets_one_when_it_can() {
    let world = World::new(2).await;
    world.create::<Pod>(pod("picky", json!({"disk": "ssd"}))).await;
    patch_node(&world, "node-1", json!({"spec": {"unschedulable": true}})).await;
    let message = world
        .eventually("an event that says why", async || {
            let events = world.list::<Event>("").await;
            let event = events.into_iter().find(|e| e.reason.as_deref() == Some("FailedScheduling"))?;
            assert_eq!(event.involved_object.name.as_deref(), Some("picky"));
            event.message
        })
        .await;
    assert!(message.starts_with("0/2 nodes are available: 2 node(s) didn't match"), "{message}");
    let waiting = world.api::<Pod>().get("picky").await.unwrap();
    assert_eq!(waiting.spec.unwrap().node_name, None);
    // The cordoned one would match first, but gets nothing.
    patch_node(&world, "node-1", json!({"metadata": {"labels": {"disk": "ssd"}}})).await;
    patch_node(&world, "node-2", json!({"metadata": {"labels": {"disk": "ssd"}}})).await;
    let pods = world.ready_pods("picky", 1).await;
    assert_eq!(by_node(&pods).into_keys().collect::<Vec<_>>(), ["node-2"]);
    world.stop().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_daemon_whose_host_port_is_taken_waits_for_it_and_says_so() {
    let world = World::new(2).await;
    let claims = |name: &str| {
        let ports = json!([{"containerPort": 80, "hostPort": 8080}]);
        let spec = json!({"containers": [{"name": "c", "image": "i", "ports": ports}]});
        json!({"metadata": {"name": name, "labels": {"app": name}}, "spec": spec})
    };
    world.create::<Pod>(claims("first")).await;
    let first = world.ready_pods("first", 1).await;
    let (taken, _) = by_node(&first).pop_first().unwrap();
    let selector = json!({"matchLabels": {"app": "daemon"}});
    let daemon = json!({"metadata": {"name": "daemon"}, "spec": {"selector": selector, "template": claims("daemon")}});
    world.create::<DaemonSet>(daemon).await;
    let message = world
        .eventually("an event that says why", async || {
            let events = world.list::<Event>("").await;
            events.into_iter().find(|e| e.reason.as_deref() == Some("FailedPlacement"))?.message
        })
        .await;
    let expected = format!("failed to place pod on {taken}: node(s) didn't have free ports for the requested pod ports");
    assert_eq!(message, expected);
    let placed = world.ready_pods("daemon", 1).await;
    assert!(!by_node(&placed).contains_key(&taken), "{placed:?}");
    world.api::<Pod>().delete("first", &DeleteParams::default()).await.unwrap();
    world.ready_pods("daemon", 2).await;
    world.stop().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn pods_of_a_lost_node_go_and_are_made_elsewhere() {
    let world = World::new(2).await;
    world.create::<Deployment>(workload("web", 4, json!({}))).await;
    world.ready_pods("web", 4).await;
    let api: Api<Node> = Api::all(world.client.clone());
    api.delete("node-1", &DeleteParams::default()).await.unwrap();
    world
        .eventually("four pods on the other node", async || {
            let pods = world.ready_pods("web", 4).await;
            (by_node(&pods).get("node-2") == Some(&4)).then_some(())
        })
        .await;
    world.stop().await;
}

/// Ready and not ready endpoints of a Service, by its slices.
async fn endpoints(world: &World, service: &str) -> (usize, usize) {
    let slices = world.list::<EndpointSlice>(&format!("kubernetes.io/service-name={service}")).await;
    let ready = |slice: &EndpointSlice, wanted: bool| {
        let endpoints = slice.endpoints.iter().flatten();
        endpoints.filter(|e| e.conditions.as_ref().unwrap().ready == Some(wanted)).count()
    };
    let count = |wanted| slices.iter().map(|s| ready(s, wanted)).sum();
    (count(true), count(false))
}

async fn wait_endpoints(world: &World, service: &str, expected: (usize, usize)) {
    world
        .eventually(&format!("endpoints {expected:?} of {service}"), async || {
            (endpoints(world, service).await == expected).then_some(())
        })
        .await;
}

#[tokio::test(flavor = "multi_thread")]
async fn slices_follow_readiness() {
    let world = World::new(2).await;
    let spec =
        json!({"selector": {"app": "web"}, "ports": [{"name": "http", "port": 80, "targetPort": "http"}]});
    world
        .create::<Service>(json!({"metadata": {"name": "web", "labels": {"team": "a"}}, "spec": spec}))
        .await;
    world.create::<Deployment>(workload("web", 3, json!({}))).await;
    wait_endpoints(&world, "web", (3, 0)).await;
    let slices = world.list::<EndpointSlice>("kubernetes.io/service-name=web").await;
    let slice = &slices[0];
    assert_eq!(slice.labels()["endpointslice.kubernetes.io/managed-by"], "endpointslice-controller.k8s.io");
    assert_eq!(slice.labels()["team"], "a");
    assert!(slice.annotations().contains_key("endpoints.kubernetes.io/last-change-trigger-time"));
    assert_eq!(slice.ports.as_ref().unwrap()[0].port, Some(80));
    let endpoint = &slice.endpoints.as_ref().unwrap()[0];
    assert!(endpoint.node_name.is_some());
    assert_eq!(endpoint.target_ref.as_ref().unwrap().kind.as_deref(), Some("Pod"));

    let pods = world.pods("web").await;
    world.patch::<Pod>(&pods[0].name_any(), json!({"metadata": {"annotations": {NOT_READY: "true"}}})).await;
    wait_endpoints(&world, "web", (2, 1)).await;
    world.patch::<Pod>(&pods[0].name_any(), json!({"metadata": {"annotations": {NOT_READY: null}}})).await;
    wait_endpoints(&world, "web", (3, 0)).await;

    // What somebody else does to a slice of ours is undone.
    world.api::<EndpointSlice>().delete(&slice.name_any(), &DeleteParams::default()).await.unwrap();
    wait_endpoints(&world, "web", (3, 0)).await;
    world.patch::<Deployment>("web", json!({"spec": {"replicas": 0}})).await;
    wait_endpoints(&world, "web", (0, 0)).await;
    world.api::<Service>().delete("web", &DeleteParams::default()).await.unwrap();
    world
        .eventually("no slices", async || {
            world.list::<EndpointSlice>("kubernetes.io/service-name=web").await.is_empty().then_some(())
        })
        .await;
    world.stop().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn many_endpoints_fill_several_slices() {
    let world = World::new(1).await;
    let spec = json!({"selector": {"app": "web"}, "ports": [{"port": 80}]});
    world.create::<Service>(json!({"metadata": {"name": "web"}, "spec": spec})).await;
    world.create::<Deployment>(workload("web", 120, json!({}))).await;
    wait_endpoints(&world, "web", (120, 0)).await;
    let slices = world.list::<EndpointSlice>("kubernetes.io/service-name=web").await;
    let mut sizes: Vec<_> = slices.iter().map(|s| s.endpoints.as_ref().map_or(0, Vec::len)).collect();
    sizes.sort_unstable();
    assert_eq!(sizes, [20, 100]);
    world.stop().await;
}
